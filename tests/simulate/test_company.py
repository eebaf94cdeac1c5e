"""A simulated company: the same bytes from the same seed, files that its study can read, truth that agrees with them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis import paths, sources
from analysis import study as studies
from analysis.errors import RapportError
from analysis.simulate import company, folder
from analysis.simulate.company import Settings, generate

SMALL = Settings("company", 1_500, seed=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("made") / "company"
    generate(SMALL, place)
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def truth(place: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(place / "truth" / f"{name}.parquet")


def planted(place: Path) -> dict:
    return json.loads((place / "truth" / "planted.json").read_text())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(made, tmp_path):
    generate(SMALL, tmp_path / "again")
    assert contents(made) == contents(tmp_path / "again")
    generate(Settings("company", 1_500, seed=4), tmp_path / "other")
    assert contents(made)["orders.parquet"] != contents(tmp_path / "other")["orders.parquet"]


def test_batches_do_not_depend_on_how_many_follow(made, tmp_path, monkeypatch):
    monkeypatch.setattr(company, "BATCH", 500)
    for customers in (500, 1_000):
        generate(Settings("textbook", customers), tmp_path / str(customers))
    few, many = (truth(tmp_path / str(n), "customers") for n in (500, 1_000))
    kept = ["customer_id", "rate", "hazard", "margin_after", "satisfaction_3"]
    pd.testing.assert_frame_equal(few[kept], many[kept].head(500))
    assert truth(tmp_path / "1000", "customers")["customer_id"].is_unique
    orders = pd.read_parquet(tmp_path / "1000" / "orders.parquet")
    assert not orders.duplicated(["order_no", "line_no"]).any()


def test_a_textbook_company_is_clean_and_its_files_agree_with_the_truth(tmp_path):
    generate(Settings("textbook", 2_000), tmp_path / "t")
    orders = pd.read_parquet(tmp_path / "t" / "orders.parquet")
    customers, totals = truth(tmp_path / "t", "customers"), planted(tmp_path / "t")["totals"]
    amount = orders["amount"].astype(float)
    assert truth(tmp_path / "t", "dirt").empty
    assert len(orders) == totals["lines"] == totals["raw_rows"]
    assert round(100 * amount.sum()) == totals["net_cents"]
    assert orders["order_no"].nunique() == totals["orders"]
    spend = amount.groupby(orders["customer_no"]).sum()
    np.testing.assert_allclose(spend.reindex(customers["customer_id"]), customers["spend"], atol=0.005)
    days = orders.groupby("customer_no")["ordered_at"].agg(lambda when: when.str[:10].nunique())
    assert (days.reindex(customers["customer_id"]).to_numpy() == customers["purchases"]).all()
    gone = customers["lapsed_on"] < pd.Timestamp("2024-12-30")
    assert (customers.loc[gone, "alive"] == False).all() and customers.loc[~gone, "alive"].all()  # noqa: E712
    assert (customers.loc[gone, ["purchases_next", "margin_next", "margin_after"]] == 0).all(axis=None)
    parts = customers["margin_to_date"] + customers["margin_next"] + customers["margin_after"]
    np.testing.assert_allclose(customers["lifetime_value"], parts)


def test_every_source_of_the_study_can_be_read_and_holds_its_rows(made, tmp_path, monkeypatch):
    monkeypatch.setenv("RAPPORT_DATA", str(tmp_path / "data"))
    study = studies.load("demo_company")
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "demo_company").symlink_to(made)
    rows = {name: sources.bring_in(study, name).rows for name in study.sources}
    seen = planted(made)["totals"]
    assert rows["orders"] == seen["raw_rows"] == pq.read_metadata(made / "orders.parquet").num_rows
    assert rows["customers"] == seen["customers"] + len(truth(made, "second_ids"))
    assert min(rows.values()) > 0
    names = pq.read_table(sources.bring_in(study, "customers").paths[0], columns=["name"])["name"].to_pylist()
    assert "王" in {name[0] for name in names if name}


def test_the_company_is_rich(made):
    customers, orders = truth(made, "customers"), pd.read_parquet(made / "orders.parquet")
    assert set(customers["kind"]) == {"regular", "bargain hunter", "occasional", "trier"}
    assert 0.2 < customers["alive"].mean() < 0.9
    assert {"web", "store"} <= set(orders["channel"].str.strip())
    assert orders["order_no"].str.strip().str.startswith("R").any()
    dirt = truth(made, "dirt")
    assert dirt["kind"].nunique() >= 20
    assert 0 < len(dirt) < 0.1 * len(orders)
    effects = truth(made, "campaigns")
    assert effects["campaign_id"].nunique() == 6
    assert {"acquire", "retain"} == set(pd.read_csv(made / "marketing_costs.csv")["purpose"])
    survey = pd.read_csv(made / "survey.csv")
    assert set(survey["wave"]) == {1, 2}
    assert survey.filter(regex="^(imag|perq|cusa)").stack().dropna().between(1, 10).all()


def test_confounding_moves_satisfaction_and_spend_together(tmp_path):
    found = {}
    for strength in (0.0, 0.5):
        place = tmp_path / str(strength)
        generate(Settings("textbook", 4_000, confounding=strength), place)
        customers = truth(place, "customers")
        found[strength] = np.corrcoef(customers["satisfaction_3"], np.log(customers["spend_mean"]))[0, 1]
    assert abs(found[0.0]) < 0.05 and found[0.5] > 0.1


@pytest.mark.parametrize("world", ["textbook", "company"])
def test_a_company_of_one_customer(world, tmp_path):
    generate(Settings(world, 1), tmp_path / "one")
    assert len(truth(tmp_path / "one", "customers")) == 1


def test_files_are_made_once_and_made_again_when_what_they_were_made_from_changes(tmp_path):
    place = tmp_path / "raw" / "demo"
    folder.ensure(Settings("textbook", 50), place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    folder.ensure(Settings("textbook", 50), place)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    folder.ensure(Settings("textbook", 60), place)
    assert len(truth(place, "customers")) == 60
    assert sorted(path.name for path in place.parent.iterdir()) == [".demo.lock", "demo"]


def test_a_missing_file_is_made_again_and_a_file_laid_beside_them_is_kept(tmp_path):
    place = tmp_path / "raw" / "demo"
    folder.ensure(Settings("textbook", 50), place)
    (place / "orders.parquet").unlink()
    folder.ensure(Settings("textbook", 50), place)
    assert (place / "orders.parquet").is_file()
    (place / "mine.csv").write_text("mine")
    with pytest.raises(RapportError, match="not simulated; move them away"):
        folder.ensure(Settings("textbook", 60), place)
    assert (place / "mine.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "given", [{"world": "foo"}, {"customers": 0}, {"seed": -1}, {"confounding": 0.97}, {"confounding": float("nan")}]
)
def test_settings_that_make_no_company_are_refused(given):
    with pytest.raises(RapportError):
        Settings(**({"world": "company", "customers": 10} | given))


def test_somebody_s_own_files_are_never_replaced(tmp_path):
    place = tmp_path / "raw" / "demo"
    place.mkdir(parents=True)
    (place / "orders.csv").write_text("mine")
    with pytest.raises(RapportError, match="demo: .*not simulated; move them away"):
        folder.ensure(Settings("textbook", 50), place)
    assert (place / "orders.csv").read_text() == "mine"


def test_a_study_makes_its_files_when_they_are_needed(project):
    base = (paths.ROOT / "studies" / "demo_company" / "study.yaml").read_text()
    project.study("demo", text=base.replace("customers: 10000", "customers: 100"))
    cleaned = project.clean("demo")
    assert int(cleaned.tables["customers"].count().to_pyarrow().as_py()) >= 100
    assert (paths.raw("demo") / "truth" / "planted.json").is_file()
