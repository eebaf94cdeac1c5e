"""The season from order lines to sentences: a planted one is found and used, chance is not taken for one."""

import datetime
from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.reporting.theme import png
from analysis.valuation import customer_summary, run_season, season_facts
from analysis.valuation.seasonality_figures import season_factor, season_title

FIRST = datetime.date(2023, 1, 2)
DAYS = 7 * 107
LAST = FIRST + datetime.timedelta(days=DAYS - 1)  # 2025-01-19: the held-out weeks run over Christmas
FORMAT = Formatter("en", "USD")


def company(swing, customers=700, seed=1, days=DAYS):
    """Order lines of customers who come in the first year, buy by day and leave by day; `swing` moves December."""
    rng = np.random.default_rng(seed)
    day = np.arange(days)
    dates = np.array(FIRST, "datetime64[D]") + day
    month = dates.astype("datetime64[M]").astype(int) % 12
    factor = np.where(month == 11, swing, 1.0)
    rate = np.minimum(rng.gamma(2.0, size=customers) / 60.0, 0.3)
    entry = rng.integers(0, 364, customers)
    end = entry + rng.exponential(rng.gamma(2.0, size=customers) ** -1 * 900)
    buys = rng.random((customers, days)) < rate[:, None] * factor
    buys &= (day > entry[:, None]) & (day < end[:, None])
    buys[np.arange(customers), entry] = True
    who, when = np.nonzero(buys)
    frame = pd.DataFrame({"customer_id": [f"c{i}" for i in who], "order_date": dates[when]})
    frame["order_date"] = pd.to_datetime(frame["order_date"]).dt.date
    frame = frame.assign(order_id=np.arange(len(frame)).astype(str), net_amount=10.0, is_return=False)
    return ibis.memtable(frame)


def season_of(lines, **options):
    given = {"observed_from": FIRST, "observed_to": LAST, "holdout_weeks": 13, "pairs": (2, 6)} | options
    base = customer_summary(lines, given["observed_to"]).to_pandas()
    return run_season(lines, base, **given)


@pytest.fixture(scope="module")
def busy():
    found, reason = season_of(company(swing=2.5))
    assert reason == ""
    return found


def told(found):
    facts = season_facts(found, FORMAT)
    sentences = Sentences("02_customer_valuation", FORMAT)
    words = {"customers": "customers"} | facts
    interval = {"value": facts["factor"], "low": facts["factor_low"], "high": facts["factor_high"]}
    return sentences.render("season", **interval, **words), sentences.render("season_note", **words)


def test_a_planted_december_is_found_and_improves_the_forecast(busy):
    facts = season_facts(busy, FORMAT)
    assert busy.matters and facts["peak"] == "December" and busy.p_value < 1e-6 and busy.aic_gain > 20
    assert 1.5 < facts["factor_low"] < facts["factor"] < facts["factor_high"] < 3.0
    # the mean of a year with one month at 2.5 is 1.127
    assert facts["factor_low"] < 2.5 / 1.127
    assert busy.weekly_error("seasonal") < 0.7 * busy.weekly_error("plain")
    assert facts["less_error"] == pytest.approx(1 - facts["error_seasonal"] / facts["error_plain"])
    assert busy.holdout["actual"].sum() == facts["actual"] > 0 and len(busy.holdout) == 13
    finding, note = told(busy)
    assert finding.startswith("In December customers buy 2.") and "the season matters" in note


def test_a_gain_that_luck_explains_is_none(busy):
    """Errors by hand: 2 less in each week but one; then the same mean gain from one week alone."""

    def off_by(plain, seasonal):
        weeks = pd.DataFrame(
            {"actual": 100.0, "plain": 100.0 + np.array(plain), "seasonal": 100.0 - np.array(seasonal)}
        )
        return replace(busy, holdout=weeks)

    steady = off_by([5, 6, 5, 4], [3, 4, 3, 3])
    less = np.array([2.0, 2.0, 2.0, 1.0])
    limit = 1.75 - stats.t.ppf(0.95, 3) * less.std(ddof=1) / 2
    assert steady.gain() == pytest.approx((1.75, limit)) and limit > 0 and steady.improves and steady.matters
    lucky = off_by([5, 6, 5, 11], [6, 7, 6, 1])
    assert lucky.gain()[0] == pytest.approx(1.75) and not lucky.improves and not lucky.matters
    facts = season_facts(lucky, FORMAT)
    assert facts["gain"] == pytest.approx(1.75) and facts["gain_at_least"] < 0 and not facts["is_better"]
    single = off_by([5], [1])
    assert not single.improves and season_facts(single, FORMAT)["gain_at_least"] is None


def test_one_year_and_a_half_is_no_ground_for_advice(busy):
    once = replace(busy, years=1.5)
    assert once.improves and not once.repeated and not once.matters
    assert "the season matters" not in told(once)[1]


def test_the_figure_says_the_finding(busy):
    figure = season_factor(busy, FORMAT)
    assert figure.axes[0].get_title("left") == season_title(busy, FORMAT)
    assert season_title(busy, FORMAT).startswith("In December customers buy 2.")
    assert png(figure)[:4] == b"\x89PNG"
    # the highest point of the picture is the month and the number of the title
    points = figure.axes[0].get_lines()[0].get_xydata()
    month, factor = points[points[:, 1].argmax()]
    assert month == 12 and f"{factor:.2f} times" in season_title(busy, FORMAT)


def test_the_busiest_day_is_told_beside_the_months(busy):
    facts = season_facts(busy, FORMAT)
    assert facts["peak_day"].startswith("December") and facts["day_factor"] == busy.year["factor"].max()
    assert facts["day_low"] < facts["day_factor"] < facts["day_high"]
    caption = Sentences("02_customer_valuation", FORMAT).render("season.caption", customers="customers", **facts)
    assert f"the busiest day is about {facts['peak_day']}, with {facts['day_factor']:.2f} times" in caption


def test_without_a_season_none_is_claimed():
    found, _ = season_of(company(swing=1.0), pairs=(1, 2))
    assert not found.found and not found.matters
    assert found.months["low"].max() < 1.0 < found.months["high"].min()
    assert season_title(found, FORMAT) == "No season can be told from chance"
    finding, note = told(found)
    assert finding.startswith("No season can be told from chance") and note.endswith("a forecast needs no season here.")


def test_what_cannot_be_told_has_a_reason():
    lines = company(swing=1.0, customers=60)
    short = FIRST + datetime.timedelta(weeks=60)
    found, reason = season_of(lines, observed_to=short)
    assert found is None and reason.startswith("47 weeks before the held-out ones are less than a year")
    # the period is long enough, but nobody was there from its start
    late = lines.filter(lines.order_date > FIRST + datetime.timedelta(weeks=60))
    found, reason = season_of(late)
    assert found is None and reason.endswith("a season needs a year")
    first = lines.group_by("customer_id").aggregate(order_date=lines.order_date.min())
    once = first.mutate(net_amount=10.0, order_id=first.customer_id, is_return=False)
    found, reason = season_of(once)
    assert found is None and "nobody bought twice" in reason
