"""A study: one company's data and the decisions that only its owner can make, validated when it is loaded.

``studies/<name>/study.yaml`` becomes a :class:`Study`. Every mistake in it is one line that names the file, the path
inside it and the cure.
"""

import datetime
import hashlib
import json
import re
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, available_timezones

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from babel import Locale, UnknownLocaleError
from babel.numbers import list_currencies
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from analysis import paths
from analysis.errors import RapportError
from analysis.tables import CONTRACTS

STUDY_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_LARGEST_SEED = 2**32 - 1  # that every random number generator takes
_THOUSANDS = " ,.'’_"
_DATE_PARTS = set("aAbBcdfgGHIjmMnpSuUVwWxXyYzZ%")  # what may follow % in a format: DuckDB's strptime


class StudyError(RapportError):
    """Something in a study's files that its owner has to change."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Words(_Strict):
    """What this company calls a customer."""

    customer: str = "customer"
    customers: str = "customers"


class Clock(_Strict):
    """The observed period, and how a customer enters it.

    ``entry``: ``first_purchase`` (nobody bought before ``observed_from``), ``registration``, or ``left_truncated``
    (customers existed before; their age is a lower bound).
    """

    observed_from: datetime.date
    observed_to: datetime.date
    entry: Literal["first_purchase", "registration", "left_truncated"] = "first_purchase"

    @model_validator(mode="after")
    def _in_order(self) -> "Clock":
        if self.observed_from >= self.observed_to:
            raise ValueError(f"observed_from {self.observed_from} is not before observed_to {self.observed_to}")
        return self


class Assumption(_Strict):
    """A number that the data do not hold: its value, the range it may lie in, and where it comes from."""

    value: float
    low: float | None = None
    high: float | None = None
    source: Literal["assumption", "data"] = "assumption"
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, int | float) and not isinstance(given, bool) else given

    @model_validator(mode="after")
    def _range(self) -> "Assumption":
        low, high = (self.value if end is None else end for end in (self.low, self.high))
        if not low <= self.value <= high:
            raise ValueError(f"{self.value} is not between low {low} and high {high}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        return self


def _share(what: Assumption) -> Assumption:
    if what.low < 0 or what.high > 1:
        raise ValueError(f"{what.value:g} is not a share between 0 and 1; write 0.30 for 30 %")
    return what


def _not_negative(what: Assumption) -> Assumption:
    if what.low < 0:
        raise ValueError(f"{what.low:g} is negative; costs are written as positive amounts")
    return what


def _gain(what: Assumption) -> Assumption:
    if what.low < 0 or what.high > 10:
        raise ValueError(f"{what.value:g} is not an effect between 0 and 10; write 0.05 for 5 % more")
    return what


def _below_one(what: Assumption) -> Assumption:
    if what.high >= 1:
        raise ValueError(f"{what.high:g} would leave no customer after a year; write 0.20 for one in five")
    return what


Share = Annotated[Assumption, AfterValidator(_share)]
Cost = Annotated[Assumption, AfterValidator(_not_negative)]
Effect = Annotated[Assumption, AfterValidator(_gain)]


class Money(_Strict):
    """What turns sales into profit. ``margin`` is a share of net sales; costs are in the study's currency."""

    margin: Share | None = None
    discount_rate: Share | None = None
    contact_cost: Cost | None = None
    cost_to_serve: Cost | None = None
    tax: str = ""
    coupons: str = ""


class RelationshipLevel(_Strict):
    """A closer relationship than basic: what it costs, for how many there is room, and what it is taken to do.

    ``cost``: money a customer and year. Room: ``customers``, or ``hours`` a year in all with ``hours_each``, a customer and year;
    neither means room for everybody. Effects, of which there is at least one: ``retention``, the share of the leaving that it
    averts; ``growth``, the share of a customer's growth potential that it captures; ``margin``, by what share it raises the
    margin expected of a customer. All are measured against the basic level.
    """

    cost: Cost
    customers: int | None = Field(None, ge=0)
    hours: float | None = Field(None, ge=0)
    hours_each: float | None = Field(None, gt=0)
    retention: Share | None = None
    growth: Share | None = None
    margin: Effect | None = None

    @model_validator(mode="after")
    def _complete(self) -> "RelationshipLevel":
        if (self.hours is None) != (self.hours_each is None):
            raise ValueError("hours and hours_each go together: those in all, and those for one customer; both a year")
        if self.customers is not None and self.hours is not None:
            raise ValueError("give either customers, or hours with hours_each")
        if self.retention is None and self.growth is None and self.margin is None:
            raise ValueError("says no effect; give retention, growth or margin, for example margin: 0.05")
        return self

    @property
    def places(self) -> int | None:
        """For how many customers there is room; None for everybody."""
        if self.hours is None:
            return self.customers
        return int(self.hours / self.hours_each + 1e-9)


class Relationship(_Strict):
    """What relationships closer than basic cost and are taken to bring; a level that is left out is not offered.

    ``leaving``: the share of customers who leave in a year as things stand; without it, it is estimated from the data.
    """

    leaving: Annotated[Share, AfterValidator(_below_one)] | None = None
    reactive: RelationshipLevel | None = None
    accountable: RelationshipLevel | None = None
    proactive: RelationshipLevel | None = None
    partnership: RelationshipLevel | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_basic(cls, given: Any) -> Any:
        if isinstance(given, dict) and "basic" in given:
            raise ValueError("basic is what everybody gets, and the others are measured against it; take basic out")
        return given

    @model_validator(mode="after")
    def _offers_something(self) -> "Relationship":
        if not self.offered:
            raise ValueError("offers no level; give reactive, accountable, proactive or partnership, each with cost")
        return self

    @property
    def offered(self) -> dict[str, RelationshipLevel]:
        """The levels that the study offers, from the least close up."""
        levels = ("reactive", "accountable", "proactive", "partnership")
        return {level: given for level in levels if (given := getattr(self, level)) is not None}


# The words for articles 6(1) and 9(2) of the General Data Protection Regulation (EU 2016/679), in their order.
LAWFUL_BASES = (
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_task",
    "legitimate_interests",
)
SENSITIVE_BASES = (
    "explicit_consent",
    "employment_law",
    "vital_interests",
    "non_profit_body",
    "made_public",
    "legal_claims",
    "substantial_public_interest",
    "health_care",
    "public_health",
    "research_and_statistics",
)


class PrivateField(_Strict):
    """What a raw column tells of people, and why it may be used: an entry of the record that article 30 GDPR asks for.

    ``class`` (here ``kind``): ``personal`` (about a person who can be found out, article 4), ``sensitive`` (health, beliefs, origin
    and the other special categories of article 9), or ``free``. ``origin`` says where it was collected, ``purpose`` what it is
    used for. ``lawful_basis`` of a personal field is one of the six of article 6(1) (``LAWFUL_BASES``); of a sensitive one it is
    the exception of article 9(2) that allows it (``SENSITIVE_BASES``), which comes on top of a basis in article 6.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["personal", "sensitive", "free"] = Field(alias="class")
    origin: str = ""
    purpose: str = ""
    lawful_basis: str = ""

    @model_validator(mode="after")
    def _lawful(self) -> "PrivateField":
        if self.kind == "free" and not self.lawful_basis:
            return self
        if not self.purpose.strip():
            raise ValueError(f"purpose is missing; say what this {self.kind} column is used for")
        known, article = (SENSITIVE_BASES, "9(2)") if self.kind == "sensitive" else (LAWFUL_BASES, "6(1)")
        if not self.lawful_basis:
            raise ValueError(f"lawful_basis is missing; choose from {', '.join(known)}")
        if self.lawful_basis not in known:
            raise ValueError(
                f"lawful_basis {self.lawful_basis!r} is not one that article {article} GDPR knows for a {self.kind} column; "
                f"choose from {', '.join(known)}"
            )
        return self


class Privacy(_Strict):
    """What is known of people, and how it is kept from others.

    Groups of fewer than ``small_group`` customers are merged or hidden in reports. ``fields`` declares raw columns
    (``source.column``), each a :class:`PrivateField`. ``personal`` is the short form that names columns only; once validated it
    holds the personal and sensitive ``fields`` too: all columns that are keyed-hashed before anything else sees them.
    """

    small_group: int = Field(10, ge=1)
    personal: tuple[str, ...] = ()
    fields: dict[str, PrivateField] = {}

    @model_validator(mode="after")
    def _agrees(self) -> "Privacy":
        for name in self.personal:
            if name in self.fields and self.fields[name].kind == "free":
                raise ValueError(f"fields.{name}: is declared free and listed under personal; keep one of the two")
        marked = (name for name, field in self.fields.items() if field.kind != "free")
        object.__setattr__(self, "personal", tuple(dict.fromkeys((*self.personal, *marked))))
        return self

    def hashed(self, source: str) -> tuple[str, ...]:
        """The columns of ``source`` that are hashed at the door: the personal and the sensitive ones."""
        owned = (name.partition(".") for name in self.personal)
        return tuple(column for owner, _, column in owned if owner == source)


class Source(_Strict):
    """Where raw rows come from: files of the study, a file inside an installed package, or a database.

    ``file``, below the study's folder of raw data, is one file, a folder (``orders/``: its files, without its subfolders)
    or a pattern (``orders/*.csv``; ``**`` stands for any depth). All files of a source have the same columns, in any
    order. Files may be compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``), or lie in a ``.zip``, whose members count as a
    folder's files. With ``package``, ``file`` is one file.
    ``format`` is told from each file's ending, past ``.gz`` and the like, unless it is said; then it holds for every file,
    as do ``encoding`` and ``delimiter`` (found out file by file unless said), ``names`` (for files without a header
    line) and ``sheet`` (default: the first).
    ``decimal`` and ``thousands`` are how numbers are written.
    ``database`` is a URL for Ibis, with ``table`` or ``query``, and ``snapshot``, a word that changes when its data do.
    """

    FORMATS: ClassVar = {
        ".csv": "csv", ".txt": "csv", ".tsv": "csv", ".xlsx": "excel", ".xlsm": "excel", ".parquet": "parquet"
    }  # fmt: skip
    COMPRESSED: ClassVar = (".gz", ".bz2", ".xz", ".zst")

    file: str | None = None
    package: str | None = None
    format: Literal["csv", "excel", "parquet"] | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: Literal[".", ","] = "."
    thousands: str | None = None
    names: tuple[str, ...] | None = None
    sheet: str | None = None
    database: str | None = None
    table: str | None = None
    query: str | None = None
    snapshot: str | None = None
    sample: "Sample | None" = None

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if (self.file is None) == (self.database is None):
            raise ValueError("give either file or database")
        if self.database is not None:
            if (self.table is None) == (self.query is None):
                raise ValueError("a database source needs either table or query")
            if self.snapshot is None:
                raise ValueError("a database source needs snapshot: a word you change when the data have changed")
        if self.file is not None:
            self._check_file()
        self._check_delimiter()
        if self.thousands is not None:
            # Values are normalised when they are read, so the separator has to be too: a no-break space is a space.
            object.__setattr__(self, "thousands", unicodedata.normalize("NFKC", self.thousands))
            if len(self.thousands) != 1 or self.thousands == self.decimal:
                raise ValueError(f"thousands {self.thousands!r} must be one character, and not the decimal sign")
            if self.thousands not in _THOUSANDS:
                raise ValueError(f"thousands {self.thousands!r} must be a comma, a point, an apostrophe, _ or a blank")
        return self

    def _check_delimiter(self) -> None:
        if self.delimiter in (None, "tab", "\\t", "whitespace"):
            return
        if len(self.delimiter) != 1:
            raise ValueError(f"delimiter {self.delimiter!r} is not one character, tab or whitespace")
        if self.delimiter in '"\r\n\0':
            raise ValueError(f"delimiter {self.delimiter!r} cannot part fields; write for example ; or tab")

    def _check_file(self) -> None:
        if not self.file.strip() or not self.file.isprintable():
            raise ValueError(f"file {self.file!r} names no file; write for example orders.csv, orders/ or orders/*.csv")
        if self.package is None and (Path(self.file).is_absolute() or ".." in Path(self.file).parts):
            raise ValueError(
                f"file {self.file!r} must lie in the study's folder of raw data; put it there and write its path from there"
            )
        if self.package is not None and (self.file.endswith("/") or self.is_pattern):
            raise ValueError(f"{self.file} inside package {self.package} must be one file, not a folder or a pattern")
        ending = self.ending(self.file)
        if self.format is not None or self.file.endswith("/") or ending in ("", ".zip") or set(ending) & set("*?[]"):
            return  # each file's own name tells its format
        if ending not in self.FORMATS:
            raise ValueError(
                f"cannot tell the format of {self.file}; add format: csv, excel or parquet, save a spreadsheet as .xlsx, "
                "or end a folder's name in /"
            )
        object.__setattr__(self, "format", self.FORMATS[ending])

    @property
    def is_pattern(self) -> bool:
        """Whether ``file`` has wildcards."""
        return self.file is not None and bool(set(self.file) & set("*?["))

    @classmethod
    def ending(cls, name: str) -> str:
        """The ending that tells a file's format: lower case, past that of its compression; empty if it has none."""
        suffixes = [suffix.lower() for suffix in Path(name).suffixes]
        while suffixes and suffixes[-1] in cls.COMPRESSED:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""


class Sample(_Strict):
    """Keep only the rows of ``customers`` customers, chosen by a hash of their id, so that every source agrees.

    ``among`` names the source whose customers are drawn from (default: the source itself).
    """

    column: str
    customers: int = Field(ge=1)
    among: str | None = None
    among_column: str | None = None


def _some(columns: tuple[str, ...]) -> tuple[str, ...]:
    if not columns:
        raise ValueError("names no raw column; name at least one")
    return columns


RawColumns = Annotated[tuple[str, ...], AfterValidator(_some)]


class Lookup(_Strict):
    """Take ``value`` from the row of another source whose ``key`` equals this column."""

    source: str
    key: str
    value: str


class Mapping(_Strict):
    """How one canonical column is made from raw columns: exactly one of the first seven.

    ``format`` is a strptime pattern. Without one a date is year-month-day; in another order it is read where it has one
    reading, and ``day_first`` says which of two is meant.
    """

    column: str | None = None
    constant: str | None = None
    sum: RawColumns | None = None
    product: RawColumns | None = None
    combine: RawColumns | None = None
    row_number: bool = False
    lookup: Lookup | None = None
    format: str | None = None
    day_first: bool | None = None
    timezone: str | None = None
    prefix: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"column": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_way(self) -> "Mapping":
        ways = [self.column, self.constant, self.sum, self.product, self.combine, self.row_number or None]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give exactly one of column, constant, sum, product, combine, row_number")
        if self.lookup is not None and self.column is None:
            raise ValueError("lookup needs column: the raw column that is looked up")
        if self.prefix and self.column is None:
            raise ValueError("prefix needs column: it goes before that column's value")
        if self.timezone is not None:
            _known_timezone(self.timezone)
        if self.format is not None:
            self._check_format()
        return self

    def _check_format(self) -> None:
        parts = set(re.findall(r"%-?(.?)", self.format))
        if not parts:
            raise ValueError(f"format {self.format!r} has no part of a date; write for example %d/%m/%Y")
        if unknown := parts - _DATE_PARTS:
            raise ValueError(
                f"format {self.format!r}: %{min(unknown)} is not a part of a date; write for example %d/%m/%Y"
            )

    def check_kind(self, number: bool, date: bool) -> None:
        """Refuse what does not go with the kind of the column that is made: a number, a date, or else a text.

        Raises
        ------
        ValueError
            A text or date is summed or multiplied, or a text or number is read as a date.
        """
        if (self.sum or self.product) and not number:
            raise ValueError("only numbers can be summed or multiplied; map one column, or combine texts")
        if (self.format is not None or self.day_first is not None) and not date:
            raise ValueError("format and day_first are for dates, and this is none; take them out")

    @property
    def raw_columns(self) -> tuple[str, ...]:
        return (self.column,) if self.column is not None else self.sum or self.product or self.combine or ()


class Redemptions(_Strict):
    """A source with one row a redeemed offer; a contact with at least one is redeemed."""

    source: str
    campaign_id: Mapping
    customer_id: Mapping


class TableMapping(_Strict):
    """One canonical table: the source its rows come from and how each column is made.

    ``merge_repeated``: rows that repeat the key are one thing seen several times (an offer listed once a product);
    they become one row that takes each column's most frequent value, instead of being set aside.
    ``untargeted``: customers of the company without a contact in a campaign join it as arm ``untargeted``.
    """

    source: str
    columns: dict[str, Mapping]
    attributes: dict[str, Mapping] = {}
    merge_repeated: bool = False
    untargeted: bool = False
    redemptions: Redemptions | None = None


# What DuckDB, PostgreSQL and Spark read alike; each has more that the others refuse or take for something else.
_ESCAPED = r"\\[ !-/:-@\[-^`{-~]"
_IN_CLASS = rf"(?:(?!&&)[^\[\]\\]|\\[dsw]|{_ESCAPED})"
_COUNT = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"  # PostgreSQL counts to 255
_EVERYWHERE = re.compile(
    rf"(?:(?:\((?:\?:)?(?![?*+{{])|\[\^?{_IN_CLASS}+\]|\\[dswDSW]|{_ESCAPED}|[^\\()\[\]{{}}?*+]|\))"
    rf"(?:[?*+]|\{{{_COUNT}(?:,{_COUNT}?)?\}})?)*"
)


def _regular_expression(pattern: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what is refused below
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
    strange = pattern[_EVERYWHERE.match(pattern).end() :]
    if strange or not pattern.isprintable():
        raise ValueError(
            f"{pattern!r}: not every engine reads {strange[:12] or pattern!r} as meant; use letters, [A-Z0-9], \\d, \\s, \\w, "
            "(a|b), ?, *, + and {1,255}, and a backslash before other signs"
        )
    try:
        pc.match_substring_regex(pa.array([""]), pattern)  # RE2, as in DuckDB
    except pa.ArrowInvalid:
        raise ValueError(f"{pattern!r} repeats more than every engine can count; write it shorter") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_regular_expression)]


class IdForm(_Strict):
    """The form of a customer id: ``pattern``, a regular expression of a whole id.

    An id that does not fit is put right where only letters' case, blanks, letters O for zeros behind the first ``prefix``
    characters, or leading zeros up to ``length`` characters are wrong; any other is set aside.
    """

    pattern: Pattern
    prefix: int = Field(0, ge=0)
    length: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _room(self) -> "IdForm":
        if self.length is not None and self.prefix > self.length:
            raise ValueError(f"prefix {self.prefix} is longer than length {self.length}, that of the whole id")
        return self


class Cancellations(_Strict):
    """Lines that take an earlier line back: ``order_id`` is a regular expression of their whole order id. A group in it is the
    id of the order that is taken back; without one, the customer's earlier lines of the same product are searched."""

    order_id: Pattern
    with_original: Literal["keep", "set_aside"] = "keep"
    without_original: Literal["keep", "set_aside"] = "set_aside"

    @model_validator(mode="after")
    def _tells_an_order(self) -> "Cancellations":
        if re.fullmatch(self.order_id, ""):
            raise ValueError(f"order_id {self.order_id!r} fits a blank too; write what every cancellation has")
        if re.compile(self.order_id).groups > 1:
            raise ValueError(
                f"order_id {self.order_id!r} has several groups; keep the one around the order that is taken back, and write "
                "(?:…) for the others"
            )
        return self

    @property
    def names_order(self) -> bool:
        """Whether a cancellation's order id holds that of the order it takes back."""
        return re.compile(self.order_id).groups == 1


class SamePerson(_Strict):
    """Two ids of one person in the customers' source.

    ``keys``: each is a raw column, or several, whose equal values tell one person (an e-mail; name and birthday). A value that
    more than ``limit`` ids share tells nothing. ``compare`` (raw column: name, email, phone, date, postcode or exact) links
    probable persons too, by the Fellegi-Sunter model of splink, from ``threshold`` on.
    """

    keys: tuple[RawColumns, ...] = ()
    limit: int = Field(5, ge=2)
    compare: dict[str, Literal["name", "email", "phone", "date", "postcode", "exact"]] = {}
    threshold: float = Field(0.95, gt=0.5, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _keys_of_one(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("keys"), list | tuple):
            given = given | {"keys": [[key] if isinstance(key, str) else key for key in given["keys"]]}
        return given

    @model_validator(mode="after")
    def _something_to_go_by(self) -> "SamePerson":
        if not self.keys and len(self.compare) < 2:
            raise ValueError("give keys, or at least two columns to compare")
        return self


class Rules(_Strict):
    """Cleaning rules that a study may switch on, off, or limit; what each does is said in ``analysis.cleaning.rules``.

    ``treatment``: what is done where a rule applies, for the rules that leave a choice. ``duplicate_lines``: lines of one
    order with the same product, quantity and amount within so many seconds are one line. ``order_times``: whether a line
    whose time differs from the other lines of its order by the hours between UTC and the company's zone is put right.
    ``outliers``: how many robust standard deviations (of logarithms) make one.
    """

    duplicate_rows: Literal["set_aside", "keep"] = "set_aside"
    outside_period: Literal["set_aside", "keep"] = "set_aside"
    customer_id: IdForm | None = None
    cancellations: Cancellations | None = None
    non_products: tuple[Pattern, ...] = ()
    test_orders: dict[Literal["order_id", "customer_id", "product_id", "channel", "store_id"], Pattern] = {}
    duplicate_lines: int | None = Field(None, ge=0)
    order_times: bool = False
    outliers: float | None = Field(6, gt=1)
    same_person: SamePerson | None = None
    treatment: dict[str, Literal["set_aside", "warn", "off"]] = {}


Scale = tuple[float, float]


def _upwards(scale: Scale) -> Scale:
    if not scale[0] < scale[1]:
        raise ValueError(f"scale {list(scale)} does not go from low to high; write for example [1, 10]")
    return scale


class Recommend(_Strict):
    """The item that asks how likely a customer is to recommend the company, and its own scale."""

    item: str
    scale: Annotated[Scale, AfterValidator(_upwards)] = (0, 10)


class DeliveredValue(_Strict):
    """Items that ask what a customer gets and what it costs them, by the kind of value or cost; high is much of either."""

    values: dict[Literal["product", "service", "personnel", "image"], str] = Field(min_length=1)
    costs: dict[Literal["money", "time", "energy", "psychic"], str] = Field(min_length=1)


THEME_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def _terms(terms: tuple[str, ...]) -> tuple[str, ...]:
    if not terms:
        raise ValueError("names no word; list at least one, for example [expensive, price*]")
    for term in terms:
        if not any(sign.isalnum() for sign in term):
            raise ValueError(f"{term!r} has no letter; write a word, a phrase, or the beginning of a word as price*")
        if "*" in term.strip()[:-1]:
            raise ValueError(f"{term!r}: * can only stand at the end, for whatever a word goes on with")
    return terms


def _themes(themes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if not themes:
        raise ValueError("names no theme; write for example {price: [expensive, price*]}")
    for name in themes:
        if not THEME_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a theme; use lower-case letters, digits and single _, a letter first"
            )
        if name in ("given", "other"):
            raise ValueError(
                f"{name!r} is taken: it counts all comments, or those without a theme; call the theme otherwise"
            )
    return themes


class Comments(_Strict):
    """What customers wrote in their own words: the raw column, and the themes that it is reduced to when it is read.

    A theme is a list of whole words (``expensive``), phrases, and beginnings of words (``price*``), blind to case. A term in a
    script that is written without spaces, such as Chinese, is found anywhere. The text itself is kept nowhere.
    """

    column: str
    themes: Annotated[dict[str, Annotated[tuple[str, ...], AfterValidator(_terms)]], AfterValidator(_themes)]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of ``survey_responses`` that are made from it."""
        return ("comment_given", *(f"comment_{theme}" for theme in self.themes), "comment_other")


class Survey(_Strict):
    """The questionnaire: its answer scale, which items measure which construct, and what is asked.

    ``model`` is the European Customer Satisfaction Index, or commitment and trust as what makes customers stay.
    ``wave`` is a column with the number of the wave, where there were several. ``represents`` names columns of
    ``customers`` whose shares the respondents should have.
    """

    model: Literal["ecsi", "commitment_trust"] = "ecsi"
    scale: Annotated[Scale, AfterValidator(_upwards)]
    blocks: dict[str, tuple[str, ...]]
    recommend: Recommend | None = None
    delivered_value: DeliveredValue | None = None
    comments: Comments | None = None
    wave: str | None = None
    represents: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    missing_codes: tuple[str, ...] = ()

    @property
    def scales(self) -> dict[str, Scale]:
        """The lowest and highest answer of every item that is asked."""
        asked = [item for block in self.blocks.values() for item in block]
        if self.delivered_value:
            asked += [*self.delivered_value.values.values(), *self.delivered_value.costs.values()]
        return dict.fromkeys(asked, self.scale) | (
            {self.recommend.item: self.recommend.scale} if self.recommend else {}
        )

    @property
    def items(self) -> tuple[str, ...]:
        """All columns of the questionnaire itself: what is asked, and the wave."""
        return (*self.scales, *([self.wave] if self.wave else []))

    @property
    def places(self) -> Iterator[tuple[str, str]]:
        """Every item and the wave, each behind the place in the file that names it."""
        yield from ((f"blocks.{block}", item) for block, items in self.blocks.items() for item in items)
        if self.recommend:
            yield "recommend.item", self.recommend.item
        for kind in ("values", "costs") if self.delivered_value else ():
            given = getattr(self.delivered_value, kind)
            yield from ((f"delivered_value.{kind}.{of}", item) for of, item in given.items())
        if self.wave:
            yield "wave", self.wave


class Simulation(_Strict):
    """A company that does not exist: its raw files are made by ``analysis.simulate``, with the truth beside them."""

    world: Literal["textbook", "company"]
    customers: int = Field(ge=100, le=10_000_000)
    seed: int = Field(1, ge=0, le=_LARGEST_SEED)
    confounding: float = Field(0.0, ge=0, le=0.9)


class Quote(_Strict):
    """What a source says of itself, in its own words."""

    text: str
    source: str


class EngineSettings(_Strict):
    """Where the tables are computed: ``duckdb`` in this process, ``postgres`` (a server: ``database`` is its address, in
    which ``${NAME}`` is taken from the environment), or ``spark`` (``master``, and ``options`` as Spark calls them)."""

    kind: Literal["duckdb", "postgres", "spark"] = "duckdb"
    database: str | None = None
    master: str = "local[*]"
    options: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _reachable(self) -> "EngineSettings":
        if (self.database is None) == (self.kind == "postgres"):
            raise ValueError(
                "postgres needs database: its address, for example postgres://me:${PASSWORD}@host/name"
                if self.kind == "postgres"
                else f"database is for postgres; {self.kind} has none"
            )
        if self.database and not (re.match("postgres(ql)?://", self.database) or _VARIABLE.fullmatch(self.database)):
            raise ValueError("database must begin with postgres:// or postgresql://, or be one ${VARIABLE}")
        return self


def _known_locale(locale: str) -> str:
    try:
        Locale.parse(locale)
    except (UnknownLocaleError, ValueError):
        raise ValueError(f"{locale!r} is not a locale; write for example en or en_GB") from None
    return locale


def _known_timezone(zone: str) -> str:
    if zone not in available_timezones():
        raise ValueError(f"{zone!r} is not an IANA time zone; write for example America/New_York")
    return zone


def _known_currency(code: str) -> str:
    if code not in list_currencies():
        raise ValueError(f"{code!r} is not an ISO 4217 currency code; write for example USD")
    return code


class Study(_Strict):
    """One company's data and decisions; see the template in ``studies/_template`` for every key with its meaning."""

    name: str
    title: str
    about: str = ""
    quotes: tuple[Quote, ...] = ()
    words: Words = Words()
    locale: Annotated[str, AfterValidator(_known_locale)] = "en"
    currency: Annotated[str, BeforeValidator(str), AfterValidator(_known_currency)] = "USD"
    timezone: Annotated[str, AfterValidator(_known_timezone)] = "UTC"
    engine: EngineSettings = EngineSettings()
    clock: Clock | None = None
    money: Money = Money()
    relationship: Relationship | None = None
    privacy: Privacy = Privacy()
    rules: Rules = Rules()
    survey: Survey | None = None
    simulation: Simulation | None = None
    sources: dict[str, Source]
    tables: dict[str, TableMapping]
    seed: int = Field(1, ge=0, le=_LARGEST_SEED)
    keep_editions: int = Field(3, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        for place, item in self.survey.places if self.survey else ():
            if item.lower().startswith("comment_"):
                raise ValueError(f"survey.{place}: {item!r} begins like the themes of survey.comments; rename the item")
        for name, source in self.sources.items():
            if not _SOURCE_NAME.fullmatch(name):
                raise ValueError(f"sources: {name!r} cannot name a source; use letters, digits, _ and -")
            if source.sample and source.sample.among not in (None, *self.sources):
                raise ValueError(f"sources.{name}.sample.among: {source.sample.among!r} is not under sources")
        if not self.tables:
            raise ValueError(f"tables: needs at least one; choose from {', '.join(MAPPED_TABLES)}")
        for table, mapping in self.tables.items():
            self._check_columns(table, mapping)
            self._check_kinds(table, mapping)
            self._check_others(table, mapping)
        self._check_rules()
        self._check_comments()
        if "survey_responses" in self.tables and self.survey is None:
            raise ValueError("survey: missing; say the answer scale and which items measure which construct")
        if "order_lines" in self.tables and self.clock is None:
            raise ValueError("clock: missing; say observed_from and observed_to, for example 2024-01-01 and 2024-12-31")
        for place, named in (("fields", self.privacy.fields), ("personal", self.privacy.personal)):
            for field in named:
                if field.partition(".")[0] not in self.sources or not field.partition(".")[2]:
                    raise ValueError(f"privacy.{place}: {field!r} is not a source.column of this study")
        return self

    def _check_columns(self, table: str, mapping: TableMapping) -> None:
        """Whether a table's sources are there and its columns are those that a study maps."""
        if table not in CONTRACTS or table in DERIVED_TABLES:
            raise ValueError(f"tables.{table}: not a table that a study maps; choose from {', '.join(MAPPED_TABLES)}")
        contract = CONTRACTS[table]
        named = [mapping.source] + ([mapping.redemptions.source] if mapping.redemptions else [])
        named += [m.lookup.source for m in mapping.columns.values() if m.lookup]
        for source in named:
            if source not in self.sources:
                raise ValueError(f"tables.{table}: source {source!r} is not under sources")
        for column in mapping.columns:
            items = self.survey.items if table == "survey_responses" and self.survey else ()
            if column not in contract.columns and column not in items:
                raise ValueError(
                    f"tables.{table}.columns: {column!r} is not a column of {table}; "
                    f"choose from {', '.join(contract.columns)}, or put it under attributes"
                )
        for column in [c for c in NEEDED.get(table, ()) if c not in mapping.columns]:
            raise ValueError(f"tables.{table}.columns: {column} has no mapping, and {table} cannot do without it")
        for column, why in _REFUSED.get(table, {}).items():
            if column in mapping.columns:
                raise ValueError(f"tables.{table}.columns.{column}: cannot be mapped; {why}")
        for column, other in _TOGETHER.get(table, {}).items():
            if column in mapping.columns and other not in mapping.columns:
                raise ValueError(f"tables.{table}.columns.{column}: means nothing without {other}; map both or neither")
        for column in ("net_amount", "amount"):
            if column in mapping.columns and mapping.columns[column].lookup:
                raise ValueError(f"tables.{table}.columns.{column}: cannot be looked up; money is booked as it came")

    def _check_kinds(self, table: str, mapping: TableMapping) -> None:
        """Whether each mapping can make a column of its kind; attributes and redemptions are texts of their own source."""
        known = CONTRACTS[table].columns
        places = []
        for column, m in mapping.columns.items():
            # Those that the contract does not have are answers to the survey's items.
            number, date = (
                (known[column].dtype.is_numeric(), known[column].dtype.is_temporal())
                if column in known
                else (True, False)
            )
            places.append((f"columns.{column}", m, number, date))
        texts = {f"attributes.{column}": m for column, m in mapping.attributes.items()}
        if mapping.redemptions:
            texts |= {f"redemptions.{c}": getattr(mapping.redemptions, c) for c in ("campaign_id", "customer_id")}
        for place, m in texts.items():
            if m.lookup:
                raise ValueError(f"tables.{table}.{place}: cannot be looked up; only columns can")
            places.append((place, m, False, False))
        for place, m, number, date in places:
            try:
                m.check_kind(number, date)
            except ValueError as error:
                raise ValueError(f"tables.{table}.{place}: {error}") from None

    def _check_others(self, table: str, mapping: TableMapping) -> None:
        """Whether what a table takes besides columns goes with it."""
        if mapping.attributes and CONTRACTS[table].extra != "text":
            takers = ", ".join(name for name in MAPPED_TABLES if CONTRACTS[name].extra == "text")
            raise ValueError(f"tables.{table}.attributes: {table} takes none; these do: {takers}")
        if mapping.redemptions and "redeemed" in mapping.columns:
            raise ValueError(f"tables.{table}: redeemed is mapped and redemptions are given; keep one of the two")
        if table == "survey_responses" and self.survey and not set(self.survey.items) & set(mapping.columns):
            raise ValueError(f"tables.{table}.columns: no item of survey.blocks is mapped")
        if mapping.untargeted and not {"order_lines", "customers"} & set(self.tables):
            raise ValueError(
                f"tables.{table}.untargeted: needs tables.order_lines or tables.customers, which tell who was left out"
            )

    def _check_rules(self) -> None:
        """Whether the columns of order lines that a rule looks at are mapped."""
        rules = self.rules
        needs = {f"test_orders.{column}": (column,) for column in rules.test_orders}
        needs |= {"cancellations": ("order_id", "quantity")} if rules.cancellations is not None else {}
        needs |= {"duplicate_lines": ("order_id", "quantity")} if rules.duplicate_lines is not None else {}
        needs |= {"order_times": ("order_id",)} if rules.order_times else {}
        needs |= {"non_products": ("product_id",)} if rules.non_products else {}
        mapped = self.tables["order_lines"].columns if "order_lines" in self.tables else {}
        for rule, columns in needs.items():
            for column in columns:
                if column not in mapped:
                    raise ValueError(
                        f"rules.{rule}: needs tables.order_lines.columns.{column}; map it, or take the rule out"
                    )

    def _check_comments(self) -> None:
        """Whether comments have a table to go to, and nothing else is made from their text."""
        comments = self.comments
        if comments is None:
            return
        if "survey_responses" not in self.tables:
            raise ValueError("survey.comments: needs tables.survey_responses, whose source has the column")
        mapping = self.tables["survey_responses"]
        for name in mapping.columns:
            if name.lower() in comments.columns:
                raise ValueError(
                    f"tables.survey_responses.columns.{name}: survey.comments makes a column of this name; rename one"
                )
        for place, other, column in self._raw_uses():
            if (other, column) == (mapping.source, comments.column):
                raise ValueError(
                    f"{place}: {column!r} is survey.comments.column, of which only themes are kept; take it out"
                )

    def _raw_uses(self) -> Iterator[tuple[str, str, str]]:
        """Every use of a raw column: its place in the file, source and column."""
        for table, mapping in self.tables.items():
            uses = [(f"columns.{c}", mapping.source, m) for c, m in mapping.columns.items()]
            uses += [(f"attributes.{c}", mapping.source, m) for c, m in mapping.attributes.items()]
            if mapping.redemptions:
                uses += [(f"redemptions.{c}", mapping.redemptions.source, getattr(mapping.redemptions, c))
                         for c in ("campaign_id", "customer_id")]  # fmt: skip
            for place, source, m in uses:
                yield from ((f"tables.{table}.{place}", source, column) for column in m.raw_columns)
                if m.lookup:
                    for column in (m.lookup.key, m.lookup.value):
                        yield f"tables.{table}.{place}.lookup", m.lookup.source, column
        for name, source in self.sources.items():
            if source.sample:
                yield f"sources.{name}.sample.column", name, source.sample.column
                among = source.sample.among or name
                yield f"sources.{name}.sample.among_column", among, source.sample.among_column or source.sample.column
        same = self.rules.same_person
        if same and "customers" in self.tables:
            for column in [*(column for key in same.keys for column in key), *same.compare]:
                yield "rules.same_person", self.tables["customers"].source, column

    @property
    def comments(self) -> Comments | None:
        """What is said of comments; they lie in the source of ``survey_responses``."""
        return self.survey.comments if self.survey else None

    def comments_in(self, source: str) -> Comments | None:
        """The same where they lie in ``source``; None where it holds none."""
        return self.comments if self.comments and self.tables["survey_responses"].source == source else None

    def hashed(self, source: str) -> tuple[str, ...]:
        """The columns of ``source`` that are hashed when they are read; of comments there is nothing left to hash."""
        comments = self.comments_in(source)
        return tuple(c for c in self.privacy.hashed(source) if comments is None or c != comments.column)

    @property
    def guarded(self) -> tuple[str, ...]:
        """The raw columns (``source.column``) whose values no result may hold: they are hashed, or comments that become marks."""
        comments = [f"{self.tables['survey_responses'].source}.{self.comments.column}"] if self.comments else []
        return tuple(sorted({*self.privacy.personal, *comments}))

    @property
    def digest(self) -> str:
        """A hash of everything the study says, blind to comments and layout."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


DERIVED_TABLES = frozenset(
    {"quarantine", "customer_summary", "customer_value", "customer_segment", "customer_loyalty", "loyalty_drivers"}
    | {"campaign_effects", "target_list"}
)
MAPPED_TABLES = tuple(name for name in CONTRACTS if name not in DERIVED_TABLES)
# What a mapping cannot do without; the rest of a contract is derived, has a default, or is optional.
NEEDED = {
    "order_lines": ("customer_id", "ordered_at", "net_amount"),
    "products": ("product_id",),
    "customers": ("customer_id",),
    "prospects": ("prospect_id",),
    "survey_responses": ("response_id",),
    "interactions": ("interaction_id", "customer_id", "opened_at"),
    "marketing_costs": ("period", "channel", "purpose", "amount"),
    "campaigns": ("campaign_id", "starts_on", "design"),
    "contacts": ("campaign_id", "customer_id", "arm"),
    "offers": ("offer_id", "campaign_id"),
}


_REFUSED = {
    "order_lines": {
        "order_date": "it is the day of ordered_at in the study's time zone",
        "is_return": "a return is a line whose net_amount is negative; negate it in the file or the query",
    }
}
_TOGETHER = {"order_lines": {"unit_price": "quantity", "line_number": "order_id"}}


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice, where plain YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError, AttributeError):  # 30 February, a number in words
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{str(node.value)[:40]!r} is no {kind}; correct it, or put it in quotation marks",
                node.start_mark,
            ) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises
    ------
    StudyError
        The file is missing, unreadable, not UTF-8, not YAML or not a mapping; one line with the place.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_UniqueKeys)
    except FileNotFoundError:
        raise StudyError(f"{paths.shown(path)}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{paths.shown(path)}: cannot be read ({error}); save it as UTF-8 text") from None
    except RecursionError:
        raise StudyError(f"{paths.shown(path)}: is nested too deeply to be read; close its brackets") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise StudyError(
            f"{paths.shown(path)}: line {line} holds the control character U+{error.character:04X}; take it out"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise StudyError(f"{paths.shown(path)}:{line} {getattr(error, 'problem', error)}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise StudyError(f"{paths.shown(path)}: expected 'key: value' lines, found a {type(content).__name__}")
    return content


def one_line(error: ValidationError, path: Path) -> str:
    """The first mistake that pydantic found, as one line, with a count of the others."""
    # A misspelt key is also a missing one; the misspelling is what its owner has to see.
    first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        message = "is not a known key; check its spelling"
    elif first["type"] == "missing":
        message = "is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] != "value_error" and not isinstance(first["input"], dict):
            message += f"; found {str(first['input'])[:60]!r}"
    more = f" (and {len(others)} more)" if others else ""
    separator = "" if not place else " " if message.startswith("is ") else ": "
    return f"{paths.shown(path)}: {place}{separator}{message}{more}"


def names() -> list[str]:
    """The studies that there are."""
    return sorted(p.parent.name for p in paths.studies().glob("*/study.yaml") if STUDY_NAME.fullmatch(p.parent.name))


def defaults() -> list[str]:
    """The studies that ``make reports`` runs when none is named: one a line in ``studies/default.txt``."""
    path = paths.studies() / "default.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def load(name: str) -> Study:
    """Load and validate ``studies/<name>/study.yaml``.

    Raises
    ------
    StudyError
        One line that names the file, the path inside it, and the cure.
    """
    if not STUDY_NAME.fullmatch(name):
        raise StudyError(f"{name!r} cannot name a study; use lower-case letters, digits and _ (it becomes a folder)")
    path = _file(name)
    if not path.exists():
        raise StudyError(f"there is no study {name!r}; choose from {', '.join(names())}, or make new-study NAME={name}")
    content = _content(name)
    strange = [key for key in content if not isinstance(key, str)]
    if strange:
        raise StudyError(f"{paths.shown(path)}: {strange[0]!r} is not a known key; check its spelling")
    if "name" in content:
        raise StudyError(f"{paths.shown(path)}: name is not set here; the folder's name says it")
    try:
        return Study(name=name, **content)
    except ValidationError as error:
        raise StudyError(one_line(error, path)) from None


def _file(name: str) -> Path:
    return paths.studies() / name / "study.yaml"


def _content(name: str, variants: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a study's file says. A study may be ``like`` another: what it says replaces what the other says, key by key, and
    null takes a key out. ``variants`` are those that are like this one."""
    content = read_yaml(_file(name))
    if "like" not in content:
        return content
    other, at = str(content.pop("like")), f"{paths.shown(_file(name))}: like"
    if other in (*variants, name):
        raise StudyError(f"{at}: {other!r} is like this study itself; name a study that says everything")
    if not STUDY_NAME.fullmatch(other) or not _file(other).exists():
        others = [each for each in names() if each != name]
        cure = f"choose from {', '.join(others)}" if others else "take like: out"
        raise StudyError(f"{at}: there is no study {other[:40]!r}; {cure}")
    return _merge(_content(other, (*variants, name)), content)


def _merge(base: dict, change: dict) -> dict:
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return {key: value for key, value in merged.items() if value is not None or key not in base}


def overrides(name: str, step: str) -> dict[str, Any]:
    """The Papermill parameters that the study sets for one notebook; empty where it has none."""
    path = paths.studies() / name / f"{step}.yaml"
    return read_yaml(path) if path.exists() else {}
