"""What a page says beside its notebook: which figures are assumed, and where its lists lie."""

from types import SimpleNamespace

import pytest

from analysis import site
from analysis.reporting.numbers import Formatter
from analysis.study import Assumption, Money

FMT = Formatter("en", "USD")


def study(**columns):
    """As much of a study as the assumptions ask for."""
    money = Money(margin=Assumption(value=0.33, low=0.31, high=0.35, source="data", note="From the ledger."))
    return SimpleNamespace(money=money, tables={"order_lines": SimpleNamespace(columns=columns)})


@pytest.mark.parametrize("cost", [True, False])
def test_the_margin_says_which_lines_it_is_for(cost):
    margin = site._assumptions(study(**({"cost": "cost"} if cost else {})), FMT, {})[0]
    assert margin.value == "33.0% (from 31.0% to 35.0%)"
    assert margin.note.startswith("From the ledger.") and ("state no cost" in margin.note) == cost


def test_parameters_that_money_rests_on_are_shown_as_assumed():
    rows = site._assumptions(study(), FMT, {"saved": 0.2, "lapse_weeks": 13, "incentive": 0.0, "seed": 1})[1:]
    assert [(row.value, row.source) for row in rows] == [
        ("20.0%", "assumption"),
        ("13 weeks", "assumption"),
        ("$0", "assumption"),
    ]
    assert rows[0].note == "Parameter saved."
