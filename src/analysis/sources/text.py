"""Text files of any encoding as a stream of UTF-8, and how their encoding is found out."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import charset_normalizer

from analysis.sources.errors import SourceError
from analysis.sources.files import RawFile

SNIFF = 1 << 20
_ASCII = bytes(range(128))
_ACCENTED = re.compile(rb"[\x80-\xff]+")
_WESTERN = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŸ€£°ºª§¡¿«»‘’“”–—…·\xa0".encode("cp1252")
)


class BadText(Exception):
    """Bytes that are not text in the encoding tried.

    ``position`` of the first such byte; ``sample``, the whole lines around it; ``plain``, whether all before it is ASCII.
    """

    def __init__(self, position: int, sample: bytes, plain: bool) -> None:
        super().__init__(position)
        self.position, self.sample, self.plain = position, sample, plain


def detect(file: RawFile) -> str:
    """UTF-16 or UTF-8 by their marks; UTF-8 if the first megabyte is; else its likeliest encoding.

    Raises
    ------
    SourceError
        The file is empty, is no text, or fits no encoding.
    """
    label = file.label
    with file.open() as content:
        head = content.read(SNIFF)
    if not head.strip():
        raise SourceError(f"{label}: is empty; export it again")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for zeros, encoding in ((head[1::2], "utf-16-le"), (head[::2], "utf-16-be")):
        if zeros.count(0) > len(zeros) / 2:  # Latin letters without the mark that says which half comes first
            return encoding
    if head[:2] == b"PK" or b"\x00\x00\x00" in head or head[:4] == b"PAR1":
        raise SourceError(f"{label}: is not text; if it is a spreadsheet or Parquet, say format: excel or parquet")
    try:
        for _ in utf8([head], "utf-8", label):
            pass
    except BadText as bad:
        return likeliest(head, bad.position, label)
    return "utf-8"


def likeliest(sample: bytes, position: int, label: str) -> str:
    """The encoding that ``sample``, which is not UTF-8 at byte ``position`` of its file, is most likely in."""
    # Only lines with other letters than English ones tell encodings apart; figures and dates would drown them.
    lines = [line for line in sample.splitlines(keepends=True) if not line.isascii()]
    if sum(map(_is_utf8, lines)) > len(lines) / 2:
        raise SourceError(
            f"{label}: byte {position:,} is not UTF-8, though most of its lines are; save all of it in one encoding, or say "
            "encoding: in the study"
        )
    telling = b"".join(lines)
    if _is_western(telling):
        return "cp1252"
    best = charset_normalizer.from_bytes(telling).best()
    if best is None:
        raise SourceError(
            f"{label}: byte {position:,} is not UTF-8 and no other encoding fits; say encoding: in the study"
        )
    return best.encoding


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_western(sample: bytes) -> bool:
    """Whether the letters that are not English are western Europe's and most stand one by one; in other alphabets they stand
    side by side. A guess by frequencies confuses these languages with their neighbours."""
    runs = _ACCENTED.findall(sample)
    single = sum(len(run) == 1 for run in runs)
    return single >= 0.6 * len(runs) and set(b"".join(runs)) <= _WESTERN


def utf8(blocks: Iterable[bytes], encoding: str, label: str) -> Iterator[bytes]:
    """``blocks`` of bytes in ``encoding`` as blocks of UTF-8 without byte-order marks in front.

    Raises
    ------
    BadText
        At the first byte that is not text.
    SourceError
        There is no such encoding.
    """
    try:
        known = codecs.lookup(encoding)
        simple = _ASCII.decode(encoding, "replace").encode("utf-8") == _ASCII
    except (LookupError, ValueError):  # some codecs are for names of hosts, and refuse other text
        raise SourceError(
            f"{label}: encoding {encoding!r} is not known; write for example utf-8, cp1252, gb18030"
        ) from None
    decoder = codecs.getincrementaldecoder("utf-8" if known.name == "utf-8-sig" else encoding)()
    position, plain, first = 0, True, True
    for block in blocks:
        pending = decoder.getstate()[0]
        if simple and not pending and block.isascii():
            first = False
            yield block
        else:
            text = _decoded(decoder, block, False, position, pending, plain)
            plain = False
            if first:
                text = text.lstrip("\ufeff")
                first = not text
            yield text.encode("utf-8", "replace")
        position += len(block)
    _decoded(decoder, b"", True, position, decoder.getstate()[0], plain)


def _decoded(
    decoder: codecs.IncrementalDecoder, block: bytes, final: bool, position: int, pending: bytes, plain: bool
) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeError as error:
        start = position - len(pending)
        sample = pending + block
        fault = getattr(error, "start", 0)  # UTF-16 without its mark: all of it
        first, last = sample.find(b"\n") + 1 if start else 0, sample.rfind(b"\n") + 1
        whole = sample[first:last] if first <= fault < last else sample
        raise BadText(start + fault, whole, plain) from None


class _Stream(io.RawIOBase):
    """Blocks of bytes as a file that is read from the front."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._left = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = memoryview(block)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


@contextmanager
def stream(file: RawFile, encoding: str, tail: bytes = b"") -> Iterator[BinaryIO]:
    """The file as UTF-8, to be read from the front, with ``tail`` behind its end; errors as in :func:`utf8`."""

    def blocks(content: BinaryIO) -> Iterator[bytes]:
        yield from utf8(iter(lambda: content.read(SNIFF), b""), encoding, file.label)
        yield tail

    with file.open() as content:
        yield io.BufferedReader(_Stream(blocks(content)), SNIFF)


def bad(error: BadText, encoding: str, label: str) -> SourceError:
    """What to tell the owner of a file that is not in ``encoding``."""
    return SourceError(
        f"{label}: byte {error.position:,} is not {encoding} text; say encoding: in the study, for example cp1252 or gb18030"
    )
