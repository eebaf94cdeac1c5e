"""Gamma-gamma spend model: recovery, invariance, shrinkage, hard cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from analysis.valuation import GammaGamma, ModelNotFitted
from tests.promises import assert_covers

TRUTH = (6.0, 4.0, 15.0)


def simulate(customers, rng, truth=TRUTH):
    p, q, gamma = truth
    x = 1 + rng.poisson(2.0, customers)
    scale = rng.gamma(q, size=customers) / gamma
    return x, rng.gamma(p * x) / (scale * x), p / scale


def test_a_planted_truth_is_found_again():
    x, mean, _ = simulate(20_000, np.random.default_rng(1))
    results = GammaGamma(x, mean).fit()
    assert results.verdict.usable
    assert (np.abs(np.log(results.params / np.array(TRUTH))) < 4 * results.bse / results.params).all()


def test_intervals_cover():
    rng = np.random.default_rng(2)
    assert_covers([GammaGamma(*simulate(600, rng)[:2]).fit().conf_int() for _ in range(200)], TRUTH)


def test_expected_spend_is_calibrated():
    x, mean, truth = simulate(40_000, np.random.default_rng(3))
    expected = GammaGamma(x, mean).fit().with_params(TRUTH).expected_spend(x, mean)
    for group in (x == 1, x > 3, mean > 50):
        error = (truth - expected)[group]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(group.sum())


def test_expected_spend_lies_between_own_mean_and_everybodys():
    results = GammaGamma(*simulate(500, np.random.default_rng(4))[:2]).fit()
    everybody = results.population_mean
    assert results.expected_spend([0], [0.0])[0] == pytest.approx(everybody)
    one, many = results.expected_spend([1, 50], [100.0, 100.0])
    assert everybody < one < many < 100.0


def test_gradient_is_exact():
    x, mean, _ = simulate(200, np.random.default_rng(5))
    model = GammaGamma(x, mean)
    numeric = optimize.approx_fprime(np.array([5.0, 3.0, 20.0]), model.loglike, 1e-7)
    assert model.score([5.0, 3.0, 20.0]) == pytest.approx(numeric, rel=1e-4, abs=1e-3)


@settings(max_examples=15)
@given(unit=st.floats(1e-3, 1e5), seed=st.integers(0, 1000))
def test_currency_and_order_do_not_matter(unit, seed):
    rng = np.random.default_rng(seed)
    x, mean, _ = simulate(300, rng)
    mixed = rng.permutation(300)
    first, second = GammaGamma(x, mean).fit(), GammaGamma(x[mixed], mean[mixed] * unit).fit()
    assert second.llf + 300 * np.log(unit) == pytest.approx(first.llf, abs=1e-5)
    if first.verdict.usable and second.verdict.usable:
        assert (second.params / [1, 1, unit]).to_numpy() == pytest.approx(first.params.to_numpy(), rel=1e-4)


def test_simulated_spend_has_the_expected_mean():
    results = GammaGamma(*simulate(800, np.random.default_rng(6))[:2]).fit()
    purchases = np.tile([0.0, 3.0, 3.0], (60_000, 1))
    money = results.simulate_spend(purchases, [1, 4, 0], [30.0, 60.0, 0.0], np.random.default_rng(7))
    expected = results.expected_spend([1, 4, 0], [30.0, 60.0, 0.0]) * [0, 3, 3]
    assert (np.abs(money.mean(axis=0) - expected) <= 4 * money.std(axis=0) / np.sqrt(60_000)).all()
    assert (money[:, 0] == 0).all()


def test_spend_that_cannot_enter_is_left_out_and_counted():
    x, mean, _ = simulate(200, np.random.default_rng(8))
    more = GammaGamma([*x, 0, 2, 2, 3], [*mean, 0.0, 0.0, -4.0, np.nan])
    assert more.nobs == 200 and more.left_out == 4
    assert more.fit().llf == pytest.approx(GammaGamma(x, mean).fit().llf)


@pytest.mark.parametrize("data", [([], []), ([0, 0], [0.0, 0.0]), ([1, 2], [3.0, 4.0]), ([1, 2, 3], [5.0, 5.0, 5.0])])
def test_too_little_to_go_on_is_refused(data):
    with pytest.raises(ModelNotFitted, match="gamma-gamma"):
        GammaGamma(*data).fit()


def test_customers_alike_but_for_chance_are_a_boundary():
    rng = np.random.default_rng(9)
    x = 1 + rng.poisson(3.0, 400)
    results = GammaGamma(x, rng.gamma(5.0 * x) / x).fit()
    assert not results.verdict.usable
