"""Where tables are computed: an Ibis connection, and the few functions that Ibis has no word for yet."""

import contextlib

import duckdb
import ibis
import ibis.expr.datatypes as dt

from analysis.errors import RapportError

INSTANT = dt.Timestamp(timezone="UTC")


def connect(engine: str = "duckdb") -> ibis.BaseBackend:
    """Open a connection whose clock is UTC.

    Raises
    ------
    RapportError
        ``engine`` is not one that Rapport knows.
    """
    if engine != "duckdb":
        raise RapportError(f"engine: {engine!r} is not known; choose duckdb")
    connection = ibis.duckdb.connect()
    connection.raw_sql("SET TimeZone = 'UTC'")
    # Bars would end up in committed notebooks. Without ipywidgets there are none, and the setting itself is refused.
    with contextlib.suppress(duckdb.InvalidInputException):
        connection.raw_sql("SET enable_progress_bar = false")
    return connection


@ibis.udf.scalar.builtin(name="timezone")
def local_time(zone: str, instant: INSTANT) -> dt.timestamp:
    """The wall-clock time of an instant in an IANA time zone (``timezone(zone, instant)`` in the database)."""


@ibis.udf.scalar.builtin(name="timezone")
def instant(zone: str, local: dt.timestamp) -> INSTANT:
    """The instant of a wall-clock time in an IANA time zone."""


@ibis.udf.scalar.builtin(name="try_strptime")
def parse_timestamp(text: str, pattern: str) -> dt.timestamp:
    """The timestamp that ``text`` spells in a strptime ``pattern``, or null."""
