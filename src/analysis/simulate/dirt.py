"""Dirt planted in clean raw files, every touched or added row on record: see ``KINDS`` for what is planted and why.

A touched row gets one kind of dirt only. Added rows stand right behind the row that they were made from. Money is read
and written in whole cents; times are local, "2024-03-05 14:22:10"; an order number does not begin with the digit 9 and
a customer number is a letter and eight digits below 50,000,000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.simulate.clock import OBSERVED_DAYS, OFFSET_HOURS, dates
from analysis.simulate.people import People

RECORD = pa.schema(
    [
        ("source", pa.string()),
        ("row_number", pa.int64()),
        ("kind", pa.string()),
        ("column", pa.string()),
        ("original", pa.string()),
        ("planted", pa.string()),
        ("expected", pa.string()),
        ("of", pa.int64()),
    ]
)


@dataclass(frozen=True)
class DirtPlan:
    """How often each kind of dirt is planted: a share of the clean order lines; for ``second_id``, of the customers."""

    duplicate_exact: float = 0.0
    duplicate_near: float = 0.0
    cancelled: float = 0.0
    cancelled_partly: float = 0.0
    cancelled_without_original: float = 0.0
    missing_customer: float = 0.0
    malformed_customer: float = 0.0
    second_id: float = 0.0
    impossible_date: float = 0.0
    ambiguous_date: float = 0.0
    future_date: float = 0.0
    before_company: float = 0.0
    wrong_zone: float = 0.0
    full_width_digits: float = 0.0
    thousands_separator: float = 0.0
    decimal_comma: float = 0.0
    currency_sign: float = 0.0
    white_space: float = 0.0
    negative_price: float = 0.0
    zero_price: float = 0.0
    test_order: float = 0.0
    postage: float = 0.0


TEXTBOOK = DirtPlan()
COMPANY = DirtPlan(
    duplicate_exact=0.003,
    duplicate_near=0.002,
    cancelled=0.003,
    cancelled_partly=0.001,
    cancelled_without_original=0.001,
    missing_customer=0.003,
    malformed_customer=0.002,
    second_id=0.004,
    impossible_date=0.001,
    ambiguous_date=0.001,
    future_date=0.001,
    before_company=0.001,
    wrong_zone=0.002,
    full_width_digits=0.002,
    thousands_separator=0.001,
    decimal_comma=0.001,
    currency_sign=0.002,
    white_space=0.003,
    negative_price=0.001,
    zero_price=0.002,
    test_order=0.001,
    postage=0.002,
)


@dataclass(frozen=True)
class Kind:
    """A kind of dirt.

    Attributes
    ----------
    expected : what a correct analysis does with such a row: ``set_aside``, ``repair`` or ``keep``. sentence : what it is
    and why that is expected. pool : which order lines can have it, a key of ``_pools``. plant : changes the text of
    chosen rows in place and returns the column, or one a row, that shows it; None where it is not chosen row by row.
    adds : whether the changed rows stand behind the chosen ones, which stay; ``copy`` where these are their originals.
    """

    expected: str
    sentence: str
    pool: str = "all"
    plant: Callable[[pd.DataFrame, np.random.Generator], str | NDArray] | None = None
    adds: str | None = None


@dataclass(frozen=True)
class _Change:
    """Rows to be written: made from the rows at ``positions``, ``column`` shows the dirt (one name a row)."""

    kind: str
    adds: str | None
    positions: NDArray[np.int64]
    before: pd.DataFrame
    after: pd.DataFrame
    column: NDArray


def second_ids(people: People, plan: DirtPlan, rng: np.random.Generator) -> pd.DataFrame:
    """The customers of a batch who register a second time, and the number they go by from then on.

    Returns
    -------
    ``customer_id, second_id, since``, text, one row a person; ``since`` is a day after the first purchase. The second
    number follows from the first, so that it is nobody else's in any batch.
    """
    first_day = np.floor(people.arrival).astype(np.int64) + 1
    chosen = np.flatnonzero((rng.random(len(people)) < plan.second_id) & (first_day < OBSERVED_DAYS))
    customer_id = people.customer_id[chosen]
    second_id = [f"{number[0]}{int(number[1:]) + 50_000_000}" for number in customer_id]
    since = dates(rng.integers(first_day[chosen], OBSERVED_DAYS)).astype(str)
    return pd.DataFrame({"customer_id": customer_id, "second_id": second_id, "since": since}, dtype="str")


def dirty_customers(
    customers: pa.Table, second_ids: pd.DataFrame, rng: np.random.Generator, first_row: int
) -> tuple[pa.Table, pa.Table]:
    """A batch of the raw customers with a second row for everybody who has two numbers.

    The second row has the same e-mail and every other attribute, the name in other case or spacing, and its own day of
    registration.

    Parameters
    ----------
    customers : columns of text, among them customer_no, name and registered_on. second_ids : as :func:`second_ids` returns.
    first_row : the raw row number of the first row (in CSV files the header is row 1).

    Returns
    -------
    The finished table, and the record of the added rows with the columns of ``RECORD``.
    """
    positions, theirs = _rows_of(second_ids, customers)
    before = customers.take(positions).to_pandas()
    after = before.assign(customer_no=theirs["second_id"], registered_on=theirs["since"])
    _rewrite(after, "name", rng, lambda name: f" {name.upper()}", lambda name: f"{name.lower()}  ")
    change = _Change("second_id", "copy", positions, before, after, np.full(len(after), "customer_no"))
    return _finished(customers, [change], "customers", first_row)


def dirty_orders(
    lines: pa.Table, plan: DirtPlan, rng: np.random.Generator, first_row: int, second_ids: pd.DataFrame
) -> tuple[pa.Table, pa.Table]:
    """A batch of raw order lines with dirt of every kind.

    Parameters
    ----------
    lines : clean, columns of text (order_no, line_no, customer_no, ordered_at, sku, qty, unit_price, discount, amount, cost
    and others), the lines of an order next to each other. first_row : the raw row number of the first row.
    second_ids : as :func:`second_ids` returns; every line from ``since`` on carries the second number.

    Returns
    -------
    The finished table, and its record with the columns of ``RECORD``, one row a touched or added row, in order of
    ``row_number``: ``column`` shows the dirt and holds the text ``planted``; ``original`` is what stood there, or stands
    in the original of a copy, null for an added row that has none; ``of`` is the row number of that original.
    """
    changes = [_second_numbers(lines, second_ids)]
    for kind, positions in _chosen(lines, plan, rng, taken=changes[0].positions).items():
        before = lines.take(positions).to_pandas()
        after = before.copy()
        column = np.broadcast_to(KINDS[kind].plant(after, rng), len(after))
        changes.append(_Change(kind, KINDS[kind].adds, positions, before, after, column))
    return _finished(lines, changes, "orders", first_row)


def _second_numbers(lines: pa.Table, second_ids: pd.DataFrame) -> _Change:
    """The lines of people with two numbers, from the day on which they have the second."""
    positions, theirs = _rows_of(second_ids, lines)
    before = lines.take(positions).to_pandas()
    later = (before["ordered_at"] >= theirs["since"]).to_numpy()
    before, theirs = before[later], theirs[later]
    after = before.assign(customer_no=theirs["second_id"])
    return _Change("second_id", None, positions[later], before, after, np.full(len(after), "customer_no"))


def _rows_of(second_ids: pd.DataFrame, table: pa.Table) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """The rows of ``table`` that belong to people with two numbers, and for each its row of ``second_ids``."""
    number = table["customer_no"]
    person = pc.index_in(number, pa.array(second_ids["customer_id"], number.type))
    positions = np.flatnonzero(_mask(pc.is_valid(person)))
    return positions, second_ids.iloc[np.asarray(person.take(positions), dtype=np.int64)].reset_index(drop=True)


def _chosen(
    lines: pa.Table, plan: DirtPlan, rng: np.random.Generator, taken: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """The rows of every kind that is planted row by row, none of them twice and none of those already taken."""
    counts = {k: rng.binomial(lines.num_rows, getattr(plan, k)) for k, kind in KINDS.items() if kind.plant}
    if not any(counts.values()):
        return {}
    pools = _pools(lines)
    free = np.ones(lines.num_rows, dtype=bool)
    free[taken] = False
    shuffled = rng.permutation(lines.num_rows)
    chosen = {}
    # Narrow pools first: a row that suits few kinds is not spent on one that suits all.
    for kind in sorted(counts, key=lambda k: pools[KINDS[k].pool].sum()):
        suitable = shuffled[(free & pools[KINDS[kind].pool])[shuffled]]
        rows = np.sort(suitable[: counts[kind]])
        free[rows] = False
        if len(rows):
            chosen[kind] = rows
    return chosen


def _pools(lines: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Which lines suit which kinds, shape (lines,) each."""
    n, order = lines.num_rows, lines["order_no"]
    month, day = (pc.utf8_slice_codeunits(lines["ordered_at"], at, at + 2) for at in (5, 8))
    sale = _mask(pc.match_substring_regex(lines["amount"], "^[0-9.]*[1-9]"))
    changes = _mask(pc.not_equal(order.slice(0, max(n - 1, 0)), order.slice(1)))
    return {
        "all": np.ones(n, dtype=bool),
        "sale": sale,
        "undiscounted sale": sale & _mask(pc.match_substring_regex(lines["discount"], "^[0.]+$")),
        "sale of several": sale & _mask(pc.match_substring_regex(lines["qty"], "^([2-9]|[1-9][0-9]+)$")),
        "last line of a sale": sale & np.r_[changes, True][:n],
        "thousand": _mask(pc.match_substring_regex(lines["amount"], "^-?[1-9][0-9]{3}")),
        "leading zero": _mask(pc.match_substring_regex(lines["customer_no"], "^[A-Z]0")),
        "day or month": _mask(pc.and_(pc.less_equal(day, "12"), pc.not_equal(day, month))),
    }


def _mask(condition: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(condition, False), dtype=bool)


def _finished(table: pa.Table, changes: list[_Change], source: str, first_row: int) -> tuple[pa.Table, pa.Table]:
    """``table`` with all changes, and the record of them."""
    changes = [change for change in changes if len(change.positions)]
    if not changes:
        return table, RECORD.empty_table()
    n = table.num_rows
    sizes = [len(change.positions) for change in changes]
    positions = np.concatenate([change.positions for change in changes])
    added = np.repeat([change.adds is not None for change in changes], sizes)
    copied = np.repeat([change.adds == "copy" for change in changes], sizes)
    after = [pa.Table.from_pandas(change.after, table.schema, preserve_index=False) for change in changes]
    rows = np.arange(n)
    rows[positions[~added]] = n + np.flatnonzero(~added)
    rows = np.insert(rows, positions[added] + 1, n + np.flatnonzero(added))
    finished = pa.concat_tables([table, *after]).combine_chunks().take(pa.array(rows))
    moved = first_row + positions + np.searchsorted(np.sort(positions[added]), positions)
    original = np.concatenate([_cells(change.before, change.column) for change in changes])
    kinds = np.repeat([change.kind for change in changes], sizes)
    record = {
        "source": np.full(len(positions), source),
        "row_number": moved + added,
        "kind": kinds,
        "column": np.concatenate([change.column for change in changes]),
        "original": np.where(added & ~copied, None, original),
        "planted": np.concatenate([_cells(change.after, change.column) for change in changes]),
        "expected": [KINDS[kind].expected for kind in kinds],
        "of": pa.array(moved, mask=~copied),
    }
    record = pa.table({f.name: pa.array(record[f.name], f.type, from_pandas=True) for f in RECORD}, RECORD)
    return finished, record.sort_by("row_number")


def _cells(frame: pd.DataFrame, column: NDArray) -> NDArray:
    """The text of one column a row."""
    return frame.to_numpy(dtype=object)[np.arange(len(frame)), frame.columns.get_indexer(column)]


# -- what is done to the rows of each kind -----------------------------------------------------------------------------


def _rewrite(
    rows: pd.DataFrame, column: str | NDArray, rng: np.random.Generator, *forms: Callable[[str], str]
) -> str | NDArray:
    """Put the text of ``column`` (one for all rows, or one a row) into one of several forms at random."""
    columns = np.broadcast_to(column, len(rows))
    form = rng.integers(len(forms), size=len(rows))
    for name in np.unique(columns):
        there = columns == name
        rows.loc[there, name] = [forms[k](text) for k, text in zip(form[there], rows.loc[there, name], strict=True)]
    return column


def _duplicate_exact(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    return "order_no"


def _duplicate_near(rows: pd.DataFrame, rng: np.random.Generator) -> NDArray:
    column = rng.choice(["ordered_at", "sku", "customer_no"], len(rows))
    later = _written(_times(rows) + rng.integers(1, 60, len(rows)))
    rows["ordered_at"] = np.where(column == "ordered_at", later, rows["ordered_at"])
    rows["sku"] = np.where(column == "sku", rows["sku"].str.lower(), rows["sku"])
    rows["customer_no"] = np.where(column == "customer_no", rows["customer_no"] + " ", rows["customer_no"])
    return column


def _cancel(rows: pd.DataFrame) -> None:
    rows["order_no"] = "X" + rows["order_no"]
    rows["qty"] = "-" + rows["qty"]
    rows["amount"] = "-" + rows["amount"]


def _cancelled(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    _cancel(rows)
    # On the same day, so that not only money but days with a purchase are right when both lines are booked.
    times = _times(rows)
    end_of_day = (times.astype("datetime64[D]") + 1).astype("datetime64[s]") - 1
    rows["ordered_at"] = _written(np.minimum(times + rng.integers(60, 6 * 3_600, len(rows)), end_of_day))
    return "qty"


def _cancelled_partly(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    bought = rows["qty"].astype(int).to_numpy()
    back = rng.integers(1, bought)
    discount = _cents(rows["discount"]) * back // bought
    rows["qty"] = back.astype(str)
    rows["discount"] = _money(discount)
    rows["amount"] = _money(_cents(rows["unit_price"]) * back - discount)
    rows["cost"] = _money(_cents(rows["cost"]) * back // bought)
    return _cancelled(rows, rng)


def _cancelled_without_original(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    # Another line's goods under an order number from before the file: the customer's own line must not pass for the original.
    goods = ["sku", "qty", "unit_price", "discount", "amount", "cost"]
    rows[goods] = np.roll(rows[goods].to_numpy(), 1, axis=0)
    rows["order_no"] = rows["order_no"].str.replace(r"\d", "9", n=1, regex=True)
    _cancel(rows)
    return "order_no"


def _missing_customer(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    rows["customer_no"] = ""
    return "customer_no"


def _malformed_customer(rows: pd.DataFrame, rng: np.random.Generator) -> str | NDArray:
    return _rewrite(
        rows,
        "customer_no",
        rng,
        lambda number: f"{number[:5].lower()} {number[5:]}",
        lambda number: number[0] + number[1:].lstrip("0"),
        lambda number: number.replace("0", "O"),
    )


def _impossible_date(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    days = rng.choice(["02-30", "02-31", "04-31", "06-31", "09-31", "11-31", "13-01", "00-00"], len(rows))
    rows["ordered_at"] = rows["ordered_at"].str[:5] + days + rows["ordered_at"].str[10:]
    return "ordered_at"


def _ambiguous_date(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    text = rows["ordered_at"].str
    rows["ordered_at"] = text[8:10] + "/" + text[5:7] + "/" + text[:4] + " " + text[11:16]
    return "ordered_at"


def _future_date(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    days = rng.integers(2_600, 10_000, len(rows)).astype("timedelta64[D]")  # from 2030 on
    rows["ordered_at"] = _written(_times(rows) + days)
    return "ordered_at"


def _before_company(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    # The zero of a database, of a spreadsheet, and of Unix.
    zeros = ["1900-01-01 00:00:00", "1899-12-30 00:00:00", "1970-01-01 08:00:00"]
    rows["ordered_at"] = rng.choice(zeros, len(rows))
    return "ordered_at"


def _wrong_zone(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    rows["ordered_at"] = _written(_times(rows) - np.timedelta64(OFFSET_HOURS, "h"))
    return "ordered_at"


def _full_width_digits(rows: pd.DataFrame, rng: np.random.Generator) -> str | NDArray:
    wide = str.maketrans("0123456789", "０１２３４５６７８９")
    column = rng.choice(["amount", "qty", "unit_price"], len(rows))
    return _rewrite(rows, column, rng, lambda number: number.translate(wide))


def _thousands_separator(rows: pd.DataFrame, rng: np.random.Generator) -> str | NDArray:
    return _rewrite(rows, "amount", rng, lambda number: f"{Decimal(number):,}")


def _decimal_comma(rows: pd.DataFrame, rng: np.random.Generator) -> str | NDArray:
    return _rewrite(rows, "amount", rng, lambda number: number.replace(".", ","))


def _currency_sign(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    rows["amount"] = "¥" + rows["amount"]
    return "amount"


def _white_space(rows: pd.DataFrame, rng: np.random.Generator) -> str | NDArray:
    column = rng.choice(["customer_no", "order_no"], len(rows))
    return _rewrite(rows, column, rng, lambda text: f" {text}", lambda text: f"{text}  ", lambda text: f"\u3000{text} ")


def _negative_price(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    rows["unit_price"] = "-" + rows["unit_price"]
    rows["amount"] = "-" + rows["amount"]
    return "unit_price"


def _zero_price(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    rows["unit_price"] = rows["amount"] = "0.00"
    return "amount"


def _test_order(rows: pd.DataFrame, rng: np.random.Generator) -> str | NDArray:
    rows["order_no"] = "T" + rows["order_no"]
    return _rewrite(rows, rng.choice(["customer_no", "sku"], len(rows)), rng, lambda _: "TEST")


def _postage(rows: pd.DataFrame, rng: np.random.Generator) -> str:
    price = rng.choice(["6.00", "8.00", "12.00"], len(rows))
    rows["line_no"] = (rows["line_no"].astype(int) + 1).astype(str)
    rows["sku"] = rng.choice(["POSTAGE", "FEE", "MANUAL"], len(rows))
    rows["qty"], rows["discount"] = "1", "0.00"
    rows["unit_price"] = rows["amount"] = rows["cost"] = price
    return "sku"


def _times(rows: pd.DataFrame) -> NDArray[np.datetime64]:
    return rows["ordered_at"].to_numpy().astype("datetime64[s]")


def _written(times: NDArray[np.datetime64]) -> NDArray[np.str_]:
    return np.char.replace(times.astype(str), "T", " ")


def _cents(text: pd.Series) -> NDArray[np.int64]:
    return np.round(100 * text.astype(float)).astype(np.int64).to_numpy()


def _money(cents: NDArray[np.int64]) -> list[str]:
    return [f"{c / 100:.2f}" for c in cents]


KINDS = {
    "duplicate_exact": Kind(
        "set_aside",
        "The line stands in the file twice; it was bought once.",
        plant=_duplicate_exact,
        adds="copy",
    ),
    "duplicate_near": Kind(
        "set_aside",
        "The same line of the same order again, some seconds later or in other case or spacing; it was bought once.",
        plant=_duplicate_near,
        adds="copy",
    ),
    "cancelled": Kind(
        "keep",
        "A line is cancelled on the same day by order X and its number; booking both gives the right nought.",
        "sale",
        _cancelled,
        "copy",
    ),
    "cancelled_partly": Kind(
        "keep",
        "Some pieces of a line are cancelled on the same day; booking both gives what was bought in the end.",
        "sale of several",
        _cancelled_partly,
        "copy",
    ),
    "cancelled_without_original": Kind(
        "set_aside",
        "A cancellation of an order that is not in the file; booking it takes away money that was never counted.",
        "sale",
        _cancelled_without_original,
        "new",
    ),
    "missing_customer": Kind(
        "set_aside",
        "The customer number is blank; the line is nobody's.",
        plant=_missing_customer,
    ),
    "malformed_customer": Kind(
        "repair",
        "Lower case and a blank inside, lost leading zeros, or letters O for zeros; a letter and eight digits tell the number.",
        "leading zero",
        _malformed_customer,
    ),
    "second_id": Kind(
        "repair",
        "A person registered twice and goes by the second number; the same e-mail tells who it is.",
    ),
    "impossible_date": Kind(
        "set_aside",
        "A day that no calendar has; when it was bought cannot be known.",
        plant=_impossible_date,
    ),
    "ambiguous_date": Kind(
        "set_aside",
        "Day/month/year where month/day/year is a day too; which of the two cannot be known.",
        "day or month",
        _ambiguous_date,
    ),
    "future_date": Kind(
        "set_aside", "A day years after the data end; the true one cannot be known.", plant=_future_date
    ),
    "before_company": Kind(
        "set_aside",
        "The day that a system calls zero; the true one cannot be known.",
        plant=_before_company,
    ),
    "wrong_zone": Kind(
        "repair",
        "The time is in UTC, eight hours early, and the day may be the one before; nothing in the row tells.",
        plant=_wrong_zone,
    ),
    "full_width_digits": Kind(
        "repair",
        "A number in full-width digits has only one reading.",
        plant=_full_width_digits,
    ),
    "thousands_separator": Kind(
        "repair",
        "A comma behind the thousands and a decimal point have only one reading.",
        "thousand",
        _thousands_separator,
    ),
    "decimal_comma": Kind(
        "repair",
        "A comma before two last digits has only one reading.",
        plant=_decimal_comma,
    ),
    "currency_sign": Kind("repair", "The sign of the company's currency says nothing new.", plant=_currency_sign),
    "white_space": Kind("repair", "Blanks around a number mean nothing.", plant=_white_space),
    "negative_price": Kind(
        "set_aside",
        "The price was keyed in with a minus and the till worked out a negative amount; sale or refund cannot be known.",
        "undiscounted sale",
        _negative_price,
    ),
    "zero_price": Kind(
        "keep",
        "Price and amount are nought: a gift, odd but true.",
        "undiscounted sale",
        _zero_price,
    ),
    "test_order": Kind("set_aside", "Customer or article is TEST; nobody bought anything.", "sale", _test_order, "new"),
    "postage": Kind(
        "set_aside",
        "Postage, a fee or a manual entry as a line of an order; it is no product.",
        "last line of a sale",
        _postage,
        "new",
    ),
}
