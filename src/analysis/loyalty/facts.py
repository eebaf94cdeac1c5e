"""What sentences about an analysis need: plain values, and a reason where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from .measurement import FAIL, Repair
from .names import called

EXPLAINED = ("Satisfaction", "Commitment", "Loyalty", "Complaints")  # of whom a page says how much is explained


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
    facts = {
        "blocks": len(judged),
        "sound": len(judged) - len(failed),
        "failed": failed,
        "mended": [
            {"construct": name, "left_out": ", ".join(items), "label": ", ".join(labels.get(i, i) for i in items)}
            for name, items in repair.left_out.items()
        ],
        "unusable": [{"construct": name, "reason": reasons[name]} for name in repair.unusable],
    }
    return called(facts)


def level_of(levels: pd.DataFrame, construct: str, asked: Iterable[str]) -> dict:
    """Score and limits of one construct as arguments of a finding, and whether it is among the constructs `asked`; a reason
    if it is not, or has no sound score.
    """
    row = levels[levels["construct"] == construct]
    if construct not in asked:
        return {"value": None, "reason": f"the survey does not ask for {construct.lower()}", "asked": False}
    if row.empty:
        return {"value": None, "reason": f"the items of {construct} do not measure one thing well", "asked": True}
    return {"value": row["score"].item(), "low": row["low"].item(), "high": row["high"].item(), "asked": True}


def explained_facts(constructs: pd.DataFrame, targets: Sequence[str] = EXPLAINED) -> dict:
    """What the model explains of the first of `targets` that something leads to: target, value, low, high; or a reason.

    Parameters
    ----------
    constructs : of the summary of a bootstrap: construct, r_squared with _low and _high (NaN where nothing leads to it).
    """
    explained = constructs.set_index("construct")["r_squared"].dropna()
    target = next((name for name in targets if name in explained.index), None)
    if target is None:
        return {"target": targets[0], "value": None, "reason": f"nothing leads to {targets[0].lower()} in this model"}
    row = constructs.set_index("construct").loc[target]
    limits = stated(row["r_squared"], row["r_squared_low"], row["r_squared_high"], "")
    return {"target": called(target)} | limits


def extremes(levels: pd.DataFrame) -> dict:
    """The constructs with the highest and the lowest mean score: best, best_score, worst, worst_score."""
    if levels.empty:
        return {"best": None, "best_score": None, "worst": None, "worst_score": None}
    levels = called(levels)
    best, worst = levels.loc[levels["score"].idxmax()], levels.loc[levels["score"].idxmin()]
    return {
        "best": best["construct"],
        "best_score": best["score"],
        "worst": worst["construct"],
        "worst_score": worst["score"],
    }


def strongest_driver(drivers: pd.DataFrame) -> dict:
    """The largest effect in points, as a record, on the first target for which both ends are sound.

    Falls back to effects of which an end fails where there are no others; `sound` says which it is.
    """
    both = drivers["measured"] & drivers["target_measured"]
    part = drivers[both] if both.any() else drivers
    part = part[part["target"] == part["target"].iloc[0]]
    return part.loc[part["points"].idxmax()].to_dict() | {"sound": bool(both.any())}


def too_close(pairs: pd.DataFrame, first: str, second: str, ceiling: float) -> float | None:
    """HTMT of two constructs where it is above the ceiling, so that they are hardly distinct; None otherwise.

    pairs : from :func:`htmt_pairs`
    """
    both = pairs["first"].isin([first, second]) & pairs["second"].isin([first, second])
    above = pairs.loc[both & (pairs["htmt"] > ceiling), "htmt"]
    return None if above.empty else float(above.iloc[0])


def mapped_target(drivers: pd.DataFrame) -> str:
    """The last target with a sound effect on it, or, without any, the last that the model has."""
    sound = drivers[drivers["measured"] & drivers["target_measured"]]
    return (sound if len(sound) else drivers)["target"].iloc[-1]


def ten_points(drivers: pd.DataFrame, driver: str, target: str) -> dict:
    """Points of the target that go with ten points of the driver, as arguments of a finding."""
    row = drivers[(drivers["driver"] == driver) & (drivers["target"] == target)]
    if row.empty:
        return {"value": None, "reason": f"no route leads from {driver} to {target} in this model"}
    if not (row["measured"] & row["target_measured"]).item():
        return {"value": None, "reason": f"{driver} or {target} is not measured soundly"}
    columns = {"value": "points", "low": "points_low", "high": "points_high"}
    return {name: 10 * row[column].item() for name, column in columns.items()}
