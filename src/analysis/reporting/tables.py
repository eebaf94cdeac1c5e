"""Tables for people, and CSV files that a spreadsheet opens without running anything."""

import re
from collections.abc import Mapping
from pathlib import Path

import great_tables as gt
import pandas as pd
from bs4 import BeautifulSoup
from markupsafe import escape

from analysis.errors import RapportError
from analysis.reporting.numbers import NUMERIC_UNITS, UNITS, Formatter
from analysis.reporting.prose import to_inline, to_plain

_LONG = 30  # characters of text that deserve a column wide enough to read
# What makes Excel, LibreOffice or Google Sheets read a cell as a formula (OWASP, CSV Injection).
_FORMULA = re.compile(r"\s*[=+\-@\t\r\n＝＋－＠]")


def people_table(
    frame: pd.DataFrame,
    columns: Mapping[str, tuple[str, str]],
    formatter: Formatter,
    caption: str | None,
    table_id: str,
    row_label: str | None = None,
) -> str:
    """A table as HTML that reads well with or without a style sheet.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row a row.
    columns : mapping
        Column name → (label, unit), in the order shown; units as in ``numbers.UNITS``.
    formatter : Formatter
    caption : str or None
        Markdown.
    table_id : str
        Unique on its page; ids inside the table start with it.
    row_label : str, optional
        The column that names each row; the first column when it holds text.

    Returns
    -------
    str
        A region that scrolls sideways where the screen is narrow.

    Raises
    ------
    RapportError
        When a column is missing, has no label, or has an unknown unit.
    """
    for name, (label, unit) in columns.items():
        if name not in frame.columns:
            raise RapportError(
                f"table '{table_id}': no column '{name}'; the frame has {', '.join(map(str, frame.columns))}"
            )
        if not label.strip() or unit not in UNITS:
            raise RapportError(f"table '{table_id}', column '{name}': give a label and one of {', '.join(UNITS)}")
    # Plain names keep ids free of what a column may be called; the labels carry the words.
    names = {name: f"c{place}" for place, name in enumerate(columns, start=1)}
    cells = {}
    for name, (_, unit) in columns.items():
        try:
            cells[names[name]] = formatter.column(frame[name], unit)
        except ValueError as error:
            raise RapportError(f"table '{table_id}', column '{name}': {error}") from error
    if row_label is None and (first := next(iter(columns))) and columns[first][1] == "text":
        row_label = first
    stub = names.get(row_label)
    table = gt.GT(pd.DataFrame(cells, dtype=str), id=table_id, rowname_col=stub)
    table = table.cols_label({names[name]: _header(*columns[name], formatter) for name in names if name != row_label})
    if stub:
        table = table.tab_stubhead(columns[row_label][0])
    for name, (_, unit) in columns.items():
        table = table.cols_align("right" if unit in NUMERIC_UNITS else "left", [names[name]])
    return _accessible(table.as_raw_html(), table_id, caption)


def _header(label: str, unit: str, formatter: Formatter) -> str:
    word = formatter.unit_word(unit)
    return f"{label} ({word})" if word and word.lower() not in label.lower() else label


def _accessible(html: str, table_id: str, caption: str | None) -> str:
    """Keep the table that great_tables made; its styles belong to the page, and it must scroll by keyboard."""
    tree = BeautifulSoup(html, "html.parser")
    table = tree.find("table")
    for attribute in [name for name in table.attrs if name.startswith("data-")]:
        del table[attribute]
    for cell in table.find_all(["th", "td"]):
        cell.attrs = {name: value for name, value in cell.attrs.items() if name in ("scope", "id", "headers", "class")}
        if "gt_right" in cell.get("class", []):
            cell["class"] = ["number"]
            cell["align"] = "right"  # where there is no style sheet, as on GitHub
        elif len(cell.get_text()) > _LONG:
            cell["class"] = ["long"]
        else:
            cell.attrs.pop("class", None)
    for part in table.find_all(["thead", "tbody", "tr"]):
        part.attrs = {}
    if table.tbody.find("th"):
        table.thead.find("th")["id"] = f"{table_id}-c1"  # great_tables makes it of the label, blanks and all
    for cell in table.find_all("th", string=lambda text: not (text or "").strip()):
        cell.name, cell.attrs = "td", {}
    table.attrs = {"class": ["people"], "id": table_id}
    label = escape(to_plain(caption)) if caption else escape(table_id.replace("_", " "))
    head = f"<caption>{to_inline(caption)}</caption>\n" if caption else ""
    opening, rest = re.sub(r"\n\s*", "\n", str(table)).split(">", 1)
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{label}">\n{opening}>\n{head}{rest.strip()}\n</div>'
    )


def csv_safe(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy whose text, in cells and headers, cannot start a formula: such text gets a leading apostrophe.

    Numbers, dates and missing values stay as they are. Text that would pass for a formula after leading
    spaces counts too.
    """
    safe = frame.copy()
    for place, (_, column) in enumerate(frame.items()):
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        categorical = isinstance(column.dtype, pd.CategoricalDtype)
        safe.isetitem(place, (column.astype(object) if categorical else column).map(_inert))
    safe.columns = [_inert(name) for name in frame.columns]
    return safe


def _inert(cell: object) -> object:
    if isinstance(cell, str) and _FORMULA.match(cell):
        return "'" + cell
    return cell


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame as CSV for a spreadsheet.

    UTF-8 with a byte-order mark, without which Excel takes it for the machine's own code page; line ends and
    quotes after RFC 4180; text made harmless by ``csv_safe``.
    """
    csv_safe(frame).to_csv(path, index=False, encoding="utf-8-sig", lineterminator="\r\n")
