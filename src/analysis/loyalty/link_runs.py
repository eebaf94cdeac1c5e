"""The link and its worth in one call each, or the reason why the data cannot carry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import pandas as pd

from analysis.valuation import purchase_days

from .link import (
    PURCHASES,
    Link,
    Linked,
    Reliability,
    Shape,
    customer_link,
    effect_shape,
    link_behaviour,
    window_effects,
    within_customer,
)
from .link_sensitivity import lasting_cause, past_placebo, purchase_e_value, sensitivity_table
from .path_model import BootstrapResults, EstimationError, PLSResults
from .return_on_quality import ROUTES, ReturnOnQuality, customer_base, driver_effects_drawn
from .runs import Observed, unlinked
from .scores import Scale


@dataclass(frozen=True)
class LinkAnalysis:
    """What follows satisfaction, and how far to trust it.

    Attributes
    ----------
    linked : Linked. link : Link.
    effects : rate, hazard and spend of a purchase, then buying in the window: rows of :func:`analysis.loyalty.link.effect_row`.
    shape : Shape, of purchases in the window.
    within : from :func:`within_customer`. sensitivity : from :func:`sensitivity_table`. placebo : from :func:`past_placebo`.
    warning : from :func:`lasting_cause`. e_value : from :func:`purchase_e_value`.
    """

    linked: Linked
    link: Link
    effects: pd.DataFrame
    shape: Shape
    within: dict[str, object]
    sensitivity: pd.DataFrame
    placebo: pd.DataFrame
    warning: dict[str, object]
    e_value: dict[str, float]


def run_link(
    answers: pd.DataFrame,
    scores: pd.DataFrame,
    order_lines: ibis.Table | None,
    clock: Observed | None,
    reliability: Reliability | None,
    *,
    weights: pd.Series | None = None,
    wave: str | None = None,
    customers: pd.DataFrame | None = None,
    attributes: Sequence[str] = (),
    window_weeks: int = 13,
    lag_weeks: int = 4,
    confidence: float = 0.95,
) -> tuple[LinkAnalysis | None, str]:
    """Set answers beside purchases and measure what follows satisfaction.

    Parameters
    ----------
    answers : survey_responses. scores : 0-100 scores of the answers, same index, with a column satisfaction if it is sound.
    order_lines : the canonical table, or its purchase days; None where the study has none.
    clock : the observed time. reliability : of the score, from :func:`score_reliability`; None where it is not asked.
    weights : of the answers.
    customers : with customer_id and the `attributes` that are held equal; those that it lacks are passed over.

    Returns
    -------
    found : LinkAnalysis or None. reason : why not; empty otherwise.
    """
    reason = "the survey does not ask for satisfaction" if reliability is None else unlinked(answers, order_lines)
    if not reason and "satisfaction" not in scores.columns:
        reason = "satisfaction is not measured soundly"
    if reason:
        return None, reason
    asked = answers.assign(satisfaction=scores["satisfaction"])
    if weights is not None:
        asked = asked.assign(weight=weights)
    held = [name for name in attributes if customers is not None and name in customers.columns]
    try:
        linked = link_behaviour(
            asked,
            purchase_days(order_lines),
            clock.observed_to,
            wave=wave,
            attributes=customers[["customer_id", *held]] if held else None,
            window_weeks=window_weeks,
            lag_weeks=lag_weeks,
        )
        link = customer_link(linked, reliability, held, confidence)
        window = window_effects(linked, reliability, held, confidence)
        placebo = past_placebo(linked, link, held, confidence)
        found = LinkAnalysis(
            linked=linked,
            link=link,
            effects=pd.concat([link.effects, window], ignore_index=True),
            shape=effect_shape(linked, PURCHASES, held, confidence),
            within=within_customer(linked, reliability, confidence),
            sensitivity=sensitivity_table(linked, held),
            placebo=placebo,
            warning=lasting_cause(placebo),
            e_value=purchase_e_value(window),
        )
    except EstimationError as error:
        return None, str(error)
    return found, ""


def run_return(
    results: PLSResults,
    bootstrap: BootstrapResults,
    link: Link,
    summary: pd.DataFrame | None,
    value: pd.DataFrame | None,
    *,
    scale: Scale,
    usable: Sequence[str],
    horizon_weeks: int,
    discount_rate: float | None,
    limits: tuple[float, float] | None = None,
    entry: str = "first_purchase",
    draws: int = 4000,
    seed: int = 1,
) -> tuple[ReturnOnQuality | None, str]:
    """What raising satisfaction or a driver of it would bring.

    Parameters
    ----------
    summary, value, horizon_weeks, discount_rate, limits, entry : as :func:`customer_base` takes them.
    usable : constructs whose measurement passes.

    Returns
    -------
    found : ReturnOnQuality or None. reason : why not; empty otherwise.
    """
    if summary is None or value is None:
        return None, "the customers of this study have no value yet"
    try:
        drivers = driver_effects_drawn(results, bootstrap, scale, usable=usable)
        base = customer_base(
            summary,
            value,
            horizon_weeks=horizon_weeks,
            discount_rate=discount_rate,
            limits=limits,
            entry=entry,
            seed=seed,
        )
    except EstimationError as error:
        return None, str(error)
    return ReturnOnQuality(drivers, link, base, draws, seed), ""


def within_facts(found: LinkAnalysis) -> dict[str, object]:
    """The change within customers as arguments of a finding, with how many were asked twice and the least effect to be found."""
    counts = {"customers_asked": found.within["customers"], "informative": found.within["informative"]}
    if found.within["value"] is None:
        return {"value": None, "reason": found.within["reason"], "detectable": None} | counts
    return {name: float(found.within[name]) for name in ("value", "low", "high", "detectable")} | counts


def route_table(chain: ReturnOnQuality, driver: str = "Satisfaction", confidence: float = 0.95) -> pd.DataFrame:
    """Through what the money of ten points more comes, to be shown by :data:`ROUTE_COLUMNS`: rows of
    :meth:`ReturnOnQuality.routes`, named.
    """
    table = chain.routes(driver, confidence=confidence)
    return table.assign(route=table["route"].map(_ROUTE_NAMES))


def route_facts(chain: ReturnOnQuality, driver: str = "Satisfaction", confidence: float = 0.95) -> dict[str, object]:
    """What the sentence on the routes of the money is filled with.

    Returns
    -------
    first (the route that brings most), first_value, first_low, first_high (money), first_most (whether it is more than half of a
    total above 0); total (money); spend_value, spend_low, spend_high (money by
    the spend of a purchase), spend_clear (its limits lie on one side of 0), and spend_reason (why that route is left out, else
    empty; then it adds 0 for lack of an estimate).
    """
    table = chain.routes(driver, confidence=confidence).set_index("route")
    first = str(table.loc[list(ROUTES), "value"].idxmax())
    total = float(table.loc["total", "value"])
    facts: dict[str, object] = {"first": first, "total": total}
    facts["first_most"] = bool(table.loc[first, "value"] > total / 2 > 0)
    for name, route in (("first", first), ("spend", "spend")):
        facts |= {f"{name}_{end}": float(table.loc[route, end]) for end in ("value", "low", "high")}
    facts["spend_clear"] = bool(facts["spend_low"] > 0 or facts["spend_high"] < 0)
    return facts | {"spend_reason": chain.link.spend_reason}


def doubt_facts(found: LinkAnalysis, chain: ReturnOnQuality | None, driver: str) -> dict[str, object]:
    """What the paragraph about a common cause is filled with.

    Returns
    -------
    warns, outcome, estimate (log-change of what was bought before, by a standard deviation of satisfaction); e_value, e_limit;
    robustness (of purchases); agreed, lowest (the reliability of the score by the agreement of its questions, and with the largest
    mood that the answers allow taken out of it; None where only one is known); weakest, weakest_share (the step that most of the
    money's uncertainty comes from; None without).
    """
    facts = {name: found.warning[name] for name in ("warns", "outcome", "estimate")}
    facts |= {"e_value": found.e_value["value"], "e_limit": found.e_value["limit"]}
    facts["robustness"] = float(found.sensitivity.set_index("outcome")["robustness"][PURCHASES])
    facts |= {"agreed": found.link.reliability.agreed, "lowest": found.link.reliability.lowest}
    if chain is None:
        return facts | {"weakest": None, "weakest_share": None}
    steps = chain.uncertainty(driver).set_index("step")["share"]
    return facts | {"weakest": str(steps.idxmax()), "weakest_share": float(steps.max())}


WHAT_IF_COLUMNS = {
    "driver": ("Driver", "text"),
    "raised": ("Up", "number"),
    "money": ("Margin", "money"),
    "money_low": ("Low", "money"),
    "money_high": ("High", "money"),
    "customer": ("Each", "money"),
    "satisfaction": ("Satisfied", "number"),
    "retention": ("Kept", "number"),
}
ROUTE_COLUMNS = {
    "route": ("By", "text"),
    "value": ("Margin", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
    "share": ("Of the total", "share"),
}
_ROUTE_NAMES = {
    "rate": "Buying more often",
    "hazard": "Staying longer",
    "spend": "Spending more a purchase",
    "total": "Together",
}
