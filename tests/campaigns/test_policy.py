"""The value of a policy on a randomised campaign, with the coverage of its interval."""

import numpy as np
import pytest

from analysis.campaigns.effects import EstimationError
from analysis.campaigns.policy import NOBODY, affordable, compare_policies, policy_shares, policy_value


def randomised(n, rng, effects=(2.0, -1.0)):
    """Doubly robust gains of two arms with known chances; the first works for x > 0 alone. Outcomes are skewed."""
    x = rng.normal(size=n)
    arm = rng.integers(0, 3, n)  # 0 is the control
    true = np.column_stack([effects[0] * (x > 0), effects[1] + 0.5 * x])
    base = 3 + x
    y = base + np.where(arm > 0, true[np.arange(n), np.maximum(arm, 1) - 1], 0) + rng.gamma(0.5, 4, n) - 2
    wrong = 0.5 * x  # a poor outcome model: only the known chances make the scores unbiased
    gamma = np.column_stack([wrong + 3 * (arm == j) * (y - wrong) for j in range(3)])
    return x, gamma[:, 1:] - gamma[:, :1], true


def test_value_is_the_mean_of_the_chosen_scores():
    gains = np.array([[1.0, 5.0], [2.0, -3.0], [4.0, 0.0]])
    found = policy_value(gains, [1, NOBODY, 0])
    assert found.effect == pytest.approx(3)
    assert found.se == pytest.approx(np.std([5, 0, 4], ddof=1) / np.sqrt(3))
    assert (found.n_treated, found.n_control) == (2, 1)
    paired = policy_value(gains, [1, NOBODY, 0], [0, 0, 0])
    assert paired.effect == pytest.approx(3 - 7 / 3)
    assert paired.se == pytest.approx(np.std([4, -2, 0], ddof=1) / np.sqrt(3))


def test_households_err_together():
    gains = np.repeat(np.random.default_rng(2).normal(size=300), 2)
    alone = policy_value(gains, np.zeros(600, int))
    together = policy_value(gains, np.zeros(600, int), clusters=np.repeat(np.arange(300), 2))
    assert together.se / alone.se == pytest.approx(np.sqrt(2), rel=0.01)


def test_coverage_of_value_and_advantage():
    hits, rounds = np.zeros(2), 200
    for seed in range(rounds):
        x, gains, _ = randomised(600, np.random.default_rng(seed))
        policy = np.where(x > 0, 0, NOBODY)
        low, high = policy_value(gains, policy).interval()
        hits[0] += low <= 1.0 <= high  # P(x > 0) × 2
        low, high = policy_value(gains, policy, np.ones(600, int)).interval()
        hits[1] += low <= 2.0 <= high
    assert (np.abs(hits / rounds - 0.95) < 4 * np.sqrt(0.95 * 0.05 / rounds)).all()


def test_what_does_nothing_is_seldom_recommended():
    policies = anything = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = compare_policies(rng.normal(0, 5, (300, 3)), rng.integers(-1, 3, 300), 0.0, ["a", "b", "c"])
        policies += found.kind == "policy"
        anything += found.kind != "nobody"
    assert policies / 200 < 0.025 + 4 * np.sqrt(0.025 * 0.975 / 200)
    assert anything / 200 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_what_is_recommended():
    x, gains, _ = randomised(20_000, np.random.default_rng(1), (6.0, -1.0))
    policy = np.where(x > 0, 0, NOBODY)
    rules = {"women": np.where(x > 1, 0, NOBODY)}
    found = compare_policies(gains - 1, policy, [1.0, 1.0], ["a", "b"], rules)
    assert (found.kind, found.recommended, found.best_uniform) == ("policy", "policy", "all: a")
    facts = found.facts()
    assert facts["over_uniform_low"] > 0
    assert facts["low"] < 2.5 < facts["high"]
    # The clever policy as good as the rule: the rule, since it is simple.
    same = compare_policies(gains - 1, policy, [1.0, 1.0], ["a", "b"], {"rule": policy})
    assert (same.kind, same.recommended) == ("rule", "rule")
    alike = compare_policies(gains + 10, policy, [1.0, 1.0], ["a", "b"], rules)
    assert (alike.kind, alike.recommended, alike.arm) == ("arm", "all: a", 0)
    nobody = compare_policies(gains - 20, policy, [1.0, 1.0], ["a", "b"], rules)
    assert (nobody.kind, nobody.arm) == ("nobody", NOBODY)
    assert nobody.facts()["value"] == 0
    # Arm a brings 3 on average, arm b −1: the lead of the best over the second is told with its interval.
    assert facts["runner_up"] == "all: b"
    assert facts["lead_low"] < 4 < facts["lead_high"]


def test_one_arm_has_no_random_deal_and_its_rows_are_exact():
    found = compare_policies([[1.0], [3.0]], [0, NOBODY], 1.0, ["mail"])
    assert set(found.table["policy"]) == {"policy", "nobody", "all: mail"}
    assert found.row("nobody")["value"] == 0
    assert found.row("policy")["advantage"] == 0
    assert found.row("all: mail")["value"] == 2


def test_rivals_spend_no_more_than_the_budget():
    cost = np.ones((10, 1))
    assert affordable(np.zeros(10, int), cost, 4).sum() == pytest.approx(4)
    assert affordable(np.zeros(10, int), cost, None).sum() == 10
    found = compare_policies(np.ones((10, 1)), np.r_[np.zeros(4, int), [NOBODY] * 6], 1.0, ["a"], budget=4)
    assert found.row("all: a")["value"] == pytest.approx(0.4)


def test_bad_policies_are_refused():
    with pytest.raises(ValueError, match="arm numbers"):
        policy_shares([2], 2)
    with pytest.raises(ValueError, match="at most 1"):
        policy_shares([[0.8, 0.8]], 2)
    with pytest.raises(ValueError, match="missing"):
        policy_value([[np.nan], [1.0]], [0, 0])
    with pytest.raises(EstimationError):
        policy_value([[1.0]], [0])
