"""Published figures of MBG/NBD, (M)BG/CNBD-k, BG/BB and sBG, to the digits that were printed.

The data are the files that lifetimes ships (CDNOW sample, donations) and the survival percentages of Fader & Hardie
(2007), table 1.
"""

from importlib.metadata import files

import numpy as np
import pandas as pd
import pytest

from analysis.valuation.bg_bb import BGBB
from analysis.valuation.bg_cnbd_k import BGCNBDk, MBGCNBDk
from analysis.valuation.mbg_nbd import MBGNBD
from analysis.valuation.sbg import SBG


def _located(name):
    return next(f for f in files("lifetimes") if str(f) == f"lifetimes/datasets/{name}").locate()


def _printed(value, digits):
    """Everything that rounds to what was printed."""
    return pytest.approx(np.asarray(value, dtype=float), abs=0.5000001 * 10.0**-digits, rel=0)


@pytest.fixture(scope="module")
def sample():
    """The 1/10 sample to the end of September 1997, weeks of seven days: (x, t_x, T, sum of log intervals)."""
    names = ["master", "customer_id", "day", "cds", "spend"]
    lines = pd.read_csv(_located("CDNOW_sample.txt"), sep=r"\s+", header=None, names=names, dtype={"day": str})
    lines["day"] = pd.to_datetime(lines["day"], format="%Y%m%d")
    days = lines[lines["day"] <= "1997-09-30"].drop_duplicates(["customer_id", "day"]).sort_values("day")
    by = days.groupby("customer_id")["day"]
    first, last = by.min(), by.max()
    logs = np.log(by.diff().dt.days / 7.0)
    return (
        (by.size() - 1).to_numpy(),
        (last - first).dt.days.to_numpy() / 7.0,
        (pd.Timestamp("1997-09-30") - first).dt.days.to_numpy() / 7.0,
        logs.groupby(days["customer_id"]).sum().to_numpy(),
    )


MBG = [0.524843, 6.183085, 0.891359, 1.614002]


def test_mbg_nbd_fit(sample):
    results = MBGNBD(*sample[:3]).fit()
    assert results.verdict.usable
    assert results.params.to_numpy() == _printed(MBG, 6)
    assert results.llf == _printed(-9582.13572, 5)
    alive = results.probability_alive(*sample[:3])
    assert alive[sample[0] == 0].max() < 1.0


def test_cdnow_shows_no_regularity(sample):
    """BTYDplus: k = 1 for CDNOW, so that the fit is the (M)BG/NBD's."""
    for model, params, llf in (
        (BGCNBDk, [0.242595, 4.413602, 0.792922, 2.425907], -9582.42921),
        (MBGCNBDk, MBG, -9582.13572),
    ):
        results = model(*sample[:3], litt=sample[3]).fit()
        assert results.k == 1
        assert results.params.to_numpy() == _printed(params, 6)
        assert results.llf == _printed(llf, 5)
        assert results.profile[2] < results.profile[1] - 200


def test_bg_bb_fit():
    donors = pd.read_csv(_located("donations.csv"))
    model = BGBB(donors["frequency"], donors["recency"], donors["periods"], weights=donors["weights"])
    assert model.nobs == 11_104
    results = model.fit()
    assert results.verdict.usable
    assert results.params.to_numpy() == _printed([1.203522, 0.749716, 0.656718, 2.783442], 6)
    assert results.llf == _printed(-33225.5813, 4)


def test_bg_bb_residual_transactions():
    """BTYD's example of DERT."""
    results = BGBB([3, 0], [4, 0], [6, 6])
    blank = np.full((4, 4), np.nan)
    params = pd.Series([1.20, 0.75, 0.66, 2.78], index=list(results.parameter_names))
    results = results.results_class(results, params, blank, np.nan, None)
    assert results.discounted_expected_residual_transactions(0.1, [3], [4], [6])[0] == _printed(1.62137919, 8)


HIGH_END = [1000, 869, 743, 653, 593, 551, 517, 491, 468, 445, 427, 409, 394]
REGULAR = [1000, 631, 468, 382, 326, 289, 262, 241, 223, 207, 194, 183, 173]


@pytest.mark.parametrize(
    ("survivors", "years", "params", "llf"),
    [
        (HIGH_END, 7, [0.6681, 3.8061], -1611.1581),
        (REGULAR, 7, [0.7041, 1.1820], -1680.2652),
        (REGULAR, 4, [0.7637, 1.2958], -1401.5594),
    ],
)
def test_sbg_fit(survivors, years, params, llf):
    results = SBG.from_survivors(survivors[: years + 1]).fit()
    assert results.verdict.usable
    assert results.params.to_numpy() == _printed(params, 4)
    assert results.llf == _printed(llf, 4)


@pytest.mark.parametrize(("survivors", "published"), [(HIGH_END, 0.3780), (REGULAR, 0.1700)])
def test_sbg_survival_to_year_12_from_seven_years(survivors, published):
    assert SBG.from_survivors(survivors[:8]).fit().survival(12) == _printed(published, 4)


@pytest.mark.parametrize(
    ("survivors", "rounded", "published"),
    [
        (HIGH_END, [0.668, 3.806], [5.4149, 5.9018, 6.2943, 6.6203, 6.8971]),
        (REGULAR, [0.704, 1.182], [2.9647, 4.1035, 4.8701, 5.4424, 5.8944]),
    ],
)
def test_sbg_residual_lifetime(survivors, rounded, published):
    fitted = SBG.from_survivors(survivors[:8]).fit()
    periods = np.arange(1, 6)
    # printed from the estimates rounded to three decimals
    assert fitted.params.to_numpy() == _printed(rounded, 3)
    values = fitted.with_params(rounded).discounted_expected_residual_lifetime(0.1, periods)
    assert values == _printed(published, 4)
    assert fitted.discounted_expected_residual_lifetime(0.1, periods) == pytest.approx(published, rel=2e-4)
