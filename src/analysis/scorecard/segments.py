"""Were the right customers singled out? Tiers, life stages and segments against what customers are and do next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.campaigns import wilson_interval
from analysis.scorecard.card import entries, finding
from analysis.scorecard.words import Words
from analysis.segmentation import rand_agreement

PROTECT = "protect"


def tier_facts(people: pd.DataFrame) -> dict[str, object]:
    """What the protected bring next year, beside the best and a random choice of as many.

    Parameters
    ----------
    people : value_tier, margin_next (money), one row a person.

    Returns
    -------
    protected (how many), size (their share of all), brings, best and past (shares of next year's margin of the protected and of
    the best possible choice; of the margin so far), lift (brings over size); None where nobody is protected.
    """
    inside = (people["value_tier"] == PROTECT).to_numpy()
    margin, past = people["margin_next"].to_numpy(float), people["margin_to_date"].to_numpy(float)
    n = int(inside.sum())
    if not n or margin.sum() <= 0:
        return {"protected": n} | dict.fromkeys(("size", "brings", "best", "past", "lift"))
    brings, size = margin[inside].sum() / margin.sum(), n / len(people)
    return {
        "protected": n,
        "size": size,
        "brings": float(brings),
        "best": float(np.sort(margin)[-n:].sum() / margin.sum()),
        "past": float(past[inside].sum() / past.sum()),
        "lift": float(brings / size),
    }


def stage_table(people: pd.DataFrame, words: Words, confidence: float = 0.95) -> pd.DataFrame:
    """The life stages that mean an end, against who has truly lapsed by the last observed day.

    Returns
    -------
    stages (in words: ended; ended or in decline), called (how many), lapsed (how many truly had), right (both), precision (right of
    called) and recall (right of lapsed), each with Wilson's interval.
    """
    gone = ~people["alive"].astype(bool)
    rows = []
    for name, stages in (("ended", ["ended"]), ("fading", ["ended", "decline"])):
        called = people["life_stage"].isin(stages)
        row = {"stages": words(f"stages_{name}"), "called": int(called.sum()), "lapsed": int(gone.sum())}
        row["right"] = int((called & gone).sum())
        for score, of in (("precision", row["called"]), ("recall", row["lapsed"])):
            low, high = wilson_interval(row["right"], of, confidence)
            row[score] = row["right"] / of if of else np.nan
            row[f"{score}_low"], row[f"{score}_high"] = float(low), float(high)
        rows.append(row)
    return pd.DataFrame(rows)


def kind_facts(people: pd.DataFrame) -> dict[str, object]:
    """Do the behaviour segments find the hidden kinds?

    Returns
    -------
    kinds and segments (how many of each), agreement (adjusted Rand index: 1 the same, 0 no better than chance; None where one of
    them has a single value) with low and high, a bootstrap interval over people.
    """
    found = rand_agreement(people["kind"], people["cluster"])
    return {
        "kinds": int(people["kind"].nunique()),
        "segments": int(people["cluster"].nunique()),
        "agreement": found.value,
        "low": found.low,
        "high": found.high,
    }


def segment_entries(
    tiers: Mapping[str, object],
    stages: pd.DataFrame,
    kinds: Mapping[str, object],
    findings: Mapping[str, dict],
    words: Words,
) -> pd.DataFrame:
    """Section of the card: what the protected bring, who was seen to have lapsed, and hidden kinds where there are any."""
    ended = stages.iloc[0]
    rows = [
        (words("quantity_protect"), tiers["best"], tiers["brings"], None, None),
        (words("quantity_lapsed_seen"), ended["lapsed"], ended["right"], None, None),
    ]
    if kinds["kinds"] > 1:
        rows.append(finding(words("quantity_kinds"), kinds["kinds"], findings.get("natural_clusters")))
    return entries(rows)
