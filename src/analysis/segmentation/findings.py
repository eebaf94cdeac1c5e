"""What the notebook states, as facts for its sentences: estimate, interval or why there is none, and counts."""

from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from analysis.segmentation.clusters import DOUBTFUL, STABLE, Segments
from analysis.segmentation.life_stage import STAGES
from analysis.segmentation.privacy import JOIN, hide_small
from analysis.segmentation.tiers import TIERS, TierCuts, share_held
from analysis.segmentation.words import Words


def tier_finding(customers: pd.DataFrame, tier: str, small_group: int, words: Words) -> dict[str, Any]:
    """The share of sales that a tier brings, with an interval.

    A handful who are too early to judge are counted with those to let go, so that no total tells how few they
    are.

    Parameters
    ----------
    customers : value_tier, spend (money).
    tier : one of the tiers.
    small_group : a smaller tier is not shown.
    words : for the reason.

    Returns
    -------
    value, low, high (shares), reason, and the facts n, share_customers, per_customer, times (spend a customer
    against that of the others), joined (bool: were some too early to judge counted in?).
    """
    early = customers["value_tier"].eq("too_early")
    member = customers["value_tier"].eq(tier)
    joined = tier == "let_go" and bool(member.any()) and 0 < early.sum() < small_group
    member = (member | early if joined else member).to_numpy()
    n = int(member.sum())
    if n < small_group:
        reason = words("reason_nobody") if n == 0 else words("reason_small", small_group=small_group)
        facts = {
            "n": 0 if n == 0 else None,
            "share_customers": None,
            "per_customer": None,
            "times": None,
            "joined": joined,
        }
        return facts_of(None, None, None, reason, **facts)
    spend = customers["spend"].to_numpy(dtype=float)
    value, low, high = share_held(spend, member)
    others = spend[~member].mean() if n < len(spend) else 0.0
    per_customer = float(spend[member].mean())
    return facts_of(
        value,
        low,
        high,
        words("reason_few_customers"),
        n=n,
        share_customers=n / len(spend),
        per_customer=per_customer,
        times=float(per_customer / others) if others > 0 else None,
        joined=joined,
    )


def cell_finding(cells: pd.DataFrame, tier: str, stage: str, small_group: int, words: Words) -> dict[str, Any]:
    """The share of a tier in a life stage, with Wilson's interval.

    Parameters
    ----------
    cells : frame of :func:`tiers_by_stage`; a cell that it hides is not told.
    tier, stage : which cell.
    small_group, words : for the reason.

    Returns
    -------
    value, low, high (shares), reason, and the facts n and total.
    """
    row = cells[cells["code"] == tier]
    n = 0 if row.empty or stage not in cells else row[stage].iloc[0]
    return _share(None if n != n else int(n), 0 if row.empty else int(row["total"].iloc[0]), small_group, words)


def _share(n: int | None, total: int, small_group: int, words: Words) -> dict[str, Any]:
    if n is None or total < small_group or 0 < total - n < small_group:
        return facts_of(None, None, None, words("reason_small", small_group=small_group), n=None, total=None)
    low, high = proportion_confint(n, total, method="wilson")
    return facts_of(n / total, float(low), float(high), None, n=n, total=total)


def cluster_finding(segments: Segments, words: Words) -> dict[str, Any]:
    """How many natural clusters there are: a number of its own, 0 when customers form one cloud.

    Returns
    -------
    value, low, high, reason, and the facts verdict (``found``, ``none`` or the reason for no search),
    segments, stability, rows, needed, advised, small_base (bool: fewer customers than the literature
    advises), weak (segments not to trust).
    """
    search, customers = segments.search, len(segments.labels)
    facts = {
        "needed": segments.needed,
        "advised": segments.advised,
        "small_base": customers < segments.advised,
    }
    facts |= {"total": customers, "features": len(segments.basis)}
    if search is None:
        reason = words(f"reason_{segments.reason}_segments", **facts)
        return facts_of(None, None, None, reason, verdict=segments.reason, **facts)
    chosen = search.table.set_index("segments").loc[search.n_clusters]
    shares = segments.sizes["jaccard"]
    return facts_of(
        search.n_clusters if search.found else 0,
        None,
        None,
        words("reason_verdict"),
        verdict="found" if search.found else "none",
        segments=len(segments.sizes),
        rows=search.rows,
        stability=float(np.floor(100 * chosen["global_stability"] + 1e-9) / 100),  # as in the table
        weak=int((shares < DOUBTFUL).sum()),
        sound=int((shares >= STABLE).sum()),
        **facts,
    )


def facts_of(value: Any, low: float | None, high: float | None, reason: str | None, **facts: Any) -> dict[str, Any]:
    """What a finding takes: the value, its limits, or the reason why there are none, and the facts of its sentence."""
    known = low is not None and high is not None and low == low and high == high
    return {
        "value": value,
        "low": float(low) if known else None,
        "high": float(high) if known else None,
        "reason": None if known else reason,
        **facts,
    }


def cut_facts(cuts: TierCuts, customers: pd.DataFrame, too_early_days: int, small_group: int) -> dict[str, Any]:
    """Where the product was cut and the shares reached, for the note under the tiers.

    ``too_early`` is None where there are a few, but too few to count.
    """
    early = int((customers["value_tier"] == "too_early").sum())
    return {
        "protect_from": cuts.protect_from,
        "invest_from": cuts.invest_from,
        "protect_share": cuts.protect_share,
        "invest_share": cuts.invest_share,
        "let_go_share": 1 - cuts.invest_share,
        "too_early_days": too_early_days,
        "too_early": early if early == 0 or early >= small_group else None,
    }


def tiers_by_stage(customers: pd.DataFrame, small_group: int, words: Words) -> pd.DataFrame:
    """Customers by value tier and life stage, small cells hidden.

    Parameters
    ----------
    customers : value_tier, life_stage.
    small_group : least number of customers in a cell that is shown.
    words : for the names.

    Returns
    -------
    One row a tier: tier (name), one column a stage (its code) with counts or NaN, code (of the tier), total
    (of the tier).
    """
    stage = customers["life_stage"].astype(object).where(customers["life_stage"].notna(), "not_identified")
    cells = pd.crosstab(customers["value_tier"], stage)
    order = [s for s in (*STAGES, "not_identified") if s in cells]
    cells = cells.reindex(index=[t for t in TIERS if t in cells.index], columns=order)
    last = [t for t in ("let_go", "too_early") if t in cells.index]
    if len(last) == 2 and ((cells.loc["too_early"] > 0) & (cells.loc["too_early"] < small_group)).any():
        # A thin row of its own would force good cells of other tiers to be hidden with it.
        joined = cells.loc[last].sum().rename(JOIN.join(last)).to_frame().T
        cells = pd.concat([cells.drop(index=last), joined])
    shown = hide_small(cells, small_group).rename_axis(None, axis=1)
    shown = shown.assign(tier=words.names("tier", shown.index), code=shown.index, total=cells.sum(axis=1))
    return shown.reset_index(drop=True)[["tier", *order, "code", "total"]]


def segment_table(segments: Segments, words: Words) -> pd.DataFrame:
    """The segments with their proposed names, sizes, and how far to trust each.

    Returns
    -------
    Columns segment, name, customers, share_customers, share_sales, jaccard (rounded down to two decimals, so that
    none looks like the next grade), trust.
    """
    table = segments.sizes.copy()
    table["name"] = [words.segment(segments.markers[s]) for s in table["segment"]]
    grade = pd.cut(table["jaccard"], [-1, DOUBTFUL, STABLE, 2], labels=["doubtful", "fair", "stable"], right=False)
    table["trust"] = words.names("trust", list(grade))
    table["jaccard"] = np.floor(100 * table["jaccard"] + 1e-9) / 100
    return table[["segment", "name", "customers", "share_customers", "share_sales", "jaccard", "trust"]]


def named(table: pd.DataFrame, key: str, kind: str, words: Words) -> pd.DataFrame:
    """The table with the codes in ``key`` replaced by words."""
    return table.assign(**{key: words.names(kind, table[key])})


def relationship_finding(grid: pd.DataFrame, small_group: int, words: Words) -> dict[str, Any]:
    """The level advised for the customers to protect.

    Parameters
    ----------
    grid : second result of ``relationship_levels``.
    small_group : a smaller tier is not shown.
    words : for the reason.

    Returns
    -------
    value (a level or None), reason, and the facts band, n, ratio.
    """
    protect = grid[(grid["value_tier"] == "protect") & (grid["customers"] >= small_group)]
    if protect.empty:
        reason = words("reason_no_margin") if grid.empty else words("reason_small", small_group=small_group)
        return facts_of(None, None, None, reason, band=None, n=None, ratio=None)
    row = protect.iloc[0]
    facts = {
        "band": words.name("band", row["number_band"]),
        "n": int(row["customers"]),
        "ratio": float(row["margin_ratio"]),
    }
    return facts_of(str(row["level"]), None, None, words("reason_rule"), **facts)


def relationship_table(grid: pd.DataFrame, small_group: int, words: Words) -> pd.DataFrame:
    """The graded tiers in words, those with fewer than ``small_group`` customers left out."""
    shown = grid[grid["customers"] >= small_group]
    return shown.assign(
        value_tier=words.names("tier", shown["value_tier"]),
        number_band=words.names("band", shown["number_band"]),
        margin_band=words.names("band", shown["margin_band"]),
        level=words.names("level", shown["level"]),
    )


def marks(segments: Segments, words: Words) -> str:
    """What marks each segment, in one line, for the alt text of its picture."""
    return ". ".join(f"{s}: {words.segment(m)}" for s, m in segments.markers.items()) + "."


def customer_segment(
    summary: pd.DataFrame, stages: pd.DataFrame, labels: pd.DataFrame, levels: pd.Series
) -> pd.DataFrame:
    """The table that this notebook writes.

    Parameters
    ----------
    summary : customer_id, value_tier.
    stages : customer_id, life_stage.
    labels : customer_id, cluster.
    levels : shape (n,), in the order of ``summary``.
    """
    table = summary[["customer_id", "value_tier"]].assign(recommended_relationship_level=levels.to_numpy())
    table = table.merge(stages[["customer_id", "life_stage"]], on="customer_id", how="left", validate="one_to_one")
    table = table.merge(labels, on="customer_id", how="left", validate="one_to_one")
    return table[["customer_id", "value_tier", "life_stage", "cluster", "recommended_relationship_level"]]
