"""What valuing customers costs, beside lifetimes, clvkit and pymc-marketing.

    python benchmarks/valuation.py [CUSTOMERS ...]        (default cdnow 100000 1000000; SIZE=full adds 10000000)

Each library works in an environment and a process of its own on the same Parquet files, with one thread for linear
algebra, and for DuckDB where it makes the customer summary. CPU seconds count from when it has imported what it needs. Tasks:
``history`` (transactions to one row a customer: the frequency, recency, age and mean spend that every library makes), ``summary``
(all columns of ours, with days since the last purchase, orders, spend and margin, beside the same four of the peers), ``bg``,
``pareto`` and ``spend`` (fits of BG/NBD, Pareto/NBD and gamma-gamma), ``value`` (discounted 12-month value of every customer at
the fitted BG/NBD and gamma-gamma) and, ours alone, ``bg-counted`` and ``pareto-counted`` (the same fits where equal customers
have been counted, as an engine does) and ``score`` (Pareto/NBD fitted on such counts, then every customer scored in Arrow
batches, from Parquet to Parquet). pymc-marketing fits by maximum a posteriori. A peer runs a task up to the largest size that
it finishes in two minutes. Prints for each case

    RATIO valuation-<size>-<task> <peer> <CPU seconds of the peer / ours>

and ``DIFFERS …`` where the peer's likelihood, or total, is not ours. The table goes to the terminal and to
``benchmarks/results/valuation.md``.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import measure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "valuation.md"
PLACE = ROOT / "build" / "bench"
SIZES = ("cdnow", "100000", "1000000")
FULL = "10000000"
LIMIT = 120.0  # seconds of wall time that a peer may take for a task
PEERS = {
    "lifetimes": ("lifetimes==0.11.3", "pandas<2.1", "numpy<2", "scipy<1.12", "pyarrow<18"),
    "clvkit": ("clvkit==0.2.1", "pyarrow"),
    "pymc-marketing": ("pymc-marketing==0.19.2", "pyarrow"),
}
SUMMARIES = ("history", "summary")
OURS_ALONE = ("bg-counted", "pareto-counted", "score")
TASKS = (*SUMMARIES, "bg", "pareto", "spend", "value", *OURS_ALONE)
LAST_DAY = "1998-06-30"
DISCOUNT = 0.01  # a month
DAYS = 360.0  # twelve months of thirty days, as lifetimes counts them
QUICK, REPEATS = 2.0, 5  # tasks that take less than so many seconds are done so many times
PARAMETERS = {"bg": ("r", "alpha", "a", "b"), "pareto": ("r", "alpha", "s", "beta"), "spend": ("p", "q", "v")}
# How far results may lie apart: log-likelihoods in absolute terms, the rest relatively. Values differ a little by right: a peer
# books purchases at the ends of weeks or months, we at the moment when they are expected.
SAME = {"history": 1e-9, "summary": 1e-9, "bg": 0.01, "pareto": 0.01, "spend": 0.01, "value": 0.02}

# -- the files ---------------------------------------------------------------------------------------------------------


def make(size: str, folder: Path) -> None:
    """``transactions.parquet`` (one row a customer and day) and ``summary.parquet`` of a size: the same bytes each time."""
    import numpy as np
    import pandas as pd

    frame = _cdnow() if size == "cdnow" else _simulated(int(size), np.random.default_rng(1))
    days = frame.groupby(["customer_id", "day"], sort=True, as_index=False)["amount"].sum()
    days = days[days["amount"] > 0]
    first = days.groupby("customer_id")["day"].transform("min")
    repeat = days["day"] > first
    end = (np.datetime64(LAST_DAY) - np.datetime64("1997-01-01")).astype(int)
    by_customer = days.assign(first=first, repeat=repeat, money=days["amount"].where(repeat, 0.0)).groupby(
        "customer_id"
    )
    summary = by_customer.agg(
        frequency=("repeat", "sum"), last=("day", "max"), first=("first", "min"), money=("money", "sum")
    )
    frequency = summary["frequency"].astype(float)
    summary = pd.DataFrame({
        "customer_id": summary.index,
        "frequency": frequency,
        "recency": (summary["last"] - summary["first"]).astype(float),
        "T": (end - summary["first"]).astype(float),
        "monetary_value": (summary["money"] / frequency.where(frequency > 0)).fillna(0.0),
    })  # fmt: skip
    dates = pd.Timestamp("1997-01-01") + pd.to_timedelta(days["day"], unit="D")
    lines = pd.DataFrame(
        {"customer_id": days["customer_id"], "date": dates.astype("datetime64[us]"), "amount": days["amount"]}
    )
    lines.to_parquet(folder / "transactions.parquet", index=False)
    summary.to_parquet(folder / "summary.parquet", index=False)


def _cdnow():
    import pandas as pd

    file = next(f for f in distribution("lifetimes").files if f.name == "CDNOW_master.txt")
    names = ["customer_id", "date", "pieces", "amount"]
    frame = pd.read_csv(file.locate(), sep=r"\s+", names=names, header=0, dtype={"customer_id": "int64", "date": "str"})
    day = (pd.to_datetime(frame.pop("date"), format="%Y%m%d") - pd.Timestamp("1997-01-01")).dt.days
    return frame.assign(day=day)[["customer_id", "day", "amount"]]


def _simulated(customers: int, rng):
    """Pareto/NBD customers who enter in the first quarter, at the parameters of the CDNOW master, with gamma-gamma spend."""
    import numpy as np
    import pandas as pd

    end = int((np.datetime64(LAST_DAY) - np.datetime64("1997-01-01")).astype(int))
    entry = rng.integers(0, 84, customers)
    rate = rng.gamma(0.61099, 1 / 95.2993, customers)
    stay = rng.exponential(1.0, customers) / rng.gamma(0.31258, 1 / 43.0399, customers)
    active = np.minimum(stay, end - entry)
    repeats = rng.poisson(rate * active)
    who = np.repeat(np.arange(customers), repeats)
    day = entry[who] + np.ceil(rng.random(len(who)) * active[who]).astype(int)
    scale = rng.gamma(3.99512, 1 / 21.25224, customers)
    who, day = np.concatenate([np.arange(customers), who]), np.concatenate([entry, day])
    amount = np.maximum(np.round(rng.gamma(5.08604, 1.0, len(who)) / scale[who], 2), 0.01)
    return pd.DataFrame({"customer_id": who, "day": np.minimum(day, end), "amount": amount})


# -- the tasks: what a library takes for each, and what it finds ---------------------------------------------------------------


def _measured(task: Callable[[], object]) -> None:
    """Do a task, and tell what it took and found: a total, or parameters with times in days.

    A quick task is done several times, and the median counts: the first time pays for what is loaded late.
    """
    took: list[float] = []
    while not took or (sum(took) < QUICK and len(took) < REPEATS):
        began = _cpu()
        found = task()
        took.append(_cpu() - began)
    measure.report(cpu=sorted(took)[len(took) // 2], found=found)


def _cpu() -> float:
    """CPU seconds of this process and of those that it has run, such as a compiler."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def ours(task: str, files: Path) -> None:
    import datetime

    import ibis
    import pandas as pd

    from analysis import valuation

    columns = ("frequency", "recency", "T")
    # The engine is there before the data are, as everywhere, and works on one thread as the peers do.
    engine = ibis.duckdb.connect(threads=1)
    end = datetime.date.fromisoformat(LAST_DAY)

    def summarise() -> float:
        lines = engine.read_parquet(files / "transactions.parquet")
        lines = lines.select(
            customer_id="customer_id", order_id="customer_id", order_date=lines.date.date(),
            net_amount=lines.amount.cast("decimal(18, 4)"), is_return=ibis.literal(False),
        )  # fmt: skip
        only = None if task == "summary" else (*columns, "monetary_value")
        found = valuation.customer_summary(lines, end, columns=only).to_pyarrow().to_pandas()
        return float(found["recency"].sum())

    if task in SUMMARIES:
        _measured(summarise)
        return
    if task == "score":
        _measured(lambda: _scored(files))
        return
    summary = pd.read_parquet(files / "summary.parquet")
    if task in OURS_ALONE:
        counted = valuation.equal_customers(ibis.memtable(summary))
        model = {"bg-counted": valuation.BGNBD, "pareto-counted": valuation.ParetoNBD}[task]
        _measured(lambda: list(model(*(counted[c] for c in columns), weights=counted["customers"]).fit().params))
        return
    models = {
        "bg": lambda: valuation.BGNBD(*(summary[c] for c in columns)).fit(),
        "pareto": lambda: valuation.ParetoNBD(*(summary[c] for c in columns)).fit(),
        "spend": lambda: valuation.GammaGamma(summary["frequency"], summary["monetary_value"]).fit(),
    }
    if task != "value":
        _measured(lambda: list(models[task]().params))
        return
    purchases, spend = models["bg"](), models["spend"]()
    daily = math.log1p(DISCOUNT) / 30

    def value() -> float:
        bought = purchases.expected_purchases(DAYS, *(summary[c] for c in columns), discount=daily)
        return float(bought @ spend.expected_spend(summary["frequency"], summary["monetary_value"]))

    _measured(value)


def _scored(files: Path) -> float:
    import ibis
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from analysis import valuation

    table = ibis.duckdb.connect().read_parquet(files / "summary.parquet")
    cells = valuation.equal_customers(table)
    purchases = valuation.ParetoNBD(cells["frequency"], cells["recency"], cells["T"], weights=cells["customers"]).fit()
    paid = table.filter(table.frequency > 0, table.monetary_value > 0).select("frequency", "monetary_value").to_pandas()
    spend = valuation.GammaGamma(paid["frequency"], paid["monetary_value"]).fit()
    total = 0.0
    with tempfile.TemporaryDirectory(dir=files) as folder:
        scored = valuation.score_customers(table, purchases, spend, DAYS, math.log1p(DISCOUNT) / 30)
        with pq.ParquetWriter(Path(folder) / "scores.parquet", scored.schema) as writer:
            for batch in scored:
                writer.write_table(pa.Table.from_batches([batch]))
                total += pc.sum(batch["residual_value"]).as_py()
    return total


def lifetimes(task: str, files: Path) -> None:
    import pandas as pd
    from lifetimes import BetaGeoFitter, GammaGammaFitter, ParetoNBDFitter
    from lifetimes.utils import summary_data_from_transaction_data

    def summarise() -> float:
        lines = pd.read_parquet(files / "transactions.parquet")
        last = {"observation_period_end": LAST_DAY}
        return float(
            summary_data_from_transaction_data(lines, "customer_id", "date", "amount", **last)["recency"].sum()
        )

    if task in SUMMARIES:
        _measured(summarise)
        return
    summary = pd.read_parquet(files / "summary.parquet")
    paid = summary[(summary["frequency"] > 0) & (summary["monetary_value"] > 0)]
    models = {
        "bg": lambda: BetaGeoFitter().fit(summary["frequency"], summary["recency"], summary["T"]),
        "pareto": lambda: ParetoNBDFitter().fit(summary["frequency"], summary["recency"], summary["T"]),
        "spend": lambda: GammaGammaFitter().fit(paid["frequency"], paid["monetary_value"]),
    }
    if task != "value":
        _measured(lambda: [float(models[task]().params_[name]) for name in PARAMETERS[task]])
        return
    bought, money = models["bg"](), models["spend"]()
    columns = [summary[c] for c in ("frequency", "recency", "T", "monetary_value")]
    _measured(
        lambda: float(money.customer_lifetime_value(bought, *columns, time=12, discount_rate=DISCOUNT, freq="D").sum())
    )


def clvkit(task: str, files: Path) -> None:
    import warnings

    import pandas as pd
    from clvkit import BGNBD, CLV, CustomerBase, GammaGamma

    warnings.simplefilter("ignore")
    if task == "pareto":
        measure.report(missing=True)
        return

    def base() -> CustomerBase:
        lines = pd.read_parquet(files / "transactions.parquet")
        return CustomerBase.from_transactions(lines, time_unit="W", collapse="D", observation_period_end=LAST_DAY)

    if task in SUMMARIES:
        _measured(lambda: float(base().to_pandas()["recency"].sum()) * 7)
        return
    there = base()
    if task == "value":
        model = CLV(BGNBD(), GammaGamma(), check_independence=False).fit(there)
        weekly = (1 + DISCOUNT) ** (7 / 30) - 1
        _measured(lambda: float(model.predict(horizon=51, discount_rate=weekly).to_pandas()["clv"].sum()))
        return

    def bg() -> list[float]:
        r, alpha, a, b = BGNBD().fit(there).params_
        return [r, alpha * 7, a, b]

    def spend() -> list[float]:
        return list(GammaGamma().fit(there).params_)

    _measured({"bg": bg, "spend": spend}[task])


def pymc_marketing(task: str, files: Path) -> None:
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    import pandas as pd
    from pymc_marketing import clv

    def summarise() -> float:
        lines = pd.read_parquet(files / "transactions.parquet")
        last = {"observation_period_end": LAST_DAY}
        return float(clv.utils.rfm_summary(lines, "customer_id", "date", "amount", **last)["recency"].sum())

    if task in SUMMARIES:
        _measured(summarise)
        return
    summary = pd.read_parquet(files / "summary.parquet")
    paid = summary[(summary["frequency"] > 0) & (summary["monetary_value"] > 0)].reset_index(drop=True)
    models = {"bg": clv.BetaGeoModel, "pareto": clv.ParetoNBDModel, "spend": clv.GammaGammaModel}

    def fitted(name: str):
        model = models[name](data=paid if name == "spend" else summary)
        model.fit(method="map", progressbar=False)
        return model

    if task != "value":

        def parameters() -> list[float]:
            found = fitted(task).fit_summary()
            return [float(found[name]) for name in PARAMETERS[task]]

        _measured(parameters)
        return
    bought, money = fitted("bg"), fitted("spend")
    terms = {"future_t": 12, "discount_rate": DISCOUNT, "time_unit": "D"}
    _measured(lambda: float(money.expected_customer_lifetime_value(bought, summary, **terms).sum()))


def likelihood(task: str, files: Path, *params: str) -> None:
    """The log-likelihood, in days, at somebody's parameters."""
    import pandas as pd

    from analysis import valuation

    summary = pd.read_parquet(files / "summary.parquet")
    if task == "spend":
        model = valuation.GammaGamma(summary["frequency"], summary["monetary_value"])
    else:
        model = {"bg": valuation.BGNBD, "pareto": valuation.ParetoNBD}[task](
            *(summary[c] for c in ("frequency", "recency", "T"))
        )
    measure.report(llf=float(model.loglike([float(p) for p in params])))


# -- side by side ------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[str, Path], None]] = {
    "ours": ours,
    "lifetimes": lifetimes,
    "clvkit": clvkit,
    "pymc-marketing": pymc_marketing,
}


def _child(way: str, *words: object, limit: float | None = None) -> measure.Cost:
    python = sys.executable if way == "ours" else measure.interpreter(PEERS[way], PLACE / f"env-{way}")
    return measure.on_one_thread(python, __file__, *words, limit=limit)


def _files(size: str) -> Path:
    """The folder of Parquet files of a size; made where they are not there yet."""
    recipe = hashlib.sha256(inspect.getsource(make).encode() + inspect.getsource(_simulated).encode()).hexdigest()[:12]
    folder = PLACE / f"valuation-{size}-{recipe}"
    if not (folder / "summary.parquet").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if not _child("ours", "make", size, folder).done:
            raise SystemExit(f"the files of size {size} could not be made")
    return folder


def case_name(size: str) -> str:
    """``valuation-1m`` for a million customers."""
    return f"valuation-{measure.short(int(size)) if size.isdigit() else size}"


def one_size(size: str, too_slow: set[tuple[str, str]]) -> list[str]:
    """The rows of the table for a size; tasks that a peer does not finish are put into ``too_slow``."""
    files, rows = _files(size), []
    for task in TASKS:
        mine = _child("ours", "ours", task, files)
        if not mine.done:
            raise SystemExit(f"{case_name(size)}-{task}: ours failed")
        reached = _reached(task, files, mine)
        rows.append(_row(size, task, "ours", mine, reached, "", ""))
        for peer in PEERS if task not in OURS_ALONE else ():
            if (peer, task) in too_slow:
                continue
            cost = _child(peer, peer, task, files, limit=LIMIT)
            if cost.said.get("missing"):
                continue
            if not cost.done:
                too_slow.add((peer, task))
                rows.append(f"| {size} | {task} | {peer} | {cost.outcome} | | | | |")
                continue
            there, ratio = _reached(task, files, cost), cost.said["cpu"] / mine.said["cpu"]
            apart = abs(there - reached) / (1 if task in PARAMETERS else abs(reached))
            same = apart <= SAME[task]
            case = f"{case_name(size)}-{task}"
            print(f"RATIO {case} {peer} {ratio:.1f}", flush=True)
            if not same:
                print(f"DIFFERS {case} {peer} {there:.6f} (ours {reached:.6f})", flush=True)
            rows.append(_row(size, task, peer, cost, there, f"{ratio:.1f}", "yes" if same else "no"))
    return rows


def _reached(task: str, files: Path, cost: measure.Cost) -> float:
    """What a way found, as one number: a log-likelihood, or a total."""
    found = cost.said["found"]
    model = _model(task)
    return _child("ours", "likelihood", model, files, *found).said["llf"] if model else found


def _model(task: str) -> str | None:
    """Which model a task fits; None where it fits none."""
    name = task.removesuffix("-counted")
    return name if name in PARAMETERS else None


def _row(size: str, task: str, way: str, cost: measure.Cost, reached: float, ratio: str, same: str) -> str:
    number = f"{reached:,.4f}" if _model(task) else f"{reached:,.0f}"
    return f"| {size} | {task} | {way} | {cost.said['cpu']:.3f} | {cost.memory:.2f} | {number} | {ratio} | {same} |"


def _size(row: str) -> str | None:
    """The size that a row of the table is about; None for the rest of the file."""
    first = row.split("|")[1].strip() if row.startswith("|") else ""
    return first if first.isdigit() or first == "cdnow" else None


def main(sizes: list[str]) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    too_slow: set[tuple[str, str]] = set()
    for size in sizes:
        found = one_size(size, too_slow)
        print("\n".join(found), flush=True)
        _keep(size, found)
    print(RESULTS.read_text(encoding="utf-8"))


def _keep(size: str, found: list[str]) -> None:
    """Put the rows of a size into the file of results; other sizes keep theirs."""
    before = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    machine = measure.machine("numpy", "scipy", "duckdb", "pandas")
    # what another machine, or other versions, took says nothing beside this one
    kept = [row for row in before if _size(row) not in (None, size)] if before and machine in before[0] else []
    head = [
        f"`make bench ONLY=valuation` (10,000,000 customers: `SIZE=full`), {machine}; peers: "
        + ", ".join(wanted[0] for wanted in PEERS.values()),
        "",
        "The same Parquet files of purchases, or of one row a customer; one thread for linear algebra, and for DuckDB in history",
        "and summary. CPU seconds count from when a process has imported what it needs and DuckDB is open. History: the columns",
        "that all libraries make; summary: all of ours beside those of the peers. Found: the log-likelihood at a library's",
        "estimates, always in days and by the same code; for history and summary the sum of recencies in days, for value and score",
        "the sum over customers. Ratio: CPU seconds of the peer / ours.",
        "",
        "| customers | task | library | CPU s | peak GiB | found | ratio | same |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ordered = sorted(kept + found, key=lambda row: int(_size(row)) if _size(row).isdigit() else 0)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join([*head, *ordered, ""]), encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", size, folder]:
            make(size, Path(folder))
        case ["likelihood", task, files, *params]:
            likelihood(task, Path(files), *params)
        case [way, task, files] if way in WAYS:
            WAYS[way](task, Path(files))
        case given:
            main(given or [*SIZES, *([FULL] if os.environ.get("SIZE") == "full" else [])])
