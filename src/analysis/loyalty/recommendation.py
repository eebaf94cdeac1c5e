"""Who would recommend the company, who really does, and what the customers that they bring are worth.

The net promoter score is the share of promoters less that of detractors; of a random answer, +1 for a promoter, -1
for a detractor and 0 for the rest, it is the mean, with variance p + d - (p - d)².
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, norm
from statsmodels.stats.proportion import proportion_confint

from analysis.errors import RapportError
from analysis.valuation.acquisition import new_customers
from analysis.valuation.concentration import Estimate

from .moments import Array
from .path_model import read_answers
from .scores import check_scale
from .survey_means import ALL, TOO_FEW, difference_interval, groups_shown, survey_means

WAVE = "wave "  # how the name of a group that is a wave begins

NPS_GROUPS = ("promoter", "passive", "detractor")
_POINTS = {"promoter": 100.0, "passive": 0.0, "detractor": -100.0}
_YEAR = 365.25


# -- what they say --------------------------------------------------------------------------------------------


def nps_groups(answers: pd.Series, missing_codes: Iterable = (), scale: tuple[float, float] = (0, 10)) -> pd.Series:
    """Promoter (9, 10), passive (7, 8) or detractor (0 to 6) by the answer to "would you recommend us?".

    Answers on another scale are carried to 0-10 and fall where they are nearest: on 1-10 the groups are the same
    numbers, on 1-5 a 5 is a promoter and a 4 passive. Such scores compare only with those of the same scale.

    Raises EstimationError for answers outside the scale.
    Source: Reichheld (2003), Harv. Bus. Rev. 81(12).
    """
    name = str(answers.name or "recommend")
    values = read_answers(answers.to_frame(name), [name], missing_codes)
    check_scale(values, scale)
    low, high = scale
    placed = (values[name] - low) / (high - low) * 10
    groups = np.select([placed > 8.5, placed > 6.5], ["promoter", "passive"], "detractor")
    return pd.Series(groups, index=answers.index, name="nps_group", dtype="str").where(placed.notna())


def nps_points(groups: pd.Series) -> pd.Series:
    """100 for a promoter, 0 for a passive, -100 for a detractor: the net promoter score is their mean."""
    return groups.map(_POINTS).astype(float)


def nps_interval(promoters: float, detractors: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Score limits of a net promoter score, in points.

    Holds for few answers and at the ends, where p + d - (p - d)² estimates a variance of zero: that variance is
    taken under each value that is tested, with the share of detractors that is then likeliest.

    Parameters
    ----------
    promoters, detractors : shares
    n : answers, or their effective number

    Source: Tango (1998), Stat. Med. 17, section 4: the difference of the two discordant shares of paired answers is
    the same quantity.
    """
    z2, score = norm.ppf(0.5 + confidence / 2) ** 2, promoters - detractors

    def holds(x: float) -> bool:
        b = (2 - score) * x - promoters - detractors
        likeliest = (np.sqrt(max(b * b + 8 * detractors * x * (1 - x), 0.0)) - b) / 4
        return (score - x) ** 2 * n <= z2 * (2 * likeliest + x * (1 - x))

    limits = []
    for end in (-1.0, 1.0):
        inside, outside = score, end
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if holds(middle) else (inside, middle)
        limits.append(100 * (end if abs(outside - end) < 1e-12 else inside))
    return limits[0], limits[1]


def net_promoter_score(
    groups: pd.Series,
    *,
    weights: pd.Series | None = None,
    customers: pd.Series | None = None,
    by: pd.Series | None = None,
    confidence: float = 0.95,
    small_group: int = 10,
) -> pd.DataFrame:
    """Net promoter score, -100 to 100 points, of all and of each group, with limits from :func:`nps_interval`.

    The number of answers behind the limits is the effective one: weights and customers who answered twice lower it.

    Parameters
    ----------
    groups : from :func:`nps_groups`
    weights, customers, by : aligned with `groups`; `by` a grouping such as the wave or the region

    Returns
    -------
    One row "all" and one a group: group, customers, answers, effective, promoters, passives, detractors (shares),
    score, low, high, reason (why there is no number; else empty). Groups of fewer than `small_group` customers have
    no numbers, see :func:`groups_shown`.
    """
    everybody = pd.Series(ALL, index=groups.index)
    rows = []
    for label in (everybody,) if by is None else (everybody, by.where(groups.notna())):
        answered = label[groups.notna()]
        who = None if customers is None else customers[groups.notna()]
        shown, hidden = groups_shown(answered, who, small_group)
        rows += [_score_row(name, groups.where(label == name), weights, customers, confidence) for name in shown]
        rows += [{"group": name, "reason": TOO_FEW} for name in hidden]
    columns = ["group", "customers", "answers", "effective", "promoters", "passives", "detractors",
               "score", "low", "high", "reason"]  # fmt: skip
    if not rows:
        rows = [{"group": ALL, "reason": "nobody answered whether they would recommend"}]
    return pd.DataFrame(rows, columns=columns)


def _score_row(name, groups: pd.Series, weights, customers, confidence: float) -> dict:
    found = survey_means(_indicators(groups), weights, customers)
    promoters, passives, detractors, score = found.means
    low, high = nps_interval(promoters, detractors, found.effective[3], confidence)
    return {
        "group": name,
        "customers": int(found.customers[3]),
        "answers": int(found.answers[3]),
        "effective": found.effective[3],
        "promoters": promoters,
        "passives": passives,
        "detractors": detractors,
        "score": score,
        "low": low,
        "high": high,
        "reason": "",
    }


def _indicators(groups: pd.Series) -> pd.DataFrame:
    shares = {name: (groups == name).where(groups.notna()).astype(float) for name in NPS_GROUPS}
    return pd.DataFrame(shares).assign(points=nps_points(groups))


def nps_change(
    groups: pd.Series,
    waves: pd.Series,
    *,
    weights: pd.Series | None = None,
    customers: pd.Series | None = None,
    confidence: float = 0.95,
    small_group: int = 10,
) -> pd.DataFrame:
    """Change of the score from each wave to the next; the answers of one customer to both are not independent.

    Returns
    -------
    One row a pair of waves (none if the survey was held once): first, second (waves), score_first, score_second,
    change with low and high (limits of both scores combined with their correlation, see
    :func:`difference_interval`), both (customers who answered twice), within with within_low and within_high: the
    mean change of those (Student's limits), null for fewer than `small_group`; reason.
    """
    order = sorted(waves[groups.notna()].dropna().unique(), key=lambda wave: (len(wave), wave))
    rows = []
    for first, second in itertools.pairwise(order):
        points = pd.DataFrame({wave: nps_points(groups.where(waves == wave)) for wave in (first, second)})
        found = survey_means(points, weights, customers)
        row = {"first": first, "second": second}
        if found.customers.min() < max(small_group, 2):
            rows.append(row | {"reason": TOO_FEW})
            continue
        ends = [_score_row(wave, groups.where(waves == wave), weights, customers, confidence) for wave in points]
        spread = np.sqrt(np.prod(np.diag(found.covariance)))
        correlation = found.covariance[0, 1] / spread if spread > 0 else 0.0
        limits = [(end["score"], end["low"], end["high"]) for end in ends]
        change, low, high = difference_interval(*limits, correlation)
        row |= {"score_first": limits[0][0], "score_second": limits[1][0], "change": change, "low": low, "high": high}
        rows.append(row | _within(points, weights, customers, confidence, small_group) | {"reason": ""})
    columns = ["first", "second", "score_first", "score_second", "change", "low", "high",
               "both", "within", "within_low", "within_high", "reason"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _within(points: pd.DataFrame, weights, customers, confidence: float, small_group: int) -> dict:
    """Mean change of the customers who answered in both waves, weighted by the mean of their weights."""
    if customers is None:
        return {"both": 0}
    mass = pd.Series(1.0, index=points.index) if weights is None else weights
    per_customer = points.assign(weight=mass)[customers.notna()].groupby(customers[customers.notna()]).mean()
    change = (per_customer.iloc[:, 1] - per_customer.iloc[:, 0]).dropna()
    if len(change) < max(small_group, 2):
        return {"both": len(change)}
    mean, low, high = survey_means(change, per_customer.loc[change.index, "weight"]).interval(0, confidence)
    return {"both": len(change), "within": mean, "within_low": low, "within_high": high}


def newest_waves(scores: pd.DataFrame) -> tuple[pd.Series | None, pd.Series | None]:
    """Rows of :func:`net_promoter_score` of the newest wave and of the one before; None where groups are no waves, or too few.

    scores : of groups named "wave 1", "wave 2" …
    """
    waves = scores[scores["group"].astype(str).str.startswith(WAVE)].drop_duplicates("group")
    rows = sorted((row for _, row in waves.iterrows()), key=lambda row: (len(row["group"]), row["group"]), reverse=True)
    return (*rows, None, None)[:2]


def last_change(changes: pd.DataFrame) -> dict:
    """The last change of :func:`nps_change` as arguments of a finding: value, low, high, first, second, both."""
    if changes.empty:
        return {"value": None, "reason": "the survey was held once"}
    row = changes.iloc[-1]
    if row["reason"]:
        return {"value": None, "reason": row["reason"]}
    return {"value": row["change"], **{name: row[name] for name in ("low", "high", "first", "second", "both")}}


# -- what they do ---------------------------------------------------------------------------------------------


def referrals(customers: pd.DataFrame) -> pd.DataFrame:
    """Who brought whom: one row a referred customer: customer_id, referrer, came_on (day).

    customers : customer_id, referred_by, acquired_on. Left out are customers who name themselves, or somebody who
        is not among the customers, and those whose day is not known.

    Raises
    ------
    RapportError
        Without referred_by or acquired_on.
    """
    lacking = [name for name in ("referred_by", "acquired_on") if name not in customers.columns]
    if lacking:
        raise RapportError(f"customers have no column {lacking[0]}: map it in the study to see who brought whom")
    frame = pd.DataFrame(
        {
            "customer_id": customers["customer_id"],
            "referrer": customers["referred_by"],
            "came_on": pd.to_datetime(customers["acquired_on"]),
        }
    )
    linked = frame["referrer"].isin(frame["customer_id"]) & (frame["referrer"] != frame["customer_id"])
    return frame[linked & frame["came_on"].notna()].reset_index(drop=True)


def referral_rates(
    answers: pd.DataFrame,
    brought: pd.DataFrame,
    customers: pd.DataFrame,
    observed_to: datetime.date,
    *,
    worth: pd.Series | None = None,
    confidence: float = 0.95,
    small_group: int = 10,
) -> pd.DataFrame:
    """Customers that promoters, passives and detractors really brought, before and after they said so.

    Only what follows an answer can be foretold by it. The time after an answer runs until the customer's next one or
    `observed_to`; the time before is that from the customer's own first day to the first answer; so no day of a
    customer counts twice.

    Parameters
    ----------
    answers : customer_id, responded_on, nps_group, optionally weight; rows without customer_id are left out
    brought : from :func:`referrals`
    customers : customer_id, acquired_on
    worth : value of each referral in money, by customer_id of the referred, see :func:`referral_worth`

    Returns
    -------
    One row a period ("before", "after") and group ("all" and each of `NPS_GROUPS`): period, group, customers, years
    (observed), referrals, referrers (customers who brought somebody), referrers_share with referrers_low and
    referrers_high (Wilson's), rate (referrals a customer a year) with low and high from :func:`rate_limits`; with
    `worth` also worth_rate (money a customer a year), worth_low, worth_high; reason.
    """
    spells = _spells(answers, customers, observed_to)
    events = spells.reset_index().merge(brought, left_on="customer_id", right_on="referrer", suffixes=("", "_brought"))
    events = events[(events["came_on"] > events["from"]) & (events["came_on"] <= events["to"])]
    events["worth"] = np.nan if worth is None else events["customer_id_brought"].map(worth)
    events["square"] = events["worth"] ** 2
    per_spell = events.groupby("spell")[["worth", "square"]].sum().assign(count=events.groupby("spell").size())
    spells = spells.join(per_spell).fillna({"count": 0, "worth": 0.0, "square": 0.0})
    one = None if worth is None or worth.empty else (float(worth.mean()), float((worth**2).mean()))
    rows = []
    for period in ("before", "after"):
        part = spells[spells["period"] == period]
        _, hidden = groups_shown(part["nps_group"], part["customer_id"], small_group)
        for name in (ALL, *NPS_GROUPS):
            own = part if name == ALL else part[part["nps_group"] == name]
            if own["customer_id"].nunique() < small_group or name in hidden:
                rows.append({"period": period, "group": name, "reason": TOO_FEW})
            else:
                rows.append({"period": period, "group": name} | _rate_row(own, one, confidence))
    return pd.DataFrame(rows)


def _spells(answers: pd.DataFrame, customers: pd.DataFrame, observed_to: datetime.date) -> pd.DataFrame:
    """Stretches of time of a customer before the first and after each answer, of positive length."""
    frame = pd.DataFrame(
        {
            "customer_id": answers["customer_id"],
            "from": pd.to_datetime(answers["responded_on"]),
            "nps_group": answers["nps_group"],
            "weight": answers["weight"].astype(float) if "weight" in answers else 1.0,
        }
    )
    frame = frame[frame["customer_id"].notna() & frame["nps_group"].notna() & frame["from"].notna()]
    frame = frame.sort_values(["customer_id", "from"], kind="stable")
    following = frame.groupby("customer_id")["from"].shift(-1)
    after = frame.assign(to=following.fillna(pd.Timestamp(observed_to)), period="after")
    arrived = pd.to_datetime(customers.set_index("customer_id")["acquired_on"])
    before = frame.drop_duplicates("customer_id")
    before = before.assign(to=before["from"], period="before", **{"from": before["customer_id"].map(arrived)})
    both = pd.concat([before, after], ignore_index=True)
    both["years"] = (both["to"] - both["from"]).dt.days / _YEAR
    return both[both["years"] > 0].rename_axis("spell")


def _rate_row(spells: pd.DataFrame, one: tuple[float, float] | None, confidence: float) -> dict:
    who, weight = spells["customer_id"], spells["weight"]
    behind = [spells["years"].to_numpy(), weight.to_numpy(), pd.factorize(who)[0]]
    count = spells["count"].to_numpy(float)
    rate, low, high = rate_limits(count, count, *behind, confidence=confidence)
    brought = spells["count"].groupby(who).transform("sum").clip(upper=1)
    share = survey_means(brought, weight, who)
    share_low, share_high = proportion_confint(
        share.means[0] * share.effective[0], share.effective[0], 1 - confidence, method="wilson"
    )
    row = {
        "customers": int(share.customers[0]),
        "years": float(spells["years"].sum()),
        "referrals": int(spells["count"].sum()),
        "referrers": int(who[spells["count"] > 0].nunique()),
        "referrers_share": float(share.means[0]),
        "referrers_low": max(float(share_low), 0.0),
        "referrers_high": min(float(share_high), 1.0),
        "rate": rate,
        "low": low,
        "high": high,
    }
    if one is not None:
        sums = (spells[name].to_numpy(float) for name in ("worth", "square"))
        worth = rate_limits(*sums, *behind, one, confidence)
        row |= dict(zip(("worth_rate", "worth_low", "worth_high"), worth, strict=True))
    return row | {"reason": ""}


def rate_limits(
    amount: Array,
    square: Array,
    years: Array,
    weight: Array,
    who: NDArray[np.integer],
    one: tuple[float, float] = (1.0, 1.0),
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Weighted amount a year, with the gamma limits of a weighted Poisson sum.

    Their variance is that of a Poisson sum, or that between customers where it is larger.

    Parameters
    ----------
    amount, square : (m,) of each spell: the sum over its events, and that of their squares (both the count of plain
        events)
    years, weight : (m,) length of each spell, and survey weight
    who : (m,) number of the customer behind each spell, from 0
    one : mean, and mean square, of a single event's amount

    Source: Fay & Feuer (1997), Stat. Med. 16; Tiwari, Clegg & Zou (2006), Stat. Methods Med. Res. 15, section 2.
    """
    share = weight / (weight @ years)
    total = float(share @ amount)
    residual = np.bincount(who, share * (amount - total * years))
    variance = max(float((residual**2).sum()), float(share**2 @ square))
    tail = (1 - confidence) / 2
    top, spread = total + one[0] * float(share.mean()), variance + one[1] * float((share**2).mean())
    if top <= 0:
        return total, float("nan"), float("nan")
    high = spread / (2 * top) * chi2.ppf(1 - tail, 2 * top**2 / spread)
    low = variance / (2 * total) * chi2.ppf(tail, 2 * total**2 / variance) if total > 0 else 0.0
    return total, float(low), float(high)


def referral_contrast(rates: pd.DataFrame, first: str = "detractor", second: str = "promoter") -> dict:
    """How many more customers a year one group brings after its answer than another, as arguments of a finding."""
    after = rates[rates["period"] == "after"].set_index("group")
    if after.empty or after.loc[[first, second], "reason"].any():
        return {"value": None, "reason": f"too few {first}s or {second}s can be followed after their answer"}
    ends = [tuple(after.loc[name, ["rate", "low", "high"]].astype(float)) for name in (first, second)]
    value, low, high = difference_interval(*ends)
    return {"value": value, "low": low, "high": high, "first": first, "second": second}


# -- what it is worth -----------------------------------------------------------------------------------------


def saved_acquisition_cost(
    customers: pd.DataFrame,
    marketing_costs: pd.DataFrame | None,
    observed_from: datetime.date,
    observed_to: datetime.date,
    confidence: float = 0.95,
) -> Estimate:
    """What winning a customer costs elsewhere less what a referred one costs, money a customer.

    The cost of a channel is its spend for acquisition over the customers it won in whole periods, zero for channels
    without spend; the limits come from leaving out one period at a time. Without costs on record it is 0, with the
    reason.

    Source: Kumar, Petersen & Leone (2010), J. Marketing 74(5), equation 1 (savings in acquisition cost).
    """
    if marketing_costs is None or not (marketing_costs["purpose"] == "acquire").any():
        return Estimate(0.0, reason="what it costs to win a customer is not on record, so nothing counts as saved")
    if "acquisition_channel" not in customers.columns:
        return Estimate(0.0, reason="customers have no acquisition channel, so nothing counts as saved")
    won = new_customers(customers, marketing_costs, observed_from, observed_to)
    counts = won.pivot_table(index="period", columns="channel", values="count", aggfunc="sum")
    spend = won.pivot_table(index="period", columns="channel", values="spend", aggfunc="sum")
    referred = customers["referred_by"].notna()
    mix = [customers.loc[side, "acquisition_channel"].value_counts(normalize=True) for side in (~referred, referred)]
    weights = mix[0].sub(mix[1], fill_value=0.0).reindex(counts.columns).fillna(0.0)

    def saved(count: pd.Series, spent: pd.Series) -> float:
        each = spent / count.where(count > 0)
        return float((each.fillna(0.0) * weights).sum())

    value, months = saved(counts.sum(), spend.sum()), len(counts)
    if not referred.any():
        return Estimate(0.0, reason="nobody was referred")
    if months < 2:
        return Estimate(value, reason="costs of one period say nothing about how they vary")
    left_out = np.array([saved(counts.drop(k).sum(), spend.drop(k).sum()) for k in counts.index])
    error = np.sqrt((months - 1) / months * ((left_out - left_out.mean()) ** 2).sum())
    reach = float(norm.ppf(0.5 + confidence / 2) * error)
    return Estimate(value, value - reach, value + reach)


def referral_worth(brought: pd.DataFrame, value: pd.DataFrame, saved: float, came_anyway: float) -> pd.Series:
    """What each referral brought the company, money, by customer_id of the referred.

    The value of the referred customer counts only as far as they would not have come without it, the saved cost of
    winning them in any case. That value is part of customer equity already, as the referred customer's own: what a
    referral is worth is never added to it.

    Parameters
    ----------
    brought : from :func:`referrals`
    value : customer_value: customer_id, clv (so far and expected); customers without one count 0
    saved : money a customer, from :func:`saved_acquisition_cost`
    came_anyway : share of the referred who would have come without the referral; an assumption

    Source: Kumar, Petersen & Leone (2007), Harv. Bus. Rev. 85(10), and (2010), J. Marketing 74(5), equation 1.
    """
    if not 0 <= came_anyway <= 1:
        raise RapportError(f"came_anyway is {came_anyway:g}: a share between 0 and 1 is needed, write 0.3 for 30 %")
    lifetime = value.set_index("customer_id")["clv"].astype(float)
    own = brought["customer_id"].map(lifetime).fillna(0.0)
    return pd.Series((1 - came_anyway) * own.to_numpy() + saved, index=brought["customer_id"], name="worth")


def referral_worth_range(
    brought: pd.DataFrame,
    value: pd.DataFrame,
    saved: Estimate,
    came_anyway: Iterable[float],
    confidence: float = 0.95,
    small_group: int = 10,
) -> pd.DataFrame:
    """Mean worth of a referral under each assumed share of those who would have come anyway.

    Returns
    -------
    One row an assumption: came_anyway, referrals, customer_value and saved (the two parts of the mean), worth with
    low and high (referrers taken as the units, with the error of the saved cost), total; reason.
    """
    reach = norm.ppf(0.5 + confidence / 2)
    extra = 0.0 if saved.low is None else ((saved.high - saved.low) / (2 * reach)) ** 2
    rows = []
    for share in came_anyway:
        worth = referral_worth(brought, value, saved.value, share).reset_index(drop=True)
        row = {"came_anyway": share, "referrals": len(worth)}
        if brought["referrer"].nunique() < max(small_group, 2):
            rows.append(row | {"reason": TOO_FEW})
            continue
        mean, low, high = survey_means(worth, customers=brought["referrer"]).interval(0, confidence)
        half = np.hypot((high - low) / 2, reach * np.sqrt(extra))
        parts = {"customer_value": mean - saved.value, "saved": saved.value, "worth": mean}
        rows.append(row | parts | {"low": mean - half, "high": mean + half, "total": worth.sum(), "reason": ""})
    columns = ["came_anyway", "referrals", "customer_value", "saved", "worth", "low", "high", "total", "reason"]
    return pd.DataFrame(rows, columns=columns)


def referral_value(customer_id: pd.Series, brought: pd.DataFrame, worth: pd.Series) -> pd.Series:
    """What the referrals of each respondent were worth so far: 0 where they brought nobody, null without customer_id.

    Two answers of one customer carry the same value: it is the customer's, not the answer's.

    worth : from :func:`referral_worth`
    """
    per_referrer = brought["customer_id"].map(worth).groupby(brought["referrer"]).sum()
    found = customer_id.map(per_referrer).astype(float)
    return found.fillna(0.0).where(customer_id.notna()).rename("referral_value")


def referral_gap(customers: pd.DataFrame, answers: pd.DataFrame) -> str | None:
    """Why nothing can be said of referrals here; None if something can."""
    if "referred_by" not in customers.columns or customers["referred_by"].isna().all():
        return "the study does not hold who brought whom"
    if "customer_id" not in answers.columns or answers["customer_id"].isna().all():
        return "the answers carry no customer numbers, so they cannot be set beside referrals"
    if "acquired_on" not in customers.columns:
        return "the study does not hold when customers came"
    return None
