"""What several tests of valuation share."""

import pytest


@pytest.fixture
def taken():
    """Names that findings, figures, tables and sentences have for themselves, so that no fact may go by them."""
    return {
        "value",
        "low",
        "high",
        "unit",
        "reason",
        "figure",
        "answer",
        "head",
        "columns",
        "caption",
        "alt",
        "customers",
    }
