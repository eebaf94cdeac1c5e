"""What all campaigns together earned in a year, by the customers whom none of them ever reached.

Each campaign's own claim counts an order that two campaigns brought twice, and forgets orders that it only moved from
later weeks; the universal holdout does neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.campaigns import effects
from analysis.campaigns.checks import OmnibusBalance, omnibus_balance
from analysis.campaigns.effects import CUPED, EffectResults
from analysis.campaigns.evaluation import CampaignEffect
from analysis.campaigns.facts import Costs
from analysis.campaigns.money import Estimate
from analysis.campaigns.power import detectable_effect, holdout_size

YEAR = 365.0
SMALLEST = 30
"""Fewer customers than this in a holdout give no figure."""
_HELD = {"yes", "true", "1", "holdout", "y"}


@dataclass(frozen=True)
class Claim:
    """What one campaign × arm says that it earned.

    Attributes
    ----------
    campaign_id, arm : which. effect : on sales a contacted customer. customers : shape (n,), whose each contribution is.
    contacts : how many the effect speaks of. spend : what contacts, offers and production cost in all.
    """

    campaign_id: str
    arm: str
    effect: EffectResults
    customers: NDArray[np.object_] = field(repr=False)
    contacts: int
    spend: float


@dataclass(frozen=True)
class Ledger:
    """A year's incremental profit by the universal holdout, beside the sum of the campaigns' claims; all amounts a year.

    Attributes
    ----------
    reached, held_out : customers. days : length of the period. effect : on sales a reached customer in the period.
    sales, profit : incremental sales and profit by the holdout, with intervals. spend : what the campaigns cost.
    claimed : the campaigns' profits summed. gap : claimed less profit, with an interval that knows that both rest on the
    same customers. claims : one row a campaign × arm: campaign_id, arm, contacts, profit, low, high.
    probability : that the year's profit is above zero. unclaimed : campaigns without a claim of their own, in the holdout's
    figure all the same. balance : were reached and held out alike before. contacted : held-out customers whom a
    campaign reached after all; more than none weakens the comparison.
    detectable : smallest yearly margin that so large a holdout would find with a power of 80 %. needed : customers to hold
    out to find, in a period as long, what the campaigns claim; None without a claim above zero, or when not even half of the
    customers would do.
    """

    reached: int
    held_out: int
    days: int
    effect: EffectResults = field(repr=False)
    sales: Estimate
    profit: Estimate
    spend: float
    claimed: Estimate | None
    gap: Estimate | None
    claims: pd.DataFrame
    probability: float
    unclaimed: tuple[str, ...]
    balance: OmnibusBalance | None
    contacted: int
    detectable: float
    needed: float | None

    def summary(self) -> pd.DataFrame:
        """One row a figure: row (``sales``, ``profit``, ``claimed``, ``gap``), value, low, high, all a year."""
        rows = [(name, getattr(self, name)) for name in ("sales", "profit", "claimed", "gap")]
        return pd.DataFrame(
            [(name, e.value, e.low, e.high) for name, e in rows if e is not None],
            columns=["row", "value", "low", "high"],
        )


def held_out(customers: pd.DataFrame, column: str = "universal_holdout") -> pd.Series | None:
    """Who is in the universal holdout, by customer_id; None without the column. Missing is no."""
    if column not in customers:
        return None
    flag = customers[column]
    if not pd.api.types.is_bool_dtype(flag):
        flag = flag.astype("string").str.strip().str.lower().isin(_HELD)
    return pd.Series(flag.fillna(False).to_numpy(bool), index=customers["customer_id"].to_numpy(object))


def year_panel(lines: ibis.Table, customers: pd.DataFrame, since: date, until: date) -> pd.DataFrame:
    """One row a customer: sales in the period and what is known of them from before it.

    Parameters
    ----------
    lines : the canonical ``order_lines``. customers : customer_id and, if known, acquired_on.
    since, until : first and last day of the period.

    Returns
    -------
    customer_id, spend (in the period), spend_before (all earlier), recent_before (the half year before), days_before
    (purchase days), exposure (days of the period since acquisition); customers who never bought have zeros.
    """
    recent = since - timedelta(days=182)
    inside = (lines.order_date >= since) & (lines.order_date <= until)
    earlier, late = lines.order_date < since, (lines.order_date >= recent) & (lines.order_date < since)
    bought = (
        lines.group_by("customer_id")
        .aggregate(
            spend=lines.net_amount.sum(where=inside),
            spend_before=lines.net_amount.sum(where=earlier),
            recent_before=lines.net_amount.sum(where=late),
            days_before=lines.order_date.nunique(where=earlier),
        )
        .mutate(**{c: ibis._[c].cast("float64") for c in ("spend", "spend_before", "recent_before", "days_before")})
        .to_pandas()
    )
    panel = customers[["customer_id"]].merge(bought, on="customer_id", how="left").fillna(0.0)
    length = (until - since).days + 1
    panel["exposure"] = float(length)
    if "acquired_on" in customers:
        joined = (pd.Timestamp(until) - pd.to_datetime(customers["acquired_on"])).dt.days + 1
        panel["exposure"] = joined.clip(0, length).fillna(length).to_numpy(float)
    return panel


def ledger_claims(
    campaigns: Sequence[CampaignEffect],
    spans: pd.DataFrame,
    costs: Mapping[tuple[str, str], Costs],
    since: date,
    until: date,
    margin: float,
    contact_cost: float | None = None,
) -> tuple[list[Claim], float | None, list[str]]:
    """What the campaigns that started in a period claim, what they cost, and which have no claim.

    Parameters
    ----------
    campaigns : from :func:`evaluation.estimate_campaigns`. spans : from :func:`outcomes.windows`.
    costs : from :func:`facts.campaign_costs`. since, until : first and last day of the period.
    margin : share of net sales, for the goods behind coupons.
    contact_cost : assumed where the data hold none, also of campaigns without an estimate.

    Returns
    -------
    The claims; the cost of all campaigns, with or without a claim (an offer redeemed in one without is not counted), or
    None as soon as a contact's cost is unknown; the ids of campaigns with an arm that has no claim.
    """
    by_id = spans.set_index("campaign_id")
    claims, total, without = [], 0.0, []
    for c in campaigns:
        if not since <= by_id.at[c.campaign_id, "starts_on"] <= until:
            continue
        known = costs.get((c.campaign_id, c.arm))
        from_data = float(by_id.at[c.campaign_id, "cost_per_contact"])
        each = known.contact if known else from_data if np.isfinite(from_data) else contact_cost
        if each is None:
            return [], None, sorted({c.campaign_id for c in campaigns})
        offers = known.offers_at(margin) if known else 0.0
        total += each * c.targeted + offers
        if c.results is None:
            without.append(c.campaign_id)
        else:
            claims.append(Claim(c.campaign_id, c.arm, c.results, c.customers, c.kept, each * c.kept + offers))
    return claims, total, sorted(set(without))


def run_ledger(
    panel: pd.DataFrame,
    held: pd.Series | None,
    claims: Sequence[Claim],
    margin: float,
    days: int,
    spend: float | None,
    unclaimed: Sequence[str] = (),
    contacted: Sequence[str] = (),
    confidence: float = 0.95,
) -> tuple[Ledger | None, str | None]:
    """The year's incremental profit by the universal holdout and the sum of the campaigns' own claims.

    Parameters
    ----------
    panel : from :func:`year_panel`. held : from :func:`held_out`. claims : of the period's campaigns, where they have
    an estimate. margin : profit before marketing as a share of net sales, 0 to 1. days : length of the period.
    spend : what all campaigns of the period cost; None when nobody knows. unclaimed : campaigns without an estimate.
    contacted : customers whom a campaign reached. confidence : of intervals.

    Returns
    -------
    The ledger, and None; or None, and why: ``no_holdout`` (the customers do not say), ``nobody_held_out``, ``too_few``
    (fewer than ``SMALLEST`` held out or reached), ``no_sales``, ``no_contact_cost``.
    """
    if not 0 <= margin <= 1 or days < 1:
        raise ValueError(f"margin must lie between 0 and 1 and days be at least 1, got {margin} and {days}")
    if held is None:
        return None, "no_holdout"
    if spend is None:
        return None, "no_contact_cost"
    out = held.reindex(panel["customer_id"]).fillna(False).to_numpy(bool)
    if not out.any():
        return None, "nobody_held_out"
    if min(out.sum(), (~out).sum()) < SMALLEST:
        return None, "too_few"
    y = panel["spend"].to_numpy(float)
    if y.std() == 0:
        return None, "no_sales"
    past = panel[["spend_before", "recent_before", "days_before", "exposure"]].to_numpy(float)
    effect = CUPED(y, ~out, past).fit()
    balance = omnibus_balance(past, out)
    customers, reached = panel["customer_id"].to_numpy(object), int((~out).sum())
    factor = YEAR / days
    whole = effects.pool([effect], [customers])
    gross = reached * margin * factor
    profit = _estimate(whole, gross, -spend * factor, confidence)
    claimed, gap, table = _claimed(claims, whole, gross, spend, margin, factor, confidence)
    pays_from = spend / (reached * margin) if margin else np.inf
    beyond = (whole.effect - pays_from) / whole.se if whole.se else np.sign(whole.effect - pays_from) * np.inf
    # Standard deviation of a customer that gives this standard error.
    spread = whole.se / np.sqrt(1 / reached + 1 / out.sum())
    claimed_each = sum(c.effect.effect * c.contacts for c in claims) / reached
    return Ledger(
        reached=reached,
        held_out=int(out.sum()),
        days=days,
        effect=whole,
        sales=_estimate(whole, reached * factor, 0.0, confidence),
        profit=profit,
        spend=spend * factor,
        claimed=claimed,
        gap=gap,
        claims=table,
        probability=float(stats.t.cdf(beyond, whole.dof)),
        unclaimed=tuple(unclaimed),
        balance=balance if balance.dof else None,
        contacted=int(np.isin(customers[out].astype(str), np.asarray(contacted, dtype=str)).sum()),
        detectable=gross * detectable_effect(len(y), spread, alpha=1 - confidence, share_treated=reached / len(y)),
        needed=holdout_size(len(y), claimed_each, spread, alpha=1 - confidence)
        if min(claimed_each, spread) > 0
        else None,
    ), None


def _estimate(effect: EffectResults, factor: float, shift: float, confidence: float) -> Estimate:
    low, high = effect.interval(confidence)
    return Estimate(factor * effect.effect + shift, factor * low + shift, factor * high + shift)


def _claimed(
    claims: Sequence[Claim],
    whole: EffectResults,
    gross: float,
    costs: float,
    margin: float,
    factor: float,
    confidence: float,
) -> tuple[Estimate | None, Estimate | None, pd.DataFrame]:
    """The claims' sum, what it exceeds the holdout's figure by, and each claim."""
    scale = margin * factor
    rows = [
        (
            c.campaign_id,
            c.arm,
            c.contacts,
            *vars(_estimate(c.effect, scale * c.contacts, -factor * c.spend, confidence)).values(),
        )
        for c in claims
    ]
    table = pd.DataFrame(rows, columns=["campaign_id", "arm", "contacts", "profit", "low", "high"])
    if not claims:
        return None, None, table
    contacts = [c.contacts for c in claims]
    together = effects.pool([c.effect for c in claims], [c.customers for c in claims], contacts)
    total = scale * sum(contacts)
    spent = factor * sum(c.spend for c in claims)
    claimed = _estimate(together, total, -spent, confidence)
    # In money, so that one customer's part in both figures cancels or adds as it should.
    gap = effects.difference(_in_money(together, total), _in_money(whole, gross))
    return claimed, _estimate(gap, 1.0, factor * costs - spent, confidence), table


def _in_money(effect: EffectResults, factor: float) -> EffectResults:
    return EffectResults(
        effect.method,
        factor * effect.effect,
        abs(factor) * effect.se,
        effect.n_treated,
        effect.n_control,
        factor * effect.contributions,
        effect.dof,
        clusters=effect.clusters,
    )
