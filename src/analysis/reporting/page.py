"""The published site: a page a notebook and one index, each a single file that loads nothing.

A page shows its answer first, then the notebook with its code folded away, then what it rests on. Nothing in it
can run or fetch: text from data is escaped, HTML from outputs is sanitised, and a content security policy allows
one script and one style sheet, named by their hashes.
"""

import base64
import binascii
import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from analysis.errors import RapportError
from analysis.reporting import prose
from analysis.reporting.display import qualification
from analysis.reporting.numbers import Formatter
from analysis.reporting.words import words

_TEMPLATES = Path(__file__).parent / "templates"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_MINUS = re.compile(r"−(?=[^\s\d<])")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")  # text from data may not turn the rest of a line around
_RANGED = re.compile(r"(\S.{0,40}?) (\(.{1,30}\))")  # an estimate and its range
_WORDS = 12  # characters that make a first column one of words
_RESERVED = ("answer", "contents", "assumptions", "downloads", "provenance", "code")


@dataclass(frozen=True)
class Link:
    """A title and where it leads, relative to the page it stands on."""

    title: str
    href: str
    current: bool = False


@dataclass(frozen=True)
class AssumptionRow:
    """Something that the owner of the study decided: ``source`` is ``"assumption"`` or ``"data"``."""

    label: str
    value: str
    source: str = "assumption"
    note: str = ""


@dataclass(frozen=True)
class PageContext:
    """What a page says beyond its notebook.

    Attributes
    ----------
    study_title, step_name : str
    formatter : Formatter
        The study's; its language is the page's.
    findings : sequence of mapping
        ``id, sentence, value, low, high, unit, reason, figure, answer`` each; one has a true ``answer``. Those with a true
        ``head`` stand below it.
    title : str
        The notebook's own first heading where it is empty.
    data_until : date or None
    pages : sequence of Link
        All pages of the study in order, this one ``current``.
    index_href : str
    tables : sequence of mapping
        ``id, csv`` each; ``csv`` is relative to the page.
    assumptions : sequence of AssumptionRow
    provenance : sequence of (label, value)
    downloads : sequence of Link
        Further files, relative to the page.
    lists : sequence of str
        Paths of exported lists, which the page names and does not link to: they may hold ids.
    """

    study_title: str
    step_name: str
    formatter: Formatter
    findings: Sequence[Mapping[str, object]] = ()
    title: str = ""
    data_until: dt.date | None = None
    pages: Sequence[Link] = ()
    index_href: str = "../index.html"
    tables: Sequence[Mapping[str, str]] = ()
    assumptions: Sequence[AssumptionRow] = ()
    provenance: Sequence[tuple[str, str]] = ()
    downloads: Sequence[Link] = ()
    lists: Sequence[str] = ()


@dataclass(frozen=True)
class IndexPage:
    """A page as the index shows it; ``answer`` is its answering finding, ``question`` is Markdown."""

    title: str
    href: str
    question: str = ""
    answer: Mapping[str, object] | None = None


@dataclass(frozen=True)
class IndexStudy:
    """A study as the index shows it; ``not_run`` holds (notebook's title, reason) pairs."""

    name: str
    title: str
    formatter: Formatter
    description: str = ""
    source: str = ""
    data_until: dt.date | None = None
    pages: Sequence[IndexPage] = ()
    not_run: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class IndexContext:
    """The whole site."""

    studies: Sequence[IndexStudy]
    title: str = ""
    locale: str = "en"


def render_page(notebook: NotebookNode, context: PageContext) -> str:
    """A notebook as one self-contained page.

    Parameters
    ----------
    notebook : NotebookNode
        Executed.
    context : PageContext

    Raises
    ------
    RapportError
        When a picture has no alt text or a picture's data are broken; names the cell.
    """
    answer = next((finding for finding in context.findings if finding.get("answer")), None)
    title, question, rest = _head(notebook)
    body = _Body(context, answer.get("figure") if answer else None)
    html = Markup("\n".join(body.cells(notebook, rest)))
    vocabulary = words(str(context.formatter.locale), "page")
    after = [
        (name, vocabulary[name])
        for name, present in (
            ("assumptions", context.assumptions),
            ("downloads", context.tables or context.downloads or context.lists),
            ("provenance", context.provenance),
        )
        if present
    ]
    places = [place for place, link in enumerate(context.pages) if link.current]
    here = places[0] if places else None
    return _render(
        "page.html.j2",
        context.formatter,
        c=context,
        title=context.title or prose.to_plain(title) or context.step_name,
        question=Markup(prose.to_inline(question)) if question else "",
        answer=_shown(answer, context.formatter),
        answer_figure=Markup(body.answer_figure),
        besides=[
            Markup(prose.to_inline(str(f["sentence"]))) for f in context.findings if f.get("head") and f is not answer
        ],
        body=html,
        contents=[*body.contents, *after],
        has_code=body.has_code,
        previous=context.pages[here - 1] if here else None,
        next=context.pages[here + 1] if here is not None and here + 1 < len(context.pages) else None,
        downloads=[Link(_name(table["id"], body.sections), table["csv"]) for table in context.tables]
        + list(context.downloads),
    )


def render_index(context: IndexContext) -> str:
    """The front page of the site: every study, every answer, and what was not run and why."""
    formatter = context.studies[0].formatter if context.studies else Formatter(context.locale)
    studies = [
        {
            "study": study,
            "until": study.formatter.date(study.data_until) if study.data_until else "",
            "cards": [
                {
                    "page": page,
                    "question": Markup(prose.to_inline(page.question)) if page.question else "",
                    "answer": _shown(page.answer, study.formatter),
                }
                for page in study.pages
            ],
        }
        for study in context.studies
    ]
    return _render("index.html.j2", formatter, studies=studies, title=context.title)


def notebook_head(notebook: NotebookNode) -> tuple[str, str]:
    """A notebook's title and question: its first heading and the paragraph under it, the latter as Markdown."""
    title, question, _ = _head(notebook)
    return prose.to_plain(title), question


def _shown(finding: Mapping[str, object] | None, formatter: Formatter) -> dict[str, object] | None:
    if finding is None:
        return None
    absent = finding.get("value") is None
    return {
        "sentence": Markup(prose.to_inline(str(finding["sentence"]))),
        "plain": prose.to_plain(str(finding["sentence"])),
        "value": "" if absent else formatter.value(finding["value"], str(finding["unit"])),
        "note": qualification(finding, formatter),
    }


def _name(table: str, sections: Mapping[str, str]) -> str:
    """Under which heading a table stands, and its own name in words: short, and told from every other."""
    own = table.replace("_", " ")
    section = sections.get(table)
    if not section:
        return own[:1].upper() + own[1:]
    return f"{section}{':' if section[-1].isalnum() else ''} {own}"


def _head(notebook: NotebookNode) -> tuple[str, str, str]:
    """The first cell's heading, the paragraph below it, and what remains of the cell."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.lstrip().startswith("# "):
        return "", "", first.source if first is not None and first.cell_type == "markdown" else ""
    heading, _, below = first.source.lstrip().partition("\n")
    question, _, rest = below.strip().partition("\n\n")
    if question.startswith(("#", "-", "|", ">", "!")):
        question, rest = "", below
    return heading.removeprefix("# ").strip(), question, rest


class _Body:
    """The cells of a notebook as HTML, with the contents and the answer's figure collected on the way."""

    def __init__(self, context: PageContext, answer_figure: str | None):
        self.contents: list[tuple[str, str]] = []
        self.answer_figure = ""
        self.has_code = False
        self.sections: dict[str, str] = {}  # table -> the heading it stands under
        self._answer_id = answer_figure
        self._csv = {table["id"]: table["csv"] for table in context.tables}
        self._words = words(str(context.formatter.locale), "page")
        self._level = 1
        self._anchors = set(_RESERVED)
        self._code: list[str] = []
        self._tables = 0

    def cells(self, notebook: NotebookNode, first: str) -> list[str]:
        """The elements of the body in order; ``first`` stands for what the page's head left of the first cell."""
        parts = []
        for place, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                # Code that shows nothing waits for the next that does: one folded block instead of many.
                self._code.extend([cell.source] if cell.source.strip() else [])
                outputs = [shown for output in cell.outputs if (shown := self._output(output, cell))]
                if outputs:
                    parts += [self._folded_code(), *outputs]
            else:
                source = first if place == 0 and cell.cell_type == "markdown" else cell.source
                if cell.cell_type == "markdown" and source.strip():
                    parts += [self._folded_code(), prose.to_html(source, self._heading)]
        return [part for part in [*parts, self._folded_code()] if part]

    def _heading(self, text: str, level: int) -> str:
        self._level = level = min(max(level, 2), self._level + 1, 6)
        plain = prose.to_plain(text)
        slug = re.sub(r"[^\w]+", "-", plain.lower()).strip("-") or "part"
        anchor, tries = slug, 1
        while anchor in self._anchors:
            tries += 1
            anchor = f"{slug}-{tries}"
        self._anchors.add(anchor)
        if level == 2:
            self.contents.append((anchor, plain))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def _folded_code(self) -> str:
        if not self._code:
            return ""
        self.has_code = True
        source = highlight("\n\n".join(self._code), PythonLexer(), HtmlFormatter(nowrap=True))
        self._code = []
        return _fragment("code", summary=self._words["code"], source=Markup(source.rstrip("\n")))

    def _output(self, output: NotebookNode, cell: NotebookNode) -> str:
        if output.output_type == "stream":
            text = _ANSI.sub("", output.text).strip()
            return _fragment("log", summary=self._words["log"], text=text) if text else ""
        if output.output_type == "error":
            # The traceback names places on the machine that ran it; the message is what a reader can use.
            return _fragment(
                "error", summary=self._words["error"], text=_ANSI.sub("", f"{output.ename}: {output.evalue}")
            )
        data = output.get("data", {})
        mark = output.get("metadata", {}).get("rapport", {})
        for kind in ("image/png", "image/jpeg"):
            if kind in data:
                return self._figure(output, mark, kind, cell)
        if "text/html" in data:
            return self._html(data["text/html"], mark)
        if "text/markdown" in data:
            text = prose.to_html(data["text/markdown"], None)
            return f'<div class="{"finding" if mark.get("kind") == "finding" else "text"}">{text}</div>'
        text = _ANSI.sub("", data.get("text/plain", "")).strip()
        return _fragment("result", text=text) if text else ""

    def _figure(self, output: NotebookNode, mark: Mapping[str, str], kind: str, cell: NotebookNode) -> str:
        about = output.metadata.get(kind, {})
        alt = str(about.get("alt") or "").strip()
        where = f"cell '{cell.get('id', '?')}'"
        if not alt:
            raise RapportError(f"{where} shows a picture without alt text; show it with step.figure(fig, id, alt=...)")
        try:
            content = base64.b64decode("".join(output.data[kind].split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RapportError(f"{where} holds a broken picture; run the notebook again") from error
        shown = _fragment(
            "figure",
            id=f"figure-{mark['id']}" if mark.get("id") else "",
            source=f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}",
            alt=alt,
            width=about.get("width", ""),
            height=about.get("height", ""),
            caption=Markup(prose.to_inline(mark["caption"])) if mark.get("caption") else "",
        )
        if mark.get("id") and mark["id"] == self._answer_id and not self.answer_figure:
            self.answer_figure = shown
            return _fragment("seen", text=self._words["seen_above"])
        return shown

    def _html(self, markup: str, mark: Mapping[str, str]) -> str:
        tree = BeautifulSoup(prose.from_notebook(markup), "html.parser")
        for unwanted in tree.find_all(["style", "script", "template", "noscript", "iframe", "object", "svg", "title"]):
            unwanted.decompose()
        for table in tree.find_all("table"):
            _head_cells(table)
            if table.find_parent(class_="table") is None:
                self._tables += 1
                label = table.caption.get_text(" ", strip=True) if table.caption else mark.get("id")
                region = {"class": "table", "role": "region", "tabindex": "0"}
                region["aria-label"] = label or f"{self._words['table']} {self._tables}"
                table.wrap(tree.new_tag("div", attrs=region))
            _fit(table)
        clean = prose.sanitise(str(tree))
        csv = mark.get("csv") or self._csv.get(mark.get("id", ""))
        if mark.get("id") and self.contents:
            self.sections[mark["id"]] = self.contents[-1][1]
        return _fragment("html", content=Markup(clean), csv=csv or "", label=self._words["csv"])


def _head_cells(table: BeautifulSoup) -> None:
    """Give header cells a scope; an empty one heads nothing and becomes an ordinary cell."""
    for cell in table.find_all("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
            cell.attrs.pop("scope", None)
        elif not cell.get("scope"):
            cell["scope"] = "col" if cell.find_parent("thead") else "row"


def _fit(table: BeautifulSoup) -> None:
    """Mark what a narrow screen may break, a range after its estimate, and may not, a first column of words."""
    rows = table.find_all("tr")
    first = [row.find(["th", "td"]) for row in rows]
    if any(cell is not None and len(cell.get_text(strip=True)) > _WORDS for cell in first):
        table["class"] = [*table.get("class", []), "named"]
    for cell in table.find_all("td"):
        found = _RANGED.fullmatch(cell.get_text(strip=True)) if not cell.find() else None
        if found:
            cell.clear()
            for part, glue in zip(found.groups(), (" ", ""), strict=True):
                span = BeautifulSoup("<span></span>", "html.parser").span
                span.string = part
                cell.extend([span, glue])
            cell["class"] = [*cell.get("class", []), "ranged"]


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _fragment(name: str, **values: object) -> str:
    return str(getattr(_environment().get_template("parts.html.j2").module, name)(**values))


def _render(template: str, formatter: Formatter, **values: object) -> str:
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    )
    page = (
        _environment()
        .get_template(template)
        .render(
            lang=formatter.language.replace("_", "-"),
            t=words(str(formatter.locale), "page"),
            f=formatter,
            policy=policy,
            style=Markup(style),
            script=Markup(script),
            **values,
        )
    )
    # A browser may break a line between a minus and a currency sign; a word joiner keeps them together.
    return _MINUS.sub("−\u2060", _BIDI.sub("", page.rstrip())) + "\n"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
