"""Who answers, raking, and what weights can and cannot undo."""

import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from analysis.errors import RapportError
from analysis.loyalty import (
    compare_with_base,
    delivered_parts,
    kish,
    nps_groups,
    rake,
    response_propensity,
    response_weights,
    survey_base,
    wave_labels,
    wave_starts,
    with_and_without,
)

AGES = np.array(["18-29", "30-44", "45-59", "60+"])


def company(rng, n: int = 2000, age: float = 0.5, satisfaction: float = 0.0) -> tuple[pd.DataFrame, pd.Series]:
    """A base whose image depends on age and whose answering depends on age and satisfaction; who answered."""
    band = rng.choice(4, n, p=[0.3, 0.3, 0.25, 0.15])
    image = 0.4 * (band - 1.25) + rng.normal(size=n)
    feeling = rng.normal(size=n)
    chance = 1 / (1 + np.exp(1.2 - age * (band - 1.25) - satisfaction * feeling))
    base = pd.DataFrame(
        {"customer_id": np.char.add("c", np.arange(n).astype(str)), "age_band": AGES[band], "region": rng.choice(["n", "s"], n),
         "orders": rng.poisson(3, n), "image": image, "satisfaction": feeling}
    )  # fmt: skip
    return base, base["customer_id"][rng.random(n) < chance].reset_index(drop=True)


# -- raking ---------------------------------------------------------------------------------------------------


def test_one_margin_is_poststratification():
    cells = pd.DataFrame({"age": ["young"] * 30 + ["old"] * 70})
    found = rake(cells, {"age": pd.Series({"young": 0.6, "old": 0.4})})
    np.testing.assert_allclose(found.weights[[0, -1]], [2.0, 4 / 7])
    assert found.converged and found.trimmed == 0


def test_two_margins_are_met_and_the_odds_ratio_stays():
    """What iterative proportional fitting leaves alone: the cross-product ratio of the table (Deming & Stephan)."""
    counts = {("a", "x"): 50, ("a", "y"): 20, ("b", "x"): 10, ("b", "y"): 40}
    cells = pd.DataFrame([pair for pair, n in counts.items() for _ in range(n)], columns=["row", "column"])
    targets = {"row": pd.Series({"a": 0.3, "b": 0.7}), "column": pd.Series({"x": 0.55, "y": 0.45})}
    found = rake(cells, targets)
    table = pd.Series(found.weights).groupby([cells["row"], cells["column"]]).sum().unstack() / 120
    np.testing.assert_allclose(table.sum(axis=1), [0.3, 0.7], atol=1e-6)
    np.testing.assert_allclose(table.sum(axis=0), [0.55, 0.45], atol=1e-6)
    ratio = table.loc["a", "x"] * table.loc["b", "y"] / (table.loc["a", "y"] * table.loc["b", "x"])
    assert ratio == pytest.approx(50 * 40 / (20 * 10), rel=1e-4)
    assert found.weights.mean() == pytest.approx(1)


def test_design_weights_are_kept_within_cells():
    cells = pd.DataFrame({"age": ["young"] * 4 + ["old"] * 4})
    start = np.array([1.0, 1, 1, 3] * 2)
    found = rake(cells, {"age": pd.Series({"young": 0.5, "old": 0.5})}, initial=start)
    np.testing.assert_allclose(found.weights, start * 8 / start.sum())


def test_trimming_bounds_the_weights_and_says_when_margins_are_missed():
    rng = np.random.default_rng(1)
    cells = pd.DataFrame(
        {"a": rng.choice(["x", "y"], 500, p=[0.9, 0.1]), "b": rng.choice(["u", "v"], 500, p=[0.9, 0.1])}
    )
    targets = {"a": pd.Series({"x": 0.5, "y": 0.5}), "b": pd.Series({"u": 0.5, "v": 0.5})}
    free, bound, tight = (rake(cells, targets, trim=limit) for limit in (100, 12, 2))
    assert free.weights.max() > 12 and free.converged
    assert bound.weights.max() < 12.001 and bound.converged and bound.trimmed > 0
    assert not tight.converged and tight.largest_gap > 0.05 and tight.weights.max() == pytest.approx(2)
    assert tight.weights.mean() == pytest.approx(1)


def test_empty_cells_are_named():
    cells = pd.DataFrame({"age": ["young"] * 5})
    with pytest.raises(RapportError, match="age: level 'old' is empty on one side"):
        rake(cells, {"age": pd.Series({"young": 0.5, "old": 0.5})})
    with pytest.raises(RapportError, match="must be positive"):
        rake(cells, {"age": pd.Series({"young": 1.0})}, initial=np.zeros(5))
    with pytest.raises(RapportError, match="above 1"):
        rake(cells, {"age": pd.Series({"young": 1.0})}, trim=1)


def test_kish():
    """Half the answers weigh three times the others: 1 + cv² = 1.25."""
    assert kish([1, 1, 3, 3]) == (pytest.approx(1.25), pytest.approx(3.2))
    assert kish(np.ones(7)) == (1.0, 7.0)


# -- the bias that weights undo, and the one that they do not -----------------------------------------------------


def test_weights_on_age_undo_what_runs_along_age():
    rng = np.random.default_rng(2)
    plain, weighted = [], []
    for _ in range(30):
        base, told = company(rng)
        found = response_weights(pd.DataFrame({"customer_id": told}), {"1": base}, None, ["age_band", "region"])
        image = told.map(base.set_index("customer_id")["image"])
        plain.append(image.mean() - base["image"].mean())
        weighted.append((found.weights * image).mean() - base["image"].mean())
    assert np.mean(plain) > 0.1
    assert abs(np.mean(weighted)) < 4 * np.std(weighted) / np.sqrt(30) + 0.005


def test_weights_on_age_leave_what_comes_from_satisfaction_itself():
    rng = np.random.default_rng(3)
    plain, weighted = [], []
    for _ in range(10):
        base, told = company(rng, satisfaction=0.5)
        found = response_weights(pd.DataFrame({"customer_id": told}), {"1": base}, None, ["age_band"])
        feeling = told.map(base.set_index("customer_id")["satisfaction"])
        plain.append(feeling.mean())
        weighted.append((found.weights * feeling).mean())
    assert np.mean(plain) > 0.2 and np.mean(weighted) > 0.9 * np.mean(plain)


# -- weights of waves -----------------------------------------------------------------------------------------


def test_each_wave_stands_for_its_own_base():
    rng = np.random.default_rng(4)
    (base, told), (later, again) = company(rng), company(rng, age=-0.5)
    answers = pd.DataFrame({"customer_id": pd.concat([told, again, pd.Series(["stranger", None])], ignore_index=True)})
    answers["wave"] = [1.0] * len(told) + [2.0] * (len(again) + 2)
    found = response_weights(answers, {"1": base, "2": later}, "wave", ["age_band", "gender"], ["orders"])
    assert found.weights.groupby(answers["wave"]).mean().tolist() == pytest.approx([1, 1])
    waves = found.waves.set_index("wave")
    assert waves["converged"].all() and waves["outside"].tolist() == [0, 2]
    assert (waves["design_effect"] > 1).all() and (waves["effective"] < waves["answers"]).all()
    assert waves.loc["1", "response"] == pytest.approx(len(told) / len(base))
    np.testing.assert_allclose(found.margins["weighted"], found.margins["base"], atol=1e-5)
    assert found.notes["variable"].unique().tolist() == ["gender"]
    assert set(found.margins["variable"]) == {"age_band", "orders"}


def test_sparse_levels_are_put_together_and_unknown_ones_kept():
    rng = np.random.default_rng(5)
    base, told = company(rng)
    base.loc[:30, "age_band"] = "100+"
    base.loc[31:34, "age_band"] = "0-17"
    base.loc[35:600, "region"] = None
    found = response_weights(pd.DataFrame({"customer_id": told}), {"1": base}, None, ["age_band", "region"])
    levels = found.margins.groupby("variable")["level"].apply(set)
    assert "0-17" not in levels["age_band"] and "other" in levels["age_band"]
    assert levels["region"] == {"n", "s", "unknown"}
    assert "0-17" in found.notes.loc[0, "reason"] and "put together" in found.notes.loc[0, "reason"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda base, told: (base, told.head(3)), "only 3 of the customers in the base answered"),
        (lambda base, told: (base, base["customer_id"]), "every customer in the base answered"),
        (lambda base, told: (base[["customer_id"]], told), "nothing is known"),
        (lambda base, told: (base.assign(age_band="all"), told), "nothing is known"),
        (lambda base, told: (base, told.map(lambda _: None)), "only 0 of"),
    ],
)
def test_where_no_weights_can_be_made_they_are_one_and_the_reason_is_told(change, reason):
    base, told = change(*company(np.random.default_rng(6), 500))
    found = response_weights(pd.DataFrame({"customer_id": told}), {"1": base}, None, ["age_band"])
    assert (found.weights == 1).all() and found.waves.loc[0, "reason"].startswith(reason)
    assert found.waves.loc[0, "effective"] == len(told)


# -- who answers ----------------------------------------------------------------------------------------------


def test_comparison_by_hand():
    base = pd.DataFrame({"customer_id": range(100), "sex": ["f"] * 60 + ["m"] * 40, "orders": [1] * 50 + [3] * 50})
    told = pd.Series([*range(10), *range(60, 90)])
    weights = pd.Series([2.4] * 10 + [1.6 / 3] * 30)
    table = compare_with_base(told, base, ["sex"], ["orders"], weights=weights, small_group=5).set_index(
        ["variable", "level"]
    )
    row = table.loc[("sex", "f")]
    assert (row["base"], row["answered"]) == (0.6, 0.25) and row["weighted"] == pytest.approx(0.6)
    assert row["standardised"] == pytest.approx(-0.35 / np.sqrt(0.24))
    assert row["standardised_low"] < row["standardised"] < row["standardised_high"] < 0
    np.testing.assert_allclose(row[["low", "high"]].astype(float), [0.1419, 0.4019], atol=1e-4)
    assert table.loc[("orders", ""), ["base", "answered"]].tolist() == [2.0, 2.5]


def test_the_standardised_difference_covers_zero_when_anybody_may_answer():
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(200):
        base = pd.DataFrame({"customer_id": np.arange(300), "spend": rng.gamma(2, 10, 300)})
        told = base["customer_id"][rng.random(300) < 0.4]
        row = compare_with_base(told, base, (), ["spend"]).iloc[0]
        hits.append(row["standardised_low"] <= 0 <= row["standardised_high"])
    assert np.mean(hits) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_nobody_to_compare_with():
    base, _ = company(np.random.default_rng(8), 50)
    with pytest.raises(RapportError, match="nobody who answered is among"):
        compare_with_base(pd.Series(["x"]), base, ["age_band"])
    with pytest.raises(RapportError, match="every customer of this wave answered"):
        compare_with_base(base["customer_id"], base, ["age_band"])


def test_propensity_finds_what_was_planted():
    base, told = company(np.random.default_rng(9), 20_000)
    found = response_propensity(told, base, ["age_band", "region"], ["orders"])
    terms = found.terms.set_index(["variable", "level"])
    against = terms.loc["age_band"]["against"].iloc[0]
    for level, row in terms.loc["age_band"].iterrows():
        planted = np.exp(0.5 * (list(AGES).index(level) - list(AGES).index(against)))
        assert row["low"] / 1.05 < planted < row["high"] * 1.05
    for row in (terms.loc[("orders", "a fifth more")], terms.loc["region"].iloc[0]):
        assert row["low"] / 1.03 < 1 < row["high"] * 1.03
    answered = base["customer_id"].isin(told)
    planted = roc_auc_score(answered, base["age_band"].map({age: k for k, age in enumerate(AGES)}))
    assert found.auc == pytest.approx(planted, abs=0.01) and found.auc_low < planted < found.auc_high


def test_propensity_of_chance_is_a_half():
    base, _ = company(np.random.default_rng(10))
    told = base["customer_id"].sample(800, random_state=1)
    found = response_propensity(told, base, ["age_band", "region"], ["orders"])
    assert found.auc_low < 0.5 < found.auc_high + 0.01


def test_propensity_says_why_it_cannot():
    base, told = company(np.random.default_rng(11), 400)
    assert "varies" in response_propensity(told, base[["customer_id"]], ["age_band"]).reason
    assert "fewer than ten" in response_propensity(told.head(12), base, (), ["orders", "image"]).reason
    split = base.assign(orders=base["customer_id"].isin(told).astype(int))
    assert "without error" in response_propensity(told, split, (), ["orders"]).reason


# -- the base -------------------------------------------------------------------------------------------------


def test_base_and_waves():
    answers = pd.DataFrame(
        {"responded_on": [datetime.date(2024, 5, 2), datetime.date(2024, 5, 1), None], "wave": [1.0, 1, 2]}
    )
    assert wave_starts(answers, None) == {"1": datetime.date(2024, 5, 1)}
    assert wave_labels(answers, "wave").tolist() == ["1", "1", "2"]
    with pytest.raises(RapportError, match="no day"):
        wave_starts(answers.drop(columns="responded_on"), None)
    summary = pd.DataFrame({"customer_id": ["a", "b"], "orders": [1, 2], "spend": [3.0, 4.0], "T": [1, 2]})
    people = pd.DataFrame({"customer_id": ["b", "c"], "region": ["n", "s"]})
    base = survey_base(summary, people, ["region", "age"])
    pd.testing.assert_frame_equal(survey_base(summary[::-1], people, ["region", "age"]), base)
    assert (
        list(base) == ["customer_id", "orders", "spend", "region"]
        and base["region"].tolist()[1] == "n"
        and len(base) == 2
    )


# -- with and without -----------------------------------------------------------------------------------------


def test_equal_weights_change_nothing(mobi, ecsi_model):
    table = with_and_without(mobi, ecsi_model, (1, 10), pd.Series(1.0, mobi.index), draws=30)
    assert set(table["kind"]) == {"score", "path"} and len(table) == 7 + 12
    np.testing.assert_allclose(table[["difference", "low", "high"]], 0, atol=1e-9)


def test_weights_shift_what_depends_on_them(mobi, ecsi_model):
    satisfied = mobi[["CUSA1", "CUSA2", "CUSA3"]].mean(axis=1)
    weights = 1 + 0.1 * (satisfied.mean() - satisfied)
    groups = nps_groups(mobi["CUSL3"], scale=(1, 10))
    parts = delivered_parts(mobi, {"product": "PERQ1"}, {"money": "PERV1"}, (1, 10))
    options = {"groups": groups, "parts": parts, "customers": pd.Series(np.arange(250) // 2)}
    table = with_and_without(mobi, ecsi_model, (1, 10), weights, draws=60, **options).set_index("name")
    row = table.loc["Satisfaction"]
    assert row["weighted"] - row["unweighted"] == pytest.approx(row["difference"]) and row["high"] < 0
    assert table.loc["nps", "high"] < 0
    points = groups.map({"promoter": 100, "passive": 0, "detractor": -100})
    assert table.loc["nps", "weighted"] == pytest.approx((weights * points).sum() / weights.sum())
    assert (table["low"] <= table["difference"] + 1e-9).all() and (table["difference"] <= table["high"] + 1e-9).all()
