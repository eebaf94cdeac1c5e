"""Scores from 0 to 100: a construct's level, a respondent's score.

A score is the weighted mean of a block's items, each first carried from its answer scale to 0..100:

    score = 100 * sum_i w_i (x_i - low_i) / (high_i - low_i) / sum_i w_i

with w_i the weight of the item in its own units, as in the American and European indices (Fornell et al. 1996,
J. Marketing 60, p. 17).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from .moments import Array
from .path_model import BootstrapResults, EstimationError, PLSResults, quantities

Scale = tuple[float, float] | Mapping[str, tuple[float, float]]


def snake(name: str) -> str:
    """A construct's name as a column: "Perceived value" is perceived_value."""
    return "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def scale_limits(items: Sequence[str], scale: Scale) -> tuple[Array, Array]:
    """Lowest and highest answer of each item; `scale` is one pair for all, or a pair an item."""
    pairs = [scale[item] if isinstance(scale, Mapping) else scale for item in items]
    low, high = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    if not (high > low).all():
        raise EstimationError(f"the answer scale must run from low to high, not {scale}")
    return low, high


def check_scale(answers: pd.DataFrame, scale: Scale) -> None:
    """Raise EstimationError if an answer lies outside the declared scale."""
    low, high = scale_limits(list(answers.columns), scale)
    values = answers.to_numpy(float)
    outside = ((values < low) | (values > high)).sum(axis=0)
    if outside.any():
        k = int(np.flatnonzero(outside)[0])
        raise EstimationError(
            f"item {answers.columns[k]!r}: {int(outside[k])} answers outside the scale {low[k]:g} to {high[k]:g}; "
            "declare them as missing codes or correct the scale"
        )


def item_shares(weights: Array, deviations: Array, low: Array, high: Array, starts: Array) -> tuple[Array, Array]:
    """Shares of the items in their score, and the score's standard deviation.

    Parameters
    ----------
    weights, deviations : (B, p), of standardised items, and in the items' units
    starts : (J,) first item of each block

    Returns
    -------
    (B, p) shares that add up to one in every block, and (B, J) standard deviations of the 0-100 scores.
    """
    raw = weights * (high - low) / deviations
    total = np.add.reduceat(raw, starts, axis=1)
    owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, weights.shape[1])))
    return raw / total[:, owner], 100.0 / total


def levels(means: Array, weights: Array, deviations: Array, low: Array, high: Array, starts: Array) -> Array:
    """Mean 0-100 score of every construct: (B, J)."""
    shares, _ = item_shares(weights, deviations, low, high, starts)
    return 100 * np.add.reduceat(shares * (means - low) / (high - low), starts, axis=1)


def performance(
    results: PLSResults, bootstrap: BootstrapResults, scale: Scale, confidence: float = 0.95
) -> pd.DataFrame:
    """Mean 0-100 score of every construct with limits: construct, score, low, high.

    Limits carry the uncertainty of the weights as well as that of the answers.
    """
    function = _level_function(results, scale)
    point = function(_point(results))[0]
    low, high = bootstrap.interval_of(function, confidence)
    names = list(results.specification.constructs)
    return pd.DataFrame({"construct": names, "score": point, "low": low, "high": high})


def item_weights(results: PLSResults, scale: Scale) -> pd.DataFrame:
    """How much each item counts in its score: construct, item, share (adds up to one), mean answer."""
    low, high = scale_limits(results.specification.items, scale)
    shares, _ = item_shares(
        results.estimates.weights, results.moments.deviations, low, high, results.model.layout.starts[:-1]
    )
    frame = results.loadings.reset_index()[["construct", "item"]]
    return frame.assign(share=shares[0], mean=results.moments.means[0])


def construct_scores(results: PLSResults, scale: Scale, usable: Iterable[str]) -> pd.DataFrame:
    """Every respondent's 0-100 score on the usable constructs, snake_case columns, index of the answers.

    A respondent who answered no item of a block has no score on it; other missing answers count at the item's
    mean, as in the model.

    Raises
    ------
    EstimationError
        If an answer lies outside the scale, or an item of a usable construct has a negative share.
    """
    answers = results.model.answers
    check_scale(answers, scale)
    low, high = scale_limits(answers.columns, scale)
    layout = results.model.layout
    shares, _ = item_shares(results.estimates.weights, results.moments.deviations, low, high, layout.starts[:-1])
    filled = answers.fillna(pd.Series(results.moments.means[0], index=answers.columns)).to_numpy()
    placed = 100 * (filled - low) / (high - low) * shares[0]
    columns = {}
    for j, name in enumerate(results.specification.constructs):
        if name not in set(usable):
            continue
        block = layout.block(j)
        if (shares[0, block] < 0).any():
            raise EstimationError(f"construct {name!r} has an item with a negative share: no score is made of it")
        answered = answers.iloc[:, block].notna().any(axis=1).to_numpy()
        # Rounding may carry a full score a hair beyond its limits.
        columns[snake(name)] = np.where(answered, np.clip(placed[:, block].sum(axis=1), 0, 100), np.nan)
    return pd.DataFrame(columns, index=answers.index)


def _level_function(results: PLSResults, scale: Scale):
    low, high = scale_limits(results.specification.items, scale)
    starts = results.model.layout.starts[:-1]

    def function(quantity: dict[str, Array]) -> Array:
        return levels(quantity["means"], quantity["weights"], quantity["deviations"], low, high, starts)

    return function


def _point(results: PLSResults) -> dict[str, Array]:
    return quantities(results.moments, results.estimates, results.model.layout)
