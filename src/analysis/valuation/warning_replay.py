"""The early warning held against what came: the same list on earlier days, made of what was known then.

On each of up to four days, `weeks` apart and the last of them `weeks` before the data end, the rhythm is learnt anew from the
purchases up to the day, the best are found anew, and who of them bought within the `weeks` after is counted. What customers
are worth in rhythm follows a plain rule there, so that no model has to be fitted again: their own rate so far × their mean spend
so far. The rate counts purchases up to the last one, so that nobody drops out for having fallen silent, with one more of the
gaps that are usual in the base, so that two purchases on successive days do not make a daily buyer.
"""

from __future__ import annotations

import datetime
from typing import Any

import ibis
import numpy as np
import pandas as pd

from analysis.valuation.early_warning import IN_RHYTHM, purchase_gaps, watch
from analysis.valuation.purchases import ModelNotFitted
from analysis.valuation.recalibration import Replay, clustered_share, cross_recalibrated, recalibrate
from analysis.valuation.summary import DAYS_PER_WEEK, purchase_days, to_frame

_MOST_CUTS = 4
_LEAST_LEFT = 0.5  # of the observed days, to learn a rhythm from


def replay_days(
    observed_from: datetime.date, observed_to: datetime.date, weeks: int, most: int = _MOST_CUTS
) -> list[datetime.date]:
    """The days on which the list can be made again, the latest first: those that leave half of the observed days."""
    days = (observed_to - observed_from).days + 1
    cuts = [observed_to - datetime.timedelta(weeks=weeks * k) for k in range(1, most + 1)]
    return [cut for cut in cuts if (cut - observed_from).days + 1 >= _LEAST_LEFT * days]


def replay_warnings(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    weeks: int,
    alive_threshold: float = 0.50,
    **options: Any,
) -> Replay:
    """Make the list on earlier days and count who came back.

    Parameters
    ----------
    order_lines : ibis.Table
        Or its :func:`analysis.valuation.purchase_days`.
    observed_from, observed_to : date
    weeks : int
        Time to come back in, and between two days.
    alive_threshold : float
        P(still there) below which a customer was late.
    options
        `top_share`, `least_gaps`, `false_share` and `overdue` of :func:`analysis.valuation.early_warning.watch`.

    Raises
    ------
    ValueError
        Where no day leaves enough to learn from.
    """
    cuts = replay_days(observed_from, observed_to, weeks)
    if not cuts:
        observed = (observed_to - observed_from).days + 1
        raise ValueError(
            f"early warning, replayed: {weeks} weeks before the end less than half of the {observed} observed days is left "
            "to learn from"
        )
    days = purchase_days(order_lines, observed_to)
    lists: list[pd.DataFrame] = []
    for cut in cuts:
        try:
            lists.append(_replayed(days, cut, weeks, alive_threshold, options))
        except ModelNotFitted as error:
            # the days before hold fewer customers still
            if not lists:
                reason = str(error).partition(": ")[2]
                raise ValueError(f"early warning, replayed: {weeks} weeks before the end {reason}") from None
            break
    frame = pd.concat(lists, ignore_index=True)
    frame["says"] = cross_recalibrated(frame)
    frame["says_late"] = frame["says"] < alive_threshold
    return Replay(frame, cuts[: len(lists)], weeks, recalibrate(frame))


def _replayed(
    days: ibis.Table, cut: datetime.date, weeks: int, alive_threshold: float, options: dict[str, Any]
) -> pd.DataFrame:
    """The rows of one day in :attr:`Replay.frame`, without what is learnt from all."""
    histories = _histories(days, cut, weeks)
    found = watch(purchase_gaps(days, cut), _worth(histories, weeks), **options)
    said = found.mixture.probability_alive(found.p)
    frame = found.frame[["customer_id"]].assign(
        cut=cut, p=found.p, stage=found.stage, late=(said < alive_threshold) & (found.stage != IN_RHYTHM), said=said
    )
    after = histories[["customer_id", "returned", "returned_since", "bought", "expected"]]
    return frame.merge(after, on="customer_id", validate="one_to_one")


def _histories(days: ibis.Table, cut: datetime.date, weeks: int) -> pd.DataFrame:
    """What each customer had bought by a day, and bought after it."""
    until = cut + datetime.timedelta(weeks=weeks)
    seen, within = days.order_date <= ibis.literal(cut), days.order_date <= ibis.literal(until)
    counted = days.group_by(days.customer_id.cast("string").name("customer_id")).aggregate(
        occasions=days.count(where=seen),
        spend=days.spend.sum(where=seen),
        first_day=days.order_date.min(),
        last_day=days.order_date.max(where=seen),
        bought=days.count(where=~seen & within),
        since=days.count(where=~seen),
    )
    counted = counted.filter(counted.occasions > 0)
    frame = to_frame(
        counted.select(
            "customer_id",
            frequency=(counted.occasions - 1).cast("float64"),
            recency=counted.last_day.delta(counted.first_day, unit="day").cast("float64"),
            mean_spend=counted.spend.cast("float64") / counted.occasions.cast("float64"),
            bought=counted.bought.cast("float64"),
            returned=counted.bought > 0,
            returned_since=counted.since > 0,
        )
    )
    repeats = frame["frequency"].sum()
    usual = frame["recency"].sum() / repeats if repeats else 0.0
    rate = frame["frequency"] / np.maximum(frame["recency"] + usual, 1.0)
    return frame.assign(expected=rate * weeks * DAYS_PER_WEEK)


def _worth(histories: pd.DataFrame, weeks: int) -> pd.DataFrame:
    """Sales over the weeks at the customer's own rate and mean spend so far."""
    return histories[["customer_id"]].assign(value_in_rhythm=histories["expected"] * histories["mean_spend"])


def count_returns(part: pd.DataFrame) -> dict[str, Any]:
    """How many rows of :attr:`Replay.frame` came back, beside what had been said of them.

    Returns
    -------
    dict
        `customers` (rows), `different` (customers among them), `returned`, `share` with `low` and `high` (95 %, clustered by
        customer), `returned_since` (share), `kept` (occasions as a share of those in rhythm), `said` and `says` (means).
    """
    share = clustered_share(part["returned"], part["customer_id"])
    return {
        "customers": len(part),
        "different": int(part["customer_id"].nunique()),
        "returned": int(part["returned"].sum()),
        "share": share.value,
        "low": share.low,
        "high": share.high,
        "returned_since": float(part["returned_since"].mean()),
        "kept": float(part["bought"].sum() / part["expected"].sum()) if len(part) else np.nan,
        "said": float(part["said"].mean()),
        "says": float(part["says"].mean()),
    }
