"""What can be said of the data's quality once they are clean: what is filled in, which days are silent, who came before."""

import datetime

import ibis
import pandas as pd
from ibis import _

from analysis.cleaning.clean import Cleaned
from analysis.reporting.numbers import Formatter
from analysis.study import Study

MAIN_TABLES = {"order_lines": "order lines", "survey_responses": "questionnaires", "contacts": "contacts"}
# What each table would answer, for a company that wonders what to collect next.
COLLECT = {
    "order_lines": ("purchases", "what customers are worth"),
    "survey_responses": ("a satisfaction survey with customer ids", "what satisfaction is worth in money"),
    "campaigns": ("campaigns with a random control group", "what a campaign causes"),
    "interactions": ("service contacts and complaints", "what trouble costs in loyalty"),
    "marketing_costs": ("marketing costs by channel", "which channel brings customers worth their cost"),
    "prospects": ("prospects", "who resembles the best customers"),
}
LEDGER_COLUMNS = {
    "table": ("Table", "text"),
    "source": ("Source", "text"),
    "rows_in": ("Rows in", "count"),
    "rows_kept": ("Kept", "count"),
    "rows_merged": ("Merged", "count"),
    "rows_set_aside": ("Set aside", "count"),
    "rows_out": ("Rows out", "count"),
}
REASON_COLUMNS = {
    "table": ("Table", "text"),
    "sentence": ("What was found", "text"),
    "treatment": ("What was done", "text"),
    "rows": ("Rows", "count"),
    "amount": ("Money", "money"),
}
COMPLETENESS_COLUMNS = {
    "table": ("Table", "text"),
    "column": ("Column", "text"),
    "rows": ("Rows", "count"),
    "blank": ("Blank", "count"),
    "filled": ("Filled", "share"),
}


def completeness(tables: dict[str, ibis.Table]) -> pd.DataFrame:
    """The share of rows that hold a value, by column.

    Returns
    -------
    Frame with ``table, column, rows, blank, filled`` (0–1), the emptiest columns first; columns that are always filled are
    left out.
    """
    found = []
    for name, table in tables.items():
        if name == "contacts":
            table = table.filter(table.arm != "untargeted")  # these rows are ours; nothing was to be filled in
        counts = (
            table.aggregate(n=table.count(), **{c: table[c].count() for c in table.columns}).to_pyarrow().to_pylist()[0]
        )
        rows = counts.pop("n")
        found += [(name, c, rows, rows - n, n / rows) for c, n in counts.items() if rows and n < rows]
    frame = pd.DataFrame(found, columns=["table", "column", "rows", "blank", "filled"])
    return frame.sort_values(["filled", "table", "column"], ignore_index=True)


def day_profile(lines: ibis.Table, observed_from: datetime.date, observed_to: datetime.date) -> pd.DataFrame:
    """Lines, sales and buyers of every day of the observed period.

    Returns
    -------
    Frame with ``order_date`` (timestamps, every day), ``lines``, ``sales``, ``customers``; zeros on silent days.
    """
    by_day = lines.group_by("order_date").aggregate(
        lines=_.count(), sales=_.net_amount.sum().cast("float64"), customers=_.customer_id.nunique()
    )
    frame = by_day.to_pandas()
    frame["order_date"] = pd.to_datetime(frame["order_date"])
    days = pd.date_range(observed_from, observed_to, name="order_date")
    return frame.set_index("order_date").reindex(days, fill_value=0).reset_index()


def observation_checks(lines: ibis.Table, observed_from: datetime.date) -> dict[str, float]:
    """Three numbers that tell whether the clock and the calendar of a study are right.

    Returns
    -------
    ``moved_by_time_zone``: share of lines whose local day is not the day in UTC. ``early_buyers``: share of customers who
    already buy in the first 30 days (near 1: they were customers before). ``customers``: how many there are.
    """
    utc_day = lines.ordered_at.cast("timestamp").date()
    moved = lines.aggregate(share=(utc_day != lines.order_date).mean())["share"].to_pyarrow()[0].as_py()
    firsts = lines.group_by("customer_id").aggregate(first=_.order_date.min())
    limit = observed_from + datetime.timedelta(days=30)
    counts = firsts.aggregate(customers=_.count(), early=(_.first < limit).sum()).to_pyarrow().to_pylist()[0]
    return {
        "moved_by_time_zone": float(moved),
        "early_buyers": counts["early"] / counts["customers"],
        "customers": counts["customers"],
    }


def converted_from(study: Study) -> str | None:
    """The time zone that the times of orders came in, where it is declared and is not the study's own."""
    declared = study.tables["order_lines"].columns["ordered_at"].timezone
    return declared if declared and declared != study.timezone else None


def silent_days(profile: pd.DataFrame, fmt: Formatter) -> dict[str, object]:
    """The facts about days without a sale that a sentence needs: ``first, last, total, silent, days``."""
    silent = profile[profile.lines == 0].order_date
    return {
        "first": profile.order_date.iloc[0],
        "last": profile.order_date.iloc[-1],
        "total": len(profile),
        "silent": len(silent),
        "days": ", ".join(fmt.date(day) for day in silent.head(3)),
    }


def emptiest(gaps: pd.DataFrame) -> dict[str, object]:
    """Table, column and filled share of the emptiest column; blanks where there is no gap."""
    if gaps.empty:
        return {"table": "", "column": "", "filled": None}
    return gaps.iloc[0][["table", "column", "filled"]].to_dict()


def main_table(cleaned: Cleaned) -> dict[str, object]:
    """The books of the table that the study is about, and what a reader calls its rows."""
    ledger = cleaned.ledger.set_index("table")
    table = next((t for t in MAIN_TABLES if t in ledger.index), ledger.index[0])
    row = ledger.loc[table]
    return {
        "table": table,
        "thing": MAIN_TABLES.get(table, f"rows of {table}"),
        "share_kept": row.rows_kept / row.rows_in,
        "rows_in": row.rows_in,
        "rows_kept": row.rows_kept,
        "set_aside": row.rows_set_aside,
        "amount_in": row.amount_in,
        "amount_kept": row.amount_kept,
        "amount_set_aside": row.amount_set_aside,
    }


def lacking(study: Study) -> str:
    """The tables that the study does not have, each with the question that it would answer."""
    return "; ".join(f"{what} ({why})" for table, (what, why) in COLLECT.items() if table not in study.tables)


def assumptions(study: Study, fmt: Formatter) -> str:
    """What the study assumes about money, with ranges."""
    units = {"margin": "share", "discount_rate": "share", "contact_cost": "money", "cost_to_serve": "money"}
    said = []
    for name, unit in units.items():
        given = getattr(study.money, name)
        if given and given.source == "assumption":
            span = f" ({fmt.interval(given.low, given.high, unit)})" if given.high > given.low else ""
            said.append(f"{name.replace('_', ' ')} {fmt.value(given.value, unit)}{span}")
    return "; ".join(said)
