"""Rankings and probabilities are judged right: by hand, against other software, and with intervals that cover."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from analysis.segmentation.judging import auc, auc_interval, calibration, lifts
from analysis.valuation.intervals import share_interval

REPLICATIONS = 200
FOUR_ERRORS = 4 * np.sqrt(0.05 * 0.95 / REPLICATIONS)


def drawn(seed, n=300, apart=1.0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.2).astype(int)
    return y, rng.normal(size=n) + apart * y


def by_components(y, scores):
    """DeLong's covariance from the placement of each customer, pair by pair."""
    wins = [
        (scores[y == 1, k][:, None] > scores[y == 0, k]) + 0.5 * (scores[y == 1, k][:, None] == scores[y == 0, k])
        for k in range(scores.shape[1])
    ]
    rows, columns = (np.array([w.mean(axis=a) for w in wins]) for a in (1, 0))
    return np.cov(rows) / rows.shape[1] + np.cov(columns) / columns.shape[1]


def test_auc_and_its_covariance_are_those_of_all_pairs():
    y, score = drawn(1)
    scores = np.column_stack([score, np.round(score), np.random.default_rng(2).integers(0, 3, len(y))])
    areas, covariance = auc(y, scores)
    np.testing.assert_allclose(areas, [roc_auc_score(y, s) for s in scores.T], rtol=1e-12)
    np.testing.assert_allclose(covariance, by_components(y, scores), rtol=1e-10)


def test_auc_interval_covers():
    apart = 1.0
    truth = norm.cdf(apart / np.sqrt(2))
    found = [auc_interval(*drawn(seed, 200, apart)) for seed in range(REPLICATIONS)]
    covered = np.mean([e.low <= truth <= e.high for e in found])
    assert abs(covered - 0.95) <= FOUR_ERRORS


def test_auc_without_an_interval_says_why():
    y = np.array([0, 0, 0, 1, 1])
    assert auc_interval(y, y).value == 1 and "faultless" in auc_interval(y, y).reason
    alike = auc_interval(y, np.ones(5))
    assert alike.value == 0.5 and alike.low is None and "same score" in alike.reason
    assert "fewer than two" in auc_interval([0, 0, 1], [1, 2, 3]).reason
    with pytest.raises(ValueError, match="two customers of each kind"):
        auc([0, 0, 0], [1, 2, 3])


def test_lift_by_hand_with_ties():
    y = np.zeros(100)
    y[:20] = 1
    scores = pd.DataFrame({"perfect": y, "alike": np.ones(100), "backwards": -y})
    found = lifts(y, scores, replications=50)
    by = found.by_decile.set_index(["method", "decile"])["lift"]
    # 20 share the best score: each half of them goes into one of the first two tenths
    np.testing.assert_allclose(by["perfect"], [5, 5] + [0] * 8, atol=1e-12)
    np.testing.assert_allclose(by["alike"], 1.0)
    np.testing.assert_allclose(by["backwards"], [0] * 8 + [5, 5], atol=1e-12)
    assert list(found.top["method"]) == ["perfect", "alike", "backwards"]
    ends = found.by_decile.set_index(["method", "decile"]).loc["perfect", ["low", "high"]]
    # nobody among ten is not never, and ten of ten is not always
    nobody, everybody = share_interval(0, 10)[1], share_interval(10, 10)[0]
    np.testing.assert_allclose(ends.loc[10], [0, nobody / 0.2])
    assert ends.loc[1, "low"] <= everybody / 0.2 + 1e-9 < 5
    verdict = found.differences.set_index(["method", "against"])["verdict"]
    assert verdict["perfect", "alike"] == "better" and verdict["alike", "backwards"] == "better"


def test_equal_rankings_tie():
    y, score = drawn(3)
    found = lifts(y, pd.DataFrame({"a": score, "b": np.exp(score)}), replications=50).differences.iloc[0]
    assert (found["difference"], found["low"], found["high"], found["verdict"]) == (0, 0, 0, "tie")


def test_nobody_to_find_is_an_error():
    with pytest.raises(ValueError, match="0 of them to be found"):
        lifts(np.zeros(50), pd.DataFrame({"a": np.arange(50)}))


def test_intervals_of_lift_and_of_its_difference_cover():
    y, score = drawn(0, 400_000)
    worse = score + np.random.default_rng(9).normal(size=len(y))
    truth = [y[s >= np.quantile(s, 0.9)].mean() / y.mean() for s in (score, worse)]
    own, paired = [], []
    for seed in range(REPLICATIONS):
        part = slice(seed * 400, seed * 400 + 400)
        found = lifts(y[part], pd.DataFrame({"a": score[part], "b": worse[part]}), seed=seed, replications=120)
        own.append(found.top["low"].iloc[0] <= truth[0] <= found.top["high"].iloc[0])
        pair = found.differences.iloc[0]
        paired.append(pair["low"] <= truth[0] - truth[1] <= pair["high"])
    assert abs(np.mean(own) - 0.95) <= FOUR_ERRORS
    assert abs(np.mean(paired) - 0.95) <= FOUR_ERRORS


def foreseen(seed, n=1000, level=0.0, slope=1.0):
    """Probabilities and outcomes that follow level + slope × logit(probability)."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 4, n)
    return (rng.random(n) < expit(level + slope * logit(p))).astype(int), p


def test_slope_and_level_are_those_of_statsmodels():
    y, p = foreseen(1, 2000, 0.3, 0.7)
    found, x = calibration(y, p), logit(p)
    both = sm.Logit(y, sm.add_constant(x)).fit(disp=0)
    level = sm.GLM(y, np.ones(len(y)), family=sm.families.Binomial(), offset=x).fit()
    np.testing.assert_allclose(found.slope.interval, [both.params[1], *both.conf_int()[1]], rtol=1e-5)
    np.testing.assert_allclose(found.intercept.interval, [level.params[0], *level.conf_int()[0]], rtol=1e-5)


@pytest.mark.parametrize(("level", "slope"), [(0.0, 1.0), (0.5, 0.6)])
def test_calibration_intervals_cover(level, slope):
    slopes, errors = [], []
    for seed in range(REPLICATIONS):
        y, p = foreseen(seed, 800, level, slope)
        found = calibration(y, p, seed=seed)
        edges = np.quantile(p, np.linspace(0, 1, 11)[1:-1], method="inverted_cdf")
        group = np.searchsorted(edges, p)
        apart = pd.Series(expit(level + slope * logit(p)) - p).groupby(group).mean().abs()
        truth = np.average(apart, weights=np.bincount(group))
        slopes.append(found.slope.low <= slope <= found.slope.high)
        errors.append(found.error.low <= truth <= found.error.high)
    assert abs(np.mean(slopes) - 0.95) <= FOUR_ERRORS
    assert np.mean(errors) >= 0.95 - FOUR_ERRORS


def test_true_probabilities_have_no_error_and_false_ones_have():
    right = [calibration(*foreseen(seed, 2000)).error for seed in range(20)]
    wrong = [calibration(*foreseen(seed, 2000, 1.0)).error for seed in range(20)]
    assert np.mean([e.low == 0 for e in right]) > 0.8 and np.mean([e.value for e in right]) < 0.01
    truth = np.mean(expit(1.0 + logit(foreseen(0, 100_000)[1])) - foreseen(0, 100_000)[1])
    assert np.mean([e.value for e in wrong]) == pytest.approx(truth, abs=0.01)


def test_an_error_of_zero_by_luck_is_not_certain():
    p = np.repeat(np.arange(1, 10) / 10, 40)
    y = np.concatenate([np.repeat([1, 0], [round(40 * q), 40 - round(40 * q)]) for q in np.arange(1, 10) / 10])
    lucky = calibration(y, p).error
    assert (lucky.value, lucky.low) == (pytest.approx(0, abs=1e-12), 0) and 0.01 < lucky.high < 0.06


def test_calibration_of_odd_probabilities():
    y = np.array([0, 1] * 50)
    alike = calibration(y, np.full(100, 0.5))
    assert "same probability" in alike.slope.reason and alike.intercept.value == pytest.approx(0, abs=1e-9)
    assert len(alike.table) == 1 and "too few" in alike.error.reason
    certain = calibration(y, y.astype(float))
    assert certain.slope.reason is not None and certain.error.value == pytest.approx(0, abs=1e-9)
    assert "same outcome" in calibration(np.zeros(50), np.linspace(0, 0.5, 50)).slope.reason
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration(y, np.full(100, 1.2))


def test_groups_of_the_table_are_not_small():
    rng = np.random.default_rng(4)
    p = np.where(rng.random(300) < 0.9, 0.1, rng.random(300))
    table = calibration((rng.random(300) < p).astype(int), p, small_group=25).table
    assert table["customers"].min() >= 25 and table["customers"].sum() == 300
    assert (table["low"] <= table["observed"]).all() and (table["observed"] <= table["high"]).all()
    assert table["predicted"].is_monotonic_increasing
