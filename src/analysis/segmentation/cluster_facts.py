"""What the sentences about segments, rules, tastes, households and descriptors are filled with: results in, facts out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.reporting.step_words import StepWords
from analysis.segmentation.clusters import STABLE, VALLEY_LEVEL, Segments
from analysis.segmentation.features import UNITS
from analysis.segmentation.findings import facts_of
from analysis.segmentation.households import Households
from analysis.segmentation.preferences import Preferences
from analysis.segmentation.tree import SegmentRules
from analysis.segmentation.words import Words

_WHOLE = ("purchase_days", "categories", "stores")
CRITERIA_COLUMNS = {
    "segments": ("Segments", "count"),
    "stability": ("Agreement", "ratio"),
    "jaccard": ("Weakest", "ratio"),
    "gap": ("Gap", "ratio"),
    "gap_words": ("Beats a cloud", "text"),
    "valley": ("Valleys", "text"),
    "silhouette": ("Silhouette", "ratio"),
    "bic": ("BIC +", "count"),
    "verdict": ("Groups", "text"),
}
RULE_COLUMNS = {
    "rule": ("Rule", "text"),
    "segment": ("Segment", "text"),
    "customers": ("Customers", "count"),
    "right": ("Right", "share"),
    "low": ("From", "share"),
    "high": ("To", "share"),
}
RECALL_COLUMNS = {
    "segment": ("Segment", "text"),
    "customers": ("Customers", "count"),
    "found": ("Placed rightly", "share"),
    "low": ("From", "share"),
    "high": ("To", "share"),
}
DESCRIPTOR_COLUMNS = {
    "variable": ("Variable", "text"),
    "customers": ("Customers", "count"),
    "effect": ("Difference, 0 to 1", "ratio"),
    "low": ("From", "ratio"),
    "high": ("To", "ratio"),
    "p": ("p, corrected", "text"),
    "verdict": ("Segments differ", "text"),
}
REPERTOIRE_COLUMNS = {
    "segment": ("Segment", "text"),
    "customers": ("Customers", "count"),
    "held": ("Categories held", "ratio"),
    "expected": ("Usual for as many purchases", "ratio"),
    "ratio": ("Held of usual", "share"),
    "low": ("From", "share"),
    "high": ("To", "share"),
}


# -- how many ------------------------------------------------------------------------------------------------------------


def criteria_table(segments: Segments, words: Words) -> pd.DataFrame:
    """All criteria for the number of segments, one row a number, with the decision.

    Returns
    -------
    Columns of ``CRITERIA_COLUMNS``. BIC is shown as its distance from the best; empty where nothing was searched.
    """
    if segments.search is None:
        return pd.DataFrame(columns=list(CRITERIA_COLUMNS))
    table = segments.search.table
    used, found = segments.search.n_clusters, segments.search.found
    verdict = [
        "yes_used" if q and k == used else "used" if k == used and not found else "yes" if q else "no"
        for k, q in zip(table["segments"], table["qualifies"], strict=True)
    ]
    return pd.DataFrame(
        {
            "segments": table["segments"],
            # Rounded down, so that nothing looks as if it had reached the threshold.
            "stability": np.floor(100 * table["global_stability"] + 1e-9) / 100,
            "jaccard": np.floor(100 * table["least_jaccard"] + 1e-9) / 100,
            "gap": table["gap"],
            "gap_words": words.names("criterion", _yes(table["gap_enough"])),
            "valley": words.names("criterion", _yes(table["valley_p"] <= VALLEY_LEVEL)),
            "silhouette": table["silhouette"],
            "bic": (table["bic"] - table["bic"].min()).round(),
            "verdict": words.names("criterion", verdict),
        }
    )


def _yes(flags: pd.Series) -> list[str]:
    return ["yes" if flag else "no" for flag in flags]


def mixture_facts(segments: Segments) -> dict[str, Any]:
    """What a normal mixture says beside k-means.

    Returns
    -------
    verdict (``used``; ``agrees`` that there are natural groups; ``one`` component is best; ``no_valley``; ``unsteady``;
    ``none`` where it was not tried), components, gain (of BIC over one).
    """
    if segments.search is None or segments.search.mixture["segments"] is None:
        return {"verdict": "none", "components": None, "gain": None}
    found = segments.search.mixture
    if segments.search.method == "mixture":
        verdict = "used"
    elif found["segments"] == 1:
        verdict = "one"
    elif found["qualifies"]:
        verdict = "agrees"
    else:
        verdict = "no_valley" if not found["valley_p"] <= VALLEY_LEVEL else "unsteady"
    return {"verdict": verdict, "components": int(found["segments"]), "gain": float(found["bic_gain"])}


def across_facts(segments: Segments) -> dict[str, Any]:
    """Which of the published segments are there whatever the number of segments.

    Returns
    -------
    segments, solutions (other numbers tried), lasting (letters of segments that are there, with a Jaccard index of 0.75 or
    more, in at least half of them), fleeting (letters of those that are in none); both texts, None where there are none;
    lasting_count, threshold.
    """
    if segments.search is None or segments.search.method == "mixture" or segments.sizes["survives"].isna().any():
        return {
            "segments": None,
            "solutions": 0,
            "lasting": None,
            "fleeting": None,
            "lasting_count": 0,
            "threshold": STABLE,
        }
    solutions = len([k for k in segments.search.partitions if k != segments.search.n_clusters])
    survives = segments.sizes.set_index("segment")["survives"]
    lasting = list(survives.index[(survives >= solutions / 2) & (survives > 0)])
    return {
        "segments": len(survives),
        "solutions": solutions,
        "lasting": ", ".join(lasting) or None,
        "fleeting": ", ".join(survives.index[survives == 0]) or None,
        "lasting_count": len(lasting),
        "threshold": STABLE,
    }


# -- rules ---------------------------------------------------------------------------------------------------------------


def rule_finding(rules: SegmentRules, words: Words) -> dict[str, Any]:
    """How often the rules place a customer rightly.

    Returns
    -------
    value, low, high (shares), reason, and the facts baseline, useful (bool: better than guessing the largest segment
    beyond doubt), rules (how many), total (customers), lost (letters of segments that no rule leads to, as text, or None).
    """
    if rules.reason:
        facts = {"baseline": None, "useful": False, "rules": 0, "total": rules.customers, "lost": None}
        return facts_of(None, None, None, words(f"reason_rules_{rules.reason}"), **facts)
    lost = rules.by_segment.loc[~rules.by_segment["ruled"], "segment"]
    return facts_of(
        rules.accuracy,
        rules.low,
        rules.high,
        None,
        baseline=rules.baseline,
        useful=bool(rules.low > rules.baseline),
        rules=len(rules.rules),
        total=rules.customers,
        lost=", ".join(lost) or None,
    )


def rule_table(rules: SegmentRules, words: Words) -> pd.DataFrame:
    """The rules as plain sentences.

    Returns
    -------
    Columns of ``RULE_COLUMNS``, empty without rules. ``right`` is on the customers that the rules were made from; those
    of a new customer are in :func:`rule_finding`.
    """
    if rules.tree is None:
        return pd.DataFrame(columns=list(RULE_COLUMNS))
    table = rules.rules.assign(rule=[rule_words(conditions, words) for conditions in rules.rules["conditions"]])
    return table[list(RULE_COLUMNS)]


def rule_words(conditions: list[tuple[str, float | None, float | None]], words: Words) -> str:
    """Conditions as one line, for example "purchase days: fewer than 12; spend a purchase day: $40.00 or more"."""
    if not conditions:
        return words("rule_everybody")
    return "; ".join(condition_words(*condition, words) for condition in conditions)


def condition_words(feature: str, low: float | None, high: float | None, words: Words) -> str:
    """One condition, low ≤ feature < high, in words."""
    shown = {
        name: None if x is None else threshold_words(feature, x, words) for name, x in (("low", low), ("high", high))
    }
    nothing = feature in _WHOLE and low is None and high == 1
    return words("rule_condition", name=variable_words(feature, words), nothing=nothing, **shown)


def variable_words(variable: str, words: Words) -> str:
    """The name of a variable; that of its column where there is no other."""
    return StepWords.name(words, "feature", variable)


def threshold_words(feature: str, x: float, words: Words) -> str:
    """A threshold in the feature's unit."""
    unit = UNITS.get(feature, "number")
    if unit == "share":
        return words.format.share(x, 0)
    if x == round(x) and unit in ("number", "count"):
        return words.format.count(round(x))
    return words.format.value(x, unit)


# -- tastes --------------------------------------------------------------------------------------------------------------


def taste_finding(preferences: Preferences, words: Words) -> dict[str, Any]:
    """How far customers differ in what they like: 0 when all have the same tastes, 1 when each buys one category.

    Returns
    -------
    value, low, high (shares), reason, and the facts total (customers with a purchase of a known category), categories,
    pooled (those counted together), half (lines after which a customer's own purchases weigh as much as the base's),
    alike (bool: no difference can be told from chance).
    """
    tastes = preferences.tastes
    if tastes is None:
        facts = dict.fromkeys(("total", "categories", "pooled", "half"))
        return facts_of(None, None, None, words(f"reason_tastes_{preferences.reason}"), **facts, alike=None)
    facts = {
        "total": tastes.model.n_customers,
        "categories": len(tastes.model.names) - bool(preferences.found.pooled) + preferences.found.pooled,
        "pooled": preferences.found.pooled,
        "half": None if tastes.alike else tastes.concentration,
        "alike": tastes.alike,
    }
    ends = tastes.loyalty_interval()
    if ends is None:
        return facts_of(0.0, None, None, words("reason_tastes_alike"), **facts)
    return facts_of(tastes.loyalty, *ends, None, **facts)


def affinity_finding(affinity: pd.DataFrame, words: Words, least_share: float = 0.01) -> dict[str, Any]:
    """The segment and category that go together most, among those that differ from all customers beyond chance.

    Parameters
    ----------
    affinity : frame of ``segment_affinity``.
    least_share : of the segment's purchases, for a category worth naming.

    Returns
    -------
    value (lift), low, high, reason, and the facts segment, category, share, cells, differing (cells that differ).
    """
    differing = (
        affinity[affinity["differs"] & (affinity["lift"] > 1) & (affinity["share"] >= least_share)]
        if len(affinity)
        else affinity
    )
    facts = {"cells": len(affinity), "differing": int(affinity["differs"].sum()) if len(affinity) else 0}
    if not len(differing):
        key = "reason_affinity_none" if len(affinity) else "reason_affinity_nothing"
        return facts_of(None, None, None, words(key), segment=None, category=None, share=None, **facts)
    top = differing.loc[differing["low"].idxmax()]
    return facts_of(
        float(top["lift"]),
        float(top["low"]),
        float(top["high"]),
        None,
        segment=str(top["segment"]),
        category=str(top["category"]),
        share=float(top["share"]),
        **facts,
    )


def repertoire_table(preferences: Preferences, labels: pd.DataFrame, small_group: int) -> pd.DataFrame:
    """Categories held beside those usual for as many purchases, by segment.

    Parameters
    ----------
    labels : customer_id, cluster.

    Returns
    -------
    Columns of ``REPERTOIRE_COLUMNS``: means over customers with a purchase; ratio is of the two means, with an interval
    over customers (delta method). Empty where tastes are not known. Segments under ``small_group`` are left out.
    """
    if preferences.tastes is None:
        return pd.DataFrame(columns=list(REPERTOIRE_COLUMNS))
    people = preferences.customers.merge(labels, on="customer_id", how="inner")
    people = people[(people["lines"] > 0) & people["cluster"].notna()]
    rows = []
    for segment, own in people.groupby("cluster"):
        if len(own) < small_group:
            continue
        held, expected = own["held"].to_numpy(dtype=float), own["expected"].to_numpy(dtype=float)
        ratio = held.mean() / expected.mean()
        error = float((held - ratio * expected).std(ddof=1) / expected.mean() / np.sqrt(len(own)))
        rows.append(
            {
                "segment": segment,
                "customers": len(own),
                "held": held.mean(),
                "expected": expected.mean(),
                "ratio": ratio,
                "low": ratio - 1.96 * error,
                "high": ratio + 1.96 * error,
            }
        )
    return pd.DataFrame(rows, columns=list(REPERTOIRE_COLUMNS))


# -- households ----------------------------------------------------------------------------------------------------------


def household_finding(pooled: Households, small_group: int, words: Words) -> dict[str, Any]:
    """How many of the best customers are no longer among the best once households are counted as one.

    Returns
    -------
    value, low, high (share of the best by themselves), reason, and the facts households, several, share_several,
    several_low, several_high, left, joined, top, top_share_customers, top_share_households.
    """
    facts = {
        "households": pooled.count,
        "several": pooled.several,
        "share_several": pooled.share_several,
        "several_low": pooled.low,
        "several_high": pooled.high,
        "left": pooled.left,
        "joined": pooled.joined,
        "top": pooled.top,
        "top_share_customers": pooled.top_share_customers,
        "top_share_households": pooled.top_share_households,
    }
    reason = pooled.reason
    if reason is None and (pooled.several < small_group or pooled.customers["best"].sum() < small_group):
        reason = "small"
    if reason:
        text = words(f"reason_households_{reason}", small_group=small_group)
        return facts_of(None, None, None, text, **dict.fromkeys(facts))
    for name in ("left", "joined"):
        facts[name] = None if 0 < facts[name] < small_group else facts[name]
    return facts_of(pooled.moved, pooled.moved_low, pooled.moved_high, None, **facts)


# -- what did not make the segments --------------------------------------------------------------------------------------


def descriptor_finding(table: pd.DataFrame, words: Words) -> dict[str, Any]:
    """The variable from outside in which segments differ most.

    Parameters
    ----------
    table : frame of ``describe_segments``.

    Returns
    -------
    value (effect, 0 to 1), low, high, reason, and the facts variable (name), tested, differing (how many), names (of those
    that differ, as text, or None).
    """
    tested = int(table["p"].notna().sum())
    differing = table[table["differs"]]
    names = ", ".join(variable_words(v, words) for v in differing["variable"]) or None
    facts = {"tested": tested, "differing": len(differing), "names": names}
    if differing.empty:
        key = "reason_descriptors_none" if tested else "reason_descriptors_untested"
        return facts_of(None, None, None, words(key), variable=None, **facts)
    top = differing.iloc[0]
    variable = variable_words(str(top["variable"]), words)
    return facts_of(float(top["effect"]), float(top["low"]), float(top["high"]), None, variable=variable, **facts)


def descriptor_table(table: pd.DataFrame, words: Words) -> pd.DataFrame:
    """The tests in words: columns of ``DESCRIPTOR_COLUMNS``; what could not be tested says why."""
    verdict = [
        f"not_{row.reason}" if row.reason else "differs" if row.differs else "alike" for row in table.itertuples()
    ]
    return pd.DataFrame(
        {
            "variable": [variable_words(v, words) for v in table["variable"]],
            "customers": table["customers"],
            "effect": table["effect"],
            "low": table["low"],
            "high": table["high"],
            "p": [_p_words(p, words) for p in table["p_holm"]],
            "verdict": words.names("descriptor", verdict),
        }
    )


def _p_words(p: float, words: Words) -> str:
    if p != p:
        return words.format.missing
    return f"<{words.format.number(0.001, 3)}" if p < 0.001 else words.format.number(p, 3)
