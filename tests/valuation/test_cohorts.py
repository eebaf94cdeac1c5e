"""Cohorts: calendar periods, what is blank, what adds up, and the plain recount."""

import datetime as dt
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.valuation import money_figures
from analysis.valuation.cohorts import (
    Cohorts,
    cohorts,
    period_column,
    period_of,
    period_start,
    read_periods,
    whole_periods,
)

START = dt.date(2024, 1, 1)
FMT = Formatter("en", "USD")


def lines_of(rows, cost=False):
    """Rows of (customer, day since START, amount[, cost])."""
    money = pa.decimal128(18, 4)
    fields = [
        ("customer_id", pa.string()),
        ("order_date", pa.date32()),
        ("net_amount", money),
        ("is_return", pa.bool_()),
    ]
    data = [
        {
            "customer_id": row[0],
            "order_date": START + dt.timedelta(days=row[1]),
            "net_amount": Decimal(str(row[2])),
            "is_return": row[2] < 0,
            **({"cost": None if row[3] is None else Decimal(str(row[3]))} if cost else {}),
        }
        for row in rows
    ]
    schema = pa.schema([*fields, *([("cost", money)] if cost else [])])
    return ibis.memtable(pa.Table.from_pylist(data, schema=schema))


# a and b come in January, c in February, d in the April that is observed in part
ROWS = [
    ("a", 0, 10),
    ("a", 31, 20),
    ("a", 35, -5),
    ("a", 70, 30),
    ("b", 5, 4),
    ("c", 40, 8),
    ("c", 61, 2),
    ("d", 95, 9),
]
END = dt.date(2024, 4, 10)


def test_cohorts_by_hand():
    found = cohorts(lines_of(ROWS), START, END, margin_rate=0.5)
    assert found.period == "month" and found.left_out == 1
    assert found.frame[["cohort", "age"]].apply(lambda r: (r["cohort"].month, r["age"]), axis=1).tolist() == [
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 0),
        (2, 1),
    ]
    assert found.frame["active"].tolist() == [2, 1, 1, 1, 1]
    assert found.frame["spend"].tolist() == [7.0, 7.5, 15.0, 8.0, 2.0]
    assert found.frame["margin"].tolist() == [3.5, 3.75, 7.5, 4.0, 1.0]
    table = found.table()
    assert table.iloc[0].tolist() == [1.0, 0.5, 0.5] and np.isnan(table.iloc[1, 2])
    pooled = found.by_age().set_index("age")
    assert pooled.loc[1, "active_share"] == pytest.approx(2 / 3) and pooled["cohorts"].tolist() == [2, 2, 1]
    assert found.retention(1).value == pytest.approx(2 / 3) and found.retention(5).reason


def test_a_few_missing_days_cost_no_period():
    """A quarter of 2024 has 91 or 92 days: four missing are below a twentieth, five above."""
    rows = [("a", 4, 10), ("b", 100, 4), ("a", 200, 3), ("c", 360, 5)]
    first, end = START + dt.timedelta(days=4), dt.date(2024, 12, 29)
    found = cohorts(lines_of(rows), first, end, period="quarter")
    assert found.missing == (4, 2) and found.left_out == 0 and found.frame["age"].max() == 3
    assert found.sizes().tolist() == [1, 1, 1]
    late = cohorts(lines_of(rows), first + dt.timedelta(days=1), end, period="quarter")
    assert late.missing == (0, 2) and late.left_out == 1 and late.frame["age"].max() == 2
    early = cohorts(lines_of(rows), START, dt.date(2024, 12, 26), period="quarter")
    assert early.missing == (0, 0) and early.left_out == 1
    # costs that are booked by the period need it whole
    assert whole_periods(first, end, "quarter") == (period_of(START, "quarter") + 1, period_of(end, "quarter") - 1)


def test_a_return_is_money_and_no_activity():
    found = cohorts(lines_of([("a", 0, 10), ("a", 40, -4)]), START, dt.date(2024, 3, 31)).frame
    assert found["active"].tolist() == [1, 0, 0] and found["spend"].tolist() == [10.0, -4.0, 0.0]


def test_an_unknown_margin_stays_blank_where_it_is_unknown():
    found = cohorts(lines_of([("a", 0, 10, 6), ("a", 40, 10, None)], cost=True), START, dt.date(2024, 3, 31))
    assert found.frame["margin"].fillna(-1).tolist() == [4.0, -1.0, 0.0]


def test_small_groups_are_blank():
    found = cohorts(lines_of(ROWS), START, END)
    assert found.table("active_share", 2).iloc[0].tolist() == [1.0, 0.5, 0.5]
    assert found.table("active_share", 2).iloc[1].isna().all()
    assert found.table("spend", 2).iloc[0].isna().tolist() == [False, True, True]


def test_the_period_follows_the_span():
    rows = [("a", 0, 1), ("a", 800, 1), ("b", 1, 2)]
    assert cohorts(lines_of(rows), START, dt.date(2025, 3, 31)).period == "month"
    assert cohorts(lines_of(rows), START, dt.date(2026, 12, 31)).period == "quarter"
    assert cohorts(lines_of(rows), START, dt.date(2034, 12, 31)).period == "year"


@pytest.mark.parametrize(
    ("options", "end", "message"),
    [
        ({"entry": "left_truncated"}, END, "before the data begin"),
        ({}, dt.date(2024, 2, 20), "51 days hold fewer than two whole months"),
        ({}, dt.date(2024, 1, 20), "fewer than two"),
        ({"period": "week"}, END, "unknown period"),
    ],
)
def test_what_cannot_be_followed_is_refused(options, end, message):
    with pytest.raises(ValueError, match=message):
        cohorts(lines_of(ROWS), START, end, **options)


def test_nobody_within_whole_periods():
    with pytest.raises(ValueError, match="nobody's first purchase"):
        cohorts(lines_of([("a", 100, 3)]), START, dt.date(2024, 4, 20))
    with pytest.raises(ValueError, match="unknown measure"):
        cohorts(lines_of(ROWS), START, END).table("orders")


rows_strategy = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 181), st.decimals(-20, 60, places=2)), min_size=1, max_size=50
)


@settings(max_examples=12)
@given(rows=rows_strategy)
def test_the_cohorts_agree_with_a_plain_recount(rows):
    end = START + dt.timedelta(days=181)  # 30 June
    rows = [*rows, ("z", 0, 1)]
    found = cohorts(lines_of(rows), START, end)
    spent = {}
    for customer, day, amount in rows:
        spent.setdefault(customer, {}).setdefault(day, []).append(float(amount))
    first, active = {}, set()
    for customer, days in spent.items():
        bought = [day for day, amounts in days.items() if round(sum(amounts), 2) > 0]
        if bought:
            first[customer] = (START + dt.timedelta(days=min(bought))).month
            active |= {(customer, (START + dt.timedelta(days=day)).month) for day in bought}
    for cell in found.frame.itertuples():
        mine = {c for c, month in first.items() if month == cell.cohort.month}
        assert cell.customers == len(mine)
        assert cell.active == sum((c, cell.cohort.month + cell.age) in active for c in mine)
    buyers = sum(sum(sum(a) for a in spent[c].values()) for c in first)
    assert (found.frame["spend"] * found.frame["customers"]).sum() == pytest.approx(buyers)


@given(st.dates(dt.date(1, 1, 1), dt.date(9998, 12, 31)), st.sampled_from(["month", "quarter", "year"]))
def test_a_day_lies_in_its_period(day, period):
    number = period_of(day, period)
    assert period_start(number, period) <= day < period_start(number + 1, period)


def test_periods_are_counted_alike_by_the_engine():
    days = [dt.date(2023, 12, 31), dt.date(2024, 1, 1), dt.date(2024, 6, 30), dt.date(2024, 7, 1)]
    table = ibis.memtable(pa.table({"day": pa.array(days, pa.date32())}))
    for period in ("month", "quarter", "year"):
        found = table.select(n=period_column(table.day, period)).to_pyarrow()["n"].to_pylist()
        assert found == [period_of(day, period) for day in days]


def test_only_whole_periods_count():
    assert whole_periods(START, dt.date(2024, 3, 31), "month") == (2024 * 12, 2024 * 12 + 2)
    assert whole_periods(dt.date(2024, 1, 2), dt.date(2024, 3, 30), "month") == (2024 * 12 + 1, 2024 * 12 + 1)


def test_periods_as_companies_write_them():
    for text in ("2024-03", "202403", "03/2024", "Mar 2024", "march 2024", "2024-03-01"):
        assert read_periods([text]) == ("month", np.array([2024 * 12 + 2]))
    for text in ("2024-Q2", "2024Q2", "Q2 2024"):
        assert read_periods([text]) == ("quarter", np.array([2024 * 4 + 1]))
    assert read_periods(["2024"]) == ("year", np.array([2024]))
    for wrong in (["spring"], ["2024-13"], ["2024-01", "2024-Q1"], ["Foo 2024"]):
        with pytest.raises(ValueError, match="marketing_costs.period: "):
            read_periods(wrong)


def test_retention_covers_when_cohorts_differ():
    rng, hits, replications = np.random.default_rng(5), 0, 200
    for _ in range(replications):
        customers = rng.integers(50, 300, 8)
        active = rng.binomial(customers, rng.beta(12, 12, 8))
        frame = pd.DataFrame({"age": 1, "customers": customers, "active": active})
        found = Cohorts("month", frame, 0).retention(1)
        hits += found.low <= 0.5 <= found.high
    assert abs(hits / replications - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)


def test_figures():
    found = cohorts(
        lines_of([(f"{c}{k}", day, amount) for c, day, amount in ROWS for k in range(12)]), START, END, margin_rate=0.5
    )
    for measure in ("active_share", "spend", "margin"):
        fig = money_figures.cohort_heat_map(found, FMT, measure)
        assert png(fig)[:4] == b"\x89PNG"
    assert money_figures.cohort_title(found, FMT) == "67% of new customers buy again in the next month"
    assert png(money_figures.cohort_heat_map(cohorts(lines_of(ROWS), START, END), FMT))  # all groups too small


def test_every_cell_drawn_has_its_number_and_room_for_it():
    sizes = [{"cohort": pd.Timestamp(START) + pd.DateOffset(months=c), "age": a} for c in range(3) for a in range(25)]
    found = Cohorts("month", pd.DataFrame(sizes).assign(customers=200, active=99, active_share=0.495), 0)
    fig = money_figures.cohort_heat_map(found, FMT)
    axis = fig.axes[0]
    png(fig)  # the layout is made when it is drawn
    ages = [int(label.get_text()) for label in axis.get_xticklabels()]
    assert ages == list(range(1, 25, 2))
    cell = axis.get_window_extent().width / len(ages)
    numbers = [text.get_window_extent() for text in axis.texts]
    assert len(numbers) == 3 * len(ages) and max(number.width for number in numbers) < cell
