"""Channels and pressure: counts, clustered intervals, and caps that rest on a lot."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.campaigns import pressure
from analysis.campaigns.effects import EstimationError
from analysis.campaigns.response import clustered_share

DAY = dt.date(2024, 3, 1)
ARMS = {"control": 0, "some": 2, "many": 8}
SCHEMA = {
    "campaign_id": "string",
    "customer_id": "string",
    "arm": "string",
    "contacted_on": "date",
    "channel": "string",
    "converted": "boolean",
    "unsubscribed": "boolean",
}


def contact_table(rows):
    """Contacts from (campaign_id, customer_id, arm, contacted_on, channel, converted, unsubscribed) rows."""
    return ibis.memtable(pd.DataFrame(rows, columns=list(SCHEMA)).astype(object), schema=SCHEMA)


def span_table(*rows):
    """Spans from (campaign_id, starts_on, days, design) rows."""
    frame = pd.DataFrame(rows, columns=["campaign_id", "starts_on", "days", "design"])
    frame["ends_on"] = [s + dt.timedelta(days=d - 1) for s, d in zip(frame["starts_on"], frame["days"], strict=True)]
    return frame


def test_rates_and_intervals_equal_those_from_single_rows():
    rng = np.random.default_rng(1)
    who = rng.integers(0, 60, 400).astype(str)
    eager = rng.random(60) ** 3
    bought = rng.random(400) < eager[who.astype(int)]
    left = np.where(rng.random(400) < 0.5, None, rng.random(400) < 0.1)
    rows = [
        ("m", w, "mail", DAY, "post", bool(b), None if x is None else bool(x))
        for w, b, x in zip(who, bought, left, strict=True)
    ]
    funnel = pressure.channel_funnel(contact_table(rows), span_table(("m", DAY, 28, "observational"))).set_index(
        "stage"
    )
    for stage, values in (("converted", bought), ("unsubscribed", left)):
        known = np.array([v is not None for v in values])
        share, low, high = clustered_share(values[known].astype(float), who[known])
        assert funnel.loc[stage, ["rate", "low", "high"]].tolist() == pytest.approx([share, low, high])
        assert funnel.loc[stage, "known"] == known.sum()
    assert (funnel["sent"] == 400).all()
    wilson = pressure.wilson_interval(bought.sum(), 400)
    assert funnel.loc["converted", "high"] - funnel.loc["converted", "low"] > 1.3 * float(wilson[1] - wilson[0])


def test_nobody_everybody_and_one_customer():
    spans = span_table(("m", DAY, 28, "observational"))
    rows = [("m", f"c{i}", "mail", DAY, "post", True, False) for i in range(30)]
    funnel = pressure.channel_funnel(contact_table(rows), spans).set_index("stage")
    assert funnel.loc["converted", ["rate", "high"]].tolist() == [1, 1]
    assert funnel.loc["converted", "low"] < 0.9
    assert funnel.loc["unsubscribed", ["rate", "low"]].tolist() == pytest.approx([0, 0])
    one = pressure.channel_funnel(contact_table(rows[:1]), spans)
    assert (one["high"] - one["low"] > 0.5).all()


def test_control_and_untargeted_are_not_sent_anything_and_dates_fall_back_to_the_start():
    rows = [("m", "a", "mail", None, None, True, None), ("m", "b", "control", None, "post", None, None)]
    messages = pressure.dated_contacts(contact_table(rows), span_table(("m", DAY, 28, "randomised"))).to_pandas()
    assert messages["customer_id"].tolist() == ["a"]
    assert messages["channel"].tolist() == ["unknown"]
    assert pd.to_datetime(messages["sent_on"]).dt.date.tolist() == [DAY]


def test_pressure_counts_the_days_before_and_not_the_same_day():
    spans = span_table(("m", DAY, 28, "observational"), ("n", DAY, 28, "observational"))
    days = (0, 0, 90, 91, 200)
    rows = [("m", "a", "mail", DAY + dt.timedelta(days=d), "post", d == 90, None) for d in days]
    rows += [("n", "b", "mail", DAY + dt.timedelta(days=5), "post", False, None)]
    found = pressure.contact_pressure(contact_table(rows), spans, days=90, most=2).set_index("earlier")
    # Day 90 sees both of day 0; day 91 sees only the one of day 90 (both of day 0 are 91 days back).
    assert found["known"].to_dict() == {0: 4, 1: 1, 2: 1}
    assert found["count"].to_dict() == {0: 0, 1: 0, 2: 1}


def test_months_are_counted_apart():
    spans = span_table(("m", DAY, 28, "observational"))
    rows = [("m", f"c{i}", "mail", DAY + dt.timedelta(days=20 * i), "post", i == 3, None) for i in range(4)]
    found = pressure.funnel_over_time(contact_table(rows), spans)
    assert found["known"].tolist() == [2, 2]
    assert pd.to_datetime(found["month"]).dt.month.tolist() == [3, 4]
    assert found["count"].tolist() == [0, 1]


def test_overlap_between_campaigns():
    rows = [("x", c, "mail", DAY, "post", None, None) for c in "abcd"]
    rows += [("y", c, "mail", DAY, "post", None, None) for c in "cd"] + [("y", "a", "control", None, None, None, None)]
    rows += [("z", "d", "mail", DAY, "post", None, None)]
    spans = span_table(("x", DAY, 28, "observational"), ("y", DAY + dt.timedelta(days=27), 10, "observational"))
    spans = pd.concat([spans, span_table(("z", DAY + dt.timedelta(days=28), 5, "observational"))], ignore_index=True)
    found = pressure.shared_customers(contact_table(rows), spans).set_index(["campaign_id", "other"])
    assert found.loc[("x", "y"), ["customers", "share", "together"]].tolist() == [2, 0.5, True]
    assert found.loc[("y", "x"), "share"] == 1
    assert found.loc[("x", "z"), ["customers", "together"]].tolist() == [1, False]
    assert found.loc[("z", "y"), "together"]


def drawn(rng, customers=3_000, effects=(0.0, 10.0, 11.0), leave=(0.0, 0.01, 0.1)):
    """Spend, arm, unsubscribing and earlier spend of customers whose number of messages was drawn by lot."""
    code = rng.integers(0, 3, customers)
    before = rng.gamma(2, 20, customers)
    spend = before + rng.normal(0, 10, customers) + np.array(effects)[code]
    return spend, np.array(list(ARMS), dtype=object)[code], rng.random(customers) < np.array(leave)[code], before


def test_the_cap_stops_where_more_messages_lose_more_than_they_earn():
    spend, arm, left, before = drawn(np.random.default_rng(2))
    money = {"margin": 0.5, "message_cost": 0.1, "consent_value": 30.0}
    found = pressure.frequency_test(spend, arm, ARMS, left, before, **money)
    assert (found.cap, found.best_arm, found.clear) == (2, "some", True)
    table = found.arms.set_index("arm")
    assert table.loc["some", "low"] < 10 < table.loc["some", "high"]
    assert table.loc["many", "unsubscribed"] == pytest.approx(0.1, abs=0.02)
    assert table.loc["some", "profit_low"] < 0.5 * 10 - 0.2 - 0.3 < table.loc["some", "profit_high"]
    assert found.steps[["fewer", "more"]].to_numpy().tolist() == [["control", "some"], ["some", "many"]]
    assert found.steps["high"].iloc[1] < 0


def test_the_cap_rises_where_more_messages_pay_and_stays_low_where_nothing_does():
    spend, arm, left, before = drawn(np.random.default_rng(3), effects=(0, 5, 12), leave=(0, 0, 0))
    assert pressure.frequency_test(spend, arm, ARMS, left, before).cap == 8
    spend, arm, left, before = drawn(np.random.default_rng(4), effects=(0, 0, 0))
    nothing = pressure.frequency_test(spend, arm, ARMS, left, before, message_cost=0.5)
    assert (nothing.cap, nothing.clear) == (2, False)


def test_the_cap_is_seldom_too_high_by_chance():
    rng = np.random.default_rng(5)
    runs = 200
    too_high = sum(
        pressure.frequency_test(*(lambda d: (d[0], d[1], ARMS, d[2]))(drawn(rng, 300, (0, 5, 5), (0, 0, 0)))).cap == 8
        for _ in range(runs)
    )
    assert too_high / runs <= 0.025 + 4 * np.sqrt(0.025 * 0.975 / runs)


def test_a_frequency_test_needs_a_comparison_and_two_numbers():
    spend, arm, left, _ = drawn(np.random.default_rng(6), 90)
    for arms in ({"some": 2, "many": 8}, {"control": 0, "some": 2}, {"control": 0, "some": 0, "many": 8}):
        with pytest.raises(EstimationError) as error:
            pressure.frequency_test(spend, arm, arms, left)
        assert error.value.code == "no_frequency"


def test_a_precaution_without_a_lot():
    bands = pd.DataFrame({"stage": "unsubscribed", "earlier": [0, 1, 2, 3], "low": [0.01, 0.01, 0.03, 0.02]})
    bands["high"] = bands["low"] + 0.01
    assert pressure.precautionary_cap(bands) == 2
    assert pressure.precautionary_cap(bands[bands["earlier"] < 2]) is None
    assert pressure.precautionary_cap(bands.assign(stage="opened")) is None
    assert pressure.precautionary_cap(bands[bands["earlier"] > 0]) is None


def satisfied(rng, customers=800, effect=5.0):
    """A randomised campaign that a survey follows; some customers answer twice."""
    arms = np.where(rng.random(customers) < 0.5, "mail", "control")
    rows = [("m", f"c{i}", a, DAY, "post", None, None) for i, a in enumerate(arms)]
    who = np.r_[np.arange(customers), np.arange(customers // 4)]
    score = 60 + effect * (arms[who] == "mail") + rng.normal(0, 15, customers)[who]
    days = [DAY + dt.timedelta(days=int(d)) for d in rng.integers(0, 60, len(who))]
    answers = pd.DataFrame({"customer_id": [f"c{i}" for i in who], "responded_on": days, "score": score})
    return contact_table(rows), answers


def test_satisfaction_by_arm_counts_a_customer_once():
    contacts, answers = satisfied(np.random.default_rng(7))
    spans = span_table(("m", DAY, 28, "randomised"), ("o", DAY, 28, "observational"))
    row = pressure.satisfaction_by_arm(contacts, spans, answers).iloc[0]
    assert row["answered"] + row["compared"] == 800
    assert row["low"] < 5 < row["high"]
    assert row["reason"] is None
    assert row["p_adjusted"] == row["p_value"] < 0.01
    once = answers.drop_duplicates("customer_id")
    same = pressure.satisfaction_by_arm(contacts, spans, once.assign(weight=2.0)).iloc[0]
    assert same[["difference", "low", "high"]].tolist() == pytest.approx(row[["difference", "low", "high"]].tolist())
    halved = once.assign(weight=np.where(np.arange(len(once)) % 2, 1.0, 0.0))
    assert pressure.satisfaction_by_arm(contacts, spans, halved).iloc[0][["answered", "compared"]].sum() == 400


def test_satisfaction_is_told_of_the_surest_arm_and_only_where_a_survey_says_who_and_when():
    contacts, answers = satisfied(np.random.default_rng(5))
    spans = span_table(("m", DAY, 28, "randomised")).assign(label="Letters")
    table = pressure.satisfaction_by_arm(contacts, spans, answers)
    facts = pressure.satisfaction_facts(table, spans)
    assert (
        facts["clear"]
        and facts["fair"]
        and facts["value"] == table["difference"].item()
        and facts["label"] == "Letters"
    )
    assert (
        pressure.satisfaction_facts(pressure.satisfaction_by_arm(contacts, spans, answers.head(20)), spans)["code"]
        == "too_few"
    )
    assert pressure.satisfaction_facts(None, spans)["code"] == "no_survey"

    responses = answers.drop(columns="score").assign(response_id=[f"r{k}" for k in range(len(answers))])
    loyalty = pd.DataFrame({"response_id": responses["response_id"], "satisfaction": answers["score"].to_numpy()})
    joined = pressure.survey_scores(responses, loyalty.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(pressure.satisfaction_by_arm(contacts, spans, joined), table)
    assert pressure.survey_scores(responses.assign(customer_id=None), loyalty) is None
    assert (
        pressure.survey_scores(responses, loyalty.drop(columns="satisfaction")) is None
        and pressure.survey_scores(None, loyalty) is None
    )


def test_satisfaction_intervals_cover():
    rng = np.random.default_rng(8)
    spans = span_table(("m", DAY, 28, "randomised"))
    covered = 0
    for _ in range(20):
        contacts, answers = satisfied(rng, 120)
        answers["weight"] = rng.gamma(4, 0.25, len(answers))
        row = pressure.satisfaction_by_arm(contacts, spans, answers, least=10).iloc[0]
        covered += row["low"] <= 5 <= row["high"]
    assert covered / 20 >= 0.95 - 4 * np.sqrt(0.05 * 0.95 / 20)


def test_satisfaction_without_answers_or_all_alike():
    contacts, answers = satisfied(np.random.default_rng(9), 200)
    spans = span_table(("m", DAY, 28, "randomised"))
    before = answers.assign(responded_on=DAY - dt.timedelta(days=1))
    row = pressure.satisfaction_by_arm(contacts, spans, before).iloc[0]
    assert (row["reason"], row["answered"]) == ("too_few", 0)
    alike = pressure.satisfaction_by_arm(contacts, spans, answers.assign(score=7.0)).iloc[0]
    assert (alike["difference"], alike["p_value"]) == (0, 1)


def panel_of(rng, campaign_id="f"):
    spend, arm, left, before = drawn(rng)
    names = [f"c{i}" for i in range(len(spend))]
    panel = pd.DataFrame({"campaign_id": campaign_id, "customer_id": names, "arm": arm, "spend": spend})
    panel["spend_before_1"] = before
    rows = [
        (campaign_id, n, a, DAY, "email", bool(s > 40), None if a == "control" else bool(x))
        for n, a, s, x in zip(names, arm, spend, left, strict=True)
    ]
    return panel, contact_table(rows)


def test_a_report_with_a_tested_cap():
    panel, contacts = panel_of(np.random.default_rng(10))
    money = {"margin": 0.5, "message_cost": 0.1, "consent_value": 30.0}
    spans = span_table(("f", DAY, 56, "randomised"))
    report, reason = pressure.run_pressure(contacts, spans, panel, {"f": ARMS}, **money)
    assert reason is None
    caps = report.caps().iloc[0]
    assert (caps["messages"], caps["days"], caps["causal"], caps["reason"]) == (2, 56, True, "tested")
    facts = report.facts()
    assert (facts["cap"], facts["cap_days"], facts["most"]) == (2, 56, 8)
    assert facts["most_unsubscribed"] > facts["unsubscribed"]
    assert facts["messages"] == (panel["arm"] != "control").sum()


def test_a_frequency_that_nobody_drew_is_not_called_causal():
    panel, contacts = panel_of(np.random.default_rng(11))
    spans = span_table(("f", DAY, 56, "observational"))
    report, _ = pressure.run_pressure(contacts, spans, panel, {"f": ARMS})
    assert report.tests == {}
    caps = report.caps().iloc[0]
    assert (caps["causal"], caps["reason"]) == (False, "unknown")
    assert pd.isna(caps["messages"])


def test_reasons_instead_of_a_report():
    spans = span_table(("m", DAY, 28, "observational"))
    nothing = contact_table([("m", "a", "control", None, None, None, None)])
    assert pressure.run_pressure(nothing, spans, pd.DataFrame()) == (None, "no_contacts")
    unknown = contact_table([("m", "a", "mail", DAY, "post", None, None)])
    assert pressure.run_pressure(unknown, spans, pd.DataFrame()) == (None, "no_stages")
    assert pressure.run_pressure(unknown, spans.iloc[:0], pd.DataFrame()) == (None, "no_contacts")
