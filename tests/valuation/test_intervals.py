"""The interval of a share has its published form and its exact ends."""

import numpy as np
import pytest

from analysis.valuation.intervals import share_interval


def test_it_is_the_published_interval():
    """Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263 and 0 of 20."""
    assert np.array(share_interval(81, 263)) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert np.array(share_interval(0, 20)) == pytest.approx([0.0, 0.1611], abs=5e-5)


def test_its_ends_are_exact_and_nothing_is_said_of_nobody():
    low, high = share_interval([0, 10, 5], [10, 10, 10])
    assert low == pytest.approx([0.0, 0.7225, 0.2366], abs=1e-4)
    assert high == pytest.approx([0.2775, 1.0, 0.7634], abs=1e-4)
    assert low[0] == 0.0 and high[1] == 1.0
    assert np.isnan(share_interval(0, 0)).all()


def test_a_higher_level_is_wider():
    narrow, wide = share_interval(7, 40, alpha=0.2), share_interval(7, 40, alpha=0.01)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
