"""Customers who live together: how many households there are, and who is best once they are counted as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis.valuation.concentration import concentration

MOST_MEMBERS = 20


@dataclass(frozen=True)
class Households:
    """Customers pooled by household.

    Attributes
    ----------
    customers : one row a customer, in the order given: customer_id, household (number), members, amount, household_amount,
        best (among the best customers by own amount), best_household (in one of the best households).
    households : one row a household: household, members, amount.
    count : households. several : households with more than one customer. share_several, low, high : their share, with
        Wilson's interval. living_together : share of customers in them.
    too_large : household ids that more than ``MOST_MEMBERS`` customers share; these are taken for a placeholder, and their
        customers as living alone.
    unknown : customers without a household id, taken as living alone.
    top : share called the best. joined : customers in a best household who are not among the best by themselves; left :
        the best by themselves whose household is not among the best; moved, moved_low, moved_high : share of the best
        by themselves who left, with Wilson's interval.
    correlation, correlation_low, correlation_high : Spearman's, of own and household amounts over customers; interval by
        Fisher's z with the variance of Bonett & Wright (2000), None under 10 customers or without movement.
    top_share_customers, top_share_households : share of the amount that the best bring, counted either way; None without
        a positive amount.
    reason : None, or why there is nothing to pool: ``no_household_id`` or ``all_single``; the frames are then as if
        everybody lived alone.
    """

    customers: pd.DataFrame
    households: pd.DataFrame
    count: int
    several: int
    share_several: float
    low: float
    high: float
    living_together: float
    too_large: int
    unknown: int
    top: float
    joined: int
    left: int
    moved: float
    moved_low: float
    moved_high: float
    correlation: float | None
    correlation_low: float | None
    correlation_high: float | None
    top_share_customers: float | None
    top_share_households: float | None
    reason: str | None


def pool_households(
    customer_id: ArrayLike,
    amount: ArrayLike,
    customers: pd.DataFrame | None,
    top: float = 0.2,
    most_members: int = MOST_MEMBERS,
    confidence: float = 0.95,
) -> Households:
    """Add up what the customers of a household bring, and see how the best change.

    The best households are the first so many by amount; a household without others is one of one. Ties are broken by the
    order of household ids, so results repeat.

    Parameters
    ----------
    customer_id : shape (n,), of customers with a purchase. amount : shape (n,), what each brings (money).
    customers : the canonical table with customer_id and household_id, or None.
    top : share called the best, of customers and of households.
    most_members : an id shared by more customers is no household.

    Raises
    ------
    ValueError
        No customer, an amount is missing, a customer occurs twice, or ``top`` is not between 0 and 1.
    """
    ids, money = pd.Series(np.asarray(customer_id, dtype=object)), np.asarray(amount, dtype=float)
    if not len(ids) or len(ids) != len(money) or not np.isfinite(money).all() or ids.duplicated().any():
        raise ValueError("households: give each customer once, with an amount")
    if not 0 < top < 1:
        raise ValueError(f"households: top must lie between 0 and 1, not {top:g}")
    named = _household_ids(ids, customers)
    sizes = named.dropna().value_counts()
    large = sizes.index[sizes > most_members]
    shared = named.where(~named.isin(large))
    # A customer without a household is one; the space keeps such names apart from real ids.
    names = shared.where(shared.notna(), " " + ids.astype(str))
    number = pd.Series(pd.factorize(names, sort=True)[0])
    frame = pd.DataFrame({"customer_id": ids, "household": number, "amount": money})
    pooled = frame.groupby("household", as_index=False).agg(members=("amount", "size"), amount=("amount", "sum"))
    frame["members"] = pooled["members"].to_numpy()[number]
    frame["household_amount"] = pooled["amount"].to_numpy()[number]
    frame["best"] = _best(money, top)
    frame["best_household"] = _best(pooled["amount"].to_numpy(), top)[number]
    several = int((pooled["members"] > 1).sum())
    low, high = proportion_confint(several, len(pooled), 1 - confidence, method="wilson")
    left = int((frame["best"] & ~frame["best_household"]).sum())
    n_best = int(frame["best"].sum())
    moved_low, moved_high = proportion_confint(left, n_best, 1 - confidence, method="wilson")
    columns = ["customer_id", "household", "members", "amount", "household_amount", "best", "best_household"]
    return Households(
        frame[columns],
        pooled,
        len(pooled),
        several,
        several / len(pooled),
        float(low),
        float(high),
        float((frame["members"] > 1).mean()),
        len(large),
        int(named.isna().sum()),
        top,
        int((~frame["best"] & frame["best_household"]).sum()),
        left,
        left / n_best,
        float(moved_low),
        float(moved_high),
        *_rank_correlation(money, frame["household_amount"].to_numpy(), confidence),
        _top_share(money, top),
        _top_share(pooled["amount"].to_numpy(), top),
        "no_household_id" if named.isna().all() else "all_single" if several == 0 else None,
    )


def _household_ids(ids: pd.Series, customers: pd.DataFrame | None) -> pd.Series:
    if customers is None or "household_id" not in customers.columns:
        return pd.Series([None] * len(ids), dtype=object)
    found = customers.drop_duplicates("customer_id").set_index("customer_id")["household_id"].astype(object)
    text = ids.map(found)
    text = text.where(text.notna(), None).astype(object)
    return text.where(text.astype(str).str.strip() != "", None)


def _best(amount: np.ndarray, top: float) -> np.ndarray:
    count = max(1, round(top * len(amount)))
    best = np.zeros(len(amount), dtype=bool)
    best[np.argsort(-amount, kind="stable")[:count]] = True
    return best


def _top_share(amount: np.ndarray, top: float) -> float | None:
    if len(amount) < 2 or amount.max() <= 0:
        return None
    return float(concentration(amount, top).top_share.value)


def _rank_correlation(
    own: np.ndarray, pooled: np.ndarray, confidence: float
) -> tuple[float | None, float | None, float | None]:
    if len(own) < 3 or np.ptp(own) == 0 or np.ptp(pooled) == 0:
        return None, None, None
    rho = float(stats.spearmanr(own, pooled).statistic)
    if len(own) < 10 or rho > 1 - 1e-9:
        return rho, None, None
    reach = stats.norm.ppf((1 + confidence) / 2) * np.sqrt((1 + rho**2 / 2) / (len(own) - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-reach, reach]))
    return rho, float(low), float(high)
