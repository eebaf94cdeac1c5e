"""Behaviour on one scale: heavy tails, compositions and categories beside plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import skew
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

_MISSING, _RARE = "missing", "other"


class BehaviourScaler(TransformerMixin, BaseEstimator):
    """Put behaviour features on one scale on which a few large customers do not decide the distances.

    Heavy-tailed features (no negative value, sample skewness over ``heavy_tail``) are replaced by log(1 + x);
    then each is centred on its median, divided by its interquartile range over 1.349 (the standard deviation
    of a normal), or by its standard deviation where that is smaller, as it is where two groups stand apart, and
    cut at ``limit``.

    Parameters
    ----------
    heavy_tail : skewness above which a feature is logged.
    limit : largest distance from the centre, in scaled units.
    soft : let what lies beyond the limit grow with its logarithm, so that no spike stands at the limit.

    Attributes
    ----------
    logged_ : boolean array of shape (n_features,).
    center_, scale_ : arrays of shape (n_features,); a constant feature has scale 1.
    """

    def __init__(self, heavy_tail: float = 1.0, limit: float = 3.0, soft: bool = False):
        self.heavy_tail = heavy_tail
        self.limit = limit
        self.soft = soft

    def fit(self, X, y=None):
        """Learn logs, centres and scales from X of shape (n, n_features)."""
        X = finite(X)
        varies = np.ptp(X, axis=0) > 0
        tails = np.zeros(X.shape[1])
        tails[varies] = skew(X[:, varies], axis=0)
        self.logged_ = (X.min(axis=0) >= 0) & (tails > self.heavy_tail)
        Z = self._log(X)
        self.center_ = np.median(Z, axis=0)
        low, high = np.quantile(Z, [0.25, 0.75], axis=0)
        spread = np.minimum((high - low) / 1.349, Z.std(axis=0))
        spread = np.where(spread > 1e-12, spread, Z.std(axis=0))
        self.scale_ = np.where(spread > 1e-12, spread, 1.0)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X) -> np.ndarray:
        """Scaled features, shape (n, n_features)."""
        check_is_fitted(self)
        scaled = (self._log(finite(X)) - self.center_) / self.scale_
        kept = np.clip(scaled, -self.limit, self.limit)
        return kept + np.sign(scaled) * np.log1p(np.abs(scaled - kept)) if self.soft else kept

    def _log(self, X: np.ndarray) -> np.ndarray:
        Z = X.copy()
        # Counts that were spread over half a unit to either side may lie a little below nought.
        Z[:, self.logged_] = np.log1p(np.maximum(Z[:, self.logged_], -0.5))
        return Z


class MixedScaler(TransformerMixin, BaseEstimator):
    """Put numbers, compositions and categories into one space in which each counts as one variable.

    Numbers go through :class:`BehaviourScaler`. A composition (shares that sum to one) is read by its centred log-ratios
    (Aitchison 1986, section 4.6). A category becomes one column a level, (indicator − share) / √share, as in the factor
    analysis of mixed data (Pagès 2004). Compositions and categories are divided so that their total variance is one.

    This was preferred to Gower's distance with medoids because it needs no n × n distances, places new customers, and
    leaves coordinates in which a gap and a valley can be looked for.

    Parameters
    ----------
    heavy_tail, limit, soft : of :class:`BehaviourScaler`.
    compositions : groups of column names that are the parts of a whole.
    rare : levels held by a smaller share of customers are pooled.

    Attributes
    ----------
    numbers_, categories_ : column names. levels_ : category -> (levels, shares).
    continuous_ : the first so many columns of the result are numbers and log-ratios; the rest are categories.
    """

    def __init__(
        self,
        heavy_tail: float = 1.0,
        limit: float = 3.0,
        soft: bool = False,
        compositions: Sequence[Sequence[str]] = (),
        rare: float = 0.01,
    ):
        self.heavy_tail = heavy_tail
        self.limit = limit
        self.soft = soft
        self.compositions = compositions
        self.rare = rare

    def fit(self, X, y=None):
        """Learn scales, shares and levels from X: a table of shape (n, n_features), or a frame with text columns."""
        frame = as_frame(X)
        parts = [name for group in self.compositions for name in group]
        missing = [name for name in parts if name not in frame.columns]
        if missing:
            raise ValueError(f"segments: the composition's part {missing[0]!r} is no column of the features")
        self.categories_ = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
        self.numbers_ = [c for c in frame.columns if c not in parts and c not in self.categories_]
        self.scaler_ = BehaviourScaler(self.heavy_tail, self.limit, self.soft)
        if self.numbers_:
            self.scaler_.fit(frame[self.numbers_])
        self.ratios_ = []
        for group in self.compositions:
            ratios = _log_ratios(frame[list(group)])
            spread = float(np.sqrt(ratios.var(axis=0).sum()))
            self.ratios_.append((ratios.mean(axis=0), spread if spread > 1e-12 else 1.0))
        self.levels_ = {name: self._shares(frame[name]) for name in self.categories_}
        self.continuous_ = len(self.numbers_) + len(parts)
        self.n_features_in_ = frame.shape[1]
        return self

    def transform(self, X) -> np.ndarray:
        """The common space, shape (n, columns)."""
        check_is_fitted(self)
        frame = as_frame(X)
        blocks = [self.scaler_.transform(frame[self.numbers_])] if self.numbers_ else []
        for group, (center, spread) in zip(self.compositions, self.ratios_, strict=True):
            blocks.append((_log_ratios(frame[list(group)]) - center) / spread)
        blocks += [self._indicators(frame[name], *self.levels_[name]) for name in self.categories_]
        return np.hstack(blocks)

    def _shares(self, column: pd.Series) -> tuple[list[str], np.ndarray]:
        shares = _text(column).value_counts(normalize=True).sort_index()
        kept = shares[shares >= self.rare]
        if len(kept) < len(shares):
            kept[_RARE] = kept.get(_RARE, 0.0) + float(shares[shares < self.rare].sum())
        return list(kept.index), kept.to_numpy(dtype=float)

    def _indicators(self, column: pd.Series, levels: list[str], shares: np.ndarray) -> np.ndarray:
        text = _text(column)
        if _RARE in levels:
            text = text.where(text.isin(levels), _RARE)
        held = text.to_numpy()[:, None] == np.array(levels, dtype=object)
        return (held - shares) / np.sqrt(shares * max(len(levels) - 1, 1))


def as_frame(X) -> pd.DataFrame:
    """Features as a frame; an array gets the column names 0, 1, …"""
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(finite(X))
    if frame.empty:
        raise ValueError("segments: features must have at least one row and one column")
    return frame


def finite(X) -> np.ndarray:
    """Features as a table of floats; ValueError when there are none or one is missing or infinite."""
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or X.shape[0] == 0 or not np.isfinite(X).all():
        raise ValueError(
            "segments: features must be a table of finite numbers with at least one row; fill or drop gaps first"
        )
    return X


def spread_counts(X, rng: np.random.Generator) -> pd.DataFrame | np.ndarray:
    """Whole-numbered features spread evenly over half a unit to either side.

    Between one purchase and two nobody can be, so counts show gaps that are no gaps between groups of customers; spread
    out, they show none (Machado & Santos Silva 2005, on counts).
    """
    frame = as_frame(X).copy()
    for name in frame.columns:
        column = frame[name]
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            continue
        values = column.to_numpy(dtype=float)
        if np.isfinite(values).all() and (values == np.round(values)).all():
            frame[name] = values + rng.uniform(-0.5, 0.5, len(values)) * (np.ptp(values) > 0)
    return frame


def _text(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), _MISSING).astype(str).astype(object)


def _log_ratios(parts: pd.DataFrame) -> np.ndarray:
    """Centred log-ratios; a part of nought is taken as half the smallest part that is there."""
    shares = finite(parts)
    if (shares < 0).any() or (shares.sum(axis=1) <= 0).any():
        raise ValueError("segments: the parts of a composition must not be negative, nor all nought for a customer")
    shares = np.where(shares > 0, shares, shares[shares > 0].min() / 2)
    logs = np.log(shares)
    return logs - logs.mean(axis=1, keepdims=True)
