"""How far two partitions of the same customers agree, and which segments survive as their number grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def jaccard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How well each segment of one partition is found again in another (Hennig 2007, section 3).

    Parameters
    ----------
    first, second : arrays of shape (n,), segment numbers from 0 of the same customers.

    Returns
    -------
    Array of shape (segments of ``first``,): the largest |A ∩ B| / |A ∪ B| over segments B of ``second``, 0 to
    1.
    """
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    union = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True) - table
    return np.max(np.divide(table, union, out=np.zeros_like(table), where=union > 0), axis=1)


@dataclass(frozen=True)
class Agreement:
    """Agreement of two partitions: adjusted Rand index, its bootstrap interval, and the customers compared.

    ``value`` is None, with a ``reason`` (``few_customers`` or ``one_group``), where there is nothing to compare;
    ``low`` and ``high`` are None with ``reason`` ``identical`` where every resample agrees alike.
    """

    value: float | None
    low: float | None
    high: float | None
    customers: int
    reason: str | None


def rand_agreement(
    first: ArrayLike, second: ArrayLike, samples: int = 1000, confidence: float = 0.95, seed: int = 1
) -> Agreement:
    """Adjusted Rand index of two partitions with a percentile bootstrap interval over customers.

    1 is the same partition, 0 no better than chance (Hubert & Arabie 1985, equation 5). The partitions are taken as they
    are: the interval says how the index would move with other customers, not with other segments.

    Parameters
    ----------
    first, second : shape (n,), any labels; customers without one in either (missing) are left out.
    samples : of the bootstrap. confidence : of the interval. seed : of the samples.

    Raises
    ------
    ValueError
        The two differ in length.
    """
    first, second = (pd.Series(np.asarray(labels, dtype=object)) for labels in (first, second))
    if len(first) != len(second):
        raise ValueError(f"agreement: the partitions have {len(first)} and {len(second)} customers; give the same ones")
    known = (first.notna() & second.notna()).to_numpy()
    rows, columns = pd.factorize(first[known])[0], pd.factorize(second[known])[0]
    n = int(known.sum())
    if n < 2:
        return Agreement(None, None, None, n, "few_customers")
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    if min(table.shape) < 2:
        return Agreement(None, None, None, n, "one_group")
    value = float(adjusted_rand(table[None])[0])
    # Customers matter only by their pair of labels, so a resample of customers is a draw of the counts.
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, size=samples)
    low, high = np.nanquantile(
        adjusted_rand(drawn.reshape(-1, *table.shape)), [(1 - confidence) / 2, (1 + confidence) / 2]
    )
    if high - low < 1e-12:
        return Agreement(value, None, None, n, "identical")
    return Agreement(value, float(low), float(high), n, None)


def adjusted_rand(tables: np.ndarray) -> np.ndarray:
    """Adjusted Rand index of contingency tables of shape (m, rows, columns): shape (m,), NaN for a single group each."""
    pairs = (tables * (tables - 1.0) / 2).sum(axis=(1, 2))
    row, column = (tables.sum(axis=axis) for axis in (2, 1))
    in_rows, in_columns = ((sums * (sums - 1.0) / 2).sum(axis=1) for sums in (row, column))
    n = tables.sum(axis=(1, 2))
    expected = in_rows * in_columns / (n * (n - 1.0) / 2)
    room = (in_rows + in_columns) / 2 - expected
    return np.divide(pairs - expected, room, out=np.full(len(tables), np.nan), where=room > 0)


@dataclass(frozen=True)
class Across:
    """Segments through solutions with more and more of them.

    Attributes
    ----------
    nodes : one row a segment of a solution, in the order in which they are drawn: segments (of the solution), segment
        (its number there), customers, share, stability (SLS_A, 0 to 1; NaN in the first solution), place (0 to 1, its
        centre when a solution's segments stand in a row as wide as they are large).
    flows : one row a pair: segments (of the larger solution), parent, segment, customers, share (of the segment).
    """

    nodes: pd.DataFrame
    flows: pd.DataFrame


def across_solutions(partitions: Mapping[int, np.ndarray]) -> Across:
    """Segment-level stability across solutions (Dolnicar & Leisch 2017).

    SLS_A of a segment is 1 − H / log(k), where H is the entropy of where its customers came from among the k segments of
    the next smaller solution: 1 when all come from one segment, 0 when evenly from all.

    Parameters
    ----------
    partitions : number of segments -> labels of shape (n,), whole numbers from 0, of the same customers.

    Raises
    ------
    ValueError
        No partition.
    """
    numbers = sorted(partitions)
    if not numbers:
        raise ValueError("stability across solutions: give at least one partition")
    nodes, flows, places = [], [], {}
    for before, k in zip([None, *numbers], numbers, strict=False):
        labels = np.asarray(partitions[k])
        sizes = np.bincount(labels)
        present = np.flatnonzero(sizes)
        stability = {int(s): float("nan") for s in present}
        lean = {int(s): float(s) for s in present}
        if before is not None:
            parents = np.asarray(partitions[before])
            table = np.zeros((len(sizes), parents.max() + 1))
            np.add.at(table, (labels, parents), 1)
            for s in map(int, present):
                came = table[s] / sizes[s]
                stability[s] = _from_one(came, int((np.bincount(parents) > 0).sum()))
                lean[s] = float(sum(share * places[p] for p, share in enumerate(came) if share > 0))
                flows += [(k, p, s, int(table[s, p]), float(came[p])) for p in np.flatnonzero(table[s])]
        order = sorted(map(int, present), key=lambda s: (lean[s], s))
        start, places = 0.0, {}
        for s in order:
            share = float(sizes[s] / len(labels))
            places[s] = start + share / 2
            start += share
            nodes.append((k, s, int(sizes[s]), share, stability[s], places[s]))
    return Across(
        pd.DataFrame(nodes, columns=["segments", "segment", "customers", "share", "stability", "place"]),
        pd.DataFrame(flows, columns=["segments", "parent", "segment", "customers", "share"]),
    )


def _from_one(came: np.ndarray, parents: int) -> float:
    if parents < 2:
        return 1.0
    positive = came[came > 0]
    return float(np.clip(1.0 + (positive * np.log(positive)).sum() / np.log(parents), 0.0, 1.0))


def survivors(partitions: Mapping[int, np.ndarray], chosen: int, least: float = 0.75) -> pd.DataFrame:
    """Which segments of one solution are there in the others too.

    Parameters
    ----------
    partitions : as in :func:`across_solutions`. chosen : the number of segments whose segments are followed.
    least : Jaccard index from which a segment counts as there.

    Returns
    -------
    One row a segment of the chosen solution: segment, solutions (others tried), survives (in how many of them it is there),
    weakest (the least Jaccard index, 0 to 1; NaN without another solution).
    """
    labels = np.unique(partitions[chosen], return_inverse=True)[1]
    others = [np.asarray(partitions[k]) for k in sorted(partitions) if k != chosen]
    found = np.array([jaccard(labels, other) for other in others]).reshape(len(others), labels.max() + 1)
    return pd.DataFrame(
        {
            "segment": np.arange(labels.max() + 1),
            "solutions": len(others),
            "survives": (found >= least).sum(axis=0),
            "weakest": found.min(axis=0) if len(others) else np.nan,
        }
    )
