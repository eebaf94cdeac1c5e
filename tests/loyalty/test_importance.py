"""Shares of explained variance: published figures, every subset by least squares, intervals, disagreements."""

from itertools import combinations, permutations

import numpy as np
import pytest

from analysis import loyalty
from analysis.loyalty import EstimationError
from analysis.loyalty.importance import MOST_DRIVERS, lmg, relative_weights, subset_r_squared
from analysis.loyalty.moments import Moments, counts_of, draw_indices
from analysis.loyalty.resampling import percentile_interval

SCALE = (1, 10)

# Correlations of Fertility, Agriculture, Examination, Education, Catholic, Infant.Mortality in R's data `swiss`.
SWISS = [
    [1, 0.3530791836, -0.6458827065, -0.663788857, 0.4636847007, 0.4165560314],
    [0.3530791836, 1, -0.6865422086, -0.6395225189, 0.401095053, -0.0608586084],
    [-0.6458827065, -0.6865422086, 1, 0.6984152963, -0.5727418061, -0.1140215965],
    [-0.663788857, -0.6395225189, 0.6984152963, 1, -0.1538589171, -0.0993218458],
    [0.4636847007, 0.401095053, -0.5727418061, -0.1538589171, 1, 0.1754959076],
    [0.4165560314, -0.0608586084, -0.1140215965, -0.0993218458, 0.1754959076, 1],
]
# LMG by the R package relaimpo (Grömping 2006).
SWISS_LMG = [0.05709122, 0.17117303, 0.26013468, 0.10557015, 0.11276592]

# Correlations of mpg, cyl, disp, hp, wt in R's data `mtcars`.
MTCARS = [
    [1, -0.8521619594, -0.8475513793, -0.7761683718, -0.8676593765],
    [-0.8521619594, 1, 0.9020328721, 0.8324474527, 0.7824957945],
    [-0.8475513793, 0.9020328721, 1, 0.7909485864, 0.8879799221],
    [-0.7761683718, 0.8324474527, 0.7909485864, 1, 0.6587478873],
    [-0.8676593765, 0.7824957945, 0.8879799221, 0.6587478873, 1],
]
# Raw weights as the R package rwa prints them (vignette "Regression methods").
MTCARS_WEIGHTS = [0.2096904, 0.1883043, 0.1799590, 0.2706812]


def split(rows):
    """A full correlation matrix, target first, as drivers' correlations and those with the target."""
    full = np.array(rows)
    return full[None, 1:, 1:], full[None, 0, 1:]


def random_correlations(k, size=4, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(size, 60, k + 1)) + 0.8 * rng.normal(size=(size, 60, 1))
    full = np.array([np.corrcoef(part.T) for part in data])
    return full[:, :k, :k], full[:, :k, k]


def r_squared(between, with_target, subset):
    if not subset:
        return 0.0
    at = list(subset)
    return with_target[at] @ np.linalg.solve(between[np.ix_(at, at)], with_target[at])


def test_lmg_of_swiss_fertility_as_published():
    np.testing.assert_allclose(lmg(*split(SWISS))[0], SWISS_LMG, atol=5e-9)


def test_relative_weights_of_mtcars_as_published():
    np.testing.assert_allclose(relative_weights(*split(MTCARS))[0], MTCARS_WEIGHTS, atol=5e-8)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_every_subset_and_every_order_by_brute_force(k):
    between, with_target = random_correlations(k)
    explained = subset_r_squared(between, with_target)
    for b in range(len(between)):
        for size in range(k + 1):
            for subset in combinations(range(k), size):
                row = sum(1 << j for j in subset)
                assert explained[row, b] == pytest.approx(r_squared(between[b], with_target[b], subset), abs=1e-10)
        gains = np.zeros(k)
        orders = list(permutations(range(k)))
        for order in orders:
            for place, j in enumerate(order):
                before = order[:place]
                gains[j] += r_squared(between[b], with_target[b], (*before, j))
                gains[j] -= r_squared(between[b], with_target[b], before)
        np.testing.assert_allclose(lmg(between, with_target)[b], gains / len(orders), atol=1e-10)


def test_both_measures_add_up_to_r_squared_and_agree_for_two_drivers():
    for k in (2, 6):
        between, with_target = random_correlations(k)
        full = subset_r_squared(between, with_target)[-1]
        np.testing.assert_allclose(lmg(between, with_target).sum(axis=1), full)
        np.testing.assert_allclose(relative_weights(between, with_target).sum(axis=1), full)
    between, with_target = random_correlations(2)
    np.testing.assert_allclose(lmg(between, with_target), relative_weights(between, with_target))


def test_a_driver_given_twice_shares_its_part():
    between, with_target = np.array([[[1, 1, 0.2], [1, 1, 0.2], [0.2, 0.2, 1]]]), np.array([[0.5, 0.5, 0.3]])
    for parts in (lmg(between, with_target)[0], relative_weights(between, with_target)[0]):
        assert np.isfinite(parts).all()
        assert parts[0] == pytest.approx(parts[1])
        assert parts.sum() == pytest.approx(r_squared(between[0], with_target[0], (0, 2)))


def test_too_many_drivers_say_so():
    k = MOST_DRIVERS + 1
    with pytest.raises(EstimationError, match="at most 14 drivers"):
        lmg(np.eye(k)[None], np.full((1, k), 0.1))


def test_mobi_shares_add_up_and_carry_the_models_own_numbers(fitted, drawn):
    found = loyalty.relative_importance(fitted, drawn, "Satisfaction")
    assert found["lmg"].sum() == pytest.approx(fitted.r_squared["Satisfaction"])
    assert found["relative_weight"].sum() == pytest.approx(fitted.r_squared["Satisfaction"])
    assert found["share"].sum() == pytest.approx(1)
    assert list(found["rank"]) == [1, 2, 3, 4]
    assert found["first_share"].sum() == pytest.approx(1)
    for column in ("lmg", "share", "relative_weight", "effect"):
        assert (found[f"{column}_low"] < found[column]).all() and (found[column] < found[f"{column}_high"]).all()
    quality = found.set_index("driver").loc["Quality"]
    assert quality["path"] == fitted.params["Quality", "Satisfaction"]
    assert quality["effect"] == fitted.total_effects.loc["Quality", "Satisfaction"]
    assert (found["rank_low"] <= found["rank"]).all() and (found["rank"] <= found["rank_high"]).all()


def test_disagreement_of_shares_and_total_effects_is_told(fitted, drawn):
    """Expectation works through Quality and Value: first but one by total effect, last by its own share."""
    found = loyalty.relative_importance(fitted, drawn, "Satisfaction")
    pairs = loyalty.importance_pairs(fitted, drawn, "Satisfaction")
    assert len(pairs) == 6 and (pairs["lmg_difference"] >= 0).all()
    row = pairs.set_index(["first", "second"]).loc["Value", "Expectation"]
    assert not row["agree"] and row["effect_high"] < 0
    facts = loyalty.importance_facts(found, pairs)
    assert facts["driver"] == "Quality" and facts["same_first"] and facts["collinear"] == []
    assert {(d["first"], d["second"]) for d in facts["disagreements"]} == {
        ("Value", "Expectation"),
        ("Image", "Expectation"),
    }
    assert 0.9 < facts["probability"] <= 1
    assert len(loyalty.importance_facts(found, pairs, ceiling=2)["collinear"]) == 2


def test_the_shared_part_is_what_no_driver_explains_alone(fitted, drawn):
    value, low, high = loyalty.shared_part(fitted, drawn, "Satisfaction")
    arrows = [(d, "Satisfaction") for d in fitted.specification.sources_of("Satisfaction")]
    unique = (fitted.params[arrows] ** 2 / fitted.inflation[arrows]).sum()
    assert value == pytest.approx(1 - unique / fitted.r_squared["Satisfaction"])
    assert low < value < high


def test_one_driver_explains_all_alone(fitted, drawn):
    found = loyalty.relative_importance(fitted, drawn, "Quality")
    pairs = loyalty.importance_pairs(fitted, drawn, "Quality")
    assert found["share"].item() == pytest.approx(1) and pairs.empty
    facts = loyalty.importance_facts(found, pairs)
    assert facts["runner_up"] is None and facts["probability"] is None and facts["disagreements"] == []
    assert loyalty.shared_part(fitted, drawn, "Quality")[0] == pytest.approx(0)


def test_a_construct_without_drivers_says_so(fitted, drawn):
    for function in (loyalty.relative_importance, loyalty.importance_pairs, loyalty.shared_part):
        with pytest.raises(EstimationError, match="nothing leads to 'Image'"):
            function(fitted, drawn, "Image")


def test_item_points_are_what_the_score_of_the_driver_gains(mobi, fitted, drawn):
    """A point more on a question moves the driver by its share, and that the target: the points add up."""
    drivers = loyalty.loyalty_drivers(fitted, drawn, SCALE, targets=["Satisfaction"]).set_index("driver")
    found = loyalty.item_importance(fitted, drawn, SCALE, "Quality", "Satisfaction", labels={"PERQ1": "Overall"})
    assert found["points"].sum() == pytest.approx(drivers.loc["Quality", "points"])
    by_item = found.set_index("item")
    shares = loyalty.item_weights(fitted, SCALE).set_index("item")["share"]
    assert by_item.loc["PERQ3", "points"] == pytest.approx(shares["PERQ3"] * drivers.loc["Quality", "points"])
    assert by_item.loc["PERQ1", "label"] == "Overall" and by_item.loc["PERQ2", "label"] == "PERQ2"
    assert by_item.loc["PERQ1", "performance"] == pytest.approx(100 * (mobi["PERQ1"].mean() - 1) / 9)
    assert found["room"].is_monotonic_decreasing and found["first_share"].sum() == pytest.approx(1)
    with pytest.raises(EstimationError, match="no route leads from Loyalty to Satisfaction"):
        loyalty.item_importance(fitted, drawn, SCALE, "Loyalty", "Satisfaction")


def test_intervals_cover():
    """150 surveys of 150 people, 200 resamples each, of three drivers of which the last counts for little."""
    between = np.array([[1, 0.5, 0.3], [0.5, 1, 0.2], [0.3, 0.2, 1]])
    beta = np.array([0.5, 0.25, 0.05])
    with_target = between @ beta
    truth = lmg(between[None], with_target[None])[0]
    noise = np.sqrt(1 - beta @ with_target)
    rng = np.random.default_rng(2)
    root = np.linalg.cholesky(between)
    covered = np.zeros((2, 3))
    for _ in range(150):
        x = rng.normal(size=(150, 3)) @ root.T
        y = x @ beta + noise * rng.normal(size=150)
        moments = Moments(np.column_stack([x, y]))
        full = moments.batch(counts_of(draw_indices(150, 200, rng), 150)).correlations
        parts = lmg(full[:, :3, :3], full[:, :3, 3])
        for k, (draws, value) in enumerate(((parts, truth), (parts / parts.sum(axis=1)[:, None], truth / truth.sum()))):
            low, high = percentile_interval(draws)
            covered[k] += (low <= value) & (value <= high)
    # 200 resamples and 150 people cost the percentile interval up to two points of its level.
    assert (np.abs(covered / 150 - 0.95) < 0.02 + 4 * np.sqrt(0.95 * 0.05 / 150)).all()
