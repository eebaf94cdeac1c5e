"""The longer analyses in one call each, on a simulated company, and why each says nothing where it cannot."""

from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis import loyalty
from analysis.loyalty import runs
from analysis.simulate.clock import START
from analysis.simulate.small import OBSERVED_TO, SmallCompany

CLOCK = SimpleNamespace(observed_from=START, observed_to=OBSERVED_TO)


@pytest.fixture(scope="module")
def company():
    return SmallCompany.draw("company", 3000, np.random.default_rng(11))


@pytest.fixture(scope="module")
def lines(company):
    days = company.days
    frame = pd.DataFrame(
        {
            "order_id": np.arange(len(days)).astype(str),
            "line_number": 1,
            "customer_id": days["customer_id"],
            "ordered_at": pd.to_datetime(days["order_date"]).dt.tz_localize("UTC"),
            "order_date": days["order_date"],
            "quantity": 1,
            "net_amount": days["spend"].round(2),
            "is_return": False,
        }
    )
    return ibis.duckdb.connect().create_table("order_lines", frame)


def cases_of(company, rng):
    """Complaints of a random tenth, some solved late."""
    some = rng.choice(company.customers["customer_id"], 1500)
    opened = pd.Timestamp(START) + pd.to_timedelta(rng.integers(0, 720, 1500), unit="D")
    waited = rng.choice([1.0, 3.0, 20.0], 1500)
    frame = pd.DataFrame({"customer_id": some, "opened_at": opened.tz_localize("UTC"), "kind": "complaint"})
    frame["resolved_at"] = frame["opened_at"] + pd.to_timedelta(waited, unit="D")
    return loyalty.service_cases(frame, OBSERVED_TO)


@pytest.fixture(scope="module")
def cases(company):
    return cases_of(company, np.random.default_rng(12))


def test_answers_are_weighed_to_those_who_had_bought(company, lines):
    found, reason = loyalty.weigh_answers(company.answers, lines, company.customers, "wave", ["age_band"])
    assert reason == "" and found.wave == "2"
    by_age = company.answers.merge(company.customers, on="customer_id").assign(weight=found.weights.to_numpy())
    second = by_age[by_age["wave"] == 2]
    margins = found.raked.margins
    wanted = margins[(margins["wave"] == "2") & (margins["variable"] == "age_band")].set_index("level")["base"]
    shares = second.groupby("age_band")["weight"].sum() / second["weight"].sum()
    np.testing.assert_allclose(shares[wanted.index], wanted, atol=1e-4)
    facts = loyalty.balance_facts(found)
    assert facts["apart"] >= 1 and facts["still"] < facts["apart"]  # the old answer more often: planted
    assert loyalty.propensity_facts(found)["low"] > 0.5
    assert [row["wave"] for row in loyalty.weighing_facts(found)] == ["1", "2"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answers": lambda a: a.drop(columns="customer_id")}, "no customer numbers"),
        ({"answers": lambda a: a.assign(customer_id=None)}, "no customer numbers"),
        ({"lines": None}, "no purchases"),
        ({"answers": lambda a: a.drop(columns="responded_on")}, "when the answers were given"),
        ({"attributes": []}, "which attributes"),
        ({"customers": None}, "no table of customers"),
    ],
)
def test_answers_are_not_weighed_without_what_it_takes(company, lines, change, reason):
    answers = change.get("answers", lambda a: a)(company.answers)
    order_lines = change.get("lines", lines)
    customers = change.get("customers", company.customers)
    found, why = loyalty.weigh_answers(answers, order_lines, customers, "wave", change.get("attributes", ["age_band"]))
    assert found is None and reason in why
    assert loyalty.weighing_facts(found) == []


def test_behaviour_for_the_index_comes_from_before_the_answer(company, lines, cases):
    scores = loyalty.index_behaviour(company.answers, lines, cases, 7.0)
    assert list(scores) == ["dealings", "service_outcome"] and scores.index.equals(company.answers.index)
    assert scores["dealings"].between(0, 100).mean() > 0.9
    assert list(loyalty.index_behaviour(company.answers, lines, None, 7.0)) == ["dealings"]
    assert loyalty.index_behaviour(company.answers, None, cases, 7.0) is None


def test_service_in_one_call(company, lines, cases):
    scores = company.answers[["satisfaction"]].assign(loyalty=company.answers["satisfaction"])
    found, reason = loyalty.run_service(cases, lines, company.answers, scores, CLOCK, reliability=0.8)
    assert reason == "" and list(found.table["kind"]) == ["complaint"]
    told = loyalty.hazard_facts(found.hazard)
    assert told["low"] <= 0 <= told["high"], "these complaints have nothing to do with satisfaction"
    facts = loyalty.service_facts(found)
    assert facts["kind"] == "complaint" and facts["per_thousand"] > 0
    again = loyalty.repeat_facts(found)
    assert again["share"] == pytest.approx(again["by_chance"], abs=0.06)
    assert found.repurchase["low"] <= 0 <= found.repurchase["high"]
    assert loyalty.recovery_facts(found)
    alone, _ = loyalty.run_service(cases, lines, company.answers, scores[["loyalty"]], CLOCK, reliability=0.8)
    assert alone.hazard is None and loyalty.hazard_facts(alone.hazard)["value"] is None
    assert loyalty.run_service(None, lines, company.answers, scores, CLOCK, reliability=0.8) == (
        None,
        "the study holds no service contacts",
    )
    assert loyalty.run_service(cases, None, company.answers, scores, CLOCK, reliability=0.8)[0] is None


def test_the_track_record_stands_beside_the_plain_rule(company, lines):
    scores = company.answers[["satisfaction"]].assign(
        loyalty_index=np.random.default_rng(3).uniform(0, 100, len(company.answers))
    )
    record, reason = loyalty.run_track_record(company.answers, scores, lines, CLOCK)
    assert reason == ""
    facts = loyalty.record_facts(record)
    assert facts["low"] < 0.5 < facts["high"] and facts["gain_high"] < 0 and facts["rule"] > 0.6
    assert loyalty.run_track_record(company.answers, scores, None, CLOCK)[0] is None


def test_referrals_say_why_not(company):
    groups = pd.Series("promoter", index=company.answers.index)
    rest = (None, CLOCK, (0.1, 0.3, 0.5))
    value = pd.DataFrame({"customer_id": company.customers["customer_id"], "clv": 10.0, "existing_value": 5.0})
    assert "who brought whom" in loyalty.run_referrals(company.answers, groups, company.customers, value, *rest)[1]
    assert "no purchases" in loyalty.run_referrals(company.answers, groups, company.customers, None, *rest)[1]
    assert "does not ask" in loyalty.run_referrals(company.answers, None, company.customers, value, *rest)[1]
    unknown = company.answers.drop(columns="customer_id")
    assert loyalty.run_referrals(unknown, groups, company.customers, value, *rest) == (None, runs.NO_CUSTOMERS)


def test_an_attribute_of_those_who_answered(company):
    trait = loyalty.trait_of(company.answers, company.customers, "age_band")
    known = company.customers.set_index("customer_id")["age_band"]
    assert (trait == known[company.answers["customer_id"]].to_numpy()).all() and trait.name == "age_band"
    assert loyalty.trait_of(company.answers, company.customers, "shoe_size") is None
    assert loyalty.trait_of(company.answers, None, "age_band") is None
    assert loyalty.trait_of(company.answers, company.customers, "") is None


def test_main_routes_keep_the_sums():
    routes = pd.DataFrame(
        {
            "effect": ["direct", *["specific indirect"] * 7, "total indirect", "total"],
            "route": list("abcdefghij"),
            "estimate": [0.2, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, 0.74, 0.94],
            "bca_low": 0.0,
            "bca_high": 1.0,
            "type": "complementary",
        }
    )
    named = loyalty.main_routes(routes).set_index("route")["estimate"]
    assert list(named.index) == ["Direct: a", *"bcdef", "All detours together", "Direct and detours together"]
    assert named.iloc[-2:].tolist() == [0.74, 0.94]
    facts = loyalty.mediation_facts(routes)
    assert (facts["route"], facts["direct"], facts["total"], facts["type"]) == ("b", 0.2, 0.94, "complementary")
    none = loyalty.mediation_facts(routes[routes["effect"] == "direct"])
    assert none["route"] is None and none["total"] is None


def test_a_reason_in_place_of_a_hazard():
    few = pd.DataFrame({"kind": ["complaint"], "reason": ["only 3 cases"]})
    assert loyalty.hazard_facts(few) == {"value": None, "reason": "only 3 cases"}
    assert "return" in loyalty.hazard_facts(few, "return")["reason"]
