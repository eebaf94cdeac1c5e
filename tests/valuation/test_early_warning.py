"""Early warning: gaps, rhythm and mixture recovered, false alarms as stated, the departed found, money as defined."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.valuation.early_warning import (
    BROKE,
    DRIFTING,
    IN_RHYTHM,
    Mixture,
    Rhythm,
    early_warning,
    fit_mixture,
    fit_rhythm,
    purchase_gaps,
    values_in_rhythm,
)
from analysis.valuation.nbd import NBD
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import ModelNotFitted

START, DAYS = dt.date(2023, 1, 1), 365
END = START + dt.timedelta(days=DAYS)


def mean_log(gap):
    return gap * np.log(gap) - (gap - 1.0) * np.log(np.maximum(gap - 1.0, 1.0)) - 1.0


def make_base(customers, rng, regularity=1.0, leave=0.15):
    """Customers with gamma gaps at their own rate, in whole days; some leave on a day within the year."""
    rows = []
    for i in range(customers):
        rate = rng.gamma(2.0) / 20.0 * regularity
        start = rng.integers(0, 60)
        left = rng.uniform(start + 60, DAYS) if rng.random() < leave else np.inf
        at = start + np.cumsum(rng.gamma(regularity, 1 / rate, int(60 + 3 * DAYS * rate / regularity)))
        days = np.unique(np.r_[start, np.ceil(at[at <= min(left, DAYS)])])
        gap = np.diff(days)
        rows.append((f"{i:05d}", len(gap), (gap - 0.5).sum(), mean_log(gap).sum(), DAYS - days[-1], left < DAYS))
    return pd.DataFrame(rows, columns=["customer_id", "gaps", "length", "log_gap", "silent_days", "gone"])


def warn(base, **options):
    values = base[["customer_id"]].assign(value_in_rhythm=10.0 + base["gaps"])
    return early_warning(base.drop(columns="gone"), values, END, **{"saved": 0.2, "top_share": 1.0} | options)


@pytest.fixture(scope="module")
def warned():
    base = make_base(1500, np.random.default_rng(8))
    found = warn(base)
    return base, found, found.frame.merge(base[["customer_id", "gone"]], on="customer_id")


def test_gaps_come_from_days_and_not_from_orders():
    days = [0, 0, 1, 11, 30, 5]
    frame = pd.DataFrame(
        {
            "customer_id": ["a", "a", "a", "a", "a", "b"],
            "order_date": [START + dt.timedelta(days=d) for d in days],
            "net_amount": [5.0, 3.0, 2.0, 4.0, -4.0, 1.0],
        }
    )
    lines = ibis.memtable(frame)
    lines = lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"))
    gaps = purchase_gaps(lines, START + dt.timedelta(days=40)).set_index("customer_id")
    # the day of the return is no occasion; gaps of 1 and 10 days
    assert gaps.loc["a", ["gaps", "length", "silent_days"]].tolist() == [2, 10.0, 29.0]
    assert gaps.loc["a", "log_gap"] == pytest.approx(mean_log(np.array([1.0, 10.0])).sum())
    assert gaps.loc["b"].tolist() == [0, 0.0, 0.0, 35.0]


def test_the_chance_of_a_longer_silence_is_a_gamma_mixture():
    rhythm = Rhythm(1.0, 2.0, 20.0, 100)
    # random purchases: Lomax, ((α + t) / (α + t + g)) ^ (r + x)
    assert rhythm.still_silent(30.0, 10, 90.0) == pytest.approx((110 / 140) ** 12)
    regular, rng = Rhythm(3.0, 2.0, 7.0, 100), np.random.default_rng(1)
    rate = rng.gamma(2.0 + 3.0 * 10, size=400_000) / (7.0 + 90.0)
    drawn = rng.gamma(3.0, 1 / rate)
    p = float(regular.still_silent(15.0, 10, 90.0))
    assert p == pytest.approx((drawn > 15.0).mean(), abs=4 * np.sqrt(p / 400_000))
    assert regular.still_silent(regular.longest(0.05, 10, 90.0), 10, 90.0) == pytest.approx(0.05)
    assert regular.still_silent(0.0, 0, 0.0) == 1.0


@pytest.mark.parametrize("regularity", [1.0, 3.0])
def test_the_rhythm_is_recovered_from_gaps(regularity):
    rng = np.random.default_rng(3)
    n = rng.integers(5, 40, 3000)
    rate = rng.gamma(2.0, 1 / 20.0, 3000) * regularity
    sums = np.array([[g.sum(), np.log(g).sum()] for g in (rng.gamma(regularity, 1 / r, k) for r, k in zip(rate, n))])
    found = fit_rhythm(pd.DataFrame({"gaps": n, "length": sums[:, 0], "log_gap": sums[:, 1]}))
    assert found.shape == pytest.approx(regularity, rel=0.03)
    assert found.r == pytest.approx(2.0, rel=0.15) and found.alpha == pytest.approx(20.0 / regularity, rel=0.18)
    # another unit of time, the same rhythm
    weeks = pd.DataFrame({"gaps": n, "length": sums[:, 0] / 7, "log_gap": sums[:, 1] - n * np.log(7)})
    other = fit_rhythm(weeks)
    assert [other.shape, other.r, other.alpha * 7] == pytest.approx([found.shape, found.r, found.alpha], rel=1e-5)


def test_the_mixture_is_recovered_and_falls_with_p():
    rng = np.random.default_rng(5)
    p = np.r_[rng.random(8000), rng.beta(0.2, 1.0, 2000)]
    found = fit_mixture(p)
    assert found.uniform == pytest.approx(0.8, abs=0.05) and found.power == pytest.approx(0.2, abs=0.05)
    assert 0.8 <= found.still_there <= 0.9
    alive = found.probability_alive([1e-6, 1e-3, 0.05, 0.5, 1.0])
    assert (np.diff(alive) > 0).all() and alive[0] < 0.01 and alive[-1] == 1.0
    assert found.probability_alive(found.silent_until(0.5)) == pytest.approx(0.5)
    assert found.probability_alive([0.0, 1.0]) == pytest.approx([0.0, 1.0], abs=1e-6)
    nobody_left = fit_mixture(rng.random(2000))
    assert nobody_left.still_there > 0.95
    assert Mixture(1.0 - 1e-6, 1.0 - 1e-6).silent_until(0.5) == 0.0


def test_a_customer_in_rhythm_is_flagged_as_rarely_as_stated():
    """One snapshot of customers who all stay: the share below 5 % and 1 %, and hardly an alarm."""
    rng, below, alarms, watched = np.random.default_rng(21), [], 0, 0
    for _ in range(5):
        found = warn(make_base(900, rng, leave=0.0))
        p = 1.0 - found.frame["overdue_probability"]
        below.append([(p < 0.05).sum(), (p < 0.01).sum()])
        alarms, watched = alarms + found.alarms, watched + found.watched
    for count, stated in zip(np.sum(below, axis=0), (0.05, 0.01)):
        assert count / watched == pytest.approx(stated, abs=4 * np.sqrt(stated * (1 - stated) / watched) + 0.002)
    # with nobody gone, every alarm is false: Benjamini–Hochberg raises one in a tenth of the runs
    assert alarms / watched < 0.002


def test_regular_customers_are_flagged_even_more_rarely():
    found = warn(make_base(900, np.random.default_rng(22), regularity=3.0, leave=0.0))
    assert found.rhythm.shape > 2.0
    assert (found.frame["overdue_probability"] > 0.95).mean() < 0.05


def test_false_alarms_are_as_stated_and_the_departed_are_found():
    rng, false, stated, alarms, gone, recalled = np.random.default_rng(31), 0, 0.0, 0, 0, 0
    for _ in range(5):
        base = make_base(1200, rng)
        found = warn(base)
        frame = found.frame.merge(base[["customer_id", "gone"]], on="customer_id")
        broke = frame["stage"] == BROKE
        false += int((broke & ~frame["gone"]).sum())
        stated += found.expected_false.value
        alarms += found.alarms
        # found: those who had been gone for three of their usual gaps
        long = frame["gone"] & (frame["silent_days"] > 5 * frame["usual_gap"])
        gone, recalled = gone + int(long.sum()), recalled + int((long & broke).sum())
    assert false == pytest.approx(stated, abs=4 * np.sqrt(stated) + 0.2 * stated)
    assert false / alarms < 0.10 + 4 * np.sqrt(0.09 / alarms)
    assert recalled / gone > 0.95


def test_alive_from_habit_is_calibrated_on_the_whole(warned):
    _, found, frame = warned
    there = (~frame["gone"]).mean()
    assert frame["probability_alive"].mean() == pytest.approx(there, abs=0.05)
    assert found.mixture.still_there == pytest.approx(there, abs=0.06)
    by_stage = frame.groupby("stage")["gone"].mean()
    assert by_stage[BROKE] > 0.8 > by_stage[DRIFTING] > by_stage[IN_RHYTHM]


def test_money_and_dates_are_what_they_are_called(warned):
    base, found, frame = warned
    gone = 1.0 - frame["probability_alive"].to_numpy()
    assert frame["value_at_risk"].to_numpy() == pytest.approx(frame["value_in_rhythm"].to_numpy() * gone)
    dear = warn(base, contact_cost=1.5).frame
    most = np.maximum(0.2 * dear["value_at_risk"].to_numpy() - 1.5, 0.0)
    assert dear["late"].any() and most[dear["late"]].max() > 0
    assert dear["most_to_spend"].to_numpy() == pytest.approx(np.where(dear["late"], 0.0, most))
    pays = dear[dear["value_at_risk"] > 1.5]
    assert (
        pays["break_even"].to_numpy() == pytest.approx(1.5 / pays["value_at_risk"].to_numpy())
        and dear["break_even"].max() == 1.0
    )
    assert (frame.loc[frame["late"], "act_by"] == END).all()
    ahead = frame[~frame["late"]]
    # on the day to act by the customer is still more likely there than not, a day later no more
    days = pd.to_datetime(ahead["act_by"]).sub(pd.Timestamp(END)).dt.days.to_numpy() + ahead["silent_days"].to_numpy()
    length = (ahead["usual_gap"] - 0.5) * ahead["gaps"]
    alive = [
        found.mixture.probability_alive(found.rhythm.still_silent(days + k, ahead["gaps"], length)) for k in (0, 1)
    ]
    near = days < 36_000
    assert (alive[0][near] >= 0.5 - 1e-9).all() and (alive[1][near] < 0.5).all()
    assert (frame.loc[~frame["late"], "probability_alive"] >= 0.5 - 1e-9).all()


def test_the_summary_agrees_with_the_list(warned):
    base, found, frame = warned
    assert found.alarms == (frame["stage"] == BROKE).sum() and found.drifting == (frame["stage"] == DRIFTING).sum()
    act_on = frame[frame["stage"] != IN_RHYTHM]
    assert found.value_at_risk.value == pytest.approx(act_on["value_at_risk"].sum())
    assert found.value_at_risk.low < found.value_at_risk.value < found.value_at_risk.high
    assert found.late.value == pytest.approx(act_on.loc[act_on["late"], "value_at_risk"].sum())
    assert found.in_time.low < found.in_time.value == pytest.approx(found.value_at_risk.value - found.late.value)
    assert found.most_to_spend == pytest.approx(0.2 * found.in_time.value)
    assert warn(base, top_share=0.2).watched == pytest.approx(0.2 * len(base), rel=0.05)


def test_what_is_at_risk_with_the_best_who_have_no_rhythm_is_counted_apart(warned):
    base = warned[0]
    rare = pd.DataFrame(
        {
            "customer_id": ["x1", "x2", "x3"],
            "gaps": 1,
            "length": 30.0,
            "log_gap": 3.0,
            "silent_days": 90.0,
            "gone": True,
        }
    )
    both = pd.concat([base, rare], ignore_index=True)
    values = both[["customer_id"]].assign(value_in_rhythm=1000.0 + 0.0 * both["gaps"], value_now=400.0)
    values.loc[values["customer_id"] == "x2", "value_now"] = 1100.0  # worth more than in rhythm: nothing is at risk
    values.loc[values["customer_id"] == "x3", "value_in_rhythm"] = 1.0  # not among the best
    gaps = both.drop(columns="gone")
    best, watched = len(both) - 1, gaps["gaps"].ge(8).sum()
    found = early_warning(gaps, values, END, saved=0.2, top_share=best / len(both))
    assert (found.best, found.watched) == (best, watched)
    assert found.unwatched_at_risk == pytest.approx(600.0 * (best - watched - 1))
    assert np.isnan(early_warning(gaps, values.drop(columns="value_now"), END, saved=0.2).unwatched_at_risk)


def test_a_model_that_knows_leaving_gives_both_values():
    rng = np.random.default_rng(6)
    n = 400
    rate, life = rng.gamma(1.0, 0.3, n), rng.exponential(60.0, n)
    x = rng.poisson(rate * np.minimum(life, 52.0))
    t_x = np.where(x > 0, np.minimum(life, 52.0) * rng.beta(np.maximum(x, 1), 1), 0.0)
    results = ParetoNBD(x, t_x, np.full(n, 52.0)).fit()
    summary = pd.DataFrame({"customer_id": np.arange(n).astype(str), "frequency": x, "recency": t_x * 7, "T": 52.0 * 7})
    value = pd.DataFrame(
        {
            "customer_id": summary["customer_id"],
            "expected_spend": 10.0,
            "expected_purchases": 1.0,
            "residual_value": 3.0,
        }
    )
    found = values_in_rhythm(summary, value, results, horizon_weeks=26, margin=0.3)
    assert (found["value_now"] <= found["value_in_rhythm"] + 1e-9).all()
    now = results.expected_purchases(26, x, t_x, np.full(n, 52.0)) * 3.0
    assert found["value_now"].to_numpy() == pytest.approx(now)
    assert values_in_rhythm(summary, value)["value_in_rhythm"].eq(3.0).all()
    unknown = value.assign(residual_value=np.nan)
    assert values_in_rhythm(summary, unknown, margin=0.5)["value_in_rhythm"].eq(5.0).all()
    stays = NBD(x, t_x, np.full(n, 52.0)).fit()
    with pytest.raises(ValueError, match="in which customers can leave"):
        values_in_rhythm(summary, value, stays, horizon_weeks=26)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"saved": 0.0}, "saved must lie"), ({"top_share": 1.5}, "top_share"), ({"contact_cost": -1.0}, "contact_cost"),
     ({"least_gaps": 1}, "least_gaps"), ({"alive_threshold": 1.0}, "alive_threshold")],
)  # fmt: skip
def test_impossible_options_are_refused(warned, options, words):
    with pytest.raises(ValueError, match=words):
        warn(warned[0], **options)


def test_too_few_customers_are_one_sentence():
    base = make_base(20, np.random.default_rng(1))
    with pytest.raises(ModelNotFitted, match="too few to learn one from"):
        warn(base)
    with pytest.raises(ModelNotFitted, match="to tell a break"):
        warn(make_base(200, np.random.default_rng(1)), top_share=0.02)
    with pytest.raises(ModelNotFitted, match="0 customers with a rhythm"):
        warn(base.assign(gaps=0))


def test_a_customer_of_two_thousand_orders_and_equal_gaps_stay_finite():
    base = make_base(300, np.random.default_rng(2))
    many = pd.DataFrame([("many", 2000, 1000.0, float(2000 * mean_log(1.0)), 3.0, False)], columns=base.columns)
    found = warn(pd.concat([base, many], ignore_index=True))
    row = found.frame.set_index("customer_id").loc["many"]
    assert row["overdue_probability"] > 0.9 and np.isfinite(
        found.frame.drop(columns=["customer_id", "stage", "act_by"]).astype(float)
    ).all(axis=None)
    same = base.assign(gaps=12, length=12 * 29.5, log_gap=12 * float(mean_log(30.0)), silent_days=np.arange(300) % 30)
    clockwork = warn(same)
    assert clockwork.alarms == 0 and clockwork.rhythm.shape > 100
    assert clockwork.expected_false.reason == "there is no alarm"
