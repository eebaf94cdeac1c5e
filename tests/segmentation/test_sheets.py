"""A sheet for each group: what its members bring and do, nothing about a handful, and intervals that hold."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import poisson

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.segmentation.sheets import (
    OTHERS,
    advice,
    group_name,
    mean_interval,
    segment_sheets,
    sheet_facts,
    sheet_table,
    survey_scores,
)
from analysis.tables import LIFE_STAGES, VALUE_TIERS

WORDS = segmentation.Words(Formatter("en", "USD"), "households")
NAMES = {"customer": "household", "customers": "households"}


def base(sizes=(("A", 60), ("B", 40)), seed=1):
    rng = np.random.default_rng(seed)
    group = np.repeat([name for name, _ in sizes], [n for _, n in sizes]).astype(object)
    n = len(group)
    spend = np.round(rng.gamma(2, 100, n), 2)
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(n)],
            "group": np.where(group == "", None, group),
            "spend": spend,
            "margin": 0.3 * spend,
            "purchase_days": rng.integers(1, 12, n),
            "recency_days": rng.integers(0, 90, n),
            "categories": rng.integers(1, 6, n),
            "value_tier": np.where(group == "A", "protect", "invest"),
            "life_stage": "stability",
        }
    )


def test_sums_and_means_are_those_of_the_members():
    customers = base()
    found = segment_sheets(customers, "group", 10, exposure_days=np.full(100, 365.25)).set_index("group")
    members = customers[customers["group"] == "B"]
    row = found.loc["B"]
    assert row["customers"] == 40 and row["share_customers"] == 0.4
    assert row["share_sales"] == pytest.approx(members["spend"].sum() / customers["spend"].sum())
    assert row["purchase_days_year"] == pytest.approx(members["purchase_days"].mean())
    assert row["basket"] == pytest.approx(members["spend"].sum() / members["purchase_days"].sum())
    assert row["spend_low"] < members["spend"].mean() < row["spend_high"]
    assert (row["value_tier"], row["tier_share"]) == ("invest", 1.0)
    assert np.isnan(row["residual_total"]) and np.isnan(row["survey_mean"])


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ((("A", 60), ("B", 40), ("C", 3)), {"A": 60, OTHERS: 43}),
        ((("A", 60), ("B", 40), ("C", 8), ("D", 7)), {"A": 60, "B": 40, OTHERS: 15}),
        ((("A", 60), ("B", 40), ("", 4)), {"A": 60, OTHERS: 44}),
        ((("A", 60), ("", 40)), {"A": 60, None: 40}),
        ((("A", 4), ("B", 5), ("C", 6)), {OTHERS: 15}),
    ],
)
def test_small_groups_are_shown_together_and_cannot_be_worked_out(sizes, shown):
    found = segment_sheets(base(sizes), "group", 10)
    names = [None if name is None or name != name else name for name in found["group"]]
    assert dict(zip(names, found["customers"], strict=True)) == shown
    assert found["customers"].sum() == sum(n for _, n in sizes)
    for _, row in found.iterrows():
        row = row.to_dict() | {"group": None if row["group"] != row["group"] else row["group"]}
        assert sheet_table(row, WORDS, 52)["value"].str.len().gt(0).all()


def test_too_few_customers_are_refused_in_one_line():
    for customers in (base((("A", 5),)), base().head(0)):
        with pytest.raises(ValueError, match="too few to show; at least 10") as caught:
            segment_sheets(customers, "group", 10)
        assert "\n" not in str(caught.value)
    assert segment_sheets(base((("A", 1),)), "group", 1)["customers"].tolist() == [1]


def test_a_customer_who_answered_twice_counts_once_and_few_answers_are_not_shown():
    customers = base()
    a = customers["customer_id"][:40]
    survey = pd.DataFrame({"customer_id": [*a, a[0], "c60", None], "score": [7.0] * 39 + [9.0, 3.0, 1.0, 1.0]})
    found = segment_sheets(customers, "group", 10, survey=survey, score="score").set_index("group")
    assert found.loc["A", "respondents"] == 40
    assert found.loc["A", "survey_mean"] == pytest.approx((7 * 38 + 9 + 5) / 40)
    assert found.loc["A", "survey_low"] < found.loc["A", "survey_mean"] < found.loc["A", "survey_high"]
    assert np.isnan(found.loc["B", "survey_mean"])


def test_the_interval_of_a_mean_holds_it():
    rng = np.random.default_rng(4)
    held = [low <= 200 <= high for low, high in (mean_interval(rng.gamma(4, 50, 60)) for _ in range(200))]
    assert np.mean(held) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    assert np.isnan(mean_interval([5.0] * 40)).all() and np.isnan(mean_interval(np.arange(29.0))).all()


def future(rng, doubt):
    """Customers with a known rate of buying, their limits, and what they then bring, with an error common to all."""
    n, spend = 300, 20.0
    rate = rng.gamma(0.6, 5, n)
    low, top, one = (spend * poisson.ppf(q, rate) for q in (0.025, 0.975, 0.95))
    worth = spend * rate
    frame = pd.DataFrame(
        {
            "group": np.repeat(["A", "B", "C"], n // 3), "spend": 1.0, "residual_value": worth, "existing_value": 10.0,
            "clv_low": 10 + np.minimum(low, worth), "clv_high": 10 + np.maximum(np.where(low > 0, top, one), worth),
            "expected_purchases": rate,
        }
    )  # fmt: skip
    common = 1 + doubt * rng.standard_normal()
    came = spend * rng.poisson(rate * max(common, 0.0))
    total, chance = worth.sum(), spend**2 * rate.sum()
    reach = 1.96 * np.sqrt(chance + (doubt * total) ** 2)
    return frame, (total, total - reach, total + reach), came


@pytest.mark.parametrize("doubt", [0.15])
def test_what_a_group_brings_lies_in_its_interval(doubt):
    rng = np.random.default_rng(7)
    held, wide = [], []
    for _ in range(200):
        frame, total, came = future(rng, doubt)
        found = segment_sheets(frame, "group", 10, base_value=total).set_index("group")
        for group, row in found.iterrows():
            held.append(row["residual_low"] <= came[(frame["group"] == group).to_numpy()].sum() <= row["residual_high"])
            wide.append((row["residual_high"] - row["residual_low"]) / row["residual_total"])
    assert np.mean(held) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    assert np.mean(wide) < 2 * 1.96 * (np.hypot(doubt, 0.06) * 2)


def test_without_the_interval_of_the_base_a_group_has_none_and_the_sheet_says_so():
    frame, total, _ = future(np.random.default_rng(1), 0.1)
    for given in (None, (total[0], None, None)):
        found = segment_sheets(frame, "group", 10, base_value=given)
        assert found["residual_total"].notna().all() and found[["residual_low", "residual_high"]].isna().all(axis=None)
        sheet = sheet_table(found.iloc[0], WORDS, 52).set_index("what")["value"]
        assert "no range" in sheet["Expected margin"]


@pytest.mark.parametrize("tier", VALUE_TIERS)
def test_every_tier_and_stage_has_its_own_advice(tier):
    said = {
        stage: advice(
            {"group": "A", "value_tier": tier, "tier_share": 0.9, "life_stage": stage, "stage_share": 0.9}, WORDS
        )
        for stage in LIFE_STAGES
    }
    assert all(said.values())
    if tier in ("protect", "invest"):
        assert len({said["decline"], said["ended"], said["stability"]}) == 3
    mixed = advice(
        {"group": "A", "value_tier": tier, "tier_share": 0.4, "life_stage": None, "stage_share": np.nan}, WORDS
    )
    assert mixed not in said.values()


def test_labels_are_text_and_codes_become_words():
    customers = base().assign(group="<b>*x*</b>")
    facts = sheet_facts(segment_sheets(customers, "group", 10).iloc[0], WORDS, 52)
    said = Sentences("03_segmentation", WORDS.format).render("sheet", **NAMES, **facts)
    assert "<b>" not in said and "*x*" not in said
    by_tier = segment_sheets(base(), "value_tier", 10)
    assert {group_name(row, WORDS, "tier") for _, row in by_tier.iterrows()} == {"Protect", "Invest"}
    lines = sheet_table(by_tier.iloc[0], WORDS, 52, "tier")["what"].tolist()
    assert "What they say" not in lines and lines[-1] == "What to do"


def test_values_and_features_are_joined_by_customer():
    customers = base()
    summary = customers[["customer_id", "spend", "value_tier"]]
    value = pd.DataFrame({"customer_id": customers["customer_id"], "residual_value": np.arange(100.0)}).iloc[::-1]
    found = segmentation.sheet_inputs(summary, value, customers[["customer_id", "spend", "purchase_days"]].head(50))
    assert found["residual_value"].tolist() == list(range(100))
    assert found["spend"].tolist() == customers["spend"].tolist() and found["purchase_days"].isna().sum() == 50
    with pytest.raises(ValueError, match="more than one row"):
        segmentation.sheet_inputs(summary, pd.concat([value, value]))


def test_a_response_is_the_mean_of_what_was_answered():
    answers = pd.DataFrame({"customer_id": ["a", "b", None, "c"], "s1": [10, 1, 5, None], "s2": [None, 10, 5, None]})
    found = survey_scores(answers, ["s1", "s2", "s3"], (1, 10))
    assert found.to_dict("list") == {"customer_id": ["a", "b"], "score": [100.0, 50.0]}
    assert survey_scores(answers, ["s3"], (1, 10)) is None
    assert survey_scores(answers.drop(columns="customer_id"), ["s1"], (1, 10)) is None
    assert survey_scores(answers.assign(s1=None, s2=None), ["s1", "s2"], (1, 10)) is None
