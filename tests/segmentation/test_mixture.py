"""Mixtures find what k-means cannot, and one cloud stays one cloud whatever its shape."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from analysis.segmentation.clusters import search_clusters
from analysis.segmentation.mixture import MixtureSegmenter, fit_mixture, mixture_criteria, sampled

FEW = {"clusters_max": 5, "bootstrap_pairs": 8, "gap_references": 8}


def cigars(seed, n=400):
    """Two long groups side by side: k-means cuts them across."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    along, across = rng.normal(0, 1, n), rng.normal(0, 0.1, n) + 0.9 * truth
    return np.c_[along + across, along - across, rng.normal(0, 0.4, n)], truth


def test_bic_finds_the_planted_number():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 500)
    Z = np.array([[0, 0], [4, 0], [0, 4]])[truth] + rng.normal(0, 0.7, (500, 2))
    table = mixture_criteria(Z, 6, seed=0)
    assert table.loc[table["bic"].idxmin(), "segments"] == 3
    cloud = mixture_criteria(rng.normal(size=(500, 2)), 4, 0)
    assert cloud.loc[cloud["bic"].idxmin(), "segments"] == 1
    # Few customers allow few parameters.
    assert mixture_criteria(rng.normal(size=(40, 4)), 5, 0)["segments"].max() == 1
    assert mixture_criteria(rng.normal(size=(3, 8)), 3, 0).empty


def test_long_groups_are_found_by_the_mixture():
    X, truth = cigars(1)
    search = search_clusters(X, seed=1, **FEW)
    assert (search.found, search.method, search.n_clusters) == (True, "mixture", 2)
    found = MixtureSegmenter(2, search.mixture["form"], random_state=1).fit(X)
    assert adjusted_rand_score(truth, found.labels_) > 0.95
    row = search.table.set_index("segments").loc[2]
    assert row["method"] == "mixture" and row["global_stability"] == search.mixture["global_stability"]


def test_segmenter_keeps_scikit_learn_manners_and_orders_by_value():
    X, truth = cigars(2)
    value = np.array([1.0, 5.0])[truth]
    model = MixtureSegmenter(2, random_state=0)
    labels = clone(model).fit(X, value=value).labels_
    assert value[labels == 0].mean() > value[labels == 1].mean()
    fitted = clone(model).fit(X, value=value)
    assert (fitted.predict(X) == fitted.labels_).all()
    assert (fitted.predict_proba(X).argmax(axis=1) == labels).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
    assert all((clone(model).set_params(random_state=s).fit(X, value=value).labels_ == labels).all() for s in range(4))


def test_small_components_are_given_to_the_likeliest_other():
    X, _ = cigars(3)
    X = np.r_[X, np.full((4, 3), 30.0) + np.random.default_rng(0).normal(0, 0.1, (4, 3))]
    model = MixtureSegmenter(3, min_size=10, random_state=0).fit(X)
    assert np.bincount(model.labels_).min() >= 10
    assert len(model.labels_) == len(X)


def test_a_sample_does_not_move_with_the_seed():
    assert sampled(5, 10).tolist() == [0, 1, 2, 3, 4]
    rows = sampled(1000, 50)
    assert len(np.unique(rows)) == 50 and (np.diff(rows) > 0).all()
    assert (rows == sampled(1000, 50)).all()


def test_categories_alone_are_no_natural_groups():
    rng = np.random.default_rng(4)
    X = pd.DataFrame(rng.normal(size=(300, 3)), columns=list("abc"))
    X["region"] = rng.choice(["north", "south", "west"], 300)
    search = search_clusters(X, seed=1, **FEW)
    assert not search.found
    # Where numbers part with the category, they are found, and the category is no hindrance.
    X.loc[X["region"] == "north", ["a", "b"]] += 7
    search = search_clusters(X, seed=1, **FEW)
    assert search.found


def test_a_mixture_of_equal_customers_does_not_fail():
    Z = np.zeros((60, 2))
    assert np.isfinite(fit_mixture(Z, 2, "full", seed=0).bic(Z))
    assert not search_clusters(np.ones((60, 2)), **FEW).found
    with pytest.raises(ValueError, match="at least 4 customers"):
        search_clusters(np.ones((3, 2)))
