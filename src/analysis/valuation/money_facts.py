"""What the sentences about profit, the audit, cohorts, equity, acquisition and potential are filled with.

`run_…` functions give what was found, or None and the reason why it cannot be; `…_facts` turn it into plain facts.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

import ibis
import numpy as np
import pandas as pd

from analysis.reporting.numbers import Formatter
from analysis.valuation.acquisition import (
    ChannelValue,
    channel_value,
    margin_by_age,
    payback,
)
from analysis.valuation.audit import Audit, customer_base_audit
from analysis.valuation.cohorts import PERIODS, Cohorts, cohorts, period_start, read_periods, whole_periods
from analysis.valuation.concentration import Estimate
from analysis.valuation.equity import TELLS_LEAVING, Acquisition, CustomerEquity, customer_equity
from analysis.valuation.facts import found_or_reason
from analysis.valuation.holdout import Holdout
from analysis.valuation.lifetime import CustomerValue, weekly_discount
from analysis.valuation.models import FittedModels
from analysis.valuation.money_figures import PERIOD_WORDS
from analysis.valuation.potential import GrowthValue, categories_held, growth_value
from analysis.valuation.profit import (
    CustomerProfit,
    WhaleCurve,
    acquisition_costs,
    contact_costs,
    customer_profit,
    retention_costs,
    whale_curve,
)
from analysis.valuation.summary import DAYS_PER_WEEK

MONEY_TABLES = ("customers", "products", "marketing_costs", "campaigns", "contacts")
CHANNEL_COLUMNS = {
    "channel": ("Channel", "text"),
    "customers": ("Customers", "count"),
    "cost_per_customer": ("Cost of winning one", "money"),
    "pays_back": ("Paid back within", "text"),
    "existing_each": ("Margin so far", "money"),
    "expected_each": ("Margin expected", "money"),
}
_VISIBLE = 0.01  # losses as a share of what others earn, below which a curve shows no fall
_NO_MARGIN = "the study states neither costs nor a margin"
_NOBODY = "nobody has come back yet"


# -- profit ------------------------------------------------------------------------------------------------------------


def run_profit(
    order_lines: ibis.Table,
    summary: pd.DataFrame,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    cost_to_serve: float | None = None,
    contact_cost: float | None = None,
    contacts: ibis.Table | None = None,
    campaigns: pd.DataFrame | None = None,
    marketing_costs: pd.DataFrame | None = None,
) -> tuple[CustomerProfit | None, str]:
    """Profit of every customer so far, with all costs that the study knows.

    Contacts before the observed days are left out, as are sales. Contacts are charged to the contacted, so they are taken
    off the books on keeping customers before the rest is shared.

    Parameters
    ----------
    order_lines : ibis.Table
    summary : DataFrame
        The canonical `customer_summary`.
    observed_from, observed_to : date
    cost_to_serve, contact_cost : float, optional
        Of an order, and of a contact in campaigns that do not state their own; money.
    contacts, campaigns, marketing_costs : optional
        The canonical tables, where the study has them.

    Returns
    -------
    found : CustomerProfit or None
    reason : str
        Why not; empty otherwise.
    """

    def make() -> CustomerProfit:
        contacted = retention = None
        winning = 0.0
        if contacts is not None and campaigns is not None:
            seen = _observed_contacts(contacts, campaigns, observed_from, observed_to)
            contacted = contact_costs(seen, campaigns, observed_to, contact_cost)
        if marketing_costs is not None:
            charged = 0.0 if contacted is None else float(contacted["contact_cost"].sum())
            retention = retention_costs(order_lines, marketing_costs, observed_from, observed_to, charged)
            winning = acquisition_costs(marketing_costs, observed_from, observed_to)
        return customer_profit(
            summary, cost_to_serve=cost_to_serve, contacts=contacted, retention=retention, acquisition_cost=winning
        )

    return found_or_reason(make)


def price_of_contact(
    contact_cost: float | None,
    contacts: ibis.Table | None,
    campaigns: pd.DataFrame | None,
    observed_from: datetime.date,
    observed_to: datetime.date,
) -> tuple[float | None, str]:
    """What a contact costs: as the study states it, else the average of the observed contacts whose campaign states it.

    Returns
    -------
    cost : float or None
        Money a contact; None where neither is known.
    source : str
        "study", "campaigns", or "".
    """
    if contact_cost is not None:
        return contact_cost, "study"
    if contacts is None or campaigns is None:
        return None, ""
    seen = _observed_contacts(contacts, campaigns, observed_from, observed_to)
    made = contact_costs(seen, campaigns, observed_to)
    priced = int((made["contacts"] - made["unpriced"]).sum())
    return (float(made["contact_cost"].sum()) / priced, "campaigns") if priced else (None, "")


def _observed_contacts(
    contacts: ibis.Table, campaigns: pd.DataFrame, observed_from: datetime.date, observed_to: datetime.date
) -> ibis.Table:
    """Contacts made in the observed days; where contacts have no date, those of campaigns that began in them."""
    if "contacted_on" in contacts.columns:
        return contacts.filter(contacts.contacted_on >= ibis.literal(observed_from))
    starts = pd.to_datetime(campaigns["starts_on"])
    inside = campaigns.loc[starts.between(pd.Timestamp(observed_from), pd.Timestamp(observed_to)), "campaign_id"]
    return contacts.filter(contacts.campaign_id.isin([str(campaign) for campaign in inside]))


def run_whale(profit: CustomerProfit | None, small_group: int = 10) -> WhaleCurve | None:
    """The whale curve, where at least `small_group` customers make a loss and as many do not; else None."""
    if profit is None:
        return None
    known = profit.frame["profit"].dropna()
    losers = int((known < 0).sum())
    return whale_curve(known) if small_group <= losers <= len(known) - small_group else None


def profit_facts(
    found: CustomerProfit | None, reason: str, whale: WhaleCurve | None, small_group: int = 10
) -> dict[str, Any]:
    """The facts of the profit sentences; `drawn` says whether the whale curve can be seen to fall.

    `acquisition_cost` (money) was spent on winning customers and is not taken off; `after_winning` is the total less it.
    """
    if found is None:
        return {"known": False, "charged": False, "drawn": False, "why": reason, "acquisition_cost": 0.0}
    known = found.frame[found.frame["profit"].notna()]
    losers = int((known["profit"] < 0).sum())
    costs = {name: float(known[name].sum()) for name in ("cost_to_serve", "contact_cost", "retention_cost")}
    destroyed = whale.destroyed if whale else Estimate(math.nan)
    return {
        "known": True,
        "why": "",
        "charged": sum(costs.values()) > 0,
        "total": found.total.value,
        "total_reason": found.total.reason,
        "per_customer": found.total.value / len(known),
        "margin": float(known["margin"].sum()),
        **costs,
        "acquisition_cost": found.acquisition_cost,
        "after_winning": found.total.value - found.acquisition_cost,
        "unspread": found.unspread,
        "unknown": 0 if found.unknown < small_group else found.unknown,
        "assumptions": "; ".join(found.assumptions),
        "served": costs["cost_to_serve"] > 0,
        "losers": losers if losers >= small_group or not losers else None,
        "few": small_group,
        "losing_share": losers / len(known) if losers >= small_group else None,
        "drawn": whale is not None and not destroyed.value < _VISIBLE,
        "peak": whale.peak.value if whale else None,
        "destroyed": destroyed.value,
        "destroyed_low": destroyed.low,
        "destroyed_high": destroyed.high,
        "destroyed_reason": destroyed.reason,
    }


# -- the audit ---------------------------------------------------------------------------------------------------------


def run_audit(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    entry: str,
    margin_rate: float | None = None,
    small_group: int = 10,
) -> tuple[Audit | None, str]:
    """The bridge between the two last periods, or None and the reason."""

    def make() -> Audit:
        found = customer_base_audit(order_lines, observed_from, observed_to, entry=entry, margin_rate=margin_rate)
        if found.bridge["customers"].sum() < small_group:
            raise ValueError("audit: too few bought in the last two periods to show what became of them")
        return found

    return found_or_reason(make)


def audit_facts(found: Audit, small_group: int = 10) -> dict[str, Any]:
    """The facts of the audit sentences; a component that is shown with others is None."""
    shown = found.shown(small_group).set_index("component")
    change = {name: float(shown.loc[name, "change"]) for name in shown.index}
    people = {name: int(shown.loc[name, "customers"]) for name in shown.index}
    kept = [name for name in ("grown", "flat", "shrunk") if found.bridge.set_index("component")["customers"][name]]
    told = all(name in change for name in kept) and kept
    previous, current = float(found.previous), float(found.current)
    return {
        "measure": "margin" if found.measure == "margin" else "sales",
        "period": PERIOD_WORDS[found.period],
        "current_from": found.current_from,
        "previous": previous,
        "current": current,
        "change_share": current / previous - 1.0 if previous > 0 else None,
        "change_reason": found.interval_reason,
        **{name: change.get(name) for name in ("new", "won_back", "lost")},
        **{f"{name}_customers": people.get(name) for name in ("new", "won_back", "lost")},
        "kept": sum(change[name] for name in kept) if told else None,
        "kept_customers": sum(people[name] for name in kept) if told else None,
        "won_back_known": found.won_back_known,
        "few": small_group if "others" in change else None,
        "cautions": "; ".join(found.cautions),
    }


# -- cohorts -----------------------------------------------------------------------------------------------------------


def run_cohorts(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    entry: str,
    margin_rate: float | None = None,
    small_group: int = 10,
) -> tuple[Cohorts | None, str]:
    """What became of the customers who first bought together, or None and the reason.

    Where everybody came within one period, the next shorter one is taken, so that there is something to compare.
    """

    def make() -> Cohorts:
        settings = {"entry": entry, "margin_rate": margin_rate}
        found = cohorts(order_lines, observed_from, observed_to, **settings)
        for period in list(PERIODS)[: list(PERIODS).index(found.period)][::-1]:
            if (found.sizes() >= small_group).sum() > 1:
                break
            found = cohorts(order_lines, observed_from, observed_to, period=period, **settings)
        if not (found.sizes() >= small_group).any():
            raise ValueError(f"cohorts: no {found.period} brought as many as {small_group} new customers")
        return found

    return found_or_reason(make)


def cohort_facts(found: Cohorts, small_group: int = 10) -> dict[str, Any]:
    """The facts of the cohort sentences: how many are active soon after they came, and how many later.

    `missing_start` and `missing_end` are the days that the first and the last period lack although they count as whole.
    """
    ages = found.by_age()
    ages = ages[(ages["customers"] >= small_group) & (ages["age"] > 0)]
    later = ages[ages["cohorts"] >= min(3, int(ages["cohorts"].max()))] if len(ages) else ages
    last = later.iloc[-1] if len(later) > 1 else None
    soon = (
        found.retention() if len(ages) and ages["age"].iloc[0] == 1 else Estimate(math.nan, reason="too few were seen")
    )
    return {
        "period": found.period,
        "cohorts": int((found.sizes() >= small_group).sum()),
        "newcomers": int(found.sizes().sum()),
        "left_out": found.left_out if found.left_out >= small_group else 0,
        "missing_start": found.missing[0],
        "missing_end": found.missing[1],
        "soon": soon,
        "later_age": None if last is None else int(last["age"]),
        "later": None if last is None else float(last["active_share"]),
        "later_low": None if last is None else float(last["low"]),
        "later_high": None if last is None else float(last["high"]),
        "few": small_group,
    }


# -- customer equity ---------------------------------------------------------------------------------------------------


def recent_acquisition(
    summary: pd.DataFrame,
    marketing_costs: pd.DataFrame | None,
    observed_from: datetime.date,
    observed_to: datetime.date,
    weeks: float,
) -> tuple[Acquisition | None, str]:
    """How many new buyers a week the last year of whole periods with costs on record brought, and at what cost each.

    Parameters
    ----------
    summary : DataFrame
        `T`, days from the first purchase to `observed_to`.
    marketing_costs : DataFrame or None
        Rows with purpose `acquire` count.
    observed_from, observed_to : date
    weeks : float
        How long customers are taken to be won at that rate.
    """
    if marketing_costs is None or not (marketing_costs["purpose"] == "acquire").any():
        return None, "the study holds no costs of winning customers"
    acquire = marketing_costs[marketing_costs["purpose"] == "acquire"]

    def make() -> Acquisition:
        period, number = read_periods(acquire["period"])
        first, last = whole_periods(observed_from, observed_to, period)
        # customers of months before the books began, or after they end, were not won for nothing
        first, last = max(first, last - PERIODS[period] + 1, int(number.min())), min(last, int(number.max()))
        if last < first:
            raise ValueError(f"acquisition: no whole {period} with costs of winning customers was observed")
        start, end = period_start(first, period), period_start(last + 1, period)
        age = summary["T"].to_numpy(float)
        won = int(((age <= (observed_to - start).days) & (age > (observed_to - end).days)).sum())
        spent = float(acquire["amount"].astype(float)[(number >= first) & (number <= last)].sum())
        if not won:
            raise ValueError("acquisition: nobody new bought lately")
        if spent <= 0.0:
            raise ValueError("acquisition: no cost of winning customers is on record lately")
        return Acquisition(won / ((end - start).days / DAYS_PER_WEEK), spent / won, weeks)

    return found_or_reason(make)


def leaving_model(value: CustomerValue, models: FittedModels, holdout: Holdout | None = None) -> str | None:
    """The model that equity rests on: the one that values customers where it gives retention, else the best that does.

    The best is the one that came closest in the holdout, without a holdout the one with the smallest AIC; None where none
    of them could be fitted.
    """
    fitted = [name for name in TELLS_LEAVING if name in models.purchases]
    if value.forecast in fitted or not fitted:
        return value.forecast if fitted else None
    tested = [] if holdout is None else [name for name in holdout.scores["forecast"] if name in fitted]
    return tested[0] if tested else min(fitted, key=lambda name: models.purchases[name].aic)


def run_equity(
    value: CustomerValue,
    models: FittedModels,
    summary: pd.DataFrame,
    acquisition: Acquisition | None = None,
    discount_rate: float | None = None,
    entry: str = "first_purchase",
    holdout: Holdout | None = None,
) -> tuple[CustomerEquity | None, str]:
    """Customer equity and its elasticities, or None and the reason.

    What present customers are worth, and how far that may be off, is what `value` says: a page has one such figure.
    """
    name = None if entry == "left_truncated" else leaving_model(value, models, holdout)
    if name is None:
        unfit = f"none of the models that give retention ({', '.join(TELLS_LEAVING)}) can be fitted"
        return None, value.alive_reason or unfit
    if value.margin is None or not value.known:
        return None, _NO_MARGIN if value.margin is None else _NOBODY
    base = summary.sort_values("customer_id", ignore_index=True)
    each = value.frame["expected_spend"].to_numpy(float) * value.margin
    return found_or_reason(
        lambda: customer_equity(
            models.purchases[name],
            base,
            each,
            horizon_weeks=value.horizon_weeks,
            discount_rate=discount_rate or 0.0,
            acquisition=acquisition,
            present=value.headline,
            doubt=value.sales_doubt,
        )
    )


def equity_facts(
    found: CustomerEquity,
    acquisition: Acquisition | None,
    why_not_won: str,
    value: CustomerValue,
    model: str,
    holdout: Holdout | None = None,
) -> dict[str, Any]:
    """The facts of the equity sentences; `model` and `holdout` as :func:`leaving_model` gave and took them.

    Returns
    -------
    dict
        `horizon` (weeks of the present part), `reach` (weeks ahead that the last of those to be won are valued up to; None
        without them), `existing`, `existing_low`, `existing_high` (those of the headline), `future`, `future_low`,
        `future_high`, `doubt` (share of sales by which the test was missed beyond chance, in both parts; None without a
        test), `by_…` (elasticities, shares; their limits come from parameters only), `bias`, `too_low`, `bias_low`,
        `bias_high`, `bias_clear` (one retention rate for everybody, up to the horizon) and `endless_…` (the same without
        an end; None where it is not known).
    """
    moved = found.elasticities.set_index("driver")
    return {
        "horizon": value.horizon_weeks,
        "reach": value.horizon_weeks + acquisition.weeks if acquisition else None,
        "model": model,
        "forecast": value.forecast,
        "forecast_kind": value.forecast_kind,
        "tested": holdout is not None and model in set(holdout.scores["forecast"]),
        "existing": found.existing.value,
        "existing_low": found.existing.low,
        "existing_high": found.existing.high,
        "future": found.future.value if acquisition else None,
        "future_low": found.future.low if acquisition else None,
        "future_high": found.future.high if acquisition else None,
        "doubt": value.sales_doubt,
        "why_not_won": why_not_won,
        "rate": acquisition.rate if acquisition else None,
        "cost": acquisition.cost if acquisition else None,
        "new_value": found.new_customer_value,
        "retention": found.retention,
        "drivers": int(moved["elasticity"].notna().sum()),
        "most": moved["elasticity"].max() / 100.0,
        "by_retention": moved.loc["retention", "elasticity"] / 100.0,
        "by_retention_low": moved.loc["retention", "low"] / 100.0,
        "by_retention_high": moved.loc["retention", "high"] / 100.0,
        "by_margin": moved.loc["margin", "elasticity"] / 100.0,
        **_bias_facts(found.constant_retention_bias),
        **{f"endless_{name}": fact for name, fact in _bias_facts(found.endless_bias).items()},
    }


def _bias_facts(bias: Estimate) -> dict[str, Any]:
    """How far off one rate for everybody is, without its sign, and which way; its ends are of the same sign."""
    if math.isnan(bias.value):
        return {"bias": None, "too_low": False, "bias_low": None, "bias_high": None, "bias_clear": False}
    way = -1.0 if bias.value < 0 else 1.0
    low, high = (None, None) if bias.low is None else sorted((way * bias.low, way * bias.high))
    return {
        "bias": abs(bias.value),
        "too_low": bias.value < 0,
        "bias_low": low,
        "bias_high": high,
        "bias_clear": bias.low is not None and (bias.low > 0 or bias.high < 0),
    }


# -- acquisition -------------------------------------------------------------------------------------------------------


def run_channels(
    customers: pd.DataFrame | None,
    value: pd.DataFrame,
    marketing_costs: pd.DataFrame | None,
    observed_from: datetime.date,
    observed_to: datetime.date,
    small_group: int = 10,
    seed: int = 1,
) -> tuple[ChannelValue | None, str]:
    """What the customers of each channel bring and cost, or None and the reason."""
    if customers is None or "acquisition_channel" not in customers:
        return None, "the study does not say through which channel customers came"
    if marketing_costs is None:
        return None, "the study holds no marketing costs"
    if len(customers) < small_group:
        return None, "there are too few customers"
    if value["existing_value"].isna().any():
        return None, _NO_MARGIN
    if value["residual_value"].isna().any():
        return None, _NOBODY
    settings = {"small_group": small_group, "seed": seed}
    found, reason = found_or_reason(
        lambda: channel_value(customers, value, marketing_costs, observed_from, observed_to, **settings)
    )
    if found is not None and found.frame["customers"].sum() < small_group:
        return None, "too few customers came while such costs are on record"
    return found, reason


def run_payback(
    found: ChannelValue,
    order_lines: ibis.Table,
    customers: pd.DataFrame,
    observed_to: datetime.date,
    entry: str,
    margin_rate: float | None = None,
) -> dict[str, Estimate]:
    """Days until the margin of a channel's buyers has paid for winning them, by channel; empty where ages are unknown."""
    if entry == "left_truncated":
        return {}
    people = ibis.memtable(customers[["customer_id", "acquisition_channel"]].astype("string"))
    curves = margin_by_age(order_lines, people, observed_to, margin_rate)
    rows = found.frame[(found.frame["buyers"] > 0) & found.frame["channel"].isin(curves["channel"])]
    return {
        row.channel: payback(curves[curves["channel"] == row.channel], row.cost / row.buyers)
        for row in rows.itertuples()
    }


def channels_for_people(found: ChannelValue, paid: Mapping[str, Estimate], fmt: Formatter) -> pd.DataFrame:
    """A row a channel that brought customers, the one with the best ones first; see `CHANNEL_COLUMNS`."""
    table = found.frame[found.frame["customers"] > 0]
    table = table.loc[(table["net"] / table["customers"]).sort_values(ascending=False, kind="stable").index]
    return table.assign(
        existing_each=table["existing_value"] / table["customers"],
        expected_each=table["expected_value"] / table["customers"],
        pays_back=[_pays_back(paid.get(name), fmt) for name in table["channel"]],
    )


def _pays_back(paid: Estimate | None, fmt: Formatter) -> str:
    if paid is None:
        return "unknown"
    if math.isnan(paid.value):
        return paid.reason or "unknown"
    return fmt.days(paid.value) if paid.value else "it cost nothing"


def channel_facts(found: ChannelValue, small_group: int = 10) -> dict[str, Any]:
    """The facts of the channel sentences: the best and the worst by what a customer brings after cost.

    `idle` are the channels that cost money and brought nobody, the dearest first, and `idle_cost` what they cost.
    """
    brought = found.frame["customers"] > 0
    table = found.frame[brought]
    idle = found.frame[~brought & (found.frame["cost"] > 0)].sort_values("cost", ascending=False, kind="stable")
    each = (table["net"] / table["customers"]).sort_values(ascending=False, kind="stable")
    best, worst = table.loc[each.index[0]], table.loc[each.index[-1]]
    known = pd.notna(best["net_low"])
    return {
        "channels": len(table),
        "best": best["channel"],
        "best_each": each.iloc[0],
        "best_low": best["net_low"] / best["customers"] if known else None,
        "best_high": best["net_high"] / best["customers"] if known else None,
        "best_reason": best["reason"],
        "best_cost": best["cost_per_customer"],
        "worst": worst["channel"],
        "worst_each": each.iloc[-1],
        "losing": int((each < 0).sum()),
        "idle": idle["channel"].tolist(),
        "idle_cost": float(idle["cost"].sum()),
        "outside": found.outside if found.outside >= small_group else 0,
    }


# -- potential ---------------------------------------------------------------------------------------------------------


def run_growth(
    summary: pd.DataFrame,
    value: CustomerValue,
    order_lines: ibis.Table,
    products: pd.DataFrame | None,
    observed_from: datetime.date,
    observed_to: datetime.date,
    entry: str = "first_purchase",
    discount_rate: float | None = None,
) -> tuple[GrowthValue | None, str]:
    """Growth potential of every customer, or None and the reason.

    Levels are what is expected of each, where a model foresees it. A plain rule repeats the past, luck and all, and the last
    period of it has more luck than the whole: then levels are those of the whole past.
    """
    if not value.known:
        return None, "nobody has come back yet, so nothing can be expected of anybody"
    if value.margin is not None and value.margin <= 0:
        return None, "the margin is not above 0, so more purchases would bring no more money"
    base = summary.sort_values("customer_id", ignore_index=True)
    truncated = entry == "left_truncated"
    held = categories_held(order_lines, products, observed_to)
    days = float((observed_to - observed_from).days + 1)
    found, reason = found_or_reason(
        lambda: growth_value(
            base,
            value.horizon_weeks,
            expected_value=value.frame["residual_value"].to_numpy() if _foreseen(value) else None,
            doubt=(value.sales_doubt or 0.0) if _foreseen(value) else 0.0,
            probability_alive=value.frame["probability_alive"].to_numpy() if value.alive_model else None,
            categories=None if held is None else held.reindex(base["customer_id"]).fillna(0).to_numpy(),
            exposure_days=np.full(len(base), days) if truncated else None,
            discount=weekly_discount(discount_rate),
        )
    )
    if found is not None and not found.measured:
        return None, "no customer has enough comparable ones that were observed for long enough"
    return found, reason


def _foreseen(value: CustomerValue) -> bool:
    """Whether values are a model's, and so drawn towards the others by as much as the past is luck."""
    return value.forecast_kind == "model" and value.margin is not None and value.known


def growth_facts(found: GrowthValue, value: CustomerValue) -> dict[str, Any]:
    """The facts of the potential sentences."""
    frame = found.frame
    return {
        "horizon": value.horizon_weeks,
        "total": len(frame),
        "measured": found.measured,
        "top_quarter": 1.0 - found.quantile,
        "by_categories": bool(frame["compared_by"].str.contains("categories").any()),
        "alive": value.alive_model is not None,
        "foreseen": _foreseen(value),
    }


def with_profit_and_potential(
    value: pd.DataFrame, profit: CustomerProfit | None, growth: GrowthValue | None
) -> pd.DataFrame:
    """The canonical `customer_value` with `growth_value` and `profit`, null where they are not known."""
    columns = {
        "growth_value": None if growth is None else growth.frame.set_index("customer_id")["growth_value"],
        "profit": None if profit is None else profit.frame.set_index("customer_id")["profit"],
    }
    filled = {
        name: np.nan if column is None else column.reindex(value["customer_id"]).to_numpy(float)
        for name, column in columns.items()
    }
    return value.assign(**filled)
