"""What satisfaction does to the spend of a purchase, beside what it does to how often and how long people buy.

Only who buys in the window shows what a purchase of theirs is worth then: whoever does not carries no information on it and is
left out. A respondent's mean spend a purchase in the window has, with x the logarithm of their mean spend before,

    log E[spend a purchase] = controls + b (x − θ f z) + θ z

Past purchases are themselves marked by the satisfaction that went before them, of which f z is expected, f being the mean of ρ^k
over past purchases that lie k periods before the window, as in :mod:`analysis.loyalty.link_model`. Without it, holding past spend
equal would take away part of the effect that is looked for.

The estimating equations are those of a gamma likelihood with a logarithmic link, right for the mean whatever the distribution
(McCullagh & Nelder 1989, Generalized Linear Models, 2nd ed., sections 8.3 and 9.2). A regression of logarithms is not: the
logarithm of a mean of few purchases is lower, so whoever buys more often would seem to spend more. In 150 simulated companies with
0.10 planted, it found 0.067 with past spend as a mere control, and 67 % of its intervals held 0.10; this model found 0.098, 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .link_model import clustered
from .moments import Array
from .path_model import EstimationError

_STEP = 0.01


@dataclass(frozen=True)
class SpendEffect:
    """The effect on the spend of a purchase.

    Attributes
    ----------
    value, error : log-change by a standard deviation of the score, θ, and its standard error, robust and by customer.
    influence : (n,) each buyer's share in the error of θ.
    """

    value: float
    error: float
    influence: Array


def fading(past: Array, first: Array, rho: float) -> Array:
    """Share of the satisfaction at the survey that is expected of the time of past purchases, by their mean: (n,).

    Parameters
    ----------
    past : (n, P) repeat purchases by period before the window, the nearest first. first : (n,) periods from the first purchase
        to the window. rho : persistence of satisfaction from a period to the next.
    """
    back = rho ** np.arange(1.0, past.shape[1] + 1)
    return (past @ back + rho ** np.ceil(first)) / (past.sum(axis=1) + 1)


def fit_spend(
    score: Array,
    spend: Array,
    past: Array,
    first: Array,
    before: Array,
    controls: Array,
    weight: Array,
    customer: Array,
    persistence: float,
    persistence_error: float = 0.0,
) -> SpendEffect:
    """θ and its error.

    Parameters
    ----------
    score : (n,) standardised. spend : (n,) mean spend of a purchase in the window. past, first : see :func:`fading`.
    before : (n,) logarithm of mean spend a purchase before. controls : (n, p). weight : (n,). customer : (n,) their number.

    Raises
    ------
    EstimationError
        If no estimate is found: too few buyers for the controls.
    """
    centred = before - np.average(before, weights=weight)
    design = np.column_stack([np.ones(len(score)), controls])

    def solved(rho: float) -> tuple[float, Array]:
        fade, b = score * fading(past, first, rho), np.zeros(design.shape[1] + 2)
        b[2] = np.log(np.average(spend, weights=weight))
        for _ in range(100):
            theta, own = b[:2]
            rest = spend / np.exp(own * (centred - theta * fade) + theta * score + design @ b[2:]) - 1
            slopes = np.column_stack([score - own * fade, centred - theta * fade, design])
            weighted = slopes * weight[:, None]
            try:
                inverse = np.linalg.inv(weighted.T @ slopes)
            except np.linalg.LinAlgError:
                break
            step = inverse @ (weighted.T @ rest)
            b = b + np.clip(step, -1, 1)
            if not np.isfinite(b).all():
                break
            if np.abs(step).max() < 1e-9 * (1 + np.abs(b).max()):
                return float(b[0]), weighted * rest[:, None] @ inverse[:, 0]
        raise EstimationError("the spend of a purchase has no estimate: more buyers, or fewer controls, are needed")

    value, influence = solved(persistence)
    low, high = np.clip([persistence - _STEP, persistence + _STEP], _STEP, 1.0)
    slope = (solved(high)[0] - solved(low)[0]) / (high - low)
    variance = clustered(influence[:, None], pd.factorize(customer)[0])[0, 0] + (persistence_error * slope) ** 2
    return SpendEffect(value, float(np.sqrt(variance)), influence)
