"""Where things are on disk; every other module asks here, so notebooks may start in any folder.

The environment variables exist for tests, and for companies that keep data outside the checkout.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
LOCK = ROOT / "requirements.lock"


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ[variable]).resolve() if os.environ.get(variable) else default


def studies() -> Path:
    """The folder that holds one folder a study (``RAPPORT_STUDIES``)."""
    return _folder("RAPPORT_STUDIES", ROOT / "studies")


def data() -> Path:
    """The folder with ``raw``, ``processed``, ``exports`` and ``private`` (``RAPPORT_DATA``)."""
    return _folder("RAPPORT_DATA", ROOT / "data")


def reports() -> Path:
    """The published site (``RAPPORT_REPORTS``)."""
    return _folder("RAPPORT_REPORTS", ROOT / "reports")


def build() -> Path:
    """What helps a person after a failure; safe to delete (``RAPPORT_BUILD``)."""
    return _folder("RAPPORT_BUILD", ROOT / "build")


def raw(study: str) -> Path:
    return data() / "raw" / study


def truth(study: str) -> Path:
    """What really happened in a simulated company; beside its raw files, and no source of any table."""
    return raw(study) / "truth"


def processed(study: str) -> Path:
    return data() / "processed" / study


def exports(study: str) -> Path:
    return data() / "exports" / study


def private(study: str) -> Path:
    return data() / "private" / study


def shown(path: Path) -> str:
    """``path`` as a message shows it: relative to the project where possible, so that no machine's layout leaks."""
    try:
        return str(Path(path).resolve().relative_to(ROOT))
    except ValueError:
        return Path(path).name
