"""From text to typed values, as Ibis expressions: what cannot be read becomes null, never an error."""

from decimal import Decimal

import ibis
import ibis.expr.datatypes as dt
from ibis.expr.types import Column, StringColumn, Value

from analysis import engine
from analysis.study import Mapping, Source
from analysis.tables import MONEY

_WIDE = dt.Decimal(38, 10)
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_OFFSET = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"


def text(column: Column) -> StringColumn:
    """Surrounding white space removed; blank is null."""
    return column.strip().nullif("")


def number(column: StringColumn, source: Source) -> Column:
    """A decimal number to four places, ties to the even digit, in the source's notation."""
    if source.thousands:
        column = column.replace(source.thousands, "")
    if source.decimal == ",":
        # With a decimal comma, a point that is not declared as thousands separator makes the number unreadable.
        column = ibis.ifelse(column.contains("."), None, column.replace(",", "."))
    wide = column.try_cast(_WIDE)
    rounded = wide.try_cast(MONEY)  # ties away from zero
    step = ibis.ifelse(wide < 0, money("-0.0001"), money("0.0001"))
    tie = (rounded.cast(_WIDE) - wide).abs() == ibis.literal(Decimal("0.00005"), type=_WIDE)
    odd = rounded.cast("string").right(1).isin(["1", "3", "5", "7", "9"])
    return ibis.ifelse(tie & odd, (rounded - step).cast(MONEY), rounded)


def money(value: str) -> Value:
    """A constant with the type of money: the database would give a bare number a narrower one."""
    return ibis.literal(value).cast(MONEY)


def moment(column: StringColumn, mapping: Mapping, zone: str) -> Column:
    """An instant. A time that carries its offset is taken at its word; any other is wall-clock time in ``mapping.timezone``,
    or else in ``zone``."""
    if mapping.format:
        parsed = engine.parse_timestamp(column, mapping.format)
        # A format with a zone gives an instant already, on a clock that is UTC.
        return engine.instant("UTC" if _has_zone(mapping) else mapping.timezone or zone, parsed.cast("timestamp"))
    column = _dated(column)
    local = engine.instant(mapping.timezone or zone, column.try_cast("timestamp"))
    return ibis.ifelse(column.re_search(_OFFSET), column.try_cast(engine.INSTANT), local)


def day(column: StringColumn, mapping: Mapping, zone: str) -> Column:
    """A calendar day; a time of day behind it is dropped, unless it carries its offset: then it is the day in ``zone``."""
    if mapping.format and not _has_zone(mapping):
        return engine.parse_timestamp(column, mapping.format).date()
    abroad = engine.local_time(zone, moment(column, mapping, zone)).date()
    if mapping.format:
        return abroad
    return ibis.ifelse(column.re_search(_OFFSET), abroad, _dated(column).try_cast("timestamp").date())


def _dated(column: StringColumn) -> StringColumn:
    """Only what starts with a digit: the database would also take the words infinity and epoch for times."""
    return ibis.ifelse(column.re_search("^[0-9]"), column, None)


def _has_zone(mapping: Mapping) -> bool:
    return "%z" in mapping.format or "%Z" in mapping.format


def flag(column: StringColumn) -> Column:
    """True or false from the usual words and digits."""
    word = column.lower()
    return ibis.cases((word.isin(_TRUE), True), (word.isin(_FALSE), False), else_=None)


def whole(column: StringColumn, source: Source) -> Column:
    """A whole number; one with a fraction is unreadable."""
    value = number(column, source)
    return ibis.ifelse(value == value.floor(), value.cast("int64"), None)


def typed(column: StringColumn, dtype: dt.DataType, mapping: Mapping, source: Source, zone: str) -> Column:
    """``column`` as ``dtype``; null where it is blank or unreadable."""
    if dtype.is_string():
        return column
    if dtype.is_decimal():
        return number(column, source)
    if dtype.is_integer():
        return whole(column, source)
    if dtype.is_floating():
        return number(column, source).cast("float64")
    if dtype.is_timestamp():
        return moment(column, mapping, zone)
    if dtype.is_date():
        return day(column, mapping, zone)
    return flag(column)
