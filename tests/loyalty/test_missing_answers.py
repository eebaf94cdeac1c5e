"""Missing answers: codes of any type, means of each resample, pairs of answers."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import EstimationError, PLSPathModel, composite, drives, numbered, specify
from analysis.loyalty.moments import Moments, Outcome, counts_of, draw_indices


@pytest.fixture(scope="module")
def reputation_model():
    def items(stem, last):
        return numbered(stem, last, separator="_")

    return specify(
        composite("COMP", items("comp", 3)),
        composite("LIKE", items("like", 3)),
        composite("CUSA", "cusa"),
        composite("CUSL", items("cusl", 3)),
        drives(["COMP", "LIKE"], ["CUSA", "CUSL"]),
        drives("CUSA", "CUSL"),
    )


# -- codes ----------------------------------------------------------------------------------------------------

CODES = ["-99", -99, -99.0, ["-99"], [-99], [-99.0], ["-99.0"], [np.int64(-99)], np.array([-99.0]), [np.nan, "-99"]]
STORED = {
    "integers": lambda data: data,
    "decimals": lambda data: data.astype(float),
    "text": lambda data: data.astype("str"),
    "decimal text": lambda data: data.astype(float).astype("str"),
    "nullable": lambda data: data.astype("Int64"),
}


@pytest.mark.parametrize("codes", CODES, ids=repr)
@pytest.mark.parametrize("stored", STORED)
def test_a_declared_code_counts_whatever_its_type(reputation, reputation_model, codes, stored):
    """Published: .504. With the codes taken for answers the path comes out at .608."""
    data = STORED[stored](reputation[list(reputation_model.items)])
    found = PLSPathModel(data, reputation_model, missing_codes=codes).fit()
    assert round(found.params["CUSA", "CUSL"], 3) == 0.504


@pytest.mark.parametrize("hole", [np.nan, None, pd.NA, "", " "])
def test_nothing_is_a_missing_answer_without_being_declared(reputation, reputation_model, hole):
    data = reputation[list(reputation_model.items)].astype(object).replace(-99, hole)
    assert round(PLSPathModel(data, reputation_model).fit().params["CUSA", "CUSL"], 3) == 0.504


def test_codes_left_undeclared_spoil_the_paths(reputation, reputation_model):
    assert round(PLSPathModel(reputation, reputation_model).fit().params["CUSA", "CUSL"], 3) == 0.608


# -- means of each resample -----------------------------------------------------------------------------------


def by_hand(data: np.ndarray, weights: np.ndarray, blocks: list[slice], arrows: list[tuple[int, int]]) -> list[float]:
    """PLS of one data set, as a textbook has it: fill in, standardise, iterate scores, regress. Mode A, factorial scheme."""
    mass = weights / weights.sum()
    seen = ~np.isnan(data)
    means = np.array([np.average(column[s], weights=weights[s]) for column, s in zip(data.T, seen.T, strict=True)])
    filled = np.where(seen, data, means)
    z = (filled - means) / np.sqrt(mass @ (filled - means) ** 2)
    linked = np.zeros((len(blocks), len(blocks)))
    for source, target in arrows:
        linked[source, target] = linked[target, source] = 1

    def scores(weight):
        raw = np.column_stack([z[:, b] @ weight[b] for b in blocks])
        return raw / np.sqrt(mass @ raw**2)

    weight = np.ones(z.shape[1])
    for _ in range(300):
        y = scores(weight)
        proxies = y @ (linked * (y.T @ (mass[:, None] * y)))
        weight = np.concatenate([z[:, b].T @ (mass * proxies[:, j]) for j, b in enumerate(blocks)])
    y = scores(weight)
    y *= np.sign([(z[:, b].T @ (mass * y[:, j])).sum() for j, b in enumerate(blocks)])
    paths = {}
    for target in {t for _, t in arrows}:
        sources = [s for s, t in arrows if t == target]
        root = np.sqrt(mass)[:, None]
        found, *_ = np.linalg.lstsq(root * y[:, sources], root[:, 0] * y[:, target], rcond=None)
        paths |= {(s, target): value for s, value in zip(sources, found, strict=True)}
    return [paths[arrow] for arrow in arrows]


@pytest.mark.parametrize("weighted", [False, True])
def test_every_resample_is_filled_in_with_its_own_means(mobi, ecsi_model, weighted):
    rng = np.random.default_rng(6)
    holed = mobi[list(ecsi_model.items)].astype(float).mask(rng.random((250, 24)) < 0.1)
    weights = rng.uniform(0.3, 2, 250) if weighted else np.ones(250)
    model = PLSPathModel(holed, ecsi_model, scheme="factorial", weights=weights)
    indices = draw_indices(250, 6, rng)
    batch = model.fit(tolerance=1e-14).bootstrap(indices=indices)
    blocks = [model.layout.block(j) for j in range(model.layout.width)]
    arrows = list(zip(model.layout.arrow_source, model.layout.arrow_target, strict=True))
    for k, rows in enumerate(indices):
        expected = by_hand(holed.to_numpy()[rows], weights[rows], blocks, arrows)
        np.testing.assert_allclose(batch.values["paths"][k], expected, atol=1e-10)


@pytest.mark.parametrize("gaps", ["mean", "pairwise"])
@pytest.mark.parametrize("holed", [[2], [0, 3, 4], [0, 1, 2, 3, 4]])
def test_leaving_out_customers_who_left_out_items(gaps, holed):
    """Some items with gaps or all; several rows of a customer, in any order; weights."""
    rng = np.random.default_rng(9)
    answers = rng.standard_normal((90, 5)) + rng.standard_normal((90, 1))
    hole = rng.random((90, 5)) < 0.3
    answers[:, holed] = np.where(hole, np.nan, answers)[:, holed]
    weights, owners = rng.uniform(0.5, 2, 90), rng.permutation(np.arange(90) % 40)
    moments = Moments(answers, weights, owners, gaps)
    batch = moments.without_each(slice(10, 30))
    counts = np.ones((20, 40))
    counts[np.arange(20), np.arange(10, 30)] = 0
    again = moments.batch(counts)
    for k, customer in enumerate(range(10, 30)):
        rest = Moments(answers[owners != customer], weights[owners != customer], gaps=gaps).full()
        for found in (batch, again):
            np.testing.assert_allclose(found.correlations[k], rest.correlations[0], atol=1e-12)
            np.testing.assert_allclose(found.means[k], rest.means[0], atol=1e-12)
            np.testing.assert_allclose(found.deviations[k], rest.deviations[0], atol=1e-12)


@pytest.mark.parametrize("gaps", ["mean", "pairwise"])
def test_an_item_that_nobody_of_a_resample_answered_is_constant(gaps):
    """Its weight is a difference, which rounding must not make an answer."""
    rng = np.random.default_rng(4)
    answers, weights = rng.standard_normal((200, 3)), rng.uniform(0.1, 3, 200)
    answers[20:, 1] = np.nan
    counts = np.r_[np.zeros(20), rng.integers(1, 4, 180)][None]
    batch = Moments(answers, weights, gaps=gaps).batch(counts)
    assert batch.constant[0].tolist() == [False, True, False]
    assert batch.outcome[0] == Outcome.CONSTANT_ITEM
    assert np.isfinite(batch.means).all() and batch.correlations[0, 1].tolist() == [0, 1, 0]


def test_items_never_answered_together_count_as_such_whatever_the_weights():
    rng = np.random.default_rng(5)
    for _ in range(20):
        answers, weights = rng.standard_normal((300, 3)), rng.uniform(0.1, 3, 300)
        answers[:150, 0] = answers[150:, 1] = np.nan
        assert Moments(answers, weights, gaps="pairwise").full().outcome[0] == Outcome.UNPAIRED


# -- pairs of answers -----------------------------------------------------------------------------------------


def test_pairwise_correlations_are_those_of_pandas(mobi, ecsi_model):
    rng = np.random.default_rng(7)
    holed = mobi[list(ecsi_model.items)].astype(float).mask(rng.random((250, 24)) < 0.1)
    moments = Moments(holed.to_numpy(), gaps="pairwise")
    indices = draw_indices(250, 3, rng)
    batch = moments.batch(counts_of(indices, 250))
    for k, rows in enumerate(indices):
        part = holed.iloc[rows]
        np.testing.assert_allclose(batch.correlations[k], part.corr(), atol=1e-12)
        np.testing.assert_allclose(batch.means[k], part.mean())
        np.testing.assert_allclose(batch.deviations[k], part.std(ddof=0))
    rest = moments.without_each(slice(4, 5))
    np.testing.assert_allclose(rest.correlations[0], holed.drop(index=4).corr(), atol=1e-12)


def test_pairwise_is_the_same_as_the_mean_where_nothing_is_missing(mobi, ecsi_model, fitted):
    pairwise = PLSPathModel(mobi, ecsi_model, missing="pairwise").fit()
    np.testing.assert_array_equal(pairwise.params, fitted.params)


def test_pairwise_weights_count_respondents(mobi, ecsi_model):
    rng = np.random.default_rng(8)
    holed = mobi[list(ecsi_model.items)].astype(float).mask(rng.random((250, 24)) < 0.05)
    times = rng.integers(1, 4, 250)
    one = PLSPathModel(holed, ecsi_model, missing="pairwise", weights=times.astype(float)).fit()
    other = PLSPathModel(holed.loc[np.repeat(holed.index, times)], ecsi_model, missing="pairwise").fit()
    np.testing.assert_allclose(one.params, other.params, atol=1e-8)


def contradiction(rng, n=60, r=0.95):
    """Three items of which every respondent answers two: a with b, b with c agree, a with c oppose each other."""
    x, y = rng.standard_normal((2, 3, n))
    both = r * x + np.sqrt(1 - r**2) * y
    hole = np.full(n, np.nan)
    rows = [np.c_[x[0], both[0], hole], np.c_[hole, x[1], both[1]], np.c_[x[2], hole, -both[2]]]
    return pd.DataFrame(np.vstack(rows), columns=["a", "b", "c"])


TRIANGLE = specify(composite("A", "a"), composite("B", "b"), composite("C", "c"), drives(["A", "B"], "C"))


def test_contradicting_correlations_are_refused():
    data = contradiction(np.random.default_rng(1))
    assert Moments(data.to_numpy(), gaps="pairwise").full().outcome[0] == Outcome.INDEFINITE
    with pytest.raises(EstimationError, match="not positive definite"):
        PLSPathModel(data, TRIANGLE, missing="pairwise")
    assert PLSPathModel(data, TRIANGLE, missing="mean").fit().nobs == 180


def test_resamples_that_contradict_themselves_are_counted():
    data = contradiction(np.random.default_rng(1), n=14, r=0.42)
    drawn = PLSPathModel(data, TRIANGLE, missing="pairwise").fit().bootstrap(300, seed=1)
    assert drawn.failed["the pairwise correlations contradict each other"] > 5
    assert drawn.used + sum(drawn.failed.values()) == 300
    assert np.isfinite(drawn.conf_int(method="bca").to_numpy()).all()


def test_items_never_answered_together_are_refused():
    data = contradiction(np.random.default_rng(2)).iloc[:120]
    with pytest.raises(EstimationError, match="hardly ever answered together"):
        PLSPathModel(data, TRIANGLE, missing="pairwise")


def test_casewise_is_listwise(mobi, ecsi_model):
    holed = mobi.astype({"IMAG1": float})
    holed.loc[[0, 5], "IMAG1"] = np.nan
    one, other = (PLSPathModel(holed, ecsi_model, missing=way) for way in ("casewise", "listwise"))
    assert one.missing == "listwise" and one.left_out == 2
    np.testing.assert_array_equal(one.fit().params, other.fit().params)
