"""Verdicts, repairs, discriminant validity and the halo check."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import (
    PLSPathModel,
    Thresholds,
    assess_blocks,
    composite,
    drives,
    halo_check,
    htmt_pairs,
    numbered,
    repair_blocks,
    specify,
)
from analysis.loyalty.kernel import Layout
from analysis.loyalty.reliability import (
    average_variance_extracted,
    composite_reliability,
    cronbach_alpha,
    dijkstra_rho,
    heterotrait_monotrait,
)


def tau_equivalent(k, loading):
    return np.full((k, k), loading**2) + (1 - loading**2) * np.eye(k)


def test_coefficients_of_parallel_items_are_their_reliability():
    """Four items that share half of their variance: Spearman-Brown gives 4 * .5 / (1 + 3 * .5) = .8."""
    block = tau_equivalent(4, np.sqrt(0.5))[None]
    assert cronbach_alpha(block)[0] == pytest.approx(0.8)
    weights = np.full((1, 4), 1 / np.sqrt(block.sum()))
    assert dijkstra_rho(block, weights)[0] == pytest.approx(0.8)
    loadings = np.full((1, 4), np.sqrt(0.5))
    assert composite_reliability(loadings)[0] == pytest.approx(0.8)
    assert average_variance_extracted(loadings)[0] == pytest.approx(0.5)


def test_single_items_count_as_reliable():
    assert cronbach_alpha(np.ones((2, 1, 1))).tolist() == [1, 1]
    assert dijkstra_rho(np.ones((2, 1, 1)), np.ones((2, 1))).tolist() == [1, 1]


def test_htmt_recovers_the_correlation_of_parallel_factors(chain):
    phi = np.array([[1, 0.3, 0.6], [0.3, 1, 0.45], [0.6, 0.45, 1]])
    loading = np.repeat(np.array([0.8, 0.7, 0.9]), 3)
    matrix = np.outer(loading, loading) * np.kron(phi, np.ones((3, 3)))
    np.fill_diagonal(matrix, 1)
    found = heterotrait_monotrait(matrix[None], Layout.of(chain))[0]
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(found[off], phi[off], atol=1e-12)
    assert np.isnan(np.diag(found)).all()


def test_verdicts_name_the_weak_item_and_the_reason(fitted, drawn):
    verdicts = assess_blocks(fitted, drawn).set_index("construct")
    assert verdicts["verdict"].to_dict() == {
        "Image": "caution",
        "Expectation": "fail",
        "Quality": "caution",
        "Value": "pass",
        "Satisfaction": "caution",
        "Complaints": "caution",
        "Loyalty": "fail",
    }
    assert verdicts.loc["Loyalty", "reason"].startswith("CUSL2 hardly belongs to it (loading 0.20)")
    assert "alpha 0.45" in verdicts.loc["Expectation", "reason"]
    assert "AVE 0.48" in verdicts.loc["Image", "reason"]
    assert "HTMT 0.95" in verdicts.loc["Quality", "reason"]
    assert "one item" in verdicts.loc["Complaints", "reason"]
    several = verdicts.drop(index="Complaints")
    assert (several["alpha_low"] < several["alpha"]).all() and (several["alpha"] < several["alpha_high"]).all()
    assert verdicts.loc["Complaints", ["alpha", "alpha_low", "ave"]].isna().all()


def test_thresholds_decide(fitted):
    lenient = assess_blocks(fitted, thresholds=Thresholds(alpha=0.4, loading=0.2, variance_extracted=0.4, htmt=1.0))
    assert set(lenient["verdict"]) == {"pass", "caution"}
    assert lenient.set_index("construct").loc["Complaints", "verdict"] == "caution"
    strict = assess_blocks(fitted, thresholds=Thresholds(alpha=0.95))
    assert strict.set_index("construct").loc["Value", "verdict"] == "fail"


def test_a_reversed_item_fails_its_block(mobi, ecsi_model):
    turned = PLSPathModel(mobi.assign(PERQ7=11 - mobi["PERQ7"]), ecsi_model).fit()
    quality = assess_blocks(turned).set_index("construct").loc["Quality"]
    assert quality["verdict"] == "fail"
    assert "PERQ7 counts against the rest" in quality["reason"]


def test_mode_b_blocks_are_not_judged_by_agreement(mobi):
    model = specify(composite("Q", numbered("PERQ", 3), "B"), composite("S", numbered("CUSA", 3)), drives("Q", "S"))
    formed = assess_blocks(PLSPathModel(mobi, model).fit()).set_index("construct").loc["Q"]
    assert formed["verdict"] == "caution" and np.isnan(formed["alpha"])


def test_repair_leaves_out_the_price_item_and_gives_up_on_expectation(mobi, fitted):
    repair = repair_blocks(fitted.model, mobi)
    assert repair.left_out == {"Loyalty": ("CUSL2",)}
    assert repair.unusable == ("Expectation",)
    assert repair.specification.blocks["Loyalty"] == ("CUSL1", "CUSL3")
    assert len(repair.specification.blocks["Expectation"]) == 3
    assert repair.changed
    mended = assess_blocks(PLSPathModel(mobi, repair.specification).fit()).set_index("construct")
    assert mended.loc["Loyalty", "verdict"] == "pass"


def test_a_sound_model_is_left_alone(mobi):
    model = specify(composite("V", numbered("PERV", 2)), composite("S", numbered("CUSA", 3)), drives("V", "S"))
    repair = repair_blocks(PLSPathModel(mobi, model), mobi)
    assert repair.specification == model and not repair.changed and repair.unusable == ()


def test_htmt_pairs_are_ordered_and_have_limits(fitted, drawn):
    pairs = htmt_pairs(fitted, drawn)
    assert len(pairs) == 21
    assert pairs["htmt"].is_monotonic_decreasing
    assert (pairs["low"] < pairs["high"]).all()
    assert set(pairs.iloc[0][["first", "second"]]) == {"Loyalty", "Satisfaction"}


def test_halo_of_one_attitude_and_of_none(chain):
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((200, 9))
    for common, expected in ((0.0, 1 / 9), (3.0, 0.9)):
        data = pd.DataFrame(noise + common * rng.standard_normal((200, 1)), columns=list(chain.items))
        results = PLSPathModel(data, chain).fit()
        halo = halo_check(results, results.bootstrap(300, seed=1))
        assert halo.first_low < halo.first_high and halo.items == 9
        assert abs(halo.first - expected) < 0.12
        assert halo.first > halo.second
