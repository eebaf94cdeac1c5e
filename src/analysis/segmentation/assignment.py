"""Who gets one of few places: customers × levels with capacities, solved exactly at any number of customers.

The problem is a transportation problem (Hitchcock 1941): every customer takes one level, a level takes at most its
capacity, the sum of the values is greatest. Prices a place, raised until no level is asked for by more than it can take
(the ascending auction of Demange, Gale & Sotomayor 1986), settle nearly everybody; the linear programme over the few
whose two best levels are about equally good settles the rest. That the whole is optimal is then checked for every
customer: no exchange along a cycle of levels, and no move into a free place, adds anything (Ahuja, Magnanti & Orlin
1993, *Network Flows*, theorem 9.1). The same exchanges tell what one more place is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

CORE = 3_000  # customers whom the linear programme settles at first
_SAMPLE = 20_000
_ROUNDS = 60
_TOLERANCE = 1e-8  # relative to the largest value


@dataclass(frozen=True)
class Assignment:
    """The best assignment of customers to levels.

    Attributes
    ----------
    choice : array of shape (n,), column of the level of each customer.
    total : sum of the values.
    used : array of shape (k,), customers of each level.
    shadow_price : array of shape (k,), by how much one more place in a level would raise the total; 0 where places are free.
    """

    choice: Whole
    total: float
    used: Whole
    shadow_price: Floats


def assign(value: ArrayLike, capacity: ArrayLike, core: int = CORE) -> Assignment:
    """Give every customer one level so that the sum of the values is greatest.

    A customer to whom an earlier level that has room for all is worth as much gets that one. Among customers with the
    same values the earlier rows get the scarce places.

    Parameters
    ----------
    value : array of shape (n, k), value of each customer in each level.
    capacity : array of shape (k,), customers that a level takes at most; ``inf`` for all.
    core : how many customers the first linear programme holds; changes the time taken, not the total.

    Returns
    -------
    Assignment

    Raises
    ------
    ValueError
        A value is missing, shapes disagree, a capacity is negative, or there is not room for everybody.
    """
    value, room = _checked(value, capacity)
    n, k = value.shape
    if n == 0:
        return Assignment(np.zeros(0, dtype=np.int64), 0.0, np.zeros(k, dtype=np.int64), np.zeros(k))
    scale = float(np.abs(value).max()) or 1.0
    prices = _prices(value, room)
    while True:
        choice = _settled(value, room, prices, core, scale)
        if choice is not None:
            used = np.bincount(choice, minlength=k)
            gain = _exchanges(value, choice, k)
            if core >= n or _optimal(gain, used, room, _TOLERANCE * scale):
                break
        core = min(4 * core, n)
    price = np.where(used < room, 0.0, np.maximum(np.max(gain, axis=0, initial=0.0, where=np.isfinite(gain)), 0.0))
    total = float(value[np.arange(n), choice].sum())
    return Assignment(choice, total, used, price)


def _checked(value: ArrayLike, capacity: ArrayLike) -> tuple[Floats, Whole]:
    value, capacity = np.asarray(value, dtype=float), np.asarray(capacity, dtype=float)
    if value.ndim != 2 or capacity.shape != value.shape[1:] or capacity.size == 0:
        raise ValueError("assign: value needs one row a customer and one column a level, capacity one number a level")
    if not np.isfinite(value).all():
        raise ValueError("assign: a value is missing or infinite; leave out customers whose value is unknown")
    if np.isnan(capacity).any() or (capacity < 0).any():
        raise ValueError("assign: a capacity is missing or negative")
    room = np.minimum(np.floor(capacity), len(value)).astype(np.int64)
    if room.sum() < len(value):
        raise ValueError(
            f"assign: there is room for {room.sum()} of {len(value)} customers; leave one level open to all"
        )
    return value, room


def _prices(value: Floats, room: Whole) -> Floats:
    """Prices a place at which hardly any level is asked for by more customers than it takes."""
    prices = np.zeros(value.shape[1])
    if len(value) > 4 * _SAMPLE:
        step = len(value) // _SAMPLE
        sample = value[::step]
        share = len(sample) / len(value)
        prices = _raised(sample, np.minimum(np.round(room * share).astype(np.int64), len(sample)), prices)
    return _raised(value, room, prices)


def _raised(value: Floats, room: Whole, prices: Floats) -> Floats:
    """Each level's price in turn becomes the smallest at which no more customers want it than it takes, others given."""
    n, k = value.shape
    prices = prices.copy()
    small = 1e-12 * float(np.abs(value).max())
    for _ in range(_ROUNDS):
        before = prices.copy()
        for level in np.flatnonzero(room < n):
            others = np.full(n, -np.inf)
            for m in range(k):
                if m != level:
                    np.maximum(others, value[:, m] - prices[m], out=others)
            edge = value[:, level] - others
            marginal = np.partition(edge, n - room[level] - 1)[n - room[level] - 1]
            prices[level] = max(float(marginal), 0.0)
        if np.abs(prices - before).max() <= small:
            break
    return prices


def _settled(value: Floats, room: Whole, prices: Floats, core: int, scale: float) -> Whole | None:
    """Everybody's level: the best at these prices, but by a linear programme for those who hardly prefer one.

    None where those who prefer one clearly do not fit.
    """
    n, k = value.shape
    surplus = value - prices
    choice = np.argmax(surplus, axis=1)
    if core >= n:
        open_ = np.ones(n, dtype=bool)
    else:
        two = np.partition(surplus, k - 2, axis=1)[:, k - 2 :] if k > 1 else np.repeat(surplus, 2, axis=1)
        regret = two[:, 1] - two[:, 0]
        # All who are as undecided as the last of the core belong to it: equal customers are settled together.
        open_ = regret <= np.partition(regret, core - 1)[core - 1] + 1e-12 * scale
    left = room - np.bincount(choice[~open_], minlength=k)
    if (left < 0).any():
        return None
    rows, which, counts = np.unique(value[open_], axis=0, return_inverse=True, return_counts=True)
    taken = _transport(rows / scale, counts, left)
    if taken is None:
        return None
    choice[open_] = _dealt(taken, which.ravel())
    for level in np.flatnonzero(room == n)[::-1]:
        choice[(choice > level) & (value[:, level] >= value[np.arange(n), choice])] = level
    return choice


def _transport(value: Floats, supply: Whole, room: Whole) -> Whole | None:
    """The transportation problem over distinct rows: how many customers of each go to each level, shape (rows, k)."""
    rows, k = value.shape
    columns = np.arange(rows * k)
    one = np.ones(rows * k)
    leave = coo_array((one, (columns // k, columns)), shape=(rows, rows * k)).tocsr()
    enter = coo_array((one, (columns % k, columns)), shape=(k, rows * k)).tocsr()
    found = linprog(
        -value.ravel(), A_ub=enter, b_ub=room, A_eq=leave, b_eq=supply, bounds=(0, None), method="highs-ds",
        options={"dual_feasibility_tolerance": 1e-10, "primal_feasibility_tolerance": 1e-9},
    )  # fmt: skip
    if found.status != 0:
        return None
    # A vertex of a transportation problem is whole.
    taken = np.rint(found.x).astype(np.int64).reshape(rows, k)
    if (taken.sum(axis=1) != supply).any() or (taken.sum(axis=0) > room).any():
        return None
    return taken


def _dealt(taken: Whole, which: Whole) -> Whole:
    """Levels of single customers from how many of each distinct row go where; earlier customers get the later levels."""
    order = np.argsort(which, kind="stable")
    choice = np.empty(len(which), dtype=np.int64)
    k = taken.shape[1]
    choice[order] = np.repeat(np.tile(np.arange(k)[::-1], len(taken)), taken[:, ::-1].ravel())
    return choice


def _exchanges(value: Floats, choice: Whole, k: int) -> Floats:
    """The most that can be gained by a chain of moves from level to level, shape (k, k): from row to column."""
    gain = np.full((k, k), -np.inf)
    for m in range(k):
        members = value[choice == m]
        if len(members):
            gain[m] = (members - members[:, [m]]).max(axis=0)
        gain[m, m] = 0.0
    for via in range(k):
        gain = np.maximum(gain, gain[:, [via]] + gain[[via], :])
    return gain


def _optimal(gain: Floats, used: Whole, room: Whole, tolerance: float) -> bool:
    free = used < room
    return bool((np.diag(gain) <= tolerance).all() and (gain[:, free] <= tolerance).all())
