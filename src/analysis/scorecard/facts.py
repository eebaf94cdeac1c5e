"""What the closing sentences and the table of everything are filled with."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.scorecard.card import COLUMNS, NO, NOT_FOUND, distances, tally, verdicts
from analysis.scorecard.words import Words

_FAR = 2.0  # reaches beyond which chance is no explanation: about four standard errors


def for_people(rows: pd.DataFrame, words: Words) -> pd.DataFrame:
    """Rows with planted, found, low and high to four significant digits, and in words whether the interval holds the truth."""
    shown = {name: pd.Series([_four_digits(x) for x in rows[name]], rows.index, dtype=object) for name in COLUMNS[1:]}
    return rows.assign(**shown, holds=words.names("holds", rows["holds"] if "holds" in rows else verdicts(rows)))


def dirt_last(card: pd.DataFrame) -> pd.DataFrame:
    """The card with the rows of data cleaning, which are many and have no intervals, at its end."""
    return card.sort_values("notebook", key=lambda names: names == "01_data_cleaning", kind="stable", ignore_index=True)


def _four_digits(number: float) -> float | int | None:
    """What survives a change of machine; counts stay whole, so that they read as counts."""
    if not np.isfinite(number):
        return None
    rounded = float(f"{number:.4g}")
    return int(rounded) if rounded == int(rounded) else rounded


def missed(card: pd.DataFrame, words: Words) -> pd.DataFrame:
    """The intervals that do not hold what was planted, the farthest first, each with why.

    Returns
    -------
    quantity, planted, found, low, high, distance (in reaches of the interval: 1 is its end), because (in words).
    """
    table = card.assign(distance=distances(card).abs())[card["holds"] == NO]
    table = table.sort_values("distance", ascending=False, kind="stable", ignore_index=True)
    keys = [
        why or ("why_unknown" if distance > _FAR else "why_chance")
        for why, distance in zip(table["why"], table["distance"], strict=True)
    ]
    return table.assign(because=[words(key) for key in keys])[[*COLUMNS, "distance", "because"]]


def answer_facts(card: pd.DataFrame, world: str, confidence: float, words: Words) -> dict[str, object]:
    """The facts of the answer: how many intervals hold, and what was not found at all."""
    told = tally(card, confidence)
    unseen = card.loc[card["holds"] == NOT_FOUND, "quantity"]
    expected = (1 - confidence) * told["intervals"]
    return told | {
        "world": words(f"world_{world}"),
        "expected": expected,
        "confidence": confidence,
        "more": bool(told["missed"] > expected + 2 * np.sqrt(expected * confidence)),
        "unseen": list(unseen),
        "reason": None if told["intervals"] else words("reason_no_interval"),
    }
