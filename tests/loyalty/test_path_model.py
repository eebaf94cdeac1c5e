"""PLS path modelling: known populations, invariances, missing answers, weights, guards."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.loyalty import EstimationError, PLSPathModel, composite, drives, numbered, specify
from analysis.loyalty.kernel import SCHEMES, Layout, Outcome, estimate
from analysis.loyalty.moments import Moments, Resamples, counts_of, draw_indices
from analysis.loyalty.path_model import read_answers

PHI = np.array([[1.0, 0.5, 0.55], [0.5, 1.0, 0.6], [0.55, 0.6, 1.0]])
CHAIN_PATHS = [0.5, (0.55 - 0.5 * 0.6) / 0.75, (0.6 - 0.5 * 0.55) / 0.75]


def equal_block(k: int, r: float) -> np.ndarray:
    return np.full((k, k), r) + (1 - r) * np.eye(k)


def answers_of(chain, correlations, n, rng) -> pd.DataFrame:
    values = rng.standard_normal((n, len(correlations))) @ np.linalg.cholesky(correlations).T
    return pd.DataFrame(values, columns=list(chain.items))


# -- known populations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mode_a_recovers_a_population_of_equally_correlated_items(chain, population, scheme):
    matrix, weights, _loadings = population([equal_block(3, r) for r in (0.5, 0.6, 0.4)], [np.ones(3)] * 3, PHI)
    found = estimate(matrix[None], Layout.of(chain), scheme)
    assert found.outcome[0] == Outcome.CONVERGED
    np.testing.assert_allclose(found.paths[0], CHAIN_PATHS, atol=1e-9)
    np.testing.assert_allclose(found.correlations[0], PHI, atol=1e-9)
    np.testing.assert_allclose(found.weights[0], np.concatenate(weights), atol=1e-9)
    np.testing.assert_allclose(found.total_effects[0, 0, 2], CHAIN_PATHS[1] + CHAIN_PATHS[0] * CHAIN_PATHS[2])
    np.testing.assert_allclose(found.r_squared[0, 1:], [0.25, PHI[2, :2] @ CHAIN_PATHS[1:]], atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mode_b_recovers_any_composite_population(chain, population, scheme):
    within = [np.array([[1, 0.2, 0.4], [0.2, 1, 0.1], [0.4, 0.1, 1]]), equal_block(3, 0.3), equal_block(3, 0.5)]
    planted = [np.array([0.7, 0.2, 0.4]), np.array([0.1, 0.9, 0.3]), np.array([0.5, 0.6, 0.2])]
    matrix, weights, _loadings = population(within, planted, PHI)
    formed = specify(*(composite(c.name, c.items, "B") for c in chain.composites), chain.paths)
    found = estimate(matrix[None], Layout.of(formed), scheme)
    np.testing.assert_allclose(found.weights[0], np.concatenate(weights), atol=1e-8)
    np.testing.assert_allclose(found.paths[0], CHAIN_PATHS, atol=1e-8)


def test_single_items_are_ordinary_regression():
    rng = np.random.default_rng(3)
    data = pd.DataFrame(rng.standard_normal((80, 3)) @ rng.standard_normal((3, 3)), columns=["a", "b", "c"])
    model = specify(composite("A", "a"), composite("B", "b"), composite("C", "c"), drives(["A", "B"], "C"))
    z = (data - data.mean()) / data.std()
    expected, *_ = np.linalg.lstsq(z[["a", "b"]].to_numpy(), z["c"].to_numpy(), rcond=None)
    results = PLSPathModel(data, model).fit()
    np.testing.assert_allclose(results.params.to_numpy(), expected, atol=1e-12)
    residual = z["c"] - z[["a", "b"]] @ expected
    assert results.r_squared["C"] == pytest.approx(1 - (residual**2).sum() / (z["c"] ** 2).sum())


def test_bootstrap_intervals_cover_the_population_paths(chain, population):
    matrix, *_ = population([equal_block(3, r) for r in (0.5, 0.6, 0.5)], [np.ones(3)] * 3, PHI)
    truth = estimate(matrix[None], Layout.of(chain)).paths[0]
    rng, replications, hits = np.random.default_rng(20), 200, np.zeros(3)
    for _ in range(replications):
        drawn = PLSPathModel(answers_of(chain, matrix, 150, rng), chain).fit().bootstrap(300, seed=rng)
        limits = drawn.conf_int(0.9)
        hits += (limits["low"].to_numpy() <= truth) & (truth <= limits["high"].to_numpy())
    error = np.sqrt(0.9 * 0.1 / replications)
    assert (np.abs(hits / replications - 0.9) < 4 * error).all(), hits / replications


def test_intervals_allow_for_customers_who_answered_more_than_once(chain, population):
    """Three answers each, much alike: taken for 240 people, 80 customers look far more certain than they are."""
    matrix, *_ = population([equal_block(3, r) for r in (0.5, 0.6, 0.5)], [np.ones(3)] * 3, PHI)
    truth = estimate(matrix[None], Layout.of(chain)).paths[0]
    rng, replications, alike = np.random.default_rng(21), 200, 0.9
    number = np.tile([f"C{k}" for k in range(80)], 3)
    hits = {"rows": np.zeros(3), "customers": np.zeros(3)}
    for _ in range(replications):
        own, shared = answers_of(chain, matrix, 240, rng), answers_of(chain, matrix, 80, rng)
        answers = np.sqrt(1 - alike) * own + np.sqrt(alike) * pd.concat([shared] * 3, ignore_index=True)
        for name, customers in (("rows", None), ("customers", pd.Series(number))):
            drawn = PLSPathModel(answers, chain, customers=customers).fit().bootstrap(300, seed=rng)
            limits = drawn.conf_int(method="bca")
            hits[name] += (limits["low"].to_numpy() <= truth) & (truth <= limits["high"].to_numpy())
    four_errors = 4 * np.sqrt(0.95 * 0.05 / replications)
    assert (hits["rows"] / replications < 0.95 - four_errors).all(), hits
    assert (np.abs(hits["customers"] / replications - 0.95) < four_errors).all(), hits


def test_a_customers_rows_are_drawn_and_left_out_together(mobi, ecsi_model):
    numbers = pd.Series([None] * 50 + [f"C{k % 100}" for k in range(200)])
    model = PLSPathModel(mobi, ecsi_model, customers=numbers)
    assert model.respondents == 150
    results = model.fit()
    np.testing.assert_allclose(results.params, PLSPathModel(mobi, ecsi_model).fit().params, atol=1e-12)
    rest = PLSPathModel(mobi[numbers != "C0"], ecsi_model).fit().params
    np.testing.assert_allclose(results.jackknife()["paths"][0], rest, atol=1e-8)
    with pytest.raises(EstimationError, match="come from 5 customers"):
        PLSPathModel(mobi, ecsi_model, customers=pd.Series(np.arange(250) % 5))


def test_bootstrap_standard_errors_match_the_spread_of_estimates(chain, population):
    matrix, *_ = population([equal_block(3, 0.6)] * 3, [np.ones(3)] * 3, PHI)
    rng = np.random.default_rng(8)
    estimates, errors = [], []
    for k in range(200):
        results = PLSPathModel(answers_of(chain, matrix, 300, rng), chain).fit()
        estimates.append(results.params.to_numpy())
        if k < 20:
            errors.append(results.bootstrap(300, seed=rng).bse.to_numpy())
    spread = np.std(estimates, axis=0, ddof=1)
    # Standard error of a standard deviation of 200 normal draws is about 5 %, of the mean of 20 errors less.
    np.testing.assert_allclose(np.mean(errors, axis=0), spread, rtol=4 * 0.055)


# -- invariances ----------------------------------------------------------------------------------------------


@st.composite
def surveys(draw):
    """A small random survey and a random recursive model on it."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    modes = draw(st.lists(st.sampled_from("AB"), min_size=len(sizes), max_size=len(sizes)))
    names = [f"C{k}" for k in range(len(sizes))]
    arrows = [p for k in range(1, len(names)) for p in drives(names[draw(st.integers(0, k - 1))], names[k])]
    parts = [composite(n, numbered(n.lower() + "_", s), m) for n, s, m in zip(names, sizes, modes, strict=True)]
    model = specify(*parts, arrows)
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    common = rng.standard_normal((60, 1))
    values = 0.8 * common + rng.standard_normal((60, len(model.items)))
    return pd.DataFrame(values, columns=list(model.items)), model, draw(st.sampled_from(SCHEMES)), rng


@settings(max_examples=40)
@given(surveys())
def test_the_order_of_respondents_does_not_matter(survey):
    data, model, scheme, rng = survey
    one = PLSPathModel(data, model, scheme=scheme).fit()
    other = PLSPathModel(data.sample(frac=1, random_state=int(rng.integers(1000))), model, scheme=scheme).fit()
    np.testing.assert_allclose(one.params, other.params, atol=1e-8)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-8)


@settings(max_examples=40)
@given(surveys(), st.floats(0.01, 1000), st.floats(-1e4, 1e4))
def test_units_of_the_items_do_not_matter(survey, factor, shift):
    data, model, scheme, _ = survey
    moved = data.copy()
    moved[model.items[0]] = moved[model.items[0]] * factor + shift
    one, other = (PLSPathModel(d, model, scheme=scheme).fit() for d in (data, moved))
    np.testing.assert_allclose(one.params, other.params, atol=1e-6)
    np.testing.assert_allclose(one.loadings, other.loadings, atol=1e-6)


@settings(max_examples=40)
@given(surveys())
def test_turning_a_whole_block_round_only_turns_its_loadings(survey):
    data, model, scheme, _ = survey
    block = list(model.composites[0].items)
    turned = data.copy()
    turned[block] = -turned[block]
    one, other = (PLSPathModel(d, model, scheme=scheme).fit() for d in (data, turned))
    np.testing.assert_allclose(one.params.abs(), other.params.abs(), atol=1e-7)
    np.testing.assert_allclose(one.r_squared, other.r_squared, atol=1e-7)
    assert (other.loadings.groupby(level="construct").sum() > -1e-9).all()


@settings(max_examples=40)
@given(surveys())
def test_estimates_hang_together(survey):
    data, model, scheme, _ = survey
    results = PLSPathModel(data, model, scheme=scheme).fit()
    scores = results.composite_scores()
    np.testing.assert_allclose(scores.std(ddof=0), 1, atol=1e-9)
    np.testing.assert_allclose(scores.corr(), results.construct_correlations, atol=1e-8)
    assert results.r_squared.between(-1e-9, 1 + 1e-9).all()
    assert (results.loadings.abs() <= 1 + 1e-9).all()
    reliability = results.reliability
    assert reliability["ave"].between(0, 1 + 1e-9).all()
    assert reliability["rho_c"].between(0, 1 + 1e-9).all()


@settings(max_examples=25)
@given(surveys())
def test_a_weight_of_two_is_a_respondent_twice(survey):
    data, model, scheme, rng = survey
    times = rng.integers(1, 4, len(data))
    weighted = PLSPathModel(data, model, scheme=scheme, weights=times.astype(float)).fit()
    repeated = PLSPathModel(data.loc[np.repeat(data.index, times)], model, scheme=scheme).fit()
    np.testing.assert_allclose(weighted.params, repeated.params, atol=1e-8)
    np.testing.assert_allclose(weighted.moments.means, repeated.moments.means, atol=1e-10)


# -- the batch kernel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_batch_equals_one_estimate_a_resample(mobi, ecsi_model, scheme):
    results = PLSPathModel(mobi, ecsi_model, scheme=scheme).fit()
    indices = draw_indices(250, 5, np.random.default_rng(2))
    batch = results.bootstrap(indices=indices)
    for k, rows in enumerate(indices):
        one = PLSPathModel(mobi.iloc[rows], ecsi_model, scheme=scheme).fit()
        np.testing.assert_allclose(batch.values["paths"][k], one.params, atol=1e-8)
        np.testing.assert_allclose(batch.values["reliability"][k], one.reliability, atol=1e-7)
        np.testing.assert_allclose(batch.values["means"][k], mobi.iloc[rows][list(ecsi_model.items)].mean())


def test_missing_answers_get_the_mean_of_their_own_resample(mobi, ecsi_model):
    rng = np.random.default_rng(6)
    items = list(ecsi_model.items)
    holed = mobi[items].astype(float).mask(rng.random((250, 24)) < 0.08)
    results = PLSPathModel(holed, ecsi_model).fit()
    np.testing.assert_allclose(results.params, PLSPathModel(holed.fillna(holed.mean()), ecsi_model).fit().params)
    indices = draw_indices(250, 4, rng)
    batch = results.bootstrap(indices=indices)
    for k, rows in enumerate(indices):
        part = holed.iloc[rows].reset_index(drop=True)
        one = PLSPathModel(part.fillna(part.mean()), ecsi_model).fit()
        np.testing.assert_allclose(batch.values["paths"][k], one.params, atol=1e-8)
        np.testing.assert_allclose(batch.values["means"][k], part.mean())


def test_leaving_out_one_respondent_by_subtraction(mobi, ecsi_model):
    items = list(ecsi_model.items)
    answers = mobi[items].to_numpy(float)
    answers[3, 2] = np.nan
    batch = Moments(answers).without_each(slice(0, 6))
    for k in range(6):
        rest = Moments(np.delete(answers, k, axis=0)).full()
        np.testing.assert_allclose(batch.correlations[k], rest.correlations[0], atol=1e-10)
        np.testing.assert_allclose(batch.means[k], rest.means[0])


def test_counts_add_up():
    indices = draw_indices(30, 7, np.random.default_rng(1))
    counts = counts_of(indices, 30)
    assert counts.shape == (7, 30)
    for row, drawn in zip(counts, indices, strict=True):
        assert row.tolist() == [int((drawn == k).sum()) for k in range(30)]


def test_resamples_drawn_in_batches_and_again_are_those_drawn_at_once():
    people = 30_000  # several batches
    expected = draw_indices(people, 300, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    resamples = Resamples(people, 300, rng)
    for _ in range(2):
        batches = list(resamples.batches())
        assert len(batches) > 2
        np.testing.assert_array_equal(np.concatenate(batches), expected)
    np.testing.assert_array_equal(np.concatenate(list(resamples.first(200).batches())), expected[:200])
    np.testing.assert_array_equal(np.concatenate(list(resamples.counts()))[:, 7], (expected == 7).sum(axis=1))
    np.testing.assert_array_equal(np.concatenate(list(resamples.batches(rng))), expected)
    assert rng.integers(2**60) != np.random.default_rng(3).integers(2**60)


def test_a_bootstrap_knows_its_resamples(fitted):
    rng = np.random.default_rng(7)
    drawn, next_drawn = fitted.bootstrap(20, seed=rng), fitted.bootstrap(20, seed=rng)
    expected = draw_indices(250, 40, np.random.default_rng(7))
    np.testing.assert_array_equal(np.concatenate([drawn.indices, next_drawn.indices]), expected)
    given = fitted.bootstrap(indices=expected[:20])
    np.testing.assert_array_equal(given.values["paths"], drawn.values["paths"])
    np.testing.assert_array_equal(given.indices, drawn.indices)


def test_memory_does_not_grow_with_the_resamples(chain, population):
    matrix, *_ = population([equal_block(3, 0.5)] * 3, [np.ones(3)] * 3, PHI)
    results = PLSPathModel(answers_of(chain, matrix, 40_000, np.random.default_rng(0)), chain).fit()

    def peak(draws):
        tracemalloc.start()
        results.bootstrap(draws, seed=1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(500) - peak(100) < 10e6  # the indices of 400 resamples would take 64 MB


def test_the_same_seed_gives_the_same_draws(fitted):
    one, two, other = (fitted.bootstrap(200, seed=s) for s in (7, 7, 8))
    assert np.array_equal(one.values["paths"], two.values["paths"])
    assert not np.array_equal(one.values["paths"], other.values["paths"])


def test_failed_resamples_are_counted_not_hidden(chain, population):
    matrix, *_ = population([equal_block(3, 0.5)] * 3, [np.ones(3)] * 3, PHI)
    data = answers_of(chain, matrix, 40, np.random.default_rng(0))
    data["x1"] = (np.arange(40) == 0).astype(float)
    drawn = PLSPathModel(data, chain).fit().bootstrap(500, seed=1)
    without_first_row = (drawn.indices != 0).all(axis=1).sum()
    assert 0 < without_first_row < 500
    assert drawn.failed == {"an item is constant": without_first_row}
    assert drawn.used == 500 - without_first_row == len(drawn.values["paths"])
    assert np.isfinite(drawn.conf_int(method="bca").to_numpy()).all()


def test_signs_do_not_jump_between_resamples(mobi):
    """Image and Complaints barely hold on noise; a mirrored solution would make a two-humped distribution."""
    model = specify(composite("Q", numbered("PERQ", 7)), composite("S", numbered("CUSA", 3)), drives("Q", "S"))
    turned = mobi.assign(PERQ7=11 - mobi["PERQ7"])
    drawn = PLSPathModel(turned, model).fit().bootstrap(500, seed=2)
    loading = drawn.values["loadings"]
    assert (np.sign(loading) == np.sign(drawn.results.loadings.to_numpy())).mean() > 0.999
    assert (drawn.values["paths"] > 0).all()


# -- reading off ----------------------------------------------------------------------------------------------


def test_summary_frames(drawn):
    frames = drawn.summary(method="bca")
    paths = frames["paths"]
    assert list(paths) == ["source", "target", "estimate", "bse", "low", "high", "inflation", "f_squared"]
    assert (paths["low"] < paths["estimate"]).all() and (paths["estimate"] < paths["high"]).all()
    assert len(frames["items"]) == 24 and len(frames["constructs"]) == 7


def test_indirect_effects_multiply_along_a_route(fitted, drawn):
    estimate_, low, high = drawn.indirect_effect("Quality", "Value", "Satisfaction")
    assert estimate_ == pytest.approx(fitted.params["Quality", "Value"] * fitted.params["Value", "Satisfaction"])
    assert low < estimate_ < high
    with pytest.raises(ValueError, match="no path Loyalty -> Image"):
        fitted.indirect_effect("Loyalty", "Image")


def test_total_effects_sum_over_routes(fitted):
    p = fitted.params
    assert fitted.total_effects.loc["Image", "Complaints"] == pytest.approx(
        p["Satisfaction", "Complaints"] * fitted.total_effects.loc["Image", "Satisfaction"]
    )
    assert fitted.total_effects.loc["Loyalty", "Image"] == 0


# -- guards ---------------------------------------------------------------------------------------------------


def test_answers_are_read_with_their_missing_codes():
    raw = pd.DataFrame({"a": ["1", " 2", "n/a", None], "b": [1, -99, 3, 4]})
    read = read_answers(raw, ["a", "b"], missing_codes=["n/a", "-99"])
    assert read["a"].tolist()[:2] == [1, 2] and read["a"].isna().tolist() == [False, False, True, True]
    assert read["b"].isna().tolist() == [False, True, False, False]
    assert read_answers(raw, ["b"], [-99.0])["b"].isna().sum() == 1
    with pytest.raises(EstimationError, match="item 'a': 1 answers are not numbers"):
        read_answers(raw, ["a"])
    with pytest.raises(EstimationError, match="no column 'c'"):
        read_answers(raw, ["c"])


def test_listwise_leaves_out_and_counts(mobi, ecsi_model):
    holed = mobi.astype({"IMAG1": float})
    holed.loc[[0, 5], "IMAG1"] = np.nan
    model = PLSPathModel(holed, ecsi_model, missing="listwise")
    assert model.left_out == 2
    expected = PLSPathModel(mobi.drop(index=[0, 5]), ecsi_model).fit().params
    np.testing.assert_allclose(model.fit().params, expected)


def test_a_respondent_without_answers_is_left_out(mobi, ecsi_model):
    holed = mobi.astype(dict.fromkeys(ecsi_model.items, float))
    holed.loc[3, list(ecsi_model.items)] = np.nan
    assert PLSPathModel(holed, ecsi_model).left_out == 1


def test_bad_data_are_named(mobi, ecsi_model):
    with pytest.raises(EstimationError, match="'IMAG1' does not vary"):
        PLSPathModel(mobi.assign(IMAG1=7), ecsi_model)
    with pytest.raises(EstimationError, match="'IMAG1' does not vary"):
        PLSPathModel(mobi.assign(IMAG1=0.1 + 0.2), ecsi_model)
    with pytest.raises(EstimationError, match="'IMAG1' has no answers"):
        PLSPathModel(mobi.assign(IMAG1=np.nan), ecsi_model)
    with pytest.raises(EstimationError, match="9 usable rows"):
        PLSPathModel(mobi.head(9), ecsi_model)
    with pytest.raises(EstimationError, match="scheme 'pls'"):
        PLSPathModel(mobi, ecsi_model, scheme="pls")
    with pytest.raises(EstimationError, match="missing='drop'"):
        PLSPathModel(mobi, ecsi_model, missing="drop")


@pytest.mark.parametrize("weights", [np.ones(3), -np.ones(250), np.zeros(250), np.full(250, np.nan)])
def test_bad_weights_are_refused(mobi, ecsi_model, weights):
    with pytest.raises(EstimationError, match="weights"):
        PLSPathModel(mobi, ecsi_model, weights=weights)


def test_a_singular_mode_b_block_is_named(mobi):
    data = mobi.assign(TWIN=2 * mobi["PERQ1"] - mobi["PERQ2"])
    model = specify(composite("Q", ["PERQ1", "PERQ2", "TWIN"], "B"), composite("S", "CUSA1"), drives("Q", "S"))
    with pytest.raises(EstimationError, match="mode B construct 'Q' determine each other"):
        PLSPathModel(data, model).fit()
    mode_a = specify(composite("Q", ["PERQ1", "PERQ2", "TWIN"]), composite("S", "CUSA1"), drives("Q", "S"))
    assert PLSPathModel(data, mode_a).fit().params.between(0, 1).all()


def test_identical_sources_are_refused(mobi):
    data = mobi.assign(AGAIN=mobi["PERQ1"])
    parts = [composite("A", "PERQ1"), composite("B", "AGAIN"), composite("S", "CUSA1"), drives(["A", "B"], "S")]
    for scheme in SCHEMES:
        with pytest.raises(EstimationError, match="sources of a construct determine each other"):
            PLSPathModel(data, specify(*parts), scheme=scheme).fit()


def test_non_convergence_is_an_error(mobi, ecsi_model):
    with pytest.raises(EstimationError, match="did not settle within 2 iterations"):
        PLSPathModel(mobi, ecsi_model).fit(max_iterations=2)


def test_opposed_items_do_not_break_the_start():
    rng = np.random.default_rng(5)
    x = rng.standard_normal(100)
    data = pd.DataFrame({"a": x, "b": -x, "c": x + rng.standard_normal(100)})
    results = PLSPathModel(data, specify(composite("X", ["a", "b"]), composite("C", "c"), drives("X", "C"))).fit()
    assert abs(results.params.iloc[0]) == pytest.approx(abs(data["a"].corr(data["c"])))


def test_cautions(mobi, ecsi_model, fitted):
    assert fitted.cautions() == []
    assert "20 respondents for 4 arrows" in PLSPathModel(mobi.head(20), ecsi_model).fit().cautions()[0]
    turned = PLSPathModel(mobi.assign(PERQ7=11 - mobi["PERQ7"]), ecsi_model).fit()
    assert any("PERQ7 enters Quality with a negative weight" in note for note in turned.cautions())


def test_bad_bootstrap_requests_are_refused(fitted):
    with pytest.raises(EstimationError, match="at least 2"):
        fitted.bootstrap(1)
    with pytest.raises(EstimationError, match="numbers from 0 to 249"):
        fitted.bootstrap(indices=np.zeros((4, 10), dtype=int))
