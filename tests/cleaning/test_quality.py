"""The measures of quality, by column, table and month, the way from raw to clean, and the checks of clock and calendar."""

import datetime

import pandas as pd
import pytest

from analysis import cleaning
from analysis import study as studies
from analysis.study import Clock
from tests.cleaning.made import WORDS, books, lines, table
from tests.conftest import shop

JANUARY = pd.Timestamp("2024-01-01")
ORDERS = [
    ("c1", "2024-01-05", 20.0),
    ("c1", "2024-01-05", 5.5),
    ("c2", "2024-02-10", 10.0),
    ("c1", "2024-03-01", 16.5),
]
BOOKS = books(
    ledger=[
        ("order_lines", "orders", 100, 90, 0, 10, 90, 500, 450, 50),
        ("offers", "coupons", 20, 5, 15, 0, 5, None, None, None),
    ],
    reasons=[
        ("order_lines", "duplicate_row", "set_aside", "", "", 4, 20.0),
        ("order_lines", "sign_conflict", "set_aside", "", "", 1, 5.0),
        ("order_lines", "amount_mismatch", "set_aside", "", "", 2, 10.0),
        ("order_lines", "missing_value", "set_aside", "", "", 3, 15.0),
    ],
    columns=[
        ("order_lines", "product_id", "orders", "sku", 100, 20, 8, 0),
        ("order_lines", "net_amount", "orders", "amount", 100, 0, 0, 5),
        ("order_lines", "customer_id", "orders", "customer", 100, 0, 0, 0),
        ("order_lines", "channel", "orders", "way", 100, 100, 0, 0),
    ],
    waterfall=[
        ("order_lines", "raw", 100, 500.0),
        ("order_lines", "missing_value", -3, -15.0),
        ("order_lines", "duplicate_row", -7, -35.0),
        ("order_lines", "clean", 90, 450.0),
    ],
)


def by_table(measured):
    assert measured.column.isna().all()
    return measured.set_index("table").value.to_dict()


def test_completeness_is_of_rows_and_validity_of_the_values_there():
    filled = cleaning.completeness(BOOKS.columns).set_index("column")
    assert filled.value.to_dict() == {"product_id": 0.8, "net_amount": 1, "customer_id": 1, "channel": 0}
    readable = cleaning.validity(BOOKS.columns).set_index("column")
    assert readable.value.to_dict() == {"product_id": 0.9, "net_amount": 1, "customer_id": 1}
    assert readable.rows["product_id"] == 80


def test_uniqueness_and_consistency_count_their_own_reasons_and_no_merged_row():
    assert by_table(cleaning.uniqueness(BOOKS.ledger, BOOKS.reasons)) == {"order_lines": 0.96, "offers": 1}
    assert by_table(cleaning.consistency(BOOKS.ledger, BOOKS.reasons)) == {"order_lines": 0.97, "offers": 1}


def test_timeliness_reads_the_last_day_the_silence_and_the_median_case():
    clock = Clock(observed_from=datetime.date(2024, 1, 1), observed_to=datetime.date(2024, 4, 30))
    hours = [10, 34, 100, None]
    opened = pd.Timestamp("2024-04-28 23:30", tz="UTC")
    cases = table(
        "interactions",
        pd.DataFrame(
            {
                "interaction_id": list("abcd"),
                "customer_id": "c1",
                "opened_at": opened,
                "resolved_at": [opened + pd.Timedelta(hours=h) if h else pd.NaT for h in hours],
            }
        ),
    )
    paris = studies.ZoneInfo("Europe/Paris")
    found = cleaning.timeliness({"order_lines": lines(ORDERS), "interactions": cases}, clock, paris)
    found = found.set_index(["table", "measure"]).value
    assert found["order_lines", "days_behind"] == 60
    assert found["order_lines", "silent_days"] == pytest.approx(118 / 121)
    assert found["order_lines", "silent_months"] == 0.25
    assert found["interactions", "days_behind"] == 1  # half past one on the 29th in Paris
    assert found["interactions", "days_to_resolve"] == pytest.approx(34 / 24)


def test_the_measures_are_told_worst_first(project):
    project.study()
    measured = cleaning.measures(BOOKS, {"order_lines": lines(ORDERS)}, studies.load("shop"))
    worst = cleaning.imperfect_columns(measured, BOOKS.columns, WORDS)
    assert worst["where"].tolist() == [
        "channel in order_lines",
        "product_id in order_lines",
        "net_amount in order_lines",
    ]
    assert worst.repaired.tolist() == [0, 0, 0.05]
    whole, units = cleaning.table_measures(measured, BOOKS.ledger)
    assert whole.table.tolist() == ["order_lines", "offers"]
    assert "days_behind" in units
    assert "days_to_resolve" not in units
    facts = cleaning.quality_facts(measured, WORDS)
    assert (facts["columns"], facts["flawless"]) == (4, 2)
    assert facts["validity_where"] == "product_id in order_lines"
    said = WORDS("quality_note", **facts)
    assert "2 of 4 columns are filled and readable" in said
    assert "Most contradictions are in order lines; 97.0%" in said


def test_a_study_without_faults_has_nothing_to_list(project):
    flawless = books(
        ledger=[("survey_responses", "answers", 1, 1, 0, 0, 1, None, None, None)],
        columns=[("survey_responses", "q1", "answers", "Q1", 1, 0, 0, 0)],
    )
    project.study(clock=None, tables={"products": {"source": "orders", "columns": {"product_id": "sku"}}})
    measured = cleaning.measures(flawless, {}, studies.load("shop"))
    assert (measured.value == 1).all()
    assert cleaning.imperfect_columns(measured, flawless.columns, WORDS).empty
    said = WORDS("quality_note", **cleaning.quality_facts(measured, WORDS))
    assert said == "1 of 1 columns are filled and readable in every row."


def monthly(missed, rows=1000, column="product_id"):
    months = pd.date_range(JANUARY, periods=len(missed), freq="MS")
    return [("order_lines", month, column, rows, n, 0) for month, n in zip(months, missed, strict=True)]


def test_quality_by_month_counts_blanks_bad_values_and_rows_set_aside():
    made = books(
        periods=[("order_lines", JANUARY, "product_id", 10, 2, 4), ("order_lines", pd.NaT, "product_id", 5, 5, 0)],
        set_aside=[("order_lines", JANUARY, 10, 1)],
    )
    found = cleaning.quality_by_month(made.periods, made.set_aside).set_index("measure")
    assert found.value.to_dict() == {"completeness": 0.8, "validity": 0.5, "kept": 0.9}
    assert found.rows.to_dict() == {"completeness": 10, "validity": 8, "kept": 10}


def test_months_outside_the_clock_are_no_months_of_quality():
    made = books(
        set_aside=[("order_lines", pd.Timestamp(day), 10, 1) for day in ("1899-12-01", "2024-01-01", "2030-01-01")]
    )
    clock = Clock(observed_from=datetime.date(2024, 1, 15), observed_to=datetime.date(2024, 12, 31))
    found = cleaning.quality_by_month(made.periods, made.set_aside, clock)
    assert found.period.tolist() == [JANUARY]


def test_only_series_that_move_more_than_chance_are_drawn():
    steady, moving = monthly([100, 105, 95, 110]), monthly([10, 10, 400, 10], column="channel")
    tiny = monthly([100, 104, 101, 99], rows=10**6, column="store_id")  # certain, but nobody cares
    made = books(periods=[*steady, *moving, *tiny])
    found = cleaning.unsteady(cleaning.quality_by_month(made.periods, made.set_aside))
    assert set(found.column) == {"channel"}
    assert found.series.tolist() == [0] * 4
    calm = cleaning.unsteady(cleaning.quality_by_month(books(periods=steady).periods, made.set_aside))
    assert calm.empty
    nothing = cleaning.quality_by_month(books().periods, books().set_aside)
    assert cleaning.unsteady(nothing).empty


def test_the_waterfall_goes_from_raw_to_clean_in_the_order_of_the_rules():
    steps = cleaning.waterfall_steps(BOOKS, "order_lines", WORDS)
    assert steps.reason.tolist() == ["raw", "missing_value", "duplicate_row", "clean"]
    assert steps.label.tolist() == ["Raw rows", "Needed value blank", "Repeats a row", "Clean rows"]
    assert steps.rows.iloc[0] - steps.rows.iloc[1:-1].sum() == steps.rows.iloc[-1]
    assert steps.amount.iloc[0] - steps.amount.iloc[1:-1].sum() == steps.amount.iloc[-1]
    merged = cleaning.waterfall_steps(BOOKS, "offers", WORDS)
    assert merged.rows.tolist() == [20, 15, 5]
    assert merged.amount.isna().all()


def test_the_main_table_is_what_the_study_is_about():
    main = cleaning.main_table(BOOKS, WORDS)
    assert (main["table"], main["thing"], main["share_kept"]) == ("order_lines", "order lines", 0.9)


def test_days_and_early_buyers():
    made = lines(
        ORDERS, ordered_at=pd.to_datetime([f"{day} 00:00" for _, day, _ in ORDERS]).tz_localize("Europe/Paris")
    )
    profile = cleaning.day_profile(made, datetime.date(2024, 1, 4), datetime.date(2024, 3, 1))
    assert len(profile) == 58
    assert profile.sales.sum() == 52.0
    assert (profile.lines > 0).sum() == 3
    assert cleaning.silent_days(profile, WORDS)["silent"] == 55
    seen = cleaning.observation_checks(made, datetime.date(2024, 1, 4))
    assert seen == {"moved_by_time_zone": 1.0, "early_buyers": 0.5, "customers": 2}  # midnight in Paris is 23:00 in UTC


def test_only_a_declared_time_zone_is_a_conversion(project):
    project.study()
    assert cleaning.converted_from(studies.load("shop")) is None
    content = shop()
    content["tables"]["order_lines"]["columns"]["ordered_at"] = {"column": "day", "timezone": "UTC"}
    project.study(**content)
    assert cleaning.converted_from(studies.load("shop")) == "UTC"
