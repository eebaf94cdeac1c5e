"""A study's mistakes are one line each: the file, the path inside it, the cure."""

import pytest

from analysis import paths
from analysis import study as studies
from analysis.study import StudyError
from tests.conftest import shop


@pytest.mark.parametrize("name", studies.names())
def test_the_studies_that_ship_are_valid(name):
    assert studies.load(name).name == name


def test_the_default_studies_ship():
    assert studies.defaults() == ["complete_journey", "ecsi_mobile"]
    assert set(studies.defaults()) <= set(studies.names())


def test_the_template_is_valid(project):
    template = paths.ROOT / "studies" / "_template" / "study.yaml"
    project.study("mine", text=template.read_text(encoding="utf-8"))
    assert studies.load("mine").money.margin.low == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moeny": {}}, "study.yaml: moeny is not a known key; check its spelling"),
        ({"money": {"margin": 30}}, "study.yaml: money.margin: 30 is not a share between 0 and 1; write 0.30 for 30 %"),
        ({"money": {"contact_cost": -1}}, "study.yaml: money.contact_cost: -1 is negative"),
        ({"money": {"margin": {"value": 0.3, "low": 0.4}}}, "0.3 is not between low 0.4 and high 0.3"),
        ({"currency": "EURO"}, "'EURO' is not an ISO 4217 currency code"),
        ({"timezone": "Paris"}, "'Paris' is not an IANA time zone"),
        ({"locale": "xx-99"}, "'xx-99' is not a locale"),
        ({"clock": None}, "clock: missing; say observed_from and observed_to"),
        ({"clock": {"observed_from": "2024-12-31", "observed_to": "2024-01-01"}}, "is not before observed_to"),
        ({"clock": {"observed_from": "31.12.2024", "observed_to": "2024-01-01"}}, "clock.observed_from"),
        ({"title": None}, "study.yaml: title is missing"),
        ({"sources": {"orders": {"file": "orders.doc"}}}, "cannot tell the format of orders.doc"),
        ({"sources": {"orders": {}}}, "give either file or database"),
        ({"sources": {"orders": {"database": "sqlite:///x", "table": "t"}}}, "needs snapshot"),
        ({"sources": {"other": {"file": "o.csv"}}}, "source 'orders' is not under sources"),
        ({"tables": {"customer_value": {"source": "orders", "columns": {}}}}, "not a table that a study maps"),
        ({"privacy": {"personal": ["email"]}}, "'email' is not a source.column of this study"),
        (
            {"privacy": {"fields": {"shop.x": {"class": "free"}}}},
            "privacy.fields: 'shop.x' is not a source.column of this",
        ),
        (
            {"privacy": {"fields": {"orders.x": {"class": "secret"}}}},
            "privacy.fields.orders.x.class: Input should be 'personal', 'sensitive' or 'free'; found 'secret'",
        ),
        (
            {"privacy": {"fields": {"orders.x": {"class": "personal", "lawful_basis": "consent"}}}},
            "privacy.fields.orders.x: purpose is missing; say what this personal column is used for",
        ),
        (
            {"privacy": {"fields": {"orders.x": {"class": "personal", "purpose": "p"}}}},
            "privacy.fields.orders.x: lawful_basis is missing; choose from consent, contract",
        ),
        (
            {"privacy": {"fields": {"orders.x": {"class": "sensitive", "purpose": "p", "lawful_basis": "contract"}}}},
            "lawful_basis 'contract' is not one that article 9(2) GDPR knows for a sensitive column; choose from explicit",
        ),
        (
            {"privacy": {"personal": ["orders.x"], "fields": {"orders.x": {"class": "free"}}}},
            "privacy: fields.orders.x: is declared free and listed under personal; keep one of the two",
        ),
        ({"survey": {"scale": [10, 1], "blocks": {}}}, "survey.scale: scale [10.0, 1.0] does not go from low to high"),
        ({"sources": {"orders": {"file": "o.csv", "delimiter": ",,"}}}, "delimiter ',,' is not one character"),
        ({"sources": {"orders": {"file": "o.csv", "thousands": "."}}}, "thousands '.' must be one character, and not"),
        (
            {"sources": {"orders": {"file": "o.csv", "sample": {"column": "c", "customers": 5, "among": "x"}}}},
            "sources.orders.sample.among: 'x' is not under sources",
        ),
    ],
)
def test_a_mistake_is_one_line_with_place_and_cure(project, change, message):
    project.study(**change)
    with pytest.raises(StudyError) as caught:
        studies.load("shop")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(project.root) not in str(caught.value)


def test_an_unmapped_needed_column_is_named(project):
    content = shop()
    del content["tables"]["order_lines"]["columns"]["ordered_at"]
    project.study(**content)
    with pytest.raises(StudyError, match="tables.order_lines.columns: ordered_at has no mapping"):
        studies.load("shop")


def test_a_column_that_the_table_does_not_have_is_named(project):
    content = shop()
    content["tables"]["order_lines"]["columns"]["colour"] = "sku"
    project.study(**content)
    with pytest.raises(StudyError, match="'colour' is not a column of order_lines"):
        studies.load("shop")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\ntitle: b\n", "line 2 the key 'title' is there twice"),
        ("title: [a\n", "study.yaml: line"),
        ("just words\n", "expected 'key: value' lines, found a str"),
        ("title: a\nname: b\n", "study.yaml: name is not set here"),
        ("title: a\n1: b\n", "study.yaml: 1 is not a known key"),
        ("title: a\n? [b, c]\n: 1\n", "line 2 a key must be one word"),
    ],
)
def test_broken_yaml_names_the_line(project, text, message):
    project.study(text=text)
    with pytest.raises(StudyError, match=message):
        studies.load("shop")


def test_an_unknown_study_lists_those_that_are_there(project):
    project.study()
    with pytest.raises(StudyError, match="there is no study 'shoop'; choose from shop"):
        studies.load("shoop")
    with pytest.raises(StudyError, match="cannot name a study"):
        studies.load("../shop")


def test_the_digest_is_blind_to_comments_and_sees_every_value(project):
    path = project.study()
    before = studies.load("shop").digest
    path.write_text("# a remark\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert studies.load("shop").digest == before
    project.study(money={"margin": 0.31, "discount_rate": 0.1})
    assert studies.load("shop").digest != before


def test_a_variant_says_only_what_differs(project):
    project.study()
    project.study(
        "small", text="like: shop\ntitle: Small\nsources: {orders: {sample: {column: customer, customers: 1}}}\n"
    )
    variant = studies.load("small")
    assert variant.title == "Small"
    assert variant.sources["orders"].file == "orders.csv"
    assert variant.sources["orders"].sample.customers == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"is_return": "back"}, "columns.is_return: cannot be mapped; a return is a line whose net_amount is negative"),
        ({"order_date": "day"}, "columns.order_date: cannot be mapped; it is the day of ordered_at"),
        ({"unit_price": "price", "quantity": None}, "columns.unit_price: means nothing without quantity"),
        ({"line_number": "n", "order_id": None}, "columns.line_number: means nothing without order_id"),
        ({"ordered_at": {"column": "day", "format": "%q"}}, "ordered_at: format '%q': %q is not a part of a date"),
        ({"ordered_at": {"column": "day", "timezone": "Mars"}}, "ordered_at: 'Mars' is not an IANA time zone"),
        (
            {"net_amount": {"column": "sku", "lookup": {"source": "orders", "key": "sku", "value": "amount"}}},
            "columns.net_amount: cannot be looked up",
        ),
    ],
)
def test_a_mapping_that_would_be_ignored_or_break_later_is_refused(project, columns, message):
    content = shop()
    mapped = content["tables"]["order_lines"]["columns"] | columns
    content["tables"]["order_lines"]["columns"] = {c: m for c, m in mapped.items() if m is not None}
    project.study(**content)
    with pytest.raises(StudyError) as caught:
        studies.load("shop")
    assert message in str(caught.value)


def test_attributes_belong_to_tables_that_take_them(project):
    content = shop()
    content["tables"]["order_lines"]["attributes"] = {"colour": "sku"}
    project.study(**content)
    with pytest.raises(StudyError, match="order_lines takes none; these do: customers, prospects, products"):
        studies.load("shop")


def test_a_misspelt_key_is_named_before_the_one_that_it_makes_missing(project):
    content = shop()
    content["tables"]["order_lines"]["colunms"] = content["tables"]["order_lines"].pop("columns")
    project.study(**content)
    with pytest.raises(StudyError, match="tables.order_lines.colunms is not a known key"):
        studies.load("shop")


def test_personal_and_sensitive_columns_are_hashed_and_free_ones_are_not(project):
    basis = {"origin": "shop", "purpose": "orders"}
    fields = {
        "orders.name": {"class": "personal", "lawful_basis": "contract", **basis},
        "orders.diet": {"class": "sensitive", "lawful_basis": "explicit_consent", **basis},
        "orders.amount": {"class": "free"},
    }
    project.study(privacy={"personal": ["orders.email", "orders.name"], "fields": fields})
    study = studies.load("shop")
    assert study.privacy.hashed("orders") == ("email", "name", "diet")
    assert study.privacy.hashed("order") == ()
    # What is recorded of a run can be read back, and says the same.
    assert studies.Study(**study.model_dump(mode="json")) == study


def test_a_variant_of_a_variant_says_what_neither_does_and_a_ring_is_refused(project):
    project.study()
    project.study("small", text="like: shop\ntitle: Small\n")
    project.study("smaller", text="like: small\nabout: Few\n")
    variant = studies.load("smaller")
    assert (variant.title, variant.about, variant.currency) == ("Small", "Few", "EUR")
    project.study("shop", text="like: smaller\n")
    with pytest.raises(StudyError, match="study.yaml: like: 'shop' is like this study itself"):
        studies.load("shop")


@pytest.mark.parametrize(
    "pattern",
    [
        "C[0-9]{4}",
        "X(.*)",
        "(?:TEST|DEMO)[_-]?[0-9]+",
        r"\d{1,255}\s\w*",
        r"FEE\.[^A-Z&]+",
        "^(a|b)$",
        "[-+a]",
        "",
        "Gebühr .*",
        r"[\d\]]",
    ],
)
def test_a_pattern_that_every_engine_reads_alike_is_taken(project, pattern):
    project.study(rules={"non_products": [pattern]})
    assert studies.load("shop").rules.non_products == (pattern,)


def test_whether_a_cancellation_names_its_order_is_told_by_its_group(project):
    for pattern, named in (("X(.*)", True), (r"X\(.+", False), ("(?:X|Y).+", False), ("[(]X", False)):
        project.study(rules={"cancellations": {"order_id": pattern}})
        assert studies.load("shop").rules.cancellations.names_order is named


@pytest.mark.parametrize("sign", [",", " ", "\u202f", "'", "’", "_"])
def test_a_separator_of_thousands_that_people_write_is_taken(project, sign):
    project.study(sources={"orders": {"file": "orders.csv", "thousands": sign}})
    assert studies.load("shop").sources["orders"].thousands == (" " if sign == "\u202f" else sign)


LEVEL = {"cost": 4, "retention": 0.05}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "study.yaml: relationship: offers no level"),
        ({"basic": {"cost": 1}}, "relationship: basic is what everybody gets"),
        ({"proactiv": LEVEL}, "relationship.proactiv is not a known key"),
        ({"proactive": {"retention": 0.1}}, "relationship.proactive.cost is missing"),
        ({"proactive": {"cost": 4}}, "relationship.proactive: says no effect"),
        ({"proactive": LEVEL | {"cost": -4}}, "relationship.proactive.cost: -4 is negative"),
        ({"proactive": LEVEL | {"retention": 5}}, "relationship.proactive.retention: 5 is not a share between 0 and 1"),
        ({"proactive": LEVEL | {"margin": 50}}, "relationship.proactive.margin: 50 is not an effect between 0 and 10"),
        ({"proactive": LEVEL | {"hours": 100}}, "relationship.proactive: hours and hours_each go together"),
        ({"proactive": LEVEL | {"hours": 9, "hours_each": 1, "customers": 9}}, "give either customers, or hours"),
        ({"proactive": LEVEL | {"customers": -1}}, "relationship.proactive.customers"),
        ({"leaving": 1.0, "proactive": LEVEL}, "relationship.leaving: 1 would leave no customer after a year"),
    ],
)
def test_a_mistake_in_relationship_is_one_line(project, given, message):
    project.study(relationship=given)
    project.raw("shop", "orders.csv", "order,customer,day,sku,pieces,amount\n")
    with pytest.raises(StudyError) as error:
        studies.load("shop")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_relationship_levels_are_read_with_their_places(project):
    given = {"proactive": {"cost": 30, "hours": 801, "hours_each": 2, "growth": {"value": 0.1, "low": 0, "high": 0.2}}}
    project.study(relationship=given | {"reactive": {"cost": 1, "margin": 0.01}})
    found = studies.load("shop").relationship
    assert list(found.offered) == ["reactive", "proactive"] and found.leaving is None
    assert found.proactive.places == 400 and found.reactive.places is None
    assert found.proactive.growth.high == 0.2
    project.study()
    assert studies.load("shop").relationship is None


def test_the_relationship_section_of_the_template_is_valid_when_its_marks_are_taken_off(project):
    text = (paths.ROOT / "studies" / "_template" / "study.yaml").read_text(encoding="utf-8")
    start = text.index("# relationship:")
    section = text[start : text.index("\n\n", start)]
    project.study("mine", text=text.replace(section, "\n".join(line[2:] for line in section.splitlines())))
    assert list(studies.load("mine").relationship.offered) == ["reactive", "accountable", "proactive", "partnership"]
