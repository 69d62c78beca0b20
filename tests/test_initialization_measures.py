"""Measures of networks at initialisation find what was planted, and its absence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest

from resnet_study.judging.claim import Claim, Finding
from resnet_study.judging.measurement import Measurement, Missing
from resnet_study.phenomena.gradients import theory as gradient_theory
from resnet_study.phenomena.initialization import block_measures as blocks
from resnet_study.phenomena.initialization import fits, theory
from resnet_study.phenomena.initialization import gradient_measures as gradients
from resnet_study.phenomena.initialization import size_measures as sizes
from resnet_study.phenomena.initialization.claims import CLAIMS
from resnet_study.phenomena.initialization.fits import (
    BN_PLAIN,
    BN_RESIDUAL,
    PREACTIVATED,
    NetworkKind,
)
from resnet_study.records import Frames, frames_of
from tests.planted_initialization import (
    DEPTHS,
    PLAIN,
    Truth,
    planted_initialization,
    published_factors,
)

Measure = Callable[[Frames], Measurement | Missing]


def plain(initialization: str, activation: str = "relu") -> NetworkKind:
    return gradients.without_normalization("plain", initialization, activation)


MEASURES: dict[str, Measure] = {
    "bn": partial(
        gradients.growth_deviation,
        network=BN_PLAIN,
        formula="√(π/(π−1))",
        predicted=gradient_theory.BN_RELU_GROWTH,
    ),
    "he": partial(gradients.growth_deviation, network=plain("he"), formula="√(2·½)", predicted=1.0),
    "lecun": partial(
        gradients.growth_deviation, network=plain("lecun"), formula="√½", predicted=0.5**0.5
    ),
    "uniform": partial(
        gradients.growth_deviation,
        network=plain("uniform", "linear"),
        formula="√⅓",
        predicted=3**-0.5,
    ),
    "sigmoid": partial(
        gradients.slower_than, network=plain("uniform", "sigmoid"), other=plain("uniform")
    ),
    "plain vanishes": partial(gradients.vanished_ratio, family="plain"),
    "residual does not": partial(gradients.vanished_ratio, family="residual"),
    "plain exponential": partial(
        gradients.ratio_law, family="plain", better="exponential", worse="power"
    ),
    "residual power": partial(
        gradients.ratio_law, family="residual", better="power", worse="exponential"
    ),
    "residual linear": gradients.ratio_exponent,
    "branch": blocks.variance_ratio_slope,
    "variance linear": partial(
        blocks.variance_law, networks=(PREACTIVATED,), better="linear", worse="exponential"
    ),
    "variance exponential": partial(
        blocks.variance_law, networks=fits.UNNORMALIZED, better="exponential", worse="linear"
    ),
    "reset": blocks.variance_reset,
    "correlation": blocks.correlation_difference,
    "decay": blocks.correlation_decay,
    "path law": blocks.path_gradient_law,
    "path share": blocks.gradient_path_share,
    "norm": blocks.norm_preservation_slope,
    "wide": sizes.wide_growth,
    "images": sizes.growth_with_images,
}

FRAMES = planted_initialization(noise=0.005, slope_sd=0.001)


def conclude(name: str, frames: Frames) -> Finding:
    measure = MEASURES[name]
    return Claim(name, "", "", None, measure, "").conclude(measure(frames), 0.95)


def measured(name: str, frames: Frames = FRAMES) -> Measurement:
    result = MEASURES[name](frames)
    assert isinstance(result, Measurement)
    return result


def multiplied(frames: Frames, quantity: str, factor: Callable[[pd.DataFrame], object]) -> Frames:
    """The records with one quantity times a function of its rows."""
    table = frames.initialization.copy()
    chosen = table["quantity"] == quantity
    table.loc[chosen, "value"] *= factor(table[chosen])
    return frames._replace(initialization=table)


@pytest.mark.parametrize("name", MEASURES)
def test_what_theory_predicts_is_reproduced_where_it_is_planted(name: str) -> None:
    finding = conclude(name, FRAMES)
    assert finding.verdict == "reproduced", finding.detail
    assert finding.n == "5 of 5 seeds"


@pytest.mark.parametrize("name", ["bn", "he", "lecun", "uniform", "residual linear", "branch"])
def test_deviations_from_theory_are_near_zero_where_it_is_planted(name: str) -> None:
    result = measured(name)
    assert result.claimed == "within"
    assert abs(result.arms[0].mean()) < 0.2 * result.threshold
    assert result.theory is not None
    assert result.theory[1] == 0


def off_by(factor: float) -> Truth:
    """Plain factors that depart from theory."""

    def factors(network: NetworkKind) -> tuple[float, float, float]:
        first, second, third = published_factors(network)
        return factor * first, factor * second, factor * third

    return Truth(factors=factors)


OTHERWISE: dict[str, Truth] = {
    "bn": off_by(0.9),
    "he": off_by(1.08),
    "lecun": off_by(math.sqrt(2)),
    "uniform": off_by(0.93),
    "plain vanishes": Truth(factors=lambda network: (1.0, 1.0, 1.0)),
    "residual does not": Truth(unnormalized_norm=lambda behind: 0.9**behind),
    "residual power": Truth(residual_norm=lambda behind: 1.05**behind),
    "residual linear": Truth(residual_norm=lambda behind: (behind + 1) ** 2),
    "variance exponential": Truth(variance=lambda n: theory.preactivation_variance(n)),
    "correlation": Truth(
        correlation=lambda family, depth, lag: 0.5 ** (lag * (2 if family == "residual" else 1))
    ),
    "decay": Truth(
        correlation=lambda family, depth, lag: (
            (7 / depth) ** (lag * (0.8 if family == "residual" else 0.4))
        )
    ),
    "path law": Truth(path=lambda k: 0.01 / (k + 1e-9) ** 3),
    "path share": Truth(path=lambda k: 0.01 * 0.95**k),
    "norm": Truth(block_ratio=lambda number: np.exp(0.01 * number)),
    "wide": Truth(factors=lambda network: 3 * (gradient_theory.BN_RELU_GROWTH,)),  # type: ignore
    "images": Truth(factors=lambda network: 3 * (1.2 + 1e-4 * network.images,)),  # type: ignore
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_the_opposite_is_not_reproduced(name: str) -> None:
    frames = planted_initialization(truth=OTHERWISE[name], noise=0.005, slope_sd=0.001)
    assert conclude(name, frames).verdict == "not reproduced"


def test_variance_claims_see_their_absence() -> None:
    half = multiplied(FRAMES, "skip_variance", lambda rows: 0.5)
    assert conclude("branch", half).verdict == "not reproduced"
    assert measured("branch", half).arms[0].mean() == pytest.approx(-0.5, abs=0.05)
    grown = multiplied(FRAMES, "channel_variance", lambda rows: 1.3 ** rows["index"])
    assert conclude("variance linear", grown).verdict == "not reproduced"
    never = multiplied(FRAMES, "channel_variance", lambda rows: 3.0 ** rows["stage"])
    assert conclude("reset", never).verdict == "not reproduced"


def test_sigmoid_that_passes_as_much_as_relu_is_no_evidence() -> None:
    truth = Truth(factors=lambda network: (0.4, 0.4, 0.4))
    frames = planted_initialization(truth=truth, networks=PLAIN)
    assert abs(measured("sigmoid", frames).arms[0].mean() - math.log(0.4)) < 0.01
    assert conclude("sigmoid", frames).verdict == "undecided"


def test_a_small_deviation_is_reproduced_and_said_to_miss_the_prediction() -> None:
    frames = planted_initialization(
        truth=off_by(1.03), noise=0.001, slope_sd=0.0005, networks=PLAIN
    )
    finding = conclude("bn", frames)
    assert finding.verdict == "reproduced"
    assert finding.effect == pytest.approx(3, abs=0.2)
    assert "outside the interval" in finding.detail


def test_padding_is_in_the_prediction_and_the_published_factor_beside() -> None:
    numbers = measured("he").numbers
    assert numbers["predicted_by_stage"][2] == pytest.approx(gradient_theory.padding_factor(2))
    assert numbers["predicted_without_borders"] == 1
    numbers = measured("bn").numbers
    assert numbers["predicted_by_stage"] is None
    assert numbers["padded"] < numbers["predicted"] == gradient_theory.BN_RELU_GROWTH
    assert "zero padding" in conclude_claim("initial_factor_bn_plain", FRAMES).detail


def conclude_claim(name: str, frames: Frames) -> Finding:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    return claim.conclude(claim.measure(frames), 0.95)


def test_factors_by_size_are_those_of_each_stage() -> None:
    for field, values in (("width", [16, 32, 64, 128]), ("images", [16, 64, 128, 512])):
        table = sizes.factors(FRAMES, field)
        assert sorted(table[field].unique()) == values
        assert (table.groupby([field, "stage"])["seed"].nunique() == 5).all()
    wide = sizes.factors(FRAMES, "width").query("width == 128 and stage > 0")
    expected = gradients.padded_growth()
    np.testing.assert_allclose(wide.groupby("stage")["factor"].median(), expected, rtol=0.01)


@pytest.mark.parametrize("name", MEASURES)
def test_without_measurements_the_networks_that_it_takes_are_named(name: str) -> None:
    finding = conclude(name, frames_of([]))
    assert finding.verdict == "undecided"
    assert "initialisation" in finding.needed


@pytest.mark.parametrize("name", MEASURES)
def test_shallow_networks_alone_are_judged_or_refused_in_words(name: str) -> None:
    result = MEASURES[name](planted_initialization((8,), 2))
    assert isinstance(result, Missing | Measurement)
    if name not in ("correlation",):
        assert isinstance(result, Missing)


@pytest.mark.parametrize("name", MEASURES)
def test_one_number_per_seed_and_one_seed_at_most_indicates(name: str) -> None:
    frames = planted_initialization(seeds=1)
    assert {len(arm) for arm in measured(name, frames).arms} == {1}
    assert conclude(name, frames).verdict in ("indicated", "undecided")


@pytest.mark.parametrize("name", MEASURES)
def test_records_read_twice_and_in_any_order_count_once(name: str) -> None:
    table = pd.concat([FRAMES.initialization, FRAMES.initialization]).sample(frac=1, random_state=0)
    again = measured(name, FRAMES._replace(initialization=table))
    for one, other in zip(measured(name).arms, again.arms, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert list(again.numbers) == list(measured(name).numbers)


@pytest.mark.parametrize("name", MEASURES)
def test_a_network_with_values_that_are_not_finite_is_left_out(name: str) -> None:
    table = FRAMES.initialization.copy()
    table.loc[(table["seed"] == 2) & (table["index"] > 0), "value"] = np.nan
    result = measured(name, FRAMES._replace(initialization=table))
    assert {len(arm) for arm in result.arms} == {4}
    assert np.isfinite(np.concatenate(result.arms)).all()
    # Too few seeds for limits are no number that is not finite.
    assert "nan" not in re.sub(r"(low|high|level)=nan", "", str(result.numbers))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_nothing_usable_at_all_is_refused_in_words(name: str, value: float) -> None:
    frames = FRAMES._replace(initialization=FRAMES.initialization.assign(value=value))
    result = MEASURES[name](frames)
    if name not in ("correlation", "decay") or math.isnan(value):
        assert isinstance(result, Missing)


def test_depth_rules() -> None:
    def judged(name: str, depths: tuple[int, ...] = DEPTHS) -> int:
        return int(measured(name, planted_initialization(depths, 2)).numbers["depth"])

    assert judged("bn") == 56
    assert judged("bn", (8, 20, 44)) == 44
    assert judged("bn", (20, 110)) == 110
    assert judged("plain vanishes", (20, 110)) == 110
    assert isinstance(MEASURES["plain vanishes"](planted_initialization((20, 32), 2)), Missing)
    assert judged("branch") == 110
    assert judged("correlation", (8, 20)) == 20


def test_original_blocks_stand_in_where_preactivated_ones_lack_normalisation() -> None:
    original = NetworkKind("residual", "none")
    numbers = measured("variance exponential", planted_initialization(networks=[original])).numbers
    assert numbers["setting"] == original.setting


def test_depths_at_which_correlations_are_noise_are_not_fitted() -> None:
    deep = multiplied(FRAMES, "gradient_autocorrelation", lambda rows: 1.0)
    table = deep.initialization.copy()
    lost = (table["family"] == "plain") & (table["depth"] >= 44) & (table["index"] == 1)
    table.loc[lost & (table["quantity"] == "gradient_autocorrelation"), "value"] = -0.004
    result = measured("decay", deep._replace(initialization=table))
    assert result.numbers["fitted"]
    assert max(result.numbers["fitted"]) < 44
    assert np.isfinite(result.arms[1]).all()


def test_networks_are_told_apart_by_every_setting() -> None:
    table = FRAMES.initialization
    for network in (*PLAIN, BN_RESIDUAL, PREACTIVATED):
        rows = fits.rows_of(FRAMES, "activation_gradient_norm", network)
        whole = table[table["quantity"] == "activation_gradient_norm"]
        expected = whole
        for column, value in vars(network).items():
            expected = expected[expected[column] == value]
        assert len(rows) == len(expected)
    settings = {network.setting for network in (*PLAIN, PREACTIVATED)}
    assert len(settings) == len(PLAIN) + 1


def test_variances_of_branch_and_skip_are_joined_by_block() -> None:
    rows = blocks.variance_ratios(FRAMES, PREACTIVATED)
    one = rows[(rows["depth"] == 110) & (rows["seed"] == 0)]
    assert list(one["index"]) == list(range(1, 55))
    branch = blocks.padded_branches(0)[0]
    expected = (0.5 + branch * np.arange(18)) / branch
    np.testing.assert_allclose(one["value"][:18], expected, rtol=0.1)
    assert blocks.variance_ratios(FRAMES, BN_PLAIN).empty
