"""Weights survive a file bit by bit, and a wrong file is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from resnet_study.errors import UserError
from resnet_study.inspection import weights
from resnet_study.inspection.inspected import export, load, logits_of
from tests.inspected import CPU, data_of, network_of, run_of, spec_of

NETWORKS: list[dict[str, Any]] = [
    {},
    {"residual": False},
    {"shortcut": "B", "block_order": "full-preactivation"},
    {"normalization": "none", "branch_scaling": "fixup"},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deeper" / "network.safetensors"
    export(network_of(spec_of()), path)
    return path


@pytest.mark.parametrize("model", NETWORKS, ids=str)
def test_a_network_is_the_same_after_a_file(model: dict[str, Any], tmp_path: Path) -> None:
    spec, path = spec_of(**model), tmp_path / "network.safetensors"
    before = network_of(spec)
    export(before, path)
    after = load(None, path)
    assert (after.spec, after.step) == (spec, 7)
    dataset = data_of(spec)
    images = dataset.test.images[:5]
    once, twice = (logits_of(network, CPU, images, dataset.mean) for network in (before, after))
    assert np.array_equal(once, twice)


def test_names_are_those_of_the_committed_weights(file: Path, root: Path) -> None:
    folder = root / "results" / "reference" / "cifar10" / "weights"
    committed = load_file(next(folder.glob("residual-20_*.safetensors")))
    few = {name for name in committed if not name.startswith("blocks.") or name[7] in "012"}
    own = {name for name in load_file(file) if not name.startswith("blocks.") or name[7] in "012"}
    assert own == {name for name in few if name.split(".")[1] in {"0", "1", "2"} or name in own}
    assert {"stem.conv.kernel", "stem.norm.variance", "blocks.2.layer2.norm.mean"} <= own


def changed(file: Path, metadata: dict[str, str] | None = None, **tensors: Any) -> Path:
    """A copy with other tensors (None leaves one out) and metadata."""
    content = {**load_file(file), **{k.replace("__", "."): v for k, v in tensors.items()}}
    path = file.with_name("changed.safetensors")
    save_file({k: v for k, v in content.items() if v is not None}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"head__bias": None}, "has no head.bias; these are not the weights of residual-8"),
        ({"head__bias": np.zeros(3, np.float32)}, r"head.bias has the shape \(3,\), not \(10,\)"),
        ({"more": np.zeros(3, np.float32)}, "has more, which the network has not"),
        ({"head__bias": np.full(10, np.nan, np.float32)}, "head.bias has numbers that are not fin"),
        ({"head__bias": np.zeros(10, np.float16)}, "head.bias is F16; convert it to F32"),
        ({"head__bias": np.zeros(10)}, "head.bias is float64, not float32; convert it"),
    ],
    ids=["missing", "shape", "more", "nan", "half", "double"],
)
def test_other_tensors_are_refused(file: Path, tensors: Any, message: str, tmp_path: Path) -> None:
    run = run_of(spec_of(), tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        load(run, changed(file, **tensors))
    assert "changed.safetensors" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_without_its_spec_needs_the_run(file: Path, tmp_path: Path) -> None:
    bare = changed(file)
    with pytest.raises(UserError, match="does not tell its spec; name the run folder"):
        load(None, bare)
    run = run_of(spec_of(), tmp_path)
    network = load(run, bare)
    assert network.step is None
    other = run_of(spec_of(residual=False), tmp_path)
    with pytest.raises(UserError, match=r"is of the run residual-8_\w+, not of plain-8_"):
        load(other, file)


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(UserError, match=r"missing.safetensors: no such file"):
        weights.read(tmp_path / "missing.safetensors")
    for content in (b"", b"no weights at all", file.read_bytes()[:-8]):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"bad.safetensors: cannot be read as safetensors"):
            weights.read(tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match="iteration=many in its metadata"):
        weights.read(changed(file, {"iteration": "many"}))
    with pytest.raises(UserError, match="spec in its metadata: not valid JSON"):
        weights.read(changed(file, {"spec": "{"}))
    with pytest.raises(UserError, match=r"ends in .safetensors"):
        export(network_of(spec_of()), tmp_path / "network.npz")


def test_published_weights_take_the_spec_of_the_run_beside_them(tmp_path: Path) -> None:
    run = run_of(spec_of(), tmp_path)
    named = load(run, step=0)
    place = tmp_path / "weights" / f"{run.name}.safetensors"
    place.parent.mkdir()
    tree = weights.joined(named.parameters, named.statistics)
    tensors = {name: np.asarray(leaf) for name, leaf in weights.named(tree)}
    save_file(tensors, place)
    assert load(None, place).spec == named.spec
    other = place.rename(tmp_path / "weights" / "other.safetensors")
    with pytest.raises(UserError, match="does not tell its spec"):
        load(None, other)
