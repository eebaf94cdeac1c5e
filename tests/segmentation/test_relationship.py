"""Relationship levels: Kotler's grid as printed, and who is outside it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.segmentation.relationship import GRID, LEVELS, RelationshipRule, relationship_levels


def base(protect=40, invest=1200, let_go=300, margins=(400.0, 90.0, 5.0)):
    tier = ["protect"] * protect + ["invest"] * invest + ["let_go"] * let_go
    return pd.Series(tier), np.repeat(margins, [protect, invest, let_go])


def levels(tier, margin, stage=None, **rule):
    stage = pd.Series(["stability"] * len(tier)) if stage is None else stage
    return relationship_levels(tier, stage, margin, RelationshipRule(**rule))


def test_few_customers_of_high_margin_are_partners_and_many_of_medium_margin_are_reacted_to():
    tier, margin = base()
    level, grid = levels(tier, margin)
    assert level.groupby(tier).unique().map(list).to_dict() == {
        "protect": ["partnership"],
        "invest": ["reactive"],
        "let_go": ["basic"],
    }
    assert grid.set_index("value_tier")["number_band"].to_dict() == {"protect": "few", "invest": "many"}
    assert grid["margin_ratio"].iloc[0] == pytest.approx(400 / margin.mean())


def test_the_grid_rises_with_margin_and_falls_with_number():
    rank = {level: i for i, level in enumerate(LEVELS)}
    for number in ("many", "medium", "few"):
        assert rank[GRID[number, "low"]] < rank[GRID[number, "medium"]] < rank[GRID[number, "high"]]
    for margin in ("low", "medium", "high"):
        assert rank[GRID["many", margin]] < rank[GRID["medium", margin]] < rank[GRID["few", margin]]


def test_ended_customers_get_the_basic_level_whatever_their_tier():
    tier, margin = base()
    stage = pd.Series(["stability"] * len(tier))
    stage[:2] = "ended"
    assert list(levels(tier, margin, stage)[0][:3]) == ["basic", "basic", "partnership"]


def test_thresholds_are_inclusive_for_few_and_exclusive_for_many():
    bands = [levels(*base(protect=n), few=50, many=60)[1]["number_band"].iloc[0] for n in (50, 51, 60, 61)]
    assert bands == ["few", "medium", "medium", "many"]


def test_the_young_are_listened_to_and_the_unjudged_are_left_open():
    tier, margin = base()
    tier[0], tier[1] = "too_early", None
    level, _ = levels(tier, margin)
    assert level[0] == "reactive" and pd.isna(level[1])


def test_without_margin_there_is_no_advice():
    tier, margin = base()
    level, grid = levels(tier, np.full(len(margin), np.nan))
    assert level.isna().all() and grid.empty
    assert levels(tier, -margin)[0].isna().all()


@given(
    st.lists(st.sampled_from(["protect", "invest", "let_go", "too_early"]), min_size=1, max_size=50),
    st.data(),
)
def test_everyone_with_a_tier_gets_exactly_one_level(tiers, data):
    stages = data.draw(
        st.lists(st.sampled_from(["stability", "decline", "ended", None]), min_size=len(tiers), max_size=len(tiers))
    )
    level, _ = levels(pd.Series(tiers), np.arange(1.0, len(tiers) + 1), pd.Series(stages, dtype=object), few=5, many=20)
    assert level.isin(LEVELS).all()
