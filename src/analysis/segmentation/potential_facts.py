"""What the notebook states of high potential and of prospects, as facts for its sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.segmentation.high_potential import METHODS, MODEL, RFM, SPEND, AtAge, HighPotential
from analysis.segmentation.prospects import FAR, SCORE, Lookalikes
from analysis.segmentation.words import Words

LIFT_COLUMNS = {
    "age": ("Days", "count"),
    "method": ("By", "text"),
    "lift": ("Lift", "text"),
    "auc": ("AUC", "text"),
    "against": ("Model less this", "text"),
    "verdict": ("Verdict", "text"),
}


def potential_finding(found: HighPotential | None, why: str, age: int | None = None) -> dict[str, Any]:
    """How many times likelier the model's first tenth becomes one of the best, and whether that beats plain rules.

    Parameters
    ----------
    found, why : of :func:`analysis.segmentation.high_potential_or_reason`.
    age : days; the largest by default.

    Returns
    -------
    value, low, high (lift of the model's top tenth), reason, and the facts why, age, horizon, top, winner, rfm and spend
    (lift) with _low and _high, difference_rfm and difference_spend (the model's lift less theirs) with _low, _high and
    _verdict ("better", "worse", "tie"), and precision (share of the first tenth who became one of the best).
    """
    names = [f"{m}{e}" for m in ("rfm", "spend", "difference_rfm", "difference_spend") for e in ("", "_low", "_high")]
    names += ["difference_rfm_verdict", "difference_spend_verdict", "age", "horizon", "top", "winner", "precision"]
    if found is None:
        return {"value": None, "low": None, "high": None, "reason": why, "why": why} | dict.fromkeys(names)
    at = found.by_age[max(found.by_age) if age is None else age]
    lift = at.lift(MODEL)
    facts = {"value": lift.value, "low": lift.low, "high": lift.high, "reason": None, "why": ""}
    facts |= {"age": at.age, "horizon": found.split.horizon, "top": found.top, "winner": at.winner}
    facts["precision"] = lift.value * at.top_share
    for name, method in (("rfm", RFM), ("spend", SPEND)):
        rule = at.lift(method)
        apart, verdict = at.against(method)
        facts |= _named(name, rule.interval) | _named(f"difference_{name}", apart.interval)
        facts[f"difference_{name}_verdict"] = verdict
    return facts


def _named(name: str, interval: tuple[float, float | None, float | None]) -> dict[str, Any]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


def split_facts(found: HighPotential) -> dict[str, Any]:
    """Who was learnt from and who was tested: learn, test, learn_until, test_from, test_until, strict, horizon, outcome, top."""
    split = found.split
    return {
        "learn": split.learn,
        "test": split.test,
        "learn_until": split.learn_until,
        "test_from": split.test_from,
        "test_until": split.test_until,
        "strict": split.strict,
        "horizon": split.horizon,
        "outcome": found.outcome,
        "top": found.top,
        "top_share": found.by_age[max(found.by_age)].top_share,
    }


def lift_table(found: HighPotential, words: Words) -> pd.DataFrame:
    """One row an age and method: age (days), method, lift and AUC with their intervals in words, and the verdict against the model.

    Columns: age, method, lift, auc, against (the model's lift less this method's, in words), verdict.
    """
    rows = []
    for age, at in found.by_age.items():
        aucs = at.aucs.set_index("method")
        for method in reversed(METHODS):
            lift, row = at.lift(method), aucs.loc[method]
            apart, verdict = at.against(method) if method != MODEL else (None, None)
            rows.append(
                {
                    "age": age,
                    "method": words.name("method", method),
                    "lift": _ranged(lift.interval, 1, words),
                    "auc": _ranged((row["auc"], row["low"], row["high"]), 2, words),
                    "against": _ranged(apart.interval, 1, words) if apart else words.format.missing,
                    "verdict": words.name("verdict", verdict) if verdict else words.format.missing,
                }
            )
    return pd.DataFrame(rows)


def _ranged(interval: tuple[float, float | None, float | None], digits: int, words: Words) -> str:
    value, low, high = (None if v is None or not np.isfinite(v) else float(v) for v in interval)
    if value is None:
        return words.format.missing
    shown = words.format.number(value, digits)
    if low is None or high is None:
        return shown
    return f"{shown} ({words.format.number(low, digits)} – {words.format.number(high, digits)})"


def calibration_facts(at: AtAge | Lookalikes) -> dict[str, Any]:
    """Calibration as facts: slope, level (calibration in the large), error (a share), each with _low, _high, and right and groups.

    ``right`` says whether slope 1 and level 0 both lie in their intervals; None where one has none.
    """
    found = at.calibration
    facts: dict[str, Any] = {"groups": len(found.table), "age": getattr(at, "age", None)}
    for name, estimate in (("slope", found.slope), ("level", found.intercept), ("error", found.error)):
        known = estimate.low is not None
        facts |= _named(name, estimate.interval if known else (None, None, None))
    facts["right"] = None
    if facts["slope"] is not None and facts["level"] is not None:
        facts["right"] = bool(
            facts["slope_low"] <= 1 <= facts["slope_high"] and facts["level_low"] <= 0 <= facts["level_high"]
        )
    return facts


def young_facts(found: HighPotential, small_group: int) -> dict[str, Any]:
    """The customers who are young now: n, expected (how many will be among the best), future (named in the list).

    Numbers of fewer than ``small_group`` customers are None.
    """
    n, future = len(found.young), int(found.young["future_top"].sum()) if len(found.young) else 0
    shown = n >= small_group
    expected = float(found.young["probability"].sum()) if shown else None
    return {
        "n": n if shown or n == 0 else None,
        "expected": expected,
        "future": future if shown and (future == 0 or future >= small_group) else None,
        "small": small_group,
        "ages": sorted(found.by_age),
        "horizon": found.split.horizon,
        "winners": {age: at.winner for age, at in found.by_age.items()},
    }


def prospect_finding(found: Lookalikes | None, why: str, words: Words) -> dict[str, Any]:
    """How well attributes tell the best customers from the others, and so how far prospects can be ranked.

    Returns
    -------
    value, low, high (AUC), reason, and the facts why, tells, n (prospects), known (customers with a worth and
    attributes), tested, attributes (list), lift with
    lift_low and lift_high, outside (share of prospects), apart (attributes on which prospects differ from customers),
    best and worst (share of the best in the first and in the last band) with _low, _high, top_share (of all), bands,
    email, sms (prospects who agreed; None where it is not recorded).
    """
    names = ["tells", "n", "known", "tested", "attributes", "outside", "apart", "bands", "email", "sms"]
    names += ["top_share", *(f"{m}{e}" for m in ("lift", "best", "worst") for e in ("", "_low", "_high"))]
    if found is None:
        return {"value": None, "low": None, "high": None, "reason": why, "why": why} | dict.fromkeys(names)
    first, last = found.bands.iloc[0], found.bands.iloc[-1]
    top = found.lifts.top.set_index("method").loc[SCORE]
    apart = found.shift.loc[found.shift["difference"].abs() > FAR, "attribute"]
    return {
        "value": found.auc.value,
        "low": found.auc.low,
        "high": found.auc.high,
        "reason": found.auc.reason,
        "why": "" if found.tells else words("reason_no_resemblance"),
        "tells": found.tells,
        "n": len(found.frame),
        "known": found.customers,
        "tested": found.tested,
        "attributes": list(found.attributes),
        "outside": found.outside,
        "apart": list(apart),
        "top_share": found.top_share,
        "bands": len(found.bands),
        "email": found.reachable["email"],
        "sms": found.reachable["sms"],
        **_named("lift", (float(top["lift"]), float(top["low"]), float(top["high"]))),
        **_named("worst", (float(last["observed"]), float(last["low"]), float(last["high"]))),
        **_named("best", (float(first["observed"]), float(first["low"]), float(first["high"]))),
    }


def prospect_list(found: Lookalikes) -> pd.DataFrame:
    """The list for export, best first: prospect_id, rank, band, probability, band_low, band_high, outside.

    Empty where attributes do not tell the best customers from the others: a ranking by nothing is worse than none.
    """
    columns = ["prospect_id", "rank", "band", "probability", "band_low", "band_high", "outside"]
    return found.frame[columns] if found.tells else found.frame[columns].iloc[:0]
