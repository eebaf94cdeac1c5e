"""What a mood that colours all answers leaves unknown of the reliability of the score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import PLSPathModel, Reliability, score_reliability, specification_of
from analysis.loyalty.link import allowing_for_mood, effect_row
from analysis.scorecard.link import score_limit, score_shares
from analysis.simulate import satisfaction

BLOCKS = ("Image", "Expectation", "Quality", "Value", "Satisfaction", "Complaints", "Loyalty")


def test_the_range_goes_from_agreement_to_the_weakest_pair_of_questions(mobi, fitted, drawn):
    found = score_reliability(fitted, drawn)
    weights = fitted.weights.xs("Satisfaction", level="construct")
    own = fitted.model.answers[list(weights.index)]
    assert found.agreed == pytest.approx(fitted.reliability.loc["Satisfaction", "rho_a"])
    pairs = [abs(mobi[a].corr(mobi[b])) for s, a in fitted.weights.index for t, b in fitted.weights.index if s != t]
    gain = weights.sum() ** 2 / (weights @ own.corr() @ weights)
    assert found.lowest == pytest.approx(found.agreed - min(pairs) * gain)
    assert found.value == pytest.approx((found.agreed + found.lowest) / 2)
    error = drawn.values["reliability"][:, list(fitted.specification.constructs).index("Satisfaction"), 1].std(ddof=1)
    assert found.error == pytest.approx(np.hypot(error, (found.agreed - found.lowest) / np.sqrt(12)))


def test_a_question_on_something_else_closes_the_range(fitted, drawn):
    rng = np.random.default_rng(1)
    answers = fitted.model.answers
    unrelated = pd.DataFrame({"weather": rng.standard_normal(len(answers))}, index=answers.index)
    wide, close = (score_reliability(fitted, drawn, others=others) for others in (None, unrelated))
    assert close.lowest > wide.lowest and close.agreed == wide.agreed and close.error < wide.error


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
