"""What the data tell of people: the register, and columns whose values give them away."""

import json
import shutil
import stat

import ibis
import nbformat
import pyarrow.parquet as pq
import pytest

from analysis import execute, keys, notebook_files, paths, run, site
from analysis import study as studies
from analysis.cleaning import privacy
from analysis.errors import RapportError
from analysis.steps import STEPS

CUSTOMER = {"class": "personal", "origin": "web shop", "purpose": "to know who bought", "lawful_basis": "contract"}


def rows(**columns):
    size = len(next(iter(columns.values())))
    return ibis.memtable({"row_number": range(2, 2 + size), **columns, "malformed": [None] * size})


def plain(*values):
    return [*values, None, "  "]


@pytest.fixture
def study(project):
    def load(**declared):
        project.study(privacy=declared)
        return studies.load("shop")

    return load


ORDERS = {c: ["1", "2"] for c in ("order", "customer", "day", "sku", "pieces", "amount", "email")}


def test_the_register_has_every_column_and_what_is_said_of_it(study):
    given = study(
        personal=["orders.email"],
        fields={"orders.customer": CUSTOMER, "orders.sku": {"class": "free", "origin": "till"}},
    )
    frame = privacy.register(given, {"orders": rows(**ORDERS)}).set_index("column")
    assert list(frame.index) == list(ORDERS)
    assert frame.loc["customer"].tolist() == [
        "orders", "personal", "web shop", "to know who bought", "contract", "order_lines.customer_id", True,
    ]  # fmt: skip
    assert frame.loc["email", ["class", "purpose", "mapped_to", "declared"]].tolist() == ["personal", "", "", True]
    assert frame.loc["sku", ["class", "declared"]].tolist() == ["free", True]
    assert frame.loc["amount", ["class", "mapped_to", "declared"]].tolist() == [
        "undeclared",
        "order_lines.net_amount",
        False,
    ]
    facts = privacy.register_facts(frame.reset_index())
    assert facts == {
        "columns": 7, "personal": 2, "sensitive": 0, "free": 1, "undeclared": 4, "incomplete": 1,
        "named": "orders.order, orders.day, orders.pieces",
    }  # fmt: skip


def test_a_declared_column_that_is_not_there_is_named(study):
    given = study(fields={"orders.emial": {"class": "free"}})
    with pytest.raises(
        RapportError, match=r"privacy.fields: source orders has no column 'emial'; did you mean 'email'"
    ):
        privacy.register(given, {"orders": rows(**ORDERS)})


def luhn(body):
    digits = [int(d) for d in reversed(body)]
    total = sum(d if i % 2 else (d * 2 - 9 if d > 4 else d * 2) for i, d in enumerate(digits))
    return body + str(-total % 10)


def card(n):
    return luhn(f"4{n:014d}")


PEOPLE = {
    "e-mail addresses": ["anna@example.org", "j.o'neil+x@mail.example.co.uk", "王@例子.公司"],
    "IBANs": ["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "FR14 2004 1010 0505 0001 3M02 606"],
    "card numbers": ["4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005"],
    "telephone numbers": ["+49 30 901820", "0171 2345678", "(212) 555-0123", "06 12 34 56 78", "+14155550123", "13912345678"],
    "national identity numbers": ["078-05-1120", "AB123456C", "RSSMRA85T10A562S", "11010519491231002X"],
    "IP addresses": ["192.168.0.1", "2001:db8::ff00:42:8329"],
}  # fmt: skip
EVERYDAY = {
    "dates": ["2024-01-05", "05.01.2024", "01/05/24", "2024-01-05 10:12:13", "05-01-2024"],
    "times": ["10:12:13", "09:30", "23:59:59"],
    "amounts": ["0.50", "1234567.89", "-12,50", "1.234.567,00"],
    "ids": ["0000123456", "100000123", "A-2024-000123", "o12-345", "1700000000"],
    "eans": [f"40{n:011d}" for n in range(1000)],
    "numbers": [f"4{n:015d}" for n in range(1000)],
    "versions": ["10.1", "10.1.2", "v1.2.3"],
    "hashes": ["9f86d081884c7d659a2feaa0c55ad015"],
    "words": ["Tea", "green tea, 20 bags", "anna at example.org", "@anna", "C&A", "12 x 500 ml"],
}


def test_values_of_people_are_known_by_their_looks(study):
    columns = {f"{kind} {n}": plain(value) for kind, values in PEOPLE.items() for n, value in enumerate(values)}
    found = privacy.suspects(study(), {"orders": rows(**columns)}).set_index("column")
    assert {column: found.looks_like.get(column) for column in columns} == {c: c.rpartition(" ")[0] for c in columns}
    assert found.advice["IBANs 0"] == (
        "orders.IBANs 0: 100 % of the values look like IBANs; list it under privacy.personal"
    )


def test_everyday_values_are_not_taken_for_people(study):
    longest = max(map(len, EVERYDAY.values()))
    columns = {kind: values + [None] * (longest - len(values)) for kind, values in EVERYDAY.items()}
    assert privacy.suspects(study(), {"orders": rows(**columns)}).empty


def test_cards_are_told_from_numbers_by_their_check_digit(study):
    cards = privacy.suspects(study(), {"orders": rows(paid_with=[card(n) for n in range(200)])})
    assert cards[["looks_like", "share", "values"]].values.tolist() == [["card numbers", 1.0, 200]]
    wrong = [f"{card(n)[:-1]}{(int(card(n)[-1]) + 1) % 10}" for n in range(200)]
    assert privacy.suspects(study(), {"orders": rows(paid_with=wrong)}).empty


def test_blank_values_do_not_count_and_no_value_is_shown(study):
    given = study(personal=["orders.known"])
    addresses = [f"person{n}@example.org" for n in range(97)] + ["none", "n/a", "phone only"] + [None, ""] * 50
    found = privacy.suspects(given, {"orders": rows(contact=addresses, known=addresses)})
    assert found[["source", "column", "looks_like", "share", "values"]].values.tolist() == [
        ["orders", "contact", "e-mail addresses", 0.97, 100]
    ]
    assert found.advice[0] == (
        "orders.contact: 97 % of the values look like e-mail addresses; list it under privacy.personal"
    )
    assert "person" not in found.drop(columns="advice").to_csv() + found.advice[0].replace("personal", "")


def test_a_column_declared_free_is_doubted_too(study):
    given = study(fields={"orders.contact": {"class": "free"}})
    found = privacy.suspects(given, {"orders": rows(contact=["anna@example.org"])})
    assert found.advice[0].endswith("look like e-mail addresses; privacy.fields declares it free; look again")


def test_a_large_source_is_looked_at_in_the_same_rows_each_time(study, monkeypatch):
    monkeypatch.setattr(privacy, "SAMPLE", 1000)
    contact = [f"{n}@example.org" if n % 2 else f"{n}" for n in range(10_000)]
    raw = {"orders": rows(contact=contact)}
    first, second = privacy.suspects(study(), raw), privacy.suspects(study(), raw)
    assert first.equals(second)
    # Rows 2 to 1000, and every tenth of the 9,001 after them.
    assert first["values"][0] == 999 + 900


# -- nothing personal in the clear -------------------------------------------------------------------------------------

KEY = "a key for the tests of privacy"
FIRST, LAST = ("Ännchen", "Bartholomäus", "Casimira", "Desdemona"), ("Quastenflosser", "O'Rumpelstilz", "Zwiebelfisch")
SHOPPERS = [
    (f"K-{n:04d}-x", f"{first} {last}", f"{first}.{n}@zwergnase.example", f"+49 171 55{n:05d}")
    for n, (first, last) in enumerate([(f, s) for f in FIRST for s in LAST], 4711)
]
FIELDS = {
    f"{source}.{column}": {"class": "personal", "origin": "shop", "purpose": "orders", "lawful_basis": "contract"}
    for source in ("orders", "people")
    for column in ("customer", "name", "email", "phone")
}


# What customers wrote of others, whom no other column names.
NAMED = [
    (f"{first} {last}", f"+86 199 7{n:03d} 46{n:02d}", f"{first.lower()}@{last.lower()}.example")
    for n, (first, last) in enumerate(
        zip(
            ("Quillan", "Ottoline", "Thaddea", "Zephira"),
            ("Brastowe", "Fennimark", "Quastenby", "Ollerenhaw"),
            strict=True,
        )
    )
]
WRITTEN = ("Too expensive, says {} ({}, {})", "{}: late again; call {} or {}", "太贵了，{} {} {}", "Ask {} — {} — {}")
SURVEY = {
    "scale": [1, 10],
    "blocks": {"Satisfaction": ["s1"]},
    "comments": {"column": "words", "themes": {"price": ["expensive", "太贵"], "delivery": ["late"]}},
}


def _answers():
    answers = ["id,customer,day,s1,words"]
    for n, shopper in enumerate(SHOPPERS * 4):
        words = WRITTEN[n // len(NAMED) % len(WRITTEN)].format(*NAMED[n % len(NAMED)])
        answers.append(f'q{n},{shopper[0]},2024-05-{n % 28 + 1:02d},{n % 10 + 1},"{words}"')
    answers.append(f'q0,{SHOPPERS[0][0]},2024-05-01,8,"{" ".join(NAMED[0])}"')  # a key that is there twice
    answers.append(f"qx,{SHOPPERS[0][0]},2024-05-01,7,{','.join(NAMED[1])}")  # fits no header
    return "\n".join(answers) + "\n"


def _a_year_of_orders(project):
    orders = ["order,customer,name,email,phone,day,amount"]
    for n, shopper in enumerate(SHOPPERS * 5):
        orders.append(f"o{n},{','.join(shopper)},2024-{n % 12 + 1:02d}-{n % 28 + 1:02d},{10 + n}.50")
    orders.append(f"bad,{','.join(SHOPPERS[0])},2024-13-45,1.00")  # to be set aside
    orders.append(f"{','.join(SHOPPERS[1])},too,few")  # fits no header
    people = ["customer,name,email,phone,ok", *(f"{','.join(s)},yes" for s in SHOPPERS)]
    project.raw("shop", "orders.csv", "\n".join(orders) + "\n")
    project.raw("shop", "people.csv", "\n".join(people) + "\n")
    project.raw("shop", "answers.csv", _answers())
    columns = {"order_id": "order", "customer_id": "customer", "ordered_at": "day", "net_amount": "amount"}
    project.study(
        sources={name: {"file": f"{name}.csv"} for name in ("orders", "people", "answers")},
        survey=SURVEY,
        tables={
            "order_lines": {"source": "orders", "columns": columns},
            "customers": {
                "source": "people",
                "columns": {"customer_id": "customer", "consent_email": "ok"},
                "attributes": {"full_name": "name"},
            },
            "survey_responses": {
                "source": "answers",
                "columns": {"response_id": "id", "customer_id": "customer", "responded_on": "day", "s1": "s1"},
            },
        },
        privacy={"fields": FIELDS, "personal": ["answers.customer"]},
    )


def _walk_of_cleaning(progress=lambda done, total: None):
    given = studies.load("shop")
    spec = STEPS["01_data_cleaning"]
    parts = keys.key_parts(spec, given, {})
    key = keys.step_key(parts)
    execute.execute("shop", spec.name, {"study": "shop"}, {}, key, progress)
    site.record(given, {spec.name: key}, {}, {spec.name: parts})
    site.assemble()


def _with_cells(folder, *cells):
    """A copy of the notebooks in which 01 goes on with ``cells`` once the data are clean."""
    shutil.copytree(paths.NOTEBOOKS, folder)
    path = folder / "01_data_cleaning.ipynb"
    notebook = notebook_files.read(path)
    place = 1 + next(i for i, cell in enumerate(notebook.cells) if "cleaning.clean(" in cell.source)
    notebook.cells[place:place] = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook_files.write(path, notebook)


def _contents(folder):
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield path, path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield path, " ".join(str(value) for column in table.columns for value in column.to_pylist())


def _in_the_clear(text):
    """The personal values in a text, as they are or as JSON writes them."""
    said = {value for who in SHOPPERS for value in (*who, *who[1].split())}
    said |= {value for who in NAMED for value in (*who, *who[0].split())}
    return {value for value in said if value in text or json.dumps(value)[1:-1] in text}


def _assert_nothing_personal(project, *texts):
    folders = [paths.processed("shop"), paths.exports("shop"), paths.reports(), paths.build()]
    for path, text in (found for folder in folders for found in _contents(folder)):
        assert not _in_the_clear(text), path
    for text in texts:
        assert not _in_the_clear(text)


def test_a_walk_leaves_nothing_personal_in_the_clear(project, monkeypatch, capfd):
    monkeypatch.setenv("RAPPORT_KEY", KEY)
    _a_year_of_orders(project)
    _walk_of_cleaning()
    _assert_nothing_personal(project, *capfd.readouterr())
    quarantine = [t for p, t in _contents(paths.processed("shop")) if p.name == "quarantine.parquet"]
    assert any("2024-13-45" in text for text in quarantine)
    assert any(f"{len(' '.join(NAMED[0]))} characters;" in text for text in quarantine)
    [answers] = paths.processed("shop").rglob("survey_responses.parquet")
    counted = pq.read_table(answers).to_pandas()
    assert counted[["comment_given", "comment_price", "comment_delivery", "comment_other"]].mean().tolist() == [
        1, 0.5, 0.25, 0.25
    ]  # fmt: skip
    # The way back is there, for the owner's eyes only.
    private = paths.private("shop")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    kept = [p for p in private.rglob("*") if p.is_file()]
    assert kept
    assert {stat.S_IMODE(p.stat().st_mode) for p in kept} == {0o600}
    back = set().union(*(_in_the_clear(text) for _, text in _contents(private)))
    assert back >= {s[2] for s in SHOPPERS}
    assert not back & {value for who in NAMED for value in who}  # of comments there is no way back


FAILURES = {
    "a value that the engine cannot read": """step.connection.raw_sql(
    f"select cast(email as integer) from (values ('{frame.email[0]}')) people(email)").fetchall()""",
    "an error on top of an error": """try:
    frame.set_index("email").loc[frame.name[0]]
except KeyError as error:
    raise RuntimeError(f"no {frame.name[0]} with {frame.phone[1]}") from error""",
    "an error of ours with an address in it": "raise RapportError(f'orders.csv: no {frame.email[0]} here')",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_notebook_shows_nothing_personal(project, tmp_path, monkeypatch, capfd, failure):
    monkeypatch.setenv("RAPPORT_KEY", KEY)
    _a_year_of_orders(project)
    show = """import sys
import pandas as pd
from analysis import paths
from analysis.errors import RapportError
raw = paths.raw("shop") / "people.csv"
frame = pd.read_csv(raw)
print(frame.email[0])
print(frame.name[0], file=sys.stderr)
frame"""
    _with_cells(tmp_path / "notebooks", show, FAILURES[failure])
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    assert run.main(["study", "shop"]) == 1
    out, err = capfd.readouterr()
    _assert_nothing_personal(project, out, err)
    assert "shop · 01_data_cleaning: cell" in err
    assert "Traceback" not in err
    kept = notebook_files.read(paths.build() / "failed" / "shop" / "01_data_cleaning.ipynb")
    [error] = [o for cell in kept.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert error.ename in err
    assert "this cell, line" in "\n".join(error.traceback)
