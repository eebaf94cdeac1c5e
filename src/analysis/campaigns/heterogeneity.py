"""Does the effect differ between customers at all? If not, treat all alike.

A ranking learnt and judged on the same customers finds differences in pure noise, and cross-fitting alone does not cure
it: every pair of folds judges each other, so the folds' results are not independent. Here each fold is judged only by
models of the folds before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import clone

from analysis.campaigns.uplift import TLearner, UpliftLearner, cross_fit_scores, customer_folds
from analysis.multiplicity import adjust_p_values

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeterogeneityTest:
    """Result of the global test.

    Attributes
    ----------
    p_value : Holm-adjusted over the arms, one-sided: evidence that effects are higher where predicted so.
    arms : treatment arms. statistics, p_values : shape (arms,), at most standard normal without heterogeneity, and unadjusted.
    folds : of the test.
    """

    p_value: float
    arms: list
    statistics: Array = field(repr=False)
    p_values: Array = field(repr=False)
    folds: int

    def differs(self, level: float = 0.05) -> bool:
        """Whether effects differ between customers beyond chance; if not, treat all alike."""
        return self.p_value < level


def effect_slope(score: ArrayLike, gamma: ArrayLike, groups: ArrayLike | None = None) -> tuple[float, float]:
    """Slope of Γ on the score, and its standard error, robust to customers who recur.

    1 where the predicted effects are right, 0 where they say nothing; (0, 0) for a constant score.

    Source: Chernozhukov, Demirer, Duflo & Fernández-Val (2025), Econometrica 93:1121, best linear predictor.
    """
    s, g = np.asarray(score, dtype=float), np.asarray(gamma, dtype=float)
    if np.ptp(s) <= 1e-12 * max(1.0, np.abs(s).max()):
        return 0.0, 0.0
    x = s - s.mean()
    slope = float(x @ g / (x @ x))
    residual = g - g.mean() - slope * x
    # HC3-like leverage correction: spend has few customers who decide everything.
    parts = x * residual / (1 - 1 / len(x) - x**2 / (x @ x)).clip(1e-3)
    if groups is not None:
        parts = np.bincount(pd.factorize(np.asarray(groups))[0], weights=parts)
    return slope, float(np.sqrt(parts @ parts) / (x @ x))


def heterogeneity_test(
    X: ArrayLike,
    arm: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    learner: UpliftLearner | None = None,
    gamma: ArrayLike | None = None,
    folds: int = 5,
    random_state: int | None = 0,
    learn_from: ArrayLike | None = None,
    splits: int = 5,
) -> HeterogeneityTest:
    """Test that the effect is the same on all customers, against effects that a learner can rank.

    Parameters
    ----------
    X : shape (n, k), measured before the campaign. arm, y : shape (n,). groups : shape (n,), the customer of each row.
    learner : :class:`~analysis.campaigns.uplift.TLearner` by default. gamma : shape (n, arms), cross-fitted Γ of ``y``;
    computed by default. learn_from : shape (n,), outcome that the learner learns from, ``y`` by default.
    splits : ways of dealing customers to folds, so that the verdict does not hang on one of them.

    Raises
    ------
    EstimationError
        ``too_few`` customers in an arm for the folds.

    Source: Wager (2024), Sequential validation of treatment heterogeneity, arXiv:2405.05534: the t values of folds 2 to K,
    each of models of the earlier folds alone, sum to a normal variable. Their mean over splits is judged as if it were one
    split's: its variance is at most that, so the test errs less often than its level.
    """
    learner = TLearner() if learner is None else learner
    x, labels = np.asarray(X, dtype=float), np.asarray(arm)
    target = np.asarray(y if learn_from is None else learn_from, dtype=float)
    who = np.arange(len(labels)) if groups is None else np.asarray(groups)
    seeds = [None if random_state is None else random_state + i for i in range(splits)]
    parts = [customer_folds(labels, who, folds, seed) for seed in seeds]
    if gamma is None:
        gamma = cross_fit_scores(x, labels, y, parts[0], learner.model, control=learner.control)
    gamma = np.asarray(gamma, dtype=float)
    statistics = np.mean([_sequential(learner, x, labels, target, who, gamma, fold) for fold in parts], axis=0)
    arms = [name for name in np.unique(labels).tolist() if name != learner.control]
    p_values = stats.norm.sf(statistics)
    return HeterogeneityTest(float(adjust_p_values(p_values).min()), arms, statistics, p_values, folds)


def _sequential(
    learner: UpliftLearner, x: Array, labels: NDArray, target: Array, who: NDArray, gamma: Array, fold: NDArray
) -> Array:
    """For each arm, the sum of the folds' t values, each of models of the earlier folds, on the normal scale."""
    values = []
    for k in range(1, fold.max() + 1):
        train, held = fold < k, fold == k
        predicted = clone(learner).fit(x[train], labels[train], target[train], who[train]).predict(x[held])
        slopes = [effect_slope(s, g, who[held]) for s, g in zip(predicted.T, gamma[held].T, strict=True)]
        values.append([slope / se if se > 0 else 0.0 for slope, se in slopes])
    return np.sum(values, axis=0) / np.sqrt(len(values))


def segment_effects(
    gamma: ArrayLike,
    segments: pd.DataFrame,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    fewest: int = 30,
) -> pd.DataFrame:
    """Effect in each level of named segments, and whether the levels differ.

    Parameters
    ----------
    gamma : shape (n,), one arm. segments : (n, m) frame, one column a segmentation; levels of fewer than ``fewest``
    customers, and missing ones, are left out.

    Returns
    -------
    One row a segmentation × level: segment, level, customers, effect, low, high, p_value (joint test that the levels of
    the segmentation do not differ), p_adjusted (Holm over the segmentations).

    Source: Wald test of equal means with cluster-robust covariance.
    """
    g, reach = np.asarray(gamma, dtype=float), float(stats.norm.ppf(0.5 + confidence / 2))
    who = np.arange(len(g)) if groups is None else pd.factorize(np.asarray(groups))[0]
    tables = [_levels(g, segments[name], who, reach, fewest) for name in segments]
    tables = [table.assign(segment=name) for name, table in zip(segments, tables, strict=True) if len(table)]
    columns = ["segment", "level", "customers", "effect", "low", "high", "p_value", "p_adjusted"]
    if not tables:
        return pd.DataFrame(columns=columns)
    adjusted = adjust_p_values([table["p_value"].iloc[0] for table in tables])
    found = [table.assign(p_adjusted=p) for table, p in zip(tables, adjusted, strict=True)]
    return pd.concat(found, ignore_index=True)[columns]


def _levels(g: Array, segment: pd.Series, who: Array, reach: float, fewest: int) -> pd.DataFrame:
    counts = segment.value_counts().sort_index()
    names = counts.index[counts >= fewest]
    if len(names) < 2:
        return pd.DataFrame()
    codes = names.get_indexer(segment)
    kept, customers = codes >= 0, counts[names].to_numpy()
    codes, gamma = codes[kept], g[kept]
    means = np.bincount(codes, weights=gamma) / customers
    owners, owner = np.unique(who[kept], return_inverse=True)
    parts = np.zeros((len(owners), len(names)))
    np.add.at(parts, (owner, codes), (gamma - means[codes]) / customers[codes])
    covariance = parts.T @ parts * len(owners) / (len(owners) - 1)
    contrast = np.eye(len(names))[1:] - np.eye(len(names))[0]
    gap = contrast @ means
    wald = float(gap @ np.linalg.pinv(contrast @ covariance @ contrast.T, hermitian=True) @ gap)
    dof = len(names) - 1
    half = reach * np.sqrt(np.diag(covariance))
    return pd.DataFrame({
        "level": names.astype(str),
        "customers": customers,
        "effect": means,
        "low": means - half,
        "high": means + half,
        "p_value": float(stats.f.sf(wald / dof, dof, len(owners) - len(names))),
    })  # fmt: skip
