"""What the data tell of people: the register of a study's columns, and columns whose values give people away undeclared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import ibis
import pandas as pd
from ibis import _

from analysis.cleaning import parse
from analysis.sources import RESERVED
from analysis.sources.rows import check_column
from analysis.study import Study

REGISTER = ("source", "column", "class", "origin", "purpose", "lawful_basis", "mapped_to", "declared")
REGISTER_UNITS = dict.fromkeys(("source", "column", "class", "origin", "purpose", "lawful_basis", "mapped_to"), "text")
SUSPECT_UNITS = {"source": "text", "column": "text", "looks_like": "text", "share": "share", "values": "count"}
SUSPECTS = ("source", "column", "looks_like", "share", "values", "advice")
SAMPLE = 100_000  # rows looked at from the start, and about as many again spread over the rest
_CARD_DIGITS = 19  # the longest card number, ISO/IEC 7812-1


# -- the register ------------------------------------------------------------------------------------------------------


def register(study: Study, raw: Mapping[str, ibis.Table]) -> pd.DataFrame:
    """Every raw column with what the study says of it: the record of processing that article 30 GDPR asks for, by field.

    Parameters
    ----------
    raw : source -> its rows as text, with ``row_number`` and ``malformed``; only the names of columns are read.

    Returns
    -------
    Frame with the columns of ``REGISTER``, one row a raw column: ``class`` (personal, sensitive, free, undeclared), ``mapped_to``
    (our ``table.column``, several with commas between), ``declared`` (whether the study names the column under privacy).

    Raises
    ------
    RapportError
        The study declares a column that its source does not have.
    """
    there = {name: tuple(_columns(table)) for name, table in raw.items()}
    for name in dict.fromkeys((*study.privacy.fields, *study.privacy.personal)):
        source, _dot, column = name.partition(".")
        if source in there:
            place = f"privacy.{'fields' if name in study.privacy.fields else 'personal'}"
            check_column(study.name, place, source, column, there[source])
    uses = _uses(study)
    rows = [
        (source, column, *_declared(study, f"{source}.{column}"), ", ".join(uses.get((source, column), {})))
        for source in study.sources
        for column in there.get(source, ())
    ]
    frame = pd.DataFrame(rows, columns=list(REGISTER[:-1]))
    return frame.assign(declared=frame["class"] != "undeclared")


def _declared(study: Study, name: str) -> tuple[str, str, str, str]:
    field = study.privacy.fields.get(name)
    if field is not None:
        return field.kind, field.origin, field.purpose, field.lawful_basis
    return "personal" if name in study.privacy.personal else "undeclared", "", "", ""


def _uses(study: Study) -> dict[tuple[str, str], dict[str, None]]:
    """Raw column -> the columns of ours that are made from it, in order and each once."""
    uses: dict[tuple[str, str], dict[str, None]] = {}
    for source, column, ours in _mapped(study):
        uses.setdefault((source, column), {})[ours] = None
    return uses


def _mapped(study: Study) -> Iterator[tuple[str, str, str]]:
    for table, mapping in study.tables.items():
        for name, made in (mapping.columns | mapping.attributes).items():
            for column in made.raw_columns:
                yield mapping.source, column, f"{table}.{name}"
            if made.lookup:
                yield made.lookup.source, made.lookup.key, f"{table}.{name}"
                yield made.lookup.source, made.lookup.value, f"{table}.{name}"
        if mapping.redemptions:
            for made in (mapping.redemptions.campaign_id, mapping.redemptions.customer_id):
                for column in made.raw_columns:
                    yield mapping.redemptions.source, column, f"{table}.redeemed"
        if table == "survey_responses" and (comments := study.comments):
            for column in comments.columns:
                yield mapping.source, comments.column, f"{table}.{column}"


def register_facts(registered: pd.DataFrame) -> dict[str, object]:
    """What the sentence about the register needs.

    Returns
    -------
    ``columns`` (how many there are), ``personal``, ``sensitive``, ``free``, ``undeclared`` (how many of each), ``incomplete``
    (personal columns without purpose and basis), and ``named``: the first undeclared ones that become a column of ours, else the
    first, three at most.
    """
    counts = registered["class"].value_counts()
    open_ones = registered[~registered.declared].sort_values("mapped_to", key=lambda uses: uses == "", kind="stable")
    kinds = ("personal", "sensitive", "free", "undeclared")
    return {
        "columns": len(registered),
        **{kind: int(counts.get(kind, 0)) for kind in kinds},
        "incomplete": int(((registered["class"] == "personal") & (registered.purpose == "")).sum()),
        "named": ", ".join(f"{row.source}.{row.column}" for row in open_ones.head(3).itertuples()),
    }


# -- undeclared columns that give people away --------------------------------------------------------------------------


@dataclass(frozen=True)
class Likeness:
    """A kind of value that belongs to a person: its plural, the regular expressions that any value of it matches (RE2, and the
    same on every engine), the least share of a column's values that is no accident, and whether its check digit is tested."""

    plural: str
    patterns: tuple[str, ...]
    least: float
    luhn: bool = False

    def matches(self, value: ibis.expr.types.StringColumn) -> ibis.ir.BooleanValue:
        found = value.re_search(f"^({'|'.join(self.patterns)})$")
        return found & _luhn(ibis.ifelse(found, value, None)) if self.luhn else found


# Country and length of an IBAN, without its two check digits: the IBAN registry of SWIFT, the countries of SEPA.
_IBAN = {
    "AD": 20, "AT": 16, "BE": 12, "BG": 18, "CH": 17, "CY": 24, "CZ": 20, "DE": 18, "DK": 14, "EE": 16, "ES": 20, "FI": 14,
    "FR": 23, "GB": 18, "GI": 19, "GR": 23, "HR": 17, "HU": 24, "IE": 18, "IS": 22, "IT": 23, "LI": 17, "LT": 16, "LU": 16,
    "LV": 17, "MC": 23, "MT": 27, "NL": 14, "NO": 11, "PL": 24, "PT": 21, "RO": 20, "SE": 20, "SI": 15, "SK": 20, "SM": 23,
}  # fmt: skip
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
LIKENESSES = (
    Likeness("e-mail addresses", (r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}",), 0.01),
    Likeness(
        "IBANs",
        ("|".join(f"{country} ?[0-9]{{2}}( ?[0-9A-Z]){{{length}}}" for country, length in _IBAN.items()),),
        0.01,
    ),
    Likeness("card numbers", (r"[2-6]([ -]?[0-9]){12,18}",), 0.3, luhn=True),  # a tenth of all numbers pass the check
    Likeness(
        "national identity numbers",
        (
            r"[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}",  # United States
            r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",  # United Kingdom
            r"[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]",  # Italy
            r"([0-9]{8}|[XYZ][0-9]{7})-?[A-HJ-NP-TV-Z]",  # Spain
            r"[12] ?[0-9]{2} ?(0[1-9]|1[0-2]) ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",  # France
            r"([12][0-9])?[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])[-+][0-9]{4}",  # Sweden
            r"(0[1-9]|[12][0-9]|3[01])(0[1-9]|1[0-2])[0-9]{2}[-+A-FU-Y][0-9]{3}[0-9A-Y]",  # Finland
            r"[1-9][0-9]{5}(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]",  # China
        ),
        0.2,
    ),
    # Behind the identity numbers, some of which look like telephone numbers too.
    Likeness(
        "telephone numbers",
        (
            r"(\+|00 ?)[1-9][0-9]{0,2}[ ()./-]+[0-9][0-9 ()./-]{5,16}",  # a country's code and a separator
            r"\+[1-9][0-9]{7,14}",  # ITU-T E.164
            r"\(?0[1-9][0-9]{1,4}\)?[ /-]+[0-9][0-9 /-]{4,14}",  # with an area code
            r"0[1-9]([ .-][0-9]{2}){4}",  # in pairs, as in France
            r"(\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-. ][0-9]{4}",  # North America
            r"1[3-9][0-9]{9}",  # mobile numbers of China
        ),
        0.2,
    ),
    Likeness(
        "IP addresses",
        (rf"({_BYTE}\.){{3}}{_BYTE}", r"([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}", r"[0-9A-Fa-f:]*::[0-9A-Fa-f:]*"),
        0.2,
    ),
)


def suspects(study: Study, raw: Mapping[str, ibis.Table]) -> pd.DataFrame:
    """Columns that are not marked personal and whose values look like those of people; no value leaves the engine.

    Of large sources the first ``SAMPLE`` rows and every k-th row after them are looked at, k such that there are about as many
    again: the same rows on every run. A telephone number without any separator passes for a number and is not found.

    Parameters
    ----------
    raw : source -> its rows as text, with ``row_number``.

    Returns
    -------
    Frame with the columns of ``SUSPECTS``, the surest first: ``looks_like`` (what the values look like), ``share`` of the values
    that do (0–1), ``values`` (how many were looked at, blank ones not counted), ``advice`` (one line for the study's owner).
    """
    found = [suspect for source, table in raw.items() for suspect in _suspects_of(study, source, table)]
    frame = pd.DataFrame(found, columns=list(SUSPECTS)).astype({"share": float, "values": "int64"})
    return frame.sort_values(["share", "source", "column"], ascending=[False, True, True], ignore_index=True)


def _suspects_of(study: Study, source: str, table: ibis.Table) -> Iterator[tuple[str, str, str, float, int, str]]:
    columns = [c for c in _columns(table) if c not in study.privacy.hashed(source)]
    if not columns:
        return
    rows = _spread(table).select(**{column: parse.text(table[column]) for column in columns})
    # One long column of distinct values: what is repeated is looked at once, and the engine gets one set of expressions.
    long = rows.pivot_longer(columns, names_to="column", values_to="value").filter(_.value.notnull())
    distinct = long.group_by("column", "value").aggregate(times=_.count())
    marked = distinct.mutate(**{f"k{k}": kind.matches(distinct.value) for k, kind in enumerate(LIKENESSES)})
    sums = {f"k{k}": ibis.ifelse(marked[f"k{k}"], marked.times, 0).sum() for k in range(len(LIKENESSES))}
    for found in marked.group_by("column").aggregate(values=_.times.sum(), **sums).to_pyarrow().to_pylist():
        shares = [(found[f"k{k}"] / found["values"], kind) for k, kind in enumerate(LIKENESSES)]
        alike = [(share, kind) for share, kind in shares if share >= kind.least]
        if alike:
            share, kind = max(alike, key=lambda pair: pair[0])
            advice = _advice(study, f"{source}.{found['column']}", share, kind.plural)
            yield source, found["column"], kind.plural, share, found["values"], advice


def _advice(study: Study, name: str, share: float, plural: str) -> str:
    cure = "list it under privacy.personal"
    if name in study.privacy.fields:
        cure = f"privacy.fields declares it {study.privacy.fields[name].kind}; look again"
    return f"{name}: {share:.0%} of the values look like {plural}; {cure}".replace("%", " %", 1)


def _spread(table: ibis.Table) -> ibis.Table:
    last = table.row_number.max().to_pyarrow().as_py() or 0
    step = max(1, last // SAMPLE)
    return table.filter((_.row_number <= SAMPLE) | (_.row_number % step == 0))


def _columns(table: ibis.Table) -> list[str]:
    return [column for column in table.columns if column not in RESERVED]


def _luhn(value: ibis.expr.types.StringColumn) -> ibis.ir.BooleanValue:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B); every second digit from the right counts double."""
    digits = value.re_replace("[^0-9]", "").lpad(_CARD_DIGITS, "0")
    total = ibis.literal(0)
    for place in range(_CARD_DIGITS):
        digit = digits.substr(place, 1).try_cast("int64")
        double = (_CARD_DIGITS - 1 - place) % 2 == 1
        total = total + (ibis.ifelse(digit > 4, digit * 2 - 9, digit * 2) if double else digit)
    return total % 10 == 0
