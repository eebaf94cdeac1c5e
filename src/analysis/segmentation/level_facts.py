"""What the notebook says of relationship levels that were chosen by their value: facts for sentences, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.segmentation.levels import EFFECTS, LevelPlan, leaving_rate, plan_levels
from analysis.segmentation.relationship import LEVELS
from analysis.segmentation.words import Words
from analysis.valuation.concentration import Estimate
from analysis.valuation.facts import found_or_reason
from analysis.valuation.lifetime import weekly_discount

MONEY = ("gain", "cost", "net", "low", "high")
PLAN_COLUMNS = {
    "level": ("Level", "text"),
    "customers": ("Customers", "count"),
    "cost": ("Cost", "money"),
    "net": ("Brings, less cost", "money"),
    "low": ("At worst", "money"),
    "high": ("At best", "money"),
    "place_worth": ("One more place", "money"),
}
ASSUMPTION_COLUMNS = {
    "level": ("Level", "text"),
    "cost_each": ("Cost a year", "money"),
    "places": ("Places", "text"),
    "effects": ("Assumed", "text"),
    "pays_from": ("Pays from", "text"),
}
ADVICE_COLUMNS = {"level": ("Level", "text"), "meaning": ("What we do", "text"), "bonds": ("Bonds", "text")}


def run_levels(
    summary: pd.DataFrame,
    value: pd.DataFrame,
    relationship: Any,
    words: Words,
    *,
    horizon_weeks: float,
    discount_rate: float | None = None,
    small_group: int = 10,
) -> tuple[LevelPlan | None, str]:
    """Choose levels by their value, where the study says what they cost and do.

    Parameters
    ----------
    summary : ``customer_summary``: customer_id, frequency, recency, T.
    value : ``customer_value``: customer_id, residual_value, and growth_value, probability_alive where known.
    relationship : the section of the study (``study.relationship``), or None.
    words : for the reason.
    horizon_weeks : horizon of the values.
    discount_rate : a year.
    small_group : for how many customers a level without customers is judged.

    Returns
    -------
    plan : LevelPlan or None, in the order of ``summary``.
    reason : why there is none; empty otherwise.
    """
    if relationship is None:
        return None, words("reason_no_levels")
    joined = summary[["customer_id"]].merge(value, on="customer_id", how="left", validate="one_to_one")
    empty = np.full(len(joined), np.nan)
    residual, growth, alive = (
        joined[c].to_numpy(float) if c in joined else empty
        for c in ("residual_value", "growth_value", "probability_alive")
    )
    stated = relationship.leaving
    leaving = (
        leaving_rate(alive, summary["frequency"], summary["recency"], summary["T"])
        if stated is None
        else Estimate(float(stated.value), float(stated.low), float(stated.high), words("reason_stated"))
    )
    return found_or_reason(
        lambda: plan_levels(
            residual, growth, relationship.offered, horizon_weeks=horizon_weeks, leaving=leaving,
            discount=weekly_discount(discount_rate), best=small_group,
        )
    )  # fmt: skip


def level_value_finding(plan: LevelPlan | None, reason: str, small_group: int, words: Words) -> dict[str, Any]:
    """What closer relationships are expected to bring over the horizon, less what they cost.

    Returns
    -------
    value (money or None), low and high None, reason, and the facts n (customers above basic), horizon, worst and best (at the ends
    of the assumptions, the same customers), cost, spare (the largest factor by which effects may be off in a level before it no
    longer pays, as a share; None where no level is used).
    """
    facts = dict.fromkeys(("n", "horizon", "worst", "best", "cost", "spare"))
    if plan is None:
        return {"value": None, "low": None, "high": None, "reason": reason, **facts}
    above = plan.table[plan.table["level"] != "basic"]
    used = above[above["customers"] > 0]
    n = int(above["customers"].sum())
    if 0 < n < small_group:
        few = words("reason_small", small_group=small_group)
        return {"value": None, "low": None, "high": None, "reason": few, **facts}
    facts = {
        "n": n,
        "horizon": plan.horizon_weeks,
        "worst": plan.low,
        "best": plan.high,
        "cost": float(above["cost"].sum()),
        "spare": float(used["break_even"].max()) if n else None,
    }
    return {"value": plan.total, "low": None, "high": None, "reason": words("reason_assumed"), **facts}


def scarce_place_finding(plan: LevelPlan | None, reason: str, words: Words) -> dict[str, Any]:
    """The level in which one more place is worth most.

    Returns
    -------
    value (money over the horizon, 0 where every level has room, None without a plan), low and high None, reason, and the facts
    level (its name), places, cost_each (a year, already taken off), hour_worth (None where room is not in hours), horizon.
    """
    if plan is None:
        facts = dict.fromkeys(("level", "places", "cost_each", "hour_worth", "horizon"))
        return {"value": None, "low": None, "high": None, "reason": reason, **facts}
    row = plan.table.loc[plan.table["place_worth"].idxmax()]
    full = row["place_worth"] > 0
    return {
        "value": float(row["place_worth"]),
        "low": None,
        "high": None,
        "reason": words("reason_assumed"),
        "level": words.name("level", row["level"]).lower() if full else "",
        "places": int(row["places"]) if full else None,
        "cost_each": float(row["cost_each"]) if full else None,
        "hour_worth": float(row["hour_worth"]) if full and row["hour_worth"] == row["hour_worth"] else None,
        "horizon": plan.horizon_weeks,
    }


def leaving_facts(plan: LevelPlan) -> dict[str, Any]:
    """How often customers leave, and where that comes from, for the note on the assumptions.

    Returns
    -------
    leaving, leaving_low, leaving_high (None where unknown), stated (bool: an assumption, not an estimate), unknown and no_growth
    (customers).
    """
    known = np.isfinite(plan.leaving.value)
    return {
        "leaving": plan.leaving.value if known else None,
        "leaving_low": plan.leaving.low,
        "leaving_high": plan.leaving.high,
        "stated": bool(known and plan.leaving.reason is not None),
        "unknown": plan.unknown,
        "no_growth": plan.no_growth,
    }


def plan_table(plan: LevelPlan, small_group: int, words: Words) -> pd.DataFrame:
    """What each level is given to, costs and brings, small levels hidden.

    A level with a few customers is hidden, and the next smallest with it where the total would tell it.

    Returns
    -------
    One row a level: level (name), customers, gain, cost, net, low, high (money over the horizon), place_worth.
    """
    table = plan.table[["level", "customers", *MONEY, "place_worth"]].copy()
    hidden = hidden_rows(table["customers"].to_numpy(), small_group)
    table["customers"] = table["customers"].astype(float)
    table.loc[hidden, ["customers", *MONEY]] = np.nan
    table.loc[table["level"] == "basic", [*MONEY, "place_worth"]] = np.nan
    return table.assign(level=words.names("level", table["level"]))


def hidden_rows(counts: np.ndarray, small_group: int) -> np.ndarray:
    """Which rows of a list of groups are not shown: the small ones, and more until no total tells how small they are.

    Parameters
    ----------
    counts : array of shape (n,), customers; empty groups are shown.
    """
    counts = np.asarray(counts)
    hidden = (counts > 0) & (counts < small_group)
    while hidden.any() and (hidden.sum() == 1 or counts[hidden].sum() < small_group):
        left = np.flatnonzero(~hidden & (counts > 0))
        if not left.size:
            break
        hidden[left[counts[left].argmin()]] = True
    return hidden


def assumption_table(plan: LevelPlan, words: Words) -> pd.DataFrame:
    """What the study assumes of each level, and from which effect on it would pay.

    Returns
    -------
    One row a level above basic: level (name), cost_each (money a year), places (text), effects (text), pays_from (text).
    """
    rows = plan.table[plan.table["level"] != "basic"]
    return pd.DataFrame(
        {
            "level": words.names("level", rows["level"]),
            "cost_each": rows["cost_each"].to_numpy(),
            "places": [words("places", places=None if np.isinf(p) else int(p)) for p in rows["places"]],
            "effects": [_effects(row, 1.0, words) for _, row in rows.iterrows()],
            "pays_from": [_pays_from(row, words) for _, row in rows.iterrows()],
        }
    )


def _effects(row: pd.Series, factor: float, words: Words) -> str:
    return "; ".join(words(f"effect_{name}", share=factor * row[name]) for name in EFFECTS if row[name] > 0)


def _pays_from(row: pd.Series, words: Words) -> str:
    factor = row["break_even"]
    if factor != factor:
        return words("pays_never")
    return words("pays_from", effects=_effects(row, factor, words), factor=float(factor))


def level_advice(words: Words, levels: Sequence[str] = LEVELS) -> pd.DataFrame:
    """What each level means in practice, and which bonds it builds (Berry & Parasuraman 1991, *Marketing Services*, ch. 8).

    Returns
    -------
    One row a level: level (name), meaning, bonds (texts).
    """
    return pd.DataFrame(
        {
            "level": words.names("level", levels),
            "meaning": [words(f"meaning_{level}") for level in levels],
            "bonds": [words(f"bonds_{level}") for level in levels],
        }
    )
