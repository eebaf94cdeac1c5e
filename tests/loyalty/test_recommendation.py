"""Net promoter score, real referrals, and what they are worth."""

import datetime

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

from analysis.errors import RapportError
from analysis.loyalty import (
    EstimationError,
    last_change,
    net_promoter_score,
    nps_change,
    nps_groups,
    nps_interval,
    referral_contrast,
    referral_gap,
    referral_rates,
    referral_value,
    referral_worth,
    referral_worth_range,
    referrals,
    saved_acquisition_cost,
    survey_means,
)
from analysis.loyalty.recommendation import rate_limits
from analysis.valuation.concentration import Estimate

REPLICATIONS = 200
NAMES = np.array(["promoter", "passive", "detractor"])
DAY = datetime.date


def covered(hits: list[bool], confidence: float = 0.95) -> bool:
    """Whether the share of hits lies within four Monte-Carlo errors of the confidence, or above it."""
    return np.mean(hits) > confidence - 4 * np.sqrt(confidence * (1 - confidence) / len(hits))


# -- the score ------------------------------------------------------------------------------------------------


def test_groups_on_their_own_scale():
    groups = nps_groups(pd.Series([0, 6, 7, 8, 9, 10, -99]), [-99])
    assert groups.tolist()[:6] == ["detractor"] * 2 + ["passive"] * 2 + ["promoter"] * 2
    assert groups.isna().tolist() == [False] * 6 + [True]
    with pytest.raises(EstimationError, match="outside the scale 0 to 10"):
        nps_groups(pd.Series([11, 3]))


def test_groups_on_other_scales():
    assert nps_groups(pd.Series([1, 6, 7, 8, 9, 10]), scale=(1, 10)).tolist() == (
        ["detractor"] * 2 + ["passive"] * 2 + ["promoter"] * 2
    )
    assert nps_groups(pd.Series([3, 4, 5]), scale=(1, 5)).tolist() == ["detractor", "passive", "promoter"]


@pytest.mark.parametrize(("up", "down", "n"), [(1, 7, 21), (40, 20, 160), (9, 1, 12)])
def test_limits_invert_the_score_test(up, down, n):
    """At a limit the score is 1.96 errors off, the error taken where the likelihood is largest under that score."""
    for limit in nps_interval(up / n, down / n, n):
        x = limit / 100

        def minus_likelihood(q, x=x):
            return -(up * np.log(q + x) + down * np.log(q) + (n - up - down) * np.log(1 - 2 * q - x))

        inside = (max(0, -x) + 1e-9, (1 - x) / 2 - 1e-9)
        q = minimize_scalar(minus_likelihood, bounds=inside, options={"xatol": 1e-10}).x
        error = np.sqrt((2 * q + x - x**2) / n)
        assert abs((up - down) / n - x) / error == pytest.approx(1.959964, rel=1e-4)


def test_limits_mirror_and_stay_on_the_scale():
    low, high = nps_interval(0.5, 0.2, 40)
    assert (-high, -low) == pytest.approx(nps_interval(0.2, 0.5, 40))
    low, high = nps_interval(1.0, 0.0, 12)
    assert high == 100 and 40 < low < 70
    assert nps_interval(0.0, 0.0, 12)[0] < 0 < nps_interval(0.0, 0.0, 12)[1]


def test_the_variance_is_that_of_the_difference_of_two_shares():
    groups = pd.Series(np.repeat(NAMES, [50, 30, 20]))
    score = net_promoter_score(groups).iloc[0]
    assert (score["score"], score["effective"], score["answers"]) == (pytest.approx(30), pytest.approx(100), 100)
    found = survey_means(groups.map({"promoter": 1.0, "passive": 0.0, "detractor": -1.0}))
    assert found.covariance[0, 0] == pytest.approx((0.5 + 0.2 - 0.3**2) / 99)


@pytest.mark.parametrize(("shares", "n"), [((0.5, 0.3, 0.2), 20), ((0.9, 0.08, 0.02), 20), ((0.3, 0.4, 0.3), 60)])
def test_limits_cover_with_few_answers(shares, n):
    rng = np.random.default_rng(1)
    counts = rng.multinomial(n, shares, REPLICATIONS)
    truth = 100 * (shares[0] - shares[2])
    limits = [nps_interval(p / n, d / n, n) for p, _, d in counts]
    assert covered([low <= truth <= high for low, high in limits])


def test_weights_and_repeated_answers_lower_the_effective_number():
    """Every customer answers twice, mostly alike, with weights: the limits must hold for customers, not answers."""
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(REPLICATIONS // 2):
        first = rng.choice(NAMES, 60, p=[0.5, 0.3, 0.2])
        second = np.where(rng.random(60) < 0.8, first, rng.choice(NAMES, 60, p=[0.5, 0.3, 0.2]))
        weights = pd.Series(np.tile(rng.choice([0.5, 2.0], 60), 2))
        answers, customers = pd.Series(np.concatenate([first, second])), pd.Series(np.tile(np.arange(60), 2))
        row = net_promoter_score(answers, weights=weights, customers=customers).iloc[0]
        hits.append(row["low"] <= 30 <= row["high"])
        assert row["effective"] < 100
    assert covered(hits)


def test_weights_of_one_do_nothing_and_zero_ones_drop_out():
    groups = pd.Series(np.repeat(NAMES, [20, 20, 10]))
    plain = net_promoter_score(groups)
    pd.testing.assert_frame_equal(plain, net_promoter_score(groups, weights=pd.Series(3.0, groups.index)))
    more = pd.concat([groups, pd.Series(["detractor"] * 9)], ignore_index=True)
    zero = net_promoter_score(more, weights=pd.Series([1.0] * 50 + [0.0] * 9)).iloc[0]
    assert (zero["score"], zero["customers"]) == (pytest.approx(20), 50)
    with pytest.raises(EstimationError, match="not all zero"):
        net_promoter_score(groups, weights=pd.Series(0.0, groups.index))


def test_small_groups_are_hidden_and_no_total_tells_them():
    groups = pd.Series(["promoter"] * 60)
    by = pd.Series(["a"] * 30 + ["b"] * 15 + ["c"] * 11 + ["d"] * 4)
    table = net_promoter_score(groups, by=by).set_index("group")
    assert list(table.index[table["score"].notna()]) == ["all", "a", "b"]
    assert table.loc[["c", "d"], "reason"].tolist() == ["too few customers to show"] * 2
    assert table.loc["all", "low"] > 80 and table.loc["all", "high"] == 100


def test_nobody_and_one():
    assert net_promoter_score(pd.Series([None, None], dtype="str")).iloc[0]["reason"].startswith("nobody")
    alone = net_promoter_score(pd.Series(["promoter"])).iloc[0]
    assert np.isnan(alone["score"]) and alone["reason"]


def test_a_change_honours_those_who_answered_both():
    """Customers who give nearly the same answer twice make the change surer than two samples would."""
    rng = np.random.default_rng(3)
    hits, together, apart = [], [], []
    waves = pd.Series(["1"] * 80 + ["2"] * 80)
    for k in range(REPLICATIONS // 4):
        first = rng.choice(NAMES, 80, p=[0.4, 0.4, 0.2])
        second = np.where(rng.random(80) < 0.7, first, rng.choice(NAMES, 80, p=[0.6, 0.3, 0.1]))
        groups = pd.Series(np.concatenate([first, second]))
        row = nps_change(groups, waves, customers=pd.Series(np.tile(np.arange(80), 2))).iloc[0]
        hits.append(row["low"] <= 0.3 * (50 - 20) <= row["high"])
        together.append(row["high"] - row["low"])
        if k < 10:
            other = nps_change(groups, waves).iloc[0]
            apart.append(other["high"] - other["low"])
        assert row["both"] == 80 and row["within"] == pytest.approx(row["change"])
    assert covered(hits) and np.mean(together) < 0.8 * np.mean(apart)


def test_one_wave_has_no_change():
    changes = nps_change(pd.Series(["promoter"] * 20), pd.Series(["1"] * 20))
    assert changes.empty and last_change(changes) == {"value": None, "reason": "the survey was held once"}
    few = nps_change(pd.Series(["promoter"] * 20), pd.Series(["1"] * 15 + ["2"] * 5))
    assert last_change(few)["value"] is None


# -- referrals ------------------------------------------------------------------------------------------------


@pytest.fixture
def people() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": ["a", "b", "c", "d", "e"],
            "referred_by": [None, "a", "a", "d", "gone"],
            "acquired_on": [DAY(2023, 1, 1), DAY(2023, 6, 1), DAY(2024, 3, 1), DAY(2023, 1, 1), DAY(2023, 5, 1)],
        }
    )


def test_only_known_others_are_referrers(people):
    found = referrals(people)
    assert found[["customer_id", "referrer"]].to_numpy().tolist() == [["b", "a"], ["c", "a"]]
    with pytest.raises(RapportError, match="no column referred_by"):
        referrals(people.drop(columns="referred_by"))


def test_before_and_after_the_answer(people):
    answers = pd.DataFrame(
        {
            "customer_id": ["a", "a", "d", None],
            "responded_on": [DAY(2024, 1, 1), DAY(2024, 4, 1), DAY(2024, 1, 1), DAY(2024, 1, 1)],
            "nps_group": ["promoter", "passive", "detractor", "promoter"],
        }
    )
    table = referral_rates(answers, referrals(people), people, DAY(2024, 12, 31), small_group=1)
    table = table.set_index(["period", "group"])
    counts = {("before", "all"): 1, ("before", "promoter"): 1, ("before", "detractor"): 0,
              ("after", "all"): 1, ("after", "promoter"): 1, ("after", "passive"): 0, ("after", "detractor"): 0}  # fmt: skip
    assert table["referrals"].dropna().to_dict() == counts
    assert table.loc[("before", "passive"), "reason"]
    days = table["years"] * 365.25
    assert days[("before", "all")] == pytest.approx(2 * 365) and days[("after", "all")] == pytest.approx(2 * 365)
    assert days[("after", "promoter")] == pytest.approx(91), "until the next answer"
    assert table.loc[("after", "detractor"), "low"] == 0 < table.loc[("after", "detractor"), "high"]


def test_rates_cover_and_money_too():
    """Weighted customers, of whom some bring several, each worth a random amount."""
    rng = np.random.default_rng(4)
    n, rate, worth = 150, 0.3, 50.0
    hits, money = [], []
    for _ in range(REPLICATIONS):
        weight, years = rng.choice([0.5, 1.5], n), rng.uniform(0.2, 1.5, n)
        count = rng.poisson(rate * years * rng.gamma(2, 0.5, n))
        owner = np.repeat(np.arange(n), count)
        amount = rng.gamma(1.5, worth / 1.5, len(owner))
        behind = (years, weight, np.arange(n))
        _, low, high = rate_limits(count, count, *behind)
        hits.append(low <= rate <= high)
        sums = (np.bincount(owner, values, n) for values in (amount, amount**2))
        _, low, high = rate_limits(*sums, *behind, (amount.mean(), (amount**2).mean()))
        money.append(low <= rate * worth <= high)
    assert covered(hits) and covered(money)


def test_promoters_bring_more_than_detractors():
    rng = np.random.default_rng(4)
    groups = np.repeat(["promoter", "detractor"], 400)
    ids = np.char.add("r", np.arange(800).astype(str))
    count = rng.poisson(np.repeat([0.3, 0.1], 400))
    brought = pd.DataFrame({"referrer": np.repeat(ids, count), "came_on": pd.Timestamp("2024-06-01")})
    brought["customer_id"] = "n" + brought.index.astype(str)
    known = pd.DataFrame({"customer_id": ids, "acquired_on": DAY(2023, 1, 1)})
    answers = pd.DataFrame({"customer_id": ids, "responded_on": DAY(2024, 1, 1), "nps_group": groups})
    worth = pd.Series(40.0, index=brought["customer_id"])
    table = referral_rates(answers, brought, known, DAY(2024, 12, 31), worth=worth)
    found = referral_contrast(table)
    error = np.sqrt((0.3 + 0.1) / 400)
    assert found["value"] == pytest.approx(0.2, abs=4 * error)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(1.96 * error, rel=0.2)
    after = table[table["period"] == "after"]
    np.testing.assert_allclose(after["worth_rate"].dropna(), 40 * after["rate"].dropna())
    assert after.set_index("group").loc["passive", "reason"]
    assert referral_contrast(table, second="passive")["value"] is None


def test_equal_poisson_limits_are_exact():
    """Without weights or repeated referrers the limits are Garwood's: 5 events in 5 years give 0.3247 to 2.3337."""
    ids = [f"c{k}" for k in range(365)]
    known = pd.DataFrame({"customer_id": ids, "acquired_on": DAY(2023, 1, 1)})
    answers = pd.DataFrame({"customer_id": ids, "responded_on": DAY(2024, 1, 1), "nps_group": "promoter"})
    brought = pd.DataFrame({"referrer": ids[:5], "customer_id": list("vwxyz"), "came_on": pd.Timestamp("2024-01-03")})
    row = referral_rates(answers, brought, known, DAY(2024, 1, 6)).query("period == 'after' and group == 'all'").iloc[0]
    assert row["years"] == pytest.approx(1825 / 365.25)
    np.testing.assert_allclose([row["low"] * row["years"], row["high"] * row["years"]], [1.6235, 11.6683], atol=2e-2)


def test_worth_of_a_referral_by_hand(people):
    brought = referrals(people)
    value = pd.DataFrame({"customer_id": ["b", "a"], "clv": [100.0, 999.0]})
    worth = referral_worth(brought, value, 20.0, 0.3)
    assert worth.to_dict() == {"b": pytest.approx(90.0), "c": 20.0}, "no value known: the saved cost alone"
    own = referral_value(pd.Series(["a", "d", None, "a"]), brought, worth)
    assert own.tolist()[:2] == [pytest.approx(110.0), 0.0] and np.isnan(own[2]) and own[3] == own[0]
    with pytest.raises(RapportError, match="write 0.3 for 30 %"):
        referral_worth(brought, value, 0.0, 30)


def test_worth_falls_with_those_who_would_have_come_anyway():
    rng = np.random.default_rng(5)
    brought = pd.DataFrame({"customer_id": range(200), "referrer": rng.integers(0, 120, 200)})
    value = pd.DataFrame({"customer_id": range(200), "clv": rng.gamma(2, 50, 200)})
    table = referral_worth_range(brought, value, Estimate(10.0, 8.0, 12.0), (0.1, 0.3, 0.5))
    assert table["worth"].is_monotonic_decreasing and (table["low"] < table["worth"]).all()
    np.testing.assert_allclose(table["worth"], table["customer_value"] + table["saved"])
    sure = referral_worth_range(brought, value, Estimate(10.0), (0.3,)).iloc[0]
    assert sure["high"] - sure["low"] < table.loc[1, "high"] - table.loc[1, "low"]
    few = referral_worth_range(brought.head(3), value, Estimate(10.0), (0.3,)).iloc[0]
    assert np.isnan(few["worth"]) and few["reason"]


def test_saved_cost_by_hand():
    """Two months; ads cost 30 and shops 10 a customer, as many of each; referred ones cost 5."""
    channels = ["ads"] * 10 + ["shop"] * 10 + ["friends"] * 4
    customers = pd.DataFrame({"acquisition_channel": channels * 2, "referred_by": ([None] * 20 + ["x"] * 4) * 2})
    customers["acquired_on"] = [DAY(2024, 1, 10)] * 24 + [DAY(2024, 2, 10)] * 24
    rows = [
        (m, c, "acquire", a) for m in ("2024-01", "2024-02") for c, a in (("ads", 300), ("shop", 100), ("friends", 20))
    ]
    costs = pd.DataFrame(rows, columns=["period", "channel", "purpose", "amount"])
    saved = saved_acquisition_cost(customers, costs, DAY(2024, 1, 1), DAY(2024, 2, 29))
    assert saved.value == pytest.approx(15) and saved.low == pytest.approx(15)
    none = saved_acquisition_cost(customers, None, DAY(2024, 1, 1), DAY(2024, 2, 29))
    assert none.value == 0 and "not on record" in none.reason


def test_reasons_why_referrals_are_not_told(people):
    answers = pd.DataFrame({"customer_id": ["a"]})
    assert referral_gap(people, answers) is None
    assert "who brought whom" in referral_gap(people.drop(columns="referred_by"), answers)
    assert "no customer numbers" in referral_gap(people, answers.drop(columns="customer_id"))
