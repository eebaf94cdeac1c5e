"""What happened: key figures by the engine, and nothing shown about a handful of people."""

import datetime

import pandas as pd
import pytest
from ibis import _

from analysis import cleaning
from analysis.cleaning.groups import shown_groups
from tests.cleaning.made import WORDS, lines, table

ROWS = [
    ("a", "2024-01-05", 10.0),
    ("a", "2024-01-05", 5.0),
    ("a", "2024-01-20", 15.0),
    ("b", "2024-01-07", 20.0),
    ("b", "2024-02-09", -20.0),
    ("c", "2024-02-11", 30.0),
]
FROM, TO = datetime.date(2024, 1, 1), datetime.date(2024, 2, 29)


def test_the_key_figures_are_those_of_the_lines():
    [found] = cleaning.overview(lines(ROWS)).to_dict("records")
    assert found == {
        "customers": 3,
        "orders": 4,
        "net_sales": 60.0,
        "basket": 15.0,
        "repeat_rate": pytest.approx(1 / 3),  # only a bought on two days; b's second brought the goods back
        "return_rate": 0.25,
    }


def test_a_company_that_only_took_goods_back_has_no_rates():
    [found] = cleaning.overview(lines([("a", "2024-01-05", -5.0)])).to_dict("records")
    assert (found["customers"], found["orders"], found["net_sales"]) == (1, 0, -5.0)
    assert all(pd.isna(found[name]) for name in ("basket", "repeat_rate", "return_rate"))


def test_a_handful_of_customers_has_no_figures():
    assert set(cleaning.key_facts(lines(ROWS), 10).values()) == {None}
    assert cleaning.key_facts(lines(ROWS), 3)["net_sales"] == 60.0
    said = WORDS("happened_note", **cleaning.key_facts(lines(ROWS), 10), small_group=10)
    assert said == "Fewer than 10 customers bought: too few to show what they did."


def test_months_are_whole_cut_short_or_silent():
    found = cleaning.by_month(lines(ROWS), FROM, datetime.date(2024, 4, 15), 1).set_index("month")
    assert found.net_sales.tolist() == [50.0, 10.0, 0.0, 0.0]
    assert found.customers.tolist() == [2, 2, 0, 0]
    assert found.repeat_rate.iloc[0] == 0.5
    assert found.partial.tolist() == [False, False, False, True]


def test_a_month_that_a_total_would_tell_is_hidden_with_the_next_smallest():
    crowd = [(f"k{n}", day, 1.0) for n in range(12) for day in ("2024-01-03", "2024-02-03")]
    crowd += [(f"m{n}", "2024-02-04", 1.0) for n in range(5)] + [(f"k{n}", "2024-03-03", 1.0) for n in range(3)]
    found = cleaning.by_month(lines(crowd), FROM, datetime.date(2024, 3, 31), 10)
    assert found.net_sales.isna().tolist() == [True, False, True]
    assert found.customers.isna().tolist() == [True, False, True]


def crowd():
    """30 customers buy tea, 12 rice, 4 salt; one line of 2 customers has no product."""
    rows, groups = [], []
    for group, people in (("tea", 30), ("rice", 12), ("salt", 4), (None, 2)):
        rows += [(f"{n}", "2024-01-03", 10.0) for n in range(people)]
        groups += [group] * people
    return lines(rows, channel=groups)


def test_small_groups_are_one_and_take_the_smallest_shown_along_until_they_are_many():
    by_channel = cleaning.groupings(crowd(), {})["channel"]
    found = cleaning.by_group(by_channel, 10, WORDS)
    # salt and the line without a channel are four people, so rice joins them
    assert found.label.tolist() == ["tea", "all others"]
    assert found.customers.tolist() == [30, 12]
    assert found.net_sales.tolist() == [300.0, 180.0]
    assert found.share.sum() == 1
    assert cleaning.by_group(by_channel, 4, WORDS).label.tolist() == ["tea", "rice", "all others"]
    assert cleaning.by_group(by_channel, 3, WORDS, most=1).label.tolist() == ["tea", "all others"]
    assert cleaning.by_group(by_channel, 31, WORDS).empty


def test_every_group_shown_and_the_rest_reach_the_least_number_of_people():
    by_channel = cleaning.groupings(crowd(), {})["channel"]
    sizes = {"tea": 30, "rice": 12, "salt": 4, None: 2}  # whoever buys less is among those who buy more
    for small in (1, 2, 3, 4, 5, 12, 13, 30, 31):
        kept = shown_groups(by_channel, _.customer_id.nunique(), _.count(), small, 8)
        assert all(sizes[group] >= small for group in kept)
        assert not kept or max(size for group, size in sizes.items() if group not in kept) >= small


def test_only_dimensions_that_the_data_have_are_there():
    made = lines(ROWS, product_id=["p1", "p2", "p1", "p2", "p2", None])
    products = table(
        "products",
        pd.DataFrame({"product_id": ["p1", "p2"], "name": ["x", "y"], "all": "all", "kind": ["tea", "rice"]}),
    )
    customers = table("customers", pd.DataFrame({"customer_id": ["a", "b"], "region": ["north", None]}))
    found = cleaning.groupings(made, {"products": products, "customers": customers})
    assert list(found) == ["product_group", "region"]
    assert cleaning.by_group(found["product_group"], 1, WORDS).set_index("label").net_sales.to_dict() == {
        "tea": 25.0,
        "rice": 5.0,
        "all others": 30.0,
    }
    assert cleaning.by_group(found["region"], 1, WORDS).net_sales.tolist() == [30.0, 30.0]
    assert cleaning.absent(found, WORDS) == "channel"
    assert cleaning.groupings(made, {"products": products.select("product_id", "all")}) == {}
    assert cleaning.absent({}, WORDS) == "product group, region and channel"
