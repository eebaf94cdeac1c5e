"""Value, segments, loyalty and campaigns: hand-made truths against hand-made findings."""

import datetime
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from analysis import scorecard
from analysis.loyalty import PLSPathModel, ecsi
from analysis.reporting.numbers import Formatter
from analysis.scorecard.loyalty import limit
from analysis.simulate.satisfaction import COMPANY, TEXTBOOK, respondents

UNTIL = datetime.date(2024, 12, 29)


@pytest.fixture
def words():
    return scorecard.Words(Formatter("en", "CNY"))


def truth(**columns):
    n = len(next(iter(columns.values())))
    base = {
        "customer_id": [f"C{k}" for k in range(n)],
        "kind": ["regular"] * n,
        "lapsed_on": pd.Series([None] * n, dtype="datetime64[s]"),
        "alive": [True] * n,
        "rate": [0.01] * n,
        "hazard": [0.001] * n,
        "spend_mean": [100.0] * n,
        "purchases_next": [2] * n,
        "margin_next": [100.0] * n,
        "margin_to_date": [50.0] * n,
    }
    return pd.DataFrame(base | columns)


def value(people, **columns):
    base = {
        "customer_id": people["customer_id"],
        "probability_alive": 0.5,
        "expected_purchases": 1.0,
        "existing_value": 50.0,
        "residual_value": 80.0,
        "clv_low": 50.0,
        "clv_high": 200.0,
    }
    return pd.DataFrame(base | columns)


# -- value -------------------------------------------------------------------------------------------------------------


def test_a_person_is_in_the_base_under_either_number():
    known = truth(margin_next=[1.0, 2.0, 3.0])
    seconds = pd.DataFrame({"customer_id": ["C1", "C2"], "second_id": ["D1", "D2"]})
    valued = value(known[:1])
    valued = pd.concat([valued, valued.assign(customer_id="D1")])
    people = scorecard.people_of(known, seconds, valued, UNTIL, None)
    assert people["customer_id"].tolist() == ["C0", "C1"]
    assert people["residual_value"].notna().tolist() == [True, False]


def test_next_years_margin_is_discounted_while_the_customer_lasts():
    half = pd.Timestamp(UNTIL) + pd.Timedelta(days=182)
    gone = pd.Timestamp(UNTIL) - pd.Timedelta(days=5)
    known = truth(lapsed_on=pd.Series([None, half, gone], dtype="datetime64[s]"))
    people = scorecard.people_of(known, pd.DataFrame(columns=["customer_id", "second_id"]), value(known), UNTIL, 0.10)
    delta = np.log(1.1) / 365.25
    expected = [100 * (1 - np.exp(-delta * days)) / (delta * days) for days in (364, 182)]
    assert people["margin_discounted"].tolist() == pytest.approx([*expected, 100.0])


def planted(world, confounding=0.0):
    people = {"r": 1.2, "alpha": 200.0, "s": 0.6, "beta": 400.0, "p": 6.0, "q": 4.0, "gamma": 60.0}
    return {"settings": {"world": world, "confounding": confounding}, "world": {"people": people}}


def test_planted_days_are_compared_in_weeks():
    shown = pd.DataFrame(
        [
            ("Pareto/NBD", "alpha", 28.0, 27.0, 29.0),
            ("BG/NBD", "r", 0.7, 0.6, 0.8),
            ("gamma-gamma", "p", 6.1, 5.9, 6.2),
        ],
        columns=["model", "parameter", "estimate", "low", "high"],
    )
    table = scorecard.parameter_table(planted("textbook"), shown).set_index("parameter")
    assert table.loc["alpha", ["planted", "found"]].tolist() == [200 / 7, 28.0]
    assert table.loc["p", "planted"] == 6.0
    assert np.isnan(table.loc["r", "found"])  # that of another model does not count
    assert len(table) == 7


@pytest.mark.parametrize("settings", [planted("company"), planted("textbook", confounding=0.4)])
def test_without_the_models_world_no_parameter_is_true(settings):
    assert scorecard.parameter_table(settings, pd.DataFrame()).empty


def test_a_model_that_could_not_be_fitted_was_not_found(words):
    parameters = scorecard.parameter_table(planted("textbook"), pd.DataFrame())
    people = scorecard.people_of(*two(), UNTIL, 0.1)
    facts = scorecard.value_facts(people, scorecard.alive_table(people))
    section = scorecard.value_entries(parameters, people, {}, facts, 52, words)
    assert (scorecard.verdicts(section)[:7] == "not_found").all()


def two():
    known = truth(margin_next=[100.0, 300.0])
    return known, pd.DataFrame(columns=["customer_id", "second_id"]), value(known)


def test_totals_of_another_horizon_are_left_out(words):
    people = scorecard.people_of(*two(), UNTIL, 0.1)
    facts = scorecard.value_facts(people, scorecard.alive_table(people))
    empty = scorecard.parameter_table(planted("company"), pd.DataFrame())
    year, half = (scorecard.value_entries(empty, people, {}, facts, weeks, words) for weeks in (52, 26))
    assert len(year) == len(half) + 3
    assert set(year["why"]) == {"why_company"}


def test_calibration_groups_hold_what_is_true():
    n = 4_000
    rng = np.random.default_rng(2)
    said = rng.uniform(0, 1, n)
    known = truth(alive=rng.random(n) < said)
    people = known.assign(probability_alive=said)
    assert scorecard.alive_table(people)["holds"].sum() >= 8
    assert scorecard.alive_table(people.assign(probability_alive=said**3))["holds"].sum() <= 3


def test_coverage_of_single_values_counts_those_inside():
    known = truth(margin_next=[0.0, 149.0, 151.0, 160.0])
    people = scorecard.people_of(known, pd.DataFrame(columns=["customer_id", "second_id"]), value(known), UNTIL, None)
    facts = scorecard.value_facts(people, scorecard.alive_table(people))
    assert (facts["covered"], facts["below"], facts["above"]) == (0.5, 0.0, 0.5)


@pytest.mark.parametrize(("low", "high", "holds"), [(0.6, 0.75, "yes"), (0.7, 0.75, "no"), (None, None, "no_interval")])
def test_the_share_said_to_be_active_is_judged_by_its_range(words, low, high, holds):
    people = truth(alive=[True, True, False])
    people = scorecard.people_of(people, pd.DataFrame(columns=["customer_id", "second_id"]), value(people), UNTIL, None)
    facts = scorecard.value_facts(people, scorecard.alive_table(people))
    said = {"alive": {"value": 0.74, "low": low, "high": high}}
    rows = scorecard.value_entries(pd.DataFrame(), people, said, facts, 13, words)
    row = rows[rows["quantity"] == "Share still active"]
    assert row[["planted", "found"]].to_numpy().tolist() == [[pytest.approx(2 / 3), 0.74]]
    assert scorecard.verdicts(row).tolist() == [holds]


# -- segments ----------------------------------------------------------------------------------------------------------


def test_the_protected_are_held_against_the_best_and_a_random_choice():
    people = truth(margin_next=[10.0, 40.0, 30.0, 20.0]).assign(value_tier=["protect", "let_go", "invest", "invest"])
    facts = scorecard.tier_facts(people)
    assert (facts["size"], facts["brings"], facts["best"]) == (0.25, 0.1, 0.4)
    assert scorecard.tier_facts(people.assign(value_tier="invest"))["brings"] is None


def test_stages_are_held_against_who_has_lapsed(words):
    people = truth(alive=[False, False, True, True, False])
    people["life_stage"] = ["ended", "decline", "ended", "stability", "formation"]
    ended, fading = scorecard.stage_table(people, words).to_dict("records")
    assert (ended["precision"], ended["recall"]) == (0.5, 1 / 3)
    assert (fading["precision"], fading["recall"]) == (2 / 3, 2 / 3)


def test_segments_agree_with_kinds_as_far_as_they_do():
    people = truth(kind=["a", "a", "b", "b"]).assign(cluster=["1", "1", "2", "2"])
    assert scorecard.kind_facts(people)["agreement"] == 1.0
    assert scorecard.kind_facts(people.assign(kind="a"))["agreement"] is None


# -- loyalty -----------------------------------------------------------------------------------------------------------

BLOCKS = {
    "Image": [f"imag{k}" for k in range(1, 6)],
    "Expectation": [f"cuex{k}" for k in range(1, 4)],
    "Quality": [f"perq{k}" for k in range(1, 8)],
    "Value": ["perv1", "perv2"],
    "Satisfaction": [f"cusa{k}" for k in range(1, 4)],
    "Complaints": ["cusco"],
    "Loyalty": [f"cusl{k}" for k in range(1, 4)],
}


def test_the_plan_is_read_back_as_it_was_planted():
    written = json.loads(json.dumps({"world": {"satisfaction": asdict(COMPANY)}}))
    assert scorecard.plan_of(written) == COMPANY


def test_the_limit_is_the_notebooks_own_estimator():
    # Skipped questions at the item's mean, and one batch: the same numbers as the model that the notebook fits.
    found = limit(COMPANY, ecsi(BLOCKS), "path", (1, 10), 20_000, seed=3)
    answers = respondents(20_000, COMPANY, np.random.default_rng(3))
    assert answers["imag1"].isna().any()
    fitted = PLSPathModel(answers, ecsi(BLOCKS)).fit()
    assert found.paths.to_numpy() == pytest.approx(fitted.params.to_numpy(), abs=1e-5)
    assert list(found.paths.index) == list(fitted.params.index)


def test_the_limit_stays_off_the_planted_paths_and_its_levels_lie_on_the_scale():
    found = limit(TEXTBOOK, ecsi(BLOCKS), "path", (1, 10), 200_000, seed=1)
    latent = {(source, target): path for source, target, path in TEXTBOOK.paths}
    assert found.paths["Satisfaction", "Complaints"] < latent["Satisfaction", "Complaints"] - 0.1
    assert found.levels.between(50, 90).all()


def test_paths_are_judged_by_what_the_method_can_find():
    arrows = pd.DataFrame({"source": ["A", "B"], "target": ["C", "C"]})
    shown = arrows.assign(estimate=[0.5, 0.2], low=[0.4, 0.1], high=[0.6, 0.3], bse=0.05)
    planted = arrows.assign(path=[0.65, 0.2])
    known = scorecard.Limit(pd.Series([0.55, 0.4], pd.MultiIndex.from_frame(arrows)), pd.Series(dtype=float))
    consistent = arrows.assign(estimate=[0.66, 0.2], low=[0.6, 0.0], high=[0.7, 0.15])
    paths = scorecard.path_rows(planted, known, shown, consistent)
    facts = scorecard.path_facts(paths)
    assert (facts["held"], facts["latent_held"], facts["corrected_held"]) == (1, 1, 1)
    assert (facts["worst"], facts["bias"]) == ("B → C", pytest.approx(0.15))


# -- campaigns ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def campaigns():
    known = pd.DataFrame(
        {
            "campaign_id": ["mail", "chosen"],
            "arm": ["letter", "catalogue"],
            "members": [100, 10],
            "assigned": [50, 10],
            "mean_effect": [4.0, 1.0],
            "mean_effect_assigned": [5.0, 2.0],
            "day_effect": [0.4, 0.1],
            "day_effect_assigned": [0.5, 0.2],
            "coupon_assigned": [2.0, 0.0],
        }
    )
    spans = pd.DataFrame(
        {
            "campaign_id": ["mail", "chosen"],
            "label": ["Mail", "Catalogue"],
            "design": ["randomised", "observational"],
            "cost_per_contact": [1.0, 3.0],
            "offer_cost": [0.5, np.nan],
        }
    )
    effects = pd.DataFrame(
        [("mail", "letter", "spend", 4.2, 3.0, 5.4, 60.0), ("mail", "letter", "purchase_days", 0.2, 0.1, 0.3, np.nan)],
        columns=["campaign_id", "arm", "outcome", "estimate", "low", "high", "incremental_profit"],
    )
    panel = pd.DataFrame(
        {
            "campaign_id": "chosen",
            "arm": ["catalogue", "catalogue", "untargeted"],
            "treated": [1, 1, 0],
            "spend": [30.0, 50.0, 10.0],
            "purchase_days": [1, 3, 1],
        }
    )
    return known, spans, effects, panel


def test_the_truth_is_of_all_members_where_arms_are_random_and_of_the_chosen_where_not(campaigns):
    rows = scorecard.effect_rows(*campaigns).set_index(["campaign_id", "outcome"])
    assert rows["planted"].to_dict() == {
        ("mail", "spend"): 4.0,
        ("chosen", "spend"): 2.0,
        ("mail", "purchase_days"): 0.4,
        ("chosen", "purchase_days"): 0.2,
    }
    assert rows.loc[("chosen", "spend"), "naive"] == 30.0
    assert np.isnan(rows.loc[("mail", "spend"), "naive"])
    assert rows["why"].tolist() == ["", "why_targeted", "", "why_targeted"]


def test_effects_without_an_estimate_are_not_found(campaigns, words):
    rows = scorecard.effect_rows(*campaigns)
    facts = scorecard.effect_facts(rows)
    assert (facts["effects"], facts["judged"], facts["held"], facts["sales_held"]) == (4, 2, 1, 1)
    assert (facts["targeted"], facts["planted"], facts["naive"]) == ("Catalogue", 2.0, 30.0)
    nobody = pd.DataFrame(columns=["campaign_id", "arm", "redeemed"])
    profits = scorecard.profit_table(campaigns[0], campaigns[1], nobody, rows, 0.4)
    section = scorecard.campaign_entries(rows, profits, words)
    assert scorecard.verdicts(section).tolist() == ["yes", "not_found", "no", "not_found", "not_found"]


def test_profit_is_margin_on_what_changed_less_coupons_contacts_and_offers(campaigns):
    redeemed = pd.DataFrame({"campaign_id": ["mail"], "arm": ["letter"], "redeemed": [20]})
    rows = scorecard.effect_rows(*campaigns)
    table = scorecard.profit_table(campaigns[0], campaigns[1], redeemed, rows, margin=0.4)
    assert table["true_profit"].tolist() == pytest.approx([(0.4 * (5 + 2) - 2) * 50 - 50 - 10, 0.4 * 2 * 10 - 30])
    assert table["found_profit"].tolist()[0] == 60.0


def test_the_sum_of_profits_is_over_what_the_notebook_tells_of(words):
    table = pd.DataFrame(
        {"campaign": ["A", "B", "C"], "true_profit": [10.0, -16.0, 99.0], "found_profit": [12.0, 3.0, np.nan]}
    )
    facts = scorecard.profit_facts(table)
    assert (facts["arms"], facts["earned"], facts["said"], facts["off"], facts["worst"]) == (2, -6, 15, 21, "B")
    assert "too much" in words("profits", **facts) and "“B”" in words("profits", **facts)
    nothing = scorecard.profit_facts(table[2:])
    assert nothing["earned"] is None and "no profit" in words("profits", **nothing)


def test_who_answers_is_blamed_for_the_level_alone(words):
    paths = pd.DataFrame({"path": ["A → B"], "limit": [0.2], "found": [0.1], "low": [0.05], "high": [0.15]})
    known = scorecard.Limit(pd.Series(dtype=float), pd.Series({"Satisfaction": 70.0}))
    assert COMPANY.response_satisfaction or COMPANY.response_age
    section = scorecard.loyalty_entries(paths, known, COMPANY, None, {}, words)
    assert section["why"].tolist()[:2] == ["", "why_response"]


def test_dirt_comes_last_and_the_rest_stays_in_order():
    card = pd.DataFrame(
        {"notebook": ["01_data_cleaning"] * 2 + ["02_customer_valuation", "05_x"], "quantity": list("abcd")}
    )
    assert scorecard.dirt_last(card)["quantity"].tolist() == list("cdab")


def test_a_path_is_found_under_the_name_that_people_read():
    arrows = pd.DataFrame({"source": ["Satisfaction"], "target": ["Complaints"]})
    shown = arrows.assign(target="Complaint handling", estimate=0.5, low=0.4, high=0.6)
    known = scorecard.Limit(pd.Series([0.54], pd.MultiIndex.from_frame(arrows)), pd.Series(dtype=float))
    consistent = arrows.assign(estimate=0.6, low=0.5, high=0.7)
    row = scorecard.path_rows(arrows.assign(path=0.62), known, shown, consistent).iloc[0]
    assert (row["path"], row["latent"], row["limit"]) == ("Satisfaction → Complaint handling", 0.62, 0.54)
    assert row["corrected"] == 0.6
