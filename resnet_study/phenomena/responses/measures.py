"""What the claims about layer responses measure (He et al. 2015, section 4.2 and Figure 7)."""

from __future__ import annotations

import pandas as pd

from resnet_study import reference
from resnet_study.judging.measurement import (
    FAMILIES,
    Measurement,
    Missing,
    arms_by_depth,
    medians,
)
from resnet_study.judging.selections import conv_layers, papers_models, rows_at, select
from resnet_study.phenomena.depths import MINIMUM_DEEP, families_at_one_depth, with_one_warmup
from resnet_study.records import KEYS, Frames


def response_difference(group: Frames) -> Measurement | Missing:
    """Mean response standard deviation over convolutions at the end, plain minus residual."""
    found = families_at_one_depth(_responses(group), "response_std")
    if found is None:
        return Missing()
    arms, numbers = found
    paper = {family: _published(family).get(numbers["depth"]) for family in FAMILIES}
    numbers["paper"] = paper if paper["plain"] and papers_models(group.runs).all() else {}
    return Measurement(arms, 0.0, "above", "response standard deviation", numbers)


@with_one_warmup
def responses_against_depth(group: Frames) -> Measurement | Missing:
    """Mean response standard deviation at the end, deep minus shallow residual network."""
    arms = arms_by_depth(_responses(group), "residual", "response_std")
    deep = max((d for d in arms if MINIMUM_DEEP <= d <= 110), default=None)
    if 20 not in arms or deep is None:
        return Missing()
    numbers = {"responses": medians(arms), "deep": deep, "paper": _published("residual")}
    unit = "response standard deviation"
    return Measurement((arms[deep], arms[20]), 0.0, "below", unit, numbers)


def _responses(group: Frames) -> pd.DataFrame:
    """``response_std`` of finished runs at their end, mean over the convolutions."""
    finished = select(group, group.runs.index[group.runs["status"] == "finished"])
    rows = conv_layers(rows_at(finished.layers_with("response_std"), None))
    return rows.groupby([*KEYS], observed=True)["response_std"].mean().reset_index()


def _published(family: str) -> dict[int, float]:
    """The same in Figure 7, by depth."""
    points = reference.fig7()
    rows = points[points["family"] == family].groupby("depth")["response_std"].mean().reset_index()
    return dict(zip(rows["depth"].tolist(), rows["response_std"].tolist(), strict=True))
