"""Assemble the site from what is published: a page a notebook, its tables as CSV, and one index."""

import hashlib
import importlib.metadata
import json
import platform
import shutil
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from analysis import keys, notebook_files, paths, store
from analysis import study as studies
from analysis.notebook_files import NotebookNode
from analysis.reporting.numbers import Formatter
from analysis.reporting.page import (
    AssumptionRow,
    IndexContext,
    IndexPage,
    IndexStudy,
    Link,
    PageContext,
    notebook_head,
    render_index,
    render_page,
)
from analysis.study import MAPPED_TABLES, Study

_VERSIONS = ("duckdb", "ibis-framework", "pandas", "numpy", "scipy", "statsmodels", "scikit-learn")
_ASSUMED = {
    "margin": ("Margin, share of net sales", "share"),
    "discount_rate": ("Discount rate, a year", "share"),
    "contact_cost": ("Cost of one contact", "money"),
    "cost_to_serve": ("Cost to serve one order", "money"),
}
# Parameters of notebooks that money rests on and no data hold.
_ASSUMED_PARAMETERS = {
    "saved": ("Share of those about to leave whom a contact keeps", "share"),
    "lapse_weeks": ("Silence from which a customer is lapsed", "weeks"),
    "raised": ("By how much of it an offer raises the chance of coming back", "share"),
    "incentive": ("Paid to a customer who comes back", "money"),
}


def record(study: Study, editions: dict[str, str], not_run: dict[str, list[str]], parts: dict[str, dict]) -> None:
    """Note which editions make up a study's site, what was not run for lack of which tables, and what keys are made of."""
    content = {"study": study.model_dump(mode="json"), "editions": editions, "not_run": not_run, "parts": parts}
    store.write_json(paths.processed(study.name) / store.RECORD, content)


def assemble() -> Path:
    """Write every page that changed, and the index last; files that no longer belong are removed.

    Returns
    -------
    The path of the index.
    """
    reports = paths.reports()
    reports.mkdir(parents=True, exist_ok=True)
    paths.build().mkdir(parents=True, exist_ok=True)
    with FileLock(paths.build() / "site.lock"):
        wanted = {reports / "index.html"}
        shown = []
        for name in _recorded():
            content = store.read_json(paths.processed(name) / store.RECORD)
            study = _as_it_ran(name, content)
            wanted |= _study_pages(study, content)
            shown.append(_on_index(study, content))
        store.write_text(reports / "index.html", render_index(IndexContext(shown)))
        _remove_others(reports, wanted)
    return reports / "index.html"


def _as_it_ran(name: str, content: dict) -> Study:
    """The study as it was when it ran: a mistake in its file today does not keep the others from being published."""
    try:
        return Study(**content["study"])
    except (KeyError, ValidationError):  # recorded by another version
        return studies.load(name)


def _recorded() -> list[str]:
    """The studies with a site, the default ones first, in their order."""
    there = [name for name in studies.names() if (paths.processed(name) / store.RECORD).is_file()]
    first = studies.defaults()
    return sorted(there, key=lambda name: (first.index(name) if name in first else len(first), name))


def _study_pages(study: Study, content: dict) -> set[Path]:
    folder = paths.reports() / study.name
    wanted = set()
    titles = {step: notebook_head(_notebook(study, step, key))[0] for step, key in content["editions"].items()}
    for step, key in content["editions"].items():
        edition = store.edition(study.name, step, key)
        context = page_context(study, step, key, content, titles)
        page = paths.processed(study.name) / "pages" / f"{step}-{_page_key(key, context)}.html"
        if not page.exists():
            for old in page.parent.glob(f"{step}-*.html"):
                old.unlink()
            store.write_text(page, render_page(_notebook(study, step, key), context))
        wanted |= {_place(page, folder / f"{step}.html")}
        wanted |= {_place(csv, folder / step / csv.name) for csv in sorted((edition / "csv").glob("*.csv"))}
    return wanted


def page_context(study: Study, step: str, key: str, content: dict, titles: dict[str, str]) -> PageContext:
    """What the page of ``step`` says beyond its notebook."""
    edition = store.edition(study.name, step, key)
    manifest = store.read_json(edition / store.MANIFEST)
    formatter = Formatter(locale=study.locale, currency=study.currency)
    return PageContext(
        study_title=study.title,
        step_name=step,
        formatter=formatter,
        findings=store.read_json(edition / "findings.json"),
        data_until=study.clock.observed_to if study.clock else None,
        pages=[Link(title, f"{other}.html", other == step) for other, title in titles.items()],
        tables=manifest["people_tables"],
        assumptions=_assumptions(study, formatter, manifest["parameters"]) if "order_lines" in study.tables else (),
        provenance=_provenance(step, key, manifest, content),
        lists=[f"data/exports/{study.name}/{path.name}" for path in sorted((edition / "exports").glob("*.csv"))],
    )


def _assumptions(study: Study, formatter: Formatter, parameters: dict) -> list[AssumptionRow]:
    rows = []
    costs_known = "cost" in study.tables["order_lines"].columns
    for name, (label, unit) in _ASSUMED.items():
        given = getattr(study.money, name)
        if given is None:
            continue
        value = formatter.value(given.value, unit)
        if given.high > given.low:
            value += f" ({formatter.interval(given.low, given.high, unit)})"
        note = given.note
        if name == "margin" and costs_known:
            note = f"{note} Only lines that state no cost are valued at it; the others at what is left after theirs.".strip()
        rows.append(AssumptionRow(label, value, given.source, note))
    for label, text in (("Tax", study.money.tax), ("Coupons", study.money.coupons)):
        if text:
            rows.append(AssumptionRow(label, text, "data"))
    for name, (label, unit) in _ASSUMED_PARAMETERS.items():
        if name in parameters:
            rows.append(AssumptionRow(label, formatter.value(parameters[name], unit), note=f"Parameter {name}."))
    return rows


def _provenance(step: str, key: str, manifest: dict, content: dict) -> list[tuple[str, str]]:
    parts = content["parts"]
    parameters = ", ".join(f"{name} = {value}" for name, value in sorted(manifest["parameters"].items()))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _VERSIONS)
    first = next(iter(parts))
    return [
        ("Notebook", step),
        ("Key of this edition", key),
        ("Data", parts[first]["data"]),
        ("Study", parts[step]["study"][:16]),
        ("Parameters", parameters),
        ("Package", parts[step]["package"]),
        ("Locked environment", parts[step]["lock"][:16]),
        ("Versions", f"Python {platform.python_version()}, {versions}"),
    ]


def _page_key(key: str, context: PageContext) -> str:
    """Changes with everything that a page shows: its edition, its context, and the code and templates that draw it."""
    digest = hashlib.sha256(key.encode())
    shown = {n: repr(v) for n, v in vars(context).items() if n != "formatter"}
    digest.update(
        json.dumps([shown, str(context.formatter.locale), context.formatter.currency], sort_keys=True).encode()
    )
    folder = Path(keys.__file__).parent / "reporting"
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".j2", ".css", ".js", ".yaml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _notebook(study: Study, step: str, key: str) -> NotebookNode:
    return notebook_files.read(store.edition(study.name, step, key) / "notebook.ipynb")


def _on_index(study: Study, content: dict) -> IndexStudy:
    pages = []
    for step, key in content["editions"].items():
        title, question = notebook_head(_notebook(study, step, key))
        findings = store.read_json(store.edition(study.name, step, key) / "findings.json")
        answer = next(f for f in findings if f["answer"])
        pages.append(IndexPage(title, f"{study.name}/{step}.html", question, answer))
    not_run = [
        (
            notebook_head(notebook_files.read(keys.notebook_path(step)))[0],
            f"the study has no {' and no '.join(name.replace('_', ' ') for name in lacking if name in MAPPED_TABLES)}",
        )
        for step, lacking in content["not_run"].items()
    ]
    return IndexStudy(
        name=study.name,
        title=study.title,
        formatter=Formatter(locale=study.locale, currency=study.currency),
        description=study.about,
        source=" ".join(f"“{quote.text}” ({quote.source})" for quote in study.quotes),
        data_until=study.clock.observed_to if study.clock else None,
        pages=pages,
        not_run=not_run,
    )


def _place(source: Path, target: Path) -> Path:
    """Copy a file to its place, whole; untouched where it is there already."""
    if not (target.exists() and target.read_bytes() == source.read_bytes()):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)
    return target


def _remove_others(reports: Path, wanted: set[Path]) -> None:
    for path in sorted(reports.rglob("*"), reverse=True):
        if path.is_file() and path not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
