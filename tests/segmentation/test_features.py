"""Behaviour features: by hand, left out where they cannot be told, local hours across clock changes."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.segmentation.features import behaviour_features, steady_shares, utc_offsets, widest_category

FROM, TO = date(2024, 1, 1), date(2024, 12, 31)


def line(customer, order, when, amount, discount=0, product="p1", store="s1", channel=None, back=False):
    return {
        "order_id": order,
        "line_number": 1,
        "customer_id": customer,
        "ordered_at": when.replace(tzinfo=UTC),
        "order_date": when.astimezone(ZoneInfo("UTC")).date(),
        "product_id": product,
        "quantity": Decimal(1),
        "discount": Decimal(discount),
        "net_amount": Decimal(amount),
        "store_id": store,
        "channel": channel,
        "is_return": back,
    }


def table(rows):
    return ibis.memtable(pa.Table.from_pylist(rows))


def at(month, day, hour=12):
    return datetime(2024, month, day, hour, tzinfo=UTC)


@pytest.fixture
def lines():
    return [
        line("a", "1", at(6, 1, 10), 30, 10, "p1"),  # a Saturday
        line("a", "1", at(6, 1, 10), 20, 0, "p2", "s2"),
        line("a", "2", at(6, 3, 20), 50, 0, "p3"),
        line("a", "3", at(6, 4), -10, 0, "p1", back=True),  # a return alone is no purchase day
        line("b", "4", at(12, 30, 9), 40, 0, "p1", channel="web"),
        line("b", "5", at(12, 30, 18), 60, 60, "p1", channel="shop"),
        line("c", "6", at(12, 29, 9), 5, 0, "p1", channel="shop"),  # a Sunday
        line("gone", "7", at(3, 1), 0, 0, "p1"),
    ]


PRODUCTS = pd.DataFrame(
    {
        "product_id": ["p1", "p2", "p3"],
        "name": ["x", "y", "z"],
        "department": ["d1", "d2", "d2"],
        "kind": ["k1", "k2", "k3"],
    }
)


def test_features_by_hand(lines):
    found = behaviour_features(table(lines), FROM, TO, "UTC", PRODUCTS).set_index("customer_id")
    assert list(found.index) == ["a", "b", "c"]
    a, b, c = (found.loc[x] for x in "abc")
    assert (a["spend"], a["purchase_days"], a["basket"]) == (100, 2, 50)
    assert a["items"] == 1.5
    assert a["recency_days"] == (TO - date(2024, 6, 3)).days
    assert a["discount_share"] == pytest.approx(10 / 110)
    assert (a["categories"], a["stores"], a["weekend_share"], a["evening_share"]) == (2, 2, 0.5, 0.5)
    assert (b["purchase_days"], b["basket"], b["evening_share"], b["weekend_share"]) == (1, 100, 0.5, 0)
    assert b["discount_share"] == pytest.approx(60 / 160)
    assert (b["other_channel_share"], c["other_channel_share"], c["weekend_share"]) == (0.5, 0, 1)


def test_what_cannot_be_told_is_left_out(lines):
    plain = [{k: v for k, v in row.items() if k not in ("discount", "store_id", "channel")} for row in lines]
    for row in plain:
        row["ordered_at"] = row["ordered_at"].replace(hour=0)
    found = behaviour_features(table(plain), FROM, TO)
    assert list(found.columns) == [
        "customer_id",
        "spend",
        "purchase_days",
        "basket",
        "items",
        "recency_days",
        "weekend_share",
    ]


def test_lines_after_the_clock_do_not_count(lines):
    later = [*lines, line("a", "9", datetime(2025, 1, 2, tzinfo=UTC), 999)]
    pd.testing.assert_frame_equal(
        behaviour_features(table(later), FROM, TO), behaviour_features(table(lines), FROM, TO)
    )


def test_widest_category_is_the_first_level_that_tells_products_apart():
    assert widest_category(PRODUCTS) == "department"
    assert widest_category(PRODUCTS.assign(department="all")) == "kind"
    assert widest_category(PRODUCTS[["product_id", "name"]]) is None
    assert widest_category(None) is None


@settings(max_examples=40)
@given(
    st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Europe/Berlin"]),
    st.integers(0, 366 * 24 * 4 - 1),
)
def test_offsets_agree_with_the_time_zone_database(zone, quarters):
    instant = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * quarters)
    changes = utc_offsets(zone, FROM, TO)
    second = int(instant.timestamp())
    offset = [o for start, o in changes if start <= second][-1]
    assert timedelta(seconds=offset) == instant.astimezone(ZoneInfo(zone)).utcoffset()


def test_evening_is_evening_in_the_study(lines):
    # 21:30 UTC is 17:30 in New York in summer and 16:30 in winter.
    rows = [
        line("s", "1", at(7, 1).replace(hour=21, minute=30), 5),
        line("w", "2", at(1, 15).replace(hour=21, minute=30), 5),
    ]
    found = behaviour_features(table(rows), FROM, TO, "America/New_York").set_index("customer_id")["evening_share"]
    assert found.to_dict() == {"s": 1.0, "w": 0.0}


def test_shares_of_new_customers_are_drawn_to_the_base():
    frame = pd.DataFrame({"purchase_days": [1, 95], "weekend_share": [1.0, 0.2], "basket": [3.0, 4.0]})
    base = (1 * 1.0 + 95 * 0.2) / 96
    drawn = steady_shares(frame, strength=5)
    assert drawn["weekend_share"].tolist() == pytest.approx([(1 + 5 * base) / 6, (19 + 5 * base) / 100])
    assert drawn["basket"].tolist() == [3.0, 4.0]
    np.testing.assert_allclose(steady_shares(frame, strength=0)["weekend_share"], frame["weekend_share"])
