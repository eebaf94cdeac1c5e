"""Cleaning loses nothing: every raw row is kept or set aside with its reason, to the row and to the cent."""

import csv
import datetime
import json
from decimal import Decimal

import ibis
import ibis.expr.datatypes as dt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis
from analysis import cleaning, engine
from analysis.cleaning import ConservationError
from analysis.cleaning.parse import Field, Reader, text
from analysis.errors import RapportError
from analysis.study import EngineSettings, Mapping, Source
from analysis.tables import CONTRACTS, MONEY
from tests.conftest import ORDERS, shop

HEADER = "order,customer,day,sku,pieces,amount\n"


def lines(cleaned):
    return CONTRACTS["order_lines"].conform(cleaned.tables["order_lines"]).to_pyarrow().to_pylist()


def reasons(cleaned):
    rows = cleaned.quarantine.order_by("source", "row_number").to_pyarrow().to_pylist()
    return {row["row_number"]: row["reasons"] for row in rows}


def books(cleaned, table="order_lines"):
    return cleaned.ledger.set_index("table").loc[table]


def clean(project, content, **changes):
    project.study(**changes)
    project.raw("shop", "orders.csv", HEADER + content)
    cleaned = project.clean()
    cleaning.assert_conserved(cleaned.ledger)
    # Written and read back, as a step does: a file has the types that the database gave it, not those that Ibis expects.
    path = project.root / "order_lines.parquet"
    connection = cleaned.tables["order_lines"].get_backend()
    connection.to_parquet(CONTRACTS["order_lines"].conform(cleaned.tables["order_lines"]), path)
    CONTRACTS["order_lines"].validate(connection.read_parquet(path))
    return cleaned


def test_a_clean_file_stays_whole(project):
    project.study()
    cleaned = project.clean()
    assert books(cleaned).amount_kept == Decimal("52.00")
    assert len(reasons(cleaned)) == 0
    first = lines(cleaned)[0]
    assert first["order_id"] == "A1"
    assert first["line_number"] == 1
    assert first["order_date"] == datetime.date(2024, 1, 5)
    assert first["ordered_at"] == datetime.datetime(2024, 1, 4, 23, tzinfo=datetime.UTC)  # midnight in Paris
    assert first["unit_price"] == Decimal("10.0000")
    customers = cleaned.tables["customers"].order_by("customer_id").to_pyarrow().to_pylist()
    assert customers[0] == {"customer_id": "c1", "acquired_on": datetime.date(2024, 1, 5)}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("A9,,2024-01-05,p1,1,5", "missing_customer_id"),
        ("A9,c9,,p1,1,5", "missing_value"),
        ("A9,c9,2024-13-45,p1,1,5", "unreadable_value"),
        ("A9,c9,2024-01-05,p1,many,5", "unreadable_value"),
        ("A9,c9,2024-01-05,p1,1,five", "unreadable_value"),
        ("A9,c9,2023-12-31,p1,1,5", "before_period"),
        ("A9,c9,2025-01-01,p1,1,5", "after_period"),
        ("A9,c9,02/03/2024,p1,1,5", "ambiguous_date"),
        ('A9,c9,2024-01-05,p1,1,"1,234"', "ambiguous_number"),
        ("A9,c9,2024-01-05,p1,0,0", "empty_line"),
        ("A9,c9,2024-01-05,p1,-1,5", "sign_conflict"),
        ("A9,c9,2024-01-05,p1,1", "malformed_row"),
        ("A1,c1,2024-01-05,p1,2,20.00", "duplicate_row"),
        ("A9,,2024-13-45,p1,1,5", "missing_customer_id unreadable_value"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reasons(project, row, reason):
    cleaned = clean(project, "A1,c1,2024-01-05,p1,2,20.00\n" + row + "\n")
    assert reasons(cleaned) == {3: reason}
    kept = cleaned.quarantine.to_pyarrow().to_pylist()[0]
    assert kept["source"] == "orders"
    raw = json.loads(kept["raw_values"])
    assert (list(raw.values()) if isinstance(raw, dict) else raw) == next(csv.reader([row]))


def test_returns_and_repairs(project):
    cleaned = clean(project, "A1,c1,2024-01-05,p1,2,20\nA2,c1,2024-01-06,p1,-1,-10\nA3,c1,2024-01-07,p1,1,-10\n")
    found = {row["order_id"]: row for row in lines(cleaned)}
    assert [found[o]["is_return"] for o in ("A1", "A2", "A3")] == [False, True, True]
    assert found["A3"]["quantity"] == -1
    assert cleaned.reasons.set_index("reason").loc["return_quantity", "rows"] == 1
    assert books(cleaned).amount_kept == 0


def test_quantity_zero_with_money_is_kept_without_a_unit_price(project):
    cleaned = clean(project, "A1,c1,2024-01-05,p1,0,0.01\n")
    assert lines(cleaned)[0]["unit_price"] is None
    assert cleaned.reasons.reason.tolist() == ["quantity_zero"]


def test_equal_rows_stay_where_the_study_says_so(project):
    row = "A1,c1,2024-01-05,p1,2,20.00\n"
    assert books(clean(project, row * 3)).rows_set_aside == 2
    assert books(clean(project, row * 3, rules={"duplicate_rows": "keep"})).rows_kept == 3


def test_days_are_those_of_the_time_zone(project):
    content = shop()
    content["tables"]["order_lines"]["columns"]["ordered_at"] = {"column": "day", "timezone": "UTC"}
    late = "A1,c1,2024-01-05 23:30:00,p1,1,1\nA2,c1,2024-01-05T23:30:00-05:00,p1,1,1\n"
    found = lines(clean(project, late, tables=content["tables"]))
    assert [str(row["order_date"]) for row in found] == ["2024-01-06", "2024-01-06"]
    assert found[1]["ordered_at"].hour == 4


def test_other_notations(project):
    content = shop()
    content["sources"]["orders"] |= {"decimal": ",", "thousands": ".", "delimiter": ";"}
    content["tables"]["order_lines"]["columns"]["ordered_at"] = {"column": "day", "format": "%d.%m.%Y"}
    project.study(**content)
    project.raw(
        "shop", "orders.csv", HEADER.replace(",", ";") + "A1;c1;31.01.2024;p1;2;1.234,50\nA2;c1;1.2.2024;p1;1;1,5\n"
    )
    found = lines(project.clean())
    assert [row["net_amount"] for row in found] == [Decimal("1234.5000"), Decimal("1.5000")]
    assert [str(row["order_date"]) for row in found] == ["2024-01-31", "2024-02-01"]


@pytest.mark.parametrize(
    ("written", "value"),
    [("0.00005", "0"), ("0.00015", "0.0002"), ("0.00025", "0.0002"), ("-0.00015", "-0.0002"), ("-0.00025", "-0.0002"),
     ("0.000251", "0.0003"), ("1e3", "1000"), ("1,5", "1.5"), ("", None), ("NaN", None), ("inf", None), ("9" * 30, None)],
)  # fmt: skip
def test_ties_go_to_the_even_digit(written, value, tmp_path):
    assert read_as(MONEY, [written], tmp_path) == [None if value is None else Decimal(value)]


def read_as(dtype, texts, folder, zone="UTC", **mapping):
    """Values of texts, in their usual and in other forms."""
    with engine.opened(EngineSettings(), engine.connect(), "shop") as duck:
        reader = Reader(duck, Source(file="x.csv"), zone, "EUR")
        field = Field(dtype, Mapping(column="t", **mapping))
        rows = ibis.memtable({"n": range(len(texts)), "t": texts})
        stripped = text(rows.t)
        value = reader.plain(stripped, field)
        rows = rows.select("n", v=value, v__text=ibis.ifelse(value.isnull(), stripped, None))
        return reader.mended(duck.keep(rows), {"v": field}).order_by("n").to_pyarrow()["v"].to_pylist()


def test_a_wrong_mapping_is_an_error_not_a_full_quarantine(project):
    project.study()
    project.raw("shop", "orders.csv", HEADER + "A1,c1,31 Jan 2024,p1,1,5\nA2,c1,1 Feb 2024,p1,1,5\n")
    with pytest.raises(
        RapportError, match=r"no row of orders has a readable day; values look like '99 aaa 9999'; add format"
    ):
        project.clean()
    project.raw("shop", "orders.csv", HEADER + "A1,c1,31/01/2024,p1,1,5\nA2,c1,01/02/2024,p1,1,5\n")
    with pytest.raises(
        RapportError, match=r"1 of 2 dates of orders can be read day first or month first; add day_first"
    ):
        project.clean()


def test_a_missing_column_names_the_nearest(project):
    content = shop()
    content["tables"]["order_lines"]["columns"]["net_amount"] = "amonut"
    project.study(**content)
    with pytest.raises(RapportError) as caught:
        project.clean()
    assert str(caught.value) == (
        "studies/shop/study.yaml: tables.order_lines.columns.net_amount: source orders has no column 'amonut'; "
        "did you mean 'amount'?"
    )


def test_without_order_or_quantity_a_day_is_an_order(project):
    content = shop()
    content["tables"]["order_lines"]["columns"] = {
        "customer_id": "customer",
        "ordered_at": "day",
        "net_amount": "amount",
    }
    found = lines(clean(project, "x,c1,2024-01-05,p,9,5\nx,c1,2024-01-05,q,9,-2\nx,c1,2024-01-06,p,9,0\n", **content))
    assert [(r["order_id"], r["line_number"], r["quantity"]) for r in found] == [
        ("c1-2024-01-05", 1, 1),
        ("c1-2024-01-05", 2, -1),
        ("c1-2024-01-06", 1, 1),
    ]


def campaign_study():
    content = shop()
    content["sources"] |= {name: {"file": f"{name}.csv"} for name in ("campaigns", "mailings", "coupons", "redeemed")}
    content["tables"] |= {
        "campaigns": {
            "source": "campaigns",
            "columns": {
                "campaign_id": "id",
                "starts_on": "start",
                "ends_on": "end",
                "design": {"constant": "observational"},
            },
        },
        "contacts": {
            "source": "mailings",
            "untargeted": True,
            "columns": {"campaign_id": "id", "customer_id": "customer", "arm": {"constant": "targeted"}},
            "redemptions": {"source": "redeemed", "campaign_id": "id", "customer_id": "customer"},
        },
        "offers": {
            "source": "coupons",
            "merge_repeated": True,
            "columns": {"offer_id": "coupon", "campaign_id": "id", "category": "kind"},
        },
    }
    return content


def test_campaigns_contacts_and_offers(project):
    project.study(**campaign_study())
    project.raw("shop", "campaigns.csv", "id,start,end\n1,2024-02-01,2024-02-28\n2,2024-03-31,2024-03-01\n")
    project.raw("shop", "mailings.csv", "id,customer\n1,c1\n1,c1\n1,nobody\n2,c1\n")
    project.raw("shop", "coupons.csv", "coupon,id,kind\nx,1,tea\nx,1,tea\nx,1,milk\nx,1,rice\nx,1,milk \ny,1,\n")
    project.raw("shop", "redeemed.csv", "id,customer,day\n1,c1,2024-02-02\n1,c1,2024-02-03\n1,c2,2024-02-03\n")
    cleaned = project.clean()
    cleaning.assert_conserved(cleaned.ledger)
    contacts = CONTRACTS["contacts"].conform(cleaned.tables["contacts"]).to_pyarrow().to_pylist()
    assert [(c["customer_id"], c["arm"], c["redeemed"]) for c in contacts] == [
        ("c1", "targeted", True),
        ("c2", "untargeted", None),
    ]
    assert contacts[0]["contacted_on"] == datetime.date(2024, 2, 1)
    offers = cleaned.tables["offers"].order_by("offer_id").to_pyarrow().to_pylist()
    # "tea" twice is one row twice; of what remains milk comes most often.
    assert offers == [
        {"offer_id": "x", "campaign_id": "1", "category": "milk"},
        {"offer_id": "y", "campaign_id": "1", "category": None},
    ]
    aside = {(r["source"], r["row_number"]): r["reasons"] for r in cleaned.quarantine.to_pyarrow().to_pylist()}
    assert aside == {
        ("campaigns", 3): "ends_before_start",
        ("mailings", 3): "duplicate_key",
        ("mailings", 4): "unknown_customer",
        ("mailings", 5): "unknown_campaign",
        ("coupons", 3): "duplicate_row",
        ("redeemed", 4): "no_contact",
    }


def test_survey_answers_outside_the_scale_are_blanked_and_missing_codes_are_missing(project):
    project.study(
        clock=None,
        survey={"scale": [1, 10], "blocks": {"Satisfaction": ["s1", "s2"]}, "missing_codes": ["-99"]},
        sources={"answers": {"file": "answers.csv"}},
        tables={
            "survey_responses": {
                "source": "answers",
                "columns": {"response_id": {"row_number": True}, "s1": "S1", "s2": "S2"},
            }
        },
    )
    project.raw("shop", "answers.csv", "S1,S2\n7,8\n11,-99\n-99,\n3,4\n")
    cleaned = project.clean()
    cleaning.assert_conserved(cleaned.ledger)
    found = cleaned.tables["survey_responses"].order_by("response_id").to_pyarrow().to_pylist()
    assert [(r["response_id"], r["s1"], r["s2"]) for r in found] == [("2", 7, 8), ("3", None, None), ("5", 3, 4)]
    assert reasons(cleaned) == {4: "empty_response"}


def test_lost_rows_and_cents_are_noticed(project):
    project.study()
    ledger = project.clean().ledger
    with pytest.raises(ConservationError, match="4 rows were made but 3 written"):
        cleaning.assert_conserved(ledger, {"order_lines": 3})
    short = ledger.assign(rows_kept=ledger.rows_kept - 1)
    with pytest.raises(ConservationError, match="1 rows of source orders are neither kept nor set aside"):
        cleaning.assert_conserved(short)
    light = ledger.assign(amount_kept=[Decimal("51.99")])
    with pytest.raises(ConservationError, match="0.01"):
        cleaning.assert_conserved(light)


_field = st.sampled_from(
    ["", "0", "1", "-1", "2.5", "-3,5", "1e9", "x", "2024-01-05", "2024-02-30", "2023-01-01", "A1", "<b>", "=1+1"]
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(_field, min_size=5, max_size=7), min_size=1, max_size=12))
def test_conservation_holds_whatever_the_rows(project, table):
    good = ORDERS.splitlines()[1]
    clean(project, good + "\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in table))


def test_campaigns_without_an_end_keep_their_contract(project):
    content = campaign_study()
    del content["tables"]["campaigns"]["columns"]["ends_on"]
    project.study(**content)
    for name, rows in {
        "campaigns": "id,start\n1,2024-02-01\n",
        "mailings": "id,customer\n1,c1\n",
        "coupons": "coupon,id,kind\nx,1,tea\n",
        "redeemed": "id,customer\n1,c1\n",
    }.items():
        project.raw("shop", f"{name}.csv", rows)
    for name, table in project.clean().tables.items():
        CONTRACTS[name].validate(CONTRACTS[name].conform(table))


def written(project, rows, columns, header="customer,day,amount", **changes):
    """The order lines of a study with its own columns, checked against their contract."""
    content = shop() | changes
    mapped = {"customer_id": "customer", "ordered_at": "day", "net_amount": "amount"} | columns
    content["tables"] = {"order_lines": {"source": "orders", "columns": mapped}}
    project.study(**content)
    project.raw("shop", "orders.csv", "\n".join([header, *rows]) + "\n")
    step = analysis.open_step("01_data_cleaning", study="shop")
    cleaned = cleaning.clean(step.study, step.connection)
    step.write("order_lines", cleaned.tables["order_lines"])
    cleaning.assert_conserved(cleaned.ledger, step.written)
    return step.lazy("order_lines").to_pandas(), cleaned


def test_amounts_rounded_to_the_cent_keep_the_contract(project):
    weighed = ["c1,2024-05-01,0.453,3.99,1.81", "c2,2024-05-01,3,3.333,10.00"]
    columns = {"quantity": "kilos", "unit_price": "price"}
    kept, _ = written(project, weighed, columns, header="customer,day,kilos,price,amount")
    assert len(kept) == 2


def test_the_largest_amounts_and_line_numbers_from_zero_keep_the_contract(project):
    large = ["c1,2024-05-01,o,0,99999999999999.99", "c1,2024-05-01,o,1,0.01"]
    columns = {"order_id": "order", "line_number": "line"}
    kept, _ = written(project, large, columns, header="customer,day,order,line,amount")
    assert list(kept.line_number) == [0, 1]


@pytest.mark.parametrize(
    ("text", "pattern", "instant"),
    [
        ("01/05/2024 23:30 -0800", "%d/%m/%Y %H:%M %z", "2024-05-02 07:30"),
        ("01/05/2024 23:30", "%d/%m/%Y %H:%M", "2024-05-01 21:30"),
        ("2024-05-01T23:30:00-08:00", None, "2024-05-02 07:30"),
    ],
)
def test_an_offset_is_taken_at_its_word_with_and_without_a_format(project, text, pattern, instant):
    columns = {"ordered_at": {"column": "day", "format": pattern} if pattern else "day"}
    kept, _ = written(project, [f"c1,{text},5"], columns)
    assert str(kept.ordered_at[0])[:16] == instant


def test_words_are_no_dates(project):
    rows = ["c1,infinity,5", "c1,epoch,6", "c1,-infinity,7", "c1,2024-05-05,8"]
    kept, cleaned = written(project, rows, {}, rules={"outside_period": "keep"})
    assert len(kept) == 1
    assert cleaned.reasons.reason.tolist() == ["unreadable_value"]


def test_a_day_with_an_offset_is_the_day_of_the_time_zone(project):
    times = ["2024-07-01T23:30:00-08:00", "2024-07-01 23:30:00", "2024-07-01"]
    days = read_as(dt.date, times, project.root, zone="America/Los_Angeles")
    assert [str(d) for d in days] == ["2024-07-02", "2024-07-01", "2024-07-01"]


def test_money_may_be_a_constant_and_a_cost_may_be_looked_up(project):
    project.raw("shop", "prices.csv", "sku,cost\np1,2.5\np2,dear\n")
    columns = {
        "net_amount": {"constant": "9.99"},
        "cost": {"column": "sku", "lookup": {"source": "prices", "key": "sku", "value": "cost"}},
    }
    sources = {"orders": {"file": "orders.csv"}, "prices": {"file": "prices.csv"}}
    rows = ["c1,2024-05-01,p1", "c2,2024-05-01,p2", "c2,2024-05-02,p3"]
    kept, cleaned = written(project, rows, columns, header="customer,day,sku", sources=sources)
    assert sorted(kept.net_amount.astype(float)) == [9.99] * 3
    assert kept.cost.dropna().astype(float).tolist() == [2.5]
    assert cleaned.reasons.reason.tolist() == ["unreadable_optional"]
    assert float(cleaned.ledger.amount_in[0]) == 29.97


def test_what_is_looked_up_is_read_as_its_own_source_writes_it(project):
    project.raw("shop", "prices.csv", "sku;cost;fee\np1;1.234;1\n")
    project.raw("shop", "fees.csv", 'sku,price\np1,"$ 2,50"\n')
    look_up = {"key": "sku"}
    columns = {
        "cost": {"column": "sku", "lookup": look_up | {"source": "prices", "value": "cost"}},
        "discount": {"column": "sku", "lookup": look_up | {"source": "fees", "value": "price"}},
    }
    sources = {
        "orders": {"file": "orders.csv"},
        "prices": {"file": "prices.csv", "delimiter": ";", "decimal": ",", "thousands": "."},
        "fees": {"file": "fees.csv"},
    }
    kept, _ = written(
        project, ["c1,2024-05-01,p1,9"], columns, "customer,day,sku,amount", sources=sources, currency="USD"
    )
    assert (kept.cost.astype(float)[0], kept.discount.astype(float)[0]) == (1234, 2.5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["c1,2019-05-01,5"], "clock: no row of orders lies between .* they are dated 2019-05-01 to 2019-05-01"),
        (["c1,2024-05-01,5,6,7"], "every row has more or fewer fields than the header"),
        (
            ["c1,2024-05-01,$ 5"],
            r"no row of orders has a readable amount; values look like '\$ 9'; say decimal: or thous",
        ),
        (["c1,2024-05-01,x", "c1,x,5"], "no row of orders can be kept; in 2 of 2 rows: A value that the row cannot"),
    ],
)
def test_data_of_which_nothing_can_be_kept_is_an_error_with_a_cure(project, rows, message):
    with pytest.raises(RapportError, match=message):
        written(project, rows, {})


def test_a_file_without_a_header_does_not_tell_its_first_customer(project):
    project.study()
    project.raw("shop", "orders.csv", "A1,anna@example.org,2024-01-05,p1,1,5\n" * 2)
    with pytest.raises(RapportError, match="its first line looks like data") as caught:
        project.clean()
    assert "anna" not in str(caught.value)


@pytest.mark.parametrize("attribute", ["mask", "row_id", "Region", "duplicate_key", "customer_id"])
def test_an_attribute_may_not_take_the_name_of_another_column(project, attribute):
    content = shop()
    content["sources"]["people"] = {"file": "people.csv"}
    people = {"source": "people", "columns": {"customer_id": "id"}, "attributes": {attribute: "age"}}
    project.study(**content | {"tables": content["tables"] | {"customers": people}})
    project.raw("shop", "people.csv", "id,age\nc1,30\n")
    with pytest.raises(RapportError, match=f"{attribute!r} is the name of another column"):
        project.clean()


def test_a_negative_optional_value_is_left_blank_and_counted(project):
    content = shop()
    content["sources"]["campaigns"] = {"file": "campaigns.csv"}
    columns = {
        "campaign_id": "id",
        "starts_on": "start",
        "cost_per_contact": "cost",
        "design": {"constant": "randomised"},
    }
    campaigns = {"source": "campaigns", "columns": columns}
    project.study(**content | {"tables": content["tables"] | {"campaigns": campaigns}})
    project.raw("shop", "campaigns.csv", "id,start,cost\n1,2024-07-01,-3\n2,2024-07-01,3\n")
    cleaned = project.clean()
    assert cleaned.tables["campaigns"].order_by("campaign_id").to_pandas().cost_per_contact.isna().tolist() == [
        True,
        False,
    ]
    assert cleaned.reasons.reason.tolist() == ["below_zero"]


def test_a_sample_of_a_column_that_is_not_there_is_named(project):
    project.study(sources={"orders": {"file": "orders.csv", "sample": {"column": "cust", "customers": 1}}})
    with pytest.raises(
        RapportError, match="sources.orders.sample.column: .* no column 'cust'; did you mean 'customer'"
    ):
        project.clean()


def test_a_reason_names_the_columns_at_fault(project):
    rows = "A1,c1,2024-01-05,p1,2,20\nA2,,2024-13-45,p1,1,5\nA3,c1,2024-01-05,p1,many,five\n"
    found = clean(project, rows).reasons.set_index("reason").sentence
    assert found["missing_customer_id"] == "The customer id is blank; the row is nobody's."
    assert found["unreadable_value"].endswith("is not a number or a date: day, pieces, amount.")
