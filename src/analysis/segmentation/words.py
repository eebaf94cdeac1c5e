"""The words of this room, from the sentences of its notebook: names of tiers, stages, features and segments."""

from collections.abc import Sequence

from analysis.reporting.numbers import Formatter
from analysis.reporting.prose import to_plain
from analysis.reporting.sentences import Sentences
from analysis.segmentation.privacy import JOIN

STEP = "03_segmentation"


class Words:
    """Plain text for figures and tables, in the language of the study.

    Parameters
    ----------
    fmt : the study's formatter.
    customers : what the study calls customers.
    """

    def __init__(self, fmt: Formatter, customers: str = "customers"):
        self.format = fmt
        self._customers = customers
        self._sentences = Sentences(STEP, fmt)

    def __call__(self, key: str, **facts: object) -> str:
        """The text called ``key``, filled with ``facts``, without markup."""
        return to_plain(self._sentences.render(key, customers=self._customers, **facts))

    def name(self, kind: str, value: str) -> str:
        """The word for a value, for example ``name("tier", "let_go")``; merged groups keep all their names."""
        return " + ".join(self(f"{kind}_{part}") for part in str(value).split(JOIN))

    def names(self, kind: str, values: Sequence[str]) -> list[str]:
        """The words for several values."""
        return [self.name(kind, value) for value in values]

    def segment(self, markers: Sequence[tuple[str, str]]) -> str:
        """A name proposed from marker variables, for example "seldom, large baskets"."""
        if not markers:
            return self("segment_typical")
        named = ", ".join(self.name("marker", f"{feature}_{direction}") for feature, direction in markers)
        return named[:1].upper() + named[1:]
