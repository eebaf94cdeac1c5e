"""A study's folder of simulated raw files: made when they are needed, whole or not at all."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from analysis.errors import RapportError
from analysis.simulate.company import Settings, generate

MARK = "simulation.json"  # what the files in a folder were made from


def ensure(settings: Settings, folder: Path) -> None:
    """Have a simulated company's files in ``folder``: made where one is missing, damaged or made from something else.

    They appear all at once. Two processes may ask at the same time; one makes, the other waits.

    Raises
    ------
    RapportError
        The folder holds files that the simulator did not make.
    """
    made_from = {"settings": asdict(settings), "simulator": _code_digest()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "old"))
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        for left_over in (partial, old):
            shutil.rmtree(left_over, ignore_errors=True)
        there = _files(folder)
        mark = json.loads((folder / MARK).read_text(encoding="utf-8")) if (folder / MARK).is_file() else {"files": {}}
        if mark == made_from | {"files": there}:
            return
        if set(there) - set(mark.get("files", {})):
            raise RapportError(
                f"{folder.name}: the folder for its raw files holds files that were not simulated; move them away, or take "
                "simulation: out of the study"
            )
        generate(settings, partial)
        mark = made_from | {"files": _files(partial)}
        (partial / MARK).write_text(json.dumps(mark, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _files(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, but for the mark."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def _code_digest() -> str:
    """A hash of the simulator, so that files made by an older one are made again."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(code).hexdigest()[:16]
