"""Recalibration: isotonic steps, shares of customers with several rows, and what is learnt from replays."""

import numpy as np
import pandas as pd
import pytest

from analysis.valuation.recalibration import Steps, clustered_share, cross_recalibrated, fit_steps, recalibrate
from tests.promises import assert_covers


def observed(n=3000, seed=1, gone=0.2, buys=0.9):
    """Rows of replays: those gone have a small p and buy no more; the others have any p and mostly buy."""
    rng = np.random.default_rng(seed)
    left = rng.random(n) < gone
    p = np.where(left, rng.beta(0.1, 1.0, n), rng.random(n))
    returned = ~left & (rng.random(n) < buys)
    return pd.DataFrame(
        {
            "customer_id": [f"{i % (n // 2):05d}" for i in range(n)],
            "p": p,
            "said": 0.05,
            "returned": returned,
            "bought": np.where(returned, 4.0, 0.0),
            "expected": 5.0,
            "left": left,
        }
    )


def test_steps_hold_from_their_edge_on():
    steps = Steps(np.array([0.1, 0.4]), np.array([0.2, 0.5, 0.8]))
    assert steps([0.0, 0.0999, 0.1, 0.4, 1.0]).tolist() == [0.2, 0.2, 0.5, 0.8, 0.8]
    assert [steps.reached(s) for s in (0.1, 0.2, 0.3, 0.5, 0.6, 0.9)] == [0.0, 0.0, 0.1, 0.1, 0.4, 1.0]
    halved = steps.relative_to(0.5)
    assert halved.shares.tolist() == [0.4, 1.0] and halved.edges.tolist() == [0.1]


def test_steps_are_isotonic_and_keep_the_total():
    rng = np.random.default_rng(2)
    p = np.round(rng.random(1000), 2)
    count, of = rng.poisson(3 * p), rng.uniform(1, 4, 1000)
    steps = fit_steps(p, count, of)
    assert (np.diff(steps.shares) > 0).all() and (np.diff(steps.edges) > 0).all()
    assert (steps(p) * of).sum() == pytest.approx(count.sum())
    # every step rests on at least 30 rows, and equal p are never parted
    assert np.unique(steps(p), return_counts=True)[1].min() >= 30
    assert fit_steps(p[::-1], count[::-1], of[::-1]).shares == pytest.approx(steps.shares)
    few = fit_steps([0.5, 0.1], [1, 0], [1, 1])
    assert few.shares.tolist() == [0.5] and few.edges.size == 0
    assert fit_steps(np.full(100, 0.3), np.ones(100), np.ones(100)).shares.tolist() == [1.0]


def test_those_who_are_there_and_do_not_buy_are_allowed_for():
    frame = observed(20_000, buys=0.6)
    learned = recalibrate(frame)
    assert learned.undisturbed == pytest.approx(0.6 * 0.97, abs=0.03)
    for low, high in ((0.0, 1e-3), (1e-3, 0.05), (0.05, 0.3)):
        part = frame[(frame["p"] >= low) & (frame["p"] < high)]
        there = (~part["left"]).mean()
        assert learned.there(part["p"]).mean() == pytest.approx(there, abs=0.05)
        assert learned.kept(part["p"]).mean() == pytest.approx(there, abs=0.06)
    assert learned.there.shares.max() <= 1.0


def test_where_nobody_came_back_nothing_is_learnt():
    frame = observed().assign(returned=False, bought=0.0)
    assert recalibrate(frame) is None
    assert (cross_recalibrated(frame) == 0.05).all()


def test_what_is_said_of_a_customer_does_not_know_that_they_came_back():
    frame = observed(600)
    says = cross_recalibrated(frame)
    assert (says >= frame["said"]).all() and says.max() <= 1.0
    one = frame["customer_id"] == "00003"
    changed = frame.assign(returned=frame["returned"] ^ one)
    assert one.sum() == 2 and cross_recalibrated(changed)[one] == pytest.approx(says[one])


def test_the_interval_of_a_share_is_wider_where_customers_recur():
    rng = np.random.default_rng(4)
    each = rng.random(300) < 0.3
    once = clustered_share(each, np.arange(300))
    thrice = clustered_share(np.repeat(each, 3), np.repeat(np.arange(300), 3))
    assert thrice.value == once.value
    # the same customers three times over say no more than once
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.01)
    mixed = clustered_share(rng.random(900) < 0.3, np.repeat(np.arange(300), 3))
    assert mixed.high - mixed.low < 0.75 * (once.high - once.low)
    none = clustered_share(np.zeros(20), np.repeat(np.arange(10), 2))
    assert (none.value, none.low) == (0.0, 0.0) and none.high == pytest.approx(0.2775, abs=0.001)
    assert clustered_share([], []).reason


def test_the_interval_of_a_share_covers():
    rng, ends = np.random.default_rng(5), []
    for _ in range(200):
        own = rng.beta(2, 4, 80)
        share = clustered_share(rng.random(240) < np.repeat(own, 3), np.repeat(np.arange(80), 3))
        ends.append((share.low, share.high))
    assert_covers(ends, 1 / 3)
