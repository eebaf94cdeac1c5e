"""Traits of customers: which columns may enter, planted ratios found again, and whether the holdout gains from them."""

import datetime as dt
from functools import lru_cache

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.valuation import covariate_figures
from analysis.valuation.covariate_effects import (
    COVARIATE_COLUMNS,
    NOT_STATED,
    covariate_facts,
    covariates_for_people,
    paired_gain,
    run_covariates,
    set_aside,
)
from analysis.valuation.holdout import evaluate_holdout, resamples
from tests.promises import assert_covers

FMT = Formatter("en", "USD")
WEEKS, LATER = 60, 13
TRUTH = {"web": (1.0, 1.0), "store": (1.6, 0.5), "fair": (0.7, 1.0)}


def simulated(n, rng, truth=TRUTH, before=0, few=0.0, regular=False):
    """Histories by the Pareto/NBD story in days with what came in `LATER` weeks, and the customers' table.

    `before` weeks are not seen (a left-truncated panel); `regular` customers buy at gamma(3) times.
    """
    channel = rng.choice(list(truth), n, p=np.array([3, 2, 1][: len(truth)]) / sum([3, 2, 1][: len(truth)]))
    rate = rng.gamma(1.2, 1 / 9.0, n) * np.array([truth[c][0] for c in channel])
    leaves = rng.exponential(size=n) / (rng.gamma(1.0, 1 / 60.0, n) * np.array([truth[c][1] for c in channel]))
    start = rng.uniform(-before, WEEKS - 10, n)
    rows = []
    for k in range(n):
        end = min(leaves[k], WEEKS + LATER - start[k])
        gaps = rng.gamma(3, 1 / 3, 200) if regular else rng.exponential(size=200)
        moments = start[k] + np.r_[0.0, np.cumsum(gaps / rate[k])]
        moments = moments[(moments <= start[k] + end) & (moments >= 0)]
        seen = moments[moments <= WEEKS]
        if len(seen):
            past = (len(seen) - 1, 7 * (seen[-1] - seen[0]), 7 * (WEEKS - seen[0]), np.log(7 * np.diff(seen)).sum())
            rows.append((k, *past, len(moments) - len(seen)))
    frame = pd.DataFrame(rows, columns=["k", "frequency", "recency", "T", "litt", "holdout_frequency"])
    frame.insert(0, "customer_id", frame.pop("k").map("{:05d}".format))
    people = pd.DataFrame({"customer_id": [f"{k:05d}" for k in range(n)], "acquisition_channel": channel})
    if few:
        people.loc[rng.random(n) < few, "acquisition_channel"] = None
    return frame, people


def split_of(frame):
    """What `calibration_holdout` gives, without the order lines."""
    split = frame.assign(monetary_value=np.where(frame["frequency"] > 0, 10.0, 0.0), holdout_spend=0.0)
    split = split.assign(recent_frequency=0, recent_repeats=0, recent_spend=0.0, recent_repeat_spend=0.0)
    split.attrs["holdout_days"] = 7 * LATER
    return split


@lru_cache
def planted():
    frame, people = simulated(3000, np.random.default_rng(5), few=0.05)
    return frame, people, evaluate_holdout(split_of(frame), 7 * WEEKS, replications=10)


def effects_of(found):
    return found.effects.set_index("level")


def test_planted_ratios_and_the_gain_in_the_holdout():
    frame, people, holdout = planted()
    found, reason = run_covariates(frame, people, holdout)
    assert reason == "" and found.model == "Pareto/NBD" and found.sides == ("rate", "dropout")
    table = effects_of(found)
    assert list(table.index[:1]) == ["web"] and table.loc["web", ["reference", "rate", "dropout"]].tolist() == [
        True,
        1,
        1,
    ]
    assert table["customers"].sum() == len(frame) and NOT_STATED in table.index
    for level, (rate, dropout) in (("store", TRUTH["store"]), ("fair", TRUTH["fair"])):
        row = table.loc[level]
        assert row["rate_low"] < rate < row["rate_high"] and row["dropout_low"] < dropout < row["dropout_high"]
    assert table.loc["store", "rate_p"] < 1e-4
    fits = found.fits.set_index(["model", "traits"])
    for model in ("BG/NBD", "Pareto/NBD"):
        plain, full = fits.loc[(model, "no")], fits.loc[(model, "yes")]
        assert plain["log_likelihood"] == pytest.approx(holdout.models.purchases[model].llf, abs=1e-4)
        assert full["statistic"] == pytest.approx(2 * (full["log_likelihood"] - plain["log_likelihood"]))
        assert full["df"] == full["coefficients"] == 6 and full["p_value"] < 1e-8
        assert full["aic"] == pytest.approx(2 * (4 + 6) - 2 * full["log_likelihood"])
        assert full["bic"] == pytest.approx((4 + 6) * np.log(len(frame)) - 2 * full["log_likelihood"])
    scores = holdout.scores.set_index("forecast")
    assert found.error == pytest.approx(scores.loc["Pareto/NBD", "rmse"])
    assert found.gain.low < found.gain.value < found.gain.high and found.gain.value < 0
    assert found.best == holdout.best
    assert found.gain_on_best.value == pytest.approx(found.error + found.gain.value - scores["rmse"].min())
    facts = covariate_facts(found)
    assert facts["rate_level"] == "store" and facts["rate_reference"] == "web" and facts["set_aside"] == ""
    assert facts["helps"] == (found.gain.high < 0) and facts["tested"] and facts["aic_gain"] > 0
    title = covariate_figures.covariate_title(found, FMT)
    assert title.startswith("Acquisition channel store: customers buy 1.") and title.endswith("as with web")
    assert png(covariate_figures.covariate_ratios(found, FMT))[:4] == b"\x89PNG"
    shown = covariates_for_people(found, FMT)
    assert list(shown) == list(COVARIATE_COLUMNS) and (shown["rate_words"] == "compared with it").sum() == 1


def test_the_paired_interval_is_that_of_a_bootstrap_and_zero_for_the_same_forecast():
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(2, 2000)) ** 3
    errors[1] = 0.8 * errors[0] + 0.6 * errors[1]
    found = paired_gain(*errors)
    squares = [errors**2 @ sample / 2000 for sample in resamples(2000, 2000, 2)]
    low, high = np.quantile(np.sqrt(squares) @ [1, -1], [0.025, 0.975])
    width = high - low
    assert abs(found.low - low) < 0.1 * width and abs(found.high - high) < 0.1 * width
    assert paired_gain(errors[0], errors[0]).interval == (0.0, 0.0, 0.0)
    assert paired_gain(np.zeros(3), np.zeros(3)).value == 0.0


def test_intervals_cover_in_small_bases():
    truth = {level: TRUTH[level] for level in ("web", "store")}
    ends, planted = [], []
    for seed in range(20):
        frame, people = simulated(600, np.random.default_rng(100 + seed), truth=truth)
        found, _ = run_covariates(frame, people, None)
        if found is not None:
            row = effects_of(found).loc["store"]
            for side, planted_ratio in zip(found.sides, truth["store"], strict=False):
                ends.append(np.log([row[f"{side}_low"], row[f"{side}_high"]]))
                planted.append(np.log(planted_ratio))
    assert len(ends) >= 30
    assert_covers(ends, planted)


def test_without_an_effect_nothing_is_found_and_p_values_are_uniform():
    nothing = {"web": (1.0, 1.0), "store": (1.0, 1.0)}
    p_values, clear = [], 0
    for seed in range(20):
        frame, people = simulated(500, np.random.default_rng(seed), truth=nothing)
        found, reason = run_covariates(frame, people, None)
        if found is None:
            assert "neither BG/NBD nor Pareto/NBD holds" in reason
            continue
        facts = covariate_facts(found)
        p_values.append(facts["lr_p"])
        clear += facts["clear"] > 0
        assert not facts["helps"] and not facts["recommended"] and facts["untested"] == "no weeks could be held out"
    assert len(p_values) >= 15
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    assert clear <= 5


def test_what_was_there_before_the_data_begin():
    frame, people = simulated(2500, np.random.default_rng(8), before=200)
    found, _ = run_covariates(frame, people, None, "left_truncated")
    table = effects_of(found)
    assert found.truncated and found.sides == ("rate",) and table["dropout"].isna().all()
    assert table.loc["store", "rate_low"] < TRUTH["store"][0] < table.loc["store", "rate_high"]
    facts = covariate_facts(found)
    assert facts["dropout"] is None and not facts["leaving"] and facts["compared"] == 2
    assert "not known" in covariates_for_people(found, FMT)["dropout_words"].tolist()
    assert png(covariate_figures.covariate_ratios(found, FMT))


def test_regular_buyers_are_told_of():
    frame, people, holdout = planted()
    assert not covariate_facts(run_covariates(frame, people, holdout)[0])["regular"]
    regular, people = simulated(2000, np.random.default_rng(4), regular=True)
    holdout = evaluate_holdout(split_of(regular), 7 * WEEKS, replications=10)
    found, _ = run_covariates(regular, people, holdout)
    assert found.regular and covariate_facts(found)["regular"]


def test_which_columns_may_enter():
    frame, people, _ = planted()
    rng, n = np.random.default_rng(2), len(people)
    back = people["customer_id"].isin(frame.loc[frame["frequency"] > 0, "customer_id"]).to_numpy()
    table = people.assign(
        acquired_on=dt.date(2024, 1, 1),
        consent_email=True,
        household_id="H1",
        hashed=[f"{k % 2:032x}" for k in range(n)],
        name=[f"person {k}" for k in range(n)],
        country="FR",
        rare=np.where(np.arange(n) < 20, "x", None),
        learnt=np.where(back | (rng.random(n) < 0.6), "a", None),
        last_channel=rng.choice(["a", "b"], n),
        told_later=rng.choice(["a", "b"], n),
        twin=people["acquisition_channel"].fillna("?"),
        member=pd.array(rng.random(n) < 0.3, dtype="boolean"),
        income=rng.integers(0, 50, n).astype(str),
        town=np.where(rng.random(n) < 0.005, "small", np.where(rng.random(n) < 0.5, "A", "B")),
    )
    found, _ = run_covariates(frame, ibis.memtable(table), None, later=["told_later"])
    columns = found.columns.set_index("column")
    assert columns.index[columns["used"]].tolist() == ["acquisition_channel", "member", "income", "town"]
    assert not {"acquired_on", "consent_email", "household_id", "customer_id"} & set(columns.index)
    reasons = columns["reason"]
    assert (
        "hashed" in reasons["hashed"] and "share a value" in reasons["name"] and reasons["country"] == "all are alike"
    )
    assert "fewer than 50%" in reasons["rare"] and "learnt after" in reasons["learnt"]
    assert "after they had come" in reasons["last_channel"] and reasons["told_later"] == reasons["last_channel"]
    assert reasons["twin"] == "it says nearly the same as the columns before it"
    levels = found.effects.groupby("trait")["level"].apply(set)
    assert levels["member"] == {"yes", "no"}
    # quarters do not name the largest value, which is somebody's
    assert len(levels["income"]) == 4 and all("49" not in level for level in levels["income"])
    # a level of fewer than 30 is joined with the next smallest, so that nobody can be told by it
    assert "small" not in levels["town"] and found.effects["customers"].min() >= 30
    assert set_aside(found.columns).startswith("hashed: it is personal")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f, p: (f, None), "no table of customers"),
        (lambda f, p: (f, p[["customer_id"]]), "nothing of customers but keys"),
        (lambda f, p: (f.iloc[:1], p), "too few customers"),
        (lambda f, p: (f.iloc[:0], p), "too few customers"),
        (lambda f, p: (f, p.assign(acquisition_channel="web")), "acquisition channel: all are alike"),
        (lambda f, p: (f, p.assign(acquisition_channel=None)), "known of fewer than 50%"),
        (lambda f, p: (f.assign(frequency=0, recency=0.0), p), "hardly anybody of one of its groups came back"),
    ],
)
def test_where_nothing_can_be_told_there_is_one_reason(change, reason):
    frame, people, holdout = planted()
    found, why = run_covariates(*change(frame, people), holdout)
    assert found is None and reason in why and "\n" not in why


def test_a_group_that_nobody_came_back_from_is_not_compared():
    frame, people, _ = planted()
    fair = frame["customer_id"].isin(people.loc[people["acquisition_channel"] == "fair", "customer_id"])
    gone = frame.assign(frequency=frame["frequency"].where(~fair, 0), recency=frame["recency"].where(~fair, 0.0))
    found, why = run_covariates(gone, people, None)
    assert found is None and "hardly anybody" in why


def test_facts_go_beside_the_arguments_of_figures_and_tables(taken):
    frame, people, holdout = planted()
    found, _ = run_covariates(frame, people, holdout)
    assert not taken & set(covariate_facts(found))
