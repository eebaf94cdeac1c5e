"""Estimators against planted effects, statsmodels and their own algebra."""

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.campaigns import effects
from analysis.campaigns.effects import (
    CUPED,
    DifferenceInDifferences,
    DifferenceInMeans,
    DoublyRobustATT,
    EstimationError,
    InversePropensityATT,
    RegressionAdjustment,
    difference,
    fit_propensity,
    overlap_region,
    pool,
)
from analysis.multiplicity import adjust_p_values

TRUE = 3.0


def confounded(rng, n=600, effect=TRUE, extra=0.0, slope=1.2):
    """Big spenders are targeted more often; ``extra`` bends the outcome so that a linear regression is wrong."""
    x = rng.normal(size=(n, 2))
    treated = (rng.random(n) < 1 / (1 + np.exp(1.0 - slope * x[:, 0] - 0.5 * x[:, 1]))).astype(int)
    y = 10 + 4 * x[:, 0] + 2 * x[:, 1] + extra * x[:, 0] ** 2 + effect * treated + rng.normal(size=n) * 2
    return y, treated, x


def replicate(estimate, reps=200, seed=11, **kwargs):
    rng = np.random.default_rng(seed)
    rows = [estimate(*confounded(rng, **kwargs)) for _ in range(reps)]
    values, covered = (
        np.array([r.effect for r in rows]),
        np.array([r.interval()[0] <= TRUE <= r.interval()[1] for r in rows]),
    )
    return values, covered


@pytest.mark.parametrize(
    "estimate",
    [
        lambda y, d, x: RegressionAdjustment(y, d, x).fit(),
        lambda y, d, x: InversePropensityATT(y, d, x).fit(),
        lambda y, d, x: DoublyRobustATT(y, d, x).fit(),
    ],
    ids=["regression", "ipw", "doubly_robust"],
)
def test_planted_effect_is_found_and_covered_under_confounding(estimate):
    values, covered = replicate(estimate)
    assert abs(values.mean() - TRUE) < 4 * values.std(ddof=1) / np.sqrt(len(values))
    assert abs(covered.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(covered))


def test_naive_difference_is_biased_under_the_same_confounding():
    values, covered = replicate(lambda y, d, x: DifferenceInMeans(y, d).fit(), reps=50)
    assert values.mean() > TRUE + 2
    assert covered.mean() < 0.05


def test_doubly_robust_survives_a_wrong_outcome_model():
    bent = {"extra": 2.0, "n": 1500, "slope": 0.6}  # with much stronger targeting no weighting has enough to compare
    values, covered = replicate(lambda y, d, x: DoublyRobustATT(y, d, x).fit(), **bent)
    wrong, _ = replicate(lambda y, d, x: RegressionAdjustment(y, d, x).fit(), reps=100, **bent)
    assert abs(values.mean() - TRUE) < 4 * values.std(ddof=1) / np.sqrt(len(values))
    assert abs(wrong.mean() - TRUE) > 8 * wrong.std(ddof=1) / np.sqrt(len(wrong))
    assert abs(covered.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(covered))


def test_doubly_robust_survives_a_wrong_propensity_model():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        x = rng.normal(size=600)
        d = (rng.random(600) < 1 / (1 + np.exp(1 - x))).astype(int)
        y = 5 * x + TRUE * d + rng.normal(size=600)
        found.append(DoublyRobustATT(y, d, rng.normal(size=600), outcome_covariates=x).fit())
    values = np.array([r.effect for r in found])
    covered = np.mean([r.interval()[0] <= TRUE <= r.interval()[1] for r in found])
    assert abs(values.mean() - TRUE) < 4 * values.std(ddof=1) / np.sqrt(200)
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_a_test_of_nothing_rejects_as_often_as_it_says():
    rng = np.random.default_rng(3)
    p = []
    for _ in range(200):
        y, d, x = rng.exponential(size=300), rng.integers(0, 2, 300), rng.normal(size=(300, 2))
        p.append(
            [DifferenceInMeans(y, d).fit().pvalue, CUPED(y, d, x).fit().pvalue, DoublyRobustATT(y, d, x).fit().pvalue]
        )
    share = (np.array(p) < 0.05).mean(axis=0)
    assert (np.abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 200)).all()


def test_cuped_keeps_the_effect_and_sheds_what_the_past_explains():
    rng = np.random.default_rng(8)
    before = rng.normal(50, 20, 4000)
    d = rng.integers(0, 2, 4000)
    y = before + TRUE * d + rng.normal(0, 5, 4000)
    found, plain = CUPED(y, d, before).fit(), DifferenceInMeans(y, d).fit()
    assert abs(found.effect - TRUE) < 4 * found.se
    assert found.diagnostics["variance_ratio"] == pytest.approx(25 / 425, abs=0.01)
    assert found.se < plain.se / 3
    useless = CUPED(y, d, np.full(4000, 7.0)).fit()
    assert (useless.effect, useless.se) == (pytest.approx(plain.effect), pytest.approx(plain.se))


def test_difference_in_differences_needs_parallel_trends_only():
    rng = np.random.default_rng(2)
    level = rng.normal(0, 10, 3000)
    d = (level + rng.normal(0, 5, 3000) > 3).astype(int)
    before, after = level + rng.normal(size=3000), level + 1.5 + TRUE * d + rng.normal(size=3000)
    found = DifferenceInDifferences(after, before, d).fit()
    assert abs(found.effect - TRUE) < 4 * found.se
    assert DifferenceInMeans(after, d).fit().effect > TRUE + 5


def test_agrees_with_statsmodels():
    y, d, x = confounded(np.random.default_rng(1), n=400)
    ols = sm.OLS(y, sm.add_constant(np.column_stack([d, x]))).fit(cov_type="HC1")
    ours = RegressionAdjustment(y, d, x).fit()
    assert (ours.effect, ours.se) == (pytest.approx(ols.params[1]), pytest.approx(ols.bse[1]))
    assert ours.diagnostics["t_classical"] == pytest.approx(
        sm.OLS(y, sm.add_constant(np.column_stack([d, x]))).fit().tvalues[1]
    )
    logit = sm.Logit(d, sm.add_constant(x)).fit(disp=0)
    np.testing.assert_allclose(fit_propensity(d, x).scores, logit.predict(), rtol=1e-6)
    two = sm.OLS(y, sm.add_constant(d)).fit(cov_type="HC2")
    assert DifferenceInMeans(y, d).fit().se == pytest.approx(two.bse[1])


def test_pooling_counts_a_household_once():
    rng = np.random.default_rng(4)
    y, d, x = confounded(rng, n=500)
    one = DoublyRobustATT(y, d, x).fit()
    ids = np.arange(500).astype(str)
    twice = pool([one, one], [ids, ids])
    assert twice.effect == pytest.approx(one.effect)
    assert twice.se == pytest.approx(one.se, rel=2e-3)  # the same people again teach nothing
    apart = pool([one, one], [ids, np.char.add("other", ids)])
    assert apart.se == pytest.approx(one.se / np.sqrt(2), rel=2e-3)
    gap = difference(twice, twice)
    assert (gap.effect, gap.se) == (0.0, 0.0)


def test_pooled_interval_covers_with_household_effects():
    rng = np.random.default_rng(6)
    covered = []
    for _ in range(200):
        taste = rng.normal(0, 3, 200)
        runs, ids = [], np.arange(200)
        for _campaign in range(4):
            d = rng.integers(0, 2, 200)
            runs.append(DifferenceInMeans(taste * (1 + d) + TRUE * d + rng.normal(size=200), d).fit())
        low, high = pool(runs, [ids] * 4).interval()
        covered.append(low <= TRUE <= high)
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


@pytest.mark.parametrize("model", [InversePropensityATT, DoublyRobustATT, RegressionAdjustment])
def test_contributions_are_what_each_customer_moves(model):
    y, d, x = confounded(np.random.default_rng(12), n=400, extra=1.0, slope=0.6)
    whole = model(y, d, x).fit()
    without = np.array([model(*(np.delete(v, i, axis=0) for v in (y, d, x))).fit().effect for i in range(400)])
    assert np.corrcoef(whole.effect - without, whole.contributions)[0, 1] > 0.995
    assert whole.se == pytest.approx(np.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum()), rel=0.06)


@pytest.mark.parametrize("model", [InversePropensityATT, DoublyRobustATT])
def test_perfect_separation_is_a_reason_not_a_number(model):
    x = np.linspace(-1, 1, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EstimationError, match="tell perfectly") as caught:
            model(x, (x > 0).astype(int), x).fit()
    assert caught.value.code == "separation"
    with pytest.raises(EstimationError, match="exactly who was treated"):
        RegressionAdjustment(x, (x > 0).astype(int), x > 0).fit()


@pytest.mark.parametrize(("treated", "code"), [(np.ones(20), "no_comparison"), (np.zeros(20), "no_treated")])
def test_an_empty_arm_is_a_reason(treated, code):
    with pytest.raises(EstimationError) as caught:
        DifferenceInMeans(np.arange(20.0), treated).fit()
    assert caught.value.code == code


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="missing or infinite"):
        DifferenceInMeans([1.0, np.nan, 2.0, 3.0], [0, 1, 0, 1]).fit()
    with pytest.raises(ValueError, match="only 0 and 1"):
        DifferenceInMeans([1.0, 2.0, 3.0], [0, 1, 2]).fit()
    with pytest.raises(ValueError, match="equally long"):
        DifferenceInMeans([1.0, 2.0, 3.0], [0, 1]).fit()
    with pytest.raises(ValueError, match="pool them first"):
        one = DifferenceInMeans([1.0, 2.0, 3.0, 5.0], [0, 1, 0, 1]).fit()
        difference(one, one)


def test_constant_outcome_has_no_effect_and_no_error():
    found = DifferenceInMeans(np.full(30, 4.0), np.arange(30) % 2).fit()
    assert (found.effect, found.se, found.pvalue) == (0.0, 0.0, 1.0)


def test_overlap_region_drops_only_those_without_a_counterpart():
    rng = np.random.default_rng(9)
    x = rng.normal(size=2000)
    d = (rng.random(2000) < 1 / (1 + np.exp(-3 * x))).astype(int)
    keep = overlap_region(d, x, 0.9)
    assert x[~keep].min() > x[keep].max()
    assert overlap_region(d, x, 1.0).all()


def test_adjusted_p_values():
    p = [0.01, 0.04, 0.03, 0.005]
    assert adjust_p_values(p).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_p_values(p, "bh").tolist() == pytest.approx([0.02, 0.04, 0.04, 0.02])


arms = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 2)), min_size=n, max_size=n),
        st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 2)), min_size=n, max_size=n),
    )
)


@settings(max_examples=60)
@given(arms, st.floats(0.1, 100), st.floats(-1e3, 1e3))
def test_difference_in_means_moves_with_its_unit(values, scale, shift):
    treated, control = values
    y, d = np.array(treated + control), np.r_[np.ones(len(treated)), np.zeros(len(control))]
    first, second = DifferenceInMeans(y, d).fit(), DifferenceInMeans(scale * y + shift, d).fit()
    assert second.effect == pytest.approx(scale * first.effect, abs=1e-6 * scale)
    assert second.se == pytest.approx(scale * first.se, rel=1e-6, abs=1e-6)
    swapped = DifferenceInMeans(y, 1 - d).fit()
    assert swapped.effect == pytest.approx(-first.effect, abs=1e-9)
    assert first.se == pytest.approx(np.sqrt((first.contributions**2).sum()), rel=1e-9, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_every_estimator_ignores_row_order_and_covariate_scale(seed):
    rng = np.random.default_rng(seed)
    y, d, x = confounded(rng, n=120)
    order = rng.permutation(120)
    for model in (RegressionAdjustment, InversePropensityATT, DoublyRobustATT, CUPED):
        first = model(y, d, x).fit()
        second = model(y[order], d[order], x[order] * [1000.0, 0.01] + 5).fit()
        assert second.effect == pytest.approx(first.effect, rel=1e-5, abs=1e-6)
        assert second.se == pytest.approx(first.se, rel=1e-5)
        assert first.contributions.sum() == pytest.approx(0, abs=1e-6)


def test_summary_and_interval_agree():
    y, d, x = confounded(np.random.default_rng(0))
    found = effects.DoublyRobustATT(y, d, x).fit()
    row = found.summary(alpha=0.1).loc["effect"]
    assert (row["low"], row["high"]) == found.interval(0.9) == tuple(found.conf_int(0.1).loc["effect"])
    assert found.params["effect"] == row["effect"]
    assert found.relative() == pytest.approx(found.effect / (y[d == 1].mean() - found.effect))
