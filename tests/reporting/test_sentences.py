import datetime as dt
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analysis.errors import RapportError
from analysis.reporting import words as vocabulary
from analysis.reporting.numbers import Formatter
from analysis.reporting.prose import escape, for_notebook, to_html, to_inline, to_plain
from analysis.reporting.sentences import Sentences
from tests.reporting.hostile import HOSTILE

TEMPLATES = """
worth: "{{ value | money }}, {{ interval(low, high, 'money') }}, from {{ n }} {{ n | plural(customer, customers) }}."
name: "The best seller is **{{ name }}**, {{ name ~ (n | count) }}."
names: "{{ names | join(', ') }}"
beats: |
  {% if value > 3 %}
    It beats {{ name }}
  {% else %}
    It loses to {{ name }}
  {% endif %}
  today.

  - one {{ n }}
  - two {{ f }}
typed: "{{ x | unit(unit) }}"
ranged: "{{ estimate(value, low, high, 'money') }}"
bare: "{{ f }} {{ nothing }} {{ day }}"
flag: "{{ flag }}"
safe: "{{ name | safe }}"
listed: [1]
broken: "{{ value"
"""


@pytest.fixture
def sentences(tmp_path, monkeypatch):
    shipped = vocabulary.FOLDER
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "numbers.yaml").write_text((shipped / "en" / "numbers.yaml").read_text("utf-8"), "utf-8")
    monkeypatch.setattr(vocabulary, "FOLDER", tmp_path)
    vocabulary.words.cache_clear()

    def load(text=TEMPLATES, name="test_step"):
        (tmp_path / "en" / f"{name}.yaml").write_text(text, "utf-8")
        vocabulary.words.cache_clear()
        return Sentences(name, Formatter("en", "USD"))

    yield load
    vocabulary.words.cache_clear()


def test_numbers_are_formatted_and_words_chosen(sentences):
    text = sentences().render(
        "worth", value=4.6e6, low=4.3e6, high=4.9e6, n=1, customer="household", customers="households"
    )
    assert text == "$4.60 million, from $4.30 million to $4.90 million, from 1 household."


def test_an_estimate_and_its_interval_are_written_together(sentences):
    assert sentences().render("ranged", value=95.3, low=90.62, high=102.3) == "$95 (from $91 to $102)"


def test_the_template_follows_the_data_and_keeps_lists(sentences):
    text = sentences().render("beats", value=4, name="A", n=np.int64(12345), f=np.float64(0.123456))
    assert text == "It beats A today.\n\n- one 12,345\n- two 0.123"


def test_bare_facts_are_written_as_people_write_them(sentences):
    text = sentences().render("bare", f=0.1 + 0.2, nothing=None, day=dt.date(2018, 12, 31))
    assert text == "0.300 – December 31, 2018"
    assert sentences().render("bare", f=float("nan"), nothing=pd.NA, day="x").startswith("– –")


@pytest.mark.parametrize(
    ("key", "facts", "message"),
    [
        ("nowhere", {}, "sentences/en/test_step.yaml has no sentence 'nowhere'"),
        ("name", {"n": 1}, "sentences/en/test_step.yaml, 'name': 'name' is undefined; the facts given are: n"),
        ("worth", {"n": 1}, "'value' is undefined"),
        ("worth", {"value": "z"}, "expected a number, found 'z'"),
        ("flag", {"flag": True}, "a yes or no has no words of its own"),
        ("names", {"names": 3}, "'names': "),
        ("safe", {"name": "x"}, "No filter named 'safe'"),
        ("listed", {}, "expected text, found list"),
        ("broken", {}, "'broken': "),
    ],
)
def test_mistakes_name_the_file_and_the_key(sentences, key, facts, message):
    with pytest.raises(RapportError, match=r"\A[^\n]+\Z") as caught:
        sentences().render(key, **facts)
    assert message in str(caught.value)


def test_files_that_are_wrong_are_named(sentences):
    with pytest.raises(RapportError, match=r"sentences/en/gone.yaml does not exist"):
        Sentences("gone", Formatter())
    with pytest.raises(RapportError, match=r"sentences/en/twice.yaml: line 2: key 'a' is given twice"):
        sentences("a: x\na: y\n", "twice")
    with pytest.raises(RapportError, match=r"sentences/en/list.yaml: expected"):
        sentences("- a\n", "list")


def test_english_stands_in_for_a_language_without_words():
    assert Formatter("de", "EUR").language == "en"


@pytest.mark.parametrize("step", [path.stem for path in sorted((vocabulary.FOLDER / "en").glob("[0-9]*.yaml"))])
def test_shipped_templates_compile(step):
    sentences = Sentences(step, Formatter())
    for key in sentences.keys():  # noqa: SIM118 (not a mapping)
        try:
            assert sentences.render(key)
        except RapportError as error:
            assert "undefined" in str(error)


def tags(html):
    return set(re.findall(r"<\s*/?\s*([a-zA-Z!?/]+)", html))


def visible(text):
    """What a reader may see of a text: its words without invisible marks."""
    return "".join(" ".join(re.sub(r"[^\S ]", " ", text).split()).split())


@given(st.text())
@example(HOSTILE)
@example("<img src=x onerror=alert(1)>")
@example("[x](javascript:alert(1))")
@example("![x](http://evil.example/x.png)")
@example("http://evil.example www.evil.example a@evil.example")
@example("# heading")
@example("1. list")
@example("- list")
@example("    code")
@example("`code` ```")
@example("| a | b |\n|---|---|\n| 1 | 2 |")
@example("&lt;b&gt; &amp; &#60;")
@example("~~x~~ **x** _x_ $x$ \\(x\\)")
@example("a\u202eb\u0000c\ud800")
def test_text_from_data_is_inert(text):
    html = to_html(f"Best: {escape(text)} ends")
    assert tags(html) <= {"p", "/p"}
    plain = to_plain(f"Best: {escape(text)} ends")
    shown = "".join(c for c in plain.removeprefix("Best: ").removesuffix("ends"))
    expected = "".join(character for character in text if escape(character) or character.isspace())
    assert visible(shown) == visible(expected)


def test_text_joined_with_a_number_in_a_template_is_inert_too(sentences):
    text = sentences().render("name", name=HOSTILE, n=5)
    assert tags(to_html(text)) <= {"p", "/p", "strong", "/strong"}
    assert tags(to_html(sentences().render("names", names=[HOSTILE, "b"]))) <= {"p", "/p"}
    assert tags(to_html(sentences().render("typed", x=HOSTILE, unit="text"))) <= {"p", "/p"}
    assert to_plain(sentences().render("typed", x=HOSTILE, unit="text")) == HOSTILE


def test_markdown_of_the_notebook_renders_and_its_html_does_not():
    html = to_html(
        "**b** [a](https://example.org) <b onclick=x>c</b> [d](javascript:alert(1)) ![e](http://example.org/e.png)"
    )
    assert html.strip() == (
        '<p><strong>b</strong> <a href="https://example.org">a</a> &lt;b onclick=x&gt;c&lt;/b&gt; d e</p>'
    )
    assert to_inline("one\n\ntwo") == "one two"


def test_dollar_signs_do_not_begin_a_formula_in_jupyterlab():
    shown = for_notebook("from $1.20 to &#36;3.40")
    assert shown == "from <span>$</span>1.20 to <span>$</span>3.40"
    assert to_plain(shown) == "from $1.20 to $3.40"
    assert for_notebook('<div aria-label="$1">2 < 3 at $1') == '<div aria-label="$1">2 < 3 at <span>$</span>1'
