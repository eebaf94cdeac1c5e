"""One reader a kind of file, and one for databases; each gives column names and batches of text.

A batch is: row number, one text array a column, and ``malformed``: a JSON list of the fields of a row that does not fit
the header (its columns are then null), else null.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile

import ibis
import openpyxl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis import redaction
from analysis.engine import address
from analysis.errors import RapportError
from analysis.sources import delimited
from analysis.sources.errors import SourceError
from analysis.sources.files import RawFile
from analysis.sources.rows import BATCH, Batches, batch_of, headed, in_batches, looks_like_data
from analysis.study import Source


@dataclass(frozen=True)
class Readable:
    """A source, or one file of it, whose header is read: ``label`` is its name in messages; ``batches`` starts on its rows and
    may raise :class:`analysis.sources.rows.ReadAgain`."""

    label: str
    columns: tuple[str, ...]
    batches: Callable[[], Batches]


def check_columns(label: str, columns: tuple[str, ...], reserved: tuple[str, ...]) -> None:
    """Refuse names that are blank, repeated or ours; databases do not tell upper from lower case."""
    if not columns:
        raise SourceError(f"{label}: has no columns; export it again, or correct names: in the study")
    lower = [column.lower() for column in columns]
    for i, column in enumerate(columns, 1):
        if not column.strip():
            raise SourceError(f"{label}: column {i} has no name in the header; name it, or give names: in the study")
        if lower.count(column.lower()) > 1:
            if looks_like_data(column):
                raise SourceError(
                    f"{label}: its first line looks like data, not like names of columns; give names: in the study"
                )
            raise SourceError(f"{label}: two columns are called {column!r}; rename one")
        if column.lower() in reserved:
            raise SourceError(f"{label}: a column may not be called {column!r}; rename it")


def read_file(file: RawFile, source: Source) -> Readable:
    """The header of ``file``, and its rows to come.

    Raises
    ------
    SourceError
        It cannot be read, is empty, or is not what its format says.
    """
    columns, batches = _FILE_READERS[file.format](file, source)
    return Readable(file.label, columns, batches)


def _excel(file: RawFile, source: Source) -> tuple[tuple[str, ...], Callable[[], Batches]]:
    """One sheet of a spreadsheet; dates become ISO text, whole numbers lose their ``.0``."""

    def rows() -> Iterator[list[str | None]]:
        with _book(file) as book:
            if source.sheet is not None and source.sheet not in book.sheetnames:
                raise SourceError(f"{file.label}: has no sheet {source.sheet!r}; it has {', '.join(book.sheetnames)}")
            if not book.worksheets:
                raise SourceError(f"{file.label}: has no sheet with cells; export it again")
            sheet = book[source.sheet] if source.sheet else book.worksheets[0]
            yield from ([_cell_text(value) for value in row] for row in sheet.iter_rows(values_only=True))

    columns, _ = headed(rows(), source.names, f"{file.label}: its sheet is empty; export it again")

    def batches() -> Batches:
        return in_batches(headed(rows(), source.names, "")[1], columns)

    return columns, batches


@contextmanager
def _book(file: RawFile) -> Iterator[openpyxl.Workbook]:
    with file.seekable() as content:
        try:
            book = openpyxl.load_workbook(content, read_only=True, data_only=True)
        except OSError as error:
            if error.errno is not None:
                raise
            raise _no_spreadsheet(file) from None
        except _NO_SPREADSHEET:
            raise _no_spreadsheet(file) from None
        try:
            yield book
        except SourceError:
            raise
        except _NO_SPREADSHEET:  # a sheet is read only when its rows are
            raise _no_spreadsheet(file) from None
        finally:
            book.close()


# What openpyxl raises at an archive without the right parts, and at parts without the right elements.
_NO_SPREADSHEET = (
    BadZipFile, KeyError, ValueError, TypeError, IndexError, AttributeError, ParseError,
    openpyxl.utils.exceptions.InvalidFileException,
)  # fmt: skip


def _no_spreadsheet(file: RawFile) -> SourceError:
    return SourceError(
        f"{file.label}: is not an .xlsx spreadsheet, or is damaged; save it as one again, or say format: csv"
    )


def _cell_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _parquet(file: RawFile, _: Source) -> tuple[tuple[str, ...], Callable[[], Batches]]:
    """A Parquet file; every column is cast to text."""

    def batches() -> Batches:
        with _table(file) as table:
            yield from _arrow_batches(file.label, table.iter_batches(BATCH))

    with _table(file) as table:
        return tuple(table.schema_arrow.names), batches


@contextmanager
def _table(file: RawFile) -> Iterator[pq.ParquetFile]:
    with file.seekable() as content:
        try:
            table = pq.ParquetFile(content)
        except pa.ArrowInvalid:
            raise SourceError(
                f"{file.label}: is empty or is not a Parquet file; export it again, or say format:"
            ) from None
        yield table


def _arrow_batches(label: str, batches: Iterable[pa.RecordBatch]) -> Batches:
    start = 1
    for batch in batches:
        arrays = [_as_text(label, *column) for column in zip(batch.schema.names, batch.columns, strict=True)]
        numbers = range(start, start + batch.num_rows)
        yield batch_of(numbers, arrays, tuple(batch.schema.names), pa.nulls(batch.num_rows, pa.string()))
        start += batch.num_rows


def _as_text(label: str, name: str, array: pa.Array) -> pa.Array:
    try:
        return pc.cast(array, pa.string())
    except pa.ArrowException:
        raise SourceError(
            f"{label}: column {name!r} of type {array.type} cannot be read as text; flatten or convert it first"
        ) from None


def database_label(source: Source) -> str:
    """What a database is called in messages: its address without user and password."""
    return f"database {re.sub(r'//[^@/]*@', '//…@', source.database)} {source.table or 'query'}"


def database(source: Source) -> Readable:
    """A table or query of a database that Ibis knows by URL; ``${NAME}`` in it is taken from the environment.

    Raises
    ------
    SourceError
        It cannot be reached or has no such table; the line holds no password.
    """
    label = database_label(source)
    try:
        url = address(source.database)
    except RapportError as error:
        raise SourceError(f"{label}: {error}") from None
    file = re.fullmatch(r"(?:sqlite|duckdb)://(.+?)(?:\?.*)?", url)
    if file and ":" not in file[1] and not Path(file[1]).is_file():  # connecting would make an empty one
        raise SourceError(f"{label}: there is no such file; correct database in the study")
    with _rows_of(source, url) as (_connection, table):
        columns = tuple(table.columns)

    def batches() -> Batches:
        with _rows_of(source, url) as (connection, table):
            yield from _arrow_batches(label, _fetched(connection, table))

    return Readable(label, columns, batches)


@contextmanager
def _rows_of(source: Source, url: str) -> Iterator[tuple[ibis.BaseBackend, ibis.Table]]:
    """The rows that a database source asks for, while the connection is open."""
    with _asking(source, url):
        connection = ibis.connect(url)
        try:
            table = connection.table(source.table) if source.table else _asked(connection, source.query)
            # Sorted by everything, so that row numbers are the same on every run, whatever order the server prefers.
            yield connection, table.order_by(table.columns)
        finally:
            connection.disconnect()


def _asked(connection: ibis.BaseBackend, query: str) -> ibis.Table:
    """The rows of a query. Ibis 12 asks DuckDB 2 for a query's columns in a way that it no longer has; a view has them."""
    if connection.name != "duckdb":
        return connection.sql(query)
    connection.raw_sql(f"CREATE TEMPORARY VIEW rapport_query AS {query.strip().rstrip(';')}")
    return connection.table("rapport_query")


def _fetched(connection: ibis.BaseBackend, table: ibis.Table) -> Iterable[pa.RecordBatch]:
    """A table batch by batch; Ibis 12 does not know what DuckDB 2 calls it."""
    if connection.name != "duckdb":
        return table.to_pyarrow_batches(chunk_size=BATCH)
    return connection.con.sql(ibis.to_sql(table, dialect="duckdb")).to_arrow_reader(BATCH)


@contextmanager
def _asking(source: Source, url: str) -> Iterator[None]:
    label = database_label(source)
    try:
        yield
    except SourceError:
        raise
    except ibis.common.exceptions.TableNotFound:
        raise SourceError(f"{label}: there is no such table; correct table in the study") from None
    except Exception as error:  # every driver raises its own
        # A driver quotes the value that it could not read; what the study itself says may be repeated.
        said = set(re.findall(r"[\w.]+", f"{label} {source.query or ''}"))
        words = redaction.outline(str(error).replace(url, "the address"), said)
        raise SourceError(f"{label}: {words}; correct the source in the study, or the database") from None


_FILE_READERS = {"csv": delimited.read, "excel": _excel, "parquet": _parquet}
