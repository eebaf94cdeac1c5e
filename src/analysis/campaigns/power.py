"""How many customers the next randomised test needs."""

from __future__ import annotations

import numpy as np
from scipy import stats


def _quantiles(power: float, alpha: float) -> tuple[float, float]:
    if not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError(f"power and alpha must lie between 0 and 1, got {power} and {alpha}")
    return float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))


def sample_size_proportions(
    first: float, second: float, power: float = 0.8, alpha: float = 0.05, method: str = "arcsine"
) -> float:
    """Customers in each of two equal arms to tell two rates apart, two-sided.

    Parameters
    ----------
    first, second : rates between 0 and 1. method : ``arcsine`` (Cohen 1988, chapter 6), ``pooled`` or ``unpooled``
    variance under no effect (Fleiss, Levin & Paik 2003, chapter 4, without continuity correction).
    """
    if not (0 < first < 1 and 0 < second < 1) or first == second:
        raise ValueError(f"the two rates must differ and lie between 0 and 1, got {first} and {second}")
    z_alpha, z_beta = _quantiles(power, alpha)
    if method == "arcsine":
        distance = 2 * np.arcsin(np.sqrt(first)) - 2 * np.arcsin(np.sqrt(second))
        return float(2 * ((z_alpha + z_beta) / distance) ** 2)
    variance = first * (1 - first) + second * (1 - second)
    gap = (first - second) ** 2
    if method == "unpooled":
        return float((z_alpha + z_beta) ** 2 * variance / gap)
    if method == "pooled":
        middle = (first + second) / 2
        return float((z_alpha * np.sqrt(2 * middle * (1 - middle)) + z_beta * np.sqrt(variance)) ** 2 / gap)
    raise ValueError(f"method must be arcsine, pooled or unpooled, not {method}")


def sample_size_means(
    effect: float, sd: float, power: float = 0.8, alpha: float = 0.05, share_treated: float = 0.5
) -> float:
    """Customers in all (both arms) to find a difference of means, two-sided, normal approximation.

    Parameters
    ----------
    effect : smallest effect worth finding, in the outcome's unit. sd : standard deviation of the outcome (after CUPED,
    of what is left of it). share_treated : share of the customers who get the campaign.
    """
    if effect == 0 or sd <= 0 or not 0 < share_treated < 1:
        raise ValueError("effect must not be zero, sd positive, share_treated between 0 and 1")
    z_alpha, z_beta = _quantiles(power, alpha)
    return float((z_alpha + z_beta) ** 2 * sd**2 / (effect**2 * share_treated * (1 - share_treated)))


def detectable_effect(
    customers: float, sd: float, power: float = 0.8, alpha: float = 0.05, share_treated: float = 0.5
) -> float:
    """Smallest difference of means that so many customers in all would find: :func:`sample_size_means` inverted."""
    if customers <= 0 or sd < 0 or not 0 < share_treated < 1:
        raise ValueError("customers must be positive, sd not negative, share_treated between 0 and 1")
    z_alpha, z_beta = _quantiles(power, alpha)
    return float((z_alpha + z_beta) * sd / np.sqrt(customers * share_treated * (1 - share_treated)))


def power_of_difference(
    effect: float, customers: float, sd: float, alpha: float = 0.05, share_treated: float = 0.5
) -> float:
    """Chance that so many customers in all find a difference of means, two-sided, normal approximation.

    Parameters as :func:`detectable_effect`; a standard deviation of zero finds every effect but zero.
    """
    if customers <= 0 or sd < 0 or not 0 < share_treated < 1:
        raise ValueError("customers must be positive, sd not negative, share_treated between 0 and 1")
    z_alpha, _ = _quantiles(0.5, alpha)
    if sd == 0:
        return 1.0 if effect else float(alpha)
    shift = abs(effect) * np.sqrt(customers * share_treated * (1 - share_treated)) / sd
    return float(stats.norm.cdf(shift - z_alpha) + stats.norm.cdf(-shift - z_alpha))


def holdout_size(customers: float, effect: float, sd: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Smallest number of customers to leave alone so that the others' effect is found.

    Parameters
    ----------
    customers : who may be contacted, in all. effect : smallest effect worth finding, in the outcome's unit.
    sd : standard deviation of the outcome (after CUPED, of what is left of it).

    Returns
    -------
    Customers in the holdout, at most half; None when even two halves would not find the effect.
    """
    if customers <= 0:
        raise ValueError(f"customers must be positive, got {customers}")
    needed = sample_size_means(effect, sd, power, alpha) / 4
    if needed > customers / 4:
        return None
    # share · (1 − share) · customers must reach what is needed
    return float(customers * (1 - np.sqrt(1 - 4 * needed / customers)) / 2)
