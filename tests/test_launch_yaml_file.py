"""Whatever a YAML file holds ends in a mapping or in one short line, and soon."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study.errors import UserError
from resnet_study.launch.yaml_file import DEEPEST, MOST_NODES, read_yaml

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates()
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=40)
@given(st.dictionaries(st.text(), TREES, max_size=3))
def test_a_mapping_is_read_as_pyyaml_reads_it(
    tmp_path_factory: pytest.TempPathFactory, content: dict
) -> None:
    text = yaml.safe_dump(content, allow_unicode=True)
    path = write(tmp_path_factory.mktemp("yaml"), text)
    assert read_yaml(path, "file") == yaml.safe_load(text)


def test_merged_mappings_are_read_as_pyyaml_reads_them(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\n"
    assert read_yaml(write(tmp_path, text), "file") == yaml.safe_load(text)


def laughs(last: str) -> str:
    """Each of ten names holds the one before nine times."""
    names = "abcdefghij"
    lines = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise(names)]
    return "\n".join(["a: &a [x]", *lines, last])


def merges(last: str) -> str:
    names = "abcdefghij"
    lines = [
        f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}], {b}: 1}}"
        for a, b in itertools.pairwise(names)
    ]
    return "\n".join(["a: &a {x: 1}", *lines, last])


def test_what_grows_with_every_anchor_is_read_in_no_time(tmp_path: Path) -> None:
    assert len(read_yaml(write(tmp_path, laughs("")), "file")["j"]) == 9
    assert len(read_yaml(write(tmp_path, merges("")), "file")["j"]) == 10


def test_a_mapping_may_hold_itself(tmp_path: Path) -> None:
    content = read_yaml(write(tmp_path, "a: &a {b: *a}"), "file")
    assert content["a"]["b"] is content["a"]


BAD = [
    ("", "a file is a mapping"),
    ("- a", "a file is a mapping"),
    ("a: [b", "not valid YAML in line 2"),
    ("a: b: c", "not valid YAML in line 1"),
    ("? {a: 1}\n: 2", "not valid YAML"),
    ("? [a]\n: 2", "not valid YAML"),
    ("a: 1\nb: 2\na: 3", "not valid YAML in line 3 (a stands twice)"),
    ("a: *b", "not valid YAML in line 1"),
    ("a: 1\n--- \nb: 2", "not valid YAML"),
    ("a: !!python/object:os.system {}", "not valid YAML in line 1"),
    ("a: !mine 3", "not valid YAML in line 1"),
    ("a: 2020-13-01", "no value: 2020-13-01"),
    ("a: !!int x", "no value: x"),
    ("a: !!float {b: 1}", "not valid YAML"),
    ("a: !!timestamp soon", "no value: soon"),
    (f"a: {'9' * 10_000}", "no value: 99999"),
    (f"a: {'[' * (DEEPEST + 1)}", f"nested more than {DEEPEST} times in line 1"),
    (f"a: [{'1,' * MOST_NODES}]", f"more than {MOST_NODES:,} values in line 1"),
    (f"{'x' * 10_000_000}: 1", "not valid YAML"),
    ("a: \x00", "not valid YAML"),
    ("a: \x07", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "reason"), BAD, ids=[f"{b[0][:12]!r}" for b in BAD])
def test_what_is_no_mapping_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_yaml(path, "file")
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert len(message.removeprefix(str(path))) < 250
    assert "\n" not in message


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such sweep file"):
        read_yaml(tmp_path / "none.yaml", "sweep file")
    with pytest.raises(UserError, match=rf"{tmp_path}: cannot be read"):
        read_yaml(tmp_path, "sweep file")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01\xd8")
    with pytest.raises(UserError, match="binary: cannot be read"):
        read_yaml(tmp_path / "binary", "sweep file")
