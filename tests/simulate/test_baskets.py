"""Baskets are worth what the order is worth and hold together what was planted to belong together."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.simulate import baskets
from analysis.simulate.baskets import BasketPlan, Special
from tests.simulate.test_simulated_purchases import bought, drawn

PLAN = BasketPlan(returned=0.05)
PRODUCTS = baskets.catalogue(PLAN, np.random.default_rng(1))


@pytest.fixture(scope="module")
def orders():
    return bought(drawn(6_000))


@pytest.fixture(scope="module")
def lines(orders):
    return baskets.fill(drawn(6_000), orders, PRODUCTS, PLAN, np.random.default_rng(5))


def holding(lines, sku):
    rows = (PRODUCTS["sku"].to_numpy()[lines.product] == sku) & ~lines.is_return
    return np.unique(lines.order[rows])


def test_lines_add_up_to_their_orders(orders, lines):
    sold = lines.take(np.flatnonzero(~lines.is_return))
    assert np.unique(sold.order).size == len(orders)
    worth = np.bincount(np.unique(sold.order, return_inverse=True)[1], sold.net) / 100
    value = orders.value[np.argsort(orders.day, kind="stable")]
    assert np.abs(worth - value).max() < 1.0
    assert worth.sum() == pytest.approx(orders.value.sum(), rel=1e-4)


def test_every_line_obeys_the_arithmetic_of_a_till(lines):
    sign = np.where(lines.is_return, -1, 1)
    assert (lines.quantity * lines.unit - sign * lines.discount == lines.net).all()
    assert (sign * lines.quantity >= 1).all()
    assert (lines.discount >= 0).all() and (lines.cost >= 0).all() and (lines.unit > 0).all()
    keys = np.stack([lines.order, lines.number], axis=1)
    assert len(np.unique(keys, axis=0)) == len(lines)
    assert (np.diff(lines.day) >= 0).all()


def test_a_coupon_is_taken_off_to_the_cent(orders):
    given = np.where(np.arange(len(orders)) % 3 == 0, 20.0, 0.0)
    used = replace(orders, coupon=np.minimum(given, orders.value))
    plan = replace(PLAN, returned=0.0)
    with_, without = (baskets.fill(drawn(6_000), o, PRODUCTS, plan, np.random.default_rng(5)) for o in (used, orders))
    assert (with_.net >= 0).all()
    assert (without.net - with_.net).sum() / 100 == pytest.approx(used.coupon.sum(), rel=1e-4)


def test_planted_pairs_are_bought_together_and_the_others_by_chance(lines):
    n = np.unique(lines.order[~lines.is_return]).size
    first, second = holding(lines, "S001"), holding(lines, "S002")
    both = np.intersect1d(first, second).size
    assert both / first.size == pytest.approx(0.24, abs=4 * np.sqrt(0.24 * 0.76 / first.size))
    alone = (second.size - both) / (n - first.size)
    assert alone == pytest.approx(0.03, abs=4 * np.sqrt(0.03 / n))
    candles, batteries = holding(lines, "S005"), holding(lines, "S006")
    together = np.intersect1d(candles, batteries).size
    expected = 0.05 * 0.045 * n
    assert together == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_a_launched_product_is_not_sold_before_its_launch(lines):
    rows = (PRODUCTS["sku"].to_numpy()[lines.product] == "S008") & ~lines.is_return
    assert rows.any()
    assert lines.day[rows].min() >= 420.0


def test_returns_bring_back_whole_lines_later_and_give_the_cost_back(lines):
    back = lines.take(np.flatnonzero(lines.is_return))
    share = len(back) / (len(lines) - len(back))
    assert share == pytest.approx(0.05, abs=4 * np.sqrt(0.05 / len(lines)))
    sold = lines.take(np.flatnonzero(~lines.is_return))
    bought_before = {}
    for owner, product, net, day in zip(sold.owner, sold.product, sold.net, sold.day):
        bought_before.setdefault((owner, product, net), []).append(day)
    for owner, product, net, day in zip(back.owner, back.product, back.net, back.day):
        assert any(2 <= day - d <= 30 for d in bought_before[owner, product, -net])
    assert (back.margin == back.net + back.cost).all()


def test_tastes_differ_between_customers(lines):
    category = lines.product // PLAN.products_per_category
    common = category < len(baskets.CATEGORIES)
    counts = np.zeros((6_000, len(baskets.CATEGORIES)))
    np.add.at(counts, (lines.owner[common], category[common]), 1)
    busy = counts[counts.sum(axis=1) >= 30]
    shares = busy / busy.sum(axis=1, keepdims=True)
    by_chance = (busy.mean(axis=0) / busy.mean(axis=0).sum()).max()
    assert len(busy) > 20
    assert shares.max(axis=1).mean() > 2 * by_chance


def test_a_special_product_may_only_depend_on_one_before_it():
    plan = replace(PLAN, specials=(Special("A", "a", "d", "c", 1.0, 0.1, given="B"),))
    with pytest.raises(KeyError):
        baskets.fill(
            drawn(5),
            bought(drawn(5)),
            baskets.catalogue(plan, np.random.default_rng(1)),
            plan,
            np.random.default_rng(1),
        )


def test_one_order():
    who = drawn(1)
    one = bought(replace(who, rate=np.array([1e-9])))
    lines = baskets.fill(who, one, PRODUCTS, PLAN, np.random.default_rng(2))
    assert np.unique(lines.order[~lines.is_return]).size == 1
