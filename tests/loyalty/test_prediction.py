"""Prediction out of sample: by hand, fold by fold; customers whole; what cannot be predicted is said to be so."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import (
    EstimationError,
    PLSPathModel,
    composite,
    drives,
    moderated,
    numbered,
    predict,
    predictive_power,
    specify,
)
from analysis.loyalty.prediction import _dealt


def chained(n, rng, path=0.7):
    """X -> M -> Y, two items each."""
    x = rng.standard_normal(n)
    m = path * x + np.sqrt(1 - path**2) * rng.standard_normal(n)
    y = path * m + np.sqrt(1 - path**2) * rng.standard_normal(n)
    scores = {"x": x, "m": m, "y": y}
    return pd.DataFrame(
        {f"{name}{k}": 5 + 2 * s + rng.standard_normal(n) for name, s in scores.items() for k in (1, 2)}
    )


MODEL = specify(*(composite(n, numbered(n.lower(), 2)) for n in "XMY"), drives("X", "M"), drives("M", "Y"))


@pytest.mark.parametrize("antecedents", ["direct", "earliest"])
def test_errors_equal_those_of_refitting_without_each_fold(antecedents):
    rng = np.random.default_rng(1)
    data = chained(60, rng)
    data.iloc[3, 4] = np.nan
    data.iloc[5, 0] = np.nan
    results = PLSPathModel(data, MODEL).fit()
    found = predict(results, antecedents, folds=4, repetitions=1, seed=9).set_index("item")
    (fold_of,) = _dealt(60, 4, 1, np.random.default_rng(9))
    errors = {"pls": [], "lm": [], "mean": []}
    for k in range(4):
        train, test = data[fold_of != k], data[fold_of == k]
        fitted = PLSPathModel(train, MODEL).fit()
        mean, filled = train.mean(), train.fillna(train.mean())
        sd = filled.std(ddof=0)
        z = ((test - mean) / sd).fillna(0)
        source = "M" if antecedents == "direct" else "X"
        score = z[list(MODEL.blocks[source])] @ fitted.weights[source].to_numpy()
        effect = fitted.total_effects.loc[source, "Y"]
        predicted = mean["y1"] + sd["y1"] * score * effect * fitted.loadings["Y", "y1"]
        predictors = list(MODEL.blocks[source])
        design = np.c_[np.ones(len(train)), filled[predictors]]
        line, *_ = np.linalg.lstsq(design, filled["y1"].to_numpy(), rcond=None)
        regression = np.c_[np.ones(len(test)), test[predictors].fillna(mean)] @ line
        errors["pls"].append(test["y1"] - predicted)
        errors["lm"].append(test["y1"] - regression)
        errors["mean"].append(test["y1"] - mean["y1"])
    rmse = {name: float(np.sqrt((pd.concat(parts) ** 2).mean())) for name, parts in errors.items()}
    mae = {name: float(pd.concat(parts).abs().mean()) for name, parts in errors.items()}
    row = found.loc["y1"]
    assert row[["rmse", "rmse_lm", "rmse_mean"]].tolist() == pytest.approx(list(rmse.values()), abs=1e-8)
    assert row[["mae", "mae_lm", "mae_mean"]].tolist() == pytest.approx(list(mae.values()), abs=1e-8)
    assert row["q2_predict"] == pytest.approx(1 - rmse["pls"] ** 2 / rmse["mean"] ** 2)
    assert row["over_lm"] == pytest.approx(rmse["lm"] ** 2 - rmse["pls"] ** 2)


def test_large_samples_reach_what_is_to_be_known():
    """M explains .49 of Y, each item is 4/5 construct and 1/5 noise, so M's two items know .49 · 8/9 · 4/5 of an item of Y."""
    found = predict(PLSPathModel(chained(20_000, np.random.default_rng(2)), MODEL).fit(), repetitions=2).set_index(
        "item"
    )
    for item in ("y1", "y2"):
        assert found.loc[item, "q2_predict"] == pytest.approx(0.49 * 8 / 9 * 4 / 5, abs=0.02)
        assert found.loc[item, "q2_low"] < 0.49 * 8 / 9 * 4 / 5 < found.loc[item, "q2_high"]


def test_noise_is_not_predicted():
    rng = np.random.default_rng(3)
    data = pd.DataFrame(rng.standard_normal((300, 6)), columns=list(MODEL.items))
    found = predict(PLSPathModel(data, MODEL).fit())
    assert (found["q2_low"] < 0).all() and (found["q2_predict"] < 0.02).all()


def test_a_customers_answers_stay_in_one_fold():
    """Every customer twice, alike: split over folds, a customer's twin would give the answer away to no benefit of the mean."""
    rng = np.random.default_rng(4)
    data = chained(50, rng)
    twice = pd.concat([data, data], ignore_index=True)
    whole = PLSPathModel(twice, MODEL, customers=pd.Series(np.tile(np.arange(50), 2))).fit()
    once = PLSPathModel(data, MODEL).fit()
    pd.testing.assert_frame_equal(predict(whole, seed=5), predict(once, seed=5), rtol=1e-6)
    apart = predict(PLSPathModel(twice, MODEL).fit(), seed=5)
    width = (apart["q2_high"] - apart["q2_low"]) / (predict(once, seed=5)["q2_high"] - predict(once, seed=5)["q2_low"])
    assert (width < 0.85).all()


def test_a_weight_of_nought_is_nobody():
    rng = np.random.default_rng(6)
    data = chained(80, rng)
    weights = np.ones(80)
    weights[:20] = 0
    data.iloc[:20, 4:] = 1_000.0
    found = predict(PLSPathModel(data, MODEL, weights=weights).fit(), folds=5)
    assert (found["rmse_mean"] < 4).all() and (found["q2_predict"] > 0).all()


def test_power_is_put_in_words():
    frame = pd.DataFrame(
        {
            "construct": ["A", "A", "B", "B", "C", "C", "C", "D"],
            "rmse": [1.0, 1.0, 1.0, 1.2, 1.0, 1.2, 1.2, 1.0],
            "rmse_lm": [1.1] * 8,
            "q2_predict": [0.2] * 7 + [-0.1],
        }
    )
    found = predictive_power(frame).set_index("construct")
    assert found["power"].to_dict() == {"A": "high", "B": "medium", "C": "low", "D": "none"}
    assert found.loc["C", ["items", "above_mean", "above_lm"]].tolist() == [3, 3, 1]
    assert predictive_power(frame.assign(rmse=2.0))["power"].eq("none").all()


def test_bad_requests_are_named(fitted, mobi, blocks):
    with pytest.raises(EstimationError, match="folds=1"):
        predict(fitted, folds=1)
    with pytest.raises(EstimationError, match="folds=251"):
        predict(fitted, folds=251)
    with pytest.raises(EstimationError, match="antecedents='all'"):
        predict(fitted, "all")
    staged = specify(
        *(composite(n, blocks[n]) for n in ("Image", "Satisfaction", "Loyalty")),
        drives(["Image", "Satisfaction", moderated("Satisfaction", by="Image")], "Loyalty"),
    )
    with pytest.raises(EstimationError, match="made of scores"):
        predict(PLSPathModel(mobi, staged).fit())


def test_a_fold_that_takes_all_of_an_items_variation_is_named():
    data = chained(40, np.random.default_rng(7))
    data["x1"] = (np.arange(40) == 0).astype(float)
    with pytest.raises(EstimationError, match="without one of the folds"):
        predict(PLSPathModel(data, MODEL).fit())
