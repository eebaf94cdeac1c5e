"""What of an error may be shown: ours whole, of a foreign one nothing that could be a value."""

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from analysis import redaction
from analysis.errors import RapportError

VALUES = ("anna", "smith", "0171", "2345678", "example.org", "müller")


def foreign():
    def quoted():
        duckdb.sql("select cast(v as integer) from (values ('anna@example.org')) t(v)").fetchall()

    def unquoted():
        pd.to_datetime(pd.Series(["2024-01-05", "Anna Smith"]))

    def arrow():
        pa.array(["Anna Smith"]).cast(pa.float64())

    def number():
        int("0171 2345678")

    def key():
        {}["Anna O'Smith"]

    def bare():
        raise ValueError("Anna Smith of Müller & Co, 0171 2345678, anna@example.org")

    def lines():
        raise ValueError("could not convert: 'anna\nsmith'")

    return [quoted, unquoted, arrow, number, key, bare, lines]


@pytest.mark.parametrize("cause", foreign(), ids=lambda cause: cause.__name__)
def test_a_foreign_error_says_its_kind_and_no_value(cause):
    with pytest.raises(Exception) as caught:
        cause()
    assert any(value in str(caught.value).lower() for value in VALUES)
    for line in (
        redaction.error_line(caught.value),
        redaction.message(type(caught.value).__name__, str(caught.value), known={"cell", "frame"}),
    ):
        assert line.startswith(f"{type(caught.value).__name__}: ")
        assert not [value for value in VALUES if value in line.lower()], line
        assert "\n" not in line


def test_what_is_left_still_says_what_went_wrong():
    text = (
        "Conversion Error: Could not convert string 'anna@example.org' to INT32 when casting from source column email"
    )
    assert (
        redaction.outline(text) == "Conversion Error: Could not convert string … to … when casting from source column …"
    )
    assert redaction.outline("name 'frame_b' is not defined", known={"frame_b"}) == "name 'frame_b' is not defined"
    assert redaction.error_line(OSError(28, "No space left on device")) == "OSError: … No space left on device"
    assert redaction.error_line(ValueError()) == "ValueError: no message"


def test_our_own_message_stays_but_for_addresses():
    class OrderError(RapportError):
        pass

    text = "orders.csv: source orders has no column 'amount'; did you mean 'amuont'?"
    assert redaction.error_line(OrderError(text)) == text
    assert redaction.message("OrderError", text) == f"OrderError: {text}"
    assert redaction.message("OrderError", "no anna.smith@example.org here") == "OrderError: no … here"


def test_too_little_memory_says_what_helps():
    connection = duckdb.connect(config={"memory_limit": "20MB", "temp_directory": ""})
    with pytest.raises(duckdb.Error) as caught:
        connection.execute("CREATE TABLE t AS SELECT range AS i, repeat('x', 100) AS words FROM range(3000000)")
    line = redaction.error_line(caught.value)
    assert "RAPPORT_MEMORY" in line and "\n" not in line
    assert redaction.message("OutOfMemoryException", str(caught.value)) == line
