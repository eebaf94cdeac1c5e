"""The valuation notebook on companies at the edge of what can be valued: it ends with findings, or with one clear sentence."""

import csv
import datetime as dt
import io
import json

import nbformat
import pytest

from analysis import keys, paths, store
from analysis.errors import RapportError

FIRST = dt.date(2023, 1, 2)


def orders(rows):
    """A CSV of (customer, day since the first, amount)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["order", "customer", "day", "sku", "pieces", "amount"])
    for n, (who, day, amount) in enumerate(rows):
        pieces = 1 if amount >= 0 else -1
        writer.writerow([f"A{n}", who, FIRST + dt.timedelta(days=day), "p1", pieces, f"{amount:.2f}"])
    return text.getvalue()


def habits(customers, every, days):
    return [(f"c{n}", day, 10 + n % 7) for n in range(customers) for day in range(n % every, days, every + n % 3)]


CASES = {
    "one customer": ([("c1", day, 20.0) for day in range(0, 700, 30)], {}),
    "one customer, one purchase": ([("c1", 5, 20.0)], {}),
    "only one-time buyers": ([(f"c{n}", n * 3, 10.0 + n) for n in range(200)], {}),
    "only repeaters": (habits(60, 20, 700), {}),
    "a customer with 2,000 orders": (
        [("busy", n % 700, 5.0 + n % 3) for n in range(2000)] + habits(40, 60, 700),
        {},
    ),
    "negative net spend": (
        [*habits(40, 60, 700), ("c3", 699, -500.0), ("gone", 10, 30.0), ("gone", 20, -45.0)],
        {},
    ),
    "left-truncated": (habits(60, 30, 700), {"entry": "left_truncated"}),
    "less than a month": (habits(30, 6, 25), {"observed_to": str(FIRST + dt.timedelta(days=24))}),
    "all alike": ([(f"c{n}", day, 10.0) for n in range(30) for day in (0, 100, 200, 300)], {}),
    "only returns": ([(f"c{n}", n, -10.0) for n in range(30)], {}),
}

# Where there is nobody to compare with, the notebook stops with a sentence.
NOTHING_TO_SAY = ("one customer", "one customer, one purchase", "only returns")


@pytest.fixture(params=CASES)
def case(request, project):
    rows, clock = CASES[request.param]
    project.raw("edge", "orders.csv", orders(rows))
    last = str(FIRST + dt.timedelta(days=729))
    project.study("edge", clock={"observed_from": str(FIRST), "observed_to": last, "entry": "first_purchase"} | clock)
    return request.param


def run(step, study, **parameters):
    """The code cells of a notebook one after the other, in this process."""
    scope = {}
    for cell in nbformat.read(keys.notebook_path(step), as_version=4).cells:
        if cell.cell_type == "code":
            chosen = {"study": study} | parameters if "parameters" in cell.metadata.get("tags", []) else {}
            source = "\n".join([cell.source, *(f"{name} = {value!r}" for name, value in chosen.items())])
            exec(compile(source, f"{step}, cell {cell.id}", "exec"), scope)


def test_it_ends_with_findings_or_one_clear_sentence(case):
    run("01_data_cleaning", "edge")
    try:
        run("02_customer_valuation", "edge")
    except RapportError as error:
        message = str(error)
        assert case in NOTHING_TO_SAY and message.startswith("valuation: ") and "\n" not in message
        return
    assert case not in NOTHING_TO_SAY
    key = store.current("edge", "02_customer_valuation")
    findings = json.loads((paths.processed("edge") / "02_customer_valuation" / key / "findings.json").read_text())
    assert sum(found["answer"] for found in findings) == 1
    for found in findings:
        assert found["sentence"] and "nan" not in found["sentence"].lower().split()
        known = found["low"] is not None and found["high"] is not None
        assert known or found["reason"], found["id"]
