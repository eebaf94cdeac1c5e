"""Figures of service and of the index: titles state the finding, empty frames say so."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import service_figures as figures
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FMT = Formatter("en", "CNY")


def title(figure):
    assert theme.png(figure)[:4] == b"\x89PNG"
    return figure.axes[0].get_title(loc="left")


def rates(now):
    frame = pd.DataFrame({"kind": "complaint", "starts_on": pd.to_datetime(["2024-01-01", "2024-04-01"])})
    return frame.assign(per_thousand=[50.0, now], low=[45.0, now - 5], high=[55.0, now + 5])


@pytest.mark.parametrize(("now", "words"), [(80.0, "more than"), (30.0, "fewer than"), (52.0, "much as before")])
def test_the_trend_says_which_way(now, words):
    text = title(figures.contact_trend(rates(now), FMT))
    assert words in text and f"{now:.0f} complaint" in text


def test_resolution_and_hazard():
    times = pd.DataFrame({"kind": ["complaint", "question"], "median": [3.0, 0.4]})
    times = times.assign(median_low=[2.5, 0.3], median_high=[3.5, 0.5])
    times = times.assign(p90=[np.nan, 1.0], p90_low=[np.nan, 0.9], p90_high=[np.nan, np.inf])
    assert "Complaint cases take longest" in title(figures.resolution_dots(times, FMT))
    # Half of the questions take longer, but it is complaints that stay unsolved.
    slow = times.assign(median=[3.0, 4.0])
    text = title(figures.resolution_dots(slow, FMT))
    assert text.startswith("More than a tenth of the complaint cases stays unsolved; half of the question cases")
    solved = title(figures.resolution_dots(slow.assign(p90=[9.0, 8.0]), FMT))
    assert solved.startswith("Question cases take longest") and "unsolved" not in solved
    hazard = pd.DataFrame({"kind": ["complaint", "question"], "effect": np.log([0.5, 1.0]), "low": np.log([0.4, 0.8])})
    hazard = hazard.assign(high=np.log([0.6, 1.2]), settled=np.nan)
    hazard[["corrected", "corrected_low", "corrected_high"]] = hazard[["effect", "low", "high"]]
    assert title(figures.hazard_dots(hazard, FMT)) == "The satisfied have 50% fewer complaint contacts"
    assert title(figures.hazard_dots(hazard[1:], FMT)).startswith("No kind")


def test_index_parts_groups_and_record():
    parts = pd.DataFrame(
        {
            "part": ["trust", "frequency"],
            "construct": ["Image", None],
            "status": ["used", "not asked"],
            "declared_weight": 0.5,
        }
    ).assign(weight=[1.0, 0.0], coverage=[1.0, 0.0])
    assert title(figures.index_parts(parts, FMT)).startswith("1 of 2 parts")
    record = pd.DataFrame(
        {"predictor": ["index", "bought lately"], "auc": [0.75, 0.7], "auc_low": 0.65, "auc_high": 0.8}
    )
    assert "clearly better than" in title(figures.track_record_dots(record.assign(gain_low=[-0.1, 0.0]), FMT))
    assert "best by “index”" in title(figures.track_record_dots(record.assign(gain_low=[0.01, 0.0]), FMT))


def test_nothing_to_draw_says_so():
    empty = pd.DataFrame(columns=["kind", "per_thousand", "median", "effect", "score", "auc"], dtype=float)
    drawn = [
        figures.contact_trend,
        figures.resolution_dots,
        figures.hazard_dots,
        figures.track_record_dots,
    ]
    assert all(title(draw(empty, FMT)) for draw in drawn)
