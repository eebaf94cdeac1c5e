"""Growth potential: peers by hand, luck is no room, what is never negative, tiny groups, share of wallet, intervals."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.valuation import NBD, money_figures, weekly_discount
from analysis.valuation.potential import FEW_PEERS, NO_MARGIN, TOO_NEW, growth_value

FMT = Formatter("en", "USD")
YEAR = 52 * 7


def base(margin, T=YEAR - 1, frequency=5):
    margin = np.asarray(margin, dtype=float)
    return pd.DataFrame(
        {
            "customer_id": [f"{k:04d}" for k in range(len(margin))],
            "frequency": frequency,
            "T": np.broadcast_to(np.asarray(T, dtype=float), margin.shape),
            "margin": margin,
        }
    )


def test_by_hand():
    margin = 52.0 * np.arange(1.0, 42.0)  # a week: 1, 2 … 41
    found = growth_value(base(margin), 10, quantile=0.75)
    frame = found.frame
    assert frame["peer_level"].unique().tolist() == [31.0] and frame["peers"].unique().tolist() == [41]
    assert frame["growth_value"].to_numpy() == pytest.approx(10 * np.maximum(31 - np.arange(1, 42), 0))
    assert found.total.value == pytest.approx(frame["growth_value"].sum()) and found.measured == 41
    assert found.total.low < found.total.value < found.total.high
    assert (frame["low"] <= frame["growth_value"]).all() and (frame["growth_value"] <= frame["high"]).all()
    alive = growth_value(base(margin), 10, probability_alive=np.full(41, 0.5)).frame["growth_value"]
    assert alive.to_numpy() == pytest.approx(frame["growth_value"].to_numpy() / 2)
    assert (growth_value(base(margin), 10, quantile=0.9).frame["growth_value"] >= frame["growth_value"]).all()
    d = weekly_discount(0.1)
    less = growth_value(base(margin), 10, discount=d).total.value
    assert less == pytest.approx(found.total.value * (1 - np.exp(-10 * d)) / (10 * d))


def test_levels_are_what_is_expected_of_one_who_is_active():
    levels, alive = np.arange(1.0, 42.0), np.full(41, 0.25)
    found = growth_value(base(np.full(41, np.nan)), 10, expected_value=10 * alive * levels, probability_alive=alive)
    assert found.frame["own_level"].to_numpy() == pytest.approx(levels)
    assert found.frame["growth_value"].to_numpy() == pytest.approx(2.5 * np.maximum(31 - levels, 0))
    # the discount of the forecast is undone in the level, and done once to the room
    rate = 0.1
    factor = (1 - np.exp(-10 * rate)) / (10 * rate)
    later = growth_value(base(levels), 10, expected_value=10 * factor * levels, discount=rate)
    assert later.frame["own_level"].to_numpy() == pytest.approx(levels)
    assert later.total.value == pytest.approx(4 * factor * found.total.value)
    gone = growth_value(
        base(levels), 10, expected_value=np.r_[0.0, levels[1:]], probability_alive=np.r_[0.0, alive[1:]]
    )
    assert gone.frame["growth_value"].iloc[0] == gone.frame["own_level"].iloc[0] == 0.0
    some = growth_value(base(levels), 10, expected_value=np.r_[np.nan, levels[1:]]).frame
    assert some["reason"].iloc[0] == NO_MARGIN and np.isnan(some["growth_value"].iloc[0])


def test_a_doubt_that_forecasts_share_widens_the_range_of_the_room():
    levels = np.arange(1.0, 42.0)
    sure = growth_value(base(levels), 10, expected_value=10 * levels).total
    doubted = growth_value(base(levels), 10, expected_value=10 * levels, doubt=0.1).total
    half = np.hypot(sure.high - sure.value, 1.959964 * 0.1 * sure.value)
    assert (doubted.value, doubted.high - doubted.value) == pytest.approx((sure.value, half))


def buyers(rate, rng, weeks=52, each=6.0):
    """A year of customers who buy at a weekly rate, and what the NBD model expects of the next in margin."""
    bought = rng.poisson(rate * weeks)
    summary = base(each * bought, frequency=bought)
    age = np.full(len(bought), float(weeks))
    model = NBD(bought, np.where(bought > 0, weeks - 1.0, 0.0), age).fit()
    return summary, each * model.expected_purchases(weeks, bought, np.where(bought > 0, weeks - 1.0, 0.0), age)


def test_luck_is_no_room_to_grow():
    """Customers of equal true rates have no room; levels of the past find a tenth of all margin."""
    summary, expected = buyers(np.full(2000, 0.2), np.random.default_rng(1))
    past, found = growth_value(summary, 52), growth_value(summary, 52, expected_value=expected)
    assert past.total.low > 0.05 * expected.sum()
    assert found.total.value < 0.01 * expected.sum() and found.total.low < 0.005 * expected.sum()


def test_the_best_bring_the_level_that_they_are_said_to_have():
    rng, weeks, each = np.random.default_rng(2), 52, 6.0
    rate = 0.05 * rng.gamma(2.0, 0.5, 4000)
    summary, expected = buyers(rate, rng)
    true = each * weeks * rate
    ratio = {}
    for name, given_value in (("past", None), ("forecast", expected)):
        frame = growth_value(summary, weeks, expected_value=given_value, bands=1).frame
        best = (frame["own_level"] >= frame["peer_level"]).to_numpy()
        ratio[name] = weeks * frame["own_level"][best].sum() / true[best].sum()
    # four standard errors: given what was bought, a true rate varies by no more than so many purchases would
    error = 4 * np.sqrt(each / expected[best].sum())
    assert abs(ratio["forecast"] - 1) < error < ratio["past"] - 1


def test_peers_share_how_long_and_how_often():
    rng = np.random.default_rng(1)
    often = np.repeat([2, 40], 100)
    margin = np.where(often > 10, 1000.0, 100.0) * rng.gamma(50, 1 / 50, 200)
    found = growth_value(base(margin, frequency=often), 52, bands=2).frame
    assert found["peer_level"][often == 2].max() < 3 < found["peer_level"][often == 40].min()


def test_a_share_of_wallet_caps_the_potential():
    margin = 52.0 * np.arange(1.0, 42.0)
    share = np.full(41, np.nan)
    share[:3] = [1.0, 0.5, 0.0]
    found = growth_value(base(margin), 10, share_of_wallet=share).frame["growth_value"]
    assert found[:4].tolist() == pytest.approx([0.0, 20.0, 280.0, 270.0])
    with pytest.raises(ValueError, match="share of wallet"):
        growth_value(base(margin), 10, share_of_wallet=np.full(41, 40.0))


def test_groups_too_small_give_up_what_they_share_then_say_so():
    margin = 52.0 * np.arange(1.0, 61.0)
    regions = pd.DataFrame({"region": ["north"] * 40 + ["south"] * 20})
    found = growth_value(base(margin), 10, attributes=regions).frame
    assert found["compared_by"][:40].unique().tolist() == ["frequency, tenure, region"]
    assert found["compared_by"][40:].unique().tolist() == ["frequency, tenure"] and found["peers"][59] == 60
    few = growth_value(base(margin[:12]), 10)
    assert few.frame["reason"].unique().tolist() == [FEW_PEERS] and few.total.value == 0.0 and few.total.reason
    assert (few.frame["growth_value"] == 0.0).all() and few.measured == 0


def test_the_new_and_the_unknown_are_told_apart():
    margin = np.concatenate([52.0 * np.arange(1.0, 41.0), [5.0, np.nan]])
    days = np.concatenate([np.full(40, YEAR - 1.0), [3.0, YEAR - 1.0]])
    found = growth_value(base(margin, T=days), 10).frame
    assert found["reason"][40:].tolist() == [TOO_NEW, NO_MARGIN]
    assert found.loc[40, "growth_value"] == 0.0 and np.isnan(found.loc[41, "growth_value"])


def test_categories_held_make_peers():
    margin = np.concatenate([52.0 * np.arange(1.0, 41.0), 520.0 * np.arange(1.0, 41.0)])
    held = np.repeat([2, 9], 40)
    found = growth_value(base(margin), 10, categories=held, bands=2).frame
    assert found["peer_level"][:40].max() < 40 and found["peer_level"][40:].min() > 200
    missing = growth_value(base(margin), 10, categories=np.where(held == 9, np.nan, 2.0), bands=2).frame
    assert missing["peer_level"][:40].max() < 40


def test_the_length_of_a_panel_may_be_given():
    margin = 52.0 * np.arange(1.0, 42.0)
    found = growth_value(base(margin, T=100), 10, exposure_days=np.full(41, YEAR)).frame
    assert found["own_level"].to_numpy() == pytest.approx(np.arange(1.0, 42.0))


def test_constant_customers_have_no_room():
    found = growth_value(base(np.full(50, 20.0)), 10)
    assert found.total.value == 0.0 and found.total.low is None and "do not differ" in found.total.reason


margins = st.lists(st.floats(-1e4, 1e5), min_size=1, max_size=80)


@settings(max_examples=40)
@given(margin=margins, seed=st.integers(0, 9))
def test_never_negative_and_the_same_in_any_order(margin, seed):
    rng = np.random.default_rng(seed)
    n = len(margin)
    summary = base(margin, T=rng.integers(0, 500, n), frequency=rng.integers(0, 20, n))
    alive = rng.random(n)
    found = growth_value(summary, 26, probability_alive=alive, min_peers=5)
    assert (found.frame["growth_value"] >= 0).all() and found.frame["customer_id"].is_monotonic_increasing
    order = rng.permutation(n)
    again = growth_value(summary.iloc[order], 26, probability_alive=alive[order], min_peers=5)
    pd.testing.assert_frame_equal(again.frame, found.frame)


@pytest.mark.parametrize(
    ("summary", "options", "message"),
    [
        (base([]), {}, "no customer"),
        (base([1.0]).drop(columns="margin"), {}, "no margin"),
        (base([np.nan]), {}, "no margin"),
        (base([1.0]), {"quantile": 0.3}, "quantile"),
        (base([1.0]), {"quantile": 1.0}, "quantile"),
        (base([1.0]), {"min_peers": 1}, "two peers"),
        (base([1.0]), {"doubt": -0.1}, "doubt"),
        (base([1.0]), {"expected_value": [np.nan]}, "no value is expected"),
        (base([1.0]), {"probability_alive": [np.nan]}, "probability of being alive"),
    ],
)
def test_what_cannot_be_had_is_refused(summary, options, message):
    with pytest.raises(ValueError, match=message):
        growth_value(summary, 52, **options)


def test_the_interval_of_the_total_covers():
    """Against the total at the level that the population of peers has, for the customers seen."""
    rng, replications, hits = np.random.default_rng(6), 200, 0
    level = np.quantile(rng.gamma(2.0, 5.0, 1_000_000), 0.75)
    for _ in range(replications):
        own = rng.gamma(2.0, 5.0, 200)
        found = growth_value(base(52.0 * own), 52).total
        hits += found.low <= 52 * np.maximum(level - own, 0).sum() <= found.high
    assert abs(hits / replications - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)


def test_figure():
    found = growth_value(base(52.0 * np.arange(1.0, 101.0)), 52)
    fig = money_figures.growth_groups(found, FMT, 52)
    assert png(fig)[:4] == b"\x89PNG" and "room to grow lies with 10%" in fig.axes[0].get_title(loc="left")
    assert png(money_figures.growth_groups(growth_value(base([5.0]), 52), FMT, 52))
