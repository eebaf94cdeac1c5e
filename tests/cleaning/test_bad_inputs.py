"""What may be wrong with files, studies and rows: each ends in one clear line or in quarantine, and nothing is lost."""

import collections
import csv
import datetime
import io
import json
import re
from decimal import Decimal

import duckdb
import pytest

from analysis import cleaning, sources
from analysis import study as studies
from analysis.errors import RapportError
from analysis.tables import CONTRACTS
from tests.cleaning.bad_inputs import (
    AGAINST_FILES,
    DATABASES,
    FILES,
    LINE_COLUMNS,
    LINES,
    OTHERS,
    SECRET,
    SECRETS,
    STUDIES,
    TEXTS,
    everything,
)
from tests.conftest import Project

ROWS = {"orders": (LINE_COLUMNS, LINES), **OTHERS}
# Counted value by value where a file is read, not row by row.
AT_THE_DOOR = {"white_space", "other_characters"}


def said(call):
    """The one line that a person gets: short, and without anything of the data."""
    with pytest.raises(RapportError) as caught:
        call()
    line = str(caught.value)
    assert line == line.strip()
    assert line.isprintable()
    assert 10 < len(line) < 300
    assert not re.search(SECRETS, line)
    return line


def named(cases):
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.what)
def test_a_file_that_cannot_be_brought_in(project, case):
    (project.root / "data" / "raw" / "shop" / "orders.csv").unlink()
    for name, content in case.files.items():
        project.raw("shop", name, content)
    project.study(sources={"orders": {"file": case.file} | case.options})
    line = said(lambda: sources.bring_in(studies.load("shop"), "orders"))
    assert re.search(case.message, line)
    assert not list((project.root / "data").rglob("*.partial"))


@pytest.mark.parametrize(("options", "message"), named((what, *rest) for what, *rest in DATABASES))
def test_a_database_that_cannot_be_asked(project, options, message):
    with duckdb.connect(project.root / "shop.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT ? AS a", [SECRET])
    options = options | {"database": options["database"].replace("{folder}", str(project.root))}
    project.study(sources={"orders": {**options, "snapshot": "1"}})
    assert re.search(message, said(lambda: sources.bring_in(studies.load("shop"), "orders")))


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.what)
def test_a_text_that_is_no_study(project, case):
    project.study(text=case.text)
    line = said(lambda: studies.load("shop"))
    assert line.startswith("study.yaml: ") or "studies/" in line
    assert re.search(case.message, line)


@pytest.mark.parametrize(("message", "change"), named(STUDIES))
def test_a_study_that_cannot_be(project, message, change):
    project.study(**change)
    line = said(lambda: studies.load("shop"))
    assert line.startswith("study.yaml: ")
    assert re.search(message, line)


@pytest.mark.parametrize(("message", "change"), named(AGAINST_FILES))
def test_a_study_that_does_not_fit_its_files(project, monkeypatch, message, change):
    monkeypatch.delenv("RAPPORT_KEY", raising=False)
    project.raw("shop", "people.csv", f"id,mail\nc1,{SECRET}\nc2,b@example.org\n")
    project.study(**change)
    assert re.search(message, said(project.clean))


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    """Every bad row of every table, cleaned once."""
    root = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("STUDIES", "DATA", "REPORTS", "BUILD"):
            patch.setenv(f"RAPPORT_{variable}", str(root / variable.lower()))
        project = Project(root)
        for name, (columns, rows) in ROWS.items():
            text = io.StringIO()
            csv.writer(text).writerows([columns, *(row.cells for row in rows)])
            project.raw("shop", f"{name}.csv", text.getvalue())
        project.study(**everything())
        yield project.clean()


@pytest.fixture(scope="module")
def quarantine(cleaned):
    return {(r["source"], r["row_number"]): r for r in cleaned.quarantine.to_pyarrow().to_pylist()}


@pytest.fixture(scope="module")
def written(cleaned, tmp_path_factory):
    """The tables as a step leaves them: written and read back."""
    folder = tmp_path_factory.mktemp("written")
    tables = {}
    for name, table in cleaned.tables.items():
        connection = table.get_backend()
        connection.to_parquet(CONTRACTS[name].conform(table), folder / f"{name}.parquet")
        tables[name] = connection.read_parquet(folder / f"{name}.parquet")
    return tables


@pytest.fixture(scope="module")
def kept(written):
    return {line["order_id"]: line for line in written["order_lines"].to_pyarrow().to_pylist()}


def numbered(rows, wanted):
    return [
        pytest.param(source, number, row, id=f"{source}: {row.what}")
        for source, (_, found) in rows.items()
        for number, row in enumerate(found, 2)
        if wanted(row)
    ]


@pytest.mark.parametrize(("source", "number", "row"), numbered(ROWS, lambda row: row.aside))
def test_a_bad_row_is_in_quarantine_as_it_came(quarantine, source, number, row):
    found = quarantine[source, number]
    assert found["reasons"] == row.aside
    values = json.loads(found["raw_values"])
    texts = list(values.values()) if isinstance(values, dict) else values
    assert [text or "" for text in texts] == list(row.cells)


@pytest.mark.parametrize(
    ("source", "number", "row"), numbered(ROWS, lambda row: not row.aside and (row.counted or row.gives))
)
def test_a_row_that_can_be_read_is_kept(quarantine, kept, source, number, row):
    assert (source, number) not in quarantine
    for column, value in row.gives.items():
        found = kept[row.gives.get("order_id", row.cells[0])][column]
        if isinstance(found, datetime.datetime):
            found = f"{found:%Y-%m-%d %H:%M}"
        assert found == (Decimal(value) if isinstance(found, Decimal) else value)


@pytest.mark.parametrize("source", ROWS)
def test_no_other_row_is_set_aside(quarantine, source):
    rows = enumerate(ROWS[source][1], 2)
    expected = {number for number, row in rows if row.aside}
    assert {number for name, number in quarantine if name == source} == expected


@pytest.mark.parametrize("table", [*everything()["tables"], "contacts (redemptions)"])
def test_rows_and_cents_add_up(cleaned, table):
    book = cleaned.ledger.set_index("table").loc[table]
    rows = ROWS[book.source][1]
    assert book.rows_in == len(rows)
    assert book.rows_set_aside == sum(bool(row.aside) for row in rows)
    assert book.rows_kept == book.rows_in - book.rows_set_aside
    cleaning.assert_conserved(cleaned.ledger)


@pytest.mark.parametrize("table", [*everything()["tables"], "contacts (redemptions)"])
def test_every_reason_is_counted(cleaned, table):
    rows = ROWS[cleaned.ledger.set_index("table").loc[table].source][1]
    expected = collections.Counter(code for row in rows for code in f"{row.aside} {row.counted}".split())
    found = cleaned.reasons[(cleaned.reasons.table == table) & ~cleaned.reasons.reason.isin(AT_THE_DOOR)]
    assert dict(zip(found.reason, found.rows, strict=True)) == expected


@pytest.mark.parametrize("table", everything()["tables"])
def test_what_is_kept_keeps_its_contract(written, table):
    CONTRACTS[table].validate(written[table])


def test_the_corpus_has_every_reason_that_a_study_can_meet_at_once():
    used = {code for _, rows in ROWS.values() for row in rows for code in f"{row.aside} {row.counted}".split()}
    # Rows without keys, pairs out of the way, orders in two times, and discounts need a study of another kind.
    elsewhere = {"duplicate_row", "cancelled", "order_time", "discount_sign"}
    assert set(cleaning.REASONS) - used == elsewhere | AT_THE_DOOR
