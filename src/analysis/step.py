"""What a notebook reads, writes and finds: one object, the same in JupyterLab, under Papermill and under nbval."""

import base64
import datetime
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
from IPython.display import display
from matplotlib.figure import Figure
from pydantic import BaseModel

from analysis import consent, engine, paths, store, tables
from analysis import study as studies
from analysis.reporting import display as bundles
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.reporting.tables import people_table, write_csv
from analysis.reporting.theme import use_theme
from analysis.steps import STEPS, TRUTH, WRITER, StepError, StepSpec, available, parameters_of, upstream

STAGING_VARIABLE = "RAPPORT_STAGING"  # where the run that started this kernel wants the results
INPUTS_VARIABLE = "RAPPORT_INPUTS"  # JSON: step -> key of the edition that it must read
_ASSUMED = ("margin", "discount_rate", "contact_cost", "cost_to_serve")
_KEYS = {"customer_id", "response_id", "prospect_id", "household_id", "referred_by"}


def open_step(name: str, study: str, **parameters: Any) -> "Step":
    """Open a notebook's step on a study.

    Parameters
    ----------
    name : the notebook, for example ``"02_customer_valuation"``.
    study : the study, a folder under ``studies/``.
    parameters : the notebook's parameters, typed and limited by the ``Parameters`` of its room.

    Raises
    ------
    StepError
        There is no such step, or a parameter is unknown or ill-typed.
    StudyError
        The study's files have a mistake.
    """
    if name not in STEPS:
        raise StepError(f"there is no step {name!r}; choose from {', '.join(STEPS)}")
    return Step(STEPS[name], studies.load(study), parameters_of(STEPS[name], {"study": study, **parameters}))


@dataclass(frozen=True)
class Edition:
    """What an earlier edition of a step wrote; :meth:`Step.last_edition` gives one.

    Attributes
    ----------
    parameters : with which it ran.
    observed_to : the last day that its data held.
    money : the study's assumptions at the time, such as ``margin`` and ``discount_rate``; None where it made none.
    currency : in which the study stated money at the time; None where the edition is from before that was noted.
    """

    parameters: dict[str, Any]
    observed_to: datetime.date
    money: dict[str, float | None]
    currency: str | None
    _folder: Path
    _connection: ibis.BaseBackend

    def has(self, table: str) -> bool:
        """Whether it wrote ``table``."""
        return self._path(table).is_file()

    def read(self, table: str) -> ibis.Table | pd.DataFrame:
        """A canonical table as it wrote it: an Ibis table where it may be large, a frame otherwise.

        Raises
        ------
        StepError
            It did not write that table.
        """
        if not self.has(table):
            raise StepError(f"the edition of data to {self.observed_to} holds no table {table!r}")
        lazy = self._connection.read_parquet(self._path(table))
        return lazy if tables.CONTRACTS[table].lazy else lazy.to_pandas()

    def finding(self, name: str) -> dict[str, Any] | None:
        """A finding as its page stated it: value, low, high, reason, sentence and more; None where it had none."""
        return next((one for one in store.read_json(self._folder / "findings.json") if one["id"] == name), None)

    def _path(self, table: str) -> Path:
        return self._folder / "tables" / f"{table}.parquet"


class Step:
    """One run of one notebook on one study: see :func:`open_step`.

    Attributes
    ----------
    study : the validated study. params : the typed parameters. format : writes numbers as the study's readers do.
    connection : the Ibis backend on which lazy tables live.
    """

    def __init__(self, spec: StepSpec, study: studies.Study, params: BaseModel) -> None:
        use_theme()
        self.spec, self.study, self.params = spec, study, params
        self.format = Formatter(locale=study.locale, currency=study.currency)
        self.connection = engine.connect()
        self._sentences = Sentences(spec.name, self.format)
        self._inputs: dict[str, str] = json.loads(os.environ.get(INPUTS_VARIABLE, "{}"))
        given = os.environ.get(STAGING_VARIABLE)
        self._run = bool(given)
        self._folder = Path(given) if given else store.stage(study.name, spec.name)
        for part in ("tables", "csv", "figures", "exports"):
            (self._folder / part).mkdir(exist_ok=True)
        self._written: dict[str, int] = {}
        self._findings: list[dict[str, Any]] = []
        self._figures: dict[str, str] = {}
        self._tables: list[dict[str, Any]] = []
        self._committed = False

    @property
    def written(self) -> dict[str, int]:
        """Tables written so far, with their number of rows."""
        return dict(self._written)

    # -- tables --------------------------------------------------------------------------------------------------------

    def has(self, table: str) -> bool:
        """Whether this study has ``table``, from this step or an earlier one."""
        return table in self._written or self._path(table) is not None

    def read(self, table: str) -> ibis.Table | pd.DataFrame:
        """A canonical table: an Ibis table where it may be large, a frame otherwise.

        Raises
        ------
        StepError
            No step has written it yet.
        """
        lazy = self.lazy(table)
        return lazy if tables.CONTRACTS[table].lazy else lazy.to_pandas()

    def lazy(self, table: str) -> ibis.Table:
        """A canonical table as an Ibis table, whatever its size.

        Raises
        ------
        StepError
            No step has written it yet.
        """
        path = self._path(table)
        if path is None:
            writer = WRITER.get(table)
            raise StepError(
                f"{self.spec.name} needs table {table}, which {writer} has not written for study {self.study.name}; "
                f"run notebook {writer} on it first, or make reports STUDY={self.study.name}"
                if writer
                else f"there is no table {table!r}; choose from {', '.join(WRITER)}"
            )
        return self.connection.read_parquet(path)

    def _path(self, table: str) -> Path | None:
        writer = WRITER.get(table)
        if writer is None:
            return None
        if writer == self.spec.name:
            path = self._folder / "tables" / f"{table}.parquet"
            return path if table in self._written else None
        key = self._key(writer)
        path = store.edition(self.study.name, writer, key) / "tables" / f"{table}.parquet" if key else None
        return path if path and path.is_file() else None

    def _key(self, step: str) -> str | None:
        """The edition of an earlier step that this one reads."""
        return self._inputs.get(step) if self._run else store.current(self.study.name, step)

    def write(self, table: str, content: ibis.Table | pd.DataFrame) -> None:
        """Stage a canonical table, checked against its contract.

        Raises
        ------
        StepError
            This step does not write that table.
        ContractError
            The table does not keep its contract; one line with the column and the count.
        """
        if table not in self.spec.writes:
            raise StepError(f"{self.spec.name} does not write table {table!r}; it writes {', '.join(self.spec.writes)}")
        contract = tables.CONTRACTS[table]
        if isinstance(content, pd.DataFrame):
            content = ibis.memtable(pa.Table.from_pandas(content, preserve_index=False))
        path = self._folder / "tables" / f"{table}.parquet"
        self.connection.to_parquet(contract.conform(content), path, compression="zstd")
        staged = self.connection.read_parquet(path)
        try:
            contract.validate(staged)
        except tables.ContractError:
            path.unlink()
            raise
        self._written[table] = int(staged.count().to_pyarrow().as_py())

    def export(self, name: str, content: pd.DataFrame, reach: str | None = None) -> None:
        """Stage a list that leaves for another system; it appears under ``data/exports/<study>/`` as CSV and Parquet.

        Parameters
        ----------
        content : the list, one row a customer or a group.
        reach : how the people on it will be reached: ``email``, ``sms``, ``mail``, or ``none`` (not used for contacting); needed
            where there is a ``customer_id`` or ``prospect_id``. For ``email`` and ``sms`` only those with recorded consent stay,
            and the page says how many were left out.

        Raises
        ------
        ConsentError
            The list does not say how its people are reached; see :func:`analysis.consent.check_reach`.
        StepError
            Consent is to be looked up in a table that has not been written yet.
        """
        people = consent.check_reach(name, list(content.columns), reach)
        if people:
            content = self._consenting(name, content, people, reach)
        write_csv(content, self._folder / "exports" / f"{name}.csv")
        content.to_parquet(self._folder / "exports" / f"{name}.parquet", index=False)

    def _consenting(self, name: str, content: pd.DataFrame, people: str, reach: str) -> pd.DataFrame:
        """Those of a list who may be reached; says on the page how many may not."""
        table = consent.PEOPLE[people]
        there = self.lazy(table) if table in available(self.study) else None
        found = consent.consenting(content, people, reach, there)
        sentences = Sentences("export", self.format)
        way = sentences.render(f"way_{reach}")
        facts = {"name": name, "way": way, "column": consent.ASKED[reach], "table": table}
        key = "consent" if found.known else "consent_unknown"
        said = sentences.render(key, rows=found.rows, left_out=found.left_out, **facts)
        self._show(*bundles.text_bundle(f"consent_{name}", said))
        return found.frame

    # -- what earlier steps published, and what is true ------------------------------------------------------------------

    def findings(self, step: str) -> dict[str, dict[str, Any]]:
        """What an earlier step found: id -> ``value, low, high, unit, reason, sentence, figure, answer``.

        Raises
        ------
        StepError
            It has not run on this study, or this step does not read from it.
        """
        return {found["id"]: found for found in store.read_json(self._edition(step) / "findings.json")}

    def shown(self, step: str, table_id: str) -> pd.DataFrame:
        """A table for people that an earlier step showed, from its CSV; empty where it showed no such table.

        Raises
        ------
        StepError
            It has not run on this study, or this step does not read from it.
        """
        path = self._edition(step) / "csv" / f"{table_id}.csv"
        return pd.read_csv(path, encoding="utf-8-sig") if path.is_file() else pd.DataFrame()

    def previous(self, table_id: str, text: tuple[str, ...] = ()) -> pd.DataFrame:
        """A table for people as the edition of this step showed it that is current until this one is committed.

        Parameters
        ----------
        text : columns that are read as text, ``01`` included; only blanks are missing.

        Returns
        -------
        The frame of its CSV; empty where there is no edition yet, or it showed no such table.
        """
        key = store.current(self.study.name, self.spec.name)
        path = store.edition(self.study.name, self.spec.name, key) / "csv" / f"{table_id}.csv" if key else None
        if path is None or not path.is_file():
            return pd.DataFrame()
        kinds = dict.fromkeys(text, str)
        return pd.read_csv(path, encoding="utf-8-sig", dtype=kinds, keep_default_na=False, na_values=[""])

    def last_edition(self, weeks: float = 0) -> Edition | None:
        """The newest kept edition of this step whose data ended before the study's do.

        One of the same last day does not count, so that running again on the same data, for a change of code or of a parameter,
        looks back as far as before.

        Parameters
        ----------
        weeks : its data ended at least so long before.

        Returns
        -------
        None where there is no such edition: on the first run, and where the study has no clock.
        """
        clock = self.study.clock
        if clock is None:
            return None
        until = clock.observed_to - max(datetime.timedelta(weeks=weeks), datetime.timedelta(days=1))
        found = []
        for folder in store.kept(self.study.name, self.spec.name):
            manifest = store.read_json(folder / store.MANIFEST)
            ended = manifest.get("observed_to")
            if ended and datetime.date.fromisoformat(ended) <= until:
                found.append((datetime.date.fromisoformat(ended), folder, manifest))
        if not found:
            return None
        ended, folder, manifest = max(found, key=lambda edition: edition[0])
        given = manifest["parameters"], ended, manifest["money"], manifest.get("currency")
        return Edition(*given, folder, self.connection)

    def parameters(self, step: str) -> dict[str, Any]:
        """The parameters with which an earlier step ran.

        Raises
        ------
        StepError
            It has not run on this study, or this step does not read from it.
        """
        return store.read_json(self._edition(step) / store.MANIFEST)["parameters"]

    def truth(self, table: str) -> ibis.Table:
        """A truth table of a simulated company, as an Ibis table.

        Raises
        ------
        StepError
            This step may not know the truth, or there is no such table.
        """
        return self.connection.read_parquet(self._truth(f"{table}.parquet"))

    def planted(self) -> dict[str, Any]:
        """Every number that was planted in a simulated company, and the totals of the company without dirt.

        Raises
        ------
        StepError
            This step may not know the truth, or it is not there.
        """
        return store.read_json(self._truth("planted.json"))

    def _edition(self, step: str) -> Path:
        if step not in upstream(self.spec, self.study):
            raise StepError(f"{self.spec.name} reads nothing of {step} on study {self.study.name}")
        key = self._key(step)
        if key is None:
            raise StepError(f"{step} has not run on study {self.study.name}; run notebook {step} on it first")
        return store.edition(self.study.name, step, key)

    def _truth(self, name: str) -> Path:
        path = paths.truth(self.study.name) / name
        if TRUTH not in self.spec.needs:
            raise StepError(f"{self.spec.name} may not know the truth; only a step that needs {TRUTH} may")
        if not path.is_file():
            raise StepError(
                f"{paths.shown(path)}: no such file; run notebook 01_data_cleaning on a simulated company first"
            )
        return path

    # -- what the reader sees ------------------------------------------------------------------------------------------

    def finding(
        self,
        finding_id: str,
        value: float | str | None,
        low: float | None = None,
        high: float | None = None,
        *,
        unit: str,
        reason: str | None = None,
        figure: str | None = None,
        answer: bool = False,
        head: bool = False,
        **facts: Any,
    ) -> None:
        """State a result: the only way to. It is shown here, on the page, in the index and wherever findings are read.

        Parameters
        ----------
        finding_id : stable name; also the key of its sentence.
        value, low, high : the estimate and its interval, in ``unit``.
        reason : why there is no interval, where there is none.
        figure : the id of a figure shown with :meth:`figure` that tells the same.
        answer : whether this is the notebook's answer, which heads the published page.
        head : whether the head of the page says this too, below the answer.
        facts : what else the sentence needs.

        Raises
        ------
        StepError
            The id is taken, the figure is not there, or neither interval nor reason is given.
        """
        value, low, high = (_plain(x) for x in (value, low, high))
        if any(f["id"] == finding_id for f in self._findings):
            raise StepError(f"{self.spec.name}: finding {finding_id!r} is stated twice")
        if (low is None or high is None) and not reason:
            raise StepError(
                f"{self.spec.name}: finding {finding_id!r} needs low and high, or reason: why it has no interval"
            )
        if figure is not None and figure not in self._figures:
            raise StepError(
                f"{self.spec.name}: finding {finding_id!r} names figure {figure!r}, which has not been shown"
            )
        sentence = self._sentences.render(finding_id, value=value, low=low, high=high, **self._facts(facts))
        finding = {
            "id": finding_id,
            "value": value,
            "low": low,
            "high": high,
            "unit": unit,
            "reason": reason,
            "sentence": sentence,
            "figure": figure,
            "answer": answer,
            "head": head,
        }
        self._findings.append(finding)
        self._show(*bundles.finding_bundle(finding_id, sentence, bundles.finding_note(finding, self.format)))

    def say(self, text_id: str, **facts: Any) -> None:
        """Show a paragraph whose claims are filled in from ``facts``."""
        self._show(*bundles.text_bundle(text_id, self._sentences.render(text_id, **self._facts(facts))))

    def text(self, text_id: str, **facts: Any) -> str:
        """A sentence as text, for use inside another call."""
        return self._sentences.render(text_id, **self._facts(facts))

    def figure(
        self, fig: Figure, figure_id: str, *, alt: str | None = None, caption: str | None = None, **facts: Any
    ) -> None:
        """Show a figure with its description for those who cannot see it, and its caption.

        Raises
        ------
        StepError
            It has no alt text.
        """
        alt = alt or self._optional(f"{figure_id}.alt", facts)
        caption = caption or self._optional(f"{figure_id}.caption", facts)
        if not alt:
            raise StepError(
                f"{self.spec.name}: figure {figure_id!r} has no alt text; give alt, or the sentence {figure_id}.alt"
            )
        data, metadata = bundles.figure_bundle(fig, figure_id, alt, caption)
        (self._folder / "figures" / f"{figure_id}.png").write_bytes(base64.b64decode(data["image/png"]))
        self._figures[figure_id] = alt
        self._show(data, metadata)

    def table(
        self,
        frame: pd.DataFrame,
        table_id: str,
        columns: dict[str, tuple[str, str]],
        *,
        caption: str | None = None,
        head: int | None = None,
        **facts: Any,
    ) -> None:
        """Show a small table for people and save it as CSV beside the report.

        Parameters
        ----------
        frame : one row a group; never one row a customer.
        columns : column -> (label, unit), in the order to show; a label that says customers says what the study calls them.
        head : how many rows to show of a long one; the CSV has all.

        Raises
        ------
        StepError
            It shows a column that identifies people.
        """
        personal = _KEYS.intersection(columns)
        if personal:
            raise StepError(
                f"{self.spec.name}: table {table_id!r} shows {personal.pop()}, which identifies people; use export"
            )
        caption = caption or self._optional(f"{table_id}.caption", facts)
        write_csv(frame[list(columns)], self._folder / "csv" / f"{table_id}.csv")
        shown = frame if head is None else frame.head(head)
        columns = {name: (self._named(label), unit) for name, (label, unit) in columns.items()}
        html = people_table(shown, columns, self.format, caption, table_id)
        csv = f"{self.spec.name}/{table_id}.csv"
        self._tables.append({"id": table_id, "caption": caption or table_id, "csv": csv})
        self._show(*bundles.table_bundle(html, shown[list(columns)], table_id, csv))

    def _optional(self, key: str, facts: dict[str, Any]) -> str | None:
        return self._sentences.render(key, **self._facts(facts)) if self._sentences.has(key) else None

    def _named(self, label: str) -> str:
        """A label with what the study calls its customers."""
        words = self.study.words

        def named(found: re.Match[str]) -> str:
            word = words.customers if found[0].endswith("s") else words.customer
            return word.capitalize() if found[0][0] == "C" else word

        return re.sub(r"\b[Cc]ustomers?\b", named, label)

    def _facts(self, facts: dict[str, Any]) -> dict[str, Any]:
        words = {"customer": self.study.words.customer, "customers": self.study.words.customers}
        return words | {name: _plain(fact) for name, fact in facts.items()}

    def _show(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        display(data, metadata=metadata, raw=True)

    # -- the end -------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Publish everything that was staged, at once or not at all.

        Raises
        ------
        StepError
            There is not exactly one answer among the findings, or it was already committed.
        """
        answers = [f["id"] for f in self._findings if f["answer"]]
        if len(answers) != 1:
            raise StepError(
                f"{self.spec.name}: exactly one finding must be the answer, found {len(answers)}: {answers}"
            )
        if self._committed:
            raise StepError(f"{self.spec.name}: already committed; open the step again to change it")
        findings = [f | {"alt": self._figures.get(f["figure"])} for f in self._findings]
        store.write_json(self._folder / "findings.json", findings)
        clock, money = self.study.clock, self.study.money
        manifest = {
            "step": self.spec.name,
            "study": self.study.name,
            "observed_to": clock.observed_to.isoformat() if clock else None,
            "currency": self.study.currency,
            "money": {name: given.value if (given := getattr(money, name)) else None for name in _ASSUMED},
            "parameters": self.params.model_dump(mode="json"),
            "guarded": self.study.guarded,
            "tables": self._written,
            "people_tables": self._tables,
            "figures": self._figures,
        }
        store.write_json(self._folder / store.MANIFEST, manifest)
        self._committed = True
        if not self._run:
            # Interactive work gets a key of its own, so that it can never pass for the result of a run.
            key = f"interactive-{store.tree_digest(self._folder)[:16]}"
            store.publish(self.study.name, self.spec.name, self._folder, key)
            store.keep(self.study.name, self.spec.name, self.study.keep_editions)
        written = ", ".join(f"{name} ({rows:,} rows)" for name, rows in self._written.items())
        print(f"written: {written or 'no tables'}; {len(findings)} findings")


def _plain(value: Any) -> Any:
    """A Python number for a numpy one; None for what is not a number, so that JSON and templates agree."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and value != value:
        return None
    return value
