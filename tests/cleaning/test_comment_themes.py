"""Comments in the cleaned tables: the same on every engine, and set-aside rows hold none of their text."""

import ibis
import pytest

from analysis import cleaning
from analysis import study as studies
from analysis.sources import SourceError
from analysis.study import StudyError

SURVEY = {
    "scale": [1, 10],
    "blocks": {"Satisfaction": ["s1"]},
    "comments": {"column": "words", "themes": {"price": ["price*", "太贵"], "delivery": ["late", "送货"]}},
}
ANSWERS = [
    ("1", "7", "PRICEY, and late"),
    ("2", "8", "东西太贵了，送货慢"),
    ("3", "3", "chocolate for Quillan"),
    ("4", "5", ""),
    ("5", "6", "..."),
    ("5", "6", "late, says Brastowe"),  # repeats an id
    ("6", "", "price of Ottoline"),  # answers nothing
    ("7", "9", "late"),
]
FLAGS = ("comment_given", "comment_price", "comment_delivery", "comment_other")
YES, NO = True, False
EXPECTED = {
    "1": (YES, YES, YES, NO),
    "2": (YES, YES, YES, NO),
    "3": (YES, NO, NO, YES),
    "4": (NO, NO, NO, NO),
    "7": (YES, NO, YES, NO),
}


def asked(project, source, **changes):
    project.study(
        clock=None,
        survey=SURVEY,
        sources={"answers": source},
        tables={"survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"}}},
        **changes,
    )


def check(cleaned):
    rows = cleaned.tables["survey_responses"].to_pyarrow().to_pylist()
    assert set(rows[0]) == {"response_id", "s1", *FLAGS}
    found = {row["response_id"]: tuple(row[flag] for flag in FLAGS) for row in rows}
    assert {id_: flags for id_, flags in found.items() if id_ != "5"} == EXPECTED
    cleaning.assert_conserved(cleaned.ledger)
    aside = str(cleaned.quarantine.to_pyarrow().to_pylist())
    assert "17 characters; price;" in aside
    everything = aside + str([t.to_pyarrow().to_pylist() for t in (*cleaned.tables.values(), *cleaned.raw.values())])
    assert not [word for word in ("Quillan", "Brastowe", "Ottoline", "太贵", "PRICEY") if word in everything]
    return sorted(map(str, rows))


def test_themes_are_the_same_on_every_engine(project, engine_settings):
    lines = "".join(f'{id_},{s1},"{words}"\n' for id_, s1, words in ANSWERS)
    project.raw("shop", "answers.csv", "id,s1,words\n" + lines + "8,8,late,and,Thaddea\n")
    asked(project, {"file": "answers.csv"}, engine=engine_settings)
    cleaned = project.clean()
    check(cleaned)
    assert '["1 characters", "1 characters", "4 characters", "3 characters", "7 characters"]' in str(
        cleaned.quarantine.to_pyarrow()["raw_values"].to_pylist()
    )


def test_comments_in_the_database_itself_are_not_used_in_place(project, postgres):
    server = ibis.connect(postgres)
    server.create_table(
        "wordy", ibis.memtable([dict(zip(("id", "s1", "words"), row)) for row in ANSWERS]), overwrite=True
    )
    asked(
        project,
        {"database": postgres, "table": "wordy", "snapshot": "1"},
        engine={"kind": "postgres", "database": postgres},
    )
    cleaned = project.clean()
    check(cleaned)
    assert "the latter become themes" in cleaned.notes[0]
    for other in ({"table": "wordy"}, {"query": "select id from wordy"}):
        again = {"database": postgres, "snapshot": "1"} | other
        project.study(
            clock=None,
            survey=SURVEY,
            sources={"answers": {"database": postgres, "table": "wordy", "snapshot": "1"}, "people": again},
            tables={
                "customers": {"source": "people", "columns": {"customer_id": "id"}},
                "survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"}},
            },
            engine={"kind": "postgres", "database": postgres},
        )
        with pytest.raises(SourceError, match="sources.people: reads table 'wordy' like source answers"):
            project.clean()
    server.drop_table("wordy")
    server.disconnect()


def test_the_register_says_what_becomes_of_a_comment(project):
    project.raw("shop", "answers.csv", "id,s1,words\n1,7,late\n")
    asked(project, {"file": "answers.csv"})
    given = studies.load("shop")
    row = cleaning.register(given, project.clean().raw).set_index("column").loc["words"]
    assert row["mapped_to"] == ", ".join(f"survey_responses.{flag}" for flag in FLAGS)


COMMENTS = SURVEY["comments"]


@pytest.mark.parametrize(
    ("comments", "columns", "message"),
    [
        ({"themes": {"price": []}}, {}, "survey.comments.themes.price: names no word; list at least one"),
        ({"themes": {}}, {}, "survey.comments.themes: names no theme; write for example"),
        ({"themes": {"Preis!": ["a"]}}, {}, "survey.comments.themes: 'Preis!' cannot name a theme; use lower-case"),
        ({"themes": {"too__long": ["a"]}}, {}, "survey.comments.themes: 'too__long' cannot name a theme"),
        ({"themes": {"other": ["a"]}}, {}, "survey.comments.themes: 'other' is taken"),
        ({"themes": {"price": ["*"]}}, {}, "survey.comments.themes.price: '*' has no letter"),
        ({"themes": {"price": ["a*b"]}}, {}, "survey.comments.themes.price: 'a*b': * can only stand at the end"),
        ({"themes": {"price": "dear"}}, {}, "survey.comments.themes.price: Input should be a valid tuple; found 'dear'"),
        ({"themes": {"price": [5]}}, {}, "survey.comments.themes.price.0: Input should be a valid string; found '5'"),
        ({"colunm": "words"}, {}, "survey.comments.colunm is not a known key; check its spelling"),
        ({}, {"s1": "words"}, "tables.survey_responses.columns.s1: 'words' is survey.comments.column, of which only themes"),
        ({}, {"comment_given": "s1"}, "tables.survey_responses.columns.comment_given: survey.comments makes a column of this"),
        ({}, {"response_id": {"combine": ["id", "words"]}}, "tables.survey_responses.columns.response_id: 'words' is survey."),
    ],
)  # fmt: skip
def test_a_mistake_in_comments_is_one_line(project, comments, columns, message):
    project.study(
        clock=None,
        survey=SURVEY | {"comments": COMMENTS | comments},
        sources={"answers": {"file": "answers.csv"}},
        tables={"survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"} | columns}},
    )
    with pytest.raises(StudyError) as caught:
        studies.load("shop")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("survey", "place"),
    [
        ({"blocks": {"Satisfaction": ["s1", "comment_quality"]}}, "survey.blocks.Satisfaction: 'comment_quality'"),
        ({"recommend": {"item": "Comment_nps"}}, "survey.recommend.item: 'Comment_nps'"),
        ({"delivered_value": {"values": {"image": "s1"}, "costs": {"time": "comment_t"}}}, "survey.delivered_value.costs.time: "),
        ({"wave": "comment_wave"}, "survey.wave: 'comment_wave'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("comments", [COMMENTS, None])
def test_no_item_is_called_like_a_theme(project, survey, place, comments):
    project.study(
        clock=None,
        survey={k: v for k, v in (SURVEY | {"comments": comments} | survey).items() if v},
        sources={"answers": {"file": "answers.csv"}},
        tables={"survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"}}},
    )
    with pytest.raises(StudyError) as caught:
        studies.load("shop")
    assert place in str(caught.value)
    assert str(caught.value).endswith("begins like the themes of survey.comments; rename the item")


def test_a_word_may_stand_in_two_themes_and_comments_need_a_survey(project):
    asked(project, {"file": "answers.csv"})
    both = COMMENTS | {"themes": {"price": ["late"], "delivery": ["late"]}}
    project.raw("shop", "answers.csv", "id,s1,words\n1,7,late\n")
    project.study(
        clock=None,
        survey=SURVEY | {"comments": both},
        sources={"answers": {"file": "answers.csv"}},
        tables={"survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"}}},
    )
    [row] = project.clean().tables["survey_responses"].to_pyarrow().to_pylist()
    assert row["comment_price"] and row["comment_delivery"] and not row["comment_other"]
    project.study(survey=SURVEY)
    with pytest.raises(StudyError, match="survey.comments: needs tables.survey_responses"):
        studies.load("shop")
