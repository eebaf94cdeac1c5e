"""From the panel to the verdict: planted effects, honest reasons, leakage, figures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import campaigns
from analysis.campaigns import uplift_figures
from analysis.campaigns.uplift_analysis import CHOSEN
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FORMAT = Formatter("en", "EUR")
SETTINGS = campaigns.Settings(pre_periods=2)


def planted(n=4000, strength=1.0, seed=0, arms=("control", "mail", "call")):
    """A campaign that works on frequent buyers and puts off the young; the panel, spans, attributes and truth."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(2, 0.5, n)
    young = rng.random(n) < 0.4
    days = {f"purchase_days_before_{k}": rng.poisson(rate) for k in (1, 2)}
    spend = {f"spend_before_{k}": days[f"purchase_days_before_{k}"] * rng.gamma(20, 1, n) for k in (1, 2)}
    arm = rng.choice(arms, n)
    lift = np.where(young, -0.25, 0.45) * strength * np.where(rate > 0.8, 1.4, 0.6)
    chance = {"control": np.clip(0.3 * rate, 0, 0.6)}
    chance |= {a: np.clip(chance["control"] + f * lift, 0, 1) for a, f in (("mail", 1.0), ("call", 0.5))}
    bought = rng.random(n) < np.select([arm == a for a in chance], list(chance.values()))
    panel = pd.DataFrame({
        "campaign_id": "c1", "customer_id": [f"k{i}" for i in range(n)], "arm": arm,
        "treated": (arm != "control").astype(int), "spend": bought * rng.gamma(20, 2, n),
        "purchase_days": bought.astype(int), **days, **spend,
        "earlier_contacts": 0, "running_contacts": 0, "earlier_redeemed": 0,
    })  # fmt: skip
    spans = pd.DataFrame([{
        "campaign_id": "c1", "label": "Spring", "design": "randomised", "complete_periods": 2, "reason": None,
    }])  # fmt: skip
    attributes = pd.DataFrame({"customer_id": panel["customer_id"], "age": np.where(young, "young", "old")})
    truth = pd.concat([
        pd.DataFrame({"campaign_id": "c1", "arm": a, "customer_id": panel["customer_id"],
                      "effect": 40 * (chance[a] - chance["control"])}) for a in arms if a != "control"
    ])  # fmt: skip
    return panel, spans, attributes, truth


@pytest.fixture(scope="module")
def found():
    panel, spans, attributes, _ = planted()
    analysis, reason = campaigns.run_uplift(panel, spans, SETTINGS, attributes=attributes, segments=attributes)
    assert reason is None
    return analysis


def test_planted_effects_are_found(found):
    truth = campaigns.against_truth(found, planted()[3], "effect").set_index(["arm", "score"])
    own = truth.loc[("mail", CHOSEN)]
    assert own["correlation"] > 0.75 and own["oracle_share"] > 0.85
    assert own["sleeping_dogs"] > 0.6 and own["persuadables"] > 0.4
    assert truth.loc[("mail", "told_truth"), "oracle_share"] > own["oracle_share"]
    assert truth.loc[("mail", "everybody"), "oracle_share"] == pytest.approx(0)


def test_it_personalises_when_the_learner_beats_every_rule(found):
    facts = campaigns.uplift_facts(found)
    assert facts["verdict"] == "personalise" and facts["arm"] == "mail"
    assert facts["low"] <= facts["qini"] <= facts["high"] and facts["over_low"] > 0
    assert facts["p_value"] < 0.001
    ages = found.segments[found.segments["arm"] == "mail"].set_index("level")
    assert ages.loc["young", "high"] < 0 < ages.loc["old", "low"]
    assert (ages["p_adjusted"] < 0.001).all()


def test_the_table_holds_every_rule_beside_every_learner(found):
    table = found.table()
    assert set(table["arm"]) == {"call", "mail"}
    mail = table[table["arm"] == "mail"].set_index("score")
    assert {"recency", "spend", "rfm_product", "bought_lately", "everybody"} == set(mail.index[mail["kind"] == "rule"])
    assert {CHOSEN, "s", "t", "x", "dr", "r"} == set(mail.index[mail["kind"] == "learner"])
    assert np.isnan(mail.loc[found.best_rule("mail"), "over_rule"])
    assert mail["over_rule"].notna().sum() == len(mail) - 1
    average = found.average().set_index("arm").loc["mail"]
    assert average["low"] < planted()[3].query("arm == 'mail'")["effect"].mean() < average["high"]


def test_predicted_money_agrees_with_observed_money(found):
    table = found.calibration("mail")
    assert ((table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])).sum() >= 7
    curve = found.curve("mail")
    assert curve["gain"].max() > 1.3 * curve["gain"].iloc[-1]


def test_alike_customers_are_treated_alike():
    panel, spans, attributes, _ = planted(strength=0.0, seed=3)
    analysis, _ = campaigns.run_uplift(panel, spans, SETTINGS, attributes=attributes)
    facts = campaigns.uplift_facts(analysis)
    assert facts["verdict"] == "alike" and not analysis.differs()
    assert facts["gain"] is None


def test_a_rule_may_rank_where_no_learner_does(found):
    lots = np.random.default_rng(3).permuted(found.gamma, axis=0)
    quiet = replace(found, test=replace(found.test, p_value=0.6), gamma=lots)
    told = campaigns.uplift_facts(quiet)
    assert told["verdict"] == "alike" and told["rule_qini"] is None

    spent = found.scores["spend"][:, found.arms.index("call")]
    works = np.where(np.array(found.arms) == "call", 15 * (spent > np.median(spent))[:, None], 0.0)
    planted = replace(quiet, gamma=lots + works)
    facts, row = campaigns.uplift_facts(planted), planted.table().query("arm == 'call' and score == 'spend'").iloc[0]
    assert (facts["verdict"], facts["arm"], facts["best_rule"]) == ("rule_alone", "call", "spend")
    assert facts["rule_qini"] == row["qini"] and facts["rule_low"] == row["low"] > 0
    assert row["p_value"] < facts["rule_p"] < 0.05


def test_what_happened_after_the_start_is_no_feature():
    panel, _, attributes, _ = planted(n=400)
    later = panel.assign(spend=0.0, purchase_days=9, redeemed=True, spend_before_3=1e6, purchase_days_before_3=1)
    before, after = (campaigns.uplift_features(p, 2, attributes) for p in (panel, later))
    pd.testing.assert_frame_equal(before, after)
    assert "age_young" in before and not before.isna().any().any()
    numbers = attributes.assign(age=[None, *range(399)])
    assert campaigns.uplift_features(panel, 2, numbers)["age"].iloc[0] == 199


def test_the_same_seed_gives_the_same_answer():
    panel, spans, attributes, _ = planted(n=300)
    first, second = (campaigns.run_uplift(panel, spans, SETTINGS, attributes=attributes, seed=4)[0] for _ in range(2))
    pd.testing.assert_frame_equal(first.table(), second.table())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p, s: (p, s.assign(design="observational")), "not_randomised"),
        (lambda p, s: (p.iloc[:0], s), "not_randomised"),
        (lambda p, s: (p, s.assign(complete_periods=0)), "no_history"),
        (lambda p, s: (p.assign(spend=0.0), s), "no_outcome"),
        (lambda p, s: (p[p["arm"] != "control"], s), "no_comparison"),
        (lambda p, s: (p[p["arm"] == "control"], s), "no_treated"),
        (lambda p, s: (p.iloc[:1], s), "too_few"),
    ],
)
def test_reasons(change, reason):
    panel, spans, _, _ = planted(n=300)
    analysis, why = campaigns.run_uplift(*change(panel, spans), SETTINGS)
    assert analysis is None and why == reason
    assert campaigns.uplift_facts(analysis, why) == {"verdict": "unknown", "reason": reason}


def test_an_unknown_outcome_is_refused():
    panel, spans, _, _ = planted(n=300)
    with pytest.raises(ValueError, match="outcome must be one of"):
        campaigns.run_uplift(panel, spans, SETTINGS, outcome="joy")


def test_the_overview_allows_for_the_number_of_campaigns(found):
    panel, spans, _, _ = planted(n=300)
    late = spans.assign(campaign_id="c2", label="Late", complete_periods=0)
    analyses, reasons = campaigns.run_uplifts(panel, pd.concat([spans, late]), ["c1", "c2"], SETTINGS)
    assert list(analyses) == ["c1"] and reasons == {"c2": "not_randomised"}
    again = {name: replace(found, label=name) for name in ("Spring", "Summer", "Autumn")}
    again["Winter"] = replace(found, label="Winter", test=replace(found.test, p_value=0.04))
    table = campaigns.uplift_overview(again).set_index(["label", "arm"])
    assert len(table) == 8 and table.loc["Spring", "differs"].all()
    assert np.allclose(table.loc["Spring", "p_adjusted"], 4 * found.test.p_value)
    assert np.allclose(table.loc["Winter", "p_adjusted"], 0.04)  # the largest of four
    assert table.loc[("Spring", "mail"), "effect"] == pytest.approx(
        found.average().set_index("arm").loc["mail", "effect"]
    )
    assert campaigns.uplift_overview({}).empty


def test_figures_are_drawn_whole(found):
    table = found.table()
    mail = table[table["arm"] == "mail"]
    names = {CHOSEN: "Logistic T-learner"}
    curves = {"Learner": found.curve("mail"), "Rule": found.curve("mail", found.best_rule("mail"))}
    for figure in (
        uplift_figures.ranking_worth(mail, names, CHOSEN, FORMAT, "A title"),
        uplift_figures.gain_curves(curves, FORMAT, "A title", customers=1000),
        uplift_figures.calibration_plot(found.calibration("mail"), FORMAT, "A title"),
    ):
        (ax,) = figure.axes
        assert ax.get_title(loc="left") == "A title" and ax.get_xlabel()
        assert min(label.get_fontsize() for label in ax.get_yticklabels()) >= 12
        assert figure.get_figwidth() == 6.4
        assert theme.png(figure).startswith(b"\x89PNG")
