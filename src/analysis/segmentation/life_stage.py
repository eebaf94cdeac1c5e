"""Life-cycle stages: exploration, formation, stability, decline, ended.

The stages follow Dwyer, Schurr & Oh (1987), "Developing buyer-seller relationships", Journal of Marketing
51(2): awareness has no purchases and so no rows here; exploration, expansion (here *formation*), commitment
(*stability*) and dissolution, which may begin from any stage (*decline*, and *ended* when it is complete).
The paper gives no thresholds; the rules in :data:`DEFINITIONS` are this project's.
"""

from dataclasses import dataclass
from datetime import date

import ibis
import numpy as np
import pandas as pd
from scipy.stats import binom

from analysis.valuation.summary import purchase_days

STAGES = ("exploration", "formation", "stability", "decline", "ended")
YEAR = 365


@dataclass(frozen=True)
class StageRules:
    """Thresholds of the stage rules.

    Attributes
    ----------
    ended_alive, decline_alive : probability of being alive below which a relationship has ended, or declines.
    change_level : p-value at or below which a rate has changed or a silence is out of habit.
    ended_level : p-value at or below which a silence means the end, where no probability is available.
    ended_days : shortest silence that can mean the end, in days, where no probability is available.
    trial_purchases : purchase days that a customer still exploring may have at most.
    formation_days : age below which a customer with more purchases is still forming a habit.
    own_gaps : gaps between purchases from which a customer's own habit is used, not the base's.
    """

    ended_alive: float = 0.2
    decline_alive: float = 0.5
    change_level: float = 0.05
    ended_level: float = 0.001
    ended_days: int = 90
    trial_purchases: int = 2
    formation_days: int = 180
    own_gaps: int = 4


def definitions(rules: StageRules, left_truncated: bool) -> pd.DataFrame:
    """The stage rules as a table for people, in the order in which they are tried: the first that holds decides.

    Returns
    -------
    Columns stage (``not_identified`` when no rule applies), order (1, 2, …) and identified (bool: can this
    clock tell the stage at all?).
    """
    order = ["ended", "decline", "not_identified", "exploration", "formation", "stability"]
    hidden = {"exploration", "formation"} if left_truncated else {"not_identified"}
    frame = pd.DataFrame({"stage": order, "identified": [s not in hidden for s in order]})
    frame = frame[frame["stage"].ne("not_identified") | left_truncated].reset_index(drop=True)
    return frame.assign(order=np.arange(1, len(frame) + 1))[["order", "stage", "identified"]]


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


def change_p_values(earlier: np.ndarray, recent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact p-values that a purchase rate fell, and that it rose, between two windows of equal length.

    For a Poisson buyer whose rate did not change, the recent count given the total is Binomial(total, 1/2)
    (Przyborowski & Wilenski 1940, the conditional test).

    Parameters
    ----------
    earlier, recent : arrays of shape (n,), purchase days in each window.

    Returns
    -------
    p_fall, p_rise : arrays of shape (n,), one-sided; 1 where there was no purchase in either window.
    """
    earlier, recent = np.asarray(earlier, dtype=int), np.asarray(recent, dtype=int)
    total = earlier + recent
    return binom.cdf(recent, total, 0.5), binom.sf(recent - 1, total, 0.5)


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


@dataclass(frozen=True)
class StageResult:
    """Stages and the evidence for them.

    Attributes
    ----------
    customers : customer_id, life_stage (null when not identified), p_fall, p_rise, p_silence, and because
        (which condition decided: ``alive``, ``silence``, ``falling``, ``base_silence``, ``few``, ``young``,
        ``rising``, ``habit``).
    base_decline_days, base_ended_days : silences that stand in for a customer's own habit where it is too
        short.
    falling, false_declines : declines by a falling rate alone, and how many to expect if nobody's rate had
        changed.
    modelled : whether any customer's probability of being alive is known.
    """

    customers: pd.DataFrame
    base_decline_days: float
    base_ended_days: float
    falling: int
    false_declines: float
    modelled: bool


def stage_conditions(customers: pd.DataFrame, rules: StageRules, left_truncated: bool, span_days: int) -> pd.DataFrame:
    """Every condition that decides a stage, as one true-or-false column each; see :func:`life_stages`."""
    c = customers
    alive = c["probability_alive"].astype(float) if "probability_alive" in c else pd.Series(np.nan, index=c.index)
    silent = c["recency_days"].astype(float)
    gaps, high, spread = (
        c["gaps"].astype(float),
        c["gap_high"].astype(float),
        (c["gap_high"] - c["gap_low"]).astype(float),
    )
    base_decline, base_ended = base_silences(c)
    p_fall, p_rise = change_p_values(c["earlier"], c["recent"])
    counted = c["purchase_days"] if left_truncated else c["purchase_days"] - 1
    window = pd.Series(span_days, index=c.index) if left_truncated else c["T"]
    p_silence = silence_p_value(counted, window, silent)
    own, model = gaps >= rules.own_gaps, alive.notna()
    few = c["purchase_days"] <= rules.trial_purchases
    return pd.DataFrame(
        {
            "ended:alive": model & (alive < rules.ended_alive),
            "ended:silence": ~model
            & own
            & (p_silence <= rules.ended_level)
            & (silent > high + 3.0 * spread)
            & (silent >= rules.ended_days),
            "ended:base_silence": ~model & ~own & (silent > base_ended) & (silent >= rules.ended_days),
            "decline:alive": model & (alive < rules.decline_alive),
            "decline:silence": own & (p_silence <= rules.change_level) & (silent > high + 1.5 * spread),
            "decline:base_silence": ~model & ~own & (silent > base_decline),
            "decline:falling": p_fall <= rules.change_level,
            "not_identified:few": few & left_truncated,
            "exploration:few": few,
            "formation:rising": (p_rise <= rules.change_level) & (not left_truncated),
            "formation:young": (c["T"].astype(float) < rules.formation_days) & (not left_truncated),
            "stability:habit": pd.Series(True, index=c.index),
        }
    ).assign(p_fall=p_fall, p_rise=p_rise, p_silence=p_silence)


def base_silences(customers: pd.DataFrame) -> tuple[float, float]:
    """Silences beyond the usual gap of 95 and of 99 in 100 customers who came back at least once (days).

    The usual gap is a customer's upper quartile; infinite when nobody came back.
    """
    usual = customers["gap_high"].astype(float).dropna()
    if usual.empty:
        return float("inf"), float("inf")
    return float(usual.quantile(0.95)), float(usual.quantile(0.99))


def life_stages(
    customers: pd.DataFrame,
    rules: StageRules | None = None,
    *,
    left_truncated: bool = False,
    span_days: int = 0,
) -> StageResult:
    """Put every customer in one stage of the relationship.

    The conditions are tried in a fixed order and the first that holds decides, so stages cannot overlap, and
    the last always holds, so none is missing:

    1. *ended*: the probability of being alive is under ``ended_alive``; where there is none, the silence is
    far out of
       the customer's own habit (beyond Tukey's outer fence of the gaps, quartile + 3 spreads, and as rare as
       ``ended_level``), or, with a short history, of the base's; never before ``ended_days``.
    2. *decline*: the probability is under ``decline_alive``; or the silence is out of habit (inner fence, 1.5
    spreads,
       and as rare as ``change_level``); or the rate has fallen (exact test at ``change_level``).
    3. *exploration*: at most ``trial_purchases`` purchase days.
    4. *formation*: the rate is rising, or the relationship is younger than ``formation_days``.
    5. *stability*: everybody else.

    Left-truncated customers existed before they were watched: their age, and so exploration and formation,
    are not identified. Those with at most ``trial_purchases`` purchase days who are not silent get no stage.

    Parameters
    ----------
    customers : one row a customer: customer_id, recency_days, T (days), probability_alive (0 to 1, null where
        unknown), and the columns of :func:`purchase_habit`.
    rules : thresholds.
    left_truncated : the clock of the study.
    span_days : length of observation in days, needed when left-truncated.

    Returns
    -------
    StageResult

    Raises
    ------
    ValueError
        A left-truncated base without ``span_days``.
    """
    if left_truncated and span_days <= 0:
        raise ValueError("life_stages: a left-truncated base needs span_days, the length of observation")
    rules = rules or StageRules()
    conditions = stage_conditions(customers, rules, left_truncated, span_days)
    names = [n for n in conditions.columns if ":" in n]
    winner = np.select([conditions[n].to_numpy(dtype=bool) for n in names], names, "")
    decided = pd.Series(winner, dtype="str").str.split(":", expand=True)
    frame = pd.DataFrame(
        {
            "customer_id": customers["customer_id"].to_numpy(),
            "life_stage": decided[0].mask(decided[0] == "not_identified"),
            "because": decided[1],
            **{p: conditions[p].to_numpy() for p in ("p_fall", "p_rise", "p_silence")},
        }
    )
    decline, ended = base_silences(customers)
    earlier_rules = names[: names.index("decline:falling")]
    tested = ~conditions[earlier_rules].any(axis=1).to_numpy()
    total = (customers["earlier"] + customers["recent"]).to_numpy()[tested]
    return StageResult(
        frame,
        base_decline_days=decline,
        base_ended_days=ended,
        falling=int((frame["because"] == "falling").sum()),
        false_declines=float(false_alarm_rate(total, rules.change_level).sum()),
        modelled="probability_alive" in customers and bool(customers["probability_alive"].notna().any()),
    )


def false_alarm_rate(total: np.ndarray, level: float) -> np.ndarray:
    """Exact chance that the test of a fall errs for a customer whose rate did not change.

    Parameters
    ----------
    total : array of shape (n,), purchase days in both windows.
    level : p-value at or below which a fall is declared.

    Returns
    -------
    Array of shape (n,), at most ``level``; smaller because counts are whole.
    """
    total = np.asarray(total, dtype=int)
    largest = binom.ppf(level, total, 0.5)
    largest = np.where(binom.cdf(largest, total, 0.5) <= level, largest, largest - 1)
    return binom.cdf(largest, total, 0.5)


def stage_table(customers: pd.DataFrame) -> pd.DataFrame:
    """Customers and sales in each stage, in the order of the life cycle.

    Parameters
    ----------
    customers : life_stage (null = not identified), spend (money), recency_days.

    Returns
    -------
    One row a stage that occurs (``not_identified`` last): life_stage, customers, share_customers, sales,
    share_sales, mean_recency_days.
    """
    stage = customers["life_stage"].astype(object).where(customers["life_stage"].notna(), "not_identified")
    grouped = customers.assign(life_stage=stage).groupby("life_stage")
    table = grouped.agg(customers=("spend", "size"), sales=("spend", "sum"), mean_recency_days=("recency_days", "mean"))
    table = table.reindex([s for s in (*STAGES, "not_identified") if s in table.index]).reset_index()
    table["share_customers"] = table["customers"] / table["customers"].sum()
    table["share_sales"] = table["sales"] / table["sales"].sum()
    return table[["life_stage", "customers", "share_customers", "sales", "share_sales", "mean_recency_days"]]
