"""Customer equity: closed forms, what retention means, elasticities by hand, the constant-retention bias."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.valuation import BGNBD, NBD, ModelNotFitted, ParetoNBD, money_figures, weekly_discount
from analysis.valuation.concentration import Estimate
from analysis.valuation.equity import (
    Acquisition,
    _Case,
    constant_retention_value,
    customer_equity,
    elasticities,
    survival,
)
from analysis.valuation.equity import _Base as Base
from analysis.valuation.lifetime import WEEKS_PER_YEAR
from analysis.valuation.mbg_nbd import MBGNBD
from tests.promises import assert_covers

FMT = Formatter("en", "USD")


def panel(customers=600, seed=2, weeks=78, s=0.8, beta=30.0):
    """Purchase histories under Pareto/NBD, times in days."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(40, weeks, customers)
    rate = rng.gamma(1.0, 0.25, customers)
    stays = np.minimum(rng.exponential(1 / np.maximum(rng.gamma(s, 1 / beta, customers), 1e-9)), age)
    x = rng.poisson(rate * stays)
    last = np.where(x > 0, stays * rng.beta(np.maximum(x, 1), 1), 0.0)
    return pd.DataFrame({"frequency": x, "recency": last * 7, "T": age * 7})


SUMMARY = panel()
MONEY = np.random.default_rng(0).gamma(4, 5, len(SUMMARY))
WEEKS = (SUMMARY["frequency"], SUMMARY["recency"] / 7, SUMMARY["T"] / 7)
PARETO, BG, MBG = ParetoNBD(*WEEKS).fit(), BGNBD(*WEEKS).fit(), MBGNBD(*WEEKS).fit()
SETTING = {"horizon_weeks": 156, "discount_rate": 0.10}


def test_a_constant_retention_rate_has_its_closed_form():
    by_hand = sum(100 * (0.8 / 1.12) ** t for t in range(1, 2000))
    assert constant_retention_value(100, 0.8, 0.12) == pytest.approx(by_hand) == pytest.approx(100 * 0.8 / (1.12 - 0.8))
    assert constant_retention_value(100, 0.8, 0.12, 3) == pytest.approx(sum(100 * (0.8 / 1.12) ** t for t in (1, 2, 3)))
    assert constant_retention_value(100, 1.0, 0.0, 5) == 500.0
    for retention, rate in ((1.0, 0.0), (1.2, 0.1)):
        with pytest.raises(ValueError, match="retention"):
            constant_retention_value(1, retention, rate)


def test_elasticities_of_the_textbook_case():
    """Margin m(r/(1 + i − r)): retention moves value by (1 + i)/(1 + i − r), as Gupta, Lehmann & Stuart have it."""

    def equity(factor):
        def of(name):
            return factor.get(name, 1.0)

        value = constant_retention_value(50 * of("margin"), 0.8 * of("retention"), 0.12 * of("discount_rate"))
        return value - 10 * of("acquisition_cost")

    found = elasticities(equity)
    worth = constant_retention_value(50, 0.8, 0.12)
    share = worth / (worth - 10)
    assert found["margin"] == pytest.approx(share) and found["acquisition_cost"] == pytest.approx(
        10 * 0.01 / (worth - 10) * 100
    )
    assert found["retention"] == pytest.approx(share * 1.12 / 0.32, rel=0.03)
    assert found["discount_rate"] == pytest.approx(share * 0.12 / 0.32, rel=0.01)
    with pytest.raises(ValueError, match="not above zero"):
        elasticities(lambda factors: -1.0)


@pytest.mark.parametrize("t", [0.0, 1.0, 52.0, 5000.0])
def test_survival_is_the_mean_over_what_a_living_customer_may_be(t):
    x, age = np.array([0.0, 3.0, 40.0]), np.array([5.0, 30.0, 60.0])
    _, _, s, beta = PARETO.params

    def leaves_at_random(u, k):
        return np.exp(-t * stats.gamma.ppf(u, s, scale=1 / (beta + age[k])))

    def leaves_after_purchases(u, k, results=BG, more=0):
        r, alpha, a, b = results.params
        return (1 + stats.beta.ppf(u, a, b + x[k] + more) * t / (alpha + age[k])) ** -(r + x[k])

    cases = ((PARETO, leaves_at_random, ()), (BG, leaves_after_purchases, ()), (MBG, leaves_after_purchases, (MBG, 1)))
    for results, mean, more in cases:
        direct = [integrate.quad(mean, 0, 1, args=(k, *more), limit=200)[0] for k in range(3)]
        assert survival(results, t, x, age) == pytest.approx(direct, rel=1e-5, abs=1e-8)


def test_survival_of_extreme_customers_is_a_probability():
    x, age = np.array([0.0, 2000.0, 2000.0, 1.0]), np.array([0.0, 100.0, 1.0, 1e5])
    for results in (PARETO, BG, MBG):
        for t in (1e-6, 1.0, 1e6):
            found = survival(results, t, x, age)
            assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("results", [PARETO, BG, MBG])
def test_slower_leaving_raises_the_retention_of_a_year_by_one_per_cent(results):
    """Against simulated futures whose leaving time is stretched by κ, which is what slower leaving means."""
    case = _Case(results, Base.of(*WEEKS, MONEY), 20.0, 156.0, 0.1, None)
    kappa = case.slower(1.01)
    assert case.retention(WEEKS_PER_YEAR / kappa) == pytest.approx(1.01 * case.retention())
    rng = np.random.default_rng(1)
    _, active = results.simulate_future(WEEKS_PER_YEAR, *WEEKS, rng, size=400)
    alive = results.probability_alive(*WEEKS).mean()
    gained = ((active >= WEEKS_PER_YEAR / kappa) & (active < WEEKS_PER_YEAR)).mean() / alive
    assert gained == pytest.approx(0.01 * case.retention(), abs=4 * math.sqrt(0.01 / active.size) / alive)


def test_stretched_time_is_slower_leaving():
    """κ E(h/κ; κδ) is what a Pareto/NBD whose leaving rates are all divided by κ expects, for one age."""
    r, alpha, s, beta = PARETO.params
    kappa, age, h, d = 1.3, 40.0, 100.0, weekly_discount(0.1)
    slow = PARETO.with_params([r, alpha, s, kappa * (beta + age) - age])
    one = (np.array([3.0]), np.array([20.0]), np.array([age]))
    stretched = kappa * PARETO.expected_purchases(h / kappa, *one, discount=d * kappa) / PARETO.probability_alive(*one)
    direct = slow.expected_purchases(h, *one, discount=d) / slow.probability_alive(*one)
    assert stretched == pytest.approx(direct, rel=1e-6)


def test_equity_is_the_sum_of_its_parts():
    won = Acquisition(rate=5.0, cost=12.0, weeks=104.0)
    found = customer_equity(PARETO, SUMMARY, MONEY, acquisition=won, new_margin_per_purchase=21.0, **SETTING)
    d = weekly_discount(0.10)
    present = float(PARETO.expected_purchases(156, *WEEKS, discount=d) @ MONEY)
    zero = np.zeros(1)
    new = 21.0 * (1 + float(PARETO.expected_purchases(156, zero, zero, zero, discount=d)[0]))
    future = 5.0 * (new - 12.0) * (1 - math.exp(-d * 104)) / d
    assert found.existing.value == pytest.approx(present) and found.new_customer_value == pytest.approx(new)
    assert found.future.value == pytest.approx(future) and found.total.value == pytest.approx(present + future)
    for each in (found.existing, found.future, found.total):
        assert each.low < each.value < each.high
    moved = found.elasticities.set_index("driver")["elasticity"]
    cost = 5.0 * 12.0 * (1 - math.exp(-d * 104)) / d
    assert moved["margin"] == pytest.approx((present + future + cost) / (present + future))
    assert moved["acquisition_cost"] == pytest.approx(cost / (present + future))
    assert moved["retention"] > moved["discount_rate"] > 0
    assert png(money_figures.equity_elasticities(found, FMT))[:4] == b"\x89PNG"


def test_the_present_part_is_taken_as_given_and_its_doubt_adds_up():
    won = Acquisition(rate=5.0, cost=12.0, weeks=104.0)
    given = Estimate(60e3, 60e3 - 1.959964 * 20e3, 60e3 + 1.959964 * 20e3)
    alone = customer_equity(PARETO, SUMMARY, MONEY, present=given, doubt=0.2, **SETTING)
    assert alone.existing is given and alone.total is given

    def found_with(doubt):
        found = customer_equity(PARETO, SUMMARY, MONEY, present=given, doubt=doubt, **SETTING, acquisition=won)
        assert found.total.value == pytest.approx(60e3 + found.future.value) and found.existing is given
        return found, ((found.total.high - found.total.value) / 1.959964) ** 2

    (sure, without), (doubtful, within) = found_with(None), found_with(0.2)
    cost = 5.0 * 12.0 * (1 - math.exp(-weekly_discount(0.1) * 104)) / weekly_discount(0.1)
    brought = doubtful.future.value + cost
    # the given range holds the doubt of the present part already; that of the future part comes on top, in full
    added = (0.2 * (60e3 + brought)) ** 2 - (0.2 * 60e3) ** 2
    assert within - without == pytest.approx(added, rel=1e-6)
    assert doubtful.future.high - doubtful.future.low > sure.future.high - sure.future.low
    assert doubtful.elasticities.equals(sure.elasticities)
    untested = customer_equity(
        PARETO, SUMMARY, MONEY, present=Estimate(9e3, reason="no test"), **SETTING, acquisition=won
    )
    assert untested.total.low is None and untested.total.reason == "no test"
    with pytest.raises(ValueError, match="a horizon with an end"):
        customer_equity(PARETO, SUMMARY, MONEY, present=given, horizon_weeks=math.inf, discount_rate=0.1)


@pytest.mark.parametrize("results", [PARETO, BG, MBG])
def test_chance_of_customers_to_be_won_is_that_of_simulated_ones(results):
    case = _Case(results, Base.of(*WEEKS, MONEY), 20.0, 52.0, 0.0, Acquisition(4.0, 1.0, 52.0), variety=1.5)
    rng, nobody = np.random.default_rng(5), np.zeros(1)
    came = rng.poisson(4.0 * 52.0, 400)
    bought, _ = results.simulate_future(52.0, nobody, nobody, nobody, rng, size=int(came.sum()))
    # margins with a mean of 20 whose mean square is 1.5 times 400
    brought = rng.gamma(2.0, 10.0, len(bought)) * (1.0 + bought[:, 0])
    totals = np.array([part.sum() for part in np.split(brought, np.cumsum(came)[:-1])])
    assert totals.mean() == pytest.approx(case.before_cost(), rel=0.03)
    assert totals.std() == pytest.approx(case.chance(), rel=4 / math.sqrt(2 * 400))


def test_without_acquisition_and_discount_there_are_reasons():
    found = customer_equity(BG, SUMMARY, MONEY, horizon_weeks=52, discount_rate=0.0)
    reasons = found.elasticities.set_index("driver")["reason"]
    assert "not known" in reasons["acquisition_cost"] and "not discounted" in reasons["discount_rate"]
    assert math.isnan(found.endless_bias.value) and "not discounted" in found.endless_bias.reason
    assert found.future.value == 0.0 and found.future.reason and found.elasticities["elasticity"].notna().sum() == 2


def test_an_endless_future_is_near_a_very_long_one():
    won = Acquisition(rate=1.0, cost=1.0, weeks=math.inf)
    endless = customer_equity(PARETO, SUMMARY, MONEY, horizon_weeks=math.inf, discount_rate=0.1, acquisition=won)
    long = customer_equity(
        PARETO, SUMMARY, MONEY, horizon_weeks=8000, discount_rate=0.1, acquisition=Acquisition(1.0, 1.0, 8000)
    )
    assert endless.total.value == pytest.approx(long.total.value, rel=1e-3)
    assert endless.constant_retention_bias.value == pytest.approx(long.constant_retention_bias.value, abs=1e-2)
    with pytest.raises(ValueError, match="discount rate above 0"):
        customer_equity(PARETO, SUMMARY, MONEY, horizon_weeks=math.inf, discount_rate=0.0)


def test_one_rate_for_all_undervalues_customers_who_differ():
    """The more leaving differs, the more; none where all leave alike (Fader & Hardie 2010)."""
    same = (np.full(300, 3.0), np.full(300, 28.0), np.full(300, 30.0))
    frame = pd.DataFrame({"frequency": same[0], "recency": same[1] * 7, "T": same[2] * 7})

    def bias(s):
        at = PARETO.with_params([1.0, 5.0, s, s / 0.02 - 30.0 if s > 1 else s / 0.02])
        return customer_equity(
            at, frame, np.full(300, 10.0), horizon_weeks=520, discount_rate=0.1
        ).constant_retention_bias.value

    alike, differ, more = bias(5000.0), bias(2.0), bias(0.4)
    assert alike == pytest.approx(0.0, abs=1e-3) and more < differ < -0.01


@pytest.mark.parametrize("results", [PARETO, BG, MBG])
def test_one_rate_that_is_right_for_a_year_errs_high_within_it_and_low_without_an_end(results):
    case = _Case(results, Base.of(*WEEKS, MONEY), 20.0, 52.0, 0.1, None)
    assert case.bias() > 0.0 > case.endless_bias()
    if results is not PARETO:  # the others' integrals to infinity take their time
        return
    # the end that stands for none is far enough, and those left out change little
    assert case.endless_bias() == pytest.approx(replace(case, horizon=math.inf, memo={}).bias(), abs=1e-3)
    thin = replace(case, base=case.base.thinned(200), memo={})
    assert len(thin.base.money) <= 200 and thin.endless_bias() == pytest.approx(case.endless_bias(), abs=0.03)
    found = customer_equity(results, SUMMARY, MONEY, horizon_weeks=52, discount_rate=0.1)
    assert found.endless_bias.value == pytest.approx(case.endless_bias())
    assert found.endless_bias.low < found.endless_bias.value < found.endless_bias.high


def test_equity_that_is_not_above_zero_has_no_elasticities():
    found = customer_equity(PARETO, SUMMARY, -MONEY, **SETTING)
    assert found.total.value < 0 and found.elasticities["elasticity"].isna().all()
    assert found.elasticities["reason"].str.len().gt(0).all()
    assert png(money_figures.equity_elasticities(found, FMT))


@pytest.mark.parametrize(
    ("results", "summary", "money", "error", "message"),
    [
        (PARETO, SUMMARY.iloc[:0], MONEY[:0], ValueError, "at least one customer"),
        (PARETO, SUMMARY, MONEY[:5], ValueError, "at least one customer"),
        (PARETO, SUMMARY, np.where(MONEY > 20, np.nan, MONEY), ValueError, "margin of a purchase"),
        (NBD(*WEEKS).fit(), SUMMARY, MONEY, ModelNotFitted, "does not give retention"),
    ],
)
def test_what_cannot_be_valued_is_refused(results, summary, money, error, message):
    with pytest.raises(error, match=message):
        customer_equity(results, summary, money, **SETTING)
    with pytest.raises(ValueError, match="negative"):
        Acquisition(-1.0, 0.0, 10.0)


def test_one_customer():
    found = customer_equity(PARETO, SUMMARY.iloc[:1], MONEY[:1], **SETTING)
    assert found.existing.value > 0 and found.existing.low < found.existing.value


def test_the_interval_of_equity_holds_its_truth():
    """The value at true parameters of the customers seen, with parameters estimated anew each time."""
    ends, values = [], []
    for k in range(20):
        summary = panel(250, seed=100 + k)
        weeks = (summary["frequency"], summary["recency"] / 7, summary["T"] / 7)
        results = ParetoNBD(*weeks).fit()
        if results.verdict.usable:
            found = customer_equity(results, summary, np.full(250, 10.0), **SETTING).existing
            ends.append((found.low, found.high))
            planted = results.with_params((1.0, 4.0, 0.8, 30.0))
            values.append(10 * planted.expected_purchases(156, *weeks, discount=weekly_discount(0.1)).sum())
    assert len(ends) >= 16
    assert_covers(ends, values)
