"""First days by hand, to the day on both sides; attributes as a classifier needs them."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.segmentation.early import early_behaviour, first_days, person_attributes

END = date(2024, 3, 31)  # day 90 of the year counted from 0


def line(customer, day, amount, *, order=None, discount=0, cost=None, product="p1", channel="shop", back=False):
    when = date(2024, 1, 1) + timedelta(days=day)
    return {
        "order_id": order or f"{customer}{day}",
        "customer_id": customer,
        "ordered_at": datetime(when.year, when.month, when.day, 12, tzinfo=UTC),
        "order_date": when,
        "product_id": product,
        "discount": Decimal(discount),
        "net_amount": Decimal(amount),
        "cost": None if cost is None else Decimal(cost),
        "channel": channel,
        "is_return": back,
    }


def table(rows):
    schema = pa.schema([(n, pa.decimal128(18, 4)) for n in ("discount", "net_amount", "cost")])
    made = pa.Table.from_pylist(rows)
    for field in schema:
        made = made.set_column(made.column_names.index(field.name), field, made[field.name].cast(field.type))
    return ibis.memtable(made)


ROWS = [
    line("a", 1, 0, product="free"),  # before the first purchase: does not count
    line("a", 3, 30, discount=10, cost=20),
    line("a", 3, 20, cost=10, product="p2", channel="web"),
    line("a", 8, 50, cost=20),
    line("a", 12, -10, cost=4, back=True),  # day 9 of the customer: the last of ten
    line("a", 13, 100, cost=60),  # day 10: the first of the outcome
    line("a", 32, 7, cost=3),  # day 29: the last of twenty
    line("a", 33, 1000, cost=1),  # day 30: after it
    line("b", 61, 40, cost=10),  # 30 days seen, to the day
    line("c", 62, 40, cost=10),  # 29 days seen: its outcome is not over
    line("d", 82, 5, cost=1),  # nine days seen: too young for ten
]
PRODUCTS = pd.DataFrame({"product_id": ["p1", "p2", "free"], "name": "x", "category": ["k1", "k2", "k3"]})


def test_first_days_by_hand():
    frame = early_behaviour(table(ROWS), END, 10, 20, products=PRODUCTS)
    found = frame.set_index("customer_id")
    assert list(found.index) == ["a", "b", "c"] and frame.attrs["outcome"] == "margin"
    a = found.loc["a"]
    assert (a["first_day"], a["days_seen"]) == (pd.Timestamp("2024-01-04"), 88)
    assert (a["spend"], a["margin"], a["purchase_days"], a["days_since_last"]) == (90, 10 + 10 + 30 - 6, 2, 4)
    assert (a["first_spend"], a["first_items"], a["items"], a["recent_days"]) == (50, 2, 1.5, 1)
    assert a["recent_spend"] == 50
    assert a["returned_share"] == pytest.approx(0.1) and a["discount_share"] == pytest.approx(10 / 110)
    assert (a["categories"], a["channels"], a["entry_channel"]) == (2, 2, "shop")
    assert a["outcome"] == 40 + 4
    assert found.loc["b", "outcome"] == 0 and found.loc["b", "days_seen"] == 30
    assert np.isnan(found.loc["c", "outcome"])
    assert first_days(table(ROWS), END).dt.day.tolist() == [4, 2, 3, 23]


def test_sales_stand_in_for_a_margin_that_is_not_known():
    rows = [*ROWS[:-1], line("b", 62, 3)]
    frame = early_behaviour(table(rows), END, 10, 20)
    assert frame.attrs["outcome"] == "sales" and "margin" not in frame
    assert frame.set_index("customer_id").loc["a", "outcome"] == 107
    rate = early_behaviour(table(rows), END, 10, 20, margin_rate=0.3).set_index("customer_id")
    assert rate.loc["b", "margin"] == pytest.approx(30 + 0.9)
    assert early_behaviour(table(ROWS), END, 10, 20, measure="sales").attrs["outcome"] == "sales"


def test_nobody_and_impossible_days():
    nobody = early_behaviour(table(ROWS), END, 90, 20)
    assert nobody.empty
    with pytest.raises(ValueError, match="at least 1"):
        early_behaviour(table(ROWS), END, 0, 20)


def test_attributes_are_numbers_or_kinds_without_keys_consent_and_names():
    n = 40
    people = pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(n)],
            "household_id": "h",
            "acquired_on": date(2024, 1, 1),
            "consent_email": True,
            "region": ["north", "south", None, "west"] * 10,
            "income": [str(1000 + i) if i % 5 else None for i in range(n)],
            "size": ["1", "2", "3", "4"] * 10,
            "email": [f"{i}@x" for i in range(n)],
            "nothing": None,
            "member": [True, False] * 20,
        }
    )
    found = person_attributes(people)
    assert list(found.columns) == ["customer_id", "region", "income", "size", "member"]
    assert found["income"].dtype == float and found["income"].isna().sum() == 8
    assert found["size"].tolist()[:4] == ["1", "2", "3", "4"] and found["region"].isna().sum() == 10
    assert set(found["member"]) == {"yes", "no"}
    assert list(person_attributes(None).columns) == ["customer_id"]
