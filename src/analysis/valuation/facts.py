"""What the room's sentences and tables for people are filled with: results in, plain facts out."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

import ibis
import numpy as np
import pandas as pd

from analysis.reporting.numbers import Formatter
from analysis.valuation.concentration import Concentration, Shift, concentration_shift
from analysis.valuation.figures import FORECAST_WORDS
from analysis.valuation.holdout import Holdout, evaluate_holdout
from analysis.valuation.lifetime import CustomerValue
from analysis.valuation.models import FittedModels
from analysis.valuation.rfm import BEST_IS_LOW, MEASURES, Edges
from analysis.valuation.summary import calibration_holdout, without_purchase

T = TypeVar("T")

EDGE_COLUMNS = {
    "score": ("Score", "text"),
    "recency_days": ("Days since last purchase", "text"),
    "recency_days_customers": ("Customers", "text"),
    "frequency": ("Repeat purchases", "text"),
    "frequency_customers": ("Customers", "text"),
    "spend": ("Spend", "text"),
    "spend_customers": ("Customers", "text"),
}
MODEL_COLUMNS = {
    "model": ("Model", "text"),
    "customers": ("Customers used", "count"),
    "log_likelihood": ("Log-likelihood", "number"),
    "aic": ("AIC", "number"),
    "verdict": ("Can it be used?", "text"),
}
PARAMETER_COLUMNS = {
    "model": ("Model", "text"),
    "parameter": ("Parameter", "text"),
    "estimate": ("Estimate", "ratio"),
    "low": ("From", "ratio"),
    "high": ("To", "ratio"),
}
SCORE_COLUMNS = {
    "forecast": ("Forecast", "text"),
    "kind": ("Kind", "text"),
    "rmse": ("Typical error", "ratio"),
    "mae": ("Mean absolute error", "ratio"),
    "total": ("Purchases foreseen", "count"),
    "total_error": ("Total error", "share"),
}
ORIGIN_COLUMNS = {
    "origin": ("Known up to", "text"),
    "forecast": ("Forecast", "text"),
    "foreseen": ("Purchases foreseen", "count"),
    "came": ("Purchases that came", "count"),
    "miss": ("Miss", "share"),
    "beyond": ("Of it beyond chance", "share"),
}
# What is expected comes first: a phone shows two columns.
_GROUP_COLUMNS = {
    "group": ("Group", "count"),
    "residual_value": ("Margin expected", "money"),
    "residual_value_words": ("Margin expected", "text"),
    "expected_sales_words": ("Sales expected", "text"),
    "residual_share": ("Share of it", "share"),
    "existing_value": ("Margin so far", "money"),
    "expected_purchases": ("Purchases expected", "ratio"),
    "expected_sales": ("Sales expected", "money"),
    "probability_alive": ("Still a customer", "share"),
}
_NOTHING = pd.Series(dtype=float)


def found_or_reason(make: Callable[[], T]) -> tuple[T | None, str]:
    """What `make` gives, or None and what its error says after the name of the analysis.

    Only what an analysis says on purpose is a reason: errors of a library's own kind are passed on.
    """
    try:
        return make(), ""
    except (np.linalg.LinAlgError, pd.errors.MergeError):
        raise
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        return None, reason or name


def run_holdout(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    entry: str,
    holdout_weeks: int,
    seed: int = 1,
) -> tuple[Holdout | None, str]:
    """Hold out the last weeks and score every forecast on them.

    Returns
    -------
    holdout : Holdout or None
        None where it cannot be done.
    reason : str
        Why not; empty otherwise.
    """
    calibration_end = observed_to - datetime.timedelta(weeks=holdout_weeks)
    if calibration_end < observed_from:
        return None, f"{holdout_weeks} weeks cannot be held out of {(observed_to - observed_from).days + 1} days"

    def make() -> Holdout:
        split = calibration_holdout(order_lines, calibration_end, observed_to)
        found = evaluate_holdout(split, (calibration_end - observed_from).days + 1, entry, seed=seed)
        if not found.actual:
            raise ValueError("holdout: nobody known before bought in the held-out weeks")
        return found

    return found_or_reason(make)


def base_facts(
    summary: pd.DataFrame, order_lines: ibis.Table, observed_to: datetime.date, small_group: int = 10
) -> dict[str, Any]:
    """How many customers, how many came back, what they spent, and who is left out, where these are `small_group` or more."""
    out = without_purchase(order_lines, observed_to)
    shown = out["customers"] >= small_group
    return {
        "total": len(summary),
        "repeaters": int((summary["frequency"] > 0).sum()),
        "one_time_share": float((summary["frequency"] == 0).mean()),
        "occasions": int((summary["frequency"] + 1).sum()),
        "spend": float(summary["spend"].sum()),
        "mean_spend": float(summary["spend"].mean()),
        "left_out": out["customers"] if shown else 0,
        "left_out_spend": out["spend"] if shown else None,
        "observed_to": observed_to,
    }


def concentration_facts(found: Concentration) -> dict[str, Any]:
    """The facts of the concentration sentences."""
    return {
        "total": found.customers,
        "top": found.top,
        "share": found.top_share.value,
        "gini": found.gini.value,
        "gini_low": found.gini.low,
        "gini_high": found.gini.high,
        "half_from": found.half_from,
        "zeroed": found.zeroed,
    }


def edges_for_people(edges: dict[str, Edges], fmt: Formatter, small_group: int = 10) -> pd.DataFrame:
    """The RFM scores as ranges in words, best first: `score`, then a range and a count of customers a measure.

    Parameters
    ----------
    edges : dict of Edges
    fmt : Formatter
    small_group : int
        Counts below it are shown as "few".
    """
    bins = len(next(iter(edges.values())).counts)
    table: dict[str, list[str]] = {"score": [str(score) for score in range(bins, 0, -1)]}
    for name, column in MEASURES.items():
        edge, ranges, counts = edges[name], [], []
        written = None
        if column == "spend":
            amounts = [edge.lowest, *edge.values, edge.highest]
            written = dict(zip(amounts, fmt.column(amounts, "money"), strict=True))
        for score in range(bins, 0, -1):
            group = bins - score if name in BEST_IS_LOW else score - 1
            people = int(edge.counts[group])
            upper = edge.highest if group == bins - 1 else edge.values[group]
            lower = edge.lowest if group == 0 else edge.values[group - 1]
            whole = _range(lower, upper, group == 0, fmt, written) if people else "empty: ties"
            # the highest amount is one customer's
            single = people and written is not None and 0 < group == bins - 1
            ranges.append(f"over {written[lower]}" if single else whole)
            counts.append("0" if not people else "few" if people < small_group else fmt.count(people))
        table[column], table[f"{column}_customers"] = ranges, counts
    return pd.DataFrame(table)


def _range(lower: float, upper: float, lowest: bool, fmt: Formatter, written: dict[float, str] | None) -> str:
    """What one score spans: counts, or amounts as `written`."""
    if written is None:
        first = lower if lowest else lower + 1
        return fmt.count(upper) if first == upper else f"{fmt.count(first)}–{fmt.count(upper)}"
    if lowest:
        return written[upper] if lower == upper else f"up to {written[upper]}"
    return f"{written[lower]} – {written[upper]}"


def origins_for_people(value: CustomerValue, fmt: Formatter) -> pd.DataFrame:
    """The tests behind the ranges of totals, earliest first, with days and forecasts in words; empty without a holdout."""
    if value.doubt is None:
        return pd.DataFrame(columns=list(ORIGIN_COLUMNS))
    tests = value.doubt.tests
    return tests.assign(
        origin=[fmt.date(day) for day in tests["origin"]],
        forecast=[FORECAST_WORDS.get(name, name) for name in tests["forecast"]],
    )[list(ORIGIN_COLUMNS)]


def model_facts(models: FittedModels) -> dict[str, Any]:
    """Which models can be used, and what the spend model rests on."""
    unusable = [f"{name}: {v.reason}" for name, v in models.verdicts.items() if not v.usable]
    return {
        "usable": ", ".join(name for name, v in models.verdicts.items() if v.usable),
        "unusable": "; ".join(unusable),
        "purchase_models": len(models.purchases),
        "has_spend": models.spend is not None,
        "spend_correlation": models.spend_correlation,
        # 1.96 standard errors of a rank correlation of nothing
        "correlation_clear": models.spend_correlation is not None
        and abs(models.spend_correlation) > 1.96 / (models.repeaters - 1) ** 0.5,
        "spend_left_out": models.spend_left_out,
        "population_mean": None if models.spend is None else models.spend.population_mean,
    }


def holdout_facts(holdout: Holdout) -> dict[str, Any]:
    """Who won the holdout and by how much."""
    scores = holdout.scores.set_index("forecast")
    facts: dict[str, Any] = {
        "best": holdout.best,
        "best_kind": holdout.best_kind,
        "weeks": holdout.weeks,
        "actual": holdout.actual,
        "known_customers": len(holdout.frame),
        "miss": abs(scores.loc[holdout.best, "total_error"]),
        "above": bool(scores.loc[holdout.best, "total_error"] >= 0),
        "best_model": holdout.best_model or "",
        "best_heuristic": holdout.best_heuristic,
        "rmse": scores.loc[holdout.best, "rmse"],
        "difference": None,
        "dlow": None,
        "dhigh": None,
        "mae_best": str(scores["mae"].idxmin()),
    }
    if holdout.best_model:
        row = holdout.comparison.set_index("model").loc[holdout.best_model]
        facts |= {"difference": row["rmse_difference"], "dlow": row["rmse_low"], "dhigh": row["rmse_high"]}
    return facts


def scores_for_people(holdout: Holdout) -> pd.DataFrame:
    """The holdout's scores with forecasts in words."""
    kinds = {"model": "model", "heuristic": "no model"}
    return holdout.scores.assign(
        forecast=[FORECAST_WORDS.get(name, name) for name in holdout.scores["forecast"]],
        kind=holdout.scores["kind"].map(kinds),
        customers=len(holdout.frame),
    )


def value_facts(value: CustomerValue, groups: pd.DataFrame) -> dict[str, Any]:
    """The facts of the value sentences."""
    frame = value.frame
    return {
        "total": len(frame),
        "known": value.known,
        "kind": "sales" if value.margin is None else "margin",
        "horizon": value.horizon_weeks,
        "forecast": value.forecast,
        "forecast_kind": value.forecast_kind,
        "interval_kind": value.interval,
        "spend_model": value.spend_model,
        "existing": value.existing.value,
        "per_customer": value.headline.value / len(frame) if len(frame) else float("nan"),
        "existing_per_customer": value.existing.value / len(frame) if len(frame) else float("nan"),
        "purchases_per_customer": value.purchases.value / len(frame) if len(frame) else float("nan"),
        "purchases_doubt": value.purchases_doubt,
        "sales_doubt": value.sales_doubt,
        "margin": value.margin,
        "alive_model": value.alive_model or "",
        "alive_reason": value.alive_reason,
        "alive_mean": float(frame["probability_alive"].mean()) if value.alive_model else None,
        "best_share": float(groups["residual_share"].iloc[0]),
        "group_share": 1.0 / len(groups),
        "groups": len(groups),
        "group_limits": bool(groups.get("group_low", _NOTHING).notna().any()),
    }


def margin_facts(value: CustomerValue, assumption: Any) -> dict[str, Any]:
    """What the expected value would be at the ends of the range that the study gives for its margin."""
    known = assumption is not None and value.known
    return {
        "margin": value.margin,
        "margin_stated": float(assumption.value) if known else None,
        "margin_source": assumption.source if known else "",
        "margin_low": assumption.low if known else None,
        "margin_high": assumption.high if known else None,
        "value_low": value.expected_sales.value * assumption.low if known else None,
        "value_high": value.expected_sales.value * assumption.high if known else None,
    }


def groups_for_people(groups: pd.DataFrame, fmt: Formatter) -> pd.DataFrame:
    """The value groups with what is expected and its range in one cell, where there are ranges; see :func:`group_columns`."""
    if not groups.get("group_low", _NOTHING).notna().any():
        return groups
    name = _expected(groups)
    cells = fmt.estimates(groups[name], groups["group_low"], groups["group_high"], "money")
    return groups.assign(**{f"{name}_words": cells})


def group_columns(groups: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The columns of the table of value groups that hold something; their sizes, equal but for one, are left out."""
    name = _expected(groups)
    skip = {"residual_value", "expected_sales"} - (set() if f"{name}_words" in groups else {name})
    return {
        column: label
        for column, label in _GROUP_COLUMNS.items()
        if column not in skip and groups.get(column, _NOTHING).notna().any()
    }


def _expected(groups: pd.DataFrame) -> str:
    return "residual_value" if groups["residual_value"].notna().any() else "expected_sales"


def interval_width(value: CustomerValue) -> float:
    """Median width of a customer's interval relative to the customer's expected margin; NaN where unknown."""
    frame = value.frame[value.frame["residual_value"].abs() > 0]
    if frame.empty:
        return float("nan")
    return float(np.median((frame["clv_high"] - frame["clv_low"]) / frame["residual_value"].abs()))


def assumed(assumption: Any) -> float | None:
    """The value of a study's assumption, None where the study makes none."""
    return None if assumption is None else float(assumption.value)


def expected_concentration(summary: pd.DataFrame, value: CustomerValue, top: float) -> tuple[Shift | None, str]:
    """How concentrated what is expected is, beside what was brought: margin where it is known of both, else sales.

    Parameters
    ----------
    summary : DataFrame
        The canonical `customer_summary`.
    value : CustomerValue
        Of the same customers.
    top : float
        The share of customers called the best.

    Returns
    -------
    found : Shift or None
        None where nothing is expected, or from nobody.
    reason : str
        Why not; empty otherwise.
    """
    if not value.known:
        return None, "there is nothing to expect a value from"
    frame = summary.merge(value.frame, on="customer_id", validate="one_to_one")
    if _shift_kind(value) == "margin":
        past, expected = frame["existing_value"], frame["residual_value"]
    else:
        past, expected = frame["spend"], frame["expected_purchases"] * frame["expected_spend"]
    return found_or_reason(lambda: concentration_shift(past, expected, top))


def shift_facts(found: Shift, value: CustomerValue) -> dict[str, Any]:
    """The facts of the sentence on the concentration of what is expected."""
    share, low, high = found.expected.top_share.interval
    clear = not found.difference.low <= 0.0 <= found.difference.high
    return {
        "shift_kind": _shift_kind(value),
        "shift": ("higher" if found.difference.value > 0 else "lower") if clear else "same",
        "expected_share": share,
        "expected_low": low,
        "expected_high": high,
        "past_share": found.past.top_share.value,
        "shift_low": found.difference.low,
        "shift_high": found.difference.high,
        "half_past": _half(found.past),
        "half_expected": _half(found.expected),
        "stay": found.stay,
    }


def _half(found: Concentration) -> float:
    """Share of the amount that the lower half of customers brings."""
    return float(found.curve.loc[np.isclose(found.curve["customers_share"], 0.5), "amount_share"].iloc[0])


def _shift_kind(value: CustomerValue) -> str:
    known = value.margin is not None and np.isfinite(value.frame["existing_value"]).all()
    return "margin" if known else "sales"
