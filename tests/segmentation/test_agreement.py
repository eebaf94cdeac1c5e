"""Agreement of partitions with intervals that hold it, and segments followed through solutions."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from analysis.segmentation.agreement import across_solutions, adjusted_rand, rand_agreement, survivors


def noisy(n, rng, keep=0.7, k=4):
    truth = rng.integers(0, k, n)
    return truth, np.where(rng.random(n) < keep, truth, rng.integers(0, k, n))


def test_value_is_that_of_scikit_learn():
    truth, found = noisy(300, np.random.default_rng(0))
    assert rand_agreement(truth, found).value == pytest.approx(adjusted_rand_score(truth, found))
    letters = np.array(list("abcd"))[found]
    assert rand_agreement(truth, letters) == rand_agreement(truth, found)


def test_interval_holds_the_index_of_all_customers():
    rng = np.random.default_rng(1)
    all_truth, all_found = noisy(400_000, rng)
    truth = adjusted_rand_score(all_truth, all_found)
    held = 0
    for seed in range(200):
        first, second = noisy(400, rng)
        found = rand_agreement(first, second, samples=400, seed=seed)
        held += found.low <= truth <= found.high
    assert abs(held / 200 - 0.95) <= 4 * np.sqrt(0.95 * 0.05 / 200)


def test_chance_is_nought():
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        found = rand_agreement(rng.integers(0, 3, 300), rng.integers(0, 3, 300), samples=300, seed=seed)
        held += found.low <= 0
    assert held / 200 >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_nothing_to_compare_says_so():
    same = np.array([0, 0, 1, 1] * 5)
    assert rand_agreement(same, same).value == 1
    assert rand_agreement(same, same).reason == "identical"
    assert rand_agreement(same, np.zeros(20)).reason == "one_group"
    assert rand_agreement(["a"], ["b"]).reason == "few_customers"
    half = np.where(np.arange(20) < 10, same.astype(object), None)
    assert rand_agreement(same, half).customers == 10
    with pytest.raises(ValueError, match="3 and 2 customers"):
        rand_agreement([1, 2, 3], [1, 2])
    assert np.isnan(adjusted_rand(np.array([[[5.0]]]))[0])


def test_stability_across_solutions_by_hand():
    two = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    three = np.array([0, 0, 2, 2, 1, 1, 1, 2])
    found = across_solutions({3: three, 2: two}).nodes.set_index(["segments", "segment"])["stability"]
    assert np.isnan(found[(2, 0)])
    assert found[(3, 0)] == 1 and found[(3, 1)] == 1
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert found[(3, 2)] == pytest.approx(1 - entropy / np.log(2))
    flows = across_solutions({3: three, 2: two}).flows
    assert flows["customers"].sum() == 8
    assert flows.groupby("segment")["share"].sum().tolist() == pytest.approx([1, 1, 1])


def test_blocks_of_a_solution_fill_its_column():
    rng = np.random.default_rng(3)
    nodes = across_solutions({k: rng.integers(0, k, 100) for k in (2, 3, 5)}).nodes
    for _, column in nodes.groupby("segments"):
        ends = column["place"] + column["share"] / 2
        assert ends.max() == pytest.approx(1)
        assert (column["place"] - column["share"] / 2).min() == pytest.approx(0)
        assert column["customers"].sum() == 100


def test_who_survives():
    apart = np.repeat([0, 1, 2], 20)
    split = np.where((apart == 2) & (np.arange(60) % 2 == 0), 3, apart)
    found = survivors({2: np.minimum(apart, 1), 3: apart, 4: split}, 3)
    assert found["survives"].tolist() == [2, 1, 0]
    assert found["solutions"].tolist() == [2, 2, 2]
    assert survivors({3: apart}, 3)["survives"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="at least one partition"):
        across_solutions({})
