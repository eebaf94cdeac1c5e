"""Comments at the door: which themes a text touches, and that nothing of it is stored."""

import json
import zipfile

import ibis
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import keys, paths, sources
from analysis import study as studies
from analysis.sources import SourceError
from analysis.sources.comments import Marks, any_theme, mentions
from analysis.study import Comments

TEXTS = [
    ("expensive", "Far too EXPENSIVE!", True),
    ("expensive", "inexpensive", False),
    ("expensive", "expensively made", False),
    ("price*", "The pricelist, please", True),
    ("price*", "overpriced", False),
    ("price", "The price's fine", True),
    ("price", "price2 and price_list", False),
    ("late", "chocolate", False),
    ("late", "LATE", True),
    ("too much money", "Too  much,\nmoney", True),
    ("too much money", "too much good money", False),
    ("on time", "never on-time", True),
    ("café", "the CAFÉ upstairs", True),
    ("café", "the cafe upstairs", False),
    ("café", "the café\u0301e", False),
    ("naïve", "nai\u0308ve", True),
    ("straße", "STRASSE gesperrt", True),
    ("don't", "I don’t care", True),
    ("wifi", "ＷｉＦｉ is down", True),  # full-width letters
    ("wifi", "你们wifi太慢", True),
    ("太贵", "东西太贵了", True),
    ("太贵", "不太贵重", True),
    ("太贵", "太高贵", False),
    ("配送 慢", "配送、慢", True),
    ("ราคา", "สินค้าราคาแพง", True),
    ("가격", "가격이 비싸요", True),
    ("दाम", "दाम ज़्यादा है", True),
    ("दाम", "दामों की बात", False),  # goes on with a vowel sign
    ("цена", "Цена высокая", True),
    ("цена", "ценами", False),
    ("c++", "I like c++ books", True),
    ("5 stars", "Only 5 stars", True),
    ("5 stars", "15 stars", False),
]


def marks_of(themes, *texts, missing=()):
    comments = Comments(column="c", themes=themes)
    return Marks(comments, missing).of(pa.array(texts, pa.string())).to_pylist()


@pytest.mark.parametrize(("term", "text", "found"), TEXTS)
def test_a_term_is_found_as_people_read_it(term, text, found):
    [mark] = marks_of({"t": [term]}, text)
    assert mark == f"{len(text)} characters;" + (" t;" if found else "")


def test_a_mark_tells_length_and_themes_and_a_theme_is_not_taken_for_another():
    themes = {"price": ["price"], "price_high": ["high"], "delivery": ["late", "price"]}
    texts = ["  late and high  ", "a price", "nothing", None]
    marks = marks_of(themes, *texts)
    assert marks == ["13 characters; price_high; delivery;", "7 characters; price; delivery;", "7 characters;", None]
    table = ibis.memtable({"mark": marks})
    seen = table.select(
        p=mentions(table.mark, "price"), h=mentions(table.mark, "price_high"), any=any_theme(table.mark)
    )
    assert seen.to_pyarrow().to_pylist() == [
        {"p": False, "h": True, "any": True},
        {"p": True, "h": False, "any": True},
        {"p": False, "h": False, "any": False},
        {"p": False, "h": False, "any": False},
    ]


def test_signs_blanks_and_missing_codes_are_no_comment():
    written = marks_of({"t": ["x"]}, "", "  ", "-", "?!…", "N/A", "0", "👍", "好", missing=["n/a"])
    assert written == [None] * 5 + ["1 characters;"] * 3


SURVEY = {"scale": [1, 10], "blocks": {"Satisfaction": ["s1"]}}
THEMES = {"price": ["expensive"]}
TEXT = "Expensive, says Quillan Brastowe of +86 199 7123 4567"


def asked(project, column="words", themes=THEMES, **changes):
    project.study(
        clock=None,
        survey=SURVEY | {"comments": {"column": column, "themes": themes}},
        sources={"answers": {"file": "answers.csv"}},
        tables={"survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"}}},
        **changes,
    )
    project.raw("shop", "answers.csv", f'id,s1,words,who\n1,7,"{TEXT}",Ann\n2,8,{TEXT},Bob\n')
    return studies.load("shop")


def stored():
    return [pq.read_table(path) for path in (paths.processed("shop") / "raw").glob("*.parquet")]


def test_no_text_is_stored_even_of_a_row_that_fits_no_header(project):
    rows = pq.read_table(sources.bring_in(asked(project), "answers").paths[0]).to_pylist()
    assert rows[0]["words"] == f"{len(TEXT)} characters; price;"
    parts = ["2", "8", *TEXT.split(","), "Bob"]
    assert json.loads(rows[1]["malformed"]) == [f"{len(part.strip())} characters" for part in parts]
    assert "Quillan" not in str([table.to_pylist() for table in stored()])


def test_a_misspelt_column_stops_before_anything_is_stored(project):
    study = asked(project, column="wrods")
    with pytest.raises(SourceError) as caught:
        sources.bring_in(study, "answers")
    assert str(caught.value) == (
        "studies/shop/study.yaml: survey.comments.column: source answers has no column 'wrods'; did you mean 'words'?"
    )
    assert not stored()


def test_other_themes_make_other_marks_and_equal_ones_are_not_read_again(project):
    first = sources.bring_in(asked(project), "answers")
    assert sources.bring_in(asked(project), "answers").paths == first.paths
    other = sources.bring_in(asked(project, themes={"money": ["expensive"]}), "answers")
    assert pq.read_table(other.paths[0])["words"].to_pylist()[0].endswith("; money;")


def test_comments_need_no_key_and_other_columns_of_people_do(project, monkeypatch):
    said = {"class": "personal", "purpose": "to listen", "lawful_basis": "consent"}
    monkeypatch.delenv("RAPPORT_KEY", raising=False)
    study = asked(project, privacy={"fields": {"answers.words": said}})
    sources.bring_in(study, "answers")
    assert keys.data_digest(study)
    assert not paths.private("shop").exists()
    study = asked(project, privacy={"fields": {"answers.words": said, "answers.who": said}})
    with pytest.raises(studies.RapportError, match="RAPPORT_KEY"):
        sources.bring_in(study, "answers")
    monkeypatch.setenv("RAPPORT_KEY", "a key for these tests")
    rows = pq.read_table(sources.bring_in(study, "answers").paths[0]).to_pylist()
    assert len(rows[0]["who"]) == 32 and rows[0]["words"].endswith("; price;")
    assert "Quillan" not in str([pq.read_table(path).to_pylist() for path in paths.private("shop").glob("*.parquet")])


def test_what_was_stored_before_comments_were_declared_is_removed(project):
    study = asked(project)
    plain = study.model_copy(update={"survey": study.survey.model_copy(update={"comments": None})})
    sources.bring_in(plain, "answers")
    assert "Quillan" in str([table.to_pylist() for table in stored()])
    sources.bring_in(study, "answers")
    sources.bring_in(asked(project, themes={"money": ["expensive"]}), "answers")
    assert len(stored()) == 2, "an earlier state that holds no text stays for a while"
    assert "Quillan" not in str([table.to_pylist() for table in stored()])


def twice(project, answers, people):
    """A study whose customers come from a source of their own, beside that of the survey."""
    project.study(
        clock=None,
        survey=SURVEY | {"comments": {"column": "words", "themes": THEMES}},
        sources={"answers": answers, "people": people},
        tables={
            "customers": {"source": "people", "columns": {"customer_id": "id"}},
            "survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"}},
        },
    )
    return studies.load("shop")


CSV = f'id,s1,words\n1,7,"{TEXT}"\n2,8,fine\n'


@pytest.fixture
def several(project):
    """One content that can be reached in many ways, and another that holds no comment."""
    given = project.raw("shop", "in/answers.csv", CSV)
    project.raw("shop", "people/people.csv", "id\n1\n2\n")
    given.with_name("hard.csv").hardlink_to(given)
    (given.parents[1] / "links").mkdir()
    (given.parents[1] / "links" / "soft.csv").symlink_to(given)
    with zipfile.ZipFile(given.parents[1] / "both.zip", "w") as archive:
        archive.writestr("answers.csv", CSV)
        archive.writestr("people.csv", "id\n1\n2\n")
    book = openpyxl.Workbook()
    for row in (["id", "s1", "words"], ["1", "7", TEXT]):
        book.active.append(row)
    for row in (["id"], ["1"]):
        book.create_sheet("People").append(row) if row == ["id"] else book["People"].append(row)
    book.save(given.parents[1] / "book.xlsx")
    return project


@pytest.mark.parametrize(
    ("answers", "people"),
    [
        ({"file": "in/answers.csv"}, {"file": "in/answers.csv"}),
        ({"file": "in/answers.csv"}, {"file": "./in/answers.csv"}),
        ({"file": "in/answers.csv"}, {"file": "in/answers.csv", "names": ["id", "b", "c"]}),
        ({"file": "in/answers.csv"}, {"file": "in/"}),
        ({"file": "in/answers.csv"}, {"file": "**/ans*.csv"}),
        ({"file": "in/"}, {"file": "in/answers.csv", "delimiter": "tab"}),
        ({"file": "in/answers.csv"}, {"file": "in/hard.csv"}),
        ({"file": "in/answers.csv"}, {"file": "links/soft.csv"}),
        ({"file": "*.zip"}, {"file": "both.zip"}),
        ({"file": "book.xlsx"}, {"file": "book.xlsx", "sheet": "Sheet"}),
        ({"file": "book.xlsx", "sheet": "Sheet"}, {"file": "book.xlsx"}),
    ],
)
def test_no_other_source_reads_the_file_that_comments_lie_in(several, answers, people):
    study = twice(several, answers, people)
    with pytest.raises(SourceError) as caught:
        sources.bring_in(study, "people")
    line = str(caught.value)
    assert line.startswith("studies/shop/study.yaml: sources.people: reads ") and "\n" not in line
    assert line.endswith(
        "like source answers, of whose column 'words' only the themes of survey.comments may be stored; make its tables from "
        "source answers too, or from a file, sheet or view without that column"
    )
    assert not stored()


@pytest.mark.parametrize(
    ("answers", "people"),
    [
        ({"file": "in/answers.csv"}, {"file": "people/"}),
        ({"file": "book.xlsx", "sheet": "Sheet"}, {"file": "book.xlsx", "sheet": "People"}),
    ],
)
def test_a_file_or_sheet_without_comments_is_another_matter(several, answers, people):
    study = twice(several, answers, people)
    for name in study.sources:
        sources.bring_in(study, name)
    assert len(stored()) == 2
    assert "Quillan" not in str([table.to_pylist() for table in stored()])


TABLE = {"database": "sqlite:///survey.db", "table": "Answers", "snapshot": "1"}


def asking(query, database="sqlite:///survey.db"):
    return {"database": database, "query": query, "snapshot": "1"}


@pytest.mark.parametrize(
    ("answers", "people", "said"),
    [
        (TABLE, TABLE, "reads table 'answers' like"),
        (
            TABLE,
            TABLE | {"database": "sqlite:////srv/survey.db", "table": "main.answers"},
            "reads table 'answers' like",
        ),
        (TABLE, asking('select a.id from other o join main."ANSWERS" a using (id)'), "reads table 'answers' like"),
        (asking("select id, s1, words from Answers"), TABLE, "reads table 'answers' like"),
        (
            asking("select * from answers"),
            asking("with w as (select words w from answers) select w from w"),
            "reads table",
        ),
        (TABLE, asking("select * from read_csv('a.csv')"), "its query, or the other's, does not say which tables"),
        (TABLE, asking("selec it"), "its query, or the other's, does not say which tables"),
        (TABLE, asking(" "), "its query, or the other's, does not say which tables"),
    ],
)
def test_no_other_source_reads_the_table_that_comments_lie_in(project, answers, people, said):
    with pytest.raises(SourceError, match=f"sources.people: {said}"):
        sources.check_alone(twice(project, answers, people), "people")


def test_other_tables_of_the_database_may_be_read(project):
    for people in (TABLE | {"table": "people"}, asking("select id from people"), {"file": "people.csv"}):
        sources.check_alone(twice(project, TABLE, people), "people")


def test_what_a_source_stored_before_comments_were_declared_goes_wherever_it_reads_now(several):
    plain = twice(several, {"file": "in/answers.csv"}, {"file": "in/answers.csv"})
    plain = plain.model_copy(update={"survey": plain.survey.model_copy(update={"comments": None})})
    renamed = {"people": plain.sources["people"], "old": plain.sources["people"]}
    for name in renamed:
        sources.bring_in(plain.model_copy(update={"sources": renamed}), name)
    assert str([table.to_pylist() for table in stored()]).count("Quillan") == 2
    sources.bring_in(twice(several, {"file": "in/answers.csv"}, {"file": "people/"}), "people")
    assert "Quillan" not in str([table.to_pylist() for table in stored()])
