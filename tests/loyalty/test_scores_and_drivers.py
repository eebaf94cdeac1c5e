"""Scores from 0 to 100, the loyalty index, the tables for other rooms, drivers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.loyalty import (
    EstimationError,
    PLSPathModel,
    assess_blocks,
    construct_scores,
    customer_loyalty,
    ecsi,
    index_composition,
    index_level,
    item_weights,
    loyalty_drivers,
    loyalty_index,
    nps_groups,
    performance,
    repair_blocks,
)
from analysis.loyalty.parameters import Parameters
from analysis.loyalty.scores import check_scale, snake

SCALE = (1, 10)


@pytest.fixture(scope="module")
def mended(mobi, fitted):
    return PLSPathModel(mobi, repair_blocks(fitted.model, mobi).specification).fit()


@pytest.fixture(scope="module")
def mended_draws(mended):
    return mended.bootstrap(1000, seed=3)


@pytest.fixture(scope="module")
def usable(mended):
    verdicts = assess_blocks(mended)
    return list(verdicts.loc[verdicts["verdict"] != "fail", "construct"])


def test_a_score_is_the_weighted_mean_on_the_scale(mobi, mended, usable):
    """Fornell's formula written out for Value: weights in the items' units, answers from 1 to 10."""
    w = mended.weights["Value"].to_numpy() / mobi[["PERV1", "PERV2"]].std().to_numpy()
    expected = 100 * ((mobi[["PERV1", "PERV2"]] - 1) / 9 @ w) / w.sum()
    np.testing.assert_allclose(construct_scores(mended, SCALE, usable)["value"], expected)


def test_scores_correlate_as_the_composites_do(mended):
    scores = construct_scores(mended, SCALE, mended.specification.constructs)
    np.testing.assert_allclose(scores.corr(), mended.construct_correlations, atol=1e-10)


def test_item_shares_add_up(mended):
    shares = item_weights(mended, SCALE).groupby("construct")["share"].sum()
    np.testing.assert_allclose(shares, 1)


def test_levels_are_the_means_of_the_scores(mended, mended_draws):
    levels = performance(mended, mended_draws, SCALE).set_index("construct")
    scores = construct_scores(mended, SCALE, mended.specification.constructs)
    np.testing.assert_allclose(levels["score"], scores.mean())
    assert (levels["low"] < levels["score"]).all() and (levels["score"] < levels["high"]).all()


def test_extreme_answers_give_0_and_100(mobi, ecsi_model):
    items = list(ecsi_model.items)
    data = mobi.copy()
    data.loc[0, items], data.loc[1, items] = 1, 10
    results = PLSPathModel(data, ecsi_model).fit()
    scores = construct_scores(results, SCALE, ecsi_model.constructs)
    assert (scores.iloc[0] == 0).all() and np.allclose(scores.iloc[1], 100)


@settings(max_examples=20)
@given(st.floats(0.1, 50), st.floats(-100, 100))
def test_the_units_of_the_scale_do_not_matter(mobi, ecsi_model, factor, shift):
    items = list(ecsi_model.items)
    moved = mobi[items] * factor + shift
    one = construct_scores(PLSPathModel(mobi, ecsi_model).fit(), SCALE, ecsi_model.constructs)
    limits = (factor + shift - 1e-9, 10 * factor + shift + 1e-9)
    other = construct_scores(PLSPathModel(moved, ecsi_model).fit(), limits, ecsi_model.constructs)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_items_may_have_scales_of_their_own(mobi):
    model = ecsi({"Value": ["PERV1", "PERV2"], "Satisfaction": ["CUSA1"]})
    fine = mobi.assign(PERV2=(mobi["PERV2"] - 1) / 9 * 4 + 1)
    scale = {"PERV1": (1, 10), "PERV2": (1, 5), "CUSA1": (1, 10)}
    one = construct_scores(PLSPathModel(mobi, model).fit(), SCALE, ["Value"])
    other = construct_scores(PLSPathModel(fine, model).fit(), scale, ["Value"])
    np.testing.assert_allclose(one, other, atol=1e-8)


def test_answers_outside_the_scale_are_named(mended):
    with pytest.raises(EstimationError, match="outside the scale 1 to 7"):
        construct_scores(mended, (1, 7), ["Value"])
    with pytest.raises(EstimationError, match="from low to high"):
        check_scale(pd.DataFrame({"a": [1.0]}), (5, 1))


def test_a_negative_share_makes_no_score(mobi, ecsi_model):
    results = PLSPathModel(mobi.assign(PERQ7=11 - mobi["PERQ7"]), ecsi_model).fit()
    with pytest.raises(EstimationError, match="'Quality' has an item with a negative share"):
        construct_scores(results, SCALE, ["Quality"])


def test_an_unanswered_block_has_no_score(mobi, ecsi_model):
    holed = mobi.astype(dict.fromkeys(ecsi_model.items, float))
    holed.loc[4, ["PERV1", "PERV2"]] = np.nan
    holed.loc[5, "PERV1"] = np.nan
    scores = construct_scores(PLSPathModel(holed, ecsi_model).fit(), SCALE, ["Value", "Quality"])
    assert np.isnan(scores.loc[4, "value"]) and scores.loc[4, "quality"] > 0
    assert scores.loc[5, "value"] > 0


# -- the index ------------------------------------------------------------------------------------------------


def test_missing_parts_give_their_weight_to_the_others(blocks, usable):
    parts = index_composition(blocks, usable).set_index("part")
    assert parts["status"].to_dict() == {
        "trust": "used",
        "frequency": "not asked",
        "service": "used",
        "satisfaction": "used",
        "intention": "used",
    }
    assert parts["weight"].tolist() == [0.25, 0, 0.25, 0.25, 0.25]
    fewer = index_composition(blocks, ["Satisfaction", "Quality"]).set_index("part")
    assert fewer.loc["intention", "status"] == "failed" and fewer.loc["intention", "weight"] == 0
    assert fewer["weight"].sum() == 1


def test_the_index_is_the_weighted_mean_of_its_parts(mended, mended_draws, blocks, usable):
    composition = index_composition(blocks, usable)
    scores = construct_scores(mended, SCALE, usable)
    index = loyalty_index(scores, composition)
    np.testing.assert_allclose(index, scores[["image", "quality", "satisfaction", "loyalty"]].mean(axis=1))
    level, low, high = index_level(mended, mended_draws, SCALE, composition)
    assert level == pytest.approx(index.mean()) and low < level < high


def test_no_part_no_index(mended, mended_draws, blocks):
    composition = index_composition(blocks, [])
    assert loyalty_index(pd.DataFrame(index=[0, 1]), composition).isna().all()
    assert all(np.isnan(x) for x in index_level(mended, mended_draws, SCALE, composition))


def test_customer_loyalty_table(mobi, mended, blocks, usable):
    table = customer_loyalty(mobi, mended, SCALE, usable, index_composition(blocks, usable))
    assert list(table) == [
        "response_id", "customer_id", "image", "expectation", "quality", "value", "satisfaction", "complaints",
        "loyalty", "loyalty_index",
    ]  # fmt: skip
    assert table["response_id"].is_unique and len(table) == 250
    assert table["customer_id"].isna().all()
    assert table["expectation"].isna().all(), "no score on a block that failed"
    numbers = table.drop(columns=["response_id", "customer_id", "expectation"])
    assert numbers.notna().all().all() and ((numbers >= 0) & (numbers <= 100)).all().all()


def test_optional_columns_come_when_given(mobi, mended, usable, blocks):
    data = mobi.assign(customer_id=["c"] * 249 + [None])
    more = {
        "nps_group": nps_groups(mobi["CUSL3"], scale=(1, 10)),
        "delivered_value": pd.Series(60.0, index=mobi.index, name="delivered_value"),
        "referral_value": None,
    }
    table = customer_loyalty(data, mended, SCALE, usable, index_composition(blocks, usable), **more)
    assert set(table["nps_group"]) == {"promoter", "passive", "detractor"}
    assert (table["delivered_value"] == 60).all() and "referral_value" not in table
    assert table["customer_id"].tolist()[:249] == ["c"] * 249 and table["customer_id"].isna().sum() == 1


def test_column_names():
    assert snake("Perceived  value (net)") == "perceived_value_net"


# -- drivers --------------------------------------------------------------------------------------------------


def test_drivers_are_total_effects_with_limits(mended, mended_draws):
    table = loyalty_drivers(mended, mended_draws, SCALE, unusable=["Expectation"])
    for row in table.itertuples():
        assert row.effect == pytest.approx(mended.total_effects.loc[row.driver, row.target])
        assert row.low < row.effect < row.high
        assert row.points_low < row.points < row.points_high
        assert row.measured == (row.driver != "Expectation")
        assert np.isnan(row.performance) == (row.driver == "Expectation")
    assert table["target"].drop_duplicates().tolist() == ["Satisfaction", "Loyalty"]
    for _, part in table.groupby("target"):
        assert part["effect"].is_monotonic_decreasing
        assert part["first_share"].sum() == pytest.approx(1)
    assert table.iloc[0][["target", "driver"]].tolist() == ["Satisfaction", "Quality"]


def test_points_are_slopes_of_the_scores(mobi):
    """With one driver the effect in points is the slope of a regression of one 0-100 score on the other."""
    model = ecsi({"Value": ["PERV1", "PERV2"], "Satisfaction": ["CUSA1", "CUSA2"]})
    results = PLSPathModel(mobi, model).fit()
    table = loyalty_drivers(results, results.bootstrap(200, seed=1), SCALE)
    scores = construct_scores(results, SCALE, model.constructs)
    slope = np.polyfit(scores["value"], scores["satisfaction"], 1)[0]
    assert table.loc[0, "points"] == pytest.approx(slope)
    assert len(table) == 1


def test_targets_that_the_survey_lacks_are_left_out(mobi):
    model = ecsi({"Value": ["PERV1", "PERV2"], "Satisfaction": ["CUSA1", "CUSA2"]})
    results = PLSPathModel(mobi, model).fit()
    draws = results.bootstrap(200, seed=1)
    assert set(loyalty_drivers(results, draws, SCALE)["target"]) == {"Satisfaction"}
    with pytest.raises(EstimationError, match="nothing leads to Loyalty"):
        loyalty_drivers(results, draws, SCALE, targets=["Loyalty"])


# -- parameters -----------------------------------------------------------------------------------------------


def test_parameters_are_typed_and_limited():
    assert Parameters().study == "ecsi_mobile"
    for wrong in ({"draws": 50}, {"scheme": "pls"}, {"confidence": 95}, {"unknown": 1}, {"minimum_alpha": 7}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Parameters(**wrong)
