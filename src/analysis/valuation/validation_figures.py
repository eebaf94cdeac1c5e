"""The figures of validation, contest, early warning, win-back and track record: frames in, Figure out."""

from __future__ import annotations

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure
from analysis.valuation.contest import BOOSTING, RFM_SCORE
from analysis.valuation.figures import FORECAST_WORDS
from analysis.valuation.holdout import LAST_PERIOD, SAME_RATE
from analysis.valuation.track_record import TrackRecord
from analysis.valuation.validation import ACTUAL, PERFECT, Validation, incremental
from analysis.valuation.winback import ONE_TIME, REPEAT, WinBack


def tracking(found: Validation, model: str | None, heuristic: str, fmt: Formatter) -> Figure:
    """Repeat purchases so far over time, actual beside a model and a plain rule, with the start of the holdout marked.

    Up to the mark a model's curve follows from when each customer first came, as is usual; from there on it is the
    forecast from each customer's own past, which starts from what had come.

    Parameters
    ----------
    found : Validation
    model : str or None
        The model to draw, one that was simulated; None draws the rule alone.
    heuristic : str
    fmt : Formatter
    """
    fig, ax = new_figure(height=4.4)
    series = dict(iter(found.tracking.groupby("source")))
    actual = series[ACTUAL]
    begins = actual.loc[actual["phase"] == "calibration", "ends_on"].max()
    ax.plot(actual["ends_on"], actual["cumulative"], color=INK, linewidth=2.0, label="actual")
    rule = series[heuristic]
    ax.plot(rule["ends_on"], rule["cumulative"], color=PALETTE[1], linestyle=":", label=_words(heuristic))
    if model is not None:
        drawn, held_out = series[model], series[model]["phase"] == "holdout"
        before, after = drawn[~held_out], drawn[held_out]
        seen = actual.loc[actual["phase"] == "calibration", "purchases"].sum()
        style = {"color": PALETTE[0], "linestyle": "--"}
        ax.plot(before["ends_on"], before["cumulative"], **style)
        ax.plot(after["ends_on"], seen + after["foreseen"].cumsum(), **style, label=model)
    _over_weeks(ax, begins, fmt)
    ax.set(xlabel="Week ending", ylabel="Repeat purchases, sum so far")
    fig.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=1.2, handlelength=1.6
    )
    ax.set_title(_tracking_title(series[model or heuristic], actual, model or heuristic, fmt))
    return fig


def _over_weeks(ax: Axes, begins: pd.Timestamp, fmt: Formatter) -> None:
    """Dates along the bottom, counts from 0 up the side, and a mark where the tested weeks begin."""
    ax.axvline(begins, color=QUIET, linewidth=1.2)
    ax.set_ylim(bottom=0)
    ax.annotate(
        "tested weeks →",  # before the mark, as there may be little room behind it
        (begins, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(-6, 2),
        textcoords="offset points",
        ha="right",
        color=QUIET,
    )
    ax.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=2, maxticks=5))
    ax.xaxis.set_major_formatter(fmt.axis("date"))
    ax.yaxis.set_major_formatter(fmt.axis("count"))


def _tracking_title(drawn: pd.DataFrame, actual: pd.DataFrame, name: str, fmt: Formatter) -> str:
    expected, came = drawn["foreseen"].sum(), actual.loc[actual["phase"] == "holdout", "purchases"].sum()
    if came == 0:
        return f"{_words(name)}: {fmt.count(round(expected))} purchases foreseen, none came"
    miss = expected / came - 1.0
    if abs(miss) < 0.01:
        return f"{as_subject(name)} foresaw the purchases of the tested weeks to within {fmt.share(0.01, 0)}"
    much = f"{fmt.share(abs(miss))} too {'many' if miss > 0 else 'few'}"
    return f"{as_subject(name)} foresaw {much} purchases in the tested weeks"


def returning_calibration(found: Validation, model: str, fmt: Formatter) -> Figure:
    """Predicted probability of buying in the holdout against the share who did, by tenths of the base."""
    table = found.returning[found.returning["forecast"] == model]
    fig, ax = new_figure(height=4.8, grid="both")
    ax.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1.2)
    low, high = table["actual"] - table["low"], table["high"] - table["actual"]
    error = np.maximum(np.array([low, high]), 0.0)
    ax.errorbar(table["predicted"], table["actual"], yerr=error, fmt="o", color=PALETTE[0], elinewidth=1.6, capsize=3)
    ax.text(0.98, 0.06, "dashed: as predicted", ha="right", color=QUIET)
    ax.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        xlabel="Predicted to buy in the tested weeks",
        ylabel="Bought in the tested weeks",
    )
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.yaxis.set_major_formatter(fmt.axis("share"))
    apart = float(np.average((table["predicted"] - table["actual"]).abs(), weights=table["customers"]))
    ax.set_title(f"{model}: who comes back is off by {fmt.number(100 * apart, 1)} percentage points on average")
    return fig


def decile_lift(
    found: Validation, names: list[str], fmt: Formatter, what: str = "spend", customers: str = "customers"
) -> Figure:
    """Share of the holdout's spend (or purchases) that the best-ranked customers brought, by forecast.

    Parameters
    ----------
    found : Validation
    names : list of str
        Forecasts to draw, the one of the title first.
    fmt : Formatter
    what : {"spend", "purchases"}
    customers : str
        What the study calls its customers.
    """
    fig, ax = new_figure(height=4.6, grid="both")
    ax.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1.2, label="by chance")
    for name, colour, style in zip([PERFECT, *names], (PALETTE[4], *PALETTE[:4]), ("-", "-", ":", "--", "-.")):
        part = found.lift[found.lift["forecast"] == name]
        ax.plot(np.r_[0, part["share"]], np.r_[0, part[what]], color=colour, linestyle=style, label=_words(name))
    best = found.lift[(found.lift["forecast"] == names[0]) & np.isclose(found.lift["share"], 0.1)].iloc[0]
    ends = np.array([[best[what] - best[f"{what}_low"]], [best[f"{what}_high"] - best[what]]])
    ax.errorbar([0.1], [best[what]], yerr=np.maximum(ends, 0.0), fmt="o", color=PALETTE[0], capsize=3)
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.set(xlabel=f"Share of {customers}, best ranked first", ylabel=f"Share of {what} in the tested weeks")
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.yaxis.set_major_formatter(fmt.axis("share"))
    ax.legend(loc="lower right")
    share = fmt.share(best[what], 0)
    ax.set_title(f"The tenth that {as_subject(names[0], False)} ranks first brought {share} of {what}")
    return fig


def winback_returns(found: WinBack, fmt: Formatter, customers: str = "customers") -> Figure:
    """Share of lapsed customers who came back, by how long they had been silent, with intervals."""
    table = found.history.returns
    fig, ax = new_figure(height=4.4)
    bands = table.drop_duplicates("band").sort_values("band")
    for kind, colour, marker, shift in ((REPEAT, PALETTE[0], "o", -0.08), (ONE_TIME, PALETTE[1], "s", 0.08)):
        part = table[table["kind"] == kind]
        if part.empty:
            continue
        at = bands["band"].searchsorted(part["band"]) + shift
        error = np.maximum([part["probability"] - part["low"], part["high"] - part["probability"]], 0.0)
        ax.errorbar(at, part["probability"], yerr=error, fmt=marker, color=colour, capsize=3, label=kind)
    ax.set_xticks(np.arange(len(bands)), bands["silence"])
    ax.set_xlim(-0.5, len(bands) - 0.5)
    ax.set_ylim(0, 1.3 * float(table["high"].max()))
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 1.0 + 1e-9])
    ax.yaxis.set_major_formatter(fmt.axis("share"))
    weeks = fmt.weeks(found.history.horizon_weeks)
    ax.set(xlabel="Weeks since the last purchase", ylabel=f"Came back within {weeks}")
    ax.legend(loc="upper right", ncols=2)
    came = table["returned"].sum() / table["customers"].sum()
    ax.set_title(f"{fmt.share(came, 0)} of lapsed {customers} came back within {weeks}")
    return fig


def track_record_groups(found: TrackRecord, fmt: Formatter, customers: str = "customers") -> Figure:
    """Actual purchases for each one expected, by groups of what was expected, best first."""
    table = found.by_group
    fig, ax = new_figure(height=4.4)
    ax.axhline(1.0, color=QUIET, linestyle="--", linewidth=1.2)
    known = table["low"].notna()
    error = np.maximum([table["ratio"] - table["low"], table["high"] - table["ratio"]], 0.0)[:, known]
    ax.errorbar(
        np.flatnonzero(known), table["ratio"][known], yerr=error, fmt="o", color=PALETTE[0], elinewidth=1.6, capsize=3
    )
    ax.set_xticks(np.arange(len(table)), [str(g) for g in table["group"]])
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(fmt.axis("number"))
    ax.set(
        xlabel=f"{customers.capitalize()} in {len(table)} equal groups, most expected first",
        ylabel="Actual for each expected purchase",
    )
    expected, actual = fmt.count(round(found.expected)), fmt.count(round(found.actual))
    ax.set_title(f"Last run expected {expected} purchases in {fmt.weeks(found.weeks)}; {actual} came")
    return fig


def _words(name: str) -> str:
    return FORECAST_WORDS.get(name, name)


def as_subject(name: str, capital: bool = True) -> str:
    """A forecasting method in words, as the subject of a sentence."""
    subjects = {
        SAME_RATE: "carrying on at the same rate",
        LAST_PERIOD: "repeating the period before",
        RFM_SCORE: "the RFM score",
        BOOSTING: "gradient boosting",
    }
    subject = subjects.get(name, f"the {name} model")
    return subject[0].upper() + subject[1:] if capital else subject


def holdout_by_recency(
    found: Validation, model: str | None, heuristic: str, fmt: Formatter, customers: str = "customers"
) -> Figure:
    """What came in the holdout beside what a model and a plain rule foresaw, by weeks of silence before it.

    Under each group stands how many customers it holds.

    Parameters
    ----------
    found : Validation
    model : str or None
        None draws the rule alone.
    heuristic : str
    fmt : Formatter
    customers : str
        What the study calls its customers.
    """
    table = found.by_recency
    fig, ax = new_figure(height=4.6)
    at = np.arange(len(table))
    if model is not None:
        ax.plot(at, table[model], color=PALETTE[0], marker="s", label=f"{model} model")
    ax.plot(at, table[heuristic], color=PALETTE[1], marker="o", linestyle=":", label=_words(heuristic))
    ax.plot(at, table["actual"], color=INK, marker="D", linestyle="none", label="actual", zorder=5)
    names = zip(table["group"], table["customers"], strict=True)
    ax.set_xticks(at, [f"{group}\n{fmt.count(people)}" for group, people in names])
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(fmt.axis("number"))
    ax.set(
        xlabel=f"Weeks since the last purchase; {customers} in the group", ylabel="Purchases in the tested weeks, mean"
    )
    ax.legend(loc="upper right")
    ax.set_title(_recency_title(table, model or heuristic))
    return fig


def _recency_title(table: pd.DataFrame, name: str) -> str:
    """Where most purchases were missed: the group whose miss, times its customers, is the largest."""
    miss = (table[name] - table["actual"]) * table["customers"]
    if (miss.abs() < 0.5).all():
        return f"{as_subject(name)} foresaw every group by silence"
    worst = int(miss.abs().argmax())
    weeks = table["group"].iloc[worst]
    much = "many" if miss.iloc[worst] > 0 else "few"
    unit = "week" if weeks == "1" else "weeks"
    return f"{as_subject(name)} missed most where the last purchase was {weeks} {unit} before: it foresaw too {much}"


def tracking_by_month(found: Validation, model: str | None, heuristic: str, fmt: Formatter) -> Figure:
    """Repeat purchases a week, as means of four weeks, actual beside a model and a plain rule; single weeks in grey.

    Weeks are counted from the start of the holdout both ways; what is left over at either end is not drawn. Unlike
    the running sum of :func:`tracking`, one month's miss does not carry over to the next.

    Parameters
    ----------
    found : Validation
    model : str or None
        A model that was simulated; None draws the rule alone.
    heuristic : str
    fmt : Formatter
    """
    table = incremental(found, model or heuristic)
    rule = incremental(found, heuristic)
    weekly = found.tracking[found.tracking["source"] == ACTUAL]
    fig, ax = new_figure(height=4.4)
    ax.plot(weekly["ends_on"], weekly["purchases"], color=QUIET, linewidth=0.8, alpha=0.7, label="actual, each week")
    ax.plot(table["ends_on"], table["actual"], color=INK, linewidth=2.0, marker="D", markersize=4, label="actual")
    held_out = rule["phase"] == "holdout"
    ax.plot(
        rule["ends_on"][held_out], rule["expected"][held_out], color=PALETTE[1], linestyle=":", label=_words(heuristic)
    )
    if model is not None:
        ax.plot(table["ends_on"], table["expected"], color=PALETTE[0], linestyle="--", label=model)
    begins = weekly.loc[weekly["phase"] == "calibration", "ends_on"].max()
    _over_weeks(ax, begins, fmt)
    ax.set(xlabel="Four weeks ending", ylabel="Repeat purchases a week")
    fig.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, columnspacing=1.2, handlelength=1.6
    )
    ax.set_title(_months_title(table[table["phase"] == "holdout"], model or heuristic, fmt))
    return fig


def _months_title(table: pd.DataFrame, name: str, fmt: Formatter) -> str:
    came = table[table["actual"] > 0]
    if came.empty:
        return f"{as_subject(name)}: the tested weeks are too few, or too empty, to see from month to month"
    low, high = (_off(end, fmt) for end in (came["miss"].min(), came["miss"].max()))
    if low == high:
        return f"{as_subject(name)} foresaw {low} purchases in four of the tested weeks"
    return f"{as_subject(name)} foresaw between {low} and {high} purchases in four of the tested weeks"


def _off(miss: float, fmt: Formatter) -> str:
    return f"{fmt.share(abs(miss), 0)} too {'many' if miss > 0 else 'few'}"
