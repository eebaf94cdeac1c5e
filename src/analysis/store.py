"""Where results live: ``data/processed/<study>/<step>/<key>/``, published whole by renaming one small file, ``current``."""

import filecmp
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from analysis import paths

CURRENT = "current"
RECORD = "site.json"  # what makes up a study's site: written by analysis.site, respected when editions are removed
MANIFEST = "manifest.json"


def folder(study: str, step: str) -> Path:
    return paths.processed(study) / step


def current(study: str, step: str) -> str | None:
    """The key of the published edition of a step, or None."""
    try:
        key = (folder(study, step) / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return key if is_whole(study, step, key) else None


def edition(study: str, step: str, key: str) -> Path:
    return folder(study, step) / key


def is_whole(study: str, step: str, key: str) -> bool:
    """Whether an edition is there; it is renamed into place only when its manifest is written."""
    return bool(key) and (edition(study, step, key) / MANIFEST).is_file()


def kept(study: str, step: str) -> list[Path]:
    """The folders of every kept edition of a step: the current one, then the others, newest first."""
    there = [p for p in folder(study, step).glob("[!.]*") if p.is_dir() and (p / MANIFEST).is_file()]
    now = current(study, step)
    return sorted(there, key=lambda p: (p.name == now, p.stat().st_mtime, p.name), reverse=True)


def stage(study: str, step: str) -> Path:
    """A new empty folder beside the editions, in which one is prepared."""
    path = folder(study, step) / f".staging-{uuid.uuid4().hex[:12]}"
    path.mkdir(parents=True)
    return path


def publish(study: str, step: str, staging: Path, key: str) -> Path:
    """Rename ``staging`` to the edition ``key`` and make it current; a reader sees the old whole or the new whole."""
    target = edition(study, step, key)
    if is_whole(study, step, key):
        shutil.rmtree(staging)
    else:
        shutil.rmtree(target, ignore_errors=True)
        _sync(staging)
        staging.replace(target)
    point(study, step, key)
    return target


def point(study: str, step: str, key: str) -> None:
    """Make ``key`` the current edition, and its lists those that other systems find."""
    for path in sorted((edition(study, step, key) / "exports").glob("*")):
        there = paths.exports(study) / path.name
        if there.is_file() and filecmp.cmp(path, there, shallow=False):
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        copy = there.with_name(f".{path.name}.partial")
        shutil.copyfile(path, copy)
        copy.replace(there)
    write_text(folder(study, step) / CURRENT, key + "\n")


def clear_staging(study: str, step: str) -> None:
    """Remove what killed runs left; only while holding the study's lock."""
    for path in folder(study, step).glob(".staging-*"):
        shutil.rmtree(path, ignore_errors=True)


def keep(study: str, step: str, editions: int) -> None:
    """Keep the current edition and the newest others, ``editions`` in all, and the one that the site shows.

    After a run that failed, the site still shows the editions of the last good one.
    """
    record = paths.processed(study) / RECORD
    shown = read_json(record)["editions"].get(step) if record.is_file() else None
    now = current(study, step)
    old = [p for p in kept(study, step) if p.name not in (now, shown)]
    for path in old[editions - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def unguarded(study: str, step: str, guarded: Collection[str]) -> list[Path]:
    """What is kept of a step from before all the raw columns ``guarded`` were, and may hold their values.

    That is every edition whose manifest does not name them all, and what a killed removal left of one.
    """
    editions = [p for p in folder(study, step).glob("[!.]*") if p.is_dir()] if guarded else []
    return [p for p in editions if not (p / MANIFEST).is_file() or not _names(p / MANIFEST, guarded)]


def _names(manifest: Path, guarded: Collection[str]) -> bool:
    return set(guarded) <= set(read_json(manifest).get("guarded", []))


def forget(study: str, editions: Iterable[Path]) -> None:
    """Remove editions, pages, notebooks that failed, and raw rows that a killed run left; only while holding the study's lock.

    Raises
    ------
    OSError
        Something cannot be removed; what has been said of it would be wrong otherwise.
    """
    for path in (paths.processed(study) / "raw").glob("*.partial"):
        path.unlink(missing_ok=True)
    # Editions go last: while one is there, a run that was killed here is known to have more to remove.
    for path in (paths.processed(study) / "pages", paths.build() / "failed" / study, *editions):
        if path.exists():
            shutil.rmtree(path)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all, readable by everyone that the umask allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def tree_digest(path: Path) -> str:
    """A hash of every file below ``path``: names and bytes."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Have the disk hold every file below ``path`` before its name says that it is whole."""
    for file in path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
