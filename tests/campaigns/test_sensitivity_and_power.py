"""Sensitivity to unseen causes, and the size of the next test."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis import sensitivity
from analysis.campaigns import power
from analysis.campaigns.effects import DifferenceInMeans, RegressionAdjustment


def test_a_confounder_as_strong_as_the_robustness_value_takes_the_effect_away():
    rng = np.random.default_rng(1)
    n, d = 4000, rng.integers(0, 2, 4000).astype(float)
    y = 1.0 * d + rng.normal(0, 2, n)
    fitted = RegressionAdjustment(y, d).fit()
    rv = sensitivity.robustness_value(fitted.diagnostics["t_classical"], fitted.diagnostics["dof"])
    # Build an unseen cause that explains exactly rv of the treatment and rv of what is left of the outcome.
    e, r = d - d.mean(), y - y.mean() - fitted.effect * (d - d.mean())
    e, r = e / np.linalg.norm(e), r / np.linalg.norm(r)
    noise = rng.normal(size=n)
    for known in (np.ones(n) / np.sqrt(n), e, r):
        noise -= (noise @ known) * known
    noise /= np.linalg.norm(noise)
    c = np.sqrt(rv)
    b = np.sqrt(rv * (1 - rv))  # partial R² of the outcome is given the treatment
    unseen = c * e + b * r + np.sqrt(1 - c**2 - b**2) * noise
    assert abs(RegressionAdjustment(y, d, unseen).fit().effect) < 0.02 * fitted.effect


@settings(max_examples=80)
@given(st.floats(0.01, 100), st.integers(5, 100_000))
@example(t=2.0, dof=5)  # no effect at this level, though the critical value is beyond that of an effect of all
def test_robustness_value_is_a_share_and_symmetric(t, dof):
    whole, at_level = sensitivity.robustness_value(t, dof), sensitivity.robustness_value(t, dof, alpha=0.05)
    assert 0 <= at_level <= whole < 1
    assert sensitivity.robustness_value(-t, dof) == whole
    assert sensitivity.robustness_value(t, dof, q=0.5) < whole


@settings(max_examples=80)
@given(st.floats(0.01, 100))
def test_e_value_solves_the_bias_bound(ratio):
    found = sensitivity.e_value(ratio)
    assert found**2 / (2 * found - 1) == pytest.approx(max(ratio, 1 / ratio), rel=1e-9)  # the bounding factor
    assert sensitivity.e_value(1 / ratio) == pytest.approx(found)


def test_e_value_of_an_interval_that_holds_one():
    assert sensitivity.e_value_limit(0.9, 1.4) == 1.0
    assert sensitivity.e_value_limit(0.3, 0.5) == sensitivity.e_value(0.5)


def test_planned_power_is_reached():
    n = int(np.ceil(power.sample_size_means(2.0, 10.0, share_treated=0.7)))
    rng = np.random.default_rng(7)
    d = (np.arange(n) < 0.7 * n).astype(int)
    found = np.mean([DifferenceInMeans(2.0 * d + rng.normal(0, 10, n), d).fit().pvalue < 0.05 for _ in range(200)])
    assert abs(found - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 200)
    assert power.detectable_effect(power.sample_size_means(2.0, 10.0), 10.0) == pytest.approx(2.0)


def test_bad_input_is_named():
    for call in (
        lambda: power.sample_size_proportions(0.1, 0.1),
        lambda: power.sample_size_means(0.0, 1.0),
        lambda: power.detectable_effect(0, 1.0),
        lambda: power.sample_size_proportions(0.1, 0.2, method="guess"),
        lambda: sensitivity.e_value(0),
        lambda: sensitivity.robustness_value(2.0, 1),
    ):
        with pytest.raises(ValueError, match="must"):
            call()


def test_power_is_that_of_the_sample_size():
    n = power.sample_size_means(2.0, 9.0, 0.8, share_treated=0.3)
    assert power.power_of_difference(2.0, n, 9.0, share_treated=0.3) == pytest.approx(0.8, abs=1e-4)
    assert power.power_of_difference(0.0, n, 9.0) == pytest.approx(0.05)
    assert power.power_of_difference(1.0, n, 0.0) == 1.0
    with pytest.raises(ValueError, match="customers must be positive"):
        power.power_of_difference(1.0, 0, 1.0)


def test_smallest_holdout_finds_the_effect_and_one_less_does_not():
    held = power.holdout_size(10_000, 2.0, 20.0)
    assert 0 < held < 5_000
    assert power.detectable_effect(10_000, 20.0, share_treated=1 - held / 10_000) == pytest.approx(2.0)
    assert power.power_of_difference(2.0, 10_000, 20.0, share_treated=1 - (held - 10) / 10_000) < 0.8
    assert power.holdout_size(100, 2.0, 20.0) is None
    with pytest.raises(ValueError, match="customers must be positive"):
        power.holdout_size(0, 2.0, 20.0)
