"""Households: added up, ranked, and not invented where ids are missing or placeholders."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.segmentation.households import pool_households


def people(households):
    return pd.DataFrame({"customer_id": [f"c{i}" for i in range(len(households))], "household_id": households})


IDS = [f"c{i}" for i in range(10)]


def test_pooling_by_hand():
    amount = [100, 60, 60, 50, 10, 10, 10, 10, 10, 10]
    found = pool_households(IDS, amount, people(["h0", "h1", "h1", "h2", *"abcdef"]), top=0.2)
    assert (found.count, found.several, found.reason) == (9, 1, None)
    assert found.share_several == pytest.approx(1 / 9) and found.low < 1 / 9 < found.high
    assert found.living_together == pytest.approx(0.2)
    assert found.customers["household_amount"].tolist()[:4] == [100, 120, 120, 50]
    assert found.customers["best"].tolist()[:4] == [True, True, False, False]
    assert found.customers["best_household"].tolist()[:4] == [True, True, True, False]
    assert (found.joined, found.left) == (1, 0)
    assert found.households["amount"].sum() == sum(amount)


def test_two_who_share_pass_a_better_one():
    amount = [100, 99, 60, 60, 1, 1, 1, 1, 1, 1]
    found = pool_households(IDS, amount, people(["x", "y", "h", "h", *"abcdef"]), top=0.2)
    assert (found.left, found.joined) == (1, 2)
    assert found.moved == 0.5 and found.moved_low < 0.5 < found.moved_high
    assert found.correlation == pytest.approx(stats.spearmanr(amount, found.customers["household_amount"]).statistic)
    assert found.correlation_low < found.correlation < found.correlation_high


def test_missing_ids_live_alone():
    found = pool_households(IDS, range(1, 11), people(["h", "h", None, "", " ", np.nan, *"abcd"]))
    assert (found.count, found.several, found.unknown) == (9, 1, 4)
    stranger = pool_households([*IDS, "new"], range(11), people(["h"] * 2 + list("abcdefgi")))
    assert stranger.unknown == 1 and stranger.count == 10


def test_a_placeholder_is_no_household():
    n = 100
    ids = [f"c{i}" for i in range(n)]
    found = pool_households(ids, np.arange(n), people(["UNKNOWN"] * 60 + ["h", "h"] + [f"x{i}" for i in range(38)]))
    assert (found.too_large, found.several, found.count) == (1, 1, 99)


def test_nothing_to_pool_says_why():
    amount = np.arange(10.0)
    for customers in (None, people(list("abcdefghij")).drop(columns="household_id"), people([None] * 10)):
        found = pool_households(IDS, amount, customers)
        assert (found.reason, found.count, found.moved) == ("no_household_id", 10, 0)
    single = pool_households(IDS, amount, people(list("abcdefghij")))
    assert single.reason == "all_single" and single.correlation == pytest.approx(1) and single.correlation_low is None
    one = pool_households(["c0"], [5.0], people(["h"]))
    assert one.count == 1 and one.correlation is None and one.top_share_customers is None
    flat = pool_households(IDS, np.zeros(10), people(["h"] * 2 + list("abcdefgh")))
    assert flat.top_share_customers is None and flat.correlation is None
    for ids, money in ((["a", "a"], [1, 2]), (["a"], [np.nan]), ([], []), (["a"], [1, 2])):
        with pytest.raises(ValueError, match="each customer once"):
            pool_households(ids, money, None)
    with pytest.raises(ValueError, match="between 0 and 1"):
        pool_households(IDS, amount, None, top=1)
