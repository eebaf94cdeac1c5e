"""Tastes: planted ones come back, intervals hold them, and what is not known says why."""

from datetime import UTC, date, datetime
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from analysis.segmentation.preferences import (
    DirichletMultinomial,
    category_counts,
    customer_preferences,
    price_level,
    segment_affinity,
)

TO = date(2024, 12, 31)
ALPHA = np.array([2.0, 1.0, 0.6, 0.4])
PRODUCTS = pd.DataFrame(
    {"product_id": ["p1", "p2", "p3", "p4"], "name": list("wxyz"), "department": ["fresh", "fresh", "dry", None]}
)


def line(customer, product, amount=10, quantity=1, discount=0, back=False, day=date(2024, 6, 1), order="o"):
    sign = -1 if back else 1
    return {
        "order_id": f"{order}{customer}{product}{day}",
        "line_number": 1,
        "customer_id": customer,
        "ordered_at": datetime(day.year, day.month, day.day, tzinfo=UTC),
        "order_date": day,
        "product_id": product,
        "quantity": Decimal(sign * quantity),
        "discount": Decimal(discount),
        "net_amount": Decimal(sign * amount),
        "is_return": back,
    }


def table(rows):
    return ibis.memtable(pa.Table.from_pylist(rows))


def draw(n, rng, alpha=ALPHA, mean=12):
    tastes = rng.dirichlet(alpha, n)
    return rng.multinomial(1 + rng.poisson(mean, n), tastes), tastes


def test_counts_by_hand():
    lines = table(
        [
            line("a", "p1", 10),
            line("a", "p2", 30),
            line("a", "p3", 5),
            line("b", "p1", 8, discount=2),
            line("b", "p1", 10, back=True, day=date(2024, 7, 1)),
            line("b", "p3", 99, day=date(2025, 1, 2)),
            line("c", "p4", 50),
        ]
    )
    found = category_counts(lines, TO, PRODUCTS)
    assert found.level == "department" and found.reason is None and found.pooled == 0
    assert found.customers.tolist() == ["a", "b"]
    assert found.counts.to_dict("list") == {"fresh": [2, 1], "dry": [1, 0]}
    # Two of the three fresh lines are sold at 10 and one at 30: places 1/3 and 5/6; the only dry price is in the middle.
    assert found.price["price_lines"].tolist() == [3, 1]
    assert found.price["price_sum"].tolist() == pytest.approx([1 / 3 + 5 / 6 + 1 / 2, 1 / 3])
    assert found.price["price_squares"].tolist() == pytest.approx([1 / 9 + 25 / 36 + 1 / 4, 1 / 9])


def test_small_categories_are_pooled_and_the_rest_keeps_its_name():
    products = pd.DataFrame({"product_id": [f"p{i}" for i in range(6)], "kind": ["other", *"bcdef"]})
    rows = [line("a", f"p{i}", order=str(j)) for i in range(6) for j in range(6 - i)]
    found = category_counts(table(rows), TO, products, most=3)
    assert list(found.counts.columns) == ["other", "b", "other "]
    assert found.counts.iloc[0].tolist() == [6, 5, 4 + 3 + 2 + 1]
    assert found.pooled == 4
    whole = category_counts(table(rows), TO, products, most=6)
    assert whole.pooled == 0 and whole.counts.shape == (1, 6)


def test_reasons_instead_of_tastes():
    lines = table([line("a", "p1"), line("a", "p2", order="x"), line("b", "p3")])
    assert category_counts(lines, TO, None).reason == "no_products"
    assert category_counts(lines.drop("product_id"), TO, PRODUCTS).reason == "no_products"
    assert category_counts(lines, TO, PRODUCTS[["product_id", "name"]]).reason == "no_categories"
    assert category_counts(lines, date(2020, 1, 1), PRODUCTS).reason == "no_purchases"
    assert customer_preferences(category_counts(lines, TO, None)).reason == "no_products"
    one = PRODUCTS.assign(department=["a", "a", "a", "b"])
    assert customer_preferences(category_counts(lines, TO, one)).reason == "one_category"
    single = table([line("a", "p1"), line("b", "p3")])
    assert customer_preferences(category_counts(single, TO, PRODUCTS)).reason == "one_purchase"
    with pytest.raises(ValueError, match="no column 'shelf'"):
        category_counts(lines, TO, PRODUCTS, level="shelf")
    with pytest.raises(ValueError, match="at least 2"):
        category_counts(lines, TO, PRODUCTS, most=1)


def test_likelihood_is_that_of_scipy_and_its_derivatives_are_right():
    counts, _ = draw(50, np.random.default_rng(0))
    model = DirichletMultinomial(counts)
    other = ALPHA * 1.7
    difference = stats.dirichlet_multinomial.logpmf(counts, ALPHA, counts.sum(axis=1)).sum()
    difference -= stats.dirichlet_multinomial.logpmf(counts, other, counts.sum(axis=1)).sum()
    assert model.loglike(ALPHA) - model.loglike(other) == pytest.approx(difference)
    step = 1e-5 * np.eye(4)
    numeric = [(model.loglike(ALPHA + s) - model.loglike(ALPHA - s)) / 2e-5 for s in step]
    np.testing.assert_allclose(model.score(ALPHA), numeric, rtol=1e-5, atol=1e-5)
    numeric = [(model.score(ALPHA + s) - model.score(ALPHA - s)) / 2e-5 for s in step]
    np.testing.assert_allclose(model.hessian(ALPHA), numeric, rtol=1e-4)


def test_intervals_hold_the_planted_concentrations_and_loyalty():
    rng = np.random.default_rng(1)
    held = np.zeros(5)
    for _ in range(200):
        fit = DirichletMultinomial(draw(150, rng)[0]).fit()
        ends = fit.conf_int()
        held[:4] += (ends[0] <= ALPHA) & (ends[1] >= ALPHA)
        low, high = fit.loyalty_interval()
        held[4] += low <= 1 / (1 + ALPHA.sum()) <= high
    assert (np.abs(held / 200 - 0.95) <= 4 * np.sqrt(0.95 * 0.05 / 200)).all(), held


def test_posterior_intervals_hold_own_shares_even_of_new_customers():
    rng = np.random.default_rng(2)
    counts, tastes = draw(3000, rng, mean=3)
    fit = DirichletMultinomial(counts).fit()
    low, high = fit.interval()
    assert abs(((low <= tastes) & (tastes <= high)).to_numpy().mean() - 0.95) < 0.015
    shares = fit.shares()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    raw = counts / counts.sum(axis=1, keepdims=True)
    assert ((shares - tastes) ** 2).to_numpy().mean() < 0.5 * ((raw - tastes) ** 2).mean()
    nobody = fit.shares(np.zeros((1, 4)))
    np.testing.assert_allclose(nobody.iloc[0], fit.base)
    assert fit.known(np.zeros((1, 4)))[0] == 0


def test_customers_who_are_alike_are_said_to_be():
    rng = np.random.default_rng(3)
    alike = [DirichletMultinomial(rng.multinomial(10, [0.5, 0.3, 0.2], 200)).fit().alike for _ in range(60)]
    assert np.mean(alike) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 60)
    fit = DirichletMultinomial(draw(200, rng)[0]).fit()
    assert not fit.alike and fit.p_value < 1e-6


def test_extreme_counts_have_a_fit_or_one_clear_line():
    loyal = DirichletMultinomial(np.diag([5, 9, 7]) @ np.ones((3, 3)) * np.eye(3)).fit()
    assert loyal.loyalty > 0.9
    huge = np.array([[10**9, 10**8, 0], [10**8, 10**9, 5], [3, 3, 3], [0, 0, 0]])
    fit = DirichletMultinomial(huge).fit()
    assert np.isfinite(fit.params).all() and fit.shares().iloc[0, 0] == pytest.approx(10 / 11, abs=1e-3)
    np.testing.assert_allclose(fit.shares().iloc[3], fit.base)
    gap = DirichletMultinomial([[3, 0, 1], [1, 0, 4], [2, 0, 2]], names=list("abc")).fit()
    assert gap.params["b"] == 0 and gap.lift()["b"].isna().all() and gap.shares()["b"].eq(0).all()
    for wrong, message in (
        ([[1, -1]], "whole numbers"),
        ([[1, np.nan]], "whole numbers"),
        ([[0.5, 1]], "whole numbers"),
        ([[3, 0], [2, 0]], "fewer than two categories"),
        ([[1, 0], [0, 1]], "nobody bought twice"),
    ):
        with pytest.raises(ValueError, match=message):
            DirichletMultinomial(wrong)


def test_repertoire_expected_is_what_the_model_would_hold():
    rng = np.random.default_rng(4)
    counts = rng.multinomial(6, rng.dirichlet(ALPHA, 20_000))
    fit = DirichletMultinomial(counts).fit()
    found = fit.repertoire()
    assert found["held"].mean() == pytest.approx(found["expected"].mean(), rel=0.01)
    none = fit.repertoire(np.zeros((1, 4), dtype=int))
    assert none["held"][0] == 0 and none["expected"][0] == pytest.approx(0) and np.isnan(none["ratio"][0])
    assert fit.repertoire(np.array([[1, 0, 0, 0]]))["expected"][0] == pytest.approx(1)


def test_price_level_is_drawn_to_the_base_by_what_is_known():
    rng = np.random.default_rng(5)
    n, places = rng.integers(1, 40, 4000), rng.normal(0.5, 0.1, 4000)
    seen = [rng.normal(p, 0.25, k) for p, k in zip(places, n, strict=True)]
    price = pd.DataFrame(
        {
            "price_lines": n,
            "price_sum": [s.sum() for s in seen],
            "price_squares": [(s**2).sum() for s in seen],
        }
    )
    found = price_level(price)
    raw = price["price_sum"] / n
    np.testing.assert_allclose(found["known"], 0.1**2 / (0.1**2 + 0.25**2 / n), rtol=0.12)
    assert ((found["price_place"] - places) ** 2).mean() < 0.6 * ((raw - places) ** 2).mean()
    assert set(found["tier"]) <= {"low", "middle", "high"}
    nothing = price_level(pd.DataFrame({"price_lines": [0, 2], "price_sum": [0.0, 0.6], "price_squares": [0.0, 0.2]}))
    assert np.isnan(nothing["price_place"][0]) and nothing["tier"][0] is None
    assert nothing["price_place"][1] == pytest.approx(0.3)
    assert price_level(price.head(1))["price_place"].notna().all()
    assert price_level(price.iloc[:0]).empty


def test_affinity_of_segments_holds_the_planted_lift():
    held, said = np.zeros(200), 0
    labels = np.repeat(["A", "B"], [150, 350])
    favour, plain = np.array([0.4, 0.3, 0.3]), np.array([0.2, 0.4, 0.4])
    truth = favour[0] / (0.3 * favour[0] + 0.7 * plain[0])
    rng = np.random.default_rng(6)
    for i in range(200):
        tastes = np.r_[rng.dirichlet(6 * favour, 150), rng.dirichlet(6 * plain, 350)]
        counts = rng.multinomial(1 + rng.poisson(8, 500), tastes)
        found = segment_affinity(DirichletMultinomial(counts).fit(), labels).set_index(["segment", "category"])
        cell = found.loc[("A", "0")]
        held[i] = cell["low"] <= truth <= cell["high"]
        said += cell["differs"]
    assert abs(held.mean() - 0.95) <= 4 * np.sqrt(0.95 * 0.05 / 200)
    assert said == 200
    assert len(found) == 6 and found["customers"].unique().tolist() == [150, 350]


def test_segments_drawn_by_lot_have_no_affinities():
    rng = np.random.default_rng(7)
    said = 0
    for _ in range(100):
        fit = DirichletMultinomial(draw(300, rng)[0]).fit()
        said += segment_affinity(fit, rng.choice(list("ABC"), 300))["differs"].any()
    assert said / 100 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 100)
    small = segment_affinity(fit, np.where(np.arange(300) < 4, "A", None))
    assert small.empty and list(small.columns)[:2] == ["segment", "category"]
    with pytest.raises(ValueError, match="300 customers and 2 segments"):
        segment_affinity(fit, ["A", "B"])


def test_one_row_a_customer_in_the_end():
    rng = np.random.default_rng(8)
    rows = [
        line(f"c{i:02d}", f"p{rng.integers(1, 4)}", int(rng.integers(1, 50)), order=str(j))
        for i in range(40)
        for j in range(1 + i % 5)
    ]
    found = customer_preferences(category_counts(table(rows), TO, PRODUCTS))
    people = found.customers
    assert people["customer_id"].tolist() == sorted(people["customer_id"]) and len(people) == 40
    assert people["lines"].sum() == len(rows)
    assert people["favourite"].isin(["fresh", "dry"]).all()
    assert people[["known", "favourite_share", "price_place"]].min().min() >= 0
    single = people["lines"] == 1
    np.testing.assert_allclose(people.loc[single, "expected"], 1)
    assert (people.loc[single, "held"] == 1).all()
