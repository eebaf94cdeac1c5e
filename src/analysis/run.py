"""The walk: run what changed on each study with Papermill, then assemble the site.

python -m analysis.run reports [STUDY ...] [--jobs N]     run and publish
python -m analysis.run scorecard [STUDY ...] [--jobs N]   the same on simulated companies, and planted against found
python -m analysis.run check STUDY                        look at a study's files and data, run nothing
python -m analysis.run new NAME                           make a study folder from the template
python -m analysis.run notebooks                          re-execute and normalise the committed notebooks
"""

import argparse
import contextlib
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock, Timeout
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from analysis import keys, paths, redaction, site, sources, store
from analysis import study as studies
from analysis.errors import RapportError
from analysis.reporting.prose import to_plain
from analysis.steps import STEPS, concerns, missing, parameters_of, upstream
from analysis.study import Study, StudyError

SCORECARD = "08_scorecard"
SIMULATED = ("demo_textbook", "demo_company")  # what the scorecard runs when no study is named
EVENTS = "RAPPORT_EVENTS"  # set for a child whose progress is drawn by its parent
_console = Console(stderr=True, soft_wrap=True, highlight=False)


# -- one study ---------------------------------------------------------------------------------------------------------


def run_study(name: str, report: "Reporter") -> None:
    """Run every step of a study whose key has no results yet, in order, under the study's lock.

    Raises
    ------
    RapportError
        The first thing that failed; everything published before stands.
    """
    study = studies.load(name)
    check_files(study)
    with _lock(study, report):
        sources.prepare(study)
        if _unguarded(study):
            report.say(f"{name}: this run, once it has succeeded, removes {_OLDER}")
        inputs: dict[str, str] = {}
        not_run: dict[str, list[str]] = {}
        parts: dict[str, dict[str, str]] = {}
        for spec in [spec for spec in STEPS.values() if concerns(spec, study)]:
            store.clear_staging(name, spec.name)
            lacking = missing(spec, study)
            if lacking:
                not_run[spec.name] = list(lacking)
                continue
            parts[spec.name] = keys.key_parts(spec, study, inputs)
            key = keys.step_key(parts[spec.name])
            if store.is_whole(name, spec.name, key):
                store.point(name, spec.name, key)
                report.step(name, spec.name, "unchanged")
            else:
                _run_step(study, spec.name, key, {s: inputs[s] for s in upstream(spec, study)}, report)
            inputs[spec.name] = key
            store.keep(name, spec.name, study.keep_editions)
        site.record(study, inputs, not_run, parts)
        _forget_unguarded(study, report)


_OLDER = "older results, which may hold values of columns that have since been declared personal or comments"


def _unguarded(study: Study) -> dict[str, list[Path]]:
    """Step -> editions that may hold values of columns that are guarded today."""
    found = {step: store.unguarded(study.name, step, study.guarded) for step in STEPS}
    return {step: editions for step, editions in found.items() if editions}


def _forget_unguarded(study: Study, report: "Reporter") -> None:
    """Remove such editions, and say how many of which step, and where a person has to look.

    Those of a run are not among them: their keys are of this study, and of code that writes down what it guards.
    """
    old = _unguarded(study)
    if not old:
        return
    store.forget(study.name, [edition for editions in old.values() for edition in editions])
    removed = ", ".join(f"{step} ({len(editions)})" for step, editions in old.items())
    report.say(f"{study.name}: removed {_OLDER}: {removed}")
    yours = [paths.shown(p) for p in (paths.exports(study.name), paths.private(study.name)) if p.exists()]
    if yours:
        report.say(f"{study.name}: look yourself for what earlier runs left there: {', '.join(yours)}")


def _run_step(study: Study, step: str, key: str, inputs: dict[str, str], report: "Reporter") -> None:
    from analysis.execute import execute

    parameters = parameters_of(STEPS[step], {**studies.overrides(study.name, step), "study": study.name})
    started, cpu = time.monotonic(), _children_cpu()
    report.step(study.name, step, "running")
    execute(
        study.name,
        step,
        parameters.model_dump(mode="json"),
        inputs,
        key,
        lambda done, total: report.cells(study.name, step, done, total),
    )
    report.step(study.name, step, f"done in {time.monotonic() - started:.0f} s, {_children_cpu() - cpu:.0f} CPU s")


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def _lock(study: Study, report: "Reporter"):
    """One run a study at a time; the second says that it waits."""
    paths.processed(study.name).mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.processed(study.name) / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report.say(f"{study.name}: another run is at work on this study; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_files(study: Study) -> None:
    """Refuse parameter files of unknown notebooks or with unknown or ill-typed parameters, before anything runs."""
    for path in sorted((paths.studies() / study.name).glob("*.y*ml")):
        if path.name == "study.yaml":
            continue
        if path.suffix != ".yaml":
            raise StudyError(f"{paths.shown(path)}: is not read; call it {path.stem}.yaml")
        if path.stem not in STEPS:
            raise StudyError(f"{paths.shown(path)}: no notebook is called {path.stem}; choose from {', '.join(STEPS)}")
        given = studies.read_yaml(path)
        if "study" in given:
            raise StudyError(f"{paths.shown(path)}: study is not set here; the folder's name says it")
        try:
            parameters_of(STEPS[path.stem], {**given, "study": study.name})
        except RapportError as error:
            raise StudyError(str(error).replace(path.name, paths.shown(path), 1)) from None


# -- what the person at the terminal sees ------------------------------------------------------------------------------


class Reporter:
    """Lines and bars on the terminal; as JSON lines where a parent draws them."""

    def __init__(self) -> None:
        self._relay = bool(os.environ.get(EVENTS))
        self._bars: Progress | None = None
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> "Reporter":
        if _console.is_terminal and not self._relay:
            self._bars = Progress(
                TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(), console=_console, transient=True
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def handle(self, event: dict) -> None:
        getattr(self, event["event"])(*event["arguments"])

    def _emit(self, event: str, *arguments: object) -> bool:
        if self._relay:
            print(json.dumps({"event": event, "arguments": arguments}), flush=True)
        return self._relay

    def say(self, line: str) -> None:
        if not self._emit("say", line):
            _console.print(escape(line))

    def step(self, study: str, step: str, state: str) -> None:
        if self._emit("step", study, step, state):
            return
        if self._bars and study in self._tasks:
            self._bars.remove_task(self._tasks.pop(study))
        if self._bars and state == "running":
            self._tasks[study] = self._bars.add_task(f"{study} · {step}", total=None)
        else:
            _console.print(escape(f"{study} · {step}: {state}"))

    def cells(self, study: str, step: str, done: int, total: int) -> None:
        if not self._emit("cells", study, step, done, total) and self._bars and study in self._tasks:
            self._bars.update(self._tasks[study], completed=done, total=total)


# -- the commands ------------------------------------------------------------------------------------------------------


def reports(names: list[str], jobs: int) -> int:
    """Run the studies, side by side where there are several, and assemble the site from what succeeded."""
    names = list(dict.fromkeys(names or studies.defaults()))
    if not names:
        raise StudyError("studies/default.txt names no study; add one, or say which: make reports STUDY=name")
    for name in names:
        check_files(studies.load(name))  # a typo in the last study should not cost the time of the first
    failed = []
    with Reporter() as report, ThreadPoolExecutor(max_workers=min(jobs, len(names))) as pool:
        for name, error in zip(names, pool.map(lambda n: _in_own_process(n, report), names), strict=True):
            if error:
                failed.append(name)
                report.say(error)
    if len(failed) < len(names):
        index = site.assemble()
        _console.print(escape(f"open {paths.shown(index)}"))
    if failed:
        _console.print(escape(f"failed: {', '.join(failed)}; what was published before stands"))
    return 1 if failed else 0


def scorecard(names: list[str], jobs: int) -> int:
    """Run simulated companies, publish, and print for each what was planted against what was found."""
    names = list(dict.fromkeys(names or SIMULATED))
    for name in names:
        study = studies.load(name)
        if study.simulation is None:
            raise StudyError(
                f"study {name} is not simulated, so nobody knows its truth; choose {' or '.join(SIMULATED)}"
            )
        lacking = missing(STEPS[SCORECARD], study)
        if lacking:
            raise StudyError(f"study {name} has no {', '.join(lacking)}, which the scorecard holds against the truth")
    failed = reports(names, jobs)
    if not failed:
        for name in names:
            _print_scorecard(studies.load(name))
    return failed


def _print_scorecard(study: Study) -> None:
    edition = store.edition(study.name, SCORECARD, store.current(study.name, SCORECARD))
    with (edition / "csv" / "scorecard.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    table = Table(title=escape(study.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = ("planted", "found", "low", "high")
    for column in ("notebook", "quantity", *numbers, "holds"):
        table.add_column(column, justify="right" if column in numbers else "left")
    section = rows[0]["notebook"]
    for row in rows:
        if row["notebook"] != section:
            table.add_section()
            section = row["notebook"]
        cells = [row["notebook"], row["quantity"], *(_short(row[name]) for name in numbers), row["holds"]]
        table.add_row(*map(escape, cells))
    console = Console(width=120, highlight=False)
    console.print(table)
    answer = next(f for f in store.read_json(edition / "findings.json") if f["answer"])
    console.print(escape(to_plain(answer["sentence"])), "\n")


def _short(cell: str) -> str:
    """A number of a CSV to four significant digits; an empty cell stays empty."""
    if not cell:
        return cell
    number = float(cell)
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _in_own_process(name: str, report: Reporter) -> str | None:
    """Run one study in a process of its own, whose environment is its own; the failure as one line, or None."""
    command = [sys.executable, "-m", "analysis.run", "study", name]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {EVENTS: "1"}
    )
    failure = None
    with ThreadPoolExecutor(1) as reader:
        log = reader.submit(child.stderr.read)
        for line in child.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # something that a library printed
            if event["event"] == "failed":
                failure = event["arguments"][0]
            else:
                report.handle(event)
        child.wait()
        if child.returncode == 0 or failure:
            return failure
        kept = paths.build() / "failed" / name / "run.log"
        store.write_text(kept, log.result())
        return f"{name}: stopped unexpectedly (exit {child.returncode}); the log is {paths.shown(kept)}"


def check(name: str) -> int:
    """Say what a study's files and data hold, and what would be set aside, without running a notebook."""
    from analysis import cleaning, engine

    study = studies.load(name)
    check_files(study)
    connection = engine.connect()
    cleaned = cleaning.clean(study, connection)
    for row in cleaned.ledger.itertuples():
        print(
            f"{row.table}: {row.rows_in:,} rows from {row.source}, {row.rows_set_aside:,} to set aside, {row.rows_out:,} rows out"
        )
    for row in cleaned.reasons.itertuples():
        print(f"  {row.table}: {row.rows:,} rows · {row.reason} ({row.severity}): {row.sentence}")
    for source, row_number, reasons in cleaning.examples(cleaned):
        print(f"  for example {source} row {row_number}: {reasons}")
    cleaning.assert_conserved(cleaned.ledger)
    for row in cleaned.ledger.itertuples():
        if row.rows_set_aside > row.rows_in / 2:
            print(f"look again: more than half of the rows of {row.source} would be set aside from {row.table}")
    facts = cleaning.register_facts(cleaning.register(study, cleaned.raw))
    if facts["undeclared"]:
        print(
            f"{facts['undeclared']} of {facts['columns']} columns are not declared under privacy, for example {facts['named']}"
        )
    for line in cleaning.suspects(study, cleaned.raw).advice:
        print(f"look again: {line}")
    for spec in [spec for spec in STEPS.values() if concerns(spec, study)]:
        lacking = missing(spec, study)
        print(f"{spec.name}: " + (f"will not run; the study has no {', '.join(lacking)}" if lacking else "will run"))
    print(f"{name}: ready; make reports STUDY={name}")
    return 0


def new(name: str) -> int:
    """Make ``studies/<name>`` from the template, and the folder for its raw files."""
    if not studies.STUDY_NAME.fullmatch(name):
        raise StudyError(f"{name!r} cannot name a study; use lower-case letters, digits and _, a letter first")
    target = paths.studies() / name
    if target.exists():
        raise StudyError(f"{paths.shown(target)}: is already there; choose another name or edit it")
    shutil.copytree(paths.studies() / "_template", target)
    paths.raw(name).mkdir(parents=True, exist_ok=True)
    files = paths.shown(paths.raw(name))
    print(f"edit {paths.shown(target)}/study.yaml, put the files into {files}/, then make check-study STUDY={name}")
    return 0


def committed_studies() -> dict[str, str]:
    """Notebook -> the study that its committed outputs show, as its own ``parameters`` cell says."""
    return {step: parameters_of(spec, {}).study for step, spec in STEPS.items() if keys.notebook_path(step).exists()}


def notebooks() -> int:
    """Re-execute the committed notebooks on the studies that they name, in a temporary data folder, and normalise them."""
    from analysis.execute import normalise_file, plain_run

    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAPPORT_DATA"] = folder
        shown = committed_studies()
        with Reporter() as report:
            for step, name in shown.items():
                study = studies.load(name)
                for before in upstream(STEPS[step], study):
                    if store.current(name, before) is None:
                        plain_run(before, name)
                report.step(name, step, "running")
                output = plain_run(step, name)
                normalise_file(output, keys.freshness(step))
                shutil.copyfile(output, keys.notebook_path(step))
                report.step(name, step, "done")
    return 0


def _fail(line: str) -> int:
    if os.environ.get(EVENTS):
        print(json.dumps({"event": "failed", "arguments": [line]}))
    else:
        print(line, file=sys.stderr)
    return 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.run", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    everything = commands.add_parser("reports")
    everything.add_argument("studies", nargs="*")
    everything.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    scored = commands.add_parser("scorecard")
    scored.add_argument("studies", nargs="*")
    scored.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    for command in ("study", "check", "new"):
        commands.add_parser(command).add_argument("name")
    commands.add_parser("notebooks")
    given = parser.parse_args(arguments)
    try:
        if given.command in ("reports", "scorecard"):
            return {"reports": reports, "scorecard": scorecard}[given.command](given.studies, max(1, given.jobs))
        if given.command == "study":
            with Reporter() as report:
                run_study(given.name, report)
            return 0
        return {"check": check, "new": new}[given.command](given.name) if "name" in given else notebooks()
    except RapportError as error:
        return _fail(str(error))
    except OSError as error:  # a disk that is full, a folder that may not be written
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}; what was published before stands")
    except Exception as error:  # what a library raises may quote the data
        return _fail(redaction.error_line(error))
    except KeyboardInterrupt:
        print("stopped; nothing is half written, run it again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
