"""Published figures of the customer-base literature, to the digits that were printed.

FHL 2005a: Fader, Hardie & Lee, Marketing Science 24(2), 275–284. FHL 2005b: the same, Journal of Marketing
Research 42(4), 415–430. Note 025: Fader & Hardie, the gamma-gamma model of monetary value. The data are the files that
lifetimes ships; purchases of $0 count as purchases there, so histories are built here and not by the summary.
"""

from importlib.metadata import files

import numpy as np
import pandas as pd
import pytest

from analysis.valuation import BGNBD, NBD, GammaGamma, ParetoNBD, expected_cumulative
from analysis.valuation.holdout import by_frequency, evaluate_holdout


def _read(name, **options):
    path = next(f for f in files("lifetimes") if str(f) == f"lifetimes/datasets/{name}").locate()
    lines = pd.read_csv(path, sep=r"\s+", header=None, dtype={"day": str}, **options)
    return lines.assign(day=pd.to_datetime(lines["day"], format="%Y%m%d"))


def _histories(lines, end, unit=7.0):
    days = lines[lines["day"] <= end].groupby(["customer_id", "day"], as_index=False)["spend"].sum()
    first = days.groupby("customer_id")["day"].transform("min")
    grouped = days.groupby("customer_id")["day"]
    frame = pd.DataFrame(
        {
            "frequency": grouped.size() - 1,
            "recency": (grouped.max() - grouped.min()).dt.days / unit,
            "T": (pd.Timestamp(end) - grouped.min()).dt.days / unit,
        }
    )
    repeat = days[days["day"] > first].groupby("customer_id")["spend"].mean()
    return frame.assign(monetary_value=repeat.reindex(frame.index).fillna(0.0))


@pytest.fixture(scope="module")
def purchases():
    return _read("CDNOW_sample.txt", names=["master", "customer_id", "day", "cds", "spend"])


@pytest.fixture(scope="module")
def sample(purchases):
    """The 1/10 sample, calibrated to the end of September 1997, weeks of exactly seven days."""
    return _histories(purchases, "1997-09-30")


@pytest.fixture(scope="module")
def master():
    """All 23,570 customers over 78 weeks, in days."""
    lines = _read("CDNOW_master.txt", names=["customer_id", "day", "cds", "spend"], skiprows=1)
    return _histories(lines, "1998-06-30", unit=1.0)


def _fit(model, frame):
    return model(frame["frequency"], frame["recency"], frame["T"]).fit()


@pytest.fixture(scope="module")
def bg(sample):
    return _fit(BGNBD, sample)


@pytest.fixture(scope="module")
def pareto(sample):
    return _fit(ParetoNBD, sample)


def _at(model, params):
    results = model([1, 0], [1.0, 0.0], [2.0, 2.0])
    blank = np.full((len(params), len(params)), np.nan)
    return model.results_class(results, pd.Series(params, index=list(model.parameter_names)), blank, np.nan, None)


def _printed(value, digits):
    """Everything that rounds to what was printed."""
    return pytest.approx(np.asarray(value, dtype=float), abs=0.5000001 * 10.0**-digits, rel=0)


def test_the_sample_is_the_one_of_the_papers(sample):
    assert len(sample) == 2357
    assert sample["frequency"].sum() == 2457
    assert (sample["frequency"] == 0).sum() == 1411


def test_bg_nbd_fit(bg):
    assert bg.verdict.usable
    assert bg.params.to_numpy() == _printed([0.242595, 4.413602, 0.792922, 2.425907], 6)
    assert bg.params.to_numpy() == _printed([0.243, 4.414, 0.793, 2.426], 3)
    assert bg.bse.to_numpy() == _printed([0.01256, 0.37822, 0.18573, 0.70541], 5)
    assert bg.llf == _printed(-9582.42921, 5)


def test_pareto_nbd_fit(pareto):
    assert pareto.verdict.usable
    # published by optimisers that stopped a little short: the fifth digit of their estimates is not settled
    assert pareto.params.to_numpy() == pytest.approx([0.553277, 10.577682, 0.606240, 11.668748], rel=2e-6)
    assert pareto.params.to_numpy() == _printed([0.5533, 10.5777, 0.6062, 11.6687], 4)
    assert pareto.bse.to_numpy() == _printed([0.04763, 0.84272, 0.18728, 6.2111], 4)
    assert pareto.llf == _printed(-9594.97618, 5)


def test_nbd_fit(sample):
    results = _fit(NBD, sample)
    assert results.params.to_numpy() == pytest.approx([0.384766, 12.072014], rel=2e-6)
    assert results.llf == pytest.approx(-9763.65762, abs=1e-5)


def test_pareto_nbd_fit_on_78_weeks(purchases):
    results = _fit(ParetoNBD, _histories(purchases, "1998-06-30"))
    assert results.params.to_numpy() == pytest.approx([0.563006, 12.559216, 0.408107, 10.514532], rel=5e-6)
    assert results.llf == _printed(-17135.83589, 5)
    at_published = results.model.loglike([0.563006, 12.559216, 0.408107, 10.514532])
    assert at_published <= results.llf


def test_gamma_gamma_fit(sample):
    results = GammaGamma(sample["frequency"], sample["monetary_value"]).fit()
    assert results.verdict.usable
    assert results.nobs == 946
    assert results.params.to_numpy() == _printed([6.2496, 3.7442, 15.4435], 4)
    assert results.llf == _printed(-4055.91769, 5)
    # note 025 computes its examples from the estimates rounded to two decimals
    rounded = results.with_params([6.25, 3.74, 15.44])
    assert rounded.population_mean == _printed(35.22, 2)
    assert rounded.expected_spend([0], [0.0])[0] == _printed(35.22, 2)
    assert rounded.expected_spend([2], [40.0])[0] == _printed(39.1404, 4)


def test_bg_nbd_conditional_expectation(bg):
    assert bg.expected_purchases(39.0, [2], [30.43], [38.86])[0] == _printed(1.226, 3)


def test_bg_nbd_expected_repeats_of_a_new_customer():
    results = _at(BGNBD, [0.242595, 4.413602, 0.792922, 2.425907])
    assert results.expected_repeats([0.1429, 1, 3, 31.8571, 32]) == _printed(
        [0.0078, 0.0532, 0.1506, 1.0405, 1.0437], 4
    )
    # printed as 1.8576; at these estimates the closed form gives 1.85796, for a reason unknown
    assert results.expected_repeats(78.0) == pytest.approx(1.8576, rel=3e-4)


def test_bg_nbd_probabilities_of_counts():
    results = _at(BGNBD, [0.243, 4.414, 0.793, 2.426])
    assert results.purchase_pmf([10], 2.0)[0] == pytest.approx(1.07869e-7, rel=5e-6)
    assert results.purchase_pmf([0], 39.0)[0] == _printed(0.5737864, 7)


# The BTYD walkthrough computes the next examples at estimates whose optimiser stopped short of the maximum (its
# Pareto/NBD prints α 10.580, β 11.656), so at the maximum they agree to about three digits.
AT_OTHER_ESTIMATES = 1e-3


def test_expected_repeats_in_a_year(bg, pareto):
    assert pareto.expected_repeats(52.0) == pytest.approx(1.473434, rel=2e-6)
    assert bg.expected_repeats(52.0) == pytest.approx(1.44400, rel=2e-5)


def test_customer_1516(bg, pareto):
    history = ([26], [216 / 7], [31.0])
    assert pareto.expected_purchases(52.0, *history)[0] == pytest.approx(25.4565, rel=1e-4)
    assert pareto.probability_alive(*history)[0] == pytest.approx(0.997874, abs=1e-6)
    assert bg.expected_purchases(52.0, *history)[0] == pytest.approx(25.7566, rel=1e-4)
    assert bg.probability_alive(*history)[0] == pytest.approx(0.968852, abs=3e-6)


def test_more_purchases_can_mean_a_worse_outlook(bg, pareto):
    """Purchases expected in 52 weeks of customers last seen in week 20 of 39: the more they had bought, the fewer."""
    history = ([10, 15, 20, 25], [20.0] * 4, [39.0] * 4)
    expected = pareto.expected_purchases(52.0, *history)
    assert expected == pytest.approx([0.70623, 0.14424, 0.02251, 0.00309], rel=AT_OTHER_ESTIMATES)
    expected = bg.expected_purchases(52.0, *history)
    assert expected == pytest.approx([0.34746, 0.04283, 0.00416, 0.00036], rel=AT_OTHER_ESTIMATES, abs=5e-6)


@pytest.fixture(scope="module")
def holdout(purchases, sample):
    days = purchases.groupby(["customer_id", "day"]).size().reset_index()
    after = days[days["day"] > "1997-09-30"].groupby("customer_id").size()
    frame = sample.reset_index().assign(recency=lambda f: f["recency"] * 7, T=lambda f: f["T"] * 7)
    frame["holdout_frequency"] = frame["customer_id"].map(after).fillna(0.0)
    money = dict.fromkeys(("holdout_spend", "recent_spend", "recent_repeat_spend"), 0.0)
    frame = frame.assign(**money, recent_frequency=0, recent_repeats=frame["frequency"])
    frame.attrs["holdout_days"] = 273
    return evaluate_holdout(frame, window_days=273, replications=100)


def test_holdout_by_past_frequency(holdout):
    table = by_frequency(holdout)
    assert list(table["group"]) == ["0", "1", "2", "3", "4", "5", "6", "7–29"]
    assert table["actual"].to_numpy() == _printed([0.237, 0.697, 1.393, 1.560, 2.532, 2.947, 3.862, 6.359], 3)
    pareto = [0.138, 0.600, 1.196, 1.714, 2.399, 2.907, 3.819, 6.403]
    assert table["Pareto/NBD"].to_numpy() == pytest.approx(pareto, abs=8e-4)
    bg = [0.225, 0.523, 1.044, 1.520, 2.164, 2.654, 3.504, 6.157]
    assert table["BG/NBD"].to_numpy() == _printed(bg, 3)


def test_holdout_totals(holdout):
    scores = holdout.scores.set_index("forecast")
    assert holdout.actual == 1882
    assert scores.loc["Pareto/NBD", "total"] == _printed(1665.5, 1)
    assert scores.loc["Pareto/NBD", "mae"] == _printed(0.7545, 4)
    assert scores.loc["BG/NBD", "total"] == _printed(1653.4, 1)
    assert scores.loc["BG/NBD", "mae"] == _printed(0.7855, 4)
    assert holdout.best_kind == "model"


def test_mean_probability_of_being_alive(sample, bg, pareto):
    history = (sample["frequency"], sample["recency"], sample["T"])
    assert pareto.probability_alive(*history).mean() == _printed(0.4463, 4)
    assert bg.probability_alive(*history).mean() == _printed(0.8134, 4)


def test_cumulative_repeat_purchases(purchases, sample, bg, pareto):
    weeks = np.array([20, 25, 39, 78])
    days = purchases.groupby(["customer_id", "day"]).size().reset_index()
    repeat = days[days["day"] > days.groupby("customer_id")["day"].transform("min")]
    elapsed = (repeat["day"] - purchases["day"].min()).dt.days.to_numpy() + 1
    assert [(elapsed <= 7 * week).sum() for week in weeks] == [1359, 1672, 2457, 4339]
    assert expected_cumulative(pareto, sample["T"], weeks) == _printed([1308.9, 1674.3, 2532.8, 4275.4], 1)
    assert expected_cumulative(bg, sample["T"], weeks) == _printed([1312.5, 1669.6, 2501.5, 4165.7], 1)


def test_discounted_expected_residual_transactions():
    results = _at(ParetoNBD, [0.5629966, 12.559037, 0.4081095, 10.5148048])
    dert = results.discounted_expected_residual_transactions
    assert dert(0.0027, [7], [35.0], [77.86])[0] == pytest.approx(1.86418333, rel=1e-8)
    published = [2.19916, 2.84353, 2.86713, 2.44541, 1.84050, 1.26242, 0.80962, 0.49480, 0.29203, 0.16793]
    x = np.arange(1, 11)
    assert dert(0.0027, x, np.full(10, 30.0), np.full(10, 77.86)) == _printed(published, 4)


def test_master_bg_nbd(master):
    results = _fit(BGNBD, master)
    assert results.params.to_numpy() == _printed([0.26713, 41.9054, 0.48352, 2.11161], 4)
    assert results.llf == _printed(-259086.826965, 4)


def test_master_pareto_nbd(master):
    results = _fit(ParetoNBD, master)
    assert results.params.to_numpy() == pytest.approx([0.61099, 95.2993, 0.31258, 43.0399], rel=2e-5)
    assert results.llf == _printed(-258988.906875, 5)


def test_master_gamma_gamma(master):
    results = GammaGamma(master["frequency"], master["monetary_value"]).fit()
    assert results.nobs == 11_515
    assert results.params.to_numpy() == _printed([5.08604, 3.99512, 21.25224], 4)
    assert results.llf == _printed(-49496.524203, 5)


def test_the_customer_that_breaks_other_implementations(master):
    results = _fit(ParetoNBD, master)
    heavy = master.loc[[14048]]
    assert heavy["frequency"].item() == 170 and heavy["recency"].item() == heavy["T"].item()
    alive = results.probability_alive(heavy["frequency"], heavy["recency"], heavy["T"])
    assert np.isfinite(alive).all() and alive[0] == 1.0
