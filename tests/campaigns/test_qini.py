"""Qini and its kin: definitions, ties, row order, standard errors that cover."""

import numpy as np
import pytest
from scipy import stats

from analysis import campaigns


def drawn(n, rng, ties=False):
    score = rng.normal(size=n)
    score = np.round(score) if ties else score
    return score, 1 + score + 3 * rng.normal(size=n)


def test_qini_is_the_area_between_curve_and_chord():
    score, gamma = drawn(2000, np.random.default_rng(0))
    order = np.argsort(-score)
    gain = np.concatenate([[0], np.cumsum(gamma[order])]) / len(gamma)
    depth = np.linspace(0, 1, len(gain))
    area = np.trapezoid(gain, depth)
    assert campaigns.auuc(score, gamma).estimate == pytest.approx(area, abs=1e-12)
    assert campaigns.qini_coefficient(score, gamma).estimate == pytest.approx(area - gamma.mean() / 2, abs=1e-12)


def test_a_small_case_by_hand():
    # Ranks from the top with ties: 1/8, 4/8, 4/8, 7/8.
    found = campaigns.qini_coefficient([9, 5, 5, 1], [8.0, 1, 3, 0])
    assert found.estimate == pytest.approx((8 * 3 / 8 + 0 * -3 / 8) / 4)
    assert campaigns.mid_ranks([9, 5, 5, 1]).tolist() == [0.125, 0.5, 0.5, 0.875]
    top = campaigns.uplift_at([9, 5, 5, 1], [8.0, 1, 3, 0], 0.5)
    assert top.estimate == pytest.approx((8 + (1 + 3) / 2) / 2)


@pytest.mark.parametrize("measure", [campaigns.qini_coefficient, campaigns.auuc, campaigns.uplift_at])
def test_the_order_of_rows_never_matters_even_with_ties(measure):
    rng = np.random.default_rng(1)
    score, gamma = drawn(3000, rng, ties=True)
    sorted_rows = np.argsort(gamma)
    here, there = measure(score, gamma), measure(score[sorted_rows], gamma[sorted_rows])
    assert here.estimate == pytest.approx(there.estimate, abs=1e-12)
    assert here.se == pytest.approx(there.se, rel=1e-9)
    curve, other = (campaigns.qini_curve(s, g) for s, g in ((score, gamma), (score[sorted_rows], gamma[sorted_rows])))
    np.testing.assert_allclose(curve.to_numpy(), other.to_numpy(), atol=1e-12)


def test_a_constant_score_on_sorted_rows_is_worth_exactly_nothing():
    gamma = np.sort(np.random.default_rng(2).normal(size=500))
    found = campaigns.qini_coefficient(np.ones(500), gamma)
    assert found.estimate == pytest.approx(0, abs=1e-15)
    assert found.se == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_cover(ties):
    rng = np.random.default_rng(3)
    big, _ = drawn(1_000_000, rng, ties)
    measures = {
        "qini": campaigns.qini_coefficient,
        "auuc": campaigns.auuc,
        "at": campaigns.uplift_at,
    }
    truth = {name: measure(big, 1 + big).estimate for name, measure in measures.items()}
    hits = dict.fromkeys(measures, 0)
    for _ in range(200):
        score, gamma = drawn(400, rng, ties)
        for name, measure in measures.items():
            low, high = measure(score, gamma).interval()
            hits[name] += low <= truth[name] <= high
    error = np.sqrt(0.95 * 0.05 / 200)
    for name, count in hits.items():
        assert abs(count / 200 - 0.95) < 4 * error, (name, count)


def test_intervals_know_that_customers_recur():
    rng = np.random.default_rng(4)
    covered = {"rows": 0, "customers": 0}
    for _ in range(200):
        own, score = rng.normal(size=150), rng.normal(size=150)
        who = np.repeat(np.arange(150), 4)
        s, g = np.repeat(score, 4), np.repeat(1 + own, 4) + 0.3 * rng.normal(size=600)
        for name, groups in (("rows", None), ("customers", who)):
            low, high = campaigns.qini_coefficient(s, g, groups).interval()
            covered[name] += low <= 0 <= high
    assert covered["customers"] / 200 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    assert covered["rows"] / 200 < 0.8


def test_the_paired_comparison_is_narrower_than_two_separate_intervals():
    rng = np.random.default_rng(5)
    score, gamma = drawn(3000, rng)
    other = score + 0.2 * rng.normal(size=3000)
    found = campaigns.compare_rankings(score, other, gamma)
    a, b = campaigns.qini_coefficient(score, gamma), campaigns.qini_coefficient(other, gamma)
    assert found.estimate == pytest.approx(a.estimate - b.estimate)
    assert found.se < 0.5 * np.hypot(a.se, b.se)
    assert campaigns.compare_rankings(score, score, gamma).pvalue == 1


def test_ranking_within_folds_takes_out_the_bias_against_useless_models():
    rng = np.random.default_rng(6)
    plain, within = [], []
    for seed in range(60):
        gamma = rng.normal(size=200)
        fold = campaigns.customer_folds(["control", "a"] * 100, None, 10, seed)
        score = np.array([gamma[fold != k].mean() for k in range(10)])[fold]
        plain.append(campaigns.qini_coefficient(score, gamma).estimate)
        within.append(campaigns.qini_coefficient(campaigns.ranks_within(score, fold), gamma).estimate)
    assert np.mean(plain) < -4 * stats.sem(plain)
    assert np.allclose(within, 0)


def test_the_curve_begins_at_nothing_and_ends_at_everybody():
    score, gamma = drawn(1000, np.random.default_rng(7))
    curve = campaigns.qini_curve(score, gamma)
    assert curve.iloc[0][["gain", "low", "high"]].tolist() == [0, 0, 0]
    last = curve.iloc[-1]
    assert last["gain"] == pytest.approx(gamma.mean()) == last["random"]
    assert (last["high"] - last["low"]) / 2 == pytest.approx(1.959964 * gamma.std(ddof=1) / np.sqrt(1000), rel=1e-6)


def test_calibration_sees_right_and_exaggerated_predictions():
    rng = np.random.default_rng(8)
    true = rng.normal(size=20_000)
    gamma = true + rng.normal(size=20_000)
    right, wide = (campaigns.effect_calibration(factor * true, gamma) for factor in (1, 3))
    assert ((right["low"] <= right["predicted"]) & (right["predicted"] <= right["high"])).sum() >= 8
    assert ((wide["low"] <= wide["predicted"]) & (wide["predicted"] <= wide["high"])).sum() <= 2
    assert right["customers"].sum() == 20_000 and len(right) == 10
    constant = campaigns.effect_calibration(np.ones(100), gamma[:100])
    assert len(constant) == 1 and constant["observed"].iloc[0] == pytest.approx(gamma[:100].mean())


def test_refusals_say_what_is_wrong():
    with pytest.raises(ValueError, match="equally long"):
        campaigns.qini_coefficient([1, 2], [1.0])
    with pytest.raises(ValueError, match="at least two"):
        campaigns.auuc([1], [1.0])
    with pytest.raises(ValueError, match="missing"):
        campaigns.qini_coefficient([1, np.nan], [1.0, 2])
    with pytest.raises(ValueError, match="share"):
        campaigns.uplift_at([1, 2], [1.0, 2], 0)
