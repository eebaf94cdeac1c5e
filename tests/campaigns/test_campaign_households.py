"""Customers who live together: arms that cut through households are told from whole households drawn as one."""

from itertools import product
from math import comb

import numpy as np
import pandas as pd
import pytest

from analysis.campaigns.checks import check_campaigns, check_design
from analysis.campaigns.effects import DifferenceInMeans, EstimationError, pool
from analysis.campaigns.households import (
    household_codes,
    household_facts,
    household_ids,
    household_spillover,
    household_split,
    run_households,
)
from analysis.campaigns.outcomes import windows
from analysis.campaigns.runs import arm_effects


def homes_of(rng, homes=900):
    """Households of one to three customers, customers in random order."""
    size = rng.integers(1, 4, homes)
    home = np.repeat([f"h{k}" for k in range(homes)], size)
    return rng.permutation(home)


def drawn(rng, home, together):
    """Arms by lot, customer by customer or household by household."""
    if not together:
        return np.where(rng.random(len(home)) < 0.5, "mail", "control")
    codes, _ = pd.factorize(home)
    return np.where(rng.random(codes.max() + 1) < 0.5, "mail", "control")[codes]


def panel_of(rng, together, effect=4.0, spill=0.0, shared=1.0):
    """One campaign; households have sales in common, and a letter may move those who live with its reader."""
    home = homes_of(rng)
    arm = drawn(rng, home, together)
    codes, _ = pd.factorize(home)
    mailed = arm == "mail"
    others = np.bincount(codes, mailed)[codes] - mailed
    level = shared * rng.normal(size=codes.max() + 1)[codes] * 5 + rng.normal(size=len(home)) * 3
    ids = np.array([f"c{k}" for k in range(len(home))])
    panel = pd.DataFrame(
        {
            "campaign_id": "letter",
            "customer_id": ids,
            "arm": arm,
            "treated": mailed.astype(int),
            "spend": 30 + level + effect * mailed + spill * (others > 0),
            "purchase_days": (rng.random(len(home)) < 0.5).astype(int),
        }
    )
    return panel, pd.Series(home, index=ids)


SPANS = pd.DataFrame({"campaign_id": ["letter"], "label": ["Letter"], "design": ["randomised"]})


def test_drawn_one_by_one_or_as_households_is_told_apart():
    rng = np.random.default_rng(1)
    home = homes_of(rng)
    ids = np.arange(len(home))
    alone, together = (household_split(ids, drawn(rng, home, whole), home) for whole in (False, True))
    assert alone.verdict == "split" and not alone.together
    assert alone.split == pytest.approx(alone.expected, rel=0.1)
    assert together.verdict == "together" and together.split == 0 and together.p_value < 1e-100
    assert alone.shared == together.shared == (pd.Series(home).value_counts() > 1).sum()
    check = check_design(pd.DataFrame({"customer_id": ids, "arm": drawn(rng, home, False)}), households=home).checks[-1]
    assert check.name == "households" and check.passed is None and check.reason == "households_split"
    assert check.statistic == pytest.approx(0.58, abs=0.06)  # half of the pairs, three quarters of the threes
    whole = check_design(pd.DataFrame({"customer_id": ids, "arm": drawn(rng, home, True)}), households=home)
    assert whole.checks[-1].passed is True and whole.passes


def test_expected_splits_are_those_of_all_ways_to_deal():
    # Six customers, four of them in one arm and two in the other: all 15 ways, by hand.
    home = np.array(["a", "a", "b", "b", "b", "c"])
    deals = [np.array(d) for d in product("mc", repeat=6) if d.count("m") == 4]
    assert len(deals) == comb(6, 4)
    counts = [sum(len(set(d[home == h])) > 1 for h in ("a", "b")) for d in deals]
    found = household_split(np.arange(6), deals[0], home)
    assert found.expected == pytest.approx(np.mean(counts)) and found.shared == 2
    assert found.verdict in ("split", "unclear")


def test_chance_alone_is_hardly_ever_taken_for_whole_households():
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(400):
        home = homes_of(rng, 120)
        p_values.append(household_split(np.arange(len(home)), drawn(rng, home, False), home).p_value)
    # A tail that errs on the safe side: at most 5 % below 0.05, beyond Monte-Carlo error.
    assert np.mean(np.array(p_values) < 0.05) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(p_values) > 0.4


def test_missing_households_and_placeholders_live_alone():
    codes = household_codes(["a", "b", "c", "d"], [None, np.nan, "h", "h"])
    assert len(set(codes[:2])) == 2 and codes[2] == codes[3]
    many = household_codes(np.arange(30), ["unknown"] * 30)
    assert len(set(many)) == 30
    # The same name as a customer and as a household are two things.
    assert len(set(household_codes(["h", "x"], [None, "h"]))) == 2
    none = household_split(np.arange(30), ["mail"] * 15 + ["control"] * 15, ["unknown"] * 30)
    assert none.verdict == "alone" and np.isnan(none.share)
    few = household_split([1, 2, 3, 4], ["m", "m", "c", "c"], ["a", "a", "b", "b"])
    assert few.verdict == "unclear"
    assert household_ids(pd.DataFrame({"customer_id": ["a"]})) is None and household_ids(None) is None


def test_intervals_by_household_hold_where_those_by_customer_do_not():
    rng, runs = np.random.default_rng(7), 200
    inside = np.zeros(2)
    for _ in range(runs):
        panel, homes = panel_of(rng, together=True, shared=2.0)
        plain = DifferenceInMeans(panel["spend"], panel["treated"]).fit()
        by_home = pool([plain], [household_codes(panel["customer_id"], homes)])
        inside += [low < 4.0 < high for low, high in (by_home.interval(), plain.interval())]
    assert abs(inside[0] / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)
    assert inside[1] / runs < 0.9  # by customer they are far too narrow
    row = arm_effects(panel, SPANS, ["letter"], 0, 0.95, homes).query("metric == 'sales'").iloc[0]
    assert row["by_household"] and (row["effect_low"], row["effect_high"]) == pytest.approx(by_home.interval())


def test_drawn_one_by_one_intervals_stay_by_customer():
    panel, homes = panel_of(np.random.default_rng(2), together=False)
    by_home, plain = (arm_effects(panel, SPANS, ["letter"], 0, 0.95, given) for given in (homes, None))
    assert not by_home["by_household"].any()
    pd.testing.assert_frame_equal(by_home, plain)


def test_what_leaks_within_households_is_found_by_lot():
    rng = np.random.default_rng(5)
    panel, homes = panel_of(rng, together=False, spill=3.0)
    table, reason = run_households(panel, SPANS, ["letter"], homes)
    row = table.iloc[0]
    assert reason is None and row["verdict"] == "split" and row["low"] < 3.0 < row["high"] and row["low"] > 0
    facts = household_facts(table)
    assert facts["leaks"] == 1 and facts["mixed"] == 1 and facts["together"] == 0 and facts["label"] == "Letter"
    assert facts["share"] == pytest.approx(row["split"] / row["shared"])
    whole, _ = run_households(*_whole(rng))
    assert whole.loc[0, "verdict"] == "together" and np.isnan(whole.loc[0, "spill"])
    assert household_facts(whole)["leaks"] == 0


def _whole(rng):
    panel, homes = panel_of(rng, together=True)
    return panel, SPANS, ["letter"], homes


def test_without_a_leak_none_is_found_more_often_than_chance():
    rng, runs, found = np.random.default_rng(9), 200, 0
    for _ in range(runs):
        panel, homes = panel_of(rng, together=False)
        homes = homes[panel["customer_id"]]
        low, high = household_spillover(panel["spend"], panel["customer_id"], panel["arm"], homes).interval()
        found += low < 0 < high
    assert abs(found / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)


def test_where_nothing_can_be_said_of_households():
    panel, homes = panel_of(np.random.default_rng(4), together=False)
    assert run_households(panel, SPANS, ["letter"], None)[1] == "no_household_id"
    singles = pd.Series(homes.index, index=homes.index)
    table, reason = run_households(panel, SPANS, ["letter"], singles)
    assert reason == "all_single" and household_facts(table, reason)["share"] is None
    with pytest.raises(EstimationError):
        household_spillover([1.0, 2.0], ["a", "b"], ["control", "mail"], ["h", "h"])


def test_every_campaign_is_checked_with_the_households_of_its_contacts(company):
    campaigns, _, contacts = company.simulate("randomised", 4.0)
    spans = windows(campaigns, company.FROM, company.TO)
    empty = pd.DataFrame(columns=["campaign_id", "customer_id"])
    homes = pd.Series([f"h{k // 2}" for k in range(400)], index=[f"c{k:04}" for k in range(400)])
    found = check_campaigns(contacts, empty, spans, households=homes)["summer"]
    assert found.checks[-1].reason == "households_split" and found.passes
    assert "households_split" in found.unchecked
    assert check_campaigns(contacts, empty, spans)["summer"].checks[-1].name == "balance"
