"""Published numbers as data, to be drawn or printed next to one's own.

The tables lie in this package as CSV files. Errors are in percent. Wherever a file names
a ``network`` such as ``plain-56`` or ``ResNet-56``, the columns ``family`` (plain,
residual) and ``depth`` are added, the names that `resnet_study.records` uses.

Only ResNet-110 has a published spread; every other number of the paper is one run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import resources

import pandas as pd

from resnet_study.errors import UserError
from resnet_study.names import nearest_hint

VEIT_BLOCKS, VEIT_LENGTHS, VEIT_SHARE = 54, (5, 17), 0.0045
"""Of a trained residual network of so many blocks (110 layers), paths through 5 to 17 of them,
which are this share of all, carry the gradient: Veit et al. 2016, arXiv 1605.06431."""


def table6() -> pd.DataFrame:
    """Test error and parameter count per depth.

    Columns ``network, depth, parameters, test_error_percent, mean_percent, std_percent,
    runs, family``. For ResNet-110, ``test_error_percent`` is the best of five runs *on the
    test set* and the mean and standard deviation over the five are given too. Parameters
    are counted from the architecture (convolution without bias, BN scale and shift, final
    layer with bias) and agree with the paper's rounded ones.

    Source: He et al. 2015, arXiv 1512.03385, Table 6.
    """
    return _read("he2015_table6")


def fig6() -> pd.DataFrame:
    """Training curves of the CIFAR-10 networks.

    Columns ``panel`` (plain, resnet, deep), ``network``, ``split`` (train: dashed in the
    paper; test: bold), ``iteration``, ``error_percent``, ``family``, ``depth``. Clipped at
    20 % as the figure is; plain-110 is not displayed there.

    Source: He et al. 2015, arXiv 1512.03385, Figure 6, read off the vector paths of the PDF;
    the last test points agree with Table 6 within 0.04 points.
    """
    table = _read("he2015_fig6")
    iteration = (table.pop("iteration_1e4") * 1e4).round().astype(int)
    table.insert(3, "iteration", iteration)
    return table


def fig6_ends() -> pd.DataFrame:
    """Where the curves of Figure 6 end, one row per network.

    Columns ``network, train_error_percent, test_error_percent,
    iterations_until_train_20_percent, test_error_above_percent, family, depth``: errors are
    means over iterations from 58,000; the iteration is where the training error first stays
    below 20 %. Of plain-110 only a bound is published, in ``test_error_above_percent``.

    Source: He et al. 2015, arXiv 1512.03385, Figure 6 and its caption, read as in `fig6`.
    """
    table = _read("he2015_fig6_ends")
    text = table["test_error_percent"].astype(str)
    bound = text.where(text.str.startswith(">")).str.removeprefix(">")
    table["test_error_percent"] = pd.to_numeric(text, errors="coerce")
    table.insert(4, "test_error_above_percent", pd.to_numeric(bound))
    return table


def published_errors() -> pd.DataFrame:
    """Final errors of He et al. 2015 on CIFAR-10.

    Returns:
        ``family``, ``depth``, ``split`` (train, test), ``error`` in percent, ``bound`` (true:
        only a lower bound is published), ``source``. Test errors of residual networks are
        those of Table 6, for ResNet-110 the mean of its five runs and not the best of them;
        all else is read off Figure 6.
    """
    table, ends = table6(), fig6_ends()
    mean = table.mean_percent.fillna(table.test_error_percent)
    parts = [table[["family", "depth"]].assign(split="test", error=mean, source="Table 6")]
    for column, split in (
        ("train_error_percent", "train"),
        ("test_error_percent", "test"),
        ("test_error_above_percent", "test"),
    ):
        rows = ends[ends.family.eq("plain") | (split == "train")]
        part = rows[["family", "depth"]].assign(split=split, error=rows[column], source="Figure 6")
        parts.append(part.assign(bound=column.endswith("above_percent")))
    joined = pd.concat(parts, ignore_index=True).dropna(subset=["error"])
    joined["bound"] = joined["bound"].eq(True)
    return joined.sort_values(["family", "depth", "split"], ignore_index=True)


def fig7() -> pd.DataFrame:
    """Standard deviation of every 3x3 layer's response after training, in layer order.

    Columns ``network, layer_index`` (1 to depth - 1), ``response_std, family, depth``. A
    response is the output after BN, before the nonlinearity and the addition. ResNet-56 has
    no value for layer 18.

    Source: He et al. 2015, arXiv 1512.03385, Figure 7 top, read off the vector paths.
    """
    return _read("he2015_fig7")


def reproductions() -> pd.DataFrame:
    """What public reproductions report.

    Columns ``source`` (GitHub repository), ``network, test_error_percent, std_percent,
    runs, selection`` (``last`` epoch, or ``best-on-test``, which is optimistic), ``family,
    depth``.

    Source: the README of each named repository.
    """
    return _read("reproductions")


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "table6": table6,
    "fig6": fig6,
    "fig6_ends": fig6_ends,
    "fig7": fig7,
    "reproductions": reproductions,
}
"""Every table by name."""


def load(name: str) -> pd.DataFrame:
    """One of `TABLES` by name.

    Raises:
        UserError: for an unknown name.
    """
    if name not in TABLES:
        raise UserError(f"unknown reference table {name}; {nearest_hint(name, TABLES)}")
    return TABLES[name]()


def _read(file: str) -> pd.DataFrame:
    return _parsed(file).copy()


@functools.cache
def _parsed(file: str) -> pd.DataFrame:
    with resources.files(__name__).joinpath(f"{file}.csv").open(encoding="utf-8") as stream:
        table = pd.read_csv(stream)
    parts = table["network"].str.rsplit("-", n=1)
    table["family"] = parts.str[0].map({"plain": "plain", "ResNet": "residual"})
    table["depth"] = parts.str[1].astype(int)
    return table
