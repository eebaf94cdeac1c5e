"""The global test: nominal without heterogeneity, powerful with it; segments by a joint test."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from analysis import campaigns


def experiment(rng, n, strength, arms=("control", "a")):
    x, arm = rng.normal(size=(n, 3)), rng.choice(arms, n)
    lift = (arm != "control") * (0.3 + strength * x[:, 1])
    y = (rng.random(n) < 1 / (1 + np.exp(1 - 0.5 * x[:, 0] - lift))).astype(float)
    return x, arm, y


@pytest.mark.parametrize("arms", [("control", "a"), ("control", "a", "b")])
def test_without_heterogeneity_it_errs_no_more_often_than_its_level(arms):
    rng, found, learner = np.random.default_rng(11), [], campaigns.TLearner(LinearRegression())
    for seed in range(80):
        x, arm, y = experiment(rng, 500, 0.0, arms)
        found.append(campaigns.heterogeneity_test(x, arm, y, learner=learner, random_state=seed, splits=1))
    rejected = np.mean([test.differs() for test in found])
    assert rejected <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 80)
    z = np.concatenate([test.statistics for test in found])
    assert abs(z.mean()) < 4 / np.sqrt(len(found)) and 0.75 < z.std() < 1.25


def test_several_splits_err_no_more_often_and_agree_more():
    rng, learner, found = np.random.default_rng(16), campaigns.TLearner(LinearRegression()), []
    for _ in range(25):
        x, arm, y = experiment(rng, 500, 0.0)
        tests = [
            [campaigns.heterogeneity_test(x, arm, y, learner=learner, random_state=s, splits=n) for s in (0, 50)]
            for n in (1, 5)
        ]
        found.append([[test.statistics[0] for test in pair] for pair in tests])
    one, five = np.moveaxis(np.array(found), 1, 0)
    assert five.std() < one.std()
    assert np.abs(np.diff(five)).mean() < 0.7 * np.abs(np.diff(one)).mean()


def test_it_finds_heterogeneity_that_is_there():
    x, arm, y = experiment(np.random.default_rng(12), 6000, 0.8)
    assert campaigns.heterogeneity_test(x, arm, y).p_value < 1e-4


def test_the_slope_is_that_of_least_squares_and_knows_recurring_customers():
    rng = np.random.default_rng(13)
    score = rng.normal(size=500)
    gamma = 1 + 0.7 * score + rng.normal(size=500)
    slope, se = campaigns.effect_slope(score, gamma)
    assert slope == pytest.approx(np.polyfit(score, gamma, 1)[0])
    twice = campaigns.effect_slope(np.tile(score, 2), np.tile(gamma, 2), np.tile(np.arange(500), 2))
    assert twice[0] == pytest.approx(slope) and twice[1] == pytest.approx(se, rel=0.01)
    assert campaigns.effect_slope(np.ones(500), gamma) == (0.0, 0.0)


def test_segments_that_differ_are_told_from_segments_that_do_not():
    rng = np.random.default_rng(14)
    n = 4000
    segments = pd.DataFrame({
        "region": rng.choice(["north", "south"], n), "age": rng.choice(["old", "young"], n),
        "tiny": np.where(np.arange(n) < 5, "rare", "common"),
    })  # fmt: skip
    segments.loc[:9, "age"] = None
    gamma = 2.0 * (segments["region"] == "south") + 3 * rng.normal(size=n)
    found = campaigns.segment_effects(gamma, segments)
    assert set(found["segment"]) == {"region", "age"}
    assert (found.loc[found["segment"] == "region", "p_adjusted"] < 1e-6).all()
    assert (found.loc[found["segment"] == "age", "p_adjusted"] > 0.001).all()
    south = found[(found["segment"] == "region") & (found["level"] == "south")].iloc[0]
    assert south["effect"] == pytest.approx(gamma[segments["region"] == "south"].mean())
    assert found.loc[found["segment"] == "age", "customers"].sum() == n - 10


def test_two_levels_give_the_two_sample_test():
    rng = np.random.default_rng(15)
    gamma, level = rng.normal(size=300), np.repeat(["x", "y"], 150)
    found = campaigns.segment_effects(gamma, pd.DataFrame({"s": level}))
    effect = campaigns.DifferenceInMeans(gamma, level == "y").fit()
    assert found["p_value"].iloc[0] == pytest.approx(effect.pvalue, rel=0.05)


def test_nothing_to_compare_is_an_empty_table():
    assert campaigns.segment_effects(np.ones(100), pd.DataFrame({"s": ["x"] * 100})).empty
