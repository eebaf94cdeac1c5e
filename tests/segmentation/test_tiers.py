"""Value tiers: cut where the cumulative share is nearest 20 % and 80 %, ties together, nobody young let go."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.segmentation.tiers import assign_tiers, share_held, tier_cuts, tier_table

SCORES = st.lists(st.tuples(*[st.integers(1, 5)] * 3), min_size=1, max_size=200).map(
    lambda rows: np.array([r * f * m for r, f, m in rows])
)


def test_distinct_products_give_exactly_twenty_sixty_twenty():
    tier, cuts = assign_tiers(np.arange(1, 101))
    assert tier.value_counts().to_dict() == {"invest": 60, "protect": 20, "let_go": 20}
    assert (cuts.protect_from, cuts.invest_from) == (81, 21)
    assert (cuts.protect_share, cuts.invest_share) == (0.2, 0.8)


def test_cut_is_the_nearest_share_not_the_first_beyond():
    # From the top: 14 % at 125, 24 % at 100; 79 % at 8, 83 % at 6.
    product = np.repeat([125, 100, 8, 6, 1], [14, 10, 55, 4, 17])
    _, cuts = assign_tiers(product)
    assert (cuts.protect_from, cuts.invest_from) == (100, 8)
    assert (cuts.protect_share, cuts.invest_share) == pytest.approx((0.24, 0.79))


def test_equally_near_cuts_serve_more_customers():
    product = np.repeat([125, 64, 8, 1], [10, 20, 40, 30])
    _, cuts = assign_tiers(product)
    assert cuts.protect_share == pytest.approx(0.3)
    assert cuts.invest_share == pytest.approx(0.7)
    product = np.repeat([125, 64, 8, 1], [10, 60, 20, 10])
    assert tier_cuts(product).invest_share == pytest.approx(0.9)


def test_customers_who_are_all_alike_are_all_invested_in():
    tier, cuts = assign_tiers(np.full(50, 27))
    assert set(tier) == {"invest"}
    assert cuts.protect_from is None and cuts.protect_share == 0


def test_young_customers_are_marked_and_not_let_go():
    product, tenure = np.arange(1, 101), np.full(100, 400)
    tenure[[0, 50, 99]] = 10
    tier, cuts = assign_tiers(product, tenure, too_early_days=90)
    assert list(tier[[0, 50, 99]]) == ["too_early", "invest", "protect"]
    assert (tier == "let_go").sum() == 19
    assert cuts == tier_cuts(product)


def test_null_products_get_no_tier_and_do_not_move_the_cuts():
    product = np.append(np.arange(1.0, 101.0), np.nan)
    tier, cuts = assign_tiers(product)
    assert tier.isna().tolist() == [False] * 100 + [True]
    assert cuts.customers == 100


def test_no_product_at_all_is_one_clear_line():
    with pytest.raises(ValueError, match="no customer has an rfm_product"):
        tier_cuts(np.array([np.nan]))


@given(SCORES)
def test_tiers_are_exclusive_exhaustive_ordered_and_keep_ties_together(product):
    tier, cuts = assign_tiers(product)
    frame = pd.DataFrame({"product": product, "tier": tier})
    assert frame["tier"].isin(["protect", "invest", "let_go"]).all()
    assert frame.groupby("product")["tier"].nunique().max() == 1
    rank = frame["tier"].map({"protect": 2, "invest": 1, "let_go": 0})
    assert rank[frame["product"].sort_values().index].is_monotonic_increasing
    assert (frame["tier"] == "protect").mean() == pytest.approx(cuts.protect_share)
    assert (frame["tier"] != "let_go").mean() == pytest.approx(cuts.invest_share)


@given(SCORES)
def test_no_other_cut_is_nearer(product):
    cuts = tier_cuts(product)
    reached = {0.0, *(float(np.mean(product >= p)) for p in product)}
    assert abs(cuts.protect_share - 0.2) <= min(abs(r - 0.2) for r in reached) + 1e-12
    assert abs(cuts.invest_share - 0.8) <= min(abs(r - 0.8) for r in reached) + 1e-12


@given(SCORES, st.randoms(use_true_random=False))
def test_order_of_customers_does_not_matter(product, random):
    order = list(range(len(product)))
    random.shuffle(order)
    first, _ = assign_tiers(product)
    second, _ = assign_tiers(product[order])
    assert list(first.iloc[order]) == list(second)


def test_tier_table_adds_up():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"spend": rng.gamma(1, 100, 200), "recency_days": rng.integers(0, 300, 200)})
    frame["margin"] = frame["spend"] * 0.3
    frame["value_tier"], _ = assign_tiers(rng.integers(1, 126, 200))
    table = tier_table(frame)
    assert list(table["value_tier"]) == ["protect", "invest", "let_go"]
    assert table["customers"].sum() == 200
    assert table["sales"].sum() == pytest.approx(frame["spend"].sum())
    assert table[["share_customers", "share_sales", "share_margin"]].sum().tolist() == pytest.approx([1, 1, 1])


def test_tier_table_without_margin_leaves_it_unknown():
    frame = pd.DataFrame({"spend": [1.0, 2.0], "recency_days": [3, 4], "value_tier": ["invest", "invest"]})
    assert tier_table(frame)["margin"].isna().all()


def test_interval_of_the_share_covers_the_truth():
    rng = np.random.default_rng(11)
    # Members are 20 % of customers with mean spend 4; the others have mean 1: they hold half.
    truth, replications, covered = 0.5, 200, 0
    for _ in range(replications):
        member = rng.random(600) < 0.2
        amount = rng.gamma(2, np.where(member, 2.0, 0.5))
        _, low, high = share_held(amount, member)
        covered += low <= truth <= high
    error = np.sqrt(0.95 * 0.05 / replications)
    assert abs(covered / replications - 0.95) < 4 * error


def test_share_of_a_handful_of_customers_has_no_interval():
    share, low, high = share_held(np.arange(1.0, 11.0), np.arange(10) >= 8)
    assert share == pytest.approx(19 / 55)
    assert np.isnan(low) and np.isnan(high)
