"""The benchmark of segmentation: its file repeats, engines come to the frame's result, and it sees when one does not."""

import importlib
import shutil
import subprocess
import sys

import duckdb
import ibis
import pandas as pd
import pytest

from analysis import paths, segmentation, valuation
from analysis.engine import Spark
from analysis.study import EngineSettings

BENCHMARKS = paths.ROOT / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("segmentation")
    finally:
        sys.path.remove(str(BENCHMARKS))
        sys.modules.pop("segmentation")


@pytest.fixture(scope="module")
def made(bench, tmp_path_factory):
    """The file of 4,000 customers, and what ours makes of it."""
    home = tmp_path_factory.mktemp("bench")
    bench.make(4_000, home)
    (home / "ours").mkdir()
    cost = bench._child("ours", home, home / "ours")
    assert cost.done and cost.said["rows"] == 4_000 and cost.said["cpu"] > 0
    return home


def test_the_file_repeats_and_keeps_the_contract(bench, made, tmp_path):
    bench.make(4_000, tmp_path)
    same = duckdb.connect().execute(
        f"SELECT count(*) FROM '{made / bench.FILE}' a POSITIONAL JOIN '{tmp_path / bench.FILE}' b WHERE a IS DISTINCT FROM b"
    )
    assert same.fetchone() == (0,)
    from analysis.tables import CONTRACTS

    CONTRACTS["customer_summary"].validate(ibis.duckdb.connect().read_parquet(made / bench.FILE))


def test_ours_is_what_the_notebooks_compute_from_a_frame(bench, made):
    summary = pd.read_parquet(made / bench.FILE)
    edges = valuation.rfm_edges(summary)
    for name, column in (("r_score", "recency_days"), ("f_score", "frequency"), ("m_score", "spend")):
        group = edges[name].group(summary[column])
        summary[name] = 5 - group if name == "r_score" else group + 1
    summary["rfm_product"] = summary["r_score"] * summary["f_score"] * summary["m_score"]
    summary["value_tier"], _ = segmentation.assign_tiers(summary["rfm_product"], summary["T"])
    found = pd.read_parquet(made / "ours" / "tiers.parquet").sort_values("customer_id", ignore_index=True)
    expected = summary[list(bench.FOUND)].sort_values("customer_id", ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert {"protect", "invest", "let_go"} <= set(found["value_tier"])


def test_spark_comes_to_the_same_row_for_row(bench, made, spark, tmp_path):
    engine = Spark(EngineSettings.model_validate(spark), ibis.duckdb.connect(), tmp_path / "scratch")
    landed = engine.land(bench.tiers(engine.read([made / bench.FILE])))
    bench._keep(landed.to_pyarrow(), tmp_path)
    found = bench.compare(made / "ours", tmp_path)
    assert found["differ"] == 0 and found["rows"] == 4_000
    assert found["hashes"][0] == found["hashes"][1]


def test_a_difference_shows(bench, made, tmp_path):
    for name, change in {"one": "REPLACE (m_score + (row_number() OVER () = 7)::INT AS m_score)", "less": ""}.items():
        (tmp_path / name).mkdir()
        rows = "" if name == "one" else "LIMIT 3999"
        duckdb.connect().execute(
            f"COPY (SELECT * {change} FROM '{made}/ours/tiers.parquet' {rows}) TO '{tmp_path}/{name}/tiers.parquet'"
        )
        found = bench.compare(made / "ours", tmp_path / name)
        assert found["differ"] == 1 and found["hashes"][0] != found["hashes"][1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_runs_it_and_only_it():
    said = subprocess.run(
        ["make", "-n", "bench", "ONLY=segmentation", "PY=python"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "benchmarks/segmentation.py" in said and "benchmarks/valuation.py" not in said
