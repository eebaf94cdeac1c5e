"""A source of several files: folders, patterns and archives; only new files are read, and rows keep their ids."""

import bz2
import gzip
import json
import lzma
import zipfile

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import engine, paths, sources
from analysis import study as studies
from analysis.errors import RapportError
from analysis.sources import ColumnProfile, SourceError, ingest
from analysis.study import StudyError
from tests.conftest import ORDERS
from tests.sources.conftest import bring_in, read, rows

HEADER = ORDERS.splitlines()[0]


def month(number, lines=2, header=HEADER):
    return header + "\n" + "".join(f"M{number}-{i},c{i},2024-{number:02d}-01,p1,1,{i}.00\n" for i in range(lines))


@pytest.fixture
def months(project):
    for number in (1, 2, 3):
        project.raw("shop", f"orders/2024-{number:02d}.csv", month(number))
    project.study(sources={"orders": {"file": "orders/"}})
    return project


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "file", ["orders/", "orders", "orders/*.csv", "orders/2024-0?.csv", "**/2024-*.csv", "order*/*"]
)
def test_a_folder_or_a_pattern_is_one_source(months, file):
    months.study(sources={"orders": {"file": file}})
    (paths.raw("shop") / "orders" / ".hidden.csv").write_text("no data")
    (paths.raw("shop") / "orders" / "older").mkdir()
    found = rows()
    assert [(row["order"], row["row_number"]) for row in found] == [
        (f"M{m}-{i}", i + 2) for m in (1, 2, 3) for i in (0, 1)
    ]
    below = "orders/" if file[0] == "*" or file.startswith("order*") else ""
    assert [row["file"] for row in found[::2]] == [f"{below}2024-0{m}.csv" for m in (1, 2, 3)]
    assert len({row["row_id"] for row in found}) == 6
    assert all(row["row_id"] & ((1 << 36) - 1) == row["row_number"] and row["row_id"] >> 36 for row in found)


def test_only_the_new_month_is_read_and_a_month_that_left_is_gone(months):
    first = bring_in()
    stamps = {path: path.stat().st_mtime_ns for path in first.paths}
    ids = {row["order"]: row["row_id"] for row in rows()}
    months.raw("shop", "orders/2023-12.csv", month(12, 3))
    second = bring_in()
    assert second.rows == first.rows + 3
    assert second.digest != first.digest
    assert second.paths[1:] == first.paths
    assert {path: path.stat().st_mtime_ns for path in first.paths} == stamps
    assert {row["order"]: row["row_id"] for row in rows()}.items() >= ids.items()
    (paths.raw("shop") / "orders" / "2024-02.csv").unlink()
    assert {row["file"] for row in rows()} == {"2023-12.csv", "2024-01.csv", "2024-03.csv"}


def test_the_fingerprint_follows_content_and_names(months):
    source = studies.load("shop").sources["orders"]
    prints = [sources.fingerprint(source, "shop")]
    assert sources.fingerprint(source, "shop") == prints[0]
    months.raw("shop", "orders/2024-03.csv", month(3, 4))
    prints.append(sources.fingerprint(source, "shop"))
    (paths.raw("shop") / "orders" / "2024-03.csv").rename(paths.raw("shop") / "orders" / "2024-04.csv")
    prints.append(sources.fingerprint(source, "shop"))
    assert len(set(prints)) == 3


def test_columns_are_matched_by_name(months):
    months.raw("shop", "orders/2024-02.csv", "amount,customer,day,order,pieces,sku\n9.00,c9,2024-02-02,M2-0,1,p1\n")
    raw = bring_in()
    assert raw.columns == tuple(HEADER.split(","))
    assert sources.peek(studies.load("shop").sources["orders"], "shop") == raw.columns
    stored = engine.connect().read_parquet([str(path) for path in raw.paths])
    table = sources.sampled(studies.load("shop"), "orders", {"orders": stored}.get, engine.Engine.md5)
    found = table.filter(table.order == "M2-0").select("amount", "customer", "sku").to_pyarrow().to_pylist()
    assert found == [{"amount": "9.00", "customer": "c9", "sku": "p1"}]
    assert table.count().to_pyarrow().as_py() == raw.rows == 5


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("amount", "total"), "2024-02.csv: has no column 'amount', which 2024-01.csv has; add it"),
        (
            HEADER.replace("amount", "amount,extra"),
            "2024-02.csv: has a column 'extra', which 2024-01.csv has not; take it",
        ),
    ],
)
def test_files_with_other_columns_say_which(months, header, message):
    months.raw("shop", "orders/2024-02.csv", month(2, header=header))
    for see in (bring_in, lambda: sources.peek(studies.load("shop").sources["orders"], "shop")):
        with pytest.raises(SourceError) as caught:
            see()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("empty/", "empty: is a folder without files; put the source's files there"),
        ("empty/*.csv", "no file fits this pattern; put the files there, or correct file in the study"),
        ("none/*/*.csv", "no file fits this pattern"),
        ("none/", "none: no such file; put it there"),
        ("mixed/", "notes.doc: cannot tell its format; save it as .csv, .xlsx or .parquet, say format: in the study"),
        ("plain", "plain: cannot tell its format"),
    ],
)
def test_a_folder_without_use_says_so(project, file, message):
    project.raw("shop", "empty/.keep", "")
    project.raw("shop", "mixed/notes.doc", "x")
    project.raw("shop", "plain", "a,b\n1,2\n")
    project.study(sources={"orders": {"file": file}})
    with pytest.raises(SourceError) as caught:
        rows()
    assert message in str(caught.value)


def test_what_cannot_be_a_source_is_said_when_the_study_is_loaded(project):
    for source, message in (
        ({"file": "orders.xls"}, "cannot tell the format of orders.xls; .*save a spreadsheet as .xlsx"),
        ({"file": "orders/*.ods"}, "cannot tell the format"),
        ({"package": "lifetimes", "file": "data/"}, "must be one file, not a folder or a pattern"),
    ):
        project.study(sources={"orders": source})
        with pytest.raises(StudyError, match=message):
            studies.load("shop")


def test_a_format_that_is_said_holds_for_every_file(project):
    project.raw("shop", "export/one.dat", month(1))
    project.study(sources={"orders": {"file": "export/", "format": "csv"}})
    assert len(rows()) == 2


def test_an_empty_month_is_no_fault_but_an_empty_source_is(months):
    months.raw("shop", "orders/2024-02.csv", HEADER + "\n")
    assert bring_in().rows == 4
    for number in (1, 3):
        months.raw("shop", f"orders/2024-0{number}.csv", HEADER + "\n")
    with pytest.raises(SourceError, match="has a header but no rows"):
        bring_in()


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)]
)
def test_compressed_files(project, ending, pack):
    content = ORDERS.replace("p2", "café").encode("utf-16")
    assert [row["sku"] for row in read(project, pack(content), f"orders.csv{ending}")] == ["p1", "café"] * 2
    with pytest.raises(SourceError, match=f"orders.csv{ending}: (is damaged|cannot be read)"):
        read(project, pack(ORDERS.encode() * 50)[:-9], f"orders.csv{ending}")
    with pytest.raises(SourceError, match=f"orders.csv{ending}: (is damaged|cannot be read)"):
        read(project, ORDERS, f"orders.csv{ending}")


def test_gzip_in_several_members_is_read_to_its_end(project):
    assert (
        len(read(project, gzip.compress(ORDERS.encode()) + gzip.compress(b"A9,c9,2024-05-01,p1,1,1.00\n"), "o.csv.gz"))
        == 5
    )


def test_compressed_parquet_and_spreadsheets(project):
    frame = pd.DataFrame({"order": ["A1"], "amount": ["1"]})
    frame.to_parquet(paths.raw("shop") / "o.parquet")
    assert (
        read(project, gzip.compress((paths.raw("shop") / "o.parquet").read_bytes()), "o.parquet.gz")[0]["order"] == "A1"
    )
    book = openpyxl.Workbook()
    for line in (["order", "amount"], ["A1", 1.0]):
        book.active.append(line)
    book.save(paths.raw("shop") / "o.xlsx")
    zipped(paths.raw("shop") / "o.zip", {"o.xlsx": (paths.raw("shop") / "o.xlsx").read_bytes()})
    project.study(sources={"orders": {"file": "o.zip"}})
    assert [(r["order"], r["amount"], r["file"], r["row_id"]) for r in rows()] == [("A1", "1", None, 2)]


def test_an_archive_is_a_folder_of_its_members(project):
    path = paths.raw("shop") / "orders.zip"
    zipped(
        path,
        {"b/2.csv": month(2), "1.csv": month(1), "__MACOSX/1.csv": "x", "b/3.csv.gz": gzip.compress(month(3).encode())},
    )
    project.study(sources={"orders": {"file": "orders.zip"}})
    first = bring_in()
    assert [(row["file"], row["row_number"]) for row in rows()][::2] == [
        ("1.csv", 2),
        ("b/2.csv", 2),
        ("b/3.csv.gz", 2),
    ]
    zipped(path, {"1.csv": month(1), "b/2.csv": month(2), "b/4.csv": month(4)})
    second = bring_in()
    assert second.paths[:2] == first.paths[:2]
    project.raw("shop", "all/2024.csv", month(5))
    path.rename(paths.raw("shop") / "all" / "old.zip")
    project.study(sources={"orders": {"file": "all/"}})
    assert [row["file"] for row in rows()][::2] == ["2024.csv", "old.zip/1.csv", "old.zip/b/2.csv", "old.zip/b/4.csv"]


def test_an_archive_without_use_says_so(project):
    path = paths.raw("shop") / "orders.zip"
    project.study(sources={"orders": {"file": "orders.zip"}})
    zipped(path, {})
    with pytest.raises(SourceError, match="orders.zip: holds no files"):
        rows()
    path.write_bytes(b"no archive")
    with pytest.raises(SourceError, match="orders.zip: is damaged or cannot be decompressed"):
        rows()
    zipped(path, {"notes.doc": "x"})
    with pytest.raises(SourceError, match="orders.zip: cannot tell its format"):
        rows()
    zipped(path, {"a.csv": ORDERS})
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + place] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match="orders.zip: is locked with a password"):
        rows()


def test_row_ids_do_not_depend_on_other_files_and_never_clash():
    names = [f"{i}.csv" for i in range(200)]
    marks = ingest._marks(names)
    assert ingest._marks(names[::2]) == marks[::2]
    assert all(0 < mark < 1 << 26 for mark in marks)
    assert ingest._marks([None]) == [0]
    twins = ingest._marks(["same.csv", "same.csv", "other.csv"])
    assert len(set(twins)) == 3
    assert twins[0] == ingest._marks(["same.csv"])[0]


def test_what_columns_hold_is_counted_and_kept(months):
    months.raw("shop", "orders/2024-02.csv", HEADER + "\nM\0\uff12, c1 ,,\u3000,1, \nonly,two\n")
    first = bring_in()
    assert first.profile["order"] == ColumnProfile(rows=6, blank=1, padded=0, normalised=1)
    assert first.profile["customer"] == ColumnProfile(rows=6, blank=1, padded=1, normalised=0)
    assert first.profile["day"] == ColumnProfile(rows=6, blank=2, padded=0, normalised=0)
    assert first.profile["sku"] == ColumnProfile(rows=6, blank=2, padded=0, normalised=1)
    assert bring_in() == first
    assert [row["order"] for row in rows()][2] == "M2"
    kept = json.loads(pq.read_metadata(first.paths[1]).metadata[b"rapport.profile"])
    assert kept["customer"] == {"rows": 2, "blank": 1, "padded": 1, "normalised": 0}


def test_nul_characters_are_taken_out_of_names_too(project):
    assert list(read(project, b"a\0,b\n1\0,2\n")[0])[3:5] == ["a", "b"]


def test_options_that_do_not_change_the_reading_do_not_read_again(project):
    project.study()
    first = bring_in()
    project.study(sources={"orders": {"file": "orders.csv", "thousands": " "}})
    assert bring_in().paths == first.paths
    project.study(sources={"orders": {"file": "orders.csv", "delimiter": ","}})
    assert bring_in().paths != first.paths


def test_what_is_stored_of_earlier_states_is_pruned_and_nothing_else(project):
    project.study(sources={"orders": {"file": "orders.csv"}, "orders-old": {"file": "orders.csv"}})
    other = bring_in(source="orders-old")
    for i in range(ingest.KEPT + 5):
        project.raw("shop", "orders.csv", month(1, i + 1))
        last = bring_in()
    folder = paths.processed("shop") / "raw"
    left = set(folder.iterdir())
    assert len(left) == ingest.KEPT + 2
    assert {*last.paths, *other.paths} <= left
    assert (paths.raw("shop") / "orders.csv").exists()


def test_rows_are_stored_in_groups_of_bounded_size(project, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP_ROWS", 1000)
    monkeypatch.setattr("analysis.sources.delimited.BLOCK", 4096)
    project.study()
    project.raw("shop", "orders.csv", month(1, 10_000))
    (path,) = bring_in().paths
    stored = pq.ParquetFile(path)
    sizes = [stored.metadata.row_group(i).num_rows for i in range(stored.num_row_groups)]
    assert sum(sizes) == 10_000
    assert max(sizes) <= 2000
    assert stored.read().column("row_number").to_pylist() == list(range(2, 10_002))


def test_personal_values_in_other_case_are_one_and_every_files_way_back_is_kept(months, monkeypatch):
    monkeypatch.setenv("RAPPORT_KEY", "a key of enough characters")
    months.study(sources={"orders": {"file": "orders/"}}, privacy={"personal": ["orders.customer"]})
    months.raw(
        "shop", "orders/2024-01.csv", HEADER + "\n1,Anna@Example.org,2024-01-01,p,1,1\n2, anna@example.ORG ,x,p,1,1\n"
    )
    months.raw("shop", "orders/2024-02.csv", HEADER + "\n3,ANNA@example.org,2024-01-01,p,1,1\n")
    found = {row["order"]: row["customer"] for row in rows()}
    assert found["1"] == found["2"] == found["3"] != found["M3-0"]
    assert bring_in().profile["customer"].padded == 1
    private = paths.private("shop") / "orders.parquet"
    before = pd.read_parquet(private).set_index("token").original
    assert before[found["1"]] == "Anna@Example.org"
    assert set(before) == {"Anna@Example.org", "c0", "c1"}
    months.raw("shop", "orders/2024-04.csv", HEADER + "\n4,anna@example.org,2024-01-01,p,1,1\n5,Bo,x,p,1,1\n")
    bring_in()
    after = pd.read_parquet(private).set_index("token").original
    assert after[before.index].equals(before)
    assert set(after) == {*before, "Bo"}
    assert private.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in private.parent.iterdir()] == ["orders.parquet"]


def test_a_personal_column_that_is_not_there_says_so(months, monkeypatch):
    monkeypatch.setenv("RAPPORT_KEY", "a key of enough characters")
    months.study(sources={"orders": {"file": "orders/"}}, privacy={"personal": ["orders.mail"]})
    with pytest.raises(RapportError, match=r"2024-01.csv: privacy names column 'mail', which is not there"):
        rows()


def test_reserved_names_are_refused(project):
    for name in ("row_id", "File", "row_number", "malformed"):
        with pytest.raises(SourceError, match=f"a column may not be called '{name}'"):
            read(project, f"a,{name}\n1,2\n")
