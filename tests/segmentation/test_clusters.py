"""Segments: planted ones are found, one cloud is called one cloud, and labels follow value, not the seed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from analysis.segmentation.clusters import (
    BehaviourScaler,
    CustomerSegmenter,
    find_segments,
    jaccard,
    profile,
    search_clusters,
    segment_markers,
    segment_stability,
    valley_p_values,
)

FEW = {"clusters_max": 5, "bootstrap_pairs": 6, "gap_references": 6}


def planted(seed, k=3, n=300, apart=7.0, features=4):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(features, features)))[0]
    labels = rng.integers(0, k, n)
    return axes[:k][labels] * apart / np.sqrt(2) + rng.normal(size=(n, features)), labels


def one_cloud(kind, seed, n=300):
    rng = np.random.default_rng(seed)
    long = np.array([[1, 0, 0], [0.9, 0.4, 0], [0.8, 0.1, 0.5]])
    return {
        "normal": lambda: rng.normal(size=(n, 4)),
        "uniform": lambda: rng.uniform(size=(n, 3)),
        "long": lambda: rng.normal(size=(n, 3)) @ long.T,
        "heavy": lambda: np.exp(rng.normal(size=(n, 3)) @ long.T),
        "gamma": lambda: rng.gamma([1, 0.5, 3], 1, (n, 3)),
        "whales": lambda: rng.standard_t(2, (n, 4)),
        "counts": lambda: np.c_[rng.poisson(rng.gamma(1, 3, n)), rng.beta(2, 5, n), rng.gamma(2, 10, n)],
    }[kind]()


@pytest.mark.parametrize("kind", ["normal", "uniform", "long", "heavy", "gamma", "whales", "counts"])
def test_one_cloud_holds_no_clusters(kind):
    assert not any(search_clusters(one_cloud(kind, seed), seed=seed, **FEW).found for seed in range(3))


@pytest.mark.parametrize("k", [3, 4])
def test_planted_clusters_are_recovered(k):
    for seed in range(3):
        X, truth = planted(seed, k)
        search = search_clusters(X, seed=seed, **FEW)
        assert search.found
        assert search.n_clusters == k
        found = CustomerSegmenter(k, random_state=seed).fit_predict(X)
        assert adjusted_rand_score(truth, found) > 0.9


def test_planted_clusters_of_heavy_tailed_money_are_recovered():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, 300)
    X = np.exp(np.array([[0, 0], [4, 0], [2, 4]])[truth] + rng.normal(0, 0.6, (300, 2)))
    search = search_clusters(X, seed=2, **FEW)
    assert (search.found, search.n_clusters) == (True, 3)
    assert adjusted_rand_score(truth, CustomerSegmenter(3, random_state=0).fit_predict(X)) > 0.9


def test_without_clusters_there_are_as_many_segments_as_are_wanted():
    search = search_clusters(one_cloud("long", 1), constructed=4, **FEW)
    assert not search.found
    assert search.n_clusters == 4
    assert search_clusters(one_cloud("long", 1), constructed=9, **FEW).n_clusters == 5
    assert list(search.table["segments"]) == [2, 3, 4, 5]


def test_labels_follow_value_and_not_the_seed():
    X, truth = planted(4, k=4)
    value = np.array([10.0, 40.0, 20.0, 30.0])[truth]
    runs = [CustomerSegmenter(4, random_state=s).fit(X, value=value).labels_ for s in range(6)]
    assert all((run == runs[0]).all() for run in runs)
    means = [value[runs[0] == j].mean() for j in range(4)]
    assert means == sorted(means, reverse=True)


def test_segmenter_keeps_scikit_learn_manners():
    X, _ = planted(5)
    model = CustomerSegmenter(3, random_state=1)
    assert clone(model).get_params() == model.get_params()
    assert (model.fit(X).predict(X) == model.labels_).all()
    assert (clone(model).fit_predict(X) == model.labels_).all()


@settings(max_examples=20)
@given(st.integers(0, 50), st.floats(0.01, 1000))
def test_units_do_not_matter(seed, factor):
    X, _ = planted(seed)
    scaled = X * np.array([factor, 1, 1, 1])
    first = CustomerSegmenter(3, random_state=0).fit(X, value=X[:, 1]).labels_
    assert adjusted_rand_score(first, CustomerSegmenter(3, random_state=0).fit(scaled, value=X[:, 1]).labels_) > 0.99


def test_small_segments_are_merged_into_the_nearest():
    X, _ = planted(6, k=3)
    X = np.r_[X, np.full((4, 4), 40.0)]
    model = CustomerSegmenter(4, random_state=1, min_size=10).fit(X)
    sizes = np.bincount(model.labels_)
    assert sizes.min() >= 10
    assert sizes.sum() == len(X)
    assert model.merged_ >= 1


def test_scaler_logs_heavy_tails_and_bounds_whales():
    rng = np.random.default_rng(0)
    X = np.c_[np.exp(rng.normal(0, 2, 500)), rng.normal(size=500), np.full(500, 3.0)]
    scaler = BehaviourScaler().fit(X)
    assert scaler.logged_.tolist() == [True, False, False]
    Z = scaler.transform(X)
    assert np.abs(Z).max() <= 3
    assert (Z[:, 2] == 0).all()
    with pytest.raises(ValueError, match="finite numbers"):
        scaler.transform([[np.nan, 1.0, 1.0]])


def test_jaccard_by_hand():
    first = np.array([0, 0, 0, 1, 1, 2])
    second = np.array([1, 1, 0, 0, 0, 0])
    # {1,2,3} against {1,2}: 2/3; {4,5} against {3,4,5,6}: 2/4; {6} against {3,4,5,6}: 1/4.
    assert jaccard(first, second) == pytest.approx([2 / 3, 1 / 2, 1 / 4])
    assert jaccard(first, first) == pytest.approx([1, 1, 1])


def test_planted_segments_are_stable_and_slices_of_a_cloud_are_not():
    X, _ = planted(7)
    labels = CustomerSegmenter(3, random_state=0).fit_predict(X)
    assert segment_stability(X, labels, samples=10).min() > 0.9
    cloud = one_cloud("normal", 7)
    slices = CustomerSegmenter(5, random_state=0).fit_predict(cloud)
    assert segment_stability(cloud, slices, samples=10).min() < 0.6


def test_valley_is_seldom_seen_in_one_hump():
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(200):
        x = rng.normal(size=(200, 1))
        seen += valley_p_values(x, (x[:, 0] > 0).astype(int)).min() <= 0.05
    assert seen / 200 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)
    two = np.r_[rng.normal(-3, 1, (100, 1)), rng.normal(3, 1, (100, 1))]
    assert valley_p_values(two, (two[:, 0] > 0).astype(int)).max() < 1e-6


def test_profile_marks_what_deviates_by_a_quarter():
    features = pd.DataFrame({"basket": [10.0, 10, 20, 20], "days": [9.0, 11, 10, 10], "share": [0.0, 0, 0, 0]})
    table = profile(features, np.array([0, 0, 1, 1])).set_index(["segment", "feature"])
    assert table.loc[(0, "basket"), "ratio"] == pytest.approx(10 / 15)
    assert table["marker"].to_dict() == {
        (0, "basket"): True,
        (0, "days"): False,
        (0, "share"): False,
        (1, "basket"): True,
        (1, "days"): False,
        (1, "share"): False,
    }
    assert table.loc[(1, "basket"), "direction"] == "high"


def test_names_differ_as_far_as_the_markers_allow():
    rows = [
        (0, "a", 2.0),
        (0, "b", 1.6),
        (0, "c", 1.5),
        (1, "a", 2.1),
        (1, "b", 1.7),
        (1, "c", 0.6),
        (2, "a", 1.0),
        (2, "b", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["segment", "feature", "ratio"])
    table["marker"] = (table["ratio"] - 1).abs() >= 0.25
    table["direction"] = np.where(~table["marker"], "", np.where(table["ratio"] > 1, "high", "low"))
    names = segment_markers(table)
    assert names[0] == [("a", "high"), ("b", "high"), ("c", "high")]
    assert names[1] == [("a", "high"), ("b", "high"), ("c", "low")]
    assert names[2] == []


def behaviour(n, seed=0):
    rng = np.random.default_rng(seed)
    days = rng.integers(1, 60, n)
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(n)],
            "spend": days * rng.gamma(5, 5, n),
            "purchase_days": days,
            "basket": rng.gamma(5, 5, n),
            "recency_days": rng.integers(0, 90, n),
            "weekend_share": rng.beta(2, 5, n),
        }
    )


def test_segments_of_a_base_repeat_and_are_letters_by_spend():
    options = {"clusters_max": 4, "bootstrap_pairs": 5, "small_group": 10}
    first, second = (find_segments(behaviour(300), seed=1, **options) for _ in range(2))
    pd.testing.assert_frame_equal(first.profiles, second.profiles)
    assert list(first.labels) == list(second.labels)
    spend = behaviour(300)["spend"].groupby(first.labels.to_numpy()).mean()
    assert list(spend.index) == ["A", "B", "C", "D"][: len(spend)]
    assert spend.is_monotonic_decreasing
    assert first.reason is None and not first.search.found
    assert first.sizes["customers"].min() >= 10


def test_too_few_customers_give_a_reason_and_no_segments():
    result = find_segments(behaviour(40))
    assert result.reason == "few_customers"
    assert result.labels.isna().all() and len(result.labels) == 40
    assert result.search is None


def test_published_clusters_do_not_move_with_the_seed():
    X, truth = planted(9, k=3, n=240, apart=8.0)
    frame = pd.DataFrame(np.exp(X / 2), columns=["purchase_days", "basket", "recency_days", "stores"])
    frame = frame.assign(customer_id=[f"c{i}" for i in range(240)], spend=np.array([9.0, 5.0, 1.0])[truth])
    runs = [find_segments(frame, 5, 5, seed) for seed in range(6)]
    assert all(run.search.found for run in runs)
    assert all((run.labels == runs[0].labels).all() for run in runs)
    assert adjusted_rand_score(truth, runs[0].labels) > 0.9
    assert (runs[0].sizes["survives"] >= 1).all() and runs[0].across.nodes["segments"].nunique() == 4
    assert (runs[0].model.predict(frame[list(runs[0].basis)]) == runs[0].model.labels_).all()


def test_a_category_joins_the_basis():
    frame = behaviour(300).assign(channel=np.random.default_rng(3).choice(["web", "shop"], 300))
    found = find_segments(frame, 4, 5, categories=["channel"])
    assert found.basis[-1] == "channel" and not found.search.found
    assert "channel" not in set(found.profiles["feature"])


@pytest.mark.parametrize("kind", ["long", "gamma"])
def test_segments_of_one_cloud_hardly_depend_on_the_seed(kind):
    X = one_cloud(kind, 1)
    runs = [CustomerSegmenter(3, random_state=s).fit(X).labels_ for s in range(20)]
    assert min(adjusted_rand_score(runs[0], run) for run in runs) > 0.95
