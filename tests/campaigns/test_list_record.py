"""What the last list brought, by its own holdout, on lists whose effect is known."""

import datetime as dt
from types import SimpleNamespace

import ibis
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis.campaigns.effects import CUPED
from analysis.campaigns.list_record import effect_on_contacted, list_record_facts, run_list_record
from analysis.campaigns.outcomes import windows
from analysis.campaigns.targeting_figures import promised_and_brought
from analysis.reporting.numbers import Formatter

AS_OF, START = dt.date(2024, 6, 30), dt.date(2024, 7, 15)
MARGIN, COST = SimpleNamespace(value=0.5, low=0.5, high=0.5), SimpleNamespace(value=1.0, low=1.0, high=1.0)
WORDS = SimpleNamespace(name=lambda kind, key: f"{kind}:{key}")


def edition(targets, printed=None):
    """An earlier edition that holds a list, or none; its page stated ``printed`` for the whole list."""
    return SimpleNamespace(
        observed_to=AS_OF,
        has=lambda table: targets is not None,
        read=lambda table: targets.copy(),
        finding=lambda name: None if printed is None else {"id": name, "value": printed},
    )


def used_list(
    company, n=1500, held=0.2, outside=300, effect=8.0, effect_outside=2.0, contacted=0.85, seed=4, bystander=True
):
    """A list of n, of whom the best buyers are contacted less, and another campaign that pays it no heed."""
    rng = np.random.default_rng(seed)
    total = n + outside
    ids = np.array([f"c{k:05}" for k in range(total)])
    level = rng.gamma(2.0, 10.0, total)
    listed = np.arange(total) < n
    holdout = np.where(listed, rng.random(total) < held, rng.random(total) < 0.5)
    # Whoever buys much is missed more often, so contacted and not contacted cannot be compared.
    missed = rng.random(total) < (1 - contacted) * level / level.mean()
    reached = ~holdout & ~missed
    spend = level * rng.gamma(4, 0.25, total) + reached * np.where(listed, effect, effect_outside)
    rows = [(ids[k], AS_OF - dt.timedelta(days=int(rng.integers(1, 300))), level[k]) for k in range(total)]
    rows += [(ids[k], START + dt.timedelta(days=3), spend[k]) for k in range(total)]
    sent = [("autumn", ids[k], "mail", False) for k in np.flatnonzero(reached)]
    sent += [("autumn", ids[k], "control", None) for k in np.flatnonzero(holdout)]
    if bystander:
        sent += [("other", ids[k], "mail", False) for k in np.flatnonzero(rng.random(total) < 0.4)]
    campaigns = pd.DataFrame(
        {
            "campaign_id": ["autumn", "other"],
            "name": ["Autumn", "Other"],
            "starts_on": [START, START],
            "ends_on": [START + dt.timedelta(days=27)] * 2,
            "design": ["randomised", "observational"],
        }
    )
    targets = pd.DataFrame(
        {
            "customer_id": ids,
            "campaign": "next",
            "offer": "mail",
            "expected_incremental_profit": np.where(listed, 3.0, 0.0),
            "cost": 1.0,
            "rank": np.arange(1, total + 1),
            "listed": listed,
            "holdout": holdout,
        }
    )
    return targets, company.order_lines(rows), company.contact_table(sent), campaigns


def record_of(company, to=dt.date(2024, 12, 31), margin=MARGIN, cost=COST, change=lambda t: t, printed=None, **how):
    targets, lines, contacts, campaigns = used_list(company, **how)
    spans = windows(campaigns, company.FROM, to)
    return run_list_record(edition(change(targets), printed), lines, contacts, None, None, spans, margin, cost)


def test_the_promise_is_what_the_page_printed_and_not_what_models_said(company):
    found, _ = record_of(company, printed=1500 * 0.5)
    assert found.promised == pytest.approx(0.5 * found.contacted)
    off = record_of(company)[0].table.set_index("group")["promised"]
    now = found.table.set_index("group")["promised"]
    assert now["list"] == pytest.approx(0.5) and now["outside"] == off["outside"]


def test_the_profit_of_the_contacted_is_found_although_the_best_buyers_were_missed(company):
    found, reason = record_of(company)
    assert reason is None and found.campaigns == ("Autumn",)
    truth = 0.5 * 8.0 - 1.0
    low, high = found.each.interval()
    assert low < truth < high and high - low < 2.0
    facts = list_record_facts(found, None, WORDS)
    assert facts["value"] == pytest.approx(found.contacted * found.each.effect)
    assert facts["promised"] == pytest.approx(3.0 * found.contacted)
    assert facts["verdict"] == "kept" and facts["held_contacted"] == 0
    assert facts["cost"] == pytest.approx(found.contacted)
    # The list was chosen: a contacted customer on it brings 3 − 0 more than one off it.
    assert facts["better_low"] < 3.0 < facts["better_high"] and facts["better_low"] > 0
    # Contacted beside not contacted would say that the list did harm.
    targets, lines, contacts, _ = used_list(company)
    intended = targets.loc[targets["listed"] & ~targets["holdout"], "customer_id"]
    spend = lines.filter(lines.order_date >= START).to_pandas().set_index("customer_id")["net_amount"].astype(float)
    sent = contacts.to_pandas().query("campaign_id == 'autumn' and arm == 'mail'")["customer_id"]
    got = intended.isin(sent).to_numpy()
    assert spend[intended[got]].mean() - spend[intended[~got]].mean() < 0
    assert found.table["group"].tolist() == ["list", "outside"]
    figure = promised_and_brought(found.table, {"list": "On it", "outside": "Off it"}, Formatter("en", "USD"), "Kept")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["On it", "Off it"]
    plt.close(figure)


def test_a_list_that_brought_less_than_promised_is_told(company):
    found, _ = record_of(company, effect=3.0)
    assert found.verdict == "less" and found.brought.high < found.promised
    generous, _ = record_of(company, effect=20.0)
    assert generous.verdict == "more"


def test_coupons_and_handling_are_paid_for(company):
    targets, lines, _, campaigns = used_list(company, bystander=False, contacted=1.0, held=0.5, outside=0)
    reached = targets.loc[~targets["holdout"], "customer_id"].tolist()
    frame = pd.DataFrame(
        {"customer_id": reached, "arm": "mail", "campaign_id": "autumn", "redeemed": True, "offer_id": "o"}
    )
    offers = pd.DataFrame({"offer_id": ["o"], "face_value": [4.0]})
    lines = lines.mutate(discount=ibis.literal(3).cast("decimal(18, 4)"))
    spans = windows(campaigns.assign(cost_per_contact=1.0, offer_cost=0.25), company.FROM, company.TO)
    given = edition(targets), lines, ibis.memtable(frame)
    plain, _ = run_list_record(*given, None, None, spans, MARGIN, None)
    found, _ = run_list_record(*given, offers, None, spans, MARGIN, None)
    # The till took off 3, not the face value of 4: the goods behind it cost half of 3 (net sales are without it), the rest is lost.
    assert found.each.effect - plain.each.effect == pytest.approx(0.5 * 3 - 3 - 0.25)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"contacted": -3.0}, "not_followed"),
        ({"held": 0.0}, "no_holdout"),
        ({"held": 0.005}, "few_held"),
        ({"change": lambda t: t.assign(holdout=np.arange(len(t)) % 5 == 0)}, "held_reached"),
        ({"to": dt.date(2024, 7, 31)}, "window_not_over"),
        ({"cost": None}, "no_contact_cost"),
        ({"change": lambda t: t.drop(columns=["holdout", "listed"]), "outside": 0}, "no_holdout"),
    ],
)
def test_a_list_that_cannot_be_judged_says_why_and_counts(company, how, reason):
    found, why = record_of(company, **how)
    assert why == reason and found.reason == reason and found.brought is None
    facts = list_record_facts(found, why, WORDS)
    assert facts["value"] is None and facts["reason"] == f"list_record_reason:{reason}"
    assert facts["intended"] > 1000 and facts["verdict"] == "unknown"


def test_a_small_campaign_that_reaches_some_of_the_list_does_not_carry_it(company):
    targets, lines, contacts, campaigns = used_list(company)
    listed = targets.loc[targets["listed"] & ~targets["holdout"], "customer_id"]
    late = campaigns.iloc[[0]].assign(campaign_id="late", name="Late", starts_on=dt.date(2024, 12, 20))
    sent = contacts.union(company.contact_table([("late", c, "mail", False) for c in listed[:8]]))
    spans = windows(pd.concat([campaigns, late.assign(ends_on=dt.date(2025, 1, 16))]), company.FROM, company.TO)
    found, reason = run_list_record(edition(targets), lines, sent, None, None, spans, MARGIN, COST)
    assert reason is None and found.campaigns == ("Autumn",) and found.until == START + dt.timedelta(days=27)
    short = targets[targets["customer_id"].isin([*listed[:20], *targets.loc[targets["holdout"], "customer_id"]])]
    first = windows(campaigns, company.FROM, company.TO)
    assert run_list_record(edition(short), lines, contacts, None, None, first, MARGIN, COST)[1] == "few_held"
    unpriced = targets.drop(columns="expected_incremental_profit")
    found, _ = run_list_record(edition(unpriced), lines, sent, None, None, spans, MARGIN, COST)
    told = list_record_facts(found, None, WORDS)
    assert told["promised"] is None and told["ratio"] is None and told["value"] is not None
    assert told["verdict"] == "unknown"


def test_what_stands_in_the_way_of_any_record(company):
    targets, lines, contacts, campaigns = used_list(company, n=60, outside=0)
    spans = windows(campaigns, company.FROM, company.TO)
    rest = lines, contacts, None, None
    assert run_list_record(None, *rest, spans, MARGIN, COST) == (None, "no_edition")
    assert run_list_record(edition(None), *rest, spans, MARGIN, COST) == (None, "no_list")
    # Contacts need not say who redeemed.
    bare = lines, contacts.drop("redeemed"), None, None
    assert run_list_record(edition(targets), *bare, spans, MARGIN, COST)[1] == "few_held"
    assert run_list_record(edition(targets), *rest, spans, None, COST) == (None, "no_margin")
    early = windows(campaigns.assign(starts_on=AS_OF), company.FROM, company.TO)
    assert run_list_record(edition(targets), *rest, early, MARGIN, COST) == (None, "no_campaign")
    assert run_list_record(edition(targets.assign(holdout=True)), *rest, spans, MARGIN, COST) == (None, "no_list")
    assert list_record_facts(None, "no_edition", WORDS)["reason"] == "list_record_reason:no_edition"


def test_when_lot_was_obeyed_the_effect_is_the_difference_in_means():
    rng = np.random.default_rng(0)
    z = rng.random(400) < 0.7
    past = rng.normal(size=400)
    y = past + z + rng.normal(size=400)
    found, plain = effect_on_contacted(y, z, z, past), CUPED(y, z, past).fit()
    assert found.effect == pytest.approx(plain.effect) and found.se == pytest.approx(plain.se)
    with pytest.raises(ValueError, match="not contacted more often"):
        effect_on_contacted(y, z, ~z)


def test_limits_hold_the_effect_on_the_contacted_as_often_as_they_say():
    rng, inside, runs = np.random.default_rng(11), 0, 400
    for _ in range(runs):
        n = 600
        level = rng.normal(size=n)
        z = rng.random(n) < 0.85
        d = z & (rng.random(n) < 1 / (1 + np.exp(level - 1.5)))
        gain = 1.0 + level  # those with a high level would gain more and are contacted less
        y = level + d * gain + rng.normal(size=n)
        low, high = effect_on_contacted(y, z, d, level).interval()
        inside += low < gain[d].mean() < high
    assert abs(inside / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)
