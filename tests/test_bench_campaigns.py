"""The benchmark of campaigns: its campaign has the effects it says, ours runs, and ratios and worse quality show."""

import importlib
import shutil
import subprocess
import sys

import pytest

from analysis import paths

BENCHMARKS = paths.ROOT / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    # The room of the same name is analysis.campaigns; this one is found by its folder.
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("campaigns")
    finally:
        sys.path.remove(str(BENCHMARKS))
        sys.modules.pop("campaigns")


def test_the_campaign_is_randomised_and_has_the_effects_it_says(bench):
    frame = bench.campaign(40_000, 1)
    assert frame.equals(bench.campaign(40_000, 1))
    strong = frame["effect"] > frame["effect"].median()
    for part in (frame[strong], frame[~strong]):
        rates = part.groupby("arm")["y"].agg(["mean", "var", "size"])
        error = (rates["var"] / rates["size"]).sum() ** 0.5
        assert abs(rates["mean"].diff().iloc[-1] - part["effect"].mean()) < 4 * error
    assert (frame["effect"] < 0).mean() > 0.1


@pytest.mark.parametrize("task", ["t", "qini"])
def test_ours_tells_what_it_took_and_how_good_it_is(bench, tmp_path, task):
    bench.make("2000", tmp_path)
    cost = bench._child("ours", "ours", task, tmp_path)
    assert cost.done and cost.said["cpu"] > 0 and cost.memory > 0
    if task != "qini":
        assert 0.3 < bench._child("ours", "assess", tmp_path, "ours", task).said["share"] < 1


def test_ratios_and_worse_quality_are_printed(bench, capsys):
    cost = bench.measure.Cost(3.0, 3.0, 0.5, "done", {"cpu": 2.0})
    mine = {"t": (0.1, 0.90)}
    assert bench._beside("43000", "forest", "causalml", cost, 0.80, mine) == "20.0"
    bench._beside("1000000", "t", "causalml", cost, 0.95, mine)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "RATIO campaigns-43k-forest causalml 20.0",
        "RATIO campaigns-1m-t causalml 20.0",
        "WORSE campaigns-1m-t causalml 0.950 (ours 0.900)",
    ]


def test_rows_of_other_sizes_stay(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "campaigns.md")
    bench._keep("1000000", ["| 1000000 | t | ours | old |"])
    bench._keep("43000", ["| 43000 | t | ours | old |"])
    bench._keep("43000", ["| 43000 | t | ours | new |"])
    rows = [line for line in bench.RESULTS.read_text().splitlines() if bench._size(line)]
    assert rows == ["| 43000 | t | ours | new |", "| 1000000 | t | ours | old |"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_runs_it_and_only_it():
    said = subprocess.run(
        ["make", "-n", "bench", "ONLY=campaigns", "PY=python"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "benchmarks/campaigns.py" in said and "benchmarks/loyalty.py" not in said
