"""Growth potential: what a customer would bring at the level of their best comparable peers.

A potential is not a forecast: nobody expects the customer to get there by themselves, and it is never added to the
expected value. It says where there is room.

Who brought most so far did so partly by luck, and falls back: levels of the past overstate the distance between a customer
and the best of their peers. So levels are what each is expected to bring while active, as a purchase model and a spend
model say it, which draw everybody towards the others by as much as their past is luck (the posterior mean of an empirical
Bayes model). Of customers who do not differ, only in luck, none has room.

Source: Efron, B. & Morris, C. (1977). Stein's paradox in statistics. Scientific American 236(5), 119–127 (luck falls back).
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike
from scipy import stats

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import Z95
from analysis.valuation.lifetime import mean_discount
from analysis.valuation.purchases import Array
from analysis.valuation.summary import DAYS_PER_WEEK, to_frame, within

TOO_NEW = "too new to compare"
FEW_PEERS = "too few comparable customers"
NO_MARGIN = "margin not known"


@dataclass(frozen=True)
class GrowthValue:
    """Growth potential of every customer.

    Attributes
    ----------
    frame : DataFrame
        Sorted by `customer_id`: `growth_value` with `low` and `high` (money over the horizon; null where the margin is not
        known), `own_level` and `peer_level` (margin a week: expected while active, or so far where no forecast was given),
        `peers` (customers compared with, oneself included), `compared_by` (what peers have in common), `reason` (why the
        potential is 0 or null; empty where it was measured).
    total : Estimate
        Sum over the base; its 95 % interval holds how well the peers' levels are known from so many of them, and `doubt`.
    quantile : float
    measured : int
        Customers with enough peers.
    """

    frame: pd.DataFrame
    total: Estimate
    quantile: float
    measured: int


def categories_held(
    order_lines: ibis.Table, products: pd.DataFrame | None, observed_to: datetime.date
) -> pd.Series | None:
    """How many categories each customer has bought from, by `customer_id`; None where products have no categories.

    Parameters
    ----------
    order_lines : ibis.Table
        With `product_id`.
    products : DataFrame or None
        The canonical table; after its name, categories from wide to narrow. The widest that tells products apart counts.
    observed_to : date
    """
    if products is None or "product_id" not in order_lines.columns:
        return None
    levels = (name for name in products.columns if name not in ("product_id", "name"))
    level = next((name for name in levels if products[name].nunique() > 1), None)
    if level is None:
        return None
    named = products[["product_id", level]].set_axis(["product_key", "category"], axis=1).astype("string")
    sold = within(order_lines, observed_to).filter(lambda t: ~t.is_return)
    joined = sold.join(
        ibis.memtable(pa.Table.from_pandas(named, preserve_index=False)), [("product_id", "product_key")]
    )
    counted = joined.group_by(joined.customer_id.cast("string").name("customer_id")).aggregate(
        categories=joined.category.nunique()
    )
    return to_frame(counted).set_index("customer_id")["categories"]


def growth_value(
    summary: pd.DataFrame,
    horizon_weeks: float,
    *,
    expected_value: ArrayLike | None = None,
    doubt: float = 0.0,
    probability_alive: ArrayLike | None = None,
    categories: ArrayLike | None = None,
    share_of_wallet: ArrayLike | None = None,
    attributes: pd.DataFrame | None = None,
    exposure_days: ArrayLike | None = None,
    quantile: float = 0.75,
    bands: int = 4,
    min_peers: int = 30,
    min_weeks: float = 13.0,
    discount: float = 0.0,
) -> GrowthValue:
    """Growth potential: max(0, peers' level − own level) × horizon × P(alive).

    Peers have been customers about as long and buy about as often (bands of equal size), and share the number of
    categories held (bands) and the given attributes. Where fewer than `min_peers` share all of that, what they share is
    given up, from the last attribute up, then categories, then tenure; how often they buy is never given up. The level
    is the expected margin a week while active; the peers' level is its `quantile`, with the distribution-free interval of
    order statistics. A known share of wallet caps the potential: nobody can bring more than they now spend elsewhere, at the
    customer's own margin.

    Parameters
    ----------
    summary : DataFrame
        The canonical `customer_summary`: `customer_id`, `frequency`, `T` (days), `margin`.
    horizon_weeks : float
    expected_value : array-like of shape (customers,), optional
        Margin expected over the horizon, discounted: `customer_value`'s `residual_value`, in the order of `summary`. Levels
        are this, a week and for one who is active. Without it they are the margin a week so far, and luck counts as room.
    doubt : float
        Relative standard error that all forecasts share, such as `CustomerValue.sales_doubt`; it widens the total's interval.
    probability_alive : array-like of shape (customers,), optional
        In the order of `summary`; 1 where it is not given.
    categories : array-like of shape (customers,), optional
        Categories held: those the customer has bought from.
    share_of_wallet : array-like of shape (customers,), optional
        From 0 to 1; NaN where it is not known.
    attributes : DataFrame, optional
        One row a customer in the order of `summary`; missing values are a group of their own.
    exposure_days : array-like of shape (customers,), optional
        Days over which the margin was earned; `T` + 1 where it is not given. A left-truncated panel gives the length of the panel.
    quantile : float
        The peers' level, from 0.75 (the usual) to 0.90 (bold).
    bands : int
        Of tenure, frequency and categories.
    min_peers : int
    min_weeks : float
        Customers observed for less have no potential yet.
    discount : float
        Continuous rate a week; 0 leaves the potential undiscounted.

    Raises
    ------
    ValueError
        No customer, no margin or expected value at all, `quantile` outside [0.5, 1), a negative `doubt`, or fewer than two
        peers asked for.
    """
    if summary.empty:
        raise ValueError("growth value: no customer; give one row a customer")
    if not 0.5 <= quantile < 1.0:
        raise ValueError(f"growth value: the quantile must lie between 0.5 and 1, not {quantile:g}")
    if min_peers < 2 or bands < 1:
        raise ValueError("growth value: needs at least two peers and one band")
    if doubt < 0:
        raise ValueError(f"growth value: doubt is a standard error and not negative, as {doubt:g} is")
    days = summary["T"].to_numpy(float) + 1.0 if exposure_days is None else np.asarray(exposure_days, dtype=float)
    weeks = days / DAYS_PER_WEEK
    alive = np.ones(len(summary)) if probability_alive is None else np.asarray(probability_alive, dtype=float)
    if not np.isfinite(alive).all():
        raise ValueError("growth value: a probability of being alive is missing; leave the argument out where unknown")
    per_level = horizon_weeks * float(mean_discount(discount, horizon_weeks))
    own = (
        _past_levels(summary, weeks) if expected_value is None else _expected_levels(expected_value, alive * per_level)
    )
    old_enough, known = weeks >= min_weeks, np.isfinite(own)
    usable = old_enough & known
    keys = _keys(summary, weeks, usable, categories, attributes, bands)
    peers = _peer_levels(own, usable, keys, quantile, min_peers)
    worth = alive * per_level
    cap = _room_in_wallet(own, share_of_wallet)
    measured = usable & (peers["count"] > 0)

    def potential(level: Array) -> Array:
        gap = np.where(measured, np.maximum(level - own, 0.0), 0.0)
        return np.where(known, np.minimum(gap, cap) * worth, np.nan)

    reason = np.select([~known, ~old_enough, ~measured], [NO_MARGIN, TOO_NEW, FEW_PEERS], default="")
    growth = potential(peers["level"])
    frame = pd.DataFrame(
        {
            "customer_id": summary["customer_id"].to_numpy(),
            "growth_value": growth,
            "low": np.where(measured, potential(peers["low"]), growth),
            "high": np.where(measured, potential(peers["high"]), growth),
            "own_level": np.where(known, own, np.nan),
            "peer_level": np.where(measured, peers["level"], np.nan),
            "peers": np.where(measured, peers["count"], 0).astype(int),
            "compared_by": np.where(measured, peers["by"], ""),
            "reason": reason,
        }
    )
    total = _total(growth, own, cap, worth, peers, measured, doubt)
    return GrowthValue(frame.sort_values("customer_id", ignore_index=True), total, quantile, int(measured.sum()))


def _past_levels(summary: pd.DataFrame, weeks: Array) -> Array:
    """Margin a week so far; NaN where the margin is not known."""
    margin = summary["margin"].to_numpy(float) if "margin" in summary else np.full(len(summary), np.nan)
    if not np.isfinite(margin).any():
        raise ValueError("growth value: no margin is known; state costs of lines or a margin in the study")
    return margin / np.maximum(weeks, 1.0 / DAYS_PER_WEEK)


def _expected_levels(expected_value: ArrayLike, active_weeks: Array) -> Array:
    """Margin a week expected of one who is active: what is expected in all, over the weeks (discounted) they are active in.

    Whoever is surely gone has neither value nor weeks, and a level of nothing.
    """
    expected = np.asarray(expected_value, dtype=float)
    if not np.isfinite(expected).any():
        raise ValueError(
            "growth value: no value is expected of anybody; state a margin, or see why nothing is forecast"
        )
    level = np.divide(expected, active_weeks, out=np.zeros_like(expected), where=active_weeks > 0)
    return np.where(np.isfinite(expected), level, np.nan)


def _keys(
    summary: pd.DataFrame,
    weeks: Array,
    usable: Array,
    categories: ArrayLike | None,
    attributes: pd.DataFrame | None,
    bands: int,
) -> pd.DataFrame:
    """What peers share, the most important first."""
    keys = pd.DataFrame(
        {
            "frequency": _band((summary["frequency"].to_numpy(float) + 1.0) / np.maximum(weeks, 1e-9), usable, bands),
            "tenure": _band(summary["T"].to_numpy(float), usable, bands),
        }
    )
    if categories is not None:
        held = np.asarray(categories, dtype=float)
        keys["categories"] = _band(np.where(np.isfinite(held), held, -1.0), usable, bands)
    if attributes is not None:
        for name in attributes.columns:
            keys[str(name)] = pd.factorize(attributes[name], use_na_sentinel=False)[0]
    return keys


def _band(values: Array, usable: Array, bands: int) -> Array:
    """Bands with about equally many usable customers; equal values share a band."""
    if not usable.any():
        return np.zeros(len(values), dtype=int)
    edges = np.unique(np.quantile(values[usable], np.arange(1, bands) / bands, method="inverted_cdf"))
    return np.searchsorted(edges, values, side="left")


def _peer_levels(own: Array, usable: Array, keys: pd.DataFrame, quantile: float, min_peers: int) -> dict[str, Array]:
    n = len(own)
    level, low, high = np.zeros(n), np.zeros(n), np.zeros(n)
    count, cell, by = np.zeros(n, dtype=int), np.full(n, -1), np.full(n, "", dtype=object)
    rows = np.flatnonzero(usable)
    shared, cells = list(keys.columns), 0
    while shared and len(rows):
        group = keys.iloc[rows].groupby(shared, sort=True).ngroup().to_numpy()
        order = np.argsort(group, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            members = rows[part]
            open_ = members[count[members] == 0]
            if len(members) < min_peers or not len(open_):
                continue
            level[open_], low[open_], high[open_] = _quantile_interval(own[members], quantile)
            count[open_], cell[open_], by[open_] = len(members), cells, ", ".join(shared)
            cells += 1
        shared = shared[:-1]
    return {"level": level, "low": low, "high": high, "count": count, "cell": cell, "by": by}


def _quantile_interval(values: Array, quantile: float) -> tuple[float, float, float]:
    """A quantile with its 95 % interval from order statistics, whose ranks are binomial."""
    ordered, n = np.sort(values), len(values)
    first, last = stats.binom.ppf([0.025, 0.975], n, quantile)
    at = float(np.quantile(ordered, quantile))
    low = float(ordered[int(np.clip(first - 1, 0, n - 1))])
    high = float(ordered[int(np.clip(last, 0, n - 1))])
    return at, min(low, at), max(high, at)


def _room_in_wallet(own: Array, share_of_wallet: ArrayLike | None) -> Array:
    """Margin a week that the customer now gives to others: own × (1 / share − 1); endless where it is not known."""
    cap = np.full(len(own), np.inf)
    if share_of_wallet is None:
        return cap
    share = np.asarray(share_of_wallet, dtype=float)
    known = np.isfinite(share)
    if ((share[known] < 0) | (share[known] > 1)).any():
        raise ValueError("growth value: a share of wallet lies outside 0 to 1")
    some = known & (share > 0)
    cap[some] = np.maximum(own[some], 0.0) * (1.0 / share[some] - 1.0)
    return cap


def _total(
    growth: Array, own: Array, cap: Array, worth: Array, peers: dict[str, Array], measured: Array, doubt: float
) -> Estimate:
    value = float(np.nansum(growth))
    if not measured.any():
        return Estimate(0.0, reason="no customer has enough comparable ones")
    # a peer level moves the total by the worth of those below it who have room; levels of different cells vary apart
    gap = peers["level"] - own
    moves = np.where(measured & (gap > 0) & (gap < cap), worth, 0.0)
    cells, first = np.unique(peers["cell"][measured], return_index=True)
    slope = np.bincount(peers["cell"][measured], weights=moves[measured], minlength=int(cells[-1]) + 1)[cells]
    error = ((peers["high"] - peers["low"]) / (2 * Z95))[measured][first]
    # a forecast that is off by a share for everybody moves levels, own and peers', and so the room, by that share
    half = Z95 * math.hypot(math.sqrt(float(np.square(slope * error).sum())), doubt * value)
    if half == 0.0:
        return Estimate(value, reason="peers do not differ, so there is nothing to vary")
    return Estimate(value, max(value - half, 0.0), value + half)
