"""Gains, lift and depth of mailing on data whose propensities are known."""

import numpy as np
import pandas as pd
import pytest

from analysis.campaigns.effects import EstimationError
from analysis.campaigns.gains import (
    calibration,
    customer_split,
    design_effect,
    fit_response,
    gains_table,
    mailing_depth,
    rate_ratio,
    run_response,
    time_split,
)


def mailing(n=8000, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    p = 1 / (1 + np.exp(-(-2.5 + x @ [1.0, -0.5, 0.0])))
    return x, p, (rng.random(n) < p).astype(int)


def test_deciles_by_hand():
    score = np.repeat([0.9, 0.5, 0.1], [10, 40, 50])
    y = np.r_[np.ones(5), np.zeros(5), np.ones(8), np.zeros(32), np.ones(2), np.zeros(48)]
    found = gains_table(score, y)
    assert found["responses"].tolist() == pytest.approx([5, 2, 2, 2, 2, 0.4, 0.4, 0.4, 0.4, 0.4])
    assert found["lift"].iloc[0] == pytest.approx(0.5 / 0.15)
    assert found["gain"].iloc[1] == pytest.approx(7 / 15)
    assert found["gain"].iloc[-1] == found["gain_low"].iloc[-1] == pytest.approx(1)
    assert found["expected"].sum() == pytest.approx(score.sum())
    assert ((found["lift_low"] <= found["lift"] + 1e-12) & (found["lift"] <= found["lift_high"] + 1e-12)).all()


def test_order_of_rows_does_not_matter_with_ties():
    _, p, y = mailing(2000)
    score, order = np.round(p, 2), np.random.default_rng(2).permutation(2000)
    pd.testing.assert_frame_equal(gains_table(score, y), gains_table(score[order], y[order]))
    flat = gains_table(np.full(2000, 0.3), np.sort(y))
    assert flat["lift"].tolist() == pytest.approx([1.0] * 10)


def test_ratio_of_rates_with_and_without_events():
    ratio, low, high = rate_ratio([10, 0, 5], [100, 100, 50], [5, 5, 0], [100, 100, 50])
    assert ratio[0] == pytest.approx(2)
    assert low[0] < 1 < 2 < high[0]
    assert (ratio[1], low[1]) == (0, 0)
    assert 0 < high[1] < 2
    assert np.isinf(high[2])


def test_coverage_of_lift_and_rate():
    rng, rounds, hits = np.random.default_rng(4), 200, np.zeros(2)
    for _ in range(rounds):
        score = rng.random(1500)
        y = rng.random(1500) < 0.02 + 0.16 * score**2
        row = gains_table(score, y).iloc[0]
        top = 0.02 + 0.16 * (1 - 0.9**3) / 3 / 0.1
        hits += [row["rate_low"] <= top <= row["rate_high"],
                 row["lift_low"] <= top / (0.02 + 0.16 / 3) <= row["lift_high"]]  # fmt: skip
    assert (np.abs(hits / rounds - 0.95) < 4 * np.sqrt(0.95 * 0.05 / rounds)).all()


def test_recurring_customers_widen_the_intervals():
    _, p, y = mailing(2000)
    twice, ids = np.repeat(y, 2), np.repeat(np.arange(2000), 2)
    assert design_effect(twice, ids) == pytest.approx(2)
    assert design_effect(y, None) == 1
    once, recurring = gains_table(p, y), gains_table(np.repeat(p, 2), twice, clusters=ids)
    assert recurring["rate_high"].to_numpy() == pytest.approx(once["rate_high"].to_numpy())


def test_calibration_finds_a_calibrated_and_a_boastful_model():
    _, p, y = mailing()
    good = calibration(p, y)
    assert good.holds
    logit = np.log(p / (1 - p))
    bad = calibration(1 / (1 + np.exp(-2 * logit)), y)
    assert not bad.holds
    assert bad.slope == pytest.approx(0.5, abs=0.05)
    assert np.isnan(calibration(np.full(len(y), y.mean()), y).slope)


def test_model_recovers_the_propensities():
    x, p, y = mailing()
    score = fit_response(y, x).predict_proba(x)[:, 1]
    assert np.abs(score - p).mean() < 0.01
    with pytest.raises(EstimationError, match="ten responses"):
        fit_response(np.r_[np.ones(9), np.zeros(50)], np.ones((59, 1)))


def test_break_even_depth():
    _, p, y = mailing(40_000)
    found = mailing_depth(p, y, margin_per_response=20, cost_per_contact=2)
    assert found.break_even_rate == pytest.approx(0.1)
    assert found.depth == pytest.approx((p >= 0.1).mean())
    truth = np.where(p >= 0.1, 20 * p - 2, 0).mean()
    assert found.profit_low < truth < found.profit_high
    assert found.profit > found.everyone
    assert found.surely <= found.depth + 0.1
    assert found.total >= found.depth - 0.1
    dear = mailing_depth(p, y, 20, 100)
    assert (dear.depth, dear.profit, dear.total) == (0, 0, 0)
    with pytest.raises(ValueError, match="positive"):
        mailing_depth(p, y, 0, 1)


def test_splits_keep_customers_and_time_apart():
    ids = np.repeat(np.arange(100), 3)
    held = customer_split(ids, 0.3, 5)
    assert held.sum() == 90
    assert not set(ids[held]) & set(ids[~held])
    starts = np.repeat(["2024-01-01", "2024-03-01", "2024-06-01"], [50, 30, 20])
    assert time_split(starts, 0.5).sum() == 50
    assert time_split(starts, 0.01).sum() == 20
    assert time_split(starts, 0.99).sum() == 50
    with pytest.raises(EstimationError, match="by customer"):
        time_split(starts[:10])


def test_whole_run_and_its_reasons():
    x, _, y = mailing(4000, 2)
    frame, ids = pd.DataFrame(x), np.arange(4000)
    found, reason = run_response(frame, y, ids, None, 20.0, 2.0)
    assert reason is None
    facts = found.facts()
    assert facts["split"] == "customer"
    assert facts["low"] < facts["value"] < facts["high"]
    assert facts["calibrated"]
    assert facts["responses"] == y[found.holdout].sum()
    later, _ = run_response(frame, y, ids, np.repeat(["2024-01-01", "2024-02-01"], 2000))
    assert (later.split, later.facts()["depth"]) == ("time", None)
    assert run_response(frame, np.zeros(4000), ids)[1] == "few_responses"
    assert run_response(frame.iloc[:1], [1], ids[:1])[1] == "few_responses"
    late = np.where(np.arange(4000) < 2000, y, 0)
    assert run_response(frame, late, ids, np.repeat(["2024-01-01", "2024-02-01"], 2000))[1] == "no_responses"
