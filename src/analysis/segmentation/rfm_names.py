"""Named RFM segments: champions, loyal, at risk and so on, each by a stated rule on the scores.

The names are common in the trade; their definitions differ from tool to tool and often leave gaps or overlap. Here every
segment is a rectangle: a range of recency scores by a range of F + M, the sum of the frequency and the spend score (2 to
10). :func:`check_rules` proves that a set of rules puts each of the 125 combinations of scores into exactly one segment, and runs
whenever rules are used, so that a company may bring its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.segmentation.findings import facts_of
from analysis.segmentation.privacy import merge_small
from analysis.segmentation.tiers import share_held
from analysis.segmentation.words import Words

BINS = 5
SCORES = ("r_score", "f_score", "m_score")


@dataclass(frozen=True)
class SegmentRule:
    """Who is in a named segment.

    Attributes
    ----------
    name : code of the segment, such as ``cannot_lose``.
    recency : lowest and highest recency score (1 to 5), both included.
    value : lowest and highest sum of the frequency and the spend score (2 to 10), both included.
    """

    name: str
    recency: tuple[int, int]
    value: tuple[int, int]

    def holds(self, recency: ArrayLike, value: ArrayLike) -> np.ndarray:
        """Whether scores are inside, shape of the two arrays."""
        r, v = np.asarray(recency), np.asarray(value)
        return (self.recency[0] <= r) & (r <= self.recency[1]) & (self.value[0] <= v) & (v <= self.value[1])


RULES = (
    SegmentRule("champions", (4, 5), (9, 10)),
    SegmentRule("loyal", (4, 5), (7, 8)),
    SegmentRule("potential_loyalists", (4, 5), (5, 6)),
    SegmentRule("promising", (4, 5), (2, 4)),
    SegmentRule("need_attention", (3, 3), (7, 10)),
    SegmentRule("about_to_sleep", (3, 3), (2, 6)),
    SegmentRule("cannot_lose", (1, 2), (9, 10)),
    SegmentRule("at_risk", (1, 2), (6, 8)),
    SegmentRule("hibernating", (2, 2), (2, 5)),
    SegmentRule("lost", (1, 1), (2, 5)),
)


# A segment too small to show joins the one that is treated most like it.
PARTNERS = {
    "champions": "loyal",
    "loyal": "champions",
    "potential_loyalists": "loyal",
    "promising": "potential_loyalists",
    "need_attention": "about_to_sleep",
    "about_to_sleep": "need_attention",
    "cannot_lose": "at_risk",
    "at_risk": "cannot_lose",
    "hibernating": "lost",
    "lost": "hibernating",
}

RFM_SEGMENT_COLUMNS = {
    "rfm_segment": ("Name", "text"),
    "customers": ("Customers", "count"),
    "sales": ("Sales", "money"),
    "margin": ("Margin", "money"),
    "mean_recency_days": ("Days since last purchase", "days"),
}
RFM_DEFINITION_COLUMNS = {
    "segment": ("Name", "text"),
    "recency": ("Recency", "text"),
    "value": ("F + M", "text"),
    "meaning": ("Who they are", "text"),
}


def check_rules(rules: Sequence[SegmentRule]) -> None:
    """Prove that rules leave no gap and no overlap over all 125 combinations of scores.

    Raises
    ------
    ValueError
        A combination has no segment or more than one, or two rules share a name.
    """
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        raise ValueError("named segments: two rules share a name; give each its own")
    for r, f, m in product(range(1, BINS + 1), repeat=3):
        found = [rule.name for rule in rules if rule.holds(r, f + m)]
        if len(found) != 1:
            what = f"is in {' and '.join(found)}" if found else "is in no segment"
            raise ValueError(f"named segments: R {r}, F {f}, M {m} {what}; change the ranges of the rules")


def rfm_segments(
    r_score: ArrayLike,
    f_score: ArrayLike,
    m_score: ArrayLike,
    rules: Sequence[SegmentRule] = RULES,
    bins: int = BINS,
) -> pd.Series:
    """Name the segment of each customer.

    Parameters
    ----------
    r_score, f_score, m_score : arrays of shape (n,), whole scores from 1 (worst) to 5 (best), by independent or nested
        binning; null where unknown.
    rules : one a segment, without gap or overlap.
    bins : how many scores there are; the names are defined on five.

    Returns
    -------
    Series of shape (n,) named ``rfm_segment``, null where a score is.

    Raises
    ------
    ValueError
        Another number of bins, a score outside 1 to 5, or rules with a gap or an overlap.
    """
    if bins != BINS:
        raise ValueError(f"named segments: they are defined on {BINS} scores, not on {bins}; run 02 with bins = {BINS}")
    check_rules(rules)
    scores = np.column_stack([pd.Series(s).to_numpy(dtype=float, na_value=np.nan) for s in (r_score, f_score, m_score)])
    known = ~np.isnan(scores).any(axis=1)
    if not np.isin(scores[known], np.arange(1, BINS + 1)).all():
        raise ValueError(f"named segments: a score is not a whole number from 1 to {BINS}")
    name = np.full(len(scores), None, dtype=object)
    for rule in rules:
        name[known & rule.holds(scores[:, 0], scores[:, 1] + scores[:, 2])] = rule.name
    return pd.Series(name, name="rfm_segment", dtype="str")


def unreachable(customers: pd.DataFrame, rules: Sequence[SegmentRule] = RULES) -> list[str]:
    """Segments that nobody could be in, because ties left the scores that lead there empty.

    Parameters
    ----------
    customers : r_score, f_score, m_score.
    rules : one a segment.
    """
    occurring = [[int(s) for s in customers[name].dropna().unique()] for name in SCORES]
    met = list(product(*occurring))
    return [rule.name for rule in rules if not any(bool(rule.holds(r, f + m)) for r, f, m in met)]


def rfm_segment_table(customers: pd.DataFrame, rules: Sequence[SegmentRule] = RULES) -> pd.DataFrame:
    """What each named segment holds, small ones included; show people :func:`shown_rfm_segments`.

    Parameters
    ----------
    customers : one row a customer: rfm_segment, spend (money), recency_days; margin (money) where known.
    rules : the order of the rows.

    Returns
    -------
    One row a segment that occurs: rfm_segment, customers, share_customers, sales, share_sales, margin (NaN where one of
    its customers has none), sales_per_customer, mean_recency_days.
    """
    margin = customers["margin"] if "margin" in customers else pd.Series(np.nan, index=customers.index)
    grouped = customers.assign(_margin=margin.astype(float)).groupby("rfm_segment")
    table = grouped.agg(
        customers=("spend", "size"),
        sales=("spend", "sum"),
        margin=("_margin", lambda m: m.sum(skipna=False)),
        mean_recency_days=("recency_days", "mean"),
    )
    table = table.reindex([rule.name for rule in rules if rule.name in table.index]).reset_index()
    table["share_customers"] = table["customers"] / table["customers"].sum()
    table["share_sales"] = table["sales"] / table["sales"].sum()
    table["sales_per_customer"] = table["sales"] / table["customers"]
    order = ["customers", "share_customers", "sales", "share_sales", "margin", "sales_per_customer"]
    return table[["rfm_segment", *order, "mean_recency_days"]]


def shown_rfm_segments(customers: pd.DataFrame, small_group: int, rules: Sequence[SegmentRule] = RULES) -> pd.DataFrame:
    """The frame of :func:`rfm_segment_table` with segments of fewer than ``small_group`` customers merged with their likes."""
    table = rfm_segment_table(customers, rules)
    means = ("sales_per_customer", "mean_recency_days")
    return merge_small(table, "rfm_segment", small_group, means=means, partners=PARTNERS)


def rfm_segment_definitions(words: Words, rules: Sequence[SegmentRule] = RULES) -> pd.DataFrame:
    """The rules for people: ``segment``, ``recency`` and ``value`` (ranges as text), ``meaning``."""
    return pd.DataFrame(
        {
            "segment": words.names("rfm", [rule.name for rule in rules]),
            "recency": [_span(rule.recency) for rule in rules],
            "value": [_span(rule.value) for rule in rules],
            "meaning": [words.name("meaning", rule.name) for rule in rules],
        }
    )


def _span(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}–{ends[1]}"


def rfm_segment_finding(
    customers: pd.DataFrame, shown: pd.DataFrame, segment: str, small_group: int, words: Words
) -> dict[str, Any]:
    """The share of sales that a named segment brought, with an interval.

    Parameters
    ----------
    customers : rfm_segment, spend (money), recency_days.
    shown : frame of :func:`shown_rfm_segments`; a segment that was merged there is not told.
    segment : code of the segment.
    small_group : a smaller segment is not shown.
    words : for the reason.

    Returns
    -------
    value, low, high (shares), reason, and the facts n, share_customers, silent_days (mean days since the last purchase).
    """
    member = customers["rfm_segment"].eq(segment).to_numpy()
    n = int(member.sum())
    merged = n > 0 and segment not in set(shown["rfm_segment"])
    if n < small_group or merged:
        reason = words("reason_nobody") if n == 0 else words("reason_small", small_group=small_group)
        return facts_of(None, None, None, reason, n=0 if n == 0 else None, share_customers=None, silent_days=None)
    value, low, high = share_held(customers["spend"].to_numpy(dtype=float), member)
    silent = float(customers["recency_days"].to_numpy(dtype=float)[member].mean())
    return facts_of(
        value, low, high, words("reason_few_customers"), n=n, share_customers=n / len(member), silent_days=silent
    )


def rfm_segment_facts(customers: pd.DataFrame, nested: pd.Series, words: Words) -> dict[str, Any]:
    """What the note below the named segments says.

    Parameters
    ----------
    customers : rfm_segment, r_score, f_score, m_score.
    nested : shape (n,), the segments by nested binning, in the order of ``customers``.
    words : for the names.

    Returns
    -------
    unreachable (names, joined; empty when all can be reached), moved (share of customers whose name differs under nested
    binning).
    """
    both = customers["rfm_segment"].notna().to_numpy() & nested.notna().to_numpy()
    moved = customers["rfm_segment"].to_numpy()[both] != nested.to_numpy()[both]
    return {
        "unreachable": ", ".join(words.names("rfm", unreachable(customers))),
        "moved": float(moved.mean()) if both.any() else None,
    }
