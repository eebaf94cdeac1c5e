"""What scoring and grouping customers costs, on DuckDB and on Spark, beside reading the same table.

    python benchmarks/segmentation.py [CUSTOMERS ...]        (default 1000000; SIZE=full adds 10000000)

From a Parquet file with one row a customer: edges of recency, frequency and spend, the three scores, their product, its cuts and
every customer's value tier, all on the engine. ``ours`` does it on DuckDB, ``spark`` is the same code on Spark (local[2]),
``scan`` reads the columns that it needs. What comes out lands in memory as Arrow, on Spark as Parquet. CPU seconds count from
when a process has imported what it needs, and on Spark from when there is a session; they include those of its Java machine.
Prints

    RATIO segmentation-<size> scan <CPU seconds of scan / ours>
    EQUAL segmentation-<size> spark <rows>         (or DIFFERS …: rows of which any column is not the same)

The table goes to the terminal and to ``benchmarks/results/segmentation.md``.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    import ibis
    import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "segmentation.md"
PLACE = ROOT / "build" / "bench"
SIZES = (1_000_000,)
FULL = 10_000_000
LIMIT = 120.0  # seconds of wall time that scan may take
QUICK, REPEATS = 2.0, 5  # what takes less than so many seconds on DuckDB is done so many times
FILE = "customer_summary.parquet"
READ = ("customer_id", "recency_days", "frequency", "spend", "T")
FOUND = ("customer_id", "r_score", "f_score", "m_score", "rfm_product", "value_tier")

# -- the file ----------------------------------------------------------------------------------------------------------

# Many bought once, few often; amounts to the cent, with heavy tails and a few who took back more than they paid.
_SUMMARY = """
WITH drawn AS (
    SELECT i, (hash(i, 'a') % 1000003) / 1000003.0 AS a, (hash(i, 'b') % 1000003) / 1000003.0 AS b,
        (hash(i, 'c') % 1000003) / 1000003.0 AS c, 30 + (hash(i, 't') % 700)::BIGINT AS age
    FROM range({customers}) t(i)
), bought AS (
    SELECT *, least(floor(1.5 * (power(1 - a, -0.6) - 1)), age)::BIGINT AS x FROM drawn
)
SELECT 'C' || lpad(i::VARCHAR, 9, '0') AS customer_id, x AS frequency,
    CASE WHEN x = 0 THEN 0 ELSE greatest(floor(age * power(b, 1.0 / (x + 1))), 1) END::DOUBLE AS recency,
    age::DOUBLE AS "T",
    CASE WHEN x = 0 THEN 0 ELSE round(20 * exp(1.2 * (c - 0.5)), 2) END::DOUBLE AS monetary_value,
    CASE WHEN x = 0 THEN age ELSE age - greatest(floor(age * power(b, 1.0 / (x + 1))), 1) END::DOUBLE AS recency_days,
    x + 1 AS orders,
    round((x + 1) * 20 * exp(1.2 * (c - 0.5)) - CASE WHEN hash(i, 'back') % 500 = 0 THEN 60 ELSE 0 END, 2)::DOUBLE AS spend
FROM bought
"""


def make(customers: int, folder: Path) -> None:
    """Write ``customer_summary.parquet`` of a company with so many customers: the same rows for the same number."""
    import duckdb

    part = folder / f"{FILE}.partial"
    duckdb.sql(f"COPY ({_SUMMARY.format(customers=customers)}) TO '{part}' (FORMAT parquet)")
    part.rename(folder / FILE)


# -- the work ----------------------------------------------------------------------------------------------------------


def tiers(summary: ibis.Table) -> ibis.Table:
    """Scores, product and value tier of every customer, as the notebooks of valuation and segmentation define them."""
    from analysis import segmentation, valuation

    scored = valuation.add_rfm_scores(summary, valuation.rfm_edges(summary))
    return segmentation.add_value_tier(scored, segmentation.tier_cuts_on_engine(scored)).select(*FOUND)


def _loaded() -> tuple:
    """The engines and their settings, when all that the work needs has been imported: before a clock starts."""
    from analysis import engine, segmentation, study, valuation

    assert segmentation and valuation
    return engine, study.EngineSettings


def ours(files: Path, result: Path) -> None:
    engine, settings = _loaded()
    with tempfile.TemporaryDirectory(dir=result) as scratch:
        there = engine.Engine(settings(), engine.connect(), Path(scratch) / "scratch")
        _keep(_measured(lambda: _arrow(there.backend, tiers(there.read([files / FILE])))), result)


def spark(files: Path, result: Path) -> None:
    engine, settings = _loaded()
    options = {"spark.driver.memory": "6g", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    options["spark.sql.shuffle.partitions"] = "4"
    chosen = settings.model_validate({"kind": "spark", "master": "local[2]", "options": options})
    with tempfile.TemporaryDirectory(dir=result) as scratch:
        there = engine.Spark(chosen, engine.connect(), Path(scratch) / "scratch")
        clock = _Clock(there.backend._session.sparkContext._gateway.proc.pid)
        landed = there.land(tiers(there.read([files / FILE])))
        rows = landed.count().to_pyarrow().as_py()
        cpu, wall = clock.took()
        measure.report(cpu=cpu, wall=wall, rows=rows)
        _keep(_arrow(there.local, landed), result)


def scan(files: Path, result: Path) -> None:
    """Reading alone, into memory as Arrow."""
    engine, _ = _loaded()
    local = engine.connect()
    _measured(lambda: _arrow(local, local.read_parquet(files / FILE).select(*READ)))


def _measured(task: Callable[[], pa.Table]) -> pa.Table:
    """Do a task and tell what it took. A quick one is done several times, and the median counts."""
    took: list[tuple[float, float]] = []
    while not took or (sum(cpu for cpu, _ in took) < QUICK and len(took) < REPEATS):
        clock = _Clock()
        found = task()
        took.append(clock.took())
    cpu, wall = sorted(took)[len(took) // 2]
    measure.report(cpu=cpu, wall=wall, rows=found.num_rows)
    return found


def _arrow(backend: ibis.BaseBackend, table: ibis.Table) -> pa.Table:
    import ibis

    # Ibis 12 calls a method for whole tables that DuckDB 2 no longer has.
    return backend.con.sql(ibis.to_sql(table, dialect="duckdb")).to_arrow_table()


def _keep(found: pa.Table, result: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(found.select(list(FOUND)), result / "tiers.parquet")


class _Clock:
    """Seconds of this process, and of one that works for it, since it had imported what it needs."""

    def __init__(self, worker: int | None = None) -> None:
        self.worker = worker
        self.began, self.started = self._cpu(), time.monotonic()

    def _cpu(self) -> float:
        used = time.process_time()
        if self.worker is not None:
            fields = Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: see proc(5)
        return used

    def took(self) -> tuple[float, float]:
        """CPU and wall seconds up to now."""
        return self._cpu() - self.began, time.monotonic() - self.started


def compare(one: Path, other: Path) -> dict[str, object]:
    """Customers of whom the two results say different things, and a hash of each that the order of rows does not change."""
    import duckdb

    connection = duckdb.connect()
    a, b = (f"'{folder / 'tiers.parquet'}'" for folder in (one, other))
    same = " AND ".join(f"a.{c} IS NOT DISTINCT FROM b.{c}" for c in FOUND)
    sql = f"SELECT count(*) FILTER (WHERE NOT ({same})) FROM {a} a FULL JOIN {b} b ON a.customer_id = b.customer_id"
    differ = connection.execute(sql).fetchone()[0]
    row = ", ".join(f"{c}::VARCHAR" for c in FOUND)
    hashes = [connection.execute(f"SELECT sum(hash({row})), count(*) FROM {each}").fetchone() for each in (a, b)]
    connection.close()
    return {"differ": differ, "rows": hashes[0][1], "hashes": [f"{int(h):x}" for h, _ in hashes]}


# -- side by side ------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Path, Path], None]] = {"ours": ours, "scan": scan, "spark": spark}


def case_name(customers: int) -> str:
    """``segmentation-10m`` for ten million customers."""
    return f"segmentation-{measure.short(customers)}"


def _child(*words: object, limit: float | None = None) -> measure.Cost:
    return measure.on_one_thread(sys.executable, __file__, *words, limit=limit)


def _files(customers: int) -> Path:
    """The folder with the file of a size; made where it is not there yet."""
    recipe = hashlib.sha256(_SUMMARY.encode()).hexdigest()[:12]
    folder = PLACE / f"segmentation-{customers}-{recipe}"
    if not (folder / FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if not _child("make", customers, folder).done:
            raise SystemExit(f"the file of {customers:,} customers could not be made")
    return folder


def one_size(customers: int) -> list[str]:
    """The rows of the table for a size."""
    case, files, rows = case_name(customers), _files(customers), []
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        home = Path(folder)
        costs = {}
        for way in WAYS:
            (home / way).mkdir()
            costs[way] = _child(way, files, home / way, limit=LIMIT if way == "scan" else None)
        if not costs["ours"].done:
            raise SystemExit(f"{case}: ours failed")
        equal = ""
        if costs["scan"].done:
            print(f"RATIO {case} scan {costs['scan'].said['cpu'] / costs['ours'].said['cpu']:.2f}", flush=True)
        if costs["spark"].done:
            found = _child("compare", home / "ours", home / "spark").said
            equal = "no" if found["differ"] or found["hashes"][0] != found["hashes"][1] else "yes"
            word = "EQUAL" if equal == "yes" else "DIFFERS"
            print(
                f"{word} {case} spark {found['rows']:,} rows, {found['differ']:,} differ, {found['hashes']}", flush=True
            )
    for way, cost in costs.items():
        if not cost.done:
            rows.append(f"| {customers:,} | {way} | {cost.outcome} | | | | |")
            continue
        ratio = f"{cost.said['cpu'] / costs['ours'].said['cpu']:.2f}" if way != "ours" else ""
        took = f"{cost.said['cpu']:.2f} | {cost.said['wall']:.2f} | {cost.memory:.2f}"
        rows.append(f"| {customers:,} | {way} | {took} | {ratio} | {equal if way == 'spark' else ''} |")
    return rows


def _customers(row: str) -> int | None:
    """The size that a row of the table is about; None for the rest of the file."""
    first = row.split("|")[1].strip().replace(",", "") if row.startswith("|") else ""
    return int(first) if first.isdigit() else None


def main(sizes: list[int]) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    for customers in sorted(sizes):
        found = one_size(customers)
        print("\n".join(found), flush=True)
        _record(customers, found)
    print(RESULTS.read_text(encoding="utf-8"))


def _record(customers: int, found: list[str]) -> None:
    """Put the rows of a size into the file of results; other sizes keep theirs."""
    before = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    kept = [row for row in before if _customers(row) not in (None, customers)]
    machine = measure.machine("duckdb", "ibis-framework", "pyspark", "pyarrow")
    head = [
        f"`make bench ONLY=segmentation` (10,000,000 customers: `SIZE=full`), {machine}",
        "",
        "From one row a customer in Parquet to recency, frequency and spend scores, their product and the value tier of every",
        "customer: on DuckDB (ours) and by the same code on Spark, local[2]; scan only reads the five columns that are needed. CPU",
        "and wall seconds count from when a process has imported what it needs, on Spark from when there is a session, and include",
        "its Java machine; peak memory is that of the Python process. Ratio: CPU seconds / ours. Equal: every column of every",
        "customer.",
        "",
        "| customers | way | CPU s | wall s | peak GiB | ratio | equal |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join([*head, *sorted(kept + found, key=_customers), ""]), encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", customers, folder]:
            make(int(customers), Path(folder))
        case ["compare", one, other]:
            measure.report(**compare(Path(one), Path(other)))
        case [way, files, result] if way in WAYS:
            WAYS[way](Path(files), Path(result))
        case given:
            main([int(word) for word in given] or [*SIZES, *([FULL] if os.environ.get("SIZE") == "full" else [])])
