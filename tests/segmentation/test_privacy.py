"""No small group is shown, and none can be worked out from what is."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.segmentation.privacy import hide_small, merge_small


def table(counts):
    return pd.DataFrame(
        {
            "tier": list("abcdefgh"[: len(counts)]),
            "customers": counts,
            "mean": [10.0 * (i + 1) for i in range(len(counts))],
        }
    )


def test_small_groups_are_merged_with_sums_and_weighted_means():
    merged = merge_small(table([50, 6, 30, 4]), "tier", 10, means=("mean",))
    assert merged["tier"].tolist() == ["a", "c", "b+d"]
    assert merged["customers"].tolist() == [50, 30, 10]
    assert merged["mean"].iloc[2] == pytest.approx((6 * 20 + 4 * 40) / 10)


def test_a_single_small_group_takes_the_next_smallest_along():
    merged = merge_small(table([50, 3, 30]), "tier", 10, means=("mean",))
    assert merged["tier"].tolist() == ["a", "b+c"]
    assert merged["customers"].tolist() == [50, 33]


def test_a_small_group_joins_its_partner_first():
    merged = merge_small(table([20, 3, 30]), "tier", 10, means=("mean",), partners={"b": "c"})
    assert merged["tier"].tolist() == ["a", "b+c"]
    untouched = merge_small(table([20, 13, 30]), "tier", 10, means=("mean",), partners={"b": "c"})
    assert untouched["tier"].tolist() == ["a", "b", "c"]


def test_nothing_is_shown_of_a_handful():
    assert merge_small(table([4, 3]), "tier", 10).empty


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_no_group_shown_is_small_and_nobody_is_lost(counts):
    merged = merge_small(table(counts), "tier", 10, means=("mean",))
    if sum(counts) < 10:
        assert merged.empty
    else:
        assert merged["customers"].min() >= 10
        assert merged["customers"].sum() == sum(counts)


@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=2, max_size=5))
def test_no_hidden_cell_follows_from_a_total(rows):
    cells = pd.DataFrame(rows)
    shown = hide_small(cells, 10)
    small = (cells > 0) & (cells < 10)
    assert shown.where(small).isna().all().all()
    pd.testing.assert_frame_equal(shown.fillna(cells), cells.astype(float))
    for hidden, counts in (
        (shown.isna().to_numpy(), cells.to_numpy()),
        (shown.isna().to_numpy().T, cells.to_numpy().T),
    ):
        for line in range(len(hidden)):
            alone = hidden[line].sum() == 1
            assert not (alone and np.any(counts[line][~hidden[line]] > 0))
