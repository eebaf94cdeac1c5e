"""High potential: honest splits, no look into the future, planted potential found, ties and impossible cases said."""

from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.segmentation.early import early_behaviour, person_attributes
from analysis.segmentation.high_potential import (
    METHODS,
    MODEL,
    RFM,
    SPEND,
    _inputs,
    _learn,
    _sides,
    _winner,
    _with_attributes,
    find_high_potential,
    high_potential_or_reason,
    plan_split,
    rfm_product,
    top_threshold,
)
from analysis.segmentation.judging import Lifts
from analysis.valuation.rfm import score

START = date(2022, 1, 1)
END = START + timedelta(days=799)


def company(n=3000, seed=1, days=700, planted=1.2, repeats=True):
    """Purchases at each customer's own rate; after two months that of members is multiplied by exp(planted)."""
    rng = np.random.default_rng(seed)
    entry = rng.integers(0, days, n)
    member = rng.random(n) < 0.3
    rate = rng.gamma(1.0, 1 / 60, n)
    mean = rng.gamma(4.0, 10.0, n)
    owner, day = [np.arange(n)], [entry]
    for who in range(n if repeats else 0):
        for start, stop, factor in ((0, 60, 1.0), (60, 800, np.exp(planted * member[who]))):
            count = rng.poisson(rate[who] * factor * (stop - start))
            owner.append(np.full(count, who))
            day.append(entry[who] + start + 1 + rng.integers(0, stop - start, count))
    owner, day = np.concatenate(owner), np.concatenate(day)
    amount = np.maximum(rng.gamma(4.0, mean[owner] / 4), 0.01).round(2)
    orders = pd.DataFrame({"owner": owner, "day": day, "net_amount": amount})[day < 800]
    people = pd.DataFrame({"customer_id": [f"c{i:05d}" for i in range(n)], "member": np.where(member, "yes", "no")})
    return orders, people


def lines(orders):
    days = (pd.Timestamp(START) + pd.to_timedelta(orders["day"], unit="D")).dt.date
    made = pa.table(
        {
            "order_id": [f"o{i}" for i in range(len(orders))],
            "customer_id": [f"c{i:05d}" for i in orders["owner"]],
            "order_date": pa.array(days.tolist(), pa.date32()),
            "net_amount": pa.array(orders["net_amount"].round(2)).cast(pa.decimal128(18, 4), safe=False),
            "is_return": [False] * len(orders),
        }
    )
    return ibis.memtable(made)


@pytest.fixture(scope="module")
def found():
    orders, people = company()
    return find_high_potential(lines(orders), END, customers=people, ages=(60,), replications=200)


def test_a_strict_split_knows_nothing_of_the_future():
    rng = np.random.default_rng(1)
    came = pd.Series(pd.Timestamp(START) + pd.to_timedelta(rng.integers(0, 730, 5000), unit="D"))
    end = START + timedelta(days=729)
    split = plan_split(came, end)
    assert split.strict and split.horizon == 182 and split.learn > 900 and split.ages == (30, 60, 90)
    # the last outcome that is learnt from ends on the day on which the first tested customer has lived the age
    assert split.learn_until + timedelta(days=182) <= split.test_from
    assert split.test_until + timedelta(days=90 + 182 - 1) <= end
    assert split.learn == (came <= pd.Timestamp(split.learn_until)).sum()
    tested = (came >= pd.Timestamp(split.test_from)) & (came <= pd.Timestamp(split.test_until))
    assert split.test == tested.sum()
    asked = plan_split(came, end, horizon=365)
    assert (asked.strict, asked.horizon) == (False, 365)
    many = plan_split(pd.concat([came] * 4), end)
    assert (many.strict, many.horizon) == (True, 273)  # enough customers for a longer one


def test_customers_of_one_quarter_are_split_by_day_of_entry():
    rng = np.random.default_rng(1)
    came = pd.Series(pd.Timestamp(START) + pd.to_timedelta(rng.integers(0, 84, 2000), unit="D"))
    split = plan_split(came, START + timedelta(days=545))
    assert (split.strict, split.horizon) == (False, 365)
    assert split.learn_until < split.test_from and split.learn + split.test == 2000
    assert split.learn / 2000 == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    ("days", "n", "message"),
    [
        (range(84), 250, "250 customers were seen for 90 . 91 days"),
        ([5], 2000, "too few days"),
        ([520], 2000, "0 customers were seen"),
    ],
)
def test_splits_that_cannot_be_made_say_why(days, n, message):
    came = pd.Series(pd.Timestamp(START) + pd.to_timedelta(np.resize(list(days), n), unit="D"))
    with pytest.raises(ValueError, match=message):
        plan_split(came, START + timedelta(days=545))


@pytest.mark.parametrize(
    ("outcome", "threshold"),
    [
        ([0] * 8 + [5, 9], 5),
        ([0] * 9 + [7], 7),
        ([0] * 5 + [3] * 5, 3),  # half are the nearest to a fifth that can be told apart
        ([-1, 0, 1, 2, 3, 4, 5, 6, 7, 8], 7),
        ([1] * 6 + [2] * 3 + [3], 3),  # 10 % and 40 %: the nearer
    ],
)
def test_the_best_are_cut_between_different_values(outcome, threshold):
    assert top_threshold(np.array(outcome, dtype=float)) == threshold


def test_nobody_stands_out():
    with pytest.raises(ValueError, match="nobody bought again"):
        top_threshold(np.zeros(10))
    with pytest.raises(ValueError, match="brought the same"):
        top_threshold(np.ones(10))


def test_the_rfm_product_is_that_of_the_scores():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "days_since_last": rng.integers(0, 60, 300),
            "purchase_days": rng.integers(1, 5, 300),
            "spend": rng.gamma(2, 20, 300),
        }
    )
    by_hand = score(frame["days_since_last"], best_is_low=True) * score(frame["purchase_days"]) * score(frame["spend"])
    np.testing.assert_array_equal(rfm_product(frame), by_hand)
    np.testing.assert_array_equal(rfm_product(frame.iloc[:7], frame), by_hand[:7])


def test_planted_potential_is_found(found):
    at = found.by_age[60]
    assert found.split.strict and at.winner == MODEL
    assert at.against(RFM)[1] == "better" and at.against(SPEND)[1] == "better"
    lift = at.lift(MODEL)
    assert 1.5 < lift.low < lift.value < lift.high < 5.1
    assert at.auc_gain.low > 0
    assert at.top_share == pytest.approx(0.2, abs=0.01)
    assert "member" in at.model.columns_
    assert at.calibration.error.value < 0.08
    assert set(at.aucs["method"]) == set(METHODS)


def test_the_young_are_those_whose_outcome_is_not_over(found):
    young, split = found.young, found.split
    assert young["days_seen"].between(60, 60 + split.horizon - 1).all() and len(young) > 100
    assert young["probability"].is_monotonic_decreasing and young["probability"].between(0, 1).all()
    assert young["future_top"].sum() == pytest.approx(young["probability"].sum(), abs=1)
    assert young["rank"].iloc[0] == 1 and not young["customer_id"].duplicated().any()
    # a fifth of customers are the best, so about a fifth of the young are expected to be
    assert young["probability"].mean() == pytest.approx(0.2, abs=0.07)


def test_scores_come_from_the_first_days_alone(found):
    orders, people = company()
    entry = orders.groupby("owner")["day"].transform("min")
    later = orders["day"] - entry >= 60
    learn_until = (found.split.learn_until - START).days
    changed = orders.copy()
    # what tested and young customers did afterwards is turned upside down
    changed.loc[later & (entry > learn_until), "net_amount"] = 1000 - orders["net_amount"]
    attributes = person_attributes(people)
    tests, scores = [], []
    for version in (orders, changed):
        frame = early_behaviour(lines(version), END, 60, found.split.horizon, measure="sales")
        test = _sides(_with_attributes(frame, attributes, months=False), found.split)[1]
        tests.append(test)
        scores.append(found.by_age[60].model.decision_function(_inputs(test)))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(tests[0]["outcome"], tests[1]["outcome"])


def test_what_comes_after_learning_does_not_change_the_model(found):
    orders, people = company()
    entry = orders.groupby("owner")["day"].transform("min")
    first_scored = (found.split.test_from - START).days + 60 - 1
    changed = orders.copy()
    after = changed["day"] > first_scored
    changed.loc[after, "net_amount"] = changed.loc[after, "net_amount"] * 7
    frame = early_behaviour(lines(changed), END, 60, found.split.horizon, measure="sales")
    learn = _sides(_with_attributes(frame, person_attributes(people), months=False), found.split)[0]
    again, _ = _learn(learn, found.top, seed=1)
    assert (after & (entry <= (found.split.learn_until - START).days)).any()
    pd.testing.assert_frame_equal(again.contest_, found.by_age[60].model.contest_)
    np.testing.assert_array_equal(
        again.predict_proba(_inputs(learn)), found.by_age[60].model.predict_proba(_inputs(learn))
    )


def test_a_tie_goes_to_the_simplest():
    orders, people = company(n=1200, seed=5, planted=0.0)
    made = find_high_potential(lines(orders), END, customers=people, ages=(60,), replications=200)
    at = made.by_age[60]
    assert at.against(SPEND)[1] != "better" and at.winner == SPEND
    # the list then goes by what the young spent
    same_age = made.young.sort_values("early_spend", ascending=False)["probability"]
    assert same_age.is_monotonic_decreasing


def test_what_cannot_be_told_has_a_reason():
    orders, people = company(n=700, repeats=False)
    made, why = high_potential_or_reason(lines(orders), END, customers=people, ages=(30,))
    assert made is None and why == "nobody bought again in the time that counts, so nobody is among the best"
    made, why = high_potential_or_reason(lines(orders), END, entry="left_truncated")
    assert made is None and "existed before the first observed day" in why
    made, why = high_potential_or_reason(lines(orders.iloc[:0]), END)
    assert made is None and why.startswith("0 customers were seen")
    made, why = high_potential_or_reason(lines(orders.iloc[:1]), END)
    assert made is None and "customers were seen" in why
    with pytest.raises(ValueError, match="top"):
        find_high_potential(lines(orders), END, top=1.0)


def test_a_few_big_buyers_are_too_few_to_learn_from():
    orders, _ = company(n=700, repeats=False)
    extra = orders.iloc[:5].assign(day=lambda o: o["day"] + 100)
    made, why = high_potential_or_reason(lines(pd.concat([orders, extra[extra["day"] < 800]])), END, ages=(30,))
    assert made is None and ("are too few to" in why or "nobody bought again" in why)


def test_the_winner_is_beaten_by_nobody():
    pairs = pd.DataFrame({"method": [MODEL, MODEL, RFM], "against": [RFM, SPEND, SPEND]})

    def winner(*verdicts):
        return _winner(Lifts(None, None, pairs.assign(verdict=verdicts)))

    assert winner("tie", "better", "tie") == RFM  # spend ties with RFM but not with the model
    assert winner("better", "better", "tie") == MODEL
    assert winner("better", "tie", "tie") == SPEND
    assert winner("worse", "tie", "better") == RFM
