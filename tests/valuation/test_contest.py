"""The contest: nobody learns from the tested period, the best wins whichever it is, ties are said."""

import datetime as dt
from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.valuation.contest import (
    BOOSTING,
    FEATURES,
    MEASURED,
    RFM_SCORE,
    boosted_forecast,
    contest,
    contest_splits,
    rfm_forecast,
)
from analysis.valuation.holdout import LAST_PERIOD, SAME_RATE, evaluate_holdout

START = dt.date(2022, 1, 1)


def as_lines(frame):
    frame = frame.assign(
        order_date=[START + dt.timedelta(days=int(day)) for day in frame["day"]],
        order_id=np.arange(len(frame)).astype(str),
        is_return=frame["net_amount"] < 0,
    ).drop(columns="day")
    lines = ibis.memtable(frame)
    return lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"))


def make_orders(customers, days, seed, leave=0.002):
    """Customers who buy and leave at random, one row an order."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(customers):
        start = rng.integers(0, days // 2)
        stay = rng.exponential(1 / leave)
        gaps = np.cumsum(rng.exponential(1 / rng.gamma(1.5, 0.02), 300))
        at = np.r_[start, (start + gaps)[gaps < stay]].astype(int)
        at = np.unique(at[at < days])
        mean = 20.0 * rng.gamma(4.0, 0.25)
        parts.append(
            pd.DataFrame({"customer_id": f"{i:05d}", "day": at, "net_amount": mean * rng.gamma(4.0, 0.25, len(at)) + 1})
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def setting():
    orders = make_orders(1200, 600, seed=3)
    end = START + dt.timedelta(days=599)
    lines = as_lines(orders)
    splits = contest_splits(lines, START, end, 20)
    holdout = evaluate_holdout(splits.later, 460, replications=20)
    return orders, lines, splits, holdout, contest(splits, holdout, replications=150)


def test_the_earlier_split_ends_where_the_later_one_begins(setting):
    orders, _, splits, _, _ = setting
    day = orders["day"]
    assert splits.reason == ""
    assert splits.earlier["holdout_spend"].sum() == pytest.approx(
        orders.loc[
            (day > 599 - 280) & (day <= 599 - 140) & orders["customer_id"].isin(splits.earlier["customer_id"]),
            "net_amount",
        ].sum(),
        rel=1e-6,
    )
    assert splits.later["spend"].sum() == pytest.approx(orders.loc[day <= 599 - 140, "net_amount"].sum(), rel=1e-6)
    assert (splits.later["recency_days"] == splits.later["T"] - splits.later["recency"]).all()


def test_the_learner_sees_every_period_that_has_history_before_it(setting):
    orders, lines, splits, *_ = setting
    # 600 days in periods of 140: tested from day 460; learnt from day 320 and 180, and from day 40 there is too little before
    assert len(splits.learnt_from) == 2
    end = START + dt.timedelta(days=599)
    found = contest_splits(lines, START, end, 10).learnt_from
    for k, period in enumerate(found):
        cut = 599 - 70 * (k + 2)
        known = orders.loc[orders["day"] <= cut, "customer_id"]
        assert period["customer_id"].tolist() == sorted(known.unique()) and cut + 1 >= 70
        later = orders[(orders["day"] > cut) & (orders["day"] <= cut + 70) & orders["customer_id"].isin(known)]
        assert period["holdout_spend"].sum() == pytest.approx(later["net_amount"].sum())
    assert len(found) == 6 and len(contest_splits(lines, START, end, 10, windows=1).learnt_from) == 1


def test_other_orders_in_the_tested_weeks_change_no_forecast(setting):
    orders, _, splits, *_ = setting
    tested = orders["day"] > 599 - 140
    other = orders[~tested | (np.arange(len(orders)) % 3 > 0)].copy()
    other.loc[other["day"] > 599 - 140, "net_amount"] *= 7.0
    changed = contest_splits(as_lines(other), START, START + dt.timedelta(days=599), 20)
    assert not np.allclose(changed.later["holdout_spend"], splits.later["holdout_spend"])
    forecast, again = (boosted_forecast(one.learnt_from, one.later) for one in (splits, changed))
    assert again == pytest.approx(forecast, rel=1e-12)
    assert rfm_forecast(changed.earlier, changed.later) == pytest.approx(rfm_forecast(splits.earlier, splits.later))


def flat_period(rng, n, mean):
    """A period whose features say nothing about the spend in it."""
    names = [name for name in FEATURES if name not in ("buying_rate", "spend_rate")]
    return pd.DataFrame(rng.random((n, len(names))), columns=names).assign(
        holdout_spend=mean * rng.gamma(50.0, 0.02, n)
    )


def test_the_learner_learns_from_all_periods_in_any_currency_and_takes_a_net_return_as_nothing():
    rng = np.random.default_rng(7)
    old, new, tested = flat_period(rng, 400, 1.0), flat_period(rng, 400, 9.0), flat_period(rng, 400, 5.0)
    stacked = boosted_forecast([new, old], tested)
    alone = [boosted_forecast(period, tested).mean() for period in (old, new)]
    assert alone == pytest.approx([1.0, 9.0], rel=0.05) and 2.0 < stacked.mean() < 8.0
    cents = [period.assign(holdout_spend=100 * period["holdout_spend"]) for period in (new, old)]
    assert boosted_forecast(cents, tested) == pytest.approx(100 * stacked)
    back = new.assign(holdout_spend=new["holdout_spend"].where(new.index % 5 > 0, -50.0))
    nothing = back.assign(holdout_spend=back["holdout_spend"].clip(lower=0.0))
    forecast = boosted_forecast(back, tested)
    assert (forecast > 0).all() and forecast == pytest.approx(boosted_forecast(nothing, tested))


def test_nothing_that_was_tested_was_learnt_from(setting):
    """Whatever happens in the tested period, no forecast changes; only the scores do."""
    _, _, splits, holdout, found = setting
    rng = np.random.default_rng(1)
    spend = rng.permutation(splits.later["holdout_spend"].to_numpy())
    other = contest(replace(splits, later=splits.later.assign(holdout_spend=spend)), holdout, replications=2)
    columns = [RFM_SCORE, BOOSTING]
    pd.testing.assert_frame_equal(other.forecasts[columns], found.forecasts[columns])
    assert not np.allclose(other.scores["rmse"], found.scores["rmse"])


def test_scores_are_what_they_are_called(setting):
    _, _, splits, _, found = setting
    actual = splits.later["holdout_spend"].to_numpy()
    scores = found.scores.set_index("method")
    for name in found.forecasts.columns[1:]:
        error = found.forecasts[name] - actual
        row = scores.loc[name]
        assert row["mae"] == pytest.approx(np.abs(error).mean())
        assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
        assert row["total_error"] == pytest.approx(error.sum() / actual.sum())
        assert row["rank_correlation"] == pytest.approx(stats.spearmanr(found.forecasts[name], actual)[0])
    model = found.scores.loc[found.scores["kind"] == "model", "method"].iloc[0]
    best = found.forecasts[model].to_numpy()
    tenth = np.argsort(-best)[: len(best) // 10]
    assert scores.loc[model, "top_decile_share"] == pytest.approx(actual[tenth].sum() / actual.sum(), abs=0.005)
    for measure in MEASURED:
        assert (scores[f"{measure}_low"] < scores[f"{measure}_high"]).all()
        assert (scores[f"{measure}_low"] <= scores[measure]).mean() > 0.8
        apart = found.differences.set_index("method")[f"{measure}_difference"]
        assert apart.to_numpy() == pytest.approx((scores[measure] - scores.loc[found.best, measure])[apart.index])


def test_in_the_models_own_world_a_model_wins_and_every_method_takes_part(setting):
    *_, found = setting
    assert not {RFM_SCORE, BOOSTING, SAME_RATE, LAST_PERIOD} & found.not_trained.keys()
    assert {RFM_SCORE, BOOSTING, SAME_RATE, LAST_PERIOD} < set(found.scores["method"])
    assert found.scores["rmse"].is_monotonic_increasing and found.scores["best"].tolist()[0]
    assert found.best_kind == "model" or "model" in set(found.scores.loc[found.scores["tied"], "kind"])
    apart = found.differences.set_index("method")
    assert set(found.tied) == set(apart.index[apart["rmse_low"] <= 0])


def test_where_the_past_repeats_itself_repeating_it_wins():
    """Everybody buys the same each period: the plain rule is exact and the models shrink, so the rule wins."""
    rng = np.random.default_rng(4)
    parts = []
    for i in range(300):
        gap, spend = rng.choice([10, 20, 35, 70]), rng.uniform(5, 100)
        parts.append(
            pd.DataFrame(
                {"customer_id": f"{i:04d}", "day": np.arange(0, 560, gap) + rng.integers(0, 5), "net_amount": spend}
            )
        )
    lines = as_lines(pd.concat(parts, ignore_index=True))
    splits = contest_splits(lines, START, START + dt.timedelta(days=559), 20)
    holdout = evaluate_holdout(splits.later, 420, "left_truncated", replications=2)
    found = contest(splits, holdout, replications=100)
    assert found.best == LAST_PERIOD and found.best_kind == "heuristic"


def test_a_cell_of_few_customers_borrows_from_its_product_and_the_base():
    n = 200
    earlier = pd.DataFrame(
        {
            "recency_days": np.r_[np.full(100, 1.0), np.full(100, 200.0)],
            "frequency": np.r_[np.full(100, 9), np.full(100, 0)],
            "spend": np.r_[np.full(100, 90.0), np.full(100, 5.0)],
            "holdout_spend": np.r_[np.full(100, 50.0), np.full(100, 2.0)],
        }
    )
    assert rfm_forecast(earlier, earlier) == pytest.approx(earlier["holdout_spend"])
    odd = earlier.copy()
    odd.loc[0, ["recency_days", "frequency", "spend"]] = [100.0, 4, 40.0]
    forecast = rfm_forecast(earlier, odd)
    assert forecast[0] == pytest.approx(earlier["holdout_spend"].mean()) and len(forecast) == n


def test_a_short_history_says_who_could_not_learn(setting):
    _, lines, *_ = setting
    end = START + dt.timedelta(days=330)
    splits = contest_splits(lines, START, end, 20)
    assert splits.earlier is None and "three stretches of 20 weeks" in splits.reason
    found = contest(splits, evaluate_holdout(splits.later, 191, replications=2), replications=20)
    assert found.not_trained[BOOSTING] == found.not_trained[RFM_SCORE] == splits.reason
    assert set(found.scores["kind"]) <= {"model", "heuristic"}


def test_few_customers_leave_the_learner_out():
    lines = as_lines(make_orders(120, 600, seed=5))
    splits = contest_splits(lines, START, START + dt.timedelta(days=599), 20)
    found = contest(splits, evaluate_holdout(splits.later, 460, replications=2), replications=20)
    assert "too few to learn from" in found.not_trained[BOOSTING] and RFM_SCORE in set(found.scores["method"])


def test_another_split_and_an_empty_future_are_refused(setting):
    _, lines, splits, holdout, _ = setting
    other = contest_splits(lines, START, START + dt.timedelta(days=599), 10)
    with pytest.raises(ValueError, match="not of the later split"):
        contest(other, holdout)
    nothing = replace(splits, later=splits.later.assign(holdout_spend=0.0))
    with pytest.raises(ValueError, match="nobody known before bought"):
        contest(nothing, holdout)
