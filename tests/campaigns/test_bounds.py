"""Bounds on hidden differences: printed figures, limits of the search, trends that part."""

import numpy as np
import pytest

from analysis.campaigns import bounds
from analysis.campaigns.effects import EstimationError

# Lead in the blood of 33 children of exposed workers and of their matched neighbours (Morton et al. 1982, as printed by
# Rosenbaum 2002, table 3.1).
EXPOSED = [38, 23, 41, 18, 37, 36, 23, 62, 31, 34, 24, 14, 21, 17, 16, 20, 15, 10, 45, 39, 22, 35, 49, 48, 44, 35, 43]
EXPOSED += [39, 34, 13, 73, 25, 27]
NEIGHBOUR = [16, 18, 18, 24, 19, 11, 10, 15, 16, 18, 18, 13, 19, 10, 16, 16, 24, 13, 9, 14, 21, 19, 7, 18, 19, 12, 11]
NEIGHBOUR += [22, 25, 16, 13, 11, 13]


@pytest.mark.parametrize(("gamma", "printed"), [(2, 0.0018), (3, 0.0136), (4, 0.0388), (4.25, 0.0468), (5, 0.0740)])
def test_signed_rank_bounds_of_lead_in_children(gamma, printed):
    low, high = bounds.signed_rank_bounds(np.subtract(EXPOSED, NEIGHBOUR), gamma)
    assert high == pytest.approx(printed, abs=5e-5)
    assert low < 1e-4


@pytest.mark.parametrize(("gamma", "printed"), [(4, 0.0036), (5, 0.03), (6, 0.1)])
def test_mcnemar_bounds_of_smoking_and_lung_cancer(gamma, printed):
    """The book prints a normal approximation with continuity correction (110 and 12 pairs); ours are exact."""
    assert bounds.mcnemar_bounds(110, 12, gamma)[1] == pytest.approx(printed, abs=0.008)


def test_without_hidden_differences_the_bounds_meet_at_the_exact_test():
    from scipy import stats

    low, high = bounds.mcnemar_bounds(15, 5, 1)
    assert low == high == pytest.approx(stats.binomtest(15, 20, alternative="greater").pvalue)


def test_the_gamma_found_is_where_the_p_value_reaches_the_level():
    found = bounds.rosenbaum_bounds(EXPOSED, NEIGHBOUR, alpha=0.05)
    assert (found.test, found.pairs, found.direction) == ("signed_rank", 33, 1)
    assert 4.25 < found.gamma < 4.5
    worst = bounds.signed_rank_bounds(np.subtract(EXPOSED, NEIGHBOUR), found.gamma)[1]
    assert worst == pytest.approx(0.05, abs=1e-9)
    turned = bounds.rosenbaum_bounds(NEIGHBOUR, EXPOSED, alpha=0.05)
    assert turned.direction == -1
    assert turned.gamma == pytest.approx(found.gamma)


def test_nothing_to_explain_away():
    same = bounds.rosenbaum_bounds([1.5, 2, 3], [1.5, 2, 3])
    assert (same.gamma, same.informative, same.p_value) == (1.0, 0, 1.0)
    assert bounds.rosenbaum_bounds([0, 1, 1, 0], [1, 0, 1, 0]).gamma == 1.0
    with pytest.raises(EstimationError) as error:
        bounds.rosenbaum_bounds([], [])
    assert error.value.code == "no_pairs"
    with pytest.raises(ValueError, match="at least 1"):
        bounds.mcnemar_bounds(3, 1, 0.5)
    with pytest.raises(ValueError, match="missing"):
        bounds.signed_rank_bounds([1.0, np.nan], 1)


def test_a_finding_beyond_the_search_stops_at_its_end():
    assert bounds.rosenbaum_bounds(np.ones(5_000), np.zeros(5_000)).gamma == bounds.LARGEST


def test_pairs_are_close_free_and_used_once():
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.02, 0.9, 600)
    treated = rng.random(600) < scores * 0.6
    pairs = bounds.matched_pairs(treated, scores)
    assert treated[pairs[:, 0]].all()
    assert not treated[pairs[:, 1]].any()
    assert len(np.unique(pairs)) == pairs.size
    logit = np.log(scores / (1 - scores))
    gaps = np.abs(logit[pairs[:, 0]] - logit[pairs[:, 1]])
    assert gaps.max() <= 0.2 * logit.std()
    # Against a plain search: the same partners in the same order.
    free, plain = set(np.flatnonzero(~treated)), []
    for who in np.flatnonzero(treated)[np.argsort(-logit[treated], kind="stable")]:
        near = min(free, key=lambda k: abs(logit[k] - logit[who]), default=None)
        if near is not None and abs(logit[near] - logit[who]) <= 0.2 * logit.std():
            plain.append((who, near))
            free.remove(near)
    assert list(map(tuple, pairs)) == plain


def test_nobody_near_gives_no_pair():
    assert bounds.matched_pairs([1, 1, 0, 0], [0.99, 0.98, 0.01, 0.02]).shape == (0, 2)
    assert bounds.matched_pairs([1, 1], [0.5, 0.6]).shape == (0, 2)


def test_parallel_trends_give_the_plain_interval_and_steps_widen_it():
    covariance = 0.01 * np.eye(5)
    found = bounds.relative_magnitudes([0.0, 0.1, 0.0, 0.5, 0.5], covariance, [-3, -2, -1, 0, 1], 2)
    reach = 1.959964 * np.sqrt(0.01 * (0.5 + 1))
    first = found.table.iloc[0]
    assert np.log1p([first["low"], first["high"]]) == pytest.approx([0.5 - reach, 0.5 + reach], abs=1e-6)
    assert found.largest_break == pytest.approx(0.1)
    assert (found.table["low"].diff()[1:] < 0).all()
    assert 0 < found.breakdown < 3
    at = bounds.relative_magnitudes(
        [0.0, 0.1, 0.0, 0.5, 0.5], covariance, [-3, -2, -1, 0, 1], 2, multiples=[found.breakdown]
    )
    assert at.table["low"][0] == pytest.approx(0, abs=1e-9)
    nothing = bounds.relative_magnitudes([0.0, 0.1, 0.0, 0.05, 0.0], covariance, [-3, -2, -1, 0, 1], 2)
    assert nothing.breakdown == 0
    with pytest.raises(EstimationError):
        bounds.relative_magnitudes([0, 1], np.eye(2), [-1, 0], 1)


def test_bounds_cover_when_the_trends_part_as_much_as_before():
    """The groups part by .1 a period throughout, so an interval for M = 1 must hold the effect; M = 0 must not."""
    rng = np.random.default_rng(8)
    periods, truth = np.arange(-4, 2), 0.3
    mean = 0.1 * periods + truth * (periods >= 0)
    spread = 0.02 * np.eye(6)
    covered = np.zeros(2)
    for _ in range(200):
        draw = rng.multivariate_normal(mean, spread)
        table = bounds.relative_magnitudes(draw, spread, periods, 2, multiples=[0, 1]).table
        covered += ((np.log1p(table["low"]) <= truth) & (truth <= np.log1p(table["high"]))).to_numpy()
    assert covered[1] / 200 >= 0.95 - 4 * np.sqrt(0.05 * 0.95 / 200)
    assert covered[0] < covered[1]
