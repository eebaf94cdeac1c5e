"""Facts, sentences and figures in each situation that a study may bring: random, chosen, too small."""

from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis import campaigns as room
from analysis.campaigns import facts, figures
from analysis.campaigns.evaluation import Settings
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.study import Assumption
from analysis.tables import CONTRACTS

MARGIN = Assumption(value=0.4, low=0.3, high=0.5)
CONTACT = Assumption(value=0.6, low=0.4, high=1.0)
SITUATIONS = {
    "random": ("randomised", {"customers": 300, "seed": 5}),
    "chosen": ("observational", {"customers": 400, "seed": 3}),
    "too_small": ("observational", {"customers": 12, "seed": 1}),
}


@pytest.fixture(scope="module", params=SITUATIONS)
def case(request, company):
    """Everything that the notebook computes, for one situation."""
    design, options = SITUATIONS[request.param]
    table, lines, contacts = company.simulate(design, 12.0, **options)
    spans = room.windows(table, company.FROM, company.TO)
    panel = room.campaign_panel(lines, contacts, spans, 7)
    sizes, settings = room.arm_sizes(contacts), Settings()
    effects = room.estimate_campaigns(panel, spans, sizes, settings)
    pooled = room.pooled_effect(effects, settings, panel)
    words = room.Words(Formatter("en", "USD"), "client", "clients")
    everything = SimpleNamespace(**{k: v for k, v in locals().items() if k not in ("request", "company")})
    everything.name = request.param
    return everything


def all_facts(case, contact=CONTACT, margin=MARGIN):
    """Sentence -> the facts that the notebook gives it."""
    costs = room.campaign_costs(case.effects, case.spans, case.panel, contact)
    cost = room.pooled_costs(case.effects, case.pooled, costs)
    profit = room.pooled_profit(case.pooled, cost, margin, 0.95)
    pay = room.pay_facts(profit, case.pooled, cost, margin, case.words)
    design, effect = case.pooled.design, room.effect_facts(case.pooled, 0.95, case.words)
    history = room.history_table(case.panel, case.spans, case.sizes, case.settings, room.HISTORIES)
    plan = room.next_test_facts(case.panel, case.pooled, case.settings, 0.05, case.words)
    responded = room.funnel_facts(room.funnel(case.panel), 10)
    return {
        "scope": room.scope_facts(case.spans, case.sizes, 0, 10),
        "redemption": {"low": None, "high": None} | room.redemption_facts(case.panel, 10, 0.95, case.words),
        "response_note": responded,
        "judged": room.judged_facts(case.effects, case.pooled),
        "observational": {},
        "split": room.split_facts(case.spans, case.sizes, {"mail": 0.5, "control": 0.5}),
        "balance_note": room.balance_facts(room.balance_table(case.effects, design), case.pooled, case.words),
        "overlap": room.overlap_facts(case.panel, 10),
        "incremental_sales": room.answer_facts(effect, case.words),
        "naive_note": effect,
        "campaigns_with_effect": room.count_facts(room.effects_table(case.effects, case.settings), 0.95),
        "purchase_days": effect,
        "profit": pay,
        "profit_note": pay,
        "placebo": {"low": None, "high": None} | room.placebo_facts(case.pooled, 0.95, case.words),
        "history_note": room.history_facts(history),
        "unseen": room.unseen_facts(case.pooled, case.words),
        "wrong_assumptions": {"window": 28, "design": design},
        "next_test": plan | {"design": design},
        "next_test_note": plan | {"design": design},
        "written": {"rows": 1, "profits": 0, "verdict": case.pooled.verdict},
    }


@pytest.mark.parametrize("contact", [CONTACT, None], ids=["cost", "no_cost"])
@pytest.mark.parametrize("margin", [MARGIN, None], ids=["margin", "no_margin"])
def test_every_sentence_can_be_said(case, contact, margin):
    sentences = Sentences("05_campaign_evaluation", Formatter("en", "USD"))
    for key, given in all_facts(case, contact, margin).items():
        said = sentences.render(key, customer="client", customers="clients", **given)
        assert said, key
        assert "None" not in said and "nan" not in said and "–" not in said, f"{key}: {said}"
        assert (given.get("value", 0) is not None) or given.get("reason"), f"{key} has neither a value nor a reason"


def test_the_answer_says_what_the_evidence_allows(case):
    sentences = Sentences("05_campaign_evaluation", Formatter("en", "USD"))
    said = sentences.render(
        "incremental_sales", customer="client", customers="clients", **all_facts(case)["incremental_sales"]
    )
    wanted = {"random": "this is what they caused", "chosen": "not proof", "too_small": "cannot tell"}[case.name]
    assert wanted in said


@pytest.mark.parametrize(("design", "unit"), [("observational", "text"), ("randomised", "money")])
def test_no_number_heads_the_page_where_the_comparison_is_in_doubt(case, design, unit):
    effect = room.effect_facts(case.pooled, 0.95, case.words)
    if effect["value"] is None:
        assert room.answer_facts(effect, case.words)["value"] is None
        return
    doubted = effect | {"design": design, "verdict": "cannot_tell", "why": ["holds_zero"]}
    answer = room.answer_facts(doubted, case.words)
    assert answer["unit"] == unit and answer["estimate"] == effect["value"]
    assert (answer["value"] == effect["value"]) == (unit == "money")
    assert (answer["low"] is None) == (unit == "text") and (unit == "money" or answer["reason"])
    sentences = Sentences("05_campaign_evaluation", Formatter("en", "USD"))
    for key, given in {"incremental_sales": answer, "best_comparison": doubted}.items():
        said = sentences.render(key, customer="client", customers="clients", **given)
        assert "None" not in said and "–" not in said, said
    assert "cannot tell" in sentences.render("incremental_sales", customer="client", customers="clients", **answer)
    broken = room.answer_facts(doubted | {"why": ["split_fails"]}, case.words)
    assert broken["unit"] == "text"


def test_figures_are_drawn_and_say_their_finding(case):
    given = all_facts(case)
    drawn = []
    if room.anything(given["response_note"]):
        drawn.append(figures.funnel_bars(given["response_note"], case.words))
    balance = room.balance_table(case.effects, case.pooled.design)
    if case.pooled.effect is not None:
        table = room.effects_table(case.effects, case.settings)
        cost = room.pooled_costs(
            case.effects, case.pooled, room.campaign_costs(case.effects, case.spans, case.panel, CONTACT)
        )
        profit = room.pooled_profit(case.pooled, cost, MARGIN, 0.95)
        line = room.contact_cost_line(profit, CONTACT)
        drawn += [
            figures.credibility(room.credibility_table(case.pooled), case.words, given["incremental_sales"]),
            figures.forest(table, case.words, given["campaigns_with_effect"]),
            figures.balance_plot(balance, case.words, given["balance_note"]),
            figures.break_even(line, profit, case.words, room.assumed_range(cost, CONTACT), given["profit"]),
        ]
    assert len(drawn) == (0 if case.name == "too_small" else 5)
    for figure in drawn:
        assert theme.png(figure).startswith(b"\x89PNG")
        (ax,) = figure.axes
        assert ax.get_title(loc="left")
        assert ax.get_xlabel()


def test_the_written_table_keeps_its_contract(case):
    costs = room.campaign_costs(case.effects, case.spans, case.panel, CONTACT)
    tables = {"spend": room.effects_table(case.effects, case.settings)}
    tables["purchase_days"] = tables["spend"]
    frame = room.campaign_effects(tables, costs, case.effects, MARGIN, 0.95)
    assert list(frame.columns) == list(CONTRACTS["campaign_effects"].columns)
    assert len(frame) == (0 if case.name == "too_small" else 2)
    spend = frame[frame["outcome"] == "spend"]
    for row in spend.itertuples():
        kept = next(c.kept for c in case.effects if c.campaign_id == row.campaign_id)
        assert row.incremental_profit == pytest.approx(kept * (row.estimate * 0.4 - 0.6))
        assert row.return_on_spend == pytest.approx(row.estimate * 0.4 / 0.6 - 1)
    assert frame.loc[frame["outcome"] != "spend", "incremental_profit"].isna().all()
    without = room.campaign_effects(
        tables, room.campaign_costs(case.effects, case.spans, case.panel, None), case.effects, MARGIN, 0.95
    )
    assert without["incremental_profit"].isna().all()


def test_costs_in_the_data_beat_the_assumption(case):
    spans = case.spans.assign(cost_per_contact=2.0, offer_cost=3.0)
    for found in room.campaign_costs(case.effects, spans, case.panel, CONTACT).values():
        assert (found.contact, found.source) == (2.0, "data")
        kept = case.panel[case.panel["customer_id"].isin(case.effects[0].customers) & (case.panel["treated"] == 1)]
        assert found.offers == 3.0 * kept["redeemed"].astype(bool).sum()


def test_small_groups_are_not_shown():
    spans = pd.DataFrame({"campaign_id": list("abc"), "name": ["A", "B", "C"]})
    counts = pd.DataFrame(
        {
            "campaign_id": list("abc"),
            "targeted": [100, 50, 60],
            "redeemed": [40, 3, 12],
            "redeemed_known": [100, 50, 60],
        }
    )
    words = room.Words(Formatter("en", "USD"))
    table = room.response_table(counts, spans, 10, 0.95, words)
    assert table["name"].tolist() == ["A", "Other campaigns, merged"]
    assert table["redeemed"].tolist() == [40, 15]  # C joins B, or B could be had by subtraction
    assert room.response_table(counts.assign(redeemed=1), spans, 10, 0.95, words).empty
    shares = room.funnel_facts(
        pd.DataFrame(
            {
                "stage": ["targeted", "bought", "offered", "redeemed", "compared", "compared_bought"],
                "contacts": [100, 90, 80, 4, 9, 9],
            }
        ),
        10,
    )
    assert (shares["bought"], shares["redeemed"], shares["compared"], shares["compared_bought"]) == (
        0.9,
        None,
        None,
        None,
    )


def test_split_that_fails_is_a_stop():
    spans = pd.DataFrame({"campaign_id": ["a"], "design": ["randomised"]})
    sizes = pd.DataFrame({"campaign_id": ["a", "a"], "arm": ["mail", "control"], "customers": [700, 500]})
    assert room.split_facts(spans, sizes, {"mail": 0.5, "control": 0.5})["fails"]
    assert not room.split_facts(spans, sizes, {"mail": 7, "control": 5})["fails"]
    assert room.split_facts(spans, sizes, None)["tested"] == 0


def test_next_test_reaches_its_power(case):
    plan = facts.next_test_facts(case.panel, case.pooled, case.settings, 0.05, case.words)
    if case.name == "too_small":
        assert plan["value"] is None
        return
    spread = np.sqrt(plan["value"] * plan["effect"] ** 2 / 4) / 2.8016
    assert plan["effect"] == pytest.approx(0.05 * case.pooled.effect.baseline)
    assert room.sample_size_means(plan["effect"], spread) == pytest.approx(plan["value"], rel=0.01)
    assert plan["tenth"] == pytest.approx(plan["value"] * 0.25 / 0.09, abs=3)


def test_what_one_more_purchase_cost_and_how_many_must_buy(case):
    days = room.estimate_campaigns(case.panel, case.spans, case.sizes, case.settings, outcome="purchase_days")
    orders = room.pooled_effect(days, case.settings)
    costs = room.pooled_costs(
        case.effects, case.pooled, room.campaign_costs(case.effects, case.spans, case.panel, CONTACT)
    )
    profit = room.pooled_profit(case.pooled, costs, MARGIN, 0.95)
    facts = room.order_facts(profit, orders, case.panel)
    if profit is None:
        assert not facts["known"] and facts["each"] is None
        return
    alone = case.panel[case.panel["treated"] == 0]
    worth = alone["spend"].sum() / alone["purchase_days"].sum()
    assert facts["without"] == pytest.approx((alone["purchase_days"] > 0).mean())
    each = profit.spend / profit.contacts
    assert facts["response"] == pytest.approx(facts["without"] + each / MARGIN.value / worth)
    if orders.effect.effect > 0:
        assert facts["each"] == pytest.approx(each / orders.effect.effect)
        assert facts["each_low"] < facts["each"]
    assert facts["margin"] == pytest.approx(each / case.pooled.effect.effect)
    unknown = room.pooled_profit(
        case.pooled,
        room.pooled_costs(case.effects, case.pooled, room.campaign_costs(case.effects, case.spans, case.panel, None)),
        MARGIN,
        0.95,
    )
    assert not room.order_facts(unknown, orders, case.panel)["known"]


def test_goods_behind_coupons_are_paid_though_net_sales_are_after_them(case):
    done = next((c for c in case.effects if c.results is not None), None)
    if done is None:
        assert room.campaign_costs(case.effects, case.spans, case.panel, CONTACT) == {}
        return
    contacts = ibis.memtable(
        pd.DataFrame({"campaign_id": [done.campaign_id], "customer_id": ["x"], "arm": [done.arm], "offer_id": ["o"]})
    )
    offers = pd.DataFrame({"offer_id": ["o"], "face_value": [8.0]})
    mine = (case.panel["campaign_id"] == done.campaign_id) & (case.panel["arm"] == done.arm)
    panel = case.panel.assign(discount=np.where(mine, 5.0, 0.0), redeemed=mine & (np.arange(len(mine)) % 3 == 0))
    key = done.campaign_id, done.arm
    plain = room.campaign_costs(case.effects, case.spans, panel, CONTACT)[key]
    known = room.campaign_costs(case.effects, case.spans, panel, CONTACT, contacts, offers)[key]
    kept = panel[mine & panel["customer_id"].isin(done.customers)]
    assert plain.taken_off == 0 and known.taken_off == 5.0 * kept["redeemed"].sum() > 0
    assert known.offers_at(0.3) == pytest.approx(plain.offers + 0.7 * known.taken_off)
    # Goods and coupon apart: margin on sales before the coupon, less all of the coupon.
    sold, off = done.kept * done.results.effect, known.taken_off
    paid = room.CampaignProfit(done.results, done.kept, 0.3, 0.0, taken_off=off)
    assert paid.profit().value == pytest.approx(0.3 * (sold + off) - off)
    pooled = room.pooled_costs(
        case.effects, case.pooled, dict.fromkeys(room.campaign_costs(case.effects, case.spans, panel, CONTACT), known)
    )
    told = room.pay_facts(
        room.pooled_profit(case.pooled, pooled, MARGIN, 0.95), case.pooled, pooled, MARGIN, case.words
    )
    assert told["behind"] == pytest.approx(0.6 * told["taken_off"]) and told["taken_off"] >= known.taken_off
