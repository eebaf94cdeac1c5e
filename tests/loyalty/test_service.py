"""Service contacts: rates, times to resolution, satisfaction beside contacts, service recovery."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from analysis.loyalty import (
    ServiceError,
    active_customers,
    case_groups,
    contact_hazard,
    contact_rates,
    contacts_around,
    purchases_around,
    rate_change,
    recovery_pairs,
    repeat_contacts,
    repurchase_after,
    resolution_times,
    score_stability,
    service_cases,
    service_recovery,
    service_table,
    top_reasons,
    whole_periods,
)

END = dt.date(2024, 6, 30)


def cases_of(customers, opened, days, resolved=True, kind="complaint", channel="phone"):
    """Cases as `service_cases` gives them."""
    opened = pd.to_datetime(pd.Series(list(opened)))
    frame = pd.DataFrame({"customer_id": list(customers), "kind": kind, "channel": channel})
    return frame.assign(opened_at=opened, opened_on=opened.dt.normalize(), days=days, resolved=resolved)


def four_errors(share, replications=200):
    return 4 * np.sqrt(share * (1 - share) / replications)


# -- cases and periods ----------------------------------------------------------------------------------------


@pytest.fixture
def raw():
    return pd.DataFrame(
        {
            "customer_id": ["a", "a", "b", "c", "d"],
            "opened_at": pd.to_datetime(
                ["2024-06-01 20:00", "2024-06-10 00:00", "2024-06-20 00:00", "2024-06-29 12:00", "2024-07-01 12:00"], utc=True
            ),
            "resolved_at": pd.to_datetime(
                ["2024-06-03 20:00", "2024-06-12 00:00", None, "2024-07-03 00:00", None], utc=True
            ),
            "kind": ["complaint", "complaint", "question", None, "question"],
            "outcome": ["resolved", "unresolved", None, "resolved", None],
        }
    )  # fmt: skip


def test_open_cases_are_censored_at_the_end_of_the_data(raw):
    cases = service_cases(raw, END)
    assert cases["resolved"].tolist() == [True, False, False, False], "later, unsolved and open ones are not resolved"
    np.testing.assert_allclose(cases["days"], [2, 21, 11, 1.5])
    assert cases["kind"].tolist()[-1] == "unknown" and set(cases["channel"]) == {"unknown"}


def test_the_day_of_a_case_is_local(raw):
    cases = service_cases(raw, END, timezone="Asia/Shanghai")
    assert cases["opened_on"][0] == pd.Timestamp("2024-06-02")
    assert cases["days"][0] == 2


def test_impossible_contacts_are_named(raw):
    with pytest.raises(ServiceError, match="no column 'kind'"):
        service_cases(raw.drop(columns="kind"), END)
    raw.loc[0, "resolved_at"] = pd.Timestamp("2024-05-01", tz="UTC")
    with pytest.raises(ServiceError, match="1 cases are resolved before"):
        service_cases(raw, END)


def test_periods_end_with_the_data():
    periods = whole_periods(dt.date(2024, 1, 1), END, 91)
    assert periods["ends_on"].tolist() == [pd.Timestamp("2024-03-31"), pd.Timestamp(END)]
    assert periods["starts_on"].tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-04-01")]
    with pytest.raises(ServiceError, match="less than one period"):
        whole_periods(dt.date(2024, 6, 1), END, 91)


@pytest.fixture(scope="module")
def days():
    """Purchase days of forty customers over two quarters."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"customer_id": rng.integers(0, 40, 300).astype(str), "day": rng.integers(0, 182, 300)})
    frame = frame.drop_duplicates()
    frame["order_date"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame.assign(spend=1.0).reset_index(drop=True)


def lazy(frame):
    table = ibis.memtable(frame)
    return table.mutate(order_date=table.order_date.cast("date"))


def test_active_means_bought_now_or_in_the_period_before():
    days = pd.DataFrame(
        {
            "customer_id": ["a", "a", "b", "c"],
            "order_date": pd.to_datetime(["2024-01-02", "2024-01-03", "2024-05-05", "2023-12-01"]),
            "spend": 1.0,
        }
    )
    found = active_customers(lazy(days), dt.date(2024, 1, 1), END)
    assert found["customers"].tolist() == [2, 2], "c and a, then a and b"


def test_purchases_around_agree_with_counting_by_hand(days):
    rng = np.random.default_rng(6)
    moments = pd.DataFrame(
        {"customer_id": [*rng.integers(0, 45, 30).astype(str), None], "on": dt.date(2024, 4, 1)},
        index=range(100, 131),
    )
    found = purchases_around(lazy(days), moments, before_days=60, recent_days=20, after_days=30, gap_days=7)
    for index, customer in moments["customer_id"].items():
        own = days.loc[days["customer_id"] == customer, "order_date"]
        since = (pd.Timestamp("2024-04-01") - own).dt.days
        expected = [
            since.between(1, 60).sum(), since.between(1, 20).sum(), max(since.max(), 0) if len(since) else 0,
            since.between(-37, -8).sum(),
        ]  # fmt: skip
        assert found.loc[index].tolist() == expected
    assert (purchases_around(lazy(days), moments.assign(customer_id=None)) == 0).all().all()


# -- rates ----------------------------------------------------------------------------------------------------


def test_limits_of_a_rate_are_exact_poisson_limits():
    """Ten cases of ten customers: 4.795 to 18.390 (Garwood's table)."""
    periods = whole_periods(dt.date(2024, 1, 1), END).assign(customers=[500, 1000])
    cases = cases_of(map(str, range(10)), ["2024-05-01"] * 10, 1.0)
    rates = contact_rates(cases, periods)
    assert rates["cases"].tolist() == [0, 10]
    np.testing.assert_allclose(
        rates.loc[1, ["per_thousand", "low", "high"]].astype(float), [10, 4.795, 18.390], atol=5e-4
    )
    np.testing.assert_allclose(rates.loc[0, ["low", "high"]].astype(float), [0, 3.6889 * 2], atol=1e-3)
    same = contact_rates(cases.assign(customer_id="a"), periods)
    assert same.loc[1, "low"] < 2 and same.loc[1, "high"] > 25, "ten cases of one customer are one piece of evidence"
    unknown = contact_rates(cases, periods.drop(columns="customers"))
    assert unknown["per_thousand"].isna().all() and unknown["cases"].sum() == 10


def test_the_ratio_of_two_rates_is_binomial():
    """Given their sum, the newer count is binomial, and so are the exact limits."""
    change, low, high = rate_change(11, 800, 23, 3011)
    assert change == pytest.approx(11 / 800 / (23 / 3011) - 1)
    limits = binomtest(11, 34).proportion_ci()
    np.testing.assert_allclose([low, high], [p / (1 - p) * 3011 / 800 - 1 for p in limits])
    assert np.isnan(rate_change(3, 10, 0, 10)).all() and rate_change(0, 10, 3, 10)[:2] == (-1, -1)


def test_limits_of_the_change_cover():
    rng = np.random.default_rng(7)
    now, before = rng.poisson(30, 200), rng.poisson(40, 200)
    limits = np.array([rate_change(a, 900, b, 1000)[1:] for a, b in zip(now, before)])
    truth = (30 / 900) / (40 / 1000) - 1
    covered = ((limits[:, 0] <= truth) & (truth <= limits[:, 1])).mean()
    assert covered >= 0.95 - four_errors(0.95)


def test_the_service_table_takes_the_newest_period():
    opened = ["2024-02-01"] * 20 + ["2024-05-01"] * 40
    cases = cases_of(map(str, range(60)), opened, 1.0, kind=["complaint"] * 58 + ["question"] * 2)
    active = whole_periods(dt.date(2024, 1, 1), END).assign(customers=[1000, 1000])
    table = service_table(cases, active)
    assert table["kind"].tolist() == ["complaint", "question"]
    complaint = table.iloc[0]
    assert complaint["cases"] == 38 and complaint["per_thousand"] == 38
    assert complaint["change"] == pytest.approx(0.9) and complaint["change_low"] > 0
    assert complaint["median"] == 1 and complaint["unsolved"] == 0
    assert np.isnan(table.loc[1, "median"]) and np.isnan(table.loc[1, "change"])


# -- how long -------------------------------------------------------------------------------------------------


def test_resolution_times_reproduce_the_leukaemia_trial():
    """Remission of the 21 patients on 6-MP (Freireich et al. 1963): median 23, S(10) .753 [.503, .889] on log(-log)."""
    times = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    cases = cases_of(map(str, range(21)), ["2024-01-01"] * 21, np.array(times, float), [True] * 9 + [False] * 12)
    row = resolution_times(cases, horizon_days=10).iloc[0]
    assert row["median"] == 23 and row["median_low"] == 13 and np.isinf(row["median_high"])
    np.testing.assert_allclose(
        row[["unsolved", "unsolved_low", "unsolved_high"]].astype(float), [0.753, 0.503, 0.889], atol=5e-4
    )
    assert np.isnan(row["p90"]) and "nine in ten" in row["reason"] and row["open"] == 12


def test_limits_of_the_median_cover_with_clustered_customers():
    rng = np.random.default_rng(8)
    covered = []
    for _ in range(200):
        pace = np.repeat(np.exp(0.8 * rng.standard_normal(60)), 3)
        taken = pace * np.exp(0.6 * rng.standard_normal(180))
        until = rng.uniform(0.5, 6, 180)
        cases = cases_of(
            np.repeat(np.arange(60), 3).astype(str), ["2024-01-01"] * 180, np.minimum(taken, until), taken <= until
        )
        row = resolution_times(cases).iloc[0]
        covered.append(row["median_low"] <= 1 <= row["median_high"])
    assert np.mean(covered) >= 0.95 - four_errors(0.95)


def test_too_few_and_never_resolved_cases_give_a_reason():
    few = resolution_times(cases_of("abc", ["2024-01-01"] * 3, 1.0)).iloc[0]
    assert np.isnan(few["median"]) and few["reason"] == "fewer than 10 cases"
    never = resolution_times(cases_of("abcdefghijkl", ["2024-01-01"] * 12, 1.0, False)).iloc[0]
    assert never["reason"] == "no case is resolved"
    at_once = resolution_times(cases_of("abcdefghijkl", ["2024-01-01"] * 12, 0.5)).iloc[0]
    assert at_once["in_time"] == 1 and at_once["in_time_low"] < 0.8 and at_once["median"] == 0.5
    assert resolution_times(cases_of([], [], [])).empty


# -- who comes back, and for what -----------------------------------------------------------------------------


def test_repeated_contacts_and_reasons():
    cases = cases_of([*"aaab", *"cd"], ["2024-01-01"] * 6, 1.0, kind=["complaint"] * 5 + ["question"])
    again = repeat_contacts(cases, customers=50).set_index("contacts")
    assert again["people"].to_dict() == {"1": 2, "2": 0, "3+": 1}
    assert again.loc["3+", "share"] == 0.6 and again["by_chance"].sum() == pytest.approx(1)
    assert again.loc["3+", "low"] < 0.3, "one customer alone decides this share"
    reasons = top_reasons(cases, "kind")
    assert reasons["kind"].tolist() == ["complaint", "question"] and reasons["share"].sum() == pytest.approx(1)
    assert repeat_contacts(cases, 50, kind="praise").empty


# -- contacts by satisfaction ---------------------------------------------------------------------------------


def test_contacts_strictly_after_an_answer_count():
    cases = cases_of("aaab", ["2024-01-10", "2024-01-11", "2024-02-20", "2024-01-11"], 1.0, kind=[*"xxyx"])
    moments = pd.DataFrame({"customer_id": ["a", "b", None], "on": dt.date(2024, 1, 10)}, index=[7, 8, 9])
    after = contacts_around(moments, cases, after_days=40)
    assert after.loc[7].tolist() == [1, 0] and after.loc[8].tolist() == [1, 0] and (after.loc[9] == 0).all()
    before = contacts_around(moments.assign(on=dt.date(2024, 1, 11)), cases, before_days=5, after_days=0)
    assert before.loc[7].tolist() == [1, 0]


def planted(rng, n=1500, effect=-0.6, reliability=0.8, answers=2):
    owner = np.repeat(np.arange(n // answers), answers)
    latent = rng.standard_normal(n // answers)[owner]
    score = 60 + 15 * (np.sqrt(reliability) * latent + np.sqrt(1 - reliability) * rng.standard_normal(n))
    frailty = np.exp(0.4 * rng.standard_normal(n // answers))[owner]
    count = rng.poisson(0.1 * np.exp(effect * latent) * frailty)
    return pd.Series(score), pd.DataFrame({"complaint": count}), pd.Series(owner.astype(str))


def test_the_planted_hazard_is_recovered_once_the_score_is_corrected():
    rng = np.random.default_rng(9)
    found = pd.concat([contact_hazard(*planted(rng), reliability=0.8) for _ in range(200)])
    covered = ((found["corrected_low"] <= -0.6) & (found["corrected_high"] >= -0.6)).mean()
    assert abs(covered - 0.95) <= four_errors(0.95)
    raw = -0.6 * np.sqrt(0.8)
    assert abs(found["effect"].mean() - raw) < 4 * found["effect"].std() / np.sqrt(200) + 0.005
    assert found["settled"].isna().all()


def test_corrections_widen_and_weights_count():
    rng = np.random.default_rng(10)
    score, contacts, customers = planted(rng, 3000)
    plain = contact_hazard(score, contacts, customers, reliability=0.8, stability=0.9).iloc[0]
    assert plain["settled"] == pytest.approx(plain["effect"] / np.sqrt(0.8) / 0.9)
    unsure = contact_hazard(
        score, contacts, customers, reliability=0.8, reliability_error=0.1, stability=0.9, stability_error=0.1
    ).iloc[0]
    assert unsure["corrected_low"] < plain["corrected_low"] and unsure["settled_high"] > plain["settled_high"]
    twice = pd.concat([score, score[:1000]], ignore_index=True)
    doubled = contact_hazard(
        twice, pd.concat([contacts, contacts[:1000]], ignore_index=True),
        pd.concat([customers, customers[:1000]], ignore_index=True), reliability=1.0,
    ).iloc[0]  # fmt: skip
    weights = pd.Series(np.where(np.arange(3000) < 1000, 2.0, 1.0))
    weighted = contact_hazard(score, contacts, customers, reliability=1.0, weights=weights).iloc[0]
    assert weighted["effect"] == pytest.approx(doubled["effect"], abs=1e-6)
    assert weighted["low"] == pytest.approx(doubled["low"], abs=2e-3)


def test_nothing_to_regress_gives_a_reason():
    score, contacts, customers = planted(np.random.default_rng(11), 400)
    assert "only 0 contacts" in contact_hazard(score, contacts * 0, customers, reliability=1.0).loc[0, "reason"]
    same = contact_hazard(score * 0 + 5, contacts, customers, reliability=1.0).loc[0]
    assert same["reason"] == "all scores are the same" and np.isnan(same["effect"])
    nobody = contact_hazard(score * np.nan, contacts, customers, reliability=1.0).loc[0]
    assert nobody["answers"] == 0 and nobody["reason"]
    with pytest.raises(ServiceError, match="above 0"):
        contact_hazard(score, contacts, customers, reliability=0.0)


def test_stability_of_a_score_that_fades():
    rng = np.random.default_rng(12)
    latent = rng.standard_normal(4000)
    later = 0.5 * latent + np.sqrt(0.75) * rng.standard_normal(4000)
    score = np.concatenate([latent, later]) + 0.5 * rng.standard_normal(8000)
    on = pd.Series(pd.to_datetime(["2024-01-01"] * 4000 + ["2024-09-01"] * 4000))
    customers = pd.Series(np.tile(np.arange(4000).astype(str), 2))
    found = score_stability(pd.Series(score), on, customers, reliability=0.8, days=91)
    rate = np.log(2) / 244 * 91
    assert found["low"] < (1 - np.exp(-rate)) / rate < found["high"] and found["people"] == 4000
    once = score_stability(pd.Series(score[:10]), on[:10], customers[:10], reliability=0.8)
    assert once["value"] is None and "0 customers answered twice" in once["reason"]


# -- service recovery -----------------------------------------------------------------------------------------


def test_pairs_of_answers_and_what_came_between():
    answers = pd.DataFrame(
        {
            "customer_id": [*"aabbccdde", None],
            "on": pd.to_datetime(["2024-01-01", "2024-03-01"] * 4 + ["2024-01-01"] * 2).date,
        }
    )
    scores = pd.DataFrame({"satisfaction": np.arange(10.0)})
    cases = cases_of(
        "abbcd", ["2024-01-10", "2024-01-10", "2024-01-12", "2024-02-28", "2023-12-01"], [2.0, 2.0, 30.0, 1.0, 60.0]
    )
    pairs = recovery_pairs(answers, scores, cases).set_index("customer_id")
    assert pairs["group"].to_dict() == {"a": "solved in time", "b": "late or unsolved", "d": "no complaint"}
    assert pairs.loc["b", ["satisfaction_before", "satisfaction_after"]].tolist() == [2, 3]


def test_a_case_too_young_to_be_late_is_in_no_group():
    groups = case_groups(cases_of("abc", ["2024-01-01"] * 3, [3.0, 3.0, 9.0], [True, False, False]))
    assert groups[0] == "solved in time" and pd.isna(groups[1]) and groups[2] == "late or unsolved"


def test_recovery_is_measured_at_equal_scores_before():
    rng = np.random.default_rng(13)
    covered = []
    for _ in range(100):
        before = rng.normal(70, 10, 120)
        group = np.where(before + rng.normal(0, 10, 120) < 65, "late or unsolved", "no complaint")
        group[rng.random(120) < 0.3] = "solved in time"
        shift = pd.Series(group).map({"late or unsolved": -8, "no complaint": 0, "solved in time": 3})
        after = 20 + 0.7 * before + shift + rng.normal(0, 6, 120)
        pairs = pd.DataFrame({"customer_id": range(120), "group": group})
        pairs = pairs.assign(satisfaction_before=before, satisfaction_after=after)
        found = service_recovery(pairs, ["satisfaction"]).set_index("comparison")
        truth = pd.Series({"in time against late": 11, "paradox": 3, "late against none": -8})
        covered.append((found["low"] <= truth) & (truth <= found["high"]))
    assert (abs(pd.DataFrame(covered).mean() - 0.95) <= four_errors(0.95, 100)).all()


def test_too_few_who_answered_twice_give_a_reason():
    pairs = pd.DataFrame({"customer_id": range(30), "group": ["no complaint"] * 26 + ["solved in time"] * 4})
    pairs = pairs.assign(satisfaction_before=50.0, satisfaction_after=50.0)
    found = service_recovery(pairs, ["satisfaction"])
    assert found["difference"].isna().all() and found["reason"].str.contains("at least 10 are needed").all()


def test_repurchase_by_how_the_case_went():
    rng = np.random.default_rng(14)
    covered, n = [], 250
    for _ in range(100):
        quick = rng.random(n) < 0.7
        cases = cases_of(np.arange(n).astype(str), ["2024-01-01"] * n, np.where(quick, 2.0, 20.0))
        rate = rng.gamma(1.5, 1.0, n)
        purchases = pd.DataFrame({"before": rng.poisson(4 * rate), "recent": rng.poisson(rate)})
        purchases["after"] = rng.poisson(rate * np.where(quick, 1.3, 1))
        found = repurchase_after(cases, purchases)
        covered.append(found["low"] <= 0.3 <= found["high"])
    assert abs(np.mean(covered) - 0.95) <= four_errors(0.95, 100)
    few = repurchase_after(cases[:8], purchases[:8])
    assert few["value"] is None and "can be followed" in few["reason"]
    silent = repurchase_after(cases, purchases.assign(after=purchases["after"] * quick))
    assert silent["value"] is None and "0 in one group" in silent["reason"]
    new = repurchase_after(cases, purchases.assign(before=0, recent=0))
    assert new["low"] < 0.3 < new["high"], "nobody bought before: nothing to control for"
