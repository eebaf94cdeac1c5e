"""Confidence intervals from bootstrap draws."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.stats import norm

from .moments import Array

IntervalMethod = Literal["percentile", "bca"]


def percentile_interval(draws: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """Equal-tailed percentiles of draws (B, ...), over the finite ones: two arrays of the trailing shape."""
    tail = (1 - confidence) / 2
    flat = draws.reshape(len(draws), -1)
    low, high = _quantiles(flat, np.full(flat.shape[1], tail), np.full(flat.shape[1], 1 - tail))
    return low.reshape(draws.shape[1:]), high.reshape(draws.shape[1:])


def bca_interval(estimate: Array, draws: Array, jackknife: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """Bias-corrected and accelerated interval.

    Parameters
    ----------
    estimate : (...), of the sample
    draws : (B, ...), of the resamples
    jackknife : (n, ...), of the samples that leave out one respondent each

    Source: Efron (1987), J. Amer. Statist. Assoc. 82, equations 2.3 and 6.6.
    """
    shape = np.shape(estimate)
    point = np.asarray(estimate, dtype=float).reshape(-1)
    flat = draws.reshape(len(draws), -1)
    left_out = jackknife.reshape(len(jackknife), -1)
    below = (flat < point).mean(axis=0) + 0.5 * (flat == point).mean(axis=0)
    half = 0.5 / max(len(flat), 1)
    bias = norm.ppf(np.clip(below, half, 1 - half))
    deviation = left_out.mean(axis=0) - left_out
    scale = (deviation**2).sum(axis=0) ** 1.5
    acceleration = np.where(scale > 0, (deviation**3).sum(axis=0) / (6 * np.where(scale > 0, scale, 1)), 0.0)
    tail = norm.ppf((1 - confidence) / 2)
    levels = []
    for z in (tail, -tail):
        moved = bias + z
        levels.append(norm.cdf(bias + moved / (1 - acceleration * moved)))
    low, high = _quantiles(flat, levels[0], levels[1])
    return low.reshape(shape), high.reshape(shape)


def _quantiles(flat: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Linear-interpolation quantiles, one pair of levels a column; NaN where a column has no draw."""
    ordered = np.sort(flat, axis=0)
    finite = np.isfinite(ordered).sum(axis=0)
    results = []
    for level in (low, high):
        position = np.clip(level, 0, 1) * np.maximum(finite - 1, 0)
        floor = np.floor(np.nan_to_num(position)).astype(int)
        ceiling = np.minimum(floor + 1, np.maximum(finite - 1, 0))
        columns = np.arange(flat.shape[1])
        below, above = ordered[floor, columns], ordered[ceiling, columns]
        results.append(np.where(finite > 0, below + (position - floor) * (above - below), np.nan))
    return results[0], results[1]
