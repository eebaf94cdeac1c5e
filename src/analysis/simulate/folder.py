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
    """Have a simulated company's files in ``folder``: made where they are missing or were made from something else.

    They appear all at once. Two processes may ask at the same time; one makes, the other waits.

    Raises
    ------
    RapportError
        The folder holds files that the simulator did not make.
    """
    mark = json.dumps({"settings": asdict(settings), "simulator": _code_digest()}, indent=1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / MARK).is_file() and (folder / MARK).read_text(encoding="utf-8") == mark:
            return
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise RapportError(
                f"{folder.name}: the folder for its raw files holds files that were not simulated; move them away, or take "
                "simulation: out of the study"
            )
        partial = folder.with_name(f".{folder.name}.partial")
        generate(settings, partial)
        (partial / MARK).write_text(mark, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _code_digest() -> str:
    """A hash of the simulator, so that files made by an older one are made again."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(code).hexdigest()[:16]
