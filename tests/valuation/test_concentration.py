"""Concentration: Lorenz curve, Gini, top share, replacement count and their intervals."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.valuation import concentration, concentration_shift, gini, lorenz


def test_equal_customers():
    result = concentration([5.0] * 10)
    assert result.top_share.value == pytest.approx(0.2)
    assert result.gini.value == pytest.approx(0.0, abs=1e-12)
    assert result.replacement.value == pytest.approx(1.0)
    assert result.top_share.low is None and result.top_share.reason


def test_the_case_of_thirteen_ordinary_customers_for_one_of_the_best():
    """A best customer spends $3,500 and an ordinary one $275: thirteen replace one."""
    result = concentration([3500.0] * 20 + [275.0] * 80)
    assert result.replacement.value == pytest.approx(3500 / 275)
    assert math.ceil(result.replacement.value) == 13
    assert result.top_share.value == pytest.approx(70_000 / 92_000)


def test_one_customer_brings_everything():
    result = concentration([0.0, 0.0, 0.0, 0.0, 8.0])
    assert result.top_share.value == 1.0 and result.gini.value == pytest.approx(0.8)
    assert np.isnan(result.replacement.value) and result.replacement.reason


def test_returns_beyond_purchases_count_as_nothing():
    result = concentration([-5.0, 10.0, 10.0])
    assert result.zeroed == 1 and result.gini.value == pytest.approx(1 / 3)


amounts = st.lists(st.floats(0.0, 1e6), min_size=2, max_size=80)


@settings(max_examples=100)
@given(amount=amounts, factor=st.floats(0.01, 1e4), seed=st.integers(0, 5))
def test_lorenz_curve_properties(amount, factor, seed):
    assume(sum(amount) > 1e-3)
    amount = np.array(amount)
    shares = np.linspace(0, 1, 41)
    curve = lorenz(amount, shares)
    assert curve[0] == 0.0 and curve[-1] == pytest.approx(1.0)
    assert (curve <= shares + 1e-12).all() and (np.diff(curve) >= -1e-12).all()
    assert (np.diff(curve, 2) >= -1e-9).all()
    mixed = np.random.default_rng(seed).permutation(amount) * factor
    assert lorenz(mixed, shares) == pytest.approx(curve, abs=1e-9)
    assert gini(mixed) == pytest.approx(gini(amount), abs=1e-9)
    assert -1e-12 <= gini(amount) <= 1 - 1 / len(amount) + 1e-12


@settings(max_examples=50)
@given(amount=amounts)
def test_gini_is_twice_the_area_between_curve_and_diagonal(amount):
    assume(sum(amount) > 1e-3)
    at = np.linspace(0, 1, len(amount) + 1)
    assert gini(amount) == pytest.approx(1 - 2 * np.trapezoid(lorenz(amount, at), at), abs=1e-9)


def test_intervals_cover():
    rng = np.random.default_rng(7)
    population = rng.gamma(0.7, 1.0, 2_000_000)
    truth = np.array([1 - lorenz(population, 0.8), gini(population)])
    replications, hits = 400, np.zeros(2)
    for _ in range(replications):
        result = concentration(rng.gamma(0.7, 1.0, 250))
        ends = np.array([(e.low, e.high) for e in (result.top_share, result.gini)])
        hits += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert (np.abs(hits / replications - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)).all()


def test_half_of_the_sales():
    assert concentration([1.0] * 50).half_from == pytest.approx(0.5)
    assert concentration([10.0] + [1.0] * 10).half_from == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    ("amount", "top", "message"),
    [
        ([1.0], 0.2, "at least two"),
        ([1.0, np.nan], 0.2, "every customer needs an amount"),
        ([0.0, -1.0], 0.2, "took back as much"),
        ([1, 2], 1.0, "top"),
    ],
)
def test_what_cannot_be_measured_is_refused(amount, top, message):
    with pytest.raises(ValueError, match=message):
        concentration(amount, top=top)


def test_the_same_amount_twice_does_not_shift():
    amount = np.random.default_rng(1).gamma(0.7, 1.0, 100)
    found = concentration_shift(amount, 3.0 * amount)
    assert found.difference.interval == pytest.approx((0.0, 0.0, 0.0), abs=1e-12) and found.stay == 1.0
    assert found.expected.top_share.value == pytest.approx(found.past.top_share.value)


def test_a_shift_keeps_customers_apart():
    past, expected = [10.0, 1, 1, 1, 1, 1, 1, 1, 1, 2], [1.0, 1, 1, 1, 1, 1, 1, 1, 2, 30]
    found = concentration_shift(past, expected, top=0.2)
    assert found.difference.value == pytest.approx(32 / 40 - 12 / 20)
    # the second of the past's best two is the first of the expected; the first of them is not
    assert found.stay == 0.5


def test_the_interval_of_a_shift_covers():
    rng, replications, hits = np.random.default_rng(4), 300, 0

    def both(n):
        rate = rng.gamma(0.8, 1.0, n)
        return rate * rng.gamma(1.0, 1.0, n), rate

    past, expected = both(500_000)
    truth = concentration_shift(past, expected).difference.value
    for _ in range(replications):
        end = concentration_shift(*both(200)).difference
        hits += end.low <= truth <= end.high
    assert abs(hits / replications - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)
