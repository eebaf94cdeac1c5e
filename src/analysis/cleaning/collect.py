"""What a company should collect better, and what that would be worth: the last of the six steps of database marketing.

Every amount is read from the data. The amounts of two entries may count the same sales, so they are never added up.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import ibis
import pandas as pd
from ibis import _

from analysis.cleaning.clean import Cleaned
from analysis.cleaning.words import Words
from analysis.study import Assumption, Study

# The tables that answer a question of their own, in the order in which a company should want them.
WANTED = ("order_lines", "survey_responses", "campaigns", "marketing_costs", "interactions", "prospects")
# Rows set aside for these are sales that better records would have kept.
LOST = (
    "malformed_row",
    "missing_customer_id",
    "malformed_customer_id",
    "missing_value",
    "ambiguous_date",
    "ambiguous_number",
    "unreadable_value",
    "sign_conflict",
    "negative_price",
    "amount_mismatch",
    "cancellation_without_original",
    "unknown_customer",
    "unknown_campaign",
)
PLACES = ("product_id", "channel", "store_id")  # columns of a line by which sales are broken down
CONSENTS = ("consent_email", "consent_sms")
COLLECT_UNITS = {
    "rank": "count",
    "what": "text",
    "where": "text",
    "rows": "count",
    "customers": "count",
    "money": "money",
    "how": "text",
    "question": "text",
}


@dataclass(frozen=True)
class _Entry:
    """One thing to collect better; ``how`` and ``question`` are keys of sentences, ``money`` None where there is no figure."""

    what: str
    where: str
    rows: int | None = None
    customers: int | None = None
    money: float | None = None
    how: str = "none"
    question: str = "none"


def worth_collecting(cleaned: Cleaned, tables: Mapping[str, ibis.Table], study: Study, words: Words) -> pd.DataFrame:
    """What to collect better, what it concerns, and the money that hangs on it.

    Parameters
    ----------
    cleaned : what cleaning made. tables : its finished tables, by name.

    Returns
    -------
    Frame with the columns of ``COLLECT_UNITS``, the most money first; then what has no figure in money, by the question that
    stays unanswered. What concerns fewer than ``study.privacy.small_group`` customers has no numbers. Empty when nothing is
    missing.
    """
    entries = [*_lost_rows(cleaned, words), *_missing_tables(study, words)]
    if "order_lines" in tables:
        lines = tables["order_lines"]
        entries += [*_missing_costs(lines, study, words), *_unplaced_sales(lines, words)]
        if "customers" in tables:
            spend = lines.group_by("customer_id").aggregate(sales=_.net_amount.sum())
            people = tables["customers"].left_join(spend, "customer_id").drop("customer_id_right")
            entries += [*_unknown_consent(people, words), *_unknown_attributes(people, words)]
    if "campaigns" in tables:
        entries += _missing_control(tables["campaigns"], words)
    small = study.privacy.small_group
    # A sort keeps the order of equals, in which the questions stand.
    ranked = sorted((_discreet(entry, small) for entry in entries), key=lambda e: -(e.money or 0))
    rows = [
        vars(entry)
        | {
            "rank": rank,
            "how": words(f"how_{entry.how}", small_group=small),
            "question": words(f"question_{entry.question}"),
        }
        for rank, entry in enumerate(ranked, start=1)
    ]
    return pd.DataFrame(rows, columns=list(COLLECT_UNITS)).astype({"money": float, "rows": float, "customers": float})


def _discreet(entry: _Entry, small_group: int) -> _Entry:
    """The entry without its numbers where a handful of customers stand behind them."""
    if entry.customers is None or entry.customers >= small_group:
        return entry
    return replace(entry, rows=None, customers=None, money=None, how="few")


def collect_facts(found: pd.DataFrame) -> dict[str, object]:
    """What the sentence about the list needs: how many entries there are, with and without money, and the first."""
    if found.empty:
        return {"entries": 0}
    first = found.iloc[0]
    priced = int((found.money > 0).sum())
    return {
        "entries": len(found),
        "priced": priced,
        "first": first.what,
        "money": first.money,
        "question": first.question,
    }


def lacking(study: Study, words: Words) -> str:
    """The tables that the study does not have, each with the question that it would answer."""
    return "; ".join(words(f"lacking_{table}") for table in WANTED if table not in study.tables)


def assumptions(study: Study, words: Words) -> str:
    """What the study assumes about money, with ranges."""
    units = {"margin": "share", "discount_rate": "share", "contact_cost": "money", "cost_to_serve": "money"}
    said = []
    for name, unit in units.items():
        given = getattr(study.money, name)
        if given and given.source == "assumption":
            span = f" ({words.format.interval(given.low, given.high, unit)})" if given.high > given.low else ""
            said.append(f"{words.name('assumed', name)} {words.format.value(given.value, unit)}{span}")
    return "; ".join(said)


# -- the entries -------------------------------------------------------------------------------------------------------


def _lost_rows(cleaned: Cleaned, words: Words) -> Iterator[_Entry]:
    found = cleaned.reasons[cleaned.reasons.reason.isin(LOST) & (cleaned.reasons.severity == "set_aside")]
    for row in found.itertuples():
        money = abs(row.amount) if pd.notna(row.amount) else None
        where = words("where_reason", table=words.name("table", row.table), columns=_columns_of(row.sentence))
        how = "set_aside" if money else "set_aside_no_money"
        what = words("what_reason", reason=words.name("reason", row.reason))
        yield _Entry(what, where, row.rows, None, money, how, "kept")


def _columns_of(sentence: str) -> str:
    """The columns that a reason's sentence names after its colon."""
    return sentence.partition(": ")[2].rstrip(".")


def _missing_costs(lines: ibis.Table, study: Study, words: Words) -> Iterator[_Entry]:
    without = lines.filter(lines.cost.isnull()) if "cost" in lines.columns else lines
    counts = _sales(without)
    if not counts["rows"]:
        return
    width = _width(study.money.margin)
    money = abs(counts["sales"]) * width if width else None
    how = "margin" if money else "no_margin" if study.money.margin is None else "margin_exact"
    yield _Entry(
        words("what_cost"), _at(words, "order_lines", "cost"), how=how, question="profit", **_with(counts, money)
    )


def _width(margin: Assumption | None) -> float:
    return margin.high - margin.low if margin and margin.source == "assumption" else 0.0


def _unplaced_sales(lines: ibis.Table, words: Words) -> Iterator[_Entry]:
    for column in PLACES:
        counts = _sales(_could_say(lines, column).filter(_[column].isnull()) if column in lines.columns else lines)
        if counts["rows"]:
            what, where = words(f"what_{column}"), _at(words, "order_lines", column)
            yield _Entry(what, where, how="unplaced", question=column, **_with(counts, abs(counts["sales"])))


def _could_say(lines: ibis.Table, column: str) -> ibis.Table:
    """The lines of which a column can be expected: a channel in which no line names a shop has none."""
    if column != "store_id" or "channel" not in lines.columns:
        return lines
    shops = lines.filter(lines.store_id.notnull()).select("channel").distinct()
    return lines.filter(lines.channel.isnull() | lines.channel.isin(shops.channel))


def _unknown_consent(people: ibis.Table, words: Words) -> Iterator[_Entry]:
    known = [people[c].notnull() for c in CONSENTS if c in people.columns]
    unknown = people.filter(~(known[0] if len(known) == 1 else known[0] | known[1])) if known else people
    counts = _spend(unknown)
    if counts["rows"]:
        where = _at(words, "customers", " / ".join(CONSENTS))
        money = counts["sales"]
        yield _Entry(words("what_consent"), where, how="spend", question="consent", **_with(counts, money))


def _unknown_attributes(people: ibis.Table, words: Words) -> Iterator[_Entry]:
    """What is not known of some customers; columns that are blank for equally many, with equal sales, are one entry."""
    columns = [c for c in people.columns if c not in ("customer_id", "sales", *CONSENTS)]
    columns += [c for c in ("region", "acquisition_channel") if c not in columns]
    gaps: dict[tuple, list[str]] = {}
    for column in columns:
        counts = _spend(people.filter(people[column].isnull()) if column in people.columns else people)
        if counts["rows"]:
            gaps.setdefault((counts["rows"], counts["sales"]), []).append(column)
    for (rows, sales), names in gaps.items():
        where = _at(words, "customers", ", ".join(names))
        what = words("what_attributes", columns=words.listed(words.names("column", names)))
        yield _Entry(what, where, rows, rows, sales, "spend", "attributes")


def _missing_tables(study: Study, words: Words) -> Iterator[_Entry]:
    for table in WANTED:
        if table not in study.tables:
            yield _Entry(words(f"what_{table}"), words("where_new"), how="none", question=table)


def _missing_control(campaigns: ibis.Table, words: Words) -> Iterator[_Entry]:
    without = campaigns.filter(campaigns.design == "observational").count().to_pyarrow().as_py()
    if without:
        yield _Entry(words("what_control"), _at(words, "campaigns", "design"), without, question="control")


def _sales(lines: ibis.Table) -> dict[str, float]:
    counts = lines.aggregate(
        rows=_.count(), customers=_.customer_id.nunique(), sales=_.net_amount.sum().cast("float64").fill_null(0.0)
    )
    return counts.to_pyarrow().to_pylist()[0]


def _spend(people: ibis.Table) -> dict[str, float]:
    counts = people.aggregate(rows=_.count(), customers=_.count(), sales=_.sales.sum().cast("float64").fill_null(0.0))
    return counts.to_pyarrow().to_pylist()[0]


def _with(counts: Mapping[str, float], money: float | None) -> dict[str, object]:
    return {"rows": counts["rows"], "customers": counts["customers"], "money": money}


def _at(words: Words, table: str, column: str) -> str:
    return words("where", table=table, column=column)
