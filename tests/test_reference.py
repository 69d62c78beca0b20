"""Published numbers: read, consistent with each other and with the architecture."""

import itertools

import numpy as np
import pytest

from resnet_study import reference
from resnet_study.errors import UserError


def parameters(depth: int) -> int:
    """Counted layer by layer from He et al. 2015, section 4.2, with option A shortcuts."""
    blocks = (depth - 2) // 6
    widths = [3, 16] + [16] * (2 * blocks) + [32] * (2 * blocks) + [64] * (2 * blocks)
    pairs = itertools.pairwise(widths)
    return sum(9 * a * b + 2 * b for a, b in pairs) + 64 * 10 + 10


def test_table6_parameters_follow_from_the_architecture() -> None:
    table = reference.table6()
    assert list(table["parameters"]) == [parameters(d) for d in table["depth"]]


def test_figure6_ends_agree_with_table6() -> None:
    ends = reference.fig6_ends().set_index("network")["test_error_percent"]
    table = reference.table6().set_index("network")
    means = table["mean_percent"].fillna(table["test_error_percent"])
    shared = [n for n in table.index if n in ends.index]
    assert len(shared) == 5
    assert np.abs(ends[shared] - means[shared]).max() < 0.1


def test_figure6_ends_are_the_means_of_the_curves() -> None:
    curves = reference.fig6()
    tail = curves[(curves["iteration"] >= 58_000) & (curves["panel"] != "deep")]
    means = tail.groupby(["network", "split"])["error_percent"].mean()
    for row in reference.fig6_ends().dropna(subset=["train_error_percent"]).itertuples():
        assert means[row.network, "train"] == pytest.approx(row.train_error_percent, abs=0.1)
        assert means[row.network, "test"] == pytest.approx(row.test_error_percent, abs=0.1)


def test_plain_110_has_a_bound_and_no_value() -> None:
    row = reference.fig6_ends().set_index("network").loc["plain-110"]
    assert np.isnan(row["test_error_percent"])
    assert row["test_error_above_percent"] == 60


def test_figure7_has_every_3x3_layer_once_but_the_unread_one() -> None:
    for network, rows in reference.fig7().groupby("network"):
        assert rows["layer_index"].is_unique
        missing = set(range(1, int(network.split("-")[1]))) - set(rows["layer_index"])
        assert missing == ({18} if network == "ResNet-56" else set())


def test_families_and_depths_are_named_as_in_the_records() -> None:
    for name in reference.TABLES:
        table = reference.load(name)
        assert set(table["family"]) <= {"plain", "residual"}
        names = zip(table["network"], table["depth"], strict=True)
        assert all(network.endswith(f"-{depth}") for network, depth in names)


def test_unknown_table_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean table6"):
        reference.load("table_6")
