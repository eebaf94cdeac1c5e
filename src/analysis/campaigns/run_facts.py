"""What the sentences about response, weeks, coupons, the ledger, uplift and the list are filled with: results in, facts out."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import ibis
import pandas as pd

from analysis.campaigns.design import is_comparison
from analysis.campaigns.effects import EstimationError
from analysis.campaigns.evaluation import CampaignEffect
from analysis.campaigns.event_study import (
    EventSettings,
    EventStudyReport,
    matched_bounds,
    trend_bounds,
    unpromoted_lines,
)
from analysis.campaigns.facts import Costs, Range
from analysis.campaigns.gains import ResponseModel
from analysis.campaigns.ledger import Ledger, held_out, ledger_claims, run_ledger, year_panel
from analysis.campaigns.runs import Plan, policy_name
from analysis.campaigns.uplift_analysis import UpliftAnalysis
from analysis.campaigns.words import Words

_YEAR = 365


class Observed(Protocol):
    """The first and last observed day."""

    observed_from: datetime.date
    observed_to: datetime.date


def _unknown(reasons: str, reason: str | None, words: Words, **facts: object) -> dict[str, object]:
    return {"value": None, "reason": words.name(reasons, reason or "unknown")} | facts


def lift_facts(model: ResponseModel | None, reason: str | None, words: Words) -> dict[str, object]:
    """The lift of the best tenth by the response model, as arguments of a finding."""
    return model.facts() if model else _unknown("response_reason", reason, words)


def not_promoted(
    lines: ibis.Table, products: ibis.Table | None, offers: pd.DataFrame | None, spans: pd.DataFrame
) -> ibis.Table | None:
    """Lines of goods that no observational campaign promoted, None where offers do not say what was promoted."""
    if products is None or offers is None or "category" not in offers or offers["category"].isna().all():
        return None
    known = products if isinstance(products, ibis.Table) else ibis.memtable(products)
    named = offers if isinstance(offers, ibis.Table) else ibis.memtable(offers[["campaign_id", "category"]])
    chosen = list(spans.loc[spans["design"] != "randomised", "campaign_id"])
    return unpromoted_lines(lines, known, named, chosen)


def event_facts(found: EventStudyReport | None, reason: str | None, words: Words) -> dict[str, object]:
    """The change of sales while campaigns ran, week by week, as arguments of a finding; no value where the groups parted before."""
    if found is None:
        return _unknown("event_reason", reason, words, verdict=None)
    facts = found.facts()
    if facts["verdict"] in ("pre_trend", "placebo"):
        facts |= {"value": None, "low": None, "high": None, "reason": words.name("event_reason", facts["verdict"])}
    return facts


def method_facts(methods: pd.DataFrame, found: EventStudyReport) -> dict[str, object]:
    """Naive and adjusted effect on the same customers: naive, adjusted (by the last method), times (spent before)."""
    kept = methods.set_index("method")["estimate"]
    return {
        "naive": float(kept.iloc[0]),
        "adjusted": float(kept.iloc[-1]),
        "times": found.facts()["times"],
        "methods": len(methods),
    }


def hidden_facts(found: EventStudyReport, settings: EventSettings) -> dict[str, object]:
    """How large a hidden difference takes the finding away: gamma, pairs, breakdown; None where pairs cannot be made."""
    facts: dict[str, object] = {"gamma": None, "pairs": None, "breakdown": None}
    try:
        hidden = matched_bounds(found.stacks, settings)
        facts |= {"gamma": hidden.gamma, "pairs": hidden.pairs}
        facts |= {"breakdown": trend_bounds(found.stacks, settings).breakdown}
    except EstimationError:
        return facts
    return facts


def arm_labels(arms: Iterable[str]) -> dict[str, str]:
    """Arms as words."""
    return {arm: str(arm).replace("_", " ") for arm in arms}


def with_arm_words(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its arms as words, for people."""
    return table.assign(arm=table["arm"].map(arm_labels(table["arm"])))


def run_year(
    lines: ibis.Table,
    customers: pd.DataFrame | None,
    contacts: ibis.Table,
    spans: pd.DataFrame,
    effects: Sequence[CampaignEffect],
    costs: Mapping[tuple[str, str], Costs],
    clock: Observed,
    margin: Range | None,
    assumed: Range | None,
    confidence: float = 0.95,
) -> tuple[Ledger | None, str | None]:
    """The ledger of the last year, see :func:`run_ledger`; or None and the reason (also ``no_margin``, ``short``)."""
    if customers is None:
        return None, "no_holdout"
    if margin is None:
        return None, "no_margin"
    held = held_out(customers)
    if held is None or not held.any():
        return None, "no_holdout" if held is None else "nobody_held_out"
    since = clock.observed_to - timedelta(days=_YEAR - 1)
    if since <= clock.observed_from:
        return None, "short"
    year = year_panel(lines, customers, since, clock.observed_to)
    claims, spent, without = ledger_claims(
        effects, spans, costs, since, clock.observed_to, margin.value, assumed and assumed.value
    )
    arms = contacts.select("customer_id", "arm").distinct().to_pandas()
    reached = arms.loc[[not is_comparison(arm) for arm in arms["arm"]], "customer_id"].unique()
    return run_ledger(year, held, claims, margin.value, _YEAR, spent, without, reached, confidence)


def ledger_facts(found: Ledger) -> dict[str, object]:
    """The year's profit by the holdout beside the claims: earned, earned_low, earned_high, claimed, gap, gap_low, gap_high,
    held_out, reached, detectable, needed (None where not even half of the customers would do), probability."""
    facts: dict[str, object] = {
        "earned": found.profit.value,
        "earned_low": found.profit.low,
        "earned_high": found.profit.high,
        "held_out": found.held_out,
        "reached": found.reached,
        "detectable": found.detectable,
        "needed": found.needed,
        "probability": found.probability,
    }
    for name, estimate in (("claimed", found.claimed), ("gap", found.gap)):
        facts |= {name: None if estimate is None else estimate.value}
    for name in ("low", "high"):
        facts[f"gap_{name}"] = None if found.gap is None else getattr(found.gap, name)
    return facts


def ledger_finding(found: Ledger | None, reason: str | None, words: Words) -> dict[str, object]:
    """The year's profit by the universal holdout as arguments of a finding."""
    if found is None:
        return _unknown("ledger_reason", reason, words)
    return {"value": found.profit.value, "low": found.profit.low, "high": found.profit.high} | ledger_facts(found)


def ledger_labels(words: Words) -> dict[str, str]:
    """Words for the rows of the ledger."""
    return {name: words.name("ledger_row", name) for name in ("sales", "profit", "claimed", "gap")}


def score_names(found: UpliftAnalysis, words: Words) -> dict[str, str]:
    """Words for the learners and rules."""
    return {name: words.name("score", name) for name in found.scores}


def uplift_finding(found: UpliftAnalysis | None, facts: Mapping[str, object], words: Words) -> dict[str, object]:
    """Whether effects differ between customers, as arguments of a finding: the p-value, which has no interval."""
    if found is None:
        return _unknown("uplift_reason", facts["reason"], words, verdict="unknown")
    told = {name: value for name, value in facts.items() if name not in ("low", "high", "reason", "best_rule", "arm")}
    rule = words.name("score", str(facts["best_rule"]))
    return told | {
        "value": float(facts["p_value"]),
        "reason": words("uplift_no_interval"),
        "best_rule": rule,
        "arm": str(facts["arm"]).replace("_", " "),
        "qini_low": facts["low"],
        "qini_high": facts["high"],
    }


def policy_finding(found: Plan | None, reason: str | None, words: Words) -> dict[str, object]:
    """Which way of choosing customers pays, as arguments of a finding; money a customer over leaving all alone."""
    if found is None:
        return _unknown("plan_reason", reason, words, kind=None)
    facts = {
        name: value for name, value in found.compared.facts().items() if name != "customers" and not _missing(value)
    }
    for name in ("recommended", "best_uniform", "runner_up"):
        facts[name] = policy_name(facts[name], words) if facts.get(name) else None
    empty = ("lead_low", "lead_high", "over_uniform", "over_uniform_low", "over_uniform_high")
    facts = dict.fromkeys(empty) | facts | {"label": found.label}
    if facts["kind"] == "nobody":
        facts |= {"value": 0.0, "low": None, "high": None, "reason": words("policy_nobody")}
    return facts


def _missing(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def list_finding(found: Plan | None, reason: str | None, words: Words) -> dict[str, object]:
    """What the next list should bring, as arguments of a finding; or why there is none.

    ``everybody`` says whether it was drawn from all customers; ``unlike`` is the share of them who had too few like them among
    the tested, ``more_contacts`` the share with more campaigns behind them than any tested customer had; None where only the
    tested were looked at.
    """
    if found is None or found.found is None:
        why = reason if found is None else found.reason
        return _unknown("list_reason", why, words)
    drawn: dict[str, object] = {"everybody": found.overlap is not None, "unlike": None, "more_contacts": None}
    if found.overlap is not None:
        drawn["unlike"] = found.overlap.share_outside
        drawn["more_contacts"] = float(found.overlap.beyond.get("earlier_contacts", 0.0))
    return found.found.facts() | {"label": found.label} | drawn
