"""Rules that look at more than one row: repeats, cancellations and their originals, outliers, times of one order.

Each takes sound rows and gives a small table ``row_id, code`` of those that it applies to. None sorts or numbers all rows:
64-bit fingerprints find the few that may be equal, and only those are compared.
"""

from __future__ import annotations

import math
from functools import reduce

import ibis
import pandas as pd
from ibis import _
from ibis.expr.types import Table

from analysis.cleaning.rules import Context

CODES = (
    "duplicate_row",
    "duplicate_key",
    "duplicate_line",
    "order_time",
    "cancelled",
    "cancelled_whole",
    "cancelled_partly",
    "cancellation_without_original",
    "outlier",
)
_BUCKETS = 20  # a bucket of a histogram is a twentieth of a natural logarithm wide
_LEAST_SPREAD = 0.5  # of logarithms: where nearly all values are equal, ten times as much is still no outlier


def among(rows: Table, others: Table, by: str | list[str]) -> Table:
    """The rows that ``others`` has too: a table of its own, and no first link of a chain of joins."""
    return rows.semi_join(others, by).select(rows.columns)


def without(rows: Table, others: Table, by: str | list[str]) -> Table:
    """The rows that ``others`` does not have."""
    return rows.anti_join(others, by).select(rows.columns)


def _marked(rows: Table, code: str) -> Table:
    return rows.select("row_id", code=ibis.literal(code))


def _later_of_equal(rows: Table, by: list[str]) -> Table:
    """The rows that equal an earlier one in ``by``; by file and row number of that file, whichever file was read first."""
    nth = ibis.row_number().over(group_by=[rows[c] for c in by], order_by=[rows.file, rows.row_id])
    return rows.mutate(nth=nth).filter(_.nth > 0)


def _suspects(rows: Table, fingerprint: str) -> Table:
    """The row ids whose fingerprint is not the only one of its kind."""
    counted = rows.group_by(fingerprint).aggregate(n=_.count())
    twice = counted.filter(counted.n > 1).select(fingerprint)
    return among(rows, twice, fingerprint)


def duplicate_rows(rows: Table, raw: Table, columns: list[str], context: Context) -> Table:
    """Rows that equal an earlier one in every raw column.

    Parameters
    ----------
    rows : sound rows with ``row_id`` and ``row_print``, the fingerprint of all raw columns. raw : the source. columns : of it.
    """
    suspects = context.engine.keep(_suspects(rows.select("row_id", "row_print"), "row_print").select("row_id"))
    texts = among(raw.select("row_id", "file", *columns), suspects, "row_id")
    return _marked(_later_of_equal(texts, columns), "duplicate_row")


def duplicate_keys(rows: Table, key: list[str], context: Context) -> Table:
    """Rows whose key an earlier row has already.

    Parameters
    ----------
    rows : sound rows with ``row_id``, ``file``, the key and ``key_print``, its fingerprint.
    """
    suspects = _suspects(rows.select("row_id", "file", "key_print", *key), "key_print")
    return _marked(_later_of_equal(suspects, key), "duplicate_key")


def duplicate_lines(rows: Table, seconds: int, context: Context) -> Table:
    """Lines of one order with the same customer, product, quantity and amount as an earlier one at most ``seconds`` before.

    Letters' case tells no products apart here.
    """
    same = ["order_id", "customer_id", "quantity", "net_amount"]
    same += ["product"] if "product_id" in rows.columns else []
    lines = rows.mutate(product=rows.product_id.upper()) if "product" in same else rows
    lines = lines.mutate(key_print=context.engine.fingerprint([lines[c].cast("string") for c in same]))
    suspects = _suspects(lines.select("row_id", "file", "ordered_at", "key_print", *same), "key_print")
    before = suspects.ordered_at.lag().over(
        group_by=[suspects[c] for c in same], order_by=[suspects.ordered_at, suspects.file, suspects.row_id]
    )
    apart = suspects.ordered_at.epoch_seconds() - before.epoch_seconds()
    return _marked(suspects.mutate(apart=apart).filter(_.apart <= seconds), "duplicate_line")


def cancellations(rows: Table, context: Context) -> Table:
    """Lines that take back an earlier one, matched to it.

    A cancellation of the same quantity and amount takes back the earliest such line that is still there (``cancelled_whole``);
    one of less, part of what was bought before and is not yet taken back (``cancelled_partly``); all others have no original
    (``cancellation_without_original``). Matching is within the order that the cancellation names, or else within the
    customer and product. Where the study wants pairs out of the way, both are ``cancelled``.
    """
    wanted = context.study.rules.cancellations
    shape = f"^({wanted.order_id})$"
    cancels = rows.order_id.re_search(shape)
    group = {"customer": rows.customer_id}
    if wanted.names_order:
        named = rows.order_id.re_extract(shape, 2)
        group = {"original_order": ibis.ifelse(cancels, named, rows.order_id)}
    if "product_id" in rows.columns:
        group["product"] = rows.product_id.upper().fill_null("")
    lines = rows.select(
        "row_id", "file", "ordered_at", "quantity", "net_amount", cancels=cancels & (rows.net_amount <= 0), **group
    )
    within = list(group)
    some = context.engine.keep(lines.filter(lines.cancels).select(within).distinct())
    lines = context.engine.keep(among(lines, some, within).filter((_.net_amount > 0) | _.cancels))
    if _rows(lines) == 0:
        return _marked(lines, "cancelled_whole")
    sizes = {"size": _.quantity.abs(), "money": _.net_amount.abs()}
    whole = _matched(lines.mutate(**sizes), [*within, "size", "money"], ibis.ifelse(_.cancels, -1, 1), context)
    rest = whole.filter(~whole.pair.notnull()).select(lines.columns)
    partly = _matched(
        rest, within, ibis.ifelse(_.cancels, -_.quantity.abs(), _.quantity.abs()).cast("float64"), context
    )
    partly = partly.filter(partly.cancels)
    part = partly.filter(partly.covered)
    alone = partly.filter(~partly.covered)
    paired = whole.filter(whole.pair.notnull())
    found = []
    if wanted.with_original == "set_aside":
        found.append(_marked(paired, "cancelled"))
    elif context.severities["cancelled_whole"] != "off":
        found.append(_marked(paired.filter(paired.cancels), "cancelled_whole"))
    if context.severities["cancelled_partly"] != "off":
        found.append(_marked(part, "cancelled_partly"))
    if wanted.without_original == "set_aside":
        found.append(_marked(alone, "cancellation_without_original"))
    return reduce(lambda a, b: a.union(b), found) if found else _marked(lines.filter(False), "cancelled_whole")


def _matched(lines: Table, within: list[str], step: ibis.Deferred, context: Context) -> Table:
    """Lines with ``covered`` (a cancellation for which enough was bought before) and ``pair`` (its number and that of the line
    it takes back, where each step is one line; null for the others).

    What is bought and taken back adds up over time to a balance that a cancellation without an original must not push below
    nought: the part of the fall below the lowest balance so far is uncovered (a reflected sum: Harrison 1985, section 2.2).
    """
    order = [_.ordered_at, _.cancels, _.file, _.row_id]
    so_far = ibis.window(group_by=within, order_by=order, preceding=None, following=0)
    lines = lines.mutate(step=step)
    lines = context.engine.keep(lines.mutate(balance=_.step.sum().over(so_far)))
    lowest = lines.balance.min().over(so_far)
    lines = context.engine.keep(lines.mutate(lowest=ibis.least(lowest, 0)))
    before = lines.lowest.lag().over(ibis.window(group_by=within, order_by=order)).fill_null(0)
    lines = context.engine.keep(lines.mutate(covered=lines.cancels & (lines.lowest >= before)))
    # First bought, first taken back: the n-th covered cancellation takes back the n-th line.
    counted = lines.filter(lines.covered | ~lines.cancels)
    nth = ibis.row_number().over(group_by=[*[counted[c] for c in within], counted.cancels], order_by=order)
    numbered = context.engine.keep(counted.select("row_id", "cancels", *within, nth=nth))
    returned = numbered.filter(numbered.cancels).group_by(within).aggregate(taken_back=_.count())
    pairs = numbered.inner_join(returned, within).filter(_.nth < _.taken_back).select("row_id", pair="nth")
    return context.engine.keep(lines.left_join(pairs, "row_id").drop("row_id_right", "step", "balance", "lowest"))


def outliers(rows: Table, limit: float, context: Context) -> tuple[Table, pd.DataFrame]:
    """Lines with an amount, price or quantity further from the median than ``limit`` robust standard deviations.

    Logarithms of the sizes are compared, since amounts are skewed; the spread is 1.4826 times the median absolute deviation
    (Rousseeuw & Croux 1993). Medians come from a histogram, so that nothing is sorted.

    Returns
    -------
    The marked rows, and the limits: ``column, low, high``, in the column's unit.
    """
    sizes = {c: rows[c].abs().cast("float64") for c in ("net_amount", "unit_price", "quantity") if c in rows.columns}
    parts = []
    for column, size in sizes.items():
        some = rows.filter(size > 0)
        bucket = (some[column].abs().cast("float64").ln() * _BUCKETS + 1e-9).floor().cast("int64")
        parts.append(some.group_by(bucket=bucket).aggregate(n=_.count()).mutate(column=ibis.literal(column)))
    histograms = reduce(lambda a, b: a.union(b), parts).to_pandas().sort_values("bucket")
    found, limits = [], []
    for column, size in sizes.items():
        counts = histograms[histograms.column == column]
        if counts.n.sum() < 20:
            continue  # of so few none can be told from the others
        middle = _weighted_median(counts.bucket, counts.n)
        spread = _weighted_median((counts.bucket - middle).abs(), counts.n)
        reach = limit * max(1.4826 * spread / _BUCKETS, _LEAST_SPREAD)
        centre = (middle + 0.5) / _BUCKETS
        low, high = math.exp(centre - reach), math.exp(centre + reach)
        limits.append((column, low, high))
        found.append((size > 0) & ((size < low) | (size > high)))
    if not found:
        return _marked(rows.filter(False), "outlier"), pd.DataFrame(limits, columns=["column", "low", "high"])
    far = rows.filter(reduce(lambda a, b: a | b, found))
    return _marked(far, "outlier"), pd.DataFrame(limits, columns=["column", "low", "high"])


def _weighted_median(values: pd.Series, weights: pd.Series) -> float:
    order = values.argsort(kind="stable")
    total = weights.iloc[order].cumsum()
    return float(values.iloc[order].iloc[int((total < total.iloc[-1] / 2).sum())])


def order_times(rows: Table, context: Context) -> Table:
    """Lines whose time is that of the other lines of their order in UTC instead of local time, and the time that they have then:
    ``row_id, ordered_at, order_date``.

    A line is moved when most lines of its order have one time, and its own is earlier or later by just the hours between UTC
    and the study's zone.
    """
    zone = context.mapping.columns["ordered_at"].timezone or context.study.timezone
    spread = rows.group_by("order_id").aggregate(first=_.ordered_at.min(), last=_.ordered_at.max())
    some = context.engine.keep(spread.filter(spread.first != spread["last"]).select("order_id"))
    lines = context.engine.keep(among(rows.select("row_id", "order_id", "ordered_at"), some, "order_id"))
    counted = lines.group_by("order_id", "ordered_at").aggregate(n=_.count())
    sizes = lines.group_by("order_id").aggregate(lines=_.count())
    usual = counted.inner_join(sizes, "order_id").filter(_.n * 2 > _.lines).select("order_id", usual_at="ordered_at")
    lines = context.engine.keep(lines.inner_join(usual, "order_id").filter(_.ordered_at != _.usual_at))
    # The usual time's wall clock, taken for UTC, is as far from it as the zone is.
    ahead = context.engine.instant("UTC", context.engine.local_time(zone, lines.usual_at))
    off = (lines.usual_at.epoch_seconds() - lines.ordered_at.epoch_seconds()).abs()
    moved = lines.filter((off > 0) & (off == (ahead.epoch_seconds() - lines.usual_at.epoch_seconds()).abs()))
    day = context.engine.local_time(context.study.timezone, moved.usual_at).date()
    return moved.select("row_id", ordered_at="usual_at", order_date=day)


def _rows(table: Table) -> int:
    return int(table.count().to_pyarrow().as_py())
