"""Means of survey answers with the error that weights and people who answered twice bring.

A mean is a ratio of weighted sums; its variance is that of the linearised sums of customers (Binder 1983, Int. Stat.
Rev. 51; Cochran 1977, Sampling Techniques, section 6.4), so that two answers of one customer never count as two people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from .moments import Array
from .path_model import checked_weights, respondents_of

ALL = "all"
TOO_FEW = "too few customers to show"


@dataclass(frozen=True)
class SurveyMeans:
    """Weighted means of k columns of answers, each over those who gave one.

    Attributes
    ----------
    means, answers, customers, effective : (k,); `effective` is the number of independent, equally weighted answers
        that would give a mean of the same error, at most `answers` (Korn & Graubard 1998, Surv. Methodol. 24)
    covariance : (k, k) of the means; NaN where a column has fewer than two customers
    """

    means: Array
    covariance: Array
    answers: Array
    customers: Array
    effective: Array

    def interval(self, column: int = 0, confidence: float = 0.95) -> tuple[float, float, float]:
        """Mean of a column with Student's limits."""
        mean, customers = self.means[column], self.customers[column]
        if customers < 2:
            return float(mean), float("nan"), float("nan")
        reach = student.ppf(0.5 + confidence / 2, customers - 1) * np.sqrt(self.covariance[column, column])
        return float(mean), float(mean - reach), float(mean + reach)


def survey_means(
    values: pd.DataFrame | pd.Series, weights: pd.Series | None = None, customers: pd.Series | None = None
) -> SurveyMeans:
    """Weighted means and their covariance, customers taken as the units that were drawn.

    Parameters
    ----------
    values : (n, k) answers, NaN where there is none; a column may belong to one wave or group alone
    weights : (n,) survey weights, or None for equal ones; rows of weight zero do not count
    customers : (n,) who gave each row (null: somebody seen once), or None where nobody answered twice

    Raises
    ------
    EstimationError
        If weights are negative, not finite, or all zero.
    """
    x = pd.DataFrame(values).to_numpy(float)
    n = len(x)
    given = checked_weights(weights, n)
    w = np.ones(n) if given is None else given
    who = np.arange(n) if customers is None else respondents_of(customers)
    mass = np.where(np.isnan(x), 0.0, w[:, None])
    total = mass.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(mass * np.nan_to_num(x), axis=0) / total
        deviation = np.where(mass > 0, np.nan_to_num(x) - means, 0.0)
        sums, masses = (_summed(part, who) for part in (mass * deviation / total, mass / total))
        people = (masses > 0).sum(axis=0)
        correction = np.where(people > 1, people / (people - 1.0), np.nan)
        covariance = sums.T @ sums * np.sqrt(np.outer(correction, correction))
        spread = correction * (mass * deviation**2).sum(axis=0) / total
        variance = np.diag(covariance)
        # Without spread there is no design effect to see: what weights and repeated answers alone would do.
        unseen = 1.0 / (masses**2).sum(axis=0)
        effective = np.where(variance > 0, spread / variance, unseen)
    answers = (mass > 0).sum(axis=0)
    return SurveyMeans(means, covariance, answers, people, np.minimum(effective, answers))


def _summed(rows: Array, who: Array) -> Array:
    out = np.zeros((int(who.max(initial=-1)) + 1, rows.shape[1]))
    np.add.at(out, who, rows)
    return out


def difference_interval(
    first: Sequence[float], second: Sequence[float], correlation: float = 0.0
) -> tuple[float, float, float]:
    """`second` less `first`, each (value, low, high), with limits that keep the asymmetry of theirs.

    correlation : of the two estimates, where the same people are behind both.
    Source: Zou & Donner (2008), Stat. Med. 27, equation 7 (method of variance estimates recovery).
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    down, up = b - b_low, a_high - a
    low = b - a - np.sqrt(max(down**2 + up**2 - 2 * correlation * down * up, 0.0))
    down, up = a - a_low, b_high - b
    high = b - a + np.sqrt(max(down**2 + up**2 - 2 * correlation * down * up, 0.0))
    return float(b - a), float(low), float(high)


def groups_shown(by: pd.Series, customers: pd.Series | None, small_group: int) -> tuple[list, list]:
    """Groups with enough customers to show, and those hidden.

    All who are not shown, missing values among them, are nobody or at least `small_group` customers: else the
    smallest of the shown groups is hidden too, since a total would tell.
    """
    who = pd.Series(np.arange(len(by)) if customers is None else respondents_of(customers), index=by.index)
    counts = who.groupby(by).nunique().sort_values(kind="stable")
    shown = list(counts.index[counts >= small_group])
    while shown and 0 < who[~by.isin(shown)].nunique() < small_group:
        shown.pop(0)
    levels = sorted(counts.index)
    return [g for g in levels if g in shown], [g for g in levels if g not in shown]


def wave_labels(answers: pd.DataFrame, wave: str | None) -> pd.Series:
    """The wave of each answer as text ("1", "2"); "1" for all where the survey was held once.

    wave : the column with its number, or None
    """
    if wave is None or wave not in answers.columns:
        return pd.Series("1", index=answers.index, dtype="str")
    number = pd.to_numeric(answers[wave], errors="coerce")
    text = answers[wave].astype("str").where(number.isna(), number.map("{:g}".format))
    return text.where(answers[wave].notna())
