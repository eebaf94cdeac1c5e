"""What is said of a change since the last edition: what chance explains stays unsaid, and nobody is shown alone."""

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import cleaning, store
from analysis.reporting.tables import write_csv
from tests.cleaning.made import WORDS, books, lines, table

NOTHING = pd.DataFrame()


def people(channels, amounts=None):
    """One line a customer, with its channel."""
    amounts = np.full(len(channels), 10.0) if amounts is None else amounts
    rows = [(f"c{n}", "2024-01-03", float(amount)) for n, amount in enumerate(amounts)]
    return {"order_lines": lines(rows, channel=channels).select("customer_id", "channel", "net_amount")}


def raw(rows=400, blank=0, bad=0):
    return books(columns=[("order_lines", "channel", "orders", "way", rows, blank, bad, 0)])


def compared(tmp_path, now, before, cleaned=None, cleaned_before=None):
    """The changes, with the last edition read back from its CSV files as a step does it."""
    for name, frame in (
        ("p", cleaning.profile(cleaned_before or raw(), before, 10)),
        ("s", cleaning.category_shares(before, 10)),
    ):
        write_csv(frame, tmp_path / f"{name}.csv")
    read = {"encoding": "utf-8-sig", "dtype": dict.fromkeys(cleaning.TEXT, str), "keep_default_na": False}
    profile, shares = (pd.read_csv(tmp_path / f"{name}.csv", na_values=[""], **read) for name in ("p", "s"))
    found = cleaning.profile(cleaned or raw(), now, 10)
    return cleaning.drift(found, profile, cleaning.category_shares(now, 10), shares, now, WORDS)


def changes(frame):
    return set(frame.change)


def test_the_profile_reads_raw_quality_and_finished_values():
    tables = people(["web", "shop", None, "web"] * 100, np.arange(400))
    found = cleaning.profile(raw(500, blank=100, bad=40), tables, 10).set_index("column")
    assert found.loc["channel", ["rows", "completeness", "validity", "distinct"]].tolist() == [500, 0.8, 0.9, 2]
    amount = found.loc["net_amount"]
    assert amount["median"] == 199.5
    assert amount["mean"] == 199.5
    assert amount["below_median"] == 0.5
    assert amount["low"] == pytest.approx(19.95)
    assert found.people["net_amount"] == 400


def test_numbers_of_a_handful_are_not_kept():
    few = cleaning.profile(raw(), people(["web"] * 9, np.arange(9)), 10).set_index("column").loc["net_amount"]
    assert few[["mean", "median", "low", "high", "below_median"]].isna().all()
    some = cleaning.profile(raw(), people(["web"] * 199, np.arange(199)), 10).set_index("column").loc["net_amount"]
    assert pd.notna(some["median"])
    assert some[["low", "high"]].isna().all()  # fewer than ten people lie beyond them


def test_rare_categories_are_among_the_others():
    shares = cleaning.category_shares(people(["web"] * 50 + ["shop"] * 30 + ["fax"] * 9 + ["post"] * 4), 10)
    channel = shares[shares.column == "channel"]
    assert channel.category.fillna("others").tolist() == ["web", "shop", "others"]
    assert channel.people.tolist() == [50, 30, 13]
    assert channel.share.sum() == pytest.approx(1)
    assert "customer_id" not in set(shares.column)


def test_addresses_are_no_categories():
    people_ = pd.DataFrame(
        {"customer_id": [f"c{n}" for n in range(60)], "mail": [f"{n}@example.org" for n in range(60)]}
    )
    assert cleaning.category_shares({"customers": table("customers", people_)}, 1).empty


def test_a_first_run_has_nothing_to_compare_with():
    tables = people(["web"] * 20)
    profile, shares = cleaning.profile(raw(), tables, 10), cleaning.category_shares(tables, 10)
    found = cleaning.drift(profile, NOTHING, shares, NOTHING, tables, WORDS)
    assert found.empty
    said = WORDS("drift_note", **cleaning.drift_facts(found, NOTHING))
    assert said.startswith("This is the first run on this study: there is nothing yet to compare with.")


def test_the_same_data_have_not_changed(tmp_path):
    tables = people(["web", "=shop", "01", None] * 100, np.arange(400) % 37)
    found = compared(tmp_path, tables, tables)
    assert found.empty
    said = WORDS("drift_note", **cleaning.drift_facts(found, pd.DataFrame([1])))
    assert said == "Compared with the last run, nothing has changed beyond what chance explains."


def test_a_category_that_came_and_one_that_went_are_named(tmp_path):
    found = compared(tmp_path, people(["web", "app"] * 100), people(["web", "fax"] * 100))
    assert changes(found) == {"“app” is new", "“fax” is gone"}
    app = found[found.change == "“app” is new"].iloc[0]
    assert (app.before, app.now) == ("0%", "50.0%")


def test_a_category_that_was_among_the_others_is_not_new(tmp_path):
    before = people(["web"] * 190 + ["app"] * 6 + ["fax"] * 6)
    found = compared(tmp_path, people(["web"] * 190 + ["app"] * 12), before)
    assert not any("app" in change for change in changes(found))


def test_a_share_is_a_change_only_beyond_chance(tmp_path):
    half = people(["web", "shop"] * 200)
    assert compared(tmp_path, people(["web"] * 215 + ["shop"] * 185), half).empty
    found = compared(tmp_path, people(["web"] * 300 + ["shop"] * 100), half)
    assert changes(found) == {"share of “web”", "share of “shop”"}
    web = found[found.change == "share of “web”"].iloc[0]
    assert (web["where"], web.before, web.now) == ("channel in order_lines", "50.0%", "75.0%")


def test_chance_alone_seldom_makes_a_change(tmp_path):
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(10):
        now, before = (people(rng.choice(["web", "shop", "app"], 300), rng.normal(50, 9, 300).round(2)) for _ in "ab")
        alarms += len(compared(tmp_path, now, before)) > 0
    assert alarms <= 1  # one run in a hundred is expected to say something


def test_a_median_and_the_quality_of_the_raw_rows_that_moved_are_listed(tmp_path):
    rng = np.random.default_rng(3)
    before, now = (people(["web"] * 400, rng.normal(mean, 9, 400).round(2)) for mean in (50, 60))
    found = compared(tmp_path, now, before, cleaned=raw(400, blank=90, bad=60))
    assert changes(found) == {"median", "filled", "readable"}
    assert set(found["where"]) == {"net_amount in order_lines", "channel in order_lines"}


def test_columns_and_rows_that_came_or_went_are_counted(tmp_path):
    now, before = people(["web"] * 30), people(["web"] * 20)
    now["order_lines"] = now["order_lines"].mutate(store_id=now["order_lines"].channel).drop("channel")
    found = compared(tmp_path, now, before, books(), books())
    assert found[["where", "change"]].to_records(index=False).tolist() == [
        ("store_id in order_lines", "the column is new"),
        ("channel in order_lines", "the column is gone"),
        ("order lines", "number of rows"),
    ]
    assert (found.before.iloc[2], found.now.iloc[2]) == ("20", "30")


def test_a_step_reads_what_its_current_edition_showed(project):
    project.study()
    step = analysis.open_step("01_data_cleaning", study="shop")
    assert step.previous("drift_profile").empty
    staging = store.stage("shop", "01_data_cleaning")
    (staging / "csv").mkdir()
    write_csv(pd.DataFrame({"category": ["01", "NA", None], "share": [0.5, 0.25, None]}), staging / "csv" / "s.csv")
    store.write_json(staging / store.MANIFEST, {})
    store.publish("shop", "01_data_cleaning", staging, "k1")
    back = step.previous("s", text=("category",))
    assert back.category.tolist()[:2] == ["01", "NA"]
    assert back.category.isna().tolist() == [False, False, True]
    assert back.share.tolist()[:2] == [0.5, 0.25]
    assert step.previous("another").empty
