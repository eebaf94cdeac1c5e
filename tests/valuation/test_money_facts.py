"""What the sections on money are filled with: counted by hand, hidden where few, refused with a reason."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from html import unescape
from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.valuation import (
    CHANNEL_COLUMNS,
    Estimate,
    audit_facts,
    categories_held,
    channel_facts,
    channels_for_people,
    cohort_facts,
    customer_summary,
    customer_value,
    equity_facts,
    fit_models,
    growth_facts,
    leaving_model,
    price_of_contact,
    profit_facts,
    recent_acquisition,
    run_audit,
    run_channels,
    run_cohorts,
    run_equity,
    run_growth,
    run_payback,
    run_profit,
    run_whale,
    with_profit_and_potential,
)
from analysis.valuation.equity import TELLS_LEAVING

START, END = dt.date(2023, 1, 1), dt.date(2024, 12, 31)
FMT = Formatter("en", "USD")
WORDS = {"customer": "customer", "customers": "customers"}


def sentence(key, **facts):
    plain = {name: None if fact != fact else fact for name, fact in facts.items()}  # as a step does
    return Sentences("02_customer_valuation", FMT).render(key, **(WORDS | plain))


def table(rows, **types):
    money, kinds = pa.decimal128(18, 4), {"text": pa.string(), "day": pa.date32(), "flag": pa.bool_()}
    fields = [(name, money if kind == "money" else kinds[kind]) for name, kind in types.items()]
    data = [dict(zip(types, row, strict=True)) for row in rows]
    return ibis.memtable(pa.Table.from_pylist(data, schema=pa.schema(fields)))


def lines_of(rows):
    """Rows of (customer, day since START, amount[, product])."""
    full = [
        (
            f"{row[0]}-{row[1]}",
            row[0],
            START + dt.timedelta(days=row[1]),
            Decimal(str(row[2])),
            row[2] < 0,
            [*row, "p"][3],
        )
        for row in rows
    ]
    kinds = {"order_id": "text", "customer_id": "text", "order_date": "day", "net_amount": "money", "is_return": "flag"}
    return table(full, **kinds, product_id="text")


def company(customers=300, seed=3):
    """Customers who come all through two years, buy at rates of their own, and leave."""
    rng, rows = np.random.default_rng(seed), []
    for k in range(customers):
        day, rate = int(rng.integers(0, 640)), rng.gamma(1.5, 0.02)
        gone = day + rng.exponential(400)
        while day < min(gone, 731):
            rows.append((f"{k:03d}", day, round(float(rng.gamma(4, 10)), 2), "pqr"[int(rng.integers(3))]))
            day += 1 + int(rng.exponential(1 / rate))
    return lines_of(rows)


LINES = company()
BASE = customer_summary(LINES, END, 0.3).to_pandas().sort_values("customer_id", ignore_index=True)
MODELS = fit_models(BASE)
SPAN = {"observed_from": START, "observed_to": END}
VALUE = customer_value(BASE, MODELS, None, horizon_weeks=52, **SPAN, margin_rate=0.3, discount_rate=0.1, draws=100)
PEOPLE = pd.DataFrame(
    {
        "customer_id": BASE["customer_id"],
        "acquisition_channel": np.where(np.arange(len(BASE)) % 3 == 0, "shop", "web"),
        "acquired_on": [END - dt.timedelta(days=int(age)) for age in BASE["T"]],
    }
)
MONTHS = [f"{year}-{month:02d}" for year in (2023, 2024) for month in range(1, 13)]
COSTS = pd.DataFrame(
    [
        (m, c, "acquire", Decimal(a + 10 * (k % 5)))
        for c, a in (("shop", 20), ("web", 90))
        for k, m in enumerate(MONTHS)
    ],
    columns=["period", "channel", "purpose", "amount"],
)


# -- profit ------------------------------------------------------------------------------------------------------------

SUMMARY = pd.DataFrame({"customer_id": ["a", "b"], "orders": [2, 1], "margin": [30.0, 1.0]})
BOUGHT = lines_of([("a", 0, 50), ("a", 40, 50), ("b", 10, 4)])
CAMPAIGNS = pd.DataFrame({"campaign_id": ["1", "2"], "starts_on": [START - dt.timedelta(days=9), START]})


def test_profit_takes_off_all_that_the_study_knows_and_no_contact_twice():
    day = START + dt.timedelta(days=3)
    rows = [("2", "a", "mail", day), ("2", "b", "mail", day), ("2", "z", "mail", day), ("2", "b", "control", day)]
    early = [("1", "a", "mail", START - dt.timedelta(days=9))]
    contacts = table(rows + early, campaign_id="text", customer_id="text", arm="text", contacted_on="day")
    books = pd.DataFrame([("2023-01", "mail", "retain", Decimal("12"))], columns=COSTS.columns)
    settings = {"cost_to_serve": 1.5, "contact_cost": 2.0, "contacts": contacts, "campaigns": CAMPAIGNS}
    found, reason = run_profit(BOUGHT, SUMMARY, START, END, **settings, marketing_costs=books)
    frame = found.frame.set_index("customer_id")
    assert reason == "" and frame.loc["a", ["cost_to_serve", "contact_cost", "retention_cost"]].tolist() == [3, 2, 3]
    assert frame["profit"].tolist() == pytest.approx([22.0, 1 - 1.5 - 2 - 3])
    assert found.unspread == pytest.approx(2.0)  # the contact of z, who has not bought
    assert found.acquisition_cost == 0.0
    won = pd.DataFrame(
        [(month, "mail", "acquire", Decimal("7")) for month in ("2022-12", "2023-01", "2025-01")], columns=COSTS.columns
    )
    told, _ = run_profit(BOUGHT, SUMMARY, START, END, **settings, marketing_costs=pd.concat([books, won]))
    facts = profit_facts(told, "", None)
    # only what was spent in the observed time, beside the profit and not in it
    assert facts["acquisition_cost"] == 7.0 and told.total == found.total
    assert facts["after_winning"] == pytest.approx(facts["total"] - 7.0)
    undated = contacts.drop("contacted_on")
    found, _ = run_profit(BOUGHT, SUMMARY, START, END, **(settings | {"contacts": undated}))
    assert found.frame["contact_cost"].tolist() == [2.0, 2.0]


def test_a_contact_costs_what_the_study_says_else_what_campaigns_paid():
    days = [START + dt.timedelta(days=d) for d in (-9, 3)]
    rows = [("1", "a", "mail", days[0]), *[("2", "a", "mail", days[1])] * 3, ("3", "b", "sms", days[1])]
    rows += [("2", "b", "control", days[1]), ("4", "b", "sms", days[1])]
    contacts = table(rows, campaign_id="text", customer_id="text", arm="text", contacted_on="day")
    prices = {"1": 90.0, "2": 1.0, "3": 3.0, "4": None}
    campaigns = pd.DataFrame({"campaign_id": list(prices), "cost_per_contact": list(prices.values())})
    # three at 1 and one at 3: not those before the observed days, of a control group, or of no known cost
    assert price_of_contact(None, contacts, campaigns, START, END) == (pytest.approx(1.5), "campaigns")
    assert price_of_contact(0.4, contacts, campaigns, START, END) == (0.4, "study")
    assert price_of_contact(0.0, contacts, campaigns, START, END) == (0.0, "study")
    unpriced = campaigns.assign(cost_per_contact=None)
    assert price_of_contact(None, contacts, unpriced, START, END) == (None, "")
    assert price_of_contact(None, None, None, START, END) == (None, "")


def test_profit_is_refused_without_a_margin_and_is_the_margin_without_costs():
    nothing, reason = run_profit(BOUGHT, SUMMARY.assign(margin=np.nan), START, END)
    assert nothing is None and "margin" in reason
    assert reason in sentence("no_profit", **profit_facts(nothing, reason, None))
    found, reason = run_profit(BOUGHT, SUMMARY, START, END)
    facts = profit_facts(found, reason, None)
    assert not facts["charged"] and "is the margin" in sentence("no_profit", **facts)


def test_few_losers_are_neither_counted_nor_drawn():
    def found(losers, n=100, loss=5.0):
        frame = pd.DataFrame(
            {"customer_id": map(str, range(n)), "orders": 1, "margin": [-loss] * losers + [10.0] * (n - losers)}
        )
        return run_profit(BOUGHT, frame, START, END, cost_to_serve=0.5)[0]

    def said(profit):
        facts = profit_facts(profit, "", run_whale(profit))
        return sentence("profit", value=facts["total"], **facts) + sentence("profit_note", **facts)

    assert run_whale(None) is None and run_whale(found(9)) is None and run_whale(found(95)) is None
    for loss, drawn in ((5.0, True), (-0.49, False)):
        profit = found(20, loss=loss)
        assert profit_facts(profit, "", run_whale(profit))["drawn"] == drawn and "takes away" in said(profit)
    assert "Nobody cost more" in said(found(0)) and "Fewer than 10 customers" in said(found(9))
    assert "20.0% of customers cost more" in said(found(20)) and "(from " in said(found(20))
    assert sentence("whale.alt", **profit_facts(found(20), "", run_whale(found(20))))


# -- the audit and cohorts ---------------------------------------------------------------------------------------------


def test_the_bridge_in_words():
    found, reason = run_audit(LINES, START, END, "first_purchase", 0.3)
    facts = audit_facts(found)
    assert reason == "" and facts["period"] == "year" and facts["measure"] == "margin" and not facts["cautions"]
    parts = facts["new"] + facts["lost"] + facts["kept"] + (facts["won_back"] or 0)
    assert parts == pytest.approx(facts["current"] - facts["previous"], abs=5)
    change = facts["current"] - facts["previous"]
    assert "In the last year customers brought" in sentence("audit_change", value=change, **facts)
    assert "bars add up" in sentence("waterfall.caption", **facts) and sentence("waterfall.alt", title="x", **facts)


def test_a_component_of_few_is_named_by_no_fact():
    rows = [(f"n{k}", 60, 5) for k in range(3)] + [(f"k{k}", d, 5 + d) for k in range(40) for d in (30, 60)]
    end = START + dt.timedelta(days=83)
    found, _ = run_audit(lines_of(rows), START, end, "left_truncated", 0.3)
    facts = audit_facts(found)
    assert facts["new"] is None and facts["kept"] is None and facts["few"] == 10
    said = sentence("audit_change", value=facts["current"] - facts["previous"], **facts)
    assert "ones brought" not in said and "bought in both" not in said
    assert "seasons" in sentence("audit_note", **facts)
    for changed, words in ((rows[:2], "too few"), (rows, "56 days")):
        last = end if changed is not rows else START + dt.timedelta(days=40)
        nothing, reason = run_audit(lines_of(changed), START, last, "first_purchase")
        assert nothing is None and words in sentence("no_audit", reason=reason)


def test_cohorts_in_words_and_their_refusals():
    found, reason = run_cohorts(LINES, START, END, "first_purchase", 0.3)
    facts = cohort_facts(found)
    soon = facts.pop("soon")
    assert facts["missing_start"] == facts["missing_end"] == 0
    assert reason == "" and found.period == "quarter" and facts["cohorts"] > 1 and facts["later_age"] >= 2
    ends = {"value": soon.value, "low": soon.low, "high": soon.high, "why": soon.reason}
    assert "buy again in the quarter" in sentence("cohort_retention", **ends, **facts)
    assert sentence("cohorts.alt", title="x", **facts) and sentence("cohorts.caption", **facts)
    nothing, reason = run_cohorts(LINES, START, END, "left_truncated")
    assert nothing is None and "before the data begin" in sentence("no_cohorts", reason=reason)
    nothing, reason = run_cohorts(lines_of([("a", 5, 3), ("b", 6, 3)]), START, END, "first_purchase")
    assert nothing is None and "10 new customers" in reason


def test_where_all_came_in_one_quarter_months_tell_them_apart():
    rows = [(f"{k}", 30 * (k % 3) + d, 5) for k in range(60) for d in (3, 250)]
    found, _ = run_cohorts(lines_of(rows), START, END, "first_purchase")
    assert found.period == "month" and (found.sizes() >= 10).sum() == 3


# -- equity ------------------------------------------------------------------------------------------------------------


def test_recent_acquisition_by_hand():
    found, reason = recent_acquisition(BASE, COSTS, START, END, 52)
    late = int((BASE["T"] <= 365).sum())  # 2024 has 366 days
    spent = float(COSTS["amount"].astype(float)[COSTS["period"] >= "2024"].sum())
    assert reason == "" and found.rate == pytest.approx(late * 7 / 366) and found.cost == pytest.approx(spent / late)
    # with the last quarter on record alone, only its customers are counted
    quarter, reason = recent_acquisition(BASE, COSTS[COSTS["period"] >= "2024-10"], START, END, 52)
    won = int((BASE["T"] <= 91).sum())
    spent = float(COSTS["amount"].astype(float)[COSTS["period"] >= "2024-10"].sum())
    assert reason == "" and quarter.rate == pytest.approx(won * 7 / 92) and quarter.cost == pytest.approx(spent / won)
    for costs, base, words in (
        (None, BASE, "no costs"),
        (COSTS.assign(purpose="retain"), BASE, "no costs"),
        (COSTS, BASE[BASE["T"] > 366], "nobody new"),
        (COSTS[COSTS["period"] < "2024"], BASE, "no whole month with costs"),
        (COSTS.assign(amount=COSTS["amount"] * 0), BASE, "on record lately"),
    ):
        nothing, reason = recent_acquisition(base, costs, START, END, 52)
        assert nothing is None and words in reason


@pytest.mark.parametrize("costs", [COSTS, None])
def test_equity_in_words(costs):
    winning, why = recent_acquisition(BASE, costs, START, END, 52)
    found, reason = run_equity(VALUE, MODELS, BASE, winning, 0.1)
    facts = equity_facts(found, winning, why, VALUE, leaving_model(VALUE, MODELS))
    # one value of present customers on one page, with one range
    assert reason == "" and found.existing == VALUE.headline
    ends = tuple(facts[name] for name in ("existing", "existing_low", "existing_high"))
    assert ends == VALUE.headline.interval and facts["reach"] == (104 if costs is not None else None)
    assert (found.total == VALUE.headline) == (costs is None)
    total = dict(zip(("value", "low", "high"), found.total.interval, strict=True))
    said = sentence("customer_equity", **total, **facts)
    assert ("those won in that time" in said) == (costs is not None) and "1% better retention adds" in said
    assert "should be so after a year" in sentence("equity_note", **facts)
    assert facts["bias_low"] <= facts["bias"] <= facts["bias_high"]
    assert facts["endless_bias_low"] <= facts["endless_bias"] <= facts["endless_bias_high"]
    undiscounted = equity_facts(
        replace(found, endless_bias=Estimate(np.nan, reason="x")), winning, why, VALUE, "BG/NBD"
    )
    assert undiscounted["endless_bias"] is None and not undiscounted["endless_bias_clear"]
    assert sentence("equity.alt", **facts) and sentence("equity.caption", **facts)


def held_out(*names):
    return SimpleNamespace(scores=pd.DataFrame({"forecast": names}))


def test_equity_takes_the_best_model_that_gives_retention_and_says_so():
    regular = replace(VALUE, forecast="MBG/CNBD-k", forecast_kind="model")
    fitted = {name: MODELS.purchases[name] for name in TELLS_LEAVING if name in MODELS.purchases}
    assert len(fitted) >= 2
    last, first = sorted(fitted, key=lambda name: fitted[name].aic)[::-1][:: len(fitted) - 1]
    # without a holdout the better fit, with one what came closest in it, whatever fits
    assert leaving_model(regular, MODELS) == first
    tested = held_out("MBG/CNBD-k", "NBD", last, first, "same rate")
    assert leaving_model(regular, MODELS, tested) == last
    assert leaving_model(replace(VALUE, forecast=first), MODELS, tested) == first
    found, reason = run_equity(regular, MODELS, BASE, None, 0.1, holdout=tested)
    assert reason == "" and found.total.value > 0
    facts = equity_facts(found, None, "", regular, last, tested)
    note = unescape(sentence("equity_note", **facts))
    assert "the MBG/CNBD-k model, which gives no retention" in note
    assert f"of the models that do, {last} came closest in the test" in note
    untested = equity_facts(found, None, "", replace(VALUE, forecast="same rate", forecast_kind="heuristic"), first)
    note = unescape(sentence("equity_note", **untested))
    assert "a plain rule, which gives no retention" in note and f"of the models that do, {first} fits best" in note
    none = replace(MODELS, purchases={})
    nothing, reason = run_equity(regular, none, BASE, None, 0.1)
    assert nothing is None and "Pareto/NBD, BG/NBD, MBG/NBD" in reason


def test_equity_is_refused_with_the_reason():
    unpriced = customer_value(BASE.drop(columns="margin"), MODELS, None, horizon_weeks=52, **SPAN, draws=100)
    for value, entry, words in ((unpriced, "first_purchase", "margin"), (VALUE, "left_truncated", "")):
        nothing, reason = run_equity(value, MODELS, BASE, None, 0.1, entry)
        assert nothing is None and words in reason
    truncated = customer_value(
        BASE, MODELS, None, horizon_weeks=52, **SPAN, entry="left_truncated", margin_rate=0.3, draws=100
    )
    assert "age is unknown" in sentence(
        "no_equity", reason=run_equity(truncated, MODELS, BASE, None, 0.1, "left_truncated")[1]
    )


# -- channels ----------------------------------------------------------------------------------------------------------


def test_channels_in_words_and_as_a_table():
    found, reason = run_channels(PEOPLE, VALUE.frame, COSTS, START, END)
    facts = channel_facts(found)
    ends = {"value": facts["best_each"], "low": facts["best_low"], "high": facts["best_high"]}
    assert reason == "" and f"through {facts['best']} brings most" in sentence("channel_value", **ends, **facts)
    paid = run_payback(found, LINES, PEOPLE, END, "first_purchase", 0.3)
    shown = channels_for_people(found, paid, FMT)
    assert set(CHANNEL_COLUMNS) <= set(shown.columns) and shown["channel"].iloc[0] == facts["best"]
    assert set(paid) == {"shop", "web"} and shown["pays_back"].str.contains("days").all()
    assert run_payback(found, LINES, PEOPLE, END, "left_truncated", 0.3) == {}
    assert channels_for_people(found, {}, FMT)["pays_back"].tolist() == ["unknown", "unknown"]
    free = channels_for_people(found, {"shop": Estimate(0.0, reason="")}, FMT).set_index("channel")
    assert free.loc["shop", "pays_back"] == "it cost nothing"
    for key in ("channels.alt", "channels.caption", "channel_table.caption"):
        assert sentence(key, horizon=52, **facts)


def test_channels_that_cost_money_and_brought_nobody_are_named():
    none = COSTS[COSTS["channel"] == "web"]
    costs = pd.concat([COSTS, none.assign(channel="radio"), none.assign(channel="fair", amount=Decimal(1))])
    found, _ = run_channels(PEOPLE, VALUE.frame, costs, START, END)
    facts = channel_facts(found)
    spent = float(none["amount"].sum()) + len(none)
    assert facts["idle"] == ["radio", "fair"] and facts["idle_cost"] == pytest.approx(spent)
    ends = {"value": facts["best_each"], "low": facts["best_low"], "high": facts["best_high"]}
    assert "went to radio, fair, through which nobody came" in sentence("channel_value", **ends, **facts)
    many = facts | {"idle": ["a", "b", "c", "d"]}
    assert "went to a, b, c and 1 more, through which nobody came" in sentence("channel_value", **ends, **many)


def test_channels_are_refused_with_the_reason():
    blank = VALUE.frame.assign(residual_value=np.nan)
    for people, value, costs, words in (
        (None, VALUE.frame, COSTS, "which channel"),
        (PEOPLE.drop(columns="acquisition_channel"), VALUE.frame, COSTS, "which channel"),
        (PEOPLE, VALUE.frame, None, "no marketing costs"),
        (PEOPLE.head(5), VALUE.frame, COSTS, "too few"),
        (PEOPLE, blank.assign(existing_value=np.nan), COSTS, "margin"),
        (PEOPLE, blank, COSTS, "come back"),
        (PEOPLE, VALUE.frame, COSTS.assign(purpose="retain"), "purpose acquire"),
    ):
        nothing, reason = run_channels(people, value, costs, START, END)
        assert nothing is None and words in sentence("no_channels", reason=reason)


# -- potential ---------------------------------------------------------------------------------------------------------

PRODUCTS = pd.DataFrame({"product_id": ["p", "q", "r"], "name": "x", "all": "same", "kind": ["food", "food", "drinks"]})


def test_categories_held_are_counted_at_the_widest_level_that_tells_products_apart():
    lines = lines_of(
        [("a", 0, 1, "p"), ("a", 1, 1, "q"), ("b", 0, 1, "p"), ("b", 1, 1, "r"), ("b", 2, -1, "q"), ("c", 0, 1, "z")]
    )
    assert categories_held(lines, PRODUCTS, END).to_dict() == {"a": 1, "b": 2}
    assert categories_held(lines, PRODUCTS, START).to_dict() == {"a": 1, "b": 1}
    assert categories_held(lines, None, END) is None and categories_held(lines, PRODUCTS[["product_id"]], END) is None
    assert categories_held(lines.drop("product_id"), PRODUCTS, END) is None


@pytest.mark.parametrize("entry", ["first_purchase", "left_truncated"])
def test_potential_fills_its_column_and_no_other(entry):
    found, reason = run_growth(BASE, VALUE, LINES, PRODUCTS, START, END, entry, 0.1)
    facts = growth_facts(found, VALUE) | {"truncated": entry == "left_truncated"}
    ends = dict(zip(("value", "low", "high"), found.total.interval, strict=True))
    assert reason == "" and "not a forecast" in sentence("growth_potential", **ends, **facts)
    assert ("as long ago" in sentence("growth.caption", **facts)) == (entry == "first_purchase")
    assert ("categories" in sentence("growth.caption", **facts)) == facts["by_categories"]
    assert sentence("growth.alt", **facts)
    profit, _ = run_profit(LINES, BASE, START, END, cost_to_serve=1.0)
    filled = with_profit_and_potential(VALUE.frame, profit, found)
    assert filled["growth_value"].sum() == pytest.approx(found.total.value)
    assert filled["profit"].to_numpy() == pytest.approx((BASE["margin"] - BASE["orders"]).to_numpy())
    pd.testing.assert_frame_equal(filled[VALUE.frame.columns], VALUE.frame)


def test_potential_and_profit_stay_null_where_they_are_not_known():
    unknown = replace(VALUE, frame=VALUE.frame.assign(residual_value=np.nan))
    nothing, reason = run_growth(BASE.assign(margin=np.nan), unknown, LINES, None, START, END)
    assert nothing is None and "margin" in sentence("no_growth", reason=reason)
    few = VALUE.frame.head(3)
    small = customer_value(
        BASE.head(3), fit_models(BASE.head(3)), None, horizon_weeks=52, **SPAN, margin_rate=0.3, draws=100
    )
    assert "enough comparable" in run_growth(BASE.head(3), small, LINES, None, START, END)[1]
    filled = with_profit_and_potential(few, None, None)
    assert filled[["growth_value", "profit"]].isna().all(axis=None)
