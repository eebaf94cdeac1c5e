"""The benchmark of cleaning: its files repeat, its peers come to our result, and it sees when one does not."""

import importlib
import os
import subprocess
import sys

import duckdb
import pytest

from analysis import paths

BENCHMARKS = paths.ROOT / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("cleaning")
    finally:
        sys.path.remove(str(BENCHMARKS))
        sys.modules.pop("cleaning")


@pytest.fixture(scope="module")
def results(bench, tmp_path_factory):
    """Way -> the folder with its tables, and what it said; from files of 20,000 lines."""
    home = tmp_path_factory.mktemp("bench")
    files = home / "files"
    files.mkdir()
    bench.make(20_000, files)
    environment = bench.settle(home, files)
    costs = {}
    for way in ("ours", "sql", "pandas"):
        (home / way).mkdir()
        costs[way] = bench._child(way, files, home / way, environment=environment)
        assert costs[way].done, way
    return home, costs


def test_files_repeat(bench, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        bench.make(5_000, tmp_path / name)
    for file in ("orders.csv", "products.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


@pytest.mark.parametrize("peer", ["sql", "pandas"])
def test_peers_come_to_our_result(bench, results, peer):
    home, costs = results
    assert bench.differences(home / "ours", home / peer) == {}
    assert costs[peer].said["reasons"] == costs["ours"].said["reasons"]
    assert {"duplicate_key", "currency_sign", "ambiguous_date", "amount_mismatch"} <= set(costs[peer].said["reasons"])


def test_a_difference_shows(bench, results, tmp_path):
    home, _ = results
    for table in bench.TABLES:
        change = "REPLACE (net_amount + 1 AS net_amount)" if table == "order_lines" else ""
        order = "ORDER BY row_number DESC" if table == "quarantine" else ""
        duckdb.connect().execute(
            f"COPY (SELECT * {change} FROM '{home}/sql/{table}.parquet' {order}) TO '{tmp_path}/{table}.parquet'"
        )
    found = bench.differences(home / "ours", tmp_path)
    assert found["quarantine"].endswith("rows")
    assert set(found) == {"order_lines", "quarantine"}


def test_a_peer_that_takes_too_long_is_stopped(bench):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    cost = sys.modules["measure"].run(command, dict(os.environ), limit=0.5)
    assert cost.outcome == "too slow" and cost.wall < 30


@pytest.mark.parametrize(("only", "scripts"), [("walk", ["walk"]), ("scale", ["scale"]), ("cleaning", ["cleaning"])])
def test_make_runs_only_what_is_asked_for(only, scripts):
    said = subprocess.run(
        ["make", "-n", "bench", f"ONLY={only}", "PY=python"], cwd=paths.ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in ("walk", "scale", "cleaning") if f"benchmarks/{name}.py" in said] == scripts
