"""The pictures say what they show, and every label stays readable and inside."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from analysis.cleaning import figures
from analysis.reporting.theme import png
from tests.cleaning.made import WORDS


def steps(rows, amounts=None):
    reasons = ["raw", *[f"reason_number_{n}_with_a_long_name" for n in range(len(rows) - 2)], "clean"]
    labels = WORDS.names("reason", reasons)
    amounts = [np.nan] * len(rows) if amounts is None else amounts
    return pd.DataFrame({"reason": reasons, "label": labels, "rows": rows, "amount": amounts})


def boxes(fig):
    """The places of all words in a drawn figure, those of the title and the ticks included."""
    png(fig)  # which breaks long titles
    renderer = fig.canvas.get_renderer()
    texts = [text for ax in fig.axes for text in [*ax.texts, *_in_view(ax), ax._left_title] if text.get_text()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts]


def _in_view(ax):
    low, high = sorted(ax.get_ylim())
    return [tick.label1 for tick in ax.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]


def assert_readable(fig):
    seen = boxes(fig)
    for (one, first), (other, second) in combinations(seen, 2):
        assert not first.overlaps(second), f"{one!r} lies on {other!r}"
    width, height = fig.canvas.get_width_height()
    for text, box in seen:
        assert box.x0 >= 0, f"{text!r} is cut off"
        assert box.x1 <= width, f"{text!r} is cut off"
        assert box.y1 <= height, f"{text!r} is cut off"


@pytest.mark.parametrize(
    ("rows", "amounts"),
    [
        ([178_830, 1163, 177_667], [546_339.51, 0.0, 546_339.51]),
        ([1_000_000, 100, 90, 5, 1, 999_804], [4.5e7, 3000.0, -200.0, 1.0, 1.0, 4.49e7]),
        ([1000, 600, 200, 100, 50, 50], None),
        ([1000, 5, 990, 5], None),
        ([250, 250], None),
        ([1, 1], [2.5, 2.5]),
    ],
)
def test_the_waterfall_is_readable_however_small_a_reason(rows, amounts):
    fig = figures.waterfall(steps(rows, amounts), WORDS)
    assert_readable(fig)
    bars = fig.axes[0].patches
    assert [bar.get_width() for bar in bars] == rows
    # each reason ends where the one before begins, and what is left is clean
    ends = [bar.get_x() + bar.get_width() for bar in bars[1:-1]]
    starts = [bars[0].get_width(), *[bar.get_x() for bar in bars[1:-1]]]
    assert ends == starts[:-1]
    assert starts[-1] == rows[-1]


def test_the_waterfall_says_what_it_shows():
    facts = figures.waterfall_facts(steps([1000, 5, 45, 950]))
    assert (facts["clean_share"], facts["worst_rows"]) == (0.95, 45)
    assert (
        figures.waterfall(steps([1000, 5, 45, 950]), WORDS).axes[0]._left_title.get_text().startswith("95.0% of 1,000")
    )
    assert figures.waterfall(steps([7, 7]), WORDS).axes[0]._left_title.get_text() == "All 7 rows are clean"


def test_money_that_is_taken_off_below_zero_is_added():
    fig = figures.waterfall(steps([1000, 5, 995], [100.0, -8.0, 108.0]), WORDS)
    assert any("+€8.00" in text.get_text() for text in fig.axes[0].texts)


def series(values, place=0, column="product_id"):
    months = pd.date_range("2024-01-01", periods=len(values), freq="MS")
    frame = pd.DataFrame({"table": "order_lines", "column": column, "measure": "completeness", "period": months})
    return frame.assign(value=values, rows=100, missed=0, series=place)


def test_quality_by_month_names_the_lowest():
    drawn = pd.concat([series([1, 0.9, 0.4]), series([1, 1, 0.8], 1, None).assign(measure="kept")], ignore_index=True)
    fig = figures.quality_by_month(drawn, WORDS)
    assert [line.get_label() for line in fig.axes[0].lines] == ["product_id: filled", "order lines: kept"]
    facts = figures.by_month_facts(drawn, WORDS)
    assert (facts["where"], facts["low"], facts["month"]) == ("product_id in order_lines", 0.4, "March 2024")
    assert fig.axes[0]._left_title.get_text() == "product_id in order_lines (filled) falls to 40.0% in March 2024"
    assert figures.by_month_facts(drawn.iloc[:0], WORDS) == {"moving": 0}


def test_days_say_which_are_silent():
    days = pd.date_range("2024-01-01", periods=4)
    profile = pd.DataFrame({"order_date": days, "lines": [1, 0, 2, 1], "sales": [5.0, 0.0, 9.0, 4.0]})
    assert figures.silence_title(profile, WORDS) == "Every day has sales but January 2, 2024"
    assert figures.silence_title(profile[profile.lines > 0], WORDS) == "All 3 days have sales"
    assert figures.silence_title(profile.assign(lines=0), WORDS) == "4 of 4 days have no sale"
    assert_readable(figures.days_covered(profile, WORDS))


def months(sales, partial=()):
    days = pd.date_range("2024-01-01", periods=len(sales), freq="MS")
    return pd.DataFrame(
        {"month": days, "net_sales": sales, "customers": 20.0, "partial": [n in partial for n in range(len(sales))]}
    )


def test_months_compare_whole_months_only():
    facts = figures.month_facts(months([1.0, 30.0, 20.0, 90.0], partial=(0, 3)), WORDS)
    assert (facts["best"], facts["worst"], facts["partial"]) == ("February 2024", "March 2024", 2)
    assert_readable(figures.sales_by_month(months([1.0, 30.0, 20.0]), WORDS))
    one = figures.sales_by_month(months([30.0]), WORDS)
    assert one.axes[0]._left_title.get_text() == "January 2024: €30.00 of net sales"
    none = figures.sales_by_month(months([np.nan, np.nan]), WORDS)
    assert none.axes[0]._left_title.get_text() == "Too few customers in any month"


def test_groups_have_a_panel_each_with_shares_beside_the_bars():
    many = pd.DataFrame(
        {"group": [*"abcdefgh", None], "label": ["A very long name of a product group", *"bcdefgh", "all others"]}
    )
    many["share"] = [0.9, 0.05, 0.02, 0.01, 0.005, 0.005, 0.004, 0.003, 0.003]
    two = pd.DataFrame({"group": ["web", "shop"], "label": ["web", "shop"], "share": [1.1, -0.1]})
    fig = figures.sales_by_group({"product_group": many, "channel": two}, WORDS)
    assert_readable(fig)
    assert [ax._left_title.get_text() for ax in fig.axes] == [
        "Product group: A very long name of a product group brings 90.0%",
        "Channel: web brings 110.0%",
    ]
