"""Where tables are computed: DuckDB in this process, a PostgreSQL server, or Spark; and what each calls the few things that
Ibis has no common word for.

Every engine gives the same result, row for row: a text is read only when it fits a shape that all of them understand, and
whatever is written to disk is sorted by DuckDB, so that the order of letters is nobody's locale.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import os
import re
import shutil
import string
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from ibis.expr.types import Column, StringColumn, Table

from analysis import paths, redaction
from analysis.errors import RapportError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from analysis.study import EngineSettings

# Engines merge nested selections by themselves, and faster than Ibis does.
ibis.options.sql.fuse_selects = False

INSTANT = dt.Timestamp(timezone="UTC", scale=6)
MEMORY_VARIABLE = "RAPPORT_MEMORY"  # what DuckDB may hold in memory before it uses the disk, for example 6GB
_SHORT_NUMBER = r"^[+-]?[0-9]{1,14}(\.[0-9]{0,4})?$"
_NUMBER = r"^[+-]?([0-9]{1,18}(\.[0-9]{0,19})?|\.[0-9]{1,19})([eE][+-]?[0-9]{1,2})?$"
# From 1800 on: before, every place had a time of its own, and engines disagree about it; up to a year that all can hold.
_WALL_CLOCK = (
    r"^(1[89]|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?)?$"
)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
# A part of a strptime pattern -> what it matches, as one group.
_PARTS = {
    "Y": "([0-9]{4})", "y": "([0-9]{2})", "m": "([0-9]{1,2})", "d": "([0-9]{1,2})", "H": "([0-9]{1,2})",
    "I": "([0-9]{1,2})", "M": "([0-9]{1,2})", "S": "([0-9]{1,2})", "f": "([0-9]{1,6})", "p": "([AaPp][Mm])",
    "b": "([A-Za-z]{3})",
}  # fmt: skip


def connect() -> ibis.BaseBackend:
    """Open DuckDB in this process, with a clock that is UTC and a memory that ends where the disk begins."""
    connection = ibis.duckdb.connect()
    connection.raw_sql("SET TimeZone = 'UTC'")
    memory = os.environ.get(MEMORY_VARIABLE, "")
    if memory:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)? ?[KMGT]i?B", memory):
            raise RapportError(
                f"environment variable {MEMORY_VARIABLE}: {memory!r} is no amount; write for example 6GB"
            )
        connection.raw_sql(f"SET memory_limit = '{memory}'")
    # Bars would end up in committed notebooks. Without ipywidgets there are none, and the setting itself is refused.
    with contextlib.suppress(duckdb.InvalidInputException):
        connection.raw_sql("SET enable_progress_bar = false")
    return connection


class Engine:
    """DuckDB, and what every engine offers.

    Attributes
    ----------
    backend : the Ibis backend on which expressions are computed.
    local : DuckDB in this process, where results land.
    scratch : a folder for what is needed only until the results are written.
    large : whether what is kept should go to the disk rather than into memory, which is faster.
    """

    name = "duckdb"

    def __init__(self, settings: EngineSettings, local: ibis.BaseBackend, scratch: Path) -> None:
        self.settings, self.local, self.scratch = settings, local, scratch
        self.large = False
        self.scratch.mkdir(parents=True, exist_ok=True)
        # A connection that has spilled before stays where it is.
        with contextlib.suppress(duckdb.Error):
            self.local.raw_sql(f"SET temp_directory = '{_quoted(self.scratch / 'spill')}'")
        self.backend = self._connect()

    def _connect(self) -> ibis.BaseBackend:
        return self.local

    def close(self) -> None:
        """Forget everything that was kept for the results."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    # -- tables --------------------------------------------------------------------------------------------------------

    def read(self, files: Sequence[Path]) -> Table:
        """Parquet files of one schema as one table."""
        return self.backend.read_parquet([str(file) for file in files])

    def holds(self, address: str) -> bool:
        """Whether the database of this address is this engine, so that its tables can be used where they are."""
        return False

    def in_place(self, table: str | None, query: str | None) -> Table:
        """The rows of a table or query of this engine as raw text; see :meth:`Postgres.in_place`."""
        raise NotImplementedError(self.name)

    def keep(self, expression: Table) -> Table:
        """Compute a table once, for several readings."""
        if not self.large:
            return self.backend.create_table(f"rapport_{uuid.uuid4().hex}", expression, temp=True)
        path = self.new_file()
        self.backend.to_parquet(expression, path, compression="lz4")
        return self.read([path])

    def land(self, expression: Table) -> Table:
        """A table on :attr:`local`, whatever the engine."""
        return expression

    def settle(self, expression: Table) -> Table:
        """A finished table on :attr:`local` that can be sorted in little memory: DuckDB sorts a large one well only where it knows
        how many rows come.
        """
        return self.keep(expression) if self.large and self.backend is self.local else self.land(expression)

    def new_file(self) -> Path:
        return self.scratch / f"{uuid.uuid4().hex}.parquet"

    # -- words that engines spell in their own way ---------------------------------------------------------------------

    def local_time(self, zone: str, instant: Column) -> Column:
        """The wall-clock time of an instant in an IANA time zone."""
        return _timezone_of_instant(zone, instant)

    def instant(self, zone: str, local: Column) -> Column:
        """The instant of a wall-clock time in an IANA time zone; an hour that comes twice is the later one."""
        return _timezone_of_local(zone, local)

    def wall_clock(self, text: StringColumn) -> Column:
        """The timestamp that ``2024-01-31``, ``2024-01-31 23:59``, ``…:59`` or ``…:59.123456`` spells, cut at microseconds; null
        for any other text, and for days and hours that there are not."""
        return ibis.ifelse(text.re_search(_WALL_CLOCK), text, None).try_cast("timestamp(6)")

    def timestamp(self, text: StringColumn, pattern: str) -> Column:
        """The wall-clock time (for a pattern with a zone: in UTC) that ``text`` spells in a strptime pattern, or null."""
        # The function would also take the words infinity and epoch for times.
        return _try_strptime(ibis.ifelse(text.re_search("[0-9]"), text, None), pattern).cast("timestamp(6)")

    def decimal(self, text: StringColumn, digits: int, places: int) -> Column:
        """The number that ``text`` spells as ``decimal(digits, places)``, ties away from zero; null for any other text, and
        for a number that is too long."""
        shape = _SHORT_NUMBER if places == 4 else _NUMBER
        return ibis.ifelse(text.re_search(shape), text, None).try_cast(dt.Decimal(digits, places))

    def md5(self, text: StringColumn) -> StringColumn:
        """The MD5 of a text, as 32 hexadecimal digits."""
        return text.hexdigest("md5")

    def fingerprint(self, columns: Sequence[Column]) -> Column:
        """64 bits that are equal for equal rows; those of different rows may be equal too, but seldom are."""
        return _variadic("hash", len(columns), dt.uint64)(*columns)


class Spark(Engine):
    """A Spark session, local or of a cluster that sees the same files."""

    name = "spark"

    def _connect(self) -> ibis.BaseBackend:
        if importlib.util.find_spec("pyspark") is None:
            raise RapportError("engine: spark needs the package pyspark; install it, or choose duckdb")
        from pyspark.sql import SparkSession

        if self.settings.master.startswith("local"):
            # Functions of ours run beside this process, with its libraries.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = SparkSession.builder.master(self.settings.master).appName("rapport")
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.ansi.enabled": "false",
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        }
        for key, value in {**settings, **self.settings.options}.items():
            builder = builder.config(key, value)
        try:
            session = builder.getOrCreate()
        except Exception as error:  # no Java, no cluster: whatever the launcher raises
            raise RapportError(
                f"engine: no Spark session at {self.settings.master} ({redaction.outline(str(error))}); it needs Java 17 and a "
                "master that can be reached"
            ) from None
        session.sparkContext.setLogLevel("ERROR")
        return ibis.pyspark.connect(session)

    def read(self, files: Sequence[Path]) -> Table:
        return self._view(self.backend._session.read.parquet(*[str(file) for file in files]))

    def keep(self, expression: Table) -> Table:
        if self.large:
            return self.read([self._written(expression)])
        return self._view(self.backend.raw_sql(self.backend.compile(expression)).localCheckpoint())

    def _view(self, frame: DataFrame) -> Table:
        name = f"rapport_{uuid.uuid4().hex}"
        frame.createOrReplaceTempView(name)
        return self.backend.table(name)

    def land(self, expression: Table) -> Table:
        return self.local.read_parquet(f"{self._written(expression)}/*.parquet")

    def _written(self, expression: Table) -> Path:
        path = self.new_file()
        self.backend.to_parquet_dir(expression, path)
        return path

    def local_time(self, zone: str, instant: Column) -> Column:
        return _from_utc(instant, zone)

    def instant(self, zone: str, local: Column) -> Column:
        earlier = _to_utc(local, zone)
        later = earlier + ibis.interval(hours=1)
        return ibis.ifelse(_from_utc(later, zone) == local, later, earlier)

    def wall_clock(self, text: StringColumn) -> Column:
        return ibis.ifelse(text.re_search(_WALL_CLOCK), text.substr(0, 26), None).try_cast("timestamp(6)")

    def timestamp(self, text: StringColumn, pattern: str) -> Column:
        return spelled_out(self, text, pattern)

    def fingerprint(self, columns: Sequence[Column]) -> Column:
        return _variadic("xxhash64", len(columns), dt.int64)(*columns)


class Postgres(Engine):
    """A PostgreSQL server; everything is kept in temporary tables of one connection."""

    name = "postgres"

    def _connect(self) -> ibis.BaseBackend:
        self._address = address(self.settings.database)
        try:
            backend = ibis.connect(self._address)
        except Exception as error:  # psycopg's, and those of its address
            line = redaction.outline(str(error))
            raise RapportError(f"engine: no connection to PostgreSQL ({line}); correct engine.database") from None
        backend.raw_sql("SET TIME ZONE 'UTC'").close()
        backend.raw_sql("SET client_min_messages = error").close()
        if backend.raw_sql("SHOW server_encoding").fetchone()[0] != "UTF8":
            raise RapportError("engine: the PostgreSQL database is not encoded in UTF-8; make one that is")
        return backend

    def close(self) -> None:
        super().close()
        self.backend.disconnect()

    def read(self, files: Sequence[Path]) -> Table:
        schema = pq.read_schema(files[0])
        name = self._new_table(ibis.Schema.from_pyarrow(schema))
        with (
            self.backend.con.cursor() as cursor,
            cursor.copy(f"COPY {name} ({', '.join(map(_name, schema.names))}) FROM STDIN (FORMAT csv)") as copy,
        ):
            for file in files:
                for batch in pq.ParquetFile(file).iter_batches(100_000):
                    sink = pa.BufferOutputStream()
                    pacsv.write_csv(batch, sink, pacsv.WriteOptions(include_header=False))
                    copy.write(sink.getvalue().to_pybytes())
        return self._analysed(name)

    def holds(self, address_: str) -> bool:
        return address(address_) == self._address

    def in_place(self, table: str | None, query: str | None) -> Table:
        """The rows of a table or query of this server as raw text, as the door gives them: NFKC, numbered in the order of
        their values. Bytes of its own encoding, quotation and broken rows are behind it already."""
        rows = self.backend.table(table) if table else self.backend.sql(query)
        columns = [f"normalize(CAST({_name(c)} AS text), NFKC) AS {_name(c)}" for c in rows.columns]
        name = self._new_table(ibis.schema(dict.fromkeys(rows.columns, "string")), numbered=True)
        names = ", ".join(map(_name, rows.columns))
        order = ", ".join(f'{_name(c)} COLLATE "C" NULLS FIRST' for c in rows.columns)
        self.backend.raw_sql(
            f"INSERT INTO {name} ({names}) SELECT {names} FROM "
            f"(SELECT {', '.join(columns)} FROM ({ibis.to_sql(rows, dialect='postgres')}) AS given) AS texts ORDER BY {order}"
        ).close()
        raw = self._analysed(name)
        empty = ibis.null("string")
        return raw.mutate(row_number=raw.row_id, file=empty, malformed=empty)

    def keep(self, expression: Table) -> Table:
        name = _name(f"rapport_{uuid.uuid4().hex}")
        self.backend.raw_sql(f"CREATE TEMPORARY TABLE {name} AS {ibis.to_sql(expression, dialect='postgres')}").close()
        return self._analysed(name)

    def land(self, expression: Table) -> Table:
        path = self.new_file()
        schema = expression.schema().to_pyarrow()
        moments = {f.name for f in schema if pa.types.is_timestamp(f.type)}
        # COPY writes an offset that Arrow does not read, so instants travel as the wall-clock time of UTC.
        texts = expression.mutate(**{n: self._utc_text(expression[n]) for n in moments}).select(schema.names)
        sql = ibis.to_sql(texts, dialect="postgres")
        plain = {f.name: pa.timestamp("us") if f.name in moments else f.type for f in schema}
        options = pacsv.ConvertOptions(
            column_types=plain, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""],
            true_values=["t"], false_values=["f"],
        )  # fmt: skip
        read = pacsv.ReadOptions(column_names=schema.names, block_size=1 << 24)
        parse = pacsv.ParseOptions(newlines_in_values=True)
        text = path.with_suffix(".csv")
        with (
            text.open("wb") as file,
            self.backend.con.cursor() as cursor,
            cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)") as copy,
        ):
            for part in copy:
                file.write(part)
        target = pa.schema([pa.field(f.name, f.type) for f in schema])
        with pq.ParquetWriter(path, target) as writer:
            if text.stat().st_size:
                for batch in pacsv.open_csv(text, read, parse, options):
                    writer.write_table(pa.Table.from_batches([batch]).cast(target))
        text.unlink()
        return self.local.read_parquet(path)

    @staticmethod
    def _utc_text(column: Column) -> Column:
        moment = _timezone_of_instant("UTC", column) if column.type().timezone else column
        return _to_char(moment, "YYYY-MM-DD HH24:MI:SS.US")

    def _new_table(self, schema: ibis.Schema, numbered: bool = False) -> str:
        name = _name(f"rapport_{uuid.uuid4().hex}")
        columns = [f"{_name(n)} {_POSTGRES_TYPES[str(t)]}" for n, t in schema.items()]
        if numbered:
            columns.insert(0, "row_id bigint GENERATED ALWAYS AS IDENTITY")
        self.backend.raw_sql(f"CREATE TEMPORARY TABLE {name} ({', '.join(columns)})").close()
        return name

    def _analysed(self, name: str) -> Table:
        """A table whose size the server's planner knows."""
        self.backend.raw_sql(f"ANALYZE {name}").close()
        return self.backend.table(name.strip('"'))

    def wall_clock(self, text: StringColumn) -> Column:
        year, month, day = (text.substr(at, n).cast("int64") for at, n in ((0, 4), (5, 2), (8, 2)))
        leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        last = ibis.cases((month.isin([4, 6, 9, 11]), 30), (month == 2, ibis.ifelse(leap, 29, 28)), else_=31)
        there = ibis.ifelse(text.re_search(_WALL_CLOCK), month.between(1, 12) & day.between(1, last), False)
        return ibis.ifelse(there, text.substr(0, 26), None).cast("timestamp(6)")

    def timestamp(self, text: StringColumn, pattern: str) -> Column:
        return spelled_out(self, text, pattern)

    def decimal(self, text: StringColumn, digits: int, places: int) -> Column:
        shape = _SHORT_NUMBER if places == 4 else _NUMBER
        number = ibis.ifelse(text.re_search(shape), text, None).cast(dt.Decimal())
        limit = ibis.literal(10 ** (digits - places), type=dt.Decimal(digits + 1, 0))
        # Rounding may carry a number of nines over the limit.
        return ibis.ifelse(_round(number, places).abs() < limit, number, None).cast(dt.Decimal(digits, places))

    def md5(self, text: StringColumn) -> StringColumn:
        return _md5(text)

    def fingerprint(self, columns: Sequence[Column]) -> Column:
        marked = [ibis.ifelse(c.isnull(), "\x01", c.cast("string")) for c in columns]
        return _hashtext(functools.reduce(lambda a, b: a + "\x1f" + b, marked), 0)


ENGINES = {engine.name: engine for engine in (Engine, Spark, Postgres)}


@contextlib.contextmanager
def opened(settings: EngineSettings, local: ibis.BaseBackend, study: str) -> Iterator[Engine]:
    """The engine of a study, for as long as its results are needed."""
    engine = open_engine(settings, local, study)
    try:
        yield engine
    finally:
        engine.close()


def open_engine(settings: EngineSettings, local: ibis.BaseBackend, study: str) -> Engine:
    """The engine that a study's ``engine:`` names.

    Raises
    ------
    RapportError
        It cannot be reached, or something that it needs is not installed; one line with the cure.
    """
    if settings.database is not None:
        place = f"studies/{study}/study.yaml: engine.database"
        try:
            found = address(settings.database)
        except RapportError as error:
            raise RapportError(f"{place}: {error}") from None
        if not re.match("postgres(ql)?://", found):
            raise RapportError(f"{place}: must begin with postgres:// or postgresql://, also where a variable holds it")
    scratch = paths.processed(study) / "scratch" / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return ENGINES[settings.kind](settings, local, scratch)


def clear_scratch(study: str) -> None:
    """Remove what killed runs left; what belongs to a process that is alive stays."""
    for folder in (paths.processed(study) / "scratch").glob("*-*"):
        owner = folder.name.partition("-")[0]
        if not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
            shutil.rmtree(folder, ignore_errors=True)


def address(database: str) -> str:
    """A database's address with ``${NAME}`` taken from the environment.

    Raises
    ------
    RapportError
        The variable is not set, or a ``$`` stands for nothing.
    """
    try:
        return string.Template(database).substitute(os.environ)
    except KeyError as error:
        raise RapportError(f"the environment variable {error.args[0]} is not set") from None
    except ValueError:
        raise RapportError("a $ that stands for itself is written $$; ${NAME} is taken from the environment") from None


def spelled_out(engine: Engine, text: StringColumn, pattern: str) -> Column:
    """What a strptime pattern reads, taken apart by a regular expression: for engines without a strptime of their own.

    Raises
    ------
    RapportError
        The pattern has a part that only DuckDB knows.
    """
    shape, parts = pattern_shape(pattern, engine.name)
    matched = ibis.ifelse(text.re_search(shape), text, None)
    found = {part: matched.re_extract(shape, i + 1) for i, part in enumerate(parts)}

    def padded(part: str, width: int) -> StringColumn:
        return found[part].lpad(width, "0") if part in found else ibis.literal("0" * width)

    month = padded("m", 2)
    if "b" in found:
        names = found["b"].lower()
        month = ibis.cases(*[(names == name, f"{n:02d}") for n, name in enumerate(_MONTHS.split("|"), 1)], else_="00")
    year = found.get("Y")
    if year is None:
        short = found["y"]
        year = ibis.ifelse(short >= "69", "19", "20") + short
    hour = padded("H", 2)
    if "I" in found:
        twelve = padded("I", 2)
        twelve = ibis.ifelse(twelve == "12", "00", twelve)
        evening = found["p"].lower() == "pm"
        late = (ibis.ifelse(twelve.re_search("^(0[0-9]|1[01])$"), twelve, None).cast("int64") + 12).cast("string")
        hour = ibis.ifelse(evening, late, twelve)
    text = year + "-" + month + "-" + padded("d", 2) + " " + hour + ":" + padded("M", 2) + ":" + padded("S", 2)
    if "f" in found:
        text = text + "." + found["f"]
    return engine.wall_clock(text)


def pattern_shape(pattern: str, engine: str) -> tuple[str, list[str]]:
    """A strptime pattern as a regular expression, and the parts that its groups hold.

    Raises
    ------
    RapportError
        A part cannot be taken apart, or year, month or day is missing.
    """
    shape, parts = [], []
    for literal, part in re.findall(r"([^%]+)|%-?(.)", pattern):
        if literal:
            shape.append(re.sub(r"([^A-Za-z0-9 ,:/_-])", r"\\\1", literal))
        elif part in _PARTS:
            shape.append(_PARTS[part])
            parts.append(part)
        else:
            raise RapportError(f"format {pattern!r}: engine {engine} does not read %{part}; choose engine duckdb")
    if not ({"Y", "y"} & set(parts) and {"m", "b"} & set(parts) and "d" in parts and ("I" in parts) == ("p" in parts)):
        raise RapportError(f"format {pattern!r}: engine {engine} needs year, month and day (and %p with %I) in it")
    return f"^{''.join(shape)}$", parts


def _variadic(name: str, arguments: int, returns: dt.DataType):
    """A function of the database that takes any number of texts, as one that takes this many."""

    def function(*texts): ...

    kind = inspect.Parameter.POSITIONAL_ONLY
    function.__signature__ = inspect.Signature([inspect.Parameter(f"text_{i}", kind) for i in range(arguments)])
    return ibis.udf.scalar.builtin(function, name=name, signature=((dt.string,) * arguments, returns))


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _name(identifier: str) -> str:
    """An identifier in double quotation marks."""
    return '"' + identifier.replace('"', '""') + '"'


_POSTGRES_TYPES = {"int64": "bigint", "string": "text", "boolean": "boolean", "int8": "smallint"}


@ibis.udf.scalar.builtin(name="timezone")
def _timezone_of_instant(zone: str, instant: INSTANT) -> dt.Timestamp(scale=6):
    """The wall-clock time of an instant in a zone, on DuckDB and PostgreSQL."""


@ibis.udf.scalar.builtin(name="timezone")
def _timezone_of_local(zone: str, local: dt.Timestamp(scale=6)) -> INSTANT:
    """The instant of a wall-clock time in a zone, on DuckDB and PostgreSQL."""


@ibis.udf.scalar.builtin(name="try_strptime")
def _try_strptime(text: str, pattern: str) -> dt.timestamp:
    """The timestamp that a text spells in a pattern, or null, on DuckDB."""


@ibis.udf.scalar.builtin(name="from_utc_timestamp")
def _from_utc(instant: INSTANT, zone: str) -> dt.Timestamp(scale=6):
    """The wall-clock time of an instant in a zone, on Spark."""


@ibis.udf.scalar.builtin(name="to_utc_timestamp")
def _to_utc(local: dt.Timestamp(scale=6), zone: str) -> INSTANT:
    """The instant of a wall-clock time in a zone, on Spark."""


@ibis.udf.scalar.builtin(name="to_char")
def _to_char(moment: dt.timestamp, pattern: str) -> str:
    """A timestamp as text, on PostgreSQL."""


@ibis.udf.scalar.builtin(name="md5")
def _md5(text: str) -> str:
    """The MD5 of a text, on PostgreSQL."""


@ibis.udf.scalar.builtin(name="round")
def _round(number: dt.Decimal(), places: int) -> dt.Decimal():
    """A number to some places, ties away from zero, on PostgreSQL."""


@ibis.udf.scalar.builtin(name="hashtextextended")
def _hashtext(text: str, seed: int) -> dt.int64:
    """64 bits of a text, on PostgreSQL."""
