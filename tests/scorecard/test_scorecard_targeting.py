"""The next list against lists that know: hand-made effects, the oracle by brute force, and how little a blind list finds."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from analysis import scorecard
from analysis.reporting.numbers import Formatter

SPANS = pd.DataFrame({"campaign_id": ["a", "b"], "cost_per_contact": [2.0, np.nan], "offer_cost": [1.0, np.nan]})
KINDS = ["persuadable", "persuadable", "sleeping_dog", "sure_thing", "lost_cause"]


@pytest.fixture
def effects():
    """Five members, a letter and a coupon of 5; the same people in another campaign, without effects."""
    letter = [20.0, 0.0, -10.0, 0.0, 0.0]
    coupon = [35.0, 15.0, -10.0, -5.0, 0.0]
    off = [5.0, 5.0, 0.0, 5.0, 0.0]
    rows = [("a", f"C{k}", "letter", letter[k], 0.0) for k in range(5)]
    rows += [("a", f"C{k}", "coupon", coupon[k], off[k]) for k in range(5)]
    rows += [("b", f"C{k}", "letter", 0.0, 0.0) for k in range(2)]
    return pd.DataFrame(rows, columns=["campaign_id", "customer_id", "arm", "spend_effect", "coupon"])


@pytest.fixture
def persons():
    return pd.DataFrame({"customer_id": [f"C{k}" for k in range(5)], "responsiveness": KINDS})


@pytest.fixture
def words():
    return scorecard.Words(Formatter("en", "CNY"))


def listing(*pairs, off=()):
    rows = [(who, offer, True) for who, offer in pairs] + [(who, offer, False) for who, offer in off]
    return pd.DataFrame(rows, columns=["customer_id", "offer", "listed"])


def test_gains_are_margin_at_full_price_less_what_it_took(effects, persons):
    true = scorecard.true_gains(effects, listing(("C0", "letter"), ("C2", "coupon")), SPANS, persons, 0.5)
    assert (true.campaign_id, true.arms, list(true.kind)) == ("a", ["coupon", "letter"], KINDS)
    # A coupon of 5 takes 5 and 1 of handling beside 2 of contact; goods cost half of the full price.
    assert true.profit[:, 0].tolist() == [0.5 * 40 - 8, 0.5 * 20 - 8, -0.5 * 10 - 2, -8, -2]
    assert true.profit[:, 1].tolist() == [8, -2, -7, -2, -2]
    assert true.cost[:, 0].tolist() == [8, 8, 2, 8, 2]
    assert scorecard.true_gains(effects, listing(("C0", "call")), SPANS, persons, 0.5) is None


def test_the_list_stands_between_nobody_and_the_oracle(effects, persons):
    targets = listing(("C0", "letter"), ("C2", "letter"), ("X9", "letter"), off=[("C1", "coupon")])
    true = scorecard.true_gains(effects, targets, SPANS, persons, 0.5)
    table = scorecard.list_table(true, targets).set_index("policy")
    best = max(
        sum(true.profit[i, j] for i, j in enumerate(arms) if j is not None) for arms in product([None, 0, 1], repeat=5)
    )
    assert table.loc["oracle", "profit"] == best == 14 and table.loc["oracle", "reached"] == 2
    own = table.loc["list"]
    assert (own["reached"], own["profit"], own["persuadables"], own["sleeping_dogs"]) == (2, 1, 1, 1)
    assert (own["precision"], own["recall"], own["share"]) == (0.5, 0.5, 1 / 14)
    # As many letters dealt at random: two fifths of everybody.
    chance = table.loc["random"]
    assert chance["profit"] == pytest.approx(0.4 * table.loc["all: letter", "profit"]) and chance["profit"] == -2
    assert chance["precision"] == pytest.approx(0.4) and chance["recall"] == pytest.approx(0.4)
    assert table.loc["nobody", "profit"] == 0 and np.isnan(table.loc["nobody", "precision"])
    # Of the two persuadables the coupon earns 7 on average, the letter 3; nobody else pays.
    assert (table.loc["kinds", "profit"], table.loc["kinds", "reached"]) == (14, 2)


def test_a_list_of_everybody_is_told_once(effects, persons, words):
    targets = listing(*[(f"C{k}", "letter") for k in range(5)])
    table = scorecard.list_table(scorecard.true_gains(effects, targets, SPANS, persons, 0.5), targets)
    facts = scorecard.list_facts(table, scorecard.ranking_table(None, effects))
    assert facts["all_reached"] and (facts["kinds"], facts["kinds_reached"]) == (14, 2)
    shown = scorecard.list_for_people(table, words)
    assert shown["name"].tolist() == [
        "Nobody", "Coupon for all", "The list: everybody", "Whoever knows the kinds", "Whoever knows every effect",
    ]  # fmt: skip
    text = words("list", **facts)
    assert "The list is everybody, 5 customers" in text and "at random" not in text
    some = listing(("C0", "letter"), ("C2", "letter"))
    part = scorecard.list_table(scorecard.true_gains(effects, some, SPANS, persons, 0.5), some)
    assert not scorecard.list_facts(part, scorecard.ranking_table(None, effects))["all_reached"]
    assert len(scorecard.list_for_people(part, words)) == len(part)


def test_a_budget_binds_the_oracle_too(effects, persons):
    targets = listing(("C0", "letter"))
    true = scorecard.true_gains(effects, targets, SPANS, persons, 0.5)
    table = scorecard.list_table(true, targets, budget=2.0).set_index("policy")
    assert (table.loc["oracle", "profit"], table.loc["oracle", "cost"]) == (8, 2)
    assert table.loc["list", "share"] == 1


def test_where_nothing_pays_there_is_no_share(effects, persons):
    targets = listing(("C0", "letter"))
    true = scorecard.true_gains(effects.assign(spend_effect=0.0, coupon=0.0), targets, SPANS, persons, 0.5)
    table = scorecard.list_table(true, targets)
    assert table["share"].isna().all() and table.set_index("policy").loc["oracle", "reached"] == 0
    facts = scorecard.list_facts(table, scorecard.ranking_table(None, effects))
    assert (facts["profit"], facts["share"], facts["ranked"]) == (-2, None, None)


def test_facts_of_the_list_and_without_one(effects, persons):
    targets = listing(("C0", "letter"), ("C2", "letter"))
    true = scorecard.true_gains(effects, targets, SPANS, persons, 0.5)
    table = scorecard.list_table(true, targets)
    rankings = pd.DataFrame(
        {"arm": ["a", "b", "a"], "score": ["t_logistic", "t_logistic", "told_truth"], "oracle_share": [0.1, 0.3, 0.5]}
    )
    facts = scorecard.list_facts(table, rankings)
    assert (facts["everybody"], facts["oracle"], facts["kinds"]) == (-3, 14, 14)
    assert (facts["precision"], facts["chance"], facts["dogs"], facts["dogs_chance"]) == (0.5, 0.4, 1, 0.4)
    assert facts["ranked"] == pytest.approx(0.2) and facts["reachable"] == 0.5
    said = {"value": 3.0, "low": 0.0, "high": 5.0}
    assert scorecard.list_entry(facts, said, targets, true, str)[1:] == (1, 3.0, 0.0, 5.0)
    beyond = listing(("C0", "letter"), ("never in the campaign", "letter"))
    assert scorecard.list_entry(facts, said, beyond, true, str) is None
    assert scorecard.score_list(effects, None, SPANS, persons, 0.5) == (None, None)
    nothing = scorecard.list_facts(None, rankings)
    assert nothing["profit"] is None and nothing["reachable"] == 0.5
