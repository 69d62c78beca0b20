// Hands the rows to Vega, which draws what the specifications say, and listens to the form.

const specifications = JSON.parse(byId("specifications").textContent);
const DELAY = 450; // milliseconds between iterations that are played
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const views = { layers: null, error: null, kind: "" };
let timer = null;
let looked = 0; // the iteration that is shown
let moved = false; // whether somebody chose it

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
  if (chosen.steps.length) looked = step;
  const rows = layerRows(chosen, step);
  const theory = theoryRows(chosen, step, rows.medians);
  const errors = errorRows(chosen);
  await prepare(chosen.quantity.linear ? "linear" : "log");
  const [low, high] = domainOf(chosen, step, rows, theory);
  for (const place of ["layers", "error"]) views[place].width(byId(place).clientWidth);
  // As one change: a scale must never meet the limits of another choice.
  views.layers.signal("low", low).signal("high", high);
  if (!chosen.quantity.linear) views.layers.signal("ticks", ticksOf(low, high));
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
  const relative = chosen.relative ? ", last convolution = 1" : unit;
  const title = quantity.label[0].toUpperCase() + quantity.label.slice(1);
  byId("layers-title").textContent = glued(`${title}${relative}, by layer`);
  byId("error-title").textContent = `Error: ${byId("split").selectedOptions[0].textContent}`;
  byId("seen").textContent = glued(sentence(chosen, step));
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
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const said = new URLSearchParams({ ...JSON.parse(source.dataset.opening), ...asked });
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
    fill({ depths, seed, quantity: quantity?.name, step: looked });
    redraw();
  });
  for (const id of ["quantity", "scaling", "split", "fixed"]) byId(id).addEventListener("change", redraw);
  // Other runs have other steps: the iteration stays, its place on the slider need not.
  for (const id of ["depths", "seed"]) byId(id).addEventListener("change", () => { slide(looked); redraw(); });
  byId("iteration").addEventListener("input", () => { moved = true; play(false); redraw(); });
  byId("play").addEventListener("click", () => {
    const slider = byId("iteration");
    const on = byId("play").getAttribute("aria-pressed") !== "true";
    if (on && (!moved || slider.value === slider.max)) slider.value = "0";
    moved = true;
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
