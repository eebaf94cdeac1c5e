"""Service and complaints: how many, how long, for whom, and what goes with them.

A *case* is one contact that a customer opened: a complaint, a question, a request to return something. A case is resolved
when it has a time of resolution and its outcome does not say otherwise; every other case is open up to the end of the
data (censored), not dropped. Periods have equal length and are counted back from the last observed day, so that the
newest can be set against the one before.

Sources: Kaplan & Meier (1958), J. Amer. Statist. Assoc. 53 (resolution times); Brookmeyer & Crowley (1982), Biometrics
38, 29-41 (limits of a quantile); Przyborowski & Wilenski (1940), Biometrika 31 (ratio of two Poisson counts); McCollough
& Bharadwaj (1992), Marketing Theory and Applications (service recovery paradox). Everything here is association, not cause.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

import ibis
import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import special, stats
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.proportion import proportion_confint

from analysis.errors import RapportError
from analysis.valuation.summary import purchase_days

from .moments import Array
from .path_model import respondents_of

COMPLAINT = "complaint"
NONE, IN_TIME, LATE = "no complaint", "solved in time", "late or unsolved"
CONTRASTS = (("in time against late", IN_TIME, LATE), ("paradox", IN_TIME, NONE), ("late against none", LATE, NONE))
PERIOD_DAYS = 91
MINIMUM = 10


class ServiceError(RapportError):
    """The contacts cannot carry the analysis; the message says why and what to do."""


# -- cases and periods ----------------------------------------------------------------------------------------


def service_cases(
    interactions: pd.DataFrame,
    observed_to: datetime.date,
    *,
    timezone: str = "UTC",
    unsolved: Iterable[str] = ("unresolved",),
) -> pd.DataFrame:
    """Contacts as cases with a time of their own, open ones censored at the end of the data.

    Parameters
    ----------
    interactions : the canonical table; `channel`, `outcome`, `resolved_at` may be absent or null
    observed_to : last observed day, local
    unsolved : outcomes of a case that was closed without being solved; it counts as open to the end

    Returns
    -------
    One row a case opened by `observed_to`: customer_id, kind, channel ("unknown" where null), opened_at (local time),
    opened_on (its day), days (opened to resolved, or to the end of the data), resolved (bool).

    Raises
    ------
    ServiceError
        A column that it needs is absent, or a case is resolved before it is opened.
    """
    absent = [c for c in ("customer_id", "opened_at", "kind") if c not in interactions.columns]
    if absent:
        raise ServiceError(f"interactions: no column {absent[0]!r}; map it in the study's tables")
    opened, closed = (_local(interactions, column, timezone) for column in ("opened_at", "resolved_at"))
    early = int((closed < opened).sum())
    if early:
        raise ServiceError(f"interactions: {early} cases are resolved before they are opened; correct opened_at")
    end = pd.Timestamp(observed_to) + pd.Timedelta(days=1)
    outcome = interactions.get("outcome", pd.Series(index=interactions.index, dtype="str"))
    resolved = closed.notna() & ~outcome.isin(list(unsolved)) & (closed < end)
    days = (closed.where(resolved, end) - opened) / pd.Timedelta(days=1)
    channel = interactions.get("channel", pd.Series(index=interactions.index, dtype="str"))
    frame = pd.DataFrame(
        {
            "customer_id": interactions["customer_id"],
            "kind": interactions["kind"].fillna("unknown").astype("str"),
            "channel": channel.fillna("unknown").astype("str"),
            "opened_at": opened,
            "opened_on": opened.dt.normalize(),
            "days": days,
            "resolved": resolved,
        }
    )
    return frame[opened < end].reset_index(drop=True)


def _local(frame: pd.DataFrame, column: str, timezone: str) -> pd.Series:
    values = frame.get(column, pd.Series(pd.NaT, index=frame.index))
    return pd.to_datetime(values, utc=True).dt.tz_convert(timezone).dt.tz_localize(None)


def whole_periods(
    observed_from: datetime.date, observed_to: datetime.date, period_days: int = PERIOD_DAYS
) -> pd.DataFrame:
    """Periods of equal length that end with the last observed day, oldest first: starts_on, ends_on.

    Raises ServiceError if not even one fits.
    """
    count = ((observed_to - observed_from).days + 1) // period_days
    if count < 1:
        raise ServiceError(f"the data cover less than one period of {period_days} days; use a shorter period")
    ends = pd.Timestamp(observed_to) - pd.to_timedelta(period_days * np.arange(count)[::-1], unit="D")
    return pd.DataFrame({"starts_on": ends - pd.Timedelta(days=period_days - 1), "ends_on": ends})


def active_customers(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    period_days: int = PERIOD_DAYS,
) -> pd.DataFrame:
    """How many customers were active in each period: who bought in it or in the one before.

    Parameters
    ----------
    order_lines : the canonical table, or its `purchase_days`

    Returns
    -------
    One row a period, oldest first: starts_on, ends_on, customers. In the first period nobody is known to have bought
    before, so it counts too few where customers existed before the data.
    """
    periods = whole_periods(observed_from, observed_to, period_days)
    days = purchase_days(order_lines, observed_to)
    ago = ibis.literal(observed_to).delta(days.order_date, unit="day") // period_days
    bought = days.select("customer_id", ago=ago.cast("int64")).distinct()
    both = bought.union(bought.mutate(ago=bought.ago - 1)).filter(ibis._.ago >= 0).distinct()
    counts = both.group_by("ago").aggregate(customers=both.customer_id.count()).to_pyarrow().to_pandas()
    found = counts.set_index("ago")["customers"].reindex(range(len(periods)), fill_value=0)
    return periods.assign(customers=found.to_numpy()[::-1].astype(int))


def purchases_around(
    order_lines: ibis.Table,
    moments: pd.DataFrame,
    *,
    before_days: int = 365,
    recent_days: int = PERIOD_DAYS,
    after_days: int = PERIOD_DAYS,
    gap_days: int = 0,
) -> pd.DataFrame:
    """Purchase days strictly before and strictly after a moment of a customer (an answer, a complaint), on the engine.

    Parameters
    ----------
    order_lines : the canonical table, or its `purchase_days`
    moments : one row a moment: customer_id (null: nobody known), on (day)
    gap_days : days after the moment that belong to neither side

    Returns
    -------
    One row a moment, in the order and with the index of `moments`: before and recent (purchase days in the
    `before_days` and the `recent_days` ahead of it), known_days (since the first purchase; 0 without one before), after
    (purchase days in the `after_days` that follow the gap).
    """
    asked = pd.DataFrame({"row": np.arange(len(moments)), "customer_id": moments["customer_id"].to_numpy()})
    asked["on"] = pd.to_datetime(moments["on"]).to_numpy().astype("datetime64[s]")
    asked = asked[asked["customer_id"].notna() & asked["on"].notna()]
    columns = ["before", "recent", "known_days", "after"]
    frame = pd.DataFrame(0, index=range(len(moments)), columns=columns)
    if len(asked):
        table = ibis.memtable(asked.assign(customer_id=asked["customer_id"].astype("str")))
        table = table.select("row", "customer_id", on=table.on.cast("date"))
        days = purchase_days(order_lines)
        days = days.select(customer_id=days.customer_id.cast("string"), order_date=days.order_date)
        joined = table.inner_join(days, "customer_id")
        since = joined.on.delta(joined.order_date, unit="day")
        joined = joined.select("row", since=since.cast("int64"))
        past, gone = joined.since > 0, -joined.since - gap_days
        found = joined.group_by("row").aggregate(
            before=(past & (joined.since <= before_days)).sum(),
            recent=(past & (joined.since <= recent_days)).sum(),
            known_days=joined.since.max(),
            after=((gone > 0) & (gone <= after_days)).sum(),
        )
        found = found.to_pyarrow().to_pandas().set_index("row")
        frame.loc[found.index, columns] = found[columns].astype("int64")
    frame["known_days"] = frame["known_days"].clip(lower=0)
    return frame.set_index(moments.index)


# -- rates ----------------------------------------------------------------------------------------------------


def contact_rates(
    cases: pd.DataFrame, periods: pd.DataFrame, by: str | Sequence[str] = "kind", confidence: float = 0.95
) -> pd.DataFrame:
    """Cases a period, and per 1,000 active customers, with limits that know that some customers come back.

    Parameters
    ----------
    periods : from `active_customers`, or from `whole_periods` where there are no purchases (then no rate)
    by : column or columns of `cases`

    Returns
    -------
    One row a group and period: the columns of `by`, starts_on, cases, customers (active), per_thousand, low, high.
    """
    by = [by] if isinstance(by, str) else list(by)
    placed = _placed(cases, periods)
    rows = []
    for group, part in placed.groupby(by, sort=True):
        for k, period in enumerate(periods.itertuples()):
            inside = part[part["period"] == k]
            active = getattr(period, "customers", 0)
            low, high = _poisson_limits(len(inside), _repeated(inside["customer_id"]), confidence)
            per = 1000 / active if active else np.nan
            rows.append((*group, period.starts_on, len(inside), active, len(inside) * per, low * per, high * per))
    return pd.DataFrame(rows, columns=[*by, "starts_on", "cases", "customers", "per_thousand", "low", "high"])


def _placed(cases: pd.DataFrame, periods: pd.DataFrame) -> pd.DataFrame:
    """Cases with the number of their period; those before the first are left out."""
    period = np.searchsorted(periods["starts_on"].to_numpy(), cases["opened_on"].to_numpy(), side="right") - 1
    inside = (period >= 0) & (cases["opened_on"] <= periods["ends_on"].iloc[-1]).to_numpy()
    return cases.assign(period=period)[inside]


def _repeated(customers: pd.Series) -> float:
    """Variance of a count over what Poisson allows, from how often the same customers come: sum of n² over sum of n."""
    each = customers.value_counts(dropna=True).to_numpy(float)
    return float((each**2).sum() / each.sum()) if len(each) else 1.0


def _poisson_limits(count: int, dispersion: float, confidence: float) -> tuple[float, float]:
    """Exact limits of a Poisson mean, for the count that independent cases of the same precision would be."""
    tail, n = (1 - confidence) / 2, count / dispersion
    low = stats.gamma.ppf(tail, n) * dispersion if count else 0.0
    return float(low), float(stats.gamma.ppf(1 - tail, n + 1) * dispersion)


def rate_change(
    count: int, exposure: float, count_before: int, exposure_before: float, *, dispersion: float = 1.0,
    confidence: float = 0.95,
) -> tuple[float, float, float]:  # fmt: skip
    """Relative change of a rate from one period to the next (0.1: a tenth more) with limits.

    Given both counts together, the newer is binomial; its exact limits give those of the ratio. Not a number
    where the earlier count is 0 or nobody was active. Source: Przyborowski & Wilenski (1940).
    """
    if not (count_before and exposure and exposure_before):
        return np.nan, np.nan, np.nan
    tail, odds = (1 - confidence) / 2, exposure_before / exposure
    new, old = count / dispersion, count_before / dispersion
    low = stats.beta.ppf(tail, new, old + 1) if count else 0.0
    high = stats.beta.ppf(1 - tail, new + 1, old)
    return count / count_before * odds - 1, low / (1 - low) * odds - 1, high / (1 - high) * odds - 1


def service_table(
    cases: pd.DataFrame,
    active: pd.DataFrame,
    *,
    by: str = "kind",
    target_days: float = 7.0,
    horizon_days: float = 30.0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """The table for people: what came in the newest period, how long it took, how much changed.

    Parameters
    ----------
    active : from `active_customers`

    Returns
    -------
    One row a group, most frequent first: the group, cases, per_thousand (active customers a period), per_thousand_low,
    per_thousand_high, change (against the period before), change_low, change_high, median (days), unsolved (share after
    `horizon_days`); the last two over all periods, and not a number for fewer than 10 cases.
    """
    placed = _placed(cases, active)
    rates = contact_rates(cases, active, by, confidence)
    times = resolution_times(placed, by, target_days=target_days, horizon_days=horizon_days, confidence=confidence)
    rows = []
    for group, part in rates.groupby(by, sort=True):
        now = part.iloc[-1]
        row = {by: group, "cases": int(now["cases"]), "per_thousand": now["per_thousand"]}
        row |= {"per_thousand_low": now["low"], "per_thousand_high": now["high"]}
        change = (np.nan,) * 3
        if len(part) > 1:
            before = part.iloc[-2]
            both = placed[(placed[by] == group) & (placed["period"] >= len(active) - 2)]
            change = rate_change(
                int(now["cases"]), now["customers"], int(before["cases"]), before["customers"],
                dispersion=_repeated(both["customer_id"]), confidence=confidence,
            )  # fmt: skip
        rows.append(row | dict(zip(("change", "change_low", "change_high"), change)))
    columns = [by, "cases", "per_thousand", "per_thousand_low", "per_thousand_high"]
    frame = pd.DataFrame(rows, columns=[*columns, "change", "change_low", "change_high"])
    frame = frame.merge(times[[by, "median", "unsolved"]], on=by, how="left")
    return frame.sort_values("cases", ascending=False, kind="stable", ignore_index=True)


# -- how long -------------------------------------------------------------------------------------------------


def resolution_times(
    cases: pd.DataFrame,
    by: str | Sequence[str] = "kind",
    *,
    target_days: float = 7.0,
    horizon_days: float = 30.0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How long cases take, by Kaplan and Meier, so that open cases count for as long as they have been open.

    Returns
    -------
    One row a group: the columns of `by`, cases, open (not resolved by the end of the data), median, p90 (days; the p90 is
    not a number where fewer than nine in ten are ever resolved), in_time (share resolved within `target_days`),
    unsolved (share not resolved after `horizon_days`), each with _low and _high, and reason (text where something
    is missing, else null). An infinite upper limit is not reached in the data. Limits allow for customers with several cases.
    """
    by = [by] if isinstance(by, str) else list(by)
    rows = []
    for group, part in cases.groupby(by, sort=True):
        row = dict(zip(by, group)) | {"cases": len(part), "open": int((~part["resolved"]).sum())}
        rows.append(row | _times(part, target_days, horizon_days, confidence))
    return pd.DataFrame(rows, columns=None if rows else [*by, "cases", "open", *_TIMES])


_TIMES = tuple(f"{name}{end}" for name in ("median", "p90", "in_time", "unsolved") for end in ("", "_low", "_high"))
_TIMES += ("reason",)


def _times(part: pd.DataFrame, target_days: float, horizon_days: float, confidence: float) -> dict:
    if len(part) < MINIMUM or not part["resolved"].any():
        few = f"fewer than {MINIMUM} cases" if len(part) < MINIMUM else "no case is resolved"
        return dict.fromkeys(_TIMES, np.nan) | {"reason": few}
    curve = _Survival(part["days"].to_numpy(), part["resolved"].to_numpy(), part["customer_id"], confidence)
    row = {}
    for name, quantile in (("median", 0.5), ("p90", 0.9)):
        row |= _named(name, curve.quantile(quantile))
    share, low, high = curve.at(target_days)
    row |= _named("in_time", (1 - share, 1 - high, 1 - low)) | _named("unsolved", curve.at(horizon_days))
    reached = np.isfinite(row["p90"])
    return row | {"reason": None if reached else "fewer than nine in ten are ever resolved"}


def _named(name: str, values: Sequence[float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values))


class _Survival:
    """Kaplan-Meier curve of cases with limits for clustered customers.

    Limits are Greenwood's on the log(-log) scale, widened by the design effect of the customers at the time in question.
    """

    def __init__(self, days: Array, resolved: Array, customers: pd.Series, confidence: float) -> None:
        fit = SurvfuncRight(days, resolved.astype(int))
        self.times, self.share, self.error = fit.surv_times, fit.surv_prob, fit.surv_prob_se
        self._hazard, self._at_risk = fit.n_events / fit.n_risk, fit.n_risk
        self._days, self._resolved, self._owners = days, resolved, respondents_of(customers)
        self._z = stats.norm.ppf((1 + confidence) / 2)
        self._confidence = confidence

    def at(self, time: float) -> tuple[float, float, float]:
        """Share still open after `time` days, with limits."""
        k = int(np.searchsorted(self.times, time, side="right")) - 1
        share = float(self.share[k]) if k >= 0 else 1.0
        if not 0 < share < 1:
            n = len(self._days)
            low, high = proportion_confint(round(share * n), n, 1 - self._confidence, method="wilson")
            return share, float(low), float(high)
        spread = self._z * self._spread(time)[k]
        centre = np.log(-np.log(share))
        return share, float(np.exp(-np.exp(centre + spread))), float(np.exp(-np.exp(centre - spread)))

    def quantile(self, quantile: float) -> tuple[float, float, float]:
        """Days within which this share of the cases is resolved, with limits; NaN where it is never reached."""
        reached = np.flatnonzero(self.share <= 1 - quantile + 1e-12)
        if not len(reached):
            return np.nan, np.nan, np.nan
        time = float(self.times[reached[0]])
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.log(-np.log(self.share)) - np.log(-np.log(1 - quantile))
            inside = np.flatnonzero(np.abs(gap) <= self._z * self._spread(time))
        if not len(inside):
            return time, time, time
        last = inside[-1] + 1
        return (
            time,
            float(min(self.times[inside[0]], time)),
            float(self.times[last]) if last < len(self.times) else np.inf,
        )

    def _spread(self, time: float) -> Array:
        """Standard error of log(-log share) at every event time."""
        with np.errstate(divide="ignore", invalid="ignore"):
            error = self.error / (self.share * np.abs(np.log(self.share)))
        return error * np.sqrt(self._design_effect(time))

    def _design_effect(self, time: float) -> float:
        """Variance of the cumulative hazard with customers drawn whole over that with cases drawn singly, at least 1."""
        if self._owners.max() + 1 == len(self._owners):
            return 1.0
        until = np.minimum(self._days, time)
        place = np.searchsorted(self.times, until, side="right")
        paid = np.append(0.0, np.cumsum(self._hazard / self._at_risk))[place]
        own = np.searchsorted(self.times, self._days)
        event = self._resolved & (self._days <= time)
        influence = np.where(event, 1 / self._at_risk[np.minimum(own, len(self.times) - 1)], 0.0) - paid
        alone = (influence**2).sum()
        return max(1.0, float((np.bincount(self._owners, influence) ** 2).sum() / alone)) if alone > 0 else 1.0


# -- who comes back, and for what -----------------------------------------------------------------------------


def top_reasons(
    cases: pd.DataFrame, by: str | Sequence[str] = ("kind", "channel"), confidence: float = 0.95
) -> pd.DataFrame:
    """Reasons by how often they occur: the columns of `by`, cases, share, low, high; largest first."""
    by = [by] if isinstance(by, str) else list(by)
    rows = []
    number, owners = cases.groupby(by).ngroup().to_numpy(), respondents_of(cases["customer_id"])
    for group, part in cases.groupby(by, sort=True):
        mine = number == number[cases.index.get_loc(part.index[0])]
        rows.append((*group, len(part), *_share(mine, owners, confidence)))
    frame = pd.DataFrame(rows, columns=[*by, "cases", "share", "low", "high"])
    return frame.sort_values("cases", ascending=False, kind="stable", ignore_index=True)


def repeat_contacts(
    cases: pd.DataFrame, customers: int, *, kind: str = COMPLAINT, confidence: float = 0.95
) -> pd.DataFrame:
    """How much of one kind comes from customers who come again.

    Parameters
    ----------
    customers : who could have come, those without a case included

    Returns
    -------
    One row for 1, 2 and 3 or more contacts: contacts ("1", "2", "3+"), people, cases, share (of the cases), low, high,
    by_chance (the share if all came equally often, at random: Poisson).
    """
    part = cases[cases["kind"] == kind]
    if part.empty or not customers:
        return pd.DataFrame(columns=["contacts", "people", "cases", "share", "low", "high", "by_chance"])
    owners = respondents_of(part["customer_id"])
    each = np.bincount(owners)
    rate = len(part) / customers
    chance = [stats.poisson.pmf(0, rate), stats.poisson.pmf(1, rate), stats.poisson.sf(1, rate)]
    rows = []
    for k, label in enumerate(("1", "2", "3+")):
        chosen = np.minimum(each, 3) == k + 1
        share = _share(chosen[owners], owners, confidence)
        rows.append((label, int(chosen.sum()), int(each[chosen].sum()), *share, chance[k]))
    return pd.DataFrame(rows, columns=["contacts", "people", "cases", "share", "low", "high", "by_chance"])


def _share(chosen: Array, owners: Array, confidence: float) -> tuple[float, float, float]:
    """Share of the cases chosen, with Wilson's limits for as many cases as independent ones would be needed."""
    share = float(np.mean(chosen))
    size = np.bincount(owners).astype(float)
    residual = np.bincount(owners, chosen) - share * size
    variance, n = (residual**2).sum() / len(chosen) ** 2, float(len(chosen))
    if variance > 0:
        n = min(n, share * (1 - share) / variance)
    low, high = proportion_confint(share * n, n, 1 - confidence, method="wilson")
    return share, float(low), float(high)


# -- contacts by satisfaction ---------------------------------------------------------------------------------


def contacts_around(
    moments: pd.DataFrame, cases: pd.DataFrame, *, before_days: int = 0, after_days: int = PERIOD_DAYS
) -> pd.DataFrame:
    """Contacts of a kind in the days strictly before, or strictly after, a moment of a customer.

    Parameters
    ----------
    moments : one row a moment: customer_id (null: nobody known), on (day)
    before_days, after_days : one of them is 0

    Returns
    -------
    One row a moment, with its index, and one column a kind.
    """
    kinds = sorted(cases["kind"].unique())
    asked = pd.DataFrame({"row": np.arange(len(moments)), "customer_id": moments["customer_id"].to_numpy()})
    asked["on"] = pd.to_datetime(moments["on"]).to_numpy()
    joined = asked[asked["customer_id"].notna()].merge(cases[["customer_id", "kind", "opened_on"]], on="customer_id")
    since = (joined["opened_on"] - joined["on"]).dt.days
    joined = joined[((since > 0) & (since <= after_days)) | ((since < 0) & (since >= -before_days))]
    counts = joined.groupby(["row", "kind"]).size().unstack(fill_value=0)
    return counts.reindex(index=range(len(moments)), columns=kinds, fill_value=0).set_index(moments.index)


def contact_hazard(
    score: pd.Series,
    contacts: pd.DataFrame,
    customers: pd.Series,
    *,
    reliability: float,
    reliability_error: float = 0.0,
    stability: float | None = None,
    stability_error: float = 0.0,
    weights: pd.Series | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How the number of contacts after an answer goes with the score in it: Poisson regression, customers as clusters.

    Parameters
    ----------
    score : one number an answer (0-100, any unit), null where there is none
    contacts : from `contacts_around`, same index, a column a kind; only answers whose days are all observed
    customers : who answered, same index
    reliability : of the score (rho_A, say), with its standard error; 1 for one that is without error
    stability : average correlation of the score's true part with itself over the days counted, from `score_stability`,
        with its standard error; None leaves `settled` empty

    Returns
    -------
    One row a kind: kind, answers, cases, effect (log-change of the rate by a standard deviation of the score), low, high,
    p_value, corrected (by a standard deviation of what the score measures: effect / √reliability) with limits, settled
    (the same at the moment of the contact: corrected / stability) with limits, reason (null, or why nothing is there).

    Source: Cameron & Trivedi (2013), Regression Analysis of Count Data, ch. 3; Spearman (1904) for the correction.
    """
    if not 0 < reliability <= 1:
        raise ServiceError(f"reliability is {reliability}: it must lie above 0 and at most at 1")
    known = score.notna() & customers.notna()
    mass = np.ones(len(score)) if weights is None else weights.to_numpy(float)
    mass = mass[known.to_numpy()]
    z = score[known].to_numpy(float)
    z, spread = _standardised(z, mass)
    rows = []
    for kind in contacts.columns:
        count = contacts.loc[known, kind].to_numpy(float)
        row = {"kind": kind, "answers": len(z), "cases": int(count.sum())}
        reason = _too_little(count, spread)
        if reason:
            rows.append(row | dict.fromkeys(_HAZARD, np.nan) | {"reason": reason})
            continue
        effect, error = _poisson(count, z[:, None], customers[known], mass)
        q = stats.norm.ppf((1 + confidence) / 2)
        row |= _named("effect", (effect[0], effect[0] - q * error[0], effect[0] + q * error[0]))
        row["p_value"] = 2 * stats.norm.sf(abs(effect[0] / error[0]))
        relative = (reliability_error / (2 * reliability)) ** 2
        row |= _named("corrected", _scaled(effect[0], error[0], np.sqrt(reliability), relative, q))
        if stability is not None and np.isfinite(stability):
            relative += (stability_error / stability) ** 2
            row |= _named("settled", _scaled(effect[0], error[0], np.sqrt(reliability) * stability, relative, q))
        rows.append({**row, "reason": None})
    columns = ["kind", "answers", "cases", *_HAZARD, "reason"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.rename(columns={"effect_low": "low", "effect_high": "high"})


_HAZARD = ("effect", "effect_low", "effect_high", "p_value", "corrected", "corrected_low", "corrected_high")
_HAZARD += ("settled", "settled_low", "settled_high")


def _standardised(values: Array, mass: Array) -> tuple[Array, float]:
    """Values with weighted mean 0 and variance 1, and their standard deviation; all zero where they do not vary."""
    if not len(values) or mass.sum() <= 0:
        return np.zeros_like(values), 0.0
    centred = values - np.average(values, weights=mass)
    spread = float(np.sqrt(np.average(centred**2, weights=mass)))
    if spread <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return np.zeros_like(values), 0.0
    return centred / spread, spread


def _too_little(count: Array, spread: float) -> str | None:
    if count.sum() < MINIMUM:
        return f"only {int(count.sum())} contacts follow an answer"
    return None if spread > 0 else "all scores are the same"


def _scaled(effect: float, error: float, divisor: float, relative: float, q: float) -> tuple[float, float, float]:
    """An effect over a divisor that is itself estimated with the given relative variance (delta method)."""
    value = effect / divisor
    wide = q * np.sqrt((error / divisor) ** 2 + value**2 * relative)
    return value, value - wide, value + wide


def _poisson(count: Array, columns: Array, customers: pd.Series, mass: Array) -> tuple[Array, Array]:
    """Coefficients (without the constant) of a weighted Poisson regression and their errors with customers as clusters.

    Residuals are scaled up by their leverage, as in HC3, for groups of a few dozen. Source: MacKinnon & White (1985), J.
    Econometrics 29.
    """
    kept = mass > 0
    design, weight = _independent(np.column_stack([np.ones(len(count)), columns])[kept]), mass[kept] / mass[kept].mean()
    fit = sm.GLM(count[kept], design, family=sm.families.Poisson(), var_weights=weight).fit()
    expected = weight * fit.fittedvalues
    bread = np.linalg.inv(design.T @ (expected[:, None] * design))
    leverage = expected * np.einsum("ij,jk,ik->i", design, bread, design)
    residual = weight * (count[kept] - fit.fittedvalues) / (1 - np.minimum(leverage, 0.9))
    scores = pd.DataFrame(residual[:, None] * design).groupby(respondents_of(customers[kept])).sum().to_numpy()
    error = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    return fit.params[1:], error[1:]


def _independent(design: Array) -> Array:
    """The columns without those that the ones before them determine (nobody bought before, say)."""
    chosen = [0]
    for k in range(1, design.shape[1]):
        if np.linalg.matrix_rank(design[:, [*chosen, k]]) > len(chosen):
            chosen.append(k)
    return design[:, chosen]


def score_stability(
    score: pd.Series,
    answered_on: pd.Series,
    customers: pd.Series,
    *,
    reliability: float,
    days: int = PERIOD_DAYS,
    confidence: float = 0.95,
) -> dict:
    """How much of a score still holds, on average, over the days after the answer, from customers who answered twice.

    The correlation of two answers, over the reliability, is that of what they measure; it is taken to fall by the same share
    every day, and its mean over 1 ... `days` is returned.

    Returns
    -------
    value, low, high, error (standard error), people; or value None and a reason.
    """
    frame = pd.DataFrame({"score": score, "on": pd.to_datetime(answered_on), "customer": customers}).dropna()
    frame = frame.sort_values(["customer", "on"], kind="stable")
    later = frame.groupby("customer").shift(-1)
    pairs = later["score"].notna()
    gap = (later["on"] - frame["on"]).dt.days[pairs]
    people = int(pairs.sum())
    if people < 30:
        return {"value": None, "reason": f"{people} customers answered twice; at least 30 are needed"}
    observed = float(np.corrcoef(frame.loc[pairs, "score"], later.loc[pairs, "score"])[0, 1])
    clusters = frame.loc[pairs, "customer"].nunique()
    wide = stats.norm.ppf((1 + confidence) / 2) / np.sqrt(max(clusters - 3, 1))
    ends = np.tanh(np.arctanh(observed) + np.array([0.0, -wide, wide])) / reliability
    if not ends[0] > 0.01:
        return {"value": None, "reason": "answers of the same customer are hardly alike"}
    mean = [_mean_persistence(min(max(end, 0.01), 1.0), float(gap.mean()), days) for end in ends]
    error = (mean[2] - mean[1]) / (2 * stats.norm.ppf((1 + confidence) / 2))
    return {"value": mean[0], "low": mean[1], "high": mean[2], "error": error, "people": people}


def _mean_persistence(correlation: float, gap: float, days: int) -> float:
    rate = -np.log(correlation) / max(gap, 1.0) * days
    return float(-special.expm1(-rate) / rate) if rate > 1e-12 else 1.0


# -- service recovery -----------------------------------------------------------------------------------------


def case_groups(cases: pd.DataFrame, target_days: float = 7.0) -> pd.Series:
    """Solved in time, or late or unsolved, for every case; null while it is too young to be late."""
    quick = cases["resolved"] & (cases["days"] <= target_days)
    return pd.Series(IN_TIME, index=cases.index).where(quick, LATE).mask(~quick & (cases["days"] <= target_days))


def recovery_pairs(
    answers: pd.DataFrame,
    scores: pd.DataFrame,
    cases: pd.DataFrame,
    *,
    kind: str = COMPLAINT,
    target_days: float = 7.0,
) -> pd.DataFrame:
    """Two answers of one customer in a row and what became of the complaints between them.

    Parameters
    ----------
    answers : customer_id, on (day); one row an answer
    scores : columns of scores, same index

    Returns
    -------
    One row a pair: customer_id, on (of the first answer), group (`NONE`, `IN_TIME`, `LATE`: one complaint late is
    late), and every score as <score>_before and <score>_after; index of the first answer. Pairs with a complaint whose target
    falls after the second answer are left out, for nobody knows yet.
    """
    frame = pd.DataFrame({"customer_id": answers["customer_id"], "on": pd.to_datetime(answers["on"])})
    frame = frame.join(scores).dropna(subset=["customer_id", "on"]).sort_values(["customer_id", "on"], kind="stable")
    later = frame.groupby("customer_id").shift(-1)
    pairs = frame.add_suffix("_before").rename(columns={"customer_id_before": "customer_id", "on_before": "on"})
    pairs = pairs.join(later.add_suffix("_after"))
    pairs = pairs[pairs["on_after"].notna()].copy()
    part = cases[cases["kind"] == kind]
    part = part.assign(group=case_groups(part, target_days), due=part["opened_on"] + pd.Timedelta(days=target_days))
    joined = pairs.reset_index(names="pair")[["pair", "customer_id", "on", "on_after"]].merge(part, on="customer_id")
    joined = joined[(joined["opened_on"] > joined["on"]) & (joined["opened_on"] < joined["on_after"])]
    young = joined.loc[(joined["due"] >= joined["on_after"]) | joined["group"].isna(), "pair"].unique()
    late = joined.loc[joined["group"] == LATE, "pair"].unique()
    pairs["group"] = NONE
    pairs.loc[joined["pair"].unique(), "group"] = IN_TIME
    pairs.loc[late, "group"] = LATE
    return pairs.drop(index=young).drop(columns="on_after")


def service_recovery(
    pairs: pd.DataFrame,
    outcomes: Sequence[str],
    *,
    controls: pd.DataFrame | None = None,
    weights: pd.Series | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Whether later scores differ by how a complaint was handled, at equal scores and behaviour before.

    Least squares of the later score on the group, all scores of `outcomes` before, and the controls; errors robust (HC3), or
    with customers as clusters where one has several pairs. The service recovery paradox would be complainers whose case
    was solved in time standing *above* those without complaint.

    Parameters
    ----------
    pairs : from `recovery_pairs`
    outcomes : names of scores
    controls : (pairs, c) behaviour before, same index

    Returns
    -------
    One row an outcome and comparison of `CONTRASTS`: outcome, comparison, people, people_against, difference, low, high,
    reason (null, or why there is no number).
    """
    rows = []
    for outcome in outcomes:
        before = pairs[[f"{name}_before" for name in outcomes]]
        columns = before if controls is None else before.join(controls)
        frame = columns.assign(_after=pairs[f"{outcome}_after"], _group=pairs["group"], _customer=pairs["customer_id"])
        frame["_weight"] = 1.0 if weights is None else weights.reindex(frame.index)
        frame = frame.dropna()
        for label, first, second in CONTRASTS:
            rows.append({"outcome": outcome, "comparison": label} | _difference(frame, first, second, confidence))
    return pd.DataFrame(rows)


def _difference(frame: pd.DataFrame, first: str, second: str, confidence: float) -> dict:
    counts = frame["_group"].value_counts()
    sizes = {"people": int(counts.get(first, 0)), "people_against": int(counts.get(second, 0))}
    few = min(sizes.values())
    if few < MINIMUM:
        reason = f"only {few} of one group answered both before and after; at least {MINIMUM} are needed"
        return sizes | {"difference": np.nan, "low": np.nan, "high": np.nan, "reason": reason}
    others = [group for group in (NONE, IN_TIME, LATE) if group != second and counts.get(group, 0)]
    dummies = [(frame["_group"] == group).to_numpy(float) for group in others]
    rest = frame.drop(columns=["_after", "_group", "_customer", "_weight"]).to_numpy(float)
    design = _independent(np.column_stack([np.ones(len(frame)), *dummies, rest]))
    model = sm.WLS(frame["_after"].to_numpy(float), design, frame["_weight"].to_numpy(float))
    if frame["_customer"].duplicated().any():
        kind = {"cov_type": "cluster", "cov_kwds": {"groups": respondents_of(frame["_customer"])}}
    else:
        kind = {"cov_type": "HC3"}
    fit = model.fit(use_t=True, **kind)
    at = 1 + others.index(first)
    low, high = fit.conf_int(1 - confidence)[at]
    return sizes | {"difference": float(fit.params[at]), "low": float(low), "high": float(high), "reason": None}


def repurchase_after(
    cases: pd.DataFrame,
    purchases: pd.DataFrame,
    *,
    target_days: float = 7.0,
    confidence: float = 0.95,
) -> dict:
    """How often complainers buy afterwards when the case was solved in time, against late or unsolved, at equal purchases before.

    Poisson regression of the purchase days after the target has passed (nobody is ranked by what happens while they
    wait) on the group and log(1 + purchase days), before and recent; customers as clusters.

    Parameters
    ----------
    cases : complaints whose days after are all observed
    purchases : from `purchases_around` with gap_days = target_days, same index

    Returns
    -------
    value (relative difference of purchases: 0.1 a tenth more), low, high, people, people_against; or value None and a reason.
    """
    group = case_groups(cases, target_days)
    known = group.notna()
    quick = (group[known] == IN_TIME).to_numpy()
    sizes = {"people": int(quick.sum()), "people_against": int((~quick).sum())}
    if min(sizes.values()) < MINIMUM:
        reason = f"only {min(sizes.values())} complaints of one group can be followed; at least {MINIMUM} are needed"
        return {"value": None, "reason": reason} | sizes
    bought = purchases.loc[known, "after"].to_numpy(float)
    least = min(bought[quick].sum(), bought[~quick].sum())
    if least == 0 or bought.sum() < MINIMUM:
        return {
            "value": None,
            "reason": f"only {int(bought.sum())} purchases follow, {int(least)} in one group",
        } | sizes
    columns = [quick, *(np.log1p(purchases.loc[known, name].to_numpy(float)) for name in ("before", "recent"))]
    effect, error = _poisson(
        bought, np.column_stack(columns).astype(float), cases.loc[known, "customer_id"], np.ones(len(bought))
    )
    q = stats.norm.ppf((1 + confidence) / 2)
    ends = np.expm1(effect[0] + error[0] * np.array([0.0, -q, q]))
    return {"value": float(ends[0]), "low": float(ends[1]), "high": float(ends[2])} | sizes
