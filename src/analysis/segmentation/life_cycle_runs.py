"""What the notebook runs in one call: moves between stages, hidden states and migration, or the reason why there are none."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import ibis
import pandas as pd

from analysis.segmentation.hidden_markov import (
    HMMResults,
    HoldoutComparison,
    choose_states,
    holdout_against_nbd,
    period_counts,
    state_agreement,
)
from analysis.segmentation.life_cycle import StageProbabilities
from analysis.segmentation.life_stage import StageRules
from analysis.segmentation.migration import Migration, migrate
from analysis.segmentation.transitions import (
    StagesAt,
    TransitionMatrix,
    next_period,
    past_dates,
    stages_at,
    transition_matrix,
)
from analysis.valuation.concentration import Estimate

_LENGTHS = (91, 28)


@dataclass(frozen=True)
class Moves:
    """Moves between stages: period_days, past (stages at each date, oldest first), matrix, and next (what the customers of each
    stage did in the last period).
    """

    period_days: int
    past: list[StagesAt]
    matrix: TransitionMatrix
    next: pd.DataFrame


@dataclass(frozen=True)
class HiddenStates:
    """Hidden states: period_days, fitted, tried (one row a number of states), table and agreement (against stages), and holdout
    (against NBD; None where there is too little for it).
    """

    period_days: int
    fitted: HMMResults
    tried: pd.DataFrame
    table: pd.DataFrame
    agreement: Estimate
    holdout: HoldoutComparison | None


def move_days(observed_from: datetime.date, observed_to: datetime.date) -> int:
    """Length of a period in days: a quarter where the data hold three, otherwise four weeks."""
    days = (observed_to - observed_from).days + 1
    return next((length for length in _LENGTHS if days >= 3 * length), _LENGTHS[-1])


def run_moves(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    rules: StageRules | None = None,
    *,
    left_truncated: bool = False,
) -> tuple[Moves | None, str]:
    """Stages at past dates, the moves between them, and what came next; None and a reason where the data are too short.

    Parameters
    ----------
    order_lines, observed_from, observed_to, rules, left_truncated : as in :func:`analysis.segmentation.stages_at`.
    """
    length = move_days(observed_from, observed_to)
    try:
        dates = past_dates(observed_from, observed_to, length)
        past = [stages_at(order_lines, observed_from, d, rules, left_truncated=left_truncated) for d in dates]
    except ValueError as error:
        return None, str(error)
    matrix = transition_matrix([then.found.customers for then in past])
    did = next_period(order_lines, past[-2].found.customers, dates[-2], dates[-1])
    return Moves(length, past, matrix, did), ""


def run_states(
    order_lines: ibis.Table,
    found: StageProbabilities,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    left_truncated: bool = False,
    seed: int = 1,
) -> tuple[HiddenStates | None, str]:
    """Hidden states of activity, held against the most probable stages and NBD; None and a reason where they cannot be told.

    Parameters
    ----------
    order_lines, observed_from, observed_to, left_truncated : as in :func:`analysis.segmentation.period_counts`.
    found : stages of today.
    seed : of the starts and of the bootstrap.
    """
    length = move_days(observed_from, observed_to)
    try:
        counts = period_counts(order_lines, observed_from, observed_to, length, left_truncated=left_truncated)
        rows = counts.drop(columns="customer_id").to_numpy()
        fitted, tried = choose_states(rows, random_state=seed)
    except ValueError as error:
        return None, str(error)
    stages = found.customers.set_index("customer_id")["life_stage"].reindex(counts["customer_id"])
    table, agreement = state_agreement(fitted.predict(rows), stages.to_numpy(), seed=seed)
    try:
        holdout = holdout_against_nbd(rows, fitted, random_state=seed)
    except ValueError:
        holdout = None
    return HiddenStates(length, fitted, tried, table, agreement, holdout), ""


def run_migration(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    margin_rate: float | None = None,
    *,
    seed: int = 1,
) -> tuple[Migration | None, str]:
    """:func:`analysis.segmentation.migrate`, or None and the reason why the data do not allow it."""
    try:
        return migrate(order_lines, observed_from, observed_to, margin_rate=margin_rate, seed=seed), ""
    except ValueError as error:
        return None, str(error)
