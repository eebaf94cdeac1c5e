"""The learners: equal to plain scikit-learn, honest folds, right effects, clear refusals."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression

from analysis import campaigns
from analysis.campaigns import EstimationError

LEARNERS = [campaigns.SLearner, campaigns.TLearner, campaigns.XLearner, campaigns.DRLearner, campaigns.RLearner]


def experiment(n=3000, seed=0, arms=("a", "b", "control"), binary=True):
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(size=(n, 4)), rng.choice(arms, n)
    true = np.column_stack([0.3 + 0.5 * x[:, 0], -0.2 * x[:, 1]])
    effect = np.where(arm == "a", true[:, 0], np.where(arm == "b", true[:, 1], 0.0))
    y = 0.5 * x[:, 2] + effect + rng.normal(size=n)
    return x, arm, (y > 0).astype(float) if binary else y, true


def logit():
    return LogisticRegression(C=0.7, solver="newton-cholesky", tol=1e-12)


def chance(rows, y, at):
    return logit().fit(rows, y).predict_proba(at)[:, 1]


def test_t_learner_is_one_plain_model_an_arm():
    x, arm, y, _ = experiment()
    found = campaigns.TLearner(logit()).fit(x, arm, y).predict(x)
    level = {a: chance(x[arm == a], y[arm == a], x) for a in ("a", "b", "control")}
    expected = np.column_stack([level["a"] - level["control"], level["b"] - level["control"]])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_s_learner_is_one_plain_model_with_an_indicator_an_arm():
    x, arm, y, _ = experiment()
    found = campaigns.SLearner(logit()).fit(x, arm, y).predict(x)
    dummies = pd.get_dummies(arm).drop(columns="control").to_numpy(float)
    model = logit().fit(np.hstack([x, dummies]), y)

    def at(flags):
        return model.predict_proba(np.hstack([x, np.ones((len(x), 1)) * flags]))[:, 1]

    expected = np.column_stack([at([1, 0]) - at([0, 0]), at([0, 1]) - at([0, 0])])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("known", [True, False])
def test_x_learner_is_plain_regressions_of_imputed_effects(known):
    x, arm, y, _ = experiment(arms=("control", "mail"))
    model = None if known else logit()
    share = {"mail": 0.4, "control": 0.6} if known else model
    found = campaigns.XLearner(logit(), propensity=share).fit(x, arm, y).predict(x)[:, 0]
    d = arm == "mail"
    on_treated = LinearRegression().fit(x[d], y[d] - chance(x[~d], y[~d], x[d])).predict(x)
    on_control = LinearRegression().fit(x[~d], chance(x[d], y[d], x[~d]) - y[~d]).predict(x)
    g = 0.4 if known else chance(x, d, x)
    np.testing.assert_allclose(found, g * on_control + (1 - g) * on_treated, rtol=0, atol=1e-9)


def test_r_learner_is_the_weighted_residual_regression():
    x, arm, y, _ = experiment(arms=("control", "a"), binary=False)
    found = campaigns.RLearner(LinearRegression(), folds=3, random_state=5).fit(x, arm, y).predict(x)[:, 0]
    fold = campaigns.customer_folds(arm, None, 3, 5)
    left = np.empty(len(y))
    for k in range(3):
        left[fold == k] = y[fold == k] - LinearRegression().fit(x[fold != k], y[fold != k]).predict(x[fold == k])
    surprise = (arm == "a") - (arm == "a").mean()
    z = np.column_stack([np.ones(len(x)), x]) * surprise[:, None]
    expected = np.column_stack([np.ones(len(x)), x]) @ np.linalg.lstsq(z, left)[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("learner", LEARNERS[1:])
def test_linear_effects_of_several_arms_are_found(learner):
    x, arm, y, true = experiment(20_000, binary=False)
    model = learner(LinearRegression()).fit(x, arm, y)
    assert model.arms_ == ["a", "b"]
    assert np.abs(model.predict(x) - true).mean() < 0.05


@pytest.mark.parametrize("learner", [campaigns.DRLearner, campaigns.RLearner])
def test_a_confounded_campaign_needs_and_uses_the_estimated_propensity(learner):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20_000, 2))
    d = rng.random(len(x)) < 1 / (1 + np.exp(-x[:, 0]))
    # The outcome bends with the feature, so the linear outcome model alone is wrong.
    y = x[:, 0] ** 2 + 2 * x[:, 0] * (x[:, 0] > 0) + d * (1 + x[:, 1]) + rng.normal(size=len(x))
    arm = np.where(d, "mail", "control")
    found = learner(LinearRegression(), propensity=campaigns.logistic()).fit(x, arm, y).predict(x)[:, 0]
    assert found.mean() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(found, 1 + x[:, 1])[0, 1] > 0.98


def test_the_hurdle_is_chance_times_amount():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 2))
    some = rng.random(4000) < 1 / (1 + np.exp(1 - x[:, 0]))
    y = np.where(some, 20 + 3 * x[:, 1] + rng.normal(size=4000), 0)
    model = campaigns.HurdleRegressor().fit(x, y)
    expected = campaigns.logistic().fit(x, some).predict_proba(x)[:, 1] * LinearRegression().fit(
        x[some], y[some]
    ).predict(x).clip(y[some].min(), y[some].max())
    np.testing.assert_allclose(model.predict(x), expected, atol=1e-9)
    assert (campaigns.HurdleRegressor().fit(x, np.zeros(4000)).predict(x) == 0).all()
    assert isinstance(campaigns.default_model(y), campaigns.HurdleRegressor)


def test_folds_keep_customers_together_and_arms_apart():
    rng = np.random.default_rng(2)
    who = rng.integers(0, 400, 1000)
    arm = np.array(["control", "a"])[who % 2]
    fold = campaigns.customer_folds(arm, who, 5, 7)
    assert pd.Series(fold).groupby(who).nunique().max() == 1
    customers = pd.DataFrame({"who": who, "arm": arm, "fold": fold}).drop_duplicates("who")
    counts = customers.groupby(["arm", "fold"]).size().unstack()
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert (fold == campaigns.customer_folds(arm, who, 5, 7)).all()
    assert (fold != campaigns.customer_folds(arm, who, 5, 8)).any()


def test_no_customer_is_predicted_by_a_model_that_saw_them():
    x, arm, y, _ = experiment(600, arms=("control", "a"))
    who = np.repeat(np.arange(300), 2)
    arm = np.repeat(arm[::2], 2)
    fold = campaigns.customer_folds(arm, who)
    before = campaigns.cross_fit_effects(campaigns.TLearner(LinearRegression()), x, arm, y, fold, who)
    changed = y.copy()
    changed[who == 7] = 50
    after = campaigns.cross_fit_effects(campaigns.TLearner(LinearRegression()), x, arm, changed, fold, who)
    same = fold == fold[who == 7][0]
    np.testing.assert_array_equal(before[same], after[same])
    assert (before[~same] != after[~same]).all()


def test_scores_average_to_the_effect_whatever_the_model():
    x, arm, y, true = experiment(40_000, binary=False)
    fold = campaigns.customer_folds(arm)
    share = {"a": 1 / 3, "b": 1 / 3, "control": 1 / 3}
    plain = campaigns.effect_scores(arm, y, campaigns.arm_propensities(x, arm, share))
    robust = campaigns.cross_fit_scores(x, arm, y, fold, LinearRegression(), share)
    for gamma in (plain, robust):
        error = gamma.std(axis=0) / np.sqrt(len(y))
        assert (np.abs(gamma.mean(axis=0) - true.mean(axis=0)) < 4 * error).all()
    assert (robust.std(axis=0) < plain.std(axis=0)).all()


def test_an_arm_where_everybody_did_the_same_is_no_obstacle():
    x, arm, _, _ = experiment(300, arms=("control", "a"))
    y = np.where(arm == "a", np.arange(300) % 2, 0)
    for learner in LEARNERS:
        found = learner().fit(x, arm, y).predict(x)
        assert np.isfinite(found).all() and found.mean() == pytest.approx(0.5, abs=0.1)


def test_refusals_name_the_cure():
    x, arm, y, _ = experiment(300)
    for bad_arm, code in ((np.full(300, "control"), "no_treated"), (np.full(300, "a"), "no_comparison")):
        with pytest.raises(EstimationError) as caught:
            campaigns.TLearner().fit(x, bad_arm, y)
        assert caught.value.code == code
    with pytest.raises(ValueError, match="missing"):
        campaigns.TLearner().fit(np.where(x > 1, np.nan, x), arm, y)
    with pytest.raises(ValueError, match="equally long"):
        campaigns.TLearner().fit(x[:-1], arm, y)
    with pytest.raises(ValueError, match="probability"):
        campaigns.XLearner(propensity={"a": 0.5}).fit(x, arm, y)
    with pytest.raises(EstimationError, match="fewer than 10 customers"):
        campaigns.customer_folds(["control"] * 50 + ["a"] * 9)


def test_learners_follow_scikit_learn():
    x, arm, y, _ = experiment(500)
    for learner in LEARNERS:
        one = learner(model=LinearRegression())
        assert clone(one).get_params().keys() == one.get_params().keys()
        assert one.fit(x, arm, y) is one
        np.testing.assert_array_equal(one.predict(x), clone(one).fit(x, arm, y).predict(x))


def test_rules_order_customers_as_their_names_say():
    panel = pd.DataFrame({
        "purchase_days_before_1": [0, 2, 0, 0], "purchase_days_before_2": [1, 0, 0, 3],
        "spend_before_1": [0.0, 30, 0, 0], "spend_before_2": [10.0, 0, 0, 90],
    })  # fmt: skip
    rules = campaigns.rule_scores(panel)
    assert rules["recency"].tolist() == [-1, 0, -2, -1]
    assert rules["spend"].tolist() == [10, 30, 0, 90]
    assert rules["bought_lately"].tolist() == [0, 1, 0, 0]
    assert rules["rfm_product"].idxmin() == 2
    assert rules["everybody"].nunique() == 1
