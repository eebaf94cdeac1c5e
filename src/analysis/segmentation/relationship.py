"""How close a relationship to offer: Kotler's grid of number of customers and unit margin.

The levels are Kotler's (Kotler & Keller, *Marketing Management*): *basic* sells and leaves it there,
*reactive* invites questions and complaints, *accountable* asks afterwards how it went, *proactive* calls with
ideas, *partnership* works with the customer all the time. The book words the grid as many, medium or few
customers and high, medium or low margin and gives no thresholds: those are decisions of the company, so they
are parameters and the report prints them. This rule of thumb serves where the study does not say what a level costs and
does; where it does, :mod:`analysis.segmentation.levels` chooses by value.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

COLUMNS = ["value_tier", "customers", "mean_margin", "margin_ratio", "number_band", "margin_band", "level"]
LEVELS = ("basic", "reactive", "accountable", "proactive", "partnership")
GRID = {
    ("many", "low"): "basic",
    ("many", "medium"): "reactive",
    ("many", "high"): "accountable",
    ("medium", "low"): "reactive",
    ("medium", "medium"): "accountable",
    ("medium", "high"): "proactive",
    ("few", "low"): "accountable",
    ("few", "medium"): "proactive",
    ("few", "high"): "partnership",
}


@dataclass(frozen=True)
class RelationshipRule:
    """Thresholds of the grid.

    Attributes
    ----------
    few, many : a tier of at most ``few`` customers is few, of more than ``many`` is many.
    high, low : a tier whose mean margin is at least ``high`` times (at most ``low`` times) that of all
        customers has a high (low) margin.
    """

    few: int = 50
    many: int = 1000
    high: float = 1.5
    low: float = 0.5


def relationship_levels(
    value_tier: pd.Series, life_stage: pd.Series, margin: np.ndarray, rule: RelationshipRule | None = None
) -> tuple[pd.Series, pd.DataFrame]:
    """Advise a relationship level for each customer.

    The tiers *protect* and *invest* take the level of the grid at their number of customers and their mean
    margin. *let_go*, and whoever has *ended*, is advised *basic*; *too_early* is advised *reactive*: listen,
    and spend nothing yet.

    Parameters
    ----------
    value_tier, life_stage : shape (n,), as in ``customer_segment``.
    margin : shape (n,), money so far; NaN where unknown.
    rule : thresholds.

    Returns
    -------
    Series of shape (n,), one of ``LEVELS``, null where the tier or every margin is unknown; and a frame with
    one row a graded tier: value_tier, customers, mean_margin, margin_ratio (to all customers), number_band,
    margin_band, level.
    """
    rule = rule or RelationshipRule()
    frame = pd.DataFrame(
        {
            "value_tier": np.asarray(value_tier, dtype=object),
            "ended": np.asarray(life_stage, dtype=object) == "ended",
            "margin": np.asarray(margin, dtype=float),
        }
    )
    overall = frame["margin"].mean()
    level = pd.Series(None, index=frame.index, dtype="str", name="recommended_relationship_level")
    rows = []
    if not np.isfinite(overall) or overall <= 0:
        return level, pd.DataFrame(columns=COLUMNS)
    for tier in ("protect", "invest"):
        members = frame[frame["value_tier"] == tier]
        if len(members):
            rows.append(_grade(tier, len(members), members["margin"].mean(), overall, rule))
            level[members.index] = rows[-1]["level"]
    level[frame["value_tier"].eq("too_early")] = "reactive"
    level[frame["value_tier"].eq("let_go") | (frame["ended"] & frame["value_tier"].notna())] = "basic"
    return level, pd.DataFrame(rows, columns=COLUMNS)


def _grade(tier: str, customers: int, mean_margin: float, overall: float, rule: RelationshipRule) -> dict:
    number = "few" if customers <= rule.few else "many" if customers > rule.many else "medium"
    ratio = mean_margin / overall
    band = "high" if ratio >= rule.high else "low" if ratio <= rule.low else "medium"
    return {
        "value_tier": tier,
        "customers": customers,
        "mean_margin": float(mean_margin),
        "margin_ratio": float(ratio),
        "number_band": number,
        "margin_band": band,
        "level": GRID[number, band],
    }
