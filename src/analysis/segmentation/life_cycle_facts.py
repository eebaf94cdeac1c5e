"""What the notebook states of stage probabilities, moves, hidden states and migration, as facts for its sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.segmentation.findings import facts_of
from analysis.segmentation.hidden_markov import HMMResults, HoldoutComparison
from analysis.segmentation.life_cycle import StageProbabilities
from analysis.segmentation.life_stage import StageRules
from analysis.segmentation.migration import BUYING, Migration
from analysis.segmentation.privacy import JOIN
from analysis.segmentation.transitions import TransitionMatrix
from analysis.segmentation.words import Words
from analysis.valuation.concentration import Estimate

# Columns of the tables for people: label and unit.
EXPECTED_COLUMNS = {
    "life_stage": ("Stage", "text"),
    "expected": ("Expected", "count"),
    "low": ("From", "count"),
    "high": ("To", "count"),
    "likeliest": ("Most likely stage of", "count"),
}
DURATION_COLUMNS = {
    "stage": ("Stage", "text"),
    "stay": ("Stay", "weeks"),
    "stay_low": ("Stay from", "weeks"),
    "stay_high": ("Stay to", "weeks"),
    "until_end": ("Until the end", "weeks"),
    "until_low": ("End from", "weeks"),
    "until_high": ("End to", "weeks"),
}
MOVEMENT_COLUMNS = {
    "movement": ("Movement", "text"),
    "customers": ("Customers", "count"),
    "previous": ("Last period", "money"),
    "current": ("This period", "money"),
    "change": ("Change", "money"),
}


def expected_finding(
    table: pd.DataFrame, stage: str, found: StageProbabilities, small_group: int, words: Words
) -> dict[str, Any]:
    """The expected number of customers in a stage, with the interval of the true number.

    Parameters
    ----------
    table : frame of ``expected_stages``. stage : one of its stages. found : what it was made of.
    small_group : an expected number below it, or above all but as many, is not told, unless it is none. words : for the reason.

    Returns
    -------
    value, low, high (customers), reason, and the facts n (value, rounded), share, total, likeliest, from_rule (bool: the stage
    is decided by a rule and not by a model).
    """
    total = len(found.customers)
    row = table[table["life_stage"] == stage]
    from_rule = stage == "ended" and found.ended_from != "model"
    facts = {"total": total, "from_rule": from_rule, "n": None, "share": None, "likeliest": None}
    if row.empty:
        return facts_of(None, None, None, words("reason_not_identified"), **facts)
    row = row.iloc[0]
    nobody = row["expected"] < 0.5
    if not nobody and not small_group <= row["expected"] <= total - small_group:
        return facts_of(None, None, None, words("reason_small", small_group=small_group), **facts)
    likeliest = int(row["likeliest"])
    told = likeliest == 0 or likeliest >= small_group
    facts |= {"n": round(row["expected"]), "share": float(row["share"]), "likeliest": likeliest if told else None}
    ends = (None, None) if from_rule and found.ended_from == "silence" else (float(row["low"]), float(row["high"]))
    return facts_of(float(row["expected"]), *ends, words("reason_rule"), **facts)


def expected_for_people(table: pd.DataFrame, small_group: int, words: Words) -> pd.DataFrame:
    """The expected numbers with names for stages; stages with an expected number below ``small_group`` left out."""
    shown = table[table["expected"] >= small_group]
    likeliest = shown["likeliest"].astype(float)
    shown = shown.assign(likeliest=likeliest.where((likeliest == 0) | (likeliest >= small_group)))
    shown = shown.assign(life_stage=words.names("stage", shown["life_stage"]))
    rounded = shown[["expected", "low", "high"]].round()
    return shown.assign(**rounded)[list(EXPECTED_COLUMNS)].reset_index(drop=True)


STAGE_COLUMNS = {"stage": ("Stage", "text"), "definition": ("Who is in it", "text")}


def stage_definitions(found: StageProbabilities, rules: StageRules, words: Words) -> pd.DataFrame:
    """The stages that this clock can tell, in words: columns stage and definition."""
    facts = {name: getattr(rules, name) for name in rules.__dataclass_fields__} | {"ended_from": found.ended_from}
    return pd.DataFrame(
        {
            "stage": words.names("stage", found.stages),
            "definition": [words(f"define_{stage}", **facts) for stage in found.stages],
        }
    )


def probability_facts(found: StageProbabilities) -> dict[str, Any]:
    """How the probabilities were made, for the note under them.

    Returns
    -------
    ended_from (``model``, ``silence``, ``mixed``), certain (share of customers with at least
    0.8 of their probability in one stage), spread (standard deviation of the recent share of purchases over customers).
    """
    a, b = found.change.a, found.change.b
    return {
        "ended_from": found.ended_from,
        "certain": float((found.customers["certainty"] >= 0.8).mean()),
        "spread": float(np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))),
    }


def move_finding(matrix: TransitionMatrix, before: str, after: str, small_group: int, words: Words) -> dict[str, Any]:
    """The share of a stage that was in another one a period later, with Wilson's interval.

    Returns
    -------
    value, low, high (shares), reason, and the facts n, total, before, after (names).
    """
    facts = {"n": None, "total": None, "before": words.name("stage", before), "after": words.name("stage", after)}
    if before not in matrix.counts.index or after not in matrix.counts:
        return facts_of(None, None, None, words("reason_not_identified"), **facts)
    table = matrix.table(small_group)
    row = table[(table["before"] == before) & (table["after"] == after)].iloc[0]
    total = matrix.counts.loc[before].sum()
    if np.isnan(row["customers"]) or total < small_group or 0 < total - row["customers"] < small_group:
        return facts_of(None, None, None, words("reason_small", small_group=small_group), **facts)
    facts |= {"n": int(row["customers"]), "total": int(total)}
    return facts_of(float(row["share"]), float(row["low"]), float(row["high"]), None, **facts)


def duration_for_people(
    matrix: TransitionMatrix, period_days: int, small_group: int, words: Words, seed: int = 1
) -> pd.DataFrame:
    """Mean stay in each stage, and time until the end, in weeks with limits; stages with few customers left out.

    Returns
    -------
    Columns stage, stay, stay_low, stay_high, until_end, until_low, until_high.
    """
    weeks = period_days / 7
    stay, end = matrix.stay().set_index("life_stage"), matrix.until_ended(seed=seed).set_index("life_stage")
    stay = stay[stay["customers"] >= small_group]
    columns = {"periods": "stay", "low": "stay_low", "high": "stay_high"}
    table = (weeks * stay[list(columns)]).rename(columns=columns)
    columns = {"periods": "until_end", "low": "until_low", "high": "until_high"}
    table = table.join((weeks * end[list(columns)]).rename(columns=columns), how="left")
    table = table.replace(np.inf, np.nan)
    return table.assign(stage=words.names("stage", table.index)).reset_index(drop=True)[["stage", *table.columns]]


def validity_facts(table: pd.DataFrame, small_group: int) -> dict[str, Any]:
    """Whether stages tell what customers do next.

    Parameters
    ----------
    table : frame of ``next_period``.

    Returns
    -------
    best, worst (codes of the shown stages with the largest and the smallest share buying), best_share, worst_share, apart (bool:
    their intervals do not touch), stages (how many are shown); None where fewer than two can be shown.
    """
    shown = table[table["customers"] >= small_group]
    facts = {"stages": len(shown), "best": None, "worst": None, "best_share": None, "worst_share": None, "apart": None}
    if len(shown) < 2:
        return facts
    best, worst = shown.loc[shown["buying"].idxmax()], shown.loc[shown["buying"].idxmin()]
    return facts | {
        "best": best["life_stage"],
        "worst": worst["life_stage"],
        "best_share": float(best["buying"]),
        "worst_share": float(worst["buying"]),
        "apart": bool(best["buying_low"] > worst["buying_high"]),
    }


def states_finding(agreement: Estimate, fitted: HMMResults, words: Words) -> dict[str, Any]:
    """How far hidden states, which know no thresholds, and life stages are the same grouping.

    Returns
    -------
    value, low, high (adjusted Rand index), reason, and the facts states, lowest, highest (purchases a period in the least and the
    most active state), stays (the smallest probability of staying in a state), settled.
    """
    facts = {
        "states": fitted.states,
        "lowest": float(fitted.rates[0]),
        "highest": float(fitted.rates[-1]),
        "stays": float(np.diag(fitted.transition).min()),
        "settled": fitted.settled,
    }
    value = agreement.value if np.isfinite(agreement.value) else None
    return facts_of(value, agreement.low, agreement.high, words("reason_one_group"), **facts)


def holdout_facts(found: HoldoutComparison) -> dict[str, Any]:
    """Which story foretold the last period better: that customers change (states), or that they only differ (NBD).

    Returns
    -------
    better (``states``, ``nbd`` or ``tie``), difference, low, high (log-probability a customer), n, states.
    """
    d = found.difference
    better = "states" if d.low > 0 else "nbd" if d.high < 0 else "tie"
    return {
        "better": better,
        "difference": d.value,
        "low": float(d.low),
        "high": float(d.high),
        "n": found.customers,
        "states": found.states,
    }


def migration_facts(found: Migration, small_group: int) -> dict[str, Any]:
    """What the words of the migration say: customers and money by movement, None for movements of a few.

    Returns
    -------
    period, light_to, medium_to, measure, previous, current, change (money), relative (change as a share of before), and for
    each movement m: n_m (customers) and money_m.
    """
    previous, current = float(found.previous), float(found.current)
    facts = {
        "period": found.period,
        "measure": found.measure,
        "light_to": found.light_to,
        "medium_to": found.medium_to,
        "previous": previous,
        "current": current,
        "change": current - previous,
        "relative": (current - previous) / previous if previous > 0 else None,
    }
    for row in found.movements.itertuples():
        told = row.customers == 0 or row.customers >= small_group
        facts[f"n_{row.movement}"] = row.customers if told else None
        facts[f"money_{row.movement}"] = float(row.change) if told else None
    return facts


def migration_finding(found: Migration, small_group: int, words: Words) -> dict[str, Any]:
    """The change in money between the periods and where it came from: value (money), the reason why it has no interval, facts."""
    facts = migration_facts(found, small_group)
    return facts_of(facts["change"], None, None, words("reason_counted"), **facts)


def heavy_finding(found: Migration, small_group: int, words: Words) -> dict[str, Any]:
    """The heavy buyers of last period who stayed heavy, against what chance alone would leave.

    Returns
    -------
    value, low, high (share that stayed heavy, Wilson), reason, and the facts n, total, expected (share under NBD), expected_low,
    expected_high, beyond (``more``, ``fewer`` or empty), cells, cells_by_chance (cells of the whole table beyond chance, and how
    many to expect), bought (purchase days this period over last period, of all who were there).
    """
    names = ("n", "total", "expected", "expected_low", "expected_high", "beyond", "cells", "cells_by_chance", "bought")
    facts: dict[str, Any] = dict.fromkeys(names)
    chance = found.chance
    if chance is None:
        return facts_of(None, None, None, words(f"reason_chance_{found.chance_reason}"), **facts)
    facts |= {"cells": chance.beyond, "cells_by_chance": chance.beyond_by_chance}
    facts["bought"] = chance.bought_now / chance.bought_before if chance.bought_before else None
    table = chance.table
    row = table[(table["before"] == "heavy") & (table["after"] == "heavy")].iloc[0]
    n, total = int(row["customers"]), int(row["total"])
    if min(n, total) < small_group or 0 < total - n < small_group:
        return facts_of(None, None, None, words("reason_small", small_group=small_group), **facts)
    facts |= {"n": n, "total": total, "beyond": row["beyond"]}
    facts |= {f"expected{e}": float(row[c]) / total for e, c in (("", "expected"), ("_low", "low"), ("_high", "high"))}
    return facts_of(float(row["share"]), float(row["share_low"]), float(row["share_high"]), None, **facts)


def movements_for_people(found: Migration, small_group: int, words: Words) -> pd.DataFrame:
    """Movements with their names, customers, and money before, now and changed; small ones joined."""
    table = found.shown(small_group)
    names = [" + ".join(words.names("movement", m.split(JOIN))) for m in table["movement"]]
    return table.assign(movement=names)


def chance_facts(found: Migration, small_group: int) -> dict[str, Any]:
    """For the words of the chance figure: shown cells beyond chance, how many of all to expect by chance, and which groups
    shrank or grew for real.
    """
    chance, shown = found.chance, found.shown_chance(small_group)
    moved = {g: _group_change(chance.table, g) for g in BUYING}
    return {
        "customers_counted": chance.customers,
        "cells": int((shown["beyond"] != "").sum()),
        "cells_by_chance": chance.beyond_by_chance,
        "of": int(shown["customers"].notna().sum()),
        "bought": chance.bought_now / chance.bought_before if chance.bought_before else None,
    } | {f"less_{g}": value for g, value in moved.items()}


def _group_change(table: pd.DataFrame, group: str) -> bool | None:
    """Whether fewer stayed in the group than chance explains; None without anybody in it."""
    row = table[(table["before"] == group) & (table["after"] == group)].iloc[0]
    return None if row["total"] == 0 else row["beyond"] == "fewer"
