"""Stage probabilities: they add up, each piece in closed form, recovery, coverage of the expected numbers, edges."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from analysis.segmentation import life_cycle
from analysis.segmentation.life_cycle import (
    expected_stages,
    fit_alive,
    fit_habit_change,
    stage_probabilities,
)
from analysis.segmentation.life_stage import STAGES, StageRules, fallen_silent


def customers(n=1, **given):
    base = {
        "recency_days": 5,
        "T": 400.0,
        "purchase_days": 20,
        "gaps": 19,
        "gap_low": 15.0,
        "gap_median": 20.0,
        "gap_high": 25.0,
        "window_days": 400,
        "earlier": 10,
        "recent": 9,
        "probability_alive": 0.9,
    }
    frame = pd.DataFrame({name: np.broadcast_to(value, n) for name, value in (base | given).items()})
    return frame.assign(customer_id=[f"c{i:06d}" for i in range(n)])


def steady(n, rng, alive=1.0, mean=8.0):
    counts = rng.poisson(np.tile(rng.gamma(2.0, mean / 2, n), (2, 1)))
    return customers(
        n, earlier=counts[0], recent=counts[1], purchase_days=counts.sum(axis=0) + 1, probability_alive=alive
    )


def test_posterior_of_a_fall_is_the_tail_of_the_change_in_rates():
    change = fit_habit_change([10, 3, 0, 7], [4, 3, 2, 7])

    def density(q):
        return stats.beta.pdf(q, change.a, change.b) * stats.binom.pmf(2, 9, q)

    # A rate below half of the earlier one is a recent share below a third.
    whole = integrate.quad(density, 0, 1)[0]
    assert change.below(0.5, 7, 2) == pytest.approx(integrate.quad(density, 0, 1 / 3)[0] / whole, rel=1e-6)
    assert change.above(2.0, 7, 2) == pytest.approx(integrate.quad(density, 2 / 3, 1)[0] / whole, rel=1e-6)


def test_the_change_that_was_planted_is_learnt():
    rng = np.random.default_rng(1)
    n = rng.poisson(15, 4000)
    recent = rng.binomial(n, rng.beta(3.0, 5.0, 4000))
    found = fit_habit_change(n - recent, recent)
    centre = np.array([np.log(found.a / found.b), np.log(found.a + found.b)])
    errors = np.sqrt(np.diag(found.covariance))
    assert (np.abs(centre - [np.log(3 / 5), np.log(8.0)]) < 4 * errors).all()
    assert found.customers == (n > 0).sum()


def test_where_nobody_changes_chance_is_not_taken_for_decline():
    base = steady(5000, np.random.default_rng(2))
    found = stage_probabilities(base)
    assert found.expected["decline"] < 0.005 * len(base)
    # The plain share of those who bought less than half as often is ten times that.
    assert (base["recent"] < 0.5 * base["earlier"]).mean() > 0.05


def test_ended_is_one_less_the_chance_of_being_alive():
    base = customers(3, probability_alive=[0.0, 0.25, 1.0])
    found = stage_probabilities(base)
    assert found.customers["ended"].tolist() == [1.0, 0.75, 0.0]
    assert found.customers["life_stage"].tolist()[:2] == ["ended", "ended"]
    assert found.ended_from == "model"


def test_trial_and_youth_decide_what_is_left():
    base = customers(
        4,
        purchase_days=[1, 2, 12, 12],
        earlier=[0, 1, 6, 6],
        recent=[0, 0, 6, 6],
        T=[30.0, 30.0, 100.0, 500.0],
        probability_alive=1.0,
    )
    found = stage_probabilities(base)
    assert found.customers["life_stage"].tolist() == ["exploration", "exploration", "formation", "stability"]
    # Too young for a habit: no decline and no rise, whatever the counts.
    assert found.customers["decline"].tolist()[:3] == [0.0, 0.0, 0.0]
    assert found.customers.loc[2, "formation"] == 1.0


def test_without_a_chance_of_being_alive_the_rule_of_silence_decides():
    base = customers(3, probability_alive=np.nan, recency_days=[5, 200, 5])
    found = stage_probabilities(base)
    rule = fallen_silent(base, StageRules(), False, 0)
    assert found.ended_from == "silence"
    assert found.customers["ended"].tolist() == [0.0, 1.0, 0.0]
    assert (found.customers["life_stage"] == "ended").tolist() == rule.tolist()
    mixed = base.assign(probability_alive=[0.5, np.nan, np.nan])
    assert stage_probabilities(mixed).ended_from == "mixed"
    table = expected_stages(found).set_index("life_stage")
    assert np.isnan(table.loc["ended", "low"]) and table.loc["ended", "expected"] == 1.0


def test_a_left_truncated_base_has_no_exploration_or_formation():
    base = customers(4, purchase_days=[1, 20, 20, 20], T=[30.0, 60.0, 400.0, 400.0], probability_alive=np.nan)
    found = stage_probabilities(base, left_truncated=True, span_days=400)
    assert found.stages == ("not_identified", "stability", "decline", "ended")
    assert found.customers["life_stage"].isna().tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="span_days"):
        stage_probabilities(base, left_truncated=True)


COUNTS = st.integers(0, 60)
ROWS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 500), COUNTS, COUNTS, st.one_of(st.just(np.nan), st.floats(0, 1))),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60)
@given(ROWS, st.booleans(), st.floats(0.1, 0.9), st.floats(1.1, 9.0))
def test_probabilities_add_up_and_the_likeliest_is_named(rows, left_truncated, fall, rise):
    silent, extra, earlier, recent, alive = map(np.array, zip(*rows, strict=True))
    base = customers(
        len(rows),
        recency_days=silent,
        T=(silent + extra).astype(float),
        earlier=earlier,
        recent=recent,
        purchase_days=earlier + recent + 1,
        probability_alive=alive.astype(float),
    )
    rules = StageRules(decline_ratio=fall, rise_ratio=rise)
    found = stage_probabilities(base, rules, left_truncated=left_truncated, span_days=900)
    chances = found.customers[list(found.stages)].to_numpy()
    assert (chances >= 0).all()
    assert chances.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    named = found.customers["life_stage"].astype(object).fillna("not_identified")
    own = chances[np.arange(len(rows)), [found.stages.index(s) for s in named]]
    assert (own == chances.max(axis=1)).all()
    assert found.customers["certainty"].tolist() == own.tolist()


def test_expected_numbers_hold_the_true_ones_where_rates_change(monkeypatch):
    monkeypatch.setattr(life_cycle, "_SETS", 20)
    rng, held, runs, n = np.random.default_rng(3), [], 200, 150
    for _ in range(runs):
        share = rng.beta(4.0, 4.0, n)
        total = rng.poisson(12, n)
        recent = rng.binomial(total, share)
        alive = rng.beta(2.0, 1.0, n)
        here = rng.random(n) < alive
        # The planted P(alive) stays as it is given the counts, so both truths are drawn from what the model says.
        base = customers(
            n, earlier=total - recent, recent=recent, purchase_days=total + 3, T=500.0, probability_alive=alive
        )
        table = expected_stages(stage_probabilities(base), draws=60).set_index("life_stage")
        truth = {
            "ended": (~here).sum(),
            "decline": (here & (share < 1 / 3)).sum(),
            "formation": (here & (share > 2 / 3)).sum(),
        }
        held.append([table.loc[k, "low"] <= v <= table.loc[k, "high"] for k, v in truth.items()])
    covered = np.mean(held, axis=0)
    assert (np.abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)).all(), covered


def test_expected_ended_holds_the_number_that_truly_left_when_the_model_is_fitted(monkeypatch):
    monkeypatch.setattr(life_cycle, "_SETS", 20)
    rng, held, runs, n = np.random.default_rng(4), [], 60, 250
    for _ in range(runs):
        T = rng.uniform(200, 700, n)
        rate, life = rng.gamma(1.2, 1 / 40, n), rng.exponential(1 / rng.gamma(1.2, 1 / 300, n))
        watched = np.minimum(life, T)
        times = [np.sort(rng.uniform(0, w, k)) for w, k in zip(watched, rng.poisson(rate * watched))]
        frequency = np.array([len(t) for t in times])
        recency = np.array([t[-1] if len(t) else 0.0 for t in times])
        earlier = np.array([(t < a / 2).sum() for t, a in zip(times, T)])
        model, reason = fit_alive(frequency, recency, T)
        if model is None:
            continue
        assert reason == ""
        base = customers(
            n,
            recency_days=T - recency,
            T=T,
            earlier=earlier,
            recent=frequency - earlier,
            purchase_days=frequency + 1,
            probability_alive=model.probability_alive(frequency, recency / 7, T / 7),
        )
        history = pd.DataFrame({"frequency": frequency, "recency": recency, "T": T})
        table = expected_stages(stage_probabilities(base), model, history, draws=60).set_index("life_stage")
        held.append(table.loc["ended", "low"] <= (life < T).sum() <= table.loc["ended", "high"])
    assert len(held) > 50
    assert abs(np.mean(held) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(held)), np.mean(held)


def test_a_large_base_is_scaled_from_a_part():
    rng = np.random.default_rng(5)
    base = steady(50_000, rng, alive=rng.beta(2, 2, 50_000))
    found = stage_probabilities(base)
    table = expected_stages(found, draws=100).set_index("life_stage")
    sd = np.sqrt((base["probability_alive"] * (1 - base["probability_alive"])).sum())
    assert table.loc["ended", "low"] < table.loc["ended", "expected"] < table.loc["ended", "high"]
    assert 3 * sd < table.loc["ended", "high"] - table.loc["ended", "low"] < 5 * sd


def test_one_customer_one_time_buyers_and_nonsense():
    alone = stage_probabilities(customers(1))
    assert alone.customers[list(STAGES)].sum(axis=1).tolist() == pytest.approx([1.0])
    once = customers(40, purchase_days=1, gaps=0, gap_low=np.nan, gap_high=np.nan, earlier=0, recent=0)
    table = expected_stages(stage_probabilities(once)).set_index("life_stage")
    assert table.loc["exploration", "expected"] == pytest.approx(36.0)
    assert table["expected"].sum() == pytest.approx(40.0)
    with pytest.raises(ValueError, match="no customer"):
        stage_probabilities(customers(1).iloc[:0])
    with pytest.raises(ValueError, match="outside 0 to 1"):
        stage_probabilities(customers(1, probability_alive=1.5))
    with pytest.raises(ValueError, match="decline_ratio"):
        stage_probabilities(customers(1), StageRules(decline_ratio=1.2))
    with pytest.raises(ValueError, match="whole numbers"):
        fit_habit_change([1.5], [2])
    huge = stage_probabilities(customers(2, earlier=[10**8, 10], recent=[10**7, 10]))
    assert huge.customers.loc[0, "decline"] == pytest.approx(0.9)


def test_bases_on_which_no_model_of_leaving_can_be_fitted_say_so():
    assert fit_alive([0, 0], [0, 0], [100, 200]) == (None, "no_model")
    assert fit_alive([1, 2], [50, 60], [100, 200], left_truncated=True) == (None, "left_truncated")
