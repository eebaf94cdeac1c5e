"""What can be said of the data's quality: complete, valid, unique, consistent and timely, and whether the calendar is right.

The five measures are those of ISO/IEC 25012 and of Wang and Strong (1996) that can be read from the data alone; accuracy
against the world cannot.
"""

import datetime

import ibis
import pandas as pd
from ibis import _
from scipy.stats import chi2_contingency

from analysis.cleaning.clean import Cleaned
from analysis.cleaning.words import Words
from analysis.study import Clock, Study

MAIN_TABLES = ("order_lines", "survey_responses", "contacts")
# The column that dates a row of a table; tables without one have no timeliness.
DATES = {
    "order_lines": "order_date",
    "interactions": "opened_at",
    "survey_responses": "responded_on",
    "contacts": "contacted_on",
}
REPEATS = ("duplicate_row", "duplicate_key", "duplicate_line", "same_person")
CONTRADICTIONS = (
    "amount_mismatch",
    "sign_conflict",
    "unknown_customer",
    "unknown_campaign",
    "unknown_product",
    "unknown_word",
    "ends_before_start",
    "cancellation_without_original",
    "order_time",
    "no_contact",
)
RAW, CLEAN, MERGED = "raw", "clean", "merged"  # the steps of the waterfall that are no reasons
MEASURES = ("table", "column", "measure", "value", "rows")
_WORTH = 0.01  # a share that moves by less than this from month to month is not worth a line
_CERTAIN = 0.01  # chance, over all series together, that a steady one is drawn as if it moved
LEDGER_UNITS = {
    "table": "text",
    "source": "text",
    "rows_in": "count",
    "rows_kept": "count",
    "rows_merged": "count",
    "rows_set_aside": "count",
    "rows_out": "count",
}
REASON_UNITS = {"table": "text", "sentence": "text", "treatment": "text", "rows": "count", "amount": "money"}
COLUMN_UNITS = {
    "where": "text",
    "raw_column": "text",
    "rows": "count",
    "completeness": "share",
    "validity": "share",
    "repaired": "share",
}
TABLE_UNITS = {
    "table": "text",
    "rows": "count",
    "uniqueness": "share",
    "consistency": "share",
    "days_behind": "days",
    "days_to_resolve": "days",
    "silent_days": "share",
    "silent_months": "share",
}


# -- the measures ------------------------------------------------------------------------------------------------------


def completeness(columns: pd.DataFrame) -> pd.DataFrame:
    """The share of raw rows that hold a value, by mapped column.

    Parameters
    ----------
    columns : as in :class:`analysis.cleaning.Cleaned`.

    Returns
    -------
    Frame with ``table, column, measure, value`` (0–1) and ``rows``, of tables that have rows.
    """
    there = columns[columns.rows > 0]
    return _measured(there, "completeness", 1 - there.blank / there.rows, there.rows)


def validity(columns: pd.DataFrame) -> pd.DataFrame:
    """The share of the values there that can be read as what the column holds; frame as :func:`completeness` gives it.

    ``rows`` counts the values; a column without any has no validity.
    """
    filled = columns.rows - columns.blank
    there = columns[filled > 0]
    return _measured(there, "validity", 1 - there.bad / filled[filled > 0], filled[filled > 0])


def uniqueness(ledger: pd.DataFrame, reasons: pd.DataFrame) -> pd.DataFrame:
    """The share of raw rows of a table that do not repeat another; frame as :func:`completeness` gives it.

    Rows that the study merges on purpose (an offer listed once a product) do not count as repeats.
    """
    return _found_share(ledger, reasons, "uniqueness", REPEATS)


def consistency(ledger: pd.DataFrame, reasons: pd.DataFrame) -> pd.DataFrame:
    """The least share of raw rows of a table that contradict neither themselves nor another table.

    A row with two contradictions counts twice, so the true share is this or higher. Frame as :func:`completeness` gives it.
    """
    return _found_share(ledger, reasons, "consistency", CONTRADICTIONS)


def timeliness(tables: dict[str, ibis.Table], clock: Clock, zone: datetime.tzinfo) -> pd.DataFrame:
    """How fresh and how unbroken the dated tables are.

    Parameters
    ----------
    tables : canonical tables by name.
    clock : of the study.
    zone : the time zone in which an instant belongs to a day.

    Returns
    -------
    Frame as :func:`completeness` gives it, with the measures ``days_behind`` (days from a table's last row to
    ``observed_to``), ``days_to_resolve`` (median days from ``opened_at`` to ``resolved_at``, of the cases resolved), and for
    order lines ``silent_days`` and ``silent_months`` (share of the period without any).
    """
    found = []
    for name, column in DATES.items():
        if name not in tables or column not in tables[name].columns:
            continue
        table = tables[name].filter(_.arm != "untargeted") if name == "contacts" else tables[name]
        seen = table.aggregate(n=table[column].count(), last=table[column].max()).to_pyarrow().to_pylist()[0]
        if seen["n"]:
            last = seen["last"]
            last = last.astimezone(zone).date() if isinstance(last, datetime.datetime) else last
            found.append((name, None, "days_behind", (clock.observed_to - last).days, seen["n"]))
    if "order_lines" in tables:
        found += _silence(tables["order_lines"], clock)
    if "interactions" in tables and "resolved_at" in tables["interactions"].columns:
        found += _resolution(tables["interactions"])
    return pd.DataFrame(found, columns=list(MEASURES)).astype({"value": float})


def measures(cleaned: Cleaned, tables: dict[str, ibis.Table], study: Study) -> pd.DataFrame:
    """Every measure of quality that the data allow: ``table, column`` (None for a whole table), ``measure, value, rows``.

    Parameters
    ----------
    cleaned : what cleaning made. tables : its finished tables, by name.
    """
    parts = [
        completeness(cleaned.columns),
        validity(cleaned.columns),
        uniqueness(cleaned.ledger, cleaned.reasons),
        consistency(cleaned.ledger, cleaned.reasons),
    ]
    if study.clock:
        parts.append(timeliness(tables, study.clock, study.zone))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _measured(there: pd.DataFrame, measure: str, value: pd.Series, rows: pd.Series) -> pd.DataFrame:
    frame = there[["table", "column"]].assign(measure=measure, value=value.astype(float), rows=rows.astype("int64"))
    return frame[list(MEASURES)].reset_index(drop=True)


def _found_share(ledger: pd.DataFrame, reasons: pd.DataFrame, measure: str, codes: tuple[str, ...]) -> pd.DataFrame:
    there = ledger[ledger.rows_in > 0].assign(column=None)
    hits = reasons[reasons.reason.isin(codes)].groupby("table").rows.sum()
    share = there.table.map(hits).fillna(0).clip(upper=there.rows_in) / there.rows_in
    return _measured(there, measure, 1 - share, there.rows_in)


def _silence(lines: ibis.Table, clock: Clock) -> list[tuple[str, None, str, float, int]]:
    days = lines.filter((_.order_date >= clock.observed_from) & (_.order_date <= clock.observed_to))
    seen = days.aggregate(days=_.order_date.nunique(), months=_.order_date.truncate("M").nunique())
    seen = seen.to_pyarrow().to_pylist()[0]
    spans = {"days": pd.period_range(clock.observed_from, clock.observed_to, freq="D")}
    spans["months"] = pd.period_range(clock.observed_from, clock.observed_to, freq="M")
    return [("order_lines", None, f"silent_{u}", 1 - seen[u] / len(span), len(span)) for u, span in spans.items()]


def _resolution(interactions: ibis.Table) -> list[tuple[str, None, str, float, int]]:
    seconds = interactions.resolved_at.epoch_seconds() - interactions.opened_at.epoch_seconds()
    known = interactions.select(days=seconds / 86400).filter(_.days.notnull())
    seen = known.aggregate(n=_.count(), median=_.days.median()).to_pyarrow().to_pylist()[0]
    return [("interactions", None, "days_to_resolve", seen["median"], seen["n"])] if seen["n"] else []


# -- the measures as people read them ----------------------------------------------------------------------------------


def imperfect_columns(measured: pd.DataFrame, columns: pd.DataFrame, words: Words, most: int = 15) -> pd.DataFrame:
    """One row a column that is not complete, not valid or had to be put right, the worst first.

    Returns
    -------
    Frame with the columns of ``COLUMN_UNITS`` and ``table, column``; ``repaired`` is a share of the rows.
    """
    wide = measured[measured.column.notna()].pivot(index=["table", "column"], columns="measure", values="value")
    frame = columns[columns.rows > 0].merge(wide.reset_index(), on=["table", "column"], how="left")
    if "validity" not in frame:
        frame["validity"] = float("nan")  # no column holds a value
    frame["repaired"] = frame.repaired / frame.rows
    frame["trouble"] = (frame.blank + frame.bad) / frame.rows + frame.repaired
    worst = frame[frame.trouble > 0].sort_values(["trouble", "table", "column"], ascending=[False, True, True])
    worst = worst.head(most).reset_index(drop=True)
    return worst.assign(
        where=[words("where", table=t, column=c) for t, c in zip(worst.table, worst.column, strict=True)]
    )


def table_measures(measured: pd.DataFrame, ledger: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row a table with the measures of whole tables, and the units of those that any table has."""
    whole = measured[measured.column.isna()].pivot(index="table", columns="measure", values="value").reset_index()
    order = {table: place for place, table in enumerate(ledger.table)}
    frame = whole.assign(rows=whole.table.map(ledger.groupby("table").rows_in.sum()))
    frame = frame.sort_values("table", key=lambda names: names.map(order), ignore_index=True)
    return frame, {name: unit for name, unit in TABLE_UNITS.items() if name in frame}


def quality_facts(measured: pd.DataFrame, words: Words) -> dict[str, object]:
    """What the sentence about quality needs: how many columns there are, how many are flawless, the worst of each measure."""
    shares = measured[measured.measure.isin(("completeness", "validity"))]
    flawless = shares.groupby(["table", "column"]).value.min() == 1
    facts: dict[str, object] = {"columns": len(flawless), "flawless": int(flawless.sum())}
    for measure in ("completeness", "validity", "uniqueness", "consistency"):
        found = measured[measured.measure == measure]
        worst = found.loc[found.value.idxmin()] if len(found) and found.value.min() < 1 else None
        facts[measure] = None if worst is None else worst.value
        facts[f"{measure}_where"] = "" if worst is None else _where(worst, words)
    return facts


def _where(row: pd.Series, words: Words) -> str:
    table = words.name("table", row.table)
    return (
        table if row.column is None or row.column != row.column else words("where", table=row.table, column=row.column)
    )


# -- over time ---------------------------------------------------------------------------------------------------------


def quality_by_month(periods: pd.DataFrame, set_aside: pd.DataFrame, clock: Clock | None = None) -> pd.DataFrame:
    """Completeness and validity of each column, and the share kept of each table, month by month.

    Parameters
    ----------
    periods, set_aside : as in :class:`analysis.cleaning.Cleaned`; rows without a readable date belong to no month.
    clock : months outside it are left out, since rows dated there are misdated.

    Returns
    -------
    Frame with ``table, column`` (None for a table), ``measure`` (``completeness``, ``validity``, ``kept``), ``period``,
    ``value`` (0–1), ``rows`` (of which the value is a share) and ``missed`` (rows that fall short).
    """
    dated, aside = (_within(frame, clock) for frame in (periods, set_aside))
    filled = dated.rows - dated.blank
    parts = [
        # What contacts hold differs from campaign to campaign by design: a control group has no offer.
        dated[dated.table != "contacts"].assign(measure="completeness", missed=dated.blank),
        dated.assign(measure="validity", missed=dated.bad, rows=filled),
        aside.assign(measure="kept", column=None, missed=aside.set_aside),
    ]
    names = ["table", "column", "measure", "period", "rows", "missed"]
    frame = pd.concat([part[names] for part in parts if len(part)] or [pd.DataFrame(columns=names)])
    frame = frame[frame.rows > 0].sort_values(["table", "column", "measure", "period"], ignore_index=True)
    return frame.assign(value=(1 - frame.missed / frame.rows).astype(float))


def _within(frame: pd.DataFrame, clock: Clock | None) -> pd.DataFrame:
    period = pd.to_datetime(frame.period)
    if clock is None:
        return frame[period.notna()]
    first = pd.Timestamp(clock.observed_from).to_period("M").to_timestamp()
    return frame[period.between(first, pd.Timestamp(clock.observed_to))]


def unsteady(by_month: pd.DataFrame, most: int = 4) -> pd.DataFrame:
    """The series of :func:`quality_by_month` that move by a percentage point and more than chance does, the lowest first.

    A chi-square test of equal shares in all months, at 1 % divided by the number of series (Bonferroni).

    Returns
    -------
    The rows of at most ``most`` series, with ``series`` (0, 1, …; the lowest month of all first); empty when all are steady.
    """
    keys = ["table", "column", "measure"]
    groups = [group for _, group in by_month.groupby(keys, dropna=False, sort=True)]
    moving = [group for group in groups if _moves(group, _CERTAIN / max(1, len(groups)))]
    moving = sorted(moving, key=lambda group: group.value.min())[:most]
    if not moving:
        return by_month.iloc[:0].assign(series=pd.Series(dtype="int64"))
    return pd.concat([group.assign(series=place) for place, group in enumerate(moving)], ignore_index=True)


def _moves(group: pd.DataFrame, level: float) -> bool:
    if group.value.max() - group.value.min() < _WORTH:
        return False
    hit = group.rows - group.missed
    return chi2_contingency([group.missed.astype(float), hit.astype(float)]).pvalue < level


# -- the calendar ------------------------------------------------------------------------------------------------------


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


def silent_days(profile: pd.DataFrame, words: Words) -> dict[str, object]:
    """The facts about days without a sale that a sentence needs: ``first, last, total, silent, days``."""
    silent = profile[profile.lines == 0].order_date
    return {
        "first": profile.order_date.iloc[0],
        "last": profile.order_date.iloc[-1],
        "total": len(profile),
        "silent": len(silent),
        "days": ", ".join(words.format.date(day) for day in silent.head(3)),
    }


def main_table(cleaned: Cleaned, words: Words) -> dict[str, object]:
    """The books of the table that the study is about, and what a reader calls its rows."""
    ledger = cleaned.ledger.set_index("table")
    table = next((t for t in MAIN_TABLES if t in ledger.index), ledger.index[0])
    row = ledger.loc[table]
    return {
        "table": table,
        "thing": words.name("table", table),
        "share_kept": row.rows_kept / row.rows_in if row.rows_in else None,
        "rows_in": row.rows_in,
        "rows_kept": row.rows_kept,
        "set_aside": row.rows_set_aside,
        "amount_in": row.amount_in,
        "amount_kept": row.amount_kept,
        "amount_set_aside": row.amount_set_aside,
    }


def waterfall_steps(cleaned: Cleaned, table: str, words: Words) -> pd.DataFrame:
    """The way of a table's rows from raw to clean, each row taken off once, by the first reason that applies to it.

    Returns
    -------
    Frame with ``reason`` (``raw``, the codes of the reasons in the order of the rules, ``clean``), ``label`` (in words),
    ``rows`` and ``amount`` (money; missing where the table has none).
    """
    steps = cleaned.waterfall[cleaned.waterfall.table == table]
    between = steps[~steps.step.isin((RAW, CLEAN))]
    row = cleaned.ledger.set_index("table").loc[table]
    has_money = row.amount_in is not None
    ends = ((RAW, row.rows_in, row.amount_in), (CLEAN, row.rows_kept, row.amount_kept))
    off = [(step.step, -step.rows, -step.amount if has_money else None) for step in between.itertuples()]
    if row.rows_merged:
        off.append((MERGED, row.rows_merged, None))
    frame = pd.DataFrame([ends[0], *off, ends[1]], columns=["reason", "rows", "amount"])
    labels = words.names("reason", frame.reason)
    return frame.assign(label=labels, amount=frame.amount.astype(float))[["reason", "label", "rows", "amount"]]
