"""How the explained variance of a target is shared among its direct drivers, and which question to work on.

Drivers of satisfaction correlate, so that a path coefficient alone says little about how much a driver counts. Two
measures share out R² itself and add up to it: the average over all orders of entry (LMG, the Shapley value of R²)
and Johnson's relative weights. Neither knows what lies upstream of what; total effects do.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd

from .moments import Array
from .path_model import BootstrapResults, EstimationError, PLSResults, quantities
from .resampling import IntervalMethod, percentile_interval
from .scores import Scale, item_shares, scale_limits

MOST_DRIVERS = 14
MAXIMUM_INFLATION = 5.0
_SINGULAR = 1e-10
_CELLS = 8_000_000  # of R² held at a time: subsets times matrices

_PAIR_COLUMNS = [
    "first", "second", "lmg_difference", "lmg_low", "lmg_high", "probability",
    "effect_difference", "effect_low", "effect_high", "agree", "clear",
]  # fmt: skip


def subset_r_squared(between: Array, with_target: Array) -> Array:
    """R² of a target on every subset of its drivers.

    Parameters
    ----------
    between : (B, k, k) correlations of the drivers
    with_target : (B, k) their correlations with the target

    Returns
    -------
    (2**k, B): row s holds the subset of the drivers whose bits are set in s. A driver that the others of its subset
    determine adds nothing.

    Raises
    ------
    EstimationError
        If k is above `MOST_DRIVERS`.
    """
    size, k = with_target.shape
    if k > MOST_DRIVERS:
        raise EstimationError(f"{k} drivers have {2**k} subsets: at most {MOST_DRIVERS} drivers can be compared")
    joint = np.empty((k + 1, k + 1, size))
    joint[:k, :k] = np.moveaxis(between, 0, -1)
    joint[:k, k] = joint[k, :k] = with_target.T
    joint[k, k] = 1.0
    explained = np.zeros((2**k, size))

    def enter(residual: Array, first: int, subset: int) -> None:
        """Sweep each driver from `first` on out of the covariances that are left, and go on from there."""
        for i in range(k - first):
            pivot = residual[i, i]
            usable = pivot > _SINGULAR
            slope = np.where(usable, residual[i] / np.where(usable, pivot, 1.0), 0.0)
            larger = subset | 1 << (first + i)
            explained[larger] = explained[subset] + slope[-1] * residual[i, -1]
            left = residual[i + 1 :, i + 1 :] - slope[i + 1 :, None] * residual[None, i, i + 1 :]
            enter(left, first + i + 1, larger)

    enter(joint, 0, 0)
    return explained


def lmg(between: Array, with_target: Array) -> Array:
    """Parts of R² by the average over all orders of entry, (B, k); they add up to R² and are never negative.

    Parameters
    ----------
    between : (B, k, k) correlations of the drivers
    with_target : (B, k) their correlations with the target

    Source: Lindeman, Merenda & Gold (1980), Introduction to Bivariate and Multivariate Analysis, p. 119;
    Grömping (2006), J. Stat. Softw. 17(1), equation 5.
    """
    k = with_target.shape[1]
    weights = _entry_weights(k)
    step = max(1, _CELLS >> k)
    parts = [
        (weights @ subset_r_squared(between[start : start + step], with_target[start : start + step])).T
        for start in range(0, len(with_target), step)
    ]
    return np.concatenate(parts)


def _entry_weights(k: int) -> Array:
    """(k, 2**k): what R² of each subset counts in the mean gain of each driver over all orders of entry."""
    subsets = np.arange(2**k)
    inside = (subsets[None, :] >> np.arange(k)[:, None] & 1).astype(bool)
    before = inside.sum(axis=0) - inside  # how many of the others are in the subset
    share = np.array([factorial(s) * factorial(k - s - 1) / factorial(k) for s in range(k)])
    return np.where(inside, 1.0, -1.0) * share[before]


def relative_weights(between: Array, with_target: Array) -> Array:
    """Parts of R² by way of the nearest uncorrelated drivers, (B, k); they add up to R² and are never negative.

    Parameters
    ----------
    between : (B, k, k) correlations of the drivers
    with_target : (B, k) their correlations with the target

    Source: Johnson (2000), Multivar. Behav. Res. 35(1), equations 2 to 8.
    """
    values, vectors = np.linalg.eigh(between)
    root = np.sqrt(np.clip(values, 0.0, None))
    loadings = (vectors * root[:, None, :]) @ vectors.transpose(0, 2, 1)
    inverse = np.where(root > np.sqrt(_SINGULAR), 1 / np.maximum(root, np.sqrt(_SINGULAR)), 0.0)
    rotated = vectors.transpose(0, 2, 1) @ with_target[:, :, None]
    beta = vectors @ (inverse[:, :, None] * rotated)
    return (loadings**2 @ beta**2)[:, :, 0]


def relative_importance(
    results: PLSResults,
    bootstrap: BootstrapResults,
    target: str,
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "bca",
) -> pd.DataFrame:
    """How much each direct driver of a construct counts, beside its path and its total effect.

    Returns
    -------
    One row a driver, the largest part of R² first:

    target, driver : constructs
    lmg, lmg_low, lmg_high : part of R² with limits
    share, share_low, share_high : the same as a share of R²
    relative_weight, relative_weight_low, relative_weight_high : part of R² by Johnson's weights
    rank, rank_low, rank_high : place by lmg, 1 the largest, with percentile limits
    first_share : share of the resamples in which this driver has the largest part
    path : direct path
    effect, effect_low, effect_high : total effect with limits
    effect_rank : place by total effect
    inflation : variance inflation factor among the drivers; above 5 (`MAXIMUM_INFLATION`) they are hard to tell apart

    Raises
    ------
    EstimationError
        If nothing leads to `target`, or more than `MOST_DRIVERS` constructs do.
    """
    drivers = _drivers_of(results, target)
    function = _by_driver(results, drivers, target)
    point = function(_point(results))[0]
    low, high = bootstrap.interval_of(function, confidence, method)
    places = _ranks(function(bootstrap.values)[:, 0])
    rank_low, rank_high = percentile_interval(places, confidence)
    arrows = [(driver, target) for driver in drivers]
    columns: dict[str, object] = {"target": target, "driver": drivers}
    for k, name in enumerate(("lmg", "share", "relative_weight")):
        columns |= {name: point[k], f"{name}_low": low[k], f"{name}_high": high[k]}
    frame = pd.DataFrame(columns).assign(
        rank=_ranks(point[None, 0])[0].astype(int),
        rank_low=np.floor(rank_low).astype(int),
        rank_high=np.ceil(rank_high).astype(int),
        first_share=(places == 1).mean(axis=0),
        path=results.params[arrows].to_numpy(),
        effect=point[3],
        effect_low=low[3],
        effect_high=high[3],
        effect_rank=_ranks(point[None, 3])[0].astype(int),
        inflation=results.inflation[arrows].to_numpy(),
    )
    return frame.sort_values("lmg", ascending=False, kind="stable", ignore_index=True)


def importance_pairs(
    results: PLSResults,
    bootstrap: BootstrapResults,
    target: str,
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "bca",
) -> pd.DataFrame:
    """Every two direct drivers of a construct: which counts more by its part of R², and does its total effect agree.

    Returns
    -------
    One row a pair; `first` is the one with the larger part of R²:

    first, second : drivers
    lmg_difference, lmg_low, lmg_high : by how much the parts of R² differ, with limits
    probability : share of the resamples in which the part of `first` is the larger
    effect_difference, effect_low, effect_high : by how much the total effects differ
    agree : whether `first` has the larger total effect too
    clear : whether both limits exclude zero

    Raises
    ------
    EstimationError
        As :func:`relative_importance`.
    """
    drivers = _drivers_of(results, target)
    function = _by_driver(results, drivers, target)
    if len(drivers) == 1:
        return pd.DataFrame(columns=_PAIR_COLUMNS)
    order = np.argsort(-function(_point(results))[0, 0], kind="stable")
    first, second = np.array(list(combinations(order, 2))).T

    def differences(quantity: dict[str, Array]) -> Array:
        values = function(quantity)[:, [0, 3]]
        return values[:, :, first] - values[:, :, second]

    point = differences(_point(results))[0]
    low, high = bootstrap.interval_of(differences, confidence, method)
    beaten = differences(bootstrap.values)[:, 0]
    excludes = (low > 0) | (high < 0)
    values = {
        "first": [drivers[k] for k in first],
        "second": [drivers[k] for k in second],
        "lmg_difference": point[0],
        "lmg_low": low[0],
        "lmg_high": high[0],
        "probability": (beaten > 0).mean(axis=0) + 0.5 * (beaten == 0).mean(axis=0),
        "effect_difference": point[1],
        "effect_low": low[1],
        "effect_high": high[1],
        "agree": point[1] >= 0,
        "clear": excludes.all(axis=0),
    }
    return pd.DataFrame(values, columns=_PAIR_COLUMNS)


def shared_part(
    results: PLSResults, bootstrap: BootstrapResults, target: str, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Share of R² that no driver explains alone, with limits: what only a way of sharing out can place.

    It is 1 - sum(R² - R² without each driver) / R², negative where drivers suppress each other.

    Raises
    ------
    EstimationError
        As :func:`relative_importance`.
    """
    drivers = _drivers_of(results, target)
    at, t = [results.specification.constructs.index(d) for d in drivers], results.specification.constructs.index(target)
    full = 2 ** len(at) - 1

    def function(quantity: dict[str, Array]) -> Array:
        explained = subset_r_squared(*_between(quantity, at, t))
        unique = sum(explained[full] - explained[full ^ 1 << k] for k in range(len(at)))
        return 1 - unique / explained[full]

    low, high = bootstrap.interval_of(function, confidence)
    return float(function(_point(results))[0]), float(low), float(high)


def importance_facts(importance: pd.DataFrame, pairs: pd.DataFrame, ceiling: float = MAXIMUM_INFLATION) -> dict:
    """What sentences need of the two tables.

    Parameters
    ----------
    importance : from :func:`relative_importance`
    pairs : from :func:`importance_pairs`
    ceiling : variance inflation above which a driver is hard to tell from the others

    Returns
    -------
    target, driver, share, low, high (of the driver with the largest part of R²), first_share, runner_up (name or None),
    probability (that it is ahead of the runner-up, or None), same_first (whether it has the largest total effect too),
    effect_first (the driver that has), disagreements (records of the pairs whose orders differ, the clear ones first),
    collinear (records: driver, inflation).
    """
    top = importance.iloc[0]
    runner_up = importance["driver"].iloc[1] if len(importance) > 1 else None
    beaten = pairs[(pairs["first"] == top["driver"]) & (pairs["second"] == runner_up)]
    by_effect = importance.loc[importance["effect_rank"].idxmin(), "driver"]
    columns = ["first", "second", "probability", "lmg_difference", "effect_difference", "clear"]
    differing = pairs.loc[~pairs["agree"].astype(bool), columns].sort_values("clear", ascending=False, kind="stable")
    return {
        "target": top["target"],
        "driver": top["driver"],
        "share": float(top["share"]),
        "low": float(top["share_low"]),
        "high": float(top["share_high"]),
        "first_share": float(top["first_share"]),
        "runner_up": runner_up,
        "probability": float(beaten["probability"].iloc[0]) if len(beaten) else None,
        "same_first": by_effect == top["driver"],
        "effect_first": by_effect,
        "disagreements": differing.to_dict("records"),
        "collinear": importance.loc[importance["inflation"] > ceiling, ["driver", "inflation"]].to_dict("records"),
    }


def item_importance(
    results: PLSResults,
    bootstrap: BootstrapResults,
    scale: Scale,
    driver: str,
    target: str,
    *,
    labels: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    method: IntervalMethod = "bca",
) -> pd.DataFrame:
    """The questions of one driver: what a point on each goes with, and how well the company does on it.

    Returns
    -------
    One row an item, the largest `room` first:

    driver, target, item, label : label is the item's name where `labels` has none
    points, points_low, points_high : points of the target (0-100) that go with one point of the item (0-100) through
        its driver: the driver's total effect in points times the item's share in the driver's score
    performance, performance_low, performance_high : mean answer, 0-100, with percentile limits
    room : points of the target between the item's level and a full score, 0 where its share is negative
    first_share : share of the resamples in which the item has the most room

    The share of an item follows from how it correlates with the driver's neighbours; items of one block say nearly the
    same, so differences in `points` are small by construction and `performance` decides more.

    Raises
    ------
    EstimationError
        If `driver` is not upstream of `target`.
    Source: Ringle & Sarstedt (2016), Ind. Manag. Data Syst. 116(9), table 2.
    """
    specification, layout = results.specification, results.model.layout
    d, t = specification.constructs.index(driver), specification.constructs.index(target)
    if results.estimates.total_effects[0, d, t] == 0:
        raise EstimationError(f"no route leads from {driver} to {target} in this model")
    items = list(specification.composite(driver).items)
    block = layout.block(d)
    low_end, high_end = scale_limits(specification.items, scale)

    def function(quantity: dict[str, Array]) -> Array:
        weights, deviations = quantity["weights"], quantity["deviations"]
        shares, spread = item_shares(weights, deviations, low_end, high_end, layout.starts[:-1])
        effect = quantity["total_effects"][:, d, t] * spread[:, t] / spread[:, d]
        level = 100 * (quantity["means"] - low_end) / (high_end - low_end)
        return np.stack([effect[:, None] * shares[:, block], level[:, block]], axis=1)

    def room(values: Array) -> Array:
        return np.maximum(values[:, 0], 0.0) * (100 - values[:, 1])

    point = function(_point(results))[0]
    first = room(function(bootstrap.values)).argmax(axis=1)
    (points_low, _), (points_high, _) = bootstrap.interval_of(function, confidence, method)
    (_, level_low), (_, level_high) = bootstrap.interval_of(function, confidence)
    labels = labels or {}
    frame = pd.DataFrame(
        {
            "driver": driver,
            "target": target,
            "item": items,
            "label": [labels.get(item, item) for item in items],
            "points": point[0],
            "points_low": points_low,
            "points_high": points_high,
            "performance": point[1],
            "performance_low": level_low,
            "performance_high": level_high,
            "room": room(point[None])[0],
            "first_share": np.bincount(first, minlength=len(items)) / len(first),
        }
    )
    return frame.sort_values("room", ascending=False, kind="stable", ignore_index=True)


def _drivers_of(results: PLSResults, target: str) -> list[str]:
    drivers = list(results.specification.sources_of(target))
    if not drivers:
        raise EstimationError(f"nothing leads to {target!r} in this model: name a construct that has drivers")
    return drivers


def _by_driver(results: PLSResults, drivers: list[str], target: str):
    """A function of the model's quantities: (B, 4, k) lmg, share of R², relative weight, total effect."""
    names = results.specification.constructs
    at, t = [names.index(driver) for driver in drivers], names.index(target)

    def function(quantity: dict[str, Array]) -> Array:
        between, with_target = _between(quantity, at, t)
        values = np.full((len(with_target), 4, len(at)), np.nan)
        usable = np.isfinite(with_target).all(axis=1)
        between, with_target = between[usable], with_target[usable]
        parts = lmg(between, with_target)
        values[usable, 0] = parts
        values[usable, 1] = parts / parts.sum(axis=1, keepdims=True)
        values[usable, 2] = relative_weights(between, with_target)
        values[:, 3] = quantity["total_effects"][:, at, t]
        return values

    return function


def _between(quantity: dict[str, Array], at: list[int], target: int) -> tuple[Array, Array]:
    correlations = quantity["correlations"]
    return correlations[:, np.array(at)[:, None], np.array(at)], correlations[:, at, target]


def _ranks(values: Array) -> Array:
    """Places along the last axis, 1 the largest; of equal values the first comes first."""
    return np.argsort(np.argsort(-values, axis=-1, kind="stable"), axis=-1) + 1.0


def _point(results: PLSResults) -> dict[str, Array]:
    return quantities(results.moments, results.estimates, results.model.layout)
