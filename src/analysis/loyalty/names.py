"""What people read in place of a block's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

# The European index calls a block Complaints that asks how well they are handled: more of it is better, which its name hides.
SPOKEN: dict[str, str] = {"Complaints": "Complaint handling"}
# A name stands alone, in a list, or along arrows; the question "Complaints handled well" is none.
_NAME = re.compile(rf"\b({'|'.join(SPOKEN)})\b(?=$|[,;:.)]| →| \(| and | is | with )")
_SCORE = {name.lower(): spoken.lower() for name, spoken in SPOKEN.items()}


def called(thing: Any) -> Any:
    """Names of blocks as people read them, in a text, a series, a frame, or the texts of facts; anything else as it is.

    Frames and facts keep their columns and keys, and their numbers: only text changes.
    """
    match thing:
        case str():
            return _NAME.sub(lambda found: SPOKEN[found[1]], thing)
        case pd.Series():
            return thing if pd.api.types.is_numeric_dtype(thing) else thing.map(called, na_action="ignore")
        case pd.DataFrame():
            return thing.apply(called) if len(thing) else thing
        case Mapping():
            return {key: called(value) for key, value in thing.items()}
        case list():
            return [called(value) for value in thing]
    return thing


def called_score(score: str) -> str:
    """The name of a score, a column of ``customer_loyalty``, as people read it: small letters, blanks for underscores."""
    return _SCORE.get(score, score.replace("_", " "))
