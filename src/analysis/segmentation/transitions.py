"""Moves between life-cycle stages: stages at past dates from data up to each date only, and what customers did next.

The matrix of moves counts each customer's most probable stage at two dates one period apart. Its rows are shares of those who
were in a stage, with Wilson's interval. *Ended* is not absorbing in it: who is taken for gone may come back, and the matrix
shows how often. How long a relationship lasts is answered both ways: the mean stay in a stage (until the first move out
of it), and the mean time until the end when *ended* is made absorbing (Kemeny & Snell 1960, Finite Markov Chains, theorem
3.2.4: the fundamental matrix).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import ibis
import numpy as np
import pandas as pd
from scipy import stats

from analysis.segmentation.life_cycle import (
    NOT_IDENTIFIED,
    StageProbabilities,
    fit_alive,
    stage_probabilities,
)
from analysis.segmentation.life_stage import STAGES, StageRules, purchase_habit
from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import share_interval
from analysis.valuation.purchases import PurchaseResults
from analysis.valuation.summary import MONEY, purchase_days, to_frame, within

_ORDER = (*STAGES, NOT_IDENTIFIED)


@dataclass(frozen=True)
class StagesAt:
    """Stages as they could have been told on a day.

    Attributes
    ----------
    as_of : the day; nothing after it was looked at.
    history : customer_id, frequency, recency, T, recency_days (days), and the columns of ``purchase_habit``.
    found : probabilities and most probable stages, in the order of ``history``.
    alive_model : where P(alive) comes from; None where none could be fitted, and then the rule of silences decides.
    reason : code of why there is none.
    """

    as_of: datetime.date
    history: pd.DataFrame
    found: StageProbabilities
    alive_model: PurchaseResults | None
    reason: str


def stages_at(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    as_of: datetime.date,
    rules: StageRules | None = None,
    *,
    left_truncated: bool = False,
) -> StagesAt:
    """Stages of everybody who had bought by a day, from order lines up to that day only.

    Parameters
    ----------
    order_lines : Ibis table with customer_id, order_date, net_amount, on any engine.
    observed_from : first observed day.
    as_of : the last day that counts.
    rules : as in :func:`analysis.segmentation.stage_probabilities`.
    left_truncated : customers existed before ``observed_from``.

    Raises
    ------
    ValueError
        Nobody had bought by then.
    """
    seen = within(order_lines, as_of)
    days = purchase_days(seen)
    first_last = days.group_by("customer_id").aggregate(
        first=days.order_date.min(), last=days.order_date.max(), occasions=days.count()
    )
    end = ibis.literal(as_of)
    clock = to_frame(
        first_last.select(
            customer_id=first_last.customer_id.cast("string"),
            frequency=(first_last.occasions - 1).cast("int64"),
            recency=first_last["last"].delta(first_last["first"], unit="day").cast("float64"),
            T=end.delta(first_last["first"], unit="day").cast("float64"),
            recency_days=end.delta(first_last["last"], unit="day").cast("float64"),
        )
    )
    if clock.empty:
        raise ValueError(f"life stages: nobody had bought by {as_of}; choose a later day")
    habit = purchase_habit(seen, observed_from, as_of, left_truncated)
    history = clock.merge(habit.astype({"customer_id": clock["customer_id"].dtype}), on="customer_id", validate="1:1")
    model, reason = fit_alive(history["frequency"], history["recency"], history["T"], left_truncated=left_truncated)
    alive = np.nan
    if model is not None:
        alive = model.probability_alive(history["frequency"], history["recency"] / 7.0, history["T"] / 7.0)
    found = stage_probabilities(
        history.assign(probability_alive=alive),
        rules,
        left_truncated=left_truncated,
        span_days=(as_of - observed_from).days + 1,
    )
    return StagesAt(as_of, history, found, model, reason)


def past_dates(
    observed_from: datetime.date, observed_to: datetime.date, period_days: int, most: int = 4
) -> list[datetime.date]:
    """The last observed day and whole periods before it, oldest first, each with at least two periods of data before it.

    Raises
    ------
    ValueError
        The data hold fewer than three periods, so there is no move to see.
    """
    days = (observed_to - observed_from).days + 1
    if days < 3 * period_days:
        raise ValueError(
            f"moves between stages: three periods of {period_days} days are needed and {days} days were observed; "
            "choose a shorter period"
        )
    back = [k for k in range(most) if days - k * period_days >= 2 * period_days]
    return [observed_to - datetime.timedelta(days=k * period_days) for k in reversed(back)]


@dataclass(frozen=True)
class TransitionMatrix:
    """Moves from stage to stage over one period.

    Attributes
    ----------
    counts : customers, a row a stage before and a column a stage after, stages in the order of life.
    periods : pairs of dates that are added up; a customer counts once for each.
    joined : customers by stage after who first bought in between.
    """

    counts: pd.DataFrame
    periods: int
    joined: pd.Series

    @property
    def probabilities(self) -> pd.DataFrame:
        """Shares of those who were in a stage, shape of ``counts``; NaN in the row of a stage where nobody was."""
        total = self.counts.sum(axis=1)
        return self.counts.div(total.where(total > 0), axis=0)

    def intervals(self, alpha: float = 0.05) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Wilson's limits of ``probabilities``, both of its shape."""
        total = np.broadcast_to(self.counts.sum(axis=1).to_numpy()[:, None], self.counts.shape)
        low, high = share_interval(self.counts.to_numpy(), total, alpha)
        return tuple(pd.DataFrame(v, index=self.counts.index, columns=self.counts.columns) for v in (low, high))

    def table(self, small_group: int, alpha: float = 0.05) -> pd.DataFrame:
        """One row a move: before, after, customers, total, share, low, high; small cells, and what would tell them, NaN."""
        low, high = self.intervals(alpha)
        shown = hide_in_rows(self.counts, small_group)
        total = self.counts.sum(axis=1)
        parts = {"customers": shown, "share": self.probabilities, "low": low, "high": high}
        long = pd.concat({k: v.rename_axis(index="before", columns="after").stack() for k, v in parts.items()}, axis=1)
        long = long.where(long["customers"].notna()).reset_index()
        long["total"] = long["before"].map(total.where((total == 0) | (total >= small_group))).astype(float)
        return long[["before", "after", "customers", "total", "share", "low", "high"]]

    def stay(self, alpha: float = 0.05) -> pd.DataFrame:
        """Mean stay in each stage, in periods, from its beginning to the first move out: 1 / (1 − share that stays).

        Returns
        -------
        One row a stage where somebody was: life_stage, customers, periods, low, high (from Wilson's limits of the share
        that stays; infinite where everybody stayed).
        """
        total = self.counts.sum(axis=1)
        stays = pd.Series(np.diag(self.counts), index=self.counts.index)
        low, high = share_interval(stays, total, alpha)
        with np.errstate(divide="ignore"):
            table = pd.DataFrame(
                {
                    "life_stage": self.counts.index,
                    "customers": total.to_numpy(),
                    "periods": 1.0 / (1.0 - (stays / total.where(total > 0)).to_numpy()),
                    "low": 1.0 / (1.0 - low),
                    "high": 1.0 / (1.0 - high),
                }
            )
        return table[table["customers"] > 0].reset_index(drop=True)

    def until_ended(self, *, alpha: float = 0.05, draws: int = 1000, seed: int = 1) -> pd.DataFrame:
        """Periods until the end by stage now, *ended* made absorbing: (I − Q)⁻¹ 1, Q being the moves among the others.

        The interval draws each row from its Dirichlet posterior (a flat prior worth one customer over the row).

        Returns
        -------
        One row a stage but *ended* where somebody was: life_stage, customers, periods, low, high; NaN where no path leads to
        the end.
        """
        living = [s for s in self.counts.index if s != "ended" and self.counts.loc[s].sum() > 0]
        counts = self.counts.loc[living, [*living, *[s for s in self.counts if s not in living]]].to_numpy(float)
        size, rng = len(living), np.random.default_rng(seed)
        point = _periods_to_absorption(counts[None] / counts.sum(axis=1)[None, :, None], size)[0]
        prior = 1.0 / counts.shape[1] if counts.size else 1.0
        drawn = np.stack([rng.dirichlet(row + prior, draws) for row in counts], axis=1) if size else np.empty((1, 0, 0))
        low, high = np.quantile(_periods_to_absorption(drawn, size), [alpha / 2, 1 - alpha / 2], axis=0)
        known = np.isfinite(point)
        return pd.DataFrame(
            {
                "life_stage": living,
                "customers": counts.sum(axis=1).astype(int),
                "periods": point,
                "low": np.where(known, low, np.nan),
                "high": np.where(known, high, np.nan),
            }
        )

    @property
    def came_back(self) -> Estimate:
        """Share of those taken for ended who were in another stage a period later, with Wilson's interval."""
        row = self.counts.loc["ended"] if "ended" in self.counts.index else pd.Series(dtype=float)
        total = float(row.sum())
        if total == 0:
            return Estimate(np.nan, reason="nobody had ended")
        back = total - float(row.get("ended", 0))
        low, high = share_interval(back, total)
        return Estimate(back / total, float(low), float(high))


def _periods_to_absorption(probabilities: np.ndarray, size: int) -> np.ndarray:
    """Mean periods to leave the first ``size`` states, shape (draws, size); NaN where a state cannot be left for good."""
    inner = probabilities[:, :, :size]
    leaves = 1.0 - inner.sum(axis=2) > 1e-12
    for _ in range(size):
        leaves |= ((inner > 1e-12) & leaves[:, None, :]).any(axis=2)
    solved = np.full(inner.shape[:2], np.nan)
    good = leaves.all(axis=1)
    solved[good] = np.linalg.solve(np.eye(size) - inner[good], np.ones((good.sum(), size, 1)))[..., 0]
    return solved


def hide_in_rows(cells: pd.DataFrame, small_group: int) -> pd.DataFrame:
    """Hide cells that count too few, and in a row that would lack a single one its next smallest, which the row's total would tell.

    For tables whose column totals are shown nowhere; :func:`analysis.segmentation.hide_small` guards those too.

    Parameters
    ----------
    cells : counts of customers. small_group : least number shown; 0 is shown, since it tells of nobody.

    Returns
    -------
    The same frame as floats, NaN where hidden.
    """
    counts = cells.to_numpy(dtype=float)
    hidden = (counts > 0) & (counts < small_group)
    for line, shut in zip(counts, hidden, strict=True):
        still = np.flatnonzero(~shut & (line > 0))
        if shut.sum() == 1 and len(still):
            shut[still[line[still].argmin()]] = True
    return pd.DataFrame(np.where(hidden, np.nan, counts), index=cells.index, columns=cells.columns)


def transition_matrix(stages: Sequence[pd.DataFrame]) -> TransitionMatrix:
    """Count moves between the stages of successive dates one period apart.

    Parameters
    ----------
    stages : frames of customer_id and life_stage (null: not identified), oldest first; a customer may join later.

    Raises
    ------
    ValueError
        Fewer than two dates, or a customer twice in one of them.
    """
    if len(stages) < 2:
        raise ValueError("moves between stages: at least two dates are needed")
    named = [
        s.set_index("customer_id", verify_integrity=True)["life_stage"].astype(object).fillna(NOT_IDENTIFIED)
        for s in stages
    ]
    there = [s for s in _ORDER if any((n == s).any() for n in named)]
    counts = pd.DataFrame(0, index=there, columns=there)
    joined = pd.Series(0, index=there)
    for before, after in pairwise(named):
        both = pd.concat([before.rename("before"), after.rename("after")], axis=1)
        moved = both.dropna()
        counts += pd.crosstab(moved["before"], moved["after"]).reindex(index=there, columns=there, fill_value=0)
        joined += both.loc[both["before"].isna(), "after"].value_counts().reindex(there, fill_value=0)
    return TransitionMatrix(counts.astype("int64"), len(stages) - 1, joined.astype("int64"))


def next_period(
    order_lines: ibis.Table, stages: pd.DataFrame, as_of: datetime.date, until: datetime.date, alpha: float = 0.05
) -> pd.DataFrame:
    """What the customers of each stage did next: the share who bought, and their spend, after ``as_of`` and up to ``until``.

    Parameters
    ----------
    order_lines : Ibis table.
    stages : customer_id and life_stage on the day ``as_of``, one row a customer.
    as_of, until : the period begins after the first and ends with the second.

    Returns
    -------
    One row a stage that occurs, in the order of life: life_stage, customers, buyers, buying, buying_low, buying_high (shares,
    Wilson), spend, spend_low, spend_high (net money a customer of the stage, t interval of the mean; NaN with fewer than two).

    Raises
    ------
    ValueError
        ``until`` is not after ``as_of``.
    """
    if until <= as_of:
        raise ValueError(f"next period: {until} is not after {as_of}")
    later = within(order_lines, until).filter(ibis._.order_date > ibis.literal(as_of))
    bought = purchase_days(later).select("customer_id").distinct().mutate(bought=1)
    money = later.group_by("customer_id").aggregate(spend=later.net_amount.cast(MONEY).sum())
    joined = money.left_join(bought, "customer_id")
    did = to_frame(
        joined.select(
            customer_id=joined.customer_id.cast("string"),
            spend=joined.spend.cast("float64"),
            bought=joined.bought.fill_null(0).cast("int64"),
        )
    )
    named = stages[["customer_id"]].assign(life_stage=stages["life_stage"].astype(object).fillna(NOT_IDENTIFIED))
    all_of = named.merge(did.astype({"customer_id": named["customer_id"].dtype}), on="customer_id", how="left")
    all_of = all_of.fillna({"spend": 0.0, "bought": 0})
    table = all_of.groupby("life_stage").agg(
        customers=("bought", "size"), buyers=("bought", "sum"), spend=("spend", "mean"), spread=("spend", "std")
    )
    table = table.reindex([s for s in _ORDER if s in table.index]).reset_index().astype({"buyers": "int64"})
    table["buying"] = table["buyers"] / table["customers"]
    table["buying_low"], table["buying_high"] = share_interval(table["buyers"], table["customers"], alpha)
    reach = stats.t.ppf(1 - alpha / 2, (table["customers"] - 1).where(table["customers"] > 1))
    reach = reach * table.pop("spread") / np.sqrt(table["customers"])
    table["spend_low"], table["spend_high"] = table["spend"] - reach, table["spend"] + reach
    order = ["buying", "buying_low", "buying_high", "spend", "spend_low", "spend_high"]
    return table[["life_stage", "customers", "buyers", *order]]
