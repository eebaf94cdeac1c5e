"""The simulated calendar: time is a float, days since the first midnight of the company's local time."""

import datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

START = datetime.date(2023, 1, 2)  # a Monday
OBSERVED_DAYS = 728  # what the company's data cover: 104 weeks
FUTURE_DAYS = 364  # what only the truth covers: 52 weeks more
LAST_DAY = OBSERVED_DAYS + FUTURE_DAYS
PERIOD_DAYS = 91  # a quarter: satisfaction changes from one to the next
PERIODS = LAST_DAY // PERIOD_DAYS
ZONE = "Asia/Shanghai"  # no summer time, so a day always has 24 hours
OFFSET_HOURS = 8


def instants(day: ArrayLike) -> NDArray[np.datetime64]:
    """Local wall-clock time, to the second, of each day number."""
    seconds = np.floor(np.asarray(day, dtype=float) * 86_400).astype("timedelta64[s]")
    return np.datetime64(START, "s") + seconds


def dates(day: ArrayLike) -> NDArray[np.datetime64]:
    """Calendar day of each day number."""
    return instants(day).astype("datetime64[D]")
