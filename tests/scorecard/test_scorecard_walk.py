"""A small company from simulation to published scorecard, as a person runs it; and that committed notebooks show what it gives."""

import csv
import os
import re
import subprocess
import sys

import pytest

from analysis import keys, paths, run, store
from analysis import study as studies
from analysis.execute import plain_run
from analysis.steps import STEPS, upstream
from tests import browser

STUDY, SCORECARD = "demo_sample", "08_scorecard"
SECTIONS = [f"0{k}" for k in range(1, 6)]
SANITIZE = """\
[pictures]
regex: iVBORw0KGgo[A-Za-z0-9+/=\\n]+
replace: PICTURE
"""
VERDICTS = {"yes", "no", "no interval", "not found today"}


class Company:
    """The published results of one study, ``demo_sample``, in temporary folders."""

    def __init__(self, root):
        self.root = root

    @property
    def environment(self):
        folders = {"DATA": "data", "REPORTS": "reports", "BUILD": "build"}
        return {f"RAPPORT_{name}": str(self.root / folder) for name, folder in folders.items()}

    def run(self, *arguments):
        command = [sys.executable, "-m", "analysis.run", *arguments]
        environment = os.environ | self.environment
        return subprocess.run(
            command, env=environment, cwd=paths.ROOT / "src", capture_output=True, text=True, timeout=900
        )

    @property
    def edition(self):
        steps = self.root / "data" / "processed" / STUDY / SCORECARD
        return steps / (steps / store.CURRENT).read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    made = Company(tmp_path_factory.mktemp("simulated"))
    made.ran = made.run("scorecard", STUDY, "--jobs", "1")
    assert made.ran.returncode == 0, made.ran.stderr
    return made


def test_all_six_notebooks_run_and_are_published(company):
    assert re.findall(rf"{STUDY} · (\w+): done", company.ran.stderr) == list(STEPS)
    assert {p.stem for p in (company.root / "reports" / STUDY).glob("*.html")} == set(STEPS)


def test_the_one_table_has_every_section_and_a_verdict_a_row(company):
    with (company.edition / "csv" / "scorecard.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted({row["notebook"] for row in rows}) == SECTIONS
    assert {row["holds"] for row in rows} <= VERDICTS
    bounded = [row for row in rows if row["low"] and row["high"]]
    assert len(bounded) > 25  # paths, effects and values
    for row in bounded:
        planted, low, high = (float(row[name]) for name in ("planted", "low", "high"))
        close = min(abs(planted - low), abs(planted - high)) < 1e-3 * (high - low)  # the table has four digits
        assert close or (row["holds"] == "yes") == (low <= planted <= high)


def test_the_answer_counts_the_table(company):
    with (company.edition / "csv" / "scorecard.csv").open(encoding="utf-8-sig", newline="") as file:
        holds = [row["holds"] for row in csv.DictReader(file)]
    [answer] = [f for f in store.read_json(company.edition / "findings.json") if f["answer"]]
    judged = holds.count("yes") + holds.count("no")
    assert answer["value"] == pytest.approx(holds.count("yes") / judged)
    assert f"{holds.count('yes')} of {judged} intervals hold what was planted" in answer["sentence"]
    assert answer["low"] < answer["value"] < answer["high"] or answer["value"] == 1.0


def test_the_terminal_shows_the_table_in_120_columns(company):
    printed = company.ran.stdout
    assert max(map(len, printed.splitlines())) <= 120
    for text in ("planted", "found", "Satisfaction → Loyalty", "not found today", "intervals hold what was planted"):
        assert text in printed


def test_every_section_is_on_the_page(company):
    page = (company.root / "reports" / STUDY / f"{SCORECARD}.html").read_text(encoding="utf-8")
    for heading in (
        "Data cleaning",
        "Customer valuation",
        "Segmentation",
        "Satisfaction and loyalty",
        "Campaign evaluation",
    ):
        assert f">{heading}</h2>" in page
    assert not re.search(r"[CD]\d{8}", page)  # nobody's number


def test_the_page_is_sound_in_a_browser(company):
    assert browser.check_pages([company.root / "reports" / STUDY / f"{SCORECARD}.html"]) == []


def test_a_second_run_runs_nothing(company):
    again = company.run("scorecard", STUDY, "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert re.findall(rf"{STUDY} · (\w+): done", again.stderr) == []
    assert again.stdout == company.ran.stdout


def test_the_committed_outputs_reproduce(company, tmp_path, monkeypatch):
    """Each committed notebook is run again, cell by cell; what one reads of another study's run is made first."""
    for name, value in company.environment.items():
        monkeypatch.setenv(name, value)
    shown = run.committed_studies()
    for step, name in shown.items():
        for before in upstream(STEPS[step], studies.load(name)):
            if name not in (STUDY, shown[before]):
                plain_run(before, name)
    # Pictures differ in a few pixels between processors; the numbers in them stand in the texts and tables, which must not.
    rules = tmp_path / "sanitize.cfg"
    rules.write_text(SANITIZE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", str(rules)]
    command += ["-q", "-p", "no:cacheprovider", "--nbval-cell-timeout", "300"]
    command += [str(keys.notebook_path(step)) for step in STEPS]
    ran = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, "run make notebooks, and look at what changed:\n" + ran.stdout[-6000:]
