"""A ranking learnt from several campaigns: better where they move the same customers, worse where they do not, honest always."""

from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from analysis.campaigns import qini
from analysis.campaigns.evaluation import Settings
from analysis.campaigns.pooled_uplift import (
    POOLED_COLUMNS,
    PooledLearner,
    _pooled,
    campaign_kinds,
    pooled_for_people,
    pooled_uplift_facts,
    run_pooled_uplift,
)
from analysis.campaigns.uplift import TLearner

SETTINGS = Settings(pre_periods=2)


def campaign(name, n, rng, slope, who=None, share=0.5, level=0.0):
    """One campaign in which those who bought much are moved by ``slope``, the others by less of it or against it."""
    ids = np.arange(n) if who is None else who
    # What a customer is like is the same in every campaign.
    usual = np.random.default_rng(99).gamma(2.0, 10.0, 20_000)[ids]
    frame = pd.DataFrame({"campaign_id": name, "customer_id": [f"c{k}" for k in ids]})
    treated = rng.random(len(ids)) < share
    frame["arm"] = np.where(treated, "mail", "control")
    for k in (1, 2):
        days = rng.poisson(usual / 10)
        frame[f"spend_before_{k}"], frame[f"purchase_days_before_{k}"] = days * 10.0, days
    likely = 1 / (1 + np.exp(-(level - 0.5 + 0.02 * (usual - 20) + treated * slope * (usual - 20) / 10)))
    bought = rng.random(len(ids)) < likely
    return frame.assign(
        spend=bought * 20.0,
        purchase_days=bought.astype(int),
        earlier_contacts=0,
        running_contacts=0,
        earlier_redeemed=0,
    )


def spans_of(names, periods=2):
    return pd.DataFrame({"campaign_id": names, "label": [n.capitalize() for n in names], "complete_periods": periods})


def kinds_of(names, channel="post", offer="none"):
    return pd.DataFrame({"campaign_id": names, "arm": "mail", "channel": channel, "offer": offer})


def pooled(slopes, n=700, seed=1, **how):
    rng = np.random.default_rng(seed)
    names = [f"k{i}" for i in range(len(slopes))]
    members = [rng.choice(20_000, n, replace=False) for _ in names]
    panel = pd.concat(
        [campaign(name, n, rng, slope, who, **how) for name, slope, who in zip(names, slopes, members, strict=True)],
        ignore_index=True,
    )
    return run_pooled_uplift(panel, spans_of(names), kinds_of(names), SETTINGS, seed=seed)


def test_pooling_helps_small_campaigns_that_move_the_same_customers():
    found, reason = pooled([0.5] * 8, n=400)
    assert reason is None and found.verdict == "better"
    assert found.overall("others")["low"] > 0 and found.overall("together")["low"] > 0
    facts = pooled_uplift_facts(found)
    assert facts["campaigns"] == 8 and facts["rows"] == 3200 and facts["people"] < 3200
    told = pooled_for_people(found, SimpleNamespace(name=lambda kind, key: f"{kind}_{key}"))
    assert told["label"].iloc[-1] == "pooled_all" and set(told["ranking"]) == {
        "ranking_alone",
        "ranking_others",
        "ranking_together",
    }
    assert set(POOLED_COLUMNS) <= set(told)
    assert facts["carries"] and facts["over"] == pytest.approx(facts["value"] - facts["alone"])
    assert len(found.table) == 9 * 3 and found.kind == ("post", "none")
    # The learner that is left ranks anybody: who bought much comes first.
    much, little = (pd.DataFrame([dict.fromkeys(found.columns, value)]) for value in (3.0, 0.0))
    assert found.learner.predict(much)[0] > found.learner.predict(little)[0]


def test_pooling_harms_where_campaigns_move_opposite_customers():
    found, _ = pooled([0.7, -0.7], n=4000, seed=2)
    assert found.verdict == "worse"
    assert found.overall("others")["high"] < 0 and not pooled_uplift_facts(found)["carries"]
    assert found.overall("alone")["low"] > 0


def test_without_differences_no_ranking_is_worth_anything_on_average():
    z = []
    for seed in range(4):
        found, _ = pooled([0.0, 0.0, 0.0], n=250, seed=seed)
        own = found.table[(found.table["ranking"] == "together") & (found.table["label"] != "all")]
        z += (own["qini"] / ((own["high"] - own["low"]) / (2 * 1.96))).tolist()
    assert abs(np.mean(z)) < 4 / np.sqrt(len(z)) and 0.5 < np.std(z) < 1.6


def test_levels_and_shares_of_campaigns_are_not_taken_for_effects():
    rng = np.random.default_rng(0)
    n = 20_000
    where = rng.integers(0, 2, n)
    treated = rng.random(n) < np.where(where == 1, 0.8, 0.2)
    x = rng.normal(size=(n, 1))
    y = 10.0 * where + x[:, 0] + treated * (1 + x[:, 0]) + rng.normal(size=n)
    arm = np.where(treated, "mail", "control")
    learner = TLearner(LinearRegression())
    found = PooledLearner(learner).fit(x, arm, y, where).predict(np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(found, [1.0, 2.0], atol=0.15)
    naive = TLearner(LinearRegression()).fit(x, arm, y).predict(np.array([[0.0]]))
    assert naive[0, 0] > 5


def test_limits_count_a_customer_of_several_campaigns_once():
    rng, runs, inside, naive = np.random.default_rng(5), 300, 0, 0
    for _ in range(runs):
        level, score = rng.normal(size=200), rng.normal(size=200)
        results, who = [], []
        for _ in range(4):
            # Each customer comes in each campaign, with what is their own in every one.
            results.append(qini.qini_coefficient(score, score + 3 * level + rng.normal(size=200)))
            who.append(np.arange(200))
        truth = 1 / (2 * np.sqrt(np.pi))  # the Qini of a normal effect ranked by itself
        low, high = _pooled(results, who).interval()
        inside += low < truth < high
        low, high = _pooled(results, [w + 1000 * k for k, w in enumerate(who)]).interval()
        naive += low < truth < high
    assert abs(inside / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)
    assert naive / runs < 0.85


def test_kinds_come_from_channels_and_offers_and_arms_of_a_kind_are_one_treatment():
    rng = np.random.default_rng(3)
    first, second = campaign("a", 400, rng, 0.3), campaign("b", 400, rng, 0.3)
    second.loc[second["arm"] == "mail", "arm"] = np.where(
        rng.random((second["arm"] == "mail").sum()) < 0.5, "big", "small"
    )
    panel = pd.concat([first, second, campaign("c", 400, rng, 0.3)], ignore_index=True)
    contacts = panel[["campaign_id", "customer_id", "arm"]].assign(offer_id=None)
    contacts.loc[contacts["arm"] == "big", "offer_id"] = "o"
    table = ibis.memtable(contacts.astype({"offer_id": "string"}))
    offers = pd.DataFrame({"offer_id": ["o"], "kind": ["coupon"]})
    sent = pd.DataFrame({"campaign_id": ["a", "b", "c"], "channel": ["post", "post", "sms"]})
    kinds = campaign_kinds(panel, ["a", "b", "c"], sent, table, offers)
    assert kinds.set_index(["campaign_id", "arm"])["offer"].to_dict() == {
        ("a", "mail"): "none", ("b", "big"): "coupon", ("b", "small"): "none", ("c", "mail"): "none",
    }  # fmt: skip
    found, _ = run_pooled_uplift(panel, spans_of(["a", "b", "c"]), kinds, SETTINGS)
    assert found.kind == ("post", "none") and found.arms == {"a": ["mail"], "b": ["small"]}
    # Without two of a kind the channel decides, and both arms of the second are one treatment.
    other = kinds.assign(offer=["none", "coupon", "flyer", "none"])
    wide, _ = run_pooled_uplift(panel, spans_of(["a", "b", "c"]), other, SETTINGS)
    assert wide.kind == ("post", None) and wide.arms["b"] == ["big", "small"] and wide.rows == 800
    assert campaign_kinds(panel, ["a"], sent[["campaign_id"]], table, None)["channel"].tolist() == ["unknown"]
    assert campaign_kinds(panel, [], sent, table, offers).columns.tolist() == kinds.columns.tolist()


def test_what_cannot_be_pooled_says_why():
    rng = np.random.default_rng(4)
    panel = pd.concat([campaign("a", 300, rng, 0.3), campaign("b", 300, rng, 0.3)], ignore_index=True)
    names, given = ["a", "b"], kinds_of(["a", "b"])
    assert run_pooled_uplift(panel, spans_of(names), given.assign(channel=names), SETTINGS)[1] == "one_campaign"
    assert run_pooled_uplift(panel, spans_of(names, periods=0), given, SETTINGS)[1] == "no_history"
    few = panel.groupby("campaign_id").head(25)
    assert run_pooled_uplift(few, spans_of(names), given, SETTINGS)[1] == "one_campaign"
    assert run_pooled_uplift(panel, spans_of(names), given.iloc[:0], SETTINGS) == (None, "one_campaign")
    assert pooled_uplift_facts(None, "one_campaign")["verdict"] == "unknown"
