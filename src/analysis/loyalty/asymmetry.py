"""Which attributes only disappoint, which only delight: penalties of a bad answer and rewards of a good one.

The answers to each attribute fall into three groups: low, middle, high. Satisfaction is regressed on being in the low
and in the high group of every attribute at once; the coefficients are penalty and reward. As answers crowd at the
upper end, the low group lies further from the middle than the high one, so that an attribute with the same effect all
along the scale has the larger penalty. Asymmetry is therefore judged on penalty and reward per point of the attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats

from analysis.multiplicity import adjust_p_values

from .moments import Array
from .path_model import EstimationError, checked_weights, read_answers, respondents_of
from .scores import Scale, check_scale, scale_limits

BASIC, PERFORMANCE, EXCITEMENT, NOT_CLEAR = "basic", "performance", "excitement", "not clear"

CUTS = (45.0, 80.0)
"""A low score is at most the first, a high one at least the second: 1-5 and 9-10 of 1-10, 1-3 and 6-7 of 1-7, 1-2 and
5 of 1-5."""
MARGIN = 1 / 3
"""Asymmetry up to which the effect counts as even: neither side weighs more than twice the other."""
FEWEST = 30

_LIMITS = ("", "_low", "_high")
_NUMBERS = (
    *(name + end for name in ("penalty", "reward", "penalty_slope", "reward_slope", "asymmetry") for end in _LIMITS),
    "p",
)


def answer_scores(data: pd.DataFrame, items: Sequence[str], scale: Scale, missing_codes: Iterable = ()) -> pd.DataFrame:
    """The answers to single questions from 0 to 100, one column an item; missing answers are null.

    Raises EstimationError for an unknown item or an answer outside the scale.
    """
    answers = read_answers(data, items, missing_codes)
    check_scale(answers, scale)
    low, high = scale_limits(items, scale)
    return 100 * (answers - low) / (high - low)


def penalty_reward(
    attributes: pd.DataFrame,
    target: pd.Series,
    *,
    cuts: tuple[float, float] = CUTS,
    margin: float = MARGIN,
    fewest: int = FEWEST,
    labels: Mapping[str, str] | None = None,
    weights: pd.Series | None = None,
    customers: pd.Series | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Penalty and reward of every attribute, and what kind of factor it is.

    Parameters
    ----------
    attributes : (n, k) scores from 0 to 100 (questions or constructs); respondents with one missing or
        of weight zero are left out
    target : score from 0 to 100 of the same respondents, matched by index
    cuts : scores up to which an attribute counts as low, and from which as high
    margin : asymmetry below which an effect counts as even
    fewest : customers needed in each of the three groups of an attribute
    labels : names of attributes for readers
    weights : (n,) survey weights, or None
    customers : (n,) who answered (null: somebody seen once), or None where nobody answered twice

    Returns
    -------
    One row an attribute, in the order given:

    attribute, label
    low_customers, high_customers : in the low and in the high group
    penalty, penalty_low, penalty_high : points of the target of the low group less the middle one, the other
        attributes held; limits
    reward, reward_low, reward_high : the same of the high group
    penalty_slope, reward_slope : points of the target a point of the attribute, below and above the middle; both with
        limits, and positive where a better answer goes with more
    asymmetry, asymmetry_low, asymmetry_high : (reward_slope - penalty_slope) / (reward_slope + penalty_slope), -1 if
        all of the effect lies below the middle, 1 if all lies above; limits by Fieller's theorem
    p, p_holm : of no asymmetry; the second allows for the number of attributes
    kind : "performance" where the interval lies within the margin on both sides of 0; else "basic" where it lies below
        0, "excitement" where it lies above; "not clear" otherwise
    reason : why it is not clear, else empty

    All limits are robust to unequal variance and to customers who answered more than once. An attribute that too few
    rate low or high enters as a straight line, so that the others are still held apart from it.

    Raises
    ------
    EstimationError
        Too few respondents, a target that does not vary, attributes that determine each other, bad weights.

    Source: Brandt (1987), in Add Value to Your Service, Am. Marketing Assoc., 61-65; Mikulic & Prebezac (2008),
    Manag. Serv. Qual. 18(6), for the index of asymmetry, which they form from the coefficients themselves.
    """
    names = list(attributes.columns)
    mass = np.ones(len(attributes)) if weights is None else checked_weights(weights, len(attributes))
    outcome = target.reindex(attributes.index)
    keep = (attributes.notna().all(axis=1) & outcome.notna()).to_numpy() & (mass > 0)
    y, mass = outcome.to_numpy(float)[keep], mass[keep]
    groups = np.arange(keep.sum()) if customers is None else respondents_of(customers[keep])
    design = _design(attributes.to_numpy(float)[keep], mass, groups, cuts, fewest)
    persons = len(np.unique(groups))
    needed = design.columns.shape[1] + 2 + FEWEST
    if persons < needed:
        raise EstimationError(f"{persons} customers answered all of it: {len(names)} attributes need at least {needed}")
    if np.ptp(y) == 0:
        raise EstimationError("the target does not vary: there is nothing to explain")
    if np.linalg.matrix_rank(design.columns) < design.columns.shape[1]:
        raise EstimationError("the groups of the attributes determine each other: leave an attribute out")
    fit = sm.WLS(y, design.columns, weights=mass).fit(cov_type="cluster", cov_kwds={"groups": groups})
    quantile = stats.t.ppf((1 + confidence) / 2, persons - 1)
    rows = [
        {
            "attribute": name,
            "label": (labels or {}).get(name, name),
            "low_customers": design.counts[j, 0],
            "high_customers": design.counts[j, 2],
            **_judged(fit.params, fit.cov_params(), design, j, quantile, persons - 1, margin),
        }
        for j, name in enumerate(names)
    ]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(_NUMBERS, float))
    tested = frame["p"].notna()
    frame.insert(frame.columns.get_loc("p") + 1, "p_holm", np.nan)
    if tested.any():
        frame.loc[tested, "p_holm"] = adjust_p_values(frame.loc[tested, "p"])
    return frame


class _Design(NamedTuple):
    """Regressors of the penalty-reward regression."""

    columns: Array
    """(n, c), a constant first."""
    place: NDArray[np.int64]
    """(k,) column of an attribute's low group, its high group being the next; -1 where it enters as a line or not."""
    distance: Array
    """(k, 2) points from the mean of the low group to that of the middle one, and from there to that of the high one."""
    counts: NDArray[np.int64]
    """(k, 3) customers in the low, middle and high group."""
    reasons: list[str]
    """Why an attribute has no groups, else empty."""


def _design(scores: Array, mass: Array, groups: NDArray[np.int64], cuts: tuple[float, float], fewest: int) -> _Design:
    columns, place, distance, counts, reasons = [np.ones(len(scores))], [], [], [], []
    for values in scores.T:
        inside = [values <= cuts[0], (values > cuts[0]) & (values < cuts[1]), values >= cuts[1]]
        number = [len(np.unique(groups[part])) for part in inside]
        counts.append(number)
        short = int(np.argmin(number))
        if number[short] >= fewest:
            low, middle, high = (np.average(values[part], weights=mass[part]) for part in inside)
            place.append(len(columns))
            distance.append([middle - low, high - middle])
            columns += [inside[0].astype(float), inside[2].astype(float)]
            reasons.append("")
        else:
            place.append(-1)
            distance.append([np.nan, np.nan])
            columns += [values] if len(values) and np.ptp(values) > 0 else []
            reasons.append(f"only {number[short]} customers rate it {('low', 'in the middle', 'high')[short]}")
    return _Design(np.column_stack(columns), np.array(place), np.array(distance), np.array(counts), reasons)


def _judged(
    params: Array, covariance: Array, design: _Design, j: int, quantile: float, freedom: int, margin: float
) -> dict[str, object]:
    """Numbers and kind of attribute j."""
    at = design.place[j]
    if at < 0:
        return dict.fromkeys(_NUMBERS, np.nan) | {"kind": NOT_CLEAR, "reason": design.reasons[j]}
    penalty, reward = params[at : at + 2]
    block = covariance[at : at + 2, at : at + 2]
    half = quantile * np.sqrt(np.diag(block))
    slopes = np.diag([-1.0, 1.0] / design.distance[j])
    below, above = slopes @ params[at : at + 2]
    half_below, half_above = half / design.distance[j]
    contrast = np.array([[-1.0, 1.0], [1.0, 1.0]]) @ slopes
    difference, total = contrast @ params[at : at + 2]
    spread = contrast @ block @ contrast.T
    low, high = _fieller(difference, total, spread, quantile)
    clear = np.isfinite(low) and total > 0
    index = difference / total if clear else np.nan
    kind, reason = _kind(low, high, margin) if clear else (NOT_CLEAR, "its effect is not clear of zero")
    return {
        "penalty": penalty,
        "penalty_low": penalty - half[0],
        "penalty_high": penalty + half[0],
        "reward": reward,
        "reward_low": reward - half[1],
        "reward_high": reward + half[1],
        "penalty_slope": below,
        "penalty_slope_low": below - half_below,
        "penalty_slope_high": below + half_below,
        "reward_slope": above,
        "reward_slope_low": above - half_above,
        "reward_slope_high": above + half_above,
        "asymmetry": index,
        "asymmetry_low": low if clear else np.nan,
        "asymmetry_high": high if clear else np.nan,
        "p": 2 * stats.t.sf(abs(difference) / np.sqrt(spread[0, 0]), freedom),
        "kind": kind,
        "reason": reason,
    }


def _kind(low: float, high: float, margin: float) -> tuple[str, str]:
    if -margin <= low and high <= margin:
        return PERFORMANCE, ""
    if high < 0:
        return BASIC, ""
    if low > 0:
        return EXCITEMENT, ""
    return NOT_CLEAR, "the interval of its asymmetry holds both signs and is too wide to call it even"


def _fieller(top: float, bottom: float, covariance: Array, quantile: float) -> tuple[float, float]:
    """Limits of top / bottom; NaN where the bottom is not clear of zero.

    Source: Fieller (1954), J. R. Stat. Soc. B 16(2), 175-185.
    """
    q = quantile**2
    a = bottom**2 - q * covariance[1, 1]
    b = top * bottom - q * covariance[0, 1]
    c = top**2 - q * covariance[0, 0]
    if a <= 0:
        return np.nan, np.nan
    root = np.sqrt(max(b**2 - a * c, 0.0))
    return (b - root) / a, (b + root) / a


def asymmetry_facts(table: pd.DataFrame, confidence: float = 0.95) -> dict:
    """What sentences need of the table of :func:`penalty_reward`.

    Returns
    -------
    attributes (how many), judged (how many had enough answers on both sides), basic, performance, excitement, unclear
    (lists of labels), firm (labels of basic and excitement that stay clear after allowing for the number of
    attributes), chance (how many asymmetries would be taken for clear if there were none), strongest (record of the
    largest clear asymmetry: label, kind, value, low, high; None without one).
    """
    named = {kind: list(table.loc[table["kind"] == kind, "label"]) for kind in (BASIC, PERFORMANCE, EXCITEMENT)}
    uneven = table[table["kind"].isin([BASIC, EXCITEMENT])]
    judged = int(table["p"].notna().sum())
    strongest = None
    if len(uneven):
        row = uneven.loc[uneven["asymmetry"].abs().idxmax()]
        strongest = {"label": row["label"], "kind": row["kind"], "value": float(row["asymmetry"])}
        strongest |= {"low": float(row["asymmetry_low"]), "high": float(row["asymmetry_high"])}
    return {
        "attributes": len(table),
        "judged": judged,
        **named,
        "unclear": list(table.loc[table["kind"] == NOT_CLEAR, "label"]),
        "firm": list(uneven.loc[uneven["p_holm"] < 1 - confidence, "label"]),
        "chance": judged * (1 - confidence),
        "strongest": strongest,
    }
