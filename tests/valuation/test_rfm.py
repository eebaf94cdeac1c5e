"""RFM scores: edges, ties, empty scores, direction."""

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.valuation import (
    add_nested_scores,
    add_rfm_scores,
    empty_scores,
    nested_edges,
    rfm_edges,
    rfm_grid,
    score,
)
from analysis.valuation.rfm import edges_from_counts


def test_edges_are_the_lowest_values_that_reach_each_fifth():
    edges = edges_from_counts([10, 20, 30, 40, 50], [2, 2, 2, 2, 2])
    assert edges.values.tolist() == [10, 20, 30, 40]
    assert edges.counts.tolist() == [2, 2, 2, 2, 2]


def test_a_value_that_spans_two_fifths_leaves_a_score_empty():
    edges = edges_from_counts([0, 1, 2, 3], [5, 2, 2, 1])
    assert edges.values.tolist() == [0, 0, 1, 2]
    assert edges.counts.tolist() == [5, 0, 2, 2, 1]
    frame = pd.DataFrame(
        {"frequency": [0] * 5 + [1] * 2 + [2] * 2 + [3], "recency_days": range(10), "spend": range(10)}
    )
    assert empty_scores(rfm_edges(frame)) == ["F 2"]


def test_exact_fifths_do_not_hang_on_floating_point():
    # 3 of 15 is a fifth exactly, though 3 / 15 × 5 need not be 1 in binary
    for size in (15, 35, 55, 95, 115):
        edges = edges_from_counts(np.arange(size), np.ones(size, dtype=int))
        assert edges.counts.tolist() == [size // 5] * 5


def test_recency_is_turned_round_so_that_the_recent_buyer_scores_five():
    assert score([1, 2, 3, 4, 5], best_is_low=True).tolist() == [5, 4, 3, 2, 1]
    assert score([1, 2, 3, 4, 5]).tolist() == [1, 2, 3, 4, 5]


def test_everybody_alike_gets_one_score():
    assert set(score([7.0] * 9)) == {1}


values = st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, 2)), min_size=1, max_size=200)


@settings(max_examples=100)
@given(values=values, seed=st.integers(0, 9))
def test_scores_rise_with_the_value_and_ties_share(values, seed):
    values = np.array(values)
    scores = score(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()
    for value in np.unique(values):
        assert len(set(scores[values == value])) == 1
    mixed = np.random.default_rng(seed).permutation(len(values))
    assert (score(values[mixed]) == scores[mixed]).all()
    assert (score(-values, best_is_low=True) == score(-values) * -1 + 6).all()


@settings(max_examples=100)
@given(values=values)
def test_each_edge_reaches_its_share_and_the_value_below_does_not(values):
    values = np.array(values)
    distinct, counts = np.unique(values, return_counts=True)
    edges = edges_from_counts(distinct, counts).values
    for k, edge in enumerate(edges, start=1):
        assert 5 * (values <= edge).sum() >= k * len(values)
        assert 5 * (values < edge).sum() < k * len(values)


def test_scores_on_the_engine_are_the_scores_in_memory():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "customer_id": [str(i) for i in range(500)],
            "recency_days": rng.integers(0, 90, 500).astype(float),
            "frequency": rng.integers(0, 4, 500),
            "spend": rng.gamma(1.0, 33.333, 500),
        }
    )
    table = ibis.memtable(pa.Table.from_pandas(frame))
    scored = (
        add_rfm_scores(table, rfm_edges(table))
        .to_pyarrow()
        .to_pandas()
        .sort_values("customer_id", key=lambda s: s.astype(int))
    )
    assert (scored["r_score"].to_numpy() == score(frame["recency_days"], best_is_low=True)).all()
    assert (scored["f_score"].to_numpy() == score(frame["frequency"])).all()
    assert (scored["m_score"].to_numpy() == score(frame["spend"])).all()
    assert (scored["rfm_product"] == scored["r_score"] * scored["f_score"] * scored["m_score"]).all()
    grid = rfm_grid(scored, small_group=25)
    assert grid["customers"].sum() == 500
    assert grid.loc[grid["customers"] < 25, "mean_spend"].isna().all()


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="no customer"):
        edges_from_counts([], [])
    with pytest.raises(ValueError, match="missing"):
        edges_from_counts([1.0, np.nan], [1, 1])


def test_scores_are_whole_numbers_of_64_bits_even_where_everybody_is_alike(tmp_path):
    """What Ibis takes a literal for and what DuckDB writes to a file are not the same; the file counts."""
    frame = pd.DataFrame({"recency_days": [1.0] * 4, "frequency": [0] * 4, "spend": [2.5] * 4})
    table = ibis.memtable(pa.Table.from_pandas(frame))
    scored = add_rfm_scores(table, rfm_edges(table))
    ibis.duckdb.connect().to_parquet(scored, tmp_path / "scores.parquet")
    schema = pq.read_schema(tmp_path / "scores.parquet")
    for name in ("r_score", "f_score", "m_score", "rfm_product"):
        assert schema.field(name).type == pa.int64()


def _nested(frame, bins=5):
    return add_nested_scores(frame, nested_edges(frame, bins), bins)


def _customers(seed=0, n=500):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "customer_id": [f"{i:04d}" for i in range(n)],
            "recency_days": rng.integers(0, 90, n).astype(float),
            "frequency": rng.integers(0, 4, n),
            "spend": rng.gamma(1.0, 33.333, n),
        }
    )


def test_nested_scores_are_the_scores_within_each_group_of_the_scores_above():
    scored = _nested(_customers())
    assert (scored["r_score"] == score(scored["recency_days"], best_is_low=True)).all()
    for _, group in scored.groupby("r_score"):
        assert (group["f_score"] == score(group["frequency"])).all()
        for _, pair in group.groupby("f_score"):
            assert (pair["m_score"] == score(pair["spend"])).all()
    assert (scored["rfm_product"] == scored[["r_score", "f_score", "m_score"]].prod(axis=1)).all()


def test_nested_scores_on_the_engine_are_those_in_memory():
    frame = _customers(seed=1)
    table = ibis.memtable(pa.Table.from_pandas(frame))
    edges = nested_edges(table)
    scored = add_nested_scores(table, edges).to_pyarrow().to_pandas().sort_values("customer_id", ignore_index=True)
    here = _nested(frame)
    names = ["r_score", "f_score", "m_score", "rfm_product"]
    assert (scored[names] == here[names]).all(axis=None)
    assert {name: str(kind) for name, kind in scored[names].dtypes.items()} == dict.fromkeys(names, "int64")


def test_nested_binning_evens_the_groups_that_correlated_measures_leave_uneven():
    rng = np.random.default_rng(2)
    frequency = rng.permutation(1000)
    frame = pd.DataFrame({"recency_days": rng.random(1000), "frequency": frequency, "spend": 10.0 * frequency})
    assert _nested(frame).groupby(["r_score", "f_score", "m_score"]).size().tolist() == [8] * 125
    independent = pd.Series(list(zip(score(frame["frequency"]), score(frame["spend"]), strict=True)))
    assert independent.nunique() == 5


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-2, 5)), min_size=1, max_size=60),
    bins=st.integers(1, 6),
)
def test_nested_ties_share_a_score_and_all_scores_are_in_range(rows, bins):
    frame = pd.DataFrame(rows, columns=["recency_days", "frequency", "spend"])
    scored = _nested(frame, bins)
    names = ["r_score", "f_score", "m_score"]
    assert scored[names].isin(range(1, bins + 1)).all(axis=None)
    assert (scored.groupby(["recency_days", "frequency", "spend"])[names].nunique() == 1).all(axis=None)


def test_nested_binning_of_one_customer_and_of_none():
    one = _nested(_customers(n=1))
    assert one[["r_score", "f_score", "m_score"]].iloc[0].tolist() == [5, 1, 1]
    with pytest.raises(ValueError, match="no customer"):
        nested_edges(_customers(n=0))
    gap = _customers(n=3).assign(frequency=[1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match="missing"):
        nested_edges(gap)
