import csv
import io

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from hypothesis import example, given
from hypothesis import strategies as st

from analysis.errors import RapportError
from analysis.reporting.tables import csv_safe, people_table, write_csv
from tests.reporting.hostile import HOSTILE

COLUMNS = {"tier": ("Tier", "text"), "n": ("Customers", "count"), "sales": ("Sales", "money"), "gap": ("Gap", "days")}


@pytest.fixture
def frame():
    return pd.DataFrame(
        {"tier": ["Protect", HOSTILE], "n": [1200, 30], "sales": [1234567.0, np.nan], "gap": [1.0, 3.5]}
    )


@pytest.fixture
def tree(frame, fmt):
    return BeautifulSoup(people_table(frame, COLUMNS, fmt, "Sales by *tier*", "tiers"), "html.parser")


def test_cells_are_formatted_and_escaped(tree):
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in tree.find_all("tr")]
    assert rows == [
        ["Tier", "Customers", "Sales", "Gap (days)"],
        ["Protect", "1,200", "$1,235,000", "1.0"],
        [HOSTILE, "30", "–", "3.5"],
    ]


def test_it_reads_well_to_everyone(tree):
    region = tree.find("div")
    assert (region["role"], region["tabindex"], region["aria-label"]) == ("region", "0", "Sales by tier")
    assert tree.caption.decode_contents() == "Sales by <em>tier</em>"
    assert all(cell.get_text(strip=True) and cell["scope"] in ("col", "row") for cell in tree.find_all("th"))
    assert [cell["scope"] for cell in tree.tbody.find_all("th")] == ["row", "row"]
    ids = [node["id"] for node in tree.find_all(id=True)]
    assert len(ids) == len(set(ids)) and all(name.startswith("tiers") and " " not in name for name in ids)
    heads = {name for cell in tree.tbody.find_all("td") for name in cell["headers"]}
    assert heads <= set(ids)
    assert all("number" in cell["class"] for cell in tree.tbody.find_all("td"))
    assert not tree.find(["style", "script"]) and not tree.find(style=True)


def test_the_same_frame_gives_the_same_bytes(frame, fmt):
    assert len({people_table(frame, COLUMNS, fmt, "c", "t") for _ in range(3)}) == 1


def test_an_empty_frame_is_a_table_with_a_head(frame, fmt):
    tree = BeautifulSoup(people_table(frame.head(0), COLUMNS, fmt, None, "none"), "html.parser")
    assert len(tree.thead.find_all("th")) == 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"nope": ("N", "count")}, "table 't': no column 'nope'; the frame has tier, n, sales, gap"),
        ({"n": ("N", "euros")}, "table 't', column 'n': give a label and one of"),
        ({"n": (" ", "count")}, "table 't', column 'n': give a label"),
        ({"tier": ("Tier", "money")}, "table 't', column 'tier': expected a number, found 'Protect'"),
    ],
)
def test_mistakes_name_the_table_and_the_column(frame, fmt, columns, message):
    with pytest.raises(RapportError, match=r"\A[^\n]+\Z") as caught:
        people_table(frame, columns, fmt, None, "t")
    assert message in str(caught.value)


TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), min_size=1, max_size=5)


@given(TEXTS, TEXTS)
@example(["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", " =1", "＝1", "'", "plain", ""], ["=h"])
@example(['=HYPERLINK("http://evil.example","x")', 'a,"b"\r\n=c', "-"], ["@h", "h"])
def test_no_text_starts_a_formula_and_nothing_is_lost(tmp_path_factory, cells, headers):
    headers = [f"{header}" for header in dict.fromkeys(headers)]
    frame = pd.DataFrame(dict.fromkeys(headers, cells))
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    write_csv(frame, path)
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    expected = [headers, *([cell] * len(headers) for cell in cells)]
    assert [len(row) or 1 for row in rows] == [len(row) for row in expected]
    for row, original in zip(rows, expected, strict=True):
        for found, text in zip(row or [""], original, strict=True):
            assert not found.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
            assert not found.startswith(("\t", "\r", "\n"))
            assert found in (text, "'" + text)


def test_numbers_and_the_frame_itself_are_left_alone():
    frame = pd.DataFrame({"x": [-1.5, 2], "t": ["-1", "b"], "c": pd.Categorical(["@a", "b"]), "o": [-1, "=a"]})
    safe = csv_safe(frame)
    assert safe["x"].tolist() == [-1.5, 2] and safe["o"].tolist() == [-1, "'=a"]
    assert safe["t"].tolist() == ["'-1", "b"] and safe["c"].tolist() == ["'@a", "b"]
    assert frame["t"].tolist() == ["-1", "b"]


def test_the_file_opens_in_a_spreadsheet(tmp_path):
    write_csv(pd.DataFrame({"Ort": ["Zürich", "北京"], "n": [1, None]}), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == "\ufeffOrt,n\r\nZürich,1.0\r\n北京,\r\n".encode()
