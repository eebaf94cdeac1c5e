"""When a column becomes guarded, nothing that was kept from before holds its values, and the run says what it removed."""

import pyarrow.parquet as pq
import pytest

from analysis import cleaning, execute, open_step, paths, store
from analysis.run import Reporter, run_study
from analysis.step import STAGING_VARIABLE

STEP = "01_data_cleaning"
SURVEY = {"scale": [1, 10], "blocks": {"Satisfaction": ["s1"]}}
COMMENTS = {"comments": {"column": "words", "themes": {"price": ["price"]}}}
OLDER = "older results, which may hold values of columns that have since been declared personal or comments"


def without_kernel(study, step, parameters, inputs, key, progress):
    """What notebooks leave, without their words: 01 its quarantine, every step its manifest."""
    staging = store.stage(study, step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STAGING_VARIABLE, str(staging))
        opened = open_step(step, study=study)
        if step == STEP:
            opened.write("quarantine", cleaning.clean(opened.study, opened.connection).quarantine)
        opened._findings.append({"id": "counted", "answer": True, "figure": None})
        opened.commit()
    store.publish(study, step, staging, key)


@pytest.fixture
def declare(project, monkeypatch):
    """Says what the study declares of a survey, one row of which is set aside."""
    project.raw("shop", "answers.csv", "id,s1,words\n1,7,fine\n1,8,price of Quillan\n2,8,good\n")
    monkeypatch.setattr(execute, "execute", without_kernel)
    tables = {"survey_responses": {"source": "answers", "columns": {"response_id": "id", "s1": "s1"}}}
    given = {"clock": None, "sources": {"answers": {"file": "answers.csv"}}, "tables": tables}
    return lambda survey, **changes: project.study(survey=survey, **given, **changes)


def run():
    """What a run says."""
    heard = []
    report = Reporter()
    report.say = heard.append
    try:
        run_study("shop", report)
    except execute.NotebookError as error:
        heard.append(str(error))
    return heard


def holding(word):
    """The kept files that hold ``word``."""
    found = []
    for root in (paths.processed("shop"), paths.build()):
        for path in (p for p in root.rglob("*") if p.is_file()):
            text = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text("utf-8")
            found += [path] if word in text else []
    return found


def test_what_was_kept_from_before_goes_once_a_run_has_succeeded(declare, monkeypatch):
    declare(SURVEY)
    assert run() == []
    store.write_text(paths.processed("shop") / "pages" / f"{STEP}-1.html", "Quillan")
    store.write_text(paths.build() / "failed" / "shop" / f"{STEP}.ipynb", "Quillan")
    store.write_text(paths.processed("shop") / "raw" / "answers-0123456789abcdef.1.partial", "Quillan")
    paths.exports("shop").mkdir(parents=True)
    assert len(holding("Quillan")) == 5  # raw rows, quarantine, page, failed notebook, what a killed run left
    before = store.kept("shop", STEP)

    declare(SURVEY | COMMENTS)

    def fails(*_):
        raise execute.NotebookError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(execute, "execute", fails)
        assert run() == [f"shop: this run, once it has succeeded, removes {OLDER}", "stopped"]
    assert store.kept("shop", STEP) == before, "what was published stands while there is nothing new"

    assert run() == [
        f"shop: this run, once it has succeeded, removes {OLDER}",
        f"shop: removed {OLDER}: {STEP} (1), 04_satisfaction_loyalty (1)",
        f"shop: look yourself for what earlier runs left there: {paths.shown(paths.exports('shop'))}",
    ]
    assert holding("Quillan") == []
    assert len(store.kept("shop", STEP)) == 1 and store.current("shop", STEP)
    assert run() == [], "it is said once"

    declare(SURVEY | {"comments": COMMENTS["comments"] | {"themes": {"money": ["price"]}}})
    assert run() == []
    assert len(store.kept("shop", STEP)) == 2, "an edition in which the column was guarded is kept"


def test_what_a_killed_removal_left_is_removed_too(declare):
    declare(SURVEY)
    run()
    [old] = store.kept("shop", STEP)
    declare(SURVEY | COMMENTS)
    (old / store.MANIFEST).unlink()
    run()
    assert not old.exists() and holding("Quillan") == []


def test_a_column_that_is_declared_personal_goes_from_older_editions_too(declare, monkeypatch):
    monkeypatch.setenv("RAPPORT_KEY", "a key for these tests")
    declare(SURVEY)
    run()
    declare(SURVEY, privacy={"personal": ["answers.words"]})
    assert any("removed" in line for line in run())
    assert holding("Quillan") == []
