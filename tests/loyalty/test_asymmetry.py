"""Penalties and rewards: a planted basic factor, straight lines on crowded scales, cover, attributes rarely rated low."""

import gc

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from analysis.loyalty import EstimationError, answer_scores, asymmetry_facts, penalty_reward

SHARES = (0.02, 0.02, 0.03, 0.04, 0.09, 0.12, 0.18, 0.22, 0.16)  # of the answers 1 to 9: most are good


def survey(n, rng, correlation=0.4):
    """Answers of n people to three questions, 0-100, crowded at the upper end."""
    common = np.sqrt(correlation) * rng.normal(size=(n, 1))
    z = common + np.sqrt(1 - correlation) * rng.normal(size=(n, 3))
    answers = 1 + np.searchsorted(norm.ppf(np.cumsum(SHARES)), z)
    return pd.DataFrame(100 * (answers - 1) / 9, columns=["a", "b", "c"])


def basic(scores):
    """What a factor gives that costs 25 points when bad and earns 4 when good."""
    return -25 * (scores <= 45) + 4 * (scores >= 80)


def planted(scores, rng):
    """`a` is basic, `b` and `c` are straight lines; the noise is larger where `b` is low."""
    noise = rng.normal(0, 12, len(scores)) * (1 + 0.5 * (scores["b"] <= 45))
    return basic(scores["a"]) + 0.3 * scores["b"] + 0.3 * scores["c"] + noise + 20


@pytest.fixture(scope="module", autouse=True)
def still():
    """statsmodels collects garbage at every correction of p-values; what is there already need not be walked."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def big():
    rng = np.random.default_rng(1)
    scores = survey(6000, rng)
    return scores, planted(scores, rng)


def test_a_planted_basic_factor_and_two_straight_ones_are_recovered(big):
    scores, target = big
    found = penalty_reward(scores, target, labels={"a": "Freshness"}).set_index("attribute")
    assert list(found["kind"]) == ["basic", "performance", "performance"]
    assert found.loc["a", "penalty_low"] < -25 < found.loc["a", "penalty_high"]
    assert found.loc["a", "reward_low"] < 4 < found.loc["a", "reward_high"]
    assert found.loc["a", "p_holm"] < 1e-6
    facts = asymmetry_facts(found.reset_index())
    assert facts["basic"] == facts["firm"] == ["Freshness"] and facts["performance"] == ["b", "c"]
    assert facts["strongest"]["label"] == "Freshness" and facts["chance"] == pytest.approx(0.15)


def test_a_straight_line_has_the_larger_penalty_but_no_asymmetry():
    """The low answers lie further from the middle ones than the high ones do: the coefficients alone mislead."""
    rng = np.random.default_rng(3)
    scores = survey(20_000, rng)
    found = penalty_reward(scores, scores.sum(axis=1) / 3 + rng.normal(0, 5, 20_000))
    assert (-found["penalty"] > 1.3 * found["reward"]).all()
    assert (found["asymmetry"].abs() < 0.08).all()
    assert (found["kind"] == "performance").all()


def test_an_excitement_factor_is_called_so():
    rng = np.random.default_rng(4)
    scores = survey(3000, rng)
    target = 20 * (scores["a"] >= 80) + 0.3 * scores["b"] + rng.normal(0, 12, 3000)
    found = penalty_reward(scores[["a", "b"]], target)
    assert list(found["kind"]) == ["excitement", "performance"]


def test_the_interval_of_the_asymmetry_covers_under_unequal_variance():
    rng = np.random.default_rng(5)
    inside, named = 0, []
    for _ in range(100):
        scores = survey(1000, rng)
        row = penalty_reward(scores, planted(scores, rng)).iloc[0]
        low, high = scores["a"] <= 45, scores["a"] >= 80
        middle = scores["a"][~low & ~high].mean()
        below, above = 25 / (middle - scores["a"][low].mean()), 4 / (scores["a"][high].mean() - middle)
        truth = (above - below) / (above + below)
        inside += row["asymmetry_low"] <= truth <= row["asymmetry_high"]
        named.append(row["kind"])
    assert abs(inside / 100 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 100)
    assert named.count("basic") > 95


def test_an_attribute_that_hardly_anyone_rates_low_has_a_reason_and_the_rest_is_judged(big):
    scores, target = big
    loved = scores.assign(b=scores["b"].clip(lower=50)).assign(d=100.0)
    found = penalty_reward(loved, target).set_index("attribute")
    assert found.loc["b", "kind"] == "not clear" and found.loc["b", "reason"] == "only 0 customers rate it low"
    assert found.loc["d", "reason"] == "only 0 customers rate it low"
    assert found.loc[["b", "d"], "asymmetry"].isna().all() and found.loc[["b", "d"], "p_holm"].isna().all()
    assert found.loc["a", "kind"] == "basic"
    assert asymmetry_facts(found.reset_index())["judged"] == 2


def test_nothing_is_named_where_nothing_has_an_effect():
    rng = np.random.default_rng(6)
    scores = survey(2000, rng)
    found = penalty_reward(scores, pd.Series(rng.normal(50, 10, 2000)))
    assert (found["kind"] == "not clear").all()
    assert (found["reason"] == "its effect is not clear of zero").all()
    facts = asymmetry_facts(found)
    assert facts["strongest"] is None and facts["unclear"] == ["a", "b", "c"]


def test_weights_count_like_repeated_rows_and_customers_keep_the_errors_honest(big):
    scores, target = big
    scores, target = scores[:1500], target[:1500]
    weights = pd.Series(np.tile([1.0, 2.0, 0.0], 500))
    repeated = scores.index.repeat(weights.astype(int))
    weighted = penalty_reward(scores, target, weights=weights)
    twice = penalty_reward(
        scores.loc[repeated].reset_index(drop=True),
        target.loc[repeated].reset_index(drop=True),
        customers=pd.Series(repeated.astype(str)),
    )
    columns = ["penalty", "reward", "penalty_slope", "reward_slope"]
    np.testing.assert_allclose(weighted[columns], twice[columns])
    width = weighted["penalty_high"] - weighted["penalty_low"]
    np.testing.assert_allclose(width, twice["penalty_high"] - twice["penalty_low"], rtol=0.002)
    naive = penalty_reward(scores.loc[repeated].reset_index(drop=True), target.loc[repeated].reset_index(drop=True))
    assert (naive["penalty_high"] - naive["penalty_low"] < 0.93 * width).all()
    assert list(weighted["low_customers"]) == list(twice["low_customers"])


def test_missing_answers_and_another_order_of_the_rows_do_no_harm(big):
    scores, target = big
    holes = scores[:2000].copy()
    holes.loc[:99, "a"] = np.nan
    found = penalty_reward(holes, target[:2000].sample(frac=1, random_state=1))
    expected = penalty_reward(scores[100:2000], target[100:2000])
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t: (s[:1], t[:1]), "1 customers answered all of it"),
        (lambda s, t: (s[:0], t[:0]), "0 customers answered all of it"),
        (lambda s, t: (s, t * 0), "does not vary"),
        (lambda s, t: (s.assign(copy=s["a"]), t), "determine each other"),
    ],
)
def test_hopeless_data_say_what_is_wrong(big, change, message):
    with pytest.raises(EstimationError, match=message):
        penalty_reward(*change(*big))


def test_answers_become_scores_and_stay_within_the_scale():
    answers = pd.DataFrame({"q1": [1, 10, -99], "q2": [5.5, None, 10]})
    scores = answer_scores(answers, ["q1", "q2"], (1, 10), missing_codes=[-99])
    assert scores["q1"].tolist()[:2] == [0, 100] and np.isnan(scores["q1"][2]) and scores["q2"][0] == 50
    with pytest.raises(EstimationError, match="outside the scale"):
        answer_scores(answers, ["q1"], (1, 10))
