"""How strong an unseen cause would have to be to explain an effect away."""

from __future__ import annotations

import numpy as np
from scipy import stats


def partial_r2(t: float, dof: float) -> float:
    """Share of the outcome's remaining variance that the treatment explains.

    Source: Cinelli & Hazlett (2020), JRSS B 82:39: t² / (t² + dof).
    """
    return t**2 / (t**2 + dof)


def robustness_value(t: float, dof: float, q: float = 1.0, alpha: float | None = None) -> float:
    """Share of the remaining variance of both treatment and outcome that an unseen cause must explain to take 100·q %
    of the effect away (or, with ``alpha``, to make it insignificant at that level).

    Parameters
    ----------
    t, dof : t statistic and residual degrees of freedom of the treatment in a least-squares regression.
    q : share of the effect to take away. alpha : significance level, or None for the estimate itself.

    Source: Cinelli & Hazlett (2020), JRSS B 82:39, equations 17 and 18: RV = ½(√(f⁴ + 4f²) − f²).
    """
    if dof <= 1:
        raise ValueError(f"dof must exceed 1, got {dof}")
    f = q * abs(t) / np.sqrt(dof)
    if alpha is not None:
        # The critical value is that of a regression which has the unseen cause too.
        critical = stats.t.ppf(1 - alpha / 2, dof - 1) / np.sqrt(dof - 1)
        if f <= critical:
            return 0.0
        # Beyond this the cause that explains all of the outcome is the cheaper one.
        if f > 1 / critical:
            return float((f**2 - critical**2) / (1 + f**2))
        f -= critical
    return float(0.5 * (np.sqrt(f**4 + 4 * f**2) - f**2))


def e_value(risk_ratio: float) -> float:
    """Risk ratio that an unseen cause needs with both treatment and outcome to explain a risk ratio away.

    Source: VanderWeele & Ding (2017), Annals of Internal Medicine 167:268: RR + √(RR(RR − 1)), RR below 1 inverted.
    """
    if not risk_ratio > 0:
        raise ValueError(f"a risk ratio must be positive, got {risk_ratio}")
    ratio = risk_ratio if risk_ratio >= 1 else 1 / risk_ratio
    return float(ratio + np.sqrt(ratio * (ratio - 1)))


def e_value_limit(low: float, high: float) -> float:
    """E-value of the limit nearer to 1; 1 when the interval holds 1 (source as :func:`e_value`)."""
    if low <= 1 <= high:
        return 1.0
    return e_value(low if low > 1 else high)


def risk_ratio_of_difference(standardised: float) -> float:
    """Approximate risk ratio of a standardised mean difference, exp(0.91·d) (VanderWeele & Ding 2017, table 2)."""
    return float(np.exp(0.91 * standardised))
