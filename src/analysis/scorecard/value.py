"""Was the worth of customers foreseen? What the valuation notebook expects against what the next year brought."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.campaigns import wilson_interval
from analysis.scorecard.card import CHANCE, entries, finding
from analysis.scorecard.words import Words
from analysis.simulate.clock import FUTURE_DAYS
from analysis.valuation import weekly_discount
from analysis.valuation.lifetime import mean_discount
from analysis.valuation.summary import DAYS_PER_WEEK

FUTURE_WEEKS = FUTURE_DAYS // 7
_SPEND, _PURCHASES = "gamma-gamma", "Pareto/NBD"


def people_of(
    truth: pd.DataFrame,
    second_ids: pd.DataFrame,
    value: pd.DataFrame,
    observed_to: datetime.date,
    discount_rate: float | None,
) -> pd.DataFrame:
    """The people behind the customers that a notebook valued, with what is true of each.

    Parameters
    ----------
    truth : one row a person. second_ids : customer_id, second_id, of those who go by two numbers.
    value : ``customer_value``, one row a number.
    discount_rate : a year, of what the next year brings; None discounts nothing.

    Returns
    -------
    One row a person with a number in ``value``: the columns of ``truth``; ``margin_discounted`` (margin_next, taken as spread
    evenly over the days until the person lapses); and the columns of ``value`` for those valued under their first number,
    NaN for the few who are known by their second alone.
    """
    seconds = second_ids.loc[second_ids["second_id"].isin(value["customer_id"]), "customer_id"]
    people = truth[truth["customer_id"].isin(value["customer_id"]) | truth["customer_id"].isin(seconds)]
    left = (pd.to_datetime(people["lapsed_on"]) - pd.Timestamp(observed_to)).dt.days.fillna(FUTURE_DAYS)
    weeks = left.clip(0, FUTURE_DAYS).to_numpy(float) / DAYS_PER_WEEK
    factor = mean_discount(weekly_discount(discount_rate), weeks)
    people = people.assign(margin_discounted=people["margin_next"] * factor)
    return people.merge(value, on="customer_id", how="left", validate="one_to_one").reset_index(drop=True)


def parameter_table(planted: Mapping[str, object], shown: pd.DataFrame) -> pd.DataFrame:
    """Parameters of the purchase and spend models, planted and fitted; empty where the world does not keep to the models.

    Planted times are days; the notebook fits in weeks, and so are they here.

    Parameters
    ----------
    planted : as in planted.json. shown : the notebook's table of parameters: model, parameter, estimate, low, high.

    Returns
    -------
    model, parameter, planted, found, low, high; NaN for a model that the notebook could not use.
    """
    columns = ["model", "parameter", "planted", "found", "low", "high"]
    if planted["settings"]["world"] != "textbook" or planted["settings"]["confounding"]:
        return pd.DataFrame(columns=columns)
    people = planted["world"]["people"]
    unit = {"alpha": DAYS_PER_WEEK, "beta": DAYS_PER_WEEK}
    rows = [(_PURCHASES, name, people[name] / unit.get(name, 1.0)) for name in ("r", "alpha", "s", "beta")]
    rows += [(_SPEND, name, people[name]) for name in ("p", "q", "gamma")]
    known = pd.DataFrame(rows, columns=columns[:3])
    fitted = shown.reindex(columns=["model", "parameter", "estimate", "low", "high"])
    return known.merge(fitted.rename(columns={"estimate": "found"}), on=["model", "parameter"], how="left")


def alive_table(people: pd.DataFrame, groups: int = 10, confidence: float = 0.95) -> pd.DataFrame:
    """Customers in equal groups by their probability of being active: said and true.

    Returns
    -------
    group (1 = least likely active), customers, said (mean probability), true (share active) with Wilson's low and high,
    holds (bool: does the interval hold what was said?). Empty where the notebook gives no probability.
    """
    known = people[people["probability_alive"].notna()].sort_values(["probability_alive", "customer_id"])
    columns = ["group", "customers", "said", "true", "low", "high", "holds"]
    count = min(groups, len(known))
    if not count:
        return pd.DataFrame(columns=columns)
    grouped = known.groupby(np.arange(len(known)) * count // len(known) + 1)
    table = grouped.agg(
        customers=("alive", "size"), said=("probability_alive", "mean"), true=("alive", "mean"), active=("alive", "sum")
    )
    low, high = wilson_interval(table["active"], table["customers"], confidence)
    table = table.assign(low=low, high=high).rename_axis("group").reset_index()
    return table.assign(holds=(table["low"] <= table["said"]) & (table["said"] <= table["high"]))[columns]


def value_facts(people: pd.DataFrame, alive: pd.DataFrame, confidence: float = 0.95) -> dict[str, object]:
    """How good single customers' values are.

    Returns
    -------
    total (people), alive_said and alive_true (shares), groups and calibrated (groups of ``alive`` that hold), covered with
    covered_low and covered_high (share of people whose margin of the next year lies in their interval), below and above
    (shares outside), rank (Spearman correlation of expected and true margin), best_rank (the same for somebody who knows
    every customer's true rate, hazard and mean order).
    """
    valued = people[people["clv_low"].notna() & people["clv_high"].notna()]
    low, high = (valued[f"clv_{end}"] - valued["existing_value"] for end in ("low", "high"))
    # Half a cent: margins are booked in cents, values are not rounded.
    below, above = valued["margin_discounted"] < low - 0.005, valued["margin_discounted"] > high + 0.005
    covered = ~(below | above)
    share_low, share_high = wilson_interval(covered.sum(), len(valued), confidence)
    future = np.where(people["alive"], people["rate"] * people["spend_mean"] * _active_days(people), 0.0)
    ranked = people[people["residual_value"].notna()]
    return {
        "total": len(people),
        "alive_said": _mean(people["probability_alive"]),
        "alive_true": _mean(people["alive"]),
        "groups": len(alive),
        "calibrated": int(alive["holds"].sum()),
        "covered": _mean(covered),
        "covered_low": float(share_low) if len(valued) else None,
        "covered_high": float(share_high) if len(valued) else None,
        "below": _mean(below),
        "above": _mean(above),
        "rank": _rank(ranked["residual_value"], ranked["margin_discounted"]),
        "best_rank": _rank(pd.Series(future, people.index), people["margin_discounted"]),
    }


def _active_days(people: pd.DataFrame) -> np.ndarray:
    """Expected days as a customer in the next year for somebody who is one now and lapses at a constant hazard."""
    hazard = np.maximum(people["hazard"].to_numpy(float), 1e-12)
    return -np.expm1(-hazard * FUTURE_DAYS) / hazard


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None


def _rank(first: pd.Series, second: pd.Series) -> float | None:
    if len(first) < 3 or first.nunique() < 2 or second.nunique() < 2:
        return None
    return float(first.corr(second, method="spearman"))


def value_entries(
    parameters: pd.DataFrame,
    people: pd.DataFrame,
    findings: Mapping[str, dict],
    facts: Mapping[str, object],
    horizon_weeks: int,
    words: Words,
) -> pd.DataFrame:
    """Section of the card: parameters where they are planted, totals of the base, and how good single values are.

    Totals of a horizon other than the simulated future cannot be held against it and are left out.
    """
    rows = [
        (
            words("quantity_parameter", model=r["model"], parameter=r["parameter"]),
            r["planted"],
            r["found"],
            r["low"],
            r["high"],
        )
        for r in parameters.to_dict("records")
    ]
    rows.append(finding(words("quantity_existing"), people["margin_to_date"].sum(), findings.get("existing_value")))
    if horizon_weeks == FUTURE_WEEKS:
        rows.append(
            finding(words("quantity_base_value"), people["margin_discounted"].sum(), findings.get("base_value"))
        )
        bought = findings.get("expected_purchases") or {"value": people["expected_purchases"].sum(min_count=1)}
        rows.append(finding(words("quantity_purchases"), people["purchases_next"].sum(), bought))
        rows.append((words("quantity_covered"), 0.95, facts["covered"], None, None))
    rows.append(finding(words("quantity_alive"), facts["alive_true"], findings.get("alive")))
    rows.append((words("quantity_rank"), facts["best_rank"], facts["rank"], None, None))
    return entries(rows, CHANCE if len(parameters) else "why_company")
