"""Base models solved here are those of scikit-learn, to nine digits; all others are scikit-learn's own."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis import campaigns
from analysis.campaigns.base_learners import LinearMean, Rows, fit_mean, fit_without, mean_of

EXACT = {"solver": "newton-cholesky", "tol": 1e-13}


class OwnLogistic(LogisticRegression):
    """A user's own class, of which nothing is known."""


class OwnLinear(LinearRegression):
    """The same for a regression."""


MODELS = {
    "logistic": LogisticRegression(C=0.05, **EXACT),
    "scaled logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.05, **EXACT)),
    "linear": LinearRegression(),
    "scaled linear": make_pipeline(StandardScaler(), LinearRegression()),
    "ridge": Ridge(alpha=50.0),
    "scaled ridge": make_pipeline(StandardScaler(), Ridge(alpha=50.0)),
}
UNKNOWN = [
    LogisticRegression(class_weight="balanced"),
    LogisticRegression(fit_intercept=False),
    LogisticRegression(solver="liblinear"),
    LogisticRegression(max_iter=50),
    LogisticRegression(C=np.inf),
    make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
    LinearRegression(positive=True),
    Ridge(alpha=1.0, fit_intercept=False),
    OwnLogistic(),
]


def sample(n, seed=0):
    """Features on scales of their own, one far from zero, one that does not vary, one that hardly does; 0 or 1; amounts."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) * [1, 300, 0.01, 1, 1, 1] + [0, 100, 0, 2020, 0, 0]
    x[:, 4], x[:, 5] = 7.0, rng.random(n) < 0.02
    eta = x[:, 0] + (x[:, 1] - 100) / 400 - 0.5 * (x[:, 3] - 2020) + x[:, 5] - 1
    return x, (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float), 50 + eta + rng.normal(size=n)


def says(model, x):
    return model.predict_proba(x)[:, 1] if hasattr(model, "predict_proba") else model.predict(x)


@pytest.mark.parametrize("n", [400, 12_000])
@pytest.mark.parametrize("name", MODELS)
def test_known_models_are_those_of_scikit_learn(name, n):
    x, flags, amounts = sample(n)
    y = flags if "logistic" in name else amounts
    # Rows sorted by the outcome: a guess from the first rows alone would be far off.
    order = np.argsort(y, kind="stable")
    found = fit_mean(MODELS[name], Rows(x, order), y[order])
    assert isinstance(found, LinearMean)
    expected = says(clone(MODELS[name]).fit(x, y), x)
    np.testing.assert_allclose(mean_of(found, x), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mean_of(found, Rows(x, order)), expected[order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [400, 12_000])
@pytest.mark.parametrize("name", MODELS)
def test_each_fold_is_left_out(name, n):
    x, flags, amounts = sample(n, 1)
    y = flags if "logistic" in name else amounts
    fold = np.random.default_rng(2).choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    order, bounds = np.argsort(fold, kind="stable"), [0, *np.cumsum(np.bincount(fold))]
    for k, found in enumerate(fit_without(MODELS[name], Rows(x, order), bounds, y[order])):
        assert isinstance(found, LinearMean)
        expected = says(clone(MODELS[name]).fit(x[fold != k], y[fold != k]), x)
        np.testing.assert_allclose(mean_of(found, x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.01, 0.98])
@pytest.mark.parametrize("n", [300, 30_000])
def test_rare_outcomes_are_fitted_as_well(n, share):
    rng = np.random.default_rng(6)
    x = rng.standard_t(3, size=(n, 8))
    y = (rng.random(n) < share).astype(float)
    found = fit_mean(MODELS["scaled logistic"], Rows(x), y)
    assert isinstance(found, LinearMean)
    np.testing.assert_allclose(mean_of(found, x), says(clone(MODELS["scaled logistic"]).fit(x, y), x), atol=1e-9)


@pytest.mark.parametrize("model", [LinearRegression(), Ridge(alpha=20.0)])
def test_weights_count(model):
    x, _, y = sample(2000)
    weight = np.random.default_rng(3).random(len(y))
    found = fit_mean(model, Rows(x), y, weight)
    assert isinstance(found, LinearMean)
    expected = clone(model).fit(x, y, sample_weight=weight).predict(x)
    np.testing.assert_allclose(mean_of(found, x), expected, rtol=1e-9)


@pytest.mark.parametrize("model", UNKNOWN, ids=str)
def test_other_models_are_left_to_scikit_learn(model):
    x, flags, _ = sample(300)
    x = x[:, [0, 2]]
    found = fit_mean(model, Rows(x), flags)
    assert type(found) is type(model)
    np.testing.assert_array_equal(mean_of(found, x), says(clone(model).fit(x, flags), x))


def test_dependent_features_and_separated_outcomes_are_left_to_scikit_learn():
    x, _, y = sample(300)
    twice = np.column_stack([x, x[:, 0] + x[:, 3]])
    found = fit_mean(LinearRegression(), Rows(twice), y)
    np.testing.assert_array_equal(mean_of(found, twice), LinearRegression().fit(twice, y).predict(twice))
    apart, model = (x[:, :1] > 0).astype(float), LogisticRegression(C=1e12, **EXACT)
    chance = mean_of(fit_mean(model, Rows(apart), apart[:, 0]), apart)
    np.testing.assert_allclose(chance, apart[:, 0], atol=1e-6)


def test_an_estimator_sees_rows_as_they_came():
    class Recorder(RegressorMixin, BaseEstimator):
        def fit(self, X, y):
            self.seen_ = X[:, 0].copy(), y.copy()
            return self

    x = np.arange(12.0)[:, None]
    order = np.random.default_rng(0).permutation(12)
    first, *_ = fit_without(Recorder(), Rows(x, order), [0, 5, 12], 2 * x[order, 0])
    np.testing.assert_array_equal(first.seen_[0], np.sort(order[5:]))
    np.testing.assert_array_equal(first.seen_[1], 2 * first.seen_[0])


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("kind", ["flags", "amounts", "often zero"])
@pytest.mark.parametrize("name", ["SLearner", "TLearner", "XLearner", "RLearner", "DRLearner"])
def test_learners_agree_with_their_own_path_through_scikit_learn(name, kind, layout):
    x, flags, amounts = sample(3000)
    x = np.asarray(np.column_stack([x[:, :4], x[:, 5]]), order=layout)
    arm = np.random.default_rng(4).choice(["control", "mail", "call"], len(x), p=[0.5, 0.3, 0.2])
    y = {"flags": flags, "amounts": amounts, "often zero": flags * amounts}[kind]
    logit = make_pipeline(StandardScaler(), OwnLogistic(**EXACT))
    own = {"flags": logit, "amounts": OwnLinear(), "often zero": campaigns.HurdleRegressor(logit, OwnLinear())}[kind]
    learner = getattr(campaigns, name)
    more = {} if name in ("SLearner", "TLearner") else {"effect_model": OwnLinear()}
    expected = learner(own, **more).fit(x, arm, y).predict(x)
    np.testing.assert_allclose(learner().fit(x, arm, y).predict(x), expected, rtol=1e-8, atol=1e-9 * max(1, y.max()))


@pytest.mark.parametrize("labels", [["b", "control", "a"], [5, 0, 2], [-1, 0, 3], ["c", "control", *"defghijkl"]])
@pytest.mark.parametrize("kind", [np.asarray, lambda v: np.asarray(v, dtype=object)])
def test_arms_are_named_in_order_whatever_they_are(labels, kind):
    arm = np.random.default_rng(5).choice(np.array(labels), 2000)
    x, _, y = sample(2000)
    control = "control" if isinstance(labels[0], str) else 0
    learner = campaigns.TLearner(LinearRegression(), control=control).fit(x[:, :4], kind(arm), y)
    assert learner.arms_ == sorted(set(labels) - {control})
    one = arm == learner.arms_[0]
    level = [LinearRegression().fit(x[own, :4], y[own]).predict(x[:, :4]) for own in (one, arm == control)]
    np.testing.assert_allclose(learner.predict(x[:, :4])[:, 0], level[0] - level[1], atol=1e-8)
