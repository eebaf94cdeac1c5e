"""Descriptors: what differs is found, what does not seldom is, effects have intervals that hold them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.multiplicity import adjust_p_values
from analysis.segmentation.describe import describe_segments, noncentrality


def base(n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = pd.Series(rng.choice(list("ABC"), n))
    frame = pd.DataFrame(
        {
            "spend": rng.lognormal(3, 1, n) * np.where(labels == "A", 3, 1),
            "tenure": rng.integers(0, 700, n),
            "region": np.where(rng.random(n) < 0.5, np.where(labels == "B", "north", "south"), "east"),
            "channel": rng.choice(["web", "shop"], n),
        }
    )
    return labels, frame


def test_what_differs_is_found_with_the_statistics_of_scipy():
    labels, frame = base()
    found = describe_segments(labels, frame).set_index("variable")
    assert found.loc[["spend", "region"], "differs"].all() and not found.loc[["tenure", "channel"], "differs"].any()
    h, p = stats.kruskal(*(frame["spend"][labels == s] for s in "ABC"))
    assert (found.loc["spend", "statistic"], found.loc["spend", "p"]) == (pytest.approx(h), pytest.approx(p))
    chi2 = stats.chi2_contingency(pd.crosstab(labels, frame["region"]), correction=False)
    assert (found.loc["region", "statistic"], found.loc["region", "df"]) == (pytest.approx(chi2[0]), chi2[2])
    assert (found["p_holm"] >= found["p"]).all() and found["p_holm"].min() == pytest.approx(4 * found["p"].min())
    assert ((found["low"] <= found["effect"]) & (found["effect"] <= found["high"])).all()
    assert found["effect"].is_monotonic_decreasing
    assert "spend" not in set(describe_segments(labels, frame, without=["spend"])["variable"])


def test_chance_is_seldom_called_a_difference():
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame({f"x{i}": rng.lognormal(0, 1, 120) for i in range(3)})
        frame["kind"] = rng.choice(list("pqr"), 120, p=[0.6, 0.3, 0.1])
        wrong += describe_segments(pd.Series(rng.choice(list("ABC"), 120)), frame)["differs"].any()
    assert wrong / 200 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_interval_holds_cramers_v():
    joint = np.array([[0.2, 0.1, 0.1], [0.1, 0.2, 0.3]])
    expected = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    truth = np.sqrt(((joint - expected) ** 2 / expected).sum())
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        cells = rng.choice(6, 400, p=joint.ravel())
        row = describe_segments(
            pd.Series(np.array(["A", "B"])[cells // 3]), pd.DataFrame({"x": np.array(list("pqr"))[cells % 3]})
        )
        held += row["low"][0] <= truth <= row["high"][0]
    assert abs(held / 200 - 0.95) <= 4 * np.sqrt(0.95 * 0.05 / 200)


def test_noncentrality_inverts_the_distribution():
    low, high = noncentrality(40.0, 4)
    assert stats.ncx2.cdf(40, 4, low) == pytest.approx(0.975) and stats.ncx2.cdf(40, 4, high) == pytest.approx(0.025)
    assert noncentrality(1.0, 4)[0] == 0
    assert noncentrality(0.0, 4) == (0, 0)
    low, high = noncentrality(1e7, 2)
    assert low < 1e7 < high


def test_edges_give_a_reason():
    labels, frame = base(60)
    frame["same"], frame["blank"] = 1.0, np.nan
    frame["word"], frame["unlike"] = "x", [f"v{i}" for i in range(60)]
    frame["seen"] = pd.date_range("2024-01-01", periods=60, tz="UTC")
    frame["flag"] = labels == "A"
    found = describe_segments(labels, frame).set_index("variable")
    assert found.loc["same", "reason"] == "constant" and found.loc["word", "reason"] == "constant"
    assert found.loc["blank", "reason"] == "few_segments"
    assert found.loc["unlike", "reason"] == "few_customers"
    assert found.loc["flag", "kind"] == "category" and found.loc["flag", "effect"] > 0.9
    assert found.loc["seen", "kind"] == "number" and found.loc["seen", "reason"] is None
    alone = describe_segments(pd.Series(["A"] * 60), frame)
    assert set(alone["reason"]) == {"few_segments"} and not alone["differs"].any()
    assert describe_segments(labels, frame[[]]).empty
    assert describe_segments(pd.Series([], dtype=object), frame.iloc[:0])["reason"].notna().all()
    with pytest.raises(ValueError, match="60 customers"):
        describe_segments(labels.head(5), frame)


def test_correction_is_that_of_statsmodels():
    p = np.random.default_rng(0).beta(0.3, 2, 20)
    np.testing.assert_allclose(adjust_p_values(p), multipletests(p, method="holm")[1])
