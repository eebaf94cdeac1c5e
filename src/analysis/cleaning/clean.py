"""Clean a study's sources into canonical tables and a quarantine, and prove that nothing was lost on the way.

Everything is an Ibis expression over text tables, on the engine that the study names; no row is ever pulled into this
process. A text in its usual form is read at once; the few in another form are kept apart, put right step by step, and go
through the same rules.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce

import ibis
import ibis.expr.datatypes as dt
import pandas as pd
from ibis import _
from ibis.expr.types import Column, Table, Value

from analysis import sources
from analysis.cleaning import identity, parse, repeats, rules
from analysis.cleaning.books import ZERO, Books, codes_of
from analysis.cleaning.parse import Field, Reader
from analysis.cleaning.repeats import among, without
from analysis.cleaning.rules import BITS, REASONS, Context, Severity, any_of
from analysis.engine import Engine, clear_scratch, open_engine
from analysis.errors import RapportError
from analysis.sources import ColumnProfile, RawTable
from analysis.sources.comments import any_theme, mentions
from analysis.sources.rows import check_column
from analysis.study import NEEDED, Comments, Mapping, Study
from analysis.tables import CONTRACTS, MONEY

# Tables that others refer to come first.
ORDER = (
    "products",
    "order_lines",
    "customers",
    "prospects",
    "survey_responses",
    "interactions",
    "marketing_costs",
    "campaigns",
    "offers",
    "contacts",
)
_AMOUNT = {"order_lines": "net_amount", "marketing_costs": "amount"}
_DATED = {
    "order_lines": "order_date",
    "survey_responses": "responded_on",
    "interactions": "opened_at",
    "contacts": "contacted_on",
}
_MAIN = ("order_lines", "survey_responses")  # with none of their rows there is nothing to report
LARGE = 15_000_000  # rows of a source from which on intermediate results go to the disk
_OWN = {
    "row_id",
    "file",
    "malformed_row",
    "row_print",
    "key_print",
    "odd",
    "mask",
    "aside",
    "lookup_key",
    "lookup_value",
}
_RESERVED = _OWN | set(REASONS)


@dataclass
class Cleaned:
    """What cleaning made.

    Attributes
    ----------
    tables : canonical table -> Ibis table, on DuckDB.
    quarantine : the rows that were set aside, each with source, row number, reasons and raw values.
    ledger : one row a table: ``table, source, rows_in, rows_kept, rows_merged, rows_set_aside, rows_out``, and for tables
        with money ``amount_in, amount_kept, amount_set_aside``. ``rows_kept`` counts raw rows; ``rows_out`` rows of the table,
        which merging and added rows make differ.
    reasons : one row a table and reason: ``table, reason, severity, sentence, treatment, rows, amount``.
    waterfall : from raw to clean, each row under its first reason: ``table, step`` (``raw``, a reason, ``clean``), ``rows`` and
        ``amount`` (negative for reasons).
    columns : one row a mapped column: ``table, column, source, raw_column, rows, blank, bad, repaired``.
    periods : the same by month, for tables with a date: ``table, period, column, rows, blank, bad``; ``NaT`` without a date.
    set_aside : rows by month: ``table, period, rows, set_aside``.
    limits : beyond which a value is called an outlier: ``column, low, high``.
    raw : source -> its rows as text, on DuckDB; of a source that was used in place its first 100,000.
    notes : what cannot be said of the data where they were used in place, and what was done to ids: sentences.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    quarantine: Table | None = None
    ledger: pd.DataFrame = field(default_factory=pd.DataFrame)
    reasons: pd.DataFrame = field(default_factory=pd.DataFrame)
    waterfall: pd.DataFrame = field(default_factory=pd.DataFrame)
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    periods: pd.DataFrame = field(default_factory=pd.DataFrame)
    set_aside: pd.DataFrame = field(default_factory=pd.DataFrame)
    limits: pd.DataFrame = field(default_factory=pd.DataFrame)
    raw: dict[str, Table] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def clean(study: Study, connection: ibis.BaseBackend) -> Cleaned:
    """Bring in and clean every table that ``study`` maps, on the study's engine.

    Parameters
    ----------
    study : the validated study.
    connection : DuckDB, where results land.

    Raises
    ------
    SourceError
        A source cannot be brought in.
    RapportError
        The engine cannot be reached, a mapped column is not in its source, or nothing in a column can be read; one line with
        the cure.
    """
    sources.prepare(study)
    clear_scratch(study.name)
    severities = rules.severities(study)
    engine = open_engine(study.engine, connection, study.name)
    try:
        cleaner = _Cleaner(study, engine, severities)
        for table in ORDER:
            if table in study.tables:
                cleaner.clean(table)
            elif table == "customers" and "order_lines" in study.tables:
                cleaner.tables["customers"] = engine.keep(cleaner.known_customers())
        cleaned = cleaner.result()
    except BaseException:
        engine.close()
        raise
    # Tables are read from the engine's scratch files for as long as somebody holds them.
    weakref.finalize(cleaned, engine.close)
    return cleaned


def examples(cleaned: Cleaned) -> list[tuple[str, int, str]]:
    """The first row that was set aside for each set of reasons: source, row number, reasons."""
    first = cleaned.quarantine.group_by("source", "reasons").aggregate(row_number=_.row_number.min())
    rows = first.order_by("source", "row_number").to_pyarrow().to_pylist()
    return [(row["source"], row["row_number"], row["reasons"]) for row in rows]


class _Cleaner:
    def __init__(self, study: Study, engine: Engine, severities: dict[str, Severity]) -> None:
        self.study, self.engine = study, engine
        self.notes: list[str] = []
        self._raw: dict[str, Table] = {}
        self.raw: dict[str, RawTable] = {}
        for name in sources.needed(study, study.tables):
            self._bring_in(name)
        engine.large = max((raw.rows for raw in self.raw.values()), default=0) > LARGE
        self.tables: dict[str, Table] = {}
        self.aside: list[tuple[str, Table]] = []
        self.books = Books(severities)
        self.columns: list[dict] = []
        self.periods: list[pd.DataFrame] = []
        self.limits = pd.DataFrame(columns=["column", "low", "high"])
        self._check_columns()
        self.aliases = self._aliases()

    # -- what is there -------------------------------------------------------------------------------------------------

    def _bring_in(self, name: str) -> None:
        source = self.study.sources[name]
        if source.database is not None and self.engine.holds(source.database):
            if not self.study.hashed(name) and not self.study.comments_in(name):
                sources.check_alone(self.study, name)
                self._raw[name] = raw = self.engine.in_place(source.table, source.query)
                columns = tuple(c for c in raw.columns if c not in sources.RESERVED)
                self.raw[name] = RawTable(name, (), columns, _rows(raw), "")
                self.notes.append(
                    f"Source {name} was used where it is, in the database: rows are numbered in the order of their values, and "
                    "what its own import changed cannot be seen."
                )
                return
            self.notes.append(
                f"Source {name} lies in the database, but holds personal columns or comments: its rows went through the door, "
                "where the former are hashed and the latter become themes."
            )
        self.raw[name] = sources.bring_in(self.study, name)

    def read(self, name: str) -> Table:
        """A raw source on the engine, with the study's sampling of customers applied."""
        return sources.sampled(self.study, name, self._stored, self.engine.md5)

    def _stored(self, name: str) -> Table:
        if name not in self._raw:
            self._raw[name] = self.engine.read(self.raw[name].paths)
        return self._raw[name]

    def _check_columns(self) -> None:
        for name in self.raw:
            sample = self.study.sources[name].sample
            if sample:
                among = sample.among or name
                check_column(
                    self.study.name, f"sources.{name}.sample.column", name, sample.column, self.raw[name].columns
                )
                column = sample.among_column or sample.column
                place = f"sources.{name}.sample.among_column"
                check_column(self.study.name, place, among, column, self.raw[among].columns)
        for table, mapping in self.study.tables.items():
            taken = _RESERVED | set(CONTRACTS[table].columns)
            survey = self.study.survey if table == "survey_responses" else None
            names = [
                ("columns", item) for item in dict.fromkeys(survey.items if survey else ()) if item in mapping.columns
            ]
            for place, name in [*names, *(("attributes", attribute) for attribute in mapping.attributes)]:
                if name.lower() in taken or "__" in name:
                    raise RapportError(
                        f"studies/{self.study.name}/study.yaml: tables.{table}.{place}: {name!r} is the name of "
                        "another column (upper and lower case count as one); call it something else"
                    )
                taken.add(name.lower())
            places = [(f"columns.{c}", mapping.source, m) for c, m in mapping.columns.items()]
            places += [(f"attributes.{c}", mapping.source, m) for c, m in mapping.attributes.items()]
            if mapping.redemptions:
                r = mapping.redemptions
                places += [("redemptions.campaign_id", r.source, r.campaign_id)]
                places += [("redemptions.customer_id", r.source, r.customer_id)]
            for place, source, m in places:
                for column in m.raw_columns:
                    check_column(self.study.name, f"tables.{table}.{place}", source, column, self.raw[source].columns)
                if m.lookup:
                    for column in (m.lookup.key, m.lookup.value):
                        where = f"tables.{table}.{place}.lookup"
                        check_column(self.study.name, where, m.lookup.source, column, self.raw[m.lookup.source].columns)
        same = self.study.rules.same_person
        if same:
            if "customers" not in self.study.tables:
                raise RapportError(
                    f"studies/{self.study.name}/study.yaml: rules.same_person: needs tables.customers, whose source tells who "
                    "has which e-mail or telephone"
                )
            source = self.study.tables["customers"].source
            for column in [c for key in same.keys for c in key] + list(same.compare):
                check_column(self.study.name, "rules.same_person", source, column, self.raw[source].columns)

    def known_customers(self) -> Table:
        """Every customer who has an order line; with the first purchase as acquisition where that is what the clock says."""
        lines = self.tables["order_lines"]
        if self.study.clock.entry != "first_purchase":
            return lines.select("customer_id").distinct()
        bought = ibis.ifelse(lines.net_amount > 0, lines.order_date, None)
        return lines.group_by("customer_id").aggregate(acquired_on=bought.min())

    # -- persons -------------------------------------------------------------------------------------------------------

    def _aliases(self) -> Table | None:
        """``customer_id, person_id`` of the second ids of persons, where the study says how to know them."""
        same = self.study.rules.same_person
        if same is None:
            return None
        mapping = self.study.tables["customers"]
        raw = self.read(mapping.source)
        given = {"customer_id": Field(dt.string, mapping.columns["customer_id"], self.study.rules.customer_id)}
        wanted = list(dict.fromkeys([c for key in same.keys for c in key] + list(same.compare)))
        text, reader = self._stripped(raw, mapping.source, mapping.columns["customer_id"]), self._reader(mapping.source)
        value = reader.plain(text, given["customer_id"])
        people = raw.select(
            "row_id", customer_id=value, customer_id__text=ibis.ifelse(value.isnull(), text, None),
            **{f"is_{n}": raw[c] for n, c in enumerate(wanted)},
        )  # fmt: skip
        people = (
            reader.mended(self.engine.keep(people), given) if given["customer_id"].id_form else self.engine.keep(people)
        )
        people = self.engine.keep(people.filter(_.customer_id.notnull()).drop("customer_id__text"))
        named = {c: f"is_{n}" for n, c in enumerate(wanted)}
        links: list[Table] = []
        if same.keys:
            keys = [[named[c] for c in key] for key in same.keys]
            exact = identity.same_person(people, "customer_id", keys, self._materialise, same.limit)
            links.append(exact.links)
            self.notes.append(
                f"{exact.linked_ids:,} customer ids belong to {exact.persons:,} persons who have more than one; values that more "
                f"than {same.limit} ids share tell nothing and were not used ({exact.values_over_limit:,})."
            )
        if same.compare:
            links.append(self._probable(people, {named[c]: kind for c, kind in same.compare.items()}, links))
        return self.engine.keep(reduce(lambda a, b: a.union(b), links))

    def _probable(self, people: Table, compare: dict[str, str], exact: list[Table]) -> Table:
        """Links that splink finds among those whom no exact key has linked."""
        if exact:
            people = without(people, exact[0], "customer_id")
        landed = self.engine.land(self.engine.keep(people))
        kinds = {column: {"date": "date_of_birth"}.get(kind, kind) for column, kind in compare.items()}
        found = identity.probable_person(
            landed, "customer_id", kinds, self.study.rules.same_person.threshold, self.study.seed
        )
        self.notes.append(
            f"{found.linked_ids:,} more customer ids probably belong to {found.persons:,} persons who have more than one "
            "(Fellegi-Sunter model). The model takes columns for independent, which families' are not: look at some pairs."
        )
        path = self.engine.new_file()
        self.engine.local.to_parquet(found.links.mutate(row_id=ibis.literal(0)), path)
        return self.engine.read([path]).select("customer_id", "person_id")

    def _materialise(self, name: str, expression: Table) -> Table:
        return self.engine.keep(expression)

    # -- one table -----------------------------------------------------------------------------------------------------

    def clean(self, table: str) -> None:
        mapping = self.study.tables[table]
        context = Context(self.study, self.engine, table, mapping, self.tables, self.books.severities)
        raw = self.read(mapping.source)
        rows, forms = self._marked(table, raw, context)
        counted = self._counted(table, rows)
        self._enough(table, counted, raw)
        late, moved = self._looked_at_together(table, rows, raw, context)
        aside = rows.filter(rows.aside).select("row_id", bits="mask")
        kept = rows.filter(~rows.aside)
        late_aside = None
        if late is not None:
            late_aside = late.filter(late.set_aside).select("row_id", "bits")
            aside = aside.union(late_aside)
            kept = without(kept, late_aside, "row_id")
        if moved is not None:
            kept = kept.left_join(moved.rename(new_at="ordered_at", new_date="order_date"), "row_id").drop(
                "row_id_right"
            )
            kept = kept.mutate(
                ordered_at=ibis.coalesce(kept.new_at, kept.ordered_at),
                order_date=ibis.coalesce(kept.new_date, kept.order_date),
            )
        self.tables[table] = self._canonical(table, kept)
        self.aside.append((mapping.source, self.engine.keep(aside)))
        self._account(table, raw, rows, counted, late, forms, context)
        if mapping.redemptions:
            self._redeem(table)

    def _reader(self, source: str) -> Reader:
        return Reader(self.engine, self.study.sources[source], self.study.timezone, self.study.currency)

    def _stripped(self, raw: Table, source: str, mapping: Mapping) -> Value:
        """A mapped column as text."""
        if mapping.constant is not None:
            return ibis.literal(mapping.constant)
        if mapping.row_number:
            return raw.row_id.cast("string")
        if mapping.combine:
            return reduce(lambda a, b: a + "-" + b, [self._column_text(raw, source, c) for c in mapping.combine])
        value = self._column_text(raw, source, mapping.column)
        return ibis.literal(mapping.prefix) + value if mapping.prefix else value

    def _column_text(self, raw: Table, source: str, column: str) -> Value:
        profile = self.raw[source].profile.get(column)
        if profile is None:
            return parse.text(raw[column])
        return parse.text(raw[column], padded=profile.padded > 0, blank=profile.blank > 0)

    def _dtype(self, table: str, name: str) -> dt.DataType:
        known = CONTRACTS[table].columns.get(name)
        return known.dtype if known else dt.float64  # the undeclared ones are survey items

    def _fields(self, table: str) -> Iterator[tuple[str, Field, Mapping, str | None]]:
        """Every text that is read for a table: its name, how it is read, its mapping, and the raw column of a part of a sum."""
        for name, m in self.study.tables[table].columns.items():
            form = self.study.rules.customer_id if name == "customer_id" and m.column and not m.lookup else None
            if m.sum or m.product:
                for n, column in enumerate(m.sum or m.product):
                    yield f"{name}__part{n}", Field(MONEY, m), m, column
            else:
                writes = self.study.sources[m.lookup.source] if m.lookup else None
                yield name, Field(self._dtype(table, name), m, form, writes), m, None

    def _typed(self, table: str, raw: Table) -> Table:
        """Texts in their usual form as values; where there is none, the text beside it."""
        mapping = self.study.tables[table]
        source, reader = mapping.source, self._reader(mapping.source)
        for name, m in mapping.columns.items():
            if m.lookup:
                other = self.read(m.lookup.source)
                pairs = other.group_by(lookup_key=self._column_text(other, m.lookup.source, m.lookup.key)).aggregate(
                    **{f"{name}__found": self._column_text(other, m.lookup.source, m.lookup.value).min()}
                )
                raw = raw.mutate(**{f"{name}__wanted": self._stripped(raw, source, m)})
                raw = raw.left_join(pairs, raw[f"{name}__wanted"] == pairs.lookup_key).drop("lookup_key")
        columns: dict[str, Value] = {"row_id": raw.row_id, "file": raw.file, "malformed_row": raw.malformed.notnull()}
        for name, field_, m, part in self._fields(table):
            if m.lookup:
                text = raw[f"{name}__found"]
            else:
                text = self._column_text(raw, source, part) if part else self._stripped(raw, source, m)
                if self.study.survey and name in self.study.survey.items and self.study.survey.missing_codes:
                    text = ibis.ifelse(text.isin(self.study.survey.missing_codes), None, text)
            columns[name] = value = reader.plain(text, field_)
            if not field_.dtype.is_string() or field_.id_form:
                columns[f"{name}__text"] = ibis.ifelse(value.isnull(), text, None)
        if table == "order_lines":
            columns["order_date"] = self._local_date(columns["ordered_at"], mapping.columns["ordered_at"], raw)
        for name, m in mapping.attributes.items():
            columns[name] = self._stripped(raw, source, m)
        if comments := self._comments(table):
            marks = raw[comments.column]
            columns["comment_given"] = marks.notnull()
            columns |= {f"comment_{theme}": mentions(marks, theme) for theme in comments.themes}
            columns["comment_other"] = marks.notnull() & ~any_theme(marks)
        if self._by_rows(table):
            columns["row_print"] = self.engine.fingerprint([raw[c] for c in self.raw[source].columns])
        return raw.select(**columns)

    def _comments(self, table: str) -> Comments | None:
        return self.study.comments if table == "survey_responses" else None

    def _local_date(self, moment: Column, mapping: Mapping, raw: Table) -> Column:
        if mapping.format is None and mapping.timezone in (None, self.study.timezone) and mapping.column:
            # The wall clock is the shop's own already.
            return self.engine.wall_clock(self._stripped(raw, self.study.tables["order_lines"].source, mapping)).date()
        return self.engine.local_time(self.study.timezone, moment).date()

    def _by_rows(self, table: str) -> bool:
        """Whether repeats are told by whole rows: where a row's key is not in the data, or names several rows on purpose."""
        return not self._has_key(table) and self.study.rules.duplicate_rows == "set_aside"

    def _has_key(self, table: str) -> bool:
        mapping = self.study.tables[table]
        return set(CONTRACTS[table].key) <= set(mapping.columns) and not mapping.merge_repeated

    def _marked(self, table: str, raw: Table, context: Context) -> tuple[Table, Table | None]:
        """All rows of a table: values, and in ``mask`` the reasons of every rule that looks at one row; and the rows that were
        written in another form, with their ``__form``, if there are any."""
        typed = self._typed(table, raw)
        texts = [c for c in typed.columns if c.endswith("__text")]
        odd = any_of([typed[c].notnull() for c in texts])
        typed = typed.mutate(odd=ibis.literal(False) if odd is None else odd)
        plain = self.engine.keep(self._judged(typed, context, holds="odd"))
        n_odd = int(plain.odd.sum().to_pyarrow().as_py() or 0)
        shown = [c for c in plain.columns if not c.endswith("__text") and "__part" not in c and c != "odd"]
        if not n_odd:
            return plain.select(shown), None
        fields = {name: f for name, f, _m, _part in self._fields(table) if f"{name}__text" in texts}
        rest = [c for c in typed.columns if c in plain.columns]
        strange = self.engine.keep(plain.filter(plain.odd).select(rest))
        mended = self._reader(self.study.tables[table].source).mended(strange, fields)
        if table == "order_lines":
            date = self.engine.local_time(self.study.timezone, mended.ordered_at).date()
            mended = mended.mutate(order_date=ibis.coalesce(mended.order_date, date))
        judged = self.engine.keep(self._judged(mended, context))
        return plain.filter(~plain.odd).select(shown).union(judged.select(shown)), judged

    def _judged(self, rows: Table, context: Context, holds: str | None = None) -> Table:
        """Sums, references to other tables, reasons and repairs.

        ``holds`` names a mark of rows whose values must stay as they are, since they will be judged again.
        """
        mapping = context.mapping
        rows = rows.mutate(**self._made(rows, mapping.columns))
        bad = {f"{name}__bad": self._unreadable(rows, name, m) for name, m in mapping.columns.items()}
        rows = rows.mutate(**bad)
        rows = self._with_references(rows, context)
        found = rules.conditions(rows, context)
        mask = reduce(lambda a, b: a + b, [ibis.ifelse(c, BITS[code], 0).cast("int64") for code, c in found.items()])
        aside = any_of([c for code, c in found.items() if self.books.severities[code] == "set_aside"])
        untouched = rows[holds] if holds else None
        changes = {
            name: value if untouched is None else ibis.ifelse(untouched, rows[name], value)
            for name, value in self._repairs(rows, found, context).items()
        }
        rows = rows.mutate(mask=mask, aside=aside, **changes)
        if self._has_key(context.table):
            key = [rows[c].cast("string") for c in CONTRACTS[context.table].key]
            rows = rows.mutate(key_print=self.engine.fingerprint(key))
        return rows.drop(*[c for c in rows.columns if c.endswith(("__known", "__merged"))])

    def _made(self, rows: Table, columns: dict[str, Mapping]) -> dict[str, Value]:
        """Sums and products of their parts; a blank part of a sum is nothing to add."""
        made = {}
        for name, m in columns.items():
            if m.sum:
                parts = [rows[f"{name}__part{n}"] for n in range(len(m.sum))]
                readable = [self._nothing_if_blank(rows, name, n) for n in range(len(m.sum))]
                total = reduce(lambda a, b: a + b, readable)
                made[name] = ibis.ifelse(any_of([p.notnull() for p in parts]), total.cast(MONEY), None)
            elif m.product:
                factors = [rows[f"{name}__part{n}"] for n in range(len(m.product))]
                size = reduce(lambda a, b: a * b, [f.cast("float64") for f in factors]).abs()
                exact = reduce(lambda a, b: a * b, [ibis.ifelse(size < 1e13, f, None) for f in factors])
                made[name] = exact.cast(MONEY)
        return made

    def _nothing_if_blank(self, rows: Table, name: str, n: int) -> Value:
        part = rows[f"{name}__part{n}"]
        blank = part.isnull() & rows[f"{name}__part{n}__text"].isnull()
        return ibis.ifelse(blank, parse.money("0"), part)

    def _unreadable(self, rows: Table, name: str, m: Mapping) -> Value:
        parts = [f"{name}__part{n}" for n in range(len(m.sum or m.product or ()))] or [name]
        there = [c for c in parts if f"{c}__text" in rows.columns]
        bad = any_of([rows[c].isnull() & rows[f"{c}__text"].notnull() for c in there])
        return ibis.literal(False) if bad is None else bad

    def _with_references(self, rows: Table, context: Context) -> Table:
        """Second ids of persons replaced, and ``<column>__known``: whether another table has it."""
        if self.aliases is not None and "customer_id" in context.mapped:
            rows = self._with_first_ids(rows)
        checks = {"order_lines": {"product_id": "products"}}
        checks["contacts"] = {"customer_id": "customers", "campaign_id": "campaigns"}
        for column, other in checks.get(context.table, {}).items():
            if column in context.mapped and other in self.tables:
                there = self.tables[other].select(known_id=column).distinct()
                wanted = "customer_id__first" if f"{column}__first" in rows.columns else column
                rows = rows.left_join(there, rows[wanted] == there.known_id)
                rows = rows.mutate(**{f"{column}__known": rows.known_id.notnull()}).drop("known_id")
        return rows

    def _with_first_ids(self, rows: Table) -> Table:
        """``customer_id__first``, the first id of the person, and ``customer_id__merged``: whether it is another."""
        links = self.aliases.rename(alias_id="customer_id")
        rows = rows.left_join(links, rows.customer_id == links.alias_id).drop("alias_id")
        first = ibis.coalesce(rows.person_id, rows.customer_id)
        return rows.mutate(customer_id__merged=rows.person_id.notnull(), customer_id__first=first).drop("person_id")

    def _repairs(self, rows: Table, found: dict[str, Value], context: Context) -> dict[str, Value]:
        """Values put right where a repair rule applies."""
        changes: dict[str, Value] = {}
        if "customer_id__first" in rows.columns:
            changes["customer_id"] = rows.customer_id__first
        if "return_quantity" in found:
            changes["quantity"] = ibis.ifelse(found["return_quantity"], -rows.quantity, rows.quantity)
        if "discount_sign" in found:
            changes["discount"] = rows.discount.abs().fill_null(parse.money("0"))
        if "below_zero" in found:
            changes |= {c: ibis.ifelse(rows[c] < 0, None, rows[c]) for c in context.not_negative}
        if "outside_scale" in found:
            for item, (low, high) in self.study.survey.scales.items():
                if item in rows.columns:
                    changes[item] = ibis.ifelse(rows[item].between(low, high), rows[item], None)
        return changes

    def _looked_at_together(
        self, table: str, rows: Table, raw: Table, context: Context
    ) -> tuple[Table | None, Table | None]:
        """Reasons of rules that look at several rows: ``row_id, bits, set_aside``; and lines with another time."""
        engine, wanted = self.engine, self.study.rules
        sound = rows.filter(~rows.aside)
        found: list[Table] = []

        def note(marks: Table, gone: bool) -> None:
            nonlocal sound
            marks = engine.keep(marks)
            if _rows(marks):
                found.append(marks)
                if gone:
                    sound = without(sound, marks, "row_id")

        if self._has_key(table):
            note(repeats.duplicate_keys(sound, list(CONTRACTS[table].key), context), gone=True)
        elif self._by_rows(table):
            columns = list(self.raw[context.mapping.source].columns)
            note(repeats.duplicate_rows(sound, raw, columns, context), gone=True)
        moved = None
        if table == "order_lines":
            if wanted.duplicate_lines is not None and "order_id" in context.mapped:
                gone = self.books.severities["duplicate_line"] == "set_aside"
                note(repeats.duplicate_lines(sound, wanted.duplicate_lines, context), gone=gone)
            if wanted.order_times and "order_id" in context.mapped:
                moved = engine.keep(repeats.order_times(sound, context))
                note(moved.select("row_id", code=ibis.literal("order_time")), gone=False)
                moved = moved if _rows(moved) else None
            if wanted.cancellations is not None and "order_id" in context.mapped:
                note(repeats.cancellations(sound, context), gone=False)
            if wanted.outliers is not None and self.books.severities["outlier"] != "off":
                marks, limits = repeats.outliers(sound, wanted.outliers, context)
                self.limits = limits
                note(marks, gone=False)
        if not found:
            return None, moved
        marks = reduce(lambda a, b: a.union(b), found)
        there = {code: ibis.ifelse(marks.code == code, 1, 0).cast("int64").max() for code in repeats.CODES}
        gone = [code for code in repeats.CODES if self.books.severities[code] == "set_aside"]
        marks = marks.group_by("row_id").aggregate(
            bits=reduce(lambda a, b: a + b, [is_so * BITS[code] for code, is_so in there.items()]),
            set_aside=ibis.ifelse(marks.code.isin(gone), 1, 0).max() == 1,
        )
        return engine.keep(marks), moved

    # -- what is wrong with the study rather than with the rows ----------------------------------------------------------

    def _counted(self, table: str, rows: Table) -> pd.DataFrame:
        """All that is counted of a table's rows, in one reading: by ``mask`` and ``month`` (``NaT`` without a date).

        ``rows``, ``money`` (where the table has any), ``first_day`` and ``last_day`` (of order lines), and for each mapped column
        ``<column>__there`` and ``<column>__bad``.
        """
        columns, date = self.study.tables[table].columns, _DATED.get(table)
        month = rows[date].cast("date").truncate("M") if date and date in rows.columns else ibis.null("date")
        sums: dict[str, Value] = {"rows": _.count()}
        if table in _AMOUNT:
            sums["money"] = rows[_AMOUNT[table]].sum()
        if table == "order_lines":
            sums |= {"first_day": rows.order_date.min(), "last_day": rows.order_date.max()}
        sums |= {f"{c}__there": rows[c].count() for c in columns} | {
            f"{c}__bad": rows[f"{c}__bad"].sum() for c in columns
        }
        counted = rows.mutate(month__=month).group_by("mask", "month__").aggregate(**sums).to_pyarrow().to_pandas()
        counted["month"] = pd.to_datetime(counted.pop("month__"))
        return counted.sort_values(["mask", "month"], ignore_index=True)

    def _enough(self, table: str, counted: pd.DataFrame, raw: Table) -> None:
        """Stop where no row fits the header, the period or a required column: then the study is wrong, not the rows."""
        mapping = self.study.tables[table]
        required = [c for c in NEEDED.get(table, ()) if mapping.columns[c].column and not mapping.columns[c].lookup]
        at = f"studies/{self.study.name}/study.yaml"
        n = int(counted.rows.sum())

        def having(*codes: str) -> pd.DataFrame:
            return counted[(counted["mask"] & sum(BITS[code] for code in codes)) != 0]

        if n and having("malformed_row").rows.sum() == n:
            raise RapportError(
                f"{at}: sources.{mapping.source}: every row has more or fewer fields than the header; correct delimiter: or "
                "names:, or export the file again"
            )
        dates = [c for c in required if self._dtype(table, c).is_temporal()]
        ambiguous, other = (int(having(code).rows.sum()) for code in ("ambiguous_date", "date_form"))
        if dates and ambiguous > n / 5 and counted[f"{dates[0]}__there"].sum() - other < n / 2:
            raise RapportError(
                f"{at}: tables.{table}.columns.{dates[0]}: {ambiguous:,} of {n:,} dates of {mapping.source} can be read day first "
                "or month first; add day_first: true (or false) to the mapping, or format:"
            )
        for column in required:
            if n and not counted[f"{column}__there"].sum():
                self._unreadable_column(table, column, raw)
        if table == "order_lines":
            dated, outside = counted[counted.first_day.notna()], having("before_period", "after_period")
            if len(dated) and dated.rows.sum() == outside.rows.sum():
                clock = self.study.clock
                raise RapportError(
                    f"{at}: clock: no row of {mapping.source} lies between observed_from {clock.observed_from} and observed_to "
                    f"{clock.observed_to}; they are dated {dated.first_day.min()} to {dated.last_day.max()}; correct the clock"
                )
        kept = counted[~counted["mask"].map(self._is_aside)].rows.sum()
        if table in _MAIN and not kept:
            masks = counted.groupby("mask").rows.sum()
            worst = masks.index[masks.argmax()]
            codes = [c for c in codes_of(worst) if self.books.severities[c] == "set_aside"]
            why = " ".join(REASONS[code].sentence for code in codes)
            raise RapportError(
                f"{at}: tables.{table}: no row of {mapping.source} can be kept; in {masks[worst]:,} of {n:,} rows: {why} Correct "
                "the mapping, or the file"
            )

    def _is_aside(self, mask: int) -> bool:
        return any(self.books.severities[code] == "set_aside" for code in codes_of(mask))

    def _unreadable_column(self, table: str, column: str, raw: Table) -> None:
        mapping = self.study.tables[table]
        m = mapping.columns[column]
        example = parse.text(raw[m.column])
        shape = example.re_replace("[0-9]", "9").re_replace("[A-Za-z]", "a")
        values = raw.filter(example.notnull()).select(shape=shape).limit(1).to_pyarrow()["shape"].to_pylist()
        looks = f"values look like {values[0][:40]!r}" if values else "every value is blank"
        cure = "add format: to the mapping, for example {column: …, format: '%d/%m/%Y'}"
        if CONTRACTS[table].columns[column].dtype.is_decimal():
            cure = "say decimal: or thousands: in the source; amounts have at most 14 digits before the point"
        if column == "customer_id":
            cure = "correct rules.customer_id.pattern"
        cure = cure if values else "map another column"
        raise RapportError(
            f"studies/{self.study.name}/study.yaml: tables.{table}.columns.{column}: no row of {mapping.source} has a readable "
            f"{m.column}; {looks}; {cure}"
        )

    # -- the finished table ----------------------------------------------------------------------------------------------

    def _canonical(self, table: str, kept: Table) -> Table:
        mapping = self.study.tables[table]
        comments = self._comments(table)
        names = [*mapping.columns, *mapping.attributes, *(comments.columns if comments else ())]
        if table == "order_lines":
            return self._order_lines(kept, set(mapping.columns))
        result = kept.select(names)
        if mapping.merge_repeated:
            result = _most_frequent(
                kept, list(CONTRACTS[table].key), [c for c in names if c not in CONTRACTS[table].key]
            )
        if table == "customers" and "order_lines" in self.tables:
            known = self.known_customers()
            everyone = known.select("customer_id").union(result.select("customer_id"), distinct=True)
            extra = known if "acquired_on" not in names else known.select("customer_id")
            result = everyone.left_join(extra, "customer_id").drop("customer_id_right").left_join(result, "customer_id")
            result = result.drop("customer_id_right")
        if table == "contacts":
            result = self._with_campaign_dates(result)
        # Other tables refer to these, and each reading would do the work again.
        return self.engine.keep(result) if table in ("products", "customers", "campaigns") else result

    def _order_lines(self, kept: Table, mapped: set[str]) -> Table:
        lines = kept
        if "quantity" not in mapped:
            sign = ibis.ifelse(lines.net_amount < 0, parse.money("-1"), parse.money("1"))
            lines = lines.mutate(quantity=sign)
        lines = lines.mutate(is_return=(lines.net_amount < 0) | (lines.quantity < 0))
        if "order_id" not in mapped:
            lines = lines.mutate(order_id=lines.customer_id + "-" + lines.order_date.cast("string"))
        if "line_number" not in mapped:
            nth = ibis.row_number().over(group_by=lines.order_id, order_by=[lines.file, lines.row_id])
            lines = lines.mutate(line_number=nth + 1)
        if "unit_price" not in mapped:
            discount = lines.discount.fill_null(parse.money("0")) if "discount" in mapped else parse.money("0")
            gross = lines.net_amount.abs() + discount
            price = gross.cast("float64") / lines.quantity.abs().nullif(0).cast("float64")
            price = ibis.ifelse(price < 1e14, price, None).round(4).cast(MONEY)
            lines = lines.mutate(unit_price=price)
        else:
            lines = lines.mutate(unit_price=ibis.ifelse(lines.quantity == 0, None, lines.unit_price))
        return lines.select([c for c in CONTRACTS["order_lines"].columns if c in lines.columns])

    def _with_campaign_dates(self, contacts: Table) -> Table:
        """Contacts dated by their campaign's start where they have no date; the untargeted added where the study asks."""
        campaigns = self.tables.get("campaigns")
        if campaigns is None:
            return contacts
        if "contacted_on" not in contacts.columns:
            starts = campaigns.select("campaign_id", contacted_on="starts_on")
            contacts = contacts.left_join(starts, "campaign_id").drop("campaign_id_right")
        if not self.study.tables["contacts"].untargeted:
            return contacts
        observational = campaigns.filter(campaigns.design == "observational").select("campaign_id")
        everyone = observational.cross_join(self.tables["customers"].select("customer_id"))
        others = without(everyone, contacts, ["campaign_id", "customer_id"]).mutate(arm=ibis.literal("untargeted"))
        blanks = {c: ibis.null(contacts[c].type()) for c in contacts.columns if c not in others.columns}
        return contacts.union(others.mutate(**blanks).select(contacts.columns))

    def _redeem(self, table: str) -> None:
        """Mark contacts with a redemption; set redemptions without a contact aside."""
        mapping = self.study.tables[table].redemptions
        raw = self.read(mapping.source)
        contacts = self.engine.keep(self.tables[table])
        reached = contacts.filter(contacts.arm != "untargeted").select("campaign_id", "customer_id")
        rows = raw.select(
            "row_id",
            campaign_id=self._stripped(raw, mapping.source, mapping.campaign_id),
            customer_id=self._stripped(raw, mapping.source, mapping.customer_id),
        )
        if self.aliases is not None:
            rows = self._with_first_ids(rows).select("row_id", "campaign_id", customer_id="customer_id__first")
        rows = self.engine.keep(rows)
        matched = among(rows, reached, ["campaign_id", "customer_id"])
        pairs = matched.select("campaign_id", "customer_id").distinct().mutate(hit=ibis.literal(True))
        joined = contacts.left_join(pairs, ["campaign_id", "customer_id"])
        redeemed = ibis.ifelse(joined.arm == "untargeted", None, joined.hit.fill_null(False))
        self.tables[table] = joined.mutate(redeemed=redeemed).select(*contacts.columns, "redeemed")
        bit = ibis.literal(BITS["no_contact"]).cast("int64")
        unmatched = self.engine.keep(without(rows, matched.select("row_id"), "row_id").select("row_id", bits=bit))
        self.aside.append((mapping.source, unmatched))
        aside, kept = _rows(unmatched), _rows(matched)
        name = "contacts (redemptions)"
        self.books.enter(name, mapping.source, _rows(raw), kept, aside, kept)
        self.books.reasons(name, [(0, kept, None), (BITS["no_contact"], aside, None)], {})

    # -- the books -----------------------------------------------------------------------------------------------------

    def _account(
        self,
        table: str,
        raw: Table,
        rows: Table,
        counted: pd.DataFrame,
        late: Table | None,
        forms: Table | None,
        context: Context,
    ) -> None:
        amount, source = _AMOUNT.get(table), context.mapping.source
        masks = self._masks(counted, rows, late, amount)
        self._count_columns(table, source, counted, rows, late, forms)
        self.books.reasons(table, masks, self._at_fault(table, context), **self._at_the_door(table, source))
        # Rows and money that went in are read from the source itself, those kept from the finished table, and those set
        # aside from the quarantine: three separate readings, so that a row dropped on the way shows.
        aside = self.aside[-1][1]
        rows_in = self.raw[source].rows if self.study.sources[source].sample is None else _rows(raw)
        rows_aside = _rows(aside)
        merged_table = self.study.tables[table].merge_repeated
        finished = self.tables[table]
        grows = table in ("customers", "contacts") or merged_table
        sums = finished.aggregate(n=_.count(), **({"money": finished[amount].sum()} if amount else {}))
        sums = sums.to_pyarrow().to_pylist()[0]
        kept_by_rules = sum(n for mask, n, _money in masks if not self._is_aside(mask))
        rows_kept = kept_by_rules if grows else sums["n"]
        amounts = {}
        if amount:
            amounts = self._amounts(table, raw, aside, amount, odd=forms is not None)
            amounts["amount_kept"] = sums["money"] or ZERO
        merged = rows_kept - sums["n"] if merged_table else 0
        self.books.enter(table, source, rows_in, rows_kept - merged, rows_aside, sums["n"], merged, **amounts)

    def _masks(
        self, counted: pd.DataFrame, rows: Table, late: Table | None, amount: str | None
    ) -> list[tuple[int, int, Decimal | None]]:
        """Each set of reasons, with its rows and its money."""
        found: dict[int, list] = {}
        for row in counted.itertuples():
            entry = found.setdefault(row.mask, [0, ZERO])
            entry[0] += row.rows
            entry[1] += (amount and row.money) or ZERO
        if late is not None:
            together = rows.inner_join(late, "row_id")
            money = {"money": together[amount].sum()} if amount else {}
            moved = together.group_by("mask", "bits").aggregate(n=_.count(), **money).to_pyarrow().to_pylist()
            for row in moved:
                for mask, sign in ((row["mask"], -1), (row["mask"] | row["bits"], 1)):
                    entry = found.setdefault(mask, [0, ZERO])
                    entry[0] += sign * row["n"]
                    entry[1] += sign * (row.get("money") or ZERO)
        return [(mask, n, money if amount else None) for mask, (n, money) in sorted(found.items()) if n]

    def _at_the_door(self, table: str, source: str) -> dict[str, int]:
        """Values that were made plain when they were read: reason -> how many."""
        there = self._profiles(source, self._raw_columns(table)).values()
        found = {"white_space": sum(p.padded for p in there), "other_characters": sum(p.normalised for p in there)}
        return {code: n for code, n in found.items() if n}

    def _raw_columns(self, table: str) -> list[str]:
        mapping = self.study.tables[table]
        mappings = [*mapping.columns.values(), *mapping.attributes.values()]
        return list(dict.fromkeys(c for m in mappings for c in m.raw_columns))

    def _count_columns(
        self, table: str, source: str, counted: pd.DataFrame, rows: Table, late: Table | None, forms: Table | None
    ) -> None:
        """Blank, unreadable and repaired values by column, and by month where the table has a date."""
        mapping = self.study.tables[table]
        sound = (counted["mask"] & BITS["malformed_row"]) == 0
        sums = {"rows": counted.rows, "set_aside": counted.rows.where(counted["mask"].map(self._is_aside), 0)}
        for c in mapping.columns:
            bad = counted[f"{c}__bad"].astype("int64")
            sums |= {f"{c}__bad": bad, f"{c}__blank": (counted.rows - counted[f"{c}__there"] - bad).where(sound, 0)}
        counts = pd.DataFrame(sums).assign(period=counted.month).groupby("period", dropna=False).sum().reset_index()
        if late is not None and counts["period"].notna().any():
            date = rows[_DATED[table]].cast("date").truncate("M")
            gone = among(rows.select("row_id", month__=date), late.filter(late.set_aside), "row_id")
            more = gone.group_by("month__").aggregate(more=_.count()).to_pyarrow().to_pandas()
            more = more.assign(period=pd.to_datetime(more.pop("month__")))
            counts = counts.merge(more, on="period", how="left")
            counts["set_aside"] += counts.pop("more").fillna(0).astype("int64")
        repaired = self._repaired(forms, list(mapping.columns))
        for name, m in mapping.columns.items():
            tidied = sum(p.padded + p.normalised for p in self._profiles(source, m.raw_columns).values())
            self.columns.append(
                {
                    "table": table,
                    "column": name,
                    "source": source,
                    "raw_column": ", ".join(m.raw_columns),
                    "rows": int(counts["rows"].sum()),
                    "blank": int(counts[f"{name}__blank"].sum()),
                    "bad": int(counts[f"{name}__bad"].sum()),
                    "repaired": repaired.get(name, 0) + tidied,
                }
            )
            if counts["period"].notna().any():
                by_month = counts[["period", "rows", f"{name}__blank", f"{name}__bad"]]
                by_month = by_month.set_axis(["period", "rows", "blank", "bad"], axis=1)
                self.periods.append(by_month.assign(table=table, column=name, set_aside=counts["set_aside"]))

    @staticmethod
    def _repaired(forms: Table | None, columns: list[str]) -> dict[str, int]:
        if forms is None:
            return {}
        written = {}
        for name in columns:
            there = [c for c in forms.columns if re.fullmatch(rf"{re.escape(name)}(__part\d+)?__form", c)]
            if there:
                put_right = any_of([(forms[c] > 0) & (forms[c] != parse.AMBIGUOUS) for c in there])
                written[name] = put_right.sum()
        return forms.aggregate(**written).to_pyarrow().to_pylist()[0] if written else {}

    def _at_fault(self, table: str, context: Context) -> dict[str, str]:
        """The columns in which values are blank or unreadable, by reason, as the source calls them."""
        counted = {c["column"]: c for c in self.columns if c["table"] == table}

        def named(kind: str, columns: list[str]) -> str:
            return ", ".join(context.mapping.columns[c].column or c for c in columns if counted[c][kind])

        others = [c for c in context.required if c != "customer_id"]
        profiles = self._profiles(context.mapping.source, self._raw_columns(table))
        return {
            "missing_value": named("blank", others),
            "unreadable_value": named("bad", others),
            "unreadable_optional": named("bad", context.optional),
            "white_space": ", ".join(c for c, profile in profiles.items() if profile.padded),
            "other_characters": ", ".join(c for c, profile in profiles.items() if profile.normalised),
        }

    def _profiles(self, source: str, columns: Iterable[str]) -> dict[str, ColumnProfile]:
        """What the door counted; nothing of a source that was used in place."""
        known = self.raw[source].profile
        return {column: known[column] for column in columns if column in known}

    def _amounts(self, table: str, raw: Table, aside: Table, column: str, odd: bool) -> dict[str, Decimal]:
        """The money of all raw rows and of those set aside, read once more and by itself.

        ``odd`` tells whether there are numbers in another than their usual form.
        """
        typed = self._typed_amount(table, raw, column)
        mapping, marks = self.study.tables[table], aside.select(aside_id="row_id").distinct()
        typed = typed.left_join(marks, typed.row_id == marks.aside_id)
        typed = typed.mutate(gone=typed.aside_id.notnull()).drop("aside_id")
        strange = any_of([typed[c].notnull() for c in typed.columns if c.endswith("__text")])
        plain = typed.filter(~strange) if odd else typed
        readings = [plain.mutate(**self._made(plain, {column: mapping.columns[column]}))]
        if odd:
            fields = {n: f for n, f, _m, _p in self._fields(table) if n in typed.columns}
            mended = self._reader(mapping.source).mended(self.engine.keep(typed.filter(strange)), fields)
            readings.append(mended.mutate(**self._made(mended, {column: mapping.columns[column]})))
        sums = {True: ZERO, False: ZERO}
        for rows in readings:
            for row in rows.group_by("gone").aggregate(money=rows[column].sum()).to_pyarrow().to_pylist():
                sums[row["gone"]] += row["money"] or ZERO
        return {"amount_in": sums[True] + sums[False], "amount_set_aside": sums[True]}

    def _typed_amount(self, table: str, raw: Table, column: str) -> Table:
        source = self.study.tables[table].source
        columns: dict[str, Value] = {"row_id": raw.row_id}
        for name, field_, m, part in self._fields(table):
            if name == column or name.startswith(f"{column}__part"):
                text = self._column_text(raw, source, part) if part else self._stripped(raw, source, m)
                columns[name] = value = self._reader(source).plain(text, field_)
                columns[f"{name}__text"] = ibis.ifelse(value.isnull(), text, None)
        return raw.select(**columns)

    # -- the result ------------------------------------------------------------------------------------------------------

    def result(self) -> Cleaned:
        periods = pd.concat(self.periods, ignore_index=True) if self.periods else pd.DataFrame()
        by_row = ["table", "period", "rows", "set_aside"]
        by_column = ["table", "period", "column", "rows", "blank", "bad"]
        columns = ["table", "column", "source", "raw_column", "rows", "blank", "bad", "repaired"]
        return Cleaned(
            tables={name: self.engine.settle(table) for name, table in self.tables.items()},
            quarantine=self._quarantine(),
            ledger=self.books.ledger,
            reasons=self.books.found,
            waterfall=self.books.waterfall,
            columns=pd.DataFrame(self.columns, columns=columns),
            periods=periods.reindex(columns=by_column),
            set_aside=periods.reindex(columns=by_row).drop_duplicates(ignore_index=True),
            limits=self.limits,
            raw={name: self._local(name) for name in self.raw},
            notes=self.notes,
        )

    def _local(self, name: str) -> Table:
        """A raw source on DuckDB."""
        files = self.raw[name].paths
        if files:
            return self.engine.local.read_parquet([str(path) for path in files])
        return self.engine.land(self.engine.keep(self._raw[name].limit(100_000)))

    def _quarantine(self) -> Table:
        """Every row that was set aside; one that feeds two tables once, with all its reasons."""
        parts = []
        for source in dict.fromkeys(name for name, _t in self.aside):
            marks = reduce(lambda a, b: a.union(b), [t for name, t in self.aside if name == source])
            marks = self.engine.land(self.engine.keep(marks))
            if self.raw[source].paths:
                raw = self._local(source)
            else:
                raw = self.engine.land(among(self._raw[source], self.engine.keep(_ids(self.aside, source)), "row_id"))
            rows = raw.inner_join(self._with_reasons(marks), "row_id")
            values = ibis.struct({c: rows[c] for c in self.raw[source].columns}).cast("json").cast("string")
            label = ibis.ifelse(rows.file.isnull(), source, ibis.literal(f"{source}/") + rows.file)
            parts.append(
                rows.select(
                    source=label,
                    row_number=rows.row_number,
                    reasons=rows.reasons,
                    raw_values=ibis.coalesce(rows.malformed, values),
                )
            )
        return reduce(lambda a, b: a.union(b), parts)

    def _with_reasons(self, marks: Table) -> Table:
        """``row_id, reasons``: the codes for which a row was set aside, in their order."""
        gone = [(code, bit) for code, bit in BITS.items() if self.books.severities[code] == "set_aside"]
        bits = {f"b{n}": ibis.ifelse((marks.bits & bit) != 0, 1, 0).max() for n, (_code, bit) in enumerate(gone)}
        rows = marks.group_by("row_id").aggregate(**bits)
        words = [ibis.ifelse(rows[f"b{n}"] == 1, f"{code} ", "") for n, (code, _bit) in enumerate(gone)]
        return rows.select("row_id", reasons=reduce(lambda a, b: a + b, words).strip())


def _ids(aside: list[tuple[str, Table]], source: str) -> Table:
    return reduce(lambda a, b: a.union(b), [t.select("row_id") for name, t in aside if name == source])


def _rows(table: Table) -> int:
    return int(table.count().to_pyarrow().as_py())


def _most_frequent(rows: Table, key: list[str], columns: list[str]) -> Table:
    """One row a key, with each column's most frequent value; of equally frequent ones the first in order."""
    result = rows.select(key).distinct()
    for column in columns:
        counted = rows.filter(rows[column].notnull()).group_by([*key, column]).aggregate(n=_.count())
        nth = ibis.row_number().over(group_by=key, order_by=[ibis.desc(counted.n), counted[column]])
        best = counted.mutate(nth=nth).filter(_.nth == 0).select(*key, column)
        result = result.left_join(best, key).drop([f"{k}_right" for k in key])
    return result
