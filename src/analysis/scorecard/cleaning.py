"""Was the dirt found? Every planted row of it against the quarantine and the cleaned tables, in the engine."""

from __future__ import annotations

from functools import reduce

import ibis
import pandas as pd

from analysis import sources
from analysis.campaigns import wilson_interval
from analysis.cleaning import parse
from analysis.cleaning.parse import Field, Reader
from analysis.engine import Engine, opened
from analysis.scorecard.card import entries
from analysis.scorecard.words import Words
from analysis.study import EngineSettings, Mapping, Study, TableMapping
from analysis.tables import CONTRACTS, MONEY

SET_ASIDE, KEPT, CHANGED, GONE = "set_aside", "kept", "changed", "gone"
SALES = "order_lines"


def fates(
    study: Study, connection: ibis.BaseBackend, record: ibis.Table, cleaned: dict[str, ibis.Table]
) -> pd.DataFrame:
    """What became of every dirty row.

    Parameters
    ----------
    record : the truth of the dirt: source, row_number, kind, column, original, planted, expected, of.
    cleaned : the canonical tables by name, ``quarantine`` among them.

    Returns
    -------
    One row a dirty row: source, row_number, kind, expected (``set_aside``, ``repair``, ``keep``), added (bool: is it no row of
    the clean company?), fate, right (bool: was the expected done?) and, for order lines, money: clean (in its place in the
    clean company), due (what a correct cleaning makes of the row) and booked (what the cleaned table has).
    ``fate``: ``set_aside``; ``kept`` with the value of the clean company in the dirty column; ``changed``: kept with another
    value; ``gone``: neither set aside nor in the table.
    """
    there = record.select("source").distinct().to_pyarrow()["source"].to_pylist()
    with opened(EngineSettings(), connection, study.name) as engine:
        parts = [
            _fates_of(study, engine, record.filter(record.source == mapping.source), table, cleaned)
            for table, mapping in study.tables.items()
            if mapping.source in there and table in cleaned
        ]
    columns = ["source", "row_number", "kind", "expected", "added", "fate", "right", "clean", "due", "booked"]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return found[columns].sort_values(["source", "row_number"], ignore_index=True)


def _fates_of(
    study: Study, engine: Engine, record: ibis.Table, table: str, cleaned: dict[str, ibis.Table]
) -> pd.DataFrame:
    mapping, contract = study.tables[table], CONTRACTS[table]

    def typed(text: ibis.Value, name: str) -> ibis.Value:
        """``text`` as the study reads it for a canonical column."""
        return reader.plain(parse.text(text), Field(contract.columns[name].dtype, mapping.columns[name]))

    reader = Reader(engine, study.sources[mapping.source], study.timezone, study.currency)
    raw = engine.read(sources.bring_in(study, mapping.source).paths)
    raw = raw.semi_join(record, "row_number")
    keys = {name: typed(raw[mapping.columns[name].column], name) for name in contract.key}
    amount = typed(raw[mapping.columns["net_amount"].column], "net_amount") if table == SALES else ibis.null(MONEY)
    rows = record.join(raw.select("row_number", amount=amount, **keys), "row_number")
    aside = cleaned["quarantine"].filter(cleaned["quarantine"].source == mapping.source)
    rows = rows.left_join(aside.select(aside_row=aside.row_number), rows.row_number == aside.row_number)
    after = cleaned[table].rename({f"clean_{name}": name for name in cleaned[table].columns})
    rows = rows.left_join(after, [rows[name] == after[f"clean_{name}"] for name in contract.key])
    same = [
        (rows.column == column, _all(rows[f"clean_{name}"].identical_to(typed(rows.original, name)) for name in names))
        for column, names in _fed(mapping, cleaned[table].columns).items()
    ]
    kept, added = rows[f"clean_{contract.key[0]}"].notnull(), rows.of.notnull() | rows.original.isnull()
    fate = ibis.cases(
        (rows.aside_row.notnull(), SET_ASIDE), (~kept, GONE), (ibis.cases(*same, else_=True), KEPT), else_=CHANGED
    )
    # An added row that is to be put right tells of a person who is there already: it has to go into theirs.
    repaired = ibis.ifelse(
        added & rows.of.notnull() & (rows.column == _key_column(mapping, table)), ~kept, fate == KEPT
    )
    wanted = ibis.cases(
        (rows.expected == "set_aside", fate == SET_ASIDE), (rows.expected == "repair", repaired), else_=kept
    )
    money = {"clean": ibis.null("float64"), "due": ibis.null("float64"), "booked": ibis.null("float64")}
    if table == SALES:
        clean = _clean_money(rows, added, mapping.columns["net_amount"], typed(rows.original, "net_amount"))
        booked = ibis.ifelse(rows.aside_row.notnull(), 0, rows.clean_net_amount.fill_null(0))
        due = ibis.cases((rows.expected == "set_aside", 0), (rows.expected == "keep", rows.amount), else_=clean)
        money = {name: value.cast("float64") for name, value in (("clean", clean), ("due", due), ("booked", booked))}
    return rows.select(
        "source", "row_number", "kind", "expected", added=added, fate=fate, right=wanted, **money
    ).to_pandas()


def _key_column(mapping: TableMapping, table: str) -> str | None:
    """The raw column of a key that is one column."""
    key = CONTRACTS[table].key
    return mapping.columns[key[0]].column if len(key) == 1 else None


def _fed(mapping: TableMapping, there: tuple[str, ...]) -> dict[str, list[str]]:
    """Raw column -> the canonical columns that are made from it alone."""
    found: dict[str, list[str]] = {}
    for name, made in mapping.columns.items():
        if made.column and not made.lookup and name in there:
            found.setdefault(made.column, []).append(name)
    return found


def _clean_money(rows: ibis.Table, added: ibis.Value, made: Mapping, original: ibis.Value) -> ibis.Value:
    """What the clean company has in the row's place."""
    return ibis.cases(
        (added, 0),
        (rows.column == made.column, original),
        # The till worked the amount out from the price, minus sign and all.
        (rows.kind == "negative_price", -rows.amount),
        else_=rows.amount,
    )


def _all(conditions) -> ibis.ir.BooleanValue:
    return reduce(lambda a, b: a & b, conditions)


def recall_table(found: pd.DataFrame, words: Words, confidence: float = 0.95) -> pd.DataFrame:
    """How much of each kind of dirt was dealt with as it should be.

    Parameters
    ----------
    found : from :func:`fates`.

    Returns
    -------
    One row a source × kind: name, kind, expected, due (the same in words), rows, right, recall with Wilson's low and high, and
    instead (what mostly became of the others, in words; empty where there are none).
    """
    table = (
        found.groupby(["source", "kind", "expected"], sort=True)
        .agg(rows=("right", "size"), right=("right", "sum"))
        .reset_index()
    )
    low, high = wilson_interval(table["right"], table["rows"], confidence)
    # A value can only be wrong in a row that has a right one.
    fate = found["fate"].where((found["expected"] == "repair") | (found["fate"] != CHANGED), KEPT)
    wrong = found.assign(fate=fate)[~found["right"].astype(bool)].groupby(["source", "kind"])["fate"]
    mostly = wrong.agg(lambda fates: fates.value_counts().index[0]).to_dict()
    first = found["source"].mode().iloc[0] if len(found) else ""
    names = [
        words.name("kind", kind) + ("" if source == first else f" ({source})")
        for source, kind in zip(table["source"], table["kind"], strict=True)
    ]
    table = table.assign(
        name=names,
        due=words.names("due", table["expected"]),
        recall=table["right"] / table["rows"],
        low=low,
        high=high,
        instead=[
            words.name("fate", mostly[key]) if key in mostly else ""
            for key in zip(table["source"], table["kind"], strict=True)
        ],
    )
    order = pd.Categorical(table["expected"], ["set_aside", "repair", "keep"], ordered=True)
    table = table.assign(order=order).sort_values(["order", "recall", "name"], ascending=[True, False, True])
    return table.drop(columns="order").reset_index(drop=True)


def precision_table(
    quarantine: ibis.Table, found: pd.DataFrame, words: Words, confidence: float = 0.95
) -> pd.DataFrame:
    """Of the rows that were set aside, by reason: how many were dirt that should be.

    A row with two reasons counts under both, and once under all of them together.

    Returns
    -------
    One row a reason, the last for all: reason (in words), rows, right, precision with Wilson's low and high, repairable (dirt that
    could have been put right or kept) and clean (rows without any dirt).
    """
    aside = quarantine.select("source", "row_number", "reasons").to_pandas()
    aside = aside.merge(found[["source", "row_number", "expected"]], on=["source", "row_number"], how="left")
    aside["expected"] = aside["expected"].astype(object).where(aside["expected"].notna(), "clean")
    by_reason = aside.assign(reason=aside["reasons"].str.split(" ")).explode("reason")
    by_reason["reason"] = words.names("reason", by_reason["reason"])
    everything = pd.concat([by_reason, aside.assign(reason=words("reason_all"))], ignore_index=True)
    grouped = everything.groupby("reason", sort=False)["expected"]
    table = grouped.agg(
        rows="size",
        right=lambda e: (e == "set_aside").sum(),
        repairable=lambda e: e.isin(["repair", "keep"]).sum(),
        clean=lambda e: (e == "clean").sum(),
    ).reset_index()
    low, high = wilson_interval(table["right"], table["rows"], confidence)
    table = table.assign(precision=table["right"] / table["rows"], low=low, high=high)
    last = table["reason"] == words("reason_all")
    return pd.concat([table[~last].sort_values("rows", ascending=False, kind="stable"), table[last]], ignore_index=True)


def sales_table(found: pd.DataFrame, clean_total: float, booked_total: float, words: Words) -> pd.DataFrame:
    """From the sales of the clean company to those that cleaning left, kind by kind of dirt.

    Parameters
    ----------
    clean_total, booked_total : net sales of the clean company, and of the cleaned table.

    Returns
    -------
    One row a kind that moves money, the largest error first, then the rest (rows lost without dirt on them): name,
    due (change that a correct cleaning makes too), made (change that was made), wrong (the difference), share (of the
    clean company's sales).
    """
    lines = found[found["clean"].notna()]
    sums = lines.assign(due=lines["due"] - lines["clean"], made=lines["booked"] - lines["clean"])
    table = sums.groupby("kind")[["due", "made"]].sum().reset_index()
    table["name"] = words.names("kind", table["kind"])
    rest = booked_total - clean_total - table["made"].sum()
    if abs(rest) >= 0.005:
        table.loc[len(table)] = {"kind": "rest", "due": 0.0, "made": rest, "name": words("kind_rest")}
    table["wrong"] = table["made"] - table["due"]
    table["share"] = table["wrong"] / clean_total
    moved = table[(table["due"].abs() >= 0.005) | (table["made"].abs() >= 0.005)]
    return moved.sort_values("wrong", key=abs, ascending=False, kind="stable", ignore_index=True)


def sales_facts(table: pd.DataFrame, clean_total: float, booked_total: float) -> dict[str, object]:
    """Sales of the clean company, after a correct cleaning, and as cleaned; the errors in share, up, down and the largest."""
    due_total = clean_total + float(table["due"].sum())
    worst = table.iloc[0] if len(table) else None
    return {
        "clean": clean_total,
        "due": due_total,
        "booked": booked_total,
        "off": booked_total / due_total - 1,
        "unavoidable": due_total / clean_total - 1,
        "worst": None if worst is None or abs(worst["wrong"]) < 0.005 else worst["name"],
        "worst_amount": None if worst is None else float(worst["wrong"]),
        "worst_share": None if worst is None else float(worst["share"]),
    }


def recall_facts(recall: pd.DataFrame, precision: pd.DataFrame) -> dict[str, object]:
    """Dirty rows and how many were dealt with rightly, kinds never found, and what was set aside in error."""
    rows, right = int(recall["rows"].sum()), int(recall["right"].sum())
    every = precision.iloc[-1] if len(precision) else None
    return {
        "rows": rows,
        "right": right,
        "recall": right / rows if rows else None,
        "kinds": len(recall),
        "whole": int((recall["right"] == recall["rows"]).sum()),
        "never": list(recall.loc[recall["right"] == 0, "name"]),
        "aside": 0 if every is None else int(every["rows"]),
        "precision": None if every is None else float(every["precision"]),
        "repairable": 0 if every is None else int(every["repairable"]),
        "clean": 0 if every is None else int(every["clean"]),
    }


def cleaning_entries(recall: pd.DataFrame, sales: dict[str, object], words: Words) -> pd.DataFrame:
    """Section of the card: net sales, and dirty rows by kind."""
    rows = [
        (words("quantity_dirt", name=r["name"]), r["rows"], r["right"], None, None) for r in recall.to_dict("records")
    ]
    return entries([(words("quantity_net_sales"), sales["due"], sales["booked"], None, None), *rows])
