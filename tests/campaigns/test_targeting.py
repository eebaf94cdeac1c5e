"""The budgeted list against a solver of linear programmes, its limits, and its holdouts."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, sparse

from analysis.campaigns.policy import NOBODY, compare_policies
from analysis.campaigns.targeting import (
    TargetingSettings,
    allocate,
    profit_curve,
    reachable,
    run_targeting,
)


def linear_programme(profit, cost, budget, allowed=None, largest=None):
    """Optimum of the same problem by HiGHS."""
    n, k = profit.shape
    one_each = sparse.kron(sparse.eye(n), np.ones((1, k)))
    rows, limits = [one_each, cost.reshape(1, -1)], [*np.ones(n), budget]
    if largest is not None:
        rows.append(np.ones((1, n * k)))
        limits.append(largest)
    upper = np.ones(n * k) if allowed is None else allowed.reshape(-1).astype(float)
    found = optimize.linprog(
        -profit.reshape(-1), A_ub=sparse.vstack(rows), b_ub=limits, bounds=np.column_stack([0 * upper, upper])
    )
    return -found.fun


@pytest.mark.parametrize("seed", range(30))
def test_allocation_is_the_optimum_of_the_linear_programme(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 60)), int(rng.integers(1, 5))
    cost = rng.gamma(1, 2, (n, k))
    if seed % 3 == 0:
        cost = np.round(cost)  # ties, and arms that cost nothing
    profit = rng.normal(0.5, 2, (n, k)) + 0.5 * cost
    if seed % 5 == 0:
        profit = np.round(profit)
    allowed = rng.random((n, k)) < 0.8 if seed % 2 else None
    budget = float(rng.uniform(0, 1) * cost.max(axis=1).sum())
    found = allocate(profit, cost, budget, allowed)
    assert found.optimum == pytest.approx(linear_programme(profit, cost, budget, allowed), abs=1e-7)
    assert found.cost <= budget + 1e-9
    taken = np.flatnonzero(found.arm != NOBODY)
    assert found.profit == pytest.approx(profit[taken, found.arm[taken]].sum())
    assert found.cost == pytest.approx(cost[taken, found.arm[taken]].sum())
    if allowed is not None:
        assert allowed[taken, found.arm[taken]].all()
    # Only one customer is split, so whole customers lose less than one of them brings.
    assert found.optimum - found.profit <= profit.max() - min(0.0, profit.min()) + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_largest_list_and_budget_together(seed):
    rng = np.random.default_rng(100 + seed)
    n, k = 40, 3
    cost = rng.gamma(1, 2, (n, k))
    profit = rng.normal(0.5, 2, (n, k)) + 0.5 * cost
    budget, largest = float(rng.uniform(5, 100)), int(rng.integers(0, 30))
    found = allocate(profit, cost, budget, None, largest)
    assert found.optimum == pytest.approx(linear_programme(profit, cost, budget, None, largest), abs=1e-6)
    assert found.cost <= budget + 1e-9
    assert (found.arm != NOBODY).sum() <= largest
    # Two limits split at most two customers.
    assert found.optimum - found.profit <= 2 * profit.max() + 1e-6


def test_largest_list_is_filled_where_all_are_alike():
    found = allocate(np.full((50, 1), 2.0), np.ones((50, 1)), 30, None, 20)
    assert (found.arm == 0).sum() == 20
    assert found.profit == pytest.approx(40)
    assert found.optimum == pytest.approx(40)


def test_last_customer_is_taken_in_part_and_says_so():
    found = allocate([[10.0], [6.0], [1.0]], [[4.0], [4.0], [4.0]], budget=7)
    assert found.arm.tolist() == [0, NOBODY, NOBODY]
    assert (found.last, found.last_arm) == (1, 0)
    assert found.last_share == pytest.approx(0.75)
    assert found.optimum == pytest.approx(14.5)
    assert found.price == pytest.approx(1.5)


def test_a_budget_that_is_met_exactly_splits_nobody():
    found = allocate(np.full((10, 1), 1.0), np.full((10, 1), 0.1), budget=0.3)
    assert (found.arm == 0).sum() == 3
    assert found.last is None


def test_without_a_budget_everyone_gets_the_best_arm_or_none():
    profit = np.array([[1.0, 3.0], [2.0, -1.0], [-1.0, -2.0]])
    found = allocate(profit, [1.0, 2.0])
    assert found.arm.tolist() == [1, 0, NOBODY]
    assert found.price == 0


def test_errors_name_the_cure():
    with pytest.raises(ValueError, match="negative"):
        allocate([[1.0]], [[-1.0]])
    with pytest.raises(ValueError, match="missing"):
        allocate([[np.nan]], [[1.0]])
    with pytest.raises(ValueError, match="budget"):
        allocate([[1.0]], [[1.0]], budget=-1)


def test_nobody_among_no_customers():
    assert allocate(np.zeros((0, 2)), [1.0, 2.0], 10).optimum == 0


def test_reachable_honours_consent_caps_and_the_lasting_holdout():
    customers = pd.DataFrame({"consent_email": [True, None, False, True, True]})
    allowed, reasons = reachable(
        customers, ["email", "post"], [0, 0, 0, 3, np.nan], 3, [False, False, False, False, True]
    )
    assert allowed.tolist() == [[True, True], [False, True], [False, True], [False, False], [False, False]]
    assert dict(zip(reasons["reason"], reasons["customers"], strict=True)) == {
        "held_out": 1,
        "contact_cap": 1,
        "no_consent": 0,
    }
    # A study that records no consent has nobody for text messages.
    assert not reachable(customers, ["sms"])[0].any()


def campaign(n=4000, seed=3):
    """Half gain 6, half lose 4 from one arm that costs 1; scores as unbiased as those of a randomised campaign."""
    rng = np.random.default_rng(seed)
    effect = np.where(rng.random(n) < 0.5, 6.0, -4.0)
    gains = effect + rng.normal(0, 10, n)
    people = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "consent_email": rng.random(n) < 0.9})
    return people, effect[:, None], gains[:, None]


def test_list_keeps_budget_consent_and_holdouts():
    people, profit, gains = campaign()
    compared = compare_policies(gains, np.where(profit[:, 0] > 0, 0, NOBODY), 1.0, ["mail"])
    assert compared.kind == "policy"
    settings = TargetingSettings("autumn", budget=900, holdout_share=0.2, outside_share=0.1, seed=4)
    found, reason = run_targeting(people, profit, [1.0], ["mail"], ["email"], compared, settings)
    assert reason is None
    t = found.targets
    assert list(t.columns[:6]) == ["customer_id", "campaign", "offer", "expected_incremental_profit", "cost", "rank"]
    assert t["customer_id"].is_unique
    assert set(t["customer_id"]) <= set(people.loc[people["consent_email"], "customer_id"])
    listed = t[t["listed"]]
    assert (len(listed), int(listed["holdout"].sum())) == (900, 180)
    assert t.loc[~t["holdout"], "cost"].sum() <= 900
    assert t["rank"].tolist() == list(range(1, len(t) + 1))
    outside = t[~t["listed"]]
    assert outside["holdout"].mean() == pytest.approx(0.5, abs=0.02)
    # The holdout is drawn at random: its share does not follow the rank.
    assert abs(listed.loc[listed["holdout"], "rank"].mean() - 450) < 4 * 260 / np.sqrt(180)
    again, _ = run_targeting(people, profit, [1.0], ["mail"], ["email"], compared, settings)
    pd.testing.assert_frame_equal(t, again.targets)
    facts = found.facts()
    assert facts["no_consent"] == (~people["consent_email"]).sum()
    assert facts["low"] < facts["value"] < facts["high"]
    assert facts["expected"] == pytest.approx(900 * 6)
    assert facts["low"] < 900 * 6 < facts["high"]


def test_outside_contacts_fit_into_a_full_list():
    people, profit, gains = campaign()
    compared = compare_policies(gains, np.where(profit[:, 0] > 0, 0, NOBODY), 1.0, ["mail"])
    settings = TargetingSettings(largest=100, holdout_share=0.1, outside_share=0.5)
    found, _ = run_targeting(people, profit, [1.0], ["mail"], ["post"], compared, settings)
    assert (~found.targets["holdout"]).sum() <= 100
    assert found.facts()["contacted_outside"] == 10


def test_reasons_instead_of_a_list():
    people, profit, gains = campaign()
    compared = compare_policies(gains, np.where(profit[:, 0] > 0, 0, NOBODY), 1.0, ["mail"])
    arguments = (people, profit, [1.0], ["mail"])
    assert run_targeting(*arguments, ["email"], None)[1] == "not_tested"
    nobody = compare_policies(gains - 20, np.zeros(len(gains), int), 1.0, ["mail"])
    assert run_targeting(*arguments, ["email"], nobody)[1] == "nobody"
    assert run_targeting(*arguments, ["sms"], compared)[1] == "nobody_reachable"
    assert run_targeting(people, -abs(profit), [1.0], ["mail"], ["email"], compared)[1] == "nothing_pays"
    assert run_targeting(*arguments, ["email"], compared, TargetingSettings(budget=0.5))[1] == "no_budget"
    with pytest.raises(ValueError, match="twice"):
        run_targeting(pd.concat([people, people]), np.r_[profit, profit], [1.0], ["mail"], ["email"], compared)


def test_one_candidate():
    people, profit, gains = campaign()
    compared = compare_policies(gains, np.where(profit[:, 0] > 0, 0, NOBODY), 1.0, ["mail"])
    found, _ = run_targeting(people.iloc[:1], [[5.0]], [1.0], ["mail"], ["post"], compared)
    assert len(found.targets) == 1
    assert not found.targets["holdout"].any()


def test_a_uniform_arm_lists_customers_at_random():
    rng = np.random.default_rng(1)
    people = pd.DataFrame({"customer_id": [f"c{i:05}" for i in range(1000)]})
    gains = rng.normal([3, 2], 5, (1000, 2))
    compared = compare_policies(gains, np.full(1000, NOBODY), [1.0, 1.0], ["a", "b"])
    assert (compared.kind, compared.arm) == ("arm", 0)
    profit = np.column_stack([np.linspace(-1, 1, 1000)] * 2)
    found, _ = run_targeting(
        people, profit, [1.0, 1.0], ["a", "b"], ["post", "post"], compared, TargetingSettings(budget=100)
    )
    listed = found.targets[found.targets["listed"]]
    assert set(listed["offer"]) == {"a"}
    assert len(listed) == 100
    places = listed["customer_id"].str[1:].astype(int)
    assert abs(places.mean() - 500) < 4 * 289 / 10
    assert listed["expected_incremental_profit"].nunique() == 1
    assert found.targets["listed"].all()


def test_a_rule_is_followed_and_tried_outside():
    people, profit, gains = campaign()
    rule = np.where(profit[:, 0] > 0, 0, NOBODY)
    compared = compare_policies(gains, rule, 1.0, ["mail"], {"heavy buyers": rule})
    assert compared.recommended == "heavy buyers"
    arguments = (people, profit, [1.0], ["mail"], ["post"], compared)
    with pytest.raises(ValueError, match="rules"):
        run_targeting(*arguments)
    found, _ = run_targeting(*arguments, rules={"heavy buyers": rule})
    t = found.targets.set_index("customer_id")["listed"]
    follows = pd.Series(rule == 0, index=people["customer_id"])
    assert (follows[t.index] == t).all()
    assert found.facts()["contacted_outside"] > 0


def test_profit_curve_against_the_allocations_and_the_truth():
    rng = np.random.default_rng(5)
    n = 3000
    profit = rng.normal(0, 3, (n, 2))
    cost = rng.gamma(2, 1, (n, 2))
    gains = profit + rng.normal(0, 20, (n, 2))
    curve = profit_curve(profit, cost, gains, customers=2 * n)
    for row in curve.iloc[[0, 5, 20]].itertuples():
        found = allocate(profit, cost, row.budget / 2)
        assert row.expected == pytest.approx(2 * found.profit, rel=0.01, abs=1e-6)
    assert ((curve["band_low"] <= curve["expected"]) & (curve["expected"] <= curve["band_high"])).all()
    assert (curve["band_high"] - curve["high"]).iloc[1:].min() > 0
    assert curve["low"].iloc[0] == curve["high"].iloc[0] == 0
    assert profit_curve(-np.ones((5, 1)), np.ones((5, 1)), np.ones((5, 1)))["profit"].eq(0).all()
