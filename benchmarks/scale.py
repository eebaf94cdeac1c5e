"""What size costs: wall seconds and memory to make a simulated company and to walk it, as the company grows.

    python benchmarks/scale.py [CUSTOMERS ...]        (default 10000 100000; SIZE=full adds 1000000)

Memory is the most that all processes of a step held together, sampled from /proc. The table goes to the terminal and to
``benchmarks/results/scale.md``, where sizes that were not asked for keep the rows that they have.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import yaml

from analysis import paths
from analysis.steps import STEPS

RESULTS = paths.ROOT / "benchmarks" / "results" / "scale.md"
_STEP = "import sys; from analysis.execute import plain_run; plain_run(sys.argv[1], sys.argv[2])"


def _resident(process: int) -> int:
    """Bytes that a process and its descendants hold now."""
    total, todo = 0, [process]
    while todo:
        one = todo.pop()
        try:
            total += 1024 * int(Path(f"/proc/{one}/status").read_text().split("VmRSS:")[1].split()[0])
            for thread in Path(f"/proc/{one}/task").iterdir():
                todo += map(int, (thread / "children").read_text().split())
        except (OSError, IndexError):
            continue  # it ended while we looked
    return total


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float, bool]:
    """Wall seconds, peak memory in GB, and whether the command succeeded."""
    peak, started = 0, time.monotonic()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.append(child.stderr.read()))
    reader.start()
    while child.poll() is None:
        peak = max(peak, _resident(child.pid))
        time.sleep(0.1)
    reader.join()
    if child.returncode:
        print(log[0].strip()[-2000:], file=sys.stderr)
    return time.monotonic() - started, peak / 1e9, child.returncode == 0


def one_size(customers: int, root: Path) -> list[str]:
    """The rows of the table for one size: making it, then every notebook."""
    name = "scale"
    shutil.copytree(paths.ROOT / "studies", root / "studies")
    folder = root / "studies" / name
    folder.mkdir()
    said = {"like": "demo_company", "title": "Scale", "simulation": {"customers": customers}}
    (folder / "study.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    places = {f"RAPPORT_{part.upper()}": str(root / part) for part in ("studies", "data", "reports", "build")}
    environment = os.environ | places
    raw = root / "data" / "raw" / name
    make = "from analysis import sources, study; sources.prepare(study.load('scale'))"
    seconds, memory, done = measured([sys.executable, "-c", make], environment)
    lines = pq.read_metadata(raw / "orders.parquet").num_rows if done else 0
    size = sum(path.stat().st_size for path in raw.rglob("*") if path.is_file()) / 1e9
    rows = [f"| {customers:,} | making it: {lines:,} order lines, {size:.2f} GB | {seconds:.0f} | {memory:.1f} |"]
    total = 0.0
    for step in STEPS:
        seconds, memory, done = measured([sys.executable, "-c", _STEP, step, name], environment)
        total += seconds
        outcome = "" if done else " (failed)"
        rows.append(f"| {customers:,} | {step}{outcome} | {seconds:.0f} | {memory:.1f} |")
        print(rows[-1], flush=True)
        if not done:
            break
    rows.append(f"| {customers:,} | the walk in all | {total:.0f} | |")
    return rows


def _customers(row: str) -> int | None:
    """The size that a row of the table is about; None for the rest of the file."""
    first = row.split("|")[1].strip().replace(",", "") if row.startswith("|") else ""
    return int(first) if first.isdigit() else None


def main(sizes: list[int]) -> None:
    head = [
        "| customers | step | wall s | GB |",
        "| --- | --- | --- | --- |",
    ]
    rows: list[str] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=paths.ROOT / "build") as folder:
            rows += one_size(size, Path(folder))
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    before = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    kept = [row for row in before if _customers(row) not in (None, *sizes)]
    text = "\n".join([f"`make bench ONLY=scale`, {machine}", "", *head, *sorted(kept + rows, key=_customers), ""])
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    paths.build().mkdir(exist_ok=True)
    given = [int(word) for word in sys.argv[1:]]
    main(given or [10_000, 100_000] + ([1_000_000] if os.environ.get("SIZE") == "full" else []))
