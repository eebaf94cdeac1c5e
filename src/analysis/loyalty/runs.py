"""The longer analyses of the notebook in one call each: what was found, or the reason why nothing can be said."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import ibis
import pandas as pd

from analysis.errors import RapportError
from analysis.valuation import customer_summary, purchase_days

from .loyalty_index import dealings_scores, index_track_record, service_outcome
from .nonresponse import (
    Propensity,
    ResponseWeights,
    compare_with_base,
    response_propensity,
    response_weights,
    survey_base,
    wave_starts,
)
from .ordered import OrderedLogitResults, ordered_logit
from .path_model import EstimationError, PLSResults
from .recommendation import (
    referral_contrast,
    referral_gap,
    referral_rates,
    referral_value,
    referral_worth,
    referral_worth_range,
    referrals,
    saved_acquisition_cost,
)
from .service import (
    COMPLAINT,
    PERIOD_DAYS,
    ServiceError,
    active_customers,
    contact_hazard,
    contact_rates,
    contacts_around,
    purchases_around,
    recovery_pairs,
    repeat_contacts,
    repurchase_after,
    resolution_times,
    score_stability,
    service_recovery,
    service_table,
    top_reasons,
)
from .survey_means import wave_labels

T = TypeVar("T")


class Observed(Protocol):
    """The first and last observed day."""

    observed_from: datetime.date
    observed_to: datetime.date


NO_CUSTOMERS = "the answers carry no customer numbers"
NO_PURCHASES = "the study holds no purchases"


def unlinked(answers: pd.DataFrame, order_lines: ibis.Table | None) -> str:
    """Why answers cannot be set beside what their customers did; empty where they can."""
    if "customer_id" not in answers.columns or answers["customer_id"].isna().all():
        return NO_CUSTOMERS
    if order_lines is None:
        return NO_PURCHASES
    if "responded_on" not in answers.columns or answers["responded_on"].isna().all():
        return "nobody knows when the answers were given"
    return ""


def moments_of(answers: pd.DataFrame) -> pd.DataFrame:
    """Who answered when: customer_id, on; the index of the answers."""
    return answers[["customer_id"]].assign(on=answers["responded_on"])


@dataclass(frozen=True)
class Weighing:
    """Who answered, and the weights that make up for it.

    Attributes
    ----------
    raked : ResponseWeights. weights : of every answer. wave : the newest.
    balance : from :func:`compare_with_base`, of the newest wave. propensity : Propensity, of the newest wave.
    """

    raked: ResponseWeights
    wave: str
    balance: pd.DataFrame
    propensity: Propensity

    @property
    def weights(self) -> pd.Series:
        return self.raked.weights


def weigh_answers(
    answers: pd.DataFrame,
    order_lines: ibis.Table | None,
    customers: pd.DataFrame | None,
    wave: str | None,
    attributes: Sequence[str],
    *,
    initial: pd.Series | None = None,
    small_group: int = 10,
    confidence: float = 0.95,
    seed: int = 1,
) -> tuple[Weighing | None, str]:
    """Weigh the answers of every wave to the customers who had bought before it began.

    Parameters
    ----------
    answers : survey_responses. order_lines, customers : canonical tables, None where the study has none.
    wave : column of the answers, None where there was one. attributes : columns of `customers` whose shares are to agree.
    initial : weights of the survey's design.

    Returns
    -------
    found : Weighing or None. reason : why not; empty otherwise.
    """
    reason = unlinked(answers, order_lines)
    if not reason and not attributes:
        reason = "the study does not say which attributes the answers should represent"
    if not reason and customers is None:
        reason = "the study holds no table of customers"
    if reason:
        return None, reason
    day = datetime.timedelta(days=1)
    bases = {
        name: survey_base(customer_summary(order_lines, begins - day).to_pyarrow().to_pandas(), customers, attributes)
        for name, begins in wave_starts(answers, wave).items()
    }
    last = list(bases)[-1]
    own = wave_labels(answers, wave) == last
    try:
        raked = response_weights(answers, bases, wave, attributes, initial=initial, small_group=small_group)
        who = answers.loc[own, "customer_id"]
        balance = compare_with_base(
            who, bases[last], attributes, weights=raked.weights[own], confidence=confidence, small_group=small_group
        )
        told = response_propensity(
            who, bases[last], attributes, confidence=confidence, small_group=small_group, seed=seed
        )
    except RapportError as error:
        return None, str(error)
    if raked.waves["reason"].astype(bool).all():
        return None, str(raked.waves["reason"].iloc[-1])
    return Weighing(raked, last, balance, told), ""


def index_behaviour(
    answers: pd.DataFrame, order_lines: ibis.Table | None, cases: pd.DataFrame | None, target_days: float
) -> pd.DataFrame | None:
    """What behaviour adds to the loyalty index, from the year before each answer: dealings and service_outcome, 0-100.

    None where answers cannot be set beside behaviour.
    """
    if unlinked(answers, order_lines):
        return None
    moments = moments_of(answers)
    scores = dealings_scores(order_lines, moments, cases)[["dealings"]]
    if cases is not None:
        scores = scores.join(service_outcome(moments, cases, target_days=target_days)["service_outcome"])
    return scores


@dataclass(frozen=True)
class Referring:
    """What recommending really brought.

    Attributes
    ----------
    rates : from :func:`referral_rates`. contrast : promoters less detractors, from :func:`referral_contrast`.
    range : from :func:`referral_worth_range`. value : of each answer, for `customer_loyalty`.
    """

    rates: pd.DataFrame
    contrast: dict[str, object]
    range: pd.DataFrame
    value: pd.Series


def run_referrals(
    answers: pd.DataFrame,
    groups: pd.Series | None,
    customers: pd.DataFrame | None,
    value: pd.DataFrame | None,
    marketing_costs: pd.DataFrame | None,
    clock: Observed | None,
    came_anyway: tuple[float, float, float],
    *,
    weights: pd.Series | None = None,
    small_group: int = 10,
    confidence: float = 0.95,
) -> tuple[Referring | None, str]:
    """Set what customers say they would recommend beside whom they brought.

    Parameters
    ----------
    groups : from :func:`nps_groups`, None where nobody was asked. value : `customer_value`.
    clock : the observed time.
    came_anyway : low, assumed and high share of the referred who would have come without.

    Returns
    -------
    found : Referring or None. reason : why not; empty otherwise.
    """
    if groups is None:
        return None, "the survey does not ask whether customers would recommend the company"
    if "customer_id" not in answers.columns:
        return None, NO_CUSTOMERS
    if customers is None or value is None or clock is None:
        return None, NO_PURCHASES if value is None else "the study holds no table of customers"
    reason = referral_gap(customers, answers)
    if reason:
        return None, reason
    brought = referrals(customers)
    saved = saved_acquisition_cost(customers, marketing_costs, clock.observed_from, clock.observed_to, confidence)
    low, assumed, high = came_anyway
    worth = referral_worth(brought, value, saved.value, assumed)
    said = answers.assign(nps_group=groups, weight=1.0 if weights is None else weights)
    rates = referral_rates(
        said, brought, customers, clock.observed_to, worth=worth, confidence=confidence, small_group=small_group
    )
    spread = referral_worth_range(brought, value, saved, (low, assumed, high), confidence, small_group)
    own = referral_value(answers["customer_id"], brought, worth)
    return Referring(rates, referral_contrast(rates), spread, own), ""


@dataclass(frozen=True)
class Service:
    """Service contacts, and what goes with them.

    Attributes
    ----------
    table : from :func:`service_table`. rates : from :func:`contact_rates`. times : from :func:`resolution_times`.
    reasons : from :func:`top_reasons`. repeated : from :func:`repeat_contacts`.
    hazard : from :func:`contact_hazard`, None without a score.
    recovery : from :func:`service_recovery`, None without scores. repurchase : from :func:`repurchase_after`.
    """

    table: pd.DataFrame
    rates: pd.DataFrame
    times: pd.DataFrame
    reasons: pd.DataFrame
    repeated: pd.DataFrame
    hazard: pd.DataFrame | None
    recovery: pd.DataFrame | None
    repurchase: dict[str, object]


def run_service(
    cases: pd.DataFrame | None,
    order_lines: ibis.Table | None,
    answers: pd.DataFrame,
    scores: pd.DataFrame,
    clock: Observed | None,
    *,
    reliability: float,
    target_days: float = 7.0,
    weights: pd.Series | None = None,
    confidence: float = 0.95,
) -> tuple[Service | None, str]:
    """Count, time and follow the contacts that customers had with the service.

    Parameters
    ----------
    cases : from :func:`service_cases`, None where the study has none. order_lines : the canonical table, or its purchase
        days. clock : the observed time.
    scores : 0-100 scores of the answers, same index; those of satisfaction and loyalty are followed.
    reliability : of the satisfaction score.

    Returns
    -------
    found : Service or None. reason : why not; empty otherwise.
    """
    if cases is None:
        return None, "the study holds no service contacts"
    cases = cases.assign(kind=cases["kind"].str.replace("_", " "))
    if order_lines is None or clock is None:
        return None, NO_PURCHASES
    days, end = purchase_days(order_lines), pd.Timestamp(clock.observed_to)
    try:
        active = active_customers(days, clock.observed_from, clock.observed_to)
        table = service_table(cases, active, target_days=target_days, confidence=confidence)
        rates = contact_rates(cases, active, confidence=confidence)
    except ServiceError as error:
        return None, str(error)
    times = resolution_times(cases, target_days=target_days, confidence=confidence)
    gap = round(target_days)
    old = cases[(cases["kind"] == COMPLAINT) & (cases["opened_on"] <= end - pd.Timedelta(days=PERIOD_DAYS + gap))]
    later = purchases_around(days, old.rename(columns={"opened_on": "on"}), gap_days=gap)
    bought = repurchase_after(old, later, target_days=target_days, confidence=confidence)
    buyers = int(days.customer_id.nunique().execute())
    repeated = repeat_contacts(cases, buyers, confidence=confidence)
    hazard = recovery = None
    followed = [name for name in ("satisfaction", "loyalty") if name in scores.columns and scores[name].notna().any()]
    if not unlinked(answers, order_lines) and "satisfaction" in followed:
        moments, who = moments_of(answers), answers["customer_id"]
        score = scores["satisfaction"].reindex(answers.index)
        seen = (pd.to_datetime(moments["on"]) <= end - pd.Timedelta(days=PERIOD_DAYS)).to_numpy()
        holds = score_stability(score, moments["on"], who, reliability=reliability, confidence=confidence)
        hazard = contact_hazard(
            score[seen],
            contacts_around(moments, cases)[seen],
            who[seen],
            reliability=reliability,
            stability=holds["value"],
            stability_error=holds.get("error", 0.0),
            weights=None if weights is None else weights[seen],
            confidence=confidence,
        )
        pairs = recovery_pairs(moments, scores[followed].reindex(answers.index), cases, target_days=target_days)
        if len(pairs):
            before = purchases_around(days, moments).loc[pairs.index, ["before"]]
            recovery = service_recovery(pairs, followed, controls=before, confidence=confidence)
    return Service(
        table, rates, times, top_reasons(cases, confidence=confidence), repeated, hazard, recovery, bought
    ), ""


def hazard_facts(hazard: pd.DataFrame | None, kind: str = COMPLAINT) -> Mapping[str, object]:
    """The change of contacts with a standard deviation more satisfaction as arguments of a finding.

    Returns
    -------
    value, low, high (relative changes: -0.3 is a third less), corrected and settled (the same, allowing for the error of the
    score, and also for the time since the answer; None where unknown), cases; or value None and a reason.
    """
    rows = hazard[hazard["kind"] == kind] if hazard is not None else pd.DataFrame()
    if rows.empty:
        return {"value": None, "reason": f"no {kind} can be set beside an answer"}
    row = rows.iloc[0]
    if row["reason"] is not None and row["reason"] == row["reason"]:
        return {"value": None, "reason": row["reason"]}
    change = {name: _change(row[name]) for name in ("effect", "low", "high", "corrected", "settled")}
    return {
        "value": change["effect"],
        "low": change["low"],
        "high": change["high"],
        "corrected": change["corrected"],
        "settled": change["settled"],
        "cases": int(row["cases"]),
    }


def _change(log: float) -> float | None:
    return None if math.isnan(log) else math.expm1(log)


def run_track_record(
    answers: pd.DataFrame,
    scores: pd.DataFrame,
    order_lines: ibis.Table | None,
    clock: Observed | None,
    *,
    weights: pd.Series | None = None,
    seed: int = 1,
    confidence: float = 0.95,
) -> tuple[pd.DataFrame | None, str]:
    """How well the loyalty index foretells the next quarter's purchases, beside satisfaction and plain counts.

    Parameters
    ----------
    scores : `customer_loyalty` with the index of the answers.

    Returns
    -------
    found : from :func:`index_track_record`, or None. reason : why not; empty otherwise.
    """
    reason = unlinked(answers, order_lines)
    if reason:
        return None, reason
    moments = moments_of(answers)
    seen = (
        pd.to_datetime(moments["on"]) <= pd.Timestamp(clock.observed_to) - pd.Timedelta(days=PERIOD_DAYS)
    ).to_numpy()
    around = purchases_around(order_lines, moments)
    told = [name for name in ("loyalty_index", "satisfaction") if name in scores and scores[name].notna().any()]
    ranks = scores[told].assign(**{"bought lately": around["recent"], "purchases in the year before": around["before"]})
    record = index_track_record(
        around["after"][seen],
        ranks[seen],
        customers=answers["customer_id"][seen],
        weights=None if weights is None else weights[seen],
        seed=seed,
        confidence=confidence,
    )
    return (None, "too few answers are followed by a whole quarter") if record.empty else (record, "")


def or_reason(work: Callable[..., T], *args: object, **options: object) -> tuple[T | None, str]:
    """What `work` returns and ""; or None and why these answers do not allow it, where it raises an EstimationError."""
    try:
        return work(*args, **options), ""
    except EstimationError as error:
        return None, str(error)


def ordered_or_reason(
    results: PLSResults, answers: pd.DataFrame, item: str | None, target: str, **options: object
) -> tuple[OrderedLogitResults | None, str]:
    """The check of the drivers by ordered answers to one question, see :func:`ordered_logit`; or None and the reason."""
    if item is None or item not in answers.columns:
        return None, "the survey does not ask whether customers will stay"
    return or_reason(ordered_logit, results, answers[item], target, **options)
