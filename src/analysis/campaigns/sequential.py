"""Intervals that stay valid however often one looks, for those who peek before a campaign is over."""

from __future__ import annotations

from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.campaigns.effects import DifferenceInMeans


def confidence_sequence(
    effects: ArrayLike,
    standard_errors: ArrayLike,
    information: ArrayLike,
    planned: float | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Always-valid intervals and p values at each look, beside the usual ones that peeking breaks.

    Parameters
    ----------
    effects, standard_errors : shape (L,), the estimate at each look. information : shape (L,), growing with the
    variance of the running total: customers so far when customers arrive one after another, (customers × standard
    error)² when the same customers are followed through time.
    planned : information expected at the end, where the intervals shall be tightest; fix it before the first look.
    None takes the last look's, right once the campaign is over.

    Returns
    -------
    One row a look: look, information, effect, low, high, p_value (smallest so far: a finding once made stays), fixed_low,
    fixed_high, fixed_p_value (as if this were the only look).

    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Annals of Statistics 52:2613, theorem 2.2;
    the p value is the mixture sequential probability ratio test of Robbins (1970) and Johari et al. (2022),
    Operations Research 70:1806.
    """
    estimate, se, grown = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (effects, standard_errors, information))
    if not (estimate.shape == se.shape == grown.shape) or estimate.ndim != 1:
        raise ValueError("effects, standard_errors and information need one value a look")
    if not 0 < confidence < 1 or (se < 0).any() or (grown <= 0).any() or (np.diff(grown) < 0).any():
        raise ValueError("standard errors must not be negative, information positive and growing, confidence below 1")
    mixed = _tuned(1 - confidence) * grown / (grown[-1] if planned is None else planned)
    reach = np.sqrt((1 + 1 / mixed) * (np.log1p(mixed) - 2 * np.log(1 - confidence)))
    usual = float(stats.norm.ppf(0.5 + confidence / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(se > 0, np.abs(estimate) / se, np.where(estimate == 0, 0.0, np.inf))
    log_p = 0.5 * np.log1p(mixed) - 0.5 * z**2 * mixed / (1 + mixed)
    return pd.DataFrame(
        {
            "look": np.arange(1, len(se) + 1),
            "information": grown,
            "effect": estimate,
            "low": estimate - reach * se,
            "high": estimate + reach * se,
            "p_value": np.minimum.accumulate(np.exp(np.minimum(0.0, log_p))),
            "fixed_low": estimate - usual * se,
            "fixed_high": estimate + usual * se,
            "fixed_p_value": 2 * stats.norm.sf(z),
        }
    )


def _tuned(alpha: float) -> float:
    """ρ²t that makes the interval nearly its tightest at t (Waudby-Smith et al. 2024)."""
    return -2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))


def sequential_looks(
    outcomes: ArrayLike, treated: ArrayLike, planned_looks: int | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """The effect as somebody who looked again and again would have seen it.

    Parameters
    ----------
    outcomes : shape (n, L), each customer's outcome up to each look; missing before the customer is in the campaign.
    treated : shape (n,), 0 or 1. planned_looks : equally spaced looks that were planned; None: those in ``outcomes``.

    Returns
    -------
    As :func:`confidence_sequence`, with ``n_treated`` and ``n_control``. Valid where a customer's later outcomes do not
    fall because earlier ones were high (customers arriving one after another, or cumulated sales of customers who differ).
    """
    y, d = np.asarray(outcomes, dtype=float), np.asarray(treated)
    y = y[:, None] if y.ndim == 1 else y
    found = []
    for column in y.T:
        seen = np.isfinite(column)
        found.append(DifferenceInMeans(column[seen], d[seen]).fit())
    # Variance of the running total; cannot shrink, so that a lucky look does not turn back the clock.
    grown = np.maximum.accumulate([((r.n_treated + r.n_control) * r.se) ** 2 for r in found])
    if grown[0] == 0:
        raise ValueError("the outcome does not vary at the first look; begin to look later")
    planned = None if planned_looks is None else float(grown[0] * planned_looks)
    table = confidence_sequence([r.effect for r in found], [r.se for r in found], grown, planned, confidence)
    return table.assign(n_treated=[r.n_treated for r in found], n_control=[r.n_control for r in found])


def sales_by_look(
    lines: ibis.Table, customers: ArrayLike, starts_on: date, outcome_to: date, days: int = 7
) -> NDArray[np.float64]:
    """Each customer's sales from a campaign's start up to each look, for :func:`sequential_looks`.

    Parameters
    ----------
    lines : the canonical ``order_lines``. customers : shape (n,), ids without repetition. starts_on, outcome_to : first
    day, and the day after the last. days : between two looks; the last look is at the end.

    Returns
    -------
    shape (n, L), money; zero for who bought nothing.
    """
    if days < 1 or outcome_to <= starts_on:
        raise ValueError("days must be at least 1 and outcome_to after starts_on")
    length = (outcome_to - starts_on).days
    ends = [min(length, k * days) for k in range(1, -(-length // days) + 1)]
    inside = lines.filter((lines.order_date >= starts_on) & (lines.order_date < outcome_to))
    until = {f"look_{e}": inside.order_date < starts_on + timedelta(days=e) for e in ends}
    sums = {name: inside.net_amount.sum(where=where).cast("float64") for name, where in until.items()}
    bought = inside.group_by("customer_id").aggregate(**sums).to_pandas().set_index("customer_id")
    return bought.reindex(np.asarray(customers)).fillna(0.0).to_numpy(float)
