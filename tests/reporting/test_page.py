import base64
import hashlib
import json
import re
from itertools import pairwise

import nbformat
import nbformat.v4 as nb
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from analysis.errors import RapportError
from analysis.reporting import display, page, tables
from analysis.reporting.numbers import Formatter
from tests.reporting import demo
from tests.reporting.hostile import HOSTILE

ALLOWED_ADDRESS = re.compile(r"(data:|#|\.\./index\.html|0\d_|complete_journey/|https://example\.org)")


@pytest.fixture(scope="module")
def made():
    return page.render_page(demo.notebook(), demo.context())


@pytest.fixture(scope="module")
def tree(made):
    return BeautifulSoup(made, "html.parser")


@pytest.fixture(scope="module")
def index():
    return BeautifulSoup(page.render_index(demo.index()), "html.parser")


def body_of(*cells, **changes):
    return BeautifulSoup(page.render_page(nb.new_notebook(cells=list(cells)), demo.context(**changes)), "html.parser")


def test_the_answer_comes_first(tree):
    answer = tree.select_one("main > section")
    assert answer["id"] == "answer"
    assert answer.select_one(".sentence").get_text() == "The top 20% of households bring 51.2% of sales."
    assert answer.select_one(".value").get_text() == "51.2%"
    assert answer.select_one(".note").get_text() == "Likely range: from 49.8% to 52.6%"
    assert answer.select_one("figure img")["alt"].startswith("A curve that rises steeply. <script>")
    assert answer.select_one("figcaption").decode_contents() == "Sales of <em>all</em>."
    assert tree.h1.get_text() == "Customer valuation"
    assert tree.select_one("header .question").get_text() == "What is each customer worth?"
    assert tree.select_one("header .until").get_text() == "Data until December 31, 2017"


def test_the_picture_of_the_answer_is_there_once(tree):
    assert len(tree.select("img")) == 2 and len(tree.select(".seen a[href='#answer']")) == 1


def test_a_finding_without_an_interval_says_why(tree):
    assert any(f"No range: all were counted, {HOSTILE}" == p.get_text() for p in tree.select(".finding p"))


def test_contents_lead_somewhere(tree):
    targets = [link["href"].removeprefix("#") for link in tree.select("#contents a")]
    assert targets[:2] == ["who-holds-it", "who-holds-it-2"]
    assert targets[-3:] == ["assumptions", "downloads", "provenance"]
    assert all(tree.find(id=target) for target in targets)


def test_ids_are_unique_and_headings_do_not_skip(tree, index):
    for made in (tree, index):
        ids = [node["id"] for node in made.find_all(id=True)]
        assert len(ids) == len(set(ids))
        levels = [int(heading.name[1]) for heading in made.find_all(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))


def test_code_is_folded_and_whole(tree):
    blocks = tree.select("details.code")
    assert blocks and not any(block.has_attr("open") for block in blocks)
    code = "\n\n".join(block.pre.get_text() for block in blocks)
    assert code == "\n\n".join(cell.source for cell in demo.notebook().cells if cell.cell_type == "code")
    assert tree.select_one("#toggle-code").has_attr("hidden")


def test_streams_are_folded_and_errors_shown_without_their_traceback(tree, made):
    assert tree.select_one("details.log pre").get_text() == "note: <b>nothing</b>"
    assert tree.select_one(".error pre").get_text() == "ValueError: no <such> column"
    assert "secret" not in made and "\x1b" not in made


def test_frames_are_kept_and_their_empty_headers_are_cells(tree):
    frame = next(table for table in tree.find_all("table") if table.get("id") != "tiers")
    assert [cell.name for cell in frame.thead.find_all(["th", "td"])] == ["td", "th", "th"]
    assert all(cell["scope"] for cell in tree.find_all("th"))
    labels = [region["aria-label"] for region in tree.select(".table[role=region][tabindex='0']")]
    assert len(labels) == len(set(labels)) == 2


def test_tables_link_to_their_files(tree):
    assert tree.select_one(".exhibit .csv a")["href"] == "02_customer_valuation/tiers.csv"
    assert [link["href"] for link in tree.select("section .links a")] == [
        "02_customer_valuation/tiers.csv",
        "02_customer_valuation/findings.json",
    ]
    # by the heading that it stands under and its own name, however long its caption is
    assert tree.select_one("section .links a").get_text() == "Who holds it? tiers"


def test_lists_for_other_systems_are_named_and_not_linked():
    tree = body_of(lists=["data/exports/mine/win_back.csv"], tables=(), downloads=())
    section = tree.find(id="downloads").parent
    assert section.select_one("code").get_text() == "data/exports/mine/win_back.csv" and not section.find("a")


def test_ranges_may_part_from_their_estimates_and_words_keep_their_room():
    frame = pd.DataFrame(
        {"kind": ["broken or drifting", "in rhythm"], "back": ["8.2% (6.0% – 11.3%)", "5%"], "note": ["f(x) = 2", "a"]}
    )
    columns = {"kind": ("Kind", "text"), "back": ("Back", "text"), "note": ("Note", "text")}
    html = tables.people_table(frame, columns, demo.FORMAT, None, "t")
    cell = nb.new_code_cell("x", outputs=[demo.shown(display.table_bundle(html, frame, "t", "t.csv"))])
    table = body_of(cell).find("table")
    assert set(table["class"]) == {"people", "named"}
    ranged = table.select("td.ranged")
    assert [[span.get_text() for span in cell.find_all("span")] for cell in ranged] == [["8.2%", "(6.0% – 11.3%)"]]
    assert ranged[0].get_text() == "8.2% (6.0% – 11.3%)"


@pytest.mark.parametrize("which", ["page", "index"])
def test_nothing_in_it_can_run_or_fetch(which, tree, index):
    made = {"page": tree, "index": index}[which]
    assert len(made.find_all("script")) == len(made.find_all("style")) == 1
    assert not made.find_all(["iframe", "object", "embed", "form", "base", "svg"])
    assert not [node for node in made.find_all(True) for name in node.attrs if name.startswith("on") or name == "style"]
    addresses = [
        node[name] for node in made.find_all(True) for name in ("src", "href", "srcset") if node.has_attr(name)
    ]
    assert addresses and not [address for address in addresses if not ALLOWED_ADDRESS.match(address)]
    policy = made.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(made.find(kind).string.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_hostile_text_is_shown_as_it_is(tree, index):
    assert tree.get_text().count(HOSTILE) >= 8
    assert index.get_text().count(HOSTILE) >= 4


def test_raw_html_keeps_its_words_alone(tree):
    raw = next(p for p in tree.find_all("p") if p.get_text().startswith("raw"))
    assert str(raw) == "<p>raw <a>j</a></p>"


def test_the_same_notebook_gives_the_same_bytes(made):
    assert page.render_page(demo.notebook(), demo.context()) == made


def test_a_picture_without_alt_text_is_refused():
    output = nb.new_output("display_data", data={"image/png": "aGk=", "text/plain": "<Figure size 1x1>"})
    with pytest.raises(RapportError, match=r"\Acell 'plot' shows a picture without alt text; show it with step.figure"):
        body_of(nb.new_code_cell("plot()", id="plot", outputs=[output]))


def test_a_broken_picture_is_refused():
    output = nb.new_output("display_data", data={"image/png": 'x"><script>'}, metadata={"image/png": {"alt": "a"}})
    with pytest.raises(RapportError, match="cell 'plot' holds a broken picture"):
        body_of(nb.new_code_cell("plot()", id="plot", outputs=[output]))


def test_an_empty_notebook_is_still_a_page():
    made = body_of(findings=(), pages=(), tables=(), assumptions=(), provenance=(), downloads=(), data_until=None)
    assert made.h1.get_text() == "02_customer_valuation"
    assert "No answer could be given" in made.select_one("#answer").get_text()
    assert made.select_one("footer a")["href"] == "../index.html"


def test_the_page_is_in_the_language_of_its_words():
    made = body_of(formatter=Formatter("de", "EUR"))
    assert made.html["lang"] == "en"  # until there are German words
    assert made.select_one(".value").get_text() == "51,2\N{NO-BREAK SPACE}%"


def test_neighbours(tree):
    assert [link["href"] for link in tree.select(".around a")] == ["01_data_cleaning.html", "03_segmentation.html"]
    assert tree.select_one("[aria-current=page]").get_text() == "Customer valuation"


def test_the_index_has_every_study_answer_and_reason(index):
    first = index.select_one("main section")
    assert first.h2.get_text() == "Complete Journey"
    assert first.select_one(".card .sentence").get_text() == ("The top 20% of households bring 51.2% of sales.")
    assert [value.get_text() for value in first.select(".card .value")] == ["51.2%", "2,469"]
    assert first.select_one(".quiet dd").get_text().startswith("this study has no survey_responses")
    assert "No reports" in BeautifulSoup(page.render_index(page.IndexContext([])), "html.parser").main.get_text()


def test_bundles_are_valid_notebook_output():
    notebook = demo.notebook()
    nbformat.validate(notebook)
    json.dumps(notebook)
    kinds = [o.metadata.rapport.kind for c in notebook.cells if c.cell_type == "code" for o in c.outputs
             if "rapport" in o.get("metadata", {})]  # fmt: skip
    assert kinds == ["figure", "finding", "table", "finding", "text", "figure"]


def test_a_figure_needs_words():
    with pytest.raises(RapportError, match="figure 'f' has no alt text"):
        display.figure_bundle(demo.figure_of("x"), "f", " ")


def test_a_note_is_not_said_twice(fmt):
    finding = demo.ANSWER | {"sentence": "It is 51.2%, from 49.8% to 52.6%."}
    assert display.finding_note(finding, fmt) == ""
    assert display.finding_note(demo.ANSWER, fmt) == "Likely range: from 49.8% to 52.6%"
    assert display.finding_note(demo.ANSWER | {"low": None, "high": None}, fmt) == ""


def test_a_minus_is_not_left_behind_at_the_end_of_a_line():
    shown = body_of(nb.new_markdown_cell("From −$18.31 to −4.61.")).get_text()
    assert "−\u2060$18.31 to −4.61" in shown


def test_text_cannot_turn_the_rest_of_a_line_around():
    assert "\u202e" not in str(body_of(nb.new_markdown_cell("left \u202eright"), study_title="A \u202eshop"))


def test_what_the_head_says_too_stands_below_the_answer():
    besides = demo.COUNTED | {"head": True}
    made = body_of(nb.new_markdown_cell("# T"), findings=[demo.ANSWER, besides])
    inside = made.select_one("#answer .besides")
    assert inside.get_text().startswith("We could judge 2,469 households.") and not inside.select("script")
    assert not body_of(nb.new_markdown_cell("# T"), findings=[demo.ANSWER, demo.COUNTED]).select(".besides")
