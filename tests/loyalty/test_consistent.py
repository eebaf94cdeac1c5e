"""Consistent PLS finds the paths between constructs that plain PLS cannot, however many answer."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import PLSPathModel, composite, consistent_paths, drives, numbered, specify

PATHS = {("X", "M"): 0.6, ("X", "Y"): 0.3, ("M", "Y"): 0.4}
LOADINGS = {"X": (0.8, 0.7, 0.75), "M": (0.85, 0.7, 0.8), "Y": (0.75, 0.8, 0.7)}


def answers(n, seed=1, loadings=LOADINGS):
    """Items of a common-factor model with the paths above, all standardised."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    m = 0.6 * x + 0.8 * rng.standard_normal(n)
    explained = 0.3**2 + 0.4**2 + 2 * 0.3 * 0.4 * 0.6
    y = 0.3 * x + 0.4 * m + np.sqrt(1 - explained) * rng.standard_normal(n)
    scores = {"X": x, "M": m, "Y": y}
    return pd.DataFrame(
        {
            f"{name.lower()}{k}": loading * scores[name] + np.sqrt(1 - loading**2) * rng.standard_normal(n)
            for name, block in loadings.items()
            for k, loading in enumerate(block, 1)
        }
    )


def test_planted_paths_are_recovered_where_plain_pls_stays_off(chain):
    results = PLSPathModel(answers(200_000), chain).fit()
    found = consistent_paths(results).set_index(["source", "target"])["estimate"]
    for arrow, path in PATHS.items():
        assert found[arrow] == pytest.approx(path, abs=0.01)
    off = [abs(results.params[arrow] - path) for arrow, path in PATHS.items()]
    assert max(off) > 0.08


def test_intervals_hold_the_planted_paths_more_often_than_those_of_plain_pls(chain):
    held = {"consistent": 0, "plain": 0}
    for seed in range(20):
        results = PLSPathModel(answers(800, seed), chain).fit()
        boot = results.bootstrap(200, seed)
        consistent, plain = consistent_paths(results, boot), boot.conf_int()
        consistent = consistent.set_index(["source", "target"])
        for arrow, path in PATHS.items():
            held["consistent"] += consistent.loc[arrow, "low"] <= path <= consistent.loc[arrow, "high"]
            held["plain"] += plain.loc[arrow, "low"] <= path <= plain.loc[arrow, "high"]
    assert held["consistent"] >= 52  # of 60; 57 are expected
    assert held["plain"] <= 45


def test_single_items_are_taken_at_their_word():
    single = specify(composite("X", "x1"), composite("Y", "y1"), drives("X", "Y"))
    results = PLSPathModel(answers(2_000)[["x1", "y1"]], single).fit()
    found = consistent_paths(results)
    assert found["estimate"].item() == pytest.approx(results.params.item())
    assert found["low"].isna().all()


def test_correlations_that_no_constructs_can_have_give_no_paths():
    # Two blocks of hardly related items that go together: free of error they would correlate beyond one.
    rng = np.random.default_rng(3)
    n, common = 4_000, rng.standard_normal(4_000)
    weak = {f"{block}{k}": 0.3 * common + rng.standard_normal(n) for block in "xy" for k in (1, 2)}
    weak["y1"] = weak["x1"] + 0.1 * rng.standard_normal(n)
    model = specify(composite("X", numbered("x", 2)), composite("Y", numbered("y", 2)), drives("X", "Y"))
    assert consistent_paths(PLSPathModel(pd.DataFrame(weak), model).fit())["estimate"].isna().all()
