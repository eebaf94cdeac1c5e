"""Coupons and offers of randomised campaigns: redemption, what they subsidise, what they shift, what is left.

Redeemers are never compared with non-redeemers: redemption comes after treatment, and those who redeem would have
bought more anyway. Every effect here is of having been sent the offer, against the random control group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date

import ibis
import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.campaigns.design import is_comparison
from analysis.campaigns.effects import CUPED, DifferenceInMeans, EffectResults, EstimationError
from analysis.campaigns.outcomes import spend_by_period
from analysis.campaigns.response import wilson_interval

Array = NDArray[np.float64]


def redemption_rates(
    arms: ArrayLike, redeemed: ArrayLike, face_values: Mapping[str, float], confidence: float = 0.95
) -> pd.DataFrame:
    """Share of each arm's customers who redeemed, with Wilson's interval.

    Parameters
    ----------
    arms : shape (n,), arm of each customer. redeemed : shape (n,), True, False or missing (not known).
    face_values : of each arm with a coupon, money.

    Returns
    -------
    One row an arm with a coupon, in order of face value: arm, face_value, sent, redeemed, rate, low, high.
    """
    known = pd.Series(np.asarray(redeemed, dtype=object)).astype("boolean")
    frame = pd.DataFrame({"arm": np.asarray(arms, dtype=object), "redeemed": known}).dropna()
    frame = frame[frame["arm"].isin(list(face_values))].astype({"redeemed": int})
    table = frame.groupby("arm")["redeemed"].agg(["size", "sum"]).set_axis(["sent", "redeemed"], axis=1).reset_index()
    table.insert(1, "face_value", table["arm"].map(face_values).astype(float))
    low, high = wilson_interval(table["redeemed"], table["sent"], confidence)
    table = table.assign(rate=table["redeemed"] / table["sent"], low=low, high=high)
    return table.sort_values(["face_value", "arm"], kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Subsidy:
    """The share of redemptions by customers who would have bought in the window anyway.

    Attributes
    ----------
    least, most : what the random arms leave possible: at the least when every customer whom the offer brought
    redeemed, at the most when none did. low, high : confidence limits around the two.
    proportional, proportional_low, proportional_high : when both kinds of buyers redeem alike.
    """

    least: float
    most: float
    low: float
    high: float
    proportional: float
    proportional_low: float
    proportional_high: float


def subsidised_share(bought: ArrayLike, treated: ArrayLike, redeemed: ArrayLike, confidence: float = 0.95) -> Subsidy:
    """How many of the redemptions went to purchases that the control group says were coming anyway.

    Parameters
    ----------
    bought : shape (n,), 1 for customers with a purchase in the window. treated : shape (n,), 1 for those sent the offer.
    redeemed : shape (n,), 1 for those who used it (only the treated can).

    Who would have bought anyway cannot be seen of a single customer. Supposed is that the offer keeps nobody from
    buying; then the share of anyway-buyers is the control group's (principal strata: Frangakis & Rubin 2002, Biometrics
    58:21), and the bounds are those of Fréchet. Limits by the delta method.

    Raises
    ------
    EstimationError
        ``no_redemption`` when nobody redeemed.
    """
    y, d, r = (np.asarray(a, dtype=float) for a in (bought, treated, redeemed))
    t = d == 1
    if t.sum() < 2 or (~t).sum() < 2:
        raise EstimationError("no_control", "the share needs two customers with the offer and two in the control group")
    if r[t].sum() == 0:
        raise EstimationError("no_redemption", "nobody redeemed; there is nothing that could have been subsidised")
    with_offer, without, rate = y[t].mean(), y[~t].mean(), r[t].mean()
    z = float(stats.norm.ppf(0.5 + confidence / 2))

    def error(treated_part: Array, control_part: Array) -> float:
        return float(np.sqrt(treated_part.var(ddof=1) / t.sum() + control_part.var(ddof=1) / (~t).sum()))

    extra = with_offer - without
    least, most = 1 - extra / rate, without / rate
    least_se = error(y[t] / rate - extra / rate**2 * r[t], y[~t] / rate)
    most_se = error(without / rate**2 * r[t], y[~t] / rate)
    alike = without / with_offer
    alike_se = error(without / with_offer**2 * y[t], y[~t] / with_offer)
    cut = [least, most, least - z * least_se, most + z * most_se, alike, alike - z * alike_se, alike + z * alike_se]
    return Subsidy(*(float(v) for v in np.clip(cut, 0, 1)))


def weekly_spend(
    lines: ibis.Table, customers: ArrayLike, starts_on: date, weeks: int, product_ids: ArrayLike | None = None
) -> Array:
    """Net spend of each customer in each week from the start, summed in the engine as decimals.

    Parameters
    ----------
    lines : the canonical ``order_lines``. customers : shape (n,), their ids. weeks : how many; the first holds
    ``starts_on`` to six days later. product_ids : only lines of these products, such as the offered category.

    Returns
    -------
    shape (n, weeks), money.
    """
    ids = pd.Index(np.asarray(customers, dtype=object).astype(str))
    if product_ids is not None:
        lines = lines.filter(lines.product_id.isin([str(p) for p in np.asarray(product_ids)]))
    found = spend_by_period(lines, pd.Timestamp(starts_on).date(), 0, weeks)
    row = ids.get_indexer(found["customer_id"])
    mine = row >= 0
    table = np.zeros((len(ids), weeks))
    table[row[mine], found["period"].to_numpy(int)[mine]] = found["spend"].to_numpy()[mine]
    return table


def _effect(y: Array, treated: Array, before: ArrayLike | None) -> EffectResults:
    return DifferenceInMeans(y, treated).fit() if before is None else CUPED(y, treated, before).fit()


def weekly_effects(
    outcomes: ArrayLike, treated: ArrayLike, before: ArrayLike | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Effect by week after the start, and added up, from random arms.

    Parameters
    ----------
    outcomes : shape (n, weeks). treated : shape (n,), 0 or 1. before : shape (n,) or (n, k), measured before the start,
    for the adjustment of CUPED.

    Returns
    -------
    week (from 1), effect, low, high, cumulative, cumulative_low, cumulative_high; each interval speaks of its own week.
    """
    y = np.asarray(outcomes, dtype=float)
    rows = []
    for week, total in enumerate(np.cumsum(y, axis=1).T):
        own, added = _effect(y[:, week], treated, before), _effect(total, treated, before)
        rows.append((week + 1, own.effect, *own.interval(confidence), added.effect, *added.interval(confidence)))
    names = ["week", "effect", "low", "high", "cumulative", "cumulative_low", "cumulative_high"]
    return pd.DataFrame(rows, columns=names)


@dataclass(frozen=True)
class Offset:
    """What a gain costs elsewhere: later weeks (pull-forward), or other products (cannibalisation).

    Attributes
    ----------
    gain, loss, net : effects in money a customer, each with its results; ``loss`` is the effect elsewhere, negative
    where something is lost. share, low, high : −loss / gain; None where the gain is not clearly positive, because a
    share of it then means nothing.
    """

    gain: EffectResults = field(repr=False)
    loss: EffectResults = field(repr=False)
    net: EffectResults = field(repr=False)
    share: float | None
    low: float | None
    high: float | None


def offset(
    gain: ArrayLike,
    elsewhere: ArrayLike,
    treated: ArrayLike,
    before: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Offset:
    """Effect on one part of spend, on another, on both together, and the share of the first that the second loses.

    Parameters
    ----------
    gain : shape (n,), spend where the campaign aims: its own weeks, the offered category. elsewhere : shape (n,), spend
    in the weeks after it, or on other products. treated : shape (n,), 0 or 1. before : as in :func:`weekly_effects`.

    Source: limits of the ratio by Fieller (1954), JRSS B 16:175, with the two effects' covariance.
    """
    one, two = np.asarray(gain, dtype=float), np.asarray(elsewhere, dtype=float)
    first, second, net = (_effect(y, treated, before) for y in (one, two, one + two))
    if not first.interval(confidence)[0] > 0:
        return Offset(first, second, net, None, None, None)
    t = float(stats.t.ppf(0.5 + confidence / 2, first.dof))
    a, b = first.effect, -second.effect
    va, vb, cab = first.se**2, second.se**2, -float(first.contributions @ second.contributions)
    # (b − θa)² ≤ t² (vb − 2θ cab + θ² va), a quadratic in θ that opens upward since the gain is clear.
    lead, half, rest = a * a - t * t * va, a * b - t * t * cab, b * b - t * t * vb
    root = np.sqrt(max(half * half - lead * rest, 0.0))
    return Offset(first, second, net, b / a, float((half - root) / lead), float((half + root) / lead))


def margin_after_face_value(
    spend: ArrayLike,
    redeemed: ArrayLike,
    given: ArrayLike,
    margin: float,
    contacted: ArrayLike | None = None,
    contact_cost: float = 0.0,
    offer_cost: float = 0.0,
    net_of_coupon: bool = True,
) -> Array:
    """What each customer leaves after goods, coupon, contact and handling; shape (n,), money.

    Parameters
    ----------
    spend : shape (n,), net spend in the window. redeemed : shape (n,), 0 or 1. given : shape (n,), money taken off by
    the coupon (at most its face value, less where the purchase was smaller), 0 for those who did not redeem.
    margin : profit as a share of sales at full price. contacted : shape (n,), 0 or 1, who costs a contact.
    offer_cost : handling of a redeemed coupon. net_of_coupon : ``spend`` is what was paid after the coupon; then the
    goods cost their share of spend plus coupon.
    """
    if not 0 <= margin <= 1:
        raise ValueError(f"margin must lie between 0 and 1, got {margin}; write 0.30 for 30 %")
    r, off = np.asarray(redeemed, dtype=float), np.asarray(given, dtype=float)
    full = np.asarray(spend, dtype=float) + (off if net_of_coupon else 0.0)
    reach = 0.0 if contacted is None else contact_cost * np.asarray(contacted, dtype=float)
    return margin * full - off - offer_cost * r - reach


def taken_off(redeemed: ArrayLike, face_value: ArrayLike, discount: ArrayLike | None = None) -> Array:
    """Money that each customer's coupon took off; shape (n,).

    Parameters
    ----------
    redeemed : shape (n,), 0 or 1. face_value : shape (n,), money. discount : shape (n,), all price cuts of the window,
    where they hold the coupon: a purchase smaller than the face value takes off no more than that.
    """
    most = np.asarray(face_value, dtype=float)
    if discount is not None:
        most = np.minimum(most, np.maximum(np.asarray(discount, dtype=float), 0.0))
    return np.asarray(redeemed, dtype=float) * most


def arm_face_values(contacts: ibis.Table, offers: pd.DataFrame, campaign_id: str) -> dict[str, float]:
    """Face value of each arm of a campaign that holds a coupon, from the canonical tables ``contacts`` and ``offers``.

    An arm with several coupons has their mean, weighted by how many were sent each; arms without one are left out.
    """
    if "offer_id" not in contacts.columns:
        return {}
    mine = contacts.filter((contacts.campaign_id == campaign_id) & contacts.offer_id.notnull())
    sent = mine.group_by("arm", "offer_id").aggregate(sent=mine.count()).to_pandas()
    known = sent.merge(offers[["offer_id", "face_value"]].dropna(), on="offer_id")
    worth = (
        known.assign(money=known["sent"] * known["face_value"].astype(float)).groupby("arm")[["money", "sent"]].sum()
    )
    return {str(arm): float(row.money / row.sent) for arm, row in worth.iterrows()}


@dataclass(frozen=True)
class CustomerProfit:
    """What each customer of a campaign left, and what it took.

    Attributes
    ----------
    profit : shape (n,), money after goods, coupon, contact and handling: the outcome by which policies are valued.
    sales : shape (n,), spend at full price. given : shape (n,), money that coupons took off. redeemed : shape (n,), 0 or
    1. face_value : shape (n,), of the coupon sent, or 0. costs : by arm, money a customer sent it (contact, handling
    and what the coupon took off); 0 for the control.
    """

    profit: Array = field(repr=False)
    sales: Array = field(repr=False)
    given: Array = field(repr=False)
    redeemed: Array = field(repr=False)
    face_value: Array = field(repr=False)
    costs: pd.Series


def customer_profit(
    members: pd.DataFrame,
    face_values: Mapping[str, float],
    margin: float,
    contact_cost: float = 0.0,
    offer_cost: float = 0.0,
    net_of_coupon: bool = True,
) -> CustomerProfit:
    """Profit of each customer of one campaign in its window; arguments as in :func:`run_coupons`."""
    arm = members["arm"].astype(str).to_numpy(dtype=object)
    sent = np.array([not is_comparison(a) for a in arm], dtype=float)
    face = pd.Series(arm).map(dict(face_values)).fillna(0.0).to_numpy(dtype=float)
    known = members["redeemed"] if "redeemed" in members else pd.Series(pd.NA, index=members.index)
    used = known.astype("boolean").fillna(False).to_numpy(dtype=float) * (face > 0)
    off = taken_off(used, face, members["discount"] if net_of_coupon and "discount" in members else None)
    spend = members["spend"].to_numpy(dtype=float)
    costs = {"contact_cost": contact_cost, "offer_cost": offer_cost, "net_of_coupon": net_of_coupon}
    profit = margin_after_face_value(spend, used, off, margin, sent, **costs)
    spent = pd.Series(contact_cost * sent + offer_cost * used + off).groupby(arm).mean()
    return CustomerProfit(profit, spend + (off if net_of_coupon else 0.0), off, used, face, spent)


@dataclass(frozen=True)
class FaceValueSlope:
    """Change of an outcome a customer with one more unit of money of face value, among random face values.

    Attributes
    ----------
    slope, low, high : with its interval. bend_p_value : of a test against a straight line; None with two values.
    values : the face values. customers : who were sent one of them.
    """

    slope: float
    low: float
    high: float
    bend_p_value: float | None
    values: tuple[float, ...]
    customers: int


def face_value_slope(outcome: ArrayLike, face_value: ArrayLike, confidence: float = 0.95) -> FaceValueSlope:
    """Response to face value where face values were drawn at random.

    Parameters
    ----------
    outcome : shape (n,). face_value : shape (n,), money; customers without a coupon (0 or missing) are left out, since
    having one at all is another question. Robust (HC2) standard error.

    Raises
    ------
    EstimationError
        ``one_face_value``: fewer than two different ones, each with two customers.
    """
    y, v = np.asarray(outcome, dtype=float), np.nan_to_num(np.asarray(face_value, dtype=float))
    y, v = y[v > 0], v[v > 0]
    values, place, counts = np.unique(v, return_inverse=True, return_counts=True)
    if len(values) < 2 or counts.min() < 2:
        raise EstimationError("one_face_value", "the response to face value needs two of them, two customers each")
    fit = sm.OLS(y, sm.add_constant(v)).fit(cov_type="HC2", use_t=True)
    low, high = fit.conf_int(1 - confidence)[1]
    bend = None
    if len(values) > 2:
        # Means of all values against the line: the dummies beyond the first two test the bend.
        wide = np.column_stack([np.ones(len(v)), v, (place[:, None] == np.arange(2, len(values))).astype(float)])
        free = sm.OLS(y, wide).fit(cov_type="HC2", use_t=True)
        contrast = np.eye(wide.shape[1])[2:]
        bend = float(free.f_test(contrast).pvalue) if np.ptp(y) > 0 else 1.0
    return FaceValueSlope(float(fit.params[1]), float(low), float(high), bend, tuple(map(float, values)), len(v))


def face_value_by_spend(cumulative_spend: ArrayLike, face_values: ArrayLike) -> NDArray[np.int64]:
    """The classic rule: the more a customer has spent so far, the higher the face value.

    Parameters
    ----------
    cumulative_spend : shape (n,), before the campaign. face_values : shape (arms,), of each arm.

    Returns
    -------
    shape (n,), arm numbers: customers in order of spend are cut into as many equal groups as arms; customers with the
    same spend are in the same group.
    """
    spend, faces = np.asarray(cumulative_spend, dtype=float), np.asarray(face_values, dtype=float)
    if not np.isfinite(spend).all():
        raise ValueError("cumulative spend holds missing values; a customer who never bought has spent 0")
    rank = (stats.rankdata(spend, "average") - 0.5) / max(len(spend), 1)
    group = np.minimum((rank * len(faces)).astype(int), len(faces) - 1)
    return np.argsort(faces, kind="stable")[group]


@dataclass(frozen=True)
class Coupons:
    """What the coupons of one randomised campaign did.

    Attributes
    ----------
    redemption : from :func:`redemption_rates`. subsidy : an arm: arm, face_value, given (money taken off a customer
    sent it), the fields of :class:`Subsidy`. margins : an arm: arm, face_value, sales (incremental, at full price),
    given, costs, profit, low, high, money a customer sent it. weekly : from :func:`weekly_effects`, with arm.
    shifted : an arm: arm, during, after, net and limits, share of the gain lost later with limits. slopes : an outcome:
    outcome, slope, low, high, bend_p_value; empty where face values were not random. contact_cost : money a contact, None
    where nobody knows it; costs and profit are then before it, and a profit is what a contact may cost to break even.
    campaign_weeks : how many of the weeks are the campaign's.
    """

    redemption: pd.DataFrame = field(repr=False)
    subsidy: pd.DataFrame = field(repr=False)
    margins: pd.DataFrame = field(repr=False)
    weekly: pd.DataFrame = field(repr=False)
    shifted: pd.DataFrame = field(repr=False)
    slopes: pd.DataFrame = field(repr=False)
    contact_cost: float | None = 0.0
    campaign_weeks: int = 4

    def facts(self) -> dict[str, object]:
        """What the sentences need: the best coupon and its profit, the largest redemption, subsidy, shift, slope.

        ``contact_cost`` is None where nobody knows it; ``value`` and ``best_pays`` are then before it, and ``any_loses`` is of
        coupons that lose even so. ``break_even`` with its limits is the contact cost up to which the best coupon pays.
        """
        best = self.margins.loc[self.margins["profit"].idxmax()]
        subsidy = self.subsidy.set_index("arm").reindex([best["arm"]]).iloc[0]
        found = {"arm": best["arm"], "face_value": float(best["face_value"]), "arms": len(self.margins)}
        found |= {"value": float(best["profit"]), "low": float(best["low"]), "high": float(best["high"])}
        known = self.contact_cost or 0.0
        found |= {"contact_cost": self.contact_cost, "break_even": found["value"] + known}
        found |= {f"break_even_{end}": found[end] + known for end in ("low", "high")}
        found |= {"best_pays": bool(best["low"] > 0), "any_loses": bool((self.margins["high"] < 0).any())}
        rate = self.redemption.set_index("arm").loc[best["arm"]]
        found |= {"rate": float(rate["rate"]), "rate_low": float(rate["low"]), "rate_high": float(rate["high"])}
        names = ("least", "most", "proportional", "proportional_low", "proportional_high")
        found |= {name: None if np.isnan(subsidy[name]) else float(subsidy[name]) for name in names}
        for outcome in ("redemption", "profit"):
            row = self.slopes[self.slopes["outcome"] == outcome]
            for end in ("slope", "low", "high"):
                found[f"{outcome}_{end}"] = float(row[end].iloc[0]) if len(row) else None
        late = self.shifted[self.shifted["arm"] == best["arm"]]
        for name in ("during", "after", "after_low", "after_high", "net", "net_low", "net_high"):
            found[name] = float(late[name].iloc[0]) if len(late) else None
        return found


def run_coupons(
    members: pd.DataFrame,
    face_values: Mapping[str, float],
    margin: float,
    contact_cost: float | None = 0.0,
    offer_cost: float = 0.0,
    weekly: ArrayLike | None = None,
    campaign_weeks: int = 4,
    before: ArrayLike | None = None,
    net_of_coupon: bool = True,
    confidence: float = 0.95,
) -> tuple[Coupons | None, str | None]:
    """Redemption, subsidy, margin, shift in time and response to face value of one randomised campaign, or why not.

    Parameters
    ----------
    members : one row a customer: arm, spend (net, in the window), redeemed and, where price cuts hold the coupon,
    discount (without it every redemption counts as its full face value). face_values : of each arm with a coupon.
    margin : share of sales at full price. contact_cost, offer_cost : money a contact, and a redemption; where the former is
    None, profits are before it.
    weekly : shape (n, weeks), spend from the start, beyond ``campaign_weeks`` to see what was pulled forward.
    before : shape (n,) or (n, k), spend before, which narrows the intervals (CUPED).

    Returns
    -------
    The results and None, or None and the reason: ``no_coupon``, ``no_control`` (fewer than two customers in the random
    control group) or ``redemption_unknown``.
    """
    arm = members["arm"].astype(str).to_numpy(dtype=object)
    control = np.array([is_comparison(a) for a in arm], dtype=bool)
    sizes = pd.Series(arm).value_counts()
    faces = {a: float(f) for a, f in face_values.items() if f > 0 and sizes.get(a, 0) >= 2}
    faces = dict(sorted(faces.items(), key=lambda item: (item[1], item[0])))
    if not faces:
        return None, "no_coupon"
    if control.sum() < 2:
        return None, "no_control"
    known = members["redeemed"].astype("boolean")
    if known[np.isin(arm, list(faces))].isna().all():
        return None, "redemption_unknown"
    money = customer_profit(members, faces, margin, contact_cost or 0.0, offer_cost, net_of_coupon)
    used, face = money.redeemed, money.face_value
    past = None if before is None else np.asarray(before, dtype=float).reshape(len(arm), -1)
    parts: dict[str, list] = {"subsidy": [], "margins": [], "weekly": [], "shifted": []}
    for name, value in faces.items():
        mine = control | (arm == name)
        d, x = (arm[mine] == name).astype(int), None if past is None else past[mine]
        given = float(money.given[arm == name].mean())
        try:
            share = vars(subsidised_share(money.sales[mine] > 0, d, used[mine], confidence))
            parts["subsidy"].append({"arm": name, "face_value": value, "given": given} | share)
        except EstimationError:
            parts["subsidy"].append({"arm": name, "face_value": value, "given": given})
        profit, sales = _effect(money.profit[mine], d, x), _effect(money.sales[mine], d, x)
        low, high = profit.interval(confidence)
        spent = float(money.costs[name]) - given
        row = {"arm": name, "face_value": value, "sales": sales.effect, "given": given, "costs": spent}
        parts["margins"].append(row | {"profit": profit.effect, "low": low, "high": high})
        if weekly is not None:
            w = np.asarray(weekly, dtype=float)[mine]
            parts["weekly"].append(weekly_effects(w, d, x, confidence).assign(arm=name))
            if w.shape[1] > campaign_weeks:
                parts["shifted"].append({"arm": name} | _shift(w, d, x, campaign_weeks, confidence))
    limits = [f.name for f in fields(Subsidy)]
    return Coupons(
        redemption_rates(arm, members["redeemed"], faces, confidence),
        pd.DataFrame(parts["subsidy"]).reindex(columns=["arm", "face_value", "given", *limits]),
        pd.DataFrame(parts["margins"]),
        pd.concat(parts["weekly"], ignore_index=True) if parts["weekly"] else pd.DataFrame(columns=["arm", "week"]),
        pd.DataFrame(parts["shifted"]) if parts["shifted"] else pd.DataFrame(columns=["arm"]),
        _slopes({"redemption": used, "sales": money.sales, "profit": money.profit}, face, confidence),
        contact_cost,
        campaign_weeks,
    ), None


def _shift(w: Array, d: NDArray[np.int64], x: Array | None, weeks: int, confidence: float) -> dict[str, float | None]:
    found = offset(w[:, :weeks].sum(axis=1), w[:, weeks:].sum(axis=1), d, x, confidence)
    row: dict[str, float | None] = {}
    for name, part in (("during", found.gain), ("after", found.loss), ("net", found.net)):
        row[name] = part.effect
        row[f"{name}_low"], row[f"{name}_high"] = part.interval(confidence)
    return row | {"share_lost": found.share, "share_lost_low": found.low, "share_lost_high": found.high}


def _slopes(outcomes: Mapping[str, Array], face: Array, confidence: float) -> pd.DataFrame:
    names = ["outcome", "slope", "low", "high", "bend_p_value"]
    try:
        found = {name: face_value_slope(y, face, confidence) for name, y in outcomes.items()}
    except EstimationError:
        return pd.DataFrame(columns=names)
    return pd.DataFrame([(k, s.slope, s.low, s.high, s.bend_p_value) for k, s in found.items()], columns=names)
