"""Cleaning the UCI Online Retail II file, where it is there: its known counts come out of the study folder alone."""

import shutil
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from analysis import cleaning, engine, paths
from analysis import study as studies

FILE = Path(__file__).parents[3] / "shared" / "data" / "online_retail_ii" / "online_retail_II.parquet"


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    if not FILE.is_file():
        pytest.skip("the data of Online Retail II are not beside the project")
    root = tmp_path_factory.mktemp("retail")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAPPORT_STUDIES", str(root / "studies"))
        patch.setenv("RAPPORT_DATA", str(root / "data"))
        shutil.copytree(paths.ROOT / "studies" / "online_retail", root / "studies" / "online_retail")
        # The same rows as the sheet, as Parquet.
        variant = {
            "like": "online_retail",
            "title": "Parquet",
            "sources": {"invoices": {"file": FILE.name, "sheet": None}},
        }
        (root / "studies" / "parquet").mkdir()
        (root / "studies" / "parquet" / "study.yaml").write_text(yaml.safe_dump(variant))
        (root / "data" / "raw" / "parquet").mkdir(parents=True)
        (root / "data" / "raw" / "parquet" / FILE.name).symlink_to(FILE)
        made = cleaning.clean(studies.load("parquet"), engine.connect())
        cleaning.assert_conserved(made.ledger)
        yield made


def test_every_row_is_accounted_for(cleaned):
    books = cleaned.ledger.set_index("table").loc["order_lines"]
    assert books.rows_in == 525_461
    assert books.rows_in == books.rows_kept + books.rows_set_aside
    assert books.amount_in.quantize(Decimal("0.01")) == Decimal("9539484.63")


def test_all_cancellations_are_met(cleaned):
    """10,206 invoices' lines begin with C: each is kept as a whole or partial one, or set aside with a reason."""
    lines = cleaned.tables["order_lines"]
    kept = lines.order_id.startswith("C").sum().to_pyarrow().as_py()
    raw = cleaned.quarantine.filter(cleaned.quarantine.raw_values.re_search('"Invoice":"C'))
    aside = raw.filter(
        raw.reasons.re_search("(^| )(cancellation|duplicate_row|missing_customer|non_product|test_order)")
    )
    assert kept + aside.count().to_pyarrow().as_py() == 10_206
    counts = cleaned.reasons[cleaned.reasons.table == "order_lines"].set_index("reason").rows
    assert kept == counts["cancelled_whole"] + counts["cancelled_partly"]


def test_lines_without_a_customer_are_set_aside(cleaned):
    counts = cleaned.reasons[cleaned.reasons.table == "order_lines"].set_index("reason").rows
    assert counts["missing_customer_id"] == 107_927
    assert counts["test_order"] == 17


def test_the_waterfall_goes_from_raw_to_clean(cleaned):
    steps = cleaned.waterfall[cleaned.waterfall.table == "order_lines"]
    print(steps.to_string(), cleaned.reasons.to_string())
    books = cleaned.ledger.set_index("table").loc["order_lines"]
    assert steps.rows.iloc[0] == books.rows_in
    assert steps.rows.iloc[-1] == books.rows_kept
    assert steps.rows.iloc[1:-1].sum() == -books.rows_set_aside
    assert Decimal(str(steps.amount.iloc[-1])).quantize(Decimal("0.01")) == books.amount_kept.quantize(Decimal("0.01"))
