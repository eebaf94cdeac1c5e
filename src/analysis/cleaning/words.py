"""The words of this room, from the sentences of its notebook: names of tables, reasons, measures and labels of columns."""

from collections.abc import Mapping, Sequence

import pandas as pd
from babel.dates import format_skeleton

from analysis.reporting.step_words import StepWords


class Words(StepWords):
    """The words of `01_data_cleaning`."""

    step = "01_data_cleaning"

    def name(self, kind: str, value: str) -> str:
        """The word for a value; where there is none the value itself, with blanks for underscores."""
        return super().name(kind, value).replace("_", " ")

    def columns(self, units: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Column -> (label, unit), as :meth:`analysis.step.Step.table` takes them, from column -> unit."""
        return {column: (self.name("label", column), unit) for column, unit in units.items()}

    def month(self, day: object) -> str:
        """The month of a day as people write it, ``January 2017``."""
        return format_skeleton("yMMMM", pd.Timestamp(day), locale=self.format.locale)

    def listed(self, names: Sequence[str]) -> str:
        """Names as people list them, ``a, b and c``; empty where there are none."""
        return self("listed", names=list(names))
