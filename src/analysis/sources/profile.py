"""What a column of text holds, counted while it streams past, and the plain form that every value is brought to."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class ColumnProfile:
    """Counts of a column's values.

    ``rows``: all, among them the nulls of rows that do not fit the header. ``blank``: null, empty, or white space only.
    ``padded``: with white space before or behind something else. ``normalised``: changed by Unicode NFKC or by taking out
    NUL characters, which PostgreSQL cannot store.
    """

    rows: int = 0
    blank: int = 0
    padded: int = 0
    normalised: int = 0

    def __add__(self, other: "ColumnProfile") -> "ColumnProfile":
        return ColumnProfile(
            self.rows + other.rows,
            self.blank + other.blank,
            self.padded + other.padded,
            self.normalised + other.normalised,
        )


def tidy(array: pa.StringArray) -> tuple[pa.StringArray, ColumnProfile]:
    """``array`` in Unicode NFKC without NUL characters, and the counts of what it held; blanks and padding as they come out."""
    letters = _bytes(array)
    ascii_only, has_nul = bool(letters.max(initial=0) < 128), bool(letters.min(initial=1) == 0)
    plain = array
    if has_nul:
        plain = pc.replace_substring(plain, "\0", "")
    if not ascii_only:
        plain = pc.utf8_normalize(plain, form="NFKC")
    changed = 0 if plain is array else _count(pc.not_equal(plain, array))
    trimmed = pc.binary_length((pc.ascii_trim_whitespace if ascii_only else pc.utf8_trim_whitespace)(plain))
    filled = pc.greater(trimmed, 0)
    padded = pc.and_(filled, pc.less(trimmed, pc.binary_length(plain)))
    return plain, ColumnProfile(len(array), len(array) - _count(filled), _count(padded), changed)


def _count(condition: pa.BooleanArray) -> int:
    return pc.sum(condition).as_py() or 0


def _bytes(array: pa.StringArray) -> np.ndarray:
    """The UTF-8 bytes of all values, as they lie in memory."""
    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    return np.frombuffer(data, np.uint8, ends[-1] - ends[0], ends[0])
