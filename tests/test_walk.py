"""The whole walk on a hostile little company: what is published, what runs again, what survives a kill."""

import random
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis import site
from tests import browser
from tests.walk import CUSTOMERS, HOSTILE_CUSTOMER, HOSTILE_PRODUCT, STEPS, Company


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    made = Company(tmp_path_factory.mktemp("company"))
    ran = made.run("reports", "tiny")
    assert ran.returncode == 0, ran.stderr
    return made


def ran_steps(result):
    assert result.returncode == 0, result.stderr
    return re.findall(r"tiny · (\w+): done", result.stderr)


def test_every_report_is_there(company):
    assert {p.name for p in (company.reports / "tiny").glob("*.html")} == {f"{step}.html" for step in STEPS}
    index = (company.reports / "index.html").read_text(encoding="utf-8")
    assert "Tiny &amp; Söhne &lt;b&gt;" in index


def test_no_customer_is_named_in_what_is_published(company):
    for path in company.reports.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [c for c in CUSTOMERS if c in text], path
            assert "cmd|" not in text, path


def test_hostile_names_are_inert_on_the_page(company):
    pages = sorted(company.reports.rglob("*.html"))
    assert not any(HOSTILE_PRODUCT in page.read_text(encoding="utf-8") for page in pages)
    assert browser.check_pages(pages) == []


def test_the_exported_list_starts_no_formula(company):
    exports = sorted((company.root / "data" / "exports" / "tiny").glob("*.csv"))
    assert exports
    for path in exports:
        rows = path.read_text(encoding="utf-8-sig").splitlines()
        assert any(HOSTILE_CUSTOMER in row for row in rows), path
        assert not [row for row in rows if re.match(r'"?[=+\-@\t\r]', row)], path
        parquet = pd.read_parquet(path.with_suffix(".parquet"))
        assert HOSTILE_CUSTOMER in set(parquet.customer_id)


def test_no_traversable_path_of_this_machine_is_published(company):
    for path in company.reports.rglob("*.html"):
        assert str(Path.home()) not in path.read_text(encoding="utf-8")
        assert str(company.root) not in path.read_text(encoding="utf-8")


def test_a_second_run_runs_nothing_and_changes_no_byte(company):
    before = company.files()
    again = company.run("reports", "tiny")
    assert ran_steps(again) == []
    assert company.files() == before


def test_a_changed_parameter_runs_its_notebook_only(company):
    path = company.folder / "05_campaign_evaluation.yaml"
    path.write_text("confidence: 0.9\n", encoding="utf-8")
    try:
        assert ran_steps(company.run("reports", "tiny")) == ["05_campaign_evaluation"]
    finally:
        path.unlink()
    # Back to what was: the old edition is still there, so nothing runs.
    assert ran_steps(company.run("reports", "tiny")) == []


def test_bad_data_fails_with_a_cure_and_leaves_yesterdays_reports(company):
    before = company.files()
    orders = company.raw / "orders.csv"
    content = orders.read_bytes()
    orders.write_bytes(content.replace(b"amount", b"amuont", 1))
    try:
        failed = company.run("reports", "tiny")
    finally:
        orders.write_bytes(content)
    assert failed.returncode == 1
    assert "tiny · 01_data_cleaning: cell 'clean': SourceError" in failed.stderr
    assert "source orders has no column 'amount'; did you mean 'amuont'?" in failed.stderr
    assert "01_data_cleaning.ipynb" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert company.files() == before


def test_a_mistake_in_one_study_does_not_keep_others_from_the_site(company, monkeypatch):
    before = company.files()
    for name, value in company.environment().items():
        monkeypatch.setenv(name, value)
    path = company.folder / "study.yaml"
    content = path.read_text(encoding="utf-8")
    path.write_text("title: [half written\n", encoding="utf-8")
    try:
        site.assemble()
    finally:
        path.write_text(content, encoding="utf-8")
    assert company.files() == before


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_run_is_run_again_to_the_same_bytes(company, seed):
    before = company.files()
    rng = random.Random(seed)
    step = rng.choice(STEPS)
    # Forget the results from a random step on, so that a run has work to be killed in.
    for later in STEPS[STEPS.index(step) :]:
        company.forget(later)
    company.kill_in(step, rng.randint(2, 8))
    assert ran_steps(company.run("reports", "tiny")) == list(STEPS[STEPS.index(step) :])
    assert company.files() == before


def test_check_study_says_what_is_there_without_running(company):
    checked = company.run("check", "tiny")
    assert checked.returncode == 0, checked.stderr
    assert "1 to set aside" in checked.stdout
    assert "unreadable_value (set_aside)" in checked.stdout
    assert "04_satisfaction_loyalty: will run" in checked.stdout
    assert "Kunde" not in checked.stdout


def test_what_a_study_lacks_is_not_run_and_the_index_says_why(tmp_path):
    survey_only = Company(tmp_path)
    path = survey_only.folder / "study.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["tables"] = {"survey_responses": content["tables"]["survey_responses"]}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    assert ran_steps(survey_only.run("reports", "tiny")) == ["01_data_cleaning", "04_satisfaction_loyalty"]
    index = (survey_only.reports / "index.html").read_text(encoding="utf-8")
    assert "the study has no order lines" in index
    assert "the study has no campaigns and no contacts" in index


def test_unknown_notebooks_and_parameters_are_refused_before_anything_runs(company):
    path = company.folder / "06_magic.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    refused = company.run("reports", "tiny")
    path.unlink()
    assert refused.returncode == 1
    assert "no notebook is called 06_magic; choose from 01_data_cleaning" in refused.stderr
    path = company.folder / "02_customer_valuation.yaml"
    path.write_text("horizon_weeks: long\n", encoding="utf-8")
    refused = company.run("reports", "tiny")
    path.unlink()
    assert refused.returncode == 1
    assert "02_customer_valuation.yaml: horizon_weeks: Input should be a valid integer" in refused.stderr
