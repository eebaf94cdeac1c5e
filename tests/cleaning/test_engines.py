"""The same cleaning on DuckDB, PostgreSQL and Spark: equal values, equal tables, equal quarantine, to the row and the cent."""

import datetime
from decimal import Decimal

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
from analysis import cleaning, engine
from analysis.cleaning import parse
from analysis.study import EngineSettings, IdForm, Mapping, Source
from analysis.tables import INSTANT, MONEY

D = Decimal
# What is written -> the number where a decimal point is declared, and where a decimal comma is; None: no reading, or two.
NUMBERS = {
    "1": (D(1), D(1)),
    "+5": (D(5), D(5)),
    "-0": (D(0), D(0)),
    "5.": (D(5), None),
    ".5": (D("0.5"), None),
    "-2.25": (D("-2.25"), D("-2.25")),
    "1e3": (D(1000), D(1000)),
    "1E-2": (D("0.01"), D("0.01")),
    "1e99": (None, None),
    "abc": (None, None),
    "": (None, None),
    "NaN": (None, None),
    "Infinity": (None, None),
    "1_000": (None, None),
    "--5": (None, None),
    "5-3-": (None, None),
    "()": (None, None),
    "99999999999999.9999": (D("99999999999999.9999"), D("99999999999999.9999")),
    "99999999999999.99995": (None, None),
    "999999999999999": (None, None),
    "0.00005": (D(0), D(0)),
    "0.00015": (D("0.0002"), D("0.0002")),
    "-0.00025": (D("-0.0002"), D("-0.0002")),
    "12.1234567890123456789": (D("12.1235"), D("12.1235")),
    "12,50": (D("12.5"), D("12.5")),
    "0,125": (D("0.125"), D("0.125")),
    "1,234": (None, D("1.234")),
    "1.234": (D("1.234"), None),
    "1,234.50": (D("1234.5"), D("1234.5")),
    "1.234,50": (D("1234.5"), D("1234.5")),
    "1,234,567": (D(1234567), D(1234567)),
    "1.234.567": (D(1234567), D(1234567)),
    "1234,567": (D("1234.567"), D("1234.567")),
    "1 234,5": (D("1234.5"), D("1234.5")),
    "1'234.5": (D("1234.5"), D("1234.5")),
    "(5.00)": (D(-5), D(-5)),
    "5.00-": (D(-5), D(-5)),
    "\u22125": (D(-5), D(-5)),
    "¥12.50": (D("12.5"), D("12.5")),
    "-¥ 5": (D(-5), D(-5)),
    "CNY 12": (D(12), D(12)),
    "12.5元": (D("12.5"), D("12.5")),
    "€5": (None, None),
}
# What is written -> the instant of a clock in Shanghai, and the day where the month may be said to come first.
NONE = (None, None)
DATES = {
    "2024-01-05": ("2024-01-04 16:00", "2024-01-05"),
    "2024-01-05T12:30": ("2024-01-05 04:30", "2024-01-05"),
    "2024-01-05 23:59:59.5": ("2024-01-05 15:59:59.5", "2024-01-05"),
    "2024-01-05 23:59:59.123456789": ("2024-01-05 15:59:59.123456", "2024-01-05"),
    "2024-02-29": ("2024-02-28 16:00", "2024-02-29"),
    "2023-02-29": NONE,
    "1900-02-29": NONE,
    "2024-02-30": NONE,
    "2024-13-01": NONE,
    "2024-01-05 24:00": NONE,
    "2024-01-05 12:30:60": NONE,
    "0001-01-01": NONE,
    "1899-12-30": ("1899-12-29 15:54:17", "1899-12-30"),
    "9999-12-31": (None, "9999-12-31"),
    "infinity": NONE,
    "epoch": NONE,
    "": NONE,
    "2024/1/5": ("2024-01-04 16:00", "2024-01-05"),
    "2024.01.05 7:05": ("2024-01-04 23:05", "2024-01-05"),
    "31/01/2024": ("2024-01-30 16:00", None),
    "01/31/2024 23:10:11": ("2024-01-31 15:10:11", "2024-01-31"),
    "05/06/2024": (None, "2024-05-06"),
    "05.06.2024": ("2024-06-04 16:00", "2024-05-06"),
    "5/5/2024": ("2024-05-04 16:00", "2024-05-05"),
    "31/31/2024": NONE,
    "2024-01-05T10:00:00Z": ("2024-01-05 10:00", "2024-01-05"),
    "2024-01-05 20:00:00+02": ("2024-01-05 18:00", "2024-01-06"),
    "2024-01-05 10:00:00.25 -0530": ("2024-01-05 15:30:00.25", "2024-01-05"),
    "2024-01-05T10:00:00+05:45": ("2024-01-05 04:15", "2024-01-05"),
    "20240105": NONE,
    "1/2/24": NONE,
    "2024-1-5 3:04 pm": NONE,
}
# Clocks that stand still or go back: an hour that is not there is an hour later, one that comes twice is the second.
CLOCKS = {"2024-03-31 02:30": "2024-03-31 01:30", "2024-10-27 02:30": "2024-10-27 01:30"}


@pytest.fixture
def opened(engine_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("RAPPORT_DATA", str(tmp_path / "data"))
    with engine.opened(EngineSettings(**engine_settings), engine.connect(), "shop") as made:
        yield made


def read(made, tmp_path, texts, fields, **source):
    """Values of ``texts`` as each of ``fields``, in their order."""
    path = tmp_path / f"texts-{len(source)}.parquet"
    pq.write_table(pa.table({"n": range(len(texts)), "text": pa.array(texts, pa.string())}), path)
    rows = made.read([path])
    reader = parse.Reader(made, Source(file="x.csv", **source), "Asia/Shanghai", "CNY")
    stripped = parse.text(rows.text)
    columns = {}
    for name, field in fields.items():
        value = reader.plain(stripped, field)
        columns |= {name: value, f"{name}__text": ibis.ifelse(value.isnull(), stripped, None)}
    mended = made.land(made.keep(reader.mended(made.keep(rows.select("n", **columns)), fields)))
    return made.local.to_pyarrow(mended.order_by("n")).to_pydict()


def test_numbers_are_read_the_same(opened, tmp_path):
    texts = list(NUMBERS)
    field = {"v": parse.Field(MONEY, Mapping(column="x"))}
    found = read(opened, tmp_path, texts, field)["v"]
    assert dict(zip(texts, found, strict=True)) == {text: point for text, (point, _comma) in NUMBERS.items()}
    found = read(opened, tmp_path, texts, field, decimal=",")["v"]
    assert dict(zip(texts, found, strict=True)) == {text: comma for text, (_point, comma) in NUMBERS.items()}


def test_days_and_times_are_read_the_same(opened, tmp_path):
    texts = [*DATES, *CLOCKS]
    fields = {
        "at": parse.Field(INSTANT, Mapping(column="x")),
        "day": parse.Field(dt.date, Mapping(column="x", day_first=False)),
        "paris": parse.Field(INSTANT, Mapping(column="x", timezone="Europe/Paris")),
        "pattern": parse.Field(INSTANT, Mapping(column="x", format="%d.%m.%Y", timezone="UTC")),
        "id": parse.Field(dt.string, Mapping(column="x"), IdForm(pattern="A?[0-9]{4}", prefix=0, length=4)),
    }
    found = read(opened, tmp_path, texts, fields)

    def instant(text):
        return (
            None if text is None else datetime.datetime.fromisoformat(text.ljust(16, "0")).replace(tzinfo=datetime.UTC)
        )

    at = dict(zip(texts, found["at"], strict=True))
    assert {text: at[text] for text in DATES} == {text: instant(at) for text, (at, _day) in DATES.items()}
    day = dict(zip(texts, found["day"], strict=True))
    assert {text: day[text] and str(day[text]) for text in DATES} == {text: day for text, (_at, day) in DATES.items()}
    paris = dict(zip(texts, found["paris"], strict=True))
    assert {text: paris[text] for text in CLOCKS} == {text: instant(at) for text, at in CLOCKS.items()}
    pattern = dict(zip(texts, found["pattern"], strict=True))
    assert [text for text in texts if pattern[text] is not None] == ["05.06.2024"]
    assert pattern["05.06.2024"] == instant("2024-06-05 00:00")


# -- a whole study -----------------------------------------------------------------------------------------------------

ORDERS = """order,line,customer,day,sku,pieces,price,amount
A1,1,C0001,2024-01-05 10:00,p1,2,10.00,20.00
A1,2,C0001,2024-01-05 10:00,p2,1,5.50,5.50
A1,2,C0001,2024-01-05 10:00,p2,1,5.50,5.50
A2,1,c 2,2024-02-10 09:00,p1,1,10.00,10.00
A3,1,C0003,2024-03-01 12:00,p2,3,5.50,"16,50"
A4,1,C0009,2024-03-02 12:00,p2,1,5.50,€ 5.50
XA3,1,C0003,2024-03-01 13:00,p2,-3,5.50,-16.50
XA1,1,C0001,2024-01-06 10:00,p1,-1,10.00,-10.00
XA9,1,C0001,2024-01-06 10:00,p1,-4,10.00,-40.00
A5,1,,2024-03-02 12:00,p2,1,5.50,5.50
A6,1,C0001,03/04/2024,p2,1,5.50,5.50
A7,1,C0001,31/12/2024,p2,1,5.50,5.50
A8,1,C0001,2025-01-01,p2,1,5.50,5.50
A9,1,?,2024-03-02,p2,1,5.50,5.50
B1,1,TEST,2024-03-02,p2,1,5.50,5.50
B2,1,C0001,2024-03-02,POST,1,4.00,4.00
B3,1,C0001,2024-03-02,p9,1,0.00,0.00
B4,1,C0001,2024-03-02,p1,1,10.00,11.00
B5,1,C0002,2024-05-02 03:00,p1,1,1.00,1.00
B5,2,C0002,2024-05-02 11:00,p2,1,1.00,1.00
B5,3,C0002,2024-05-02 11:00,p1,1,1.00,1.00
B5,4
"""
PEOPLE = """id,mail,region,joined
C0001,a@example.org,north,2023-01-05
C0002,b@example.org,south,2023/02/05
C0003,c@example.org,"north, west",2023-03-05
C0009,A@example.org ,,2024-03-01
C0010,z@example.org,south,
"""


def dirty_shop(engine_settings):
    order = {"order_id": "order", "line_number": "line", "customer_id": "customer", "ordered_at": "day"}
    order |= {"product_id": "sku", "quantity": "pieces", "unit_price": "price", "net_amount": "amount"}
    people = {"source": "people", "columns": {"customer_id": "id", "acquired_on": "joined", "region": "region"}}
    return {
        "engine": engine_settings,
        "timezone": "Asia/Shanghai",
        "sources": {
            "orders": {"file": "orders.csv"},
            "people": {"file": "people.csv"},
            "things": {"file": "things.csv"},
        },
        "tables": {
            "order_lines": {"source": "orders", "columns": order},
            "customers": people,
            "products": {"source": "things", "columns": {"product_id": "sku", "name": "name"}},
        },
        "rules": {
            "customer_id": {"pattern": "C[0-9]{4}", "prefix": 1, "length": 5},
            "cancellations": {"order_id": "X(.*)"},
            "test_orders": {"customer_id": "TEST"},
            "non_products": ["POST"],
            "same_person": {"keys": ["mail"]},
            "order_times": True,
        },
    }


REASONS = {
    4: "duplicate_key",
    10: "cancellation_without_original",
    11: "missing_customer_id",
    12: "ambiguous_date",
    14: "after_period",
    15: "malformed_customer_id",
    16: "test_order malformed_customer_id",
    17: "non_product",
    19: "amount_mismatch",
    23: "malformed_row",
}


def test_a_dirty_shop_comes_out_the_same(project, engine_settings):
    project.study(**dirty_shop(engine_settings))
    project.raw("shop", "orders.csv", ORDERS)
    project.raw("shop", "people.csv", PEOPLE)
    project.raw("shop", "things.csv", "sku,name\np1,tea\np2,“rice, 1 kg”\n")
    step = analysis.open_step("01_data_cleaning", study="shop")
    cleaned = cleaning.clean(step.study, step.connection)
    for name, table in cleaned.tables.items():
        step.write(name, table)
    step.write("quarantine", cleaned.quarantine)
    cleaning.assert_conserved(cleaned.ledger, step.written)
    aside = step.lazy("quarantine").order_by("source", "row_number").to_pyarrow().to_pylist()
    assert {row["row_number"]: row["reasons"] for row in aside if row["source"] == "orders"} == REASONS
    assert [(row["row_number"], row["reasons"]) for row in aside if row["source"] == "people"] == [(5, "same_person")]
    assert aside[0]["raw_values"].startswith('{"order":"A1","line":"2","customer":"C0001","day":"2024-01-05 10:00"')
    lines = step.lazy("order_lines").to_pandas().set_index(["order_id", "line_number"])
    assert len(lines) == 12
    assert lines.customer_id["A2", 1] == "C0002"  # put right
    assert lines.customer_id["A4", 1] == "C0001"  # the same e-mail
    assert lines.net_amount["A3", 1] == D("16.5")
    assert str(lines.order_date["A7", 1])[:10] == "2024-12-31"
    assert str(lines.ordered_at["B5", 1]) == "2024-05-02 03:00:00+00:00"  # eleven in Shanghai, like its order
    counts = cleaned.reasons[cleaned.reasons.table == "order_lines"].set_index("reason").rows
    repairs = {
        "currency_sign": 1,
        "decimal_sign": 1,
        "date_form": 1,
        "customer_id_form": 1,
        "merged_id": 1,
        "order_time": 1,
    }
    assert {code: counts[code] for code in repairs} == repairs
    assert counts["cancelled_whole"] == 1
    assert counts["cancelled_partly"] == 1
    assert counts["zero_price"] == 1
    customers = step.lazy("customers").order_by("customer_id").to_pandas()
    assert customers.customer_id.tolist() == ["C0001", "C0002", "C0003", "C0010"]
    assert customers.region.tolist() == ["north", "south", "north, west", "south"]


# -- whatever the rows -------------------------------------------------------------------------------------------------

_CELLS = {
    "order": ["A1", "A2", "XA1", "", " A1 "],
    "line": ["1", "2", "1.5", ""],
    "customer": ["C0001", "c0002", "C 3", "", "TEST", "=1+1", "C0O01"],
    "day": [
        "2024-01-05",
        "2024-02-30",
        "05/06/2024",
        "31/12/2024",
        "2023-12-31 23:59",
        "2024-01-05T10:00:00+08:00",
        "soon",
        "",
    ],
    "sku": ["p1", "P1", "POST", "<b>", ""],
    "pieces": ["1", "2", "-1", "0", "１", "two", ""],
    "price": ["10.00", "-10", "5,5", "1,234", ""],
    "amount": ["10.00", "-10.00", "20", "0", "€ 10", "(10)", "1e99", "1.234,50", ""],
}
_rows = st.lists(
    st.one_of(
        st.tuples(*(st.sampled_from(cells) for cells in _CELLS.values())),
        st.lists(st.sampled_from(["", "1", "x"]), min_size=1, max_size=10),
    ),
    min_size=1,
    max_size=40,
)
# Enough sound rows that a file of bad ones is not taken for a wrong study.
_GOOD = "\n".join(f"A0,{n},C0007,2024-01-05,p1,1,10.00,10.00" for n in range(1, 201))


def cleaned_rows(project, engine_settings, rows):
    content = dirty_shop(engine_settings)
    content["rules"] |= {"duplicate_lines": 60, "same_person": None}
    del content["tables"]["customers"], content["tables"]["products"]
    project.study(**content)
    text = ORDERS.splitlines()[0] + "\n" + _GOOD + "\n"
    text += "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
    project.raw("shop", "orders.csv", text)
    step = analysis.open_step("01_data_cleaning", study="shop")
    cleaned = cleaning.clean(step.study, step.connection)
    step.write("order_lines", cleaned.tables["order_lines"])
    step.write("quarantine", cleaned.quarantine)
    cleaning.assert_conserved(cleaned.ledger, step.written)
    lines = step.lazy("order_lines").to_pyarrow().to_pylist()
    aside = step.lazy("quarantine").to_pyarrow().to_pylist()
    assert len(lines) + len(aside) == cleaned.ledger.rows_in[0]
    assert len({row["row_number"] for row in aside}) == len(aside)
    return lines, aside, cleaned.reasons.drop(columns="amount").to_dict("records")


_SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=12, suppress_health_check=_SLOW)
@given(_rows)
def test_nothing_is_lost_on_duckdb_whatever_the_rows(project, rows):
    cleaned_rows(project, {"kind": "duckdb"}, rows)


@settings(max_examples=5, suppress_health_check=_SLOW)
@given(_rows)
def test_nothing_is_lost_on_postgres_and_all_is_as_on_duckdb(project, postgres, rows):
    there = cleaned_rows(project, {"kind": "postgres", "database": postgres}, rows)
    assert there == cleaned_rows(project, {"kind": "duckdb"}, rows)


@settings(max_examples=1, suppress_health_check=_SLOW, phases=[Phase.generate])
@given(_rows)
def test_nothing_is_lost_on_spark_and_all_is_as_on_duckdb(project, spark, rows):
    there = cleaned_rows(project, spark, rows)
    assert there == cleaned_rows(project, {"kind": "duckdb"}, rows)


# -- at any scale ------------------------------------------------------------------------------------------------------


def test_no_window_spans_all_rows_and_no_row_is_pulled(project, monkeypatch):
    """Every plan of a cleaning with all rules on: its windows are over groups, and what comes into this process is counts."""
    seen: list[ibis.Expr] = []
    pulled: list[int] = []
    keep, local = engine.Engine.keep, type(engine.connect())
    fetch = local.to_pyarrow

    def watched(self, expression):
        seen.append(expression)
        return keep(self, expression)

    def counted(self, expression, /, **options):
        seen.append(expression)
        result = fetch(self, expression, **options)
        pulled.append(getattr(result, "num_rows", 1))
        return result

    monkeypatch.setattr(engine.Engine, "keep", watched)
    monkeypatch.setattr(local, "to_pyarrow", counted)
    content = dirty_shop({"kind": "duckdb"})
    content["rules"] |= {"duplicate_lines": 60}
    project.study(**content)
    rows = [f"B{n},1,C{n % 50:04d},2024-0{n % 9 + 1}-11,p{n % 3},1,{n % 7}.00,{n % 7}.00" for n in range(5_000)]
    project.raw("shop", "orders.csv", ORDERS + "\n".join(rows) + "\n")
    project.raw("shop", "people.csv", PEOPLE)
    project.raw("shop", "things.csv", "sku,name\np1,tea\n")
    cleaned = project.clean()
    seen += list(cleaned.tables.values())
    windows = [node for expression in seen for node in expression.op().find(ibis.expr.operations.WindowFunction)]
    assert windows, "duplicates and cancellations are told by windows"
    assert all(window.group_by for window in windows)
    assert max(pulled) < 500
