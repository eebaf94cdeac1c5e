import pytest

from analysis.reporting.numbers import Formatter


@pytest.fixture
def fmt():
    return Formatter("en", "USD")
