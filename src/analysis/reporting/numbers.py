"""Numbers as people read them: one formatter a study, for prose, tables and axes.

Estimates are shown with at most four significant digits, which is what survives a change of machine
and more than any estimate here deserves. Counts, and money asked for with ``exact``, keep every digit.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import pandas as pd
from babel.dates import format_date
from babel.numbers import (
    format_currency,
    format_decimal,
    format_percent,
    get_currency_precision,
    list_currencies,
)
from matplotlib.dates import num2date
from matplotlib.ticker import FuncFormatter

from analysis.errors import RapportError
from analysis.reporting.words import language, parse_locale, words

UNITS = (
    "money", "money_exact", "share", "count", "number", "ratio", "score", "points", "days", "weeks", "date", "text",
)  # fmt: skip
NUMERIC_UNITS = frozenset(UNITS) - {"date", "text"}

_ROUNDED = ("money", "share", "number", "score", "points", "days", "weeks")  # written with decimals of their own size

_WIDE = Context(prec=700)  # any float has fewer digits, so no amount is too large to write


class Formatter:
    """Write values in the language, number style and currency of a study.

    Parameters
    ----------
    locale : str
        A CLDR locale such as ``"en"``, ``"en_GB"``, ``"de"`` or ``"zh_CN"``.
    currency : str
        An ISO 4217 code such as ``"USD"``.

    Raises
    ------
    ValueError
        When the locale or the currency is unknown.
    """

    def __init__(self, locale: str = "en", currency: str = "USD"):
        self.locale = parse_locale(locale)
        if currency not in list_currencies():
            raise RapportError(f"unknown currency '{currency}'; use an ISO 4217 code such as USD")
        self.currency = currency
        self.language = language(locale)
        self._words = words(locale, "numbers")

    @property
    def missing(self) -> str:
        """What stands where there is no value."""
        return self._words["missing"]

    def money(self, x, *, exact: bool = False) -> str:
        """Money in prose: ``$12.30``, ``$4``, ``$1,234``, ``$4.60 million``; with ``exact`` all of it, to the cent."""
        number = _decimal(x)
        if number is None:
            return self.missing
        if exact:
            return self._currency(number, get_currency_precision(self.currency))
        rounded = _significant(number, 4)
        if _million(number) and number.is_finite():
            return self._compact_money(number, "long", 3)
        return self._currency(_four_digits(number), 0 if _is_integer(x) else self._money_decimals(rounded))

    def share(self, x, digits: int | None = None) -> str:
        """A share of one as a percentage, ``54.3%``; more digits close to 0 and 100 %, so neither is feigned."""
        number = _decimal(x)
        if number is None:
            return self.missing
        return self._percent(number, self._share_digits(number) if digits is None else digits)

    def _share_digits(self, number: Decimal) -> int:
        to_one = abs(1 - abs(number))
        if number == 0 or to_one == 0:
            return 0
        if abs(number) < Decimal("0.01"):
            return min(6, -number.adjusted() - 1)
        return max(1, min(6, -to_one.adjusted() - 2))

    def count(self, x) -> str:
        """A count with separators, ``1,469,307``."""
        return self._decimal(_decimal(x), 0)

    def number(self, x, digits: int | None = None) -> str:
        """A plain number with ``digits`` decimals, or with three significant digits where none are given."""
        number = _decimal(x)
        if digits is None and number is not None:
            number = number if _is_integer(x) else _four_digits(number)
            digits = 0 if _is_integer(x) else _decimals_for(number, 3)
        return self._decimal(number, digits or 0)

    def days(self, x) -> str:
        """A duration, ``24 days``."""
        return self._with_word(x, "days", 0 if _large(x) else 1)

    def weeks(self, x) -> str:
        """A duration, ``6.5 weeks``."""
        return self._with_word(x, "weeks", 0 if _large(x) else 1)

    def points(self, x) -> str:
        """A place or a difference on a 0–100 scale, ``72.4 points``."""
        number = _decimal(x)
        return self._with_word(x, "points", 2 if number is not None and abs(number) < 1 else 1)

    def date(self, x) -> str:
        """A date in full, ``December 31, 2018``; takes dates, timestamps and ISO text."""
        day = _date(x)
        return self.missing if day is None else format_date(day, "long", locale=self.locale)

    def value(self, x, unit: str) -> str:
        """A value by its unit, one of ``UNITS``; ValueError for any other."""
        match _known(unit):
            case "money":
                return self.money(x)
            case "money_exact":
                return self.money(x, exact=True)
            case "share":
                return self.share(x)
            case "count":
                return self.count(x)
            case "number":
                return self.number(x)
            case "ratio":
                return self.number(x, 2)
            case "score":
                return self.number(x, 0 if _whole([x]) else 2)
            case "points":
                return self.points(x)
            case "days":
                return self.days(x)
            case "weeks":
                return self.weeks(x)
            case "date":
                return self.date(x)
        return self.missing if _absent(x) else str(x)

    def interval(self, low, high, unit: str) -> str:
        """An interval in words, ``from $1.20 to $3.40``; one open end gives ``at least`` or ``at most``."""
        if _absent(low) and _absent(high):
            return self.missing
        if _absent(high):
            return self._words["at_least"].format(low=self.value(low, unit))
        if _absent(low):
            return self._words["at_most"].format(high=self.value(high, unit))
        return self._from_to(*self._together([low, high], unit), unit)

    def estimate(self, x, low, high, unit: str) -> str:
        """An estimate and its interval with as many decimals, ``$95 (from $91 to $102)``; the estimate alone where it has none."""
        if _absent(x) or _absent(low) or _absent(high):
            return self.value(x, unit)
        text, *ends = self._together([x, low, high], unit)
        return f"{text} ({self._from_to(*ends, unit)})"

    def _from_to(self, low: str, high: str, unit: str) -> str:
        if self.unit_word(unit):  # from 3 to 5 days
            low = low.rsplit(" ", 1)[0]
        return self._words["from_to"].format(low=low, high=high)

    def estimates(self, values: Iterable, lows: Iterable, highs: Iterable, unit: str) -> list[str]:
        """A column of text: each estimate and its interval, ``$680 ($650 – $710)``, with one number of decimals throughout."""
        values, lows, highs = list(values), list(lows), list(highs)
        cells = self.column([*values, *lows, *highs], unit)
        parts = (cells[: len(values)], cells[len(values) : -len(highs) or None], cells[len(cells) - len(highs) :])
        return [
            value if _absent(low) or _absent(high) or value == self.missing else f"{value} ({low_text} – {high_text})"
            for value, low_text, high_text, low, high in zip(*parts, lows, highs, strict=True)
        ]

    def column(self, values: Iterable, unit: str) -> list[str]:
        """The cells of a table's column: one number of decimals throughout, the unit's word left to the header."""
        values = list(values)
        if _known(unit) in ("date", "text", "count", "money_exact"):
            return [self.value(value, unit) for value in values]
        numbers = [_decimal(value) for value in values]
        sizes = [abs(number) for number in numbers if number is not None and number.is_finite()]
        if unit == "money":
            decimals = self._money_decimals(max(map(_four_digits, sizes), default=Decimal(0)), table=True)
            return [
                self.missing if number is None else self._currency(_four_digits(number), decimals) for number in numbers
            ]
        if unit == "share":
            decimals = 2 if sizes and max(sizes) < Decimal("0.01") else 1
            least = Decimal(1).scaleb(-decimals - 2)
            return [
                f"<{self._percent(least, decimals)}"
                if number is not None and 0 < number < least / 2
                else self.missing
                if number is None
                else self._percent(number, decimals)
                for number in numbers
            ]
        if unit == "number" and sizes and max(sizes) > 100 * min((size for size in sizes if size), default=0):
            return [self.number(value) for value in values]  # too far apart for one number of decimals
        if _whole(values):
            decimals = 0
        elif unit in ("ratio", "score"):
            decimals = 2
        elif unit == "number":
            decimals = _decimals_for(max(sizes, default=Decimal(0)), 3)
        else:
            decimals = 1
        return [self._decimal(number, decimals) for number in numbers]

    def unit_word(self, unit: str) -> str:
        """The word that a header or an axis needs beside a unit, ``days``; empty where the numbers say it."""
        return self._words[unit]["other"] if unit in ("days", "weeks", "points") else ""

    def axis(self, unit: str) -> FuncFormatter:
        """Short tick labels for a Matplotlib axis: ``$1.5M``, ``25%``, ``Jan 2019``."""
        _known(unit)
        return FuncFormatter(lambda x, _position=None: self._tick(x, unit))

    def _tick(self, x: float, unit: str) -> str:
        if unit == "text":
            return str(x)
        if unit == "date":
            return format_date(num2date(x).date(), "MMM y", locale=self.locale)
        if not math.isfinite(x):
            return ""
        number = _significant(_decimal(x), 4)
        decimals = _decimals_of(number)
        if unit == "share":
            return self._percent(number, min(max(0, decimals - 2), 4))
        if unit in ("money", "money_exact"):
            if abs(number) >= 10_000:
                return self._compact_money(_decimal(x), "short", 3, trim=True)
            places = get_currency_precision(self.currency)
            return self._currency(number, places if 0 < decimals < places else decimals)
        return self._decimal(number, decimals)

    def _together(self, values: Sequence, unit: str) -> list[str]:
        """Numbers of one sentence with the decimals of the largest, and more where one would pass for its neighbour, 0 or 1."""
        plain = [self.value(x, unit) for x in values]
        numbers = [_decimal(x) for x in values]
        if unit not in _ROUNDED or len(set(numbers)) == 1 or not all(number.is_finite() for number in numbers):
            return plain
        if unit == "money" and any(map(_million, numbers)):
            return self._millions(numbers, plain)
        if unit in ("money", "number"):
            numbers = [_four_digits(number) for number in numbers]
        places = 2 if unit == "share" else 0
        whole = all(map(_is_integer, values)) if unit in ("money", "number") else _whole(numbers)
        for decimals in [0] if whole else self._steps(numbers, unit):
            near = [_quantised(number, decimals + places) for number in numbers]
            limits = (0, 1) if unit == "share" else (0,)
            feigned = any(at in limits and number != at for number, at in zip(numbers, near, strict=True))
            if len(set(near)) == len(set(numbers)) and not feigned:
                return [self._fixed(number, unit, decimals) for number in numbers]
        return plain

    def _steps(self, numbers: list[Decimal], unit: str) -> list[int]:
        """The numbers of decimals to try, fewest first."""
        larger = max(map(abs, numbers))
        if unit == "share":
            digits = {self._share_digits(number) for number in numbers if number not in (0, 1)} | {2}
            return sorted(digit for digit in digits if digit <= 3)
        if unit == "money" and larger >= 1000:
            return [0]
        if unit == "money":
            first = self._money_decimals(larger, table=True)
            return [first, *sorted({get_currency_precision(self.currency), 3, 4} - set(range(first + 1)))]
        first = 0 if larger >= 10 else 1
        if unit == "number":
            first = _decimals_for(larger, 3)
        elif unit == "score":
            first = 2
        elif unit == "points":
            first = 2 if larger < 1 else 1
        return [first, first + 1, first + 2]

    def _millions(self, numbers: list[Decimal], plain: list[str]) -> list[str]:
        """Amounts of millions: as many decimals where their lengths differ by one, more where they look alike."""
        if not all(map(_million, numbers)):
            return plain
        lengths = [number.adjusted() for number in numbers]
        more = 1 if len(set(plain)) < len(set(numbers)) else 0
        apart = max(lengths) - min(lengths) == 1
        digits = [3 + more + (apart and length == max(lengths)) for length in lengths]
        return [self._compact_money(n, "long", d) for n, d in zip(numbers, digits, strict=True)]

    def _fixed(self, number: Decimal, unit: str, decimals: int) -> str:
        match unit:
            case "money":
                return self._currency(number, 0 if number == 0 else decimals)
            case "share":
                return self._percent(number, 0 if number in (0, 1) else decimals)
            case "number" | "score":
                return self._decimal(number, decimals)
        forms = self._words[unit]
        plural = self.locale.plural_form(abs(_quantised(number, decimals)))
        return f"{self._decimal(number, decimals)} {forms.get(plural, forms['other'])}"

    def _money_decimals(self, number: Decimal, *, table: bool = False) -> int:
        places = get_currency_precision(self.currency)
        if not number.is_finite() or abs(number) >= 100:
            return 0
        if table or abs(number) < Decimal("0.000001") or abs(number) >= Decimal("0.1"):
            return 0 if number == 0 and not table else places
        return min(6, max(places, 1 - number.adjusted()))

    def _compact_money(self, number: Decimal, length: str, digits: int, *, trim: bool = False) -> str:
        number = _significant(number, digits)
        forms = self.locale.compact_decimal_formats
        patterns = (forms.get(length) or forms["short"])["other"]
        magnitude = max((int(key) for key in patterns if int(key) <= abs(number)), default=1)
        pattern = patterns[str(magnitude)].pattern if magnitude > 1 else "0"
        if not pattern.strip("0"):  # the language does not shorten numbers of this size
            return self._currency(number, 0)
        zeros = re.search("0+", pattern).group()
        mantissa = number / (Decimal(magnitude) / 10 ** (len(zeros) - 1))
        decimals = max(0, digits - len(zeros))
        if trim:
            decimals = _decimals_of(mantissa)
        before, after = (part.replace("'", "") for part in pattern.split(zeros))
        written = self._currency(mantissa, decimals)
        return re.sub(
            r"\d.*\d|\d",
            lambda digits: f"{before}{digits.group()}{after}",
            written,
            count=1,
        )

    def _currency(self, number: Decimal, decimals: int) -> str:
        pattern = _with_decimals(self.locale.currency_formats["standard"].pattern, decimals)
        return _written(
            lambda rounded: format_currency(
                rounded,
                self.currency,
                pattern,
                locale=self.locale,
                currency_digits=False,
            ),
            number,
            decimals,
        )

    def _percent(self, number: Decimal, decimals: int) -> str:
        pattern = _with_decimals(self.locale.percent_formats[None].pattern, decimals)
        return _written(
            lambda rounded: format_percent(rounded, pattern, locale=self.locale),
            number,
            decimals + 2,
        )

    def _decimal(self, number: Decimal | None, decimals: int) -> str:
        if number is None:
            return self.missing
        pattern = _with_decimals(self.locale.decimal_formats[None].pattern, decimals)
        return _written(
            lambda rounded: format_decimal(rounded, pattern, locale=self.locale),
            number,
            decimals,
        )

    def _with_word(self, x, word: str, decimals: int) -> str:
        number = _decimal(x)
        if number is None:
            return self.missing
        rounded = _quantised(number, decimals)
        if rounded == rounded.to_integral_value() and (word != "points" or _is_integer(x)):
            rounded, decimals = _quantised(rounded, 0), 0
        forms = self._words[word]
        return f"{self._decimal(rounded, decimals)} {forms.get(self.locale.plural_form(abs(rounded)), forms['other'])}"


def _absent(x) -> bool:
    return x is None or x is pd.NaT or x is pd.NA or (isinstance(x, float | Decimal) and math.isnan(x)) or (
        hasattr(x, "dtype") and bool(pd.isna(x))
    )  # fmt: skip


def _decimal(x) -> Decimal | None:
    if _absent(x):
        return None
    if isinstance(x, bool | str | bytes):
        raise RapportError(f"expected a number, found {x!r}; give it the unit 'text' or convert it first")
    # str() of a float is its shortest exact form, so 0.145 rounds as people write it, not as binary holds it.
    return x if isinstance(x, Decimal) else Decimal(str(x.item() if hasattr(x, "item") else x))


def _quantised(number: Decimal, decimals: int) -> Decimal:
    if not number.is_finite():
        return number
    with localcontext(_WIDE):
        rounded = number.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN)
    return abs(rounded) if rounded == 0 else rounded


def _significant(number: Decimal, digits: int) -> Decimal:
    if number == 0 or not number.is_finite():
        return number
    return Decimal(format(_quantised(number.scaleb(digits - 1 - number.adjusted()), 0), "f")).scaleb(
        number.adjusted() - digits + 1
    )


def _four_digits(number: Decimal) -> Decimal:
    """A number as its whole part needs it: four significant digits from a thousand on, untouched below."""
    return _significant(number, 4) if abs(number) >= 1000 else number


def _million(number: Decimal) -> bool:
    return abs(_significant(number, 4)) >= 1_000_000


def _decimals_for(number: Decimal, digits: int) -> int:
    if number == 0 or not number.is_finite():
        return 0
    return min(6, max(0, digits - 1 - _significant(number, digits).adjusted()))


def _decimals_of(number: Decimal) -> int:
    return max(0, -number.normalize().as_tuple().exponent)


def _is_integer(x) -> bool:
    return isinstance(x, int) or getattr(getattr(x, "dtype", None), "kind", "f") in "iu"


def _whole(values: Iterable) -> bool:
    numbers = [number for number in map(_decimal, values) if number is not None]
    return all(not number.is_finite() or number == number.to_integral_value() for number in numbers)


def _large(x) -> bool:
    number = _decimal(x)
    return number is not None and abs(number) >= 10


def _date(x) -> dt.date | None:
    return None if _absent(x) else pd.Timestamp(x).date()


def _written(write: Callable[[Decimal], str], number: Decimal, decimals: int) -> str:
    with localcontext(_WIDE):
        return write(_quantised(number, decimals)).replace("-", "\N{MINUS SIGN}")


def _with_decimals(pattern: str, decimals: int) -> str:
    """A locale's own number pattern, with exactly ``decimals`` decimals."""
    return re.sub(
        r"0(\.[0#]+)?(?=[^0#.]*(;|$))",
        "0" + ("." + "0" * decimals if decimals else ""),
        pattern,
        count=1,
    )


def _known(unit: str) -> str:
    if unit not in UNITS:
        raise RapportError(f"unknown unit '{unit}'; use one of {', '.join(UNITS)}")
    return unit
