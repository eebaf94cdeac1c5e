"""What the notebook states of stages, moves, states and migration: facts that agree with tables, words for each, figures."""

from datetime import date, timedelta
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.segmentation import life_cycle_facts as facts
from analysis.segmentation import migration_figures as pictures
from analysis.segmentation.hidden_markov import choose_states, holdout_against_nbd, period_counts, state_agreement
from analysis.segmentation.life_cycle import (
    NOT_IDENTIFIED,
    expected_stages,
    stage_probabilities,
)
from analysis.segmentation.life_stage import STAGES, StageRules
from analysis.segmentation.migration import GROUPS, MOVEMENTS, migrate
from analysis.segmentation.transitions import next_period, past_dates, stages_at, transition_matrix

TO = date(2024, 12, 31)
FROM = TO - timedelta(days=729)
SMALL = 10


@pytest.fixture(scope="module")
def words():
    return segmentation.Words(Formatter("en", "USD"), "households")


@pytest.fixture(scope="module")
def lines():
    rng, rows, n = np.random.default_rng(1), [], 500
    arrival = rng.uniform(60, 729, n)
    rate, life = rng.gamma(1.5, 1 / 35, n), rng.exponential(1 / rng.gamma(1.2, 1 / 400, n))
    for i in range(n):
        span = min(life[i], arrival[i])
        ago = np.unique(np.concatenate([[arrival[i]], arrival[i] - rng.uniform(0, span, rng.poisson(rate[i] * span))]))
        rows += [(f"c{i:04d}", int(a), round(rng.gamma(3, 8), 2)) for a in ago]
    made = [
        {
            "order_id": f"o{k}",
            "customer_id": c,
            "order_date": TO - timedelta(days=ago),
            "net_amount": Decimal(str(max(amount, 0.5))),
            "is_return": False,
        }
        for k, (c, ago, amount) in enumerate(rows)
    ]
    return ibis.memtable(pa.Table.from_pylist(made))


@pytest.fixture(scope="module")
def past(lines):
    return [stages_at(lines, FROM, d) for d in past_dates(FROM, TO, 91, most=3)]


@pytest.fixture(scope="module")
def moved(lines):
    return migrate(lines, FROM, TO, margin_rate=0.3)


def told(words, key, found, plain=True):
    """The sentence of a finding, without what its sentence does not need."""
    text = words(key, **{k: v for k, v in found.items() if k != "reason"})
    assert text and "{" not in text and "None" not in text
    if found.get("value") is not None and found.get("low") is not None:
        assert found["low"] <= found["value"] <= found["high"]
    else:
        assert found["reason"]
    return text


def test_every_code_has_a_name(words):
    for kind, codes in (("movement", MOVEMENTS), ("group", (*GROUPS, "new")), ("stage", (*STAGES, NOT_IDENTIFIED))):
        assert all(words.name(kind, code) != code for code in codes)


def test_expected_numbers_are_told_with_their_range(past, words):
    last = past[-1]
    table = expected_stages(last.found, last.alive_model, last.history)
    found = facts.expected_finding(table, "ended", last.found, SMALL, words)
    row = table.set_index("life_stage").loc["ended"]
    assert (found["value"], found["low"], found["high"]) == (row["expected"], row["low"], row["high"])
    assert f"{round(row['expected'])} of 500" in told(words, "expected_ended", found)
    told(words, "expected_declining", facts.expected_finding(table, "decline", last.found, SMALL, words))
    hidden = facts.expected_finding(table, "ended", last.found, 499, words)
    assert hidden["value"] is None and "cannot be shown" in told(words, "expected_ended", hidden)
    assert facts.expected_finding(table, NOT_IDENTIFIED, last.found, SMALL, words)["value"] is None
    shown = facts.expected_for_people(table, SMALL, words)
    assert (shown["expected"] >= SMALL).all() and "Ended" in set(shown["life_stage"])
    assert png(pictures.expected_figure(table, SMALL, words))[:4] == b"\x89PNG"
    assert words("expected.alt", **pictures.expected_facts(table, SMALL))
    assert "chance of still being active" in words("probability_note", **facts.probability_facts(last.found))
    defined = facts.stage_definitions(last.found, StageRules(), words)
    assert list(defined) == list(facts.STAGE_COLUMNS) and len(defined) == len(last.found.stages)
    assert defined["definition"].is_unique and defined["definition"].str.len().min() > 10


def test_a_steady_base_and_one_without_a_model_are_worded_as_such(words):
    rng, n = np.random.default_rng(2), 400
    counts = rng.poisson(np.tile(rng.gamma(3.0, 6.0, n), (2, 1)))
    base = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "earlier": counts[0], "recent": counts[1]})
    base = base.assign(purchase_days=counts.sum(axis=0) + 3, T=500.0, recency_days=3.0, gaps=6, window_days=500)
    base = base.assign(gap_low=10.0, gap_median=15.0, gap_high=20.0, probability_alive=1.0)
    steady = stage_probabilities(base)
    found = facts.expected_finding(expected_stages(steady), "ended", steady, SMALL, words)
    assert found["value"] == 0.0 and found["n"] == 0
    unknown = stage_probabilities(
        base.assign(probability_alive=np.nan, recency_days=np.where(np.arange(n) < 50, 400, 3))
    )
    table = expected_stages(unknown)
    found = facts.expected_finding(table, "ended", unknown, SMALL, words)
    assert found["from_rule"] and found["low"] is None and found["reason"]
    assert "rule of long silences" in told(words, "expected_ended", found)
    assert "rule of long silences" in words("probability_note", **facts.probability_facts(unknown))
    assert png(pictures.expected_figure(table, SMALL, words))


def test_moves_are_told_from_the_table_that_is_shown(past, words):
    matrix = transition_matrix([p.found.customers for p in past])
    found = facts.move_finding(matrix, "stability", "ended", SMALL, words)
    assert found["value"] == pytest.approx(matrix.probabilities.loc["stability", "ended"])
    told(words, "stable_to_decline", found)
    told(words, "stable_to_decline", facts.move_finding(matrix, "stability", "ended", 10_000, words))
    told(words, "stable_to_decline", facts.move_finding(matrix, NOT_IDENTIFIED, "ended", SMALL, words))
    assert np.isnan(matrix.table(SMALL).set_index(["before", "after"])["share"]).sum() != 1
    durations = facts.duration_for_people(matrix, 91, SMALL, words).set_index("stage")
    stays = matrix.probabilities.loc["stability", "stability"]
    assert durations.loc["Stability", "stay"] == pytest.approx(13 / (1 - stays))
    assert durations.loc["Stability", "until_low"] < durations.loc["Stability", "until_end"]
    assert png(pictures.moves_figure(matrix, SMALL, "13 weeks", words))
    for key in ("moves.title", "moves.alt", "moves.caption"):
        assert words(key, **pictures.moves_facts(matrix, SMALL))


def test_what_came_next_tells_the_stages_apart(lines, past, words):
    table = next_period(lines, past[-2].found.customers, past[-2].as_of, past[-1].as_of)
    seen = facts.validity_facts(table, SMALL)
    assert seen["worst"] == "ended" and seen["apart"]
    assert png(pictures.next_figure(table, SMALL, words))
    few = facts.validity_facts(table, 10_000)
    assert few["best_share"] is None and words("next.title", **few) and words("next.alt", **seen)
    assert png(pictures.next_figure(table, 10_000, words))


def test_hidden_states_are_held_against_stages_and_nbd(lines, past, words):
    counts = period_counts(lines, FROM, TO, 91)
    rows = counts.filter(regex="^p").to_numpy()
    best, _ = choose_states(rows, (2, 3), starts=2)
    stages = past[-1].found.customers.set_index("customer_id")["life_stage"].reindex(counts["customer_id"])
    table, agreement = state_agreement(best.predict(rows), stages)
    assert [s for s in STAGES if s in table.index] == list(table.index)
    assert "degree of" in told(words, "states_agreement", facts.states_finding(agreement, best, words))
    _, alone = state_agreement(best.predict(rows), np.repeat("ended", len(rows)))
    assert "could not be compared" in told(words, "states_agreement", facts.states_finding(alone, best, words))
    held = facts.holdout_facts(holdout_against_nbd(rows, best, starts=2))
    assert held["low"] < held["difference"] < held["high"]
    for better in ("states", "nbd", "tie"):
        assert words("states_holdout", **held | {"better": better})
    assert png(pictures.states_figure(table, best.rates, SMALL, "13 weeks", words))
    assert words("states.alt", n=best.states) and words("no_states", reason="too few")


def test_money_by_movement_is_told_and_adds_up(moved, words):
    found = facts.migration_finding(moved, SMALL, words)
    assert found["value"] == pytest.approx(float(moved.current - moved.previous))
    assert sum(found[f"money_{m}"] or 0.0 for m in MOVEMENTS) == pytest.approx(found["value"], abs=200)
    assert str(found["n_lapsed"]) in told(words, "migration_money", found)
    told(words, "migration_money", facts.migration_finding(moved, 10_000, words))
    shown = facts.movements_for_people(moved, SMALL, words)
    assert shown["change"].sum() == pytest.approx(found["value"])
    for key in ("migration.title", "migration.alt", "movement_money.title", "movement_money.alt"):
        assert words(key, **facts.migration_facts(moved, SMALL)) and words(key, **facts.migration_facts(moved, 10_000))
    for small in (SMALL, 10_000):
        assert png(pictures.alluvial_figure(moved, small, words)) and png(
            pictures.movement_money_figure(moved, small, words)
        )
    rule = words("migration_rule", length="26 weeks", light_to=moved.light_to, medium_to=moved.medium_to)
    assert "26 weeks" in rule


def test_heavy_buyers_are_held_against_luck(moved, words):
    found = facts.heavy_finding(moved, SMALL, words)
    row = moved.chance.table.set_index(["before", "after"]).loc[("heavy", "heavy")]
    assert found["value"] == pytest.approx(row["customers"] / row["total"])
    assert found["expected_low"] < found["expected"] < found["expected_high"]
    for beyond in ("more", "fewer", ""):
        told(words, "heavy_stay", found | {"beyond": beyond})
    told(words, "heavy_stay", facts.heavy_finding(moved, 10_000, words))
    for key in ("chance.title", "chance.alt", "chance.caption"):
        assert words(key, **facts.chance_facts(moved, SMALL))
    assert png(pictures.chance_figure(moved, SMALL, words)) and png(pictures.chance_figure(moved, 10_000, words))


def test_without_a_model_of_chance_there_is_a_reason(words):
    rows = [{"customer_id": f"c{i}", "order_date": TO - timedelta(days=a)} for i in range(60) for a in (400, 200, 10)]
    made = [r | {"order_id": f"o{k}", "net_amount": Decimal(5), "is_return": False} for k, r in enumerate(rows)]
    alike = migrate(ibis.memtable(pa.Table.from_pylist(made)), FROM, TO, period="half_year", measure="spend")
    found = facts.heavy_finding(alike, SMALL, words)
    assert found["value"] is None and "could not be fitted" in found["reason"]
    told(words, "heavy_stay", found)
    assert png(pictures.alluvial_figure(alike, SMALL, words))


def test_the_runs_of_the_notebook_give_a_result_or_a_reason(lines, words):
    moves, reason = segmentation.run_moves(lines, FROM, TO)
    assert reason == "" and moves.period_days == 91 and moves.matrix.periods == len(moves.past) - 1
    states, reason = segmentation.run_states(lines, moves.past[-1].found, FROM, TO)
    assert reason == "" and states.fitted.states in (2, 3, 4) and states.holdout is not None
    assert states.table.to_numpy().sum() <= 500
    assert segmentation.run_migration(lines, FROM, TO, 0.3)[0].period == "half_year"
    short = TO - timedelta(days=40)
    for found, why in (
        segmentation.run_moves(lines, short, TO),
        segmentation.run_states(lines, moves.past[-1].found, short, TO),
        segmentation.run_migration(lines, short, TO, 0.3),
    ):
        assert found is None and why
    assert words("no_moves", reason="too short") and words("no_migration", reason="too short")
    shown = facts.duration_for_people(moves.matrix, 91, SMALL, words)
    assert list(shown) == list(segmentation.DURATION_COLUMNS)
    moved = segmentation.run_migration(lines, FROM, TO, 0.3)[0]
    assert list(facts.movements_for_people(moved, SMALL, words)) == list(segmentation.MOVEMENT_COLUMNS)
