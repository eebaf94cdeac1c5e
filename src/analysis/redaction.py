"""Error messages that may be shown: ours as they are, those of others down to the words that say what kind of error it is.

A library quotes the value that it could not read (``Could not convert string 'anna@example.org' to INT32``), with or without
quotation marks, and nobody can list all the ways. So of a foreign message only words of a fixed vocabulary are kept.
"""

import re
from collections.abc import Collection, Iterator

from analysis.errors import RapportError

HIDDEN = "…"
# What libraries say of errors; no word that is likely to be somebody's name.
_WORDS = """
    a access address after allocate allocated already an and any are argument arguments array arrays as at available axis bad
    base be before between binder both bounds but by call called can cannot cast casting catalog character characters check
    clause close closed code codec column columns comparison connect connection constraint conversion convert converted could
    couldn't data database date dates decimal decode default defined denied device dictionary different dimension dimensions
    directory disk division does doesn't don't down dtype duplicate each either element elements empty encode end equal error
    exceeded exception exist exists expected failed field fields file finite first float for found frame from full function
    get given greater group had has have id in incompatible index indices infer infinity input instance int integer internal
    interrupted invalid io is it its kernel key keys keyword least left length less limit line list literal loc longer lost
    mapping match memory merge message method mismatch missing module more most multiple must name named nan negative no none
    not null number numeric object objects of on one only open operand operands operation option or out over overflow
    overlapping parameter parse parser path permission pointer position positional possible process query range reached read
    refused required resource return right root row rows runtime same scalar schema sequence server set shape shapes should
    sign singular size small source space start started state statement string strings such supported syntax table tables
    temporary text than that the their there these they this time timed timestamp timezone to too truth tuple twice type types
    unable unconverted unexpected unique unit unknown unpack unreadable unsupported until use valid value values version was
    were when where which with within without write wrong yet you zero zone
    """
_VOCABULARY = frozenset(_WORDS.split())
_EDGES = "\"'`‘’“”«»()[]{}<>.,:;!?"
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")


# What helps where a machine was too small: no message of a library says it.
_CURES = {
    "OutOfMemoryException": "set RAPPORT_MEMORY to more than now, for example 8GB, or free space on the disk that it spills to",
    "MemoryError": "free memory, or use a machine with more of it",
    "DeadKernelError": "most often the machine ran out of memory; set RAPPORT_MEMORY to about half of it, for example 4GB",
}


def first_line(text: str) -> str:
    """The first line of a message, or that there is none."""
    lines = text.strip().splitlines()
    return lines[0] if lines else "no message"


def outline(text: str, known: Collection[str] = ()) -> str:
    """A foreign message without anything that could be a value of the data.

    Parameters
    ----------
    text : the message; its first line counts.
    known : words that may stay besides those of the vocabulary: what is public anyway, such as the names in a notebook's code.
    """
    kept: list[str] = []
    for word in first_line(text).split():
        bare = word.strip(_EDGES)
        if bare.lower() in _VOCABULARY or (bare and bare in known):
            kept.append(word)
        elif not kept or kept[-1] != HIDDEN:
            kept.append(HIDDEN)
    return " ".join(kept)


def message(name: str, text: str, known: Collection[str] = ()) -> str:
    """One line for an error of which only the class's ``name`` and the ``text`` are known, as a kernel reports it.

    The text of a :class:`~analysis.errors.RapportError` is ours and stays, without what looks like an e-mail address.
    """
    said = _ADDRESS.sub(HIDDEN, first_line(text)) if name in _ours(RapportError) else outline(text, known)
    cure = f"; {_CURES[name]}" if name in _CURES else ""
    return f"{name}: {said}{cure}"


def error_line(error: BaseException) -> str:
    """One line for an error at hand: our own message, or the name and the outline of another's."""
    if isinstance(error, RapportError):
        return _ADDRESS.sub(HIDDEN, first_line(str(error)))
    return message(type(error).__name__, str(error))


def _ours(kind: type[RapportError]) -> Iterator[str]:
    yield kind.__name__
    for below in kind.__subclasses__():
        yield from _ours(below)
