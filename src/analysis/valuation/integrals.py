"""Two integrals that purchase models keep meeting, computed without subtraction and for any parameters.

Closed forms of expected purchases are differences of hypergeometric functions that lose every digit for heavy
buyers or near whole parameters. The same quantities are integrals of positive functions, taken here by
Gauss–Legendre panels over exactly the range that matters in double precision.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.valuation.purchases import Array, quadrature_rule

_NODES, _WEIGHTS = quadrature_rule(16)
_FEW, _FEW_WEIGHTS = quadrature_rule(20)
# what lies this many log units below the peak is worth nothing in double precision
_DROP = 40.0
# within e^−37 of an end the integrand is its limit there times a power, which is integrated exactly
_EDGE = 37.0


def discounted_time(decay: Array | float, rate: Array | float, far: Array | float) -> Array:
    """∫ exp(−decay·y − rate·(eʸ − 1)) dy from 0 to `far`, in the common shape of the three.

    It is the time, in units of `scale`, that a customer with a Pareto-distributed life stays, discounted: with
    y = log(1 + time/scale) and rate = discount × scale it equals ∫ (1 + τ)^−(decay+1) exp(−rate·τ) dτ.

    Parameters
    ----------
    decay : at least −1
    rate : at least 0
    far : above or equal to 0; infinite only where rate is above 0
    """
    decay, rate, far = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (decay, rate, far)))
    shape = decay.shape
    decay, rate, far = decay.ravel(), rate.ravel(), far.ravel()
    if ((rate == 0.0) & ~np.isfinite(far)).any():
        raise ValueError("discounted_time: an endless horizon needs a rate above 0")
    with np.errstate(divide="ignore"):
        end = np.minimum(far, np.log1p(60.0 / rate))
        end = np.minimum(end, np.where(decay > 0, _DROP / np.where(decay > 0, decay, 1.0), np.inf))
    plain = rate == 0.0
    small = np.abs(decay) * end < 1e-14
    exact = np.where(small, end, -np.expm1(-decay * end) / np.where(small, 1.0, decay))
    total = np.where(plain, exact, 0.0)
    # long ranges need more panels, and so do steep ones
    panels = np.ceil(end / 1.5 + (np.abs(decay) * end + rate * np.expm1(end)) / 12.0).astype(int)
    panels[plain] = 0
    for k in range(panels.max(initial=0)):
        on = np.flatnonzero(panels > k)
        width = end[on] / panels[on]
        y = (k + _NODES) * width[:, None]
        value = np.exp(-decay[on, None] * y - rate[on, None] * np.expm1(y))
        total[on] += width * (value @ _WEIGHTS)
    return total.reshape(shape)


def purchases_of_leavers(shape: Array, scale: Array, a: Array, b: Array, t: Array, discount: float = 0.0) -> Array:
    """Expected discounted purchases in the next `t` of a customer who may leave after each of them.

    They buy at rate λ ~ gamma(shape, scale), are one now, and leave after a purchase with p ~ beta(a, b): what
    BG/NBD and MBG/NBD say of anybody once their history has been put into the four numbers. A purchase comes
    τ from now at the rate E[λ exp(−λpτ)], which is a Gauss hypergeometric function by Euler's integral;
    integrating that rate avoids the subtraction in the closed form, which loses all digits near a = 1 and
    for many purchases.

    Parameters
    ----------
    shape, scale, a, b, t : array-like of one common shape (n,)
        `scale` and `t` in the same unit of time.
    discount : float
        Continuous rate per unit of time.

    Returns
    -------
    array of shape (n,)
    """
    shape, scale, a, b, t = (np.array(v) for v in np.broadcast_arrays(*map(np.asarray, (shape, scale, a, b, t))))
    shape, scale, a, b, t = (v.astype(float) for v in (shape, scale, a, b, t))
    far = np.log1p(t / scale)
    order = np.abs(a + b - shape - 1.0)
    # where scipy's 2F1 and a few nodes have been checked against the integral below to 1e−12
    easy = ((far <= 2.0) & (order <= 20.0) & (a <= 10.0)) | ((far <= 0.5) & (order <= 50.0) & (a <= 50.0))
    easy &= (np.maximum(shape, b) <= 2100.0) & (discount * t <= 10.0)
    result = np.zeros_like(far)
    if easy.any():
        result[easy] = _by_rate(shape[easy], scale[easy], a[easy], b[easy], far[easy], discount)
    hard = ~easy & (t > 0)
    if hard.any():
        result[hard] = _by_leaving(shape[hard], scale[hard], a[hard], b[hard], t[hard], discount)
    return result


def _by_rate(shape: Array, scale: Array, a: Array, b: Array, far: Array, discount: float) -> Array:
    u = far[:, None] * _FEW
    hyper = special.hyp2f1((a + b - shape - 1.0)[:, None], a[:, None], (a + b)[:, None], -np.expm1(-u))
    integrand = np.exp((1.0 - a)[:, None] * u - discount * scale[:, None] * np.expm1(u)) * hyper
    return shape * far * (integrand @ _FEW_WEIGHTS)


def _by_leaving(shape: Array, scale: Array, a: Array, b: Array, t: Array, discount: float) -> Array:
    """E over p of the purchases at a given p: a Pareto-distributed life of shape `shape` and scale scale/p."""
    span = t / scale
    rate = discount * scale

    def purchases(p: Array, on: NDArray[np.intp]) -> Array:
        c = shape[on, None]
        return c / p * discounted_time(c, rate[on, None] / p, np.log1p(p * span[on, None]))

    lasting = -np.expm1(-discount * t) / rate if discount > 0 else span
    reach = (shape + 1.0) * np.minimum(span, 60.0 / rate if discount > 0 else np.inf)
    return beta_mean(a, b, purchases, shape * lasting, reach)


def beta_mean(
    a: Array, b: Array, value: Callable[[Array, NDArray[np.intp]], Array], at_zero: Array, reach: Array
) -> Array:
    """E[value(p)] for p ~ beta(a, b), shape of a, for a positive function that does not rise with p.

    Parameters
    ----------
    a, b : arrays of shape (n,), above 0
    value : callable
        (p of shape (m, nodes), rows of shape (m,)) → values of shape (m, nodes).
    at_zero : array of shape (n,)
        value at p = 0, finite and above 0.
    reach : array of shape (n,)
        The largest relative slope of value: where p × reach is small, value is at_zero.

    Notes
    -----
    In w = log(p/(1−p)) both the density and the integrand are log-concave, fall exponentially, and have no
    singularity nearer than ±iπ. The density is integrated on the same nodes, so that its constant cancels.
    """
    rows = np.arange(len(a))
    mode = np.log(a) - np.log(b)
    peak = _log_density(a, b, mode)
    rise = np.log(at_zero) - np.log(value(special.expit(mode)[:, None], rows)[:, 0])
    edge = _EDGE + np.log(1.0 + reach + a + b)
    low = _cut(a, b, mode, peak, np.minimum(mode, -edge), _DROP + rise)
    high = _cut(a, b, mode, peak, np.maximum(mode, edge), np.full_like(rise, _DROP))
    panels = np.ceil((high - low) / np.minimum(3.0, 3.5 * np.sqrt(1.0 / a + 1.0 / b))).astype(int)
    left = np.exp(_log_density(a, b, low) - peak) / a
    right = np.exp(_log_density(a, b, high) - peak) / b
    above = left * at_zero + right * value(special.expit(high)[:, None], rows)[:, 0]
    below = left + right
    for k in range(panels.max(initial=0)):
        on = np.flatnonzero(panels > k)
        width = (high[on] - low[on]) / panels[on]
        w = low[on, None] + (k + _NODES) * width[:, None]
        density = np.exp(_log_density(a[on, None], b[on, None], w) - peak[on, None])
        above[on] += width * ((density * value(special.expit(w), on)) @ _WEIGHTS)
        below[on] += width * (density @ _WEIGHTS)
    return above / below


def _log_density(a: Array, b: Array, w: Array) -> Array:
    # a log p + b log(1 − p), with no subtraction on either side
    soft = np.log1p(np.exp(-np.abs(w)))
    return -a * (soft + np.maximum(-w, 0.0)) - b * (soft + np.maximum(w, 0.0))


def _cut(a: Array, b: Array, mode: Array, peak: Array, limit: Array, drop: Array) -> Array:
    """Where between mode and limit the density has fallen by `drop` log units; the limit if it has not."""
    inside, outside = mode.copy(), limit.copy()
    for _ in range(40):
        middle = 0.5 * (inside + outside)
        fallen = peak - _log_density(a, b, middle) >= drop
        outside = np.where(fallen, middle, outside)
        inside = np.where(fallen, inside, middle)
    return np.where(peak - _log_density(a, b, limit) >= drop, outside, limit)
