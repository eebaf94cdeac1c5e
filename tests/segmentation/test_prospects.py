"""Prospects: planted resemblance found, nothing claimed from noise, shift and consent told, never learnt from."""

from datetime import date, timedelta
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.segmentation.prospects import (
    customer_worth,
    find_lookalikes,
    lookalikes_or_reason,
    shared_attributes,
    support_shift,
)
from tests.segmentation.people import base, others


@pytest.fixture(scope="module")
def found():
    return find_lookalikes(*base(), others(), replications=200)


def test_planted_resemblance_is_found(found):
    assert found.attributes == ("region", "income") and found.tells
    assert found.auc.low > 0.6 and found.lifts.top["low"].iloc[0] > 1
    prospects = others().set_index("prospect_id").loc[found.frame["prospect_id"]]
    score = 1.2 * (prospects["prospect_region"] == "north") + 0.00004 * prospects["income"].astype(float)
    assert np.corrcoef(score.rank(), -found.frame["rank"])[0, 1] > 0.9
    assert found.calibration.error.value < 0.06
    assert found.tested == 600 and found.customers == 1500 and found.best == 300


def test_bands_are_what_customers_held_back_did(found):
    bands = found.bands
    assert bands["customers"].sum() == found.tested and bands["prospects"].sum() == 400
    assert bands["observed"].iloc[0] > 2 * bands["observed"].iloc[-1]
    first = found.frame[found.frame["band"] == 1].iloc[0]
    assert (first["band_low"], first["band_high"]) == (bands["low"].iloc[0], bands["high"].iloc[0])
    assert found.frame["rank"].is_monotonic_increasing and found.frame["band"].is_monotonic_increasing
    assert found.frame["rank"].iloc[0] == 1


def test_prospects_are_never_learnt_from(found):
    few = find_lookalikes(*base(), others(30, seed=8, regions=("south",)), replications=200)
    assert few.auc == found.auc
    pd.testing.assert_frame_equal(few.bands.drop(columns="prospects"), found.bands.drop(columns="prospects"))


def test_noise_is_not_claimed():
    claims = [find_lookalikes(*base(500, seed, planted=0.0), others(50), replications=20).tells for seed in (1, 2)]
    assert not all(claims)


def test_new_values_and_differences_are_told():
    moved = others(regions=("north", "north", "east"))
    moved.loc[0, "income"] = "9999999"
    made = find_lookalikes(*base(), moved, replications=20)
    shift = made.shift.set_index("attribute")
    assert shift.loc["region", "outside"] == pytest.approx((moved["prospect_region"] == "east").mean())
    assert made.outside >= shift.loc["region", "outside"] and shift.loc["income", "outside"] >= 1 / 400
    assert abs(shift.loc["region", "difference"]) > 0.5
    assert made.frame.set_index("prospect_id").loc["p000", "outside"]
    assert made.frame["probability"].between(0, 1).all()


def test_standardised_differences_by_hand():
    ours = pd.DataFrame({"customer_id": list("abcd"), "x": [0.0, 1.0, 2.0, 3.0], "k": ["u", "u", "v", None]})
    theirs = pd.DataFrame({"prospect_id": list("ef"), "x": [1.0, 4.0], "k": ["u", "u"]})
    table, outside = support_shift(ours, theirs, ["x", "k"])
    x = (2.5 - 1.5) / np.sqrt((np.var([0, 1, 2, 3], ddof=1) + np.var([1, 4], ddof=1)) / 2)
    k = (1 - 2 / 3) / np.sqrt((2 / 3 * 1 / 3 + 0) / 2)
    np.testing.assert_allclose(table["difference"].abs(), [x, k])
    assert outside.tolist() == [False, True]
    assert table["customers_known"].tolist() == [1.0, 0.75]


def test_consent_is_counted_and_what_is_not_known_is_a_no(found):
    assert found.reachable == {"email": int((others()["consent_email"] == True).sum()), "sms": None}  # noqa: E712


def test_names_and_kinds_are_matched():
    customers, _ = base(50)
    prospects = others(20).assign(region="east", only_ours=[str(i) for i in range(20)])
    ours, theirs = shared_attributes(customers, prospects)
    # the prospects' own region goes before prospect_region; a number here and text there is text
    assert list(ours.columns) == ["customer_id", "region", "income", "only_ours"] and set(theirs["region"]) == {"east"}
    assert not pd.api.types.is_numeric_dtype(theirs["only_ours"])


def orders_of(n, first, every, until=500):
    """Everybody buys for 10 every so many days from their first day on; a table of order lines and its last day."""
    day = np.concatenate([np.arange(f, until, every) for f in np.resize(first, n)])
    owner = np.repeat(np.arange(n), [len(np.arange(f, until, every)) for f in np.resize(first, n)])
    made = pa.table(
        {
            "order_id": [f"o{i}" for i in range(len(day))],
            "customer_id": [f"c{i:04d}" for i in owner],
            "order_date": pa.array([date(2023, 1, 1) + timedelta(days=int(d)) for d in day], pa.date32()),
            "net_amount": pa.array([Decimal(10)] * len(day), pa.decimal128(18, 4)),
            "is_return": [False] * len(day),
        }
    )
    return ibis.memtable(made), date(2023, 1, 1) + timedelta(days=until - 1)


def test_worth_is_over_the_same_time_for_all():
    lines, end = orders_of(450, [0, 100, 450], 10)
    worth, kind, days = customer_worth(lines, end)
    # two thirds were seen for a year, and not enough of them; nobody else for half a year; so all so far
    assert (kind, days, len(worth)) == ("sales", None, 450)
    lines, end = orders_of(450, [0, 100], 10)
    worth, kind, days = customer_worth(lines, end, margin_rate=0.5)
    assert (kind, days) == ("margin", 365) and worth["value"].nunique() == 1
    assert worth["value"].iloc[0] == 37 * 10 * 0.5
    assert customer_worth(lines, end, entry="left_truncated")[2] is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c, v, p: (c, v, None), "the study has no prospects"),
        (lambda c, v, p: (c, v, p.iloc[:0]), "the study has no prospects"),
        (lambda c, v, p: (c, v, p[["prospect_id", "source"]]), "no attribute in common"),
        (lambda c, v, p: (None, v, p), "no attribute in common"),
        (lambda c, v, p: (c, v.iloc[:100], p), "100 customers with attributes are too few"),
        (lambda c, v, p: (c, v.assign(value=1.0), p), "no customers stand out"),
        (lambda c, v, p: (c, v.assign(value=np.nan), p), "0 customers with attributes"),
        (lambda c, v, p: (c.assign(region="x", income="1"), v, p), "no feature differs"),
    ],
)
def test_what_cannot_be_told_has_a_reason(change, why):
    made, reason = lookalikes_or_reason(*change(*base(400), others(50)))
    assert made is None and why in reason
