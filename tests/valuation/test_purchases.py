"""Purchase models: recovery of a planted truth, coverage, invariances, hard cases, errors."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special

from analysis.valuation import BGNBD, NBD, ModelNotFitted, ParetoNBD, expected_cumulative
from analysis.valuation.purchases import Cells
from tests.promises import assert_covers

BG = (0.8, 6.0, 0.9, 2.5)
PARETO = (0.8, 6.0, 0.7, 10.0)
MODELS = [(BGNBD, BG), (ParetoNBD, PARETO)]
ALL_MODELS = [*MODELS, (NBD, (0.8, 6.0))]


def simulate(model, params, customers, rng, horizon=0.0):
    """Histories by the model's own story, purchase by purchase, and purchases in the following `horizon`."""
    r, alpha, third, fourth = (*params, None, None)[:4]
    rate = rng.gamma(r, size=customers) / alpha
    age = rng.uniform(25.0, 50.0, size=customers)
    if model is BGNBD:
        leave = rng.beta(third, fourth, size=customers)
        ends = np.full(customers, np.inf)
    elif model is NBD:
        leave, ends = np.zeros(customers), np.full(customers, np.inf)
    else:
        leave = np.zeros(customers)
        ends = rng.exponential(size=customers) / (rng.gamma(third, size=customers) / fourth)
    rows = []
    for i in range(customers):
        moment, bought, last, after = 0.0, 0, 0.0, 0
        while True:
            moment += rng.exponential() / rate[i]
            if moment > min(ends[i], age[i] + horizon):
                break
            if moment <= age[i]:
                bought, last = bought + 1, moment
            else:
                after += 1
            if rng.random() < leave[i]:
                break
        rows.append((bought, last, age[i], after))
    return np.array(rows).T


def at(model, params):
    """Results at given parameters, without a fit."""
    k = len(params)
    series = pd.Series(params, index=list(model.parameter_names), dtype=float)
    return model.results_class(model([1, 0], [1.0, 0.0], [2.0, 2.0]), series, np.full((k, k), np.nan), np.nan, None)


@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_a_planted_truth_is_found_again(model, params):
    x, t_x, age, _ = simulate(model, params, 4000, np.random.default_rng(3))
    results = model(x, t_x, age).fit()
    assert results.verdict.usable
    log_error = np.log(results.params / np.array(params)) / (results.bse / results.params)
    assert np.abs(log_error).max() < 4.0


@pytest.mark.parametrize(("model", "params"), MODELS)
def test_intervals_cover(model, params):
    rng = np.random.default_rng(11)
    pool = simulate(model, params, 60_000, rng)
    ends = []
    for _ in range(200):
        x, t_x, age, _ = pool[:, rng.choice(pool.shape[1], 600, replace=False)]
        ends.append(model(x, t_x, age).fit().conf_int().iloc[:2].to_numpy())
    assert_covers(ends, params[:2])


@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_forecasts_and_probabilities_of_being_alive_are_calibrated(model, params):
    x, t_x, age, after = simulate(model, params, 12_000, np.random.default_rng(5), horizon=26.0)
    results = at(model, params)
    expected = results.expected_purchases(26.0, x, t_x, age)
    alive = results.probability_alive(x, t_x, age)
    for group in (alive < 0.5, alive >= 0.5, x == 0, x > 3):
        if not group.any():
            continue
        error = (after - expected)[group]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(group.sum())


@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_simulated_futures_have_the_expected_mean(model, params):
    x, t_x, age = np.array([0, 3, 10]), np.array([0.0, 20.0, 30.0]), np.array([26.0, 30.0, 31.0])
    results = at(model, params)
    bought, active = results.simulate_future(30.0, x, t_x, age, np.random.default_rng(2), size=40_000)
    assert bought.shape == active.shape == (40_000, 3)
    error = bought.mean(axis=0) - results.expected_purchases(30.0, x, t_x, age)
    assert (np.abs(error) < 4 * bought.std(axis=0) / 200).all()
    assert ((active >= 0) & (active <= 30.0)).all()


@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_gradient_is_exact(model, params):
    x, t_x, age, _ = simulate(model, params, 300, np.random.default_rng(1))
    fitted = model(x, t_x, age)
    where = np.array(params) * 1.3
    numeric = optimize.approx_fprime(where, fitted.loglike, 1e-7)
    assert fitted.score(where) == pytest.approx(numeric, rel=1e-4, abs=1e-4)


def test_pareto_likelihood_and_alive_match_numerical_integration():
    r, alpha, s, beta = 0.6, 10.0, 0.7, 3.0
    results = at(ParetoNBD, (r, alpha, s, beta))
    for x, t_x, age in [(0, 0.0, 30.0), (2, 5.0, 30.0), (12, 29.0, 30.0), (1, 0.1, 400.0), (40, 30.0, 30.0)]:
        gone, _ = integrate.quad(
            lambda y, x=x: s * (alpha + y) ** -(r + x) * (beta + y) ** -(s + 1), t_x, age, limit=200
        )
        stays = (alpha + age) ** -(r + x) * (beta + age) ** -s
        exact = (
            special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha) + s * np.log(beta) + np.log(stays + gone)
        )
        assert ParetoNBD([x], [t_x], [age]).loglike([r, alpha, s, beta]) == pytest.approx(exact, rel=1e-9)
        assert results.probability_alive([x], [t_x], [age])[0] == pytest.approx(stays / (stays + gone), rel=1e-8)


def test_pareto_likelihood_is_symmetric_about_equal_scales():
    """α just below, at and just above β use different substitutions and must agree."""
    data = ParetoNBD([0, 3, 9], [0.0, 12.0, 35.0], [40.0, 30.0, 36.0])
    values = [data.loglike([0.5, alpha, 0.6, 8.0]) for alpha in (8.0 - 1e-9, 8.0, 8.0 + 1e-9)]
    assert np.ptp(values) < 1e-7


def test_bg_expectation_matches_its_closed_form():
    r, alpha, a, b = BG
    results = at(BGNBD, BG)
    for x, t_x, age, t in [(0, 0.0, 30.0, 10.0), (4, 20.0, 30.0, 52.0), (30, 30.0, 30.5, 200.0)]:
        z = t / (alpha + age + t)
        hyper = special.hyp2f1(r + x, b + x, a + b + x - 1, z)
        alive = results.probability_alive([x], [t_x], [age])[0]
        closed = alive * (a + b + x - 1) / (a - 1) * (1 - ((alpha + age) / (alpha + age + t)) ** (r + x) * hyper)
        assert results.expected_purchases(t, [x], [t_x], [age])[0] == pytest.approx(closed, rel=1e-9)


@pytest.mark.parametrize("model", [BGNBD, ParetoNBD])
def test_expectation_is_smooth_where_the_closed_form_divides_by_zero(model):
    values = []
    for shift in (-1e-6, 0.0, 1e-6):
        params = [0.5, 5.0, 1.0, 3.0]
        params[2] += shift
        values.append(at(model, params).expected_purchases(40.0, [2], [10.0], [20.0])[0])
    assert np.ptp(values) / values[0] < 1e-5


def test_bg_counts_are_a_distribution():
    results = at(BGNBD, BG)
    n = np.arange(0, 2000)
    probability = results.purchase_pmf(n, 30.0)
    assert probability.sum() == pytest.approx(1.0, abs=1e-9)
    assert probability @ n == pytest.approx(results.expected_repeats(30.0), rel=1e-8)


@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_discounting_lowers_and_vanishes(model, params):
    results = at(model, params)
    history = ([2, 0, 9], [10.0, 0.0, 28.0], [30.0, 30.0, 30.0])
    plain = results.expected_purchases(52.0, *history)
    assert results.expected_purchases(52.0, *history, discount=1e-12) == pytest.approx(plain, rel=1e-9)
    discounted = results.expected_purchases(52.0, *history, discount=0.002)
    assert (discounted < plain).all() and (discounted > plain * np.exp(-0.002 * 52)).all()


@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_extreme_customers_stay_finite(model, params):
    results = at(model, params)
    x = np.array([0, 0, 170, 170, 5000, 1, 1, 300])
    t_x = np.array([0.0, 0.0, 77.0, 1.0, 400.0, 1e-3, 1e3, 10.0])
    age = np.array([0.0, 1e5, 77.0, 77.0, 400.0, 1e5, 1e3, 1e4])
    alive = results.probability_alive(x, t_x, age)
    assert np.isfinite(alive).all() and ((alive >= 0) & (alive <= 1)).all()
    expected = results.expected_purchases(52.0, x, t_x, age)
    assert np.isfinite(expected).all() and (expected >= 0).all()
    assert np.isfinite(model(x, t_x, age).loglike(params))
    assert np.isfinite(model(x, t_x, age).score(params)).all()
    # whoever bought on the very last day is alive for certain under Pareto/NBD only
    if model is ParetoNBD:
        assert alive[2] == pytest.approx(1.0)


@settings(max_examples=15)
@given(unit=st.floats(1e-3, 1e3), seed=st.integers(0, 10_000), size=st.integers(60, 300))
@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_the_unit_of_time_and_the_order_of_rows_do_not_matter(model, params, unit, seed, size):
    rng = np.random.default_rng(seed)
    x, t_x, age, _ = simulate(model, params, size, rng)
    mixed = rng.permutation(size)
    first, second = model(x, t_x, age).fit(), model(x[mixed], t_x[mixed] * unit, age[mixed] * unit).fit()
    assert second.llf + x.sum() * np.log(unit) == pytest.approx(first.llf, abs=1e-4)
    if first.verdict.usable and second.verdict.usable:
        scale = [unit if p in model.time_parameters else 1.0 for p in model.parameter_names]
        assert (second.params / scale).to_numpy() == pytest.approx(first.params.to_numpy(), rel=1e-4)


@settings(max_examples=40)
@given(
    x=st.integers(1, 60),
    t_x=st.floats(0.1, 50.0),
    gap=st.floats(0.0, 300.0),
    longer=st.floats(0.1, 100.0),
    r=st.floats(0.05, 20.0),
    third=st.floats(0.05, 10.0),
)
@pytest.mark.parametrize("model", [BGNBD, ParetoNBD])
def test_silence_never_raises_the_probability_of_being_alive(model, x, t_x, gap, longer, r, third):
    results = at(model, (r, 5.0, third, 3.0))
    alive = results.probability_alive([x, x], [t_x, t_x], [t_x + gap, t_x + gap + longer])
    assert alive[1] <= alive[0] + 1e-12


def test_the_model_without_leavers_is_the_limit_of_those_with_them():
    data = ([0, 3, 9], [0.0, 12.0, 35.0], [40.0, 30.0, 36.0])
    alone = NBD(*data).loglike([0.7, 9.0])
    assert ParetoNBD(*data).loglike([0.7, 9.0, 1e-9, 9.0]) == pytest.approx(alone, abs=1e-6)
    assert BGNBD(*data).loglike([0.7, 9.0, 1e-9, 5.0]) == pytest.approx(alone, abs=1e-6)
    mine, limit = at(NBD, (0.7, 9.0)), at(ParetoNBD, (0.7, 9.0, 1e-9, 9.0))
    for discount in (0.0, 0.002):
        expected = limit.expected_purchases(52.0, *data, discount=discount)
        assert mine.expected_purchases(52.0, *data, discount=discount) == pytest.approx(expected, rel=1e-6)
    assert (mine.probability_alive(*data) == 1).all()


def test_expected_cumulative_starts_at_zero_and_rises():
    results = at(ParetoNBD, PARETO)
    values = expected_cumulative(results, [39.0, 30.0, 30.0, 27.0], [0.0, 5.0, 39.0, 100.0])
    assert values[0] == 0.0 and (np.diff(values) > 0).all()
    assert values[2] == pytest.approx(results.expected_repeats(np.array([39.0, 30.0, 30.0, 27.0])).sum())


def test_cells_count_equal_customers_and_find_them_again():
    cells = Cells.of([1, 0, 1, 1], [2.0, 0.0, 2.0, 3.0], [9.0, 9.0, 9.0, 9.0])
    assert cells.count.tolist() == [1.0, 2.0, 1.0]
    assert cells.x[cells.index].tolist() == [1, 0, 1, 1]
    assert cells.t_x[cells.index].tolist() == [2.0, 0.0, 2.0, 3.0]


@pytest.mark.parametrize("model", [BGNBD, ParetoNBD])
def test_data_that_cannot_carry_a_model_are_refused_with_a_reason(model):
    with pytest.raises(ModelNotFitted, match="one customer"):
        model([3], [5.0], [9.0]).fit()
    with pytest.raises(ModelNotFitted, match="nobody bought twice"):
        model([0, 0, 0], [0.0, 0.0, 0.0], [9.0, 8.0, 7.0]).fit()
    with pytest.raises(ValueError, match="no customer"):
        model([], [], [])


@pytest.mark.parametrize("model", [BGNBD, ParetoNBD])
def test_a_base_without_leavers_is_a_boundary_and_not_a_number(model):
    rng = np.random.default_rng(4)
    age = np.full(400, 50.0)
    x = rng.poisson(rng.gamma(2.0, 0.15, 400) * 50.0)
    t_x = np.where(x > 0, 50.0 - rng.exponential(0.02, 400), 0.0)
    results = model(x, t_x, age).fit()
    assert not results.verdict.usable and results.verdict.reason


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1.5, 2.0, 9.0), "whole number"),
        ((-1, 0.0, 9.0), "whole number"),
        ((1, 10.0, 9.0), "between 0 and T"),
        ((0, 2.0, 9.0), "recency must be 0"),
        ((1, 0.0, 9.0), "recency must be above 0"),
        ((1, np.nan, 9.0), "missing"),
    ],
)
def test_impossible_histories_name_the_row(row, message):
    x, t_x, age = ([2, value] for value in row)
    t_x[0], age[0] = 3.0, 9.0
    with pytest.raises(ValueError, match=message):
        BGNBD(x, t_x, age)


@pytest.mark.parametrize(("model", "params"), ALL_MODELS)
def test_results_read_like_statsmodels(model, params):
    x, t_x, age, _ = simulate(model, params, 1500, np.random.default_rng(8))
    results = model(x, t_x, age).fit()
    assert list(results.summary().columns) == ["parameter", "estimate", "std_err", "low", "high"]
    assert np.sqrt(np.diag(results.cov_params())) == pytest.approx(results.bse.to_numpy())
    assert (results.conf_int()["low"] < results.params).all()
    assert results.aic == pytest.approx(2 * len(params) - 2 * results.llf)
    assert results.llf == pytest.approx(results.model.loglike(results.params), rel=1e-12)
    assert np.abs(results.model.score(results.params)).max() < 1e-2
    draws = results.draw_params(4000, np.random.default_rng(0))
    assert np.log(draws).std(axis=0) == pytest.approx((results.bse / results.params).to_numpy(), rel=0.1)
