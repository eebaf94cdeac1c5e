"""Stream the sources of a study into text Parquet, one file for each raw file and state of its content."""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import add
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import paths
from analysis.sources import files, readers
from analysis.sources.comments import Marks, check_alone
from analysis.sources.errors import SourceError
from analysis.sources.files import RawFile
from analysis.sources.profile import ColumnProfile, tidy
from analysis.sources.pseudonyms import Pseudonyms, key
from analysis.sources.rows import Batches, ReadAgain, check_column, looks_like_data
from analysis.study import Source, Study

ROW_ID = "row_id"
FILE = "file"
ROW_NUMBER = "row_number"
MALFORMED = "malformed"  # the fields of a row that does not fit its header, as JSON; null on every other row
RESERVED = (ROW_ID, FILE, ROW_NUMBER, MALFORMED)
FORMAT_VERSION = 3  # raise it when what is written here changes
MARK_BITS, NUMBER_BITS = 26, 36  # of a row_id, where a source has several files: which file, which row of it
GROUP_ROWS, GROUP_BYTES = 250_000, 64 << 20  # a row group of Parquet: what is held in memory before it is written
KEPT = 5  # Parquet files of earlier states of a source that stay for a while
_READING = ("format", "encoding", "delimiter", "names", "sheet")  # the options of a source that change what is written
_STORED = re.compile(r"(.+)-[0-9a-f]{16}\.parquet")
_PROFILE, _GUARDED = b"rapport.profile", b"rapport.guarded"
Guard = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class RawTable:
    """A source as text.

    Attributes
    ----------
    name : of the source. rows : how many it has. digest : a hash of content and options.
    paths : its Parquet files, one for each raw file, in the order of their names. Each has ``row_id`` (unique in the source),
        ``file`` (the raw file's name inside the source; null where it is one file or a database), ``row_number`` (the row that a
        person sees in that file), the text columns, and ``malformed``.
    columns : as the source calls them, in the order of its first file.
    profile : column -> counts over all files.
    """

    name: str
    paths: tuple[Path, ...]
    columns: tuple[str, ...]
    rows: int
    digest: str
    profile: dict[str, ColumnProfile] = field(default_factory=dict)


def prepare(study: Study) -> None:
    """Make the raw files of a study that is simulated, where they are not there yet; nothing to do for any other."""
    if study.simulation is not None:
        # Loaded by name: what the simulator writes counts by its content, so its code is no part of a notebook's.
        folder = importlib.import_module("analysis.simulate.folder")
        folder.ensure(folder.Settings(**study.simulation.model_dump()), paths.raw(study.name))


def fingerprint(source: Source, study: str) -> str:
    """A hash of a source's content: of its files' bytes and names; of a database's address, question and declared snapshot."""
    if source.database is not None:
        return hashlib.sha256(f"{source.database} {source.table} {source.query} {source.snapshot}".encode()).hexdigest()
    found = files.find(source, study)
    if len(found) == 1 and found[0].name is None:
        return found[0].digest()
    return _digest([[file.name, file.digest()] for file in found])


def peek(source: Source, study: str) -> tuple[str, ...]:
    """The source's column names, read without its rows; errors as in :func:`bring_in`."""
    if source.database is not None:
        return _checked(readers.database(source)).columns
    return _agreed(
        {file.label: _checked(readers.read_file(file, source)).columns for file in files.find(source, study)}
    )


def bring_in(study: Study, name: str) -> RawTable:
    """Bring the source ``name`` of ``study`` in, or find it already there.

    Each raw file becomes one Parquet file under ``data/processed/<study>/raw/``, called by a hash of its content and of what
    changes how it is read, so that only new files are read; it appears whole or not at all. Personal columns are hashed with
    the key in ``RAPPORT_KEY``; the way back is kept, for the owner's eyes only, under ``data/private``. Of comments only marks
    are written, see :mod:`analysis.sources.comments`; there is no way back.

    Raises
    ------
    SourceError
        The source is missing, empty, unreadable, has not the columns that it should, or reads what the comments of another lie
        in; one line with the cure.
    """
    source = study.sources[name]
    check_alone(study, name)
    parts = _parts(study, name)
    personal = study.hashed(name)
    columns = _agreed({part.label: part.columns(source) for part in parts})
    for column in personal:
        if column not in columns:
            raise SourceError(f"{parts[0].label}: privacy names column {column!r}, which is not there")
    if comments := study.comments_in(name):
        # Before anything is written: a comment whose column is misspelt would be stored as it is.
        check_column(study.name, "survey.comments.column", name, comments.column, columns)
    for part in parts:
        if not part.path.exists():
            part.write(study, name, personal)
    stored = [pq.read_metadata(part.path) for part in parts]
    rows = sum(each.num_rows for each in stored)
    if rows == 0:
        raise SourceError(f"{parts[0].label}: has a header but no rows; nothing to read")
    _prune(study, name, parts)
    return RawTable(
        name=name,
        paths=tuple(part.path for part in parts),
        columns=columns,
        rows=rows,
        digest=_digest([part.path.stem for part in parts]),
        profile=_profile(stored, columns),
    )


@dataclass(frozen=True)
class _Part:
    """One raw file of a source, or a database (then ``file`` is None), and the Parquet file that it becomes."""

    path: Path
    source: Source
    file: RawFile | None = None
    mark: int = 0

    @property
    def label(self) -> str:
        return self.file.label if self.file else readers.database_label(self.source)

    def columns(self, source: Source) -> tuple[str, ...]:
        """The names of its text columns, from what is stored already if it is."""
        if self.path.exists():
            return tuple(n for n in pq.read_schema(self.path).names if n not in RESERVED)
        return self.open().columns

    def open(self) -> readers.Readable:
        return _checked(readers.read_file(self.file, self.source) if self.file else readers.database(self.source))

    def write(self, study: Study, name: str, personal: tuple[str, ...]) -> None:
        """Read the raw file and store it, whole or not at all."""
        readable = self.open()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}.partial")
        batches = readable.batches
        try:
            while True:
                pseudonyms = Pseudonyms(key() if personal else b"")
                try:
                    guards = _guards(study, name, personal, pseudonyms)
                    self._stream(batches(), readable.columns, guards, study.guarded, partial)
                    break
                except ReadAgain as again:
                    batches = again.batches
            pseudonyms.keep(study.name, name)
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def _stream(
        self,
        batches: Batches,
        columns: tuple[str, ...],
        guards: dict[str, Guard],
        guarded: tuple[str, ...],
        partial: Path,
    ) -> None:
        profiles = dict.fromkeys(columns, ColumnProfile())
        with _writer(partial, columns) as writer:
            waiting: list[pa.RecordBatch] = []
            for batch in batches:
                arrays = []
                for column, array in zip(columns, batch.columns[1:-1], strict=True):
                    array, counts = self._tidy(column, array)
                    profiles[column] += counts
                    arrays.append(guards[column](array) if column in guards else array)
                malformed = guards[MALFORMED](batch.columns[-1]) if guards else batch.columns[-1]
                numbers = batch.column(0).to_numpy()
                if self.mark and len(numbers) and numbers[-1] >> NUMBER_BITS:
                    raise SourceError(f"{self.label}: has more than {1 << NUMBER_BITS:,} rows; split it")
                name = pa.scalar(self.file.name if self.file else None, pa.string())
                arrays = [
                    pa.array(np.int64(self.mark << NUMBER_BITS) | numbers),
                    pa.repeat(name, len(numbers)),
                    batch.column(0),
                    *arrays,
                    malformed,
                ]
                waiting.append(pa.record_batch(arrays, schema=writer.schema))
                if sum(b.num_rows for b in waiting) >= GROUP_ROWS or sum(b.nbytes for b in waiting) >= GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(waiting), GROUP_ROWS * 2)
                    waiting = []
                    pa.default_memory_pool().release_unused()  # kept, it would grow with the file
            writer.write_table(pa.Table.from_batches(waiting, writer.schema), GROUP_ROWS * 2)
            profile = {c: asdict(p) for c, p in profiles.items()}
            writer.add_key_value_metadata({_PROFILE: json.dumps(profile), _GUARDED: json.dumps(guarded)})

    def _tidy(self, column: str, array: pa.Array) -> tuple[pa.Array, ColumnProfile]:
        try:
            return tidy(array)
        except pa.ArrowInvalid:
            raise SourceError(
                f"{self.label}: column {column!r} holds bytes that are not UTF-8; write the file again with text"
            ) from None


def _guards(study: Study, name: str, personal: tuple[str, ...], pseudonyms: Pseudonyms) -> dict[str, Guard]:
    """What the columns of people become, and the rows that do not fit the header; nothing where there are no such columns."""
    guards: dict[str, Guard] = dict.fromkeys(personal, pseudonyms.of)
    if personal:
        guards[MALFORMED] = pseudonyms.of_fields
    if comments := study.comments_in(name):
        marks = Marks(comments, study.survey.missing_codes)
        guards |= {comments.column: marks.of, MALFORMED: marks.of_fields}
    return guards


def _writer(path: Path, columns: tuple[str, ...]) -> pq.ParquetWriter:
    numbers = dict.fromkeys((ROW_ID, ROW_NUMBER), "DELTA_BINARY_PACKED")  # consecutive: they take up nearly nothing
    types = {ROW_ID: pa.int64(), FILE: pa.string(), ROW_NUMBER: pa.int64()}
    schema = pa.schema([*types.items(), *((column, pa.string()) for column in columns), (MALFORMED, pa.string())])
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        write_statistics=False,  # nobody filters raw text, and they cost as much as the rest
        use_dictionary=[name for name in schema.names if name not in numbers],
        column_encoding=numbers,
    )


def _parts(study: Study, name: str) -> list[_Part]:
    source = study.sources[name]
    personal = study.hashed(name)
    options = source.model_dump(mode="json", include=set(_READING))
    shared = [FORMAT_VERSION, options, personal, hashlib.sha256(key()).hexdigest() if personal else ""]
    if comments := study.comments_in(name):
        shared += [comments.model_dump(mode="json"), study.survey.missing_codes]

    def path(*content: object) -> Path:
        return paths.processed(study.name) / "raw" / f"{name}-{_digest([*shared, *content])[:16]}.parquet"

    if source.database is not None:
        return [_Part(path(fingerprint(source, study.name)), source)]
    found = files.find(source, study.name)
    marks = _marks([file.name for file in found])
    return [
        _Part(path(file.digest(), file.format, file.name, mark), source, file, mark)
        for file, mark in zip(found, marks, strict=True)
    ]


def _marks(names: list[str | None]) -> list[int]:
    """A number of 26 bits for each file, from its name alone, so that its rows keep their ids whatever files come or go; two
    names that fall on one number are told apart in their order. 0 for a source of one file."""
    marks: list[int] = []
    for name in names:
        mark, salt = 0, 0
        while name is not None and (mark == 0 or mark in marks):
            content = hashlib.sha256(f"{name}\0{salt}".encode()).digest()
            mark, salt = int.from_bytes(content[:8]) % (1 << MARK_BITS), salt + 1
        marks.append(mark)
    return marks


def _checked(readable: readers.Readable) -> readers.Readable:
    readers.check_columns(readable.label, readable.columns, RESERVED)
    return readable


def _agreed(columns: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The columns that all files of a source have, in the first one's order; ``columns`` are by the files' labels."""
    (first, expected), *others = columns.items()
    for label, found in others:
        missing = [column for column in expected if column not in found]
        added = [column for column in found if column not in expected]
        if missing and any(map(looks_like_data, [*expected, *found])):
            raise SourceError(
                f"{label}: has not the columns that {first} has, and one of them begins with data; give names: in the source, or "
                "add the header line"
            )
        if missing:
            raise SourceError(
                f"{label}: has no column {missing[0]!r}, which {first} has; add it, or move one of the two files out of the source"
            )
        if added:
            raise SourceError(
                f"{label}: has a column {added[0]!r}, which {first} has not; take it out, or add it to every file of the source"
            )
    return expected


def _profile(stored: list[pq.FileMetaData], columns: tuple[str, ...]) -> dict[str, ColumnProfile]:
    each = [json.loads(metadata.metadata[_PROFILE]) for metadata in stored]
    return {c: reduce(add, (ColumnProfile(**profiles[c]) for profiles in each)) for c in columns}


def _prune(study: Study, name: str, parts: list[_Part]) -> None:
    """Remove Parquet files of earlier states of the source ``name``, but for a few; raw files are never touched.

    Nothing is left of a state in which a column that is guarded today, of whichever source, was not; nor of sources that the
    study no longer has.
    """
    used = {part.path for part in parts}
    stored = [(p, found[1]) for p in parts[0].path.parent.iterdir() if (found := _STORED.fullmatch(p.name))]
    stale = [p for p, owner in stored if owner == name and p not in used]
    stale.sort(key=lambda p: (p.stat().st_mtime_ns, p.name))
    clear = [p for p in stale if not set(study.guarded) <= _guarded(p)]
    gone = [p for p, owner in stored if owner not in study.sources]
    for path in (*gone, *clear, *[p for p in stale if p not in clear][:-KEPT]):
        path.unlink(missing_ok=True)


def _guarded(path: Path) -> set[str]:
    return set(json.loads(pq.read_metadata(path).metadata.get(_GUARDED, b"[]")))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def sampled(
    study: Study,
    name: str,
    stored: Callable[[str], ibis.Table],
    md5: Callable[[ibis.ir.StringColumn], ibis.ir.StringColumn],
) -> ibis.Table:
    """A raw source as an Ibis table, with the study's sampling of customers applied.

    Parameters
    ----------
    stored : gives all rows of a source. md5 : as the engine spells it.
    """
    table, sample = stored(name), study.sources[name].sample
    if sample is None:
        return table
    ids = stored(sample.among or name).select(customer=ibis._[sample.among_column or sample.column]).distinct()
    # Sorting ids by their hash picks customers at random, and the same ones on every engine and every run.
    chosen = ids.order_by(md5(ids.customer), ids.customer).limit(sample.customers)
    return table.semi_join(chosen, table[sample.column] == chosen.customer).select(table.columns)


def needed(study: Study, tables: Iterable[str]) -> list[str]:
    """The names of the sources that ``tables`` are made from, in the study's order."""
    names = set()
    for table in tables:
        mapping = study.tables[table]
        names.add(mapping.source)
        names.update(m.lookup.source for m in mapping.columns.values() if m.lookup)
        if mapping.redemptions:
            names.add(mapping.redemptions.source)
    names.update(
        study.sources[n].sample.among for n in list(names) if study.sources[n].sample and study.sources[n].sample.among
    )
    return [name for name in study.sources if name in names]
