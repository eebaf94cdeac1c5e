"""What a mood that colours all answers leaves unknown of the reliability of the score."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import PLSPathModel, Reliability, score_reliability, specification_of
from analysis.loyalty.link import allowing_for_mood, effect_row, largest_mood
from analysis.loyalty.moments import Moments, Resamples
from analysis.scorecard.link import score_limit, score_shares
from analysis.simulate import satisfaction

BLOCKS = ("Image", "Expectation", "Quality", "Value", "Satisfaction", "Complaints", "Loyalty")


def coloured(n: int, mood: float, further: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Answers to seven unrelated blocks of three questions and `further` single ones, a mood in all; and the block of each."""
    blocks = [f"block {k // 3}" for k in range(21)] + [f"single {k}" for k in range(further)]
    own = np.hstack([np.repeat(rng.standard_normal((n, 7)), 3, axis=1), rng.standard_normal((n, further))])
    noise = rng.standard_normal((n, 21 + further))
    answers = 0.8 * own + np.sqrt(mood) * rng.standard_normal((n, 1)) + np.sqrt(0.36 - mood) * noise
    return answers, blocks


def test_the_range_goes_from_agreement_to_the_limit_of_the_weakest_pair_of_blocks(mobi, fitted, drawn):
    found = score_reliability(fitted, drawn)
    weights = fitted.weights.xs("Satisfaction", level="construct")
    own = fitted.model.answers[list(weights.index)]
    assert found.agreed == pytest.approx(fitted.reliability.loc["Satisfaction", "rho_a"])
    gain = weights.sum() ** 2 / (weights @ own.corr() @ weights)
    rng, blocks = np.random.default_rng(9), fitted.specification.blocks

    def pairs(answers):
        r = answers.corr()
        return np.array([r.loc[list(blocks[a]), list(blocks[b])].to_numpy().mean() for a, b in combinations(blocks, 2)])

    seen = pairs(mobi[[item for items in blocks.values() for item in items]])
    again = np.array([pairs(fitted.model.answers.sample(frac=1, replace=True, random_state=rng)) for _ in range(300)])
    error = again.std(axis=0, ddof=1)
    limit = (seen + np.quantile(((seen - again) / error).max(axis=1), 0.95) * error).min()
    assert limit > seen.min() + 1.645 * error.min()
    assert found.lowest == pytest.approx(found.agreed - limit * gain, abs=0.03)
    assert found.value == pytest.approx((found.agreed + found.lowest) / 2)
    error = drawn.values["reliability"][:, list(fitted.specification.constructs).index("Satisfaction"), 1].std(ddof=1)
    assert found.error == pytest.approx(np.hypot(error, (found.agreed - found.lowest) / np.sqrt(12)))


def test_a_question_on_something_else_closes_the_range_as_far_as_chance_allows(fitted, drawn):
    rng, answers = np.random.default_rng(1), fitted.model.answers
    unrelated = pd.DataFrame(rng.standard_normal((len(answers), 8)), index=answers.index).add_prefix("question ")
    wide, close = (score_reliability(fitted, drawn, others=others) for others in (None, unrelated))
    assert close.lowest > wide.lowest and close.agreed == wide.agreed and close.error < wide.error
    # 250 answers cannot tell that there is no mood: the limit stays above that of one given pair.
    assert close.agreed - close.lowest > 1.645 / np.sqrt(len(answers))
    costs = unrelated.mul([1.0, -1.0] * 4)
    assert score_reliability(fitted, drawn, others=costs).lowest == pytest.approx(close.lowest)
    told_nothing = unrelated.assign(same=3.0, never=np.nan)
    assert score_reliability(fitted, drawn, others=told_nothing).lowest == pytest.approx(close.lowest)


def test_an_opposed_question_counts_as_its_mirror(mobi, ecsi_model, fitted, drawn):
    opposed = PLSPathModel(mobi.assign(CUSA2=11 - mobi["CUSA2"], IMAG3=11 - mobi["IMAG3"]), ecsi_model).fit()
    found = score_reliability(opposed, opposed.bootstrap(1000, seed=4))
    assert opposed.loadings["Satisfaction", "CUSA2"] < 0
    kept = score_reliability(fitted, drawn)
    assert (found.agreed, found.lowest) == pytest.approx((kept.agreed, kept.lowest))


def test_rows_of_a_customer_are_drawn_together_and_survey_weights_count(mobi, ecsi_model, fitted, drawn):
    """A second answer of everybody that does not count, then one that repeats the first, tell nothing new."""
    who = pd.Series([*mobi["response_id"], *mobi["response_id"]])
    for again, weights in ((mobi.iloc[::-1], np.repeat([1.0, 0.0], len(mobi))), (mobi, None)):
        rows = pd.concat([mobi, again], ignore_index=True)
        results = PLSPathModel(rows, ecsi_model, customers=who, weights=weights).fit()
        found = score_reliability(results, results.bootstrap(1000, seed=4))
        kept = score_reliability(fitted, drawn)
        assert (found.agreed, found.lowest) == pytest.approx((kept.agreed, kept.lowest))


@pytest.mark.parametrize("n, further, most", [(250, 0, 0.18), (250, 8, 0.22), (1_000, 8, 0.14)])
def test_the_limit_is_above_the_mood_however_many_the_questions(n, further, most):
    """The lowest sample correlation is not: it goes to 0 by chance as questions are added."""
    limits, lowest = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        answers, blocks = coloured(n, 0.09, further, rng)
        limits.append(largest_mood(Moments(answers), blocks, Resamples(n, 200, rng)))
        lowest.append(np.abs(np.corrcoef(answers, rowvar=False)).min())
    assert np.mean(np.array(limits) >= 0.09) >= 0.85 and np.mean(limits) < most
    assert max(lowest) < 0.09


@pytest.mark.parametrize("halo", [0.0, 0.3])
def test_the_range_holds_the_planted_reliability(halo):
    """Agreement alone takes the mood for satisfaction: with one it lies far above the truth."""
    plan = replace(satisfaction.COMPANY, halo=halo)
    answers = satisfaction.respondents(2_500, plan, np.random.default_rng(4)).astype(float)
    blocks = {b: [item.name for item in plan.items if item.construct == b and item.name[:2] != "dv"] for b in BLOCKS}
    results = PLSPathModel(answers, specification_of("ecsi", blocks)).fit()
    found = score_reliability(results, results.bootstrap(100, seed=1))
    true = score_limit(plan, score_shares(results, (1, 10)), (1, 10), n=100_000).reliability
    assert found.lowest < true < found.agreed
    assert (found.agreed - true > 0.1) == (halo > 0)


def test_a_mood_widens_the_interval_of_an_effect_and_no_mood_does_not():
    sure, unsure = allowing_for_mood(0.9, 0.01, 0.0, 1.3), allowing_for_mood(0.9, 0.01, 0.1, 1.3)
    assert sure == Reliability(0.9, 0.01, lowest=0.9, agreed=0.9)
    assert unsure.lowest == pytest.approx(0.77) and unsure.value == pytest.approx(0.835)
    rows = [effect_row("rate", 0.1, 0.03, 18.0, reliability, 0.0) for reliability in (sure, unsure)]
    widths = [row["true_high"] - row["true_low"] for row in rows]
    assert widths[1] > widths[0] and rows[1]["true"] > rows[0]["true"]
    assert allowing_for_mood(0.3, 0.01, 0.5, 1.3).lowest == 0.05
