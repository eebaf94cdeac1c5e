"""What a step may read of earlier ones and of the truth, and on which companies the scorecard runs."""

import json

import pandas as pd
import pytest

import analysis
from analysis import keys, paths, run, store
from analysis import study as studies
from analysis.step import StepError
from analysis.steps import STEPS, TRUTH, available, concerns, missing, upstream
from analysis.study import StudyError

SCORECARD = "08_scorecard"


@pytest.fixture
def simulated(project):
    """A study that says it is simulated, with one earlier step and a truth made by hand."""
    path = project.study(simulation={"world": "company", "customers": 100, "seed": 1})
    study = studies.load("shop")
    paths.truth("shop").mkdir(parents=True)
    pd.DataFrame({"customer_id": ["C1"], "alive": [True]}).to_parquet(paths.truth("shop") / "customers.parquet")
    store.write_json(paths.truth("shop") / "planted.json", {"settings": {"world": "company"}})
    staging = store.stage("shop", "01_data_cleaning")
    (staging / "csv").mkdir()
    (staging / "csv" / "ledger.csv").write_text("﻿table,rows\r\norders,3\r\n", encoding="utf-8")
    store.write_json(staging / "findings.json", [{"id": "rows_kept", "value": 0.9, "low": None, "high": None}])
    store.write_json(staging / store.MANIFEST, {"parameters": {"study": "shop", "depth": 3}})
    store.publish("shop", "01_data_cleaning", staging, "k1")
    return path, study


def test_earlier_findings_tables_and_parameters_are_read_back(simulated):
    step = analysis.open_step(SCORECARD, study="shop")
    assert step.findings("01_data_cleaning")["rows_kept"]["value"] == 0.9
    assert step.shown("01_data_cleaning", "ledger").to_dict("records") == [{"table": "orders", "rows": 3}]
    assert step.shown("01_data_cleaning", "nothing").empty
    assert step.parameters("01_data_cleaning")["depth"] == 3


def test_a_step_that_has_not_run_or_is_not_upstream_is_named(simulated):
    step = analysis.open_step(SCORECARD, study="shop")
    with pytest.raises(
        StepError, match="02_customer_valuation has not run on study shop; run notebook 02_customer_valuation"
    ):
        step.findings("02_customer_valuation")
    with pytest.raises(StepError, match="08_scorecard reads nothing of 04_satisfaction_loyalty on study shop"):
        step.findings("04_satisfaction_loyalty")


def test_the_truth_is_for_the_scorecard_alone(simulated):
    step = analysis.open_step(SCORECARD, study="shop")
    assert step.truth("customers").to_pandas()["alive"].tolist() == [True]
    assert step.planted()["settings"]["world"] == "company"
    with pytest.raises(StepError, match="truth/secrets.parquet: no such file|secrets.parquet: no such file"):
        step.truth("secrets")
    with pytest.raises(StepError, match="02_customer_valuation may not know the truth"):
        analysis.open_step("02_customer_valuation", study="shop").truth("customers")


def test_a_run_reads_the_editions_that_it_was_given(simulated, tmp_path, monkeypatch):
    staging = store.stage("shop", "01_data_cleaning")
    store.write_json(staging / "findings.json", [{"id": "rows_kept", "value": 0.1}])
    store.write_json(staging / store.MANIFEST, {})
    store.publish("shop", "01_data_cleaning", staging, "k2")  # a later run of somebody else
    monkeypatch.setenv("RAPPORT_STAGING", str(tmp_path))
    monkeypatch.setenv("RAPPORT_INPUTS", json.dumps({"01_data_cleaning": "k1"}))
    assert analysis.open_step(SCORECARD, study="shop").findings("01_data_cleaning")["rows_kept"]["value"] == 0.9


def test_only_a_simulated_company_has_a_scorecard(simulated):
    _, study = simulated
    spec = STEPS[SCORECARD]
    assert concerns(spec, study)
    assert TRUTH in available(study)
    assert "survey_responses" in missing(spec, study)
    assert upstream(spec, study) == ("01_data_cleaning", "02_customer_valuation", "03_segmentation")
    real = study.model_copy(update={"simulation": None})
    assert not concerns(spec, real)
    assert all(concerns(other, real) for name, other in STEPS.items() if name != SCORECARD)


def test_the_truth_counts_by_its_content(simulated):
    _, study = simulated
    inputs = dict.fromkeys(STEPS, "same")
    before = keys.key_parts(STEPS[SCORECARD], study, inputs)
    other = keys.key_parts(STEPS["02_customer_valuation"], study, inputs)
    store.write_json(paths.truth("shop") / "planted.json", {"settings": {"world": "textbook"}})
    after = keys.key_parts(STEPS[SCORECARD], study, inputs)
    assert [name for name in before if before[name] != after[name]] == ["truth"]
    assert keys.key_parts(STEPS["02_customer_valuation"], study, inputs) == other


def test_relative_imports_count_as_code_of_a_notebook():
    assert {"analysis.loyalty.kernel", "analysis.loyalty.consistent"} <= keys.reached({"analysis.loyalty"})


def test_the_command_refuses_a_company_whose_truth_nobody_knows(project, simulated):
    project.study("real")
    with pytest.raises(
        StudyError, match="study real is not simulated, so nobody knows its truth; choose demo_textbook or"
    ):
        run.scorecard(["real"], 1)
    with pytest.raises(
        StudyError, match="study shop has no survey_responses, .*which the scorecard holds against the truth"
    ):
        run.scorecard(["shop"], 1)
