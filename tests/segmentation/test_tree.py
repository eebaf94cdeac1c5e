"""Rules that somebody can apply: round thresholds, right answers, an interval that holds the accuracy for new customers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from analysis.segmentation.tree import RuleTree, round_threshold, segment_rules


def customers(n, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(n)],
            "purchase_days": rng.integers(1, 60, n),
            "basket": rng.gamma(4, 10, n),
            "weekend_share": rng.beta(2, 4, n),
        }
    )
    label = np.where(frame["purchase_days"] < 12, "C", np.where(frame["basket"] < 40, "B", "A"))
    label = np.where(rng.random(n) < noise, rng.choice(list("ABC"), n), label)
    return frame, pd.Series(label)


def test_planted_rules_are_found_with_round_thresholds():
    frame, labels = customers(800)
    found = segment_rules(frame, labels)
    limits = {
        (f, x) for rule in found.rules["conditions"] for f, low, high in rule for x in (low, high) if x is not None
    }
    assert limits == {("purchase_days", 12.0), ("basket", 40.0)}
    assert found.accuracy > 0.98 and found.low > found.baseline
    assert set(found.rules["segment"]) == set("ABC")
    best = found.rules.set_index("segment").loc["A", "conditions"]
    assert sorted(best) == [("basket", 40.0, None), ("purchase_days", 12.0, None)]
    assert found.rules["customers"].sum() == 800


def test_rules_say_what_the_tree_does():
    frame, labels = customers(500, seed=3, noise=0.2)
    found = segment_rules(frame, labels)
    predicted = found.tree.predict(frame)
    placed = np.zeros(len(frame), dtype=int)
    for rule in found.rules.itertuples():
        inside = np.ones(len(frame), dtype=bool)
        for feature, low, high in rule.conditions:
            inside &= (frame[feature] >= (-np.inf if low is None else low)).to_numpy()
            inside &= (frame[feature] < (np.inf if high is None else high)).to_numpy()
        placed += inside
        assert inside.sum() == rule.customers
        assert (predicted[inside] == rule.segment).all()
        assert (labels[inside] == rule.segment).mean() == pytest.approx(rule.right)
        assert rule.low <= rule.right <= rule.high
    assert (placed == 1).all()
    assert len(found.rules) <= 8 and max(len(c) for c in found.rules["conditions"]) <= 3


def test_interval_holds_the_accuracy_for_new_customers():
    new, truth = customers(20_000, seed=99, noise=0.25)
    held = 0
    for seed in range(60):
        frame, labels = customers(300, seed, noise=0.25)
        found = segment_rules(frame, labels, folds=5, seed=seed)
        held += found.low <= (found.tree.predict(new) == truth).mean() <= found.high
    assert held / 60 >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 60)


def test_segments_that_cannot_be_told_are_said_to_be():
    frame, labels = customers(300)
    found = segment_rules(frame, labels.sample(frac=1, random_state=0).reset_index(drop=True))
    assert found.low <= found.baseline


def test_thresholds_are_round_in_their_units():
    counts = np.arange(1, 50)
    assert round_threshold(12.5, "count", counts) == 13
    assert round_threshold(12.0, "count", counts) == 13
    assert round_threshold(0.3149, "share", np.linspace(0, 1, 50)) == 0.31
    money = np.linspace(0.5, 900, 500)
    assert round_threshold(402.3, "money", money) == 400
    assert round_threshold(447.3, "money", money) == 450
    assert round_threshold(0.0, "number", np.linspace(-1, 1, 7)) == 0


def test_reasons_instead_of_rules():
    frame, labels = customers(60)
    assert segment_rules(frame, labels.where(labels == "A")).reason == "one_segment"
    assert segment_rules(frame, pd.Series([None] * 60)).reason == "no_segments"
    few = labels.where(labels != "A", "A")
    few.iloc[:] = "A"
    few.iloc[:4] = "B"
    assert segment_rules(frame, few).reason == "few_customers"
    assert segment_rules(frame[["customer_id"]], labels).reason == "few_customers"
    with pytest.raises(ValueError, match="60 customers and 10 segments"):
        segment_rules(frame, labels.head(10))
    with pytest.raises(ValueError, match="finite"):
        segment_rules(frame.assign(basket=np.nan), labels)


def test_constant_features_give_one_rule_for_everybody():
    labels = pd.Series(["A"] * 40 + ["B"] * 20)
    found = segment_rules(pd.DataFrame({"basket": np.ones(60)}), labels)
    assert found.rules["conditions"].tolist() == [[]]
    assert found.accuracy == pytest.approx(2 / 3) == found.baseline
    assert found.by_segment["ruled"].tolist() == [True, False]


def test_tree_keeps_scikit_learn_manners():
    frame, labels = customers(200)
    model = RuleTree(max_depth=2)
    assert clone(model).get_params() == model.get_params()
    first = clone(model).fit(frame.drop(columns="customer_id"), labels)
    assert (first.predict(frame) == clone(model).fit(frame.drop(columns="customer_id"), labels).predict(frame)).all()
    assert first.score(frame, labels) > 0.9
