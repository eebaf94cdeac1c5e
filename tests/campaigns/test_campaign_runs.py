"""The longer analyses in one call each: on a simulated company, and why each says nothing where it cannot."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis import campaigns
from analysis.campaigns import runs
from analysis.reporting.numbers import Formatter

WORDS = campaigns.Words(Formatter("en", "USD"), "client", "clients")
SETTINGS = campaigns.Settings(pre_periods=2)
MARGIN = SimpleNamespace(value=0.4, low=0.3, high=0.5)
CONTACT = SimpleNamespace(value=1.0, low=0.5, high=2.0)


def panel_of(n, rng, effect=10.0, name="letter"):
    """One campaign drawn by lot, in which everybody reached spends ``effect`` more on average."""
    usual = rng.gamma(1.0, 20.0, n)
    treated = rng.random(n) < 0.5
    spend = rng.poisson(1.0, n) * usual + treated * rng.exponential(effect, n) * (rng.random(n) < 0.9) / 0.9
    frame = pd.DataFrame(
        {
            "campaign_id": name,
            "customer_id": [f"{name}{k}" for k in range(n)],
            "arm": np.where(treated, "mail", "control"),
            "treated": treated.astype(int),
            "redeemed": pd.array([pd.NA] * n, dtype="boolean"),
            "spend": spend,
            "purchase_days": (spend > 0).astype(int),
            "discount": 0.0,
        }
    )
    for k in (1, 2):
        before = rng.poisson(1.0, n) * usual
        frame[f"spend_before_{k}"] = before
        frame[f"purchase_days_before_{k}"] = (before > 0).astype(int)
        frame[f"discount_before_{k}"] = 0.0
    return frame.assign(earlier_contacts=0, running_contacts=0, earlier_redeemed=0)


def spans_of(*names, cost=1.0):
    return pd.DataFrame(
        {
            "campaign_id": names,
            "label": [name.capitalize() for name in names],
            "design": "randomised",
            "starts_on": [pd.Timestamp("2024-06-01").date()] * len(names),
            "days": 28,
            "complete_periods": 2,
            "pre_days": 28,
            "reason": None,
            "cost_per_contact": cost,
            "offer_cost": np.nan,
        }
    )


@pytest.fixture(scope="module")
def planned():
    """Two campaigns of which the first pays."""
    rng = np.random.default_rng(5)
    panel = pd.concat([panel_of(2500, rng), panel_of(2500, rng, effect=1.0, name="card")], ignore_index=True)
    spans = spans_of("letter", "card")
    target = campaigns.TargetingSettings(seed=2)
    people = pd.DataFrame({"customer_id": panel["customer_id"], "universal_holdout": "no"})
    given = pd.DataFrame({"campaign_id": ["letter", "card"], "channel": "post"}), SETTINGS, None, None, people, MARGIN
    return panel, spans, campaigns.run_plans(panel, spans, ["letter", "card"], *given, CONTACT, target=target)


def test_the_campaign_that_pays_comes_first_and_makes_the_list(planned):
    _, _, (plans, moved, reason) = planned
    assert reason is None and list(plans) == ["letter", "card"] and moved.campaign_id == "letter"
    first = plans["letter"]
    assert first.compared.kind == "arm" and first.found is not None
    table = campaigns.plan_table(plans, WORDS)
    assert list(table["name"]) == ["mail for all", "nobody"]
    truth = 0.4 * 10.0 - 1.0
    assert table.loc[0, "low"] < truth < table.loc[0, "high"]
    facts = campaigns.policy_finding(first, None, WORDS)
    assert facts["kind"] == "arm" and facts["recommended"] == "mail for all"
    assert "treat all alike" in WORDS("policy", **facts)
    listed = campaigns.list_finding(first, None, WORDS)
    assert listed["listed"] == 2500 and listed["held_inside"] > 0
    assert "should bring" in WORDS("target_list", **listed)
    nobody = campaigns.policy_finding(plans["card"], None, WORDS)
    assert nobody["value"] == 0.0 and nobody["reason"] and "leaving them alone" in WORDS("policy", **nobody)
    assert campaigns.list_finding(plans["card"], None, WORDS)["reason"]
    assert set(campaigns.policies_for_people(first.compared, WORDS)["name"]) >= {"mail for all", "nobody"}


def test_plans_take_the_analyses_that_are_there(planned):
    panel, spans, (_, moved, _) = planned
    given = pd.DataFrame({"campaign_id": ["letter"], "channel": "post"}), SETTINGS, None, None, None, MARGIN, CONTACT
    target = campaigns.TargetingSettings(seed=2)
    plans, again, reason = campaigns.run_plans(
        panel, spans, ["letter"], *given, target=target, analyses=({"letter": moved}, {})
    )
    assert list(plans) == ["letter"] and again is moved and reason is None
    none = campaigns.run_plans(panel, spans, ["letter"], *given, target=target, analyses=({}, {"letter": "too_few"}))
    assert none == ({}, None, "too_few")


def test_without_effects_that_differ_all_are_treated_alike(planned):
    *_, (_, moved, _) = planned
    told = campaigns.uplift_facts(moved, None)
    finding = campaigns.uplift_finding(moved, told, WORDS)
    assert finding["verdict"] == "alike" and "treat all alike" in WORDS("uplift", **finding)
    assert set(campaigns.score_names(moved, WORDS)) == set(moved.scores)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"margin": None}, "no_margin"),
        ({"contact": None, "cost": np.nan}, "no_contact_cost"),
        ({"sound": []}, "not_tested"),
        ({"panel": lambda p: p[p["arm"] == "mail"]}, "no_comparison"),
    ],
)
def test_why_there_is_no_plan(change, reason):
    panel = change.get("panel", lambda p: p)(panel_of(400, np.random.default_rng(1)))
    spans = spans_of("letter", cost=change.get("cost", 1.0))
    given = pd.DataFrame({"campaign_id": ["letter"]}), SETTINGS, None, None, None, change.get("margin", MARGIN)
    target = campaigns.TargetingSettings(seed=1)
    contact = change.get("contact", CONTACT)
    plans, _, why = campaigns.run_plans(panel, spans, change.get("sound", ["letter"]), *given, contact, target=target)
    assert plans == {} and why == reason
    assert campaigns.policy_finding(None, why, WORDS)["value"] is None
    unknown = campaigns.list_finding(None, why, WORDS)
    assert "no list" in WORDS("target_list", **unknown)


def test_arms_are_told_with_the_past_taken_into_account(planned):
    panel, spans, _ = planned
    table = campaigns.arm_effects(panel, spans, ["letter", "card"], 2, 0.95)
    sales = table[table["metric"] == "sales"].set_index("campaign_id")
    assert sales.loc["letter", "effect_low"] < 10 < sales.loc["letter", "effect_high"]
    facts = campaigns.arm_effect_facts(table)
    assert facts["arms"] == 2 and facts["clear"] >= 1 and 0 < facts["least"] <= facts["most"] < 1
    running = spans.assign(campaign_id=spans["campaign_id"].replace("card", "running"))
    alone = campaigns.arm_effects(panel, running, ["letter", "running"], 2, 0.95)
    assert set(alone["campaign_id"]) == {"letter"}
    assert set(campaigns.run_tails(panel, running, ["letter", "running"], 2)["label"]) == set(alone["label"])
    none = campaigns.arm_effects(panel, spans, [], 2, 0.95)
    assert none.empty and campaigns.arm_effect_facts(none)["least"] is None


def test_a_response_model_foretells_who_buys_and_is_not_called_an_effect(planned):
    panel, spans, _ = planned
    model, reason = campaigns.run_response_model(panel, spans, SETTINGS, MARGIN, CONTACT)
    assert reason is None
    said = WORDS("response_lift", **campaigns.lift_facts(model, None, WORDS))
    assert "not effect" in said
    few = panel.groupby("campaign_id").head(20)
    assert campaigns.run_response_model(few, spans, SETTINGS, MARGIN, CONTACT) == (None, "too_few")
    assert campaigns.lift_facts(None, "too_few", WORDS)["reason"] == "too few were contacted"


def test_reasons_in_place_of_coupons_and_a_ledger(planned):
    panel, spans, _ = planned
    assert campaigns.run_coupon_campaign(panel, spans, None, None, None, ["letter"], None, None)[2] == "no_margin"
    assert campaigns.run_coupon_campaign(panel, spans, None, None, None, ["letter"], MARGIN, None)[2] == "no_coupon"
    rest = None, spans, (), {}, SimpleNamespace(observed_from=None, observed_to=None)
    assert campaigns.run_year(None, None, *rest, MARGIN, CONTACT) == (None, "no_holdout")
    people = pd.DataFrame({"customer_id": ["a"], "universal_holdout": ["no"]})
    assert campaigns.run_year(None, people, *rest, MARGIN, CONTACT) == (None, "nobody_held_out")
    assert campaigns.run_year(None, people, *rest, None, CONTACT) == (None, "no_margin")
    told = campaigns.ledger_finding(None, "no_holdout", WORDS)
    assert "cannot be told" in WORDS("ledger", **told)


def test_every_reason_has_words():
    wanted = {
        "plan_reason": ("not_tested", "no_margin", "no_contact_cost"),
        "list_reason": ("not_tested", "no_margin", "no_contact_cost", "nobody", "nobody_reachable", "nothing_pays", "no_budget"),
        "uplift_reason": ("not_tested", "not_randomised", "no_outcome", "no_history", "no_comparison", "no_treated", "too_few"),
        "coupon_reason": ("no_coupon", "no_margin", "no_control", "redemption_unknown"),
        "ledger_reason": ("no_holdout", "nobody_held_out", "no_margin", "short", "too_few", "no_sales", "no_contact_cost"),
    }  # fmt: skip
    for kind, reasons in wanted.items():
        for reason in reasons:
            assert WORDS.name(kind, reason) != reason, f"{kind}_{reason}"
    assert runs.policy_name("all: face_20", WORDS) == "face 20 for all"
