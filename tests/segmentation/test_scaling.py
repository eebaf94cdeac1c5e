"""One space for numbers, compositions and categories: each counts as one variable, and new customers can be placed."""

import numpy as np
import pandas as pd
import pytest

from analysis.segmentation.scaling import BehaviourScaler, MixedScaler, spread_counts


def mixed(n=400, seed=0):
    rng = np.random.default_rng(seed)
    tastes = rng.dirichlet([2, 3, 5], n)
    return pd.DataFrame(
        {
            "days": rng.poisson(rng.gamma(2, 5, n)),
            "basket": rng.lognormal(3, 1, n),
            "fresh": tastes[:, 0],
            "dry": tastes[:, 1],
            "rest": tastes[:, 2],
            "channel": rng.choice(["shop", "web", "phone"], n, p=[0.6, 0.3, 0.1]),
        }
    )


def test_compositions_and_categories_have_a_total_variance_of_one():
    scaler = MixedScaler(compositions=[["fresh", "dry", "rest"]]).fit(mixed())
    Z = scaler.transform(mixed())
    assert Z.shape == (400, 2 + 3 + 3) and scaler.continuous_ == 5
    assert Z[:, 2:5].var(axis=0).sum() == pytest.approx(1)
    assert Z[:, 5:].var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_allclose(Z[:, 2:].mean(axis=0), 0, atol=1e-12)


def test_plain_numbers_are_scaled_as_before():
    X = mixed()[["days", "basket"]]
    np.testing.assert_array_equal(MixedScaler().fit_transform(X), BehaviourScaler().fit_transform(X.to_numpy()))


def test_log_ratios_do_not_depend_on_what_the_parts_add_up_to():
    X = mixed()
    parts = ["fresh", "dry", "rest"]
    scaler = MixedScaler(compositions=[parts]).fit(X)
    np.testing.assert_allclose(scaler.transform(X), scaler.transform(X.assign(**{p: 7 * X[p] for p in parts})))


def test_levels_that_are_rare_missing_or_new_have_a_place():
    X = mixed()
    X.loc[:1, "channel"] = "fax"
    X.loc[50:80, "channel"] = None
    scaler = MixedScaler().fit(X)
    assert scaler.levels_["channel"][0] == ["missing", "phone", "shop", "web", "other"]
    new = X.head(3).assign(channel=["drone", "fax", "shop"])
    Z = scaler.transform(new)
    assert np.isfinite(Z).all()
    np.testing.assert_allclose(Z[0, -5:], Z[1, -5:])
    constant = MixedScaler().fit_transform(X.assign(channel="shop"))
    assert (constant[:, -1] == 0).all()


def test_a_part_of_nought_is_small_and_a_negative_one_is_refused():
    X = pd.DataFrame({"a": [0.0, 0.5, 0.2], "b": [1.0, 0.5, 0.8]})
    assert np.isfinite(MixedScaler(compositions=[["a", "b"]]).fit_transform(X)).all()
    with pytest.raises(ValueError, match="must not be negative"):
        MixedScaler(compositions=[["a", "b"]]).fit(X.assign(a=-0.1))
    with pytest.raises(ValueError, match="'c' is no column"):
        MixedScaler(compositions=[["a", "c"]]).fit(X)
    with pytest.raises(ValueError, match="at least one row"):
        MixedScaler().fit(X.iloc[:0])


def test_a_soft_limit_leaves_no_spike():
    X = np.r_[np.random.default_rng(0).normal(size=500), 50.0, 500.0, -80.0].reshape(-1, 1)
    hard, soft = BehaviourScaler().fit_transform(X), BehaviourScaler(soft=True).fit_transform(X)
    assert (hard == 3).sum() >= 2
    assert len(np.unique(soft)) == len(X)
    np.testing.assert_array_equal(np.argsort(soft[:, 0]), np.argsort(X[:, 0]))
    inside = np.abs(hard) < 3
    np.testing.assert_array_equal(hard[inside], soft[inside])


def test_counts_are_spread_within_half_a_unit_and_numbers_are_left():
    X = mixed().assign(same=4)
    spread = spread_counts(X, np.random.default_rng(0))
    assert (spread["days"].round() == X["days"]).mean() > 0.99
    assert spread["days"].nunique() == len(X)
    for untouched in ("basket", "channel", "same"):
        assert (spread[untouched] == X[untouched]).all()
