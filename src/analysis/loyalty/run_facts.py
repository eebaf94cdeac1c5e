"""What the sentences about who answered, recommendation, value, service and the index are filled with: results in, facts out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .delivered_value import delivered_levels
from .facts import stated
from .mediation import DIRECT, INDIRECT, SPECIFIC, TOTAL
from .names import called, called_score
from .recommendation import newest_waves
from .runs import Referring, Service, Weighing

REFERRAL_COLUMNS = {
    "came_anyway": ("Would have come anyway", "share"),
    "customer_value": ("Their value", "money"),
    "worth": ("Worth of a referral", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
}
REASON_COLUMNS = {
    "kind": ("Kind", "text"),
    "channel": ("By", "text"),
    "cases": ("Cases", "count"),
    "share": ("Share", "share"),
    "low": ("Low", "share"),
    "high": ("High", "share"),
}
SERVICE_COLUMNS = {
    "kind": ("Kind", "text"),
    "cases": ("Cases", "count"),
    "per_thousand": ("Per 1,000 customers", "number"),
    "change": ("Change", "share"),
    "change_low": ("Low", "share"),
    "change_high": ("High", "share"),
    "median": ("Days, half solved", "number"),
    "unsolved": ("Unsolved after 30 days", "share"),
}


def _numbers(row: pd.Series, *names: str) -> dict:
    return {name: None if pd.isna(row[name]) else float(row[name]) for name in names}


def weighing_facts(weighing: Weighing | None) -> list[dict]:
    """What became of every wave: wave, answers, base, response (share), effect (design effect), effective, reason."""
    if weighing is None:
        return []
    waves = weighing.raked.waves.rename(columns={"design_effect": "effect"})
    return waves[["wave", "answers", "base", "response", "effect", "effective", "reason"]].to_dict("records")


def balance_facts(weighing: Weighing) -> dict:
    """How far apart respondents and base are: variables, apart (by more than .1 standard deviations), still (weighted, too)."""
    table = weighing.balance
    far = table["standardised"].abs() > 0.1
    return {
        "variables": len(table),
        "apart": int(far.sum()),
        "still": int((table["standardised_weighted"].abs() > 0.1).sum()),
        "wave": weighing.wave,
    }


def propensity_facts(weighing: Weighing) -> dict:
    """How well customers who answered can be told from the rest, as arguments of a finding."""
    told = weighing.propensity
    return stated(told.auc, told.auc_low, told.auc_high, told.reason or "too few to tell") | {"wave": weighing.wave}


def change_of_weights(both: pd.DataFrame) -> dict:
    """The largest change by the weights: scores, clear (how many change clearly), name, difference, path (largest of a path)."""
    scores, paths = both[both["kind"] != "path"], both[both["kind"] == "path"]
    top = scores.loc[scores["difference"].abs().idxmax()]
    return {
        "scores": len(scores),
        "clear": int(((scores["low"] > 0) | (scores["high"] < 0)).sum()),
        "name": called_score(top["name"]),
        "difference": float(top["difference"]),
        "path": float(paths["difference"].abs().max()) if len(paths) else None,
    }


def corrected_facts(limits: pd.DataFrame, free: dict[str, pd.DataFrame]) -> dict:
    """What freeing the paths of measurement error changes.

    Parameters
    ----------
    limits : low and high of the plain paths, by source and target. free : from :func:`consistent_summary`.

    Returns
    -------
    arrows (that can be corrected), readable (none of them reaches beyond 1 in the resamples), only_plain (names of those
    that are clear of zero as they stand and not corrected), only_corrected (the reverse), and the corrected path with the
    largest estimate: strongest, estimate, low, high (None without any).
    """
    paths = free["paths"].dropna(subset=["estimate", "low", "high"])
    clear = (paths["low"] > 0) | (paths["high"] < 0)
    plain = limits.loc[list(zip(paths["source"], paths["target"], strict=True))]
    before = ((plain["low"] > 0) | (plain["high"] < 0)).to_numpy()
    paths = called(paths)
    names = paths["source"] + " → " + paths["target"]
    top = paths.loc[paths["estimate"].abs().idxmax()] if len(paths) else None
    return {
        "arrows": len(paths),
        "readable": bool(((paths["low"] >= -1) & (paths["high"] <= 1)).all()),
        "only_plain": list(names[before & ~clear]),
        "only_corrected": list(names[~before & clear]),
        "strongest": None if top is None else f"{top['source']} → {top['target']}",
        **{name: None if top is None else float(top[name]) for name in ("estimate", "low", "high")},
    }


_SUMS = {INDIRECT: "All detours together", TOTAL: "Direct and detours together"}


def main_routes(routes: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """The direct route, the detours that carry most, and the sums, of :func:`mediation`, each named by what it is."""
    detours = routes[routes["effect"] == SPECIFIC]
    kept = routes.drop(index=detours.index[most:])
    named = kept["effect"].map({DIRECT: "Direct: ", SPECIFIC: ""}).fillna("") + called(kept["route"])
    return kept.assign(route=kept["effect"].map(_SUMS).fillna(named))


def mediation_facts(routes: pd.DataFrame) -> dict:
    """The strongest detour: route, estimate, low, high, type; direct and total (None where the model has no such effect)."""
    kinds = routes.set_index("effect")["estimate"]
    known = {
        kind: float(kinds[kind]) if kind in kinds.index else None for kind in ("direct", "total", "total indirect")
    }
    detours = routes[routes["effect"] == "specific indirect"]
    top = detours.iloc[0] if len(detours) else None
    return {
        "route": None if top is None else called(top["route"]),
        "estimate": None if top is None else float(top["estimate"]),
        "low": None if top is None else float(top["bca_low"]),
        "high": None if top is None else float(top["bca_high"]),
        "type": None if top is None else top["type"],
        "direct": known["direct"],
        "total": known["total"],
        "indirect": known["total indirect"],
    }


def delivered_facts(delivered: pd.DataFrame) -> dict:
    """What customers get above what it costs them, as arguments of a finding, with both sides and the best and the dearest part."""
    table = delivered[delivered["group"] == "all"].set_index("measure")
    gap = table.loc["difference"]
    parts = table[table["side"].isin(["value", "cost"]) & ~table.index.isin(["total_value", "total_cost"])]
    values, costs = parts[parts["side"] == "value"]["mean"], parts[parts["side"] == "cost"]["mean"]
    known = values.notna().any() and costs.notna().any()
    return stated(gap["mean"], gap["low"], gap["high"], gap["reason"] or "too few answered") | {
        "total_value": _one(table.loc["total_value", "mean"]),
        "total_cost": _one(table.loc["total_cost", "mean"]),
        "best": str(values.idxmax()) if known else None,
        "dearest": str(costs.idxmax()) if known else None,
    }


def _one(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def part_weight_facts(derived: pd.DataFrame, parts: pd.DataFrame, given: dict) -> dict:
    """The part of value, and of cost, that satisfaction follows most; and the index by equal and by derived weights.

    Parameters
    ----------
    derived : from :func:`derived_weights`. parts : from :func:`delivered_parts`.
    given : weights, customers, confidence and small_group, as :func:`delivered_levels` takes them.

    Returns
    -------
    value_part, value_weight, cost_part, cost_weight (None where no part of a side counts), equal, weighted (0-100).
    """
    found: dict = {}
    for side in ("value", "cost"):
        rows = derived[(derived["side"] == side) & derived["derived"].notna()]
        top = rows.loc[rows["derived"].idxmax()] if len(rows) else None
        found[f"{side}_part"] = None if top is None else top["part"]
        found[f"{side}_weight"] = None if top is None else float(top["derived"])
    known = derived.set_index("part")["derived"]
    weights = None if known.isna().any() else known
    for name, part_weights in (("equal", None), ("weighted", weights)):
        table = delivered_levels(parts, part_weights=part_weights, **given)
        row = table[(table["group"] == "all") & (table["measure"] == "delivered_value")].iloc[0]
        found[name] = _one(row["mean"]) if part_weights is not None or name == "equal" else None
    return found


def nps_facts(scores: pd.DataFrame) -> dict:
    """The net promoter score of the newest wave as arguments of a finding, with the shares behind it; of all without waves.

    Returns
    -------
    value, low, high (or value None and reason), promoters, passives, detractors (shares), wave and before (names of the newest wave
    and of the one before, None with fewer than two), score_before (None where that had too few).
    """
    newest, before = newest_waves(scores)
    row = scores.iloc[0] if newest is None else newest
    shares = _numbers(row, "promoters", "passives", "detractors")
    told = {
        "wave": None if before is None else row["group"],
        "before": None if before is None else before["group"],
        "score_before": None if before is None else _one(before["score"]),
    }
    return stated(row["score"], row["low"], row["high"], row["reason"] or "too few answered") | shares | told


def referral_facts(found: Referring) -> dict:
    """What promoters bring beyond detractors, as arguments of a finding, with shares who brought somebody and the worth.

    Returns
    -------
    value, low, high (customers a year that 100 promoters bring more than 100 detractors) or value None and reason;
    share (of the promoters who brought somebody since), worth, worth_low, worth_high (money a referral at the assumed
    share), least, most (at the ends of the range), came_anyway.
    """
    after = found.rates[found.rates["period"] == "after"].set_index("group")
    share = after["referrers_share"].get("promoter", np.nan)
    rows = found.range
    assumed = rows.iloc[len(rows) // 2]
    contrast = {
        name: 100 * value if name in ("value", "low", "high") and value is not None else value
        for name, value in found.contrast.items()
    }
    return contrast | {
        "share": _one(share),
        "worth": _one(assumed["worth"]),
        "worth_low": _one(assumed["low"]),
        "worth_high": _one(assumed["high"]),
        "least": _one(rows["worth"].min()),
        "most": _one(rows["worth"].max()),
        "came_anyway": float(assumed["came_anyway"]),
    }


def service_facts(found: Service) -> dict:
    """The contacts of the newest period: kinds, kind (the most frequent), cases, per_thousand, change and its limits."""
    row = found.table.iloc[0] if len(found.table) else None
    if row is None:
        return {"kinds": 0, "kind": None, "cases": 0, "per_thousand": None, "change": None}
    numbers = _numbers(row, "per_thousand", "change", "change_low", "change_high")
    return {"kinds": len(found.table), "kind": row["kind"], "cases": int(row["cases"])} | numbers


def repeat_facts(found: Service) -> dict:
    """Complaints from customers who complain again: share and what chance would give, None without complaints; people."""
    table = found.repeated[found.repeated["contacts"] != "1"]
    if found.repeated.empty:
        return {"share": None, "by_chance": None, "people": 0}
    return {
        "share": float(table["share"].sum()),
        "by_chance": float(table["by_chance"].sum()),
        "people": int(table["people"].sum()),
    }


def recovery_facts(found: Service) -> list[dict]:
    """What handling a complaint goes with in later scores: outcome, comparison, difference, low, high, reason."""
    if found.recovery is None:
        return []
    table = found.recovery.astype(object).where(found.recovery.notna(), None)
    table["outcome"] = table["outcome"].map(called_score)
    return table[["outcome", "comparison", "difference", "low", "high", "reason"]].to_dict("records")


def record_facts(record: pd.DataFrame, index: str = "loyalty_index", rule: str = "bought lately") -> dict:
    """How well the index ranks those who buy next, as arguments of a finding, beside the plain rule and satisfaction."""
    rows = record.set_index("predictor")
    own = rows.loc[index] if index in rows.index else None
    if own is None or pd.isna(own["auc"]):
        return {"value": None, "reason": "everybody, or nobody, bought in the time after the answers"}
    return {
        "value": float(own["auc"]),
        "low": float(own["auc_low"]),
        "high": float(own["auc_high"]),
        "gain": float(own["gain"]),
        "gain_low": float(own["gain_low"]),
        "gain_high": float(own["gain_high"]),
        "rule": float(rows.loc[rule, "auc"]),
        "satisfaction": _one(rows["auc"].get("satisfaction", np.nan)),
        "answers": int(own["answers"]),
    }


def trait_of(answers: pd.DataFrame, customers: pd.DataFrame | None, name: str) -> pd.Series | None:
    """An attribute of the customers who answered, aligned with the answers; None where it is not known."""
    if customers is None or not name or name not in customers.columns or "customer_id" not in answers.columns:
        return None
    known = customers.drop_duplicates("customer_id").set_index("customer_id")[name]
    trait = answers["customer_id"].map(known).rename(name)
    return trait if trait.notna().any() else None
