"""Value tiers: whom to protect, where to invest, whom to let go, from the product of the RFM scores."""

from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from scipy.stats import norm

TIERS = ("protect", "invest", "let_go", "too_early")
PROTECT_SHARE = 0.2
LET_GO_SHARE = 0.8


@dataclass(frozen=True)
class TierCuts:
    """Where the product of the scores was cut, and the shares of customers that the cuts reach.

    Attributes
    ----------
    protect_from : smallest R×F×M of a protected customer; None when no cut comes near enough to 20 %.
    invest_from : smallest R×F×M of a customer to invest in; anything below is to be let go.
    protect_share, invest_share : cumulative share of customers at each cut, best customers first (0 to 1).
    customers : customers with a product.
    """

    protect_from: float | None
    invest_from: float
    protect_share: float
    invest_share: float
    customers: int


def tier_cuts(rfm_product: np.ndarray) -> TierCuts:
    """Cut the product of RFM scores where its cumulative share is nearest 20 % and 80 %.

    Customers are counted from the best product down. A cut falls only between two different products, so ties
    stay together; "nobody" and "everybody" are cuts too, so that customers who are all alike are all invested
    in. When two cuts are equally near, the one that serves more customers is taken.

    Parameters
    ----------
    rfm_product : array of shape (n,), product of three scores (1 to 125); nulls are left out.

    Returns
    -------
    TierCuts

    Raises
    ------
    ValueError
        No customer has a product.
    """
    known = np.asarray(rfm_product, dtype=float)
    known = known[~np.isnan(known)]
    if known.size == 0:
        raise ValueError(
            "tier_cuts: no customer has an rfm_product; run the valuation notebook on customers with purchases"
        )
    return _cuts(*np.unique(known, return_counts=True))


def tier_cuts_on_engine(scored: ibis.Table) -> TierCuts:
    """The same cuts from a table on any engine: only how many customers have each product is fetched.

    Parameters
    ----------
    scored : one row a customer: rfm_product; nulls are left out.

    Raises
    ------
    ValueError
        No customer has a product.
    """
    known = scored.filter(scored.rfm_product.notnull())
    counts = known.group_by("rfm_product").aggregate(n=known.count()).to_pyarrow().to_pandas()
    if counts.empty:
        return tier_cuts(np.zeros(0))
    counts = counts.sort_values("rfm_product")
    return _cuts(counts["rfm_product"].to_numpy(float), counts["n"].to_numpy(np.int64))


def _cuts(products: np.ndarray, counts: np.ndarray) -> TierCuts:
    products, reached = products[::-1], np.concatenate([[0], np.cumsum(counts[::-1])])
    n = int(reached[-1])
    # Whole numbers, because 0.2 has no exact float and equally near cuts must tie on every machine.
    protect = _nearest(5 * reached, n)
    invest = _nearest(5 * reached, 4 * n)
    return TierCuts(
        protect_from=float(products[protect - 1]) if protect else None,
        invest_from=float(products[invest - 1]),
        protect_share=float(reached[protect] / n),
        invest_share=float(reached[invest] / n),
        customers=n,
    )


def _nearest(reached: np.ndarray, target: int) -> int:
    distance = np.abs(reached - target)
    return int(np.flatnonzero(distance == distance.min())[-1])


def assign_tiers(
    rfm_product: np.ndarray, tenure_days: np.ndarray | None = None, too_early_days: int = 90
) -> tuple[pd.Series, TierCuts]:
    """Give each customer a value tier: protect, invest, let_go, or too_early.

    ``too_early`` marks a customer whom the cut would let go but whose first purchase is less than
    ``too_early_days`` old: a short history keeps frequency and spend low whatever the customer becomes.
    A young customer who already reached a better tier keeps it.

    Parameters
    ----------
    rfm_product : array of shape (n,).
    tenure_days : array of shape (n,), first purchase to the end of observation; None when unknown.
    too_early_days : age below which nobody is let go; 0 judges everyone.

    Returns
    -------
    Series of shape (n,), one of ``TIERS`` or null where the product is null, and the cuts used.
    """
    product = np.asarray(rfm_product, dtype=float)
    cuts = tier_cuts(product)
    protect_from = np.inf if cuts.protect_from is None else cuts.protect_from
    tier = np.select(
        [np.isnan(product), product >= protect_from, product >= cuts.invest_from],
        ["", "protect", "invest"],
        "let_go",
    )
    if tenure_days is not None:
        young = np.asarray(tenure_days, dtype=float) < too_early_days
        tier = np.where(young & (tier == "let_go"), "too_early", tier)
    series = pd.Series(tier, name="value_tier", dtype="str")
    return series.mask(series == ""), cuts


def add_value_tier(scored: ibis.Table, cuts: TierCuts, too_early_days: int = 90) -> ibis.Table:
    """Add ``value_tier`` on the engine, as :func:`assign_tiers` gives it.

    Parameters
    ----------
    scored : one row a customer: rfm_product; ``T``, the days since the first purchase, where known.
    cuts : of the same table.
    too_early_days : age below which nobody is let go; 0 judges everyone.
    """
    product = scored.rfm_product
    last = ibis.literal("let_go")
    if "T" in scored.columns:
        last = ibis.ifelse(scored["T"] < too_early_days, "too_early", "let_go")
    tier = ibis.ifelse(product >= cuts.invest_from, "invest", last)
    if cuts.protect_from is not None:
        tier = ibis.ifelse(product >= cuts.protect_from, "protect", tier)
    return scored.mutate(value_tier=ibis.ifelse(product.isnull(), None, tier))


def share_held(amount: np.ndarray, member: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Share of an amount that a group of customers holds, with an interval.

    The share is a ratio of two totals over customers; its standard error is the usual linearised one (Cochran
    1977, Sampling Techniques, eq. 6.13, without the finite-population factor), and says how far another draw
    of customers like these would move it, the cuts held where they are.

    Parameters
    ----------
    amount : array of shape (n,), money a customer.
    member : boolean array of shape (n,).
    level : confidence.

    Returns
    -------
    share, low, high; low and high are NaN with fewer than 30 customers or when everybody or nobody is a
    member.
    """
    amount, member = np.asarray(amount, dtype=float), np.asarray(member, dtype=bool)
    total, n = amount.sum(), amount.size
    if total <= 0:
        return float("nan"), float("nan"), float("nan")
    share = float(amount[member].sum() / total)
    if n < 30 or member.all() or not member.any():
        return share, float("nan"), float("nan")
    residual = amount * (member - share)
    error = np.sqrt(n / (n - 1) * np.sum(residual**2)) / total
    reach = norm.ppf(0.5 + level / 2) * error
    return share, float(max(share - reach, 0.0)), float(min(share + reach, 1.0))


def tier_table(customers: pd.DataFrame) -> pd.DataFrame:
    """What each tier holds.

    Parameters
    ----------
    customers : one row a customer: value_tier, spend (money), recency_days; margin (money) where known.

    Returns
    -------
    One row a tier that occurs, best first: customers, share_customers, sales, share_sales, margin,
    share_margin, sales_per_customer, mean_recency_days. Margins are NaN when the frame has none.
    """
    margin = customers["margin"] if "margin" in customers else pd.Series(np.nan, index=customers.index)
    grouped = customers.assign(_margin=margin.astype(float)).groupby("value_tier", observed=True)
    table = grouped.agg(
        customers=("spend", "size"),
        sales=("spend", "sum"),
        margin=("_margin", lambda m: m.sum(min_count=1)),
        mean_recency_days=("recency_days", "mean"),
    )
    table = table.reindex([t for t in TIERS if t in table.index]).reset_index()
    for column, share in (
        ("customers", "share_customers"),
        ("sales", "share_sales"),
        ("margin", "share_margin"),
    ):
        table[share] = table[column] / table[column].sum()
    table["sales_per_customer"] = table["sales"] / table["customers"]
    return table[
        [
            "value_tier",
            "customers",
            "share_customers",
            "sales",
            "share_sales",
            "margin",
            "share_margin",
            "sales_per_customer",
            "mean_recency_days",
        ]
    ]
