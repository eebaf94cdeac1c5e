"""Rapport: what customers bought, said and were sent, turned into decisions.

A notebook needs one name from here, :func:`open_step`; the rest is in the rooms (``analysis.valuation`` …).
"""

from typing import Any

__all__ = ["open_step"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: a room, or a command that only checks a study, has no use for the notebook machinery.
    if name == "open_step":
        from analysis.step import open_step

        return open_step
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
