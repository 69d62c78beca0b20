"""What the claims about layer responses measure (He et al. 2015, section 4.2 and Figure 7)."""

from __future__ import annotations

from resnet_study import reference
from resnet_study.judging.measurement import (
    FAMILIES,
    Measurement,
    Missing,
    arms_by_depth,
    listed,
    other_depths,
)
from resnet_study.judging.selections import (
    conv_layers,
    rows_at,
    select,
)
from resnet_study.phenomena.depths import (
    MINIMUM_DEEP,
    common_depth,
    noted,
    one_warmup_per_depth,
)
from resnet_study.records import Frames


def response_difference(group: Frames) -> Measurement | Missing:
    """Mean response standard deviation over 3x3 layers at the end, plain minus residual."""
    finished = select(group, group.runs.index[group.runs["status"] == "finished"])
    rows = conv_layers(rows_at(finished.layers, None))
    means = rows.groupby(["run_id", "family", "depth", "seed"])["response_std"].mean().reset_index()
    arms = {family: arms_by_depth(means, family, "response_std") for family in FAMILIES}
    depth = common_depth(arms)
    if depth is None:
        return Missing()
    plain, residual = arms["plain"][depth], arms["residual"][depth]
    ends = reference.fig7().groupby(["family", "depth"])["response_std"].mean()
    paper = (
        f" In the paper (CIFAR-10, Figure 7): {ends['plain', depth]:.3g} and "
        f"{ends['residual', depth]:.3g}."
        if ("plain", depth) in ends.index
        else ""
    )
    detail = (
        f"Response standard deviation after training, mean over the 3x3 layers, at depth "
        f"{depth}: plain {plain.mean():.3g}, residual {residual.mean():.3g}."
        f"{other_depths('Plain minus residual', arms['plain'], arms['residual'], depth)}"
        f"{paper} Finished runs only."
    )
    return Measurement((plain, residual), 0.0, "above", "response standard deviation", detail)


def responses_against_depth(group: Frames) -> Measurement | Missing:
    """Mean response standard deviation at the end, deep minus shallow residual network."""
    runs, note = one_warmup_per_depth(group)
    finished = select(runs, runs.runs.index[runs.runs["status"] == "finished"])
    rows = conv_layers(rows_at(finished.layers, None))
    means = rows.groupby(["run_id", "family", "depth", "seed"])["response_std"].mean().reset_index()
    arms = arms_by_depth(means, "residual", "response_std")
    deep = max((d for d in arms if MINIMUM_DEEP <= d <= 110), default=None)
    if 20 not in arms or deep is None:
        return Missing()
    points = reference.fig7()
    paper = points[points["family"] == "residual"].groupby("depth")["response_std"].mean()
    published = listed({int(str(d)): f"{value:.3g}" for d, value in paper.items()})
    ours = listed({d: f"{a.mean():.3g}" for d, a in arms.items()})
    detail = (
        "Response standard deviation after training, mean over the 3x3 layers, of residual "
        f"networks: {ours}. Judged: {deep} minus 20. In the paper (CIFAR-10, Figure 7): "
        f"{published}. Finished runs only."
    )
    unit = "response standard deviation"
    return noted(Measurement((arms[deep], arms[20]), 0.0, "below", unit, detail), note)
