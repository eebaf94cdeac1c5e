"""What each customer does, in one row: volume, basket, rhythm, discounts, breadth, week and day, channel."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.valuation.summary import purchase_days

SHARES = ("discount_share", "weekend_share", "evening_share", "other_channel_share")
EVENING_FROM = 17
UNITS = {
    "spend": "money",
    "purchase_days": "count",
    "basket": "money",
    "items": "number",
    "recency_days": "days",
    "discount_share": "share",
    "categories": "number",
    "stores": "number",
    "weekend_share": "share",
    "evening_share": "share",
    "other_channel_share": "share",
}


def widest_category(products: pd.DataFrame | None) -> str | None:
    """The first category level of a products table that tells products apart; None when there is none.

    Category levels stand from wide to narrow after product_id and name.
    """
    if products is None:
        return None
    levels = [c for c in products.columns if c not in ("product_id", "name")]
    return next((c for c in levels if products[c].nunique(dropna=True) > 1), None)


def utc_offsets(timezone: str, first: date, last: date) -> list[tuple[int, int]]:
    """When a time zone's clock changes, as the engine needs it.

    Parameters
    ----------
    timezone : IANA name.
    first, last : the days to cover.

    Returns
    -------
    (second since 1970 from which it holds, seconds to add to UTC), in order; the first holds from before
    ``first``.
    """
    zone = ZoneInfo(timezone)

    def offset(instant: datetime) -> int:
        return int(instant.astimezone(zone).utcoffset().total_seconds())

    moment = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=1)
    stop = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=2)
    changes = [(int(moment.timestamp()), offset(moment))]
    while moment < stop:
        following = moment + timedelta(days=1)
        if offset(following) != offset(moment):
            quarter = next(
                moment + timedelta(minutes=15 * i)
                for i in range(1, 97)
                if offset(moment + timedelta(minutes=15 * i)) != offset(moment)
            )
            changes.append((int(quarter.timestamp()), offset(quarter)))
        moment = following
    return changes


def _local_hour(instant: ibis.ir.TimestampValue, offsets: Sequence[tuple[int, int]]) -> ibis.ir.IntegerValue:
    seconds = instant.epoch_seconds()
    shift = ibis.literal(offsets[0][1])
    for start, offset in offsets[1:]:
        shift = ibis.ifelse(seconds >= start, offset, shift)
    return ((seconds + shift) % 86400 / 3600).floor().cast("int64")


def behaviour_features(
    order_lines: ibis.Table,
    observed_from: date,
    observed_to: date,
    timezone: str = "UTC",
    products: pd.DataFrame | None = None,
    category: str | None = None,
) -> pd.DataFrame:
    """Behaviour of each customer, reduced in the engine to one row a customer.

    A feature that the data cannot tell, or that is the same for everyone, is left out: categories without
    products, the time of day where orders carry only a date, channels where there is one.

    Parameters
    ----------
    order_lines : Ibis table of the canonical columns.
    observed_from, observed_to : the clock of the study.
    timezone : IANA name, for the time of day.
    products : frame with product_id and category levels, or None.
    category : level to count; the widest one by default.

    Returns
    -------
    Frame sorted by customer_id, customers with at least one purchase day: spend (money, net), purchase_days,
    basket (money a purchase day), items (lines sold a purchase day), recency_days, and, where they can be
    told, discount_share (of the price before discount), categories and stores (number of different ones),
    weekend_share, evening_share (orders from 17:00) and other_channel_share (orders outside the base's main
    channel), each 0 to 1.
    """
    end = ibis.literal(observed_to)
    lines = order_lines.filter(order_lines.order_date <= end)
    days = purchase_days(order_lines, observed_to)
    weekend = (days.order_date.day_of_week.index() >= 5).cast("int64")
    by_day = days.group_by("customer_id").aggregate(
        spend=days.spend.sum(),
        purchase_days=days.count(),
        recency_days=end.delta(days.order_date.max(), unit="day"),
        weekend_days=weekend.sum(),
    )
    by_line = _line_features(lines, observed_from, observed_to, timezone, products, category)
    raw = by_day.left_join(by_line, "customer_id").drop("customer_id_right").order_by("customer_id").to_pandas()
    return _finish(raw)


def _line_features(
    lines: ibis.Table,
    observed_from: date,
    observed_to: date,
    timezone: str,
    products: pd.DataFrame | None,
    category: str | None,
) -> ibis.Table:
    sold = lines.filter(~lines.is_return)
    level = category or widest_category(products)
    if level is not None and "product_id" in sold.columns:
        named = products[["product_id", level]].set_axis(["product_key", "category"], axis=1)
        names = ibis.memtable(pa.Table.from_pandas(named, preserve_index=False))
        sold = sold.left_join(names, [("product_id", "product_key")])
    hour = _local_hour(sold.ordered_at, utc_offsets(timezone, observed_from, observed_to))
    facts = {
        "orders": sold.order_id.nunique(),
        "item_count": sold.count(),
        "evening_orders": sold.order_id.nunique(where=hour >= EVENING_FROM),
        "first_hour": hour.min(),
        "last_hour": hour.max(),
    }
    if "discount" in sold.columns:
        facts |= {"discounted": sold.discount.fill_null(0).sum(), "sold": sold.net_amount.sum()}
    if "category" in sold.columns:
        facts["categories"] = sold.category.nunique()
    if "store_id" in sold.columns:
        facts["stores"] = sold.store_id.nunique()
    if "channel" in sold.columns and (main := _main_channel(sold)) is not None:
        facts["other_orders"] = sold.order_id.nunique(where=sold.channel != main)
    return sold.group_by("customer_id").aggregate(**facts)


def _main_channel(sold: ibis.Table) -> str | None:
    known = sold.filter(sold.channel.notnull())
    counts = known.group_by("channel").aggregate(n=known.count())
    top = counts.order_by(ibis.desc("n"), "channel").limit(1).to_pandas()["channel"]
    return str(top.iloc[0]) if len(top) else None


def _finish(raw: pd.DataFrame) -> pd.DataFrame:
    """Turn sums into ratios, and leave out what cannot be told or does not vary."""
    number = raw.drop(columns="customer_id").astype(float)
    days, orders = number["purchase_days"], number["orders"]
    features = pd.DataFrame({"customer_id": raw["customer_id"], "spend": number["spend"], "purchase_days": days})
    features["basket"] = number["spend"] / days
    features["items"] = number["item_count"] / days
    features["recency_days"] = number["recency_days"]
    if "discounted" in number:
        before = number["discounted"] + number["sold"]
        features["discount_share"] = (number["discounted"] / before.where(before > 0)).fillna(0.0)
    for column in ("categories", "stores"):
        if column in number:
            features[column] = number[column].fillna(0.0)
    features["weekend_share"] = number["weekend_days"] / days
    if number["last_hour"].max() > number["first_hour"].min():
        features["evening_share"] = number["evening_orders"] / orders
    if "other_orders" in number:
        features["other_channel_share"] = number["other_orders"] / orders
    varying = [
        c for c in features.columns if c in ("customer_id", "spend", "purchase_days") or features[c].nunique() > 1
    ]
    return features[varying]


def steady_shares(features: pd.DataFrame, strength: float = 5.0) -> pd.DataFrame:
    """Draw the shares of customers with few purchase days towards the base's share.

    One purchase on a Saturday is a weekend share of 100 %, which says nothing about the customer; without
    this, clusters gather around such zeros and ones. The drawn share is (days × own + strength × base) /
    (days + strength), the posterior mean under a beta prior that weighs as much as ``strength`` purchase
    days.

    Parameters
    ----------
    features : frame of :func:`behaviour_features`.
    strength : weight of the base, in purchase days; 0 leaves shares alone.
    """
    days = features["purchase_days"]
    drawn = {}
    for column in (c for c in SHARES if c in features.columns):
        base = np.average(features[column], weights=days)
        drawn[column] = (days * features[column] + strength * base) / (days + strength)
    return features.assign(**drawn)
