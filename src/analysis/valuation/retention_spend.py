"""At the margin: what one more unit of money would bring, spent on winning customers and on keeping them.

For winning, :func:`analysis.valuation.spend_response` answers. For keeping: of the customers who bought in one period, how many
buy again in the next, and what margin they bring, in periods in which more or less was spent on keeping them. Spend was
not randomised, so this shows cause only as far as nothing else moved with it; season and trend are taken out, and where
spend varied only with them, or hardly at all, the answer is "not identified".
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from analysis.valuation.acquisition import SpendResponse, at_the_margin, new_customers, spend_response
from analysis.valuation.cohorts import PERIODS, period_column, read_periods, whole_periods
from analysis.valuation.concentration import Estimate
from analysis.valuation.facts import found_or_reason
from analysis.valuation.purchases import Array
from analysis.valuation.summary import MARGIN, line_margin, purchase_days, within

MARGINAL_COLUMNS = {
    "purpose": ("One more unit of money for", "text"),
    "elasticity": ("Elasticity", "ratio"),
    "return_per_money": ("Brings back", "ratio"),
    "low": ("From", "ratio"),
    "high": ("To", "ratio"),
    "reason": ("Why it is not known", "text"),
}
_PURPOSE_WORDS = {"acquire": "winning customers", "retain": "keeping customers"}
_NOT = "not identified: "
_Z = float(stats.norm.ppf(0.975))
_LEAST_PERIODS = 12
_LEAST_SPENT = 8  # periods with spend, and where some are without, of each kind at least _LEAST_WITHOUT
_LEAST_WITHOUT = 4
_LEAST_FREE = 6  # degrees of freedom of the regression
_LEAST_VARIATION = 0.05  # of spend a customer: standard deviation relative to its mean
_LEAST_OWN = 0.05  # share of the variance of spend that is not of season and trend


@dataclass(frozen=True)
class MarginalSpend:
    """One more unit of money spent on winning or on keeping customers.

    Attributes
    ----------
    table : DataFrame
        From :func:`analysis.valuation.at_the_margin`: `purpose`, `elasticity`, `return_per_money` with `low` and `high`, `reason`.
    retained : SpendResponse
        How the number of those who buy again responds to spend on keeping.
    kept_value : float or None
        What a customer kept is taken to be worth, money.
    at_least : Estimate
        What one more unit of money on keeping brings as margin of the same period alone; no value of a customer is assumed.
    ratio, difference : Estimate
        Return on keeping over, and less, return on winning.
    least_difference : Estimate
        `at_least` less the return on winning.
    panel : DataFrame
        From :func:`retention_panel`; empty where there is none.
    period : str
        "month", "quarter" or "year"; empty without a panel.
    controls : str
        What was taken out: "season and trend", "a smooth season and trend" or "trend"; empty without a panel.
    """

    table: pd.DataFrame
    retained: SpendResponse
    kept_value: float | None
    at_least: Estimate
    ratio: Estimate
    difference: Estimate
    least_difference: Estimate
    panel: pd.DataFrame
    period: str
    controls: str

    @property
    def shift(self) -> str:
        """Where money should go: "retain", "acquire", or empty where the data do not say.

        What a customer kept is worth is rather put too high, so for keeping it takes the margin of the same period alone.
        """
        if self.least_difference.low is not None and self.least_difference.low > 0:
            return "retain"
        return "acquire" if self.difference.high is not None and self.difference.high < 0 else ""


def retention_panel(
    order_lines: ibis.Table,
    marketing_costs: pd.DataFrame,
    observed_from: datetime.date,
    observed_to: datetime.date,
    margin_rate: float | None = None,
) -> pd.DataFrame:
    """A row a whole period: who had bought the period before, how many of them bought again, and what was spent on it.

    Parameters
    ----------
    order_lines : ibis.Table
        The canonical table.
    marketing_costs : DataFrame
        The canonical table; amounts with purpose `retain` count, those of all channels together. Periods before the first
        or after the last amount of any purpose are left out; within, a period without an amount had none.
    observed_from, observed_to : date
    margin_rate : float, optional
        Margin as a share of net sales, for lines whose cost is unknown.

    Returns
    -------
    DataFrame
        `period` (number), `part` (month or quarter of the year, from 0), `active` (customers who bought in the period
        before), `kept` (of them, those who bought in this one), `margin` (what they brought in this one, money; NaN where
        a margin is unknown), `spend` (money). `attrs["period"]` is "month", "quarter" or "year".

    Raises
    ------
    ValueError
        No amount was spent on keeping customers, or no two whole periods were observed.
    """
    retain = marketing_costs[marketing_costs["purpose"] == "retain"]
    if not (retain["amount"].astype(float) > 0).any():
        raise ValueError("retention: no money was spent on keeping customers, as far as the marketing costs say")
    period, numbers = read_periods(marketing_costs["period"])
    first, last = whole_periods(observed_from, observed_to, period)
    start, end = max(first + 1, int(numbers.min())), min(last, int(numbers.max()))
    if end < start:
        raise ValueError(f"retention: no two whole {period}s with marketing costs were observed")
    lines = within(order_lines, observed_to)
    days = purchase_days(lines)
    bought = days.select("customer_id", at=period_column(days.order_date, period)).distinct()
    before = bought.select("customer_id", at=bought["at"] + 1)
    again = before.inner_join(bought, ["customer_id", "at"])
    priced = lines.select(
        "customer_id",
        at=period_column(lines.order_date, period),
        margin=line_margin(lines, margin_rate).cast(MARGIN),
    )
    # summed by customer before the join, which then meets far fewer rows
    money = (
        priced.group_by(["customer_id", "at"])
        .aggregate(margin=priced.margin.sum().cast(MARGIN), unknown=priced.margin.isnull().any())
        .inner_join(before, ["customer_id", "at"])
    )
    tables = {
        "active": before.group_by("at").aggregate(active=before.count()),
        "kept": again.group_by("at").aggregate(kept=again.count()),
        "margin": money.group_by("at").aggregate(
            margin=money.margin.sum().cast("float64"), unknown=money.unknown.any()
        ),
    }
    grid = pd.DataFrame(index=pd.RangeIndex(start, end + 1, name="at"))
    for table in tables.values():
        grid = grid.join(table.to_pyarrow().to_pandas().set_index("at"))
    spend = retain["amount"].astype(float).groupby(numbers[(marketing_costs["purpose"] == "retain").to_numpy()]).sum()
    unknown = grid["unknown"].fillna(False).astype(bool)
    panel = pd.DataFrame(
        {
            "period": grid.index,
            "part": grid.index % PERIODS[period],
            "active": grid["active"].fillna(0).to_numpy("int64"),
            "kept": grid["kept"].fillna(0).to_numpy("int64"),
            "margin": grid["margin"].fillna(0.0).mask(unknown).to_numpy(float),
            "spend": spend.reindex(grid.index, fill_value=0.0).to_numpy(),
        }
    )
    panel.attrs["period"] = period
    return panel


def retention_response(panel: pd.DataFrame, outcome: str = "kept", alpha: float = 0.05) -> SpendResponse:
    """Elasticity of what customers do in a period in what was spent on keeping them, season and trend taken out.

    A Poisson pseudo-likelihood regression of the outcome, with the number of customers at stake as exposure, on spend a
    customer: its logarithm where money was spent in every period, else spend itself, whose elasticity is taken at mean
    spend. The season is an effect of each month or quarter where two years were observed, else one wave; the trend is
    linear; the number of customers at stake is taken out too. The standard error is the larger of that for over- or
    underdispersed outcomes and that of Newey & West (1987, Econometrica 55(3), 703–708) for outcomes that depend on the
    periods before; the interval is Student's. What spend brings in a later period is missed.

    Parameters
    ----------
    panel : DataFrame
        From :func:`retention_panel`: `period`, `part`, `active`, `spend`, and the outcome.
    outcome : {"kept", "margin"}
    alpha : float

    Returns
    -------
    SpendResponse
        "not identified: …" where spend did not vary, varied only with season and trend, or too few periods were observed.
    """
    used = panel[(panel["active"] > 0) & panel[outcome].notna()]
    count, spend = used[outcome].to_numpy(float), used["spend"].to_numpy(float)
    each = spend / used["active"].to_numpy(float)
    reason = _not_identified(used, count, each)
    if not reason:
        level = bool((each == 0).any())
        controls, _ = _controls(used)
        moved = each if level else np.log(each)
        design = np.column_stack([controls, moved])
        freedom = len(used) - design.shape[1]
        model = sm.GLM(count, design, family=sm.families.Poisson(), exposure=used["active"].to_numpy(float))
        plain = model.fit(scale="X2", maxiter=200)
        lags = int(4 * (len(used) / 100) ** (2 / 9))
        robust = model.fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}, maxiter=200)
        error = max(float(plain.bse[-1]), float(robust.bse[-1]))
        if not (plain.converged and np.isfinite(error)):
            reason = "the regression did not settle"
    if reason:
        return _missing(reason, len(used), float(count.sum()), float(spend.sum()))
    at_mean = float(spend.sum() / used["active"].sum()) if level else 1.0
    value = float(plain.params[-1]) * at_mean
    half = float(stats.t.ppf(1 - alpha / 2, freedom)) * error * at_mean
    return SpendResponse(
        Estimate(value, value - half, value + half),
        True,
        len(used),
        1,
        float(count.sum()),
        float(spend.sum()),
        float(plain.scale),
    )


def _not_identified(used: pd.DataFrame, count: Array, each: Array) -> str:
    n, spent = len(used), int((each > 0).sum())
    if n < _LEAST_PERIODS:
        return f"{n} whole periods are too few; it takes {_LEAST_PERIODS}"
    if not spent:
        return "nothing was spent on keeping customers in the observed periods"
    if spent < _LEAST_SPENT:
        return f"money was spent on keeping customers in {spent} of {n} periods; it takes {_LEAST_SPENT}"
    if 0 < n - spent < _LEAST_WITHOUT:
        return f"only {n - spent} of {n} periods were without spend, too few to compare with"
    if not (count >= 0).all() or not count.sum() > 0:
        return "those who had bought brought nothing"
    if any(np.std(money) < _LEAST_VARIATION * np.mean(money) for money in (used["spend"], each)):
        return "spend on keeping customers hardly varies between periods, or follows their number"
    controls, _ = _controls(used)
    if n - controls.shape[1] - 1 < _LEAST_FREE:
        return "too few periods are left once season and trend are taken out"
    moved = each if (each == 0).any() else np.log(each)
    own = moved - controls @ np.linalg.lstsq(controls, moved, rcond=None)[0]
    if np.var(own) < _LEAST_OWN * np.var(moved):
        return "spend varied only with season, trend and the number of customers, which everything else follows too"
    return ""


def _controls(used: pd.DataFrame) -> tuple[Array, str]:
    """Season, trend and the number of customers at stake, shape (periods, columns), and what the first two are called."""
    period, parts = used["period"].to_numpy(float), PERIODS[used.attrs["period"]]
    trend = (period - period.mean()) / max(float(period.std()), 1.0)
    # spend a customer also varies with how many are at stake, which tells nothing of what spend does
    size = np.log(np.maximum(used["active"].to_numpy(float), 1.0))
    trend = np.column_stack([trend, size - size.mean()])
    if parts == 1:
        return np.column_stack([np.ones(len(used)), trend]), "trend"
    # the first of two years lacks its first period, which nobody was active before
    if len(used) >= 2 * parts - 1 and used["part"].nunique() == parts:
        return np.column_stack([pd.get_dummies(used["part"], dtype=float), trend]), "season and trend"
    angle = 2.0 * np.pi * used["part"].to_numpy(float) / parts
    wave = np.column_stack([np.ones(len(used)), np.sin(angle), np.cos(angle), trend])
    return wave, "a smooth season and trend"


def kept_value(value: pd.DataFrame, summary: pd.DataFrame, panel: pd.DataFrame) -> float | None:
    """What a customer kept is worth: margin of the period, and the forecast for those who bought in it over those who did not.

    The forecast of the one less the other is what buying again tells of a customer, not only what it does; so this is
    rather too much than too little.

    Parameters
    ----------
    value : DataFrame
        `customer_id`, `residual_value` (money; what is expected from now on).
    summary : DataFrame
        The canonical `customer_summary`: `recency_days`.
    panel : DataFrame
        From :func:`retention_panel`.

    Returns
    -------
    float or None
        Money; None where a margin is unknown, or nobody or everybody bought again.
    """
    length = 365.25 / PERIODS[panel.attrs["period"]]
    silent = summary.set_index("customer_id")["recency_days"].reindex(value["customer_id"]).to_numpy(float)
    expected = value["residual_value"].to_numpy(float)
    now, then = expected[silent < length], expected[(silent >= length) & (silent < 2 * length)]
    brought = panel["margin"].sum(skipna=False) / panel["kept"].sum() if panel["kept"].sum() else math.nan
    found = brought + (now.mean() - then.mean() if len(now) and len(then) else math.nan)
    return float(found) if np.isfinite(found) else None


def run_marginal_spend(
    order_lines: ibis.Table,
    customers: pd.DataFrame | None,
    summary: pd.DataFrame,
    value: pd.DataFrame,
    marketing_costs: pd.DataFrame | None,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    new_value: float | None = None,
    margin_rate: float | None = None,
) -> tuple[MarginalSpend | None, str]:
    """What one more unit of money would bring on winning and on keeping customers, or None and the reason.

    Parameters
    ----------
    order_lines : ibis.Table
    customers : DataFrame, optional
        With `acquisition_channel` and `acquired_on`; without them winning is not identified.
    summary, value : DataFrame
        The canonical `customer_summary` and `customer_value`.
    marketing_costs : DataFrame, optional
        The canonical table.
    observed_from, observed_to : date
    new_value : float, optional
        Expected value of a new customer before the cost of winning, money.
    margin_rate : float, optional
    """
    if marketing_costs is None or marketing_costs.empty:
        return None, "the study holds no marketing costs"
    try:
        read_periods(marketing_costs["period"])
    except ValueError as error:
        return None, str(error).partition(": ")[2]
    panel, none = found_or_reason(
        lambda: retention_panel(order_lines, marketing_costs, observed_from, observed_to, margin_rate)
    )
    retained = _missing(none) if panel is None else retention_response(panel)
    in_period = _missing(none) if panel is None else retention_response(panel, "margin")
    worth = None if panel is None else kept_value(value, summary, panel)
    people = pd.DataFrame() if customers is None else customers
    won, none = found_or_reason(
        lambda: spend_response(new_customers(people, marketing_costs, observed_from, observed_to))
    )
    table = _valued(won or _missing(none), new_value, retained, worth)
    winning, keeping = (Estimate(row.return_per_money, row.low, row.high) for row in table.itertuples())
    at_least = in_period.per_money()
    return MarginalSpend(
        table=table,
        retained=retained,
        kept_value=worth,
        at_least=at_least,
        ratio=_ratio(keeping, winning),
        difference=_difference(keeping, winning),
        least_difference=_difference(at_least, winning),
        panel=pd.DataFrame() if panel is None else panel,
        period="" if panel is None else panel.attrs["period"],
        controls="" if panel is None else _controls(panel)[1],
    ), ""


def _missing(reason: str, observations: int = 0, count: float = 0.0, spend: float = 0.0) -> SpendResponse:
    return SpendResponse(Estimate(math.nan, reason=f"{_NOT}{reason}"), False, observations, 1, count, spend, math.nan)


def _valued(won: SpendResponse, new_value: float | None, retained: SpendResponse, worth: float | None) -> pd.DataFrame:
    each = [math.nan if known is None else known for known in (new_value, worth)]
    table = at_the_margin(won, each[0], retained, each[1])
    unvalued = table["return_per_money"].isna() & (table["reason"] == "")
    table.loc[unvalued, "reason"] = "what such a customer is worth is not known"
    table["reason"] = table["reason"].str.removeprefix(_NOT)
    return table


def _error(found: Estimate) -> float:
    return (found.high - found.low) / (2.0 * _Z)


def _unknown(*found: Estimate) -> bool:
    return any(e.low is None or not np.isfinite([e.value, e.low, e.high]).all() for e in found)


def _difference(keeping: Estimate, winning: Estimate) -> Estimate:
    """One return less the other, which are taken as independent."""
    if _unknown(keeping, winning):
        return Estimate(math.nan, reason="one of the two is not known")
    value, half = keeping.value - winning.value, _Z * math.hypot(_error(keeping), _error(winning))
    return Estimate(value, value - half, value + half)


def _ratio(keeping: Estimate, winning: Estimate) -> Estimate:
    """One return over the other, with Fieller's interval for independent estimates.

    Source: Fieller, E. C. (1954). Some problems in interval estimation. Journal of the Royal Statistical Society B 16(2),
    175–185.
    """
    if _unknown(keeping, winning):
        return Estimate(math.nan, reason="one of the two is not known")
    doubt = (_Z * _error(winning) / winning.value) ** 2 if winning.value else math.inf
    if winning.value < 0 or doubt >= 1.0:
        return Estimate(math.nan, reason="what winning brings cannot be told from nothing")
    ratio = keeping.value / winning.value
    spread = (1.0 - doubt) * _error(keeping) ** 2 + (ratio * _error(winning)) ** 2
    half = _Z / winning.value * math.sqrt(spread)
    return Estimate(ratio, (ratio - half) / (1.0 - doubt), (ratio + half) / (1.0 - doubt))


# -- words --------------------------------------------------------------------------------------------------------------


def marginal_facts(found: MarginalSpend) -> dict[str, Any]:
    """The facts of the sentences about one more unit of money.

    Returns
    -------
    dict
        For "acquire" and "retain": `acquire_known`, `acquire`, `acquire_low`, `acquire_high` (money back for one more unit),
        `acquire_reason`; `least_known`, `least`, `least_low`, `least_high` (the same of keeping, as margin of the same
        period alone); `elasticity`, `elasticity_low`, `elasticity_high` (of those who buy again; None where unknown);
        `share` (who bought again, of those at stake), `kept_value`; `ratio`, `ratio_low`, `ratio_high`, `ratio_reason`;
        `shift` ("retain", "acquire" or empty); `period`, `periods`, `spent` (periods with spend), `controls`.
    """
    facts: dict[str, Any] = {}
    for row in found.table.itertuples():
        facts |= _known_facts(row.purpose, Estimate(row.return_per_money, row.low, row.high))
        facts[f"{row.purpose}_reason"] = row.reason
    elasticity, identified, panel = found.retained.elasticity, found.retained.identified, found.panel
    at_stake = panel["active"].sum() if len(panel) else 0
    return facts | {
        **_known_facts("least", found.at_least),
        "elasticity": elasticity.value if identified else None,
        "elasticity_low": elasticity.low,
        "elasticity_high": elasticity.high,
        "share": float(panel["kept"].sum() / at_stake) if at_stake else None,
        "kept_value": found.kept_value,
        "ratio": found.ratio.value if found.ratio.low is not None else None,
        "ratio_low": found.ratio.low,
        "ratio_high": found.ratio.high,
        "ratio_reason": found.ratio.reason or "",
        "shift": found.shift,
        "period": found.period,
        "periods": len(panel),
        "spent": int((panel["spend"] > 0).sum()) if len(panel) else 0,
        "controls": found.controls,
    }


def _known_facts(name: str, found: Estimate) -> dict[str, Any]:
    known = not _unknown(found)
    ends = found.interval if known else (None, None, None)
    return {f"{name}_known": known, name: ends[0], f"{name}_low": ends[1], f"{name}_high": ends[2]}


def marginal_for_people(found: MarginalSpend) -> pd.DataFrame:
    """A row a use of money, and one for keeping as margin of the same period alone; see `MARGINAL_COLUMNS`."""
    table = found.table.assign(purpose=found.table["purpose"].map(_PURPOSE_WORDS))
    if not _unknown(found.at_least):
        value, low, high = found.at_least.interval
        words = f"{_PURPOSE_WORDS['retain']}, margin of the same {found.period} alone"
        least = {"purpose": words, "return_per_money": value, "low": low, "high": high, "reason": ""}
        table = pd.concat([table, pd.DataFrame([least])], ignore_index=True)
    return table[list(MARGINAL_COLUMNS)]
