// What is chosen, and the rows of it that are drawn.

const byId = (id) => document.getElementById(id);
const source = byId("records");
const records = JSON.parse(source.textContent);
const DASHES = [[], [7, 3], [3, 2], [9, 3, 2, 3], [2, 3], [12, 4]];
const FAMILIES = ["plain", "residual"];

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

/** What theory says of plain networks before training, from the last convolution backwards. */
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

// ---- values

const cache = new WeakMap();

// As `decode` of reducing.py: the leading bytes of big-endian float32.
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

/** Whole decades, not too many; where there are few, also 2 and 5 of each. */
function ticksOf(low, high) {
  const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
  const apart = Math.max(1, Math.ceil((last - first) / 7));
  const leads = last - first < 3 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = first - 1; power <= last; power += 1) {
    if (power % apart) continue;
    for (const lead of leads) ticks.push(Number(`${lead}e${power}`));
  }
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  return inside.length > 2 ? inside : evenTicks(low, high);
}

/** Round numbers at equal distances, for limits within a decade. */
function evenTicks(low, high) {
  const least = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(least));
  const apart = [1, 2, 5, 10].map((lead) => lead * power).find((step) => step >= least);
  const first = Math.ceil(low / apart);
  const count = Math.floor(high / apart) - first + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => Number(((first + i) * apart).toPrecision(12)));
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
    const all = theoryRows(chosen, 0, layerRows(chosen, 0).medians).map((row) => row.value);
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
