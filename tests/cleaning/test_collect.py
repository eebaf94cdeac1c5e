"""What to collect better: every amount is read from the data, and nothing is said of a handful."""

import pandas as pd

from analysis import cleaning
from analysis import study as studies
from tests.cleaning.made import WORDS, books, lines, table

ROWS = [(f"c{n:02d}", "2024-01-05", 10.0) for n in range(20)]
MONEY = {"margin": {"value": 0.3, "low": 0.25, "high": 0.35}, "discount_rate": 0.1}


def listed(project, tables, cleaned=None, **changes):
    project.study(**({"money": MONEY} | changes))
    found = cleaning.worth_collecting(cleaned or books(), tables, studies.load("shop"), WORDS)
    return found.set_index("what")


def test_money_at_stake_is_read_from_the_lines(project):
    made = lines(ROWS, product_id=["p1"] * 8 + [None] * 12, channel="web", cost=[4.0] * 10 + [None] * 10)
    found = listed(project, {"order_lines": made})
    assert found.money["The product of every line"] == 120.0
    assert found.customers["The product of every line"] == 12
    assert found.money["What goods cost, line by line"] == 100.0 * (0.35 - 0.25)
    assert found.money["The shop of every line"] == 200.0
    assert "The channel of every line" not in found.index
    assert found.money.dropna().is_monotonic_decreasing
    assert found.money.isna().tolist() == sorted(found.money.isna())


def test_without_a_range_of_the_margin_there_is_no_figure(project):
    made = {"order_lines": lines(ROWS)}
    exact = listed(project, made, money={"margin": 0.3})
    assert pd.isna(exact.money["What goods cost, line by line"])
    assert "without a range" in exact.how["What goods cost, line by line"]
    assert "gives no margin" in listed(project, made, money={}).how["What goods cost, line by line"]


def test_a_channel_without_shops_lacks_none(project):
    made = lines(ROWS, channel=["web"] * 5 + ["shop"] * 15, store_id=[None] * 5 + ["s1"] * 15)
    assert "The shop of every line" not in listed(project, {"order_lines": made}).index
    made = lines(ROWS, channel=["web"] * 5 + ["shop"] * 15, store_id=[None] * 8 + ["s1"] * 12)
    shops = listed(project, {"order_lines": made}, privacy={"small_group": 2}).loc["The shop of every line"]
    assert (shops.rows, shops.money) == (3, 30.0)


def test_rows_set_aside_count_with_their_columns_and_duplicates_are_no_loss(project):
    cleaned = books(
        reasons=[
            ("order_lines", "missing_value", "set_aside", "It is blank: customer_no.", "set aside", 7, -70.5),
            ("order_lines", "duplicate_row", "set_aside", "It repeats.", "set aside", 9, 90.0),
            ("contacts", "unknown_customer", "set_aside", "Who is it.", "set aside", 2, None),
        ]
    )
    found = listed(project, {}, cleaned)
    assert found.loc["Rows without this fault: Needed value blank", ["rows", "money"]].tolist() == [7, 70.5]
    assert found["where"]["Rows without this fault: Needed value blank"] == "order lines: customer_no"
    assert pd.isna(found.money["Rows without this fault: Unknown customer"])
    assert not any("Repeats a row" in what for what in found.index)
    assert found["rank"].tolist() == list(range(1, len(found) + 1))


def test_consent_and_attributes_are_worth_what_their_people_spend(project):
    frame = pd.DataFrame({"customer_id": [c for c, _, _ in ROWS], "age": ["30"] * 5 + [None] * 15})
    frame["kids"] = frame.age
    frame["consent_email"] = [True] * 6 + [None] * 14
    frame["consent_sms"] = [None, False] + [None] * 18
    tables = {"order_lines": lines(ROWS), "customers": table("customers", frame)}
    found = listed(project, tables)
    assert found.loc["Consent to e-mail and text messages", ["customers", "money"]].tolist() == [14, 140.0]
    assert found.loc["Of every customer: age and kids", ["customers", "money"]].tolist() == [15, 150.0]
    few = found.loc["Of every customer: region and how they came"]
    assert few.money == 200.0


def test_a_handful_of_customers_has_no_numbers(project):
    frame = pd.DataFrame({"customer_id": [c for c, _, _ in ROWS], "region": ["north"] * 17 + [None] * 3})
    found = listed(project, {"order_lines": lines(ROWS), "customers": table("customers", frame)})
    hidden = found.loc["Of every customer: region"]
    assert hidden[["rows", "customers", "money"]].isna().all()
    assert hidden.how == "hidden, since it concerns fewer than 10 customers"


def test_what_has_no_figure_says_which_question_stays_open(project):
    campaigns = table(
        "campaigns",
        pd.DataFrame({"campaign_id": ["1", "2"], "starts_on": "2024-01-01", "design": ["randomised", "observational"]}),
    )
    found = listed(project, {"campaigns": campaigns})
    control = found.loc["A random control group in every campaign"]
    assert (control.rows, control.question) == (1, "what a campaign causes")
    assert found.question["Service contacts and complaints"] == "what trouble costs in loyalty"
    facts = cleaning.collect_facts(found.reset_index())
    assert WORDS("collect_first", **facts).endswith("none of them can be put in money from these data.")
    nothing = cleaning.collect_facts(found.iloc[:0])
    assert WORDS("collect_first", **nothing) == "Nothing that Rapport could use is missing."


def test_what_is_lacking_and_assumed_is_said(project):
    project.study()
    study = studies.load("shop")
    said = cleaning.lacking(study, WORDS)
    assert "satisfaction survey" in said
    assert "purchases" not in said
    assert cleaning.assumptions(study, WORDS) == "margin 30.0%; discount rate 10.0%"
