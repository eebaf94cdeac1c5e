"""Windows and the panel, against sums made by hand."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.campaigns import outcomes


def campaigns(*rows):
    return pd.DataFrame(rows, columns=["campaign_id", "name", "starts_on", "ends_on", "design"])


def test_windows_say_what_cannot_be_seen(company):
    spans = outcomes.windows(
        campaigns(
            ("a", "Mail", "2023-12-01", "2024-01-20", "observational"),
            ("b", "Mail", "2024-06-01", "2024-06-30", "observational"),
            ("c", "Shop", "2024-12-10", "2025-01-10", "observational"),
            ("d", None, "2024-12-04", None, "randomised"),
        ),
        company.FROM,
        company.TO,
    )
    assert spans["campaign_id"].tolist() == ["a", "b", "d", "c"]
    assert spans["reason"].tolist() == ["before_data", None, None, "window_not_over"]
    assert spans["label"].tolist() == ["a · Mail", "b · Mail", "d", "Shop"]
    assert spans.loc[1, ["days", "complete_periods"]].tolist() == [30, 5]
    assert spans.loc[2, "outcome_to"] == company.TO + dt.timedelta(days=1)  # 28 days that end on the last observed day


def test_window_days_replace_the_length_and_must_be_positive(company):
    one = campaigns(("c", "Shop", "2024-12-10", "2025-01-10", "observational"))
    assert outcomes.windows(one, company.FROM, company.TO, window_days=14)["reason"].tolist() == [None]
    with pytest.raises(ValueError, match="at least 1 day"):
        outcomes.windows(one, company.FROM, company.TO, window_days=0)
    assert outcomes.windows(one.iloc[:0], company.FROM, company.TO).empty


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 365), st.integers(-500, 2000)), min_size=1, max_size=60),
    st.integers(5, 40),
)
def test_panel_equals_sums_by_hand(company, purchases, pre_days):
    rows = [(c, company.FROM + dt.timedelta(days=d), cents / 100) for c, d, cents in purchases]
    start, end = dt.date(2024, 6, 1), dt.date(2024, 6, 20)
    spans = outcomes.windows(
        campaigns(("x", "X", start, end, "observational")), company.FROM, company.TO, pre_days=pre_days
    )
    contacts = company.contact_table([("x", "a", "targeted", True), ("x", "zz", "targeted", False)])
    panel = outcomes.campaign_panel(company.order_lines(rows), contacts, spans, periods=3)
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "net"])
    known = sorted(frame.loc[frame["day"] < start, "customer_id"].unique())
    assert panel["customer_id"].tolist() == known
    assert panel["arm"].tolist() == ["targeted" if c == "a" else "untargeted" for c in known]
    bounds = {"": (start, end)}
    for k in range(1, 4):
        first = start - dt.timedelta(days=pre_days * k)
        bounds[f"_before_{k}"] = (first, first + dt.timedelta(days=pre_days - 1))
    for suffix, (first, last) in bounds.items():
        part = frame[(frame["day"] >= first) & (frame["day"] <= last)]
        daily = part.groupby(["customer_id", "day"])["net"].sum().round(4)
        spend = daily.groupby("customer_id").sum().reindex(known).fillna(0)
        days = (daily > 0).groupby("customer_id").sum().reindex(known).fillna(0)
        np.testing.assert_allclose(panel[f"spend{suffix}"], spend, atol=1e-9)
        assert panel[f"purchase_days{suffix}"].tolist() == days.astype(int).tolist()


def test_named_untargeted_are_the_comparison_and_randomised_arms_stay_whole(company):
    lines = company.order_lines([(c, company.FROM, 5.0) for c in "abcd"])
    spans = outcomes.windows(
        campaigns(
            ("o", "O", "2024-06-01", "2024-06-20", "observational"),
            ("r", "R", "2024-07-01", "2024-07-20", "randomised"),
        ),
        company.FROM,
        company.TO,
    )
    contacts = company.contact_table(
        [
            ("o", "a", "targeted", None),
            ("o", "b", "untargeted", None),
            ("r", "c", "mail", None),
            ("r", "new", "control", None),
        ]
    )
    panel = outcomes.campaign_panel(lines, contacts, spans, periods=2)
    assert list(zip(panel["campaign_id"], panel["customer_id"], panel["arm"], strict=True)) == [
        ("o", "a", "targeted"),
        ("o", "b", "untargeted"),
        ("r", "c", "mail"),
        ("r", "new", "control"),
    ]
    assert panel["treated"].tolist() == [1, 0, 1, 0]
    assert panel["spend"].eq(0).all()


def test_other_campaigns_are_counted_by_when_they_ran(company):
    spans = outcomes.windows(
        campaigns(
            ("1", "1", "2024-02-01", "2024-02-20", "observational"),
            ("2", "2", "2024-05-20", "2024-06-10", "observational"),
            ("3", "3", "2024-06-01", "2024-06-30", "observational"),
            ("4", "4", "2024-06-15", "2024-07-15", "observational"),
        ),
        company.FROM,
        company.TO,
    )
    contacts = company.contact_table(
        [
            ("1", "a", "targeted", True),
            ("2", "a", "targeted", True),
            ("3", "a", "targeted", None),
            ("4", "a", "targeted", None),
            ("1", "b", "untargeted", None),
        ]
    )
    seen = outcomes.other_contacts(contacts, spans).filter(ibis._.campaign_id == "3").to_pandas()
    assert seen.iloc[0, 2:].to_dict() == {
        "earlier_contacts": 2,
        "running_contacts": 1,
        "overlapping_contacts": 2,
        "earlier_redeemed": 1,
    }
    assert seen["customer_id"].tolist() == ["a"]


def test_no_usable_campaign_gives_an_empty_panel(company):
    spans = outcomes.windows(
        campaigns(("a", "A", "2023-12-01", "2024-01-20", "observational")), company.FROM, company.TO
    )
    assert outcomes.campaign_panel(
        company.order_lines([("a", company.FROM, 1.0)]), company.contact_table([("a", "a", "targeted", None)]), spans
    ).empty
