"""Migration: who bought more or less often than last period, what money moved with them, and how much of it is chance.

Two periods of the same length end at the last observed day. In each, customers are heavy, medium or light buyers by how many
purchase days they had, or bought nothing; the limits come from the earlier period and hold for both. By their groups in the
two periods everybody makes exactly one movement:

* new: bought this period and never before it; won back: bought this period, not in the last, but before it;
* up, same, down: bought in both, and are now in a heavier, the same, a lighter group (down: *lapsing*);
* lapsed: bought last period and not in this one;
* absent: bought in neither, and may still have money in them, such as a late return.

Money of the last period + the changes of all movements = money of this period, exactly.

Even where nobody changes, the heavy buyers of one period buy less in the next and the non-buyers more, because a count is partly
luck (regression to the mean). What to expect is NBD's: with counts of the last period x, the next is negative binomial with
shape r + x and rate α + 1, the period being the unit of time. Only what goes beyond that is a real change.

Sources: Ehrenberg, A. S. C. (1959). The pattern of consumer purchases. Applied Statistics 8(1), 26–41. Goodhardt, G. J. &
Ehrenberg, A. S. C. (1967). Conditional trend analysis: a breakdown by initial purchasing level. Journal of
Marketing Research 4(2), 155–161.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
from scipy import special

from analysis.segmentation.privacy import merge_small
from analysis.valuation.audit import PERIOD_DAYS
from analysis.valuation.intervals import share_interval
from analysis.valuation.nbd import NBD
from analysis.valuation.purchases import ModelNotFitted, PurchaseResults
from analysis.valuation.summary import MARGIN, MONEY, line_margin, purchase_days, within

BUYING = ("light", "medium", "heavy")
GROUPS = ("none", *BUYING)
BEFORE = ("new", *GROUPS)
MOVEMENTS = ("new", "won_back", "up", "same", "down", "lapsed", "absent")
_LIGHT_SHARE, _MEDIUM_SHARE = 0.5, 0.8
_SETS = 100  # parameter sets behind an interval; several bases are drawn from each
_LEAST = 30  # customers below whom NBD is not held against anything


@dataclass(frozen=True)
class Chance:
    """The moves of those who were customers before the last period, beside those of a base that does not change.

    Attributes
    ----------
    table : one row a move: before, after, customers (observed), total (of ``before``), share, share_low, share_high (Wilson),
        expected, low, high (customers under NBD, with a prediction interval), and beyond (``more`` or ``fewer`` where the
        observed count is outside it, else empty).
    customers : in the table.
    fitted : NBD on the counts of the last period.
    bought_before, bought_now, bought_expected : purchase days of all of them in the last period and in this one, and the
        expected ones (the same as before, but for rounding of the fit).
    """

    table: pd.DataFrame
    customers: int
    fitted: PurchaseResults
    bought_before: int
    bought_now: int
    bought_expected: float

    @property
    def beyond(self) -> int:
        """Cells outside their interval."""
        return int((self.table["beyond"] != "").sum())

    @property
    def beyond_by_chance(self) -> float:
        """Cells that would be outside if nobody had changed."""
        return 0.05 * len(self.table)


@dataclass(frozen=True)
class Migration:
    """How last period's customers became this period's.

    Attributes
    ----------
    period : {"52_weeks", "half_year", "quarter", "four_weeks"}
    previous_from, current_from, observed_to : first days of both periods and the last day.
    measure : {"margin", "spend"}, the money that moved.
    light_to, medium_to : most purchase days of a light and of a medium buyer in a period.
    flows : one row a pair of groups that occurs: before (one of BEFORE), after (one of GROUPS), movement, customers,
        previous, current, change (money, exact decimals).
    chance : against a base that does not change; None where NBD cannot say.
    chance_reason : why: ``few`` (customers) or ``no_model``; else empty.
    """

    period: str
    previous_from: datetime.date
    current_from: datetime.date
    observed_to: datetime.date
    measure: str
    light_to: int
    medium_to: int
    flows: pd.DataFrame
    chance: Chance | None
    chance_reason: str

    @property
    def previous(self) -> Decimal:
        """Money of the last period."""
        return sum(self.flows["previous"], Decimal(0))

    @property
    def current(self) -> Decimal:
        """Money of this period."""
        return sum(self.flows["current"], Decimal(0))

    @property
    def movements(self) -> pd.DataFrame:
        """One row a movement, in the order of MOVEMENTS: movement, customers, previous, current, change (exact decimals)."""
        rows = []
        for name in MOVEMENTS:
            part = self.flows[self.flows["movement"] == name]
            money = {c: sum(part[c], Decimal(0)) for c in ("previous", "current", "change")}
            rows.append({"movement": name, "customers": int(part["customers"].sum())} | money)
        return pd.DataFrame(rows)

    def shown(self, small_group: int) -> pd.DataFrame:
        """``movements`` for people: money as floats, movements that nobody made left out and small ones joined."""
        table = self.movements
        table = table[table["customers"] > 0].astype(dict.fromkeys(["previous", "current", "change"], float))
        return merge_small(table.reset_index(drop=True), "movement", small_group)

    def shown_flows(self, small_group: int) -> pd.DataFrame:
        """Flows for people, without the absent who stayed so: before, after, movement, customers.

        Flows of fewer than ``small_group`` are left out, and where a movement would lack a single one, its next smallest too,
        because the total of the movement is shown elsewhere.
        """
        flows = self.flows[self.flows["movement"] != "absent"]
        hidden = flows["customers"] < small_group
        for _, part in flows.groupby("movement"):
            shown = part[~hidden[part.index]]
            if hidden[part.index].sum() == 1 and len(shown):
                hidden[shown["customers"].idxmin()] = True
        return flows.loc[~hidden, ["before", "after", "movement", "customers"]].reset_index(drop=True)

    def shown_chance(self, small_group: int) -> pd.DataFrame:
        """``chance.table`` with small cells' customers, share and limits NaN, and one more in a row whose total would tell a
        single one; rows of fewer than ``small_group`` customers left out.
        """
        table = self.chance.table
        table = table[table["total"] >= small_group].reset_index(drop=True)
        hidden = (table["customers"] > 0) & (table["customers"] < small_group)
        for _, part in table.groupby("before"):
            shown = part[~hidden[part.index] & (part["customers"] > 0)]
            if hidden[part.index].sum() == 1 and len(shown):
                hidden[shown["customers"].idxmin()] = True
        seen = ["customers", "share", "share_low", "share_high"]
        table = table.astype(dict.fromkeys(seen, float))
        table.loc[hidden, seen] = np.nan
        table.loc[hidden, "beyond"] = ""
        return table


def movement(before: str, after: str) -> str:
    """The movement between two groups; see the head of this module."""
    if after == "none":
        return "lapsed" if before in BUYING else "absent"
    if before not in BUYING:
        return "new" if before == "new" else "won_back"
    step = BUYING.index(after) - BUYING.index(before)
    return "up" if step > 0 else "down" if step < 0 else "same"


def migration_period(observed_from: datetime.date, observed_to: datetime.date) -> str:
    """The longest period that the data hold three times: two to compare and one to know who was a customer before.

    Raises
    ------
    ValueError
        Where not even four weeks fit three times.
    """
    days = (observed_to - observed_from).days + 1
    for period, length in PERIOD_DAYS.items():
        if days >= 3 * length:
            return period
    raise ValueError(
        f"migration: three periods of four weeks need 84 days, and the data hold {days}; observe for longer"
    )


def migrate(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    period: str | None = None,
    measure: str | None = None,
    margin_rate: float | None = None,
    draws: int = 1000,
    seed: int = 1,
) -> Migration:
    """Follow customers and their money from the last period into this one.

    Parameters
    ----------
    order_lines : the canonical table, on any engine.
    observed_from, observed_to : first and last observed day.
    period : {"52_weeks", "half_year", "quarter", "four_weeks"}, the longest that the data hold three times by default.
    measure : {"margin", "spend"}, margin by default where it is known of every line.
    margin_rate : margin as a share of net sales for lines whose cost is unknown.
    draws, seed : of the unchanged bases behind the intervals of chance.

    Returns
    -------
    Migration

    Raises
    ------
    ValueError
        Data too short, nobody who bought in the last period, or margin asked for where it is unknown.
    """
    if period is None:
        period = migration_period(observed_from, observed_to)
    elif period not in PERIOD_DAYS:
        raise ValueError(f"migration: unknown period '{period}'; use one of {', '.join(PERIOD_DAYS)}")
    length = datetime.timedelta(days=PERIOD_DAYS[period])
    current_from = observed_to + datetime.timedelta(days=1) - length
    previous_from = current_from - length
    if previous_from - length < observed_from:
        raise ValueError(
            f"migration: three periods of a {period.replace('_', ' ')} begin on {previous_from - length}, before the data do "
            f"({observed_from}); choose a shorter period"
        )
    if measure not in (None, "margin", "spend"):
        raise ValueError(f"migration: unknown measure '{measure}'; use margin or spend")
    customers = _by_customer(order_lines, observed_to, previous_from, current_from, margin_rate)
    cells = _count_cells(customers)
    if not (cells["previous_days"] > 0).any():
        raise ValueError("migration: nobody bought in the last period")
    unknown = bool(cells["unknown"].sum())
    if measure == "margin" and unknown:
        raise ValueError("migration: the margin of some lines is unknown; state a margin in the study or use spend")
    measure = measure or ("spend" if unknown else "margin")
    light_to, medium_to = _limits(cells)
    chance, reason = _against_chance(cells, light_to, medium_to, draws, seed)
    return Migration(
        period=period,
        previous_from=previous_from,
        current_from=current_from,
        observed_to=observed_to,
        measure=measure,
        light_to=light_to,
        medium_to=medium_to,
        flows=_flows(customers, measure, light_to, medium_to),
        chance=chance,
        chance_reason=reason,
    )


def _by_customer(
    order_lines: ibis.Table,
    observed_to: datetime.date,
    previous_from: datetime.date,
    current_from: datetime.date,
    margin_rate: float | None,
) -> ibis.Table:
    """One row a customer: purchase days before and in both periods, and money in both."""
    lines = within(order_lines, observed_to)
    days = purchase_days(order_lines, observed_to)
    first, second = ibis.literal(previous_from), ibis.literal(current_from)
    bought = days.group_by("customer_id").aggregate(
        before=(days.order_date < first).any(),
        previous_days=((days.order_date >= first) & (days.order_date < second)).cast("int64").sum(),
        current_days=(days.order_date >= second).cast("int64").sum(),
    )
    priced = lines.select(
        "customer_id",
        "order_date",
        spend=lines.net_amount.cast(MONEY).cast(MARGIN),
        margin=line_margin(lines, margin_rate).cast(MARGIN),
    )
    nothing = ibis.literal(0).cast(MARGIN)
    inside = {
        "previous": (priced.order_date >= first) & (priced.order_date < second),
        "current": priced.order_date >= second,
    }
    summed = priced.group_by("customer_id").aggregate(
        unknown=(priced.margin.isnull() & (priced.order_date >= first)).any(),
        **{
            f"{which}_{name}": ibis.ifelse(condition, priced[name], nothing).cast(MARGIN).sum().cast(MARGIN)
            for which, condition in inside.items()
            for name in ("spend", "margin")
        },
    )
    joined = summed.left_join(bought, "customer_id")
    return joined.select(
        *[joined[name] for name in summed.columns],
        before=joined.before.fill_null(False),
        previous_days=joined.previous_days.fill_null(0),
        current_days=joined.current_days.fill_null(0),
    )


def _count_cells(customers: ibis.Table) -> pd.DataFrame:
    """How many customers have each (bought before, purchase days in the last period, in this one), sorted."""
    keys = ["before", "previous_days", "current_days"]
    counted = customers.group_by(keys).aggregate(
        customers=customers.count(), unknown=customers.unknown.cast("int64").sum()
    )
    return counted.to_pyarrow().to_pandas().sort_values(keys, ignore_index=True)


def _limits(cells: pd.DataFrame) -> tuple[int, int]:
    """Most purchase days of a light and of a medium buyer: where half and four fifths of last period's buyers come nearest."""
    counts = cells[cells["previous_days"] > 0].groupby("previous_days")["customers"].sum()
    reached = (counts.cumsum() / counts.sum()).to_numpy()
    days = counts.index.to_numpy()
    light_to = int(days[np.abs(reached - _LIGHT_SHARE).argmin()])
    above = days > light_to
    if not above.any():
        return light_to, light_to + 1
    return light_to, int(days[above][np.abs(reached[above] - _MEDIUM_SHARE).argmin()])


def _group(days: np.ndarray, light_to: int, medium_to: int) -> np.ndarray:
    return np.searchsorted([1, light_to + 1, medium_to + 1], days, side="right")


def _flows(customers: ibis.Table, measure: str, light_to: int, medium_to: int) -> pd.DataFrame:
    def named(days: ibis.ir.IntegerValue, nobody: ibis.ir.StringValue | str) -> ibis.ir.StringValue:
        return ibis.cases((days > medium_to, "heavy"), (days > light_to, "medium"), (days > 0, "light"), else_=nobody)

    known = ibis.ifelse(customers.before, "none", "new")
    grouped = customers.select(
        before=named(customers.previous_days, known),
        after=named(customers.current_days, "none"),
        previous=customers[f"previous_{measure}"],
        current=customers[f"current_{measure}"],
    )
    summed = grouped.group_by(["before", "after"]).aggregate(
        customers=grouped.count(), previous=grouped.previous.sum(), current=grouped.current.sum()
    )
    rows = [
        {
            "before": row["before"],
            "after": row["after"],
            "movement": movement(row["before"], row["after"]),
            "customers": int(row["customers"]),
            "previous": row["previous"],
            "current": row["current"],
            "change": row["current"] - row["previous"],
        }
        for row in summed.to_pyarrow().to_pylist()
    ]
    rows.sort(key=lambda r: (BEFORE.index(r["before"]), GROUPS.index(r["after"])))
    return pd.DataFrame(rows)


def _against_chance(
    cells: pd.DataFrame, light_to: int, medium_to: int, draws: int, seed: int
) -> tuple[Chance | None, str]:
    base = cells[cells["before"]]
    if base["customers"].sum() < _LEAST:
        return None, "few"
    counts = base.groupby("previous_days")["customers"].sum()
    x, n = counts.index.to_numpy(float), counts.to_numpy()
    try:
        fitted = NBD(x, np.minimum(x, 1.0), np.ones_like(x), weights=n.astype(float)).fit()
    except ModelNotFitted:
        return None, "no_model"
    if not fitted.verdict.usable:
        return None, "no_model"
    groups = (
        _group(base["previous_days"].to_numpy(), light_to, medium_to),
        _group(base["current_days"].to_numpy(), light_to, medium_to),
    )
    observed = np.zeros((4, 4))
    np.add.at(observed, groups, base["customers"].to_numpy())
    table = expected_moves(fitted, x, n, light_to, medium_to, draws=draws, seed=seed)
    table.insert(2, "customers", observed.ravel().astype("int64"))
    total = np.repeat(observed.sum(axis=1), 4)
    table.insert(3, "total", total.astype("int64"))
    table.insert(4, "share", observed.ravel() / np.where(total > 0, total, np.nan))
    low, high = share_interval(observed.ravel(), total)
    table.insert(5, "share_low", low)
    table.insert(6, "share_high", high)
    outside = [table["customers"] > table["high"], table["customers"] < table["low"]]
    table["beyond"] = np.select(outside, ["more", "fewer"], "")
    now = int((base["current_days"] * base["customers"]).sum())
    expected = float(fitted.expected_purchases(1.0, x, np.minimum(x, 1.0), np.ones_like(x)) @ n)
    return Chance(table, int(n.sum()), fitted, int(x @ n), now, expected), ""


def expected_moves(
    fitted: PurchaseResults,
    x: np.ndarray,
    customers: np.ndarray,
    light_to: int,
    medium_to: int,
    *,
    draws: int = 1000,
    alpha: float = 0.05,
    seed: int = 1,
) -> pd.DataFrame:
    """The moves between two equal periods of a base that does not change, in closed form from the counts of the first.

    Parameters
    ----------
    fitted : NBD on counts of the first period, the period being the unit of time.
    x : distinct purchase days in the first period, shape (m,). customers : how many had each, shape (m,).
    light_to, medium_to : limits of the groups.
    draws, alpha, seed : of the prediction interval: parameters from their sampling distribution, then moves of everybody.

    Returns
    -------
    One row a pair of GROUPS: before, after, expected, low, high (customers).
    """
    x, customers = np.asarray(x, dtype=float), np.asarray(customers, dtype=np.int64)
    start, rng = _group(x, light_to, medium_to), np.random.default_rng(seed)

    def chances(params: np.ndarray) -> np.ndarray:
        """Probability of each group next, shape (sets, m, 4), for each of several (r, α)."""
        shape, rate = params[:, :1] + x, params[:, 1:] + 1.0
        # P(X ≤ k) of a negative binomial is an incomplete beta function.
        reached = [special.betainc(shape, k + 1.0, rate / (rate + 1.0)) for k in (0, light_to, medium_to)]
        whole = np.diff(np.stack([np.zeros_like(shape), *reached, np.ones_like(shape)], axis=-1), axis=-1)
        return whole / whole.sum(axis=-1, keepdims=True)

    def by_group(rows: np.ndarray) -> np.ndarray:
        moves = np.zeros((4, 4))
        np.add.at(moves, start, rows)
        return moves.ravel()

    sets = chances(fitted.draw_params(min(draws, _SETS), rng))
    drawn = np.stack([by_group(rng.multinomial(customers, sets[d % len(sets)])) for d in range(draws)])
    low, high = np.quantile(drawn, [alpha / 2, 1 - alpha / 2], axis=0, method="nearest")
    return pd.DataFrame(
        {
            "before": np.repeat(GROUPS, 4),
            "after": np.tile(GROUPS, 4),
            "expected": by_group(chances(fitted.params.to_numpy()[None])[0] * customers[:, None]),
            "low": low,
            "high": high,
        }
    )
