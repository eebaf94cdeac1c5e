"""Relationship levels by their value: the best total there is, at every size, and what would have to be true for it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog
from scipy.sparse import coo_array

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.segmentation import assign
from analysis.segmentation.level_facts import hidden_rows
from analysis.segmentation.levels import (
    LevelOffer,
    break_even,
    incremental_values,
    leaving_rate,
    level_offers,
    longer_stay,
    plan_levels,
)
from analysis.study import Relationship
from analysis.valuation.concentration import Estimate
from analysis.valuation.lifetime import WEEKS_PER_YEAR

WORDS = segmentation.Words(Formatter("en", "USD"), "households")
STUDY = Relationship.model_validate(
    {
        "leaving": 0.3,
        "reactive": {"cost": 1, "margin": 0.01},
        "accountable": {"cost": 4, "customers": 200, "retention": {"value": 0.3, "low": 0.2, "high": 0.4}},
        "proactive": {"cost": 30, "hours": 80, "hours_each": 2, "retention": 0.4, "growth": 0.1},
        "partnership": {"cost": 700, "customers": 20, "retention": 0.2, "growth": 0.25},
    }
)
NAMES = {"customer": "household", "customers": "households"}


def best_total(value, capacity):
    """The whole linear programme at once, as the textbook has it."""
    n, k = value.shape
    cell = np.arange(n * k)
    leave = coo_array((np.ones(n * k), (cell // k, cell)), shape=(n, n * k)).tocsr()
    enter = coo_array((np.ones(n * k), (cell % k, cell)), shape=(k, n * k)).tocsr()
    found = linprog(
        -value.ravel(), A_ub=enter, b_ub=np.minimum(capacity, n), A_eq=leave, b_eq=np.ones(n), method="highs"
    )
    return -found.fun


def problem(seed, kind):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 90)), int(rng.integers(1, 6))
    worth = rng.gamma(0.5, 100, (n, 1))
    value = {
        "money": worth * np.sort(rng.random(k)) - 40 * rng.random(k) * np.arange(k),
        "ties": rng.integers(0, 4, (n, k)).astype(float),
        "equal": np.repeat(rng.integers(0, 3, (1, k)).astype(float), n, axis=0),
    }[kind]
    value[:, 0] = 0.0
    return value, np.r_[np.inf, rng.integers(0, n + 1, k - 1)]


@pytest.mark.parametrize("kind", ["money", "ties", "equal"])
@pytest.mark.parametrize("seed", range(15))
def test_the_assignment_is_the_optimum_of_the_linear_programme(seed, kind):
    value, capacity = problem(seed, kind)
    # A core of a few makes prices do nearly all the work, as with millions of customers.
    for core in (3, 10_000):
        found = assign(value, capacity, core=core)
        assert (np.bincount(found.choice, minlength=value.shape[1]) <= capacity).all()
        assert found.total == pytest.approx(best_total(value, capacity), abs=1e-6)


@pytest.mark.parametrize("kind", ["money", "ties"])
@pytest.mark.parametrize("seed", range(6))
def test_the_shadow_price_is_what_one_more_place_adds(seed, kind):
    value, capacity = problem(seed + 100, kind)
    found, before = assign(value, capacity, core=5), best_total(value, capacity)
    for level in range(1, len(capacity)):
        more = capacity.copy()
        more[level] += 1
        assert found.shadow_price[level] == pytest.approx(best_total(value, more) - before, abs=1e-6)


@pytest.mark.parametrize("rounded", [False, True])
def test_many_customers_and_many_ties_come_to_the_same_optimum(rounded):
    rng = np.random.default_rng(5)
    worth = rng.gamma(0.3, 300, 4000)
    worth = np.round(worth, -2) if rounded else worth
    value = worth[:, None] * np.array([0, 0.01, 0.03, 0.06, 0.1]) - np.array([0, 1, 4, 30, 60])
    capacity = np.array([np.inf, np.inf, 800, 160, 20])
    found = assign(value, capacity, core=200)
    assert found.total == pytest.approx(best_total(value, capacity), rel=1e-9)


def test_what_adds_nothing_is_not_given_and_order_decides_between_equals():
    found = assign([[0.0, 0.0]] * 4, [np.inf, 2])
    assert found.choice.tolist() == [0, 0, 0, 0]
    assert assign([[0.0, 5.0]] * 4, [np.inf, 2]).choice.tolist() == [1, 1, 0, 0]
    assert assign(np.zeros((0, 3)), [np.inf, 1, 1]).total == 0


@pytest.mark.parametrize(
    ("value", "capacity", "message"),
    [
        ([[0.0, np.nan]], [np.inf, 1], "a value is missing"),
        ([[0.0, 1.0]], [np.inf], "one number a level"),
        ([[0.0, 1.0]], [np.inf, -1], "negative"),
        ([[0.0, 1.0]] * 3, [1, 1], "room for 2 of 3"),
    ],
)
def test_what_cannot_be_assigned_is_one_line(value, capacity, message):
    with pytest.raises(ValueError, match=message) as caught:
        assign(value, capacity)
    assert "\n" not in str(caught.value)


def test_a_longer_stay_is_worth_what_simulated_lifetimes_are_worth():
    rng = np.random.default_rng(2)
    leaving, retention, weekly = 0.4, 0.25, 0.002
    rate = -np.log(1 - leaving) / WEEKS_PER_YEAR
    life = rng.exponential(1 / rate, 400_000)

    def worth(lives):
        return -np.expm1(-weekly * np.minimum(lives, 52)) / weekly

    each = worth(life / (1 - retention)) - (1 + longer_stay(retention, leaving, 52, weekly)) * worth(life)
    assert abs(each.mean()) < 4 * each.std() / np.sqrt(len(each))
    assert (
        longer_stay(0.0, leaving, 52) == 0
        and longer_stay(0.5, float("nan"), 52) == 0
        and longer_stay(1.0, 0.0, 52) == 0
    )
    with pytest.raises(ValueError, match="between 0 and 1"):
        longer_stay(0.1, 1.0, 52)


def customers_who_leave(seed, n=500, a_year=0.4):
    rng = np.random.default_rng(seed)
    mu, buying, age = a_year / 365.25, rng.gamma(2, 1 / 80, n), rng.uniform(60, 700, n)
    there = np.minimum(rng.exponential(1 / mu, n), age)
    x = rng.poisson(buying * there)
    last = np.where(x > 0, there * rng.random(n) ** (1 / np.maximum(x, 1)), 0.0)
    alive = 1 / (1 + mu / (buying + mu) * np.expm1(np.minimum((buying + mu) * (age - last), 700)))
    return alive, x, last, age


def test_the_rate_of_leaving_is_recovered_and_its_interval_holds_it():
    true = -np.expm1(-0.4)
    found = [leaving_rate(*customers_who_leave(seed)) for seed in range(200)]
    held = np.mean([e.low <= true <= e.high for e in found])
    assert held > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    values = np.array([e.value for e in found])
    assert abs(values.mean() / true - 1) < 0.02


def test_a_rate_of_leaving_needs_somebody_who_came_back_and_a_probability():
    for alive, x in (([0.5, 0.6], [0, 0]), ([np.nan, np.nan], [3, 2]), ([], [])):
        found = leaving_rate(alive, x, [0.0] * len(x), [100.0] * len(x))
        assert np.isnan(found.value) and found.reason
    nobody = leaving_rate([1.0, 1.0], [5, 3], [90.0, 80.0], [100.0, 100.0])
    assert nobody.value == 0 and nobody.low == 0 < nobody.high < 1


def base(n=1500, seed=3):
    rng = np.random.default_rng(seed)
    return rng.gamma(0.5, 400, n), rng.gamma(0.5, 200, n)


def plan(residual=None, growth=None, study=STUDY, leaving=0.3, **more):
    given = base()
    residual, growth = (given[0] if residual is None else residual), (given[1] if growth is None else growth)
    return plan_levels(
        residual, growth, study.offered, horizon_weeks=52, leaving=Estimate(leaving, reason="stated"), **more
    )


def test_the_plan_adds_up_and_keeps_to_the_places():
    found = plan()
    table = found.table.set_index("level")
    assert table["customers"].sum() == 1500
    assert (table["customers"] <= table["places"]).all()
    assert table.loc["proactive", "places"] == 40 and table.loc["partnership", "customers"] == 0
    assert table["net"].sum() == pytest.approx(found.total) == pytest.approx(np.nansum(found.net))
    np.testing.assert_allclose(table["net"], table["gain"] - table["cost"])
    assert found.low < found.total < found.high
    assert (found.net >= -1e-9).all()
    assert table.loc["proactive", "hour_worth"] == pytest.approx(table.loc["proactive", "place_worth"] / 2)
    # Nobody gains by changing places with a customer of the basic level.
    gain, cost = incremental_values(*base(), level_offers(STUDY.offered), horizon_weeks=52, leaving=0.3)
    net = np.column_stack([np.zeros(1500), gain - cost])
    assert found.total == pytest.approx(best_total(net, [np.inf, np.inf, 200, 40, 20]))


def test_the_range_holds_that_of_leaving_too():
    given, terms = base(), {"horizon_weeks": 52}
    only = Relationship.model_validate({"accountable": {"cost": 1, "retention": 0.3}}).offered
    sure = plan_levels(*given, only, leaving=Estimate(0.3), **terms)
    found = plan_levels(*given, only, leaving=Estimate(0.3, 0.2, 0.4), **terms)
    assert [sure.low, sure.high, found.total] == pytest.approx([sure.total] * 3)
    assert found.low < found.total < found.high


def test_at_the_break_even_effect_a_level_just_pays():
    found = plan()
    for level in ("reactive", "accountable", "proactive", "partnership"):
        offer = next(o for o in level_offers(STUDY.offered) if o.level == level)
        factor = found.table.set_index("level").loc[level, "break_even"]
        members = (found.level == level).to_numpy()
        if not members.any():
            gain, _ = incremental_values(*base(), [offer], horizon_weeks=52, leaving=0.3)
            members = np.argsort(-gain[:, 0], kind="stable")[:10]
        residual, growth = (a[members] for a in base())
        gain, cost = incremental_values(residual, growth, [offer.scaled(factor)], horizon_weeks=52, leaving=0.3)
        assert gain.sum() == pytest.approx(len(residual) * cost[0], rel=1e-6)
        assert (factor < 1) == (level != "partnership")
    nothing = LevelOffer("reactive", 5.0, retention=0.5)
    terms = {"horizon_weeks": 52, "leaving": 0.3}
    assert np.isnan(break_even(np.array([1.0]), np.array([0.0]), nothing, **terms))
    assert break_even(np.array([1.0]), np.array([0.0]), LevelOffer("reactive", 0.0, margin=0.1), **terms) == 0


def test_unknown_values_get_no_level_and_unknown_growth_counts_for_nothing():
    residual, growth = base(30)
    residual[:3], growth[3:8] = np.nan, np.nan
    found = plan(residual, growth)
    assert found.level[:3].isna().all() and found.level[3:].notna().all()
    assert (found.unknown, found.no_growth) == (3, 5)
    assert plan(residual, np.nan_to_num(growth)).total == pytest.approx(found.total)
    with pytest.raises(ValueError, match="no expected value is known"):
        plan(np.full(4, np.nan), np.zeros(4))


def test_without_a_rate_of_leaving_retention_counts_for_nothing():
    only = Relationship.model_validate({"accountable": {"cost": 1, "retention": 0.5}})
    assert plan(study=only, leaving=float("nan")).table["customers"].tolist() == [1500, 0]
    assert plan(study=only).table["customers"].iloc[1] > 0


@pytest.mark.parametrize("residual", [[50.0], [0.0] * 5, [-20.0] * 5, [100.0] * 5])
def test_one_customer_and_customers_who_are_all_alike(residual):
    found = plan(np.array(residual), np.zeros(len(residual)))
    assert found.table["customers"].sum() == len(residual) and found.total >= 0
    assert (found.level == "basic").all() == (max(residual) <= 0 or found.total == 0)


def frames(n=1500):
    residual, growth = base(n)
    alive, x, last, age = customers_who_leave(1, n)
    ids = [f"c{i}" for i in range(n)]
    summary = pd.DataFrame({"customer_id": ids, "frequency": x, "recency": last, "T": age})
    value = pd.DataFrame(
        {"customer_id": ids, "residual_value": residual, "growth_value": growth, "probability_alive": alive}
    ).sample(frac=1, random_state=1)
    return summary, value


def test_where_the_study_says_nothing_the_rule_of_thumb_stays_and_the_text_says_so():
    found, reason = segmentation.run_levels(*frames(), None, WORDS, horizon_weeks=52)
    assert found is None
    facts = segmentation.level_value_finding(found, reason, 10, WORDS)
    assert facts["value"] is None and "does not say" in facts["reason"]
    assert segmentation.scarce_place_finding(found, reason, WORDS)["value"] is None
    said = Sentences("03_segmentation", WORDS.format)
    assert "rule of thumb" in said.render("levels_rule", chosen=False, **NAMES)
    assert said.render("relationship_value", **NAMES, **facts)


def test_values_are_joined_by_customer_and_leaving_is_estimated_where_it_is_not_stated():
    summary, value = frames()
    stated, _ = segmentation.run_levels(summary, value, STUDY, WORDS, horizon_weeks=52)
    assert stated.total == pytest.approx(plan().total)
    unstated = STUDY.model_copy(update={"leaving": None})
    found, reason = segmentation.run_levels(summary, value, unstated, WORDS, horizon_weeks=52, discount_rate=0.1)
    assert reason == "" and found.leaving.low < found.leaving.value < found.leaving.high
    none, reason = segmentation.run_levels(summary, value.assign(residual_value=np.nan), STUDY, WORDS, horizon_weeks=52)
    assert none is None and "no expected value" in reason


def test_sentences_and_tables_say_what_the_plan_says():
    found = plan(best=10)
    said = Sentences("03_segmentation", WORDS.format)
    facts = segmentation.level_value_finding(found, "", 10, WORDS)
    above = int((found.level != "basic").sum())
    assert facts["n"] == above and facts["value"] == found.total and facts["low"] is None and facts["reason"]
    text = said.render("relationship_value", **NAMES, **facts)
    assert f"{above:,} households" in text and "to $" in text
    place = segmentation.scarce_place_finding(found, "", WORDS)
    assert place["value"] == found.table["place_worth"].max() > 0
    assert place["level"] in said.render("scarce_place", **NAMES, **place)
    assert "30.0%" in said.render("levels_leaving", **NAMES, **segmentation.leaving_facts(found))
    assumed = segmentation.assumption_table(found, WORDS)
    assert assumed["level"].tolist() == ["Reactive", "Accountable", "Proactive", "Partnership"]
    assert assumed["places"].tolist() == ["for all", "200", "40", "20"]
    assert (
        "times what is assumed" in assumed["pays_from"].iloc[3]
        and "% of what is assumed" in assumed["pays_from"].iloc[1]
    )
    shown = segmentation.plan_table(found, 10, WORDS)
    assert shown["customers"].sum() == 1500 and shown["net"].sum() == pytest.approx(found.total)
    advice = segmentation.level_advice(WORDS)
    assert advice["bonds"].str.startswith(("Financial", "Social", "Structural")).all() and advice["meaning"].is_unique


def test_a_few_customers_of_a_level_are_not_shown():
    tiny = SimpleNamespace(
        offered={
            "proactive": STUDY.proactive.model_copy(update={"hours": None, "hours_each": None, "customers": 3}),
            "accountable": STUDY.accountable,
        }
    )
    found = plan(study=tiny)
    shown = segmentation.plan_table(found, 10, WORDS).set_index("level")
    assert shown.loc[["Proactive", "Accountable"], ["customers", "net"]].isna().all(axis=None)
    few = plan(study=SimpleNamespace(offered={"proactive": tiny.offered["proactive"]}))
    facts = segmentation.level_value_finding(few, "", 10, WORDS)
    assert facts["value"] is None and "fewer than 10" in facts["reason"]


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ([100, 50, 3], [False, True, True]),
        ([100, 4, 3], [True, True, True]),
        ([100, 8, 7], [False, True, True]),
        ([100, 0, 20], [False, False, False]),
        ([5], [True]),
        ([], []),
    ],
)
def test_rows_are_hidden_until_no_total_tells_them(counts, hidden):
    assert hidden_rows(np.array(counts, dtype=int), 10).tolist() == hidden


def test_the_grid_is_drawn_with_the_tiers_in_their_cells():
    tier = pd.Series(["protect"] * 40 + ["invest"] * 1200 + ["let_go"] * 300)
    margin = np.repeat([400.0, 90.0, 5.0], [40, 1200, 300])
    _, grid = segmentation.relationship_levels(tier, pd.Series(["stability"] * len(tier)), margin)
    drawn = [t.get_text() for t in segmentation.kotler_figure(grid, 10, WORDS).axes[0].texts]
    assert sum(t in {"Basic", "Reactive", "Accountable", "Proactive", "Partnership"} for t in drawn) == 9
    assert {"Protect: 40", "Invest: 1,200"} <= set(drawn)
    assert segmentation.kotler_facts(grid, 50, WORDS) == {"protect": None, "invest": "reactive"}
    said = Sentences("03_segmentation", WORDS.format)
    assert "a partnership" in said.render("kotler.title", **NAMES, **segmentation.kotler_facts(grid, 10, WORDS))
    empty = segmentation.relationship_levels(tier, tier, np.full(len(tier), np.nan))[1]
    assert segmentation.kotler_figure(empty, 10, WORDS)


def test_nobody_to_grade_gives_an_empty_grid():
    tier = pd.Series(["too_early"] * 12)
    level, grid = segmentation.relationship_levels(tier, pd.Series([None] * 12, dtype=object), np.ones(12))
    assert (level == "reactive").all() and grid.empty and "value_tier" in grid
