"""How firm the effect of random arms is and how far it goes: look by look, without the largest customers, in expected value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import ibis
import numpy as np
import pandas as pd

from analysis.campaigns.effects import EstimationError
from analysis.campaigns.experiment import Experiment, Mean, past_columns
from analysis.campaigns.money import lifetime_effect
from analysis.campaigns.sequential import sales_by_look, sequential_looks
from analysis.campaigns.words import Words
from analysis.multiplicity import adjust_p_values

WEEK = 7
TAIL = 0.99
"""Quantile of all customers to which larger sales are cut; what is beyond it belongs to the largest hundredth."""

LOOK_COLUMNS = {
    "label": ("Campaign", "text"),
    "looks": ("Looks", "count"),
    "effect": ("Sales each", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
    "called": ("Sure after look", "count"),
}
TAIL_COLUMNS = {
    "label": ("Campaign", "text"),
    "arm": ("Arm", "text"),
    "effect": ("Sales each", "money"),
    "cut": ("Largest cut down", "money"),
    "cut_low": ("Low", "money"),
    "cut_high": ("High", "money"),
    "resting": ("Rests on the largest", "share"),
}
LIFETIME_COLUMNS = {
    "label": ("Campaign", "text"),
    "arm": ("Arm", "text"),
    "effect": ("Expected margin each", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
    "p_holm": ("p", "ratio"),
}


@dataclass(frozen=True)
class Looks:
    """Randomised campaigns as somebody who looked every few days would have seen them; all arms together against the control.

    Attributes
    ----------
    label : of the campaign with the most customers. table : its looks, from :func:`sequential.sequential_looks`.
    calls : one row a campaign: label, customers, looks, and at the last look effect, low, high (always valid); ``called``, the
    first look at which the always-valid interval left zero out, and ``usual``, the same of the usual one; missing where none did.
    days : between two looks.
    """

    label: str
    table: pd.DataFrame = field(repr=False)
    calls: pd.DataFrame = field(repr=False)
    days: int

    def facts(self) -> dict[str, object]:
        """What the sentences need: of the drawn campaign label, looks, called, usual, value, low, high; and of all of them
        campaigns, sure (how many could be called), early (before the last look)."""
        own = self.calls.set_index("label").loc[self.label]
        sure = self.calls["called"].notna()
        return {
            "label": self.label,
            "looks": int(own["looks"]),
            "called": None if pd.isna(own["called"]) else int(own["called"]),
            "usual": None if pd.isna(own["usual"]) else int(own["usual"]),
            "value": float(own["effect"]),
            "low": float(own["low"]),
            "high": float(own["high"]),
            "campaigns": len(self.calls),
            "sure": int(sure.sum()),
            "early": int((sure & (self.calls["called"] < self.calls["looks"])).sum()),
        }


def run_looks(
    lines: ibis.Table,
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    sound: Sequence[str],
    confidence: float = 0.95,
    days: int = WEEK,
) -> tuple[Looks | None, str | None]:
    """When the effect of each randomised campaign on sales could have been called.

    Parameters
    ----------
    lines : the canonical ``order_lines``. panel : from :func:`outcomes.campaign_panel`. spans : from
    :func:`outcomes.windows`. sound : campaigns whose design holds. days : between two looks.

    Returns
    -------
    The looks and None, or None and the reason: ``not_randomised``, or ``too_short`` (no campaign is long enough for two looks, or
    nobody bought up to the first).
    """
    found, rows = {}, []
    for span in spans[spans["campaign_id"].isin(sound)].to_dict("records"):
        members = panel[panel["campaign_id"] == span["campaign_id"]]
        if members.empty or span["days"] <= days:
            continue
        sales = sales_by_look(lines, members["customer_id"], span["starts_on"], span["outcome_to"], days)
        try:
            table = sequential_looks(sales, members["treated"], confidence=confidence)
        except (EstimationError, ValueError):
            continue
        found[span["label"]] = table
        last = table.iloc[-1][["effect", "low", "high"]].to_dict()
        firsts = {"called": _first(table, "low", "high"), "usual": _first(table, "fixed_low", "fixed_high")}
        rows.append({"label": span["label"], "customers": len(members), "looks": len(table)} | last | firsts)
    if not rows:
        return None, "too_short" if len(sound) else "not_randomised"
    calls = pd.DataFrame(rows).astype({"called": "Int64", "usual": "Int64"})
    label = calls["label"].iloc[int(calls["customers"].to_numpy().argmax())]
    return Looks(label, found[label], calls, days), None


def _first(table: pd.DataFrame, low: str, high: str) -> int | None:
    out = (table[low] > 0) | (table[high] < 0)
    return int(table.loc[out, "look"].iloc[0]) if out.any() else None


def run_tails(
    panel: pd.DataFrame, spans: pd.DataFrame, sound: Sequence[str], periods: int, confidence: float = 0.95
) -> pd.DataFrame:
    """Does the effect of an arm on sales hang on a few large customers.

    Returns
    -------
    Rows of :meth:`Experiment.tails`, adjusted for the past as :func:`runs.arm_effects` is, with label; empty without a campaign.
    """
    labels, tables = spans.set_index("campaign_id")["label"], []
    for name in sound:
        rows = panel[panel["campaign_id"] == name]
        if rows.empty:  # it runs on
            continue
        trial = Experiment({"sales": Mean("spend", past_columns(rows, periods))}, confidence=confidence)
        tables.append(trial.tails(rows).assign(label=labels[name]))
    columns = ["label", "arm", "tail", "quantile", "changed", "cap", "effect", "low", "high", "reason"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def tail_table(tails: pd.DataFrame) -> pd.DataFrame:
    """One row an arm with sales in its tail: columns of ``TAIL_COLUMNS``, low and high as measured, and cap.

    ``resting`` is the share of the effect that goes when the sales of the largest hundredth are cut to the smallest of theirs;
    missing where the effect is not clear, since a share of it then means nothing.
    """
    keys = ["label", "arm"]
    measured = tails[tails["tail"] == "as_measured"][[*keys, "effect", "low", "high"]]
    cut = tails[(tails["tail"] == "winsorised") & (tails["quantile"] == TAIL) & tails["reason"].isna()]
    cut = cut[[*keys, "effect", "low", "high", "cap"]].rename(
        columns={"effect": "cut", "low": "cut_low", "high": "cut_high"}
    )
    table = measured.merge(cut, on=keys)
    clear = (table["low"] > 0) | (table["high"] < 0)
    return table.assign(resting=(1 - table["cut"] / table["effect"]).where(clear))


def tail_facts(table: pd.DataFrame) -> dict[str, object]:
    """How many effects are clear as measured and with the largest cut down, and the clear one that rests on the largest most.

    Returns
    -------
    arms, clear, still (clear both ways, on the same side), label, arm, effect, cut, cut_low, cut_high, cap, resting: None
    without a clear effect.
    """
    clear = table["resting"].notna()
    still = clear & (np.where(table["effect"] > 0, table["cut_low"], -table["cut_high"]) > 0)
    names = ["label", "arm", "effect", "cut", "cut_low", "cut_high", "cap", "resting"]
    facts: dict[str, object] = {"arms": len(table), "clear": int(clear.sum()), "still": int(still.sum())}
    if not clear.any():
        return facts | dict.fromkeys(names)
    return facts | table.loc[table["resting"].idxmax(), names].to_dict()


def run_lifetime(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    sound: Sequence[str],
    values: pd.DataFrame | None,
    periods: int,
    confidence: float = 0.95,
) -> tuple[pd.DataFrame, str | None]:
    """What each arm did to the margin still expected of its customers, see :func:`money.lifetime_effect`.

    Parameters
    ----------
    values : the canonical table ``customer_value``, or None. periods : before the start that adjust the comparison.

    Returns
    -------
    One row an arm: label, arm, customers (with the arm), effect, low, high, p_value, p_holm (over all rows); and None. Or an
    empty frame and the reason: ``not_randomised``, or the last of :func:`money.lifetime_effect`.
    """
    labels, rows, reason = spans.set_index("campaign_id")["label"], [], "not_randomised"
    for name in sound:
        members = panel[panel["campaign_id"] == name]
        past = past_columns(members, periods)
        for arm in sorted(members.loc[members["treated"] == 1, "arm"].unique()):
            two = members[(members["arm"] == arm) | (members["treated"] == 0)]
            found, why = lifetime_effect(two, values, past or None)
            if found is None:
                reason = why
                continue
            low, high = found.interval(confidence)
            rows.append((labels[name], arm, found.n_treated, found.effect, low, high, found.pvalue))
    table = pd.DataFrame(rows, columns=["label", "arm", "customers", "effect", "low", "high", "p_value"])
    adjusted = adjust_p_values(table["p_value"].to_numpy(float)) if rows else np.array([])
    return table.assign(p_holm=adjusted), None if rows else reason


def lifetime_facts(
    table: pd.DataFrame, reason: str | None, words: Words, confidence: float = 0.95
) -> dict[str, object]:
    """The effect on expected margin of the arm with the most customers, as arguments of a finding; or why there is none.

    Returns
    -------
    value, low, high, label, arm, clear (not chance, allowing for the number of arms), arms, sure (arms that are clear); or value
    None and reason.
    """
    if table.empty:
        return {"value": None, "reason": words.name("lifetime_reason", reason or "unknown"), "arms": 0}
    own = table.loc[table["customers"].idxmax()]
    return {
        "value": float(own["effect"]),
        "low": float(own["low"]),
        "high": float(own["high"]),
        "label": own["label"],
        "arm": str(own["arm"]).replace("_", " "),
        "clear": bool(own["p_holm"] < 1 - confidence),
        "arms": len(table),
        "sure": int((table["p_holm"] < 1 - confidence).sum()),
    }
