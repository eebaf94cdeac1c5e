"""RFM scores by stated rules: recency, frequency and money, each from 1 (worst) to 5 (best).

The rules: count customers per distinct value; the k-th edge is the lowest value whose cumulative share of
customers reaches k/5; equal values get equal scores; a score that no customer can reach is reported as empty.
R is days since the last purchase and is turned round, so that 5 is the most recent buyer; F is the number
of repeat occasions; M is total net spend. The product multiplies the three scores.

Independent binning cuts each measure over all customers. Nested binning cuts frequency anew within each recency score, and
money within each recency and frequency score: groups come out more even, but a score then means "among those like
them", so that F 5 of the recent and F 5 of the long silent are different numbers of purchases. Ties share a score either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.errors import RapportError

MEASURES = {"r_score": "recency_days", "f_score": "frequency", "m_score": "spend"}
BEST_IS_LOW = ("r_score",)


@dataclass(frozen=True)
class Edges:
    """Where one measure is cut.

    Attributes
    ----------
    values : array of shape (bins − 1,)
        Upper edge of each group but the last, in the measure's unit; repeated where ties leave a group empty.
    cuts : array of shape (bins − 1,)
        Half-way between each edge and the next larger value that occurs, so that a comparison cannot hang on the
        last bit.
    lowest, highest : float
    counts : array of shape (bins,)
        Customers in each group, from the lowest values up.
    """

    values: NDArray[np.float64]
    cuts: NDArray[np.float64]
    lowest: float
    highest: float
    counts: NDArray[np.int64]

    def group(self, values: ArrayLike) -> NDArray[np.int64]:
        """Group of each value, 0 for the lowest, shape of `values`."""
        return np.searchsorted(self.cuts, np.asarray(values, dtype=float), side="left").astype(np.int64)


def edges_from_counts(values: ArrayLike, counts: ArrayLike, bins: int = 5) -> Edges:
    """Edges from how many customers have each distinct value.

    Parameters
    ----------
    values : array-like of shape (m,)
        Distinct values, any order.
    counts : array-like of shape (m,)
        Customers with each.
    bins : int
        Number of groups.

    Raises
    ------
    RapportError, ValueError
        No customer, or a value that is missing.
    """
    value = np.asarray(values, dtype=float)
    count = np.asarray(counts, dtype=np.int64)
    if len(value) == 0 or count.sum() == 0:
        raise RapportError("valuation: no customer has a day on which they paid more than they took back")
    if not np.isfinite(value).all():
        raise ValueError("RFM: a value is missing; every customer needs recency, frequency and spend")
    order = np.argsort(value)
    value, count = value[order], count[order]
    reached = np.cumsum(count)
    # whole numbers on both sides: bins × cumulative count against k × customers, so 20 % is exactly 20 %
    at = np.searchsorted(bins * reached, np.arange(1, bins) * int(reached[-1]), side="left")
    following = np.minimum(at + 1, len(value) - 1)
    cuts = np.where(at + 1 < len(value), (value[at] + value[following]) / 2.0, np.inf)
    group = np.searchsorted(cuts, value, side="left")
    return Edges(
        values=value[at],
        cuts=cuts,
        lowest=float(value[0]),
        highest=float(value[-1]),
        counts=np.bincount(group, weights=count, minlength=bins).astype(np.int64),
    )


def score(values: ArrayLike, bins: int = 5, best_is_low: bool = False) -> NDArray[np.int64]:
    """Scores from 1 (worst) to `bins` (best), shape of `values`; equal values get equal scores.

    Parameters
    ----------
    values : array-like of shape (customers,)
    bins : int
    best_is_low : bool
        True for days since the last purchase.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    group = edges_from_counts(distinct, counts, bins).group(values)
    return bins - group if best_is_low else group + 1


def rfm_edges(summary: ibis.Table | pd.DataFrame, bins: int = 5) -> dict[str, Edges]:
    """Edges of the three measures, by score name; on an engine only distinct values are fetched."""
    return {name: edges_from_counts(*_value_counts(summary, column), bins) for name, column in MEASURES.items()}


def add_rfm_scores(summary: ibis.Table, edges: dict[str, Edges], bins: int = 5) -> ibis.Table:
    """Add `r_score`, `f_score`, `m_score` and their product `rfm_product`, on the engine.

    Parameters
    ----------
    summary : ibis.Table
        One row a customer with `recency_days`, `frequency` and `spend`.
    edges : dict of Edges
        From :func:`rfm_edges` of the same table.
    """
    scored = summary.mutate(
        **{name: _score_on_engine(summary[column], name, edges[name], bins) for name, column in MEASURES.items()}
    )
    return scored.mutate(rfm_product=scored.r_score * scored.f_score * scored.m_score)


def nested_edges(summary: ibis.Table | pd.DataFrame, bins: int = 5) -> dict[str, dict[tuple[int, ...], Edges]]:
    """Edges of nested binning: recency over all, frequency within each recency score, money within each pair of the two.

    Parameters
    ----------
    summary : ibis.Table or DataFrame
        One row a customer with `recency_days`, `frequency` and `spend`. On an engine only distinct values are fetched.
    bins : int

    Returns
    -------
    dict
        By score name, the edges by the scores that they stand within: ``()`` for recency, ``(r,)`` for frequency, ``(r, f)``
        for money. Scores that nobody has hold no edges.
    """
    edges: dict[str, dict[tuple[int, ...], Edges]] = {}
    scored, above = summary, []
    for name, column in MEASURES.items():
        edges[name] = {
            key: edges_from_counts(group[column], group["customers"], bins)
            for key, group in _counts_within(scored, above, column)
        }
        scored = _with_nested_score(scored, name, above, edges[name], bins)
        above.append(name)
    return edges


def add_nested_scores(
    summary: ibis.Table | pd.DataFrame, edges: dict[str, dict[tuple[int, ...], Edges]], bins: int = 5
) -> ibis.Table | pd.DataFrame:
    """Add `r_score`, `f_score`, `m_score` and `rfm_product` by nested binning, on the engine or to a frame.

    Parameters
    ----------
    summary : ibis.Table or DataFrame
        One row a customer with `recency_days`, `frequency` and `spend`.
    edges : dict
        From :func:`nested_edges` of the same table.
    bins : int
    """
    scored, above = summary, []
    for name in MEASURES:
        scored = _with_nested_score(scored, name, above, edges[name], bins)
        above.append(name)
    product = scored["r_score"] * scored["f_score"] * scored["m_score"]
    return (
        scored.assign(rfm_product=product) if isinstance(scored, pd.DataFrame) else scored.mutate(rfm_product=product)
    )


def empty_scores(edges: dict[str, Edges]) -> list[str]:
    """Scores that nobody has, as plain text such as "F 2", worst first."""
    found = []
    for name, edge in edges.items():
        bins = len(edge.counts)
        found += [
            f"{name[0].upper()} {bins - group if name in BEST_IS_LOW else group + 1}"
            for group in np.flatnonzero(edge.counts == 0)
        ]
    return sorted(found)


def rfm_grid(scored: pd.DataFrame, small_group: int = 1) -> pd.DataFrame:
    """Customers, mean spend and share of sales by recency and frequency score.

    Parameters
    ----------
    scored : DataFrame with `r_score`, `f_score`, `spend`
    small_group : int
        Groups of fewer customers have their money hidden (null).

    Returns
    -------
    DataFrame
        `r_score`, `f_score`, `customers`, `mean_spend`, `sales_share`.
    """
    grid = (
        scored.groupby(["r_score", "f_score"], as_index=False)
        .agg(customers=("spend", "size"), mean_spend=("spend", "mean"), sales=("spend", "sum"))
        .sort_values(["r_score", "f_score"], ascending=False, ignore_index=True)
    )
    total = scored["spend"].sum()
    grid["sales_share"] = grid.pop("sales") / total if total else np.nan
    grid.loc[grid["customers"] < small_group, ["mean_spend", "sales_share"]] = np.nan
    return grid


def _value_counts(summary: ibis.Table | pd.DataFrame, column: str) -> tuple[ArrayLike, ArrayLike]:
    if isinstance(summary, pd.DataFrame):
        return np.unique(summary[column].to_numpy(dtype=float), return_counts=True)
    counts = summary.group_by(column).aggregate(customers=summary.count()).to_pyarrow()
    return counts[column].to_numpy().astype(float), counts["customers"].to_numpy()


def _score_on_engine(measure: ibis.Value, name: str, edges: Edges, bins: int) -> ibis.Value:
    # starts from a comparison that is false for everyone: a bare literal 0 would be a narrower integer on DuckDB
    group = (measure > ibis.literal(edges.highest, type="float64")).cast("int64")
    for cut in edges.cuts[np.isfinite(edges.cuts)]:
        group = group + (measure > ibis.literal(float(cut), type="float64")).cast("int64")
    return bins - group if name in BEST_IS_LOW else group + 1


def _counts_within(
    scored: ibis.Table | pd.DataFrame, above: list[str], column: str
) -> Iterator[tuple[tuple[int, ...], pd.DataFrame]]:
    """Customers with each distinct value of a measure, for each combination of the scores above it."""
    if isinstance(scored, pd.DataFrame):
        counts = scored.groupby([*above, column], dropna=False).size().rename("customers").reset_index()
    else:
        counts = scored.group_by([*above, column]).aggregate(customers=scored.count()).to_pyarrow().to_pandas()
    if not above or counts.empty:
        yield (), counts
        return
    for key, group in counts.groupby(above):
        yield tuple(int(score) for score in key), group


def _with_nested_score(
    scored: ibis.Table | pd.DataFrame, name: str, above: list[str], edges: dict[tuple[int, ...], Edges], bins: int
) -> ibis.Table | pd.DataFrame:
    column = MEASURES[name]
    if isinstance(scored, pd.DataFrame):
        scores = np.zeros(len(scored), dtype=np.int64)
        for key, edge in edges.items():
            rows = _rows_at(scored, above, key)
            group = edge.group(scored[column].to_numpy(dtype=float)[rows])
            scores[rows] = bins - group if name in BEST_IS_LOW else group + 1
        return scored.assign(**{name: scores})
    branches = [
        (_rows_at(scored, above, key), _score_on_engine(scored[column], name, edge, bins))
        for key, edge in edges.items()
    ]
    score = branches[0][1] if not above else ibis.cases(*branches)
    return scored.mutate(**{name: score})


def _rows_at(
    scored: ibis.Table | pd.DataFrame, above: list[str], key: tuple[int, ...]
) -> ibis.ir.BooleanValue | NDArray[np.bool_]:
    if isinstance(scored, pd.DataFrame):
        rows = np.ones(len(scored), dtype=bool)
        for name, value in zip(above, key, strict=True):
            rows &= scored[name].to_numpy() == value
        return rows
    condition = ibis.literal(True)
    for name, value in zip(above, key, strict=True):
        condition = condition & (scored[name] == value)
    return condition
