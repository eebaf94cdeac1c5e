"""Which groups of people may be shown by name: the largest, none of a handful, and none that a total would tell."""

import ibis
from ibis import _


def shown_groups(
    table: ibis.Table, person: ibis.Deferred, weight: ibis.Deferred, small_group: int, most: int
) -> list[str]:
    """The values of ``group`` that get a row of their own; the others share one.

    Parameters
    ----------
    table : with a column ``group``, text.
    person : counts the people behind rows, for example ``_.customer_id.nunique()``.
    weight : what makes a group large, for example ``_.count()``.
    small_group : least number of people shown.
    most : groups shown at most.

    Returns
    -------
    The groups, the largest first. The others, missing values among them, are nobody or at least ``small_group`` people:
    else the smallest of the shown groups joins them.
    """
    counted = table.filter(_.group.notnull()).group_by("group").aggregate(people=person, weight=weight)
    largest = counted.filter(_.people >= small_group).order_by(ibis.desc("weight"), "group").limit(most)
    kept = largest.to_pyarrow().to_pydict()["group"]
    while kept and 0 < _count(in_groups(table, kept).filter(_.group.isnull()), person) < small_group:
        kept.pop()
    return kept


def in_groups(table: ibis.Table, kept: list[str]) -> ibis.Table:
    """The table with ``group`` missing wherever it is none of ``kept``."""
    missing = ibis.null("string")
    return table.mutate(group=ibis.ifelse(table.group.isin(kept), table.group, missing) if kept else missing)


def _count(table: ibis.Table, person: ibis.Deferred) -> int:
    return table.aggregate(people=person).to_pyarrow().to_pylist()[0]["people"]
