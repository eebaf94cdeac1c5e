"""Are the segments different in what did not make them? Tests on descriptor variables, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import chndtr

from analysis.multiplicity import adjust_p_values
from analysis.segmentation.early import person_attributes

RARE = 0.02
COLUMNS = [
    "variable", "kind", "customers", "statistic", "df", "p", "p_holm", "effect", "low", "high", "differs", "reason",
]  # fmt: skip


def outside_variables(customer_id: pd.Series, summary: pd.DataFrame, people: pd.DataFrame | None) -> pd.DataFrame:
    """Variables that did not make the segments: tenure, margin, and what the table of customers says of each.

    Parameters
    ----------
    customer_id : shape (n,), in the order of the labels that will be described.
    summary : ``customer_summary``.
    people : ``customers``, or None.

    Returns
    -------
    Frame of shape (n, variables) in the order of ``customer_id``, which it does not hold; missing where nothing is known.
    """
    known = summary[["customer_id", "T", "margin"]].rename(columns={"T": "tenure_days"})
    known = known.merge(person_attributes(people), on="customer_id", how="left")
    return known.set_index("customer_id").reindex(customer_id).reset_index(drop=True)


def describe_segments(
    labels: pd.Series,
    descriptors: pd.DataFrame,
    small_group: int = 10,
    level: float = 0.05,
    confidence: float = 0.95,
    without: Sequence[str] = (),
) -> pd.DataFrame:
    """Test whether segments differ in variables that did not make them (Dolnicar, Grün & Leisch 2018, chapter 9).

    Numbers and days are compared by ranks (Kruskal & Wallis 1952), because they have heavy tails; categories by
    Pearson's chi-square, levels under 2 % or too rare for it pooled. P-values are corrected by Holm (1979). Effects are
    ε² = (H − df) / (n − 1) and Cramér's V = √((χ² − df) / (n (min(rows, columns) − 1))), both from 0 (no difference) to 1
    and freed of what chance alone adds (Bergsma 2013), with intervals from the non-central chi-square (Steiger & Fouladi
    1997).

    Parameters
    ----------
    labels : shape (n,), segments; customers without one are left out.
    descriptors : frame of shape (n, variables), in the order of ``labels``: numbers, dates, booleans or text; missing values
        of numbers are left out, those of categories are a level.
    small_group : segments with fewer customers are left out, and levels with fewer are pooled.
    level : of significance, after the correction.
    without : columns not to test, such as ids and the variables that made the segments: of those a test would say only that
        segmenting works.

    Returns
    -------
    One row a variable, the largest effect first: variable, kind (``number`` or ``category``), customers, statistic, df, p,
    p_holm, effect, low, high, differs (bool), reason (why there is no test: ``constant``, ``few_customers`` or
    ``few_segments``; None otherwise).

    Raises
    ------
    ValueError
        Labels and descriptors differ in length.
    """
    if len(labels) != len(descriptors):
        raise ValueError(f"describe: {len(labels)} labels and {len(descriptors)} customers; give one label a customer")
    labels = pd.Series(np.asarray(labels, dtype=object))
    sizes = labels.value_counts()
    kept = labels.isin(sizes.index[sizes >= small_group]).to_numpy()
    rows = []
    for name in (c for c in descriptors.columns if c not in without):
        column = descriptors[name].reset_index(drop=True)
        compare = _numbers if _numeric(column) else _categories
        rows.append({"variable": name} | compare(labels[kept], column[kept], small_group, confidence))
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS if c not in ("p_holm", "differs")])
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    table["p_holm"] = np.nan
    tested = table["p"].notna()
    if tested.any():
        table.loc[tested, "p_holm"] = adjust_p_values(table.loc[tested, "p"].to_numpy(dtype=float))
    table["differs"] = table["p_holm"] < level
    return table.sort_values(["effect", "variable"], ascending=[False, True], ignore_index=True)[COLUMNS]


def _numeric(column: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(column):
        return False
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column)


def _untested(kind: str, customers: int, reason: str) -> dict[str, object]:
    blank = dict.fromkeys(("statistic", "df", "p", "effect", "low", "high"), np.nan)
    return {"kind": kind, "customers": customers, "reason": reason} | blank


def _numbers(labels: pd.Series, column: pd.Series, small_group: int, confidence: float) -> dict[str, object]:
    if pd.api.types.is_datetime64_any_dtype(column):
        column = (column - pd.Timestamp("1970-01-01", tz=column.dt.tz)) / pd.Timedelta(days=1)
    known = column.notna().to_numpy()
    values, own = column[known].to_numpy(dtype=float), labels[known].to_numpy()
    groups = [values[own == g] for g in sorted(set(own))]
    groups = [g for g in groups if len(g) >= small_group]
    n = sum(map(len, groups))
    if len(groups) < 2:
        return _untested("number", n, "few_segments")
    if np.ptp(np.concatenate(groups)) == 0:
        return _untested("number", n, "constant")
    statistic, p = stats.kruskal(*groups)
    df = len(groups) - 1
    # H is at most n − 1, so its non-centrality turns into ε² by the same factor.
    low, high = (end / (n - 1) for end in noncentrality(float(statistic), df, confidence))
    effect = max(float(statistic) - df, 0.0) / (n - 1)
    return _tested("number", n, statistic, df, p, effect, low, high)


def _categories(labels: pd.Series, column: pd.Series, small_group: int, confidence: float) -> dict[str, object]:
    text = column.astype(object).where(column.notna(), "missing").astype(str)
    share = text.value_counts(normalize=True)
    counts = text.value_counts()
    rare = share.index[(share < RARE) | (counts < small_group)]
    rows, columns = pd.factorize(labels)[0], pd.factorize(text.where(~text.isin(rare), " rare"))[0]
    n = len(rows)
    table = np.zeros((rows.max() + 1, columns.max() + 1)) if n else np.zeros((0, 0))
    np.add.at(table, (rows, columns), 1)
    if len(table) < 2:
        return _untested("category", n, "few_segments")
    # Cochran's rule: the chi-square holds where cells expect five; the rarest levels join until they do.
    table = table[:, np.argsort(-table.sum(axis=0), kind="stable")]
    while table.shape[1] > 1 and table.sum(axis=1).min() * table.sum(axis=0).min() < 5 * n:
        table = np.c_[table[:, :-2], table[:, -2:].sum(axis=1)]
        table = table[:, np.argsort(-table.sum(axis=0), kind="stable")]
    if table.shape[1] < 2:
        return _untested("category", n, "constant" if text.nunique() < 2 else "few_customers")
    statistic, p, df, _ = stats.chi2_contingency(table, correction=False)
    least = min(table.shape) - 1
    low, high = (float(np.sqrt(end / (n * least))) for end in noncentrality(float(statistic), int(df), confidence))
    effect = float(np.sqrt(max(statistic - df, 0.0) / (n * least)))
    return _tested("category", n, statistic, df, p, effect, low, high)


def _tested(kind, customers, statistic, df, p, effect, low, high) -> dict[str, object]:
    return {
        "kind": kind,
        "customers": customers,
        "statistic": float(statistic),
        "df": int(df),
        "p": float(p),
        "effect": min(effect, 1.0),
        "low": min(low, effect, 1.0),
        "high": min(max(high, effect), 1.0),
        "reason": None,
    }


def noncentrality(statistic: float, df: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the non-centrality of a chi-square statistic, by inverting its distribution (Steiger & Fouladi 1997)."""
    tails = (1 + confidence) / 2, (1 - confidence) / 2
    low, high = (_noncentrality_at(statistic, df, tail) for tail in tails)
    return low, high


def _noncentrality_at(statistic: float, df: int, tail: float) -> float:
    """The non-centrality under which the statistic is the given quantile; 0 where even none puts it higher."""
    if chndtr(statistic, df, 0.0) <= tail:
        return 0.0
    # Chi-square with non-centrality λ has mean df + λ and variance 2 (df + 2 λ).
    over, z = statistic - df, float(stats.norm.ppf(tail))
    normal = over + 2 * z**2 - np.sign(z) * np.sqrt((over + 2 * z**2) ** 2 - over**2 + 2 * z**2 * df)
    if statistic > 1e4:
        return max(float(normal), 0.0)
    far = statistic + 10 * np.sqrt(2 * (df + 2 * statistic)) + 50
    return float(brentq(lambda shift: chndtr(statistic, df, shift) - tail, 0.0, far, xtol=1e-8))
