"""Looking again and again keeps its error rate; looking at the usual interval does not."""

import datetime as dt

import numpy as np
import pytest

from analysis.campaigns.sequential import confidence_sequence, sales_by_look, sequential_looks

LOOKS = 10


def wrong_claims(replications=2000, customers=100, seed=4, growing=False):
    """Shares of replications in which any of ten looks excludes zero though nothing happened: always valid, usual."""
    rng = np.random.default_rng(seed)
    shape = (replications, LOOKS, 2)
    means = rng.normal(size=shape) / np.sqrt(customers)
    if growing:  # the same customers, whose own level lasts
        means = means + rng.normal(size=(replications, 1, 2)) / np.sqrt(customers)
        total = means.cumsum(axis=1)
        steps = np.arange(1, LOOKS + 1)
        se, information = np.sqrt(2 * (steps + steps**2) / customers), (steps + steps**2).astype(float)
        effect = total[:, :, 1] - total[:, :, 0]
    else:
        steps = np.arange(1, LOOKS + 1)
        effect = (means.cumsum(axis=1) / steps[:, None])[:, :, 1] - (means.cumsum(axis=1) / steps[:, None])[:, :, 0]
        se, information = np.sqrt(2 / (customers * steps)), steps * customers * 2.0
    tables = [confidence_sequence(e, se, information) for e in effect]
    valid = [((t["low"] > 0) | (t["high"] < 0)).any() for t in tables]
    usual = [((t["fixed_low"] > 0) | (t["fixed_high"] < 0)).any() for t in tables]
    return np.mean(valid), np.mean(usual)


@pytest.mark.parametrize("growing", [False, True])
def test_ten_looks_keep_the_error_rate(growing):
    valid, usual = wrong_claims(600, growing=growing)
    assert valid <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 600)
    assert usual > 0.08


def test_p_value_and_interval_agree_and_a_finding_stays():
    table = confidence_sequence([0.5, 0.9, 0.2], [0.25, 0.2, 0.15], [100, 200, 300], planned=300)
    outside = (table["low"] > 0) | (table["high"] < 0)
    assert outside.tolist() == [False, True, False]
    assert (table["p_value"] < 0.05).tolist() == [False, True, True]
    # At the p value's own confidence the interval ends at zero.
    edge = confidence_sequence([0.9], [0.2], [200], planned=300).iloc[0]
    assert edge.low > 0
    assert (table["high"] - table["low"] > table["fixed_high"] - table["fixed_low"]).all()


def test_interval_is_that_of_the_normal_mixture():
    row = confidence_sequence([0.0], [0.1], [500], planned=1000, confidence=0.9).iloc[0]
    c = -2 * np.log(0.1) + np.log(1 - 2 * np.log(0.1))
    r = c * 0.5  # ρ²t
    assert row.high == pytest.approx(0.1 * np.sqrt(2 * (r + 1) / r * np.log(np.sqrt(r + 1) / 0.1)))


def test_looks_of_arriving_customers_and_of_growing_totals():
    rng = np.random.default_rng(9)
    treated = rng.integers(0, 2, 4000)
    daily = rng.gamma(1, 2, (4000, 4)) + 0.5 * treated[:, None]
    grown = sequential_looks(daily.cumsum(axis=1), treated)
    assert (np.diff(grown["information"]) > 0).all()
    assert (grown["low"] < 0.5 * grown["look"]).all() and (grown["high"] > 0.5 * grown["look"]).all()
    entered = rng.integers(1, 5, 4000)
    arriving = np.where(entered[:, None] <= np.arange(1, 5), daily[:, :1], np.nan)
    seen = sequential_looks(arriving, treated, planned_looks=8)
    assert (seen["n_treated"] + seen["n_control"]).tolist() == [(entered <= k).sum() for k in range(1, 5)]
    assert seen["high"].iloc[-1] - seen["low"].iloc[-1] < seen["high"].iloc[0] - seen["low"].iloc[0]


def test_what_cannot_be_looked_at_is_refused():
    with pytest.raises(ValueError, match="one value a look"):
        confidence_sequence([1.0, 2.0], [1.0], [1.0])
    with pytest.raises(ValueError, match="positive and growing"):
        confidence_sequence([1.0, 2.0], [1.0, 1.0], [2.0, 1.0])
    with pytest.raises(ValueError, match="does not vary"):
        sequential_looks(np.zeros((10, 2)), np.arange(10) % 2)


def test_sales_by_look_are_sums_so_far(company):
    day = dt.date(2024, 6, 1)
    lines = company.order_lines(
        [("a", day, 1.0), ("a", day + dt.timedelta(7), 2.0), ("a", day + dt.timedelta(16), 4.0),
         ("a", day + dt.timedelta(17), 8.0), ("a", day - dt.timedelta(1), 16.0), ("x", day, 5.0)]
    )  # fmt: skip
    found = sales_by_look(lines, ["b", "a"], day, day + dt.timedelta(17))
    assert found.tolist() == [[0.0, 0.0, 0.0], [1.0, 3.0, 7.0]]
    with pytest.raises(ValueError, match="days must be"):
        sales_by_look(lines, ["a"], day, day)


def test_ten_looks_at_spend_with_many_zeros_keep_the_error_rate():
    wrong = {"valid": 0, "usual": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        orders = rng.poisson(rng.gamma(1, 0.15, 1000)[:, None], (1000, LOOKS))
        spend = (orders * rng.lognormal(3, 1, (1000, LOOKS))).cumsum(axis=1)
        table = sequential_looks(spend, rng.integers(0, 2, 1000))
        wrong["valid"] += ((table["low"] > 0) | (table["high"] < 0)).any()
        wrong["usual"] += ((table["fixed_low"] > 0) | (table["fixed_high"] < 0)).any()
    assert wrong["valid"] / 200 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)
    assert wrong["usual"] / 200 > 0.1
