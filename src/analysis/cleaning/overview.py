"""What happened, in the few figures that everyone asks for first: overall, by month, product group, region and channel.

Everything is computed by the engine; a frame here has one row a month or a group, never one a customer.
"""

import datetime
from collections.abc import Mapping

import ibis
import pandas as pd
from ibis import _

from analysis.cleaning.groups import in_groups, shown_groups
from analysis.cleaning.words import Words

KEY_UNITS = {
    "customers": "count",
    "orders": "count",
    "net_sales": "money",
    "basket": "money",
    "repeat_rate": "share",
    "return_rate": "share",
}
DIMENSIONS = ("product_group", "region", "channel")
_FIGURES = tuple(KEY_UNITS)
_MOST = 8  # groups with a bar of their own


def overview(lines: ibis.Table, by: str | None = None) -> pd.DataFrame:
    """The key figures of order lines, in all or by a column of theirs.

    Parameters
    ----------
    lines : the canonical table; with the column ``by`` where it is given.

    Returns
    -------
    One row in all, or one row a value of ``by`` (a missing one included): ``customers``, ``orders`` (distinct ones with a line
    that is no return), ``net_sales`` (returns taken off), ``basket`` (net sales an order), ``repeat_rate`` (share of customers
    who bought on at least two days, a day being one with net spend above zero), ``return_rate`` (what came back, as a share
    of what was sold). Rates are of the rows of the group alone; NaN where there is nothing to divide by.
    """
    group = [by] if by else []
    sold, back = (
        ibis.ifelse(lines.is_return, None, lines.net_amount),
        ibis.ifelse(lines.is_return, lines.net_amount, None),
    )
    money = lines.aggregate(
        by=group,
        customers=lines.customer_id.nunique(),
        orders=lines.order_id.nunique(where=~lines.is_return),
        net_sales=lines.net_amount.sum().cast("float64"),
        sold=sold.sum().cast("float64"),
        back=back.sum().cast("float64"),
    )
    days = lines.group_by([*group, "customer_id", "order_date"]).aggregate(spend=_.net_amount.sum())
    buyers = days.filter(days.spend > 0).group_by([*group, "customer_id"]).aggregate(days=_.count())
    again = buyers.aggregate(by=group, buyers=_.count(), again=(_.days >= 2).sum())
    frame, repeated = money.to_pandas(), again.to_pandas()
    # In pandas, because a missing group does not equal itself in a join of the engine.
    frame = frame.merge(repeated, on=by, how="left") if by else pd.concat([frame, repeated], axis=1)
    frame["basket"] = frame.net_sales / frame.orders.where(frame.orders > 0)
    frame["repeat_rate"] = frame.again.astype(float) / frame.buyers.where(frame.buyers > 0)
    frame["return_rate"] = frame.back.fillna(0).abs() / frame.sold.where(frame.sold > 0)
    return frame[[*group, *_FIGURES]].sort_values(by or "net_sales", ignore_index=True)


def key_facts(lines: ibis.Table, small_group: int) -> dict[str, object]:
    """The key figures in all, for sentences, customers as ``buyers``; each None where these are fewer than ``small_group``."""
    [figures] = overview(lines).rename(columns={"customers": "buyers"}).to_dict("records")
    return figures if figures["buyers"] >= small_group else dict.fromkeys(figures)


def by_month(
    lines: ibis.Table, observed_from: datetime.date, observed_to: datetime.date, small_group: int
) -> pd.DataFrame:
    """The key figures of every month of the observed period.

    Returns
    -------
    ``month`` (its first day), the figures of :func:`overview`, and ``partial``: the clock starts or ends within the month.
    Months with fewer than ``small_group`` customers are blank; where that would be one alone, the next smallest is blank too,
    or a total would tell it. Months without a sale are zeros.
    """
    within = lines.filter((_.order_date >= observed_from) & (_.order_date <= observed_to))
    found = overview(within.mutate(month=_.order_date.truncate("M")), "month")
    found["month"] = pd.to_datetime(found["month"])
    whole = pd.period_range(observed_from, observed_to, freq="M")
    frame = found.set_index("month").reindex(whole.to_timestamp().rename("month")).reset_index()
    frame = frame.fillna({"customers": 0, "orders": 0, "net_sales": 0.0})
    frame["partial"] = (whole.start_time.date < observed_from) | (whole.end_time.date > observed_to)
    return _hide_small(frame, small_group)


def _hide_small(frame: pd.DataFrame, small_group: int) -> pd.DataFrame:
    some = frame.customers > 0
    hidden = some & (frame.customers < small_group)
    if hidden.sum() == 1 and (some & ~hidden).any():
        hidden[frame.customers[some & ~hidden].idxmin()] = True
    figures = frame[list(_FIGURES)].astype(float)
    return frame.assign(**figures.mask(hidden))


def groupings(lines: ibis.Table, tables: Mapping[str, ibis.Table]) -> dict[str, ibis.Table]:
    """Order lines with a column ``group`` for each dimension that the data have.

    Parameters
    ----------
    tables : canonical tables by name; ``products`` gives the product group (its first category level that tells products
        apart), ``customers`` the region.

    Returns
    -------
    ``product_group``, ``region``, ``channel`` -> the lines; a dimension without any value is left out.
    """
    found = {}
    products, customers = tables.get("products"), tables.get("customers")
    level = product_level(products) if products is not None and "product_id" in lines.columns else None
    if level:
        found["product_group"] = _joined(lines, products, "product_id", level)
    if customers is not None and "region" in customers.columns:
        found["region"] = _joined(lines, customers, "customer_id", "region")
    if "channel" in lines.columns:
        found["channel"] = lines.mutate(group=lines.channel)
    return {name: table for name, table in found.items() if _any_value(table)}


def product_level(products: ibis.Table) -> str | None:
    """The first category level of ``products`` that tells products apart; None where there is none.

    Category levels stand from wide to narrow after ``product_id`` and ``name``.
    """
    levels = [c for c in products.columns if c not in ("product_id", "name")]
    if not levels:
        return None
    counts = products.aggregate(**{c: products[c].nunique() for c in levels}).to_pyarrow().to_pylist()[0]
    return next((c for c in levels if counts[c] > 1), None)


def by_group(lines: ibis.Table, small_group: int, words: Words, most: int = _MOST) -> pd.DataFrame:
    """The key figures by ``group``, the largest sales first, everything small in one row.

    Parameters
    ----------
    lines : with a column ``group``, as :func:`groupings` gives it.
    most : groups with a row of their own at most; never one with fewer than ``small_group`` customers.

    Returns
    -------
    ``group`` (None for all others), ``label``, the figures of :func:`overview`, ``share`` (of net sales). Empty when
    there are too few customers in all.
    """
    kept = shown_groups(lines, _.customer_id.nunique(), _.net_amount.sum(), small_group, most)
    frame = overview(in_groups(lines, kept), "group")
    if not kept:
        frame = frame[frame.customers >= small_group]
    frame = frame.sort_values("net_sales", ascending=False, key=lambda s: s.where(frame.group.notna(), float("-inf")))
    total = frame.net_sales.sum()
    labels = [words("group_others") if pd.isna(g) else str(g) for g in frame.group]
    return frame.assign(label=labels, share=frame.net_sales / total if total else float("nan")).reset_index(drop=True)


def absent(groups: Mapping[str, object], words: Words) -> str:
    """The dimensions that the data cannot be broken down by, in words; empty where there are all."""
    return words.listed(words.names("dimension", [name for name in DIMENSIONS if name not in groups]))


def _joined(lines: ibis.Table, other: ibis.Table, key: str, column: str) -> ibis.Table:
    return lines.left_join(other.select(key, group=column), key).drop(f"{key}_right")


def _any_value(table: ibis.Table) -> bool:
    return bool(table.group.count().to_pyarrow().as_py())
