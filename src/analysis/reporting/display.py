"""What a notebook's cell shows: the data and metadata of figures, tables, findings and paragraphs.

Each is plain Jupyter output, readable in JupyterLab and on GitHub; ``metadata["rapport"]`` tells the page what it is.
"""

import base64
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from analysis.errors import RapportError
from analysis.reporting.numbers import Formatter
from analysis.reporting.prose import escape, for_notebook, to_plain
from analysis.reporting.theme import DPI, png
from analysis.reporting.words import words

Bundle = tuple[dict[str, object], dict[str, object]]


def figure_bundle(figure: Figure, figure_id: str, alt: str, caption: str | None = None) -> Bundle:
    """A picture with its alt text and caption, both Markdown; RapportError when it has no alt text."""
    words = to_plain(alt)
    if not words:
        raise RapportError(f"figure '{figure_id}' has no alt text; say in a sentence what it shows")
    width, height = (int(inches * DPI) for inches in figure.get_size_inches())
    data = {
        "image/png": base64.b64encode(png(figure)).decode("ascii"),
        "text/plain": words,
    }
    shown = {
        "alt": words,
        "width": width // 2,
        "height": height // 2,
    }  # CSS pixels: half of 144 dpi
    return data, {
        "image/png": shown,
        "rapport": _mark("figure", figure_id, caption=caption or ""),
    }


def table_bundle(html: str, frame: pd.DataFrame, table_id: str, csv: str) -> Bundle:
    """A table made by ``people_table``, with the address of its CSV file relative to the page."""
    data = {
        "text/html": for_notebook(html),
        "text/plain": f"Table {table_id}: {len(frame):,} rows, see {csv}",
    }
    return data, {"rapport": _mark("table", table_id, csv=csv)}


def finding_bundle(finding_id: str, sentence: str, note: str = "") -> Bundle:
    """A finding's sentence in Markdown, and below it ``note`` in plain text, as ``finding_note`` writes it."""
    data, _ = text_bundle(finding_id, f"{sentence}\n\n*{escape(note)}*" if note else sentence)
    return data, {"rapport": _mark("finding", finding_id)}


def qualification(finding: Mapping[str, object], formatter: Formatter) -> str:
    """A finding's interval in words, or why it has none; plain text, empty where it has neither."""
    vocabulary = words(str(formatter.locale), "numbers")
    interval = _interval(finding, formatter)
    if interval:
        return str(vocabulary["range"]).format(interval=interval)
    reason = str(finding.get("reason") or "")
    return str(vocabulary["no_range"]).format(reason=reason) if reason else ""


def finding_note(finding: Mapping[str, object], formatter: Formatter) -> str:
    """``qualification``, unless the finding's own sentence says it already."""
    said = to_plain(str(finding["sentence"]))
    known = _interval(finding, formatter) or str(finding.get("reason") or "")
    return "" if known in said else qualification(finding, formatter)


def _interval(finding: Mapping[str, object], formatter: Formatter) -> str:
    low, high = finding.get("low"), finding.get("high")
    return "" if low is None and high is None else formatter.interval(low, high, str(finding["unit"]))


def text_bundle(text_id: str, text: str) -> Bundle:
    """A paragraph of Markdown."""
    return {"text/markdown": for_notebook(text), "text/plain": to_plain(text)}, {"rapport": _mark("text", text_id)}


def _mark(kind: str, name: str, **more: str) -> dict[str, str]:
    return {"kind": kind, "id": name, **more}
