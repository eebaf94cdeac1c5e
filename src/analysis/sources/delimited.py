"""Delimited text: read by Arrow where it can give what Python's reader gives, else by Python's reader."""

import csv
import io
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from analysis.sources import text
from analysis.sources.errors import SourceError
from analysis.sources.files import RawFile
from analysis.sources.rows import (
    Batches,
    ReadAgain,
    Row,
    batch_of,
    batch_of_rows,
    headed,
    in_batches,
    is_blank,
    numbered,
)
from analysis.study import Source

csv.field_size_limit(1 << 30)
BLOCK = 8 << 20  # bytes that Arrow parses at once: a longer row is left to Python's reader
_SNIFF_ROWS = 1_000
_END = "\x1e end of file"  # a line of ours behind the file's last: inside a row, it tells of a quotation mark left open
_DELIMITERS = ",;\t|"


def read(file: RawFile, source: Source) -> tuple[tuple[str, ...], Callable[[], Batches]]:
    """Columns and rows of delimited text; encoding and delimiter are found out unless the study says them."""
    return _Delimited(file, source, source.encoding or text.detect(file)).read()


class _Delimited:
    """One text file in one encoding."""

    def __init__(self, file: RawFile, source: Source, encoding: str) -> None:
        self.file, self.source, self.encoding = file, source, encoding
        self.columns: tuple[str, ...] = ()
        delimiter = source.delimiter or self._likeliest_delimiter()
        self.delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)

    def read(self) -> tuple[tuple[str, ...], Callable[[], Batches]]:
        empty = f"{self.file.label}: is empty; export it again"
        self.columns, _ = headed(self._rows(), self.source.names, empty)
        arrow = len(self.delimiter) == 1 and self.delimiter.isascii() and self.delimiter not in '"\r\n\0\x1e'
        return self.columns, self._by_arrow if arrow else self._by_python

    def _likeliest_delimiter(self) -> str:
        """The delimiter that splits the first lines into the same number of fields, the most fields first; else a comma."""
        try:
            with text.stream(self.file, self.encoding) as content:
                lines = list(islice(io.TextIOWrapper(content, "utf-8", newline=""), 50))
        except text.BadText:
            return ","  # the reader meets the same fault and says where it is
        best, fields = ",", 1
        for delimiter in _DELIMITERS:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
            if widths and widths[0] > fields and widths.count(widths[0]) >= len(widths) / 2:
                best, fields = delimiter, widths[0]
        return best

    # -- Python's reader -----------------------------------------------------------------------------------------------

    def _by_python(self) -> Batches:
        _, below = headed(self._rows(), self.source.names, "")
        yield from in_batches(below, self.columns)

    def _rows(self) -> Iterator[list[str]]:
        try:
            with text.stream(self.file, self.encoding) as content:
                lines = io.TextIOWrapper(content, "utf-8", newline="")
                if self.delimiter == "whitespace":
                    yield from (line.split() for line in lines)
                else:
                    yield from self._quoted_rows(lines)
        except text.BadText as bad:
            self._other_encoding(bad)
        except csv.Error as error:
            raise SourceError(f"{self.file.label}: cannot be read as delimited text ({error})") from None

    def _quoted_rows(self, lines: Iterator[str]) -> Iterator[list[str]]:
        ended = False

        def marked() -> Iterator[str]:
            nonlocal ended
            yield from lines
            ended = True
            yield from ("\n", _END)

        for number, row in enumerate(csv.reader(marked(), delimiter=self.delimiter), 1):
            if ended and row and row[-1].endswith(_END):
                if row != [_END]:
                    raise SourceError(
                        f"{self.file.label}: row {number} opens a quotation mark that is never closed; close or remove it"
                    )
                return
            yield row

    def _other_encoding(self, bad: text.BadText) -> None:
        """Begin again in the encoding that the bytes at fault suggest, where the study names none and all before is ASCII."""
        if self.source.encoding or self.encoding != "utf-8" or not bad.plain or not self.columns:
            raise text.bad(bad, self.encoding, self.file.label) from None
        other = _Delimited(self.file, self.source, text.likeliest(bad.sample, bad.position, self.file.label))
        raise ReadAgain(other.read()[1]) from None

    # -- Arrow's reader ------------------------------------------------------------------------------------------------

    def _by_arrow(self) -> Batches:
        """What :meth:`_by_python` gives, several times as fast.

        Raises
        ------
        ReadAgain
            Arrow refuses the file, or the end of it is inside a quotation.
        """
        above, width = self._layout()
        # The mark has another number of fields than a row, so that it comes out among the rows that do not fit.
        end = _END if width > 1 else f"{self.delimiter}{_END}"
        odd: deque[tuple[int, str]] = deque()

        def keep(row: pa.csv.InvalidRow) -> str:
            odd.append((row.number, row.text))
            return "skip"

        following = 1
        try:
            with text.stream(self.file, self.encoding, f"\n{end}".encode()) as content:
                for block in _parsed(content, self.delimiter, width, keep):
                    numbers, misfits = _numbers(following, block.num_rows, odd, end)
                    following += block.num_rows + len(misfits)
                    yield from self._in_order(numbers, block.columns, self._split(misfits), above)
        except text.BadText as bad:
            self._other_encoding(bad)
        except pa.ArrowException:
            raise ReadAgain(self._by_python) from None
        if not odd or odd.pop()[1] != end or any(row == end for _, row in odd):
            raise ReadAgain(self._by_python)
        rest = [(number, row) for number, row in self._split(odd) if number > above]
        if rest:
            yield batch_of_rows(rest, self.columns)

    def _layout(self) -> tuple[int, int]:
        """The number of the header's row (0 without one) and the number of fields that most rows have."""
        rows = list(islice(numbered(self._rows()), _SNIFF_ROWS))
        above = 0 if self.source.names is not None else rows[0][0]
        widths = Counter(len(row) for _, row in rows)
        return above, max(len(self.columns), widths.most_common(1)[0][0])

    def _split(self, lines: Iterable[tuple[int, str]]) -> list[tuple[int, Row]]:
        """The fields of rows that do not have as many as most, without the blank rows."""
        found = []
        for number, line in lines:
            rows = list(csv.reader(io.StringIO(line, newline=""), delimiter=self.delimiter))
            # Arrow drops the line feed of a quoted carriage return and line feed where a block ends between the two.
            if len(rows) != 1 or "\r" in line:
                raise ReadAgain(self._by_python)
            found += [(number, rows[0])] if not is_blank(rows[0]) else []
        return found

    def _in_order(
        self, numbers: np.ndarray, arrays: list[pa.Array], misfits: list[tuple[int, Row]], above: int
    ) -> Batches:
        """The rows of a block and the misfits among them, in the order of the file, without header and blank rows."""
        width = len(self.columns)
        kept = (numbers > above) & ~_all_empty(arrays)
        beyond = np.flatnonzero(kept & ~_all_empty(arrays[width:])) if len(arrays) > width else ()
        misfits = [(number, row) for number, row in misfits if number > above]
        misfits += [(int(numbers[i]), [array[i].as_py() for array in arrays]) for i in beyond]
        kept[list(beyond)] = False
        if not kept.all():
            mask = pa.array(kept)
            numbers, arrays = numbers[kept], [array.filter(mask) for array in arrays[:width]]
        regular = batch_of(numbers, arrays[:width], self.columns, pa.nulls(len(numbers), pa.string()))
        if not misfits:
            yield regular
            return
        both = pa.Table.from_batches([regular, batch_of_rows(misfits, self.columns)])
        yield from both.take(pc.array_sort_indices(both.column(0))).combine_chunks().to_batches()


class _WholeEnds(io.RawIOBase):
    """A stream whose pieces do not end between the two signs of a line end: Arrow drops the second one, within quotations too."""

    def __init__(self, content: BinaryIO) -> None:
        self._content, self._held = content, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._held + self._content.read(size - len(self._held))
        self._held = b""
        if piece.endswith(b"\r") and (whole := piece.rstrip(b"\r")):
            self._held = piece[len(whole) :]
            return whole
        return piece


def _parsed(
    content: BinaryIO, delimiter: str, width: int, keep: Callable[[pa.csv.InvalidRow], str]
) -> Iterator[pa.RecordBatch]:
    """Blocks of rows of ``width`` text columns; other rows go to ``keep``, one by one and with their numbers."""
    names = [str(i) for i in range(width)]
    yield from pa.csv.open_csv(
        pa.PythonFile(_WholeEnds(content), mode="r"),
        # Arrow numbers rows in one thread only.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names),
        parse_options=pa.csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=keep
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
        ),
    )


def _numbers(
    following: int, count: int, odd: deque[tuple[int, str]], end: str
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """The numbers of the next ``count`` rows that fit, and the misfits among and behind them, taken from ``odd``."""
    misfits: list[tuple[int, str]] = []
    before = []  # each misfit: how many rows of the block lie before it
    while odd and odd[0][1] != end and odd[0][0] - following - len(misfits) <= count:
        before.append(odd[0][0] - following - len(misfits))
        misfits.append(odd.popleft())
    places = np.arange(count)
    return following + places + np.searchsorted(before, places, side="right"), misfits


def _all_empty(arrays: list[pa.Array]) -> np.ndarray:
    empty = np.ones(len(arrays[0]), bool)
    for array in arrays:
        if not empty.any():
            break
        empty &= pc.equal(pc.binary_length(array), 0).to_numpy(zero_copy_only=False)
    return empty
