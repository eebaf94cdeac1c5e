"""One reader a kind of file, and one for databases; each gives column names and batches of text.

A batch is: row number, one text array a column, and ``malformed``: a JSON list of the fields of a row that does not fit
the header (its columns are then null), else null.
"""

import csv
import json
import os
import re
import string
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from zipfile import BadZipFile

import charset_normalizer
import ibis
import openpyxl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.errors import RapportError
from analysis.study import Source

BATCH = 100_000
SNIFF = 1 << 20
csv.field_size_limit(1 << 30)
_END = "\x1e end of file"  # a line of ours behind the file's last: inside a row, it tells of a quotation mark left open
DELIMITERS = ",;\t|"


class SourceError(RapportError):
    """A source that cannot be brought in; the message is one line with the cure."""


Batches = Iterator[pa.RecordBatch]


def check_columns(label: str, columns: tuple[str, ...], reserved: tuple[str, ...]) -> None:
    """Refuse names that are blank, repeated or ours; databases do not tell upper from lower case."""
    lower = [column.lower() for column in columns]
    for i, column in enumerate(columns, 1):
        if not column:
            raise SourceError(f"{label}: column {i} has no name in the header; name it, or give names: in the study")
        if lower.count(column.lower()) > 1:
            raise SourceError(f"{label}: two columns are called {column!r}; rename one")
        if column.lower() in reserved:
            raise SourceError(f"{label}: a column may not be called {column!r}; rename it")


def csv_file(path: Path, label: str, source: Source) -> tuple[tuple[str, ...], Batches]:
    """Delimited text; encoding and delimiter are found out unless the study says them."""
    encoding = source.encoding or detect_encoding(path, label)
    delimiter = source.delimiter or detect_delimiter(path, label, encoding)
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    rows = _csv_rows(path, label, encoding, delimiter)
    return _headed(rows, source.names, f"{label}: is empty; export it again")


def _headed(
    rows: Iterable[list[str | None]], names: tuple[str, ...] | None, empty: str
) -> tuple[tuple[str, ...], Batches]:
    """Split rows into column names and batches. Blank rows hold nothing and are passed over, but they are counted, so
    that a row number is the one that a spreadsheet shows."""
    numbered = ((n, row) for n, row in enumerate(rows, 1) if any(cell not in (None, "") for cell in row))
    first = next(numbered, None)
    if first is None:
        raise SourceError(empty)
    if names is not None:
        return names, _batches(chain([first], numbered), names)
    header = [(name or "").strip() for name in first[1]]
    while (
        len(header) > 1 and not header[-1]
    ):  # a delimiter at the end of each line, a formatted but empty column of a spreadsheet
        header.pop()
    return tuple(header), _batches(numbered, tuple(header))


def _csv_rows(path: Path, label: str, encoding: str, delimiter: str) -> Iterator[list[str]]:
    try:
        with path.open(encoding=encoding, newline="") as file:
            if delimiter == "whitespace":
                yield from (line.split() for line in file)
            else:
                for number, row in enumerate(csv.reader(chain(file, ["\n", _END]), delimiter=delimiter), 1):
                    if row and row[-1].endswith(_END):
                        if row != [_END]:
                            raise SourceError(
                                f"{label}: row {number} opens a quotation mark that is never closed; close or remove it"
                            )
                        return
                    yield row
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{label}: byte {error.start:,} is not {encoding} text; say encoding: in the study, for example cp1252 or gb18030"
        ) from None
    except LookupError:
        raise SourceError(
            f"{label}: encoding {encoding!r} is not known; write for example utf-8, cp1252, gb18030"
        ) from None
    except csv.Error as error:
        raise SourceError(f"{label}: cannot be read as delimited text ({error})") from None


def detect_encoding(path: Path, label: str) -> str:
    """UTF-16 or UTF-8 by their marks; UTF-8 if all of the file is; else the likeliest encoding of its first megabyte."""
    with path.open("rb") as file:
        head = file.read(SNIFF)
    if not head.strip():
        raise SourceError(f"{label}: is empty; export it again")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for zeros, encoding in ((head[1::2], "utf-16-le"), (head[::2], "utf-16-be")):
        if zeros.count(0) > len(zeros) / 2:  # Latin letters without the mark that says which half comes first
            return encoding
    if head[:2] == b"PK" or b"\x00\x00\x00" in head or head[:4] == b"PAR1":
        raise SourceError(f"{label}: is not text; if it is a spreadsheet or Parquet, say format: excel or parquet")
    try:
        with path.open(encoding="utf-8") as file:
            while file.read(SNIFF):
                pass
        return "utf-8-sig"
    except UnicodeDecodeError as error:
        best = charset_normalizer.from_bytes(head).best()
        if best is None:
            raise SourceError(
                f"{label}: byte {error.start:,} is not UTF-8 and no other encoding fits; say encoding: in the study"
            ) from None
        return best.encoding


def detect_delimiter(path: Path, label: str, encoding: str) -> str:
    """The delimiter that splits the first lines into the same number of fields, the most fields first; a comma if none does."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            lines = list(islice(file, 50))
    except (UnicodeDecodeError, LookupError):
        return ","  # the reader meets the same fault and says where it is
    best, fields = ",", 1
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        if widths and widths[0] > fields and widths.count(widths[0]) >= len(widths) / 2:
            best, fields = delimiter, widths[0]
    return best


def _batches(numbered: Iterator[tuple[int, list[str | None]]], columns: tuple[str, ...]) -> Batches:
    while chunk := list(islice(numbered, BATCH)):
        numbers, rows = map(list, zip(*chunk, strict=True))
        malformed: list[str | None] = [None] * len(rows)
        for i, row in enumerate(rows):
            while len(row) > len(columns) and not row[-1]:
                row.pop()
            if len(row) != len(columns):
                malformed[i] = json.dumps(row, ensure_ascii=False)
                rows[i] = [None] * len(columns)
        arrays = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
        yield _batch(numbers, arrays, columns, pa.array(malformed, pa.string()))


def _batch(
    numbers: Iterable[int], arrays: list[pa.Array], columns: tuple[str, ...], malformed: pa.Array
) -> pa.RecordBatch:
    names = ["row_number", *columns, "malformed"]
    return pa.record_batch([pa.array(numbers, pa.int64()), *arrays, malformed], names=names)


def excel_file(path: Path, label: str, source: Source) -> tuple[tuple[str, ...], Batches]:
    """One sheet of a spreadsheet; dates become ISO text, whole numbers lose their ``.0``."""
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, KeyError, ValueError, openpyxl.utils.exceptions.InvalidFileException):
        raise SourceError(f"{label}: is not an .xlsx spreadsheet; save it as one, or say format: csv") from None
    if source.sheet is not None and source.sheet not in book.sheetnames:
        raise SourceError(f"{label}: has no sheet {source.sheet!r}; it has {', '.join(book.sheetnames)}")
    sheet = book[source.sheet] if source.sheet else book.worksheets[0]
    rows = ([_cell_text(value) for value in row] for row in sheet.iter_rows(values_only=True))
    return _headed(rows, source.names, f"{label}: sheet {sheet.title!r} is empty; export it again")


def _cell_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def parquet_file(path: Path, label: str, source: Source) -> tuple[tuple[str, ...], Batches]:
    """A Parquet file; every column is cast to text."""
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid:
        raise SourceError(f"{label}: is empty or is not a Parquet file; export it again, or say format:") from None
    return tuple(file.schema_arrow.names), _arrow_batches(label, file.iter_batches(BATCH))


def _arrow_batches(label: str, batches: Iterable[pa.RecordBatch]) -> Batches:
    start = 1
    for batch in batches:
        try:
            arrays = [pc.cast(array, pa.string()) for array in batch.columns]
        except pa.ArrowException as error:
            raise SourceError(
                f"{label}: a column cannot be read as text ({error}); flatten nested columns first"
            ) from None
        numbers = range(start, start + batch.num_rows)
        yield _batch(numbers, arrays, tuple(batch.schema.names), pa.nulls(batch.num_rows, pa.string()))
        start += batch.num_rows


def database(source: Source) -> tuple[str, tuple[str, ...], Batches]:
    """A table or query of a database that Ibis knows by URL; ``${NAME}`` in it is taken from the environment."""
    label = f"database {re.sub(r'//[^@/]*@', '//…@', source.database)} {source.table or 'query'}"
    try:
        url = string.Template(source.database).substitute(os.environ)
    except KeyError as error:
        raise SourceError(f"{label}: the environment variable {error.args[0]} is not set") from None
    except ValueError:
        raise SourceError(
            f"{label}: a $ that stands for itself is written $$; ${{NAME}} is taken from the environment"
        ) from None
    file = re.fullmatch(r"(?:sqlite|duckdb)://(.+?)(?:\?.*)?", url)
    if file and ":" not in file[1] and not Path(file[1]).is_file():  # connecting would make an empty one
        raise SourceError(f"{label}: there is no such file; correct database in the study")
    try:
        connection = ibis.connect(url)
        table = connection.table(source.table) if source.table else connection.sql(source.query)
        # Sorted by everything, so that row numbers are the same on every run, whatever order the server prefers.
        table = table.order_by(table.columns)
        return label, tuple(table.columns), _arrow_batches(label, table.to_pyarrow_batches(chunk_size=BATCH))
    except ibis.common.exceptions.TableNotFound:
        raise SourceError(f"{label}: there is no such table; correct table in the study") from None
    except Exception as error:  # every driver raises its own
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(f"{label}: {first_line.replace(url, 'the address')}") from None


FILE_READERS = {"csv": csv_file, "excel": excel_file, "parquet": parquet_file}
