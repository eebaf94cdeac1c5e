"""What is known of customers early: their first days with us, and what they brought afterwards."""

from __future__ import annotations

from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.segmentation.features import widest_category
from analysis.valuation.summary import MARGIN, MONEY, line_margin, purchase_days, to_frame, within

KEYS = ("customer_id", "first_day", "days_seen", "outcome")
NOT_ATTRIBUTES = (
    "customer_id",
    "prospect_id",
    "household_id",
    "referred_by",
    "acquired_on",
    "consent_email",
    "consent_sms",
)
_NUMERIC_FROM = 10  # different numbers from which a column of numbers is read as a quantity and not as codes
_MOST_LEVELS = 0.5  # share of different values from which a text column is a name and not a kind


def first_days(order_lines: ibis.Table, observed_to: date) -> pd.Series:
    """Day of each customer's first purchase occasion, datetime64, shape (customers,)."""
    days = purchase_days(order_lines, observed_to)
    first = days.group_by(days.customer_id.cast("string").name("customer_id")).aggregate(
        first_day=days.order_date.min()
    )
    return pd.to_datetime(to_frame(first)["first_day"])


def early_behaviour(
    order_lines: ibis.Table,
    observed_to: date,
    age: int,
    horizon: int,
    *,
    margin_rate: float | None = None,
    products: pd.DataFrame | None = None,
    category: str | None = None,
    measure: str | None = None,
) -> pd.DataFrame:
    """First ``age`` days of each customer, and what the ``horizon`` days after them brought, one row a customer.

    Day 0 is the customer's first purchase occasion; the first days are 0 to ``age`` − 1, the outcome's are ``age`` to
    ``age`` + ``horizon`` − 1. Lines before day 0, such as free goods, do not count. Reduced in the engine.

    Parameters
    ----------
    order_lines : canonical table.
    observed_to : last observed day.
    age, horizon : days.
    margin_rate : margin as a share of net sales, for lines whose cost is unknown.
    products, category : for the number of categories; the widest level by default.
    measure : "sales" or "margin" as the outcome; margin where that of every line is known by default.

    Returns
    -------
    Frame sorted by customer_id, customers seen for ``age`` days at least. customer_id; first_day (datetime64); days_seen (days
    from day 0 to the end, both counted); outcome (money; NaN where its days are not all observed). Features of the first
    days: spend, margin (money, net; margin is left out where it is not known), purchase_days, days_since_last (at the end of the
    first days), first_spend (money of day 0), first_items (lines of day 0), items (lines a purchase day), recent_days and
    recent_spend (purchase days in their second half, and their money), returned_share (of what was sold), and where they can
    be told discount_share, categories, stores, channels (number of different ones) and entry_channel (of day 0, text).
    ``frame.attrs["outcome"]`` is "margin" or "sales".

    Raises
    ------
    ValueError
        Age or horizon below one day.
    """
    if age < 1 or horizon < 1:
        raise ValueError(f"early_behaviour: age ({age}) and horizon ({horizon}) are days, at least 1")
    days = purchase_days(order_lines, observed_to)
    first = days.group_by("customer_id").aggregate(first_day=days.order_date.min())
    # as a day of its own: an engine need not know how to take days off a literal
    known = first.filter(first.first_day <= ibis.literal(observed_to - timedelta(days=age - 1)))
    by_day = _by_day(days, known, age)
    by_line = _by_line(within(order_lines, observed_to), known, age, horizon, margin_rate, products, category)
    raw = to_frame(by_day.join(by_line, "customer_id"))
    return _finish(raw, observed_to, age, horizon, measure)


def _by_day(days: ibis.Table, known: ibis.Table, age: int) -> ibis.Table:
    dated = days.join(known, "customer_id")
    dated = dated.mutate(offset=dated.order_date.delta(dated.first_day, unit="day"))
    early = dated.filter(dated.offset < age)
    return early.group_by(early.customer_id.cast("string").name("customer_id")).aggregate(
        first_day=early.first_day.min(),
        purchase_days=early.count(),
        last_offset=early.offset.max(),
        recent_days=(early.offset >= age / 2).cast("int64").sum(),
        recent_spend=_money(early, early.offset >= age / 2),
        first_spend=_money(early, early.offset == 0),
    )


def _money(days: ibis.Table, where: ibis.Value) -> ibis.Value:
    return ibis.ifelse(where, days.spend, ibis.literal(0).cast(MONEY)).sum().cast("float64")


def _by_line(
    lines: ibis.Table,
    known: ibis.Table,
    age: int,
    horizon: int,
    margin_rate: float | None,
    products: pd.DataFrame | None,
    category: str | None,
) -> ibis.Table:
    lines = lines.mutate(line_margin=line_margin(lines, margin_rate).cast(MARGIN))
    dated = lines.join(
        known.select(customer_key="customer_id", first_day="first_day"), [("customer_id", "customer_key")]
    )
    dated = dated.mutate(offset=dated.order_date.delta(dated.first_day, unit="day"))
    dated = dated.filter((dated.offset >= 0) & (dated.offset < age + horizon))
    level = category or widest_category(products)
    if level is not None and "product_id" in dated.columns:
        named = products[["product_id", level]].set_axis(["product_key", "category"], axis=1)
        names = ibis.memtable(pa.Table.from_pandas(named, preserve_index=False))
        dated = dated.left_join(names, [("product_id", "product_key")])
    early = dated.offset < age
    sold = early & ~dated.is_return
    nothing = ibis.literal(0).cast(MONEY)

    def money(amount: ibis.Value, where: ibis.Value) -> ibis.Value:
        return ibis.ifelse(where, amount.cast(MONEY), nothing).sum().cast("float64")

    def margin(where: ibis.Value) -> ibis.Value:
        return ibis.ifelse(where, dated.line_margin, ibis.literal(0).cast(MARGIN)).sum().cast("float64")

    def count(where: ibis.Value) -> ibis.Value:
        return where.cast("int64").sum()

    facts = {
        "spend": money(dated.net_amount, early),
        "margin": margin(early),
        "sales_after": money(dated.net_amount, ~early),
        "margin_after": margin(~early),
        "margin_unknown": dated.line_margin.isnull().any(),
        "sold": money(dated.net_amount, sold),
        "returned": money(dated.net_amount, early & dated.is_return),
        "item_count": count(sold),
        "first_items": count(sold & (dated.offset == 0)),
    }
    if "discount" in dated.columns:
        facts["discounted"] = money(dated.discount.fill_null(0), sold)
    for column, name in (("category", "categories"), ("store_id", "stores"), ("channel", "channels")):
        if column in dated.columns:
            facts[name] = dated[column].nunique(where=sold)
    if "channel" in dated.columns:
        facts["entry_channel"] = dated.channel.min(where=sold & (dated.offset == 0))
    return dated.group_by(dated.customer_id.cast("string").name("customer_id")).aggregate(**facts)


def _finish(raw: pd.DataFrame, observed_to: date, age: int, horizon: int, measure: str | None) -> pd.DataFrame:
    number = raw.drop(columns=["customer_id", "first_day", "entry_channel"], errors="ignore").astype(float)
    first_day = pd.to_datetime(raw["first_day"])
    days_seen = (pd.Timestamp(observed_to) - first_day).dt.days + 1
    # one measure for all: the margin of some and the sales of others cannot be ranked together
    outcome = measure or ("sales" if len(raw) and number["margin_unknown"].any() else "margin")
    frame = pd.DataFrame({"customer_id": raw["customer_id"], "first_day": first_day, "days_seen": days_seen})
    frame["outcome"] = number[f"{outcome}_after"].where(days_seen >= age + horizon)
    frame["spend"] = number["spend"]
    if outcome == "margin":
        frame["margin"] = number["margin"]
    frame["purchase_days"] = number["purchase_days"]
    frame["days_since_last"] = age - 1 - number["last_offset"]
    for column in ("first_spend", "first_items", "recent_days", "recent_spend"):
        frame[column] = number[column]
    frame["items"] = number["item_count"] / number["purchase_days"]
    sold = number["sold"]
    frame["returned_share"] = (-number["returned"] / sold.where(sold > 0)).fillna(0.0)
    if "discounted" in number:
        before = number["discounted"] + sold
        frame["discount_share"] = (number["discounted"] / before.where(before > 0)).fillna(0.0)
    for column in ("categories", "stores", "channels"):
        if column in number:
            frame[column] = number[column].fillna(0.0)
    if "entry_channel" in raw:
        frame["entry_channel"] = raw["entry_channel"].astype("str")
    frame.attrs["outcome"] = outcome
    return frame


def person_attributes(people: pd.DataFrame | None, key: str = "customer_id") -> pd.DataFrame:
    """What a table of people says of each, ready for a classifier: numbers as floats, kinds as text, missing as null.

    Left out: keys, consent (it is permission, not a trait, and changes with how people were treated), dates, columns without a
    value, and text that names nearly everybody differently, such as a hashed address.

    Parameters
    ----------
    people : frame with ``key`` and attribute columns, or None.
    key : ``customer_id`` or ``prospect_id``.

    Returns
    -------
    Frame of ``key`` and the attributes; a text column whose values are all numbers, ten different ones or more, is read as a
    quantity.
    """
    if people is None:
        return pd.DataFrame({key: pd.Series(dtype="str")})
    kept = {key: people[key].astype("str")}
    for column in people.columns.difference(NOT_ATTRIBUTES, sort=False):
        values = _typed(people[column])
        if values is not None:
            kept[column] = values
    return pd.DataFrame(kept)


def _typed(values: pd.Series) -> pd.Series | None:
    known = values.dropna()
    if known.nunique() < 1:
        return None
    if pd.api.types.is_datetime64_any_dtype(values) or isinstance(known.iloc[0], date):
        return None
    if pd.api.types.is_bool_dtype(known) or isinstance(known.iloc[0], bool | np.bool_):
        return values.map({True: "yes", False: "no"}).astype("str")
    if (numbers := pd.to_numeric(known, errors="coerce")).notna().all() and numbers.nunique() >= _NUMERIC_FROM:
        return pd.to_numeric(values, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    text = values.astype("str")
    return None if len(known) >= 20 and known.nunique() > _MOST_LEVELS * len(known) else text
