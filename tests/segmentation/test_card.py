"""The card of one customer: complete, inert, and refused wherever it could be published."""

import datetime as dt
import os
from decimal import Decimal

import ibis
import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbclient import NotebookClient

from analysis import paths, segmentation
from analysis.errors import RapportError
from analysis.reporting.numbers import Formatter
from analysis.segmentation.card import CARD_TABLES, customer_card
from analysis.step import STAGING_VARIABLE

WORDS = segmentation.Words(Formatter("en", "EUR"), "customers")


@pytest.fixture
def tables():
    day = dt.date(2024, 5, 1)
    lines = pd.DataFrame(
        {
            "order_id": ["o1", "o1", "o2", "o9"],
            "customer_id": ["c1", "c1", "c1", "c2"],
            "order_date": [day, day, dt.date(2024, 6, 2), day],
            "net_amount": [Decimal("10.00"), Decimal("2.50"), Decimal("-3.00"), Decimal("999.00")],
        }
    )
    return {
        "customers": pd.DataFrame(
            {
                "customer_id": ["c1", "c2"],
                "acquired_on": [dt.date(2023, 1, 2), None],
                "home_town": ["<script>alert(1)</script>", "Bonn"],
                "consent_email": [True, False],
            }
        ),
        "customer_summary": pd.DataFrame(
            {"customer_id": ["c1"], "frequency": [3], "T": [500.0], "recency_days": [30.0], "orders": [4], "spend": [1234.5]}
        ),
        "customer_value": pd.DataFrame(
            {
                "customer_id": ["c1"], "probability_alive": [0.9], "existing_value": [300.0], "residual_value": [80.0],
                "clv_low": [310.0], "clv_high": [500.0], "growth_value": [float("nan")],
            }
        ),
        "customer_segment": pd.DataFrame(
            {
                "customer_id": ["c1"], "value_tier": ["protect"], "life_stage": ["decline"], "cluster": ["B"],
                "recommended_relationship_level": ["proactive"],
            }
        ),
        "order_lines": ibis.memtable(lines),
        "contacts": pd.DataFrame(
            {"campaign_id": ["k1", "k2"], "customer_id": ["c1", "c1"], "arm": ["offer", "control"], "opened": [True, None]}
        ),
        "campaigns": pd.DataFrame(
            {"campaign_id": ["k1", "k2"], "name": ["Spring", "Summer"], "starts_on": [dt.date(2024, 3, 1), dt.date(2024, 7, 1)]}
        ),
        "interactions": pd.DataFrame(
            {
                "interaction_id": ["i1"], "customer_id": ["c1"], "opened_at": [pd.Timestamp("2024-04-04T10:00Z")],
                "kind": ["complaint"],
            }
        ),
        "survey_responses": pd.DataFrame(
            {
                "response_id": ["r1", "r2"], "customer_id": ["c1", "c1"],
                "responded_on": [dt.date(2023, 5, 1), dt.date(2024, 5, 1)], "q1": [4.0, 9.0],
                "comment_given": [True, False], "comment_price": [True, False],
            }
        ),
        "customer_loyalty": pd.DataFrame(
            {
                "response_id": ["r1", "r2"], "customer_id": ["c1", "c1"], "loyalty_index": [40.0, 81.0],
                "nps_group": ["passive", "promoter"],
            }
        ),
    }  # fmt: skip


def card(tables, customer_id="c1"):
    return customer_card(customer_id, tables, WORDS, labels={"q1": "How satisfied are you?"})


def facts(found, section):
    frame = found.sections[section]
    return dict(zip(frame["what"], frame["value"], strict=True))


def test_everything_known_of_the_customer_is_on_the_card_and_nothing_of_others(tables):
    assert set(tables) == set(CARD_TABLES)
    found = card(tables)
    assert list(found.sections) == [
        "who", "segment", "so_far", "value", "orders", "contacts", "interactions", "survey", "loyalty",
    ]  # fmt: skip
    assert facts(found, "segment") == {
        "Tier": "Protect",
        "Stage": "Decline",
        "Segment": "B",
        "Advised level": "Proactive",
    }
    assert facts(found, "value")["Margin expected"] == "€80 (from €10 to €200)"
    assert "Growth potential" not in facts(found, "value")
    assert facts(found, "so_far")["Last purchase, ago"] == "30 days"
    assert found.sections["orders"].to_numpy().tolist() == [
        ["June 2, 2024", "1", "−€3.00"],
        ["May 1, 2024", "2", "€12.50"],
    ]
    assert found.sections["contacts"]["Campaign"].tolist() == ["Summer", "Spring"]
    assert found.sections["survey"].to_numpy().tolist() == [["How satisfied are you?", "9.00", "4.00"]], "no comments"
    assert facts(found, "loyalty")["loyalty index"] == "81.0"
    text = BeautifulSoup(found._repr_html_(), "html.parser").get_text()
    assert "999" not in text and "Bonn" not in text


def test_what_is_in_the_data_is_text_and_nothing_else(tables):
    tables["customers"].columns = ["customer_id", "acquired_on", "<img src=x onerror=alert(2)>", "consent_email"]
    html = card(tables)._repr_html_()
    assert "<script" not in html and "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "&lt;img" in html
    assert "c1" not in repr(card(tables)) and "c1" in html


def test_an_id_is_text_too(tables):
    tables = {"customers": pd.DataFrame({"customer_id": ['<b onclick="x">']})} | {
        "customer_segment": pd.DataFrame({"customer_id": ['<b onclick="x">'], "cluster": ["A"]})
    }
    assert "<b onclick" not in card(tables, '<b onclick="x">')._repr_html_()


def test_an_unknown_customer_is_one_line_without_the_id(tables):
    for given in ({}, tables, {name: tables[name].head(0) for name in ("customers", "order_lines")}):
        with pytest.raises(RapportError, match="^customer card: no table knows this customer") as caught:
            card(given, "nobody@example.org")
        assert "\n" not in str(caught.value) and "nobody" not in str(caught.value)


@pytest.mark.parametrize("name", CARD_TABLES)
def test_a_missing_table_leaves_its_part_out(tables, name):
    del tables[name]
    assert card(tables)._repr_html_()


def test_a_run_for_a_report_refuses_it(tables, monkeypatch):
    made = card(tables)
    monkeypatch.setenv(STAGING_VARIABLE, "/somewhere")
    with pytest.raises(RapportError, match="never published"):
        card(tables)
    with pytest.raises(RapportError, match="never published"):
        made._repr_html_()


def test_a_kernel_shows_it_only_to_a_person():
    look = "segmentation.customer_card('c1', {'customers': pd.DataFrame({'customer_id': ['c1'], 'region': ['North']})}, words)"
    cells = [
        "import os\nimport pandas as pd\nfrom analysis import segmentation\nfrom analysis.reporting.numbers import Formatter\n"
        "words = segmentation.Words(Formatter('en', 'EUR'))",
        f"try:\n    {look}\nexcept ValueError as error:\n    print(error)",
        f"os.environ['JPY_SESSION_NAME'] = 'notebooks/03_segmentation.ipynb'\n{look}",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = {k: v for k, v in os.environ.items() if k not in ("JPY_SESSION_NAME", "VSCODE_PID", STAGING_VARIABLE)}
    environment["PYTHONPATH"] = str(paths.ROOT / "src")
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute(env=environment)
    assert "no person has this notebook open" in notebook.cells[1].outputs[0]["text"]
    assert "North" in notebook.cells[2].outputs[0]["data"]["text/html"]
