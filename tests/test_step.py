"""The step object: typed parameters, contracts at every hand-over, one answer, all or nothing."""

import pandas as pd
import pytest

import analysis
from analysis import paths, store
from analysis.reporting.theme import new_figure
from analysis.step import StepError
from analysis.tables import ContractError

SUMMARY = {
    "customer_id": ["a", "b"],
    "frequency": [0, 2],
    "recency": [0.0, 5.0],
    "T": [10.0, 9.0],
    "monetary_value": [0.0, 3.5],
}


@pytest.fixture
def step(project):
    project.study()
    return analysis.open_step("02_customer_valuation", study="shop")


def answer(step, **options):
    given = {"unit": "money", "answer": True, "reason": "a test", "horizon": 1} | options
    key = next(k for k in step._sentences.keys() if "." not in k)  # noqa: SIM118
    # A copy: the words of a file are read once for all.
    step._sentences._templates = step._sentences._templates | {key: "Worth {{ value|money }}."}
    step.finding(key, 1.5, **given)
    return key


def test_parameters_are_typed_and_named(project):
    project.study()
    with pytest.raises(StepError, match="horizon_weeks: Input should be .* found 'soon'; parameters are"):
        analysis.open_step("02_customer_valuation", study="shop", horizon_weeks="soon")
    with pytest.raises(StepError, match="horizon is not a known key"):
        analysis.open_step("02_customer_valuation", study="shop", horizon=3)
    with pytest.raises(StepError, match="there is no step '2'; choose from 01_data_cleaning"):
        analysis.open_step("2", study="shop")


def test_a_table_that_nobody_wrote_names_who_should(step):
    assert not step.has("order_lines")
    with pytest.raises(
        StepError, match="needs table order_lines, which 01_data_cleaning has not written for study shop"
    ):
        step.read("order_lines")
    with pytest.raises(StepError, match="there is no table 'orders'"):
        step.read("orders")


def test_what_is_written_can_be_read_back_in_key_order(step):
    frame = pd.DataFrame(SUMMARY).iloc[::-1]
    step.write("customer_summary", frame)
    back = step.read("customer_summary")
    assert back.customer_id.tolist() == ["a", "b"]
    assert list(back.columns) == list(SUMMARY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"customer_id": ["a", "a"]}, "1 rows repeat the key \\(customer_id\\); one row a customer"),
        ({"customer_id": ["a", None]}, "customer_id.* contains null"),
        ({"frequency": [-1, 2]}, "frequency.*failed"),
        ({"T": [10.0, 4.0]}, "1 rows break the rule: recency does not exceed T"),
        ({"shoe_size": [40, 41]}, "column shoe_size is not in its contract"),
        ({"T": None}, "column T is missing"),
    ],
)
def test_a_broken_contract_is_one_line_and_leaves_nothing(step, change, message):
    frame = pd.DataFrame({k: v for k, v in (SUMMARY | change).items() if v is not None})
    with pytest.raises(ContractError, match=message) as caught:
        step.write("customer_summary", frame)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("table customer_summary: ")
    assert not step.has("customer_summary")


def test_a_step_writes_only_its_tables(step):
    with pytest.raises(
        StepError, match="does not write table 'order_lines'; it writes customer_summary, customer_value"
    ):
        step.write("order_lines", pd.DataFrame(SUMMARY))


def test_an_estimate_needs_an_interval_or_a_reason(step):
    with pytest.raises(StepError, match="needs low and high, or reason"):
        step.finding("anything", 1.0, unit="money")
    with pytest.raises(StepError, match="names figure 'nowhere', which has not been shown"):
        step.finding("anything", 1.0, unit="money", reason="none", figure="nowhere")


def test_a_figure_needs_alt_text(step):
    fig, ax = new_figure()
    ax.plot([1, 2])
    with pytest.raises(StepError, match="figure 'bare' has no alt text"):
        step.figure(fig, "bare")


def test_tables_for_people_hold_no_ids(step):
    with pytest.raises(StepError, match="shows customer_id, which identifies people; use export"):
        step.table(pd.DataFrame(SUMMARY), "list", columns={"customer_id": ("Customer", "text")})


def test_commit_wants_one_answer_and_publishes_at_once(step):
    step.write("customer_summary", pd.DataFrame(SUMMARY))
    with pytest.raises(StepError, match="exactly one finding must be the answer, found 0"):
        step.commit()
    assert store.current("shop", "02_customer_valuation") is None
    answer(step)
    step.export("list", pd.DataFrame({"customer_id": ["=1+1", "b"]}), reach="none")
    step.commit()
    key = store.current("shop", "02_customer_valuation")
    assert key.startswith("interactive-")
    assert (paths.exports("shop") / "list.csv").read_text(encoding="utf-8-sig").splitlines() == [
        "customer_id",
        "'=1+1",
        "b",
    ]
    with pytest.raises(StepError, match="already committed"):
        step.commit()


def test_equal_work_has_equal_keys_and_bytes(project):
    project.study()
    keys = []
    for _ in range(2):
        step = analysis.open_step("02_customer_valuation", study="shop")
        step.write("customer_summary", pd.DataFrame(SUMMARY))
        answer(step)
        step.commit()
        keys.append(store.current("shop", "02_customer_valuation"))
    assert keys[0] == keys[1]


def test_an_edition_without_manifest_does_not_count(project):
    staging = store.stage("shop", "x")
    assert store.current("shop", "x") is None
    store.point("shop", "x", staging.name)
    assert store.current("shop", "x") is None
    store.write_json(staging / store.MANIFEST, {})
    store.publish("shop", "x", staging, "k1")
    assert store.current("shop", "x") == "k1"


def test_old_editions_are_kept_up_to_a_number(project):
    for key in ("k1", "k2", "k3", "k4"):
        staging = store.stage("shop", "x")
        store.write_json(staging / store.MANIFEST, {})
        store.publish("shop", "x", staging, key)
    store.point("shop", "x", "k1")
    store.keep("shop", "x", 2)
    left = {p.name for p in store.folder("shop", "x").iterdir() if p.is_dir()}
    assert "k1" in left
    assert len(left) == 2


def edition(key, exported=None):
    staging = store.stage("shop", "x")
    store.write_json(staging / store.MANIFEST, {})
    if exported is not None:
        (staging / "exports").mkdir()
        (staging / "exports" / "list.csv").write_text(exported, encoding="utf-8")
    store.publish("shop", "x", staging, key)


def test_going_back_to_an_edition_brings_its_lists_back(project):
    edition("k1", "old")
    edition("k2", "new")
    exported = paths.exports("shop") / "list.csv"
    assert exported.read_text(encoding="utf-8") == "new"
    store.point("shop", "x", "k1")
    assert exported.read_text(encoding="utf-8") == "old"


def test_the_edition_that_the_site_shows_is_kept_through_failed_runs(project):
    edition("shown")
    store.write_json(paths.processed("shop") / store.RECORD, {"editions": {"x": "shown"}})
    for key in ("k1", "k2", "k3"):
        edition(key)
        store.keep("shop", "x", 1)
    left = {p.name for p in store.folder("shop", "x").iterdir() if p.is_dir()}
    assert left == {"shown", "k3"}


def published(key, observed_to, horizon=52, tables=True):
    """An edition of 02 on the study ``shop`` as an earlier run left it."""
    staging = store.stage("shop", "02_customer_valuation")
    (staging / "tables").mkdir()
    if tables:
        pd.DataFrame(SUMMARY).to_parquet(staging / "tables" / "customer_summary.parquet", index=False)
    manifest = {"parameters": {"horizon_weeks": horizon}, "observed_to": observed_to, "money": {"margin": 0.3}}
    store.write_json(staging / store.MANIFEST, manifest)
    store.write_json(staging / "findings.json", [{"id": "base_value", "value": float(horizon)}])
    store.publish("shop", "02_customer_valuation", staging, key)


def test_the_first_run_has_no_last_edition(step):
    assert step.last_edition() is None


def test_the_last_edition_is_the_newest_whose_data_ended_before(step):
    published("k1", "2024-06-30", horizon=26)
    published("k2", "2024-11-30", horizon=13)
    published("k3", "2024-12-31")  # of the study's own last day: an earlier run on the same data
    published("k4", None)  # of a study without a clock
    last = step.last_edition()
    assert (last.observed_to.isoformat(), last.parameters["horizon_weeks"]) == ("2024-11-30", 13)
    assert last.money == {"margin": 0.3} and last.currency is None  # from before it was noted
    assert last.read("customer_summary").customer_id.tolist() == ["a", "b"]
    assert last.finding("base_value")["value"] == 13.0 and last.finding("none") is None
    assert not last.has("customer_value")
    with pytest.raises(StepError, match="the edition of data to 2024-11-30 holds no table 'customer_value'"):
        last.read("customer_value")
    assert step.last_edition(weeks=5).parameters["horizon_weeks"] == 26
    assert step.last_edition(weeks=52) is None


def test_editions_from_before_the_last_day_was_noted_are_passed_over(step):
    edition_without = store.stage("shop", "02_customer_valuation")
    store.write_json(edition_without / store.MANIFEST, {"parameters": {}})
    store.publish("shop", "02_customer_valuation", edition_without, "old")
    assert step.last_edition() is None


def test_a_commit_notes_the_last_day_and_what_was_assumed(project):
    project.study()
    keys = []
    for day in ("2024-11-30", "2024-12-31", "2024-12-31"):
        project.study(clock={"observed_from": "2024-01-01", "observed_to": day})
        step = analysis.open_step("02_customer_valuation", study="shop")
        last = step.last_edition()
        step.write("customer_summary", pd.DataFrame(SUMMARY))
        answer(step)
        step.commit()
        keys.append(store.current("shop", "02_customer_valuation"))
        assert (last is None) == (day == "2024-11-30")
    # the same data once more sees the same last edition, and gives the same bytes
    assert last.observed_to.isoformat() == "2024-11-30"
    assert last.money == {"margin": 0.3, "discount_rate": 0.1, "contact_cost": None, "cost_to_serve": None}
    assert last.currency == step.study.currency == step.format.currency
    assert keys[1] == keys[2] != keys[0]
