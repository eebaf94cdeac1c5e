"""Customer delivered value: its parts, its totals, stated and derived weights."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import (
    EstimationError,
    delivered_levels,
    delivered_parts,
    delivered_totals,
    delivered_value,
    derived_weights,
)

VALUES = {"product": "p", "service": "s"}
COSTS = {"money": "m", "time": "t"}
SCALE = (1, 10)


def simulated(rng, n: int, slopes: dict[str, float]) -> tuple[pd.DataFrame, pd.Series]:
    mood = rng.normal(0, 6, n)
    parts = pd.DataFrame({part: 60 + 12 * rng.normal(size=n) + mood for part in slopes})
    satisfaction = 50 + parts.to_numpy() @ np.array(list(slopes.values())) + rng.normal(0, 8, n)
    return parts, pd.Series(satisfaction)


def test_totals_by_hand():
    data = pd.DataFrame({"p": [10, 1], "s": [10, 1], "m": [1, 10], "t": [1, 10]})
    totals = delivered_totals(delivered_parts(data, VALUES, COSTS, SCALE))
    assert totals.to_numpy().tolist() == [[100, 0, 100, 100], [0, 100, -100, 0]]
    data = pd.DataFrame({"p": [5], "m": [3]})
    value = delivered_value(delivered_parts(data, {"product": "p"}, {"money": "m"}, SCALE))
    assert value.tolist() == [pytest.approx(50 + (4 - 2) / 9 * 50)] and value.name == "delivered_value"


def test_half_of_each_side_must_be_answered():
    values, costs = {"product": "p", "service": "s", "image": "i"}, {"money": "m"}
    data = pd.DataFrame({"p": [10, 10, 10], "s": [-9, 4, -9], "i": [-9, -9, 4], "m": [1, 1, -9]}, dtype=float)
    data.loc[0, "m"] = 1
    totals = delivered_totals(delivered_parts(data, values, costs, SCALE, missing_codes=[-9]))
    assert totals["total_value"].isna().tolist() == [True, False, False]
    assert totals.loc[1, "total_value"] == pytest.approx((100 + 100 / 3) / 2)
    assert totals["delivered_value"].isna().tolist() == [True, False, True], "both sides are needed"


def test_part_weights_count_within_their_side():
    data = pd.DataFrame({"p": [10], "s": [1], "m": [1], "t": [10]})
    parts = delivered_parts(data, VALUES, COSTS, SCALE)
    totals = delivered_totals(parts, {"product": 3, "service": 1, "money": 0, "time": 1}).iloc[0]
    assert totals.tolist() == [75, 100, -25, 37.5]


def test_what_is_wrong_is_named():
    data = pd.DataFrame({"p": [11], "m": [1]})
    with pytest.raises(EstimationError, match="'price' is no part of customer cost"):
        delivered_parts(data, {"product": "p"}, {"price": "m"}, SCALE)
    with pytest.raises(EstimationError, match="no part of customer cost: delivered value needs both"):
        delivered_parts(data, {"product": "p"}, {}, SCALE)
    with pytest.raises(EstimationError, match="outside the scale"):
        delivered_parts(data, {"product": "p"}, {"money": "m"}, SCALE)


def test_levels_cover_with_weights_and_repeated_answers():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(100):
        own = np.tile(rng.normal(0, 10, 50), 2)
        parts = pd.DataFrame({"product": 70 + own + rng.normal(0, 5, 100), "money": 40 - own + rng.normal(0, 5, 100)})
        weights = pd.Series(np.tile(rng.choice([0.5, 1.5], 50), 2))
        table = delivered_levels(parts, weights=weights, customers=pd.Series(np.tile(np.arange(50), 2)))
        row = table.set_index("measure").loc["difference"]
        hits.append(row["low"] <= 30 <= row["high"])
    assert np.mean(hits) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 100)


def test_levels_by_group_hide_the_small():
    rng = np.random.default_rng(2)
    parts = pd.DataFrame({"product": rng.uniform(0, 100, 60), "money": rng.uniform(0, 100, 60)})
    by = pd.Series(["north"] * 25 + ["south"] * 20 + ["west"] * 11 + ["east"] * 4)
    table = delivered_levels(parts, by=by).set_index(["group", "measure"])
    assert set(table.index.get_level_values("group")[table["mean"].notna()]) == {"all", "north", "south"}
    every = parts["product"].mean()
    assert table.loc[("all", "product"), "mean"] == pytest.approx(every)
    assert table.loc[("all", "delivered_value"), "mean"] == pytest.approx(50 + (every - parts["money"].mean()) / 2)
    nobody = delivered_levels(parts * np.nan)
    assert nobody.loc[0, "reason"].startswith("nobody")


def test_everybody_alike_has_a_level_of_no_width():
    table = delivered_levels(pd.DataFrame({"product": [80.0] * 20, "money": [20.0] * 20})).set_index("measure")
    assert table.loc["delivered_value", ["mean", "low", "high"]].tolist() == [80, 80, 80]


def test_derived_weights_find_the_slopes():
    slopes = {"product": 0.6, "service": 0.2, "image": 0.0, "money": -0.3, "time": -0.1}
    table = derived_weights(*simulated(np.random.default_rng(3), 3000, slopes), draws=200).set_index("part")
    np.testing.assert_allclose(table["points"], list(slopes.values()), atol=0.06)
    np.testing.assert_allclose(table.loc[["product", "money"], "derived"], [0.75, 0.75], atol=0.12)
    np.testing.assert_allclose(table.groupby("side")["derived"].sum(), 1)
    np.testing.assert_allclose(table["stated"], [1 / 3] * 3 + [1 / 2] * 2)
    assert (table["points_low"] <= table["points"]).all() and (table["points"] <= table["points_high"]).all()


def test_a_part_of_the_wrong_sign_gets_nothing():
    slopes = {"product": 0.8, "service": -0.4, "money": -0.3}
    table = derived_weights(*simulated(np.random.default_rng(4), 2000, slopes), draws=100).set_index("part")
    assert table.loc["service", ["derived", "low", "high"]].tolist() == [0, 0, 0]
    assert table.loc["money", "derived"] == 1


def test_derived_limits_cover():
    slopes = {"product": 0.5, "service": 0.3, "money": -0.4, "time": -0.2}
    rng = np.random.default_rng(5)
    hits = []
    for seed in range(100):
        parts, satisfaction = simulated(rng, 150, slopes)
        table = derived_weights(parts, satisfaction, draws=150, seed=seed).set_index("part")
        hits.append(table.loc["product", "low"] <= 0.625 <= table.loc["product", "high"])
    assert np.mean(hits) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 100)


def test_weights_decide_whose_slopes_count():
    rng = np.random.default_rng(6)
    one = simulated(rng, 500, {"product": 0.6, "service": 0.0, "money": -0.3})
    two = simulated(rng, 500, {"product": 0.0, "service": 0.6, "money": -0.3})
    parts, satisfaction = (pd.concat(pair, ignore_index=True) for pair in zip(one, two, strict=True))
    weights = pd.Series([1.0] * 500 + [0.0] * 500)
    table = derived_weights(parts, satisfaction, weights=weights, draws=50).set_index("part")
    assert table.loc["product", "derived"] > 0.9


def test_too_little_to_derive_from():
    parts, satisfaction = simulated(np.random.default_rng(7), 100, {"product": 0.5, "money": -0.5})
    with pytest.raises(EstimationError, match="10 customers for 2 parts"):
        derived_weights(parts, satisfaction, customers=pd.Series(np.arange(100) % 10))
    with pytest.raises(EstimationError, match="follows none of the parts"):
        derived_weights(parts, 100 - satisfaction)
