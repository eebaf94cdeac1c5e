"""Customers and their orders follow the processes that are said to be planted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.simulate import people, purchases
from analysis.simulate.clock import LAST_DAY, OBSERVED_DAYS, PERIOD_DAYS, PERIODS, dates
from analysis.simulate.people import Kind, Level, PeoplePlan
from analysis.simulate.purchases import PurchasePlan
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.spend import GammaGamma

EVEN = PurchasePlan()
ONE = (Level("all", 1.0),)
PLAN = PeoplePlan(546.0, 1.2, 200.0, 0.6, 400.0, 6.0, 4.0, 60.0, (Kind("one", 1.0),), ONE, ONE, ONE)


def drawn(n, seed=1, plan=PLAN, **changes):
    return replace(people.draw(plan, 1, n, np.random.default_rng(seed)), **changes)


def bought(who, lapsed=None, multiplier=None, plan=EVEN, seed=2):
    lapsed = np.full(len(who), 10.0 * LAST_DAY) if lapsed is None else lapsed
    multiplier = np.ones((len(who), PERIODS)) if multiplier is None else multiplier
    return purchases.simulate(who, lapsed, multiplier, 6.0, plan, np.random.default_rng(seed))


def test_the_models_find_what_was_planted():
    n = 20_000
    who = drawn(n)
    lapsed = purchases.lapses(who, np.ones((n, PERIODS)), np.random.default_rng(3))
    orders = bought(who, lapsed)
    seen = orders.day < OBSERVED_DAYS
    owner, day = np.divmod(np.unique(orders.owner[seen] * np.int64(LAST_DAY) + orders.day[seen].astype(int)), LAST_DAY)
    x = np.bincount(owner, minlength=n) - 1
    first, last = np.floor(who.arrival), np.zeros(n)
    np.maximum.at(last, owner, day)
    found = ParetoNBD(x, last - first, OBSERVED_DAYS - 1 - first).fit()
    assert (np.abs(found.params - [1.2, 200.0, 0.6, 400.0]) < 4 * found.bse).all()
    later = np.r_[False, orders.owner[1:] == orders.owner[:-1]]
    repeats = np.bincount(orders.owner[later], minlength=n)
    mean = np.bincount(orders.owner[later], orders.value[later], n) / np.maximum(repeats, 1)
    money = GammaGamma(repeats[repeats > 0], mean[repeats > 0]).fit()
    assert (np.abs(money.params - [6.0, 4.0, 60.0]) < 4 * money.bse).all()


def test_the_first_order_is_the_arrival_and_none_follows_the_lapse():
    who = drawn(3_000)
    lapsed = purchases.lapses(who, np.ones((len(who), PERIODS)), np.random.default_rng(3))
    orders = bought(who, lapsed)
    first = np.r_[True, orders.owner[1:] != orders.owner[:-1]]
    assert first.sum() == len(who)
    assert (orders.day[first] == who.arrival).all()
    assert (orders.day <= np.minimum(lapsed, LAST_DAY)[orders.owner]).all()
    assert (lapsed > who.arrival).all()


def test_time_to_lapse_is_exponential_at_the_planted_hazard_even_beyond_the_simulated_time():
    who = drawn(20_000, hazard=np.full(20_000, 1 / 700))
    lapsed = purchases.lapses(who, np.ones((len(who), PERIODS)), np.random.default_rng(4))
    assert stats.kstest((lapsed - who.arrival) / 700, "expon").pvalue > 1e-4


def test_a_multiplier_moves_rate_and_hazard_in_its_quarter_only():
    n = 30_000
    who = drawn(n, rate=np.full(n, 0.02), hazard=np.full(n, 1e-3), arrival=np.zeros(n))
    multiplier = np.ones((n, PERIODS))
    multiplier[:, 3] = 2.0
    orders = bought(who, multiplier=multiplier)
    per_quarter = np.bincount((orders.day[orders.day > 0] // PERIOD_DAYS).astype(int), minlength=PERIODS)
    expected = n * 0.02 * PERIOD_DAYS * multiplier[0]
    assert (np.abs(per_quarter - expected) < 5 * np.sqrt(expected)).all()
    lapsed = purchases.lapses(who, multiplier, np.random.default_rng(5))
    for quarter in (2, 3, 4):
        there = lapsed > quarter * PERIOD_DAYS
        gone = there & (lapsed <= (quarter + 1) * PERIOD_DAYS)
        chance = 1 - np.exp(-1e-3 * PERIOD_DAYS * multiplier[0, quarter])
        assert gone.sum() / there.sum() == pytest.approx(chance, abs=5 * np.sqrt(chance / there.sum()))


def test_a_habit_makes_the_time_between_orders_regular_and_leaves_the_rate():
    n = 4_000
    who = drawn(n, rate=np.full(n, 0.02), arrival=np.zeros(n), habit=np.full(n, 4, dtype=np.int8))
    orders = bought(who)
    own = orders.day > 0
    gaps = np.diff(orders.day[own])[np.diff(orders.owner[own]) == 0]
    # Long gaps are cut off by the end of the simulated time, hence the slack.
    assert gaps.std() / gaps.mean() == pytest.approx(0.5, abs=0.03)
    assert own.sum() == pytest.approx(n * 0.02 * LAST_DAY, rel=0.02)


def test_season_and_weekdays_show_in_the_orders():
    season = (1.0,) * 10 + (2.0, 1.0)
    plan = PurchasePlan(season=season, weekdays=(1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 1.0))
    weights = purchases.daily_weights(plan)
    assert weights.mean() == pytest.approx(1.0)
    n = 20_000
    orders = bought(drawn(n, rate=np.full(n, 0.03), arrival=np.zeros(n)), plan=plan)
    day = orders.day[orders.day > 0].astype(int)
    saturdays = np.arange(LAST_DAY) % 7 == 5
    november = dates(np.arange(LAST_DAY)).astype("datetime64[M]").astype(int) % 12 == 10
    for group in (saturdays, november):
        share = group[day].mean()
        assert share == pytest.approx(weights[group].sum() / LAST_DAY, abs=5 * np.sqrt(share / len(day)))


def test_the_unobserved_trait_moves_the_mean_order_only_when_switched_on():
    off, on = drawn(20_000), drawn(20_000, plan=replace(PLAN, trait_spend=0.3))
    assert (off.trait == on.trait).all()
    assert np.corrcoef(off.trait, np.log(off.spend_mean))[0, 1] == pytest.approx(0.0, abs=0.03)
    assert np.log(on.spend_mean / off.spend_mean) == pytest.approx(0.3 * on.trait)


def test_attributes_carry_signal_and_shares_are_kept():
    channels = (Level("a", 0.8), Level("b", 0.2, rate=3.0))
    who = drawn(40_000, plan=replace(PLAN, channels=channels, pairs=0.3, arrival_growth=2.0))
    assert (who.channel == 1).mean() == pytest.approx(0.2, abs=0.01)
    assert who.rate[who.channel == 1].mean() / who.rate[who.channel == 0].mean() == pytest.approx(3.0, rel=0.05)
    _, size = np.unique(who.household, return_counts=True)
    assert size.max() == 2
    assert 0.2 < (size == 2).sum() * 2 / len(who) < 0.3
    late = who.arrival > 546 / 2
    assert late.mean() == pytest.approx(1.75 / 3, abs=0.01)


def test_one_customer():
    who = drawn(1)
    orders = bought(who, purchases.lapses(who, np.ones((1, PERIODS)), np.random.default_rng(1)))
    assert len(orders) >= 1
    assert (np.diff(orders.day) > 0).all()
