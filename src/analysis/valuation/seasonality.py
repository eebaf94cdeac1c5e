"""Does the season matter: how much it moves purchases, and whether knowing it would have improved the forecast.

Two forecasts of the same weeks are compared week by week, by the mean of what the season takes off the absolute error
and a one-sided limit of it from Student's t over the weeks: a smaller mean error alone may be luck.

Source: Diebold, F. X. & Mariano, R. S. (1995). Comparing predictive accuracy. Journal of Business & Economic Statistics
13(3), 253–263; Student's t for few weeks: Harvey, D., Leybourne, S. & Newbold, P. (1997). Testing the equality of
prediction mean squared errors. International Journal of Forecasting 13(2), 281–291. Errors of weeks are taken as
independent: over a quarter their correlation cannot be told from the season's own shape.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pandas as pd
from babel.dates import format_skeleton
from scipy import stats

from analysis.reporting.numbers import Formatter
from analysis.valuation.facts import found_or_reason
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import Array, PurchaseResults
from analysis.valuation.seasonal import (
    YEAR_OF_WEEKS,
    Calendar,
    SeasonalParetoNBD,
    SeasonalParetoNBDResults,
    weekly_dispersion,
    weekly_repeats,
)
from analysis.valuation.summary import calibration_holdout, in_weeks
from analysis.valuation.validation import weekly_purchases

PAIRS = (1, 2, 4, 6, 9)
LEVEL = 0.05
ENOUGH_YEARS = 2.0  # a season shows when it comes again


@dataclass(frozen=True)
class Seasonality:
    """What the calendar does to purchases, and whether a forecast gains from it.

    Attributes
    ----------
    results : SeasonalParetoNBDResults
        Fitted on everything observed, times in weeks.
    months, year : DataFrame
        The seasonal factor by month and by day of the year, the mean of a year being 1, with simultaneous 95 % bands;
        see :meth:`SeasonalParetoNBDResults.season`.
    pairs : int
        Pairs of seasonal terms, chosen on the time before the holdout.
    dispersion : float
        Variance of weekly purchases over what the model says of it; the bands are wider by its root.
    p_value : float
        Of no season, on everything observed, for that dispersion and the number of models tried (Bonferroni).
    aic_gain : float
        AIC of Pareto/NBD less that of the seasonal model, on the time before the holdout; above 0 speaks for a season.
    holdout : DataFrame
        One row a held-out week: `ends_on`, `actual`, `plain`, `seasonal` (purchases).
    years : float
        Years of 52 weeks observed; with fewer than two, what was special in one year cannot be told from its season.
    """

    results: SeasonalParetoNBDResults
    months: pd.DataFrame
    year: pd.DataFrame
    pairs: int
    dispersion: float
    p_value: float
    aic_gain: float
    holdout: pd.DataFrame
    years: float

    def weekly_error(self, forecast: str) -> float:
        """Mean absolute error of a week's purchases of "plain" or "seasonal" in the holdout."""
        return float((self.holdout[forecast] - self.holdout["actual"]).abs().mean())

    def total_error(self, forecast: str) -> float:
        """Error of the holdout's total, as a share of what came; NaN where nothing came."""
        came = self.holdout["actual"].sum()
        return float(self.holdout[forecast].sum() / came - 1.0) if came else float("nan")

    @property
    def found(self) -> bool:
        """Whether chance alone would hardly show such a season."""
        return self.p_value < LEVEL

    def gain(self) -> tuple[float, float]:
        """By how much the season lowers the absolute error of a week, on average, and at least with 95 % confidence.

        Purchases a week; the limit is NaN with fewer than two held-out weeks.
        """
        error = {name: (self.holdout[name] - self.holdout["actual"]).abs() for name in ("plain", "seasonal")}
        less = error["plain"] - error["seasonal"]
        mean, weeks = float(less.mean()), len(less)
        if weeks < 2:
            return mean, float("nan")
        return mean, mean - float(stats.t.ppf(1 - LEVEL, weeks - 1) * less.std() / np.sqrt(weeks))

    @property
    def improves(self) -> bool:
        """Whether the forecast of the held-out weeks gained from the season by more than chance explains."""
        return self.gain()[1] > 0.0

    @property
    def repeated(self) -> bool:
        """Whether two years were observed, so that what comes every year can be told from what came once."""
        return self.years >= ENOUGH_YEARS

    @property
    def matters(self) -> bool:
        """Whether to act on it: two years show a season, by the test and by AIC, and the forecast gained from it."""
        return self.found and self.aic_gain > 0 and self.improves and self.repeated


def run_season(
    order_lines: ibis.Table,
    summary: pd.DataFrame,
    observed_from: datetime.date,
    observed_to: datetime.date,
    holdout_weeks: int,
    entry: str = "first_purchase",
    pairs: Sequence[int] = PAIRS,
) -> tuple[Seasonality | None, str]:
    """Measure the season, and compare forecasts of the held-out weeks with and without it.

    Parameters
    ----------
    order_lines : ibis.Table
    summary : DataFrame
        The canonical `customer_summary` (days), seen from `observed_to`.
    observed_from, observed_to : date
    holdout_weeks : int
        Last weeks that forecasts are tested on.
    entry : str
        The study's clock; with "left_truncated" ages are unknown, and the model needs them.
    pairs : sequence of int
        Numbers of pairs of seasonal terms to choose from, by AIC for over-dispersed counts on the time before the
        holdout (QAIC: Burnham & Anderson 2002, section 2.5).

    Returns
    -------
    found : Seasonality or None
        None where it cannot be told.
    reason : str
        Why not; empty otherwise.
    """
    if entry == "left_truncated":
        return None, "customers were there before the data begin, so their age is unknown"
    cut = observed_to - datetime.timedelta(weeks=holdout_weeks)
    before = (cut - observed_from).days + 1
    if before < YEAR_OF_WEEKS:
        weeks = max(before // 7, 0)
        return None, f"{weeks} weeks before the held-out ones are less than a year, and a season takes a year to show"
    return found_or_reason(lambda: _measured(order_lines, summary, observed_from, cut, observed_to, pairs))


def _measured(
    order_lines: ibis.Table,
    summary: pd.DataFrame,
    observed_from: datetime.date,
    cut: datetime.date,
    observed_to: datetime.date,
    pairs: Sequence[int],
) -> Seasonality:
    split = calibration_holdout(order_lines, cut, observed_to)
    plain = ParetoNBD(*in_weeks(split)).fit()
    weekly = weekly_repeats(order_lines, cut)
    tried = {k: _fitted(split, weekly, cut, k) for k in pairs}
    dispersion = weekly_dispersion(tried[max(tried)])
    chosen = min(tried, key=lambda k: 2 * len(tried[k].params) - 2 * tried[k].llf / dispersion)
    seasonal = tried[chosen]
    later = weekly_purchases(order_lines, cut, observed_to)
    later = later[later["phase"] == "holdout"].reset_index(drop=True)
    everything = _fitted(summary, weekly_repeats(order_lines, observed_to), observed_to, chosen)
    spread = weekly_dispersion(everything)
    test = everything.likelihood_ratio(ParetoNBD(*in_weeks(summary)).fit())
    return Seasonality(
        results=everything,
        months=everything.season_by_month(dispersion=spread),
        year=everything.season(dispersion=spread),
        pairs=chosen,
        dispersion=spread,
        # one of several numbers of pairs was picked
        p_value=min(len(tried) * float(stats.chi2.sf(test["statistic"] / spread, test["df"])), 1.0),
        aic_gain=plain.aic - seasonal.aic,
        holdout=pd.DataFrame(
            {
                "ends_on": later["ends_on"],
                "actual": later["purchases"],
                "plain": _week_by_week(plain, len(later), split),
                "seasonal": seasonal.expected_weekly(len(later), *in_weeks(split)),
            }
        ),
        years=((observed_to - observed_from).days + 1) / YEAR_OF_WEEKS,
    )


def _fitted(
    frame: pd.DataFrame, weekly: pd.DataFrame, observed_to: datetime.date, pairs: int
) -> SeasonalParetoNBDResults:
    model = SeasonalParetoNBD(*in_weeks(frame), weekly=weekly, observed_to=observed_to, calendar=Calendar(pairs))
    results = model.fit()
    # a model that is weak in how customers leave may still tell how they buy; without a covariance it tells nothing
    if not np.isfinite(results.log_cov).all():
        raise ValueError(f"season: the model with a season cannot be used: {results.verdict.reason}")
    return results


def _week_by_week(plain: PurchaseResults, weeks: int, split: pd.DataFrame) -> Array:
    totals = [plain.expected_purchases(float(t), *in_weeks(split)).sum() for t in range(weeks + 1)]
    return np.diff(totals)


def season_facts(found: Seasonality, fmt: Formatter) -> dict[str, Any]:
    """The facts of the season's sentences.

    Returns
    -------
    dict
        `peak`, `trough` (names of the busiest and the quietest month), `rivals` (other months that may well be the
        busiest, joined; empty where there is none), `factor`, `factor_low`, `factor_high` (purchases
        of the busiest month over the year's average), `trough_factor`, `trough_low`, `trough_high`; `peak_day` (day and
        month), `day_factor`, `day_low`, `day_high` (of the busiest day); `is_found`,
        `is_better` (by more than chance explains), `repeated` (two years or more were observed), `matters`; `gain`,
        `gain_at_least` (what the season takes off the error of a week, and the least of it with 95 % confidence,
        purchases); `error_plain`, `error_seasonal` (mean absolute error of a held-out week, purchases),
        `less_error` (share of it saved; below 0 where it grew), `total_plain`, `total_seasonal` (total error, shares),
        `weeks`, `actual` (purchases that came); `p_value`, `aic_gain`, `dispersion`, `pairs`, `years`.
    """
    names = fmt.locale.months["stand-alone"]["wide"]
    peak = found.months.loc[found.months["factor"].idxmax()]
    trough = found.months.loc[found.months["factor"].idxmin()]
    rivals = found.months[(found.months["busiest"] >= LEVEL) & (found.months["month"] != peak["month"])]
    plain, seasonal = found.weekly_error("plain"), found.weekly_error("seasonal")
    gain, at_least = found.gain()
    day = found.year.loc[found.year["factor"].idxmax()]
    date = datetime.date(2001, 1, 1) + datetime.timedelta(days=int(day["day"]) - 1)
    return {
        "peak": names[int(peak["month"])],
        "rivals": " or ".join(names[m] for m in rivals["month"]),
        "trough": names[int(trough["month"])],
        "factor": float(peak["factor"]),
        "factor_low": float(peak["low"]),
        "factor_high": float(peak["high"]),
        "trough_factor": float(trough["factor"]),
        "trough_low": float(trough["low"]),
        "trough_high": float(trough["high"]),
        "peak_day": format_skeleton("MMMMd", date, locale=fmt.locale),
        "day_factor": float(day["factor"]),
        "day_low": float(day["low"]),
        "day_high": float(day["high"]),
        "is_found": found.found,
        "is_better": found.improves,
        "repeated": found.repeated,
        "matters": found.matters,
        "gain": gain,
        "gain_at_least": at_least if np.isfinite(at_least) else None,
        "error_plain": plain,
        "error_seasonal": seasonal,
        "less_error": 1.0 - seasonal / plain if plain > 0 else 0.0,
        "total_plain": found.total_error("plain"),
        "total_seasonal": found.total_error("seasonal"),
        "weeks": float(len(found.holdout)),
        "actual": int(found.holdout["actual"].sum()),
        "p_value": found.p_value,
        "aic_gain": found.aic_gain,
        "dispersion": found.dispersion,
        "pairs": found.pairs,
        "years": found.years,
    }
