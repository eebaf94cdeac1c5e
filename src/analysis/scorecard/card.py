"""The card: one row a quantity, what was planted, what a notebook found, and whether its interval holds the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

YES, NO, NO_INTERVAL, NOT_FOUND = "yes", "no", "no_interval", "not_found"
COLUMNS = ("quantity", "planted", "found", "low", "high")
CHANCE = ""  # why an interval may miss where nothing but chance is known
Entry = tuple[str, float | None, float | None, float | None, float | None]


def entries(rows: Sequence[Entry], why: str | Sequence[str] = CHANCE) -> pd.DataFrame:
    """A section of the card; what is unknown is NaN.

    Parameters
    ----------
    rows : quantity, planted, found, low, high.
    why : key of the sentence that says what keeps the notebook from the truth here, one for all rows or one a row.
    """
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(COLUMNS[1:], float)).assign(why=why)


def finding(quantity: str, planted: float | None, found: dict | None) -> Entry:
    """A row from a notebook's finding; without the finding nothing was found."""
    found = found or {}
    return (quantity, planted, *(found.get(name) for name in ("value", "low", "high")))


def verdicts(card: pd.DataFrame) -> pd.Series:
    """What to say of each row.

    ``yes`` and ``no``: the notebook gives an interval, and it holds what was planted, or not. ``not_found``: the notebook
    says nothing, or nought where something was planted. ``no_interval``: it gives a number and no interval.
    """
    bounded = card["low"].notna() & card["high"].notna()
    holds = (card["low"] <= card["planted"]) & (card["planted"] <= card["high"])
    nothing = card["found"].isna() | (~bounded & (card["found"] == 0) & (card["planted"] != 0))
    found = np.select([nothing, bounded & holds, bounded], [NOT_FOUND, YES, NO], NO_INTERVAL)
    return pd.Series(found, index=card.index, name="holds")


def distances(card: pd.DataFrame) -> pd.Series:
    """How far what was found lies from what was planted, in reaches of the interval on that side: up to 1, it holds."""
    gap = card["found"] - card["planted"]
    reach = np.where(gap > 0, card["found"] - card["low"], card["high"] - card["found"])
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.where(gap == 0, 0.0, gap / reach)
    return pd.Series(distance, index=card.index, name="distance")


def join(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The card from its sections: notebook, the ``COLUMNS``, holds, why."""
    card = pd.concat([part.assign(notebook=name) for name, part in parts.items()], ignore_index=True)
    return card.assign(holds=verdicts(card))[["notebook", *COLUMNS, "holds", "why"]]


def tally(card: pd.DataFrame, confidence: float = 0.95) -> dict[str, float | int | None]:
    """How many intervals hold what was planted.

    Returns
    -------
    held, intervals, missed, value (their share), low, high (Clopper & Pearson 1934, Biometrika 26: exact if the intervals were
    independent of each other), not_found and no_interval (rows without an interval).
    """
    counts = card["holds"].value_counts()
    held, missed = int(counts.get(YES, 0)), int(counts.get(NO, 0))
    n, tail = held + missed, (1 - confidence) / 2
    low = stats.beta.ppf(tail, held, n - held + 1) if held else 0.0
    high = stats.beta.ppf(1 - tail, held + 1, n - held) if missed else 1.0
    return {
        "held": held,
        "missed": missed,
        "intervals": n,
        "value": held / n if n else None,
        "low": float(low) if n else None,
        "high": float(high) if n else None,
        "not_found": int(counts.get(NOT_FOUND, 0)),
        "no_interval": int(counts.get(NO_INTERVAL, 0)),
    }
