"""Rows of cells, as they come from a file, become a header and batches of text."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import pyarrow as pa

from analysis.sources.errors import SourceError

BATCH = 100_000
_SHOWN_COLUMNS = 8
Batches = Iterator[pa.RecordBatch]
Row = list[str | None]
Numbered = Iterator[tuple[int, Row]]


class ReadAgain(Exception):
    """This way of reading does not do for this file: drop what came so far and start anew with ``batches``."""

    def __init__(self, batches: Callable[[], Batches]) -> None:
        super().__init__()
        self.batches = batches


def numbered(rows: Iterable[Row]) -> Numbered:
    """Rows with their numbers. Blank rows hold nothing and are passed over, but they are counted, so that a row number is
    the one that a spreadsheet shows."""
    return ((n, row) for n, row in enumerate(rows, 1) if not is_blank(row))


def is_blank(row: Row) -> bool:
    return not any(cell not in (None, "") for cell in row)


def headed(rows: Iterable[Row], names: tuple[str, ...] | None, empty: str) -> tuple[tuple[str, ...], Numbered]:
    """Split rows into column names and the numbered rows below them.

    Raises
    ------
    SourceError
        With the message ``empty``: there is no row.
    """
    below = numbered(rows)
    first = next(below, None)
    if first is None:
        raise SourceError(empty)
    if names is not None:
        return names, chain([first], below)
    return header(first[1]), below


def header(row: Row) -> tuple[str, ...]:
    """Column names on one line, without white space around them and NUL characters, and without blank ones behind the last."""
    names = [re.sub(r"\s*[\r\n]\s*", " ", (name or "").replace("\0", "").strip()) for name in row]
    while len(names) > 1 and not names[-1]:
        # A delimiter at the end of each line, a formatted but empty column of a spreadsheet.
        names.pop()
    return tuple(names)


def looks_like_data(name: str) -> bool:
    """Whether a column's name is rather an address, a date or a number: then the header line is missing, and what stands in its
    place is somebody's."""
    return re.search(r"@|^[\d\s.,:/+-]+$", name) is not None


def check_column(study: str, place: str, source: str, column: str, there: tuple[str, ...]) -> None:
    """Refuse a column that a study names and its source does not have, with the nearest that it has.

    Raises
    ------
    SourceError
        One line with the place in the study's file.
    """
    if column in there:
        return
    near = difflib.get_close_matches(column, there, n=1) or difflib.get_close_matches(
        column.lower(), [t.lower() for t in there], n=1
    )
    some = ", ".join(there[:_SHOWN_COLUMNS]) + (", …" if len(there) > _SHOWN_COLUMNS else "")
    hint = f"did you mean {near[0]!r}?" if near else f"it has {some if len(some) <= 120 else some[:120] + '…'}"
    if len(there) == 1 and not near:
        hint = f"{hint} only; check delimiter: in the source"
    if any(map(looks_like_data, there)):
        # These are somebody's data, and an error line is no place for them.
        hint = "its first line looks like data, not like names of columns; give names: in the source"
    raise SourceError(f"studies/{study}/study.yaml: {place}: source {source} has no column {column!r}; {hint}")


def fitted(row: Row, width: int) -> tuple[Row, str | None]:
    """The cells of a row of ``width`` columns and None; where it does not fit, nulls and its fields as JSON."""
    while len(row) > width and not row[-1]:
        row.pop()
    if len(row) == width:
        return row, None
    return [None] * width, json.dumps(row, ensure_ascii=False)


def in_batches(below: Numbered, columns: tuple[str, ...]) -> Batches:
    """Numbered rows as batches of row number, text columns, ``malformed``."""
    while chunk := list(islice(below, BATCH)):
        yield batch_of_rows(chunk, columns)


def batch_of_rows(chunk: list[tuple[int, Row]], columns: tuple[str, ...]) -> pa.RecordBatch:
    """Some numbered rows as one batch."""
    numbers, rows = zip(*chunk, strict=True)
    cells, malformed = zip(*(fitted(row, len(columns)) for row in rows), strict=True)
    arrays = [pa.array(values, pa.string()) for values in zip(*cells, strict=True)]
    return batch_of(numbers, arrays, columns, pa.array(malformed, pa.string()))


def batch_of(
    numbers: Iterable[int] | pa.Array, arrays: list[pa.Array], columns: tuple[str, ...], malformed: pa.Array
) -> pa.RecordBatch:
    """One batch of row number, text columns, ``malformed``."""
    names = ["row_number", *columns, "malformed"]
    return pa.record_batch([pa.array(numbers, pa.int64()), *arrays, malformed], names=names)
