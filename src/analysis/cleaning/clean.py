"""Clean a study's sources into canonical tables and a quarantine, and prove that nothing was lost on the way.

Everything is an Ibis expression over text Parquet; no row is ever pulled into this process.
"""

import difflib
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce

import ibis
import pandas as pd
from ibis import Deferred, _

from analysis import engine, sources
from analysis.cleaning import parse
from analysis.cleaning.rules import REASONS, SET_ASIDE, TREATMENTS
from analysis.errors import RapportError
from analysis.study import NEEDED, Mapping, Study
from analysis.tables import CONTRACTS, MONEY, Column

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
_MAIN = ("order_lines", "survey_responses")  # with none of their rows there is nothing to report
_ZERO = Decimal(0)
_RESERVED = {"row_number", "reasons", "malformed_row", "lookup_key", "lookup_value", "customer_id_right", *REASONS}


class ConservationError(RapportError):
    """Rows or money that went in and did not come out."""


@dataclass
class Cleaned:
    """What cleaning made.

    Attributes
    ----------
    tables : canonical table -> Ibis table.
    quarantine : the rows that were set aside, each with source, row number, reasons and raw values.
    ledger : one row a table: ``table, source, rows_in, rows_kept, rows_merged, rows_set_aside, rows_out``, and for tables
        with money ``amount_in, amount_kept, amount_set_aside``. ``rows_kept`` counts raw rows; ``rows_out`` rows of the table,
        which merging and added rows make differ.
    reasons : one row a table and reason: ``table, reason, severity, sentence, treatment, rows, amount``.
    """

    tables: dict[str, ibis.Table] = field(default_factory=dict)
    quarantine: ibis.Table | None = None
    ledger: pd.DataFrame = field(default_factory=pd.DataFrame)
    reasons: pd.DataFrame = field(default_factory=pd.DataFrame)


def clean(study: Study, connection: ibis.BaseBackend) -> Cleaned:
    """Bring in and clean every table that ``study`` maps.

    Parameters
    ----------
    study : the validated study.
    connection : where the work is done.

    Raises
    ------
    SourceError
        A source cannot be brought in.
    RapportError
        A mapped column is not in its source, or nothing in a column can be read; one line with the cure.
    """
    sources.prepare(study)
    cleaner = _Cleaner(study, connection)
    for table in ORDER:
        if table in study.tables:
            cleaner.clean(table)
        elif table == "customers" and "order_lines" in study.tables:
            cleaner.tables["customers"] = cleaner.known_customers()
    return cleaner.result()


def examples(cleaned: Cleaned) -> list[tuple[str, int, str]]:
    """The first row that was set aside for each set of reasons: source, row number, reasons."""
    first = cleaned.quarantine.group_by("source", "reasons").aggregate(row_number=_.row_number.min())
    rows = first.order_by("source", "row_number").to_pyarrow().to_pylist()
    return [(row["source"], row["row_number"], row["reasons"]) for row in rows]


def assert_conserved(ledger: pd.DataFrame, written: dict[str, int] | None = None) -> None:
    """Rows in = rows kept + rows set aside, and so for money, to the row and to the cent.

    Parameters
    ----------
    ledger : as in :class:`Cleaned`.
    written : table -> rows that the finished file holds, where it is written.

    Raises
    ------
    ConservationError
        One line with the table and the difference.
    """
    for row in ledger.itertuples():
        lost = row.rows_in - row.rows_kept - row.rows_merged - row.rows_set_aside
        if lost:
            raise ConservationError(
                f"table {row.table}: {lost} rows of source {row.source} are neither kept nor set aside"
            )
        if written and row.table in written and written[row.table] != row.rows_out:
            raise ConservationError(
                f"table {row.table}: {row.rows_out} rows were made but {written[row.table]} written"
            )
        if row.amount_in is not None and row.amount_in != row.amount_kept + row.amount_set_aside:
            difference = row.amount_in - row.amount_kept - row.amount_set_aside
            raise ConservationError(
                f"table {row.table}: {difference} of source {row.source} is neither kept nor set aside"
            )


class _Cleaner:
    def __init__(self, study: Study, connection: ibis.BaseBackend) -> None:
        self.study, self.connection = study, connection
        wanted = sources.needed(study, study.tables)
        self.raw = {name: sources.bring_in(study, name) for name in wanted}
        self.tables: dict[str, ibis.Table] = {}
        self.aside: list[ibis.Table] = []
        self.ledger: list[dict] = []
        self.reasons: list[dict] = []
        self._check_columns()

    # -- what is there -------------------------------------------------------------------------------------------------

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
            for attribute in mapping.attributes:
                if attribute.lower() in taken or attribute.endswith("__bad"):
                    raise RapportError(
                        f"studies/{self.study.name}/study.yaml: tables.{table}.attributes: {attribute!r} is the name of "
                        "another column (upper and lower case count as one); call it something else"
                    )
                taken.add(attribute.lower())
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

    def read(self, source: str) -> ibis.Table:
        return sources.read(self.connection, self.study, self.raw, source)

    def known_customers(self) -> ibis.Table:
        """Every customer who has an order line; with the first purchase as acquisition where that is what the clock says."""
        lines = self.tables["order_lines"]
        if self.study.clock.entry != "first_purchase":
            return lines.select("customer_id").distinct()
        bought = ibis.ifelse(lines.net_amount > 0, lines.order_date, None)
        return lines.group_by("customer_id").aggregate(acquired_on=bought.min())

    # -- one table -----------------------------------------------------------------------------------------------------

    def clean(self, table: str) -> None:
        mapping = self.study.tables[table]
        raw = self.read(mapping.source)
        rows = self._typed(table, raw)
        rows = rows.mutate(**self._conditions(table, rows))
        rows = self._repaired(table, rows)
        rows = self._without_repeats(table, rows, raw)
        rows = rows.mutate(
            reasons=reduce(
                lambda a, b: a + b, [ibis.ifelse(rows[c], f"{c} ", "") for c in SET_ASIDE if c in rows.columns]
            )
        )
        # Everything below reads these rows several times; parsing text once is what costs.
        rows = self.connection.create_table(f"cleaned_{table}", rows, temp=True)
        kept = rows.filter(rows.reasons == "")
        self._enough(table, rows, raw)
        self.tables[table] = self._canonical(table, kept)
        self._set_aside(mapping.source, raw, rows.filter(rows.reasons != "").select("row_number", "reasons"))
        self._account(table, mapping.source, raw, rows)
        if mapping.redemptions:
            self._redeem(table)

    def _text(self, raw: ibis.Table, mapping: Mapping) -> ibis.Value:
        """A mapped column as text (or as a number, where it is a sum)."""
        if mapping.constant is not None:
            return ibis.literal(mapping.constant)
        if mapping.row_number:
            return raw.row_number.cast("string")
        if mapping.combine:
            parts = [parse.text(raw[c]) for c in mapping.combine]
            return reduce(lambda a, b: a + "-" + b, parts)
        value = parse.text(raw[mapping.column])
        return ibis.literal(mapping.prefix) + value if mapping.prefix else value

    def _typed(self, table: str, raw: ibis.Table) -> ibis.Table:
        """Typed columns, and for each the marks ``blank`` and ``bad``: nothing there, something unreadable there."""
        mapping, source = self.study.tables[table], self.study.sources[self.study.tables[table].source]
        columns: dict[str, ibis.Value] = {"row_number": raw.row_number, "malformed_row": raw.malformed.notnull()}
        for name, m in mapping.columns.items():
            dtype = self._column(table, name).dtype
            if m.lookup:
                columns[name] = self._text(raw, m)
                continue
            if m.sum:
                parts = [parse.number(parse.text(raw[c]), source) for c in m.sum]
                given = reduce(lambda a, b: a | b, [parse.text(raw[c]).notnull() for c in m.sum])
                # A blank part is nothing to add; an unreadable part makes the sum unreadable.
                readable = [
                    ibis.ifelse(parse.text(raw[c]).isnull(), parse.money("0"), p)
                    for c, p in zip(m.sum, parts, strict=True)
                ]
                value = reduce(lambda a, b: a + b, readable).try_cast(MONEY)
            else:
                words = self._text(raw, m)
                if self.study.survey and name in self.study.survey.items and self.study.survey.missing_codes:
                    words = ibis.ifelse(words.isin(self.study.survey.missing_codes), None, words)
                given, value = words.notnull(), parse.typed(words, dtype, m, source, self.study.timezone)
            columns[name], columns[f"{name}__bad"] = value, given & value.isnull()
        for name, m in mapping.attributes.items():
            columns[name] = self._text(raw, m)
        rows = raw.select(**columns)
        for name, m in mapping.columns.items():
            if m.lookup:
                other = self.read(m.lookup.source)
                pairs = other.group_by(lookup_key=parse.text(other[m.lookup.key])).aggregate(
                    lookup_value=parse.text(other[m.lookup.value]).min()
                )
                rows = rows.left_join(pairs, rows[name] == pairs.lookup_key)
                found, there = rows.lookup_value, self.study.sources[m.lookup.source]
                value = parse.typed(found, self._column(table, name).dtype, m, there, self.study.timezone)
                rows = rows.mutate(**{name: value, f"{name}__bad": found.notnull() & value.isnull()})
                rows = rows.drop("lookup_key", "lookup_value")
        return rows

    def _column(self, table: str, name: str) -> Column:
        return CONTRACTS[table].columns.get(name) or Column(
            ibis.dtype("float64")
        )  # the undeclared ones are survey items

    def _conditions(self, table: str, rows: ibis.Table) -> dict[str, ibis.ir.BooleanValue]:
        """Reason code -> the rows it applies to, for every reason that this table can have."""
        mapping, contract = self.study.tables[table], CONTRACTS[table]
        mapped = [c for c in mapping.columns if c in contract.columns]
        required = self._required(table)
        optional = [c for c in mapping.columns if c not in required]
        sound = ~rows.malformed_row
        found = {
            "missing_value": _any(rows[c].isnull() & ~rows[f"{c}__bad"] for c in required) & sound,
            "unreadable_value": _any(rows[f"{c}__bad"] for c in required) & sound,
        }
        if optional:
            found["unreadable_optional"] = _any(rows[f"{c}__bad"] for c in optional)
        positive = self._positive(table, rows)
        if positive:
            found["below_zero"] = _any(rows[c] < 0 for c in positive)
        worded = [c for c in mapped if contract.columns[c].values]
        if worded:
            found["unknown_word"] = _any(rows[c].notnull() & rows[c].notin(contract.columns[c].values) for c in worded)
        special = getattr(self, f"_{table}_conditions", None)
        if special:
            found |= special(rows, set(mapping.columns))
        return {code: condition.fill_null(False) for code, condition in found.items()}

    def _positive(self, table: str, rows: ibis.Table) -> list[str]:
        """Optional columns that may not be negative; prices, costs and discounts of lines have reasons of their own."""
        if table == "order_lines":
            return []
        columns = CONTRACTS[table].columns
        return [c for c in rows.columns if c in columns and columns[c].low == 0 and not columns[c].required]

    def _required(self, table: str) -> list[str]:
        """The mapped columns that a row cannot do without."""
        columns = CONTRACTS[table].columns
        mapped = [c for c in self.study.tables[table].columns if c in columns]
        return [c for c in mapped if columns[c].required or c in NEEDED.get(table, ())]

    def _at_fault(self, table: str, rows: ibis.Table) -> dict[str, str]:
        """The columns in which values are blank or unreadable, by reason, as the source calls them."""
        mapping, required = self.study.tables[table].columns, self._required(table)
        bad = {f"bad {c}": rows[f"{c}__bad"].sum() for c in mapping}
        blank = {f"blank {c}": (rows[c].isnull() & ~rows[f"{c}__bad"] & ~rows.malformed_row).sum() for c in required}
        counts = rows.aggregate(**bad, **blank).to_pyarrow().to_pylist()[0]

        def named(kind: str, columns: list[str]) -> str:
            return ", ".join(mapping[c].column or c for c in columns if counts[f"{kind} {c}"])

        return {
            "missing_value": named("blank", required),
            "unreadable_value": named("bad", required),
            "unreadable_optional": named("bad", [c for c in mapping if c not in required]),
        }

    def _order_lines_conditions(self, rows: ibis.Table, mapped: set[str]) -> dict[str, ibis.ir.BooleanValue]:
        found = {}
        if self.study.rules.outside_period == "set_aside":
            clock = self.study.clock
            date = self._local_date(rows)
            found["outside_period"] = (date < clock.observed_from) | (date > clock.observed_to)
        if "quantity" in mapped:
            found["empty_line"] = (rows.quantity == 0) & (rows.net_amount == 0)
            found["sign_conflict"] = (rows.quantity < 0) & (rows.net_amount > 0)
            found["return_quantity"] = (rows.quantity > 0) & (rows.net_amount < 0)
            found["quantity_zero"] = (rows.quantity == 0) & (rows.net_amount != 0)
        prices = [c for c in ("unit_price", "cost") if c in mapped]
        if prices:
            found["negative_price"] = _any(rows[c] < 0 for c in prices)
        if "discount" in mapped:
            found["discount_sign"] = rows.discount < 0
        if {"unit_price", "quantity"} <= mapped:
            discount = rows.discount.abs().fill_null(parse.money("0")) if "discount" in mapped else parse.money("0")
            gross = rows.quantity.abs() * rows.unit_price
            off = (gross - discount - rows.net_amount.abs()).abs()
            found["amount_mismatch"] = (rows.quantity != 0) & (off > rows.quantity.abs() * 0.00005 + 0.005)
        if "product_id" in mapped and "products" in self.tables:
            products = self.tables["products"].product_id
            found["unknown_product"] = rows.product_id.notnull() & rows.product_id.notin(products)
        return found

    def _local_date(self, rows: ibis.Table) -> ibis.Value:
        return engine.local_time(self.study.timezone, rows.ordered_at).date()

    def _campaigns_conditions(self, rows: ibis.Table, mapped: set[str]) -> dict[str, ibis.ir.BooleanValue]:
        return {"ends_before_start": rows.ends_on < rows.starts_on} if "ends_on" in mapped else {}

    def _contacts_conditions(self, rows: ibis.Table, mapped: set[str]) -> dict[str, ibis.ir.BooleanValue]:
        found = {}
        if "campaigns" in self.tables:
            found["unknown_campaign"] = rows.campaign_id.notin(self.tables["campaigns"].campaign_id)
        if "customers" in self.tables:
            found["unknown_customer"] = rows.customer_id.notin(self.tables["customers"].customer_id)
        return found

    def _survey_responses_conditions(self, rows: ibis.Table, mapped: set[str]) -> dict[str, ibis.ir.BooleanValue]:
        items = [i for i in self.study.survey.items if i in mapped]
        low, high = self.study.survey.scale
        return {
            "empty_response": reduce(lambda a, b: a & b, [rows[i].isnull() for i in items]) & ~rows.malformed_row,
            "outside_scale": _any((rows[i] < low) | (rows[i] > high) for i in items),
        }

    def _repaired(self, table: str, rows: ibis.Table) -> ibis.Table:
        """Values put right where a repair rule applies."""
        changes = {}
        if "return_quantity" in rows.columns:
            changes["quantity"] = ibis.ifelse(rows.return_quantity, -rows.quantity, rows.quantity)
        if "discount_sign" in rows.columns:
            changes["discount"] = rows.discount.abs().fill_null(parse.money("0"))
        if "below_zero" in rows.columns:
            changes |= {c: ibis.ifelse(rows[c] < 0, None, rows[c]) for c in self._positive(table, rows)}
        if "outside_scale" in rows.columns:
            low, high = self.study.survey.scale
            for item in [i for i in self.study.survey.items if i in rows.columns]:
                changes[item] = ibis.ifelse(rows[item].between(low, high), rows[item], None)
        return rows.mutate(**changes) if changes else rows

    def _without_repeats(self, table: str, rows: ibis.Table, raw: ibis.Table) -> ibis.Table:
        """Mark the second and later of equal rows: ``duplicate_row`` for lines, ``duplicate_key`` where a row is a thing."""
        key = [c for c in CONTRACTS[table].key if c in rows.columns]
        by_key = len(key) == len(CONTRACTS[table].key)
        sound = reduce(lambda a, b: a & b, [~rows[c] for c in SET_ASIDE if c in rows.columns])
        if by_key and not self.study.tables[table].merge_repeated:
            nth = ibis.row_number().over(group_by=[*key, sound], order_by=rows.row_number)
            return rows.mutate(duplicate_key=sound & (nth > 0))
        if self.study.rules.duplicate_rows == "keep":
            return rows
        columns = list(self.raw[self.study.tables[table].source].columns)
        repeats = raw.mutate(nth=ibis.row_number().over(group_by=columns, order_by=raw.row_number))
        repeats = repeats.filter(repeats.nth > 0).select("row_number")
        return rows.mutate(duplicate_row=sound & rows.row_number.isin(repeats.row_number))

    def _enough(self, table: str, rows: ibis.Table, raw: ibis.Table) -> None:
        """Stop where no row fits the header, the period or a required column: then the study is wrong, not the rows."""
        mapping = self.study.tables[table]
        required = [c for c in NEEDED.get(table, ()) if f"{c}__bad" in rows.columns and mapping.columns[c].column]
        counts = rows.aggregate(
            n=rows.count(),
            kept=(rows.reasons == "").sum(),
            malformed_row=rows.malformed_row.sum(),
            **{c: rows[c].notnull().sum() for c in required},
        )
        counts = counts.to_pyarrow().to_pylist()[0]
        if counts["n"] and counts["malformed_row"] == counts["n"]:
            raise RapportError(
                f"studies/{self.study.name}/study.yaml: sources.{mapping.source}: every row has more or fewer fields than the "
                "header; correct delimiter: or names:, or export the file again"
            )
        for column in required:
            if counts["n"] and not counts[column]:
                m = mapping.columns[column]
                example = parse.text(raw[m.column])
                shape = example.re_replace(r"\d", "9").re_replace(r"\p{L}", "a")
                values = raw.filter(example.notnull()).select(shape=shape).limit(1).to_pyarrow()["shape"].to_pylist()
                looks = f"values look like {values[0]!r}" if values else "every value is blank"
                cure = "add format: to the mapping, for example {column: …, format: '%d/%m/%Y'}"
                if CONTRACTS[table].columns[column].dtype.is_decimal():
                    cure = "say decimal: or thousands: in the source; amounts have at most 14 digits before the point"
                cure = cure if values else "map another column"
                raise RapportError(
                    f"studies/{self.study.name}/study.yaml: tables.{table}.columns.{column}: no row of {mapping.source} "
                    f"has a readable {m.column}; {looks}; {cure}"
                )
        if "outside_period" in rows.columns:
            date = self._local_date(rows)
            dates = rows.filter(date.notnull()).aggregate(
                first=date.min(), last=date.max(), n=_.count(), outside=_.outside_period.sum()
            )
            seen = dates.to_pyarrow().to_pylist()[0]
            if seen["n"] and seen["outside"] == seen["n"]:
                clock = self.study.clock
                raise RapportError(
                    f"studies/{self.study.name}/study.yaml: clock: no row of {mapping.source} lies between observed_from "
                    f"{clock.observed_from} and observed_to {clock.observed_to}; they are dated {seen['first']} to "
                    f"{seen['last']}; correct the clock"
                )
        if table in _MAIN and not counts["kept"]:
            worst = rows.group_by("reasons").aggregate(n=_.count()).order_by(ibis.desc("n"), "reasons").limit(1)
            [worst] = worst.to_pyarrow().to_pylist()
            why = " ".join(REASONS[code].sentence for code in worst["reasons"].split())
            raise RapportError(
                f"studies/{self.study.name}/study.yaml: tables.{table}: no row of {mapping.source} can be kept; in "
                f"{worst['n']:,} of {counts['n']:,} rows: {why} Correct the mapping, or the file"
            )

    def _canonical(self, table: str, kept: ibis.Table) -> ibis.Table:
        mapping = self.study.tables[table]
        names = [*mapping.columns, *mapping.attributes]
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
        return result

    def _order_lines(self, kept: ibis.Table, mapped: set[str]) -> ibis.Table:
        lines = kept.mutate(order_date=self._local_date(kept))
        if "quantity" not in mapped:
            sign = ibis.ifelse(lines.net_amount < 0, parse.money("-1"), parse.money("1"))
            lines = lines.mutate(quantity=sign)
        lines = lines.mutate(is_return=(lines.net_amount < 0) | (lines.quantity < 0))
        if "order_id" not in mapped:
            lines = lines.mutate(order_id=lines.customer_id + "-" + lines.order_date.cast("string"))
        if "line_number" not in mapped:
            nth = ibis.row_number().over(group_by=lines.order_id, order_by=lines.row_number)
            lines = lines.mutate(line_number=nth + 1)
        if "unit_price" not in mapped:
            discount = lines.discount.fill_null(parse.money("0")) if "discount" in mapped else parse.money("0")
            gross = lines.net_amount.abs() + discount
            price = (gross.cast("float64") / lines.quantity.abs().nullif(0).cast("float64")).try_cast(MONEY)
            lines = lines.mutate(unit_price=price)
        else:
            lines = lines.mutate(unit_price=ibis.ifelse(lines.quantity == 0, None, lines.unit_price))
        return lines.select([c for c in CONTRACTS["order_lines"].columns if c in lines.columns])

    def _with_campaign_dates(self, contacts: ibis.Table) -> ibis.Table:
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
        others = everyone.anti_join(contacts, ["campaign_id", "customer_id"]).mutate(arm=ibis.literal("untargeted"))
        blanks = {c: ibis.null(contacts[c].type()) for c in contacts.columns if c not in others.columns}
        return contacts.union(others.mutate(**blanks).select(contacts.columns))

    def _redeem(self, table: str) -> None:
        """Mark contacts with a redemption; set redemptions without a contact aside."""
        mapping = self.study.tables[table].redemptions
        raw = self.read(mapping.source)
        contacts = self.tables[table]
        reached = contacts.filter(contacts.arm != "untargeted").select("campaign_id", "customer_id")
        rows = raw.select(
            "row_number",
            campaign_id=self._text(raw, mapping.campaign_id),
            customer_id=self._text(raw, mapping.customer_id),
        )
        rows = self.connection.create_table("cleaned_redemptions", rows, temp=True)
        matched = rows.semi_join(reached, ["campaign_id", "customer_id"])
        pairs = matched.select("campaign_id", "customer_id").distinct().mutate(hit=True)
        joined = contacts.left_join(pairs, ["campaign_id", "customer_id"])
        redeemed = ibis.ifelse(joined.arm == "untargeted", None, joined.hit.fill_null(False))
        self.tables[table] = joined.mutate(redeemed=redeemed).select(*contacts.columns, "redeemed")
        unmatched = rows.anti_join(matched, "row_number").select("row_number", reasons=ibis.literal("no_contact "))
        self._set_aside(mapping.source, raw, unmatched)
        aside = int(unmatched.count().to_pyarrow().as_py())
        kept = int(matched.count().to_pyarrow().as_py())
        self._enter("contacts (redemptions)", mapping.source, int(raw.count().to_pyarrow().as_py()), kept, aside, kept)
        if aside:
            self._reason("contacts (redemptions)", "no_contact", aside, None)

    # -- the books -----------------------------------------------------------------------------------------------------

    def _set_aside(self, source: str, raw: ibis.Table, aside: ibis.Table) -> None:
        rows = raw.semi_join(aside, "row_number")
        values = ibis.struct({c: rows[c] for c in self.raw[source].columns}).cast("json").cast("string")
        rows = rows.select("row_number", raw_values=ibis.coalesce(rows.malformed, values)).inner_join(
            aside, "row_number"
        )
        self.aside.append(
            rows.select("row_number", "raw_values", source=ibis.literal(source), reasons=rows.reasons.strip())
        )

    def _account(self, table: str, source: str, raw: ibis.Table, rows: ibis.Table) -> None:
        amount = _AMOUNT.get(table)
        money = self._amount(table, raw, amount) if amount else None
        codes = [c for c in REASONS if c in rows.columns]
        sums = {c: rows[c].cast("int64").sum() for c in codes}
        if amount:
            sums |= {f"{c}__money": ibis.ifelse(rows[c], rows[amount], None).sum() for c in codes}
        kept = rows.reasons == ""
        sums |= {"rows_kept": kept.cast("int64").sum(), "rows_aside": (~kept).cast("int64").sum()}
        counts = rows.aggregate(**sums).to_pyarrow().to_pylist()[0]
        columns = self._at_fault(table, rows)
        for code in codes:
            if counts[code]:
                self._reason(table, code, counts[code], counts.get(f"{code}__money"), columns.get(code, ""))
        # Rows and money that went in are read from the source itself, those kept from the finished table, and those set
        # aside from the quarantine: three separate readings, so that a row dropped on the way shows.
        rows_in = int(raw.count().to_pyarrow().as_py())
        aside = self.aside[-1]
        rows_aside = int(aside.count().to_pyarrow().as_py())
        merged_table = self.study.tables[table].merge_repeated
        finished = self.tables[table]
        grows = table in ("customers", "contacts") or merged_table
        rows_kept = (counts["rows_kept"] or 0) if grows else int(finished.count().to_pyarrow().as_py())
        amounts = {}
        if amount:
            set_aside = raw.semi_join(aside, "row_number")
            amounts = {
                "amount_in": money,
                "amount_kept": finished[amount].sum().to_pyarrow().as_py() or _ZERO,
                "amount_set_aside": self._amount(table, set_aside, amount),
            }
        out = int(finished.count().to_pyarrow().as_py())
        merged = rows_kept - out if merged_table else 0
        self._enter(table, source, rows_in, rows_kept - merged, rows_aside, out, merged, amounts)

    def _amount(self, table: str, raw: ibis.Table, column: str) -> Decimal:
        mapping = self.study.tables[table]
        source, m = self.study.sources[mapping.source], mapping.columns[column]
        if m.constant is not None:
            raw = raw.mutate(constant_amount=ibis.literal(m.constant))
        names = m.raw_columns or ("constant_amount",)
        parts = [parse.number(parse.text(raw[c]), source).fill_null(parse.money("0")) for c in names]
        return reduce(lambda a, b: a + b, parts).sum().to_pyarrow().as_py() or _ZERO

    def _enter(
        self,
        table: str,
        source: str,
        rows_in: int,
        kept: int,
        aside: int,
        out: int,
        merged: int = 0,
        amounts: dict | None = None,
    ) -> None:
        amounts = amounts or {"amount_in": None, "amount_kept": None, "amount_set_aside": None}
        self.ledger.append(
            {
                "table": table,
                "source": source,
                "rows_in": rows_in,
                "rows_kept": kept,
                "rows_merged": merged,
                "rows_set_aside": aside,
                "rows_out": out,
                **amounts,
            }
        )

    def _reason(self, table: str, code: str, rows: int, amount: Decimal | None, columns: str = "") -> None:
        reason = REASONS[code]
        sentence = f"{reason.sentence.rstrip('.')}: {columns}." if columns else reason.sentence
        self.reasons.append(
            {
                "table": table,
                "reason": code,
                "severity": reason.severity,
                "sentence": sentence,
                "treatment": TREATMENTS[reason.severity],
                "rows": rows,
                "amount": None if amount is None else float(amount),
            }
        )

    def result(self) -> Cleaned:
        everything = reduce(lambda a, b: a.union(b), self.aside)
        # A row that feeds two tables may be set aside from both: it is one row of quarantine with all reasons.
        quarantine = everything.group_by("source", "row_number").aggregate(
            reasons=everything.reasons.group_concat(" ", order_by=everything.reasons),
            raw_values=everything.raw_values.max(),
        )
        columns = ["table", "reason", "severity", "sentence", "treatment", "rows", "amount"]
        return Cleaned(
            tables=self.tables,
            quarantine=quarantine,
            ledger=pd.DataFrame(self.ledger).astype(
                dict.fromkeys(("amount_in", "amount_kept", "amount_set_aside"), object)
            ),
            reasons=pd.DataFrame(self.reasons, columns=columns),
        )


def check_column(study: str, place: str, source: str, column: str, there: tuple[str, ...]) -> None:
    """Refuse a mapped column that its source does not have, with the nearest that it has."""
    if column in there:
        return
    near = difflib.get_close_matches(column, there, n=1) or difflib.get_close_matches(
        column.lower(), [t.lower() for t in there], n=1
    )
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there)}"
    if any(_DATUM.search(name) for name in there):
        # These are somebody's data, and an error line is no place for them.
        hint = "its first line looks like data, not like names of columns; give names: in the source"
    raise RapportError(f"studies/{study}/study.yaml: {place}: source {source} has no column {column!r}; {hint}")


_DATUM = re.compile(r"@|^[\d\s.,:/+-]+$")


def _any(conditions) -> ibis.ir.BooleanValue | Deferred:
    return reduce(lambda a, b: a | b, conditions)


def _most_frequent(rows: ibis.Table, key: list[str], columns: list[str]) -> ibis.Table:
    """One row a key, with each column's most frequent value; of equally frequent ones the first in order."""
    result = rows.select(key).distinct()
    for column in columns:
        counted = rows.filter(rows[column].notnull()).group_by([*key, column]).aggregate(n=_.count())
        nth = ibis.row_number().over(group_by=key, order_by=[ibis.desc(counted.n), counted[column]])
        best = counted.mutate(nth=nth).filter(_.nth == 0).select(*key, column)
        result = result.left_join(best, key).drop([f"{k}_right" for k in key])
    return result
