"""The checks of the clock and the calendar, and what a company should collect better."""

import datetime

from analysis import cleaning
from analysis import study as studies
from analysis.reporting.numbers import Formatter
from tests.conftest import shop


def test_days_gaps_and_early_buyers(project):
    project.study()
    lines = project.clean().tables["order_lines"]
    profile = cleaning.day_profile(lines, datetime.date(2024, 1, 4), datetime.date(2024, 3, 1))
    assert len(profile) == 58
    assert profile.sales.sum() == 52.0
    assert (profile.lines > 0).sum() == 3
    seen = cleaning.observation_checks(lines, datetime.date(2024, 1, 4))
    assert seen == {"moved_by_time_zone": 1.0, "early_buyers": 0.5, "customers": 2}  # midnight in Paris is 23:00 in UTC
    fmt = Formatter("en", "EUR")
    assert cleaning.silence_title(profile, fmt) == "55 of 58 days have no sale"
    whole = profile[profile.lines > 0]
    assert cleaning.silence_title(whole, fmt) == "All 3 days have sales"


def test_completeness_counts_blanks(project):
    project.raw(
        "shop", "orders.csv", "order,customer,day,sku,pieces,amount\nA1,c1,2024-01-05,,1,2\nA2,c1,2024-01-06,p1,1,2\n"
    )
    project.study()
    gaps = cleaning.completeness(project.clean().tables)
    assert gaps.to_dict("records") == [
        {"table": "order_lines", "column": "product_id", "rows": 2, "blank": 1, "filled": 0.5}
    ]
    assert cleaning.emptiest(gaps.iloc[:0]) == {"table": "", "column": "", "filled": None}


def test_what_is_lacking_and_assumed_is_said(project):
    project.study()
    study = studies.load("shop")
    said = cleaning.lacking(study)
    assert "satisfaction survey" in said
    assert "purchases" not in said
    assert cleaning.assumptions(study, Formatter("en", "EUR")) == "margin 30.0%; discount rate 10.0%"


def test_only_a_declared_time_zone_is_a_conversion(project):
    project.study()
    assert cleaning.converted_from(studies.load("shop")) is None
    content = shop()
    content["tables"]["order_lines"]["columns"]["ordered_at"] = {"column": "day", "timezone": "UTC"}
    project.study(**content)
    assert cleaning.converted_from(studies.load("shop")) == "UTC"
