"""Writes the tables of README.md and docs/ that hold measured numbers, from results/reference.

    python docs/tables.py

Between a comment and ``<!-- end -->`` stands what the comment names: a table after
``<!-- NAME STUDY... -->``, NAME a function of `TABLES`; in a sentence a number of the records after
``<!-- STUDY NETWORK NAME ITERATION -->``, NAME a function of `NUMBERS`, or one of a finding after
``<!-- STUDY/CLAIM.NUMBER -->``, NUMBER its name in `findings.json`, dotted where nested, or
``n`` for the seeds in which it holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.drawing import panels
from resnet_study.judging.judge import Finding, read_findings
from resnet_study.judging.selections import (
    conv_layers,
    ended,
    final_error,
    layer_quantity,
    median_over_seeds,
    over_last,
    select,
)
from resnet_study.judging.words import number
from resnet_study.probes import FIRST, GRADIENTS
from resnet_study.records import Frames, read_frames
from resnet_study.reference import published_errors
from resnet_study.report.content import error_table, verdict_counts
from resnet_study.report.wording import effect_text
from resnet_study.studies.find import load_study

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")

GRADIENT_STEPS = (0, 1, 10, 100, 1_000, 4_000, 10_000, 30_000, 39_680, 64_000)
GRADIENT_NETWORKS = ("plain-56", "plain-110", "residual-56")

_NUMBER = re.compile(r"<!-- (\w+) ([a-z]+)-(\d+) (\w+) (\d+) -->[^\n]*?<!-- end -->")
_OF_FINDING = re.compile(r"<!-- (\w+)/(\w+)\.([\w.]+) -->[^\n]*?<!-- end -->")
BLOCK = re.compile(r"<!-- (\w+) (\w[\w ]*) -->.*?<!-- end -->", re.DOTALL)


def errors(study: str) -> str:
    """Last errors by depth and family: percent, median (lowest to highest; n)."""
    table = error_table("", _frames(study))
    rows = [[str(depth), *(cell.text for cell in cells)] for depth, cells in table.rows]
    return _table(("depth", *table.columns), rows)


def errors_beside_paper(*studies: str) -> str:
    """Last errors by study, one of each length, beside the paper's: of the networks of all studies.

    Percent, median (lowest–highest); the columns tell iterations and the number of seeds.
    """
    by = ["family", "depth"]
    there = [set(map(tuple, ended(_frames(study)).runs[by].to_numpy())) for study in studies]
    shared = sorted(set.intersection(*there))
    published = published_errors().set_index([*by, "split"])["error"]
    columns = {}
    for split, name in (("train", "training"), ("test", "test")):
        for frames in map(_frames, studies):
            (iterations,) = frames.runs["schedule.iterations"].unique()
            medians = median_over_seeds(final_error(frames, split), "error", by).set_index(by)
            medians = medians.loc[shared]
            n = panels.seeds(medians["n"]).rpartition(" ")[0]
            columns[f"{name}, {iterations:,} ({n})"] = medians.apply(_range, axis=1)
        paper = {network: f"{published[(*network, split)]:.2f}" for network in medians.index}
        columns[f"{name}, paper"] = pd.Series(paper)
    table = pd.DataFrame(columns)
    rows = [
        (f"{f}-{d}", *cells) for (f, d), cells in zip(table.index, table.to_numpy(), strict=True)
    ]
    return _table(("network", *columns), rows)


def verdicts(study: str) -> str:
    """Claim, verdict, median effect with interval, and the seeds in which it holds."""
    return _verdicts(_findings(study).values())


def primary(study: str) -> str:
    """The same, of the primary claims alone."""
    return _verdicts(_findings(study)[claim.name] for claim in load_study(study).primary)


def _verdicts(findings: Iterable[Finding]) -> str:
    rows = [(f"`{f.claim}`", f"**{f.verdict}**", effect_text(f), f.n) for f in findings]
    return _table(("claim", "verdict", "median effect", "holds in"), rows)


def counts(study: str) -> str:
    """How often each verdict was given."""
    found = verdict_counts(list(_findings(study).values()))
    return ", ".join(f"{count} {verdict}" for verdict, count in found if count)


def rates(study: str) -> str:
    """Last training error in percent by learning rate and network, median (lowest to highest)."""
    frames = _frames(study)
    ends = final_error(frames, "train").join(frames.runs["optimizer.learning_rate"].rename("rate"))
    spreads = median_over_seeds(ends, "error", ["rate", "family", "depth"])
    spreads["network"] = spreads["family"].astype(str) + "-" + spreads["depth"].astype(str)
    spreads["text"] = [
        f"{row['median']:.1f} ({row['low']:.1f} to {row['high']:.1f})"
        for _, row in spreads.iterrows()
    ]
    table = spreads.pivot(index="rate", columns="network", values="text")
    table = table[list(spreads.sort_values(["family", "depth"])["network"].unique())]
    rows = [
        [f"{rate:g}", *texts] for rate, texts in zip(table.index, table.to_numpy(), strict=True)
    ]
    return _table(("rate", *table.columns), rows)


def gradients(study: str) -> str:
    """log10 of three gradients at layer 2 over the same at the last convolution."""
    runs = _frames(study).runs
    trained = (runs["family"] + "-" + runs["depth"].astype(str)).unique()
    columns = {name: _three_gradients(study, name) for name in GRADIENT_NETWORKS if name in trained}
    rows = [
        [f"{step:,}", *(column.get(step, "") for column in columns.values())]
        for step in GRADIENT_STEPS
        if any(step in column for column in columns.values())
    ]
    return _table(("iteration", *columns), rows)


TABLES = {
    table.__name__: table
    for table in (errors, errors_beside_paper, verdicts, primary, counts, rates, gradients)
}


def factor(name: str, network: Frames, step: int) -> str:
    """A quantity at layer 2 over the same at the last convolution."""
    return _factor(_over_last(network, name).loc[step])


def apart(name: str, network: Frames, step: int) -> str:
    """Largest factor, either way, between a quantity in both layers, from an iteration on."""
    return _widest(_over_last(network, name).loc[step:])


def signal_lowest(network: Frames, step: int) -> str:
    """The signal over that at the last convolution, at the layer from 2 on where it is least."""
    rows = conv_layers(network.layers)
    rows = rows[(rows["step"] == step) & (rows["layer"] >= FIRST)]
    signals = rows.assign(signal=layer_quantity(rows, "signal")).pivot(
        index="layer", columns="run_id", values="signal"
    )
    return _factor(float((signals / signals.iloc[-1]).median(axis=1).min()))


def weights(network: Frames, step: int) -> str:
    """‖w‖ of layer 2."""
    layers = network.layers
    return _rounded(
        float(layers[(layers["layer"] == 2) & (layers["step"] == step)]["weight_norm"].median())
    )


def training_error(network: Frames, step: int) -> str:
    """As trained, in percent."""
    return _error(network, "train", step)


def test_error(network: Frames, step: int) -> str:
    """In percent."""
    return _error(network, "test", step)


def _error(network: Frames, split: str, step: int) -> str:
    rows = network.metrics[network.metrics["split"] == split].set_index("step")
    return f"{rows['error'].groupby('step').median()[step]:.2f}"


NUMBERS: dict[str, Callable[[Frames, int], str]] = {
    **{name: partial(factor, name) for name in GRADIENTS},
    **{f"{name}_apart": partial(apart, name) for name in GRADIENTS},
    **{each.__name__: each for each in (signal_lowest, weights, training_error, test_error)},
}
"""Of several seeds the median."""


def filled(text: str) -> str:
    """A page with every table and number written anew.

    Raises:
        KeyError: if a name is none of `TABLES` or `NUMBERS`, or there is no such network,
            iteration, claim or number.
    """
    text = _NUMBER.sub(_number, text)
    text = _OF_FINDING.sub(_number_of_finding, text)
    return BLOCK.sub(
        lambda m: f"<!-- {m[1]} {m[2]} -->\n\n{TABLES[m[1]](*m[2].split())}\n\n<!-- end -->", text
    )


def _number(match: re.Match[str]) -> str:
    study, family, depth, name, step = match.groups()
    network = _network(study, family, int(depth))
    start = match[0][: match[0].index("-->") + 3]
    return f"{start}{NUMBERS[name](network, int(step))}<!-- end -->"


def _number_of_finding(match: re.Match[str]) -> str:
    study, claim, path = match.groups()
    finding = _findings(study)[claim]
    start = match[0][: match[0].index("-->") + 3]
    if path == "n":
        return f"{start}{finding.n}<!-- end -->"
    value: Any = finding.numbers
    for name in path.split("."):
        value = value[name]
    if isinstance(value, dict):  # JSON has no depths, but names
        value = {int(name) if name.isdigit() else name: part for name, part in value.items()}
    return f"{start}{number(value, '.4g')}<!-- end -->"


def _network(study: str, family: str, depth: int) -> Frames:
    """Records of a network, all seeds.

    Raises:
        KeyError: if there is none.
    """
    frames = _frames(study)
    runs = frames.runs[(frames.runs["family"] == family) & (frames.runs["depth"] == depth)]
    if runs.empty:
        raise KeyError(f"{study}: no {family}-{depth}")
    return select(frames, runs.index)


def _over_last(network: Frames, name: str) -> pd.Series:
    """One of the three gradients at layer 2 over the same at the last convolution, by iteration."""
    return over_last(network, GRADIENTS[name]).groupby("step")["ratio"].median()


def _three_gradients(study: str, network: str) -> dict[int, str]:
    """``raw / signal / turn`` by recorded step, as log10."""
    family, depth = network.split("-")
    own = _network(study, family, int(depth))
    ratios = pd.DataFrame({name: np.log10(_over_last(own, name)) for name in GRADIENTS})
    return {int(str(step)): " / ".join(map(_signed, row)) for step, row in ratios.iterrows()}


def _range(row: pd.Series) -> str:
    ends = f" ({row['low']:.2f}–{row['high']:.2f})" if row["n"] > 1 else ""
    return f"{row['median']:.2f}{ends}"


def _factor(ratio: float) -> str:
    """A ratio below 1 as one over a number."""
    return _rounded(ratio) if ratio >= 1 else f"1/{_rounded(1 / ratio)}"


def _widest(ratios: pd.Series) -> str:
    """Rounded up, so that "within a factor of" it is true."""
    widest = float(np.exp(np.abs(np.log(ratios)).max()))
    unit = 10 ** (math.floor(math.log10(widest)) - 1)
    return _rounded(math.ceil(widest / unit) * unit)


def _rounded(value: float) -> str:
    """Two digits, with commas; no power of ten."""
    return f"{float(f'{value:.2g}'):,.{0 if value >= 10 else 1}f}"


def _signed(value: float) -> str:
    """One decimal, with the sign that a minus should have, and none before zero."""
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---")


@cache
def _frames(study: str) -> Frames:
    return read_frames([REFERENCE / study])


@cache
def _findings(study: str) -> dict[str, Finding]:
    return read_findings(REFERENCE / study / "findings.json")


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
