"""What the sentences of the campaign notebook need to know, as plain numbers and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import ibis
import numpy as np
import pandas as pd

from analysis.campaigns import design, power, response
from analysis.campaigns.coupons import arm_face_values, taken_off
from analysis.campaigns.effects import EffectResults
from analysis.campaigns.evaluation import CampaignEffect, Pooled, Settings, unexplained_spread
from analysis.campaigns.money import CampaignProfit, break_even_line, scenarios
from analysis.campaigns.words import Words

MERGED = "merged"


class Range(Protocol):
    """An assumption of the study: a value and the range that it may lie in."""

    value: float
    low: float
    high: float


def scope_facts(
    spans: pd.DataFrame, sizes: pd.DataFrame, contacts_in_two_arms: int, small_group: int
) -> dict[str, object]:
    """How many campaigns and contacts there are, when they ran, and how many were randomised.

    Fewer than ``small_group`` contacts are not counted out (None).
    """
    contacts = int(sizes.loc[~sizes["arm"].map(design.is_comparison), "customers"].sum())
    return {
        "campaigns": len(spans),
        "randomised": int((spans["design"] == "randomised").sum()),
        "contacts": contacts if contacts >= small_group else None,
        "few": small_group,
        "first": spans["starts_on"].min() if len(spans) else None,
        "last": spans["ends_on"].max() if len(spans) else None,
        "twice": contacts_in_two_arms,
    }


def funnel_facts(funnel: pd.DataFrame, small_group: int) -> dict[str, object]:
    """Shares of the targeted who bought, of those of whom it is known who redeemed, and of the compared who bought.

    None where it is not known, or where whole or part counts fewer than ``small_group``.
    """
    count = funnel.set_index("stage")["contacts"]

    def share(part: str, whole: str) -> float | None:
        if part not in count or count[whole] < small_group or 0 < count[part] < small_group:
            return None
        return count[part] / count[whole]

    return {
        "targeted": int(count["targeted"]) if count["targeted"] >= small_group else None,
        "compared": int(count["compared"]) if count["compared"] >= small_group else None,
        "bought": share("bought", "targeted"),
        "redeemed": share("redeemed", "offered"),
        "compared_bought": share("compared_bought", "compared"),
    }


def anything(facts: dict[str, object]) -> bool:
    """Whether there is a share to draw."""
    return any(facts[name] is not None for name in ("bought", "redeemed", "compared_bought"))


def redemption_facts(panel: pd.DataFrame, small_group: int, confidence: float, words: Words) -> dict[str, object]:
    """Share of targeted contacts that redeemed, with an interval that knows that customers recur, or why not."""
    known = panel[(panel["treated"] == 1) & panel["redeemed"].notna()] if len(panel) else panel
    redeemed = known["redeemed"].astype(bool)
    if len(known) < small_group or not small_group <= redeemed.sum() <= len(known):
        return {"value": None, "reason": words("reason_redeemed_small" if len(known) else "reason_redeemed_unknown")}
    value, low, high = response.clustered_share(redeemed, known["customer_id"], confidence)
    return {"value": value, "low": low, "high": high}


def response_table(
    counts: pd.DataFrame, spans: pd.DataFrame, small_group: int, confidence: float, words: Words
) -> pd.DataFrame:
    """Redemption of campaigns of the same name together: name, campaigns, targeted, redeemed, rate, low, high.

    A name with fewer than ``small_group`` redemptions joins the others like it; a table that cannot be shown is empty.
    """
    if "redeemed" not in counts:
        return pd.DataFrame(columns=["name", "campaigns", "targeted", "redeemed", "rate", "low", "high"])
    named = counts[counts["redeemed_known"] > 0].merge(spans[["campaign_id", "name"]], on="campaign_id")
    named = named.assign(targeted=named["redeemed_known"])
    table = (
        named.groupby("name", sort=True)
        .agg(campaigns=("campaign_id", "size"), targeted=("targeted", "sum"), redeemed=("redeemed", "sum"))
        .reset_index()
    )
    small = table["redeemed"] < small_group
    while small.any() and not small.all() and table.loc[small, "redeemed"].sum() < small_group:
        small[table.loc[~small, "redeemed"].idxmin()] = True
    if small.any():
        merged = (
            table.loc[small, ["campaigns", "targeted", "redeemed"]].sum().to_frame().T.assign(name=words("name_merged"))
        )
        table = pd.concat([table[~small], merged], ignore_index=True)
    table = table[table["redeemed"] >= small_group].astype({"campaigns": int, "targeted": int, "redeemed": int})
    low, high = response.wilson_interval(table["redeemed"], table["targeted"], confidence)
    return table.assign(rate=table["redeemed"] / table["targeted"], low=low, high=high).reset_index(drop=True)


def reasons_table(campaigns: Sequence[CampaignEffect], words: Words) -> pd.DataFrame:
    """Why campaigns have no estimate: reason, campaigns (how many), which."""
    rows = pd.DataFrame([(c.reason, c.label) for c in campaigns if c.reason], columns=["code", "label"])
    found = (
        rows.groupby("code", sort=False)["label"]
        .agg(["size", lambda labels: ", ".join(dict.fromkeys(labels))])
        .reset_index()
    )
    found.columns = ["code", "campaigns", "which"]
    found.insert(0, "reason", words.names("reason", found.pop("code")))
    return found


def judged_facts(campaigns: Sequence[CampaignEffect], pooled: Pooled) -> dict[str, object]:
    """How many campaigns could be judged, for how many of their customers somebody comparable exists."""
    done = [c for c in campaigns if c.results is not None and c.design == pooled.design]
    return {
        "judged": len({c.campaign_id for c in done}),
        "campaigns": len({c.campaign_id for c in campaigns}),
        "targeted": sum(c.targeted for c in done),
        "kept": sum(c.kept for c in done),
        "design": pooled.design,
    }


def balance_facts(balance: pd.DataFrame, pooled: Pooled, words: Words) -> dict[str, object]:
    """Largest difference before and after weighting and what it is in; None when there is no balance to show."""
    if balance.empty:
        return {"before": None, "after": None, "worst": None, "largest": None, "covariates": 0, "design": pooled.design}
    last = balance.loc[balance["after"].idxmax()]
    return {
        "before": float(balance["before"].max()),
        "after": float(last["after"]),
        "worst": words.name("covariate", last["covariate"]),
        "largest": pooled.worst_balance,
        "covariates": len(balance),
        "design": pooled.design,
    }


def overlap_facts(panel: pd.DataFrame, small_group: int) -> dict[str, object]:
    """Share of targeted and of compared contacts in another campaign in the same window; None for small groups."""
    if panel.empty or "overlapping_contacts" not in panel:
        return {"targeted": None, "compared": None}
    arms = (panel["overlapping_contacts"] > 0).groupby(panel["treated"]).agg(["mean", "size"])
    shares = arms.loc[arms["size"] >= small_group, "mean"]
    return {"targeted": shares.get(1), "compared": shares.get(0)}


def split_facts(spans: pd.DataFrame, sizes: pd.DataFrame, planned: Mapping[str, float] | None) -> dict[str, object]:
    """Sample-ratio tests of the randomised campaigns: how many were tested, the smallest p value, whether one fails."""
    randomised = spans.loc[spans["design"] == "randomised", "campaign_id"]
    if planned is None or randomised.empty:
        return {"randomised": len(randomised), "tested": 0, "p_value": None, "fails": False}
    arms = {c: g.set_index("arm")["customers"].to_dict() for c, g in sizes.groupby("campaign_id")}
    tests = [design.sample_ratio(arms[c], planned) for c in randomised if c in arms]
    smallest = min((t.p_value for t in tests), default=None)
    return {
        "randomised": len(randomised),
        "tested": len(tests),
        "p_value": smallest,
        "fails": smallest is not None and smallest < 0.001 / len(tests),
    }


def effect_facts(pooled: Pooled, confidence: float, words: Words) -> dict[str, object]:
    """The pooled effect with its interval, or the reason why there is none, and what the verdict rests on."""
    if pooled.effect is None:
        empty = dict.fromkeys(
            ("low", "high", "placebo", "left", "left_low", "left_high", "naive", "against", "relative", "design")
        )
        return empty | {
            "value": None,
            "verdict": "cannot_tell",
            "why": [],
            "contacts": 0,
            "campaigns": 0,
            "reason": words("reason_nothing_estimated"),
        }
    low, high = pooled.effect.interval(confidence)
    left = pooled.beyond_placebo
    left_low, left_high = left.interval(confidence) if left else (None, None)
    return {
        "value": pooled.effect.effect,
        "low": low,
        "high": high,
        "reason": None,
        "verdict": pooled.verdict,
        "why": list(pooled.reasons),
        "placebo": pooled.placebo.effect if pooled.placebo else None,
        "left": left.effect if left else None,
        "left_low": left_low,
        "left_high": left_high,
        "naive": pooled.by_method["naive"].effect,
        "against": _against(pooled, confidence, words),
        "relative": pooled.effect.relative(),
        "contacts": pooled.contacts,
        "campaigns": pooled.campaigns,
        "design": pooled.design,
    }


def _against(pooled: Pooled, confidence: float, words: Words) -> dict[str, object] | None:
    """The first other method (the naive one apart) whose interval lies wholly on the other side of zero, if any does."""
    for method, found in pooled.by_method.items():
        low, high = found.interval(confidence)
        if method != "naive" and (low > 0 > pooled.effect.effect or high < 0 < pooled.effect.effect):
            return {"name": words.name("row", method), "value": found.effect, "low": low, "high": high}
    return None


def answer_facts(effect: Mapping[str, object], words: Words) -> dict[str, object]:
    """What heads the page, from :func:`effect_facts`: the effect where it can be claimed, or where the arms are random
    and only chance is in doubt; else words, so that no number suggests what is not known.
    """
    facts = dict(effect) | {
        f"estimate{end}": effect[k] for end, k in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    sound = effect["design"] == "randomised" and "split_fails" not in effect["why"]
    if effect["value"] is None or effect["verdict"] != "cannot_tell" or sound:
        return facts | {"unit": "money", "because": effect["reason"]}
    unknown = {"value": words("answer_unknown"), "low": None, "high": None, "unit": "text"}
    return facts | unknown | {"reason": words("reason_checks"), "because": None}


def placebo_facts(pooled: Pooled, confidence: float, words: Words) -> dict[str, object]:
    """The placebo with its interval, or the reason why there is none."""
    if pooled.placebo is None:
        return {
            "value": None,
            "reason": words("reason_no_placebo"),
            "fails": None,
            "share": None,
            "design": pooled.design,
        }
    low, high = pooled.placebo.interval(confidence)
    return {
        "value": pooled.placebo.effect,
        "low": low,
        "high": high,
        "reason": None,
        "fails": not low <= 0 <= high,
        "share": pooled.placebo.effect / pooled.effect.effect if pooled.effect.effect else None,
        "design": pooled.design,
    }


def count_facts(table: pd.DataFrame, confidence: float) -> dict[str, object]:
    """How many campaigns have an effect that many tests at once do not explain, and how many look so one by one."""
    known = table[table["p_value"].notna()]
    level = 1 - confidence
    return {
        "tested": len(known),
        "arms": bool(known["campaign_id"].duplicated().any()),
        "value": int((known["p_adjusted"] < level).sum()),
        "alone": int((known["p_value"] < level).sum()),
        "expected": level * len(known),
        "level": level,
    }


@dataclass(frozen=True)
class Costs:
    """What campaigns cost: a contact (None when nobody knows), offers in all, where the former comes from (``data``,
    ``assumption`` or None), and what coupons took off net sales in all."""

    contact: float | None
    offers: float
    source: str | None
    taken_off: float = 0.0

    def offers_at(self, margin: float) -> float:
        """Offers, and the goods behind what coupons took off, at a share of net sales that is margin."""
        return self.offers + (1 - margin) * self.taken_off

    def profit(self, effect: EffectResults, contacts: int, margin: float, confidence: float) -> CampaignProfit:
        """What a campaign with these costs earned from its effect on sales."""
        return CampaignProfit(effect, contacts, margin, self.contact, self.offers, confidence, taken_off=self.taken_off)


def cost_of(span: pd.Series, assumed: Range | None) -> tuple[float | None, float, str | None]:
    """What one contact and one redeemed offer of a campaign (a row of ``windows``) cost, and where the former comes from.

    A contact costs what the data say, else what the study assumes, else None; an offer without a cost costs nothing.
    """
    contact, offer = span["cost_per_contact"], span["offer_cost"]
    known = bool(np.isfinite(contact))
    cost = float(contact) if known else assumed.value if assumed else None
    return cost, float(offer) if np.isfinite(offer) else 0.0, "data" if known else "assumption" if assumed else None


def campaign_costs(
    campaigns: Sequence[CampaignEffect],
    spans: pd.DataFrame,
    panel: pd.DataFrame,
    assumed: Range | None,
    contacts: ibis.Table | None = None,
    offers: pd.DataFrame | None = None,
) -> dict[tuple[str, str], Costs]:
    """Costs of each estimated campaign × arm: from the data where they hold them, else from the study's assumption.

    An offer costs its ``offer_cost`` each time one is redeemed; what coupons took off is known where ``contacts`` and ``offers``
    tell their face values.
    """
    by_id, found = spans.set_index("campaign_id"), {}
    coupons = contacts is not None and offers is not None and "face_value" in offers
    for c in (c for c in campaigns if c.results is not None):
        rows = panel[
            (panel["campaign_id"] == c.campaign_id) & (panel["arm"] == c.arm) & panel["customer_id"].isin(c.customers)
        ]
        redeemed = rows["redeemed"].astype("boolean").fillna(False).to_numpy(float)
        contact, offer, source = cost_of(by_id.loc[c.campaign_id], assumed)
        face = arm_face_values(contacts, offers, c.campaign_id).get(c.arm, 0.0) if coupons else 0.0
        off = taken_off(redeemed, np.full(len(rows), face), rows.get("discount"))
        found[c.campaign_id, c.arm] = Costs(contact, offer * redeemed.sum(), source, float(off.sum()))
    return found


def pooled_costs(campaigns: Sequence[CampaignEffect], pooled: Pooled, costs: Mapping[tuple[str, str], Costs]) -> Costs:
    """Costs of the pooled campaigns together; the contact cost is None as soon as one of them is unknown."""
    done = [c for c in campaigns if c.results is not None and c.design == pooled.design]
    if not done:
        return Costs(None, 0.0, None)
    each = [costs[c.campaign_id, c.arm] for c in done]
    offers, off = sum(e.offers for e in each), sum(e.taken_off for e in each)
    if any(e.contact is None for e in each):
        return Costs(None, offers, None, off)
    source = "data" if all(e.source == "data" for e in each) else "assumption"
    return Costs(float(np.average([e.contact for e in each], weights=[c.kept for c in done])), offers, source, off)


def pooled_profit(pooled: Pooled, costs: Costs, margin: Range | None, confidence: float) -> CampaignProfit | None:
    """Profit of the pooled campaigns, or None without an effect or a margin."""
    if pooled.effect is None or margin is None:
        return None
    return costs.profit(pooled.effect, pooled.contacts, margin.value, confidence)


def pay_facts(
    profit: CampaignProfit | None, pooled: Pooled, costs: Costs, margin: Range | None, words: Words
) -> dict[str, object]:
    """The contact cost at which the campaigns pay nothing, with its interval, and what follows at the cost assumed."""
    names = (
        "low",
        "high",
        "gain",
        "gain_low",
        "gain_high",
        "gives",
        "probability",
        "cost",
        "needed",
        "margin",
        "spread",
        "source",
        "taken_off",
        "behind",
    )
    if profit is None:
        reason = "reason_no_margin" if pooled.effect is not None else "reason_nothing_estimated"
        return dict.fromkeys(names) | {
            "value": None,
            "reason": words(reason),
            "verdict": pooled.verdict,
            "contacts": pooled.contacts,
        }
    ceiling, gain, gives = profit.break_even_contact_cost(), profit.profit(), profit.return_on_spend()
    low, high = (replace(profit, margin=end, contact_cost=None) for end in (margin.low, margin.high))
    return {
        "value": ceiling.value,
        "low": ceiling.low,
        "high": ceiling.high,
        "reason": None,
        "verdict": pooled.verdict,
        "gain": gain.value if gain else None,
        "gain_low": gain.low if gain else None,
        "gain_high": gain.high if gain else None,
        "gives": gives.value if gives else None,
        "probability": profit.probability_of_profit(),
        "cost": costs.contact,
        "needed": profit.break_even_effect(),
        "margin": margin.value,
        "source": costs.source,
        "taken_off": costs.taken_off,
        "behind": (1 - margin.value) * costs.taken_off,
        "contacts": pooled.contacts,
        "spread": sorted((low.break_even_contact_cost().value, high.break_even_contact_cost().value))
        if margin.low < margin.high
        else None,
    }


def order_facts(profit: CampaignProfit | None, orders: Pooled, panel: pd.DataFrame) -> dict[str, object]:
    """What the campaigns' costs ask for: the margin, the share who must buy, and what one more purchase day cost.

    Parameters
    ----------
    profit : from :func:`pooled_profit`. orders : the pooled effect on purchase days of the same campaigns.
    panel : from :func:`outcomes.campaign_panel`, for what a purchase day brings and how many buy without a campaign.

    Returns
    -------
    known (False where a margin, a contact cost or an effect is lacking, and all else is None); gives, gives_low, gives_high
    (profit a unit of money spent); margin, margin_low, margin_high (at which nothing is earned; None where sales did not
    rise, the last where no margin is enough); each, each_low, each_high (money one more purchase day cost; None where there
    were no more, the last where it has no limit); response and without (shares who must buy, and who buy without).
    """
    names = ["gives", "gives_low", "gives_high", "margin", "margin_low", "margin_high"]
    names += ["each", "each_low", "each_high", "response", "without"]
    facts: dict[str, object] = {"known": False} | dict.fromkeys(names)
    if profit is None or orders.effect is None or not profit.spend:
        return facts
    alone, bought = panel["treated"] == 0, panel["purchase_days"] > 0
    days = float(panel.loc[alone, "purchase_days"].sum())
    worth = float(panel.loc[alone, "spend"].sum()) / days if days else 0.0
    without = float((alone & bought).sum() / alone.sum()) if alone.any() else 0.0
    found = {
        "gives": profit.return_on_spend(),
        "margin": profit.break_even_margin(),
        "each": profit.cost_per_order(orders.effect)[0],
    }
    for name, estimate in found.items():
        if estimate is not None:
            ends = zip(("", "_low", "_high"), (estimate.value, estimate.low, estimate.high), strict=True)
            facts |= {f"{name}{end}": float(limit) if np.isfinite(limit) else None for end, limit in ends}
    needed = profit.break_even_response(worth, without) if worth > 0 else None
    return facts | {"known": True, "response": needed, "without": without}


def pay_scenarios(profit: CampaignProfit, costs: Costs, margin: Range, assumed: Range | None) -> pd.DataFrame:
    """Profit at the ends and middle of the assumptions; only break-even where nobody knows the contact cost."""
    margins = [margin.low, margin.value, margin.high]
    if costs.contact is None:
        return pd.DataFrame(
            [
                (
                    m,
                    replace(profit, margin=m, contact_cost=None).break_even_contact_cost(),
                )
                for m in sorted(set(margins))
            ],
            columns=["margin", "break_even"],
        ).assign(break_even=lambda t: [e.value for e in t["break_even"]])
    contact = (
        [assumed.low, costs.contact, assumed.high] if costs.source == "assumption" and assumed else [costs.contact]
    )
    return scenarios(
        profit.effect, profit.contacts, margins, contact, costs.offers, profit.confidence, taken_off=costs.taken_off
    )


def contact_cost_line(profit: CampaignProfit, assumed: Range | None) -> pd.DataFrame:
    """Profit a contact over contact costs from nothing to beyond both the break-even and the assumption."""
    ceiling = profit.break_even_contact_cost()
    top = max(ceiling.high, 2 * (assumed.high if assumed else 0), 2 * (profit.contact_cost or 0), 1e-6)
    return break_even_line(profit, np.linspace(0, 1.1 * top, 56))


def assumed_range(costs: Costs, assumed: Range | None) -> tuple[float, float] | None:
    """The range to shade: that of the assumed contact cost, where it is what the profit rests on."""
    return (assumed.low, assumed.high) if assumed and costs.source == "assumption" else None


def history_facts(history: pd.DataFrame) -> dict[str, object]:
    """First and last row of :func:`history_table`, whether the shortest and the longest history fail their placebo, and whether
    effect and placebo both shrink with more of it."""
    if history.empty:
        return {"rows": 0}
    first, last = history.iloc[0], history.iloc[-1]
    return {
        "rows": len(history),
        "first_days": int(first["days"]),
        "last_days": int(last["days"]),
        "first_effect": first["effect"],
        "last_effect": last["effect"],
        "first_placebo": first["placebo"],
        "last_placebo": last["placebo"],
        "first_placebo_fails": not first["placebo_low"] <= 0 <= first["placebo_high"],
        "last_placebo_fails": not last["placebo_low"] <= 0 <= last["placebo_high"],
        "campaigns": int(last["campaigns"]),
        "shrink": abs(last["effect"]) < abs(first["effect"]) and abs(last["placebo"]) < abs(first["placebo"]),
    }


def unseen_facts(pooled: Pooled, words: Words) -> dict[str, object]:
    """Robustness value and E-value of the pooled effect; None where a random control group makes them needless."""
    return {
        "value": pooled.robustness,
        "limit": pooled.robustness_limit,
        "e_value": pooled.e_value,
        "e_limit": pooled.e_value_limit,
        "randomised": pooled.design == "randomised",
        "reason": words(
            "reason_random"
            if pooled.design == "randomised"
            else "reason_nothing_unseen"
            if pooled.robustness is None
            else "reason_share"
        ),
    }


def next_test_facts(
    panel: pd.DataFrame, pooled: Pooled, settings: Settings, smallest_effect: float, words: Words
) -> dict[str, object]:
    """How many customers a randomised test needs to find ``smallest_effect`` (a share of what a targeted customer buys
    without the campaign), with half or a tenth held out, and what the customers there are would show."""
    planned_on = panel[panel["treated"] == 1] if len(panel) else panel
    baseline = pooled.effect.baseline if pooled.effect is not None else planned_on["spend"].mean()
    spread = unexplained_spread(panel, settings) if len(planned_on) >= settings.min_targeted else float("nan")
    if not (np.isfinite(baseline) and np.isfinite(spread)) or baseline <= 0 or spread <= 0:
        empty = dict.fromkeys(("tenth", "effect", "there", "detectable"))
        return empty | {"value": None, "reason": words("reason_no_history_to_plan"), "share": smallest_effect}
    effect, there = smallest_effect * baseline, panel["customer_id"].nunique()
    return {
        "value": int(np.ceil(power.sample_size_means(effect, spread))),
        "tenth": int(np.ceil(power.sample_size_means(effect, spread, share_treated=0.9))),
        "reason": words("reason_plan"),
        "share": smallest_effect,
        "effect": effect,
        "there": there,
        "detectable": power.detectable_effect(there, spread) / baseline,
    }


def campaign_effects(
    tables: Mapping[str, pd.DataFrame],
    costs: Mapping[tuple[str, str], Costs],
    campaigns: Sequence[CampaignEffect],
    margin: Range | None,
    confidence: float,
) -> pd.DataFrame:
    """The canonical table: one row a campaign × arm × outcome that could be estimated.

    Profit and return follow from spend alone, speak of the customers the estimate speaks of, and are empty where the
    contact cost or the margin is unknown.
    """
    done = {(c.campaign_id, c.arm): c for c in campaigns if c.results is not None}
    parts = []
    for outcome, table in tables.items():
        known = table[table["estimate"].notna()].assign(outcome=outcome)
        gain, gives = [], []
        for key in zip(known["campaign_id"], known["arm"], strict=True):
            paid = None
            if outcome == "spend" and margin is not None and key in done:
                paid = costs[key].profit(done[key].results, done[key].kept, margin.value, confidence)
            profit, back = (paid.profit(), paid.return_on_spend()) if paid else (None, None)
            gain.append(profit.value if profit else np.nan)
            gives.append(back.value if back else np.nan)
        parts.append(
            known.assign(incremental_profit=np.array(gain, dtype=float), return_on_spend=np.array(gives, dtype=float))
        )
    names = [
        "campaign_id",
        "arm",
        "outcome",
        "estimate",
        "low",
        "high",
        "p_value",
        "method",
        "incremental_profit",
        "return_on_spend",
    ]
    found = pd.concat(parts, ignore_index=True)[names]
    return found.astype({"campaign_id": str, "arm": str, "outcome": str, "method": str})
