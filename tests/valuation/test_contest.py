"""The contest: nobody learns from the tested period, the best wins whichever it is, ties are said."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.valuation.contest import BOOSTING, MEASURED, RFM_SCORE, contest, contest_splits, rfm_forecast
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


def test_nothing_that_was_tested_was_learnt_from(setting):
    """Whatever happens in the tested period, no forecast changes; only the scores do."""
    _, _, splits, holdout, found = setting
    rng = np.random.default_rng(1)
    spend = rng.permutation(splits.later["holdout_spend"].to_numpy())
    other = contest(type(splits)(splits.later.assign(holdout_spend=spend), splits.earlier, ""), holdout, replications=2)
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
    nothing = type(splits)(splits.later.assign(holdout_spend=0.0), splits.earlier, "")
    with pytest.raises(ValueError, match="nobody known before bought"):
        contest(nothing, holdout)
