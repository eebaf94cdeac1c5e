"""How firm an effect is: the look at which it could be called, the largest customers, and what is still expected of them."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis import campaigns
from analysis.campaigns.effects import DifferenceInMeans
from analysis.campaigns.outcomes import campaign_panel, windows
from analysis.reporting.numbers import Formatter

START, DAYS = dt.date(2024, 6, 3), 28


def bought(rows):
    frame = pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"])
    return ibis.memtable(frame, schema={"customer_id": "string", "order_date": "date", "net_amount": "float64"})


@pytest.fixture(scope="module")
def mailed():
    """Two campaigns: the first sells in its second week, the second, on other people, sells nothing."""
    rng, rows, panels = np.random.default_rng(3), [], []
    for name, size, effect in (("first", 400, 6.0), ("second", 300, 0.0)):
        ids = [f"{name}{k:03}" for k in range(size)]
        treated = (np.arange(size) % 2).astype(int)
        for i, who in enumerate(ids):
            spent = [(day, rng.gamma(2, 5)) for day in (1, 8, 15, 22)] + [(9, effect)] * int(treated[i])
            rows += [(who, START + dt.timedelta(days=day), money) for day, money in spent if money]
        panels.append(pd.DataFrame({"campaign_id": name, "customer_id": ids, "treated": treated}))
    panel = pd.concat(panels, ignore_index=True)
    panel["arm"] = np.where(panel["treated"] == 1, "mail", "control")
    names = {"campaign_id": ["first", "second"], "label": ["First", "Second"]}
    ends = {"starts_on": [START] * 2, "days": DAYS, "outcome_to": START + dt.timedelta(days=DAYS)}
    return bought(rows), panel, pd.DataFrame(names | ends)


def test_an_effect_is_called_in_the_week_in_which_it_comes(mailed):
    lines, panel, spans = mailed
    found, reason = campaigns.run_looks(lines, panel, spans, ["first", "second"])
    assert reason is None and (found.label, len(found.table)) == ("First", 4)
    assert found.calls["called"].tolist() == [2, pd.NA] and found.calls["usual"].iloc[0] == 2
    facts = found.facts()
    assert {name: facts[name] for name in ("called", "looks", "campaigns", "sure", "early")} == {
        "called": 2, "looks": 4, "campaigns": 2, "sure": 1, "early": 1,
    }  # fmt: skip
    total = lines.group_by("customer_id").aggregate(money=lines.net_amount.sum()).to_pandas().set_index("customer_id")
    first = panel[panel["campaign_id"] == "first"]
    whole = DifferenceInMeans(total["money"][first["customer_id"]].to_numpy(), first["treated"]).fit()
    assert facts["value"] == pytest.approx(whole.effect)
    assert facts["low"] < whole.interval()[0] and facts["high"] > whole.interval()[1]  # the price of looking again


def test_looks_say_why_there_are_none(mailed):
    lines, panel, spans = mailed
    assert campaigns.run_looks(lines, panel, spans, []) == (None, "not_randomised")
    assert campaigns.run_looks(lines, panel, spans.assign(days=7), ["first"]) == (None, "too_short")
    nobody = lines.filter(lines.net_amount < 0)
    assert campaigns.run_looks(nobody, panel, spans, ["first"]) == (None, "too_short")


def skewed(rng, whales):
    """An effect of 5 on all, and one that a few whales alone make."""
    n = 4000
    treated = rng.integers(0, 2, n)
    everybody = rng.gamma(2.0, 10.0, n)
    few = everybody + np.where((treated == 1) & (np.arange(n) < whales), 800.0, 0.0)
    frames = [
        pd.DataFrame({"campaign_id": name, "arm": np.where(treated, "mail", "control"), "spend": spend})
        for name, spend in (("all", everybody + 5 * treated), ("few", few))
    ]
    return pd.concat(frames, ignore_index=True)


def test_an_effect_of_a_few_whales_rests_on_them():
    panel = skewed(np.random.default_rng(1), whales=60)
    spans = pd.DataFrame({"campaign_id": ["all", "few"], "label": ["All", "Few"]})
    tails = campaigns.run_tails(panel, spans, ["all", "few"], 2)
    table = campaigns.tail_table(tails).set_index("label")
    assert table.loc["All", "resting"] == pytest.approx(0, abs=0.1)
    assert table.loc["Few", "resting"] > 0.8
    few = panel[panel["campaign_id"] == "few"]
    capped = few["spend"].clip(upper=few["spend"].quantile(0.99))
    gap = capped[few["arm"] == "mail"].mean() - capped[few["arm"] == "control"].mean()
    assert table.loc["Few", "cut"] == pytest.approx(gap)
    facts = campaigns.tail_facts(table.reset_index())
    assert (facts["arms"], facts["clear"], facts["still"], facts["label"]) == (2, 2, 1, "Few")
    assert facts["resting"] == pytest.approx(1 - gap / table.loc["Few", "effect"])


def test_nothing_rests_on_a_tail_without_a_clear_effect():
    spend = np.random.default_rng(2).gamma(2.0, 10.0, 500)
    panel = pd.DataFrame({"campaign_id": "few", "arm": ["mail", "control"] * 500, "spend": np.repeat(spend, 2)})
    spans = pd.DataFrame({"campaign_id": ["few"], "label": ["Few"]})
    facts = campaigns.tail_facts(campaigns.tail_table(campaigns.run_tails(panel, spans, ["few"], 2)))
    assert (facts["arms"], facts["clear"], facts["resting"]) == (1, 0, None)
    none = campaigns.tail_facts(campaigns.tail_table(campaigns.run_tails(panel, spans, [], 2)))
    assert (none["arms"], none["clear"], none["label"]) == (0, 0, None)


def test_expected_margin_is_compared_arm_by_arm():
    rng = np.random.default_rng(4)
    n = 3000
    arm, before = rng.choice(["control", "card", "letter"], n, p=[0.3, 0.3, 0.4]), rng.gamma(2, 10, n)
    panel = pd.DataFrame({"campaign_id": "c", "customer_id": np.arange(n).astype(str), "arm": arm})
    panel = panel.assign(treated=(arm != "control").astype(int), spend_before_1=before)
    left = 3 * before + rng.normal(0, 2, n) + 4.0 * (arm == "letter")
    values = pd.DataFrame({"customer_id": panel["customer_id"], "residual_value": left}).sample(frac=1, random_state=1)
    spans = pd.DataFrame({"campaign_id": ["c"], "label": ["Spring"]})
    table, reason = campaigns.run_lifetime(panel, spans, ["c"], values, 1)
    assert reason is None and table["arm"].tolist() == ["card", "letter"]
    rows = table.set_index("arm")
    assert rows.loc["letter", "low"] < 4 < rows.loc["letter", "high"] and rows.loc["card", "low"] < 0
    assert rows.loc["letter", "high"] - rows.loc["letter", "low"] < 1  # the past taken out: 8 without
    assert rows.loc["letter", "p_holm"] == pytest.approx(2 * rows.loc["letter", "p_value"])
    words = campaigns.Words(Formatter("en", "USD"), "client", "clients")
    facts = campaigns.lifetime_facts(table, reason, words)
    assert (facts["arm"], facts["clear"], facts["sure"], facts["arms"]) == ("letter", True, 1, 2)
    assert facts["value"] == rows.loc["letter", "effect"]
    for given, why in ((None, "no_value"), (values.head(100), "no_value")):
        empty, said = campaigns.run_lifetime(panel, spans, ["c"], given, 1)
        assert empty.empty and said == why
    assert campaigns.lifetime_facts(empty, said, words)["value"] is None


def test_looks_agree_with_the_panel(company):
    """On the simulated company the last look is the panel's difference in means."""
    listed, lines, contacts = company.simulate("randomised", 20.0)
    spans = windows(listed, company.FROM, company.TO)
    panel = campaign_panel(lines, contacts, spans, 1)
    found, _ = campaigns.run_looks(lines, panel, spans, list(spans["campaign_id"]))
    plain = DifferenceInMeans(panel["spend"].to_numpy(float), panel["treated"]).fit()
    assert found.facts()["value"] == pytest.approx(plain.effect)
    assert found.facts()["called"] == 1  # the extra purchase comes on the fourth day
