"""From text to typed values, as Ibis expressions: what cannot be read becomes null, never an error.

A number or a date in another form than the declared one is read where there is only one reading, and the form is kept
beside the value, so that the report can say what was put right. Where there are two readings there is no value.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from decimal import Decimal

import ibis
import ibis.expr.datatypes as dt
from babel.numbers import get_currency_symbol
from ibis.expr.types import Column, StringColumn, Table, Value

from analysis.engine import Engine
from analysis.study import IdForm, Mapping, Source
from analysis.tables import MONEY

_WIDE = (38, 19)
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")

# What was unusual about a value, as bits.
CURRENCY_SIGN, THOUSANDS_SEPARATOR, DECIMAL_SIGN, NEGATIVE_FORM, DATE_FORM, ID_FORM, AMBIGUOUS = (
    1 << n for n in range(7)
)
FORMS = {
    "currency_sign": CURRENCY_SIGN,
    "thousands_separator": THOUSANDS_SEPARATOR,
    "decimal_sign": DECIMAL_SIGN,
    "negative_form": NEGATIVE_FORM,
    "date_form": DATE_FORM,
    "customer_id_form": ID_FORM,
}

_TIME = r"(?:[ T]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,9})?)?)?"
_YEAR_FIRST = rf"^([0-9]{{4}})[-/.]([0-9]{{1,2}})[-/.]([0-9]{{1,2}}){_TIME}$"
_YEAR_LAST = rf"^([0-9]{{1,2}})[-/.]([0-9]{{1,2}})[-/.]([0-9]{{4}}){_TIME}$"
_OFFSET = r"^(.*:[0-9.]+) ?(Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)$"


def text(column: StringColumn, padded: bool = True, blank: bool = True) -> StringColumn:
    """Surrounding white space removed; blank is null.

    Parameters
    ----------
    padded, blank : whether there may be white space around a value, or blank values: looking costs time.
    """
    if padded:
        # To look for white space is much cheaper than to strip all values of it.
        column = ibis.ifelse(column.re_search(r"^\s|\s$"), column.strip(), column)
    return column.nullif("") if blank or padded else column


def money(value: str) -> Value:
    """A constant with the type of money: the database would give a bare number a narrower one."""
    return ibis.literal(Decimal(value), type=MONEY)


@dataclass(frozen=True)
class Field:
    """How a column is read.

    Attributes
    ----------
    dtype : of the value. mapping : the study's; for an id of a customer ``id_form`` too. source : of a value that is looked
    up, the source that it is found in, which may write numbers in its own way.
    """

    dtype: dt.DataType
    mapping: Mapping
    id_form: IdForm | None = None
    source: Source | None = None

    @property
    def kind(self) -> str:
        """``number``, ``date``, ``id`` or ``word``: which of them may be written in several ways."""
        if self.id_form is not None:
            return "id"
        if self.dtype.is_numeric() and not self.dtype.is_boolean():
            return "number"
        if self.dtype.is_timestamp() or self.dtype.is_date():
            return "word" if self.mapping.format else "date"
        return "word"


@dataclass(frozen=True)
class Reader:
    """Reads the texts of one source.

    Attributes
    ----------
    engine : where it is computed. source : how the source writes numbers. zone : the study's time zone. currency : its currency,
    whose signs say nothing new.
    """

    engine: Engine
    source: Source
    zone: str
    currency: str

    def plain(self, column: StringColumn, field: Field) -> Value:
        """``column`` (stripped text) in its usual form: a number in the source's notation, a date as year-month-day or in the
        mapping's format, an id that fits its pattern; null for anything else, for :meth:`mended` to look at."""
        dtype = field.dtype
        if field.kind == "id":
            return ibis.ifelse(column.re_search(f"^({field.id_form.pattern})$"), column, None)
        if field.kind == "number":
            return _as(self.engine.decimal(self._declared(column, field), MONEY.precision, MONEY.scale), dtype)
        if dtype.is_boolean():
            word = column.lower()
            return ibis.cases((word.isin(_TRUE), True), (word.isin(_FALSE), False), else_=None)
        if dtype.is_string():
            return column
        return self._dated(self.engine.wall_clock(column) if not field.mapping.format else None, column, field)

    def mended(self, rows: Table, fields: dict[str, Field]) -> Table:
        """Values that :meth:`plain` left null, read from their other forms.

        Parameters
        ----------
        rows : with ``<name>`` and ``<name>__text`` (the text where plain found no value, else null) for each of ``fields``.

        Returns
        -------
        ``rows`` with the values filled in where there is one reading, and with ``<name>__form`` (bits of :data:`FORMS`, or
        ``AMBIGUOUS``). Each step is computed before the next: written into one expression they would repeat each other.
        """
        makers = {"number": (self._bare_numbers, self._point_numbers, self._wide_numbers, self._numbers)}
        makers["date"] = (self._date_parts, self._dates_in_order, self._dates)
        makers["id"] = (self._tight_ids, self._ids)
        forms = [f"{name}__form" for name, field in fields.items() if field.kind in makers]
        given = [c for c in rows.columns if c not in forms]
        there = {name: rows[f"{name}__text"].count() for name, field in fields.items() if field.kind in makers}
        counts = rows.aggregate(**there).to_pyarrow().to_pylist()[0] if there else {}
        chosen = {name: fields[name] for name, n in counts.items() if n}
        rows = rows.mutate(**{form: ibis.literal(0, "int16") for form in forms})
        for step in range(max((len(makers[field.kind]) for field in chosen.values()), default=0)):
            made: dict[str, Value] = {}
            for name, field in chosen.items():
                steps = makers[field.kind]
                if step < len(steps):
                    made |= steps[step](rows, name, field)
            rows = self.engine.keep(rows.mutate(**made))
        return rows.select(*given, *forms)

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _declared(self, column: StringColumn, field: Field) -> StringColumn:
        """A number as the study says that the source writes it, rewritten with a decimal point."""
        source = field.source or self.source
        if source.thousands:
            column = column.replace(source.thousands, "")
        if source.decimal == ",":
            # A point is then no part of a declared number.
            column = ibis.ifelse(column.contains("."), None, column.replace(",", "."))
        return column

    def _bare_numbers(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        """A number without what may stand around it: brackets or a minus behind, a currency sign, gaps between thousands."""
        text = rows[f"{name}__text"].replace("\u2212", "-")
        signed = ibis.cases(
            (text.re_search(r"^\(.+\)$"), "-" + text.substr(1, text.length() - 2)),
            (text.re_search(r"[0-9]-$"), "-" + text.substr(0, text.length() - 1)),
            else_=text,
        )
        bare = (
            functools.reduce(lambda c, sign: c.replace(sign, ""), _signs(self.currency), signed)
            .strip()
            .replace("- ", "-")
        )
        gap = bare.re_search(r"^[+-]?[0-9]{1,3}([ '’][0-9]{3})+([.,][0-9]+)?$")
        digits = ibis.ifelse(gap, bare.re_replace("[ '’]", ""), bare)
        return {f"{name}__signed": signed, f"{name}__bare": bare, f"{name}__digits": digits}

    def _point_numbers(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        """Rewritten with a decimal point where there is one reading: ``1,234`` has two."""
        own, other = (".", ",") if (field.source or self.source).decimal == "." else (",", ".")
        o, c = f"[{own}]", f"[{other}]"
        shapes = (
            (rf"[0-9]+({o}[0-9]*)?", "", 0),
            (rf"[0-9]{{1,3}}({c}[0-9]{{3}})+{o}[0-9]+", other, THOUSANDS_SEPARATOR),
            (rf"[0-9]{{1,3}}({c}[0-9]{{3}}){{2,}}", other, THOUSANDS_SEPARATOR),
            (rf"[0-9]{{1,3}}({o}[0-9]{{3}}){{2,}}", own, THOUSANDS_SEPARATOR),
            (rf"[0-9]{{1,3}}({o}[0-9]{{3}})+{c}[0-9]+", own, THOUSANDS_SEPARATOR | DECIMAL_SIGN),
            (rf"(0{c}[0-9]+|[0-9]+{c}([0-9]{{1,2}}|[0-9]{{4,}})|[0-9]{{4,}}{c}[0-9]{{3}})", "", DECIMAL_SIGN),
        )
        text = rows[f"{name}__digits"]
        matches = [text.re_search(f"^[+-]?{shape}$") for shape, _, _ in shapes]
        rewritten = [(text.replace(drop, "") if drop else text).replace(",", ".") for _, drop, _ in shapes]
        ambiguous = text.re_search(f"^[+-]?[1-9][0-9]{{0,2}}{c}[0-9]{{3}}$")
        codes = [code for _, _, code in shapes]
        return {
            f"{name}__point": ibis.cases(*zip(matches, rewritten, strict=True), else_=None),
            f"{name}__code": ibis.cases(*zip(matches, codes, strict=True), (ambiguous, AMBIGUOUS), else_=0),
        }

    def _wide_numbers(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        """The number with all its places, longer fractions and exponents included; and the form that it was written in."""
        declared = self.engine.decimal(self._declared(rows[f"{name}__text"], field), *_WIDE)
        marks = (
            (rows[f"{name}__signed"] != rows[f"{name}__text"], NEGATIVE_FORM),
            (rows[f"{name}__bare"] != rows[f"{name}__signed"], CURRENCY_SIGN),
            (rows[f"{name}__digits"] != rows[f"{name}__bare"], THOUSANDS_SEPARATOR),
        )
        form = functools.reduce(lambda a, b: a + b, [ibis.ifelse(is_so, bit, 0) for is_so, bit in marks])
        form = ibis.cases(
            (declared.notnull(), 0),
            (rows[f"{name}__point"].notnull(), form + rows[f"{name}__code"]),
            (rows[f"{name}__code"] == AMBIGUOUS, AMBIGUOUS),
            else_=0,
        )
        return {
            f"{name}__wide": ibis.coalesce(declared, self.engine.decimal(rows[f"{name}__point"], *_WIDE)),
            f"{name}__form": form.fill_null(0).cast("int16"),
        }

    def _numbers(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        return {name: ibis.coalesce(rows[name], _as(_to_even(rows[f"{name}__wide"]), field.dtype))}

    # -- days and times ------------------------------------------------------------------------------------------------

    def _dated(self, wall: Column | None, column: StringColumn, field: Field) -> Column:
        """An instant, or a day, from wall-clock time: in the mapping's time zone, or else in the study's."""
        mapping = field.mapping
        zone = mapping.timezone or self.zone
        if mapping.format:
            wall = self.engine.timestamp(column, mapping.format)
            if "%z" in mapping.format or "%Z" in mapping.format:
                zone = "UTC"  # a format with a zone gives an instant already, on a clock that is UTC
                if field.dtype.is_date():
                    wall = self.engine.local_time(self.zone, self.engine.instant(zone, wall))
        return wall.date() if field.dtype.is_date() else self.engine.instant(zone, wall)

    def _date_parts(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        """Year, month, day, and hour, minute, second, fraction of a date with the year first or last; and of a time that says how
        far its clock is from UTC, the wall clock and how far."""
        text = rows[f"{name}__text"]
        parts = {f"{name}__first{i}": text.re_extract(_YEAR_FIRST, i).fill_null("") for i in range(1, 8)}
        parts |= {f"{name}__last{i}": text.re_extract(_YEAR_LAST, i).fill_null("") for i in range(1, 8)}
        return parts | {f"{name}__offset{i}": text.re_extract(_OFFSET, i).fill_null("") for i in (1, 2)}

    def _dates_in_order(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        """Rewritten as year-month-day where there is one reading."""
        parts = {(k, i): rows[f"{name}__{k}{i}"] for k in ("first", "last") for i in range(1, 8)}
        a, b = (ibis.ifelse(parts["last", i] == "", "0", parts["last", i]).cast("int64") for i in (1, 2))
        pointed = rows[f"{name}__text"].contains(".")
        if field.mapping.day_first is None:
            # With points the day comes first wherever dates are written so.
            month_first, ambiguous = (b > 12) & ~pointed, (a <= 12) & (b <= 12) & (a != b) & ~pointed
        else:
            month_first, ambiguous = ibis.literal(not field.mapping.day_first), ibis.literal(False)
        month = ibis.ifelse(month_first, parts["last", 1], parts["last", 2])
        day = ibis.ifelse(month_first, parts["last", 2], parts["last", 1])
        ambiguous = ambiguous & (parts["last", 3] != "")
        iso = ibis.cases(
            (ambiguous, None),
            (parts["first", 1] != "", _iso(*(parts["first", i] for i in range(1, 8)))),
            (parts["last", 3] != "", _iso(parts["last", 3], month, day, *(parts["last", i] for i in range(4, 8)))),
            else_=None,
        )
        wall = self.engine.wall_clock(rows[f"{name}__offset1"].strip())
        minutes = _minutes(rows[f"{name}__offset2"])
        return {
            f"{name}__ambiguous": ambiguous,
            f"{name}__iso": iso,
            f"{name}__abroad": self.engine.instant("UTC", wall - minutes.as_interval("m")),
        }

    def _dates(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        iso, abroad = rows[f"{name}__iso"], rows[f"{name}__abroad"]
        read = self._dated(self.engine.wall_clock(iso), iso, field)
        choices = [(rows[name].notnull(), rows[name])]
        if field.dtype.is_date():
            # The usual way of saying "for ever".
            choices.append((rows[f"{name}__text"].startswith("9999-12-31"), ibis.date(9999, 12, 31)))
            abroad = self.engine.local_time(self.zone, abroad).date()
        choices.append((abroad.notnull(), abroad))
        usual = 0 if field.mapping.day_first is not None else DATE_FORM
        form = ibis.cases(
            (rows[f"{name}__ambiguous"], AMBIGUOUS),
            (rows[name].isnull() & abroad.isnull() & read.notnull(), usual),
            else_=0,
        )
        return {name: ibis.cases(*choices, else_=read), f"{name}__form": form.fill_null(0).cast("int16")}

    # -- ids of customers ----------------------------------------------------------------------------------------------

    def _tight_ids(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        """Letters' case, blanks, letters O for zeros and lost leading zeros put right."""
        form = field.id_form
        tight = rows[f"{name}__text"].re_replace(r"\s", "").upper()
        head, digits = tight.substr(0, form.prefix), tight.substr(form.prefix).replace("O", "0")
        if form.length is not None:
            width = form.length - form.prefix
            digits = ibis.ifelse(digits.length() < width, digits.lpad(width, "0"), digits)
        return {f"{name}__tight": head + digits}

    def _ids(self, rows: Table, name: str, field: Field) -> dict[str, Value]:
        sound = rows[f"{name}__tight"].re_search(f"^({field.id_form.pattern})$").fill_null(False)
        mended = rows[name].isnull() & sound
        return {
            name: ibis.ifelse(mended, rows[f"{name}__tight"], rows[name]),
            f"{name}__form": ibis.ifelse(mended, ID_FORM, 0).cast("int16"),
        }


def _as(number: Column, dtype: dt.DataType) -> Column:
    """A decimal number as ``dtype``; one with a fraction is no whole number."""
    if dtype.is_integer():
        return ibis.ifelse(number == number.floor(), number.cast("int64"), None)
    return number.cast("float64") if dtype.is_floating() else number


def _to_even(wide: Column) -> Column:
    """A wide decimal to four places, ties to the even digit; null where there is no room for it."""
    wide = ibis.ifelse(wide.abs() < _wide("99999999999999.99995"), wide, None)
    rounded = wide.cast(MONEY)  # ties away from zero
    back = rounded.cast(dt.Decimal(*_WIDE))
    step = ibis.ifelse(wide < 0, _wide("-0.0001"), _wide("0.0001"))
    odd = rounded.cast("string").right(1).isin(["1", "3", "5", "7", "9"])
    return ibis.ifelse(((back - wide).abs() == _wide("0.00005")) & odd, (back - step).cast(MONEY), rounded)


def _wide(value: str) -> Value:
    return ibis.literal(Decimal(value), type=dt.Decimal(*_WIDE))


@functools.cache
def _signs(currency: str) -> tuple[str, ...]:
    """How a currency is written before or behind an amount, the longest first."""
    signs = {currency, get_currency_symbol(currency, "en"), *_NARROW.get(currency, ())}
    return tuple(sorted(signs, key=lambda sign: (-len(sign), sign)))


# What people write, where the standard's English symbol (CN¥, CA$) is not it.
_NARROW = {
    "CNY": ("¥", "元", "RMB"), "JPY": ("¥", "円"), "USD": ("US$",), "CAD": ("$",), "AUD": ("$",), "NZD": ("$",),
    "HKD": ("$",), "SGD": ("$",), "TWD": ("$", "元"), "MXN": ("$",), "BRL": ("R$",), "CHF": ("Fr.",), "PLN": ("zł",),
    "SEK": ("kr",), "NOK": ("kr",), "DKK": ("kr",), "CZK": ("Kč",),
}  # fmt: skip


def _iso(
    year: StringColumn,
    month: StringColumn,
    day: StringColumn,
    hour: StringColumn,
    minute: StringColumn,
    second: StringColumn,
    fraction: StringColumn,
) -> StringColumn:
    """The parts of a date, and of a time where there is one, in one order and width."""
    seconds = ibis.ifelse(second == "", "00", second)
    time = ibis.ifelse(hour == "", "", " " + hour.lpad(2, "0") + ":" + minute + ":" + seconds + fraction)
    return year + "-" + month.lpad(2, "0") + "-" + day.lpad(2, "0") + time


def _minutes(offset: StringColumn) -> Column:
    """How far a clock is ahead of UTC: ``Z``, ``UTC``, ``+02``, ``-0530`` or ``+05:45``; 0 where nothing is said."""
    digits = ibis.ifelse(offset.re_search("^[+-]"), offset.replace(":", "").substr(1).rpad(4, "0"), "0000")
    minutes = digits.substr(0, 2).cast("int64") * 60 + digits.substr(2, 2).cast("int64")
    return ibis.ifelse(offset.startswith("-"), -minutes, minutes)
