"""Stream one source of a study into a text Parquet file, once for each state of its content."""

import hashlib
import hmac
import importlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis import paths
from analysis.errors import RapportError
from analysis.sources import readers
from analysis.sources.readers import SourceError
from analysis.study import Source, Study

ROW_NUMBER = "row_number"
MALFORMED = "malformed"  # the fields of a row that does not fit its header, as JSON; null on every other row
KEY_VARIABLE = "RAPPORT_KEY"
FORMAT_VERSION = 2  # raise it when what is written here changes


@dataclass(frozen=True)
class RawTable:
    """A source as text: ``path`` to its Parquet file, its ``columns`` as the source calls them, its number of ``rows``."""

    name: str
    path: Path
    columns: tuple[str, ...]
    rows: int
    digest: str


def prepare(study: Study) -> None:
    """Make the raw files of a study that is simulated, where they are not there yet; nothing to do for any other."""
    if study.simulation is not None:
        # Loaded by name: what the simulator writes counts by its content, so its code is no part of a notebook's.
        folder = importlib.import_module("analysis.simulate.folder")
        folder.ensure(folder.Settings(**study.simulation.model_dump()), paths.raw(study.name))


def locate(source: Source, study: str) -> Path:
    """The file of a file source.

    Raises
    ------
    SourceError
        There is no such file, or no such package.
    """
    if source.package is None:
        path = paths.raw(study) / source.file
        if path.is_dir():
            raise SourceError(f"{paths.shown(path)}: is a folder, not a file; name a file in it")
        if not path.is_file():
            raise SourceError(f"{paths.shown(path)}: no such file; put it there, or correct file in the study")
        return path
    try:
        files = importlib.metadata.files(source.package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SourceError(
            f"package {source.package} is not installed; add it to pyproject.toml and lock again"
        ) from None
    for file in files:
        if str(file) == source.file:
            return Path(file.locate())
    raise SourceError(f"package {source.package} has no file {source.file}")


def fingerprint(source: Source, study: str) -> str:
    """A hash of a source's content: of a file's bytes; of a database's address, question and declared snapshot."""
    if source.database is not None:
        return hashlib.sha256(f"{source.database} {source.table} {source.query} {source.snapshot}".encode()).hexdigest()
    try:
        with locate(source, study).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{paths.shown(locate(source, study))}: cannot be read: {error.strerror}") from None


def peek(source: Source, study: str) -> tuple[str, ...]:
    """The source's column names, read without its rows."""
    _, columns, _ = _open(source, study)
    return columns


def bring_in(study: Study, name: str) -> RawTable:
    """Bring the source ``name`` of ``study`` in, or find it already there.

    The file is kept under ``data/processed/<study>/raw/`` by a hash of content and options, and appears whole or not at
    all. Personal columns are hashed with the key in ``RAPPORT_KEY``; the way back is kept, for the owner's eyes
    only, under ``data/private``.

    Raises
    ------
    SourceError
        The source is missing, empty, unreadable, or has not the columns that it should; one line with the cure.
    """
    source = study.sources[name]
    personal = [field.partition(".")[2] for field in study.privacy.personal if field.startswith(f"{name}.")]
    options = source.model_dump(mode="json", exclude={"sample"})
    key = _key() if personal else b""
    content = [FORMAT_VERSION, fingerprint(source, study.name), options, personal, hashlib.sha256(key).hexdigest()]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    path = paths.processed(study.name) / "raw" / f"{name}-{digest[:16]}.parquet"
    if not path.exists():
        _write(study, name, source, path, personal, key)
    meta = pq.read_metadata(path)
    columns = tuple(n for n in meta.schema.to_arrow_schema().names if n not in (ROW_NUMBER, MALFORMED))
    return RawTable(name, path, columns, meta.num_rows, digest)


def _write(study: Study, name: str, source: Source, path: Path, personal: list[str], key: bytes) -> None:
    label, columns, batches = _open(source, study.name)
    for column in personal:
        if column not in columns:
            raise SourceError(f"{label}: privacy.personal names column {column!r}, which is not there")
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(ROW_NUMBER, pa.int64()), *((c, pa.string()) for c in columns), (MALFORMED, pa.string())])
    partial = path.with_suffix(f".{os.getpid()}.partial")
    originals: dict[str, str] = {}
    rows = 0
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for batch in batches:
                arrays = [batch.column(0)]
                for column, array in zip(columns, batch.columns[1:-1], strict=True):
                    array = pc.utf8_normalize(array, form="NFKC")
                    arrays.append(_hashed(array, key, originals) if column in personal else array)
                malformed = _hashed_fields(batch.columns[-1], key, originals) if personal else batch.columns[-1]
                writer.write_batch(pa.record_batch([*arrays, malformed], schema=schema))
                rows += batch.num_rows
        if rows == 0:
            raise SourceError(f"{label}: has a header but no rows; nothing to read")
        _keep_originals(study.name, name, originals)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _open(source: Source, study: str) -> tuple[str, tuple[str, ...], Iterator[pa.RecordBatch]]:
    """What to call the source in messages, its columns, and its rows as batches of row number, text columns, malformed."""
    if source.database is not None:
        return readers.database(source)
    path = locate(source, study)
    label = paths.shown(path)
    try:
        columns, batches = readers.FILE_READERS[source.format](path, label, source)
    except PermissionError:
        raise SourceError(f"{label}: may not be read by this user; change its permissions") from None
    except OSError as error:
        raise SourceError(f"{label}: cannot be read: {error.strerror or error}") from None
    readers.check_columns(label, columns, reserved=(ROW_NUMBER, MALFORMED))
    return label, columns, batches


def _key() -> bytes:
    key = os.environ.get(KEY_VARIABLE, "")
    if len(key) < 16:
        raise RapportError(
            f"privacy.personal marks personal columns, so the environment variable {KEY_VARIABLE} must hold a key of 16 "
            "characters or more; keep it secret and unchanged"
        )
    return key.encode()


def key_mark() -> str:
    """What tells two keys for personal columns apart and says nothing about either.

    Raises
    ------
    RapportError
        There is no key, or it is too short.
    """
    return hashlib.pbkdf2_hmac("sha256", _key(), b"rapport", 100_000).hex()


def _hashed(array: pa.Array, key: bytes, originals: dict[str, str]) -> pa.Array:
    """Replace each distinct value by 32 hexadecimal digits of HMAC-SHA256 under ``key``; nulls and blanks stay."""
    encoded = array.dictionary_encode()
    hashed = []
    for value in encoded.dictionary.to_pylist():
        if value and value.strip():
            token = hmac.new(key, value.strip().encode(), hashlib.sha256).hexdigest()[:32]
            originals[token] = value
            hashed.append(token)
        else:
            hashed.append(value)
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(hashed, pa.string())).dictionary_decode()


def _hashed_fields(malformed: pa.Array, key: bytes, originals: dict[str, str]) -> pa.Array:
    """Hash every field of the rows that do not fit the header: which of them is personal cannot be known."""
    rows = [
        None if row is None else _hashed(pa.array(json.loads(row), pa.string()), key, originals).to_pylist()
        for row in malformed.to_pylist()
    ]
    return pa.array([None if row is None else json.dumps(row) for row in rows], pa.string())


def _keep_originals(study: str, name: str, originals: dict[str, str]) -> None:
    if not originals:
        return
    folder = paths.private(study)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.parquet"
    descriptor = os.open(path.with_suffix(".partial"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        pq.write_table(pa.table({"token": list(originals), "original": list(originals.values())}), file)
    path.with_suffix(".partial").replace(path)


def read(connection: ibis.BaseBackend, study: Study, raw: dict[str, RawTable], name: str) -> ibis.Table:
    """A raw source as an Ibis table, with the study's sampling of customers applied."""
    table = connection.read_parquet(raw[name].path)
    sample = study.sources[name].sample
    if sample is None:
        return table
    among = sample.among or name
    column = sample.among_column or sample.column
    # Sorting ids by their hash picks customers at random, and the same ones on every engine and every run.
    ids = connection.read_parquet(raw[among].path).select(customer=ibis._[column]).distinct()
    chosen = ids.order_by(ids.customer.hexdigest("md5"), ids.customer).limit(sample.customers)
    return table.semi_join(chosen, table[sample.column] == chosen.customer)


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
