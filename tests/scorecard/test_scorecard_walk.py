"""A small company from simulation to published scorecard, as a person runs it."""

import csv
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from analysis import paths, store
from analysis.steps import STEPS
from tests import browser

SCORECARD = "08_scorecard"
SECTIONS = [f"0{k}" for k in range(1, 6)]
VERDICTS = {"yes", "no", "no interval", "not found today"}


class Company:
    """A temporary project with one study, ``small``: the simulated grocer with 1,000 customers."""

    def __init__(self, root):
        self.root, self.folder = root, root / "studies" / "small"
        shutil.copytree(paths.ROOT / "studies" / "demo_company", self.folder)
        study = yaml.safe_load((self.folder / "study.yaml").read_text(encoding="utf-8"))
        study["simulation"] = {"world": "company", "customers": 1000, "seed": 2}
        (self.folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
        (self.folder / f"{SCORECARD}.yaml").write_text("respondents: 20000\ndraws: 200\n", encoding="utf-8")

    def run(self, *arguments):
        folders = {"STUDIES": "studies", "DATA": "data", "REPORTS": "reports", "BUILD": "build"}
        environment = os.environ | {f"RAPPORT_{name}": str(self.root / folder) for name, folder in folders.items()}
        command = [sys.executable, "-m", "analysis.run", *arguments]
        return subprocess.run(
            command, env=environment, cwd=paths.ROOT / "src", capture_output=True, text=True, timeout=900
        )

    @property
    def edition(self):
        steps = self.root / "data" / "processed" / "small" / SCORECARD
        return steps / (steps / store.CURRENT).read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    made = Company(tmp_path_factory.mktemp("simulated"))
    made.ran = made.run("scorecard", "small", "--jobs", "1")
    assert made.ran.returncode == 0, made.ran.stderr
    return made


def test_all_six_notebooks_run_and_are_published(company):
    assert re.findall(r"small · (\w+): done", company.ran.stderr) == list(STEPS)
    assert {p.stem for p in (company.root / "reports" / "small").glob("*.html")} == set(STEPS)


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
    page = (company.root / "reports" / "small" / f"{SCORECARD}.html").read_text(encoding="utf-8")
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
    assert browser.check_pages([company.root / "reports" / "small" / f"{SCORECARD}.html"]) == []


def test_a_second_run_runs_nothing(company):
    again = company.run("scorecard", "small", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert re.findall(r"small · (\w+): done", again.stderr) == []
    assert again.stdout == company.ran.stdout
