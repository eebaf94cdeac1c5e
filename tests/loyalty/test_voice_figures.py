"""Figures of recommendation, referrals, delivered value and non-response: titles that state what the frames hold."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import (
    compare_with_base,
    delivered_levels,
    derived_weights,
    net_promoter_score,
    nps_facts,
    with_and_without,
)
from analysis.loyalty.voice_figures import (
    balance_figure,
    delivered_figure,
    nps_figure,
    part_weights_figure,
    referral_figure,
    weights_change_figure,
)
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences

FMT = Formatter("en", "CNY")


def title(figure) -> str:
    assert theme.png(figure).startswith(b"\x89PNG")
    return figure.axes[0].get_title(loc="left")


@pytest.fixture(scope="module")
def parts() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame({"product": rng.uniform(70, 90, 80), "service": 80.0 + rng.normal(0, 3, 80),
                         "money": rng.uniform(10, 30, 80)})  # fmt: skip


def test_scores():
    groups = pd.Series(["promoter"] * 50 + ["passive"] * 30 + ["detractor"] * 20)
    table = net_promoter_score(groups, by=pd.Series(["a", "b"] * 46 + ["c"] * 8))
    figure = nps_figure(table, FMT)
    assert title(figure) == "50% would recommend us warmly, 20% would not: a score of +30"
    assert len(figure.axes[0].get_yticks()) == table["score"].notna().sum() == 2, "small groups are not drawn"
    assert title(nps_figure(table.assign(reason="hidden"), FMT)).startswith("Too few customers")


def test_the_score_told_is_that_of_the_newest_wave():
    groups = pd.Series(["promoter"] * 50 + ["detractor"] * 10 + ["promoter"] * 40 + ["detractor"] * 30)
    waves = pd.Series(["wave 9"] * 60 + ["wave 10"] * 70)
    table = net_promoter_score(groups, by=waves)
    facts = nps_facts(table)
    assert (facts["wave"], facts["before"]) == ("wave 10", "wave 9")
    assert facts["value"] == pytest.approx(100 * 10 / 70) and facts["score_before"] == pytest.approx(100 * 40 / 60)
    assert title(nps_figure(table, FMT)) == (
        "In wave 10, 57% would recommend us warmly, 43% would not: a score of +14, after +67"
    )
    text = Sentences("04_satisfaction_loyalty", FMT).render("nps", customer="customer", customers="customers", **facts)
    assert text.startswith("In wave 10, the newest, the net promoter score is 14") and "after 67 in wave 9" in text
    pooled = nps_facts(net_promoter_score(groups))
    assert (pooled["value"], pooled["wave"]) == (pytest.approx(100 * 50 / 130), None)
    once = nps_facts(net_promoter_score(groups, by=pd.Series("wave 1", index=groups.index)))
    assert (once["value"], once["wave"]) == (pooled["value"], None)
    few = net_promoter_score(groups, by=waves.where(waves.index < 125, "wave 11"))
    assert nps_facts(few)["value"] is None and nps_facts(few)["wave"] == "wave 11"
    assert title(nps_figure(few, FMT)).startswith("69% would"), "no number of a small wave, nor another under its name"


def test_referrals():
    row = {
        "customers": 100,
        "years": 90.0,
        "rate": 0.1,
        "low": 0.05,
        "high": 0.2,
        "referrers_share": 0.09,
        "reason": "",
    }
    rates = pd.DataFrame(
        [{"period": p, "group": g} | row for p in ("before", "after") for g in ("promoter", "detractor")]
    )
    assert (
        title(referral_figure(rates, FMT)) == "Of those who would recommend us warmly, 9% have since brought a customer"
    )
    rates.loc[rates["group"] == "promoter", "reason"] = "too few"
    assert title(referral_figure(rates, FMT)) == "What customers brought after they answered"
    assert title(referral_figure(rates.assign(reason="too few"), FMT)).startswith("Too few")


def test_value_and_cost(parts):
    assert title(delivered_figure(delivered_levels(parts), FMT)).endswith("60 points to the good")
    turned = delivered_levels(parts.rename(columns={"product": "time", "service": "energy", "money": "image"}))
    assert title(delivered_figure(turned, FMT)).endswith("points short")
    assert title(delivered_figure(delivered_levels(parts.head(3)), FMT)).startswith("Too few")


def test_part_weights(parts):
    satisfaction = parts["product"] - 0.5 * parts["money"] + np.random.default_rng(2).normal(0, 2, 80)
    figure = part_weights_figure(derived_weights(parts, satisfaction, draws=50), FMT)
    assert title(figure) == "For satisfaction, product and money count most"


def test_balance():
    base = pd.DataFrame({"customer_id": range(200), "sex": ["f", "m"] * 100, "recency_days": range(200)})
    told = pd.Series([*range(100), 101, 103])
    weights = pd.Series(np.linspace(0.5, 1.5, len(told)))
    for given in (None, weights):
        figure = balance_figure(compare_with_base(told, base, ["sex"], ["recency_days"], weights=given), FMT)
        assert title(figure).startswith("Those who answered differ most in days since purchase (−0.8")


def test_change_by_weights(mobi, ecsi_model):
    weights = pd.Series(np.where(mobi["CUSA1"] > 7, 0.7, 1.3), mobi.index)
    table = with_and_without(mobi, ecsi_model, (1, 10), weights, draws=40)
    assert title(weights_change_figure(table, FMT)).startswith("Weighting moves 7 of 7 scores clearly, most of all")
