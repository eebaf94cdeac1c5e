"""Any file or database arrives as text, with the row numbers that a person sees; what cannot arrive says why in one line."""

import csv
import datetime
import io
import sqlite3
import stat
import unicodedata

import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import keys, paths, sources
from analysis import study as studies
from analysis.errors import RapportError
from analysis.sources import SourceError
from tests.conftest import ORDERS
from tests.sources.conftest import read, rows


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("cp1252", "cp1252"),
        ("gb18030", "gb18030"),
        ("cp1252", None),
    ],
)
def test_encodings(project, encoding, declared):
    word = "日本" if encoding == "gb18030" else "café crème"
    text = ORDERS.replace("p2", word) * 1
    options = {"encoding": declared} if declared else {}
    found = read(project, text.encode(encoding), **options)
    assert [row["sku"] for row in found] == ["p1", word, "p1", word]
    assert list(found[0])[3] == "order"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found_out(project, delimiter):
    found = read(project, ORDERS.replace(",", delimiter))
    assert found[0] == {
        "row_id": 2,
        "file": None,
        "row_number": 2,
        **dict(zip(ORDERS.splitlines()[0].split(","), ORDERS.splitlines()[1].split(","))),
        "malformed": None,
    }


def test_row_numbers_are_those_of_a_spreadsheet_and_quotes_may_hold_line_breaks(project):
    found = read(project, 'a,b\n1,"two\nlines, one cell"\n\n3,4\n')
    assert [(row["row_number"], row["a"], row["b"]) for row in found] == [
        (2, "1", "two\nlines, one cell"),
        (4, "3", "4"),
    ]


def test_a_row_that_does_not_fit_is_kept_as_malformed(project):
    found = read(project, "a,b\n1,2\n1,2,3\n4\n")
    assert [row["malformed"] for row in found] == [None, '["1", "2", "3"]', '["4"]']


def test_text_is_normalised(project):
    assert read(project, "a,b\n\uff11\uff12,\u210c\n")[0]["a"] == "12"


def test_no_header(project):
    found = read(project, "1 2\n3  4\n", delimiter="whitespace", names=["a", "b"])
    assert [(r["row_number"], r["a"], r["b"]) for r in found] == [(1, "1", "2"), (2, "3", "4")]


def test_excel(project):
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    sheet = book.create_sheet("Orders")
    for line in (
        ["order", "day", "amount"],
        ["A1", datetime.datetime(2024, 1, 5), 20.0],
        [None, None, None],
        ["A2", None, 2.5],
    ):
        sheet.append(line)
    path = project.raw("shop", "orders.xlsx", b"")
    book.save(path)
    project.study(sources={"orders": {"file": "orders.xlsx", "sheet": "Orders"}})
    assert [list(row.values())[2:6] for row in rows()] == [
        [2, "A1", "2024-01-05 00:00:00", "20"],
        [4, "A2", None, "2.5"],
    ]
    project.study(sources={"orders": {"file": "orders.xlsx", "sheet": "Order"}})
    with pytest.raises(SourceError, match="has no sheet 'Order'; it has Notes, Orders"):
        rows()


def test_parquet(project):
    frame = pd.DataFrame({"id": [1, 2], "amount": [0.1, 2.5], "at": pd.to_datetime(["2024-01-05 10:00", None])})
    path = project.raw("shop", "orders.parquet", b"")
    frame.to_parquet(path)
    project.study(sources={"orders": {"file": "orders.parquet"}})
    assert [(r["row_number"], r["id"], r["amount"]) for r in rows()] == [(1, "1", "0.1"), (2, "2", "2.5")]


def test_sqlite(project):
    path = paths.raw("shop") / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table orders (customer text, amount real)")
        connection.executemany("insert into orders values (?, ?)", [("c2", 2.5), ("c1", 1.0)])
    connection.close()
    project.study(sources={"orders": {"database": f"sqlite://{path}", "table": "orders", "snapshot": "1"}})
    assert [(r["row_number"], r["customer"], r["amount"]) for r in rows()] == [(1, "c1", "1"), (2, "c2", "2.5")]


def test_a_database_that_is_not_there_does_not_tell_its_password(project):
    address = "postgres://me:secret@127.0.0.1:1/shop"
    project.study(sources={"orders": {"database": address, "table": "orders", "snapshot": "1"}})
    with pytest.raises(SourceError) as caught:
        rows()
    assert "secret" not in str(caught.value)
    project.study(sources={"orders": {"database": "postgres://me:${NO_SUCH}@h/s", "table": "t", "snapshot": "1"}})
    with pytest.raises(SourceError, match="environment variable NO_SUCH is not set"):
        rows()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "orders.csv: is empty; export it again"),
        (b"\n \n", "orders.csv: is empty; export it again"),
        (b"order,customer\n", "orders.csv: has a header but no rows"),
        (b"PK\x03\x04rubbish", "orders.csv: is not text; if it is a spreadsheet or Parquet, say format"),
        (b"a,,c\n1,2,3\n", "column 2 has no name in the header"),
        (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b"row_number,a\n1,2\n", "a column may not be called 'row_number'"),
        (b"Row_Number,a\n1,2\n", "a column may not be called 'Row_Number'"),
        (b" , \n1,2\n", "column 1 has no name in the header"),
        (b"a,A\n1,2\n", "two columns are called 'a'"),
        (b'a,b\n1,2\n"3,4\n5,6\n7,8\n', "row 3 opens a quotation mark that is never closed"),
    ],
)
def test_an_unusable_file_says_so_in_one_line(project, content, message):
    project.study()
    project.raw("shop", "orders.csv", content)
    with pytest.raises(SourceError) as caught:
        rows()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_encoding_says_where(project):
    with pytest.raises(SourceError, match="byte 4 is not utf-8 text; say encoding: in the study"):
        read(project, "a,b\né,2\n".encode("cp1252"), encoding="utf-8")
    with pytest.raises(SourceError, match="encoding 'klingon' is not known"):
        read(project, "a,b\n1,2\n", encoding="klingon")


@pytest.mark.parametrize("name", ["orders.xlsx", "orders.parquet"])
def test_a_file_of_another_kind_says_so(project, name):
    with pytest.raises(SourceError, match=f"{name}: is"):
        read(project, b"this is no such file", name=name)


def test_a_missing_file_says_where_it_should_be(project):
    project.study(sources={"orders": {"file": "order.csv"}})
    with pytest.raises(SourceError, match="order.csv: no such file; put it there"):
        rows()
    project.study(sources={"orders": {"package": "nopackage", "file": "x.csv"}})
    with pytest.raises(SourceError, match="package nopackage is not installed"):
        rows()
    project.study(sources={"orders": {"package": "lifetimes", "file": "x.csv"}})
    with pytest.raises(SourceError, match="package lifetimes has no file x.csv"):
        rows()


def test_a_source_is_read_again_only_when_it_changed(project):
    project.study()
    first = sources.bring_in(studies.load("shop"), "orders")
    stamp = first.paths[0].stat().st_mtime_ns
    assert sources.bring_in(studies.load("shop"), "orders").paths[0].stat().st_mtime_ns == stamp
    project.raw("shop", "orders.csv", ORDERS + "A4,c3,2024-05-01,p1,1,1.00\n")
    second = sources.bring_in(studies.load("shop"), "orders")
    assert second.paths != first.paths
    assert second.rows == first.rows + 1


def test_a_failed_read_leaves_nothing_behind(project):
    project.study(sources={"orders": {"file": "orders.csv", "encoding": "ascii"}})
    project.raw("shop", "orders.csv", "a,b\n" + "1,2\n" * 400_000 + "é,2\n")
    with pytest.raises(SourceError, match="is not ascii text"):
        rows()
    assert list((paths.processed("shop") / "raw").iterdir()) == []


def test_personal_columns_are_hashed_at_the_door(project, monkeypatch):
    project.study(privacy={"personal": ["orders.customer"]})
    monkeypatch.delenv("RAPPORT_KEY", raising=False)
    with pytest.raises(RapportError, match="RAPPORT_KEY must hold a key of 16 characters or more"):
        rows()
    monkeypatch.setenv("RAPPORT_KEY", "a key of enough characters")
    first = rows()
    tokens = {row["customer"] for row in first}
    assert len(tokens) == 2
    assert not tokens & {"c1", "c2"}
    assert all(len(token) == 32 for token in tokens)
    originals = paths.private("shop") / "orders.parquet"
    assert stat.S_IMODE(originals.stat().st_mode) == 0o600
    assert set(pd.read_parquet(originals).original) == {"c1", "c2"}
    monkeypatch.setenv("RAPPORT_KEY", "another key of characters")
    assert not tokens & {row["customer"] for row in rows()}


# Arrow and Python may know different versions of Unicode; characters that Python's does not know are left out.
_cells = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=12)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.lists(st.tuples(_cells, _cells), min_size=1, max_size=8))
def test_what_is_written_comes_back(project, table):
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b"), *table])
    found = read(project, text.getvalue(), encoding="utf-8", delimiter=",")
    expected = [tuple(unicodedata.normalize("NFKC", cell) for cell in row) for row in table]
    assert [(row["a"], row["b"]) for row in found] == expected


def test_blank_columns_behind_the_last_one_are_nothing(project):
    expected = [("1", "2", None), ("3", "4", None)]
    for content in ("a,b,,\n1,2,,\n3,4,,\n", "a,b\n1,2,\n3,4,\n"):
        assert [(r["a"], r["b"], r["malformed"]) for r in read(project, content)] == expected


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_the_last_line_is_read_however_it_ends(project, ending):
    assert [r["b"] for r in read(project, f'a,b\n1,2\n3,"4"{ending}')] == ["2", "4"]


def test_utf_16_without_a_mark(project):
    for encoding in ("utf-16-le", "utf-16-be"):
        assert read(project, ORDERS.encode(encoding))[0]["customer"] == "c1"


def test_a_very_long_cell(project):
    assert len(read(project, "a,b\n" + "x" * 1_000_000 + ",2\n")[0]["a"]) == 1_000_000


def test_a_database_that_is_not_there_says_so_and_is_not_made(project):
    path = paths.raw("shop") / "none.db"
    project.study(sources={"orders": {"database": f"sqlite://{path}", "table": "t", "snapshot": "1"}})
    with pytest.raises(SourceError, match="there is no such file; correct database"):
        rows()
    assert not path.exists()
    project.study(sources={"orders": {"database": "postgres://a:pa$ s@h/d", "table": "t", "snapshot": "1"}})
    with pytest.raises(SourceError, match=r"a \$ that stands for itself is written \$\$"):
        rows()


def test_a_row_that_does_not_fit_is_hashed_whole_where_columns_are_personal(project, monkeypatch):
    monkeypatch.setenv("RAPPORT_KEY", "a key of enough characters")
    project.study(privacy={"personal": ["orders.customer"]})
    project.raw("shop", "orders.csv", ORDERS + "A4,anna@example.org,2024-05-01\n")
    last = rows()[-1]["malformed"]
    assert "anna" not in last
    assert "anna@example.org" in set(pd.read_parquet(paths.private("shop") / "orders.parquet").original)


def test_the_key_of_personal_columns_is_part_of_what_results_depend_on(project, monkeypatch):
    project.study(privacy={"personal": ["orders.customer"]})
    monkeypatch.setenv("RAPPORT_KEY", "a key of enough characters")
    first = keys.data_digest(studies.load("shop"))
    monkeypatch.setenv("RAPPORT_KEY", "another key of characters")
    assert keys.data_digest(studies.load("shop")) != first
    monkeypatch.delenv("RAPPORT_KEY")
    with pytest.raises(RapportError, match="RAPPORT_KEY must hold a key"):
        keys.data_digest(studies.load("shop"))
