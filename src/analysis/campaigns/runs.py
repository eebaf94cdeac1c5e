"""The longer analyses of the notebook in one call each: what was found, or the reason why nothing can be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from analysis.campaigns.candidates import Overlap, for_candidates, like_tested, permissions
from analysis.campaigns.checks import DesignVerdict, verdict_table
from analysis.campaigns.coupons import (
    Coupons,
    CustomerProfit,
    arm_face_values,
    customer_profit,
    face_value_by_spend,
    run_coupons,
    weekly_spend,
)
from analysis.campaigns.effects import EstimationError
from analysis.campaigns.evaluation import Settings, covariates
from analysis.campaigns.experiment import Experiment, Mean, Share, past_columns
from analysis.campaigns.facts import Range, cost_of
from analysis.campaigns.gains import ResponseModel, run_response
from analysis.campaigns.households import household_codes, household_split
from analysis.campaigns.policy import PolicyComparison, compare_policies
from analysis.campaigns.targeting import Targeting, TargetingSettings, allocate, profit_curve, run_targeting
from analysis.campaigns.uplift import DRLearner, cross_fit_effects, cross_fit_scores
from analysis.campaigns.uplift_analysis import UpliftAnalysis, run_uplifts, uplift_features
from analysis.campaigns.words import Words

WEEK = 7
DESIGN_COLUMNS = {
    "label": ("Campaign", "text"),
    "customers": ("Customers", "count"),
    "arms": ("Arms", "count"),
    "verdict": ("Design", "text"),
    "split_p_value": ("p, sizes", "ratio"),
    "balance_p_value": ("p, alike before", "ratio"),
}
ARM_COLUMNS = {
    "label": ("Campaign", "text"),
    "arm": ("Arm", "text"),
    "effect": ("Sales each", "money"),
    "effect_low": ("Low", "money"),
    "effect_high": ("High", "money"),
    "relative_effect": ("Relative", "share"),
    "p_holm": ("p", "ratio"),
    "variance_ratio": ("Variance left", "share"),
}
POLICY_COLUMNS = {
    "name": ("Policy", "text"),
    "treated": ("Reached", "share"),
    "value": ("Profit each", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
    "advantage": ("List over it", "money"),
}


PLAN_COLUMNS = {
    "label": ("Campaign", "text"),
    "name": ("Run it again for", "text"),
    "value": ("Profit each", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
}


def design_for_people(verdicts: Mapping[str, DesignVerdict], spans: pd.DataFrame, words: Words) -> pd.DataFrame:
    """The verdict on the design of every randomised campaign, in words: columns of ``DESIGN_COLUMNS`` and ``passes``."""
    table = verdict_table(verdicts)
    if table.empty:
        return table
    labels = spans.set_index("campaign_id")["label"]
    reasons = [
        ", ".join(words.name("design_reason", reason) for reason in verdict.reasons) for verdict in verdicts.values()
    ]
    table["label"] = [labels[name] for name in table["campaign_id"]]
    table["verdict"] = [why or words("design_sound") for why in reasons]
    return table


def arm_effects(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    sound: Sequence[str],
    periods: int,
    confidence: float,
    households: pd.Series | None = None,
) -> pd.DataFrame:
    """Effect on sales of each arm of the randomised campaigns whose design holds, adjusted for the past.

    Parameters
    ----------
    households : household by customer_id, or None. Where lot drew whole households, intervals are by household.

    Returns
    -------
    Rows of :meth:`Experiment.analyse` for sales and buying at all, with label and by_household (whether intervals are); p
    values are Holm's within a campaign. Empty without such a campaign.
    """
    labels, tables = spans.set_index("campaign_id")["label"], []
    for name in sound:
        rows = panel[panel["campaign_id"] == name]
        if rows.empty:  # it runs on
            continue
        past = past_columns(rows, periods)
        rows = rows.assign(bought=rows["purchase_days"] > 0)
        together = False
        if households is not None:
            homes = rows["customer_id"].map(households)
            together = household_split(rows["customer_id"], rows["arm"], homes).together
            rows = rows.assign(household=household_codes(rows["customer_id"], homes))
        measures = {"sales": Mean("spend", past), "bought": Share("bought")}
        trial = Experiment(measures, cluster="household" if together else None, confidence=confidence)
        found = trial.analyse(rows).table
        tables.append(found.assign(label=labels[name], campaign_id=name, by_household=together))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*ARM_COLUMNS, "metric"])


def arm_effect_facts(table: pd.DataFrame, level: float = 0.05) -> dict[str, object]:
    """How many arms changed sales, allowing for their number within a campaign: arms, clear, best and worst ratio of variance."""
    sales = table[(table["metric"] == "sales") & table["effect"].notna()]
    return {
        "arms": len(sales),
        "clear": int((sales["p_holm"] < level).sum()),
        "least": None if sales.empty else float(sales["variance_ratio"].min()),
        "most": None if sales.empty else float(sales["variance_ratio"].max()),
    }


@dataclass(frozen=True)
class Plan:
    """Whom the next campaign should reach, by what a randomised one taught.

    Attributes
    ----------
    campaign_id, label, channel : of the campaign that was learnt from. money : CustomerProfit of its customers.
    compared : PolicyComparison. curve : from :func:`profit_curve`.
    found : Targeting, or None. reason : why there is no list; None with one. overlap : how like the tested all customers are,
    where the list is drawn from all; None where it is drawn from the tested.
    """

    campaign_id: str
    label: str
    channel: str
    money: CustomerProfit
    compared: PolicyComparison
    curve: pd.DataFrame
    found: Targeting | None
    reason: str | None
    overlap: Overlap | None = None


def run_plan(
    uplift: UpliftAnalysis | None,
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    contacts: ibis.Table,
    offers: pd.DataFrame | None,
    customers: pd.DataFrame | None,
    channel: str,
    margin: Range | None,
    assumed: Range | None,
    settings: TargetingSettings,
    confidence: float = 0.95,
    candidates: pd.DataFrame | None = None,
    periods: int = 4,
    contact_cap: int | None = None,
) -> tuple[Plan | None, str | None]:
    """Value ways of choosing customers in money on a randomised campaign, and draw up the next list.

    Parameters
    ----------
    channel : of the campaign, for consent. margin, assumed : share of sales, and what a contact is taken to cost.
    settings : ``budget`` is for the whole list. candidates : whom the list is drawn from, from
    :func:`analysis.campaigns.candidates.list_candidates`; of them only those who had their like among the tested, at what the
    policy is worth to such a mixture of customers. Without it, the tested themselves. periods : of history that was learnt
    from at most. contact_cap : recent contacts of a candidate from which there are no more.

    Returns
    -------
    The plan and None, or None and the reason: ``not_tested``, ``no_margin`` or ``no_contact_cost``.
    """
    if uplift is None:
        return None, "not_tested"
    if margin is None:
        return None, "no_margin"
    span = spans.set_index("campaign_id").loc[uplift.campaign_id]
    contact, handling, _ = cost_of(span, assumed)
    if contact is None:
        return None, "no_contact_cost"
    rows = panel[(panel["campaign_id"] == uplift.campaign_id) & panel["arm"].isin(np.unique(uplift.assigned))]
    rows = rows.reset_index(drop=True)
    faces = {} if offers is None else arm_face_values(contacts, offers, uplift.campaign_id)
    money = customer_profit(rows, faces, margin.value, contact, handling)
    given = uplift.features, uplift.assigned, money.profit, uplift.fold
    gains, profit = cross_fit_scores(*given), cross_fit_effects(DRLearner(), *given)
    each = money.costs[uplift.arms].to_numpy(float)
    cost = np.tile(each, (len(rows), 1))
    # The tested are judged with as much money for each as the candidates have.
    part = 1.0 if candidates is None else len(rows) / max(len(candidates), 1)
    budget = None if settings.budget is None else settings.budget * part
    policy = allocate(profit, cost, budget).arm
    rules = _classic(rows, uplift.arms, faces)
    compared = compare_policies(gains, policy, cost, uplift.arms, rules, budget, confidence=confidence)
    curve = profit_curve(
        profit,
        cost,
        gains,
        customers=None if candidates is None else len(candidates),
        confidence=confidence,
        seed=settings.seed,
    )
    overlap, among = None, compared
    if candidates is None:
        people = _tested(rows, customers)
    else:
        overlap = like_tested(uplift.features, covariates(candidates, min(periods, int(span["complete_periods"]))))
        people = candidates.assign(unlike_tested=~overlap.inside)
        learner = DRLearner().fit(uplift.features, uplift.assigned, money.profit)
        profit, cost = learner.predict(overlap.features), np.tile(each, (len(people), 1))
        chosen = (
            policy if compared.kind == "policy" else rules.get(compared.recommended, np.full(len(rows), compared.arm))
        )
        among = for_candidates(compared, gains, chosen, overlap.weights)
        rules = _classic(candidates, uplift.arms, faces)
    channels = [channel] * len(uplift.arms)
    listed = run_targeting(people, profit, cost, uplift.arms, channels, among, settings, rules, contact_cap)
    return Plan(uplift.campaign_id, uplift.label, channel, money, compared, curve, *listed, overlap), None


def _tested(rows: pd.DataFrame, customers: pd.DataFrame | None) -> pd.DataFrame:
    """The customers of a campaign with their consent and whether they are held out for good."""
    people = rows[["customer_id"]]
    if customers is None:
        return people
    people = people.merge(permissions(customers), on="customer_id", how="left")
    return people.assign(held_out=people["held_out"].astype("boolean").fillna(False).astype(bool))


def run_plans(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    sound: Sequence[str],
    campaigns: pd.DataFrame,
    settings: Settings,
    *rest: object,
    target: TargetingSettings,
    candidates: pd.DataFrame | None = None,
    contact_cap: int | None = None,
    analyses: tuple[Mapping[str, UpliftAnalysis], Mapping[str, str]] | None = None,
) -> tuple[dict[str, Plan], UpliftAnalysis | None, str | None]:
    """A plan from every randomised campaign whose design holds, and whom the most telling of them moved.

    Limits allow for the number of campaigns (Bonferroni), since the best of them is taken.

    Parameters
    ----------
    campaigns : the canonical table, for the channel. rest : contacts, offers, customers, margin and assumed contact cost, as
        :func:`run_plan` takes them. candidates, contact_cap : as there, to draw lists from all customers.
    analyses : what :func:`uplift_analysis.run_uplifts` gives for the same campaigns; made here by default.

    Returns
    -------
    plans : by campaign_id, the one with the highest lower limit first. uplift : of that campaign; or of the largest without a
    plan. reason : why there is no plan; None with one.
    """
    contacts, offers, customers, margin, assumed = rest
    level = 1 - (1 - settings.confidence) / max(len(sound), 1)
    channels = campaigns.set_index("campaign_id")["channel"] if "channel" in campaigns else pd.Series(dtype=object)
    found, reasons = analyses or run_uplifts(panel, spans, sound, settings, target.seed)
    plans, reason = {}, next(reversed(reasons.values()), "not_tested")
    for name, moved in found.items():
        channel = channels.get(name)
        channel = str(channel) if isinstance(channel, str) else ""
        given = panel, spans, contacts, offers, customers, channel, margin, assumed, target, level
        plan, why = run_plan(
            moved, *given, candidates=candidates, periods=settings.pre_periods, contact_cap=contact_cap
        )
        if plan is None:
            reason = why
        else:
            plans[name] = plan
    order = sorted(plans, key=lambda name: -_lower(plans[name]))
    size = panel["campaign_id"].value_counts()
    chosen = order[0] if order else max(found, key=lambda name: size[name], default=None)
    return {name: plans[name] for name in order}, found.get(chosen), None if plans else reason


def _lower(plan: Plan) -> float:
    compared = plan.compared
    return 0.0 if compared.kind == "nobody" else float(compared.row(compared.recommended)["low"])


def plan_table(plans: Mapping[str, Plan], words: Words) -> pd.DataFrame:
    """What to do by each randomised campaign: columns of ``PLAN_COLUMNS``; money a customer over leaving all alone."""
    rows = []
    for plan in plans.values():
        compared = plan.compared
        row = compared.row(compared.recommended) if compared.kind != "nobody" else None
        numbers = {name: np.nan if row is None else float(row[name]) for name in ("value", "low", "high")}
        rows.append({"label": plan.label, "name": policy_name(compared.recommended, words)} | numbers)
    return pd.DataFrame(rows, columns=list(PLAN_COLUMNS))


def _classic(rows: pd.DataFrame, arms: Sequence[str], faces: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The classic rule, face value by spend so far, where a campaign tried several face values."""
    values = np.array([faces.get(arm, 0.0) for arm in arms])
    past = [c for c in rows if c.startswith("spend_before_")]
    if len(set(values)) < 2 or not past:
        return {}
    return {"face_value_by_spend": face_value_by_spend(rows[past].sum(axis=1), values)}


def policies_for_people(compared: PolicyComparison, words: Words) -> pd.DataFrame:
    """The policies in order of value, named: columns of ``POLICY_COLUMNS``."""
    return compared.table.assign(name=[policy_name(name, words) for name in compared.table["policy"]])


def policy_name(name: str, words: Words) -> str:
    """A policy in words; an arm keeps its name."""
    everybody, _, arm = str(name).partition(": ")
    return words("policy_all", arm=arm.replace("_", " ")) if arm and everybody == "all" else words.name("policy", name)


def run_coupon_campaign(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    lines: ibis.Table,
    contacts: ibis.Table,
    offers: pd.DataFrame | None,
    sound: Sequence[str],
    margin: Range | None,
    assumed: Range | None,
    confidence: float = 0.95,
) -> tuple[Coupons | None, str | None, str | None]:
    """What the coupons of the largest sound randomised campaign with coupons left; before contacts where their cost is unknown.

    Returns
    -------
    The results, the label of the campaign, and None; or None, None and the reason: ``no_coupon``, ``no_margin``, or one of
    :func:`run_coupons`.
    """
    if margin is None:
        return None, None, "no_margin"
    for name in panel.loc[panel["campaign_id"].isin(sound), "campaign_id"].value_counts().index:
        faces = {} if offers is None else arm_face_values(contacts, offers, name)
        if not faces:
            continue
        span = spans.set_index("campaign_id").loc[name]
        rows = panel[panel["campaign_id"] == name].reset_index(drop=True)
        weeks = max(1, -(-int(span["days"]) // WEEK))
        weekly = weekly_spend(lines, rows["customer_id"], span["starts_on"], weeks + 4)
        contact, offer, _ = cost_of(span, assumed)
        past = rows["spend_before_1"].to_numpy(float) if "spend_before_1" in rows else None
        found, reason = run_coupons(
            rows, faces, margin.value, contact, offer, weekly, weeks, past, confidence=confidence
        )
        return (found, str(span["label"]), None) if found else (None, None, reason)
    return None, None, "no_coupon"


def run_response_model(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    settings: Settings,
    margin: Range | None,
    assumed: Range | None,
    seed: int = 1,
) -> tuple[ResponseModel | None, str | None]:
    """Who buys in the window of a campaign that reached them: a model in the classic form, on all contacted together.

    Returns
    -------
    The model and None, or None and the reason; see :func:`run_response`.
    """
    reached = panel[panel["treated"].astype(bool)].reset_index(drop=True)
    if len(reached) < 2 * settings.min_targeted:
        return None, "too_few"
    responded = reached["purchase_days"].to_numpy(float) > 0
    starts = reached["campaign_id"].map(spans.set_index("campaign_id")["starts_on"])
    worth = (
        float(reached.loc[responded, "spend"].mean()) * margin.value if margin is not None and responded.any() else None
    )
    try:
        features = uplift_features(reached, settings.pre_periods)
        return run_response(
            features, responded, reached["customer_id"], starts, worth, assumed.value if assumed else None, seed=seed,
            confidence=settings.confidence,
        )  # fmt: skip
    except EstimationError as error:
        return None, error.code
