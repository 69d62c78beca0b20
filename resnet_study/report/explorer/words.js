// Everything that is said beside the pictures.

const DOTS = "1 4";

// ---- numbers and words

const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function plainNumber(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return String(value);
  if (size >= 0.001 && size < 1e5) {
    return Number(value.toPrecision(3)).toLocaleString("en-US", { maximumFractionDigits: 6 }).replace("-", "−");
  }
  const [lead, power] = value.toExponential(1).split("e");
  const raised = [...String(Number(power))].map((c) => SUPER[c]).join("");
  const first = Number(lead);
  return `${first === 1 ? "" : `${String(first).replace("-", "−")}·`}10${raised}`;
}

function thousands(value) {
  return value >= 1e6 ? `${value / 1e6}M` : value >= 1e3 ? `${value / 1e3}k` : String(value);
}

const counted = (value) => value.toLocaleString("en-US");
const listed = (words) =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;

function asRatio(ratio, first) {
  const rounded = (x) => counted(Number(x.toPrecision(x < 10 ? 2 : 3)));
  const that = first ? " that at the last convolution" : "";
  if (ratio >= 0.95 && ratio < 1.05) return `about ${first ? "equal to" : "equal"}${that}`;
  if (ratio >= 1e5 || ratio < 1e-5) return `${plainNumber(ratio)} times${that}`;
  // A third is said as 1/3, but nobody says 1/1.2.
  if (ratio >= 0.5 && ratio < 1) return `${rounded(ratio)} times${that}`;
  return ratio >= 1 ? `${rounded(ratio)} times${that}` : `1/${rounded(1 / ratio)}${first ? " of" : ""}${that}`;
}

// A formula is not broken at its stroke.
const glued = (text) => text.replaceAll("/", "/\u2060");

// ---- words beside the pictures

function sentence(chosen, step) {
  const { quantity } = chosen;
  // The median of each seed's ratio, as the claims have it; not the ratio of two medians.
  const { medians } = layerRows({ ...chosen, relative: chosen.relative || !quantity.linear }, step);
  const ends = networks(chosen).flatMap(({ name, depth }) => {
    const own = medians.filter((row) => row.line === name);
    const early = own.find((row) => row.layer === 2);
    const last = own.find((row) => row.layer === depth - 1);
    return early && last ? [{ name, early: early.value, last: last.value }] : [];
  });
  const start = step === 0 ? "Before training" : `At iteration ${counted(step)}`;
  if (!ends.length) return `${start}, nothing of this can be shown: ${quantity.label}.`;
  const unit = quantity.unit ? ` ${quantity.unit}` : "";
  const words = ends.slice(0, 4).map(({ name, early, last }, i) =>
    quantity.linear
      ? `${plainNumber(early)}${unit} in ${name} (${plainNumber(last)}${unit} at ${i ? "its" : "the"} last convolution)`
      : `${asRatio(early / last, i === 0)} in ${name}`
  );
  return `${start}, the ${quantity.label} at layer 2 is ${listed(words)}.`;
}

function legend(chosen, theory) {
  const list = byId("legend");
  list.replaceChildren();
  const add = (text, colour, dash, width) => {
    const item = document.createElement("li");
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 36 10");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", "M1 5h34");
    const cap = dash === DOTS ? "round" : "butt";
    Object.assign(line.style, { stroke: colour, strokeWidth: width, strokeDasharray: dash || "none", strokeLinecap: cap });
    svg.append(line);
    item.append(svg, text);
    list.append(item);
  };
  for (const { name, family, dash, runs } of networks(chosen)) {
    const text = runs.length > 1 ? `${name}, median of ${runs.length} seeds` : name;
    add(text, `var(--${family})`, dash.join(" "), 2.4);
  }
  if (theory.length) add(`theory, ×${chosen.group.growth.toFixed(3)} per layer`, "var(--ink)", DOTS, 2);
}

function notes(chosen, step, rows, theory) {
  const said = [];
  const { quantity, group } = chosen;
  if (rows.seeds.length) said.push("Thick lines are medians over seeds, thin lines the seeds.");
  if (theory.length) {
    said.push("The dotted line is the prediction of theory at initialisation, from the last convolution backwards.");
  }
  if (rows.left) {
    const what = quantity.linear ? "not finite" : "zero or not finite";
    said.push(`${rows.left} ${rows.left === 1 ? "value is" : "values are"} ${what} and not drawn.`);
  }
  if (rows.absent.length) said.push(`Nothing is recorded of ${listed(rows.absent)} at this iteration.`);
  if (group.note) said.push(group.note);
  if (records.leftOut.length) said.push(`To keep the page small, ${listed(records.leftOut)}.`);
  said.push("Layers are the convolutions; the classifier is left out.");
  byId("notes").textContent = said.join(" ");
}

function table(chosen, medians) {
  if (!byId("numbers").open) return;
  const shown = networks(chosen);
  const cell = (tag, text, kind) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (kind) made.className = kind;
    if (tag === "th") made.scope = kind === "row" ? "row" : "col";
    return made;
  };
  const head = document.createElement("tr");
  head.append(cell("th", "layer"), cell("th", "name"), cell("th", "stage"));
  for (const network of shown) head.append(cell("th", network.name, "number"));
  const lines = [];
  const most = Math.max(...shown.map((network) => network.depth - 1), 0);
  const found = new Map(medians.map((row) => [`${row.line} ${row.layer}`, row]));
  for (let layer = 1; layer <= most; layer += 1) {
    const rows = shown.map((network) => found.get(`${network.name} ${layer}`));
    const any = rows.filter(Boolean);
    const alike = (field) => [...new Set(any.map((row) => row[field]))].join(" / ");
    const line = document.createElement("tr");
    line.append(cell("th", layer, "row"), cell("td", alike("name")), cell("td", alike("stage")));
    for (const row of rows) {
      const made = cell("td", row ? plainNumber(row.value) : "–", "number");
      if (row) made.dataset.value = row.value;
      line.append(made);
    }
    lines.push(line);
  }
  byId("numbers").querySelector("thead").replaceChildren(head);
  byId("numbers").querySelector("tbody").replaceChildren(...lines);
}
