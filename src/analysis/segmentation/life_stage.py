"""What life-cycle stages are made of: purchase habits, and silences that are far out of them.

The stages follow Dwyer, Schurr & Oh (1987), "Developing buyer-seller relationships", Journal of Marketing
51(2): awareness has no purchases and so no rows here; exploration, expansion (here *formation*), commitment
(*stability*) and dissolution, which may begin from any stage (*decline*, and *ended* when it is complete).
The paper gives no thresholds; those of :class:`StageRules` are this project's. How likely each customer is in each stage is
:func:`analysis.segmentation.stage_probabilities`.
"""

from dataclasses import dataclass
from datetime import date

import ibis
import numpy as np
import pandas as pd

from analysis.valuation.summary import purchase_days

STAGES = ("exploration", "formation", "stability", "decline", "ended")
YEAR = 365


@dataclass(frozen=True)
class StageRules:
    """Thresholds of the stages.

    Attributes
    ----------
    trial_purchases : purchase days that a customer still exploring may have at most.
    formation_days : age below which a customer with more purchases is still forming a habit.
    ended_days : shortest silence that can mean the end, in days, where no probability of being alive is known.
    silence_level : p-value at or below which a silence is far out of habit, where no such probability is known.
    own_gaps : gaps between purchases from which a customer's own habit is used, not the base's.
    decline_ratio : a rate below this share of the customer's earlier one is a decline, between 0 and 1.
    rise_ratio : a rate above this many times the earlier one is a rise, above 1.
    """

    trial_purchases: int = 2
    formation_days: int = 180
    ended_days: int = 90
    silence_level: float = 0.001
    own_gaps: int = 4
    decline_ratio: float = 0.5
    rise_ratio: float = 2.0


def purchase_habit(
    order_lines: ibis.Table, observed_from: date, observed_to: date, left_truncated: bool
) -> pd.DataFrame:
    """Each customer's purchase habit, reduced in the engine to one row a customer.

    A purchase day is a local day with positive net spend. The time over which a rate is compared is cut into
    an earlier and a recent half that end at ``observed_to``; with two years or more each half is a whole
    number of years, so that both hold the same seasons. Purchases that start the clock (the first day, unless
    the customer existed before observation) are in neither half, because they are there by construction.

    Parameters
    ----------
    order_lines : Ibis table with customer_id, order_date, net_amount.
    observed_from, observed_to : dates between which the company looked.
    left_truncated : customers existed before ``observed_from``.

    Returns
    -------
    Frame sorted by customer_id: purchase_days, gaps (number of), gap_low, gap_median, gap_high (quartiles in
    days, NaN without gaps), window_days (length of both halves together), earlier, recent (purchase days in
    each half).
    """
    days = purchase_days(order_lines, observed_to).select("customer_id", day=ibis._.order_date)
    end = ibis.literal(observed_to)
    span = (observed_to - observed_from).days + 1
    firsts = days.group_by("customer_id").aggregate(first=days.day.min())
    tenure = firsts.mutate(age=ibis.literal(span) if left_truncated else end.delta(firsts["first"], unit="day"))
    half = (tenure.age / 2).floor().cast("int64")
    whole_years = (half / YEAR).floor().cast("int64") * YEAR
    tenure = tenure.select(
        "first", owner="customer_id", half=ibis.ifelse(half >= YEAR, whole_years, half).cast("int64")
    )
    by_customer = ibis.window(group_by="customer_id", order_by="day")
    dated = days.mutate(previous=days.day.lag().over(by_customer)).join(tenure, [("customer_id", "owner")])
    dated = dated.mutate(
        gap=dated.day.delta(dated.previous, unit="day"),
        ago=end.delta(dated.day, unit="day"),
        counted=ibis.literal(True) if left_truncated else dated.day > dated["first"],
    )
    in_recent = dated.counted & (dated.ago < dated.half)
    in_earlier = dated.counted & (dated.ago >= dated.half) & (dated.ago < 2 * dated.half)
    habit = dated.group_by("customer_id").aggregate(
        purchase_days=dated.count(),
        gaps=dated.gap.count(),
        gap_low=dated.gap.quantile(0.25).cast("float64"),
        gap_median=dated.gap.quantile(0.5).cast("float64"),
        gap_high=dated.gap.quantile(0.75).cast("float64"),
        window_days=dated.half.max() * 2,
        earlier=in_earlier.cast("int64").sum(),
        recent=in_recent.cast("int64").sum(),
    )
    return habit.order_by("customer_id").to_pandas()


def stage_inputs(summary: pd.DataFrame, habit: pd.DataFrame, value: pd.DataFrame | None = None) -> pd.DataFrame:
    """Join what the stage rules need: one row a customer of ``summary``, in its order.

    Parameters
    ----------
    summary : ``customer_summary``.
    habit : frame of :func:`purchase_habit`.
    value : ``customer_value``, for probability_alive; all null when it has none.

    Raises
    ------
    ValueError
        A customer of the summary has no purchase day in the order lines.
    """
    joined = summary.merge(habit, on="customer_id", how="left", validate="one_to_one")
    lost = int(joined["purchase_days"].isna().sum())
    if lost:
        raise ValueError(
            f"life stages: {lost} customers of customer_summary have no purchase day in order_lines; run 02 again"
        )
    counts = ["purchase_days", "gaps", "window_days", "earlier", "recent"]
    joined[counts] = joined[counts].astype("int64")
    if value is None or "probability_alive" not in value:
        return joined.assign(probability_alive=np.nan)
    alive = value[["customer_id", "probability_alive"]].astype({"probability_alive": "float64"})
    return joined.merge(alive, on="customer_id", how="left", validate="one_to_one")


def silence_p_value(purchases: np.ndarray, window_days: np.ndarray, silent_days: np.ndarray) -> np.ndarray:
    """Probability that a customer who never left is silent this long.

    Given their number, the purchases of a Poisson buyer are spread evenly over the time watched (Cox & Lewis
    1966, section 2.2), so all of them fall before the silence with probability (1 - silence / window) ^
    purchases.

    Parameters
    ----------
    purchases : array of shape (n,), purchase days in the window, without one that starts it.
    window_days : array of shape (n,), days watched.
    silent_days : array of shape (n,), days since the last purchase.
    """
    window = np.maximum(np.asarray(window_days, dtype=float), 1.0)
    left = 1.0 - np.clip(np.asarray(silent_days, dtype=float) / window, 0.0, 1.0)
    return left ** np.asarray(purchases, dtype=float)


def fallen_silent(customers: pd.DataFrame, rules: StageRules, left_truncated: bool, span_days: int) -> pd.Series:
    """Who has been silent for so long that the relationship is taken for ended, where no probability of being alive is known.

    With ``own_gaps`` gaps or more the silence must be beyond Tukey's outer fence of the customer's own gaps (quartile + 3 spreads)
    and as rare as ``silence_level`` for somebody who never left; with fewer, beyond the usual gap of 99 in 100 customers; and it
    must have lasted ``ended_days``.

    Parameters
    ----------
    customers : frame of :func:`stage_inputs`.
    left_truncated : the clock of the study; then `span_days`, the length of observation in days, is the time watched.

    Returns
    -------
    Boolean Series of shape (n,).
    """
    c = customers
    silent, high = c["recency_days"].astype(float), c["gap_high"].astype(float)
    fence = high + 3.0 * (high - c["gap_low"].astype(float))
    counted = c["purchase_days"] if left_truncated else c["purchase_days"] - 1
    window = pd.Series(span_days, index=c.index) if left_truncated else c["T"]
    rare = silence_p_value(counted, window, silent) <= rules.silence_level
    own = c["gaps"] >= rules.own_gaps
    return (silent >= rules.ended_days) & np.where(own, rare & (silent > fence), silent > longest_usual_gap(c))


def longest_usual_gap(customers: pd.DataFrame) -> float:
    """The usual gap (upper quartile, days) that 99 in 100 customers who came back at least once do not pass; infinite when nobody
    came back.
    """
    usual = customers["gap_high"].astype(float).dropna()
    return float("inf") if usual.empty else float(usual.quantile(0.99))
