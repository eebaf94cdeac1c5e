"""Whom a campaign moves, and by how much: uplift learners on scikit-learn estimators, cross-fitted by customer.

A learner is fitted on features measured before the campaign, the arm of each customer and the outcome; its ``predict``
gives the expected effect of every treatment arm on every customer, compared with the control arm.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_classifier
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.campaigns.effects import EstimationError

Array = NDArray[np.float64]
Propensities = Mapping[str, float] | BaseEstimator | None

CONTROL = "control"
LOWEST_PROPENSITY = 0.01
"""Estimated probabilities of an arm are kept above it, so that no single customer decides the answer."""


def logistic() -> Pipeline:
    """Logistic regression on standardised features, by Newton's method."""
    return make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))


class HurdleRegressor(RegressorMixin, BaseEstimator):
    """Mean of an outcome that is often exactly zero: chance that it is not, times its mean when it is not.

    Parameters
    ----------
    occurrence : classifier of "not zero"; logistic regression by default.
    amount : regressor of what is not zero; least squares by default. Its predictions are held within the amounts seen.

    Source: Cragg (1971), Econometrica 39:829 (two-part model).
    """

    def __init__(self, occurrence: BaseEstimator | None = None, amount: BaseEstimator | None = None) -> None:
        self.occurrence = occurrence
        self.amount = amount

    def fit(self, X: ArrayLike, y: ArrayLike) -> HurdleRegressor:
        """Fit both parts; X : shape (n, k), y : shape (n,)."""
        X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
        some = y != 0
        self.occurrence_ = _fit_mean(logistic() if self.occurrence is None else self.occurrence, X, some.astype(float))
        self.limits_ = (y[some].min(), y[some].max()) if some.any() else (0.0, 0.0)
        self.amount_ = None
        if some.any():
            self.amount_ = _fit_mean(LinearRegression() if self.amount is None else self.amount, X[some], y[some])
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Expected outcome, shape (n,)."""
        X = np.asarray(X, dtype=float)
        if self.amount_ is None:
            return np.zeros(len(X))
        return _mean(self.occurrence_, X) * np.clip(_mean(self.amount_, X), *self.limits_)


def default_model(y: ArrayLike) -> BaseEstimator:
    """Logistic regression for an outcome of 0 and 1, the hurdle where a tenth or more is zero, else least squares."""
    y = np.asarray(y, dtype=float)
    if np.isin(y, (0, 1)).all():
        return logistic()
    return HurdleRegressor() if (y == 0).mean() >= 0.1 else LinearRegression()


def _fit_mean(model: BaseEstimator, X: Array, y: Array, weight: Array | None = None) -> BaseEstimator:
    """A fitted copy of ``model``; a constant where the outcome is one, which classifiers refuse."""
    if len(y) and np.ptp(y) == 0:
        return DummyRegressor().fit(X, y)
    if weight is None:
        return clone(model).fit(X, y)
    name = f"{model.steps[-1][0]}__sample_weight" if isinstance(model, Pipeline) else "sample_weight"
    return clone(model).fit(X, y, **{name: weight})


def _mean(model: BaseEstimator, X: Array) -> Array:
    return model.predict_proba(X)[:, 1] if is_classifier(model) else model.predict(X)


def _arms(arm: ArrayLike) -> tuple[list, NDArray[np.intp]]:
    """Names of the arms, sorted, and the place of each customer's among them: hashing costs less than sorting words."""
    codes, names = pd.factorize(np.asarray(arm), sort=True)
    return names.tolist(), codes


def _checked(X: ArrayLike, arm: ArrayLike, y: ArrayLike, control: str) -> tuple[Array, NDArray[np.intp], Array, list]:
    """Features, place of each arm among the sorted names, outcome, and those names; or what is wrong with them."""
    x, labels, y = np.asarray(X, dtype=float), np.asarray(arm), np.asarray(y, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    if labels.shape != y.shape or y.ndim != 1 or x.shape[0] != len(y):
        raise ValueError(f"features, arm and outcome must be equally long, got {len(x)}, {len(labels)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features or outcome hold missing or infinite values; fill or drop them first")
    names, codes = _arms(labels)
    if control not in names:
        raise EstimationError("no_comparison", f"no customer is in the arm {control!r}; name the comparison arm")
    if len(names) < 2:
        raise EstimationError("no_treated", "every customer is in the control arm; an effect needs a treatment arm")
    if np.bincount(codes).min() < 2:
        raise EstimationError("too_few", "an arm has fewer than two customers; drop it or add customers")
    return x, codes, y, names


def customer_folds(
    arm: ArrayLike, groups: ArrayLike | None = None, folds: int = 5, random_state: int | None = 0
) -> NDArray[np.int64]:
    """Fold of every row: all rows of a customer in one fold, each arm spread evenly over the folds.

    Parameters
    ----------
    arm : shape (n,). groups : shape (n,), the customer of each row; every row its own by default.

    Raises
    ------
    EstimationError
        ``too_few``: an arm has fewer customers than two a fold.
    """
    labels = pd.factorize(np.asarray(arm), sort=True)[0]
    codes = np.arange(len(labels)) if groups is None else pd.factorize(np.asarray(groups))[0]
    first = np.unique(codes, return_index=True)[1]
    of_group = labels[first]
    if np.bincount(of_group).min(initial=len(first)) < 2 * folds:
        raise EstimationError("too_few", f"an arm has fewer than {2 * folds} customers, too few for {folds} folds")
    shuffled = np.random.default_rng(random_state).permutation(len(first))
    dealt = shuffled[np.argsort(of_group[shuffled], kind="stable")]
    fold = np.empty(len(first), dtype=np.int64)
    fold[dealt] = np.arange(len(first)) % folds
    return fold[codes]


def arm_propensities(
    X: ArrayLike, arm: ArrayLike, propensity: Propensities = None, fold: NDArray[np.int64] | None = None
) -> Array:
    """Probability of each arm for each customer.

    Parameters
    ----------
    X : shape (n, k). arm : shape (n,).
    propensity : None, the shares of the arms (randomised); a mapping of arm to its known probability; or a
    scikit-learn classifier, fitted out of ``fold``.

    Returns
    -------
    shape (n, arms), arms in sorted order, the control among them; estimated ones at least ``LOWEST_PROPENSITY``.
    """
    names, codes = _arms(arm)
    if propensity is None:
        return np.tile(np.bincount(codes) / len(codes), (len(codes), 1))
    if isinstance(propensity, Mapping):
        missing = [name for name in names if not 0 < propensity.get(name, 0) < 1]
        if missing:
            raise ValueError(f"give a probability between 0 and 1 for {', '.join(map(str, missing))}")
        return np.tile([float(propensity[name]) for name in names], (len(codes), 1))
    x, found = np.asarray(X, dtype=float), np.empty((len(codes), len(names)))
    fold = np.zeros(len(codes), dtype=int) if fold is None else fold
    for k in np.unique(fold):
        held = fold == k
        train = ~held if not held.all() else held
        found[held] = clone(propensity).fit(x[train], codes[train]).predict_proba(x[held])
    return np.clip(found, LOWEST_PROPENSITY, None)


def effect_scores(
    arm: ArrayLike, y: ArrayLike, propensities: Array, means: Array | None = None, control: str = CONTROL
) -> Array:
    """Γ: for each customer and treatment arm, a noisy but unbiased measure of the effect on that customer.

    Parameters
    ----------
    arm, y : shape (n,). propensities : shape (n, arms with the control, sorted).
    means : same shape, expected outcome under each arm, from models that did not see the customer; None leaves the
    inverse-propensity score.

    Returns
    -------
    shape (n, treatment arms), in the outcome's unit.

    Source: Robins, Rotnitzky & Zhao (1994), JASA 89:846 (augmented inverse propensity).
    """
    names, codes = _arms(arm)
    y, rows = np.asarray(y, dtype=float), np.arange(len(codes))
    level = np.zeros(propensities.shape) if means is None else means.copy()
    level[rows, codes] += (y - level[rows, codes]) / propensities[rows, codes]
    at = names.index(control)
    return np.delete(level - level[:, [at]], at, axis=1)


def cross_fit_scores(
    X: ArrayLike,
    arm: ArrayLike,
    y: ArrayLike,
    fold: NDArray[np.int64],
    model: BaseEstimator | None = None,
    propensity: Propensities = None,
    control: str = CONTROL,
) -> Array:
    """Doubly robust Γ whose outcome models, one an arm, never saw the customer they judge.

    Parameters
    ----------
    X : shape (n, k). arm, y : shape (n,). fold : shape (n,), from :func:`customer_folds`.
    model : of the outcome, by default :func:`default_model`. propensity : see :func:`arm_propensities`.

    Returns
    -------
    shape (n, treatment arms).

    Source: Chernozhukov et al. (2018), Econometrics Journal 21:C1.
    """
    x, codes, y, names = _checked(X, arm, y, control)
    model = default_model(y) if model is None else model
    means = np.empty((len(y), len(names)))
    for k in np.unique(fold):
        held = fold == k
        for j in range(len(names)):
            train = ~held & (codes == j)
            means[held, j] = _mean(_fit_mean(model, x[train], y[train]), x[held])
    return effect_scores(arm, y, arm_propensities(x, arm, propensity, fold), means, control)


class UpliftLearner(BaseEstimator):
    """What the learners share: ``fit(X, arm, y, groups)`` and ``predict(X)``, shape (n, treatment arms).

    Parameters
    ----------
    model : scikit-learn estimator of the outcome; by default :func:`default_model` of the outcome.
    control : name of the arm that received nothing.

    Attributes
    ----------
    arms_ : treatment arms in the order of the columns of ``predict``.
    """

    def __init__(self, model: BaseEstimator | None = None, control: str = CONTROL) -> None:
        self.model = model
        self.control = control

    def fit(self, X: ArrayLike, arm: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> UpliftLearner:
        """Fit on X : shape (n, k), arm and y : shape (n,); groups : shape (n,), the customer of each row.

        Raises ``EstimationError`` when the control or every treatment arm is missing, or an arm has one customer.
        """
        x, codes, y, names = _checked(X, arm, y, self.control)
        self.arms_ = [name for name in names if name != self.control]
        self._place = {name: j for j, name in enumerate(names)}
        self._outcome = default_model(y) if self.model is None else self.model
        self._fit(x, codes, y, groups)
        return self

    def _rows(self, arm: str, codes: NDArray[np.intp]) -> NDArray[np.bool_]:
        return codes == self._place[arm]

    def _arm_models(self, x: Array, codes: NDArray[np.intp], y: Array) -> dict:
        rows = {a: self._rows(a, codes) for a in (self.control, *self.arms_)}
        return {a: _fit_mean(self._outcome, x[own], y[own]) for a, own in rows.items()}

    def _chances(self, propensity: Propensities) -> Propensities:
        """Known probabilities by place, as the rest of the fit counts arms."""
        if not isinstance(propensity, Mapping):
            return propensity
        return {self._place[name]: share for name, share in propensity.items() if name in self._place}

    def predict(self, X: ArrayLike) -> Array:
        """Expected effect of each treatment arm, shape (n, arms), in the outcome's unit."""
        x = np.asarray(X, dtype=float)
        return self._predict(x[:, None] if x.ndim == 1 else x)


class SLearner(UpliftLearner):
    """One model of the outcome, with an indicator an arm among its features.

    Source: Künzel, Sekhon, Bickel & Yu (2019), PNAS 116:4156, section "S-learner". With a linear model and no
    interactions every customer has the same effect.
    """

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        flags = np.column_stack([self._rows(a, codes) for a in self.arms_])
        self.model_ = _fit_mean(self._outcome, np.column_stack([x, flags]), y)

    def _predict(self, x: Array) -> Array:
        flags = np.vstack([np.zeros(len(self.arms_)), np.eye(len(self.arms_))])
        level = [_mean(self.model_, np.column_stack([x, np.tile(f, (len(x), 1))])) for f in flags]
        return np.column_stack(level[1:]) - level[0][:, None]


class TLearner(UpliftLearner):
    """One model of the outcome an arm; the effect is the difference of their predictions.

    Source: Künzel, Sekhon, Bickel & Yu (2019), PNAS 116:4156, section "T-learner".
    """

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        self.models_ = self._arm_models(x, codes, y)

    def _predict(self, x: Array) -> Array:
        alone = _mean(self.models_[self.control], x)
        return np.column_stack([_mean(self.models_[a], x) - alone for a in self.arms_])


class XLearner(UpliftLearner):
    """Effects imputed to each customer with the other arm's model, regressed on the features in both arms, averaged.

    Parameters
    ----------
    model, control : as for all learners. effect_model : regressor of the imputed effects, least squares by default.
    propensity : see :func:`arm_propensities`; weighs the two regressions.

    Source: Künzel, Sekhon, Bickel & Yu (2019), PNAS 116:4156, equations 7 to 9.
    """

    def __init__(
        self,
        model: BaseEstimator | None = None,
        control: str = CONTROL,
        effect_model: BaseEstimator | None = None,
        propensity: Propensities = None,
    ) -> None:
        super().__init__(model, control)
        self.effect_model = effect_model
        self.propensity = propensity

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        self.models_ = self._arm_models(x, codes, y)
        final = LinearRegression() if self.effect_model is None else self.effect_model
        alone, imputed_alone = self._rows(self.control, codes), _mean(self.models_[self.control], x)
        self.effects_ = {}
        for a in self.arms_:
            got = self._rows(a, codes)
            on_treated = _fit_mean(final, x[got], y[got] - imputed_alone[got])
            on_control = _fit_mean(final, x[alone], _mean(self.models_[a], x[alone]) - y[alone])
            self.effects_[a] = (on_treated, on_control)
        estimated = isinstance(self.propensity, BaseEstimator)
        self.shares_ = arm_propensities(x, codes, None if estimated else self._chances(self.propensity))[0]
        self.propensity_ = clone(self.propensity).fit(x, codes) if estimated else None

    def _predict(self, x: Array) -> Array:
        fitted = self.propensity_
        chance = np.tile(self.shares_, (len(x), 1)) if fitted is None else fitted.predict_proba(x)
        column = {name: chance[:, j] for name, j in self._place.items()}
        found = []
        for a in self.arms_:
            weight = column[a] / (column[a] + column[self.control])
            on_treated, on_control = self.effects_[a]
            found.append(weight * _mean(on_control, x) + (1 - weight) * _mean(on_treated, x))
        return np.column_stack(found)


class _CrossFitted(UpliftLearner):
    """Learners whose nuisance models are cross-fitted by customer within ``fit``.

    Parameters
    ----------
    model, control : as for all learners. effect_model : regressor of the effect, least squares by default; takes
    sample weights. propensity : see :func:`arm_propensities`. folds : of the cross-fitting. random_state : of the folds.
    """

    def __init__(
        self,
        model: BaseEstimator | None = None,
        control: str = CONTROL,
        effect_model: BaseEstimator | None = None,
        propensity: Propensities = None,
        folds: int = 5,
        random_state: int | None = 0,
    ) -> None:
        super().__init__(model, control)
        self.effect_model = effect_model
        self.propensity = propensity
        self.folds = folds
        self.random_state = random_state

    def _predict(self, x: Array) -> Array:
        return np.column_stack([_mean(self.effects_[a], x) for a in self.arms_])


class DRLearner(_CrossFitted):
    """Regression of the doubly robust Γ on the features.

    Source: Kennedy (2023), Electronic Journal of Statistics 17:3008, algorithm 1.
    """

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        fold = customer_folds(codes, groups, self.folds, self.random_state)
        chances, control = self._chances(self.propensity), self._place[self.control]
        gamma = cross_fit_scores(x, codes, y, fold, self._outcome, chances, control)
        final = LinearRegression() if self.effect_model is None else self.effect_model
        self.effects_ = {a: _fit_mean(final, x, gamma[:, j]) for j, a in enumerate(self.arms_)}


class RLearner(_CrossFitted):
    """Regression of what the features do not explain of the outcome on what they do not explain of the arm.

    Each arm is learnt beside the control alone.

    Source: Nie & Wager (2021), Biometrika 108:299, equation 4.
    """

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        fold = customer_folds(codes, groups, self.folds, self.random_state)
        chance = arm_propensities(x, codes, self._chances(self.propensity), fold)
        final = LinearRegression() if self.effect_model is None else self.effect_model
        self.effects_ = {}
        for a in self.arms_:
            got = self._rows(a, codes)
            pair = got | self._rows(self.control, codes)
            level = np.empty(len(y))
            for k in range(self.folds):
                train = pair & (fold != k)
                level[fold == k] = _mean(_fit_mean(self._outcome, x[train], y[train]), x[fold == k])
            treated, alone = chance[pair, self._place[a]], chance[pair, self._place[self.control]]
            surprise = got[pair] - treated / (treated + alone)
            self.effects_[a] = _fit_mean(final, x[pair], (y - level)[pair] / surprise, surprise**2)


def cross_fit_effects(
    learner: UpliftLearner,
    X: ArrayLike,
    arm: ArrayLike,
    y: ArrayLike,
    fold: NDArray[np.int64],
    groups: ArrayLike | None = None,
) -> Array:
    """Effects that a learner predicts for customers whom it did not see.

    Parameters
    ----------
    learner : any of this module. X : shape (n, k). arm, y, groups : shape (n,). fold : from :func:`customer_folds`.

    Returns
    -------
    shape (n, treatment arms).
    """
    x, _, y, names = _checked(X, arm, y, learner.control)
    labels = np.asarray(arm)
    who = None if groups is None else np.asarray(groups)
    found = np.empty((len(y), len(names) - 1))
    for k in np.unique(fold):
        held = fold == k
        fitted = clone(learner).fit(x[~held], labels[~held], y[~held], None if who is None else who[~held])
        found[held] = fitted.predict(x[held])
    return found


def rule_scores(panel: pd.DataFrame) -> pd.DataFrame:
    """What the simplest rules would do: scores that need no model, the higher the sooner a customer is reached.

    Parameters
    ----------
    panel : rows of :func:`analysis.campaigns.outcomes.campaign_panel` of one campaign.

    Returns
    -------
    (n, 5) frame: ``recency`` (the latest period with a purchase comes first), ``spend`` (of the periods before),
    ``rfm_product`` (recency × frequency × money in fifths), ``bought_lately`` (in the last period: 1 or 0) and
    ``everybody`` (constant).
    """
    blocks = range(1, sum(name.startswith("spend_before_") for name in panel) + 1)
    days = panel[[f"purchase_days_before_{k}" for k in blocks]].to_numpy(float)
    spend = panel[[f"spend_before_{k}" for k in blocks]].to_numpy(float).sum(axis=1)
    ever = days > 0
    recency = -np.where(ever.any(axis=1), ever.argmax(axis=1), len(blocks)) if len(blocks) else np.zeros(len(panel))
    frequency = days.sum(axis=1)
    product = _fifths(recency) * _fifths(frequency) * _fifths(spend)
    lately = ever[:, 0].astype(float) if len(blocks) else np.zeros(len(panel))
    scores = {"recency": recency, "spend": spend, "rfm_product": product, "bought_lately": lately}
    return pd.DataFrame(scores, dtype=float).assign(everybody=0.0)


def _fifths(values: Array) -> Array:
    """Scores from 1 to 5 by the cumulative share of each distinct value, ties together."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.ceil(5 * np.cumsum(counts) / max(len(values), 1) - 1e-9)[codes]
