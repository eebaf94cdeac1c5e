"""The data dictionary says what the contracts say."""

import re

import pytest

from analysis import paths
from analysis.tables import CONTRACTS

PAGE = (paths.ROOT / "data" / "README.md").read_text(encoding="utf-8")
TYPES = {"string": "text", "int64": "whole number", "float64": "number", "boolean": "yes/no", "date": "day"}


def section(name: str) -> str:
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL).group(1)


def test_every_table_is_described_and_no_other():
    assert re.findall(r"^## (\w+)$", PAGE, re.MULTILINE) == list(CONTRACTS)


@pytest.mark.parametrize("name", list(CONTRACTS))
def test_columns_types_and_keys_agree(name):
    contract = CONTRACTS[name]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (●?) ?\| (.+) \|$", section(name), re.MULTILINE)
    assert [row[0] for row in rows] == list(contract.columns)
    for column, kind, required, meaning in rows:
        spec = contract.columns[column]
        text = str(spec.dtype)
        expected = TYPES.get(text) or ("instant" if text.startswith("timestamp") else text.replace(", ", ","))
        assert kind == expected, column
        assert bool(required) == spec.required, column
        assert meaning.startswith("key") == (column in contract.key), column
        assert all(f"`{value}`" in meaning or column == "design" for value in spec.values), column
