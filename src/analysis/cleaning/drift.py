"""A profile of every column and category, kept with each edition, and what has changed since the last one.

A difference counts as a change where a test of two proportions is significant at 1 % divided by the number of comparisons
(Bonferroni). Customers, not rows, are the observations of a test: the rows of one customer are not independent, and most
customers of this edition were in the last, so the tests err on the side of silence. Medians are compared by the share of
values below the last edition's median, ties counted half.
"""

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist

import ibis
import pandas as pd
from ibis import _

from analysis.cleaning.clean import Cleaned
from analysis.cleaning.groups import in_groups, shown_groups
from analysis.cleaning.words import Words
from analysis.reporting.tables import csv_safe

PROFILE_UNITS = {
    "table": "text",
    "column": "text",
    "rows": "count",
    "people": "count",
    "completeness": "share",
    "validity": "share",
    "distinct": "count",
    "mean": "number",
    "low": "number",
    "median": "number",
    "high": "number",
    "below_median": "share",
}
SHARE_UNITS = {"table": "text", "column": "text", "category": "text", "people": "count", "share": "share"}
DRIFT_UNITS = {"where": "text", "change": "text", "before": "text", "now": "text"}
TEXT = ("table", "column", "category")  # read back as they were written, ``01`` included
_MOST_CATEGORIES = 10
_FEW = 50  # a column with more different values holds no categories
_NUMBERS = ("mean", "low", "median", "high", "below_median")
_LEVEL = 0.01
_TAIL = 0.05


def profile(cleaned: Cleaned, tables: Mapping[str, ibis.Table], small_group: int) -> pd.DataFrame:
    """One row a column of every table.

    Parameters
    ----------
    cleaned : what cleaning made. tables : its finished tables, by name.
    small_group : where fewer people stand behind a column, its numbers are blank; so are the 5 % and 95 % quantiles where
        fewer lie beyond them.

    Returns
    -------
    The columns of ``PROFILE_UNITS``: ``rows`` and ``completeness`` of the raw rows where the column is mapped, of the finished
    table otherwise; ``people`` behind its values (customers where rows have one, else rows); ``validity`` (missing where
    nothing was read); ``distinct`` values (about: HyperLogLog); ``mean``, ``low`` (5 %), ``median``, ``high`` (95 %) and
    ``below_median`` of numbers, to six significant digits.
    """
    raw = cleaned.columns.set_index(["table", "column"])
    rows = []
    for name, table in tables.items():
        table = _ours(name, table)
        for column, seen in _column_facts(table, small_group).items():
            if (name, column) in raw.index:
                row = raw.loc[(name, column)]
                filled = row.rows - row.blank
                seen["rows"], seen["completeness"] = int(row.rows), filled / row.rows if row.rows else None
                seen["validity"] = 1 - row.bad / filled if filled else None
            rows.append({"table": name, "column": column, "validity": None} | seen)
    frame = pd.DataFrame(rows, columns=list(PROFILE_UNITS))
    return frame.astype(dict.fromkeys(("completeness", "validity", *_NUMBERS), float))


def category_shares(tables: Mapping[str, ibis.Table], small_group: int) -> pd.DataFrame:
    """The shares of rows of the commonest categories of every column that holds categories.

    Returns
    -------
    The columns of ``SHARE_UNITS``: at most ten categories a column, each with at least ``small_group`` people; ``category``
    is missing for the others.
    """
    parts = []
    for name, table in tables.items():
        table = _ours(name, table)
        for column in _category_columns(table):
            grouped = table.mutate(group=table[column].cast("string")).filter(_.group.notnull())
            person = _person(table)
            kept = shown_groups(grouped, person, _.count(), small_group, _MOST_CATEGORIES)
            if kept:
                found = in_groups(grouped, kept).group_by("group").aggregate(people=person, rows=_.count()).to_pandas()
                found = found.sort_values(["rows", "group"], ascending=[False, True])
                share = found.rows / found.rows.sum()
                parts.append(found.assign(table=name, column=column, category=found.group, share=share))
    names = list(SHARE_UNITS)
    return pd.concat([p[names] for p in parts], ignore_index=True) if parts else pd.DataFrame(columns=names)


def drift(
    now: pd.DataFrame,
    before: pd.DataFrame,
    shares: pd.DataFrame,
    shares_before: pd.DataFrame,
    tables: Mapping[str, ibis.Table],
    words: Words,
) -> pd.DataFrame:
    """What has changed since the last edition, beyond what chance explains.

    Parameters
    ----------
    now, shares : from :func:`profile` and :func:`category_shares`. before, shares_before : the same of the last edition;
        empty where there is none.
    tables : the finished tables of now.

    Returns
    -------
    The columns of ``DRIFT_UNITS``, all text: tables and columns that came or went and numbers of rows first, then what a
    test found, the surest first.
    """
    if before.empty or not set(PROFILE_UNITS) <= set(before.columns):
        return pd.DataFrame(columns=list(DRIFT_UNITS))
    # The last edition comes from a file for spreadsheets, whose text is made harmless.
    counted = list(_counted(now, before, words))
    tested = [*_quality_changes(now, before, words), *_median_changes(now, before, tables, words)]
    if set(SHARE_UNITS) <= set(shares_before.columns):
        new_or_gone, changed = _share_changes(csv_safe(shares), shares_before, words)
        counted, tested = counted + new_or_gone, tested + changed
    level = _LEVEL / max(1, len(tested))
    sure = sorted((p, change) for p, change in tested if p < level)
    return pd.DataFrame([*counted, *(change for _, change in sure)], columns=list(DRIFT_UNITS))


def drift_facts(changes: pd.DataFrame, before: pd.DataFrame) -> dict[str, object]:
    """What the sentence about change needs: whether there is an edition to compare with, and how many changes."""
    return {"first": before.empty, "changes": len(changes)}


# -- one table ---------------------------------------------------------------------------------------------------------


def _ours(name: str, table: ibis.Table) -> ibis.Table:
    return table.filter(table.arm != "untargeted") if name == "contacts" else table  # these rows are in no source


def _person(table: ibis.Table) -> ibis.Deferred:
    return _.customer_id.nunique() if "customer_id" in table.columns else _.count()


def _numeric(table: ibis.Table) -> list[str]:
    return [c for c in table.columns if table[c].type().is_numeric() and c != "line_number"]


def _column_facts(table: ibis.Table, small_group: int) -> dict[str, dict[str, float]]:
    numeric = _numeric(table)
    wanted = {"rows": table.count()}
    for c in table.columns:
        wanted |= {f"{c} filled": table[c].count(), f"{c} distinct": table[c].approx_nunique()}
        known = table[c].notnull()
        people = table.customer_id.nunique(where=known) if "customer_id" in table.columns else known.sum()
        wanted[f"{c} people"] = people
    for c in numeric:
        # Decimals add up exactly, in whatever order.
        wanted[f"{c} sum"] = table[c].sum().cast("float64")
        value = table[c].cast("float64")
        wanted |= {f"{c} {name}": value.quantile(at) for name, at in (("low", 0.05), ("median", 0.5), ("high", 0.95))}
    seen = table.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    below = _below(table, {c: seen[f"{c} median"] for c in numeric})
    facts = {}
    for c in table.columns:
        filled, people = seen[f"{c} filled"], seen[f"{c} people"] or 0
        facts[c] = {"rows": seen["rows"], "completeness": filled / seen["rows"] if seen["rows"] else None}
        facts[c] |= {"people": people, "distinct": min(filled, seen[f"{c} distinct"])}
        if c in numeric and people >= small_group:
            numbers = {"mean": seen[f"{c} sum"] / filled, "median": seen[f"{c} median"], "below_median": below[c]}
            if people * _TAIL >= small_group:
                numbers |= {"low": seen[f"{c} low"], "high": seen[f"{c} high"]}
            facts[c] |= {name: float(f"{value:.6g}") for name, value in numbers.items()}
    return facts


def _below(table: ibis.Table, cuts: Mapping[str, float | None]) -> dict[str, float | None]:
    """The share of values below a cut, those equal to it counted half, by column."""
    known = {c: cut for c, cut in cuts.items() if cut is not None}
    if not known:
        return {}
    values = {c: table[c].cast("float64") for c in known}
    halves = {c: ibis.ifelse(values[c] < cut, 2, ibis.ifelse(values[c] == cut, 1, 0)) for c, cut in known.items()}
    sums = {c: ibis.ifelse(values[c].isnull(), None, halves[c]).sum() for c in known}
    counts = {f"{c} n": values[c].count() for c in known}
    seen = table.aggregate(**sums, **counts).to_pyarrow().to_pylist()[0]
    return {c: seen[c] / 2 / seen[f"{c} n"] if seen[f"{c} n"] else None for c in known}


def _category_columns(table: ibis.Table) -> list[str]:
    words = [c for c in table.columns if table[c].type().is_string() and c != "name" and not c.endswith("_id")]
    flags = [c for c in table.columns if table[c].type().is_boolean()]
    if not words:
        return flags
    counts = table.aggregate(**{c: table[c].approx_nunique() for c in words}).to_pyarrow().to_pylist()[0]
    return [c for c in table.columns if c in flags or 0 < counts.get(c, 0) <= _FEW]


# -- comparisons: each a change as it is shown, with the p-value of its test where there is one ------------------------

_Change = tuple[str, str, str, str]


def _counted(now: pd.DataFrame, before: pd.DataFrame, words: Words) -> Iterator[_Change]:
    """Columns that came or went, and tables whose number of rows is another."""
    old, new = (set(zip(f.table, f.column, strict=True)) for f in (before, now))
    for kind, found in (("column_new", new - old), ("column_gone", old - new)):
        for table, column in sorted(found):
            yield words("where", table=table, column=column), words(f"change_{kind}"), "", ""
    rows, rows_before = (f.groupby("table").rows.max() for f in (now, before))
    for table in [t for t in rows.index if t in rows_before.index and rows[t] != rows_before[t]]:
        count = words.format.count
        yield words.name("table", table), words("change_rows"), count(int(rows_before[table])), count(int(rows[table]))


def _pairs(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    return now.merge(before, on=["table", "column"], suffixes=("", "_before"))


def _quality_changes(now: pd.DataFrame, before: pd.DataFrame, words: Words) -> Iterator[tuple[float, _Change]]:
    for row in _pairs(now, before).itertuples():
        for measure in ("completeness", "validity"):
            new, old = getattr(row, measure), getattr(row, f"{measure}_before")
            people, people_before = (row.people, row.people_before) if row.people else (row.rows, row.rows_before)
            share = words.format.share
            change = (words("where", table=row.table, column=row.column), words.name("measure", measure))
            yield _p_value(new, people, old, people_before), (*change, share(old), share(new))


def _median_changes(
    now: pd.DataFrame, before: pd.DataFrame, tables: Mapping[str, ibis.Table], words: Words
) -> Iterator[tuple[float, _Change]]:
    for name, pairs in _pairs(now, before).dropna(subset=["median", "median_before"]).groupby("table"):
        cuts = dict(zip(pairs.column, pairs.median_before, strict=True))
        below = _below(_ours(name, tables[name]), cuts)
        for row in pairs.itertuples():
            p = _p_value(below[row.column], row.people, row.below_median_before, row.people_before)
            where, number = words("where", table=name, column=row.column), words.format.number
            yield p, (where, words("change_median"), number(row.median_before), number(row.median))


def _share_changes(
    now: pd.DataFrame, before: pd.DataFrame, words: Words
) -> tuple[list[_Change], list[tuple[float, _Change]]]:
    """Categories that came, went, or have another share.

    A category that is not shown in one of the editions may have been among its others: then it is compared with the most that
    it can have had there.
    """
    certain, tested = [], []
    old = dict(list(before.groupby(["table", "column"])))
    for key, new in now.groupby(["table", "column"]):
        if key not in old:
            continue
        where = words("where", table=key[0], column=key[1])
        for category in _named(new) | _named(old[key]):
            (share, people), (share_before, people_before) = _share_of(new, category), _share_of(old[key], category)
            text = (words.format.share(share_before), words.format.share(share))
            if 0 in (share, share_before):
                kind = "category_new" if share_before == 0 else "category_gone"
                certain.append((where, words(f"change_{kind}", category=category), *text))
                continue
            unseen = (category not in _named(old[key]) and share <= share_before) or (
                category not in _named(new) and share_before <= share
            )
            if not unseen:
                change = (where, words("change_share", category=category), *text)
                tested.append((_p_value(share, people, share_before, people_before), change))
    return sorted(certain), tested


def _named(shares: pd.DataFrame) -> set[str]:
    return set(shares.category.dropna())


def _share_of(shares: pd.DataFrame, category: str) -> tuple[float, int]:
    """The share of a category, or the most that it can have: no more than all others, nor than the smallest one shown."""
    people = int(shares.people.sum())
    row = shares[shares.category == category]
    if len(row):
        return row.share.iloc[0], people
    others = shares.share[shares.category.isna()].sum()
    return min(others, shares.share[shares.category.notna()].min()), people


def _p_value(share: float | None, people: float, share_before: float | None, people_before: float) -> float:
    """Of a two-sided test that two shares are equal, with pooled variance; 1 where there is nothing to test."""
    known = pd.notna(share) and pd.notna(share_before) and people > 0 and people_before > 0
    if not known or share == share_before:
        return 1.0
    pooled = (share * people + share_before * people_before) / (people + people_before)
    error = math.sqrt(pooled * (1 - pooled) * (1 / people + 1 / people_before))
    return 2 * NormalDist().cdf(-abs(share - share_before) / error)
