"""Whom a campaign moves, and by how much: uplift learners on scikit-learn estimators, cross-fitted by customer.

A learner is fitted on features measured before the campaign, the arm of each customer and the outcome; its ``predict``
gives the expected effect of every treatment arm on every customer, compared with the control arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression

from analysis.campaigns.base_learners import Fitted, Rows, default_model, fit_mean, fit_without, mean_of
from analysis.campaigns.effects import EstimationError

Array = NDArray[np.float64]
Propensities = Mapping[str, float] | BaseEstimator | None

CONTROL = "control"
LOWEST_PROPENSITY = 0.01
"""Estimated probabilities of an arm are kept above it, so that no single customer decides the answer."""
MOST_COMPARED = 8
"""Names of arms that are found one by one."""


def _arms(arm: ArrayLike) -> tuple[list, NDArray[np.intp]]:
    """Names of the arms, sorted, and the place of each customer's among them."""
    labels, names = np.asarray(arm), []
    if labels.dtype.kind == "i" and 0 <= labels.min(initial=0) <= labels.max(initial=0) < 1 << 16:
        counts = np.bincount(labels)
        return np.flatnonzero(counts).tolist(), (np.cumsum(counts > 0) - 1)[labels]
    codes, left = np.zeros(len(labels), dtype=np.intp), np.ones(len(labels), dtype=bool)
    # Words of fixed width: as long as they are few, comparing them costs less than hashing.
    while labels.dtype.kind == "U" and left.any() and len(names) < MOST_COMPARED:
        names.append(labels[left.argmax()].item())
        same = labels == names[-1]
        codes += (len(names) - 1) * same
        left &= ~same
    if left.any() or not names:
        codes, found = pd.factorize(labels, sort=True)
        return found.tolist(), codes
    order = np.argsort(names)
    return [names[j] for j in order], np.argsort(order)[codes]


def _in_order(codes: NDArray[np.intp], fold: NDArray[np.int64] | None = None) -> NDArray[np.intp]:
    """Places of the customers by arm, or by arm and fold, otherwise as they came."""
    key = codes if fold is None else codes * (fold.max() + 1) + fold
    # Sorting small whole numbers takes no comparisons.
    return np.argsort(key.astype(np.uint16) if key.max(initial=0) < 1 << 16 else key, kind="stable")


def _bounds(key: NDArray[np.integer], places: int) -> list[int]:
    """Where each of the places begins among sorted keys, and the end."""
    return [0, *np.cumsum(np.bincount(key, minlength=places)).tolist()]


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
    return _dealt(_arms(arm)[1], groups, folds, random_state)


def _dealt(
    codes: NDArray[np.intp], groups: ArrayLike | None, folds: int, random_state: int | None
) -> NDArray[np.int64]:
    """See :func:`customer_folds`; ``codes`` are the places of the arms."""
    who = None if groups is None else pd.factorize(np.asarray(groups))[0]
    of_group = codes if who is None else codes[np.unique(who, return_index=True)[1]]
    if np.bincount(of_group).min(initial=len(of_group)) < 2 * folds:
        raise EstimationError("too_few", f"an arm has fewer than {2 * folds} customers, too few for {folds} folds")
    shuffled = np.random.default_rng(random_state).permutation(len(of_group))
    fold = np.empty(len(of_group), dtype=np.int64)
    fold[shuffled[_in_order(of_group[shuffled])]] = np.resize(np.arange(folds), len(of_group))
    return fold if who is None else fold[who]


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
    return np.array(_chances(np.asarray(X, dtype=float), codes, names, propensity, fold))


def _chances(
    x: Array, codes: NDArray[np.intp], names: list, propensity: Propensities, fold: NDArray[np.int64] | None
) -> Array:
    """See :func:`arm_propensities`; a view of a single row where all customers have the same."""
    shape = (len(codes), len(names))
    if propensity is None:
        return np.broadcast_to(np.bincount(codes) / len(codes), shape)
    if isinstance(propensity, Mapping):
        missing = [name for name in names if not 0 < propensity.get(name, 0) < 1]
        if missing:
            raise ValueError(f"give a probability between 0 and 1 for {', '.join(map(str, missing))}")
        return np.broadcast_to([float(propensity[name]) for name in names], shape)
    found = np.empty(shape)
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
    level = np.zeros(propensities.shape) if means is None else means.copy()
    of_arm = [np.flatnonzero(codes == j) for j in range(len(names))]
    return _scores(of_arm, np.asarray(y, dtype=float), propensities, level, names.index(control))


def _scores(of_arm: list, y: Array, propensities: Array, level: Array, control: int) -> Array:
    """See :func:`effect_scores`; ``of_arm`` are the rows of each arm, and ``level`` is written over."""
    for j, rows in enumerate(of_arm):
        level[rows, j] += (y[rows] - level[rows, j]) / propensities[rows, j]
    return np.delete(level, control, axis=1) - level[:, [control]]


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
    chances, fold = _chances(x, codes, names, propensity, fold), np.asarray(fold)
    rows, gamma = _ordered_scores(x, codes, y, fold, model, chances, names.index(control))
    found = np.empty(gamma.shape)
    found[rows.order] = gamma
    return found


def _ordered_scores(
    x: Array,
    codes: NDArray[np.intp],
    y: Array,
    fold: NDArray[np.int64],
    model: BaseEstimator,
    chances: Array,
    control: int,
) -> tuple[Rows, Array]:
    """Rows by arm and fold, and their Γ in that order."""
    arms, folds = chances.shape[1], int(fold.max()) + 1
    rows = Rows(x, _in_order(codes, fold))
    starts, y = _bounds(codes * folds + fold, arms * folds), y[rows.order]
    of_arm = [slice(starts[j * folds], starts[(j + 1) * folds]) for j in range(arms)]
    fitted = []
    for j, own in enumerate(of_arm):
        bounds = [start - own.start for start in starts[j * folds : (j + 1) * folds + 1]]
        fitted.append(fit_without(model, rows.part(own.start, own.stop), bounds, y[own]))
    level = np.empty(chances.shape, order="F")
    for cell, (start, stop) in enumerate(pairwise(starts)):
        part = rows.part(start, stop)
        for j in range(arms) if stop > start else ():
            level[start:stop, j] = mean_of(fitted[j][cell % folds], part)
    # Where all customers have the same chances, their order is no matter.
    chances = chances if chances.strides[0] == 0 else chances[rows.order]
    return rows, _scores(of_arm, y, chances, level, control)


class UpliftLearner(BaseEstimator):
    """What the learners share: ``fit(X, arm, y, groups)`` and ``predict(X)``, shape (n, treatment arms).

    Parameters
    ----------
    model : scikit-learn estimator of the outcome; by default :func:`default_model` of the outcome. Logistic, least-squares
    and ridge regressions are brought to their optimum by :mod:`analysis.campaigns.base_learners`, others fit themselves.
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

    def _by_arm(self, x: Array, codes: NDArray[np.intp], y: Array) -> tuple[dict[str, Rows], dict[str, Array]]:
        """Rows and outcome of each arm."""
        order, bounds = _in_order(codes), _bounds(codes, len(self._place))
        rows, y = Rows(x, order), y[order]
        own = {a: (bounds[j], bounds[j + 1]) for a, j in self._place.items()}
        return {a: rows.part(*at) for a, at in own.items()}, {a: y[slice(*at)] for a, at in own.items()}

    def _arm_models(self, rows: dict[str, Rows], y: dict[str, Array]) -> dict[str, Fitted]:
        return {a: fit_mean(self._outcome, own, y[a]) for a, own in rows.items()}

    def _known(self, propensity: Propensities) -> Propensities:
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
        self.model_ = fit_mean(self._outcome, Rows(self._with(x, flags)), y)

    def _predict(self, x: Array) -> Array:
        flags = np.vstack([np.zeros(len(self.arms_)), np.eye(len(self.arms_))])
        level = [mean_of(self.model_, self._with(x, f)) for f in flags]
        return np.column_stack(level[1:]) - level[0][:, None]

    def _with(self, x: Array, flags: Array) -> Array:
        """The features, then an indicator an arm."""
        found = np.empty((len(x), x.shape[1] + len(self.arms_)), order="F")
        found[:, : x.shape[1]], found[:, x.shape[1] :] = x, flags
        return found


class TLearner(UpliftLearner):
    """One model of the outcome an arm; the effect is the difference of their predictions.

    Source: Künzel, Sekhon, Bickel & Yu (2019), PNAS 116:4156, section "T-learner".
    """

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        self.models_ = self._arm_models(*self._by_arm(x, codes, y))

    def _predict(self, x: Array) -> Array:
        alone = mean_of(self.models_[self.control], x)
        return np.column_stack([mean_of(self.models_[a], x) - alone for a in self.arms_])


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
        rows, y = self._by_arm(x, codes, y)
        self.models_ = self._arm_models(rows, y)
        final = LinearRegression() if self.effect_model is None else self.effect_model
        alone = self.control
        self.effects_ = {}
        for a in self.arms_:
            on_treated = fit_mean(final, rows[a], y[a] - mean_of(self.models_[alone], rows[a]))
            on_control = fit_mean(final, rows[alone], mean_of(self.models_[a], rows[alone]) - y[alone])
            self.effects_[a] = (on_treated, on_control)
        estimated = isinstance(self.propensity, BaseEstimator)
        known = None if estimated else self._known(self.propensity)
        self.shares_ = _chances(x, codes, list(self._place.values()), known, None)[0]
        self.propensity_ = clone(self.propensity).fit(x, codes) if estimated else None

    def _predict(self, x: Array) -> Array:
        fitted = self.propensity_
        chance = np.tile(self.shares_, (len(x), 1)) if fitted is None else fitted.predict_proba(x)
        column = {name: chance[:, j] for name, j in self._place.items()}
        found = []
        for a in self.arms_:
            weight = column[a] / (column[a] + column[self.control])
            on_treated, on_control = self.effects_[a]
            found.append(weight * mean_of(on_control, x) + (1 - weight) * mean_of(on_treated, x))
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
        return np.column_stack([mean_of(self.effects_[a], x) for a in self.arms_])


class DRLearner(_CrossFitted):
    """Regression of the doubly robust Γ on the features.

    Source: Kennedy (2023), Electronic Journal of Statistics 17:3008, algorithm 1.
    """

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        fold = _dealt(codes, groups, self.folds, self.random_state)
        chances = _chances(x, codes, list(self._place.values()), self._known(self.propensity), fold)
        rows, gamma = _ordered_scores(x, codes, y, fold, self._outcome, chances, self._place[self.control])
        final = LinearRegression() if self.effect_model is None else self.effect_model
        self.effects_ = {a: fit_mean(final, rows, gamma[:, j]) for j, a in enumerate(self.arms_)}


class RLearner(_CrossFitted):
    """Regression of what the features do not explain of the outcome on what they do not explain of the arm.

    Each arm is learnt beside the control alone.

    Source: Nie & Wager (2021), Biometrika 108:299, equation 4.
    """

    def _fit(self, x: Array, codes: NDArray[np.intp], y: Array, groups: ArrayLike | None) -> None:
        fold = _dealt(codes, groups, self.folds, self.random_state)
        chances = _chances(x, codes, list(self._place.values()), self._known(self.propensity), fold)
        final = LinearRegression() if self.effect_model is None else self.effect_model
        self.effects_ = {}
        for a in self.arms_:
            pair = np.flatnonzero(self._rows(a, codes) | self._rows(self.control, codes))
            rows = Rows(x, pair[_in_order(fold[pair])])
            bounds, own = _bounds(fold[pair], self.folds), y[rows.order]
            fitted = fit_without(self._outcome, rows, bounds, own)
            parts = [rows.part(start, stop) for start, stop in pairwise(bounds)]
            level = np.concatenate([mean_of(*each) for each in zip(fitted, parts, strict=True)])
            chance = chances[rows.order]
            treated, alone = chance[:, self._place[a]], chance[:, self._place[self.control]]
            surprise = self._rows(a, codes)[rows.order] - treated / (treated + alone)
            self.effects_[a] = fit_mean(final, rows, (own - level) / surprise, surprise**2)


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
