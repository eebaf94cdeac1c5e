"""The customer summary cut to some of its columns: the same values, on every engine, for less work."""

import datetime as dt
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.engine import Spark
from analysis.study import EngineSettings
from analysis.valuation import customer_summary, purchase_days
from analysis.valuation.summary import to_frame

END = dt.date(2024, 3, 31)
HISTORY = ["frequency", "recency", "T", "monetary_value"]
SUBSETS = (HISTORY, ["recency_days"], ["orders", "frequency"], ["margin", "T"], ["spend", "recency_days"])


@pytest.fixture(scope="module")
def lines() -> pa.Table:
    """600 lines of 40 customers: returns, days that net to zero or less, lines without a cost, and lines after END."""
    rng = np.random.default_rng(8)
    size = 600
    amount = np.where(rng.random(size) < 0.25, -1, 1) * rng.integers(0, 200_000, size)
    customer, day, order = rng.integers(0, 40, size), rng.integers(0, 120, size), rng.integers(0, 250, size)
    cost = [
        None if gap else Decimal(int(c)) / 10_000 for gap, c in zip(rng.random(size) < 0.1, abs(amount), strict=True)
    ]
    money = pa.decimal128(18, 4)
    return pa.table({
        "customer_id": pa.array([f"c{c:02d}" for c in customer]),
        "order_id": pa.array([f"o{o}" for o in order]),
        "order_date": pa.array([dt.date(2024, 1, 1) + dt.timedelta(days=int(d)) for d in day], pa.date32()),
        "net_amount": pa.array([Decimal(int(a)) / 10_000 for a in amount], money),
        "cost": pa.array(cost, money),
        "is_return": pa.array(amount < 0),
    })  # fmt: skip


def subsets_are_columns_of_the_whole(table: ibis.Table, whole: pd.DataFrame, subsets=SUBSETS) -> None:
    pd.testing.assert_frame_equal(to_frame(customer_summary(table, END, 0.3)), whole, check_exact=True)
    for columns in subsets:
        found = to_frame(customer_summary(table, END, 0.3, columns=columns))
        pd.testing.assert_frame_equal(found, whole[["customer_id", *columns]], check_exact=True)


@pytest.fixture(scope="module")
def whole(lines) -> pd.DataFrame:
    return to_frame(customer_summary(ibis.memtable(lines), END, 0.3))


def test_columns_are_to_the_bit_those_of_the_whole(lines, whole):
    assert len(whole) == 40 and (whole["frequency"] == 0).sum() < 5 and whole["margin"].notna().all()
    subsets_are_columns_of_the_whole(ibis.memtable(lines), whole)


def test_columns_are_to_the_bit_the_same_on_postgres(lines, whole, postgres):
    server = ibis.connect(postgres)
    subsets_are_columns_of_the_whole(server.create_table("summary_columns", lines, temp=True), whole)
    server.disconnect()


def test_columns_are_to_the_bit_the_same_on_spark(lines, whole, spark, tmp_path):
    engine = Spark(EngineSettings.model_validate(spark), ibis.duckdb.connect(), tmp_path / "scratch")
    pq.write_table(lines, tmp_path / "lines.parquet")
    subsets_are_columns_of_the_whole(engine.read([tmp_path / "lines.parquet"]), whole, SUBSETS[:1])


def test_a_history_needs_the_purchase_days_only(lines, whole):
    days = purchase_days(ibis.memtable(lines)).cache()
    found = to_frame(customer_summary(days, END, columns=HISTORY))
    pd.testing.assert_frame_equal(found, whole[["customer_id", *HISTORY]], check_exact=True)
    for column in ("orders", "spend", "margin"):
        with pytest.raises(ValueError, match="needs the lines themselves"):
            customer_summary(days, END, columns=[column])


def test_a_history_counts_no_orders_and_sums_no_margin(lines):
    table = ibis.memtable(lines)
    short, long = (str(ibis.to_sql(customer_summary(table, END, columns=c))) for c in (HISTORY, None))
    assert "JOIN" in long and '"cost"' in long and '"order_id"' in long
    assert "JOIN" not in short and '"cost"' not in short.partition("FROM")[0] and short.count("GROUP BY") == 2


def test_a_column_that_is_not_there_is_named(lines):
    with pytest.raises(ValueError, match="no column Recency; there are customer_id, frequency"):
        customer_summary(ibis.memtable(lines), END, columns=["frequency", "Recency"])
