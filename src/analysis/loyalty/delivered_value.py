"""What a customer gets and what it costs them: customer delivered value and its parts.

Total value (product, service, personnel, image) less total cost (money, time, energy, psychic), each 0-100 on the
declared answer scale. Source: Kotler (1994), Marketing Management, 8th ed., ch. 2, figure 2-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from .moments import Array, Moments, Resamples
from .path_model import EstimationError, checked_weights, read_answers, respondents_of
from .resampling import percentile_interval
from .scores import Scale, check_scale, scale_limits
from .survey_means import ALL, TOO_FEW, groups_shown, survey_means

VALUE_PARTS = ("product", "service", "personnel", "image")
COST_PARTS = ("money", "time", "energy", "psychic")
SIDES = {"value": VALUE_PARTS, "cost": COST_PARTS}
TOTALS = ("total_value", "total_cost", "difference", "delivered_value")


def delivered_parts(
    data: pd.DataFrame,
    values: Mapping[str, str],
    costs: Mapping[str, str],
    scale: Scale,
    missing_codes: Iterable = (),
) -> pd.DataFrame:
    """Every respondent's 0-100 answer on each part that was asked, columns named by part, values before costs.

    Parameters
    ----------
    values, costs : item by part, of `VALUE_PARTS` and `COST_PARTS`; a high answer is much value, or a high cost

    Raises
    ------
    EstimationError
        For an unknown part, a side that is not asked at all, or an answer outside the scale.
    """
    asked: dict[str, str] = {}
    for side, given in (("value", values), ("cost", costs)):
        unknown = [part for part in given if part not in SIDES[side]]
        if unknown:
            raise EstimationError(f"{unknown[0]!r} is no part of customer {side}: use {', '.join(SIDES[side])}")
        if not given:
            raise EstimationError(f"the survey asks for no part of customer {side}: delivered value needs both sides")
        asked |= {part: given[part] for part in SIDES[side] if part in given}
    answers = read_answers(data, list(asked.values()), missing_codes)
    check_scale(answers, scale)
    low, high = scale_limits(list(answers.columns), scale)
    placed = 100 * (answers - low) / (high - low)
    return placed.set_axis(list(asked), axis=1)


def delivered_totals(parts: pd.DataFrame, part_weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Total value, total cost, their difference and the index of every respondent.

    Parameters
    ----------
    parts : from :func:`delivered_parts`
    part_weights : weight of each part within its side; equal ones by default

    Returns
    -------
    Columns `TOTALS`: total_value and total_cost (0-100), difference (-100 to 100), and delivered_value, the
    difference carried to 0-100, so that 50 means that value and cost balance. A side is the weighted mean of the
    parts answered, null where fewer than half of those asked are (the half-scale rule: Ware & Sherbourne 1992,
    Med. Care 30); an index needs both sides.
    """
    sides = []
    for names in SIDES.values():
        own = parts[[part for part in names if part in parts.columns]]
        weight = np.array([1.0 if part_weights is None else part_weights[part] for part in own.columns])
        answered = own.notna().to_numpy()
        mass = (answered * weight).sum(axis=1)
        enough = (2 * answered.sum(axis=1) >= own.shape[1]) & (mass > 0)
        total = (own.fillna(0.0).to_numpy() * weight).sum(axis=1) / np.where(mass > 0, mass, 1.0)
        sides.append(np.where(enough, total, np.nan))
    difference = sides[0] - sides[1]
    frame = dict(zip(TOTALS, (*sides, difference, (difference + 100) / 2), strict=True))
    return pd.DataFrame(frame, index=parts.index)


def delivered_value(parts: pd.DataFrame, part_weights: Mapping[str, float] | None = None) -> pd.Series:
    """The index of every respondent, 0-100, the last column of :func:`delivered_totals`."""
    return delivered_totals(parts, part_weights)["delivered_value"]


def delivered_levels(
    parts: pd.DataFrame,
    *,
    part_weights: Mapping[str, float] | None = None,
    weights: pd.Series | None = None,
    customers: pd.Series | None = None,
    by: pd.Series | None = None,
    confidence: float = 0.95,
    small_group: int = 10,
) -> pd.DataFrame:
    """Mean of every part, of both sides, of their difference and of the index, of all and by group, with limits.

    Limits are Student's from variances that honour weights and customers who answered twice; part weights count as
    given.

    Returns
    -------
    One row a group ("all" first) and measure (the parts, then `TOTALS`): group, measure, side ("value", "cost", "both"),
    customers, mean, low, high, reason. Groups of fewer than `small_group` customers have no numbers.
    """
    answers = parts.join(delivered_totals(parts, part_weights))
    told = answers["delivered_value"].notna()
    everybody = pd.Series(ALL, index=parts.index)
    sides = {part: side for side, names in SIDES.items() for part in names}
    sides |= {"total_value": "value", "total_cost": "cost"}
    rows = []
    for label in (everybody,) if by is None else (everybody, by):
        who = None if customers is None else customers[told]
        shown, hidden = groups_shown(label[told], who, small_group)
        rows += [{"group": name, "reason": TOO_FEW} for name in hidden]
        for name in shown:
            found = survey_means(answers.where(label == name), weights, customers)
            for k, measure in enumerate(answers.columns):
                mean, low, high = found.interval(k, confidence)
                row = {"group": name, "measure": measure, "side": sides.get(measure, "both")}
                row |= {"customers": int(found.customers[k]), "mean": mean, "low": low, "high": high}
                rows.append(row | {"reason": "" if np.isfinite(low) else TOO_FEW})
    columns = ["group", "measure", "side", "customers", "mean", "low", "high", "reason"]
    return pd.DataFrame(rows or [{"group": ALL, "reason": "nobody answered enough of the parts"}], columns=columns)


def derived_weights(
    parts: pd.DataFrame,
    satisfaction: pd.Series,
    *,
    weights: pd.Series | None = None,
    customers: pd.Series | None = None,
    draws: int = 1000,
    seed: int = 1,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Weights of the parts as satisfaction shows them, beside the equal ones that are stated.

    Non-negative least squares of satisfaction on all parts together, costs with their sign turned, missing answers
    at their mean; limits from resampled customers. A part that satisfaction does not follow gets 0, where the limits
    are only rough (the bootstrap is not exact on a boundary).

    Parameters
    ----------
    satisfaction : 0-100, aligned with `parts`

    Returns
    -------
    One row a part: part, side, stated (1 over the parts of the side), derived (adds up to one on each side; null if
    no part of the side counts) with low and high, points (of satisfaction that go with one point of the part) with
    points_low and points_high.

    Raises
    ------
    EstimationError
        If fewer than 10 customers per part answered, or nothing varies.

    Source: Lawson & Hanson (1974), Solving Least Squares Problems, ch. 23.
    """
    signs = np.array([1.0 if part in VALUE_PARTS else -1.0 for part in parts.columns])
    used = satisfaction.notna() & parts.notna().any(axis=1)
    given = checked_weights(weights, len(parts))
    who = np.arange(int(used.sum())) if customers is None else respondents_of(customers[used])
    people = int(who.max(initial=-1)) + 1
    if people < 10 * parts.shape[1]:
        raise EstimationError(
            f"{people} customers for {parts.shape[1]} parts: derived weights need ten customers a part"
        )
    table = (parts * signs).assign(satisfaction=satisfaction)[used].to_numpy(float)
    moments = Moments(table, None if given is None else given[used.to_numpy()], who)
    point = _fitted(moments, np.ones((1, people)))[0]
    if not point.any():
        raise EstimationError("satisfaction follows none of the parts: derived weights cannot be formed")
    resamples = Resamples(people, draws, np.random.default_rng(seed))
    drawn = np.concatenate([_fitted(moments, counts) for counts in resamples.counts()])
    side = np.where(signs > 0, "value", "cost")
    shares, share_draws = _within_side(point[None, :], side)[0], _within_side(drawn, side)
    low, high = percentile_interval(share_draws, confidence)
    points_low, points_high = percentile_interval(drawn, confidence)
    sizes = {name: int((side == name).sum()) for name in SIDES}
    frame = {"part": list(parts.columns), "side": side, "stated": [1 / sizes[name] for name in side]}
    frame |= {"derived": shares, "low": low, "high": high}
    return pd.DataFrame(frame | {"points": point * signs, **_turned(points_low, points_high, signs)})


def _turned(low: Array, high: Array, signs: Array) -> dict[str, Array]:
    return {"points_low": np.where(signs > 0, low, -high), "points_high": np.where(signs > 0, high, -low)}


def _fitted(moments: Moments, counts: Array) -> Array:
    """Non-negative slopes of the last column on the others in each resample; NaN where something is constant."""
    batch = moments.batch(counts)
    scale = batch.deviations
    slopes = np.full((len(counts), scale.shape[1] - 1), np.nan)
    ridge = 1e-9 * np.eye(scale.shape[1] - 1)  # parts that are copies of each other share their slope
    for b in np.flatnonzero(~batch.constant.any(axis=1)):
        inner, outer = batch.correlations[b, :-1, :-1], batch.correlations[b, :-1, -1]
        root = np.linalg.cholesky(inner + ridge)
        slopes[b] = nnls(root.T, np.linalg.solve(root, outer))[0] * scale[b, -1] / scale[b, :-1]
    return slopes


def _within_side(slopes: Array, side: Array) -> Array:
    shares = np.full_like(slopes, np.nan)
    for name in SIDES:
        own = slopes[:, side == name]
        total = own.sum(axis=1, keepdims=True)
        shares[:, side == name] = np.divide(own, total, out=np.full_like(own, np.nan), where=total > 0)
    return shares
