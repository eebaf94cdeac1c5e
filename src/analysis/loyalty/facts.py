"""What sentences about an analysis need: plain values, and a reason where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from .drivers import TARGETS
from .measurement import FAIL, Repair
from .path_model import EstimationError


def stated(value: float, low: float, high: float, reason: str) -> dict:
    """An estimate as arguments of a finding: value, low, high; or no value and the reason, if it is not a number."""
    if value is None or math.isnan(value):
        return {"value": None, "reason": reason}
    return {"value": float(value), "low": float(low), "high": float(high)}


def verdict_facts(verdicts: pd.DataFrame, repair: Repair, labels: Mapping[str, str] | None = None) -> dict:
    """Counts and names behind the verdicts.

    Returns
    -------
    blocks (constructs of several items), sound (how many of them do not fail), failed (their names), mended
    (records: construct, left_out, label), unusable (records: construct, reason).
    """
    labels = labels or {}
    judged = verdicts[verdicts["items"] > 1]
    failed = list(judged.loc[judged["verdict"] == FAIL, "construct"])
    reasons = verdicts.set_index("construct")["reason"]
    return {
        "blocks": len(judged),
        "sound": len(judged) - len(failed),
        "failed": failed,
        "mended": [
            {"construct": name, "left_out": ", ".join(items), "label": ", ".join(labels.get(i, i) for i in items)}
            for name, items in repair.left_out.items()
        ],
        "unusable": [{"construct": name, "reason": reasons[name]} for name in repair.unusable],
    }


def level_of(levels: pd.DataFrame, construct: str) -> dict:
    """Score and limits of one construct as arguments of a finding; a reason if it has no sound score."""
    row = levels[levels["construct"] == construct]
    if row.empty:
        return {"value": None, "reason": f"the items of {construct} do not measure one thing well"}
    return {"value": row["score"].item(), "low": row["low"].item(), "high": row["high"].item()}


def extremes(levels: pd.DataFrame) -> dict:
    """The constructs with the highest and the lowest mean score: best, best_score, worst, worst_score."""
    if levels.empty:
        return {"best": None, "best_score": None, "worst": None, "worst_score": None}
    best, worst = levels.loc[levels["score"].idxmax()], levels.loc[levels["score"].idxmin()]
    return {
        "best": best["construct"],
        "best_score": best["score"],
        "worst": worst["construct"],
        "worst_score": worst["score"],
    }


def strongest_driver(drivers: pd.DataFrame, targets: Sequence[str] = TARGETS) -> dict:
    """The largest effect in points, as a record, on the first of `targets` for which both ends are sound.

    Falls back to effects of which an end fails where there are no others; `sound` says which it is.

    Raises
    ------
    EstimationError
        If the model has no driver of any target.
    """
    both = drivers["measured"] & drivers["target_measured"]
    for sound in (True, False):
        for target in targets:
            part = drivers[(drivers["target"] == target) & (both == sound)]
            if len(part):
                return part.loc[part["points"].idxmax()].to_dict() | {"sound": sound}
    raise EstimationError(f"nothing leads to {' or '.join(targets)} in this model: declare a block that drives it")


def too_close(pairs: pd.DataFrame, first: str, second: str, ceiling: float) -> float | None:
    """HTMT of two constructs where it is above the ceiling, so that they are hardly distinct; None otherwise.

    pairs : from :func:`htmt_pairs`
    """
    both = pairs["first"].isin([first, second]) & pairs["second"].isin([first, second])
    above = pairs.loc[both & (pairs["htmt"] > ceiling), "htmt"]
    return None if above.empty else float(above.iloc[0])


def mapped_target(drivers: pd.DataFrame, targets: Sequence[str] = TARGETS) -> str:
    """The last of `targets` with a sound effect on it, or, without any, the last that the model has."""
    sound = drivers[drivers["measured"] & drivers["target_measured"]]["target"]
    known = [t for t in targets if t in set(sound)] or [t for t in targets if t in set(drivers["target"])]
    return known[-1]


def ten_points(drivers: pd.DataFrame, driver: str, target: str) -> dict:
    """Points of the target that go with ten points of the driver, as arguments of a finding."""
    row = drivers[(drivers["driver"] == driver) & (drivers["target"] == target)]
    if row.empty:
        return {"value": None, "reason": f"no route leads from {driver} to {target} in this model"}
    if not (row["measured"] & row["target_measured"]).item():
        return {"value": None, "reason": f"{driver} or {target} is not measured soundly"}
    columns = {"value": "points", "low": "points_low", "high": "points_high"}
    return {name: 10 * row[column].item() for name, column in columns.items()}
