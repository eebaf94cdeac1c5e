"""A contact cost that nobody knows is said to be unknown, and so is the cost up to which a coupon pays."""

import datetime as dt
from types import SimpleNamespace

import ibis
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis.campaigns.coupons import run_coupons
from analysis.campaigns.runs import run_coupon_campaign
from analysis.campaigns.targeting_figures import coupon_profit
from analysis.reporting.numbers import Formatter

MARGIN = SimpleNamespace(value=0.5, low=0.4, high=0.6)
START = dt.date(2024, 8, 1)


@pytest.fixture(scope="module")
def campaign(company):
    """One campaign of coupons worth five, as tables."""
    rng = np.random.default_rng(2)
    arm = np.where(rng.random(800) < 0.5, "five", "control")
    ids = [f"c{k}" for k in range(800)]
    used = (arm == "five") & (rng.random(800) < 0.3)
    spend = rng.gamma(4, 5, 800) + 14 * (arm == "five") - 5 * used
    panel = pd.DataFrame({"campaign_id": "coupon", "customer_id": ids, "arm": arm, "spend": spend, "redeemed": used})
    spans = pd.DataFrame(
        {"campaign_id": ["coupon"], "label": ["Coupons"], "starts_on": [START], "days": 28, "offer_cost": np.nan}
    ).assign(cost_per_contact=np.nan)
    contacts = panel[["campaign_id", "customer_id", "arm"]].assign(offer_id=np.where(arm == "five", "o", None))
    lines = company.order_lines([(c, START, float(s)) for c, s in zip(ids, spend, strict=True)])
    return panel, spans, lines, ibis.memtable(contacts), pd.DataFrame({"offer_id": ["o"], "face_value": [5.0]})


def facts_of(campaign, cost):
    panel, spans, lines, contacts, offers = campaign
    assumed = None if cost is None else SimpleNamespace(value=cost, low=cost, high=cost)
    found, _, reason = run_coupon_campaign(panel, spans, lines, contacts, offers, ["coupon"], MARGIN, assumed)
    assert reason is None
    return found, found.facts()


def test_an_unknown_cost_is_not_taken_for_nothing(campaign):
    found, unknown = facts_of(campaign, None)
    _, known = facts_of(campaign, 2.0)
    _, free = facts_of(campaign, 0.0)
    assert unknown["contact_cost"] is None and known["contact_cost"] == 2.0 and free["contact_cost"] == 0.0
    assert known["value"] == pytest.approx(unknown["value"] - 2.0)
    # What a contact may cost is the same whether its cost is known or not.
    for name in ("break_even", "break_even_low", "break_even_high"):
        assert known[name] == pytest.approx(unknown[name])
    assert unknown["break_even"] == pytest.approx(unknown["value"])
    at_break_even, _ = facts_of(campaign, unknown["break_even"])
    assert at_break_even.facts()["value"] == pytest.approx(0, abs=1e-9)
    figure = coupon_profit(found.margins, {}, Formatter("en", "USD"), found.contact_cost)
    assert "unknown" in figure.axes[0].get_xlabel() and "not counted" in figure.axes[0].get_title(loc="left")
    plt.close(figure)


def test_a_coupon_that_loses_before_contacts_loses_at_any_cost():
    rng = np.random.default_rng(3)
    arm = np.where(rng.random(600) < 0.5, "ten", "control")
    used = arm == "ten"
    members = pd.DataFrame({"arm": arm, "spend": rng.gamma(4, 5, 600) - 10 * used, "redeemed": used})
    found, _ = run_coupons(members, {"ten": 10.0}, 0.5, None)
    facts = found.facts()
    assert facts["any_loses"] and facts["break_even_high"] < 0
