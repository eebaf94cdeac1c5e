"""Lists that leave: they say how people will be reached, and only those who consented are on them."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

import analysis
from analysis import consent
from analysis.consent import ConsentError

CUSTOMERS = pd.DataFrame(
    {
        "customer_id": ["c1", "c2", "c3", "c4"],
        "consent_email": [True, False, None, None],
        "consent_sms": [False, True, None, True],
    }
).astype({"consent_email": "boolean", "consent_sms": "boolean"})
LIST = pd.DataFrame({"customer_id": ["c4", "c3", "c2", "c1", "stranger"], "rank": [1, 2, 3, 4, 5]})


@pytest.fixture
def step(project):
    def opened(customers=CUSTOMERS):
        mapped = {column: column for column in customers.columns}
        project.study(
            sources={"people": {"file": "people.csv"}},
            tables={"customers": {"source": "people", "columns": mapped}},
        )
        made = analysis.open_step("01_data_cleaning", study="shop")
        made.write("customers", customers)
        return made

    return opened


def exported(step, name):
    frame = pq.read_table(step._folder / "exports" / f"{name}.parquet").to_pandas()
    lines = (step._folder / "exports" / f"{name}.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == len(frame) + 1
    return frame.customer_id.tolist()


@pytest.mark.parametrize(
    ("reach", "kept", "way"), [("email", ["c1"], "e-mail"), ("sms", ["c4", "c2"], "text messages")]
)
def test_only_those_with_a_recorded_yes_are_reached(step, capsys, reach, kept, way):
    step = step()
    step.export("offers", LIST, reach=reach)
    assert exported(step, "offers") == kept
    said = capsys.readouterr().out
    assert f"{5 - len(kept)} of 5 rows of the list offers were left out" in said
    assert f"no recorded consent to {way}" in said


@pytest.mark.parametrize("reach", ["mail", "none"])
def test_what_needs_no_consent_is_not_cut(step, capsys, reach):
    step = step()
    step.export("letters", LIST, reach=reach)
    assert exported(step, "letters") == LIST.customer_id.tolist()
    assert capsys.readouterr().out == ""


def test_where_no_consent_is_mapped_nobody_is_on_the_list_and_the_page_says_why(step, capsys):
    step = step(CUSTOMERS.drop(columns="consent_email"))
    step.export("offers", LIST, reach="email")
    assert exported(step, "offers") == []
    said = capsys.readouterr().out
    assert "The list offers is empty: the study does not say who has consented to e-mail" in said
    assert "Map consent_email in its table customers." in said.replace("\\", "")


def test_a_study_without_customers_has_nobody_s_consent(step):
    made = step()
    prospects = pd.DataFrame({"prospect_id": ["p1"]})
    made.export("prospects", prospects, reach="email")
    assert pd.read_parquet(made._folder / "exports" / "prospects.parquet").empty


def test_a_list_without_people_may_leave_as_it_is(step):
    made = step()
    made.export("totals", pd.DataFrame({"region": ["north"], "customers": [40]}))
    assert len(pd.read_parquet(made._folder / "exports" / "totals.parquet")) == 1


@pytest.mark.parametrize(
    ("frame", "reach", "message"),
    [
        (LIST, None, "list 'offers' holds customer_id; say how its people will be reached: reach='email', reach='sms'"),
        (LIST, "phone", "list 'offers': reach 'phone' is not known; say reach='email'"),
        (LIST[["rank"]], "email", "list 'offers' is for reach 'email' and has no customer_id"),
    ],
)
def test_a_list_that_does_not_say_how_is_refused_and_not_written(step, frame, reach, message):
    made = step()
    with pytest.raises(ConsentError) as caught:
        made.export("offers", frame, reach=reach)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not list((made._folder / "exports").iterdir())


def test_every_way_that_needs_consent_has_a_column_in_the_tables_of_people():
    from analysis.tables import CONTRACTS

    for table in consent.PEOPLE.values():
        assert set(consent.ASKED.values()) <= set(CONTRACTS[table].columns)
    assert set(consent.ASKED) < set(consent.REACH)
