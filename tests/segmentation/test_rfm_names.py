"""Named RFM segments: one name for each of the 125 combinations of scores, empty scores said, small segments merged."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.segmentation.rfm_names import RULES, SegmentRule, check_rules, rfm_segments, unreachable
from analysis.valuation import add_nested_scores, nested_edges, score

CELLS = np.array(list(product(range(1, 6), repeat=3)))


@pytest.fixture(scope="module")
def words():
    return segmentation.Words(Formatter("en", "USD"), "households")


def base(n=400, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "recency_days": rng.integers(0, 300, n).astype(float),
            "frequency": rng.geometric(0.3, n) - 1,
            "spend": rng.gamma(1.0, 100.0, n),
        }
    )
    frame["r_score"] = score(frame["recency_days"], best_is_low=True)
    frame["f_score"], frame["m_score"] = score(frame["frequency"]), score(frame["spend"])
    frame["margin"] = 0.3 * frame["spend"]
    return frame.assign(rfm_segment=rfm_segments(frame["r_score"], frame["f_score"], frame["m_score"]))


def test_each_of_the_125_combinations_has_exactly_one_segment():
    held = np.array([rule.holds(CELLS[:, 0], CELLS[:, 1] + CELLS[:, 2]) for rule in RULES])
    assert (held.sum(axis=0) == 1).all()
    assert held.any(axis=1).all()
    check_rules(RULES)


def test_names_follow_the_stated_rules_at_their_corners():
    named = {
        (5, 5, 5): "champions",
        (4, 5, 4): "champions",
        (4, 4, 4): "loyal",
        (5, 1, 5): "potential_loyalists",
        (5, 1, 1): "promising",
        (3, 5, 5): "need_attention",
        (3, 3, 3): "about_to_sleep",
        (2, 5, 4): "cannot_lose",
        (1, 3, 3): "at_risk",
        (2, 1, 1): "hibernating",
        (1, 1, 1): "lost",
    }
    r, f, m = np.array(list(named)).T
    assert rfm_segments(r, f, m).tolist() == list(named.values())


def test_better_scores_never_make_a_worse_name():
    """More recent, or more bought, is never a step down from the best name or a step to the worst."""
    name = dict(zip(map(tuple, CELLS.tolist()), rfm_segments(*CELLS.T), strict=True))
    for r, f, m in CELLS.tolist():
        for up in ((r + 1, f, m), (r, f + 1, m), (r, f, m + 1)):
            if max(up) <= 5:
                assert not (name[r, f, m] == "champions" and name[up] != "champions")
                assert not (name[r, f, m] != "lost" and name[up] == "lost")


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        (RULES[1:], "R 4, F 4, M 5 is in no segment"),
        ((replace(RULES[0], value=(8, 10)), *RULES[1:]), "is in champions and loyal"),
        ((*RULES, SegmentRule("lost", (6, 6), (2, 2))), "share a name"),
    ],
)
def test_rules_with_a_gap_or_an_overlap_are_refused(rules, problem):
    with pytest.raises(ValueError, match=problem):
        rfm_segments([1], [1], [1], rules)


def test_scores_that_are_not_scores_are_refused_and_missing_ones_have_no_name():
    for bad in (0, 6, 2.5):
        with pytest.raises(ValueError, match="not a whole number from 1 to 5"):
            rfm_segments([bad], [1], [1])
    with pytest.raises(ValueError, match="defined on 5 scores, not on 3"):
        rfm_segments([1], [1], [1], bins=3)
    named = rfm_segments([5, np.nan], [5, 5], [5, 5])
    assert named.isna().tolist() == [False, True]
    assert rfm_segments(pd.array([5, None], "Int64"), [5, 5], [5, 5]).isna().tolist() == [False, True]
    assert rfm_segments([], [], []).empty


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=40))
def test_ties_share_a_name_and_everybody_has_one_whatever_scores_are_empty(rows):
    frame = pd.DataFrame(rows, columns=["recency_days", "frequency", "spend"])
    scores = [score(frame["recency_days"], best_is_low=True), score(frame["frequency"]), score(frame["spend"])]
    nested = add_nested_scores(frame, nested_edges(frame))
    for named in (rfm_segments(*scores), rfm_segments(nested["r_score"], nested["f_score"], nested["m_score"])):
        assert named.notna().all()
        assert (named.groupby([frame[c] for c in frame]).nunique() == 1).all()


def test_segments_that_empty_scores_leave_out_of_reach_are_said(words):
    # everybody bought once for the same: F and M are 1 for all, so nothing above F + M = 2 can be reached
    alike = pd.DataFrame({"r_score": [1, 3, 5], "f_score": 1, "m_score": 1})
    out = set(unreachable(alike))
    assert out == {r.name for r in RULES} - {"lost", "about_to_sleep", "promising"}
    assert unreachable(pd.DataFrame(CELLS, columns=["r_score", "f_score", "m_score"])) == []
    named = alike.assign(rfm_segment=rfm_segments(alike["r_score"], alike["f_score"], alike["m_score"]))
    said = segmentation.rfm_segment_facts(named, named["rfm_segment"], words)
    assert "Champions" in said["unreachable"] and said["moved"] == 0.0
    assert "Nobody could be in" in words("rfm_segment_note", **said)


def test_table_adds_up_and_small_segments_are_merged(words):
    frame = base()
    table = segmentation.rfm_segment_table(frame)
    assert table["customers"].sum() == 400
    assert table["sales"].sum() == pytest.approx(frame["spend"].sum())
    assert table["margin"].sum() == pytest.approx(frame["margin"].sum())
    champions = frame[frame["rfm_segment"] == "champions"]
    row = table.set_index("rfm_segment").loc["champions"]
    assert row["mean_recency_days"] == pytest.approx(champions["recency_days"].mean())
    merged = segmentation.shown_rfm_segments(frame, 30)
    assert merged["customers"].min() >= 30 and merged["customers"].sum() == 400
    assert all(name[0].isupper() for name in words.names("rfm", merged["rfm_segment"]))


def test_margin_is_not_told_where_one_of_a_segment_has_none():
    frame = base()
    lost = frame.index[frame["rfm_segment"] == "lost"][0]
    frame.loc[lost, "margin"] = np.nan
    table = segmentation.rfm_segment_table(frame).set_index("rfm_segment")
    assert table["margin"].isna().sum() == 1 and np.isnan(table.loc["lost", "margin"])
    assert segmentation.rfm_segment_table(frame.drop(columns="margin"))["margin"].isna().all()


def test_findings_agree_with_the_table_or_give_a_reason(words):
    frame = base()
    table, shown = (
        segmentation.rfm_segment_table(frame).set_index("rfm_segment"),
        segmentation.shown_rfm_segments(frame, 5),
    )
    for name in ("champions", "cannot_lose"):
        found = segmentation.rfm_segment_finding(frame, shown, name, 5, words)
        assert found["value"] == pytest.approx(table.loc[name, "share_sales"])
        assert found["low"] < found["value"] < found["high"] and found["n"] == table.loc[name, "customers"]
        assert words(name, **found)
        hidden = segmentation.rfm_segment_finding(frame, shown, name, 401, words)
        assert hidden["value"] is None and hidden["n"] is None and "fewer than 401" in hidden["reason"]
        assert "Too few" in words(name, **hidden)
        nobody = segmentation.rfm_segment_finding(frame.assign(rfm_segment="lost"), shown, name, 5, words)
        assert nobody["n"] == 0 and words(name, **nobody).startswith("No customer")


def test_a_segment_that_was_merged_is_not_told_so_that_nobody_can_subtract(words):
    names = np.repeat(["champions", "cannot_lose", "at_risk", "lost"], [50, 4, 30, 60])
    frame = pd.DataFrame({"rfm_segment": names, "spend": 1.0, "recency_days": 5.0})
    shown = segmentation.shown_rfm_segments(frame, 10)
    assert shown["rfm_segment"].tolist() == ["champions", "lost", "cannot_lose+at_risk"]
    assert segmentation.rfm_segment_finding(frame, shown, "at_risk", 10, words)["n"] is None
    assert segmentation.rfm_segment_finding(frame, shown, "champions", 10, words)["n"] == 50


def test_one_customer_has_a_name_and_no_interval(words):
    frame = base(n=1)
    assert frame["rfm_segment"].notna().all()
    found = segmentation.rfm_segment_finding(
        frame, segmentation.shown_rfm_segments(frame, 1), frame["rfm_segment"].iloc[0], 1, words
    )
    assert found["value"] == 1.0 and found["low"] is None and found["reason"]


def test_definitions_state_every_rule(words):
    table = segmentation.rfm_segment_definitions(words)
    assert len(table) == len(RULES) and table["meaning"].str.len().min() > 10
    row = table.set_index("segment").loc["Champions"]
    assert (row["recency"], row["value"]) == ("4–5", "9–10")


def test_share_renamed_by_nested_binning_is_counted(words):
    frame = base()
    nested = add_nested_scores(frame, nested_edges(frame))
    names = rfm_segments(nested["r_score"], nested["f_score"], nested["m_score"])
    moved = segmentation.rfm_segment_facts(frame, names, words)["moved"]
    assert moved == pytest.approx((frame["rfm_segment"] != names).mean()) and 0 < moved < 1
