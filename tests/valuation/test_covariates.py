"""Static covariates: recovery of planted effects, agreement with the plain models, scoring, refusals."""

import mpmath
import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from analysis.valuation import BGNBD, ModelNotFitted, ParetoNBD, PurchaseResults
from analysis.valuation.covariates import BGNBDCovariates, ParetoNBDCovariates
from tests.promises import assert_covers

MODELS = [
    (BGNBDCovariates, BGNBD, (0.8, 6.0, 0.9, 2.5)),
    (ParetoNBDCovariates, ParetoNBD, (0.8, 6.0, 0.7, 10.0)),
]
RATE = (0.5, -0.3)
DROPOUT = (0.6,)


def covariates(customers, rng):
    """A dummy and a score, the score far from zero; the dummy moves leaving too."""
    frame = pd.DataFrame({"store": rng.integers(0, 2, customers), "score": rng.normal(3.0, 1.0, customers).round(1)})
    return frame, frame[["store"]]


def simulate(model, params, customers, rng, horizon=0.0):
    """Histories by the story, purchase by purchase, purchases in the following `horizon`, and the covariates."""
    r, alpha, third, fourth = params
    rate, dropout = covariates(customers, rng)
    faster = np.exp(rate.to_numpy() @ RATE)
    sooner = np.exp(dropout.to_numpy() @ DROPOUT)
    speed = rng.gamma(r, size=customers) / alpha * faster
    age = rng.integers(25, 51, customers).astype(float)
    if model is BGNBDCovariates:
        leave, ends = rng.beta(third * sooner, fourth), np.full(customers, np.inf)
    else:
        leave = np.zeros(customers)
        ends = rng.exponential(size=customers) / np.maximum(rng.gamma(third, size=customers) / fourth * sooner, 1e-300)
    rows = []
    for i in range(customers):
        moment, bought, last, after = 0.0, 0, 0.0, 0
        while True:
            moment += rng.exponential() / speed[i]
            if moment > min(ends[i], age[i] + horizon):
                break
            if moment <= age[i]:
                bought, last = bought + 1, moment
            else:
                after += 1
            if rng.random() < leave[i]:
                break
        rows.append((bought, last, age[i], after))
    return *np.array(rows).T, rate, dropout


def at(model, params, customers=2):
    """Results at given parameters, with the names of `covariates`, without a fit."""
    made = model.without_data(customers, rate_names=["store", "score"], dropout_names=["store"])
    series = pd.Series([*params, *RATE, *DROPOUT], index=list(made.parameter_names), dtype=float)
    return model.results_class(made, series, np.full((7, 7), np.nan), np.nan, None)


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_planted_effects_are_found_again(model, plain, params):
    x, t_x, age, _, rate, dropout = simulate(model, params, 5000, np.random.default_rng(3))
    results = model(x, t_x, age, rate, dropout).fit()
    assert results.verdict.usable
    assert list(results.params.index[4:]) == ["rate: store", "rate: score", "dropout: store"]
    truth = np.array([*params, *RATE, *DROPOUT])
    error = (results.params - truth) / results.bse
    assert np.abs(error[4:]).max() < 4.0
    log_error = np.log(results.params / truth)[:4] / (results.bse / results.params)[:4]
    assert np.abs(log_error).max() < 4.0
    # the effects are real: without them the likelihood is far lower, and so is it without those of leaving
    assert results.llf > plain(x, t_x, age).fit().llf + 50
    without = model(x, t_x, age, rate).fit()
    assert results.llf > without.llf + 4
    low, high = results.conf_int().loc["rate: score"]
    assert low < RATE[1] < high < 0


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_intervals_of_the_coefficients_cover(model, plain, params):
    rng = np.random.default_rng(12)
    x, t_x, age, _, rate, dropout = simulate(model, params, 10_000, rng)
    ends = []
    for _ in range(40):
        rows = rng.choice(len(x), 800, replace=False)
        fitted = model(x[rows], t_x[rows], age[rows], rate.iloc[rows], dropout.iloc[rows]).fit()
        if fitted.verdict.usable:
            ends.append(fitted.conf_int().iloc[4:].to_numpy())
    assert len(ends) > 32
    assert_covers(ends, [*RATE, *DROPOUT])


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_no_covariates_are_the_plain_model(model, plain, params):
    x, t_x, age, _, rate, dropout = simulate(model, params, 800, np.random.default_rng(4))
    results, bare = model(x, t_x, age).fit(), plain(x, t_x, age).fit()
    assert results.params.to_numpy() == pytest.approx(bare.params.to_numpy(), rel=1e-6)
    assert results.bse.to_numpy() == pytest.approx(bare.bse.to_numpy(), rel=1e-4)
    assert results.llf == pytest.approx(bare.llf, rel=1e-12)
    for name in ("probability_alive",):
        assert getattr(results, name)(x, t_x, age) == pytest.approx(getattr(bare, name)(x, t_x, age), rel=1e-5)
    assert results.expected_purchases(20.0, x, t_x, age) == pytest.approx(
        bare.expected_purchases(20.0, x, t_x, age), rel=1e-5
    )
    # coefficients of zero change nothing either
    zero = model(x, t_x, age, rate, dropout).loglike([*params, 0.0, 0.0, 0.0])
    assert zero == pytest.approx(plain(x, t_x, age).loglike(params), rel=1e-12)


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_a_group_with_a_dummy_is_the_plain_model_at_its_own_parameters(model, plain, params):
    x, t_x, age, _, _, _ = simulate(model, params, 200, np.random.default_rng(5))
    dummy = pd.DataFrame({"d": np.arange(200) % 2})
    value = model(x, t_x, age, dummy, dummy).loglike([*params, 0.4, 0.7])
    moved = np.array(params)
    for which, sign, effect in zip(model.moved, model.signs, (0.4, 0.7), strict=True):
        moved[which] *= np.exp(sign * effect)
    one = dummy["d"].to_numpy() == 1
    parts = plain(x[one], t_x[one], age[one]).loglike(moved) + plain(x[~one], t_x[~one], age[~one]).loglike(params)
    assert value == pytest.approx(parts, rel=1e-12)


def test_the_likelihood_of_a_customer_against_high_precision():
    (r, alpha, s, beta), z = MODELS[1][2], 1.7
    x, t_x, age = 4, 11.0, 30.0
    value = ParetoNBDCovariates([x, 0], [t_x, 0.0], [age, 9.0], *(pd.DataFrame({"z": [z, 0.0]}),) * 2).loglike(
        [r, alpha, s, beta, 0.5, -0.8]
    )
    mpmath.mp.dps = 30

    def likelihood(x, t_x, age, z):
        faster, sooner = mpmath.exp(0.5 * z), mpmath.exp(-0.8 * z)
        a, b = alpha / faster, beta / sooner
        level = mpmath.rf(r, x) * a**r * b**s
        gone = mpmath.quad(lambda y: s * (a + y) ** -(r + x) * (b + y) ** -(s + 1), [t_x, (t_x + age) / 2, age])
        return mpmath.log(level * ((a + age) ** -(r + x) * (b + age) ** -s + gone))

    exact = likelihood(x, mpmath.mpf(t_x), mpmath.mpf(age), z) + likelihood(0, mpmath.mpf(0), mpmath.mpf(9), 0)
    assert value == pytest.approx(float(exact), rel=1e-11)


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_gradient_is_exact(model, plain, params):
    x, t_x, age, _, rate, dropout = simulate(model, params, 300, np.random.default_rng(1))
    fitted = model(x, t_x, age, rate, dropout)
    where = np.array([*params, *RATE, *DROPOUT]) * 1.2
    assert fitted.score(where) == pytest.approx(optimize.approx_fprime(where, fitted.loglike, 1e-7), rel=1e-4, abs=1e-3)
    assert np.abs(fitted.score(fitted.fit().params)).max() < 1e-2


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_forecasts_are_calibrated_within_groups(model, plain, params):
    x, t_x, age, after, rate, dropout = simulate(model, params, 8000, np.random.default_rng(6), horizon=26.0)
    results = at(model, params)
    expected = results.expected_purchases(26.0, x, t_x, age, rate, dropout)
    alive = results.probability_alive(x, t_x, age, rate, dropout)
    store = rate["store"].to_numpy() == 1
    for group in (store, ~store, rate["score"] > 4, alive < 0.5, x == 0):
        error = (after - expected)[np.asarray(group)]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error))


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_counts_futures_and_new_customers_agree_with_the_expectation(model, plain, params):
    results = at(model, params)
    history = ([0, 3, 10], [0.0, 20.0, 30.0], [26.0, 30.0, 31.0])
    rate = pd.DataFrame({"score": [1.0, 3.0, 4.0], "store": [0, 1, 1]})  # columns in another order
    both = {"rate": rate, "dropout": rate}
    expected = results.expected_purchases(10.0, *history, **both)
    counts = results.count_distribution(400, 10.0, *history, **both)
    assert counts.sum(axis=1) == pytest.approx(1.0, abs=1e-8)
    assert counts @ np.arange(401) == pytest.approx(expected, rel=1e-7)
    bought, active = results.simulate_future(10.0, *history, np.random.default_rng(2), 20_000, **both)
    assert (np.abs(bought.mean(axis=0) - expected) < 4 * bought.std(axis=0) / np.sqrt(20_000)).all()
    assert active.max() <= 10.0
    moved = at(model, params).model.spread(
        results.params.to_numpy(), rate[["store", "score"]].to_numpy()[:1], np.zeros((1, 1))
    )
    series = pd.Series([float(np.squeeze(v)) for v in moved], index=list(plain.parameter_names))
    alone = plain.results_class(plain.without_data(1), series, np.full((4, 4), np.nan), np.nan, None)
    new = results.expected_repeats(30.0, rate.iloc[:1], rate.iloc[:1])
    assert new == pytest.approx(alone.expected_repeats(30.0), rel=1e-9)


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_units_of_time_and_of_the_columns_do_not_matter(model, plain, params):
    x, t_x, age, _, rate, dropout = simulate(model, params, 1200, np.random.default_rng(7))
    first = model(x, t_x, age, rate, dropout).fit()
    other = rate.assign(score=(rate["score"] + 2000.0) * 10.0)
    second = model(x, t_x * 7, age * 7, other, dropout).fit()
    assert second.llf + x.sum() * np.log(7) == pytest.approx(first.llf, abs=1e-5)
    assert second.params["rate: score"] * 10 == pytest.approx(first.params["rate: score"], rel=1e-4)
    assert second.bse["rate: score"] * 10 == pytest.approx(first.bse["rate: score"], rel=1e-3)
    assert second.params["dropout: store"] == pytest.approx(first.params["dropout: store"], rel=1e-4)


def test_weights_are_repeated_rows():
    x, t_x, age, _, rate, dropout = simulate(*MODELS[0][::2], 300, np.random.default_rng(8))
    weights = np.random.default_rng(1).integers(0, 4, 300)
    weighted = BGNBDCovariates(x, t_x, age, rate, dropout, weights=weights).fit()
    rows = np.repeat(np.arange(300), weights)
    repeated = BGNBDCovariates(x[rows], t_x[rows], age[rows], rate.iloc[rows], dropout.iloc[rows]).fit()
    assert weighted.llf == pytest.approx(repeated.llf, rel=1e-10)
    assert weighted.params.to_numpy() == pytest.approx(repeated.params.to_numpy(), rel=1e-5)
    assert weighted.bse.to_numpy() == pytest.approx(repeated.bse.to_numpy(), rel=1e-4)


@pytest.mark.parametrize(("model", "plain", "params"), MODELS)
def test_json_scores_the_same(model, plain, params):
    x, t_x, age, _, rate, dropout = simulate(model, params, 600, np.random.default_rng(9))
    results = model(x, t_x, age, rate, dropout).fit()
    loaded = PurchaseResults.from_json(results.to_json("weeks"), "weeks")
    for name, before in (("probability_alive", ()), ("expected_purchases", (20.0,))):
        arguments = (*before, x, t_x, age, rate, dropout)
        assert (getattr(loaded, name)(*arguments) == getattr(results, name)(*arguments)).all()
    pd.testing.assert_frame_equal(loaded.summary(), results.summary())
    draws = loaded.draw_params(2000, np.random.default_rng(0))
    assert draws[:, 5].std() == pytest.approx(results.bse["rate: score"], rel=0.1)
    assert draws[:, 5].mean() == pytest.approx(results.params["rate: score"], abs=0.1)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"a": [1.0] * 6}, "column 'a' is the same for everybody"),
        ({"a": [0, 1, 0, 1, 0, 1], "b": [1, 0, 1, 0, 1, 0]}, "column 'b' follows from the columns before it"),
        ({"a": [0, 1, 2, 3, 4, np.nan]}, "column 'a' has missing values"),
        ({"a": ["x", "y", "x", "y", "x", "y"]}, "column 'a' is not numeric"),
        ({"a": [1, 2]}, "2 rows for 6 customers"),
    ],
)
def test_columns_that_cannot_be_used_are_named(column, message):
    history = ([0, 1, 2, 0, 1, 3], [0, 1, 2, 0, 1, 3], [9.0] * 6)
    for side in ("rate", "dropout"):
        with pytest.raises(ValueError, match=f"{side} covariates: .*{message}"):
            ParetoNBDCovariates(*history, **{side: pd.DataFrame(column)})


def test_what_cannot_be_fitted_or_scored_is_refused_in_one_line():
    with pytest.raises(ValueError, match="give a DataFrame"):
        BGNBDCovariates([1, 0], [1.0, 0.0], [2.0, 2.0], rate=np.ones((2, 1)))
    with pytest.raises(ModelNotFitted, match="BG/NBD with covariates: nobody bought twice"):
        BGNBDCovariates([0, 0], [0.0, 0.0], [2.0, 2.0], rate=pd.DataFrame({"z": [0, 1]})).fit()
    with pytest.raises(ValueError, match="needs the column 'store'"):
        at(*MODELS[0][::2]).probability_alive([1], [1.0], [2.0], rate=pd.DataFrame({"score": [1.0]}))
