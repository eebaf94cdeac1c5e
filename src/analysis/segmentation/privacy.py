"""Nothing shown about a handful of people: small groups are merged, small cells are hidden."""

import numpy as np
import pandas as pd

JOIN = "+"


def merge_small(
    table: pd.DataFrame,
    key: str,
    small_group: int,
    *,
    counts: str = "customers",
    means: tuple[str, ...] = (),
    partners: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Merge the groups of a table that are too small to show into one, named ``let_go+too_early`` after them.

    When the merged group is still too small, the next smallest joins it, so that it cannot be worked out from
    a total.

    Parameters
    ----------
    table : one row a group.
    key : column that names the group.
    small_group : least number of customers shown.
    counts : column with the number of customers.
    means : columns that are means over customers; other numeric columns are sums.
    partners : small group -> the group that it joins first, where that is there.

    Returns
    -------
    The table with the merged group last; empty when there are fewer than ``small_group`` customers in all.
    """
    if table[counts].sum() < small_group:
        return table.iloc[:0]
    small = table[counts] < small_group
    for group, partner in (partners or {}).items():
        if small[table[key] == group].any():
            small |= table[key] == partner
    while small.any() and table.loc[small, counts].sum() < small_group:
        small[table.loc[~small, counts].idxmin()] = True
    if not small.any():
        return table.reset_index(drop=True)
    gone = table[small]
    merged = {key: JOIN.join(gone[key])}
    for column in table.columns.drop(key):
        if column in means:
            merged[column] = np.average(gone[column], weights=gone[counts])
        elif pd.api.types.is_numeric_dtype(table[column]):
            merged[column] = gone[column].sum(min_count=1)
    return pd.concat([table[~small], pd.DataFrame([merged])], ignore_index=True).astype({counts: "int64"})


def hide_small(cells: pd.DataFrame, small_group: int) -> pd.DataFrame:
    """Hide the cells of a cross table that count too few people.

    In each row or column that would have a single hidden cell, its next smallest is hidden too; otherwise a
    total tells it.

    Parameters
    ----------
    cells : counts of customers, rows × columns. Empty cells (0) are shown: they tell of nobody.
    small_group : least number of customers shown.

    Returns
    -------
    The same frame as floats, NaN where hidden.
    """
    hidden = ((cells > 0) & (cells < small_group)).to_numpy(copy=True)
    counts = cells.to_numpy(dtype=float)
    while True:
        before = hidden.sum()
        for view, shown in ((hidden, counts), (hidden.T, counts.T)):
            for line in range(len(view)):
                open_cells = np.flatnonzero(~view[line] & (shown[line] > 0))
                if view[line].sum() == 1 and len(open_cells):
                    view[line, open_cells[shown[line, open_cells].argmin()]] = True
        if hidden.sum() == before:
            return pd.DataFrame(np.where(hidden, np.nan, counts), index=cells.index, columns=cells.columns)
