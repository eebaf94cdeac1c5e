"""Who belongs to the best: a classifier that is chosen and calibrated on the customers it learns from, and on no others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from analysis.valuation.purchases import Array

LOGISTIC, BOOSTING = "logistic regression", "gradient boosting"
SIGMOID, ISOTONIC, CONSTANT = "sigmoid", "isotonic", "constant"
_LEAST_ISOTONIC = 1000  # customers from which isotonic calibration is tried (Niculescu-Mizil & Caruana 2005)
_LEVELS = 20  # kinds of a text column that are told apart; the rarer ones are one
_UNKNOWN = "(unknown)"
_EDGE = 1e-4  # probabilities are kept this far from 0 and 1: nothing here is ever certain


@dataclass(frozen=True)
class Candidate:
    """A model to try: its name, its complexity setting, and how to make it for given columns."""

    name: str
    setting: float

    def make(self, numeric: list[str], text: list[str], seed: int) -> Pipeline:
        """An unfitted pipeline."""
        return (
            _logistic(self.setting, numeric, text)
            if self.name == LOGISTIC
            else _boosting(self.setting, numeric, text, seed)
        )


CANDIDATES = (
    Candidate(LOGISTIC, 0.01),
    Candidate(LOGISTIC, 0.1),
    Candidate(LOGISTIC, 1.0),
    Candidate(BOOSTING, 4),
    Candidate(BOOSTING, 12),
)


def _logistic(strength: float, numeric: list[str], text: list[str]) -> Pipeline:
    """Ridge logistic regression: C = ``strength``; amounts on a log scale, missing ones at the median with a flag."""
    amounts = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        FunctionTransformer(signed_log),
        StandardScaler(),
    )
    kinds = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=_LEVELS, min_frequency=10)
    return make_pipeline(
        ColumnTransformer([("amounts", amounts, numeric), ("kinds", kinds, text)], sparse_threshold=0.0),
        LogisticRegression(C=strength, max_iter=1000),
    )


def _boosting(leaves: float, numeric: list[str], text: list[str], seed: int) -> Pipeline:
    """Gradient boosting of small trees of ``leaves`` leaves, with a slow learning rate; missing values are a kind of their own."""
    kinds = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=_LEVELS, encoded_missing_value=np.nan
    )
    learner = HistGradientBoostingClassifier(
        learning_rate=0.06,
        max_iter=100,
        max_leaf_nodes=int(leaves),
        l2_regularization=1.0,
        early_stopping=False,
        categorical_features=[False] * len(numeric) + [True] * len(text),
        random_state=seed,
    )
    return make_pipeline(ColumnTransformer([("amounts", "passthrough", numeric), ("kinds", kinds, text)]), learner)


def signed_log(values: Array) -> Array:
    """log(1 + |x|) with the sign of x: tames heavy tails on both sides of zero."""
    return np.sign(values) * np.log1p(np.abs(values))


class TopClassifier(ClassifierMixin, BaseEstimator):
    """Probability of belonging to the best, from numbers and kinds with gaps.

    Ridge logistic regressions and gradient boosting compete by log loss in cross-validation. The best of the regressions is
    taken, unless the best of the boosted trees beats it by more than one standard error (of the paired difference over
    customers), and is fitted on all. Its out-of-fold scores are
    calibrated by a sigmoid (Platt 1999) or, from 1,000 customers on and where that is better by more than one standard error, by
    isotonic regression (Zadrozny & Elkan 2002). A sigmoid that would turn the ranking round is replaced by the share of all.

    Parameters
    ----------
    folds : of the cross-validation.
    random_state : of folds and trees.

    Attributes
    ----------
    chosen_ : Candidate. calibrated_by_ : "sigmoid", "isotonic" or "constant".
    contest_ : DataFrame, one row a candidate: model, setting, log_loss, gain (over the best regression, mean a
        customer), error (its standard error), chosen.
    columns_ : features that vary and are used.
    """

    def __init__(self, folds: int = 5, random_state: int = 1) -> None:
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: Array) -> TopClassifier:
        """Choose, fit and calibrate.

        Parameters
        ----------
        X : shape (n, features); text columns are kinds, others numbers; missing values allowed.
        y : shape (n,), 1 for the best.

        Raises
        ------
        ValueError
            Fewer of one kind than folds, or no feature varies.
        """
        found = np.asarray(y).astype(int)
        few = int(min(found.sum(), (1 - found).sum()))
        if few < self.folds:
            raise ValueError(f"{few} customers of one kind are too few to learn from ({self.folds} needed)")
        self.columns_ = [c for c in X.columns if X[c].nunique(dropna=False) > 1]
        if not self.columns_:
            raise ValueError("no feature differs between customers, so there is nothing to learn from")
        self.classes_ = np.array([0, 1])
        self.text_ = [c for c in self.columns_ if not pd.api.types.is_numeric_dtype(X[c])]
        self.numeric_ = [c for c in self.columns_ if c not in self.text_]
        frame = self._prepared(X)
        scores = {c: self._out_of_fold(c, frame, found) for c in CANDIDATES}
        self.contest_ = _contest(scores, found)
        self.chosen_ = CANDIDATES[int(np.flatnonzero(self.contest_["chosen"])[0])]
        self.model_ = self._make(self.chosen_).fit(frame, found)
        self._calibrate(scores[self.chosen_], found)
        return self

    def decision_function(self, X: pd.DataFrame) -> Array:
        """Uncalibrated log-odds, shape (n,): the finest ranking that the model gives."""
        check_is_fitted(self, "model_")
        return _log_odds(self.model_.predict_proba(self._prepared(X))[:, 1])

    def predict_proba(self, X: pd.DataFrame) -> Array:
        """Calibrated probabilities, shape (n, 2); the second is of belonging to the best."""
        p = self.calibrator_.probability(self.decision_function(X))
        return np.column_stack([1.0 - p, p])

    def predict(self, X: pd.DataFrame) -> Array:
        """1 where belonging to the best is more likely than not, shape (n,)."""
        return (self.predict_proba(X)[:, 1] >= 0.5).astype(int)

    @property
    def calibrated_by_(self) -> str:
        """How the probabilities were calibrated."""
        return self.calibrator_.kind

    def _make(self, candidate: Candidate) -> Pipeline:
        return candidate.make(self.numeric_, self.text_, self.random_state)

    def _prepared(self, X: pd.DataFrame) -> pd.DataFrame:
        numbers = {c: X[c].astype(float).replace([np.inf, -np.inf], np.nan) for c in self.numeric_}
        kinds = {c: X[c].astype(object).where(X[c].notna(), _UNKNOWN).astype(str).astype(object) for c in self.text_}
        return pd.DataFrame(numbers | kinds, index=X.index)

    def _out_of_fold(self, candidate: Candidate, frame: pd.DataFrame, y: Array) -> Array:
        score = np.empty(len(y))
        for learn, test in self._folds(frame, y):
            model = clone(self._make(candidate)).fit(frame.iloc[learn], y[learn])
            score[test] = _log_odds(model.predict_proba(frame.iloc[test])[:, 1])
        return score

    def _folds(self, frame: pd.DataFrame | Array, y: Array):
        return StratifiedKFold(self.folds, shuffle=True, random_state=self.random_state).split(np.zeros(len(frame)), y)

    def _calibrate(self, score: Array, y: Array) -> None:
        self.calibrator_ = choose_calibrator(score, y, self.folds, self.random_state)


def choose_calibrator(score: Array, y: Array, folds: int = 5, seed: int = 1) -> Calibrator:
    """A calibrator for scores of customers whom the scorer has not seen.

    Parameters
    ----------
    score : shape (n,), higher is likelier. y : shape (n,), 0 or 1.
    folds, seed : of the cross-validation between sigmoid and isotonic.
    """
    sigmoid = Calibrator(SIGMOID).fit(score, y)
    if sigmoid.kind == CONSTANT or len(y) < _LEAST_ISOTONIC:
        return sigmoid
    losses = {kind: np.empty(len(y)) for kind in (SIGMOID, ISOTONIC)}
    for learn, test in StratifiedKFold(folds, shuffle=True, random_state=seed + 1).split(np.zeros(len(y)), y):
        for kind, loss in losses.items():
            loss[test] = _loss(Calibrator(kind).fit(score[learn], y[learn]).probability(score[test]), y[test])
    gain = losses[SIGMOID] - losses[ISOTONIC]
    better = gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain))
    return Calibrator(ISOTONIC).fit(score, y) if better else sigmoid


class Calibrator:
    """Turns scores into probabilities; never turns a ranking round.

    Parameters
    ----------
    kind : "sigmoid" or "isotonic". A sigmoid that does not rise becomes "constant": the share of all.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def fit(self, score: Array, y: Array) -> Calibrator:
        """Learn from scores and outcomes, shape (n,) each."""
        self._share = float(np.mean(y))
        if self.kind == ISOTONIC:
            self._curve = IsotonicRegression(out_of_bounds="clip").fit(score, y)
            return self
        spread = float(np.std(score))
        if spread < 1e-12:
            self.kind = CONSTANT
            return self
        self._centre, self._spread = float(np.mean(score)), spread
        fit = LogisticRegression(C=1e6, max_iter=1000).fit(self._scaled(score), y)
        self._slope, self._level = float(fit.coef_[0, 0]), float(fit.intercept_[0])
        if self._slope <= 0:
            self.kind = CONSTANT
        return self

    def probability(self, score: Array) -> Array:
        """Probabilities, shape of `score`."""
        if self.kind == CONSTANT:
            return np.full(len(score), self._share)
        if self.kind == ISOTONIC:
            return np.clip(self._curve.predict(score), _EDGE, 1 - _EDGE)
        return np.clip(expit(self._slope * self._scaled(score)[:, 0] + self._level), _EDGE, 1 - _EDGE)

    def _scaled(self, score: Array) -> Array:
        return ((np.asarray(score, dtype=float) - self._centre) / self._spread).reshape(-1, 1)


def _log_odds(p: Array) -> Array:
    return logit(np.clip(p, 1e-9, 1 - 1e-9))


def _loss(p: Array, y: Array) -> Array:
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return -np.where(y == 1, np.log(p), np.log(1 - p))


def _contest(scores: dict[Candidate, Array], y: Array) -> pd.DataFrame:
    """Log losses; the best logistic regression is chosen unless trees beat it by more than one standard error."""
    losses = np.column_stack([_loss(expit(score), y) for score in scores.values()])
    table = pd.DataFrame([(c.name, c.setting) for c in scores], columns=["model", "setting"])
    table["log_loss"] = losses.mean(axis=0)
    simple = int(table.loc[table["model"] == LOGISTIC, "log_loss"].idxmin())
    trees = int(table.loc[table["model"] == BOOSTING, "log_loss"].idxmin())
    gain = losses[:, [simple]] - losses
    table["gain"], table["error"] = gain.mean(axis=0), gain.std(axis=0, ddof=1) / np.sqrt(len(y))
    chosen = trees if table.loc[trees, "gain"] > table.loc[trees, "error"] else simple
    return table.assign(chosen=np.arange(len(table)) == chosen)
