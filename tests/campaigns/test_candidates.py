"""The list among all customers: today's features, who is like the tested, and whom one may reach."""

import datetime as dt
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis import campaigns
from analysis.campaigns.candidates import like_tested, list_candidates
from analysis.campaigns.outcomes import campaign_panel, windows
from analysis.reporting.numbers import Formatter

WORDS = campaigns.Words(Formatter("en", "USD"), "client", "clients")
SETTINGS = campaigns.Settings(pre_periods=2)
MARGIN = SimpleNamespace(value=0.5, low=0.5, high=0.5)
BLOCKS = ("spend", "purchase_days", "discount")


def history(n, rng, name):
    """Two periods of buying, of customers named ``name``."""
    frame = pd.DataFrame({"customer_id": [f"{name}{k:05}" for k in range(n)]})
    for k in (1, 2):
        days = rng.poisson(1.0, n)
        frame[f"spend_before_{k}"] = days * rng.gamma(2.0, 10.0, n)
        frame[f"purchase_days_before_{k}"] = days
        frame[f"discount_before_{k}"] = 0.0
    return frame.assign(earlier_contacts=rng.integers(0, 3, n), running_contacts=0, earlier_redeemed=0)


def letter_of(n, rng):
    """A campaign that moves those who bought lately, and puts off the others."""
    frame = history(n, rng, "t")
    treated = rng.random(n) < 0.5
    moved = np.where(frame["spend_before_1"] > 0, 12.0, -6.0)
    spend = np.maximum(0, 20 + rng.normal(0, 8, n) + treated * moved)
    frame = frame.assign(campaign_id="letter", arm=np.where(treated, "mail", "control"), treated=treated.astype(int))
    return frame.assign(spend=spend, purchase_days=(spend > 20).astype(int), discount=0.0, redeemed=pd.NA)


SPANS = pd.DataFrame({"campaign_id": ["letter"], "label": ["Letter"], "design": "randomised", "complete_periods": 2})
SPANS = SPANS.assign(
    pre_days=28, starts_on=dt.date(2024, 6, 1), days=28, reason=None, cost_per_contact=1.0, offer_cost=np.nan
)
SENT = pd.DataFrame({"campaign_id": ["letter"], "channel": ["email"]})


@pytest.fixture(scope="module")
def panel():
    return letter_of(3000, np.random.default_rng(1))


def plan_of(panel, candidates, **target):
    wanted = campaigns.TargetingSettings(seed=2, **target)
    given = panel, SPANS, ["letter"], SENT, SETTINGS, None, None, None, MARGIN, None
    plans, _, reason = campaigns.run_plans(*given, target=wanted, candidates=candidates, contact_cap=3)
    assert reason is None
    return plans["letter"]


def test_features_of_today_are_those_of_a_campaign_that_starts_tomorrow(company):
    campaigns_, lines, contacts = company.simulate("randomised", 5.0)
    start = dt.date(2024, 11, 4)
    later = campaigns_.assign(campaign_id="later", name="Later", starts_on=start, ends_on=start + dt.timedelta(days=27))
    both = windows(pd.concat([campaigns_, later]), company.FROM, company.TO)
    ids = [f"c{k:04}" for k in range(400)]
    sent = contacts.union(company.contact_table([("later", c, "mail", None) for c in ids]))
    there = campaign_panel(lines, sent, both, 3).query("campaign_id == 'later'").reset_index(drop=True)
    first = windows(campaigns_, company.FROM, company.TO)
    people = pd.DataFrame(
        {"customer_id": [*ids, "new"], "consent_email": True, "universal_holdout": ["yes", *["no"] * 400]}
    )
    found = list_candidates(lines, contacts, first, people, start - dt.timedelta(days=1), 3, cap_days=120)
    names = [f"{block}_before_{k}" for block in BLOCKS for k in (1, 2, 3)]
    names += ["earlier_contacts", "running_contacts", "earlier_redeemed"]
    assert (found["customer_id"] == [*ids, "new"]).all()
    np.testing.assert_allclose(found.loc[:399, names].to_numpy(float), there[names].to_numpy(float))
    assert (found.loc[400, names] == 0).all() and found["held_out"].sum() == 1
    # The letters of 1 August lie 95 days back.
    assert found["recent_contacts"].sum() == found["earlier_contacts"].sum() > 100
    short = list_candidates(lines, contacts, first, None, start - dt.timedelta(days=1), 3, cap_days=90)
    assert short["recent_contacts"].sum() == 0 and len(short) == 400 and not short["held_out"].any()


def test_likeness_is_the_ratio_of_the_densities():
    rng = np.random.default_rng(0)
    old, new = rng.normal(0, 1, 40_000), rng.normal(1, 1, 20_000)
    found = like_tested(pd.DataFrame({"x": old}), pd.DataFrame({"x": new}))
    truth = np.exp(0.5 - new)
    middle = np.abs(new) < 2
    np.testing.assert_allclose(found.likeness[middle], truth[middle], rtol=0.15)
    assert not found.inside[truth < 0.07].any() and found.inside[(truth > 0.15) & (new < old.max())].all()
    assert found.beyond["x"] == pytest.approx(((new > old.max()) | (new < old.min())).mean())
    with pytest.raises(ValueError, match="lack what was learnt from: x"):
        like_tested(pd.DataFrame({"x": old}), pd.DataFrame({"y": new}))


def test_counts_that_only_grow_are_taken_at_the_highest_tested():
    rng = np.random.default_rng(0)
    old = pd.DataFrame({"spend_1": rng.random(500), "earlier_contacts": rng.integers(0, 3, 500)})
    new = pd.DataFrame({"spend_1": [0.5, 0.5, 2.0], "earlier_contacts": [1, 9, 1]})
    found = like_tested(old, new)
    assert found.inside.tolist() == [True, True, False]
    assert found.features["earlier_contacts"].tolist() == [1, 2, 1]
    assert found.beyond["earlier_contacts"] == pytest.approx(1 / 3)


def test_the_list_follows_what_all_customers_are_today(panel):
    rng = np.random.default_rng(3)
    people = history(4000, rng, "n").assign(consent_email=True, held_out=False, recent_contacts=0)
    plan = plan_of(panel, people)
    assert plan.compared.kind == "policy" and plan.overlap is not None
    targets = plan.found.targets
    assert targets["customer_id"].str.startswith("n").all()  # nobody of the tested is a candidate here
    lately = people.set_index("customer_id")["spend_before_1"] > 0
    listed = targets[targets["listed"]]
    assert lately[listed["customer_id"]].mean() > 0.9 > lately.mean() + 0.2
    assert listed["holdout"].sum() == round(0.1 * len(listed))
    assert (~targets["listed"] & targets["holdout"]).any() and (~targets["listed"] & ~targets["holdout"]).any()
    # Sales of 12 more, half of it margin, less a contact, for those who bought lately.
    assert listed["expected_incremental_profit"].mean() == pytest.approx(5.0, abs=1.0)


def test_a_list_for_all_alike_promises_what_candidates_are_worth_and_not_what_the_tested_were():
    rng = np.random.default_rng(8)
    n = 4000
    frame = history(n, rng, "t").assign(spend_before_1=np.where(rng.random(n) < 0.8, 50.0, 0.0))
    frame["purchase_days_before_1"] = (frame["spend_before_1"] > 0).astype(int)
    treated = rng.random(n) < 0.5
    # Both kinds pay, so all are treated alike; but the many who bought lately pay more.
    gain = np.where(frame["spend_before_1"] > 0, 14.0, 4.0)
    spend = 20 + rng.normal(0, 8, n) + treated * gain
    frame = frame.assign(campaign_id="letter", arm=np.where(treated, "mail", "control"), treated=treated.astype(int))
    frame = frame.assign(spend=spend, purchase_days=(spend > 20).astype(int), discount=0.0, redeemed=pd.NA)
    people = history(3000, rng, "n").assign(consent_email=True, held_out=False, recent_contacts=0)
    people["spend_before_1"] = np.where(rng.random(3000) < 0.2, 50.0, 0.0)
    people["purchase_days_before_1"] = (people["spend_before_1"] > 0).astype(int)
    plan = plan_of(frame, people)
    assert plan.compared.kind == "arm"
    told = campaigns.list_finding(plan, None, WORDS)
    truth = (0.2 * 14 + 0.8 * 4) * 0.5 - 1
    assert told["low"] < told["listed"] * truth < told["high"]
    assert plan.compared.row("all: mail")["low"] > truth + 1  # among the tested it was worth more
    each = plan.found.targets.loc[plan.found.targets["listed"], "expected_incremental_profit"]
    assert each.sum() == pytest.approx(told["value"])


def test_consent_cap_holdout_and_likeness_each_shut_out(panel):
    rng = np.random.default_rng(4)
    people = history(2000, rng, "n").assign(consent_email=True, held_out=False, recent_contacts=0)
    people.loc[:199, "held_out"] = True
    people.loc[200:399, "recent_contacts"] = 3
    people.loc[400:599, "consent_email"] = False
    people.loc[600:799, "spend_before_1"] = 1e5
    people.loc[:, "consent_email"] = people["consent_email"].astype("boolean")
    plan = plan_of(panel, people)
    told = campaigns.list_finding(plan, None, WORDS)
    assert (told["held_out"], told["contact_cap"], told["no_consent"]) == (200, 200, 200)
    assert 200 <= told["unlike_tested"] <= 220 and told["everybody"] and told["unlike"] >= 0.1
    assert told["candidates"] == 2000 and told["more_contacts"] == 0.0
    shut = set(people.loc[:799, "customer_id"])
    assert not shut & set(plan.found.targets["customer_id"])


def test_a_budget_is_kept_among_all_and_split_over_as_many(panel):
    rng = np.random.default_rng(5)
    people = history(6000, rng, "n").assign(consent_email=True, held_out=False, recent_contacts=0)
    plan = plan_of(panel, people, budget=500.0)
    told = campaigns.list_finding(plan, None, WORDS)
    assert told["cost"] <= 500.0 and told["listed"] == 500
    # The tested are 3,000: the same money for each is half of it.
    assert plan.compared.row("policy")["treated"] == pytest.approx(250 / 3000, abs=1e-3)


def test_an_arm_too_small_to_learn_from_does_not_stop_the_plan(panel):
    few = panel.copy()
    few.loc[few.index[:5], "arm"] = "phone"
    people = pd.DataFrame({"customer_id": few["customer_id"], "consent_email": True})
    given = few, SPANS, ["letter"], SENT, SETTINGS, None, None, people, MARGIN, None
    plans, _, reason = campaigns.run_plans(*given, target=campaigns.TargetingSettings(seed=2))
    assert reason is None and len(plans["letter"].money.profit) == 2995
    assert campaigns.list_finding(plans["letter"], None, WORDS)["everybody"] is False
