"""The customer-base audit: classes by hand, exact sums, what short or truncated data cannot tell."""

import datetime as dt
from decimal import Decimal

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.valuation import money_figures
from analysis.valuation.audit import COMPONENTS, audit_period, customer_base_audit

START, END = dt.date(2024, 1, 1), dt.date(2024, 3, 24)  # three times four weeks
FMT = Formatter("en", "USD")


def lines_of(rows):
    """Rows of (customer, day since START, amount[, cost])."""
    money = pa.decimal128(18, 4)
    data = [
        {
            "order_id": f"{row[0]}{row[1]}",
            "customer_id": row[0],
            "order_date": START + dt.timedelta(days=row[1]),
            "net_amount": Decimal(str(row[2])),
            "cost": Decimal(str(row[3])) if len(row) > 3 else None,
            "is_return": row[2] < 0,
        }
        for row in rows
    ]
    names = [("order_id", pa.string()), ("customer_id", pa.string()), ("order_date", pa.date32())]
    schema = pa.schema([*names, ("net_amount", money), ("cost", money), ("is_return", pa.bool_())])
    return ibis.memtable(pa.Table.from_pylist(data, schema=schema))


ROWS = [
    ("new", 60, 10),
    ("back", 2, 5),
    ("back", 70, 7),
    ("grown", 30, 10),
    ("grown", 60, 25),
    ("flat", 30, 8),
    ("flat", 60, 8),
    ("shrunk", 30, 10),
    ("shrunk", 60, 4),
    ("lost", 30, 11),
    ("lost", 60, -3),
    ("late", 1, 50),
    ("late", 57, -20),
    ("gone", 3, 99),
]


def test_the_bridge_by_hand():
    found = customer_base_audit(lines_of(ROWS), START, END, period="four_weeks", measure="spend")
    assert found.previous_from == dt.date(2024, 1, 29) and found.current_from == dt.date(2024, 2, 26)
    table = found.bridge.set_index("component")
    assert table["customers"].to_dict() == {
        "new": 1, "won_back": 1, "grown": 1, "flat": 1, "shrunk": 1, "lost": 1, "returns_only": 1,
    }  # fmt: skip
    assert {k: int(v) for k, v in table["change"].items()} == {
        "new": 10, "won_back": 7, "grown": 15, "flat": 0, "shrunk": -6, "lost": -14, "returns_only": -20,
    }  # fmt: skip
    assert (found.previous, found.current) == (39, 31) and found.won_back_known
    periods = found.periods
    assert periods["customers"].tolist() == [4, 5] and table["customer_change"].sum() == 1
    assert periods.loc["current", "orders"] == 5 and periods.loc["current", "spend_per_order"] == pytest.approx(31 / 5)
    assert found.cautions == ("the periods are shorter than a year, so seasons are part of every change",)
    assert found.interval_reason


amounts = st.decimals(-30, 80, places=2)
rows_strategy = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 83), amounts), min_size=1, max_size=60)


@settings(max_examples=12)
@given(rows=rows_strategy, measure=st.sampled_from(["spend", "margin"]))
def test_the_bridge_adds_up_exactly(rows, measure):
    rows = [*rows, ("z", 30, Decimal("0.01"))]
    found = customer_base_audit(lines_of(rows), START, END, period="four_weeks", measure=measure, margin_rate=0.3333)
    rate = Decimal("0.3333") if measure == "margin" else 1
    for total, days in ((found.previous, range(28, 56)), (found.current, range(56, 84))):
        assert total == sum((Decimal(str(amount)) for _, day, amount in rows if day in days), Decimal(0)) * rate
    assert found.previous + sum(found.bridge["change"], Decimal(0)) == found.current
    customers = found.periods["customers"]
    assert customers["previous"] + found.bridge["customer_change"].sum() == customers["current"]
    assert found.bridge["component"].tolist() == list(COMPONENTS)
    both = found.bridge.set_index("component")["customers"][["grown", "flat", "shrunk"]].sum()
    assert customers["current"] == both + found.bridge.set_index("component")["customers"][["new", "won_back"]].sum()


def test_margin_is_bridged_where_it_is_known():
    known = lines_of([("a", 30, 10, 6), ("a", 60, 12, 9)])
    found = customer_base_audit(known, START, END, period="four_weeks")
    assert found.measure == "margin" and found.change("shrunk") == -1
    unknown = lines_of([("a", 30, 10, 6), ("a", 60, 12)])
    found = customer_base_audit(unknown, START, END, period="four_weeks")
    assert found.measure == "spend" and found.change("grown") == 2 and found.periods["margin"].isna().all()
    with pytest.raises(ValueError, match="margin of some lines is unknown"):
        customer_base_audit(unknown, START, END, period="four_weeks", measure="margin")


def test_truncated_data_cannot_tell_the_won_back():
    rows, panel = ROWS, {"entry": "left_truncated", "period": "four_weeks", "measure": "spend"}
    whole = customer_base_audit(lines_of(rows), START, END, **panel)
    assert whole.won_back_known and "counts as new, not as won back" in whole.cautions[0]
    short = customer_base_audit(lines_of(rows), dt.date(2024, 1, 28), END, **panel)
    assert not short.won_back_known and "begin a day before" in short.cautions[0]
    assert short.bridge.set_index("component")["customers"][["new", "won_back"]].tolist() == [2, 0]
    assert short.previous + sum(short.bridge["change"], Decimal(0)) == short.current


@pytest.mark.parametrize(
    ("start", "end", "period"),
    [
        (dt.date(2023, 1, 1), dt.date(2024, 12, 31), "year"),
        (dt.date(2023, 1, 2), dt.date(2024, 12, 29), "52_weeks"),
        (dt.date(2024, 1, 1), dt.date(2024, 12, 31), "half_year"),
        (dt.date(2024, 1, 1), dt.date(2024, 6, 30), "quarter"),
        (dt.date(2024, 1, 1), dt.date(2024, 2, 25), "four_weeks"),
    ],
)
def test_the_longest_period_that_fits_twice(start, end, period):
    assert audit_period(start, end) == period


def test_a_year_is_a_calendar_year():
    rows = [("a", 0, 1), ("a", 366 + 5, 2)]
    found = customer_base_audit(lines_of(rows), START, dt.date(2025, 12, 31), measure="spend")
    assert (found.period, found.previous_from, found.current_from) == ("year", START, dt.date(2025, 1, 1))
    assert not found.cautions


@pytest.mark.parametrize(
    ("rows", "end", "options", "message"),
    [
        (ROWS, dt.date(2024, 1, 20), {}, "the data hold 20"),
        (ROWS, END, {"period": "quarter"}, "choose a shorter period"),
        (ROWS, END, {"period": "week"}, "unknown period"),
        (ROWS, END, {"measure": "sales"}, "unknown measure"),
        ([("a", 1, 5)], END, {"period": "four_weeks"}, "nobody bought"),
        ([("a", 1, 5), ("a", 60, -5)], END, {"period": "four_weeks"}, "nobody bought"),
    ],
)
def test_what_cannot_be_bridged_is_refused(rows, end, options, message):
    with pytest.raises(ValueError, match=message):
        customer_base_audit(lines_of(rows), START, end, **options)


def test_small_components_are_joined_and_still_add_up():
    rows = [(f"{name}{k}", day, amount) for name, day, amount in ROWS for k in range(1 if name == "back" else 12)]
    found = customer_base_audit(lines_of(rows), START, END, period="four_weeks", measure="spend")
    shown = found.shown(10)
    assert shown["component"].tolist()[-1] == "others" and shown["customers"].min() >= 10
    assert shown["change"].sum() == found.current - found.previous
    assert png(money_figures.waterfall(found, FMT))[:4] == b"\x89PNG"
    assert money_figures.waterfall_title(found, FMT).startswith("Sales fell by")


def test_the_figure_of_a_base_that_only_came():
    found = customer_base_audit(lines_of([("a", 60, 5)]), START, END, period="four_weeks")
    assert found.measure == "spend" and png(money_figures.waterfall(found, FMT))
    assert money_figures.waterfall_title(found, FMT) == "Sales came to $5.00, most of the change from new customers"
