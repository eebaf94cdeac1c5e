"""The hidden Markov model: exact likelihood against brute force, recovery, coverage, edges, and the holdout against NBD."""

from datetime import date, timedelta
from itertools import pairwise, product

import ibis
import numpy as np
import pyarrow as pa
import pytest
from scipy import optimize, stats
from sklearn.metrics import adjusted_rand_score

from analysis.segmentation.hidden_markov import (
    Parameters,
    PurchaseHMM,
    _forward_backward,
    _packed,
    _score,
    _unpacked,
    choose_states,
    holdout_against_nbd,
    period_counts,
    state_agreement,
)

INITIAL = np.array([0.3, 0.7])
MOVES = np.array([[0.9, 0.1], [0.2, 0.8]])
RATES = np.array([0.2, 3.0])


def simulated(n, periods, rng, initial=INITIAL, moves=MOVES, rates=RATES, size=None):
    state = (rng.random(n)[:, None] > np.cumsum(initial)[:-1]).sum(axis=1)
    counts, states = np.empty((n, periods), dtype=int), np.empty((n, periods), dtype=int)
    for t in range(periods):
        mixed = 1.0 if size is None else rng.gamma(size, 1 / size, n)
        counts[:, t], states[:, t] = rng.poisson(rates[state] * mixed), state
        state = (rng.random(n)[:, None] > np.cumsum(moves, axis=1)[state][:, :-1]).sum(axis=1)
    return counts, states


def brute_force(row, p):
    total = 0.0
    for path in product(range(len(p.rate)), repeat=len(row)):
        chance = p.initial[path[0]] * np.prod([p.transition[a, b] for a, b in pairwise(path)])
        if p.size is None:
            emitted = stats.poisson.pmf(row, p.rate[list(path)])
        else:
            size = p.size[list(path)]
            emitted = stats.nbinom.pmf(row, size, size / (size + p.rate[list(path)]))
        total += chance * emitted.prod()
    return np.log(total)


@pytest.mark.parametrize("size", [None, np.array([0.7, 2.0])])
def test_likelihood_is_the_sum_over_all_paths_also_of_late_comers(size):
    p = Parameters(INITIAL, MOVES, RATES, size)
    rows = [[0, 2, 5, 1], [-1, 0, 0, 3], [-1, -1, -1, 4], [0, 0, 0, 0]]
    model = PurchaseHMM(rows, emission="poisson" if size is None else "negative_binomial", states=2)
    found = _forward_backward(p, model.data).loglike[model.data.of]
    assert found == pytest.approx([brute_force([y for y in row if y >= 0], p) for row in rows], abs=1e-12)


def test_weights_are_repeated_customers():
    p = Parameters(INITIAL, MOVES, RATES, None)
    rows, weights = np.array([[0, 2, 1], [3, 0, 4]]), [3, 2]
    assert PurchaseHMM(rows, weights).loglike(p) == pytest.approx(
        PurchaseHMM(np.repeat(rows, weights, axis=0)).loglike(p), abs=1e-10
    )


@pytest.mark.parametrize("size", [None, np.array([0.7, 2.0])])
def test_score_is_the_gradient_of_the_likelihood(size):
    counts, _ = simulated(60, 4, np.random.default_rng(3))
    counts[:10, :2] = -1
    model = PurchaseHMM(counts, states=2, emission="poisson" if size is None else "negative_binomial")
    p = Parameters(INITIAL, MOVES, RATES, size)
    free = [np.arange(2) != row.argmax() for row in (p.initial, *p.transition)]
    point = _packed(p, free)
    numeric = optimize.approx_fprime(point, lambda at: model.loglike(_unpacked(at, p, free)), 1e-6)
    assert _score(p, model.data, free)[1] == pytest.approx(numeric, rel=1e-3, abs=2e-3)


def test_planted_states_are_found_and_decoded():
    counts, states = simulated(2000, 6, np.random.default_rng(1))
    counts[:200, :2] = -1
    fit = PurchaseHMM(counts, states=2).fit()
    assert fit.settled
    truth = np.concatenate([RATES, INITIAL, MOVES.ravel()])
    # The two probabilities of a pair move together, so five independent estimates; 4.4 errors is one in a hundred thousand.
    assert (np.abs(fit.params - truth) < 4.4 * fit.bse).all()
    assert fit.params.index[0] == "rate[1]"
    assert fit.rates[0] < fit.rates[1]
    assert (fit.predict(counts) == states[:, -1]).mean() > 0.9
    path = fit.decode(counts)
    assert (path[:200, :2] == -1).all()
    assert (path[200:] == states[200:]).mean() > 0.9
    assert fit.predict_proba(counts).sum(axis=1) == pytest.approx(np.ones(len(counts)))


def test_negative_binomial_emission_finds_the_mixing():
    counts, _ = simulated(3000, 5, np.random.default_rng(2), rates=np.array([0.2, 5.0]), size=2.0)
    mixed = PurchaseHMM(counts, states=2, emission="negative_binomial").fit(starts=2)
    poisson = PurchaseHMM(counts, states=2).fit(starts=2)
    assert mixed.bic < poisson.bic
    assert abs(mixed.params["size[2]"] - 2.0) < 4.4 * mixed.bse["size[2]"]
    assert abs(mixed.rates[1] - 5.0) < 4.4 * mixed.bse["rate[2]"]


def test_viterbi_is_the_likeliest_of_all_paths():
    counts, _ = simulated(25, 4, np.random.default_rng(4))
    fit = PurchaseHMM(counts, states=2).fit(starts=1)
    p = fit.parameters
    for row, path in zip(counts, fit.decode(counts)):

        def chance(path, row=row):
            moved = np.prod([p.transition[a, b] for a, b in pairwise(path)])
            return p.initial[path[0]] * moved * stats.poisson.pmf(row, p.rate[list(path)]).prod()

        assert chance(tuple(path)) == pytest.approx(max(map(chance, product(range(2), repeat=4))))


def test_intervals_hold_the_planted_moves():
    rng, held, runs = np.random.default_rng(7), [], 200
    truth = {"rate[2]": 3.0, "transition[1,2]": 0.1, "transition[2,1]": 0.2, "initial[1]": 0.3}
    for _ in range(runs):
        counts, _ = simulated(200, 5, rng)
        limits = PurchaseHMM(counts, states=2).fit(starts=1).conf_int()
        held.append([limits.loc[k, "low"] <= v <= limits.loc[k, "high"] for k, v in truth.items()])
    covered = np.mean(held, axis=0)
    assert (np.abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)).all(), covered


def test_bic_finds_the_number_of_states():
    moves = np.array([[0.9, 0.08, 0.02], [0.1, 0.8, 0.1], [0.02, 0.13, 0.85]])
    rates, first = np.array([0.05, 1.0, 4.0]), np.array([0.3, 0.4, 0.3])
    counts, _ = simulated(1200, 5, np.random.default_rng(5), first, moves, rates)
    best, table = choose_states(counts, starts=2)
    assert best.states == 3
    assert table["chosen"].tolist() == [False, True, False]
    # More states never fit worse.
    assert table["llf"].is_monotonic_increasing


def test_the_same_seed_gives_the_same_fit():
    counts, _ = simulated(300, 4, np.random.default_rng(6))
    a, b = (PurchaseHMM(counts, states=3).fit(starts=2, random_state=9) for _ in range(2))
    assert a.params.equals(b.params)


def test_changing_customers_are_foretold_better_by_states_and_steady_ones_by_nbd():
    rng = np.random.default_rng(8)
    counts, _ = simulated(2000, 6, rng)
    changing = holdout_against_nbd(counts, PurchaseHMM(counts, states=2).fit(starts=2), starts=2)
    assert changing.difference.low > 0
    steady = rng.poisson(rng.gamma(0.8, 2.5, 2000)[:, None], (2000, 6))
    found = holdout_against_nbd(steady, PurchaseHMM(steady, states=2).fit(starts=2), starts=2)
    assert found.difference.high < 0
    assert found.difference.value == pytest.approx(found.hmm - found.nbd)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.zeros((5, 4)), "nobody bought"),
        ([[1, 2, 0]], "one customer"),
        ([[1], [0]], "two periods"),
        ([[1, -1, 2], [0, 0, 0]], "missing after"),
        ([[-1, -1], [1, 0]], "no period at all"),
        ([[0.5, 1], [1, 1]], "whole numbers"),
        (np.empty((0, 3)), "a row a customer"),
    ],
)
def test_data_that_cannot_carry_it_get_one_clear_line(counts, message):
    with pytest.raises(ValueError, match=message):
        PurchaseHMM(counts, states=2).fit()


def test_customers_who_are_all_alike_and_huge_counts():
    alike = PurchaseHMM(np.full((50, 4), 2), states=2).fit(starts=2)
    assert alike.llf == pytest.approx(200 * stats.poisson.logpmf(2, 2), abs=0.01)
    huge = np.repeat([[0, 0, 100_000], [90_000, 95_000, 0]], 20, axis=0)
    fit = PurchaseHMM(huge, states=2).fit(starts=2)
    assert np.isfinite(fit.llf)
    assert fit.rates[1] == pytest.approx(95_000, rel=0.05)


def test_a_move_that_never_happens_has_an_upper_limit_and_no_standard_error():
    rng = np.random.default_rng(11)
    counts, _ = simulated(800, 6, rng, moves=np.array([[1.0, 0.0], [0.25, 0.75]]), rates=np.array([0.0, 4.0]))
    fit = PurchaseHMM(counts, states=2).fit()
    limits = fit.conf_int()
    assert fit.transition[0, 1] < 1e-3
    assert limits.loc["transition[1,2]", "high"] < 0.02
    assert pytest.approx(fit.transition[1, 0], abs=4.4 * fit.bse["transition[2,1]"]) == 0.25


def test_adjusted_rand_is_the_library_s_and_has_an_interval():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 400)
    b = np.where(rng.random(400) < 0.6, a, rng.integers(0, 3, 400))
    names = np.array(["stability", "decline", "ended"])[b]
    table, found = state_agreement(a, names)
    assert found.value == pytest.approx(adjusted_rand_score(a, b))
    assert found.low < found.value < found.high
    assert table.to_numpy().sum() == 400
    alone = state_agreement(a, ["ended"] * 400)[1]
    assert alone.low is None and alone.reason == "one_group"


def test_counts_by_period_leave_out_the_one_in_which_a_customer_came():
    to = date(2024, 12, 31)
    ago = {"a": [95, 70, 69, 31, 5, 5], "b": [45, 10], "c": [10], "d": [60]}
    lines = ibis.memtable(
        pa.Table.from_pylist(
            [
                {"customer_id": c, "order_date": to - timedelta(days=d), "net_amount": 5.0, "order_id": f"{c}{d}{i}"}
                for c, all_days in ago.items()
                for i, d in enumerate(all_days)
            ]
        )
    )
    found = period_counts(lines, to - timedelta(days=99), to, 30).set_index("customer_id")
    # Periods of 30 days: 89–60, 59–30, 29–0 days ago; a came before all of them.
    assert found.loc["a"].tolist() == [2, 1, 1]
    assert found.loc["b"].tolist() == [-1, -1, 1]
    assert found.loc["d"].tolist() == [-1, 0, 0]
    assert "c" not in found.index
    before = period_counts(lines, to - timedelta(days=99), to, 30, left_truncated=True).set_index("customer_id")
    assert before.loc["c"].tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="fewer than two periods"):
        period_counts(lines, to - timedelta(days=40), to, 30)
