"""What learning whom a campaign moves costs, and how good it is, beside causalml and econml.

    python benchmarks/campaigns.py [ROWS ...]        (default 43000 1000000)

A simulated randomised campaign: twelve features, one treatment arm, an outcome of 0 or 1, effects that are known and bend with
the features. Learners are fitted on the rows and predict the effect on a fifth as many others. Each library works in an
environment and a process of its own on the same Parquet files, with one thread; CPU seconds count from when it has imported what
it needs. Tasks: ``t``, ``x``, ``s``, ``r`` and ``dr`` learners on logistic and linear base models (peers: scikit-learn's at its
own tolerance, causalml's ``dr`` on linear ones alone; ours: solved to nine digits, ``r`` and ``dr`` cross-fitted on five folds),
what the peers' own guides begin with, ``boosted`` trees and a ``forest`` (both beside our ``t``, the default), and ``qini`` of one
score. A peer runs a task up to the largest size that it finishes in two minutes. Quality is the share of the oracle's Qini: of
ranking by the true effect.
Prints for each case

    RATIO campaigns-<size>-<task> <peer> <CPU seconds of the peer / ours>
    WORSE campaigns-<size>-<task> <peer> <share of the oracle's Qini of the peer, ours>        (where ours is lower)

The table goes to the terminal and to ``benchmarks/results/campaigns.md``.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "campaigns.md"
PLACE = ROOT / "build" / "bench"
SIZES = ("43000", "1000000")
LIMIT = 120.0  # seconds of wall time that a peer may take for a task
QUICK, REPEATS = 2.0, 5  # tasks that take less than so many seconds are done so many times
WORSE = 0.005  # a share of the oracle's Qini that is lower by more counts as worse
FEATURES = 12
PEERS = {"causalml": ("causalml==0.18.0", "pyarrow"), "econml": ("econml==0.17.0", "pyarrow")}
TASKS = {
    "s": ("ours", "causalml"),
    "t": ("ours", "causalml"),
    "x": ("ours", "causalml"),
    "r": ("ours", "causalml"),
    "dr": ("ours", "causalml", "econml"),
    "boosted": ("causalml",),
    "forest": ("causalml", "econml"),
    "qini": ("ours", "causalml"),
}

# -- the files ---------------------------------------------------------------------------------------------------------


def campaign(rows: int, seed: int) -> pd.DataFrame:
    """A randomised campaign: features ``x0`` …, ``arm`` (0 or 1), ``y`` (0 or 1) and the true ``effect`` on the chance."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES))
    base = -1.2 + 0.5 * x[:, 0] + 0.4 * x[:, 1] - 0.3 * x[:, 2]
    lift = 0.15 + 0.35 * x[:, 3] - 0.25 * x[:, 0] + 0.2 * np.maximum(x[:, 4], 0)
    alone, reached = (1 / (1 + np.exp(-eta)) for eta in (base, base + lift))
    arm = rng.integers(0, 2, rows)
    y = (rng.random(rows) < np.where(arm == 1, reached, alone)).astype(int)
    columns = {f"x{j}": x[:, j] for j in range(FEATURES)}
    return pd.DataFrame(columns | {"arm": arm, "y": y, "effect": reached - alone})


def make(size: str, folder: Path) -> None:
    """``seen.parquet`` and ``unseen.parquet`` of a size: the same bytes each time."""
    campaign(int(size), 1).to_parquet(folder / "seen.parquet", index=False)
    campaign(int(size) // 5, 2).to_parquet(folder / "unseen.parquet", index=False)


def _read(files: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, arm and outcome of the rows to learn from, features of the others."""
    import pandas as pd

    names = [f"x{j}" for j in range(FEATURES)]
    seen = pd.read_parquet(files / "seen.parquet")
    unseen = pd.read_parquet(files / "unseen.parquet", columns=names)
    return seen[names].to_numpy(), seen["arm"].to_numpy(), seen["y"].to_numpy(), unseen.to_numpy()


# -- the tasks ---------------------------------------------------------------------------------------------------------


def _measured(files: Path, way: str, task: str, work: Callable[[], np.ndarray]) -> None:
    """Do a task, tell what it took, and keep the effects that it predicts; the median counts of quick ones."""
    import numpy as np

    took: list[float] = []
    # Peers talk to the terminal, where only the report may go.
    with contextlib.redirect_stdout(sys.stderr):
        while not took or (sum(took) < QUICK and len(took) < REPEATS):
            began = time.process_time()
            found = work()
            took.append(time.process_time() - began)
    np.save(files / f"{way}-{task}.npy", np.ravel(found))
    measure.report(cpu=sorted(took)[len(took) // 2])


def ours(task: str, files: Path) -> None:
    from analysis import campaigns

    x, arm, y, unseen = _read(files)
    known = {"control": 0, "propensity": {0: 0.5, 1: 0.5}}
    if task == "qini":
        chances = campaigns.arm_propensities(x, arm, known["propensity"])
        gamma = campaigns.effect_scores(arm, y, chances, control=0)[:, 0]
        _measured(files, "ours", task, lambda: campaigns.qini_coefficient(x[:, 3], gamma).interval())
        return
    learners = {
        "s": campaigns.SLearner(control=0),
        "t": campaigns.TLearner(control=0),
        "x": campaigns.XLearner(**known),
        "r": campaigns.RLearner(**known),
        "dr": campaigns.DRLearner(**known),
    }
    _measured(files, "ours", task, lambda: learners[task].fit(x, arm, y).predict(unseen))


def causalml(task: str, files: Path) -> None:
    import logging
    import warnings

    import numpy as np
    import pandas as pd
    from causalml.inference import meta
    from causalml.inference.tree import UpliftRandomForestClassifier
    from causalml.metrics import qini_score
    from sklearn.linear_model import LinearRegression, LogisticRegression

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    x, arm, y, unseen = _read(files)
    if task == "qini":
        frame = pd.DataFrame({"score": x[:, 3], "arm": arm, "y": y})
        _measured(
            files,
            "causalml",
            task,
            lambda: np.asarray(qini_score(frame, outcome_col="y", treatment_col="arm")["score"]),
        )
        return
    if task == "forest":
        names = np.array(["control", "mail"])[arm]

        def grow() -> np.ndarray:
            forest = UpliftRandomForestClassifier(control_name="control", n_jobs=1, random_state=1)
            forest.fit(x, treatment=names, y=y)
            return forest.predict(unseen)

        _measured(files, "causalml", task, grow)
        return
    p, q = np.full(len(x), 0.5), np.full(len(unseen), 0.5)
    logit, line = LogisticRegression(), LinearRegression()
    learners = {
        "s": (meta.BaseSClassifier(logit, control_name=0), {}, {}),
        "t": (meta.BaseTClassifier(logit, control_name=0), {}, {}),
        "x": (meta.BaseXClassifier(logit, line, control_name=0), {"p": p}, {"p": q}),
        "r": (meta.BaseRClassifier(logit, line, control_name=0, random_state=1), {"p": p, "verbose": False}, {}),
        "dr": (meta.BaseDRRegressor(line, control_name=0), {"p": p, "seed": 1}, {}),
    }
    if task == "boosted":
        from xgboost import XGBClassifier

        learners["boosted"] = (meta.BaseTClassifier(XGBClassifier(n_jobs=1, random_state=1), control_name=0), {}, {})
    learner, given, then = learners[task]

    def learn() -> np.ndarray:
        learner.fit(x, arm, y, **given)
        return learner.predict(unseen, **then)

    _measured(files, "causalml", task, learn)


def econml(task: str, files: Path) -> None:
    import warnings

    from econml.dml import CausalForestDML
    from econml.dr import LinearDRLearner
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    x, arm, y, unseen = _read(files)
    logit = LogisticRegression()

    def learn() -> np.ndarray:
        if task == "dr":
            model = LinearDRLearner(
                model_propensity=logit, model_regression=logit, discrete_outcome=True, cv=5, random_state=1
            )
        else:
            model = CausalForestDML(
                model_y=logit, model_t=logit, discrete_outcome=True, discrete_treatment=True, n_jobs=1, random_state=1
            )
        return model.fit(y, arm, X=x).effect(unseen)

    _measured(files, "econml", task, learn)


def assess(files: Path, way: str, task: str) -> None:
    """Share of the oracle's Qini of predictions that were kept."""
    import numpy as np
    import pandas as pd

    from analysis import campaigns

    effect = pd.read_parquet(files / "unseen.parquet", columns=["effect"])["effect"].to_numpy()
    found, oracle = (
        campaigns.qini_coefficient(score, effect).estimate for score in (np.load(files / f"{way}-{task}.npy"), effect)
    )
    measure.report(share=found / oracle)


# -- side by side ------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[str, Path], None]] = {"ours": ours, "causalml": causalml, "econml": econml}


def _child(way: str, *words: object, limit: float | None = None) -> measure.Cost:
    python = sys.executable if way == "ours" else measure.interpreter(PEERS[way], PLACE / f"env-{way}")
    return measure.on_one_thread(python, __file__, *words, limit=limit)


def _files(size: str) -> Path:
    """The folder of Parquet files of a size; made where they are not there yet."""
    recipe = hashlib.sha256(inspect.getsource(make).encode() + inspect.getsource(campaign).encode()).hexdigest()[:12]
    folder = PLACE / f"campaigns-{size}-{recipe}"
    if not (folder / "unseen.parquet").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if not _child("ours", "make", size, folder).done:
            raise SystemExit(f"the files of size {size} could not be made")
    return folder


def case_name(size: str) -> str:
    """``campaigns-1m`` for a million rows."""
    return f"campaigns-{measure.short(int(size))}"


def one_size(size: str, too_slow: set[tuple[str, str]]) -> list[str]:
    """The rows of the table for a size; tasks that a peer does not finish are put into ``too_slow``."""
    files, rows, mine = _files(size), [], {}
    for task, ways in TASKS.items():
        for way in ways:
            if (way, task) in too_slow:
                continue
            cost = _child(way, way, task, files, limit=None if way == "ours" else LIMIT)
            if not cost.done:
                if way == "ours":
                    raise SystemExit(f"{case_name(size)}-{task}: ours failed")
                too_slow.add((way, task))
                rows.append(f"| {size} | {task} | {way} | {cost.outcome} | | | |")
                continue
            share = None if task == "qini" else _child("ours", "assess", files, way, task).said["share"]
            if way == "ours":
                mine[task] = (cost.said["cpu"], share)
                rows.append(_row(size, task, way, cost, share, ""))
                continue
            rows.append(_row(size, task, way, cost, share, _beside(size, task, way, cost, share, mine)))
    return rows


def _beside(size: str, task: str, way: str, cost: measure.Cost, share: float | None, mine: dict) -> str:
    """The ratio of a peer's cost to ours; prints it, and where ours ranks worse."""
    cpu, own = mine["t" if task in ("boosted", "forest") else task]
    ratio = f"{cost.said['cpu'] / cpu:.1f}"
    print(f"RATIO {case_name(size)}-{task} {way} {ratio}", flush=True)
    if share is not None and own < share - WORSE:
        print(f"WORSE {case_name(size)}-{task} {way} {share:.3f} (ours {own:.3f})", flush=True)
    return ratio


def _row(size: str, task: str, way: str, cost: measure.Cost, share: float | None, ratio: str) -> str:
    quality = "" if share is None else f"{share:.3f}"
    return f"| {size} | {task} | {way} | {cost.said['cpu']:.3f} | {cost.memory:.2f} | {quality} | {ratio} |"


def _size(row: str) -> str | None:
    """The size that a row of the table is about; None for the rest of the file."""
    first = row.split("|")[1].strip() if row.startswith("|") else ""
    return first if first.isdigit() else None


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
    kept = [row for row in before if _size(row) not in (None, size)]
    machine = measure.machine("numpy", "scikit-learn", "pandas")
    head = [
        f"`make bench ONLY=campaigns`, {machine}; peers: " + ", ".join(wanted[0] for wanted in PEERS.values()),
        "",
        "A simulated randomised campaign of so many rows, one treatment arm, an outcome of 0 or 1; effects predicted for a fifth",
        "as many other rows. Share: of the Qini of ranking by the true effect. One thread; CPU seconds count from when a process",
        "has imported what it needs, peak memory includes imports. Ratio: CPU seconds of the peer / ours; `boosted` and `forest`",
        "stand beside our `t`.",
        "",
        "| rows | task | library | CPU s | peak GiB | share | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    ordered = sorted(kept + found, key=lambda row: int(_size(row)))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join([*head, *ordered, ""]), encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", size, folder]:
            make(size, Path(folder))
        case ["assess", files, way, task]:
            assess(Path(files), way, task)
        case [way, task, files] if way in WAYS:
            WAYS[way](task, Path(files))
        case given:
            main(given or list(SIZES))
