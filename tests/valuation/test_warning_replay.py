"""The replayed early warning: nothing is known too early, the promise holds, and it bends to customers who buy in bursts."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.valuation.early_warning import BROKE, IN_RHYTHM, early_warning, purchase_gaps
from analysis.valuation.warning_replay import count_returns, replay_days, replay_warnings

START, DAYS, WEEKS = dt.date(2022, 1, 3), 546, 13
END = START + dt.timedelta(days=DAYS - 1)
CLOCK = {"observed_from": START, "observed_to": END}
SAVED = {"saved": 0.2, "top_share": 1.0}


def steady(rng, rate):
    """Days of purchases of somebody who buys in a steady rhythm, as in the story of the early warning."""
    return np.cumsum(rng.gamma(1.5, 1 / (1.5 * rate), int(60 + 4 * DAYS * rate)))


def bursty(rng, rate):
    """The same of somebody whose purchases come in bursts, with long pauses of their own between them."""
    gaps = rng.exponential(0.6 / rate, int(60 + 4 * DAYS * rate))
    pauses = rng.random(len(gaps)) < 0.08
    return np.cumsum(np.where(pauses, gaps + rng.lognormal(np.log(5 / rate), 0.3, len(gaps)), gaps))


def base(buys, customers=400, seed=1, leave=0.25):
    """Order lines of a base, and who was still there at the end."""
    rng, rows, there = np.random.default_rng(seed), [], {}
    for i in range(customers):
        first, rate = rng.integers(0, 120), max(rng.gamma(6.0) / 60.0, 0.03)
        left = rng.uniform(150, DAYS) if rng.random() < leave else np.inf
        days = np.floor(first + buys(rng, rate))
        there[f"{i:04d}"] = left >= DAYS
        rows += [(f"{i:04d}", int(day)) for day in np.unique(days[(days < DAYS) & (days < left)])]
    frame = pd.DataFrame(rows, columns=["customer_id", "day"])
    return frame, pd.Series(there)


def as_lines(frame):
    lines = ibis.memtable(frame.assign(net_amount=10.0))
    return lines.mutate(order_date=ibis.literal(START) + lines.day.as_interval("D")).mutate(
        order_date=ibis._.order_date.cast("date")
    )


def replayed(frame, **options):
    return replay_warnings(as_lines(frame), **CLOCK, **{"weeks": WEEKS, "top_share": 1.0} | options)


def warned(frame, replay=None):
    gaps = purchase_gaps(as_lines(frame), END)
    return early_warning(gaps, gaps[["customer_id"]].assign(value_in_rhythm=100.0), END, replay=replay, **SAVED)


@pytest.fixture(scope="module")
def story():
    frame, there = base(steady)
    return frame, there, replayed(frame)


@pytest.fixture(scope="module")
def bursts():
    frame, there = base(bursty, seed=2)
    return frame, there, replayed(frame)


def parts(replay, late):
    frame = replay.frame
    listed = frame["stage"] != IN_RHYTHM
    return {"late": count_returns(frame[listed & frame[late]]), "in_time": count_returns(frame[listed & ~frame[late]])}


def listed(found, there):
    frame = found.frame[found.frame["stage"] != IN_RHYTHM]
    return frame, frame["customer_id"].map(there)


def test_the_days_leave_half_of_what_was_observed():
    assert replay_days(START, END, 13) == [END - dt.timedelta(weeks=13 * k) for k in (1, 2, 3)]
    assert len(replay_days(START, END, 4)) == 4 and len(replay_days(START, END, 26)) == 1
    assert replay_days(START, END, 40) == []


def test_a_steady_base_is_hardly_corrected_and_the_promise_holds(story):
    frame, there, replay = story
    before, after = warned(frame), warned(frame, replay)
    change = after.frame["probability_alive"] - after.frame["probability_by_habit"]
    assert change.min() >= 0.0 and change.mean() < 0.05
    assert 0.8 * before.frame["late"].sum() <= after.frame["late"].sum() <= before.frame["late"].sum()
    assert after.value_at_risk.value == pytest.approx(before.value_at_risk.value, rel=0.15)
    for part in parts(replay, "says_late").values():
        assert part["low"] <= part["says"]
    late = after.frame[after.frame["late"]]
    still = late["customer_id"].map(there).mean()
    assert len(late) > 30 and still < late["probability_alive"].mean() + 4 * np.sqrt(0.25 / len(late))


def test_bursts_break_the_promise_of_habit_and_the_correction_keeps_it(bursts):
    frame, there, replay = bursts
    by_habit, corrected = parts(replay, "late"), parts(replay, "says_late")
    # of those whom habit alone called late far more bought again than it said could be there
    assert by_habit["late"]["customers"] > 50 and by_habit["late"]["low"] > 1.5 * by_habit["late"]["said"]
    for part in corrected.values():
        assert part["customers"] == 0 or part["low"] <= part["says"]
    before, after = warned(frame), warned(frame, replay)
    assert after.frame["late"].sum() < before.frame["late"].sum()
    for found, holds in ((before, False), (after, True)):
        act_on, still = listed(found, there)
        wrong = still.mean() - act_on["probability_alive"].mean()
        assert (wrong < 2 * np.sqrt(0.25 / len(act_on))) == holds
    alarms, still = after.frame["stage"] == BROKE, after.frame["customer_id"].map(there)
    false = int((alarms & still).sum())
    assert before.expected_false.high < false <= after.expected_false.high + 4 * np.sqrt(false)


def test_all_that_follows_from_the_probability_is_corrected_with_it(bursts):
    frame, _, replay = bursts
    before = warned(frame).frame.set_index("customer_id")
    after = warned(frame, replay).frame.set_index("customer_id").loc[before.index]
    assert (after["probability_by_habit"] == before["probability_alive"]).all()
    assert (after["probability_alive"] >= before["probability_alive"]).all()
    assert (after["late"] == (after["probability_alive"] < 0.5)).all() and not (after["late"] & ~before["late"]).any()
    assert (after["act_by"] >= before["act_by"]).all() and (after.loc[after["late"], "most_to_spend"] == 0).all()
    # those who come back buy less than before: no more money is safe than they are there
    assert (after["value_now"] <= 100.0 * after["probability_alive"] + 1e-9).all()
    kept = replay.learned.kept(1.0 - after["overdue_probability"])
    assert after["value_now"].to_numpy() == pytest.approx(100.0 * np.minimum(kept, after["probability_alive"]))


def test_a_model_that_writes_off_those_who_come_back_is_corrected(bursts):
    frame, _, replay = bursts
    gaps = purchase_gaps(as_lines(frame), END)
    values = gaps[["customer_id"]].assign(value_in_rhythm=100.0, value_now=30.0)
    without = early_warning(gaps, values, END, **SAVED).frame
    found = early_warning(gaps, values, END, replay=replay, **SAVED).frame
    kept = np.minimum(replay.learned.kept(1.0 - found["overdue_probability"]), found["probability_alive"])
    assert (without["value_now"] == 30.0).all()
    assert found["value_now"].to_numpy() == pytest.approx(np.maximum(30.0, 100.0 * kept))


def test_nothing_is_known_before_it_happened(bursts):
    frame, _, replay = bursts
    known = ["customer_id", "cut", "p", "stage", "late", "said", "expected"]
    last = (replay.cuts[0] - START).days
    silent = replayed(frame[frame["day"] <= last])
    assert silent.frame[known].equals(replay.frame[known])
    assert not silent.frame.loc[silent.frame["cut"] == replay.cuts[0], "returned"].any()
    before = (replay.frame["cut"] != replay.cuts[0]).to_numpy()
    assert silent.frame.loc[before, "returned"].equals(replay.frame.loc[before, "returned"])
    earlier = replayed(frame[frame["day"] <= (replay.cuts[1] - START).days])
    rows = (replay.frame["cut"] == replay.cuts[1]).to_numpy()
    assert (
        earlier.frame.loc[(earlier.frame["cut"] == replay.cuts[1]), known]
        .reset_index(drop=True)
        .equals(replay.frame.loc[rows, known].reset_index(drop=True))
    )


def test_returns_and_purchases_are_counted_in_the_weeks_after(story):
    frame, _, replay = story
    for cut, rows in replay.frame.groupby("cut"):
        first = (cut - START).days
        after = frame[(frame["day"] > first) & (frame["day"] <= first + 7 * WEEKS)].groupby("customer_id").size()
        bought = rows["customer_id"].map(after).fillna(0)
        assert (rows["bought"] == bought).all() and (rows["returned"] == (bought > 0)).all()
        since = frame[frame["day"] > first]["customer_id"].unique()
        assert (rows["returned_since"] == rows["customer_id"].isin(since)).all()
    undisturbed = replay.frame[replay.frame["p"] > 0.5]
    assert undisturbed["bought"].sum() / undisturbed["expected"].sum() == pytest.approx(1.0, abs=0.1)


def test_the_same_lines_in_any_order_give_the_same(story):
    frame, _, replay = story
    again = replayed(frame.sample(frac=1.0, random_state=3))
    assert again.frame.equals(replay.frame)


def test_where_nobody_came_back_the_list_stays_as_it_is():
    frame, _ = base(steady, customers=200)
    # the shop closed half way
    seen = frame[frame["day"] < DAYS // 2]
    replay = replayed(seen, weeks=39)
    assert len(replay.cuts) == 1 and replay.learned is None and not replay.frame["returned"].any()
    assert warned(seen, replay).frame.equals(warned(seen).frame)


def test_too_short_a_history_and_too_few_customers_are_one_sentence():
    frame, _ = base(steady, customers=60)
    with pytest.raises(ValueError, match="40 weeks before the end less than half of the 546 observed days"):
        replayed(frame, weeks=40)
    with pytest.raises(ValueError, match="13 weeks before the end .* customers with a rhythm are too few"):
        replayed(frame[frame["customer_id"] < "0020"])
