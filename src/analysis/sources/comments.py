"""Comments become marks when they are read: how long a text is and which themes it touches, and nothing of the text.

Themes are looked for here, in this process, and not in SQL: the text must not be stored for an engine to read, and what is a
letter differs between the regular expressions of DuckDB, PostgreSQL and Spark.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable

import pyarrow as pa
import sqlglot
from ibis.expr.types import BooleanColumn, StringColumn
from sqlglot.errors import SqlglotError

from analysis.sources import files
from analysis.sources.errors import SourceError
from analysis.study import Comments, Source, Study

# Scripts that put no spaces between words, or tie endings to them: Thai, Lao, Myanmar, Hangul, Khmer, Kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_APOSTROPHES = str.maketrans("’‘", "''")


class Marks:
    """Marks for the comments of one source.

    Parameters
    ----------
    comments : of the study. missing_codes : texts that stand for no answer.
    """

    def __init__(self, comments: Comments, missing_codes: Iterable[str] = ()) -> None:
        self._missing = {_plain(code) for code in missing_codes}
        self._themes = {theme: re.compile("|".join(map(_pattern, terms))) for theme, terms in comments.themes.items()}
        self._of = functools.lru_cache(100_000)(self._mark)

    def of(self, array: pa.Array) -> pa.Array:
        """The mark of each text: ``43 characters; delivery; price;``, a theme's name between ``; `` and ``;``. Null where nothing
        was written: a blank, a missing code, or signs without a letter, a digit or a picture."""
        return pa.array([None if text is None else self._of(text) for text in array.to_pylist()], pa.string())

    def of_fields(self, malformed: pa.Array) -> pa.Array:
        """The length of every field of the rows that do not fit the header: a comment may be in any, or broken over several."""
        rows = malformed.to_pylist()
        return pa.array(
            [row and json.dumps([_length(field) for field in json.loads(row)]) for row in rows], pa.string()
        )

    def _mark(self, text: str) -> str | None:
        plain = _plain(text)
        if plain in self._missing or not any(s.isalnum() or unicodedata.category(s) == "So" for s in plain):
            return None
        return f"{_length(text)};" + "".join(f" {name};" for name, term in self._themes.items() if term.search(plain))


def check_alone(study: Study, name: str) -> None:
    """Refuse the source ``name`` where it reads what another source's comments lie in: it would store their text.

    The same file counts by whatever path it is reached, and the same table of a database by whatever address. What a view or
    a copy holds cannot be known.

    Raises
    ------
    SourceError
        One line with the place in the study's file and the cure.
    """
    if study.comments is None or study.comments_in(name):
        return
    asked = study.tables["survey_responses"].source
    if shared := _shared(study.sources[name], study.sources[asked], study.name):
        raise SourceError(
            f"studies/{study.name}/study.yaml: sources.{name}: {shared} source {asked}, of whose column "
            f"{study.comments.column!r} only the themes of survey.comments may be stored; make its tables from source {asked} "
            "too, or from a file, sheet or view without that column"
        )


def _shared(one: Source, other: Source, study: str) -> str | None:
    """What two sources both read, as the beginning of a sentence; None where they have nothing in common."""
    if one.database is not None and other.database is not None:
        tables, others = _tables(one), _tables(other)
        if not tables or not others:
            return "its query, or the other's, does not say which tables it reads, and may read those of"
        both = sorted(tables & others)
        return f"reads table {both[0]!r} like" if both else None
    if one.database is not None or other.database is not None:
        return None
    theirs = {_identity(file, other) for file in files.find(other, study)}
    for file in files.find(one, study):
        *mine, sheet = _identity(file, one)
        # A sheet that is not named is the first, whatever it is called.
        if any([*mine] == them and (sheet == its or not (sheet and its)) for *them, its in theirs):
            return f"reads {file.label} like"
    return None


def _identity(file: files.RawFile, source: Source) -> tuple[int, int, str | None, str | None]:
    """A file by what it is on the disk, so that links to it count; its member in an archive; and its sheet."""
    on_disk = file.path.stat()
    return on_disk.st_dev, on_disk.st_ino, file.member, source.sheet if file.format == "excel" else None


def _tables(source: Source) -> set[str]:
    """The tables that a database source reads, without their schemas; empty where that cannot be told."""
    if source.table is not None:
        return {source.table.rpartition(".")[2].strip('"`').lower()}
    try:
        found = {t.name.lower() for part in sqlglot.parse(source.query) for t in part.find_all(sqlglot.exp.Table)}
    except (SqlglotError, AttributeError):  # the part of an empty statement is none
        return set()
    return set() if "" in found else found  # a function in the place of a table, such as one that reads a file


def mentions(marks: StringColumn, theme: str) -> BooleanColumn:
    """Whether the comment behind each mark touches ``theme``; no where there is none."""
    return marks.contains(f"; {theme};").fill_null(False)


def any_theme(marks: StringColumn) -> BooleanColumn:
    """Whether the comment behind each mark touches any theme."""
    return marks.contains("; ").fill_null(False)


def _length(text: str | None) -> str | None:
    return text and f"{len(text.strip())} characters"


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold().strip()


@functools.cache
def _letter() -> str:
    """A regular expression of one sign that belongs to a word in a script with spaces. Vowel signs and accents that stand by
    themselves are no letters to Python."""
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
    return rf"(?:[^\W{_UNSPACED}]|[{marks}])"


def _pattern(term: str) -> str:
    words = _plain(term).removesuffix("*").split()
    begins = rf"(?<!{_letter()})" if re.match(_letter(), words[0]) else ""
    ends = rf"(?!{_letter()})" if re.match(_letter(), words[-1][-1]) and not term.strip().endswith("*") else ""
    return begins + r"[\W_]+".join(map(re.escape, words)) + ends
