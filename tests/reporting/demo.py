"""A notebook with every kind of output, hostile text wherever data could bring it, and the site around it."""

import datetime as dt
from pathlib import Path

import nbformat.v4 as nb
import numpy as np
import pandas as pd
from nbformat import NotebookNode

from analysis.reporting import display, page, tables, theme
from analysis.reporting.numbers import Formatter
from analysis.reporting.prose import escape
from tests.reporting.hostile import HOSTILE

FORMAT = Formatter("en", "USD")
ANSWER = {
    "id": "top_share",
    "sentence": "The top 20% of households bring **51.2%** of sales.",
    "value": 0.512,
    "low": 0.498,
    "high": 0.526,
    "unit": "share",
    "reason": None,
    "figure": "concentration",
    "answer": True,
}
COUNTED = {
    "id": "judged",
    "sentence": f"We could judge 2,469 households. Best seller: {escape(HOSTILE)}",
    "value": 2469,
    "low": None,
    "high": None,
    "unit": "count",
    "reason": f"all were counted, {HOSTILE}",
    "figure": None,
    "answer": False,
}
RAW_HTML = (
    "<p onclick='alert(1)'>raw <script>alert(7)</script><img src=x onerror=alert(8)><a href='javascript:alert(9)'>j</a>"
    "<iframe src='http://example.org'></iframe><style>body{display:none}</style></p>"
)


def shown(bundle: display.Bundle) -> NotebookNode:
    return nb.new_output("display_data", data=bundle[0], metadata=bundle[1])


def figure_of(title: str) -> object:
    figure, axes = theme.new_figure()
    x = np.linspace(0, 1, 50)
    axes.plot(x, x**0.4, label="Households")
    axes.set_title(title)
    axes.set_xlabel("Share of households")
    axes.xaxis.set_major_formatter(FORMAT.axis("share"))
    return figure


def people_table() -> display.Bundle:
    frame = pd.DataFrame({"tier": ["Protect", HOSTILE], "n": [1200, 30], "sales": [1234567.0, 12.5], "gap": [1.0, 3.5]})
    columns = {
        "tier": ("Tier", "text"),
        "n": ("Customers", "count"),
        "sales": ("Sales", "money"),
        "gap": ("Gap", "days"),
    }
    html = tables.people_table(
        frame, columns, FORMAT, f"Sales by tier, from $12 to $1.23 million: {escape(HOSTILE)}", "tiers"
    )
    return display.table_bundle(html, frame, "tiers", "02_customer_valuation/tiers.csv")


def notebook() -> NotebookNode:
    frame = pd.DataFrame({"a b": [1, 2], HOSTILE: [HOSTILE, "y"]})
    alt = f"A curve that rises steeply. {escape(HOSTILE)}"
    concentration = display.figure_bundle(figure_of("The top 20% bring 51.2%"), "concentration", alt, "Sales of *all*.")
    cells = [
        nb.new_markdown_cell(
            "# Customer valuation\n\nWhat is each customer worth?\n\nWe count, then we ask.", id="title"
        ),
        nb.new_code_cell('study = "sample"  # a folder', id="parameters", metadata={"tags": ["parameters"]}),
        nb.new_code_cell("import analysis\n\nfor i in range(3):\n    print('x', 1.5)", id="open"),
        nb.new_markdown_cell("## Who holds it?\n\n`code`, *emphasis* and [a link](https://example.org).", id="who"),
        nb.new_code_cell(
            "step.figure(fig, 'concentration')",
            id="concentration",
            outputs=[
                nb.new_output("stream", name="stderr", text="\x1b[31mnote\x1b[0m: <b>nothing</b>\n"),
                shown(concentration),
                shown(display.finding_bundle("top_share", ANSWER["sentence"])),
            ],
        ),
        nb.new_code_cell(
            "step.table(tiers, 'tiers')",
            id="tiers",
            outputs=[
                shown(people_table()),
                shown(display.finding_bundle("judged", COUNTED["sentence"], display.finding_note(COUNTED, FORMAT))),
                shown(display.text_bundle("note", f"From $1.20 to $3.40, {escape(HOSTILE)}")),
            ],
        ),
        nb.new_markdown_cell(
            "## Who holds it?\n\n#### Skips a level\n\n<script>alert(5)</script>\n\n[bad](javascript:alert(6)) "
            "![remote](http://example.org/x.png)\n\n- one\n- two\n\n> said",
            id="again",
        ),
        nb.new_code_cell(
            "fig2",
            id="second",
            outputs=[shown(display.figure_bundle(figure_of("From $1 to $2"), "second", "A second curve."))],
        ),
        nb.new_code_cell(
            "frame",
            id="frame",
            execution_count=1,
            outputs=[
                nb.new_output("execute_result", data={"text/html": frame.to_html()}, execution_count=1),
                nb.new_output("display_data", data={"text/html": RAW_HTML}),
                nb.new_output("execute_result", data={"text/plain": "'<b>plain</b>'"}, execution_count=1),
                nb.new_output("error", ename="ValueError", evalue="no <such> column", traceback=["/home/me/secret.py"]),
            ],
        ),
    ]
    return nb.new_notebook(cells=cells)


def context(**changes: object) -> page.PageContext:
    return page.PageContext(
        **{
            "study_title": f"Complete Journey {HOSTILE}",
            "step_name": "02_customer_valuation",
            "formatter": FORMAT,
            "findings": [ANSWER, COUNTED],
            "data_until": dt.date(2017, 12, 31),
            "pages": [
                page.Link("Data cleaning", "01_data_cleaning.html"),
                page.Link("Customer valuation", "02_customer_valuation.html", current=True),
                page.Link("Segmentation", "03_segmentation.html"),
            ],
            "tables": [{"id": "tiers", "caption": escape(HOSTILE), "csv": "02_customer_valuation/tiers.csv"}],
            "assumptions": [
                page.AssumptionRow("Margin", "30%", "assumption", HOSTILE),
                page.AssumptionRow("x", "1", "data"),
            ],
            "provenance": [("Key", "8b1e0c6f2d" * 6), ("Data", HOSTILE)],
            "downloads": [page.Link(HOSTILE, "02_customer_valuation/findings.json")],
            **changes,
        }
    )


def index() -> page.IndexContext:
    pages = [
        page.IndexPage(
            "Customer valuation", "complete_journey/02_customer_valuation.html", "What is each worth?", ANSWER
        ),
        page.IndexPage("Data cleaning", "complete_journey/02_customer_valuation.html", escape(HOSTILE), COUNTED),
        page.IndexPage("Segmentation", "complete_journey/02_customer_valuation.html"),
    ]
    not_run = [("Satisfaction and loyalty", f"this study has no survey_responses {HOSTILE}")]
    study = page.IndexStudy(
        "complete_journey", "Complete Journey", FORMAT, HOSTILE, HOSTILE, dt.date(2017, 12, 31), pages, not_run
    )
    return page.IndexContext([study, page.IndexStudy("other", f"Other {HOSTILE}", FORMAT)])


def write_site(folder: Path) -> list[Path]:
    """Write the index and one page; returns both paths."""
    paths = [folder / "index.html", folder / "complete_journey" / "02_customer_valuation.html"]
    paths[1].parent.mkdir(parents=True)
    paths[0].write_text(page.render_index(index()), encoding="utf-8")
    paths[1].write_text(page.render_page(notebook(), context()), encoding="utf-8")
    return paths
