"""From the panel to one effect a campaign, the pooled effect, its checks and a verdict.

A campaign that cannot be estimated keeps its place with the reason, in one word, instead of a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis import sensitivity
from analysis.campaigns import design, effects
from analysis.campaigns.effects import EffectResults, EstimationError
from analysis.campaigns.outcomes import COMPARISON_ARMS
from analysis.multiplicity import adjust_p_values

METHODS = ("doubly_robust", "ipw", "did")
BALANCED = 0.1
"""Largest standardised difference that counts as balance (Austin 2009, Statistics in Medicine 28:3083)."""


@dataclass(frozen=True)
class Settings:
    """How effects are estimated.

    Attributes
    ----------
    method : for observational campaigns, one of ``METHODS``. pre_periods : periods before the start that adjust the
    effect.
    min_targeted : fewer targeted customers give no effect. highest_propensity : see :func:`effects.overlap_region`.
    confidence : of intervals, and 1 − the level of tests.
    """

    method: str = "doubly_robust"
    pre_periods: int = 4
    min_targeted: int = 30
    highest_propensity: float = 0.9
    confidence: float = 0.95


@dataclass(frozen=True)
class CampaignEffect:
    """One campaign × arm: its estimate, or why there is none.

    Attributes
    ----------
    results : the chosen estimate, or None. reason : why not. customers : shape (n,), whom ``results`` rests on.
    others : the same effect by other methods. placebo : the effect "found" in the period before the start, where there
    can be none, in the outcome's unit and scaled to the window's length. balance : standardised differences.
    targeted : customers in the arm. kept : those with somebody comparable.
    """

    campaign_id: str
    label: str
    arm: str
    design: str
    targeted: int
    kept: int = 0
    compared: int = 0
    days: int = 0
    reason: str | None = None
    results: EffectResults | None = None
    customers: np.ndarray = field(default_factory=lambda: np.array([], dtype=object), repr=False)
    others: dict[str, EffectResults] = field(default_factory=dict, repr=False)
    placebo: EffectResults | None = field(default=None, repr=False)
    placebo_customers: np.ndarray = field(default_factory=lambda: np.array([], dtype=object), repr=False)
    balance: pd.DataFrame | None = field(default=None, repr=False)


def covariates(panel: pd.DataFrame, periods: int, first: int = 1) -> pd.DataFrame:
    """What is known of each customer before a campaign: purchases in ``periods`` periods, from the ``first`` before
    the start, and earlier campaigns.

    Spend enters as it is, and its total and latest as log(1 + spend), because targeting and buying bend with it.
    """
    blocks = range(first, first + periods)
    spend = {f"spend_{i}": panel[f"spend_before_{k}"] for i, k in enumerate(blocks, 1)}
    days = [panel[f"purchase_days_before_{k}"] for k in blocks]
    found = pd.DataFrame(spend).astype(float)
    found["log_spend"] = np.log1p(found.sum(axis=1).clip(lower=0))
    found["log_latest_spend"] = np.log1p(found["spend_1"].clip(lower=0))
    found["purchase_days"] = np.sum(days, axis=0)
    found["latest_purchase_days"] = days[0]
    for name in ("earlier_contacts", "running_contacts", "earlier_redeemed"):
        found[name] = panel[name]
    return found.astype(float)


def _estimate(method: str, y: np.ndarray, before: np.ndarray, d: np.ndarray, x: np.ndarray) -> EffectResults:
    if method == "doubly_robust":
        return effects.DoublyRobustATT(y, d, x).fit()
    if method == "ipw":
        return effects.InversePropensityATT(y, d, x).fit()
    if method == "did":
        return effects.DifferenceInDifferences(y, before, d).fit()
    raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method}")


def _observational(
    rows: pd.DataFrame, span: dict, outcome: str, settings: Settings, effect: CampaignEffect
) -> CampaignEffect:
    periods = settings.pre_periods
    if span["complete_periods"] < periods:
        return _without(effect, "no_history")
    d = rows["treated"].to_numpy()
    x = covariates(rows, periods)
    keep = effects.overlap_region(d, x, settings.highest_propensity)
    treated_kept, compared_kept = int(d[keep].sum()), int((1 - d[keep]).sum())
    if treated_kept < settings.min_targeted or compared_kept < settings.min_targeted:
        return _without(effect, "no_overlap")
    y, scale = rows[outcome].to_numpy(float), span["days"] / span["pre_days"]
    before = scale * np.mean([rows[f"{outcome}_before_{k}"] for k in range(1, periods + 1)], axis=0)
    xk, dk = x.to_numpy()[keep], d[keep]
    by_method = {m: _estimate(m, y[keep], before[keep], dk, xk) for m in METHODS}
    by_method["naive"] = effects.DifferenceInMeans(y[keep], dk).fit()
    weights = None if settings.method == "did" else effects.fit_propensity(dk, xk).odds
    customers = rows["customer_id"].to_numpy(object)
    placebo, placebo_customers = _placebo(rows, span, outcome, settings, customers)
    return CampaignEffect(
        **{**_head(effect), "kept": treated_kept, "compared": compared_kept},
        results=by_method[settings.method],
        customers=customers[keep],
        others=by_method,
        placebo=placebo,
        placebo_customers=placebo_customers,
        balance=design.standardised_differences(x[keep], dk, weights),
    )


def _placebo(
    rows: pd.DataFrame, span: dict, outcome: str, settings: Settings, customers: np.ndarray
) -> tuple[EffectResults | None, np.ndarray]:
    """The same method one period earlier: the outcome is the period just before the start, covariates come before."""
    nobody = np.array([], dtype=object)
    periods, scale = settings.pre_periods, span["days"] / span["pre_days"]
    if span["complete_periods"] < periods + 1:
        return None, nobody
    d, x = rows["treated"].to_numpy(), covariates(rows, periods, first=2)
    y = scale * rows[f"{outcome}_before_1"].to_numpy(float)
    before = scale * np.mean([rows[f"{outcome}_before_{k}"] for k in range(2, periods + 2)], axis=0)
    try:
        keep = effects.overlap_region(d, x, settings.highest_propensity)
        return _estimate(settings.method, y[keep], before[keep], d[keep], x.to_numpy()[keep]), customers[keep]
    except EstimationError:
        return None, nobody


def _randomised(
    rows: pd.DataFrame, span: dict, outcome: str, settings: Settings, effect: CampaignEffect
) -> CampaignEffect:
    y, d = rows[outcome].to_numpy(float), rows["treated"].to_numpy()
    plain = effects.DifferenceInMeans(y, d).fit()
    history = [f"{outcome}_before_{k}" for k in range(1, min(settings.pre_periods, span["complete_periods"]) + 1)]
    history = [name for name in history if name in rows]
    customers = rows["customer_id"].to_numpy(object)
    others, placebo, balance = {"naive": plain, "difference_in_means": plain}, None, None
    chosen = plain
    if history and rows[history].to_numpy().std() > 0:
        chosen = others["cuped"] = effects.CUPED(y, d, rows[history].to_numpy(float)).fit()
        scale = span["days"] / span["pre_days"]
        placebo = effects.DifferenceInMeans(scale * rows[history[0]].to_numpy(float), d).fit()
        balance = (
            design.standardised_differences(covariates(rows, len(history)), d) if "earlier_contacts" in rows else None
        )
    return CampaignEffect(
        **{**_head(effect), "kept": int(d.sum()), "compared": int((1 - d).sum())},
        results=chosen,
        customers=customers,
        others=others,
        placebo=placebo,
        placebo_customers=customers,
        balance=balance,
    )


def _head(effect: CampaignEffect) -> dict:
    return {
        "campaign_id": effect.campaign_id,
        "label": effect.label,
        "arm": effect.arm,
        "design": effect.design,
        "targeted": effect.targeted,
        "days": effect.days,
    }


def _without(effect: CampaignEffect, reason: str) -> CampaignEffect:
    return CampaignEffect(**_head(effect), kept=effect.kept, compared=effect.compared, reason=reason)


def estimate_campaigns(
    panel: pd.DataFrame, spans: pd.DataFrame, sizes: pd.DataFrame, settings: Settings, outcome: str = "spend"
) -> list[CampaignEffect]:
    """One effect a campaign × arm, in order of start.

    Parameters
    ----------
    panel : from :func:`outcomes.campaign_panel`. spans : from :func:`outcomes.windows`.
    sizes : from :func:`design.arm_sizes`, customers an arm.
    outcome : ``spend`` (money in the window) or ``purchase_days``.

    Returns
    -------
    Effects or reasons: ``before_data``, ``window_not_over``, ``no_history``, ``too_few``, ``no_comparison``,
    ``no_outcome`` (nothing was measured, or everybody did the same), ``separation``, ``no_overlap``.
    """
    groups = dict(list(panel.groupby("campaign_id", sort=False))) if len(panel) else {}
    found = []
    for span in spans.to_dict("records"):
        arms = sizes[(sizes["campaign_id"] == span["campaign_id"]) & ~sizes["arm"].isin(COMPARISON_ARMS)]
        for arm, customers in zip(arms["arm"], arms["customers"], strict=True):
            blank = CampaignEffect(
                span["campaign_id"], span["label"], arm, span["design"], int(customers), days=int(span["days"])
            )
            rows = groups.get(span["campaign_id"])
            found.append(_one_arm(rows, span, outcome, settings, blank))
    return found


def _one_arm(
    rows: pd.DataFrame | None, span: dict, outcome: str, settings: Settings, blank: CampaignEffect
) -> CampaignEffect:
    if span["reason"] and rows is None:
        return _without(blank, span["reason"])
    if rows is None or outcome not in rows:
        return _without(blank, "no_outcome")
    rows = rows[(rows["arm"] == blank.arm) | (rows["treated"] == 0)].reset_index(drop=True)
    treated = int(rows["treated"].sum())
    if treated < settings.min_targeted:
        return _without(blank, "too_few")
    if len(rows) - treated < settings.min_targeted:
        return _without(blank, "no_comparison")
    if rows[outcome].std() == 0:
        return _without(blank, "no_outcome")
    try:
        estimate = _randomised if span["design"] == "randomised" else _observational
        return estimate(rows, span, outcome, settings, blank)
    except EstimationError as error:
        return _without(blank, error.code)


@dataclass(frozen=True)
class Pooled:
    """All campaigns of one design together.

    Attributes
    ----------
    design : ``randomised`` if any estimated campaign was, else ``observational``; None without campaigns.
    effect : pooled effect a targeted customer. by_method : the same by the other methods.
    placebo : pooled effect of the period before, where there can be none. beyond_placebo : effect less placebo, both
    from the campaigns that have a placebo.
    robustness : robustness value; robustness_limit : at the level of the interval. e_value, e_value_limit.
    verdict : ``raised``, ``lowered`` or ``cannot_tell``. reasons : why it cannot be told.
    """

    design: str | None
    campaigns: int
    contacts: int
    targeted: int
    effect: EffectResults | None = None
    by_method: dict[str, EffectResults] = field(default_factory=dict, repr=False)
    placebo: EffectResults | None = None
    beyond_placebo: EffectResults | None = None
    robustness: float | None = None
    robustness_limit: float | None = None
    e_value: float | None = None
    e_value_limit: float | None = None
    worst_balance: float | None = None
    verdict: str = "cannot_tell"
    reasons: tuple[str, ...] = ()


def pooled_effect(
    campaigns: Sequence[CampaignEffect],
    settings: Settings,
    panel: pd.DataFrame | None = None,
    outcome: str = "spend",
    split_fails: bool = False,
) -> Pooled:
    """Pool the campaigns of the more credible design, check the result, and say what can be claimed.

    A claim needs an interval without zero. From an observational design it also needs balance after weighting, a
    placebo that finds nothing, and an effect that exceeds the placebo by more than chance.

    Parameters
    ----------
    campaigns : from :func:`estimate_campaigns`. panel : adds sensitivity to unseen causes where given.
    split_fails : a sample-ratio test failed, so the randomisation cannot be trusted.
    """
    done = [c for c in campaigns if c.results is not None]
    designs = {c.design for c in done or campaigns}
    kind = "randomised" if "randomised" in designs else "observational" if designs else None
    done = [c for c in done if c.design == kind]
    if not done:
        return Pooled(kind, 0, 0, 0, reasons=("nothing_estimated",))
    who = [c.customers for c in done]
    effect = effects.pool([c.results for c in done], who)
    shared = sorted(set.intersection(*(set(c.others) for c in done)))
    by_method = {m: effects.pool([c.others[m] for c in done], who, method=m) for m in shared}
    tested = [c for c in done if c.placebo is not None]
    placebo = beyond = None
    if tested:
        weights = [c.kept for c in tested]
        placebo = effects.pool([c.placebo for c in tested], [c.placebo_customers for c in tested], weights)
        beyond = effects.difference(
            effects.pool([c.results for c in tested], [c.customers for c in tested], weights), placebo
        )
    balances = [c.balance["after"].abs().max() for c in done if c.balance is not None]
    worst = float(np.average(balances, weights=[c.kept for c in done if c.balance is not None])) if balances else None
    reasons = _doubts(kind, effect, placebo, beyond, worst, settings.confidence, split_fails)
    verdict = "cannot_tell" if reasons else "raised" if effect.effect > 0 else "lowered"
    unseen = _unseen(done, panel, outcome, settings) if panel is not None and kind == "observational" else {}
    return Pooled(
        kind,
        len({c.campaign_id for c in done}),
        sum(c.kept for c in done),
        sum(c.targeted for c in done),
        effect,
        by_method,
        placebo,
        beyond,
        worst_balance=worst,
        verdict=verdict,
        reasons=reasons,
        **unseen,
    )


def _holds_zero(result: EffectResults, confidence: float) -> bool:
    low, high = result.interval(confidence)
    return low <= 0 <= high


def _doubts(
    kind: str,
    effect: EffectResults,
    placebo: EffectResults | None,
    beyond: EffectResults | None,
    worst: float | None,
    confidence: float,
    split_fails: bool,
) -> tuple[str, ...]:
    reasons = []
    if kind == "randomised" and split_fails:
        reasons.append("split_fails")
    if kind == "observational":
        if placebo is None or beyond is None:
            reasons.append("no_placebo")
        elif not _holds_zero(placebo, confidence):
            reasons.append("placebo_fails")
        elif _holds_zero(beyond, confidence):
            reasons.append("no_more_than_placebo")
        if worst is not None and worst > BALANCED:
            reasons.append("unbalanced")
    if _holds_zero(effect, confidence):
        reasons.append("holds_zero")
    return tuple(reasons)


def _stacked(
    done: Sequence[CampaignEffect], panel: pd.DataFrame, settings: Settings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of all pooled campaigns and their covariates, both less the campaign's means (campaign fixed effects)."""
    parts = []
    for c in done:
        rows = panel[(panel["campaign_id"] == c.campaign_id) & ((panel["arm"] == c.arm) | (panel["treated"] == 0))]
        parts.append(rows[rows["customer_id"].isin(c.customers)])
    rows = pd.concat(parts, ignore_index=True)
    x = covariates(rows, settings.pre_periods)
    return rows, x - x.groupby(rows["campaign_id"]).transform("mean")


def _unseen(done: Sequence[CampaignEffect], panel: pd.DataFrame, outcome: str, settings: Settings) -> dict[str, float]:
    rows, x = _stacked(done, panel, settings)
    within = rows[outcome] - rows.groupby("campaign_id")[outcome].transform("mean")
    dummies = pd.get_dummies(rows["campaign_id"], dtype=float).iloc[:, 1:]
    fitted = effects.RegressionAdjustment(
        rows[outcome].to_numpy(float), rows["treated"], pd.concat([x, dummies], axis=1)
    ).fit()
    t, dof = fitted.diagnostics["t_classical"], fitted.diagnostics["dof"]
    pooled = effects.pool([c.results for c in done], [c.customers for c in done])
    spread = float(within.std())
    ratios = [
        sensitivity.risk_ratio_of_difference(v / spread) for v in (pooled.effect, *pooled.interval(settings.confidence))
    ]
    return {
        "robustness": sensitivity.robustness_value(t, dof),
        "robustness_limit": sensitivity.robustness_value(t, dof, alpha=1 - settings.confidence),
        "e_value": sensitivity.e_value(ratios[0]),
        "e_value_limit": sensitivity.e_value_limit(ratios[1], ratios[2]),
    }


def effects_table(campaigns: Sequence[CampaignEffect], settings: Settings) -> pd.DataFrame:
    """One row a campaign × arm, with or without an estimate.

    Returns
    -------
    campaign_id, label, arm, design, targeted, kept, compared, estimate, low, high, p_value, p_adjusted (Holm, over all
    campaigns), baseline, relative, placebo, method, reason.
    """
    rows = []
    for c in campaigns:
        row = {
            "campaign_id": c.campaign_id,
            "label": c.label,
            "arm": c.arm,
            "design": c.design,
            "targeted": c.targeted,
            "kept": c.kept,
            "compared": c.compared,
            "estimate": np.nan,
            "low": np.nan,
            "high": np.nan,
            "p_value": np.nan,
            "baseline": np.nan,
            "relative": np.nan,
            "placebo": np.nan,
            "method": None,
            "reason": c.reason,
        }
        if c.results is not None:
            low, high = c.results.interval(settings.confidence)
            row |= {
                "estimate": c.results.effect,
                "low": low,
                "high": high,
                "p_value": c.results.pvalue,
                "baseline": c.results.baseline,
                "relative": c.results.relative(),
                "method": c.results.method,
                "placebo": c.placebo.effect if c.placebo is not None else np.nan,
            }
        rows.append(row)
    columns = [
        "campaign_id",
        "label",
        "arm",
        "design",
        "targeted",
        "kept",
        "compared",
        "estimate",
        "low",
        "high",
        "p_value",
        "baseline",
        "relative",
        "placebo",
        "method",
        "reason",
    ]
    table = pd.DataFrame(rows, columns=columns)
    known = table["p_value"].notna()
    table["p_adjusted"] = np.nan
    table.loc[known, "p_adjusted"] = adjust_p_values(table.loc[known, "p_value"].to_numpy())
    return table


def balance_table(campaigns: Sequence[CampaignEffect], design: str | None = None) -> pd.DataFrame:
    """Mean absolute standardised difference over campaigns, weighted by the targeted: covariate, before, after."""
    done = [c for c in campaigns if c.balance is not None and design in (None, c.design)]
    if not done:
        return pd.DataFrame(columns=["covariate", "before", "after"])
    stacked = pd.concat([c.balance.assign(weight=c.kept) for c in done])
    stacked[["before", "after"]] = stacked[["before", "after"]].abs().mul(stacked["weight"], axis=0)
    sums = stacked.groupby("covariate", sort=False)[["before", "after", "weight"]].sum()
    return sums[["before", "after"]].div(sums["weight"], axis=0).reset_index()


def credibility_table(pooled: Pooled, confidence: float = 0.95) -> pd.DataFrame:
    """The pooled effect by each method, then the placebo and what is left beyond it: row, estimate, low, high."""
    if pooled.effect is None:
        return pd.DataFrame(columns=["row", "estimate", "low", "high"])
    methods = [
        m for m in ("naive", "did", "ipw", "doubly_robust", "difference_in_means", "cuped") if m in pooled.by_method
    ]
    if pooled.design == "randomised":
        methods.remove("naive")
    found = {m: pooled.by_method[m] for m in methods}
    found |= {"placebo": pooled.placebo} if pooled.placebo is not None else {}
    if pooled.beyond_placebo is not None and pooled.design == "observational":
        found["beyond_placebo"] = pooled.beyond_placebo
    rows = [(name, r.effect, *r.interval(confidence)) for name, r in found.items()]
    return pd.DataFrame(rows, columns=["row", "estimate", "low", "high"])


def history_table(
    panel: pd.DataFrame, spans: pd.DataFrame, sizes: pd.DataFrame, settings: Settings, periods: Sequence[int]
) -> pd.DataFrame:
    """How the pooled effect and its placebo change with the length of history that adjusts them.

    Returns
    -------
    One row a number of periods: periods, days, campaigns, effect, low, high, placebo, placebo_low, placebo_high;
    numbers of periods with which nothing can be estimated are left out.
    """
    rows = []
    for k in periods:
        choice = Settings(settings.method, k, settings.min_targeted, settings.highest_propensity, settings.confidence)
        observational = spans[spans["design"] != "randomised"]
        if f"spend_before_{k + 1}" not in panel or observational.empty:
            continue
        pooled = pooled_effect(estimate_campaigns(panel, observational, sizes, choice), choice)
        if pooled.effect is None or pooled.placebo is None:
            continue
        rows.append(
            (
                k,
                k * int(spans["pre_days"].iloc[0]),
                pooled.campaigns,
                pooled.effect.effect,
                *pooled.effect.interval(choice.confidence),
                pooled.placebo.effect,
                *pooled.placebo.interval(choice.confidence),
            )
        )
    names = ["periods", "days", "campaigns", "effect", "low", "high", "placebo", "placebo_low", "placebo_high"]
    return pd.DataFrame(rows, columns=names)


def unexplained_spread(panel: pd.DataFrame, settings: Settings, outcome: str = "spend") -> float:
    """Standard deviation of the targeted customers' outcome that their past does not explain, for planning a test."""
    rows = panel[panel["treated"] == 1]
    names = [c for c in (f"{outcome}_before_{k}" for k in range(1, settings.pre_periods + 1)) if c in panel]
    if len(rows) < len(names) + 3 or outcome not in rows:
        return float("nan")
    within = rows[[outcome, *names]].astype(float)
    within = within - within.groupby(rows["campaign_id"]).transform("mean")
    if not names:
        return float(within[outcome].std())
    slope = np.linalg.lstsq(within[names].to_numpy(), within[outcome].to_numpy(), rcond=None)[0]
    return float((within[outcome] - within[names] @ slope).std())
