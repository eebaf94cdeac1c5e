import datetime as dt
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.dates import date2num

from analysis.reporting.numbers import UNITS, Formatter

EN = Formatter("en", "USD")
FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15)


@pytest.mark.parametrize(
    ("x", "written"),
    [
        (0, "$0"),
        (0.004, "$0.0040"),
        (0.42, "$0.42"),
        (1, "$1"),
        (1.0, "$1.00"),
        (12.3, "$12.30"),
        (-12.3, "−$12.30"),
        (99.996, "$100"),
        (123.4, "$123"),
        (1234, "$1,234"),
        (12345.6, "$12,350"),
        (999_999, "$1.00 million"),
        (4_604_123, "$4.60 million"),
        (1_234_000_000, "$1.23 billion"),
        (Decimal("0.145"), "$0.14"),
        (1.2349, "$1.23"),  # rounded once, not to 1.235 and then to 1.24
        (4_614_600, "$4.61 million"),
        (None, "–"),
        (float("nan"), "–"),
        (pd.NA, "–"),
        (pd.NaT, "–"),
    ],
)
def test_money_in_prose(x, written):
    assert EN.money(x) == written


def test_exact_money_keeps_every_cent():
    assert EN.money(Decimal("4604123.12"), exact=True) == "$4,604,123.12"
    assert EN.value(1234567.5, "money_exact") == "$1,234,567.50"


@pytest.mark.parametrize(
    ("x", "written"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.543, "54.3%"),
        (0.0034, "0.34%"),
        (0.9997, "99.97%"),
        (1.5, "150.0%"),
        (-0.25, "−25.0%"),
    ],
)
def test_share(x, written):
    assert EN.share(x) == written


def test_other_units():
    assert EN.share(0.3, 0) == "30%"
    assert EN.count(np.int64(1_469_307)) == "1,469,307"
    assert EN.number(0.12345) == EN.number(0.123456) == "0.123"
    assert EN.number(np.float64(1234.5)) == "1,234"
    assert EN.number(2, 2) == "2.00"
    assert EN.value(1.4159, "ratio") == "1.42"
    assert EN.value(4, "score") == "4"
    assert EN.value(72.44, "points") == "72.4 points"
    assert EN.value(0.42, "points") == "0.42 points"
    assert (EN.days(1), EN.days(24.4), EN.days(3.26)) == ("1 day", "24 days", "3.3 days")
    assert EN.weeks(52) == "52 weeks"
    assert EN.value("<b>", "text") == "<b>"
    assert [EN.date(day) for day in (dt.date(2018, 12, 31), "2018-12-31", pd.Timestamp("2018-12-31", tz="UTC"))] == [
        "December 31, 2018"
    ] * 3


def test_interval():
    assert EN.interval(1.2, 3.4, "money") == "from $1.20 to $3.40"
    assert EN.interval(3, 5, "days") == "from 3 to 5 days"
    assert EN.interval(None, 3, "days") == "at most 3 days"
    assert EN.interval(0.1, None, "share") == "at least 10.0%"
    assert EN.interval(None, np.nan, "share") == "–"


@pytest.mark.parametrize(
    ("low", "high", "unit", "written"),
    [
        (90.62, 102.3, "money", "from $91 to $102"),
        (8.9, 10.4, "money", "from $8.90 to $10.40"),
        (-5.2, 300, "money", "from −$5 to $300"),
        (0, 12.5, "money", "from $0 to $12.50"),
        (0.004, 0.2, "money", "from $0.004 to $0.200"),  # not from nothing
        (9.8e6, 10.2e6, "money", "from $9.80 million to $10.20 million"),
        (900e3, 1.1e6, "money", "from $900,000 to $1.10 million"),
        (0.0034, 0.02, "share", "from 0.3% to 2.0%"),
        (0.5, 0.9997, "share", "from 50.00% to 99.97%"),  # not to all
        (0, 0.113, "share", "from 0% to 11.3%"),
        (1e-6, 0.2, "share", "from 0.00010% to 20.0%"),
        (-0.0353, 0.0021, "number", "from −0.0353 to 0.0021"),
        (0.0353, 14.6, "number", "from 0.04 to 14.60"),
        (8.5, 12.2, "days", "from 8 to 12 days"),
        (3, 4.25, "score", "from 3.00 to 4.25"),
    ],
)
def test_both_ends_of_an_interval_have_as_many_decimals(low, high, unit, written):
    assert EN.interval(low, high, unit) == written


def test_an_estimate_has_the_decimals_of_its_interval():
    assert EN.estimate(95.3, 90.62, 102.3, "money") == "$95 (from $91 to $102)"
    assert EN.estimate(4, 3, 5.5, "days") == "4.0 days (from 3.0 to 5.5 days)"
    assert EN.estimate(95.3, None, 102.3, "money") == "$95.30"
    assert EN.estimate(None, 1, 2, "money") == "–"


def test_estimates_of_a_column_have_as_many_decimals():
    assert EN.estimates([680.2, 14.2, None, 5], [650, 13.1, None, None], [710, 15.3, None, None], "money") == [
        "$680 ($650 – $710)",
        "$14 ($13 – $15)",
        "–",
        "$5",
    ]
    assert EN.estimates([], [], [], "share") == []


@given(FINITE, FINITE, st.sampled_from(["money", "share", "number", "score", "points", "days", "weeks"]))
def test_no_end_of_an_interval_is_feigned(a, b, unit):
    low, high = sorted((a, b))
    for end, text in zip((low, high), EN.interval(low, high, unit).removeprefix("from ").split(" to "), strict=True):
        if abs(end) >= 1e-6:
            assert re.search("[1-9]", text) or unit in ("score", "points", "days", "weeks")
            assert text.startswith("−") == (end < 0) or not re.search("[1-9]", text)


def test_a_narrow_interval_does_not_collapse():
    assert EN.interval(4.5967e6, 4.6012e6, "money") == "from $4.597 million to $4.601 million"
    assert EN.interval(0.541, 0.5411, "share") == "from 54.10% to 54.11%"


def test_a_column_has_one_number_of_decimals():
    assert EN.column([4_604_123.4, 312.3, None], "money") == ["$4,604,000", "$312", "–"]
    assert EN.column([12.3, 4], "money") == ["$12.30", "$4.00"]
    assert EN.column([865.15, 680], "money") == ["$865", "$680"]
    assert EN.column([0.5, 0.0001, 0], "share") == ["50.0%", "<0.1%", "0.0%"]
    assert EN.column([1.0, 2.0], "score") == ["1", "2"]
    assert EN.column([0.1234, 12.0, np.nan], "number") == ["0.1", "12.0", "–"]
    assert EN.column([0.1234, 183.2, 0.0, None], "number") == ["0.123", "183", "0", "–"]


def test_axis_labels_are_short():
    assert [EN.axis("money")(x) for x in (0, 0.5, 250, 25_000, 1_500_000)] == ["$0", "$0.50", "$250", "$25K", "$1.5M"]
    assert [EN.axis("share")(x) for x in (0, 0.25, 0.125)] == ["0%", "25%", "12.5%"]
    assert EN.axis("count")(200_000.0) == "200,000"
    assert EN.axis("date")(date2num(dt.date(2019, 1, 1))) == "Jan 2019"


@pytest.mark.parametrize(
    ("locale", "currency", "written"),
    [
        ("en_GB", "GBP", ("£1.23 million", "£12.30", "54.3%", "31 December 2018")),
        ("de", "EUR", ("1,23 Millionen €", "12,30 €", "54,3 %", "31. Dezember 2018")),
        ("zh-CN", "CNY", ("¥123万", "¥12.30", "54.3%", "2018年12月31日")),
        ("ja", "JPY", ("￥123万", "￥12", "54.3%", "2018年12月31日")),
    ],
)
def test_locales(locale, currency, written):
    style = Formatter(locale, currency)
    found = style.money(1_234_567), style.money(12.3), style.share(0.543), style.date("2018-12-31")
    assert tuple(re.sub(r"[\u00a0\u202f]", " ", text) for text in found) == written


@pytest.mark.parametrize(
    "call",
    [
        lambda: Formatter("xx-YY"),
        lambda: Formatter("en", "XXQ"),
        lambda: EN.value(1, "euros"),
        lambda: EN.money("12"),
        lambda: EN.axis("furlongs"),
    ],
)
def test_what_is_unknown_is_refused_in_one_line(call):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        call()


@given(FINITE, st.sampled_from(sorted(set(UNITS) - {"date", "text"})))
def test_any_number_can_be_written(x, unit):
    for text in (EN.value(x, unit), EN.column([x], unit)[0], EN.axis(unit)(x)):
        assert re.search(r"\d", text)
        assert "-" not in text and "E" not in text
        assert not re.fullmatch(r"−[^1-9]*", text), "a negative nothing"


@given(FINITE.filter(lambda x: abs(x) >= 0.01))
def test_money_is_within_half_a_unit_of_its_last_digit(x):
    text = EN.money(x)
    scale = {"million": 1e6, "billion": 1e9, "trillion": 1e12}.get(text.split()[-1], 1)
    read = float(re.sub(r"[^\d.]", "", text)) * scale * (-1 if "−" in text else 1)
    assert read == pytest.approx(x, rel=0.006, abs=0.005)


@given(FINITE, FINITE)
def test_order_survives_rounding_in_a_column(a, b):
    low, high = sorted((a, b))
    numbers = [float(re.sub(r"[^\d.−]", "", text).replace("−", "-")) for text in EN.column([low, high], "money")]
    assert numbers[0] <= numbers[1]
