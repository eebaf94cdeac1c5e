"""MBG/NBD, (M)BG/CNBD-k, BG/BB and sBG: recovery of a planted truth, calibration, gradients, units, boundaries."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize

from analysis.valuation.bg_bb import BGBB
from analysis.valuation.bg_cnbd_k import BGCNBDk, MBGCNBDk
from analysis.valuation.bg_nbd import BGNBD
from analysis.valuation.mbg_nbd import MBGNBD
from analysis.valuation.models import fit_models
from analysis.valuation.purchases import ModelNotFitted, PurchaseResults
from analysis.valuation.sbg import SBG
from tests.promises import assert_covers

FLOW = (0.8, 6.0, 0.9, 2.5)
# (model, k, parameters); the rate of an Erlang model is that of its stages
TIMED = [
    pytest.param(MBGNBD, 1, FLOW, id="MBG/NBD"),
    pytest.param(partial(BGCNBDk, k=3), 3, (0.8, 2.0, 0.9, 2.5), id="BG/CNBD-3"),
    pytest.param(partial(MBGCNBDk, k=2), 2, (0.8, 3.0, 0.9, 2.5), id="MBG/CNBD-2"),
]
OCCASIONS = (1.2, 0.75, 0.7, 2.8)


def simulate(model, k, params, customers, rng, horizon=0.0):
    """Histories from the story that the model tells: x, t_x, T, purchases in the horizon, sum of log intervals."""
    r, alpha, a, b = params
    at_once = getattr(model, "func", model) in (MBGNBD, MBGCNBDk)
    age = rng.uniform(20.0, 45.0, customers)
    rows = []
    for rate, leave, end in zip(rng.gamma(r, size=customers) / alpha, rng.beta(a, b, customers), age, strict=True):
        moment, bought, last, after, logs = 0.0, 0, 0.0, 0, 0.0
        gone = at_once and rng.random() < leave
        while not gone:
            gap = rng.gamma(k) / rate
            moment += gap
            if moment > end + horizon:
                break
            if moment <= end:
                bought, last, logs = bought + 1, moment, logs + np.log(gap)
            else:
                after += 1
            gone = rng.random() < leave
        rows.append((bought, last, end, after, logs))
    return np.array(rows).T


def simulate_occasions(params, customers, occasions, rng, horizon=0):
    alpha, beta, gamma, delta = params
    buys, leaves = rng.beta(alpha, beta, customers), rng.beta(gamma, delta, customers)
    total = occasions + horizon
    there = np.arange(1, total + 1) < rng.geometric(leaves)[:, None]
    bought = there & (rng.random((customers, total)) < buys[:, None])
    seen = bought[:, :occasions]
    last = np.where(seen.any(axis=1), occasions - np.argmax(seen[:, ::-1], axis=1), 0)
    return seen.sum(axis=1), last, np.full(customers, occasions), bought[:, occasions:].sum(axis=1)


def at(model, params):
    """Results at given parameters, without a fit."""
    made = model([1, 0], [1.0, 0.0], [2.0, 2.0])
    series = pd.Series(params, index=list(made.parameter_names), dtype=float)
    return made.results_class(made, series, np.full((4, 4), np.nan), np.nan, None)


def _recovered(results, truth):
    assert results.verdict.usable
    assert np.abs(np.log(results.params / np.array(truth)) / (results.bse / results.params)).max() < 4.0


@pytest.mark.parametrize(("model", "k", "params"), TIMED)
def test_a_planted_truth_is_found_again(model, k, params):
    x, t_x, age, _, _ = simulate(model, k, params, 6000, np.random.default_rng(3))
    _recovered(model(x, t_x, age).fit(), params)


@pytest.mark.parametrize(("model", "k", "params"), TIMED)
def test_gradient_is_exact(model, k, params):
    x, t_x, age, _, _ = simulate(model, k, params, 300, np.random.default_rng(1))
    made, where = model(x, t_x, age), np.array(params) * 1.3
    numeric = [
        (made.loglike(where * (1 + step)) - made.loglike(where * (1 - step))) / (2e-5 * p)
        for step, p in zip(np.eye(4) * 1e-5, where, strict=True)
    ]
    assert made.score(where) == pytest.approx(np.array(numeric), rel=1e-7, abs=1e-6)


@pytest.mark.parametrize(("model", "k", "params"), TIMED)
def test_forecasts_and_simulated_futures_are_calibrated(model, k, params):
    x, t_x, age, after, _ = simulate(model, k, params, 12_000, np.random.default_rng(5), horizon=26.0)
    results = at(model, params)
    expected, alive = results.expected_purchases(26.0, x, t_x, age), results.probability_alive(x, t_x, age)
    for group in (alive < 0.5, alive >= 0.5, x == 0, x > 3):
        error = (after - expected)[group]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(group.sum())
    history = np.array([0, 3, 10]), np.array([0.0, 20.0, 30.0]), np.array([26.0, 30.0, 31.0])
    bought, active = results.simulate_future(30.0, *history, np.random.default_rng(2), size=40_000)
    error = bought.mean(axis=0) - results.expected_purchases(30.0, *history)
    assert (np.abs(error) < 4 * bought.std(axis=0) / 200).all()
    assert ((active >= 0) & (active <= 30.0)).all() and active[bought > 0].min() > 0
    assert abs((active > 0).mean(axis=0) - results.probability_alive(*history)).max() < 4 * 0.5 / 200


@pytest.mark.parametrize(("model", "k", "params"), TIMED)
def test_counts_are_a_distribution(model, k, params):
    results, n = at(model, params), np.arange(3000)
    probability = results.purchase_pmf(n, 30.0)
    assert probability.sum() == pytest.approx(1.0, abs=1e-9)
    assert probability @ n == pytest.approx(results.expected_repeats(30.0), rel=1e-8)
    assert results.expected_repeats(0.0) == 0.0
    x, _, age, _, _ = simulate(model, k, params, 2500, np.random.default_rng(7))
    for count in (0, 1, 4):
        chance = np.array([results.purchase_pmf(count, t) for t in age])
        assert abs((x == count).mean() - chance.mean()) < 4 * np.sqrt((chance * (1 - chance)).sum()) / len(x)


@pytest.mark.parametrize("unit", [1 / 365.25, 7.0, 604_800.0])
@pytest.mark.parametrize(("model", "k", "params"), TIMED)
def test_the_unit_of_time_and_weights_do_not_matter(model, k, params, unit):
    """The same fit in years, days and seconds as in weeks, and with equal customers counted by weights."""
    x, t_x, age, _, logs = simulate(model, k, params, 700, np.random.default_rng(9))
    if k > 1:
        first = model(x, t_x, age, litt=logs).fit()
        second = model(x, t_x * unit, age * unit, litt=logs + x * np.log(unit)).fit()
        twice = model(x, t_x, age, litt=logs, weights=np.full(700, 2.0)).fit()
    else:
        first, second = model(x, t_x, age).fit(), model(x, t_x * unit, age * unit).fit()
        twice = model(x, t_x, age, weights=np.full(700, 2.0)).fit()
    assert (second.params / [1, unit, 1, 1]).to_numpy() == pytest.approx(first.params.to_numpy(), rel=1e-5)
    assert second.llf + x.sum() * np.log(unit) == pytest.approx(first.llf, abs=1e-5)
    assert twice.llf == pytest.approx(2 * first.llf, rel=1e-9)
    assert second.expected_purchases(10 * unit, x[:9], t_x[:9] * unit, age[:9] * unit) == pytest.approx(
        first.expected_purchases(10.0, x[:9], t_x[:9], age[:9]), rel=1e-4
    )


@pytest.mark.parametrize("model", [MBGNBD, partial(BGCNBDk, k=2), partial(MBGCNBDk, k=2)])
def test_data_that_cannot_carry_a_model_are_refused_with_a_reason(model):
    with pytest.raises(ModelNotFitted, match="one customer"):
        model([3], [5.0], [9.0]).fit()
    with pytest.raises(ModelNotFitted, match="nobody bought twice"):
        model([0, 0, 0], [0.0, 0.0, 0.0], [9.0, 8.0, 7.0]).fit()
    with pytest.raises(ValueError, match="no customer"):
        model([], [], [])


@pytest.mark.parametrize("model", [MBGNBD, partial(BGCNBDk, k=2), partial(MBGCNBDk, k=2)])
def test_a_base_without_leavers_is_a_boundary_and_not_a_number(model):
    rng = np.random.default_rng(4)
    x = rng.poisson(rng.gamma(8.0, 0.1, 400) * 50.0) + 1
    t_x = 50.0 - rng.exponential(0.02, 400)
    results = model(x, t_x, np.full(400, 50.0)).fit()
    assert not results.verdict.usable and results.verdict.reason


def test_one_time_buyers_may_be_gone():
    results = at(MBGNBD, FLOW)
    alive = results.probability_alive([0, 0, 0], [0.0, 0.0, 0.0], [0.0, 10.0, 1e4])
    assert alive[0] == pytest.approx(2.5 / (0.9 + 2.5))
    assert 1 > alive[0] > alive[1] > alive[2] > 0


def test_mbg_expectation_matches_its_closed_form():
    """The 2F1 of the BG/NBD with one more chance to have left, Wagner & Hoppe (2008)."""
    from scipy import special

    r, alpha, a, b = FLOW
    results = at(MBGNBD, FLOW)
    for x, t_x, age, t in [(0, 0.0, 30.0, 10.0), (4, 20.0, 30.0, 52.0), (30, 30.0, 30.5, 200.0)]:
        z = t / (alpha + age + t)
        hyper = special.hyp2f1(r + x, b + x + 1, a + b + x, z)
        alive = results.probability_alive([x], [t_x], [age])[0]
        closed = alive * (a + b + x) / (a - 1) * (1 - ((alpha + age) / (alpha + age + t)) ** (r + x) * hyper)
        assert results.expected_purchases(t, [x], [t_x], [age])[0] == pytest.approx(closed, rel=1e-9)


@pytest.mark.parametrize(("erlang", "plain"), [(BGCNBDk, BGNBD), (MBGCNBDk, MBGNBD)])
def test_one_stage_is_the_plain_model(erlang, plain):
    x, t_x, age, _, _ = simulate(plain, 1, FLOW, 500, np.random.default_rng(2))
    one, same = erlang(x, t_x, age, k=1), plain(x, t_x, age)
    assert one.loglike(FLOW) == pytest.approx(same.loglike(FLOW), rel=1e-13)
    assert one.score(FLOW) == pytest.approx(same.score(FLOW), rel=1e-10, abs=1e-10)
    first, second = at(partial(erlang, k=1), FLOW), at(plain, FLOW)
    history = x[:50], t_x[:50], age[:50]
    assert first.probability_alive(*history) == pytest.approx(second.probability_alive(*history), rel=1e-12)
    for discount, error in ((0.0, 1e-10), (0.003, 1e-9)):
        assert first.expected_purchases(52.0, *history, discount=discount) == pytest.approx(
            second.expected_purchases(52.0, *history, discount=discount), rel=error
        )
    times = np.array([0.0, 1.0, 40.0])
    assert first.expected_repeats(times) == pytest.approx(second.expected_repeats(times), rel=1e-10)
    assert first.purchase_pmf(np.arange(30), 20.0) == pytest.approx(second.purchase_pmf(np.arange(30), 20.0), rel=1e-10)


@pytest.mark.parametrize("k", [2, 4])
def test_regularity_is_found_from_the_intervals(k):
    params = (1.5, 6.0 / k, 0.6, 4.0)
    x, t_x, age, _, logs = simulate(BGCNBDk, k, params, 1500, np.random.default_rng(6))
    results = BGCNBDk(x, t_x, age, litt=logs).fit()
    assert results.k == k
    _recovered(results, params)
    assert results.llf == results.profile.max()
    assert results.aic == pytest.approx(2 * 5 - 2 * results.llf)
    assert results.summary().set_index("parameter")["estimate"].to_dict() == {**results.params.to_dict(), "k": k}
    assert results.summary()["low"].isna().tolist() == [False] * 4 + [True]
    fixed = BGCNBDk(x, t_x, age, litt=logs, k=k).fit()
    assert fixed.llf == pytest.approx(results.llf) and fixed.profile is None
    assert fixed.aic == pytest.approx(2 * 4 - 2 * results.llf)
    # without the intervals the same estimates, and no likelihood that could be compared by mistake
    alone = BGCNBDk(x, t_x, age, k=k).fit()
    assert alone.params.to_numpy() == pytest.approx(fixed.params.to_numpy(), rel=1e-9)
    assert np.isnan(alone.llf) and np.isfinite(alone.bse).all()


def test_erlang_likelihood_matches_integration_over_rate_and_leaving():
    """The story of one customer, integrated by hand: intervals 3, 4 and 2, then 11 of silence."""
    r, alpha, a, b, k = 1.3, 2.0, 0.9, 2.5, 3
    gaps = np.array([3.0, 4.0, 2.0])

    def over_rate(rate):
        gamma = alpha**r * rate ** (r - 1) * np.exp(-alpha * rate) / 0.8974706963062772
        bought = np.prod(rate**k * gaps ** (k - 1) * np.exp(-rate * gaps) / 2.0)
        silent = np.exp(-rate * 11.0) * (1 + rate * 11.0 + (rate * 11.0) ** 2 / 2)
        return gamma * bought * silent, gamma * bought

    alive, gone = (integrate.quad(lambda v, i=i: over_rate(v)[i], 0, np.inf, epsabs=0)[0] for i in (0, 1))
    for model, chances in ((BGCNBDk, 3), (MBGCNBDk, 4)):
        stay = integrate.quad(lambda p, n=chances: (1 - p) ** n, 0, 1, weight="alg", wvar=(a - 1, b - 1))[0]
        leave = integrate.quad(lambda p, n=chances: p * (1 - p) ** (n - 1), 0, 1, weight="alg", wvar=(a - 1, b - 1))[0]
        beta = integrate.quad(lambda p: 1.0, 0, 1, weight="alg", wvar=(a - 1, b - 1))[0]
        data = model([3], [9.0], [20.0], litt=[np.log(gaps).sum()], k=k)
        assert data.loglike([r, alpha, a, b]) == pytest.approx(np.log((stay * alive + leave * gone) / beta), rel=1e-8)
        probability = at(partial(model, k=k), (r, alpha, a, b)).probability_alive([3], [9.0], [20.0])[0]
        assert probability == pytest.approx(stay * alive / (stay * alive + leave * gone), rel=1e-8)


def test_discounting_of_regular_purchases():
    results = at(partial(MBGCNBDk, k=4), (0.9, 2.0, 0.8, 3.0))
    history = ([2, 0, 9], [10.0, 0.0, 28.0], [30.0, 30.0, 30.0])
    discount = 0.02
    fine = np.linspace(0.0, 52.0, 401)
    counts = np.array([results.expected_purchases(t, *history) for t in fine])
    middle = np.exp(-discount * (fine[1:] + fine[:-1]) / 2)
    assert results.expected_purchases(52.0, *history, discount=discount) == pytest.approx(
        middle @ np.diff(counts, axis=0), rel=3e-5
    )
    with pytest.raises(ValueError, match="finite"):
        results.expected_purchases(np.inf, *history, discount=discount)


def test_extreme_regular_shoppers_stay_finite():
    x = np.array([0, 0, 2000, 2000, 1, 300])
    t_x = np.array([0.0, 0.0, 400.0, 1.0, 1e-3, 10.0])
    age = np.array([0.0, 1e5, 400.0, 1e4, 1e5, 1e4])
    for params in ((0.3, 2.0, 0.8, 2.4), (1e-3, 1e3, 1e-3, 1e-3), (1e3, 1e3, 1e3, 1e-3)):
        results = at(partial(MBGCNBDk, k=6), params)
        alive, expected = results.probability_alive(x, t_x, age), results.expected_purchases(52.0, x, t_x, age)
        assert ((alive >= 0) & (alive <= 1)).all() and np.isfinite(expected).all() and (expected >= 0).all()
        data = MBGCNBDk(x, t_x, age, k=6)
        assert np.isfinite(data.loglike(params)) and np.isfinite(data.score(params)).all()


@pytest.mark.parametrize("k", [1, 3])
def test_one_stage_is_not_used_beside_its_plain_model(k):
    x, t_x, age, _, logs = simulate(MBGCNBDk, k, (0.8, 4.0, 0.8, 3.0), 1500, np.random.default_rng(5))
    days = pd.DataFrame(
        {"frequency": x, "recency": 7 * t_x, "T": 7 * age, "monetary_value": np.where(x > 0, 10.0, 0.0)}
    )
    models = fit_models(days.assign(litt=logs + x * np.log(7)))
    told = models.comparison.set_index("model").loc[MBGCNBDk.name]
    assert (MBGCNBDk if k > 1 else MBGNBD).name in models.purchases
    assert (MBGCNBDk.name in models.purchases) == (k > 1)
    assert ("so it is MBG/NBD" in told["verdict"]) == (k == 1) and np.isfinite(told["log_likelihood"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs litt"),
        ({"k": 0}, "whole number"),
        ({"k": 1.5}, "whole number"),
        ({"k": 2, "litt": [0.0]}, "one a customer"),
        ({"k": 2, "litt": [99.0, 0.0]}, "row 0"),
        ({"k": 2, "litt": [np.nan, 0.0]}, "row 0"),
        ({"k": 2, "litt": [0.0, 1.0]}, "row 1"),
    ],
)
def test_regularity_needs_possible_intervals(arguments, message):
    with pytest.raises(ValueError, match=message):
        BGCNBDk([2, 0], [8.0, 0.0], [9.0, 9.0], **arguments)


@pytest.mark.parametrize("known", [True, False])
def test_k_comes_back_from_json(known):
    x, t_x, age, _, logs = simulate(MBGCNBDk, 2, (0.8, 3.0, 0.9, 2.5), 400, np.random.default_rng(1))
    results = (MBGCNBDk(x, t_x, age, litt=logs) if known else MBGCNBDk(x, t_x, age, k=2)).fit()
    again = PurchaseResults.from_json(results.to_json("weeks"), "weeks")
    assert again.k == results.k == 2
    assert again.aic == pytest.approx(results.aic, nan_ok=True)
    expected = results.expected_purchases(9.0, x, t_x, age)
    assert again.expected_purchases(9.0, x, t_x, age).tolist() == expected.tolist()


# BG/BB


def test_occasions_planted_truth_is_found_again():
    *history, _ = simulate_occasions(OCCASIONS, 8000, 12, np.random.default_rng(1))
    _recovered(BGBB(*history).fit(), OCCASIONS)


def test_occasions_gradient_is_exact():
    x, t_x, n, _ = simulate_occasions(OCCASIONS, 200, 12, np.random.default_rng(1))
    n = n - np.where(t_x < 5, 3, 0)
    made, where = BGBB(x, t_x, n), np.array(OCCASIONS) * 1.3
    numeric = optimize.approx_fprime(where, made.loglike, 1e-7)
    assert made.score(where) == pytest.approx(numeric, rel=1e-5, abs=1e-4)


def test_occasions_likelihood_is_the_sum_of_the_paper():
    from scipy.special import beta

    a, b, c, d = OCCASIONS
    for x, t_x, n in [(0, 0, 6), (2, 4, 6), (6, 6, 6), (3, 5, 9), (0, 0, 0)]:
        total = beta(a + x, b + n - x) / beta(a, b) * beta(c, d + n) / beta(c, d)
        stays = total
        for i in range(n - t_x):
            total += beta(a + x, b + t_x - x + i) / beta(a, b) * beta(c + 1, d + t_x + i) / beta(c, d)
        assert BGBB([x], [t_x], [n]).loglike(OCCASIONS) == pytest.approx(np.log(total), rel=1e-12, abs=1e-14)
        results = at(BGBB, OCCASIONS)
        assert results.probability_alive([x], [t_x], [n])[0] == pytest.approx(stays / total, rel=1e-12)
        later = stays / total * (d + n) / (c + d + n)
        assert results.probability_alive([x], [t_x], [n], ahead=1)[0] == pytest.approx(later, rel=1e-12)


def test_occasions_forecasts_are_calibrated():
    x, t_x, n, after = simulate_occasions(OCCASIONS, 12_000, 8, np.random.default_rng(5), horizon=6)
    results = at(BGBB, OCCASIONS)
    expected, alive = results.expected_purchases(6, x, t_x, n), results.probability_alive(x, t_x, n)
    for group in (alive < 0.5, alive >= 0.5, x == 0, x > 3):
        error = (after - expected)[group]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(group.sum())
    history = np.array([0, 3, 8]), np.array([0, 5, 8]), np.array([8, 8, 8])
    bought, active = results.simulate_future(6, *history, np.random.default_rng(2), size=40_000)
    error = bought.mean(axis=0) - results.expected_purchases(6, *history)
    assert (np.abs(error) < 4 * bought.std(axis=0) / 200).all()
    assert ((active >= bought) & (active <= 6)).all()
    endless = results.discounted_expected_residual_transactions(0.1, *history)
    assert endless == pytest.approx(results.expected_purchases(400, *history, discount=np.log(1.1)), rel=1e-9)


def test_occasions_counts_are_a_distribution():
    results, n = at(BGBB, OCCASIONS), np.arange(41)
    probability = results.purchase_pmf(n, 40)
    assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    assert probability @ n == pytest.approx(results.expected_repeats(40), rel=1e-10)
    assert results.purchase_pmf([3, 41], 2).tolist() == [0.0, 0.0]
    assert results.expected_repeats([0, 1])[1] == pytest.approx(1.2 / 1.95 * 2.8 / 3.5)


def test_hundreds_of_occasions():
    truth = (1.5, 6.0, 0.8, 120.0)
    *history, _ = simulate_occasions(truth, 1500, 200, np.random.default_rng(8))
    _recovered(BGBB(*history).fit(), truth)


def test_occasions_boundaries():
    with pytest.raises(ModelNotFitted, match="one customer"):
        BGBB([1], [2], [3]).fit()
    with pytest.raises(ModelNotFitted, match="nobody bought twice"):
        BGBB([0, 0], [0, 0], [6, 6]).fit()
    with pytest.raises(ModelNotFitted, match="one occasion"):
        BGBB([0, 1], [0, 1], [1, 1]).fit()
    always = BGBB(np.full(50, 6), np.full(50, 6), np.full(50, 6)).fit()
    assert not always.verdict.usable and always.verdict.reason
    rng = np.random.default_rng(3)
    stays = rng.random((600, 20)) < rng.beta(3.0, 3.0, 600)[:, None]
    last = np.where(stays.any(axis=1), 20 - np.argmax(stays[:, ::-1], axis=1), 0)
    assert not BGBB(stays.sum(axis=1), last, np.full(600, 20)).fit().verdict.usable
    with pytest.raises(ValueError, match="whole numbers"):
        BGBB([1, 0], [1.5, 0], [3, 3])
    with pytest.raises(ValueError, match="cannot exceed recency"):
        BGBB([3, 0], [2, 0], [3, 3])
    results = at(BGBB, OCCASIONS)
    with pytest.raises(ValueError, match="whole number of occasions"):
        results.expected_purchases(1.5, [1], [1], [3])
    with pytest.raises(ValueError, match="discount rate"):
        results.expected_purchases(np.inf, [1], [1], [3])


# sBG


def _contracts(alpha, beta, customers, rng, periods=8):
    """Cohorts of every age up to `periods`: completed periods, and whether the customer left."""
    lives = rng.geometric(rng.beta(alpha, beta, customers))
    watched = rng.integers(1, periods + 1, customers)
    return np.minimum(lives, watched), lives <= watched


def test_contracts_planted_truth_is_found_again():
    results = SBG.from_durations(*_contracts(0.7, 2.0, 20_000, np.random.default_rng(1))).fit()
    _recovered(results, (0.7, 2.0))


def test_contract_intervals_cover():
    rng, ends = np.random.default_rng(2), []
    for _ in range(200):
        results = SBG.from_durations(*_contracts(0.7, 2.0, 1500, rng)).fit()
        band = results.interval(lambda r: r.survival(2)).iloc[0]
        ends.append([results.conf_int().loc["alpha"], band[["low", "high"]]])
    assert_covers(ends, [0.7, 2.0 / 2.7 * 3.0 / 3.7])


def test_contract_gradient_is_exact_and_three_ways_in_agree():
    model = SBG.from_survivors([100, 60, 45, 40])
    where = np.array([0.8, 1.7])
    numeric = optimize.approx_fprime(where, model.loglike, 1e-7)
    assert model.score(where) == pytest.approx(numeric, rel=1e-6)
    same = SBG([40, 15, 5], 40)
    rows = SBG.from_durations(
        np.repeat([1, 2, 3, 3, 0], [40, 15, 5, 40, 7]), np.repeat([True, True, True, False, False], [40, 15, 5, 40, 7])
    )
    assert model.loglike(where) == pytest.approx(same.loglike(where)) == pytest.approx(rows.loglike(where))
    assert model.nobs == rows.nobs == 100


def test_contract_forecasts_hang_together():
    results = SBG.from_survivors([1000, 631, 468, 382, 326]).fit()
    t = np.arange(1, 40)
    assert np.cumprod(results.retention_rate(t)) == pytest.approx(results.survival(t), rel=1e-12)
    assert (np.diff(results.retention_rate(t)) > 0).all() and results.survival(0) == 1.0
    assert results.expected_lifetime == np.inf and np.isinf(results.expected_residual_lifetime([1, 2])).all()
    finite = results.with_params([3.0, 5.0])
    assert finite.expected_lifetime == pytest.approx(finite.survival(np.arange(200_000)).sum(), rel=1e-8)
    given = finite.survival(np.arange(3, 200_000)).sum() / finite.survival(2)
    assert finite.expected_residual_lifetime([3])[0] == pytest.approx(given, rel=1e-6)
    later = np.arange(3000)
    worth = (results.survival(later) / 1.1**later).sum()
    assert results.discounted_expected_lifetime(0.1) == pytest.approx(worth, rel=1e-12)
    residual = (results.survival(later + 3) / 1.1**later).sum() / results.survival(2)
    assert results.discounted_expected_residual_lifetime(0.1, [3])[0] == pytest.approx(residual, rel=1e-12)
    # the price of a tiny discount is a long sum, not lost digits
    assert finite.discounted_expected_lifetime(1e-9) == pytest.approx(finite.expected_lifetime, rel=1e-7)
    band = results.interval(lambda r: r.discounted_expected_residual_lifetime(0.1, [1, 2]))
    assert (band["low"] < band["value"]).all() and (band["value"] < band["high"]).all()
    assert list(results.summary().columns) == ["parameter", "estimate", "std_err", "low", "high"]


def test_contract_boundaries():
    for arguments, message in (
        (([0, 0], 40), "nobody left"),
        (([40], 60), "one renewal"),
        (([40, 0], [60, 0]), "one renewal"),
        (([40, 0], 0), "nobody renewed"),
        (([0, 1], 0), "one customer"),
    ):
        with pytest.raises(ModelNotFitted, match=message):
            SBG(*arguments).fit()
    # everybody alike: the chance of leaving is the same however long they have stayed
    alike = SBG.from_survivors([4096, 2048, 1024, 512, 256]).fit()
    assert alike.verdict.status == "boundary" and alike.verdict.reason
    # those who stay ever more likely to leave is the opposite of what heterogeneity does
    assert SBG.from_survivors([1000, 950, 850, 650, 300]).fit().verdict.status == "boundary"
    for bad in ([100, 110], [100], [100, np.nan]):
        with pytest.raises(ValueError, match="survivors"):
            SBG.from_survivors(bad)
    with pytest.raises(ValueError, match="whole numbers"):
        SBG.from_durations([1.5, 2], [True, False])
    with pytest.raises(ValueError, match="at least one period"):
        SBG.from_durations([0, 2], [True, False])
    with pytest.raises(ValueError, match="missing or negative"):
        SBG([1, -1], 4)
    with pytest.raises(ValueError, match="discount rate"):
        SBG([10, 5], 40).fit().discounted_expected_lifetime(0.0)
