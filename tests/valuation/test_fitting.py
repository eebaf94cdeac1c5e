"""How models are fitted: counting cells, grids, stages, weights; and how a fit is written, read and scored."""

import json

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.valuation import (
    BGNBD,
    MBGNBD,
    NBD,
    BGNBDResults,
    GammaGamma,
    GammaGammaResults,
    ParetoNBD,
    PurchaseResults,
    pareto_nbd,
    purchases,
    spend,
)
from analysis.valuation.purchases import Cells, Verdict, maximise, maximise_in_stages

MODELS = [(BGNBD, (0.25, 4.4, 0.8, 2.4)), (ParetoNBD, (0.55, 10.6, 0.6, 11.7)), (NBD, (0.4, 12.0))]


def base(customers, seed=1):
    """Histories in whole days by the story of Pareto/NBD, and mean spends in cents."""
    rng = np.random.default_rng(seed)
    age = 545.0 - rng.integers(0, 84, customers)
    stays = np.minimum(rng.exponential(size=customers) / np.maximum(rng.gamma(0.5, 1 / 80.0, customers), 1e-300), age)
    x = rng.poisson(rng.gamma(0.6, 1 / 95.0, customers) * stays).astype(float)
    last = np.ceil(stays * rng.random(customers) ** (1 / np.maximum(x, 1)))
    t_x = np.where(x > 0, np.minimum(last, age), 0.0)
    x = np.minimum(x, t_x)
    totals = np.round(30.0 * x * rng.gamma(3.0, size=customers) / np.maximum(rng.gamma(4.0, size=customers), 0.1), 2)
    return x, t_x, age, np.where(x > 0, np.maximum(totals, 0.01) / np.maximum(x, 1), 0.0)


def at(model, params):
    """Results at given parameters, without a fit."""
    series = pd.Series(params, index=list(model.parameter_names), dtype=float)
    return model.results_class(
        model.without_data(2), series, np.full((len(params),) * 2, np.nan), np.nan, Verdict("ok")
    )


def slow_cells(x, t_x, age):
    """Cells by sorting rows, whatever the columns hold."""
    rows, of, count = np.unique(np.stack([x, t_x, age], axis=1), axis=0, return_inverse=True, return_counts=True)
    return rows, of, count


@settings(max_examples=60)
@example(rows=[(0, 1, 0)], unit=3e-10, large=1e13)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=60),
    unit=st.sampled_from([1.0, 7.0, 365.25, 1e-3, 0.1, 3e-10]),
    large=st.sampled_from([0.0, 1e6, 1e13]),
)
def test_cells_are_those_of_sorting_whatever_the_unit(rows, unit, large):
    """Whole days, days in weeks, and times of which no part is whole take different ways to the same cells."""
    x, last, more = np.array(rows, dtype=float).T
    t_x = np.where(x > 0, last, 0.0) / unit
    age = t_x + (more + large) / unit
    cells, without = Cells.of(x, t_x, age), Cells.of(x, t_x, age, index=False)
    expected, of, count = slow_cells(x, t_x, age)
    for found in (cells, without):
        assert (np.stack([found.x, found.t_x, found.T], axis=1) == expected).all()
        assert (found.count == count).all()
    assert (cells.index == of).all() and without.index is None


def test_cells_with_too_many_values_to_number_are_sorted(monkeypatch):
    x, t_x, age, _ = base(500)
    expected = Cells.of(x, t_x, age)
    monkeypatch.setattr(purchases, "_LARGEST_KEY", 10)
    found = Cells.of(x, t_x, age)
    for name in ("x", "t_x", "T", "count", "index"):
        assert (getattr(found, name) == getattr(expected, name)).all()


@pytest.mark.parametrize(
    ("most", "oldest", "customers"), [(3, 60, 900), (40, 600, 70_000), (60, 3000, 900), (5000, 9000, 900)]
)
@pytest.mark.parametrize("index", [True, False])
def test_cells_are_those_of_sorting_however_many_keys_there_could_be(most, oldest, customers, index):
    """A table of counts, one that stays mostly empty, keys of 32 bits, and wider ones."""
    rng = np.random.default_rng(most)
    x, age = rng.integers(0, most + 1, customers).astype(float), rng.integers(most, oldest, customers).astype(float)
    x[0], age[0] = most, oldest
    t_x = np.where(x > 0, np.minimum(x + rng.integers(0, oldest, customers), age), 0.0)
    rows, of, count = slow_cells(x, t_x, age)
    cells = Cells.of(x, t_x, age, index=index)
    assert (np.stack([cells.x, cells.t_x, cells.T], axis=1) == rows).all() and (cells.count == count).all()
    assert cells.x.dtype == cells.t_x.dtype == cells.T.dtype == float
    assert (cells.index == of).all() if index else cells.index is None


def test_an_impossible_history_far_down_is_named_by_its_row():
    x, t_x, age = (v.copy() for v in base(70_000)[:3])
    t_x[66_000], x[66_000] = age[66_000] + 1, 2
    with pytest.raises(ValueError, match=r"row 66000: recency must lie between 0 and T"):
        Cells.of(x, t_x, age)
    t_x[66_000] = np.inf
    with pytest.raises(ValueError, match="missing"):
        Cells.of(x, t_x, age)


@pytest.mark.parametrize(("model", "params"), MODELS)
def test_shared_parts_add_up_to_what_each_customer_has_alone(model, params):
    """A base whose cells share (x, T) and (x, t_x), against its customers one at a time."""
    x, t_x, age, _ = base(20_000)
    params = np.array(params) * [7.0 if p in model.time_parameters else 1.0 for p in model.parameter_names]
    whole = model(x, t_x, age)
    assert whole.cells.grid.shared
    value, gradient = model.loglike_cells(params, whole.cells)
    # one customer shares nothing
    some = slice(0, 400)
    alone = [model([a], [b], [c]).loglike(params) for a, b, c in zip(x[some], t_x[some], age[some], strict=True)]
    index = Cells.of(x, t_x, age).index[some]
    assert value[index] == pytest.approx(alone, rel=1e-9)
    assert whole.loglike(params) == pytest.approx(value @ whole.cells.count, rel=1e-12)
    assert whole.score(params) == pytest.approx(gradient @ whole.cells.count, rel=1e-9)


def test_the_integral_over_the_moment_of_leaving_against_high_precision():
    mpmath.mp.dps = 20
    rng = np.random.default_rng(0)
    for _ in range(15):
        r, s = np.exp(rng.uniform(-4, 2, 2))
        alpha, beta = np.exp(rng.uniform(-5, 4, 2))
        x, age = float(rng.choice([0, 1, 3, 20, 170])), float(np.exp(rng.uniform(-3, 2)))
        t = age * rng.random() if x else 0.0

        def value(v, r=r, s=s, alpha=alpha, beta=beta, x=x):
            y = mpmath.exp(v) - min(alpha, beta)
            return mpmath.exp(v) * (alpha + y) ** -(r + x) * (beta + y) ** -(s + 1)

        begin, end = (mpmath.log(min(alpha, beta) + y) for y in (t, age))
        exact = mpmath.log(mpmath.quad(value, mpmath.linspace(begin, end, 7)))
        found = pareto_nbd._leaving(r, alpha, s, beta, np.array([x]), np.array([t]), age)
        assert found.log[0] == pytest.approx(float(exact), abs=1e-9)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("model", [BGNBD, MBGNBD, ParetoNBD])
def test_curvature_is_that_of_the_exact_gradient(model, apart):
    """Against central differences, for cells that share a grid and for continuous times, which do not."""
    x, t_x, age, _ = base(3000 if apart else 60_000)
    if apart:
        moved = np.random.default_rng(2).random(len(x)) / 2
        t_x, age = np.where(x > 0, t_x + moved, 0.0), age + moved
    cells = Cells.of(x, t_x / 300, age / 300, index=False)
    assert cells.grid.shared != apart
    objective = model([1], [1.0], [2.0])._objective(cells)
    where = np.log([0.4, 0.2, 0.5, 0.8])
    central = [(objective(where + h)[1] - objective(where - h)[1]) / 2e-4 for h in 1e-4 * np.eye(4)]
    for before in (where, where + 0.1):
        objective(before)
        found = purchases._hessian(objective, where, objective(before)[1])
        assert found == pytest.approx(np.array(central), abs=3e-6)


@pytest.mark.parametrize(("model", "params"), MODELS)
def test_a_fit_in_stages_is_the_fit_of_the_whole(model, params):
    x, t_x, age, _ = base(60_000)
    data = model(x, t_x, age)
    in_stages = data.fit()
    cells = data.cells
    clock = float(cells.count @ cells.T) / data.nobs
    natural = cells.scaled(1.0 / clock)
    stages = purchases._stages(natural)
    assert len(stages) > 1
    at_once = maximise(data._objective(natural), [np.log(v) for v in data.start(natural)])
    scale = np.array([clock if p in model.time_parameters else 1.0 for p in model.parameter_names])
    assert in_stages.verdict.usable
    assert in_stages.params.to_numpy() == pytest.approx(np.exp(at_once.log_params) * scale, rel=1e-7)
    assert in_stages.log_cov * data.nobs == pytest.approx(at_once.log_covariance, rel=1e-4)


def test_a_sample_that_misleads_does_not_mislead_the_whole():
    """Stages whose first has its minimum elsewhere, or none at all, still end in the minimum of the last."""

    def bowl(centre):
        return lambda p: (float(((p - centre) ** 2).sum()), 2 * (p - centre))

    def slope(p):
        return float(p.sum()), np.ones(2)

    for first in (bowl(np.array([5.0, -5.0])), slope):
        found = maximise_in_stages([first, bowl(np.array([0.3, 0.4]))], [np.zeros(2)])
        assert found.log_params == pytest.approx([0.3, 0.4], abs=1e-7)
        assert found.hessian == pytest.approx(2 * np.eye(2), abs=1e-6)


def test_thinning_keeps_the_shape_of_the_base():
    cells = Cells.of(*base(50_000)[:3])
    thin = cells.thinned(5000)
    assert thin.count.sum() == pytest.approx(5000, abs=1)
    for name in ("x", "T"):
        whole, part = (float(c.count @ getattr(c, name)) / c.count.sum() for c in (cells, thin))
        assert part == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize(("model", "params"), MODELS)
def test_weights_are_repeated_rows(model, params):
    x, t_x, age, _ = base(900)
    weights = np.random.default_rng(5).integers(0, 5, 900)
    rows = np.repeat(np.arange(900), weights)
    weighted, repeated = model(x, t_x, age, weights=weights).fit(), model(x[rows], t_x[rows], age[rows]).fit()
    assert weighted.model.nobs == repeated.model.nobs == weights.sum()
    assert weighted.llf == repeated.llf
    assert (weighted.params == repeated.params).all()
    assert (weighted.log_cov == repeated.log_cov).all()
    halves = model(x, t_x, age, weights=weights / 2).fit()
    assert halves.params.to_numpy() == pytest.approx(weighted.params.to_numpy(), rel=1e-5)
    assert halves.bse.to_numpy() == pytest.approx(np.sqrt(2) * weighted.bse.to_numpy(), rel=1e-4)
    assert halves.model.nobs == weights.sum() / 2


def test_weights_of_spend_are_repeated_rows():
    x, _, _, mean = base(900)
    weights = np.random.default_rng(5).integers(0, 5, 900)
    rows = np.repeat(np.arange(900), weights)
    weighted, repeated = GammaGamma(x, mean, weights=weights).fit(), GammaGamma(x[rows], mean[rows]).fit()
    assert (weighted.nobs, weighted.left_out) == (repeated.nobs, repeated.left_out)
    assert weighted.llf == pytest.approx(repeated.llf, rel=1e-12)
    assert weighted.params.to_numpy() == pytest.approx(repeated.params.to_numpy(), rel=1e-8)
    assert weighted.bse.to_numpy() == pytest.approx(repeated.bse.to_numpy(), rel=1e-5)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan], [0.0, 0.0]])
def test_impossible_weights_are_refused(weights):
    for make in (
        lambda: BGNBD([1, 0], [1.0, 0.0], [2.0, 2.0], weights=weights),
        lambda: GammaGamma([1, 2], [3.0, 4.0], weights=weights),
    ):
        with pytest.raises(ValueError, match="^weights: "):
            make()


def test_spend_is_counted_in_cents_where_it_is_in_cents(monkeypatch):
    x, _, _, mean = base(8000)
    in_cents = GammaGamma(x, mean)
    assert len(in_cents._totals.total) < 0.95 * in_cents.nobs
    fitted = in_cents.fit()
    monkeypatch.setattr(spend, "_CENTS", 1e9)  # so that no amount is counted
    as_is = GammaGamma(x, mean)
    for params in ((6.0, 3.0, 20.0), fitted.params):
        assert as_is.loglike(params) == pytest.approx(in_cents.loglike(params), rel=1e-12)
    assert as_is.fit().params.to_numpy() == pytest.approx(fitted.params.to_numpy(), rel=1e-7)


@pytest.mark.parametrize(("model", "params"), MODELS)
def test_counts_are_a_distribution_with_the_expected_mean(model, params):
    results = at(model, params)
    history = ([0, 2, 26, 170, 5], [0.0, 30.4, 30.8, 77.8, 2.0], [38.0, 38.9, 31.0, 77.8, 300.0])
    for t in (0.0, 1.0, 39.0, 400.0):
        n_max = int(400 + 8 * t)
        chances = results.count_distribution(n_max, t, *history)
        assert chances.shape == (5, n_max + 1) and (chances >= 0).all()
        assert chances.sum(axis=1) == pytest.approx(1.0, abs=1e-9)
        expected = results.expected_purchases(t, *history)
        assert chances @ np.arange(n_max + 1.0) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("model", "params"), MODELS)
def test_counts_agree_with_simulated_futures(model, params):
    results, draws = at(model, params), 40_000
    history = ([1, 6], [12.0, 35.0], [39.0, 38.0])
    bought, _ = results.simulate_future(30.0, *history, np.random.default_rng(3), draws)
    chances = results.count_distribution(8, 30.0, *history)
    for n in range(9):
        error = (bought == n).mean(axis=0) - chances[:, n]
        assert (np.abs(error) < 4.5 * np.sqrt(chances[:, n] / draws)).all()


def test_counts_of_new_pareto_customers_are_those_of_customers_without_a_past():
    results = at(*MODELS[1])
    n = np.arange(30)
    assert results.purchase_pmf(n, 52.0) == pytest.approx(results.count_distribution(29, 52.0, [0], [0.0], [0.0])[0])


@pytest.mark.parametrize(("model", "params"), MODELS)
def test_json_scores_bit_for_bit_and_holds_no_data(model, params):
    x, t_x, age, _ = base(1200)
    results = model(x, t_x, age).fit()
    loaded = PurchaseResults.from_json(results.to_json("days"), time_unit="days")
    assert type(loaded) is type(results)
    for name in ("probability_alive", "expected_purchases", "count_distribution"):
        before = {"expected_purchases": (90.0,), "count_distribution": (5, 90.0)}.get(name, ())
        assert (getattr(loaded, name)(*before, x, t_x, age) == getattr(results, name)(*before, x, t_x, age)).all()
    futures = [r.simulate_future(90.0, x, t_x, age, np.random.default_rng(1)) for r in (loaded, results)]
    assert (futures[0][0] == futures[1][0]).all()
    assert (loaded.log_cov == results.log_cov).all()
    assert (loaded.llf, loaded.aic, loaded.bic, loaded.verdict) == (
        results.llf,
        results.aic,
        results.bic,
        results.verdict,
    )
    assert loaded.model.nobs == 1200 and loaded.model.can_leave == model.can_leave
    with pytest.raises(ValueError, match="holds no data"):
        loaded.model.loglike(params)
    assert loaded.to_json("days") == results.to_json("days")


def test_a_fit_without_a_covariance_can_be_written_too():
    results = at(*MODELS[0])
    loaded = BGNBDResults.from_json(results.to_json("weeks"))
    assert np.isnan(loaded.log_cov).all() and np.isnan(loaded.llf)
    assert (loaded.params == results.params).all()


def test_spend_in_json():
    x, _, _, mean = base(1200)
    results = GammaGamma(x, mean).fit()
    loaded = GammaGammaResults.from_json(results.to_json("USD"), "USD")
    assert (loaded.expected_spend(x, mean) == results.expected_spend(x, mean)).all()
    assert (loaded.nobs, loaded.left_out, loaded.llf, loaded.verdict) == (
        results.nobs,
        results.left_out,
        results.llf,
        results.verdict,
    )
    pd.testing.assert_frame_equal(loaded.summary(), results.summary())
    with pytest.raises(ValueError, match="it counts in USD, not in EUR"):
        GammaGammaResults.from_json(results.to_json("USD"), "EUR")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved.update(version=99), "version 99 of the file is not known"),
        (lambda saved: saved.update(model="Oracle"), "'Oracle' is not one of BG/NBD"),
        (lambda saved: saved.update(model="Pareto/NBD"), "'Pareto/NBD' is not one of BG/NBD"),
        (lambda saved: saved.update(format="recipe"), "not a fitted model"),
        (lambda saved: saved.pop("log_cov"), "log_cov is missing"),
        (lambda saved: saved.update(log_cov=[[1.0]]), "covariance in the file does not fit"),
        (lambda saved: saved["params"].update(q=saved["params"].pop("r")), "has the parameters"),
    ],
)
def test_files_that_are_something_else_are_refused_in_one_line(change, message):
    saved = json.loads(at(*MODELS[0]).to_json("weeks"))
    change(saved)
    with pytest.raises(ValueError, match=message) as error:
        BGNBDResults.from_json(json.dumps(saved))
    assert "\n" not in str(error.value)


def test_text_that_is_not_json_and_another_unit_are_refused():
    with pytest.raises(ValueError, match="not JSON"):
        PurchaseResults.from_json("{")
    with pytest.raises(ValueError, match="it counts in weeks, not in days"):
        PurchaseResults.from_json(at(*MODELS[0]).to_json("weeks"), time_unit="days")
