"""The raw files of a source: one file, those of a folder or a pattern, the members of an archive; never changed."""

import bz2
import glob
import gzip
import hashlib
import importlib.metadata
import itertools
import lzma
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from analysis import paths
from analysis.sources.errors import SourceError, reading
from analysis.study import Source


@dataclass(frozen=True)
class RawFile:
    """One raw file: ``label`` is its name in messages, ``name`` its relative name inside a source of several files, with
    ``/`` between folders, else None; ``member`` its name inside the archive ``path``, if it is in one."""

    path: Path
    label: str
    format: str
    name: str | None = None
    member: str | None = None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's content, decompressed as it is read."""
        with reading(self.label), self._packed() as packed:
            ending = Path(self.member or self.path.name).suffix.lower()
            if ending not in _DECOMPRESSED:
                yield packed
                return
            with _DECOMPRESSED[ending](packed) as content:
                yield content

    @contextmanager
    def seekable(self) -> Iterator[BinaryIO]:
        """The file's content for readers that jump about in it; what is compressed is unpacked beside it for a while."""
        with self.open() as content:
            if self.member is None and self.path.suffix.lower() not in _DECOMPRESSED:
                yield content
                return
            with tempfile.TemporaryFile() as unpacked:
                shutil.copyfileobj(content, unpacked, 1 << 20)
                unpacked.seek(0)
                yield unpacked

    def digest(self) -> str:
        """SHA-256 of the file's bytes; a member of an archive counts by what it holds, not by how it is packed."""
        with reading(self.label), self._packed() as packed:
            if self.member is None:
                return hashlib.file_digest(packed, "sha256").hexdigest()
            content = hashlib.sha256()
            while block := packed.read(1 << 20):
                content.update(block)
            return content.hexdigest()

    @contextmanager
    def _packed(self) -> Iterator[BinaryIO]:
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive:
            if archive.getinfo(self.member).flag_bits & 1:
                raise SourceError(f"{self.label}: is locked with a password; unpack it by hand")
            with archive.open(self.member) as file:
                yield file


def _zstd(packed: BinaryIO) -> BinaryIO:
    return pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd")


_DECOMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstd}


def find(source: Source, study: str) -> tuple[RawFile, ...]:
    """The files of a file source, in order of their names; hidden ones are passed over.

    Raises
    ------
    SourceError
        There is no such file, folder or package, nothing in it, or a file of a format that cannot be told.
    """
    if source.package is not None:
        path = _in_package(source.package, source.file)
        return (_file(source, path, paths.shown(path), None),)
    path = paths.raw(study) / source.file
    label = paths.shown(path)
    with reading(label):
        if path.is_file():
            if path.suffix.lower() != ".zip":
                return (_file(source, path, label, None),)
            members = _members(path, label)
            names = [None] if len(members) == 1 else members
            return tuple(
                _file(source, path, label if name is None else f"{label}/{_plain(name)}", name, member)
                for name, member in zip(names, members, strict=True)
            )
        found = [file for name, each in _listed(source, path, label) for file in _several(source, name, each)]
        return tuple(sorted(found, key=lambda file: file.name))


def _listed(source: Source, path: Path, label: str) -> list[tuple[str, Path]]:
    """Relative name and path of each file of a folder or a pattern."""
    if path.is_dir():
        listed = [(each.name, each) for each in path.iterdir()]
        empty = f"{label}: is a folder without files; put the source's files there"
    elif source.is_pattern:
        root = path.parent
        while set(str(root)) & set("*?[") and not root.is_dir():
            root = root.parent
        pattern = str(path.relative_to(root))
        listed = [(name, root / name) for name in glob.glob(pattern, root_dir=root, recursive=True)]
        empty = f"{label}: no file fits this pattern; put the files there, or correct file in the study"
    else:
        raise SourceError(f"{label}: no such file; put it there, or correct file in the study")
    files = [(Path(name).as_posix(), each) for name, each in listed if not _hidden(each.name) and each.is_file()]
    if not files:
        raise SourceError(empty)
    return files


def _several(source: Source, name: str, path: Path) -> Iterator[RawFile]:
    label = paths.shown(path)
    if path.suffix.lower() != ".zip":
        yield _file(source, path, label, name)
        return
    for member in _members(path, label):
        yield _file(source, path, f"{label}/{_plain(member)}", f"{name}/{member}", member)


def _members(path: Path, label: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        members = [info.filename for info in archive.infolist() if not info.is_dir()]
    members = sorted(m for m in members if not any(_hidden(part) for part in m.split("/")))
    if not members:
        raise SourceError(f"{label}: holds no files; pack it again")
    for one, other in itertools.pairwise(members):
        if one == other:
            raise SourceError(f"{label}: holds two files called {_plain(one)}; pack it again")
    return members


def _hidden(name: str) -> bool:
    """Whether a file is a system's or an office program's own, and nobody's data."""
    return name.startswith((".", "~$", "__MACOSX")) or name.lower() in ("thumbs.db", "desktop.ini")


def _file(source: Source, path: Path, label: str, name: str | None, member: str | None = None) -> RawFile:
    kind = source.format or Source.FORMATS.get(Source.ending(member or path.name))
    if kind is None:
        raise SourceError(
            f"{label}: cannot tell its format; save it as .csv, .xlsx or .parquet, say format: in the study, or take it out "
            "of the source"
        )
    # Names on disk need not be text; what is stored has to be.
    return RawFile(
        path, label, kind, None if name is None else os.fsencode(name).decode("utf-8", "backslashreplace"), member
    )


def _plain(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _in_package(package: str, file: str) -> Path:
    try:
        files = importlib.metadata.files(package) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):  # a blank name is none
        raise SourceError(f"package {package} is not installed; add it to pyproject.toml and lock again") from None
    for each in files:
        if str(each) == file:
            return Path(each.locate())
    raise SourceError(f"package {package} has no file {file}")
