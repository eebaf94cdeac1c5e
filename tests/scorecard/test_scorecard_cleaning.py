"""Dirt against quarantine: hand-made rows whose recall, precision and money are known."""

import ibis
import pandas as pd
import pytest

from analysis import engine
from analysis import study as studies
from analysis.reporting.numbers import Formatter
from analysis.scorecard import Words, fates, precision_table, recall_facts, recall_table, sales_facts, sales_table

# Row numbers: the header is row 1. Rows 3, 5, 6, 8, 9 and 10 are dirty.
ORDERS = """\
order,line,customer,day,sku,pieces,price,amount
A1,1,c1,2024-01-05,p1,2,10.00,20.00
A1,1,c1,2024-01-05,p1,2,10.00,20.00
A2,1,c2,2024-02-10,p1,1,10.00,10.00
A3,1,c1,2024-02-30,p2,3,5.50,16.50
A4,1,c3,2024-03-02,p2,１,5.50,5.50
A5,1,c3,2024-03-03,p2,2,5.50,11.00
A6,1,c2,2024-04-01,p1,1,10.00,¥10.00
TA7,1,TEST,2024-04-02,p1,1,10.00,10.00
XA5,1,c3,2024-03-03,p2,-2,5.50,-11.00
A9,1,c1,2026-01-01,p1,1,10.00,10.00
"""
CLEAN_TOTAL = 20.00 + 10.00 + 16.50 + 5.50 + 11.00 + 10.00 + 10.00  # A1 to A6 and A9, each once
RECORD = [
    ("orders", 3, "duplicate_exact", "order", "A1", "A1", "set_aside", 2),
    ("orders", 5, "impossible_date", "day", "2024-02-28", "2024-02-30", "set_aside", None),
    ("orders", 6, "full_width_digits", "pieces", "1", "１", "repair", None),
    ("orders", 8, "currency_sign", "amount", "10.00", "¥10.00", "repair", None),
    ("orders", 9, "test_order", "customer", None, "TEST", "set_aside", None),
    ("orders", 10, "cancelled", "pieces", "2", "-2", "keep", 7),
]
COLUMNS = ["source", "row_number", "kind", "column", "original", "planted", "expected", "of"]


@pytest.fixture
def scored(project):
    project.raw("shop", "orders.csv", ORDERS)
    columns = {
        "order_id": "order",
        "line_number": "line",
        "customer_id": "customer",
        "ordered_at": "day",
        "product_id": "sku",
        "quantity": "pieces",
        "unit_price": "price",
        "net_amount": "amount",
    }
    project.study(tables={"order_lines": {"source": "orders", "columns": columns}})
    cleaned = project.clean()
    tables = cleaned.tables | {"quarantine": cleaned.quarantine}
    record = ibis.memtable(pd.DataFrame(RECORD, columns=COLUMNS), schema=_schema())
    found = fates(studies.load("shop"), cleaned.quarantine.get_backend(), record, tables)
    return found, tables


def _schema():
    return {c: "int64" if c in ("row_number", "of") else "string" for c in COLUMNS}


@pytest.fixture
def words():
    return Words(Formatter("en", "EUR"))


def test_what_became_of_each_row(scored):
    found, _ = scored
    assert dict(zip(found["kind"], found["fate"], strict=True)) == {
        "duplicate_exact": "set_aside",
        "impossible_date": "set_aside",
        "full_width_digits": "kept",
        "currency_sign": "set_aside",
        "test_order": "changed",
        "cancelled": "changed",
    }
    right = dict(zip(found["kind"], found["right"], strict=True))
    assert [kind for kind, done in right.items() if not done] == ["currency_sign", "test_order"]


def test_money_due_and_booked(scored):
    found, _ = scored
    money = found.set_index("kind")[["clean", "due", "booked"]]
    assert money.loc["duplicate_exact"].tolist() == [0, 0, 0]
    assert money.loc["impossible_date"].tolist() == [16.5, 0, 0]
    assert money.loc["full_width_digits"].tolist() == [5.5, 5.5, 5.5]
    assert money.loc["currency_sign"].tolist() == [10, 10, 0]
    assert money.loc["test_order"].tolist() == [0, 0, 10]
    assert money.loc["cancelled"].tolist() == [0, -11, -11]


def test_recall_counts_rows_and_says_what_was_done_instead(scored, words):
    found, _ = scored
    twice = pd.concat([found, found[found["kind"] == "currency_sign"].assign(row_number=99, fate="kept", right=True)])
    table = recall_table(twice, words).set_index("kind")
    assert table.loc["duplicate_exact", ["rows", "right", "recall"]].tolist() == [1, 1, 1.0]
    assert table.loc["currency_sign", ["rows", "right", "recall"]].tolist() == [2, 1, 0.5]
    assert table.loc["currency_sign", "instead"] == "set aside"
    assert table.loc["test_order", "instead"] == "kept"
    assert table.loc["currency_sign", "low"] < 0.5 < table.loc["currency_sign", "high"]
    assert table["expected"].tolist() == ["set_aside"] * 3 + ["repair"] * 2 + ["keep"]


def test_precision_counts_what_had_to_be_set_aside(scored, words):
    found, tables = scored
    table = precision_table(tables["quarantine"], found, words).set_index("reason")
    # Set aside: the duplicate, the impossible date, the currency sign, and A9, dated in the future and without dirt on record.
    every = table.loc["All reasons together"]
    assert every[["rows", "right", "repairable", "clean"]].tolist() == [4, 2, 1, 1]
    assert every["precision"] == 0.5
    unreadable = table.loc["A needed value is unreadable"]
    assert unreadable[["rows", "right", "repairable"]].tolist() == [2, 1, 1]
    assert table.loc["After the observed period", "clean"] == 1


def test_sales_are_explained_to_the_cent(scored, words):
    found, tables = scored
    booked = float(tables["order_lines"].net_amount.sum().to_pyarrow().as_py())
    assert booked == 20 + 10 + 5.5 + 11 + 10 - 11
    table = sales_table(found, CLEAN_TOTAL, booked, words)
    assert CLEAN_TOTAL + table["made"].sum() == pytest.approx(booked)
    assert table.set_index("kind").loc["rest", "wrong"] == pytest.approx(
        -10
    )  # A9 was lost though nothing was wrong with it
    facts = sales_facts(table, CLEAN_TOTAL, booked)
    assert facts["due"] == pytest.approx(CLEAN_TOTAL - 16.5 - 11)
    assert facts["off"] == pytest.approx(booked / facts["due"] - 1)


def test_a_negative_price_had_the_same_money_without_its_minus(project):
    header = ORDERS.splitlines()[0]
    project.raw(
        "shop", "orders.csv", f"{header}\nA1,1,c1,2024-01-05,p1,2,10.00,20.00\nA2,1,c1,2024-01-06,p1,1,-10.00,-10.00\n"
    )
    columns = {"order_id": "order", "line_number": "line", "customer_id": "customer", "ordered_at": "day"}
    columns |= {"quantity": "pieces", "unit_price": "price", "net_amount": "amount"}
    project.study(tables={"order_lines": {"source": "orders", "columns": columns}})
    cleaned = project.clean()
    record = [("orders", 3, "negative_price", "price", "10.00", "-10.00", "set_aside", None)]
    table = ibis.memtable(pd.DataFrame(record, columns=COLUMNS), schema=_schema())
    tables = cleaned.tables | {"quarantine": cleaned.quarantine}
    [row] = fates(studies.load("shop"), cleaned.quarantine.get_backend(), table, tables).to_dict("records")
    assert (row["clean"], row["due"], row["booked"]) == (10, 0, 0)


def test_files_without_dirt_give_empty_tables(project, words):
    project.study()
    cleaned = project.clean()
    record = ibis.memtable(pd.DataFrame([], columns=COLUMNS), schema=_schema())
    found = fates(studies.load("shop"), engine.connect(), record, cleaned.tables | {"quarantine": cleaned.quarantine})
    recall = recall_table(found, words)
    precision = precision_table(cleaned.quarantine, found, words)
    facts = recall_facts(recall, precision)
    assert (facts["rows"], facts["aside"], facts["recall"]) == (0, 0, None)
    assert sales_facts(sales_table(found, 52.0, 52.0, words), 52.0, 52.0)["off"] == 0
