"""The words of this room, from the sentences of its notebook: names of tiers, stages, features and segments."""

from collections.abc import Sequence

from analysis.reporting.numbers import Formatter
from analysis.reporting.step_words import StepWords
from analysis.segmentation.privacy import JOIN


class Words(StepWords):
    """The words of `03_segmentation`; ``customers`` is what the study calls them."""

    step = "03_segmentation"

    def __init__(self, fmt: Formatter, customers: str = "customers") -> None:
        super().__init__(fmt, customers=customers)

    def name(self, kind: str, value: str) -> str:
        """The word for a value, for example ``name("tier", "let_go")``; merged groups keep all their names."""
        return " + ".join(self(f"{kind}_{part}") for part in str(value).split(JOIN))

    def segment(self, markers: Sequence[tuple[str, str]]) -> str:
        """A name proposed from marker variables, for example "seldom, large baskets"."""
        if not markers:
            return self("segment_typical")
        named = ", ".join(self.name("marker", f"{feature}_{direction}") for feature, direction in markers)
        return named[:1].upper() + named[1:]
