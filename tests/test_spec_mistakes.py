"""What a spec that is wrong is told, in one line."""

import math
from typing import Any

import pytest

from resnet_study.errors import UserError
from resnet_study.spec import (
    RunSpec,
    from_flat,
    from_json,
    parameter_types,
)

BAD = [
    ("model.depth", 9, "the nearest is 8"),
    ("model.depth", 2, "6n+2"),
    ("model.depth", -4, "the nearest is 8"),
    ("model.depth", 57, "the nearest is 56"),
    ("model.depth", 20.0, "type int"),
    ("model.depth", True, "type int"),
    ("model.depth", "20", "type int"),
    ("model.depth", None, "type int"),
    ("model.residual", 1, "type bool"),
    ("model.residual", "true", "type bool"),
    ("model.width", 0, "at least one"),
    ("model.width", False, "type int"),
    ("model.shortcut", "D", "A, B, C"),
    ("model.shortcut", ["A"], "A, B, C"),
    ("model.normalization", "instance", "batch, none, layer, group"),
    ("model.initialization", "xavier", "he, lecun, glorot"),
    ("model.activation", "gelu", "relu, tanh, sigmoid, linear"),
    ("model.block_order", "preactivation", "full-preactivation"),
    ("model.branch_scaling", "layerscale", "skipinit, rezero, fixup"),
    ("model.batch_norm_images", 1, "at least 2"),
    ("model.batch_norm_images", 50, "a divisor of data.batch_size=128, such as 64"),
    ("optimizer.weight_decay_on", "biases", "all, weights"),
    ("optimizer.nesterov", 1, "type bool"),
    ("schedule.warmup_error", 100.0, "below 100"),
    ("schedule.warmup_learning_rate", 0.0, "greater than 0"),
    ("schedule.warmup_iterations", -1, "whole number"),
    ("data.name", "mnist", "digits, cifar10, synthetic"),
    ("data.validation", 0.6, "between 0 and 0.5"),
    ("data.validation", -0.1, "between 0 and 0.5"),
    ("data.batch_size", 0, "1 to 1293"),
    ("data.batch_size", 1294, "1 to 1293"),
    ("data.augmentation", "mixup", "crop-flip"),
    ("data.crop_padding", -1, "at least 0"),
    ("data.subset", True, "digits is always whole"),
    ("data.subset", 1, "type bool"),
    ("optimizer.learning_rate", 0, "greater than 0"),
    ("optimizer.learning_rate", -0.1, "greater than 0"),
    ("optimizer.learning_rate", float("nan"), "finite"),
    ("optimizer.learning_rate", float("inf"), "finite"),
    ("optimizer.learning_rate", "0.1", "number"),
    ("optimizer.learning_rate", True, "number"),
    ("optimizer.momentum", 1, "0 to below 1"),
    ("optimizer.momentum", -0.1, "0 to below 1"),
    ("optimizer.weight_decay", -1e-4, "at least 0"),
    ("optimizer.weight_decay", float("nan"), "finite"),
    ("schedule.iterations", 0, "at least one"),
    ("schedule.iterations", -5, "whole number"),
    ("schedule.iterations", 1.5, "duration"),
    ("schedule.iterations", "1.5", "whole number"),
    ("schedule.iterations", "50%", "epochs (30ep)"),
    ("schedule.iterations", "many", "whole number"),
    ("schedule.iterations", "nanep", "whole number"),
    ("schedule.iterations", "1e308ep", "whole number"),
    ("schedule.iterations", True, "duration"),
    ("schedule.first_drop", "80%", "comes after the second"),
    ("schedule.first_drop", "-1%", "percent of the run"),
    ("schedule.second_drop", 0, "schedule.first_drop"),
    ("schedule.drop_factor", 0, "above 0 to 1"),
    ("schedule.drop_factor", 1.1, "above 0 to 1"),
    ("probes.log_every", 0, "at least one"),
    ("probes.evaluate_every", "0ep", "at least one"),
    ("probes.layers_every", "%", "percent of the run"),
    ("seed", -1, "0 to 4294967295"),
    # jax would drop the upper bits and train seed 0 again.
    ("seed", 2**32, "0 to 4294967295"),
    ("seed", True, "type int"),
    ("seed", 0.0, "type int"),
]


@pytest.mark.parametrize(("name", "value", "rule"), BAD, ids=lambda v: str(v)[:24])
def test_a_bad_value_is_refused_in_one_line(name: str, value: object, rule: str) -> None:
    with pytest.raises(UserError) as caught:
        from_flat({name: value}, "file.yaml")
    message = str(caught.value)
    assert message.startswith("file.yaml: ")
    assert name in message or name == "schedule.second_drop"
    assert rule in message
    assert "\n" not in message


def test_a_warm_up_ends_in_one_way() -> None:
    with pytest.raises(UserError, match=r"schedule\.warmup_error=80.*not both"):
        from_flat({"schedule.warmup_error": 80.0, "schedule.warmup_iterations": 400})


def test_a_plain_network_has_no_projection() -> None:
    with pytest.raises(UserError, match=r"model\.shortcut=.*plain network has no shortcuts"):
        from_flat({"model.residual": False, "model.shortcut": "B"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model.dept", "did you mean model.depth?"),
        ("depth", "did you mean model.depth?"),
        ("optimizer.lr", "did you mean optimizer."),
        ("zzzzzz", "known are "),
    ],
)
def test_an_unknown_name_shows_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=rf"^spec: unknown parameter {name}") as caught:
        from_flat({name: 1})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "a JSON object, not list"),
        ("null", "a JSON object, not NoneType"),
        ('{"schema_version": 99}', "schema_version 99"),
        ('{"model": 5}', "unknown parameter model"),
        ('{"seed": {"a": 1}}', "unknown parameter seed.a"),
        ('{"model": {"depth": NaN}}', "model.depth"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        from_json(text, "x/spec.json")
    assert str(caught.value).startswith("x/spec.json: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2**31, -(2**40), 10**400, 16**5000, math.inf], ids=list("abcde"))
@pytest.mark.parametrize("name", sorted(set(RunSpec().flat())))
def test_a_number_too_large_for_any_machine_is_refused_in_one_line(name: str, value: Any) -> None:
    """Or is no number of this kind; in either case it is named, and quoted in a line."""
    if name == "seed":
        value *= 2
    if parameter_types()[name] is float and value == 2**31:
        value = 10**309
    with pytest.raises(UserError) as caught:
        from_flat({name: value})
    assert name in str(caught.value)
    assert len(str(caught.value)) < 300
