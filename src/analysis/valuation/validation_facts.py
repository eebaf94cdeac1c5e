"""What the sentences and tables of validation, contest, track record, early warning and win-back are filled with."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any, Protocol

import ibis
import numpy as np
import pandas as pd

from analysis.reporting.numbers import Formatter
from analysis.valuation.concentration import Estimate
from analysis.valuation.contest import Contest, contest, contest_splits
from analysis.valuation.early_warning import (
    BROKE,
    DRIFTING,
    IN_RHYTHM,
    EarlyWarning,
    early_warning,
    purchase_gaps,
    values_in_rhythm,
)
from analysis.valuation.facts import found_or_reason
from analysis.valuation.figures import FORECAST_WORDS
from analysis.valuation.holdout import Holdout, same_rate
from analysis.valuation.intervals import share_interval
from analysis.valuation.lifetime import CustomerValue, margin_share, mean_discount, weekly_discount
from analysis.valuation.models import FittedModels
from analysis.valuation.purchases import ModelNotFitted
from analysis.valuation.recalibration import Replay
from analysis.valuation.summary import DAYS_PER_WEEK
from analysis.valuation.track_record import LEAST_WEEKS, TrackRecord, track_record
from analysis.valuation.validation import (
    EVERYBODY,
    PERFECT,
    Validation,
    calibration,
    returning_groups,
    share_active,
    validate,
    weekly_purchases,
)
from analysis.valuation.validation_figures import as_subject
from analysis.valuation.warning_replay import count_returns, replay_warnings
from analysis.valuation.winback import WinBack, return_history, win_back

WARNING_COLUMNS = {
    "group": ("Their habit", "text"),
    "customers": ("Customers", "count"),
    "value_at_risk": ("Value at risk", "money"),
    "still_there": ("Still there, at most", "share"),
    "silent_days": ("Days silent, mean", "number"),
    "usual_gap": ("Days between purchases, mean", "number"),
}
REPLAY_COLUMNS = {
    "group": ("By habit alone", "text"),
    "customers": ("Cases", "count"),
    "returned": ("Bought again", "text"),
    "said": ("Still there, by habit alone", "share"),
    "says": ("Still there, corrected, at most", "share"),
    "kept": ("Purchases kept", "share"),
}
WINBACK_COLUMNS = {
    "silence": ("Weeks silent", "text"),
    "kind": ("Before that", "text"),
    "returns": ("Come back", "text"),
    "gain": ("Gain by one offer", "text"),
    "worth": ("At most", "text"),
    "customers": ("Customers", "count"),
}
CLAIM_COLUMNS = {
    "forecast": ("Forecast", "text"),
    "held": ("Did it hold?", "text"),
    "said": ("What it said", "text"),
    "came": ("What came", "text"),
}
CONTEST_COLUMNS = {
    "method": ("Method", "text"),
    "verdict": ("Verdict", "text"),
    "error": ("Typical error", "text"),
    "top": ("Spend of best tenth", "text"),
}
TRACK_WEEKS = LEAST_WEEKS
_WHOLE_PERCENT_FROM = 0.1
_FIRST = 0.1  # of those in time, who are the first to act on
_LIST_DECIMALS = (
    dict.fromkeys(("value_in_rhythm", "value_now", "value_at_risk", "most_to_spend"), 2)
    | dict.fromkeys(("overdue_probability", "probability_alive", "probability_by_habit", "break_even"), 3)
    | {"usual_gap": 1}
)
_SHOWN_LEVELS = (0.80, 0.95)
_REPLICATIONS = 200  # bootstrap samples of customers behind the contest


class Edition(Protocol):
    """An earlier edition of the notebook, as :meth:`analysis.step.Step.last_edition` gives it."""

    parameters: dict[str, Any]
    observed_to: datetime.date
    money: dict[str, float | None]
    currency: str | None

    def has(self, table: str) -> bool:
        """Whether it wrote a table."""

    def read(self, table: str) -> pd.DataFrame:
        """A table that it wrote."""


# -- early warning -----------------------------------------------------------------------------------------------------


def run_early_warning(
    order_lines: ibis.Table,
    summary: pd.DataFrame,
    value: CustomerValue,
    models: FittedModels,
    *,
    observed_from: datetime.date,
    observed_to: datetime.date,
    entry: str,
    annual_discount: float | None = None,
    contact_cost: float | None = None,
    replay_weeks: int = 13,
    top_share: float = 0.20,
    **options: Any,
) -> tuple[EarlyWarning | None, str]:
    """Find the best customers whose purchasing broke with their habit, and test the list on earlier days.

    Parameters
    ----------
    order_lines : ibis.Table
    summary : DataFrame
        The canonical `customer_summary` (days).
    value : CustomerValue
    models : FittedModels
        Fitted on `summary`.
    observed_from, observed_to : date
    entry : str
        The study's clock.
    annual_discount, contact_cost : float, optional
        0 where the study states none.
    replay_weeks : int
        How far apart the earlier days lie on which the list is made again, and the time to come back in after each.
    top_share : float
        The share of all customers that is watched.
    options
        `saved` and `seed` of :func:`analysis.valuation.early_warning`.

    Returns
    -------
    warning : EarlyWarning or None
        None where it cannot be done.
    reason : str
        Why not; empty otherwise.
    """
    if not value.known:
        return None, "nobody has come back yet, so nobody has a habit"
    if value.margin is not None and value.margin <= 0:
        return None, "the margin is not above 0, so keeping a customer brings no money"
    window = (observed_to - observed_from).days + 1
    values = _in_rhythm(summary, value, models, entry, window, annual_discount)
    gaps = purchase_gaps(order_lines, observed_to)
    replayed, untested = found_or_reason(
        lambda: replay_warnings(order_lines, observed_from, observed_to, weeks=replay_weeks, top_share=top_share)
    )
    try:
        found = early_warning(
            gaps,
            values,
            observed_to,
            contact_cost=contact_cost or 0.0,
            top_share=top_share,
            replay=replayed,
            **options,
        )
    except ModelNotFitted as error:
        return None, str(error).partition(": ")[2]
    return replace(found, replay_reason=untested), ""


def _in_rhythm(
    summary: pd.DataFrame,
    value: CustomerValue,
    models: FittedModels,
    entry: str,
    window_days: int,
    annual_discount: float | None,
) -> pd.DataFrame:
    """What customers are worth in rhythm: by the model in use where customers leave it, else at their own rate so far.

    Repeating the last weeks would give nothing for those who fell silent in them, and so would hide whom to warn of.
    """
    margin = 1.0 if value.margin is None else value.margin
    discount = weekly_discount(annual_discount)
    results = models.purchases.get(value.forecast)
    if results is not None and results.model.can_leave and entry != "left_truncated":
        return values_in_rhythm(
            summary, value.frame, results, horizon_weeks=value.horizon_weeks, margin=margin, discount=discount
        )
    base = summary.merge(value.frame[["customer_id", "expected_spend"]], on="customer_id", validate="one_to_one")
    days = value.horizon_weeks * DAYS_PER_WEEK
    bought = same_rate(base["frequency"].to_numpy(float), base["T"].to_numpy(float), days, entry, window_days)
    later = mean_discount(discount, value.horizon_weeks)
    return base[["customer_id"]].assign(value_in_rhythm=bought * base["expected_spend"].to_numpy() * margin * later)


def warning_list(found: EarlyWarning) -> pd.DataFrame:
    """Those to act on, one row a customer, for export, the first to act on first.

    Those still in time by the day to act by and then by the most to spend, after them the late by value at risk. Money
    has two decimals, shares three, days at most one.
    """
    listed = _listed(found)
    keys = listed.assign(due=listed["act_by"].where(~listed["late"], found.observed_to))
    order = ["late", "due", "most_to_spend", "value_at_risk", "customer_id"]
    listed = listed.loc[keys.sort_values(order, ascending=[True, True, False, False, True]).index]
    return listed.round(_LIST_DECIMALS).astype({"silent_days": "int64"}).reset_index(drop=True)


def _listed(found: EarlyWarning) -> pd.DataFrame:
    return found.frame[found.frame["stage"] != IN_RHYTHM]


def warning_facts(
    found: EarlyWarning,
    value: CustomerValue,
    contact_cost: float | None,
    small_group: int = 10,
    cost_from: str = "study",
) -> dict[str, Any]:
    """The facts of the early-warning sentences; money and dates of fewer customers than `small_group` are left out.

    `cost_from` is what :func:`analysis.valuation.price_of_contact` gives. `split` says whether those who can still be kept
    are told apart from those who are late, here as in :func:`warning_table`: not where either are too few to be shown.
    `expected_saved` is what contacts to all who are in time are taken to save, before their cost; `left_out_share` the share of
    the value at risk that the base's total does not count on anyway.
    """
    listed = _listed(found)
    shown = len(listed) == 0 or len(listed) >= small_group
    in_time = listed[~listed["late"]]
    late = len(listed) - len(in_time)
    split = shown and _told_apart([len(in_time), late], small_group)
    at_risk, kept, cost = found.value_at_risk, found.in_time, contact_cost or 0.0
    spends = split and len(in_time) > 0
    return {
        "watched": found.watched,
        "best": found.best,
        "unwatched_at_risk": None if np.isnan(found.unwatched_at_risk) else found.unwatched_at_risk,
        "least_purchases": found.least_gaps + 1,
        "alarms": found.alarms,
        "drifting": found.drifting,
        "listed": len(listed),
        "small": small_group,
        "shown": shown,
        "at_risk": at_risk.value if shown else None,
        "risk_low": at_risk.low if shown else None,
        "risk_high": at_risk.high if shown else None,
        "risk_reason": at_risk.reason if shown else f"it belongs to fewer than {small_group} customers",
        "chance": found.expected_false.value,
        "chance_low": found.expected_false.low,
        "chance_high": found.expected_false.high,
        "split": split,
        "late": late if split else None,
        "late_value": found.late.value if split else None,
        "in_time": len(in_time) if split else None,
        "kept_value": kept.value if split else None,
        "kept_low": kept.low if split else None,
        "kept_high": kept.high if split else None,
        **_due(in_time["act_by"], found.observed_to, small_group),
        "saved": found.saved,
        "expected_saved": found.saved * kept.value if spends else None,
        "left_out_share": _left_out(listed, value) if shown else None,
        "cost": contact_cost,
        "cost_from": cost_from,
        "break_even": len(in_time) * cost / kept.value if spends and kept.value > 0 else None,
        "worth_saving": int((in_time["most_to_spend"] > 0).sum()),
        "spend_each": found.most_to_spend / len(in_time) if spends else None,
        "kind": "sales" if value.margin is None else "margin",
        "horizon": value.horizon_weeks,
        "replayed": found.replay is not None,
        "replay_reason": found.replay_reason,
        "corrected": found.replay is not None and found.replay.learned is not None,
    }


def _due(act_by: pd.Series, observed_to: datetime.date, small_group: int) -> dict[str, Any]:
    """By when the first tenth of those in time, and by when half of them, are to be contacted, and how many are due then.

    The first are at least `small_group`; None where there are fewer in all. `first_now` and `half_now` say that these
    days have come: they are the last observed day.
    """
    dates, facts = act_by.sort_values(), {}
    for name, share in (("first", _FIRST), ("half", 0.5)):
        at = max(int(np.ceil(share * len(dates))), small_group, 1)
        day = dates.iloc[at - 1] if len(dates) >= at else None
        facts[f"{name}_by"] = day
        facts[f"{name}_due"] = None if day is None else int((dates <= day).sum())
        facts[f"{name}_now"] = day is not None and day <= observed_to
    return facts


def _left_out(listed: pd.DataFrame, value: CustomerValue) -> float | None:
    """The share of the value at risk that the base's total, customers as they stand, leaves out."""
    frame, at_risk = value.frame.set_index("customer_id"), listed["value_at_risk"].to_numpy(float)
    stands = frame["expected_purchases"] * frame["expected_spend"] if value.margin is None else frame["residual_value"]
    missing = listed["value_in_rhythm"].to_numpy(float) - stands.reindex(listed["customer_id"]).to_numpy(float)
    return float(np.clip(missing, 0.0, at_risk).sum() / at_risk.sum()) if at_risk.sum() > 0 else None


def replay_facts(
    found: Replay, value: CustomerValue, holdout: Holdout | None = None, small_group: int = 10
) -> dict[str, Any]:
    """What came of earlier lists: of those whom habit alone called late, in time and in rhythm, and of the corrected list.

    Each part has `_n` (cases: a customer on a day), `_returned`, `_share` with `_low` and `_high`, `_since` (share that bought
    by the end of the data), `_kept` (share of their rhythm that they went on buying), `_said` and `_says` (mean P(still there)
    by habit alone, and corrected by other customers' replays); None where they are fewer customers than `small_group`.
    `now_late` and `now_in_time` are the parts that the corrected list makes. `too_low` says that of the late more came back
    than habit alone allowed, by more than chance; `held` that no part of the corrected list did so.
    See :func:`_model_tested` for the rest.
    """
    frame = found.frame
    listed = frame["stage"] != IN_RHYTHM
    facts: dict[str, Any] = {
        "weeks": found.weeks,
        "times": len(found.cuts),
        "latest": found.cuts[0],
        "earliest": found.cuts[-1],
        "corrected": found.learned is not None,
    }
    now_late = listed & frame["says_late"]
    parts = _replayed_parts(frame) | {"now_late": now_late, "now_in_time": listed & ~now_late}
    for name, part in parts.items():
        facts |= _returns_of(name, frame[part], small_group)
    facts["too_low"] = facts["late_low"] is not None and facts["late_low"] > facts["late_said"]
    held = [
        facts[f"{n}_low"] <= facts[f"{n}_says"] for n in ("now_late", "now_in_time") if facts[f"{n}_low"] is not None
    ]
    facts["held"] = all(held)
    return facts | _model_tested(found, value, holdout, small_group)


def _replayed_parts(frame: pd.DataFrame) -> dict[str, pd.Series]:
    listed = frame["stage"] != IN_RHYTHM
    return {"late": listed & frame["late"], "in_time": listed & ~frame["late"], "rhythm": ~listed}


def _returns_of(name: str, part: pd.DataFrame, small_group: int) -> dict[str, Any]:
    keys = {"n": "customers", "since": "returned_since"} | {
        key: key for key in ("returned", "share", "low", "high", "kept", "said", "says")
    }
    if part["customer_id"].nunique() < max(small_group, 1):
        return {f"{name}_{key}": None for key in keys}
    counted = count_returns(part)
    return {f"{name}_{key}": counted[column] for key, column in keys.items()}


def _model_tested(found: Replay, value: CustomerValue, holdout: Holdout | None, small_group: int) -> dict[str, Any]:
    """What the model that values customers foresaw of those who had broken with their habit on the latest day, and what came.

    The holdout's model is fitted on the purchases up to that day. `model` is None where no model values customers, or the holdout
    is of another length; `model_expected` and `model_came` are occasions, `model_in_rhythm` those at the customers' own rate.
    """
    column, nothing = f"forecast: {value.forecast}", {"model": None}
    usable = holdout is not None and value.forecast_kind == "model" and column in holdout.frame
    if not usable or round(holdout.weeks) != found.weeks:
        return nothing
    then = found.frame[(found.frame["cut"] == found.cuts[0]) & (found.frame["stage"] == BROKE)]
    both = then.merge(holdout.frame[["customer_id", column]], on="customer_id")
    if len(both) < max(small_group, 1):
        return nothing
    return {
        "model": value.forecast,
        "model_of": len(both),
        "model_expected": float(both[column].sum()),
        "model_came": int(both["bought"].sum()),
        "model_in_rhythm": float(both["expected"].sum()),
    }


def replay_table(found: Replay, fmt: Formatter, small_group: int = 10) -> pd.DataFrame:
    """What came of earlier lists, by what habit alone had said: the columns of `REPLAY_COLUMNS`; small groups are left out."""
    names = {"late": "probably too late", "in_time": "still in time", "rhythm": "in rhythm"}
    rows = []
    for key, part in _replayed_parts(found.frame).items():
        facts = _returns_of("of", found.frame[part], small_group)
        if facts["of_n"] is not None:
            came = _ranged(facts["of_share"], facts["of_low"], facts["of_high"], "share", fmt)
            rows.append((names[key], facts["of_n"], came, facts["of_said"], facts["of_says"], facts["of_kept"]))
    return pd.DataFrame(rows, columns=list(REPLAY_COLUMNS))


def _told_apart(sizes: list[int], least: int) -> bool:
    """Whether all groups may be shown: none of them has members and fewer than `least`."""
    return all(not 0 < size < least for size in sizes)


def warning_table(found: EarlyWarning, small_group: int = 10) -> pd.DataFrame:
    """The watched customers by stage and by whether it is too late, in words.

    Groups smaller than `small_group` are merged, across stages first, so that what can still be kept stays apart from
    what is probably lost; then they are left out.

    Returns
    -------
    DataFrame
        The columns of `WARNING_COLUMNS`; `still_there` is the share expected to be, `value_at_risk` a total.
    """
    frame = found.frame
    broke, drifting, late = frame["stage"] == BROKE, frame["stage"] == DRIFTING, frame["late"]
    finest = [
        ("broken, probably too late", broke & late),
        ("broken, still in time", broke & ~late),
        ("drifting, probably too late", drifting & late),
        ("drifting, still in time", drifting & ~late),
    ]
    act_on = broke | drifting
    by_time = [
        ("broken or drifting, probably too late", act_on & late),
        ("broken or drifting, still in time", act_on & ~late),
    ]
    stages = [("broken", broke), ("drifting", drifting)]
    together = [("broken or drifting", act_on)]
    choices = (finest, by_time, stages)
    parts = next((c for c in choices if _told_apart([part.sum() for _, part in c], small_group)), together)
    rows = []
    for name, part in [*parts, ("in rhythm", frame["stage"] == IN_RHYTHM)]:
        group = frame[part]
        if len(group) >= max(small_group, 1):
            means = group[["silent_days", "usual_gap"]].mean()
            at_risk, there = group["value_at_risk"].sum(), group["probability_alive"].mean()
            rows.append((name, len(group), at_risk, there, means["silent_days"], means["usual_gap"]))
    return pd.DataFrame(rows, columns=list(WARNING_COLUMNS))


# -- win-back ----------------------------------------------------------------------------------------------------------


def run_win_back(
    order_lines: ibis.Table,
    summary: pd.DataFrame,
    value: CustomerValue,
    *,
    observed_from: datetime.date,
    observed_to: datetime.date,
    lapse_weeks: int,
    return_weeks: int,
    incentive: float = 0.0,
    raised: float = 0.20,
    annual_discount: float | None = None,
    contact_cost: float | None = None,
    small_group: int = 10,
) -> tuple[WinBack | None, str]:
    """Rank the lapsed customers by what an offer to win them back gains.

    Parameters
    ----------
    order_lines : ibis.Table
    summary : DataFrame
        The canonical `customer_summary` (days).
    value : CustomerValue
    observed_from, observed_to : date
    lapse_weeks, return_weeks : int
        Silence from which a customer is lapsed; time to come back in, and length of the life after that.
    incentive : float
        Money for a customer who comes back.
    raised : float
        Assumed: the share by which an offer raises the chance of coming back.
    annual_discount, contact_cost : float, optional
        0 where the study states none.
    small_group : int

    Returns
    -------
    found : WinBack or None
        None where it cannot be done.
    reason : str
        Why not; empty otherwise.
    """
    spend = value.frame.set_index("customer_id")["expected_spend"]
    margin = 1.0 if value.margin is None else value.margin

    def make() -> WinBack:
        history = return_history(
            order_lines,
            observed_from,
            observed_to,
            lapse_weeks=lapse_weeks,
            horizon_weeks=return_weeks,
            discount=weekly_discount(annual_discount),
            small_group=small_group,
        )
        if history.returns.empty:
            raise ValueError(f"win-back: no group of those who had lapsed holds {small_group} customers")
        return win_back(
            summary,
            history,
            expected_spend=spend if np.isfinite(spend).all() else None,
            margin=margin,
            incentive=incentive,
            contact_cost=contact_cost or 0.0,
            rise=raised,
            small_group=small_group,
        )

    return found_or_reason(make)


def win_back_facts(
    found: WinBack,
    value: CustomerValue,
    incentive: float,
    contact_cost: float | None,
    small_group: int = 10,
    cost_from: str = "study",
) -> dict[str, Any]:
    """The facts of the win-back sentences; money of fewer customers than `small_group` is left out."""
    returns = found.history.returns
    returned, of = returns["returned"].sum(), returns["customers"].sum()
    low, high = share_interval(returned, of)
    shown = found.worth_it == 0 or found.worth_it >= small_group
    pays = found.frame[found.frame["expected_value"] > 0]
    needed = pays["break_even_rise"]
    return {
        "lapsed": found.customers,
        "worth_it": found.worth_it,
        "pays": found.pays,
        "raised": found.rise,
        "small": small_group,
        **_money_of("gain", found.gain, found.pays, small_group),
        **_money_of("brings", found.expected_value, found.worth_it, small_group),
        "return_share": float(returned / of),
        "return_low": float(low),
        "return_high": float(high),
        "lapse_weeks": float(found.history.edges[0]),
        "return_weeks": found.history.horizon_weeks,
        "life_weeks": found.history.life_weeks,
        "incentive": incentive,
        "cost": contact_cost,
        "cost_from": cost_from,
        "needed": float(needed.median()) if shown and len(pays) and (incentive or contact_cost) else None,
        "kind": "sales" if value.margin is None else "margin",
    }


def _money_of(name: str, total: Estimate, customers: int, small_group: int) -> dict[str, Any]:
    """A total with its range and reason, or no money where it belongs to some, but fewer than `small_group`."""
    keys = (name, f"{name}_low", f"{name}_high", f"{name}_reason")
    if 0 < customers < small_group:
        return dict(zip(keys, (None, None, None, f"it belongs to fewer than {small_group} customers"), strict=True))
    return dict(zip(keys, (*total.interval, total.reason), strict=True))


def win_back_list(found: WinBack, warning: EarlyWarning | None) -> pd.DataFrame:
    """The ranking for export, the customer to approach first on top.

    One row a lapsed customer: `customer_id`, `rank`, then the columns of `WinBack.frame`, money to the cent, shares to three
    decimals and weeks to one; `on_early_warning`, whether :func:`warning_list` names them too.
    """
    warned = [] if warning is None else warning_list(warning)["customer_id"]
    frame = found.frame.sort_values("rank", ignore_index=True)
    decimals = dict.fromkeys(frame.select_dtypes("float"), 2)
    shares = ("probability", "probability_low", "probability_high", "break_even_rise")
    frame = frame.round(decimals | dict.fromkeys(shares, 3) | {"silent_weeks": 1})
    columns = ["customer_id", "rank", *(name for name in frame if name not in ("customer_id", "rank"))]
    return frame[columns].assign(on_early_warning=frame["customer_id"].isin(warned))


def win_back_table(found: WinBack, fmt: Formatter) -> pd.DataFrame:
    """The lapsed by group with intervals in words; see `WINBACK_COLUMNS`."""
    names = ["probability", "gain", "expected_value"]
    ends = [f"{name}_{end}" for name in names for end in ("low", "high")]
    means = found.frame.groupby(["silence", "kind"])[[*names, *ends]].mean()
    table = found.groups[["silence", "kind", "customers"]].join(means, on=["silence", "kind"])
    shown = {"returns": ("probability", "share"), "worth": ("expected_value", "money"), "gain": ("gain", "money")}
    for column, (name, unit) in shown.items():
        table[column] = _with_range(table[name], table[f"{name}_low"], table[f"{name}_high"], unit, fmt)
    return table


# -- validation --------------------------------------------------------------------------------------------------------


def run_validation(
    holdout: Holdout, order_lines: ibis.Table, observed_to: datetime.date, *, draws: int, small_group: int, seed: int
) -> Validation:
    """The validation page of a holdout, simulated for its best model alone.

    Parameters
    ----------
    holdout : Holdout
        From :func:`run_holdout`.
    order_lines : ibis.Table
    observed_to : date
    draws : int
        Simulated holdouts a customer.
    small_group : int
    seed : int
    """
    cut = observed_to - datetime.timedelta(days=round(holdout.weeks * DAYS_PER_WEEK))
    weekly = weekly_purchases(order_lines, cut, observed_to)
    names = [] if holdout.best_model is None else [holdout.best_model]
    return validate(holdout, weekly, names=names, draws=draws, small_group=small_group, seed=seed)


def rankers(holdout: Holdout) -> list[str]:
    """The forecasts whose ranking is drawn: the best model where there is one, and the best plain rule."""
    return [name for name in (holdout.best_model, holdout.best_heuristic) if name is not None]


def validation_facts(found: Validation, holdout: Holdout) -> dict[str, Any]:
    """What the pictures of validation say in words."""
    first = rankers(holdout)[0]
    lift = found.lift[np.isclose(found.lift["share"], 0.1)].set_index("forecast")
    facts: dict[str, Any] = {
        "weeks": holdout.weeks,
        "model": holdout.best_model or "",
        "rule": as_subject(holdout.best_heuristic, capital=False),
        "ranker": as_subject(first, capital=False),
        "top": lift.loc[first, "purchases"],
        "top_low": lift.loc[first, "purchases_low"],
        "top_high": lift.loc[first, "purchases_high"],
        "perfect": lift.loc[PERFECT, "purchases"],
        "rule_top": lift.loc[holdout.best_heuristic, "purchases"],
    }
    if holdout.best_model is not None:
        groups = found.returning[found.returning["forecast"] == holdout.best_model]
        apart = (groups["predicted"] - groups["actual"]).abs()
        brier = found.returning_scores.set_index("forecast")["brier"]
        facts |= {
            "groups": len(groups),
            "inside": int(groups["inside"].sum()),
            "apart": 100.0 * float(np.average(apart, weights=groups["customers"])),
            "useful": bool(brier[holdout.best_model] < brier[EVERYBODY]),
            **calibration_facts(groups),
        }
    return facts


def calibration_facts(groups: pd.DataFrame) -> dict[str, Any]:
    """What one forecast's groups say of its probabilities of coming back; see :class:`Calibration` for the verdicts."""
    found = calibration(groups)
    slope, slope_low, slope_high = found.slope.interval
    return {
        "held": found.held,
        "level": found.level_verdict,
        "spread": found.slope_verdict,
        "fits": found.fits,
        "said_mean": found.said,
        "came_mean": found.came,
        "gap": found.level.value,
        "gap_low": found.level.low,
        "gap_high": found.level.high,
        "slope": slope if np.isfinite(slope) else None,
        "slope_low": slope_low,
        "slope_high": slope_high,
        **_telling(groups, found.slope_verdict),
    }


def _telling(groups: pd.DataFrame, spread: str) -> dict[str, Any]:
    """Of the lower and of the upper half of the groups, the one that shows the fault most clearly: what it said and what
    came; None where no group of that half is off that way by more than chance, or nothing is at fault."""
    errors = np.sqrt(np.maximum(groups["predicted"] * (1.0 - groups["predicted"]), 1e-12) / groups["customers"])
    over = (groups["predicted"] - groups["actual"]) / errors
    signs = {"extreme": (-1.0, 1.0), "cautious": (1.0, -1.0)}.get(spread, (0.0, 0.0))
    half, facts = len(groups) // 2, {}
    for name, sign, part in zip(("low", "high"), signs, (groups.index[:half], groups.index[half:]), strict=True):
        shown = [at for at in part if sign * over[at] > 0 and not groups.loc[at, "inside"]]
        at = max(shown, key=lambda at: abs(over[at]), default=None)
        said = (None, None) if at is None else groups.loc[at, ["predicted", "actual"]]
        facts |= dict(zip((f"{name}_said", f"{name}_came"), said, strict=True))
    return facts


def alive_facts(
    value: CustomerValue,
    models: FittedModels,
    summary: pd.DataFrame,
    holdout: Holdout | None,
    *,
    draws: int,
    small_group: int,
    seed: int,
) -> dict[str, Any]:
    """The share of customers who are still active, its range, and whether that model's probabilities held in the test.

    Parameters
    ----------
    value : CustomerValue
        One whose `alive_model` is not None.
    models : FittedModels
        Fitted on `summary`.
    summary : DataFrame
        The canonical `customer_summary` (days).
    holdout : Holdout or None
    draws : int
        Simulated holdouts a customer.
    small_group, seed : int

    Returns
    -------
    dict
        `alive`, `alive_low`, `alive_high`; `least_model` and `least_alive`, `most_model` and `most_alive`: the ends of what
        models of leaving say; `alive_tested`, and where it is true `weeks`, `alive_then` (said at the start of the held-out
        weeks), `bought` (share who bought in them: all of these were active, so it is a lower bound) with its limits, and what
        :func:`calibration_facts` says of the model's probabilities of buying in them.
    """
    name = value.alive_model
    if name is None:
        raise ValueError(f"alive: no model gives a probability ({value.alive_reason})")
    share, by_model = share_active(models, name, summary, seed=seed)
    least, most = min(by_model, key=by_model.__getitem__), max(by_model, key=by_model.__getitem__)
    tested = holdout is not None and name in holdout.models.purchases
    facts = {
        "alive": share.value,
        "alive_low": share.low,
        "alive_high": share.high,
        "least_model": least,
        "least_alive": by_model[least],
        "most_model": most,
        "most_alive": by_model[most],
        "alive_tested": tested,
    }
    if not tested:
        return facts
    groups = returning_groups(holdout, name, draws, small_group, seed)
    bought = (holdout.frame["holdout_frequency"] > 0).to_numpy()
    low, high = share_interval(bought.sum(), len(bought))
    ends = {
        "weeks": holdout.weeks,
        "bought": float(bought.mean()),
        "bought_low": float(low),
        "bought_high": float(high),
    }
    then = float(np.average(groups["alive"], weights=groups["customers"]))
    return facts | ends | {"alive_then": then} | calibration_facts(groups)


def claims_for_people(found: Validation, fmt: Formatter, customer: str = "customer") -> pd.DataFrame:
    """What a model claimed for the holdout beside what came: totals and the ranges of single customers.

    Returns
    -------
    DataFrame
        The columns of `CLAIM_COLUMNS`, all text; empty where no model was simulated.
    """
    units, rows = {"purchases": "count", "spend": "money"}, []
    for row in found.totals.itertuples():
        unit = units[row.what]
        said = _ranged(row.expected, row.low, row.high, unit, fmt)
        rows.append((f"All {row.what}", "yes" if row.inside else "no", said, fmt.value(row.actual, unit)))
    single = found.coverage[found.coverage["level"].isin(_SHOWN_LEVELS)] if len(found.coverage) else found.coverage
    for row in single.itertuples():
        too = "no, too narrow" if row.covered < row.claimed else "no, too wide"
        held = "yes" if row.low <= row.claimed <= row.high else too
        came = _ranged(row.covered, row.low, row.high, "share", fmt)
        name = f"One {customer}’s {row.what}: range to hold {fmt.share(row.claimed)}"
        said = f"{fmt.share(row.level, 0)} range, should hold {fmt.share(row.claimed)}"
        rows.append((name, held, said, f"held {came}"))
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


def claims_facts(found: Validation) -> dict[str, Any]:
    """How many of the totals, and of the ranges that :func:`claims_for_people` shows, held."""
    if not len(found.totals):
        return {"totals": 0, "totals_held": 0, "ranges": 0, "ranges_held": 0}
    single = found.coverage[found.coverage["level"].isin(_SHOWN_LEVELS)]
    held = (single["low"] <= single["claimed"]) & (single["claimed"] <= single["high"])
    return {
        "totals": len(found.totals),
        "totals_held": int(found.totals["inside"].sum()),
        "ranges": len(single),
        "ranges_held": int(held.sum()),
    }


# -- contest -----------------------------------------------------------------------------------------------------------


def run_contest(
    holdout: Holdout, order_lines: ibis.Table, observed_from: datetime.date, observed_to: datetime.date, seed: int = 1
) -> tuple[Contest | None, str]:
    """Let scores, rules, a learner and the models foresee the spend of the held-out weeks.

    Parameters
    ----------
    holdout : Holdout
        From :func:`run_holdout`.
    order_lines : ibis.Table
    observed_from, observed_to : date
    seed : int

    Returns
    -------
    found : Contest or None
        None where it cannot be done.
    reason : str
        Why not; empty otherwise.
    """

    def make() -> Contest:
        weeks = round(holdout.weeks)
        splits = contest_splits(order_lines, observed_from, observed_to, weeks, later=holdout.frame)
        return contest(splits, holdout, seed=seed, replications=_REPLICATIONS)

    return found_or_reason(make)


def contest_facts(found: Contest) -> dict[str, Any]:
    """Who won, who may be as good, and who could not take part."""
    best = found.scores.iloc[0]
    top = found.scores.loc[found.scores["top_decile_share"].idxmax()]
    return {
        "weeks": found.weeks,
        "best": found.best,
        "best_words": as_subject(found.best),
        "error": best["rmse"],
        "error_low": best["rmse_low"],
        "error_high": best["rmse_high"],
        "tied": [as_subject(name, capital=False) for name in found.tied],
        "methods": len(found.scores),
        "ranks_best": as_subject(str(top["method"]), capital=False),
        "ranks_same": str(top["method"]) == found.best,
        "unfit": [name for name in found.not_trained if name not in FORECAST_WORDS],
        "untaught": [name for name in found.not_trained if name in FORECAST_WORDS],
        "untaught_reason": next((r for name, r in found.not_trained.items() if name in FORECAST_WORDS), ""),
        "spend_each": found.actual / found.customers,
    }


def contest_for_people(found: Contest, fmt: Formatter) -> pd.DataFrame:
    """All methods, best first, with intervals and a verdict in words; see `CONTEST_COLUMNS`."""
    scores = found.scores
    columns = {"error": ("rmse", "money"), "top": ("top_decile_share", "share")}
    table = pd.DataFrame({"method": [_named(name) for name in scores["method"]]})
    for column, (name, unit) in columns.items():
        table[column] = _with_range(scores[name], scores[f"{name}_low"], scores[f"{name}_high"], unit, fmt)
    table["verdict"] = np.where(scores["best"], "best", np.where(scores["tied"], "may be as good", "worse"))
    return table


# -- track record ------------------------------------------------------------------------------------------------------


def run_track_record(
    last: Edition | None,
    order_lines: ibis.Table,
    summary: pd.DataFrame,
    observed_to: datetime.date,
    margin_rate: float | None = None,
    small_group: int = 10,
    currency: str | None = None,
) -> tuple[TrackRecord | None, str]:
    """Hold what an earlier edition forecast against what came since.

    Parameters
    ----------
    last : Edition or None
        None where there is none yet.
    order_lines : ibis.Table
    summary : DataFrame
        The present `customer_summary`.
    observed_to : date
    margin_rate : float, optional
        As the study states it.
    small_group : int
    currency : str, optional
        In which the study counts now; money of an edition in another one is not judged.

    Returns
    -------
    found : TrackRecord or None
        None where nothing can be said.
    reason : str
        Why not; empty otherwise.
    """
    if last is None or not last.has("customer_value"):
        return None, f"there is no edition whose data ended at least {TRACK_WEEKS:g} weeks before these"
    found = track_record(
        last.read("customer_value"),
        order_lines,
        as_of=last.observed_to,
        observed_to=observed_to,
        horizon_weeks=last.parameters["horizon_weeks"],
        margin=margin_share(summary, margin_rate),
        annual_discount=last.money.get("discount_rate") or 0.0,
        small_group=small_group,
        currencies=(last.currency, currency),
    )
    return (found, "") if found.judged else (None, found.reason)


def track_facts(found: TrackRecord) -> dict[str, Any]:
    """The facts of the track record's sentences."""
    ratio = found.ratio
    return {
        "as_of": found.as_of,
        "weeks": found.weeks,
        "horizon": found.horizon_weeks,
        "known": found.customers,
        "newcomers": found.newcomers,
        "missing": found.missing,
        "expected": round(found.expected),
        "actual": round(found.actual),
        "clear": ratio.low is not None and not ratio.low <= 1.0 <= ratio.high,
        "groups": len(found.by_group),
        **_ends("value", found.value_ratio),
        **_ends("held", found.coverage),
    }


def _ends(name: str, estimate: Estimate) -> dict[str, Any]:
    keys = (f"{name}_ratio", f"{name}_low", f"{name}_high", f"{name}_reason")
    return dict(zip(keys, (*estimate.interval, estimate.reason), strict=True))


def _named(method: str) -> str:
    return FORECAST_WORDS.get(method, method)


def _with_range(values: pd.Series, low: pd.Series, high: pd.Series, unit: str, fmt: Formatter) -> list[str]:
    return [_ranged(value, a, b, unit, fmt) for value, a, b in zip(values, low, high, strict=True)]


def _ranged(value: float, low: float, high: float, unit: str, fmt: Formatter) -> str:
    """A value with its interval, as short as a table needs it."""
    if not np.isfinite(value):
        return fmt.missing
    if unit == "share" and abs(value) >= _WHOLE_PERCENT_FROM:
        return f"{fmt.share(value, 0)} ({fmt.share(low, 0)} – {fmt.share(high, 0)})"
    return f"{fmt.value(value, unit)} ({fmt.value(low, unit)} – {fmt.value(high, unit)})"
