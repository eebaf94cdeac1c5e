"""The seasonal Pareto/NBD: planted seasons are found again, the likelihood is the right one, and what cannot be told."""

import datetime
from itertools import pairwise

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special

from analysis.valuation import ModelNotFitted, ParetoNBD, PurchaseResults, seasonal
from analysis.valuation.seasonal import (
    Calendar,
    SeasonalParetoNBD,
    Timeline,
    weekly_dispersion,
    weekly_repeats,
)

DAY = datetime.date(2024, 10, 16)  # a Wednesday, so that the last week is cut
PARAMS = (0.9, 6.0, 0.6, 25.0)  # weeks
CHRISTMAS = np.array([0.55, 0.0, 0.35, 0.0])  # twice and a half the mean rate at the turn of the year


def simulate(customers, rng, gamma=CHRISTMAS, calendar=None, weeks=104, entry_weeks=52, entries=52, future=13):
    """Histories by the story, in weeks: x, t_x, T, purchases by calendar week, and by week of the future."""
    calendar = calendar or Calendar(len(gamma) // 2)
    line = Timeline.around(calendar, DAY, -7.0 * weeks, 7.0 * future, 7.0)
    passed, (r, alpha, s, beta) = line.passed(gamma), PARAMS
    age = weeks - np.linspace(0, entry_weeks, entries, endpoint=False)[rng.integers(0, entries, customers)]
    leave = rng.exponential(size=customers) * beta / np.maximum(rng.gamma(s, size=customers), 1e-12)
    begin = np.interp(-age, line.bounds, passed)
    lived = np.interp(np.minimum(leave - age, future), line.bounds, passed) - begin
    count = rng.poisson(rng.gamma(r, size=customers) / alpha * lived)
    who = np.repeat(np.arange(customers), count)
    moment = np.interp(begin[who] + rng.random(len(who)) * lived[who], passed, line.bounds)
    seen = moment <= 0
    x = np.bincount(who[seen], minlength=customers).astype(float)
    t_x = np.zeros(customers)
    np.maximum.at(t_x, who[seen], moment[seen] + age[who[seen]])
    by_week = np.bincount(line.week_of(moment[seen]), minlength=len(line.mondays))
    weekly = pd.DataFrame({"week": line.mondays, "purchases": by_week})
    coming = np.bincount(np.ceil(moment[~seen]).astype(int) - 1, minlength=future)
    return x, t_x, age, weekly, coming


def made(x, t_x, age, weekly, **options):
    return SeasonalParetoNBD(x, t_x, age, **({"weekly": weekly, "observed_to": DAY} | options))


@pytest.fixture(scope="module")
def base():
    return simulate(3000, np.random.default_rng(7), entries=13)


@pytest.fixture(scope="module")
def fitted(base):
    return made(*base[:4]).fit()


def by_hand(x, t_x, age, weekly, calendar, q):
    """The likelihood of the module's docstring, customer by customer, by adaptive quadrature."""
    r, alpha, s, beta = q[:4]
    line = Timeline.around(calendar, DAY, -7.0 * age.max(), 0.0, 7.0)
    passed = line.passed(q[4:])
    total = weekly["purchases"].to_numpy() @ (line.z @ q[4:])
    for xi, ti, end in zip(x, t_x, age, strict=True):

        def lived(y, end=end):
            return alpha + np.interp(y - end, line.bounds, passed) - np.interp(-end, line.bounds, passed)

        top = -(r + xi) * np.log(lived(ti))

        def leaving(y, xi=xi, top=top, lived=lived):
            return np.exp(-(r + xi) * np.log(lived(y)) - top) * (beta + y) ** -(s + 1)

        edges = np.concatenate([[ti], [b for b in line.bounds + end if ti < b < end], [end]])
        left = sum(integrate.quad(leaving, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in pairwise(edges))
        stayed = np.exp(-(r + xi) * np.log(lived(end)) - top) * (beta + end) ** -s
        total += special.gammaln(r + xi) - special.gammaln(r) + r * np.log(alpha) + s * np.log(beta)
        total += top + np.log(stayed + s * left)
    return total


def odd_histories():
    """A few customers with the awkward histories: heavy, of one day, silent for long, last seen on the last day."""
    x = np.array([0, 0, 1, 3, 400, 2500, 7, 2])
    t_x = np.array([0, 0, 1 / 7, 60, 70, 100, 2, 53])
    age = np.array([104, 53, 104, 60, 104, 100, 104, 53])
    week = Timeline.around(Calendar(1), DAY, -728.0, 0.0, 7.0).mondays
    purchases = np.random.default_rng(3).multinomial(x.sum(), np.full(len(week), 1 / len(week)))
    return x.astype(float), t_x, age.astype(float), pd.DataFrame({"week": week, "purchases": purchases})


@pytest.mark.parametrize("q", [(0.6, 10.0, 0.6, 11.0), (1.7, 0.05, 0.2, 300.0), (0.1, 200.0, 8.0, 0.02)])
def test_likelihood_and_gradient_are_those_of_the_formula(q):
    x, t_x, age, weekly = odd_histories()
    calendar = Calendar(2)
    model = made(x, t_x, age, weekly, calendar=calendar)
    q = np.array([*q, 0.5, -0.2, 0.3, 0.1])
    assert model.loglike(q) == pytest.approx(by_hand(x, t_x, age, weekly, calendar, q), rel=1e-9)
    steps = np.diag(1e-5 * np.maximum(np.abs(q), 1e-3))
    slopes = [(model.loglike(q + h) - model.loglike(q - h)) / (2 * h.max()) for h in steps]
    assert model.score(q) == pytest.approx(np.array(slopes), rel=2e-5, abs=1e-4)


def test_without_coefficients_it_is_pareto_nbd(base, fitted):
    x, t_x, age, weekly, _ = base
    model, plain = made(x, t_x, age, weekly), ParetoNBD(x, t_x, age)
    for params in (PARAMS, (2.0, 30.0, 0.2, 3.0)):
        q = np.array([*params, 0, 0, 0, 0])
        assert model.loglike(q) == pytest.approx(plain.loglike(params), rel=1e-12)
        assert model.score(q)[:4] == pytest.approx(plain.score(params), rel=1e-7, abs=1e-6)
    still = fitted.with_params([*PARAMS, 0, 0, 0, 0])
    same = plain.fit().with_params(PARAMS)
    assert still.probability_alive(x, t_x, age) == pytest.approx(same.probability_alive(x, t_x, age), rel=1e-10)
    for discount in (0.0, 0.002):
        expected = same.expected_purchases(26, x, t_x, age, discount)
        assert still.expected_purchases(26, x, t_x, age, discount) == pytest.approx(expected, rel=1e-9)
    chances = same.count_distribution(5, 13, x[:50], t_x[:50], age[:50])
    assert still.count_distribution(5, 13, x[:50], t_x[:50], age[:50]) == pytest.approx(chances, abs=1e-9)
    assert still.expected_repeats([1.0, 40.0], DAY) == pytest.approx(same.expected_repeats([1.0, 40.0]), rel=1e-9)


def test_planted_season_is_found_again(base, fitted):
    x, t_x, age, _, _ = base
    assert fitted.verdict.usable
    assert list(fitted.params.index[4:]) == ["season: cos 1", "season: sin 1", "season: cos 2", "season: sin 2"]
    assert np.abs((fitted.gamma - CHRISTMAS) / fitted.bse.iloc[4:]).max() < 4.0
    log_error = np.log(fitted.params.iloc[:4] / PARAMS) / (fitted.bse / fitted.params).iloc[:4]
    assert np.abs(log_error).max() < 4.0
    plain = ParetoNBD(x, t_x, age).fit()
    test = fitted.likelihood_ratio(plain)
    assert test["df"] == 4 and test["statistic"] == pytest.approx(2 * (fitted.llf - plain.llf))
    assert test["p_value"] < 1e-20 and fitted.aic < plain.aic and fitted.bic < plain.bic
    year = fitted.season()
    assert year["factor"].mean() == pytest.approx(1.0)
    assert year["day"].iloc[year["factor"].idxmax()] in {*range(1, 12), *range(355, 366)}
    months = fitted.season_by_month()
    truth = fitted.with_params([*PARAMS, *CHRISTMAS]).season_by_month()["factor"]
    assert ((months["low"] < truth) & (truth < months["high"])).all()
    assert months["month"].iloc[months["factor"].idxmax()] in (12, 1)
    assert weekly_dispersion(fitted) < 1.6
    with pytest.raises(ValueError, match="in the same unit"):
        fitted.likelihood_ratio(ParetoNBD(x, t_x * 7, age * 7).fit())


def test_forecast_over_the_peak_beats_the_plain_model(base, fitted):
    x, t_x, age, _, coming = base
    plain = ParetoNBD(x, t_x, age).fit()
    ours = fitted.expected_weekly(13, x, t_x, age)
    totals = np.array([plain.expected_purchases(t, x, t_x, age).sum() for t in range(14)])
    theirs = np.diff(totals)
    assert np.abs(ours - coming).sum() < 0.5 * np.abs(theirs - coming).sum()
    assert abs(ours.sum() - coming.sum()) < 0.5 * abs(theirs.sum() - coming.sum())
    # a total that the model may miss by chance alone: four standard deviations of an over-dispersed count
    assert abs(ours.sum() - coming.sum()) < 4 * np.sqrt(5 * coming.sum())
    assert fitted.expected_purchases(13, x, t_x, age).sum() == pytest.approx(ours.sum(), rel=1e-9)


def test_purchases_between_dates_add_up(base, fitted):
    x, t_x, age = (v[:200] for v in base[:3])
    last = DAY + datetime.timedelta(days=91)
    parts = [DAY, DAY + datetime.timedelta(days=5), DAY + datetime.timedelta(days=40), last]
    day = datetime.timedelta(days=1)
    found = [fitted.expected_between(a + day, b, x, t_x, age) for a, b in pairwise(parts)]
    assert sum(found) == pytest.approx(fitted.expected_purchases(13, x, t_x, age), rel=1e-9)
    # the weeks around Christmas are busier than the autumn's, although some customers have left by then
    autumn = fitted.expected_between(DAY + day, DAY + 28 * day, x, t_x, age).sum()
    christmas = fitted.expected_between(DAY + 63 * day, DAY + 90 * day, x, t_x, age).sum()
    assert christmas > 1.5 * autumn
    with pytest.raises(ValueError, match="is not a period after"):
        fitted.expected_between(DAY, last, x, t_x, age)
    with pytest.raises(ValueError, match="no endless future"):
        fitted.expected_purchases(np.inf, x, t_x, age, discount=0.01)


def test_futures_and_counts_agree_with_the_expectation(base, fitted):
    x, t_x, age = (v[:300] for v in base[:3])
    rng = np.random.default_rng(5)
    bought, active = fitted.simulate_future(13, x, t_x, age, rng, size=400)
    expected = fitted.expected_purchases(13, x, t_x, age)
    error = bought.sum(axis=1).std() / np.sqrt(400)
    assert abs(bought.sum(axis=1).mean() - expected.sum()) < 4 * error
    assert active.max() <= 13
    chances = fitted.count_distribution(400, 13, x, t_x, age)
    assert chances.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-7)
    assert chances @ np.arange(401) == pytest.approx(expected, rel=1e-6)


def test_days_and_weeks_give_the_same_fit(base, fitted):
    x, t_x, age, weekly, _ = base
    days = made(x, t_x * 7, age * 7, weekly, unit="days").fit()
    ratio = np.array([1, 7, 1, 7, 1, 1, 1, 1])
    assert days.params.to_numpy() == pytest.approx(fitted.params.to_numpy() * ratio, rel=1e-5, abs=1e-6)
    assert days.bse.to_numpy() == pytest.approx(fitted.bse.to_numpy() * ratio, rel=1e-3)
    assert days.llf == pytest.approx(fitted.llf - x.sum() * np.log(7), rel=1e-10)
    assert days.expected_purchases(91, x, t_x * 7, age * 7) == pytest.approx(
        fitted.expected_purchases(13, x, t_x, age), rel=1e-5
    )


def test_weights_are_repeated_customers():
    x, t_x, age, weekly, _ = simulate(300, np.random.default_rng(11))
    twice = made(*(np.tile(v, 2) for v in (x, t_x, age)), weekly.assign(purchases=weekly["purchases"] * 2)).fit()
    weighted = made(x, t_x, age, weekly.assign(purchases=weekly["purchases"] * 2), weights=np.full(300, 2)).fit()
    assert weighted.params.to_numpy() == pytest.approx(twice.params.to_numpy(), rel=1e-6)
    assert weighted.nobs == 600


def test_given_weeks_are_found_again_and_must_be_planned_ahead():
    line = Timeline.around(Calendar(1), DAY, -728.0, 91.0, 7.0)
    sale = pd.DataFrame({"sale": np.arange(len(line.mondays)) % 7 == 0}, index=line.mondays).astype(float)
    known = sale[sale.index <= pd.Timestamp(DAY)]
    x, t_x, age, weekly, coming = simulate(2500, np.random.default_rng(2), np.array([0.7]), Calendar(0, sale))
    results = made(x, t_x, age, weekly, calendar=Calendar(0, known)).fit()
    assert abs(results.params["week: sale"] - 0.7) < 4 * results.bse["week: sale"]
    with pytest.raises(ValueError, match="column 'sale' has no value for the week of 2024-10-21"):
        results.expected_purchases(13, x, t_x, age)
    planned = results.with_columns(sale[sale.index > pd.Timestamp(DAY)])
    expected = planned.expected_weekly(13, x, t_x, age)
    assert abs(expected.sum() - coming.sum()) < 4 * np.sqrt(3 * coming.sum())
    with pytest.raises(ValueError, match="no seasonal terms"):
        results.season()
    # without a season a short history will do
    short = simulate(400, np.random.default_rng(4), np.array([0.7]), Calendar(0, sale), weeks=40, entry_weeks=10)
    found = made(*short[:4], calendar=Calendar(0, known)).fit()
    assert abs(found.params["week: sale"] - 0.7) < 4 * found.bse["week: sale"] < 0.7


def test_intervals_of_the_season_cover():
    truth, inside, replications = np.array([0.4, -0.2]), np.zeros(2), 200
    for seed in range(replications):
        x, t_x, age, weekly, _ = simulate(
            300, np.random.default_rng([29, seed]), truth, weeks=54, entry_weeks=0, entries=1, future=1
        )
        interval = made(x, t_x, age, weekly, calendar=Calendar(1)).fit().conf_int().iloc[4:]
        inside += (interval["low"] < truth) & (truth < interval["high"])
    assert np.abs(inside / replications - 0.95).max() < 4 * np.sqrt(0.95 * 0.05 / replications)


def test_saved_fits_score_the_same(base, fitted):
    x, t_x, age = (v[:100] for v in base[:3])
    loaded = PurchaseResults.from_json(fitted.to_json("weeks"), "weeks")
    assert type(loaded) is type(fitted)
    assert (loaded.probability_alive(x, t_x, age) == fitted.probability_alive(x, t_x, age)).all()
    assert (loaded.expected_purchases(13, x, t_x, age) == fitted.expected_purchases(13, x, t_x, age)).all()
    assert loaded.season().equals(fitted.season()) and loaded.to_json() == fitted.to_json()
    with pytest.raises(ModelNotFitted, match="holds no data"):
        loaded.model.loglike(loaded.params)
    with pytest.raises(ValueError, match="counts in weeks, not in days"):
        fitted.to_json("days")
    week = pd.DataFrame({"sale": [1.0]}, index=[pd.Timestamp("2024-10-14")])
    again = Calendar.from_settings(Calendar(3, week).to_settings())
    assert again.names == Calendar(3, week).names and again.columns.equals(Calendar(3, week).columns)


def test_what_cannot_be_told_is_said_in_one_line(base):
    x, t_x, age, weekly, _ = base
    short = np.minimum(age, 51.0)
    with pytest.raises(ValueError, match="watched for 51 weeks; a season needs a year"):
        made(x, np.minimum(t_x, short), short, weekly)
    nothing = weekly.assign(purchases=0)
    with pytest.raises(ModelNotFitted, match="Seasonal Pareto/NBD: nobody bought twice"):
        made(np.zeros(5), np.zeros(5), np.full(5, 60.0), nothing).fit()
    once = weekly.assign(purchases=np.eye(len(weekly))[80].astype(int))
    with pytest.raises(ModelNotFitted, match="Seasonal Pareto/NBD: one customer"):
        made([1], [30], [60], once).fit()
    with pytest.raises(ValueError, match="no customer"):
        made([], [], [], nothing)
    with pytest.raises(ValueError, match="they add up to 0, the customers' repeat purchases to"):
        made(x, t_x, age, nothing)
    with pytest.raises(ValueError, match="nobody is watched in the week of 2020-01-06"):
        made(x, t_x, age, pd.DataFrame({"week": ["2020-01-06"], "purchases": [3]}))
    with pytest.raises(ValueError, match="2020-01-07 is none"):
        made(x, t_x, age, pd.DataFrame({"week": ["2020-01-07"], "purchases": [3]}))
    with pytest.raises(ValueError, match="unit must be days or weeks"):
        made(x, t_x, age, weekly, unit="months")


def test_calendars_that_say_nothing_are_refused(base):
    x, t_x, age, weekly, _ = base
    weeks = weekly["week"]
    column = pd.DataFrame({"a": np.arange(len(weeks)) % 5 * 1.0}, index=weeks)
    for columns, message in (
        (column.assign(b=3.0), "'week: b' is the same in all observed weeks"),
        (column.assign(b=1 - column["a"]), "'week: b' follows from the terms before it"),
        (column.iloc[1:], "column 'a' has no value for the week of 2022-10-17"),
    ):
        with pytest.raises(ValueError, match=message):
            made(x, t_x, age, weekly, calendar=Calendar(1, columns))
    for pairs, columns, message in (
        (0, None, "neither seasonal terms nor columns"),
        (-1, None, "pairs must be a whole number"),
        (1, column.assign(b="x"), "'b' is not numeric"),
        (1, column.assign(b=np.nan), "'b' has missing values"),
        (1, column.set_axis(weeks + pd.Timedelta(days=1)), "weeks are named by their Mondays"),
        (1, pd.concat([column, column]), "there twice"),
    ):
        with pytest.raises(ValueError, match=message):
            Calendar(pairs, columns)


def test_weekly_repeats_are_counted_on_the_engine():
    rows = [
        ("a", "2024-01-01", 5.0),  # a Monday: the first purchase
        ("a", "2024-01-07", 5.0),  # the Sunday of the same week
        ("a", "2024-01-07", 2.0),  # one day is one occasion
        ("a", "2024-01-08", 5.0),
        ("b", "2024-01-09", 5.0),
        ("b", "2024-01-10", -5.0),  # a return
        ("b", "2024-01-30", 5.0),
        ("b", "2024-02-05", 5.0),  # too late
    ]
    frame = pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"])
    frame["order_date"] = pd.to_datetime(frame["order_date"]).dt.date
    found = weekly_repeats(ibis.memtable(frame), datetime.date(2024, 1, 31))
    assert dict(zip(found["week"].dt.strftime("%m-%d"), found["purchases"], strict=True)) == {
        "01-01": 1,
        "01-08": 1,
        "01-29": 1,
    }


def test_blocks_give_the_same_as_the_whole(base, fitted, monkeypatch):
    x, t_x, age = base[:3]
    alive, score = fitted.probability_alive(x, t_x, age), fitted.model.score(fitted.params)
    monkeypatch.setattr(seasonal, "_LARGEST", 500)
    assert len(seasonal._layouts(fitted.model.cells, fitted.model.timeline)) > 5
    assert fitted.model.loglike(fitted.params) == pytest.approx(fitted.llf, rel=1e-9)
    assert fitted.model.score(fitted.params) == pytest.approx(score, abs=1e-6)
    assert (fitted.probability_alive(x, t_x, age) == alive).all()


def test_the_day_of_a_purchase_lies_in_its_own_week():
    # one customer, one repeat: the factor of the week of the purchase's day is the one that counts
    for days in range(1, 15):
        bought = DAY - datetime.timedelta(days=days)
        monday = pd.Timestamp(bought - datetime.timedelta(days=bought.weekday()))
        line = Timeline.around(Calendar(1), DAY, -400.0, 0.0, 1.0)
        assert line.mondays[line.week_of(np.array([-days - 0.5]))[0]] == monday
