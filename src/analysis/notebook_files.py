"""Read and write notebooks: nbformat, without the second of processor time that one of its imports costs."""

import sys
from pathlib import Path

# jsonschema offers this slow module for checks of internationalised addresses, which notebooks do not have.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat  # noqa: E402
from nbformat import NotebookNode, from_dict  # noqa: E402

from analysis import store  # noqa: E402

__all__ = ["NotebookNode", "from_dict", "read", "write"]


def read(path: Path) -> NotebookNode:
    """The notebook at ``path``, as version 4."""
    return nbformat.read(path, as_version=4)


def write(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook, whole or not at all."""
    store.write_text(path, nbformat.writes(notebook) + "\n")
