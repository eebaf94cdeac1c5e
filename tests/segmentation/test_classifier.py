"""The classifier finds planted probabilities, chooses the simplest that is as good, and copes with what data hold."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import clone

from analysis.segmentation.classifier import (
    BOOSTING,
    CONSTANT,
    ISOTONIC,
    LOGISTIC,
    SIGMOID,
    Calibrator,
    TopClassifier,
    choose_calibrator,
)


def planted(n, seed, gaps=0.1):
    """A number that matters on its log, a kind that matters, and noise; some are missing."""
    rng = np.random.default_rng(seed)
    amount, kind = rng.lognormal(3, 1, n), rng.choice(["x", "y", "z"], n)
    p = expit(-3.5 + 0.8 * (np.log(amount) - 3) + np.where(kind == "x", 1.5, 0) + np.where(kind == "z", -1.0, 0))
    frame = pd.DataFrame({"amount": amount, "kind": kind, "noise": rng.normal(size=n), "same": 1.0})
    p = expit(np.log(p / (1 - p)) + 1.5)
    frame.loc[rng.random(n) < gaps, "noise"] = np.nan
    return frame, (rng.random(n) < p).astype(int), p


@pytest.fixture(scope="module")
def learnt():
    frame, y, _ = planted(1500, 1)
    return TopClassifier(random_state=1).fit(frame, y)


def test_planted_probabilities_are_found(learnt):
    frame, _, p = planted(4000, 2)
    found = learnt.predict_proba(frame)[:, 1]
    assert np.corrcoef(found, p)[0, 1] > 0.95
    assert found.mean() == pytest.approx(p.mean(), abs=0.03)
    assert learnt.columns_ == ["amount", "kind", "noise"]


def test_the_simple_model_wins_where_the_truth_is_simple(learnt):
    assert learnt.chosen_.name == LOGISTIC
    assert learnt.contest_["chosen"].sum() == 1


def test_trees_win_where_the_truth_is_crossed():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(1000, 2)), columns=["a", "b"])
    y = (rng.random(1000) < np.where(frame["a"] * frame["b"] > 0, 0.5, 0.05)).astype(int)
    found = TopClassifier(random_state=1).fit(frame, y)
    assert found.chosen_.name == BOOSTING
    test = pd.DataFrame({"a": [1.0, 1.0], "b": [1.0, -1.0]})
    assert np.diff(found.predict_proba(test)[:, 1])[0] < -0.2


def test_unknown_kinds_gaps_and_huge_numbers_are_scored(learnt):
    odd = pd.DataFrame(
        {
            "amount": [1e300, np.inf, np.nan, 20.0],
            "kind": ["new", None, "x", "y"],
            "noise": [np.nan, 0.0, -np.inf, 0.0],
            "same": 1.0,
        }
    )
    p = learnt.predict_proba(odd)
    assert np.isfinite(p).all() and ((p > 0) & (p < 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_same_seed_same_scores_and_it_clones(learnt):
    frame, y, _ = planted(1500, 1)
    again = clone(learnt).fit(frame, y)
    np.testing.assert_array_equal(again.decision_function(frame), learnt.decision_function(frame))


def test_nothing_to_learn_from_is_said():
    frame = pd.DataFrame({"a": np.ones(50), "b": ["k"] * 50})
    with pytest.raises(ValueError, match="no feature differs"):
        TopClassifier().fit(frame, [0, 1] * 25)
    with pytest.raises(ValueError, match="3 customers of one kind"):
        TopClassifier().fit(pd.DataFrame({"a": np.arange(50)}), [1] * 3 + [0] * 47)


def test_calibrators_recover_a_bent_curve_and_never_turn_round():
    rng = np.random.default_rng(5)
    score = rng.normal(size=4000)
    y = (rng.random(4000) < np.where(score > 0, 0.4, 0.1)).astype(int)
    step = choose_calibrator(score, y)
    assert step.kind == ISOTONIC
    np.testing.assert_allclose(step.probability(np.array([-1.0, 1.0])), [0.1, 0.4], atol=0.04)
    line = (rng.random(4000) < expit(-1 + score)).astype(int)
    smooth = choose_calibrator(score, line)
    assert smooth.kind == SIGMOID
    np.testing.assert_allclose(smooth.probability(np.array([-1.0, 1.0])), expit([-2, 0]), atol=0.04)
    turned = Calibrator(SIGMOID).fit(-score, line)
    assert turned.kind == CONSTANT and np.ptp(turned.probability(score)) == 0
    assert Calibrator(SIGMOID).fit(np.ones(10), line[:10]).kind == CONSTANT
