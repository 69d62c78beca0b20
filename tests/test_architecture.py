"""What is no network is refused with the reason, and everything else is built."""

from __future__ import annotations

import itertools
import typing

import jax
import pytest
from flax import nnx

from resnet_study.architecture import ModelSpec, check_model, is_the_papers, plain_of
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.models import Network

PREACTIVATION = "full-preactivation"

NONSENSE = [
    ({"residual": False, "block_order": PREACTIVATION}, "plain network has no addition"),
    ({"residual": False, "branch_scaling": "rezero"}, "plain network has no branches"),
    ({"residual": False, "subsampling": "average"}, "plain network has no shortcuts"),
    ({"shortcut": "B", "subsampling": "average"}, "only shortcut A subsamples"),
    ({"residual": False, "subsampling": "max"}, "plain network has no shortcuts"),
    ({"shortcut": "C", "subsampling": "max"}, "only shortcut A subsamples"),
    ({"normalization": "layer", "batch_norm_images": 64}, "for batch normalisation"),
    ({"normalization": "group", "width": 12}, "a multiple of 8"),
    ({"normalization": "none", "block_order": "norm-after-addition"}, "the original order"),
    ({"normalization": "none", "block_order": "activation-only-preactivation"}, PREACTIVATION),
    ({"activation": "linear", "block_order": "activation-before-addition"}, "no activation"),
    ({"branch_scaling": "skipinit"}, "SkipInit replaces normalisation"),
    ({"branch_scaling": "rezero", "normalization": "none"}, "use skipinit"),
    ({"branch_scaling": "rezero", "block_order": "norm-after-addition"}, "has no place"),
    ({"residual": False, "shortcut_scaling": "constant"}, "plain network has no shortcuts"),
    ({"shortcut": "C", "shortcut_scaling": "constant"}, "option C has none"),
    ({"block_order": PREACTIVATION, "shortcut_scaling": "exclusive-gating"}, "original order"),
    ({"branch_scaling": "rezero", "shortcut_scaling": "constant"}, "factors of its own"),
    ({"shortcut_scaling": "constant", "gate_bias": 0.0}, "there is no gate"),
    ({"branch_scaling": "fixup"}, "Fixup is defined for normalization=none"),
    ({"branch_scaling": "fixup", "normalization": "none", "shortcut": "B"}, "shortcut=A"),
]


@pytest.mark.parametrize(("fields", "reason"), NONSENSE, ids=lambda v: str(v)[:40])
def test_nonsense_is_refused_with_its_reason(fields: dict, reason: str) -> None:
    with pytest.raises(UserError, match=r"^model\.\w+=") as caught:
        check_model(ModelSpec(**fields))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


ARMS: list[dict] = [
    {"subsampling": "max"},
    {"shortcut_scaling": "constant"},
    {"shortcut_scaling": "exclusive-gating", "gate_bias": -7.0},
    {"shortcut_scaling": "shortcut-only-gating", "shortcut": "B"},
    {"shortcut_scaling": "dropout", "dropout_ratio": 0.1},
    {"block": "bottleneck"},
]


@pytest.mark.parametrize("fields", [*ARMS, {"pooling": "max"}], ids=str)
def test_what_no_reading_of_the_paper_allows_is_not_its_network(fields: dict) -> None:
    assert is_the_papers(ModelSpec(depth=110))
    assert not is_the_papers(ModelSpec(depth=110, **fields))


@pytest.mark.parametrize("fields", [{}, *ARMS], ids=str)
def test_every_network_has_a_plain_one_of_the_same_layers(fields: dict) -> None:
    model = ModelSpec(depth=56, **fields)
    plain = plain_of(model)
    check_model(plain)
    assert not plain.residual
    assert plain_of(plain) == plain
    assert (plain.depth, plain.block, plain.normalization) == (
        model.depth,
        model.block,
        model.normalization,
    )


@pytest.mark.slow
def test_every_other_combination_is_a_network() -> None:
    """All combinations of the named choices: built, or refused in one line."""
    hints = typing.get_type_hints(ModelSpec)
    names = [name for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal]
    for alike in ("initialization", "pooling", "shortcut_scaling"):  # the same shapes
        names.remove(alike)
    choices = [typing.get_args(hints[name]) for name in names]
    built = 0
    for residual, *values in itertools.product([True, False], *choices):
        chosen = dict(zip(names, values, strict=True))
        depth = 8 if chosen["block"] == "basic" else 11
        spec = ModelSpec(depth=depth, residual=residual, width=8, **chosen)  # type: ignore[arg-type]
        try:
            check_model(spec)
        except UserError:
            continue
        built += 1
        if built % 13:  # every thirteenth is enough to build
            continue
        model = nnx.eval_shape(lambda s=spec: Network(s, DATASETS["digits"], jax.random.key(0)))
        images = jax.ShapeDtypeStruct((4, 8, 8, 1), "float32")
        logits, _ = nnx.eval_shape(lambda m, x: m(x, train=True), model, images)
        assert logits.shape == (4, 10)
    assert built > 300
