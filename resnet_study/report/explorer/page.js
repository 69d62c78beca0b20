"use strict";
// Chooses rows and hands them to Vega; the pictures are described by the specifications alone.
(() => {
  const byId = (id) => document.getElementById(id);
  const source = byId("records");
  const records = JSON.parse(source.textContent);
  const specifications = JSON.parse(byId("specifications").textContent);
  const DASHES = [[], [7, 3], [3, 2], [9, 3, 2, 3], [2, 3], [12, 4]];
  const FAMILIES = ["plain", "residual"];
  const DELAY = 450;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = { layers: null, error: null, kind: "" };
  let timer = null;

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
    const that = first ? " that at the last 3×3 layer" : "";
    if (ratio >= 0.95 && ratio < 1.05) return `about ${first ? "equal to" : "equal"}${that}`;
    if (ratio >= 1e5 || ratio < 1e-5) return `${plainNumber(ratio)} times${that}`;
    return ratio >= 1 ? `${rounded(ratio)} times${that}` : `1/${rounded(1 / ratio)}${first ? " of" : ""}${that}`;
  }

  // A formula is not broken at its stroke.
  const glued = (text) => text.replaceAll("/", "/\u2060");

  // ---- values

  const cache = new WeakMap();

  // As `decode` of thinning.py: the leading bytes of big-endian float32.
  function column(run, name) {
    if (!(name in run.values)) return null;
    if (!cache.has(run)) cache.set(run, {});
    const own = cache.get(run);
    if (!own[name]) {
      const raw = atob(run.values[name]);
      const width = records.width;
      const numbers = new Float32Array(raw.length / width);
      const view = new DataView(new ArrayBuffer(4));
      for (let i = 0; i < numbers.length; i += 1) {
        for (let b = 0; b < width; b += 1) view.setUint8(b, raw.charCodeAt(i * width + b));
        numbers[i] = view.getFloat32(0);
      }
      own[name] = numbers;
    }
    return own[name];
  }

  /** The values of one run at one recorded iteration, layer by layer; null where there are none. */
  function valuesAt(run, quantity, step, relative) {
    const place = run.steps.indexOf(step);
    const names = quantity.product.length ? quantity.product : [quantity.name];
    const columns = names.map((name) => column(run, name));
    if (place < 0 || columns.includes(null)) return null;
    const count = run.depth - 1;
    const values = Array.from({ length: count }, (_, layer) =>
      columns.reduce((product, table) => product * table[place * count + layer], 1)
    );
    return relative ? values.map((value) => value / values[count - 1]) : values;
  }

  function drawable(value, quantity) {
    return Number.isFinite(value) && (quantity.linear || value > 0);
  }

  // Of an even number, on a logarithmic axis, the geometric mean of the two in the middle.
  function median(values, linear) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = sorted.length / 2;
    if (sorted.length % 2) return sorted[Math.floor(half)];
    const [low, high] = [sorted[half - 1], sorted[half]];
    return linear ? (low + high) / 2 : Math.sqrt(low) * Math.sqrt(high);
  }

  // ---- what is chosen

  function choice() {
    const group = records.groups[Number(byId("group").value)];
    const depths = [...document.querySelectorAll("#depths input:checked")].map((box) => Number(box.value));
    const seed = byId("seed").value;
    const runs = group.runs.filter(
      (run) => depths.includes(run.depth) && (seed === "all" || run.seed === Number(seed))
    );
    const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
    return {
      group,
      depths,
      seed,
      runs,
      steps,
      quantity: records.quantities.find((quantity) => quantity.name === byId("quantity").value),
      relative: byId("scaling").value === "relative",
      split: byId("split").value,
      fixed: byId("fixed").checked,
    };
  }

  /** The networks of the chosen runs, each with its runs: plain before residual, deepest first. */
  function networks(chosen) {
    const found = [];
    for (const depth of [...chosen.depths].sort((a, b) => b - a)) {
      for (const family of FAMILIES) {
        const runs = chosen.runs.filter((run) => run.family === family && run.depth === depth);
        if (runs.length) found.push({ name: `${family}-${depth}`, family, depth, runs });
      }
    }
    const order = [...new Set(found.map((network) => network.depth))];
    for (const network of found) network.dash = DASHES[order.indexOf(network.depth) % DASHES.length];
    return found;
  }

  const seedsOf = (count) => (count === 1 ? "1 seed" : `median of ${count} seeds`);

  function layerRows(chosen, step) {
    const rows = { seeds: [], medians: [], left: 0, absent: [] };
    const { quantity, relative, group } = chosen;
    for (const network of networks(chosen)) {
      const tables = network.runs
        .map((run) => [run, valuesAt(run, quantity, step, relative)])
        .filter(([, values]) => values !== null);
      if (!tables.length) rows.absent.push(network.name);
      const layers = group.layers[network.name];
      for (let layer = 1; layer < network.depth; layer += 1) {
        const place = { layer, name: layers.names[layer - 1], stage: layers.stages[layer - 1] || "before the first" };
        const own = { ...place, network: network.name, family: network.family, dash: network.dash };
        const drawn = [];
        for (const [run, values] of tables) {
          const value = values[layer - 1];
          if (!drawable(value, quantity)) {
            rows.left += 1;
            continue;
          }
          drawn.push(value);
          rows.seeds.push({ ...own, line: `${network.name} ${run.seed}`, value });
        }
        if (!drawn.length) continue;
        const value = median(drawn, quantity.linear);
        const of = network.runs.length === 1 ? `seed ${network.runs[0].seed}` : seedsOf(drawn.length);
        rows.medians.push({ ...own, line: network.name, value, shown: plainNumber(value), of });
      }
    }
    if (rows.seeds.length === rows.medians.length) rows.seeds = [];
    return rows;
  }

  /** What theory says of plain networks before training, from the last 3×3 layer backwards. */
  function theoryRows(chosen, step, medians) {
    const { group, quantity } = chosen;
    if (step !== 0 || group.growth === null || quantity.name !== source.dataset.theory) return [];
    return networks(chosen)
      .filter((network) => network.family === "plain")
      .flatMap((network) => {
        const last = medians.find((row) => row.line === network.name && row.layer === network.depth - 1);
        if (!last) return [];
        return Array.from({ length: network.depth - 1 }, (_, i) => ({
          line: `theory ${network.depth}`,
          layer: i + 1,
          value: last.value * group.growth ** (network.depth - 2 - i),
        }));
      });
  }

  function stageRows(chosen) {
    if (chosen.depths.length !== 1) return [];
    const network = networks(chosen)[0];
    if (!network) return [];
    const { stages } = chosen.group.layers[network.name];
    const rows = [];
    stages.forEach((stage, i) => {
      const last = i === stages.length - 1;
      if (stage > 0 && (last || stages[i + 1] !== stage)) {
        rows.push({ layer: last ? i + 1 : i + 1.5, name: `stage ${stage}`, inside: !last });
      }
    });
    return rows;
  }

  function errorRows(chosen) {
    const rows = { seeds: [], medians: [] };
    for (const network of networks(chosen)) {
      const own = { network: network.name, family: network.family, dash: network.dash };
      const curves = network.runs.filter((run) => chosen.split in run.errors);
      const at = new Map();
      for (const run of curves) {
        const [steps, errors] = run.errors[chosen.split];
        steps.forEach((step, i) => {
          rows.seeds.push({ ...own, line: `${network.name} ${run.seed}`, step, error: errors[i] });
          at.set(step, [...(at.get(step) || []), errors[i]]);
        });
      }
      for (const step of [...at.keys()].sort((a, b) => a - b)) {
        const of = curves.length === 1 ? `seed ${curves[0].seed}` : seedsOf(at.get(step).length);
        const error = median(at.get(step), true);
        rows.medians.push({ ...own, line: network.name, step, error, shown: `${plainNumber(error)} %`, of });
      }
    }
    if (rows.seeds.length === rows.medians.length) rows.seeds = [];
    return rows;
  }

  // ---- axes

  function limits(values, linear) {
    if (!values.length) return linear ? [0, 1] : [0.1, 10];
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (linear) {
      const room = (high - low || Math.abs(high) || 1) * 0.06;
      return [low - room, high + room];
    }
    const room = Math.max((high / low) ** 0.06, 1.15);
    return [Math.max(low / room, Number.MIN_VALUE), Math.min(high * room, Number.MAX_VALUE)];
  }

  let domain = { key: "", value: [0.1, 1] };

  function domainOf(chosen, step, rows, theory) {
    if (!chosen.fixed) {
      const now = [...rows.seeds, ...rows.medians, ...theory].map((row) => row.value);
      return limits(now, chosen.quantity.linear);
    }
    const parts = [byId("group").value, chosen.quantity.name, chosen.relative, chosen.seed, ...chosen.depths];
    const key = parts.join(" ");
    if (domain.key !== key) {
      const all = theory.map((row) => row.value);
      for (const run of chosen.runs) {
        for (const other of run.steps) {
          const values = valuesAt(run, chosen.quantity, other, chosen.relative) || [];
          for (const value of values) if (drawable(value, chosen.quantity)) all.push(value);
        }
      }
      domain = { key, value: limits(all, chosen.quantity.linear) };
    }
    return domain.value;
  }

  // ---- words beside the pictures

  function sentence(chosen, step, medians) {
    const { quantity } = chosen;
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
        ? `${plainNumber(early)}${unit} in ${name} (${plainNumber(last)}${unit} at ${i ? "its" : "the"} last 3×3 layer)`
        : `${asRatio(early / last, i === 0)} in ${name}`
    );
    return `${start}, the ${quantity.label} at layer 2 is ${listed(words)}.`;
  }

  function legend(chosen, theory) {
    const items = networks(chosen).map((network) => [network.name, `var(--${network.family})`, network.dash.join(" "), network.runs.length]);
    const list = byId("legend");
    list.replaceChildren();
    const add = (text, colour, dash, width) => {
      const item = document.createElement("li");
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 36 10");
      svg.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("d", "M1 5h34");
      line.style.cssText = `stroke:${colour};stroke-width:${width};stroke-dasharray:${dash || "none"};stroke-linecap:${dash === "1 4" ? "round" : "butt"}`;
      svg.append(line);
      item.append(svg, text);
      list.append(item);
    };
    for (const [name, colour, dash, count] of items) {
      add(count > 1 ? `${name}, median of ${count} seeds` : name, colour, dash, 2.4);
    }
    if (theory.length) add(`theory, ×${chosen.group.growth.toFixed(3)} per layer`, "var(--ink)", "1 4", 2);
  }

  function notes(chosen, step, rows, theory) {
    const said = [];
    const { quantity, group } = chosen;
    if (rows.seeds.length) said.push("Thick lines are medians over seeds, thin lines the seeds.");
    if (theory.length) said.push("The dotted line is the prediction of theory at initialisation, from the last 3×3 layer backwards.");
    if (rows.left) {
      const what = quantity.linear ? "not finite" : "zero or not finite";
      said.push(`${rows.left} ${rows.left === 1 ? "value is" : "values are"} ${what} and not drawn.`);
    }
    if (rows.absent.length) said.push(`Nothing is recorded of ${listed(rows.absent)} at this iteration.`);
    if (group.note) said.push(group.note);
    if (records.leftOut.length) said.push(`To keep the page small, ${listed(records.leftOut)}.`);
    said.push("Layers are the 3×3 layers; the classifier is left out.");
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

  // ---- drawing

  async function embed(place, kind) {
    const scheme = dark.matches ? "dark" : "light";
    const options = {
      renderer: "svg",
      actions: false,
      tooltip: { theme: "custom" },
      expressionFunctions: { plainNumber, thousands, asWords: (value) => String(value) },
    };
    const { view } = await vegaEmbed(`#${place}`, specifications[scheme][kind], options);
    return view;
  }

  async function prepare(kind) {
    const wanted = `${kind} ${dark.matches}`;
    if (views.kind === wanted) return;
    if (views.layers) views.layers.finalize();
    if (views.error) views.error.finalize();
    views.layers = await embed("layers", kind);
    views.error = await embed("error", "error");
    views.kind = wanted;
  }

  async function draw() {
    const chosen = choice();
    const step = chosen.steps[Math.min(Number(byId("iteration").value), chosen.steps.length - 1)] ?? 0;
    const rows = layerRows(chosen, step);
    const theory = theoryRows(chosen, step, rows.medians);
    const errors = errorRows(chosen);
    await prepare(chosen.quantity.linear ? "linear" : "log");
    const [low, high] = domainOf(chosen, step, rows, theory);
    for (const place of ["layers", "error"]) views[place].width(byId(place).clientWidth);
    // As one change: a scale must never meet the limits of another choice.
    views.layers.signal("low", low).signal("high", high);
    views.layers.signal("last", Math.max(2, ...chosen.depths.map((depth) => depth - 1)));
    for (const name of ["seeds", "medians"]) views.layers.data(name, rows[name]);
    views.layers.data("theory", theory).data("stages", stageRows(chosen));
    const ends = [...chosen.steps, ...errors.medians.map((row) => row.step)];
    const tops = [...errors.medians, ...errors.seeds].map((row) => row.error);
    views.error.signal("end", Math.max(1, ...ends)).signal("top", 1.04 * Math.max(1, ...tops));
    views.error.data("errors", errors.medians).data("error_seeds", errors.seeds).data("cursor", [{ step }]);
    await Promise.all([views.layers.runAsync(), views.error.runAsync()]);
    words(chosen, step, rows, theory);
    remember(chosen, step);
  }

  function words(chosen, step, rows, theory) {
    const { quantity } = chosen;
    const unit = quantity.unit ? ` (${quantity.unit})` : "";
    const relative = chosen.relative ? ", last 3×3 layer = 1" : unit;
    byId("layers-title").textContent = glued(`${quantity.label[0].toUpperCase()}${quantity.label.slice(1)}${relative}, by layer`);
    byId("error-title").textContent = `Error: ${byId("split").selectedOptions[0].textContent}`;
    byId("seen").textContent = glued(sentence(chosen, step, rows.medians));
    byId("now").textContent = counted(step);
    byId("iteration").setAttribute("aria-valuetext", `iteration ${step}`);
    legend(chosen, theory);
    notes(chosen, step, rows, theory);
    table(chosen, rows.medians);
  }

  // One drawing at a time; what is chosen meanwhile is drawn after it, once.
  let busy = false;
  let again = false;

  async function redraw() {
    again = true;
    if (busy) return;
    busy = true;
    try {
      while (again) {
        again = false;
        await draw();
      }
      document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
    } catch (error) {
      failed(error);
    } finally {
      busy = false;
    }
  }

  function failed(error) {
    const place = byId("trouble");
    place.hidden = false;
    place.textContent = `The explorer could not be drawn (${error.message}). The records are not harmed.`;
    console.error(error);
  }

  // ---- form

  function options(select, entries, wanted) {
    const before = wanted ?? select.value;
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    if (entries.some(([value]) => value === before)) select.value = before;
  }

  const rising = (values) => [...new Set(values)].sort((a, b) => a - b);

  /** Fill the form for the chosen group; depths and seeds that it shares with the last one stay. */
  function fill(wanted) {
    const group = records.groups[Number(byId("group").value)];
    const has = (quantity) => {
      const names = quantity.product.length ? quantity.product : [quantity.name];
      return group.runs.some((run) => names.every((name) => name in run.values));
    };
    options(byId("quantity"), records.quantities.filter(has).map((q) => [q.name, q.label]), wanted.quantity);
    const seeds = rising(group.runs.map((run) => run.seed));
    const all = seeds.length > 1 ? [["all", `all ${seeds.length}, and median`]] : [];
    options(byId("seed"), [...all, ...seeds.map((seed) => [String(seed), `seed ${seed}`])], wanted.seed);
    const depths = rising(group.runs.map((run) => run.depth));
    const asked = (wanted.depths || []).filter((depth) => depths.includes(depth));
    const chosen = asked.length ? asked : [deepest(group, depths)];
    byId("depths").querySelector(".boxes").replaceChildren(
      ...depths.map((depth) => {
        const label = document.createElement("label");
        const box = document.createElement("input");
        Object.assign(box, { type: "checkbox", value: String(depth), checked: chosen.includes(depth) });
        label.append(box, String(depth));
        return label;
      })
    );
    for (const option of byId("split").options) {
      option.disabled = !group.runs.some((run) => option.value in run.errors);
    }
    if (byId("split").selectedOptions[0]?.disabled) {
      byId("split").value = [...byId("split").options].find((option) => !option.disabled)?.value ?? "train";
    }
    slide(wanted.step ?? 0);
  }

  /** 56, as in the figures, or else the deepest that both families have. */
  function deepest(group, depths) {
    const both = depths.filter((depth) =>
      FAMILIES.every((family) => group.runs.some((run) => run.family === family && run.depth === depth))
    );
    if (both.includes(56)) return 56;
    return (both.length ? both : depths).at(-1);
  }

  /** Put the slider on the recorded iteration nearest to a wanted one. */
  function slide(wanted) {
    const { steps } = choice();
    const far = steps.map((step) => Math.abs(Math.log1p(step) - Math.log1p(wanted)));
    const slider = byId("iteration");
    slider.max = String(Math.max(0, steps.length - 1));
    slider.value = String(Math.max(0, far.indexOf(Math.min(...far))));
  }

  function stepNow() {
    const { steps } = choice();
    return steps[Number(byId("iteration").value)] ?? 0;
  }

  function play(on) {
    const button = byId("play");
    button.setAttribute("aria-pressed", String(on));
    button.querySelector("span").textContent = on ? "Pause" : "Play";
    // A voice that reads every step would never end.
    byId("seen").setAttribute("aria-live", on ? "off" : "polite");
    clearInterval(timer);
    timer = on ? setInterval(advance, DELAY) : null;
  }

  function advance() {
    const slider = byId("iteration");
    if (Number(slider.value) >= Number(slider.max)) {
      play(false);
      return;
    }
    slider.value = String(Number(slider.value) + 1);
    redraw();
  }

  // ---- the address holds the choice, so that a picture can be shared

  function remember(chosen, step) {
    if (window !== window.parent) return;
    const said = new URLSearchParams({
      group: byId("group").value,
      quantity: chosen.quantity.name,
      depths: chosen.depths.join(","),
      axis: byId("scaling").value,
      seed: chosen.seed,
      error: chosen.split,
      iteration: String(step),
    });
    history.replaceState(null, "", `#${said}`);
  }

  function start() {
    const said = new URLSearchParams(location.hash.slice(1));
    options(byId("group"), records.groups.map((group, i) => [String(i), group.label]), said.get("group") ?? "0");
    byId("group-field").hidden = records.groups.length < 2;
    for (const [id, name] of [["scaling", "axis"], ["split", "error"]]) {
      const known = [...byId(id).options].some((option) => option.value === said.get(name));
      if (known) byId(id).value = said.get(name);
    }
    fill({
      quantity: said.get("quantity"),
      seed: said.get("seed"),
      depths: (said.get("depths") || "").split(",").map(Number),
      step: Number(said.get("iteration")) || 0,
    });
    for (const id of ["choice", "pictures", "numbers"]) byId(id).hidden = false;
    listen();
    redraw();
  }

  function listen() {
    byId("choice").addEventListener("submit", (event) => event.preventDefault());
    byId("group").addEventListener("change", () => {
      const { depths, seed, quantity } = choice();
      fill({ depths, seed, quantity: quantity?.name, step: stepNow() });
      redraw();
    });
    for (const id of ["quantity", "scaling", "split", "fixed"]) byId(id).addEventListener("change", redraw);
    for (const id of ["depths", "seed"]) {
      let before = stepNow();
      byId(id).addEventListener("pointerdown", () => { before = stepNow(); });
      byId(id).addEventListener("keydown", () => { before = stepNow(); });
      byId(id).addEventListener("change", () => { slide(before); redraw(); });
    }
    byId("iteration").addEventListener("input", () => { play(false); redraw(); });
    byId("play").addEventListener("click", () => {
      const slider = byId("iteration");
      const on = byId("play").getAttribute("aria-pressed") !== "true";
      if (on && slider.value === slider.max) slider.value = "0";
      play(on);
      redraw();
    });
    byId("numbers").addEventListener("toggle", redraw);
    dark.addEventListener("change", redraw);
    // Also when a frame that is not yet in view gets its width at last.
    new ResizeObserver(() => {
      if (views.layers && views.layers.width() !== byId("layers").clientWidth) redraw();
    }).observe(byId("layers"));
  }

  try {
    start();
  } catch (error) {
    failed(error);
  }
})();
