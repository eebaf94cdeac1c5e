"""Scores from 0 to 100: a construct's level, a customer's loyalty index, promoters, delivered value.

A score is the weighted mean of a block's items, each first carried from its answer scale to 0..100:

    score = 100 * sum_i w_i (x_i - low_i) / (high_i - low_i) / sum_i w_i

with w_i the weight of the item in its own units, as in the American and European indices (Fornell et al. 1996,
J. Marketing 60, p. 17).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .moments import Array
from .path_model import BootstrapResults, EstimationError, PLSResults, quantities, read_answers

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


@dataclass(frozen=True)
class IndexPart:
    """A part of the loyalty index: what it stands for, the constructs that can carry it, its weight."""

    part: str
    constructs: tuple[str, ...]
    weight: float


LOYALTY_PARTS: tuple[IndexPart, ...] = (
    IndexPart("trust", ("Trust", "Image"), 0.2),
    IndexPart("frequency", ("Frequency",), 0.2),
    IndexPart("service", ("Service", "Quality"), 0.2),
    IndexPart("satisfaction", ("Satisfaction",), 0.2),
    IndexPart("intention", ("Intention", "Loyalty"), 0.2),
)
"""Loyalty as a composite of trust, frequency of dealings, service, satisfaction and the likelihood of staying.
Equal weights: the sources name the parts and give none."""


def index_composition(
    declared: Iterable[str], usable: Iterable[str], parts: Sequence[IndexPart] = LOYALTY_PARTS
) -> pd.DataFrame:
    """Which constructs carry the index, and how the weight of missing parts is shared among the others.

    Parameters
    ----------
    declared, usable : constructs of the survey, and those whose measurement passes

    Returns
    -------
    One row a part: part, construct (null if none), status ("used", "failed", "not asked"), declared_weight,
    weight (adds up to one over the parts used, in proportion to the declared weights).
    """
    declared, usable = set(declared), set(usable)
    rows = []
    for part in parts:
        asked = [name for name in part.constructs if name in declared]
        carrying = [name for name in asked if name in usable]
        rows.append(
            {
                "part": part.part,
                "construct": (carrying or asked or [None])[0],
                "status": "used" if carrying else "failed" if asked else "not asked",
                "declared_weight": part.weight,
            }
        )
    frame = pd.DataFrame(rows)
    weight = frame["declared_weight"].where(frame["status"] == "used", 0.0)
    total = weight.sum()
    return frame.assign(weight=weight / total if total > 0 else np.nan)


def loyalty_index(scores: pd.DataFrame, composition: pd.DataFrame) -> pd.Series:
    """Every respondent's index: weighted mean of the scores used; null where one of them is, or none is used."""
    used = composition[composition["status"] == "used"]
    if used.empty:
        return pd.Series(np.nan, index=scores.index, name="loyalty_index")
    columns = [snake(name) for name in used["construct"]]
    values = scores[columns].to_numpy() @ used["weight"].to_numpy()
    return pd.Series(np.clip(values, 0, 100), index=scores.index, name="loyalty_index")


def index_level(
    results: PLSResults,
    bootstrap: BootstrapResults,
    scale: Scale,
    composition: pd.DataFrame,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Mean loyalty index with limits (the parts' weights are given, those of the items are estimated)."""
    used = composition[composition["status"] == "used"]
    if used.empty:
        return float("nan"), float("nan"), float("nan")
    names = list(results.specification.constructs)
    columns = [names.index(name) for name in used["construct"]]
    level = _level_function(results, scale)

    def function(quantity: dict[str, Array]) -> Array:
        return level(quantity)[:, columns] @ used["weight"].to_numpy()

    low, high = bootstrap.interval_of(function, confidence)
    return float(function(_point(results))[0]), float(low), float(high)


def nps_groups(answers: pd.Series, missing_codes: Iterable = ()) -> pd.Series:
    """Promoter (9, 10), passive (7, 8) or detractor (0 to 6) by the answer to "would you recommend us?".

    Raises EstimationError for answers outside 0 to 10: the question is only itself on that scale.
    Source: Reichheld (2003), Harv. Bus. Rev. 81(12).
    """
    values = read_answers(answers.to_frame("nps"), ["nps"], missing_codes)["nps"]
    check_scale(values.to_frame(), (0, 10))
    groups = pd.cut(values, [-1, 6, 8, 10], labels=["detractor", "passive", "promoter"])
    return pd.Series(groups.astype("str").where(values.notna()), index=answers.index, name="nps_group")


VALUE_PARTS = ("product_value", "service_value", "personnel_value", "image_value")
COST_PARTS = ("money_cost", "time_cost", "energy_cost", "psychic_cost")


def delivered_value(
    data: pd.DataFrame, blocks: Mapping[str, Sequence[str]], scale: Scale, missing_codes: Iterable = ()
) -> pd.Series | None:
    """Customer delivered value, 0-100, or None if the survey does not ask for both its sides.

    Total value (product, service, personnel, image) less total cost (money, time, energy, psychic), each the
    plain mean of the parts that were asked, 0-100; the difference is carried from -100..100 to 0..100, so 50
    means that value and cost balance. Blocks are named as `VALUE_PARTS` and `COST_PARTS`; a high answer to a
    cost item means a high cost. Source: Kotler (1994), Marketing Management, 8th ed., ch. 2.
    """
    by_name = {snake(name): tuple(items) for name, items in blocks.items()}
    sides = []
    for parts in (VALUE_PARTS, COST_PARTS):
        present = [by_name[part] for part in parts if part in by_name]
        if not present:
            return None
        means = []
        for items in present:
            answers = read_answers(data, items, missing_codes)
            check_scale(answers, scale)
            low, high = scale_limits(items, scale)
            means.append((100 * (answers - low) / (high - low)).mean(axis=1))
        sides.append(pd.concat(means, axis=1).mean(axis=1, skipna=False))
    return ((sides[0] - sides[1] + 100) / 2).rename("delivered_value")


def customer_loyalty(
    data: pd.DataFrame,
    results: PLSResults,
    scale: Scale,
    usable: Iterable[str],
    composition: pd.DataFrame,
    *,
    blocks: Mapping[str, Sequence[str]] | None = None,
    missing_codes: Iterable = (),
) -> pd.DataFrame:
    """The table `customer_loyalty`: one row a respondent of `data`.

    Columns: response_id, customer_id, a 0-100 score for every construct of the model in snake_case (null
    throughout for a construct whose measurement failed), loyalty_index; nps_group only if `blocks` has a block
    "NPS" of one item from 0 to 10; delivered_value only if `blocks` names its parts (`VALUE_PARTS`,
    `COST_PARTS`). Respondents whom the model left out have null scores.

    Parameters
    ----------
    data : survey_responses, with response_id
    usable : constructs whose measurement passes
    composition : from `index_composition`
    """
    blocks = blocks or {}
    usable = list(usable)
    scores = construct_scores(results, scale, usable).reindex(data.index)
    frame = pd.DataFrame({"response_id": data["response_id"].astype("str")}, index=data.index)
    customers = data["customer_id"] if "customer_id" in data.columns else pd.Series(None, index=data.index, dtype="str")
    frame["customer_id"] = customers.astype("str").where(customers.notna())
    for name in results.specification.constructs:
        column = snake(name)
        frame[column] = scores[column] if column in scores.columns else np.nan
    frame["loyalty_index"] = loyalty_index(scores, composition)
    nps = next((tuple(items) for name, items in blocks.items() if snake(name) == "nps"), ())
    if nps:
        frame["nps_group"] = nps_groups(data[nps[0]], missing_codes)
    value = delivered_value(data, blocks, scale, missing_codes)
    if value is not None:
        frame["delivered_value"] = value
    return frame.reset_index(drop=True)


def _level_function(results: PLSResults, scale: Scale):
    low, high = scale_limits(results.specification.items, scale)
    starts = results.model.layout.starts[:-1]

    def function(quantity: dict[str, Array]) -> Array:
        return levels(quantity["means"], quantity["weights"], quantity["deviations"], low, high, starts)

    return function


def _point(results: PLSResults) -> dict[str, Array]:
    return quantities(results.moments, results.estimates, results.model.layout)
