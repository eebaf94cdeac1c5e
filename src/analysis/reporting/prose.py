"""Markdown as readers get it: rendered by mistune, and never able to carry more than words.

Text that comes from data is written in character references (``&#42;`` for ``*``), which mean the same
letters to a Markdown reader and to a browser and start nothing in either.
"""

import html
import re
import unicodedata
from collections.abc import Callable

import bleach
import mistune

_INERT = frozenset(" ,;%?–—")
_DOLLAR = "<span>$</span>"
_TAGS = frozenset(
    [
        "a",
        "abbr",
        "blockquote",
        "br",
        "caption",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "div",
        "dl",
        "dt",
        "em",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "b",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "u",
        "ul",
        "figure",
        "figcaption",
    ]
)
_ATTRIBUTES = {
    "*": ["class", "id", "aria-label", "title"],
    "a": ["href"],
    "div": ["role", "tabindex"],
    "ol": ["start"],
    "td": ["colspan", "rowspan", "headers"],
    "th": ["colspan", "rowspan", "headers", "scope"],
}


def escape(text: str) -> str:
    """Text from data as inert Markdown and inert HTML, on one line."""
    return "".join(map(_reference, " ".join(text.split())))


def _reference(character: str) -> str:
    if character.isalnum() or character in _INERT:
        return character
    if unicodedata.category(character) in (
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
    ):  # invisible: controls, direction marks
        return ""
    return f"&#{ord(character)};"


def sanitise(markup: str) -> str:
    """HTML from an output, reduced to words, tables and links; scripts, styles and pictures do not survive."""
    return bleach.clean(
        markup,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        protocols=("http", "https", "mailto"),
        strip=True,
    )


class _Renderer(mistune.HTMLRenderer):
    """HTML of Markdown whose headings nest under a page's own, each with an anchor."""

    def __init__(self, heading: Callable[[str, int], str] | None):
        super().__init__(escape=True)
        self._heading = heading

    def text(self, text: str) -> str:
        return mistune.util.safe_entity(text)  # mistune's own would show character references as code

    def heading(self, text: str, level: int, **attributes) -> str:
        return self._heading(text, level) if self._heading else f"<p><strong>{text}</strong></p>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return text if self.safe_url(url) == "#harmful-link" else super().link(text, url, title)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return text  # a picture from elsewhere would be a request; figures arrive as outputs


def to_html(markdown: str, heading: Callable[[str, int], str] | None = None) -> str:
    """Render Markdown to HTML.

    Parameters
    ----------
    markdown : str
    heading : callable, optional
        Takes a heading's HTML and level, returns its element; headings are bold paragraphs without it.
    """
    render = mistune.create_markdown(renderer=_Renderer(heading), plugins=["table", "strikethrough"])
    return sanitise(render(from_notebook(markdown)))


def to_inline(markdown: str) -> str:
    """Render a sentence of Markdown to HTML without a paragraph around it."""
    return re.sub(r"\s*</p>\s*<p>\s*", " ", to_html(markdown)).strip().removeprefix("<p>").removesuffix("</p>")


def to_plain(markdown: str) -> str:
    """The words of Markdown alone, on one line: for alt texts, titles and logs."""
    words = re.sub(r"<[^>]*>", "", to_html(markdown).replace("</p>", " "))
    return " ".join(html.unescape(words).split())


def for_notebook(text: str) -> str:
    """Markdown or HTML as JupyterLab and GitHub should get it: two dollar signs do not begin a formula there."""
    return re.sub(r"(</?[a-zA-Z][^>]*>)|\$|&#36;", lambda found: found[1] or _DOLLAR, text)


def from_notebook(text: str) -> str:
    """What ``for_notebook`` was given, but for the spelling of its dollar signs."""
    return text.replace(_DOLLAR, "$")
