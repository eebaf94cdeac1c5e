"""One sheet a group of customers: how many, what they are worth, how they behave, what they say, what to do with them.

A group is any label: a named segment, a value tier, a cluster. Groups of fewer than ``small_group`` customers are shown
as one, with as many of the next smallest as are needed so that no total tells what they bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.segmentation.clusters import Segments
from analysis.segmentation.level_facts import hidden_rows
from analysis.segmentation.words import Words

Floats = NDArray[np.float64]
OTHERS = "others"  # the group of small groups
FEW = 30  # customers below which no interval is given, as for tiers
_DAYS_PER_YEAR = 365.25
_PER_CUSTOMER = ("spend", "margin", "residual_value", "growth_value", "expected_purchases")
SHEET_COLUMNS = {"what": ("Sheet", "text"), "value": ("Value", "text")}


def segment_sheets(
    customers: pd.DataFrame,
    by: str,
    small_group: int,
    *,
    exposure_days: ArrayLike | None = None,
    survey: pd.DataFrame | None = None,
    score: str | None = None,
    base_value: tuple[float, float | None, float | None] | None = None,
) -> pd.DataFrame:
    """Describe every group of customers.

    Parameters
    ----------
    customers : one row a customer. ``by`` and spend; where known margin, residual_value, growth_value, expected_purchases, clv_low,
        clv_high, existing_value (of ``customer_value``), purchase_days, categories (of ``behaviour_features``), recency_days,
        value_tier, life_stage, and customer_id for the survey.
    by : column of labels; customers without one are a group of their own.
    small_group : least number of customers, and of respondents, that is shown.
    exposure_days : array of shape (n,), days over which purchase days were counted; without it, no rate a year is told.
    survey : customer_id and ``score``, one row a response; a customer who answered more than once counts once, by the mean.
    score : the column of the survey to describe.
    base_value : total residual value of the base with its 95 % interval, money; without it, the groups' have none.

    Returns
    -------
    One row a group, the highest sales a customer first and ``others`` last: group (label, None for customers without one),
    customers, share_customers, share_sales; spend, margin, residual_value, growth_value, expected_purchases (means a
    customer, NaN where unknown), spend_low, spend_high; residual_total, residual_low, residual_high (money over the horizon);
    purchase_days_year, basket (money a purchase day), recency_days (median), categories (mean); survey_mean, survey_low,
    survey_high, respondents (NaN where too few answered); value_tier, tier_share, life_stage, stage_share (the most frequent,
    None where unknown). Intervals are 95 %.

    Raises
    ------
    ValueError
        There is no customer, or fewer than ``small_group``.
    """
    if len(customers) < max(small_group, 1):
        raise ValueError(
            f"sheets: {len(customers)} customers are too few to show; at least {max(small_group, 1)} are needed"
        )
    frame = customers.reset_index(drop=True)
    frame = frame.assign(_group=_grouped(frame[by], small_group))
    frame["_years"] = np.nan if exposure_days is None else np.asarray(exposure_days, dtype=float) / _DAYS_PER_YEAR
    frame["_variance"], doubt = _spread(frame, base_value)
    answers = None if survey is None or score is None else _answers(frame, survey, score)
    total = float(frame["spend"].sum())
    rows = []
    for label, members in frame.groupby("_group", dropna=False, sort=True):
        row = {
            "group": None if label is None or label != label else label,
            "customers": len(members),
            "share_customers": len(members) / len(frame),
            "share_sales": float(members["spend"].sum()) / total if total > 0 else np.nan,
        }
        row |= _value(members, doubt) | _behaviour(members)
        row |= _survey(None if answers is None else answers.loc[members.index], small_group)
        rows.append(row | _most(members, "value_tier", "tier_share") | _most(members, "life_stage", "stage_share"))
    table = pd.DataFrame(rows)
    last = table["group"].eq(OTHERS).fillna(False).astype(bool)
    return (
        table.assign(_last=last)
        .sort_values(["_last", "spend"], ascending=[True, False])
        .drop(columns="_last")
        .reset_index(drop=True)
    )


def sheet_inputs(summary: pd.DataFrame, value: pd.DataFrame, features: pd.DataFrame | None = None) -> pd.DataFrame:
    """Join what the sheets describe: one row a customer of ``summary``, in its order.

    Parameters
    ----------
    summary : ``customer_summary`` with the labels, such as value_tier and life_stage.
    value : ``customer_value``.
    features : frame of ``behaviour_features``, for purchase_days and categories.

    Raises
    ------
    ValueError
        A customer has more than one row in ``value`` or ``features``.
    """
    joined = summary
    for frame in (value, features):
        if frame is not None:
            new = ["customer_id", *(c for c in frame.columns if c not in joined.columns)]
            try:
                joined = joined.merge(frame[new], on="customer_id", how="left", validate="many_to_one")
            except pd.errors.MergeError:
                raise ValueError("sheets: a customer has more than one row of values or features") from None
    return joined


def survey_scores(answers: pd.DataFrame, items: Sequence[str], scale: tuple[float, float]) -> pd.DataFrame | None:
    """How each response rates the company: the mean of what was answered, 0 to 100.

    Parameters
    ----------
    answers : ``survey_responses``. items : columns to take the mean of; those that the survey lacks are left out.
    scale : lowest and highest answer.

    Returns
    -------
    customer_id and score, one row a response that has both; None where the survey knows no customers or asks none of the items.
    """
    asked = [item for item in items if item in answers.columns]
    if "customer_id" not in answers.columns or not asked:
        return None
    low, high = scale
    score = 100 * (answers[asked].astype(float).mean(axis=1) - low) / (high - low)
    told = pd.DataFrame({"customer_id": answers["customer_id"], "score": score}).dropna()
    return told.reset_index(drop=True) if len(told) else None


def segment_names(features: pd.DataFrame, segments: Segments, words: Words) -> pd.DataFrame:
    """Each customer's behaviour segment by letter and proposed name: customer_id, segment (None without one)."""
    names = {letter: f"{letter}: {words.segment(markers)}" for letter, markers in segments.markers.items()}
    return pd.DataFrame({"customer_id": features["customer_id"], "segment": segments.labels.map(names)})


def _grouped(labels: pd.Series, small_group: int) -> pd.Series:
    labels = labels.astype(object).where(labels.notna(), None)
    counts = labels.value_counts(dropna=False, sort=False)
    small = hidden_rows(counts.to_numpy(), small_group)
    if not small.any():
        return labels
    gone = set(counts.index[small])
    known = {None if label != label else label for label in gone}
    return labels.map(lambda label: OTHERS if label in known else label)


def _value(members: pd.DataFrame, doubt: float) -> dict[str, Any]:
    row = {name: float(members[name].astype(float).mean()) if name in members else np.nan for name in _PER_CUSTOMER}
    row["spend_low"], row["spend_high"] = mean_interval(members["spend"].to_numpy(float))
    worth = members["residual_value"].to_numpy(float) if "residual_value" in members else np.full(len(members), np.nan)
    total = float(worth.sum())
    reach = stats.norm.ppf(0.975) * np.sqrt(members["_variance"].sum() + (doubt * total) ** 2)
    return row | {
        "residual_total": total,
        "residual_low": float(max(total - reach, min(total, 0.0))) if reach == reach else np.nan,
        "residual_high": float(total + reach),
    }


def _spread(frame: pd.DataFrame, base: tuple[float, float | None, float | None] | None) -> tuple[Floats, float]:
    """Variance of what each customer brings by chance, and the relative error that all have in common.

    A customer's own prediction interval gives the variance, but for those who may well bring nothing its limits say too
    little: there, that of a compound Poisson of as many purchases, whose sizes vary by as much as their mean, is taken where it is
    larger. What the base's interval holds beyond chance is common to all, and grows with a group's value.
    """
    needed = {"residual_value", "clv_low", "clv_high", "existing_value"}
    none = np.full(len(frame), np.nan), np.nan
    if base is None or base[1] is None or base[2] is None or not needed <= set(frame.columns) or not base[0] > 0:
        return none
    value, low, high, existing = (
        frame[c].to_numpy(float) for c in ("residual_value", "clv_low", "clv_high", "existing_value")
    )
    width = (high - low) / (2 * stats.norm.ppf(0.975))
    variance = width**2
    if "expected_purchases" in frame:
        bought = frame["expected_purchases"].to_numpy(float)
        variance = np.maximum(variance, np.where(bought > 0, 2 * value**2 / np.where(bought > 0, bought, 1.0), 0.0))
    if not (np.isfinite(variance).all() and np.isfinite(existing).all()):
        return none
    whole = ((base[2] - base[1]) / (2 * stats.norm.ppf(0.975))) ** 2
    return variance, float(np.sqrt(max(whole - variance.sum(), 0.0)) / base[0])


def _behaviour(members: pd.DataFrame) -> dict[str, float]:
    days = float(members["purchase_days"].sum()) if "purchase_days" in members else np.nan
    years = float(members["_years"].sum())
    return {
        "purchase_days_year": days / years if years > 0 else np.nan,
        "basket": float(members["spend"].sum()) / days if days > 0 else np.nan,
        "recency_days": float(members["recency_days"].median()) if "recency_days" in members else np.nan,
        "categories": float(members["categories"].mean()) if "categories" in members else np.nan,
    }


def _answers(frame: pd.DataFrame, survey: pd.DataFrame, score: str) -> pd.Series:
    """Each customer's mean answer, in the order of the frame; NaN for those who did not answer."""
    said = survey.dropna(subset=["customer_id"]).groupby("customer_id")[score].mean()
    return frame["customer_id"].map(said).astype(float)


def _survey(answers: pd.Series | None, small_group: int) -> dict[str, float]:
    said = np.zeros(0) if answers is None else answers.dropna().to_numpy(float)
    if len(said) < max(small_group, 1):
        return dict.fromkeys(("survey_mean", "survey_low", "survey_high", "respondents"), np.nan)
    low, high = mean_interval(said)
    return {"survey_mean": float(said.mean()), "survey_low": low, "survey_high": high, "respondents": float(len(said))}


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval of a mean by Student's t: how far another draw of customers like these would move it.

    Returns
    -------
    low, high; NaN with fewer than 30 values, or where they are all the same.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n < FEW or not np.isfinite(values).all() or np.ptp(values) == 0:
        return float("nan"), float("nan")
    reach = stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - reach), float(values.mean() + reach)


def _most(members: pd.DataFrame, column: str, share: str) -> dict[str, Any]:
    counts = members[column].value_counts() if column in members else pd.Series(dtype=int)
    if counts.empty:
        return {column: None, share: np.nan}
    # The first by name where two are as frequent, so that the order of rows does not matter.
    top = min(counts.index[counts == counts.max()])
    return {column: str(top), share: float(counts.max() / len(members))}


# -- for people --------------------------------------------------------------------------------------------------------


def advice(row: Mapping[str, Any], words: Words) -> str:
    """What to do with a group, by its most frequent tier and stage.

    Where less than half of the group is in one tier, or it is made of small groups, that is said instead.
    """
    tier, stage = row["value_tier"], row["life_stage"]
    if row["group"] == OTHERS or tier is None or not row["tier_share"] >= 0.5:
        return words("do_mixed")
    return words(f"do_{tier}", stage=stage if stage is not None and row["stage_share"] >= 0.5 else "")


def group_name(row: Mapping[str, Any], words: Words, kind: str | None = None) -> str:
    """The name of a group; ``kind`` (``tier``, ``stage``) puts a code into words."""
    if row["group"] is None:
        return words("sheet_without")
    if row["group"] == OTHERS:
        return words("sheet_others")
    return words.name(kind, row["group"]) if kind else str(row["group"])


def sheet_facts(row: Mapping[str, Any], words: Words, horizon_weeks: float, kind: str | None = None) -> dict[str, Any]:
    """What the paragraph about a group is filled with; None where unknown.

    Parameters
    ----------
    row : one row of :func:`segment_sheets`.
    words : for names and advice.
    horizon_weeks : horizon of the expected values.
    kind : ``tier`` or ``stage`` where the groups are codes of these.
    """
    texts = ("group", "customers", "value_tier", "life_stage")
    numbers = {name: _known(value) for name, value in dict(row).items() if name not in texts}
    return numbers | {
        "n": row["customers"],
        "group": group_name(row, words, kind),
        "advice": advice(row, words),
        "horizon": horizon_weeks,
        "stage": None if row["life_stage"] is None else words.name("stage", row["life_stage"]).lower(),
        "tier": None if row["value_tier"] is None else words.name("tier", row["value_tier"]).lower(),
    }


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


_LINES = (
    "size", "sales", "margin", "expected", "purchases", "behaviour", "recency", "categories", "stage", "survey", "advice",
)  # fmt: skip


def sheet_table(row: Mapping[str, Any], words: Words, horizon_weeks: float, kind: str | None = None) -> pd.DataFrame:
    """A group's sheet as a table of two columns, narrow enough for a phone.

    Returns
    -------
    Columns what and value (texts); lines of which nothing is known are left out.
    """
    facts = sheet_facts(row, words, horizon_weeks, kind)
    lines = [(words(f"sheet_{line}_label"), words(f"sheet_{line}", **facts)) for line in _LINES]
    return pd.DataFrame([line for line in lines if line[1]], columns=["what", "value"])
