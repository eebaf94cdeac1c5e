"""Words for figures and tables from the sentences of a notebook, as plain text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from analysis.reporting.numbers import Formatter
from analysis.reporting.prose import to_plain
from analysis.reporting.sentences import Sentences


class StepWords:
    """Plain text for figures and tables, in the language of the study; a room says whose sentences in ``step``.

    Parameters
    ----------
    fmt : the study's formatter. customer, customers : what the study calls them.
    """

    step: ClassVar[str]

    def __init__(self, fmt: Formatter, customer: str = "customer", customers: str = "customers") -> None:
        self.format = fmt
        self._names = {"customer": customer, "customers": customers}
        self._sentences = Sentences(self.step, fmt)

    def __call__(self, key: str, **facts: object) -> str:
        """The text called ``key``, filled with ``facts``, without markup."""
        return to_plain(self._sentences.render(key, **self._names, **facts))

    def name(self, kind: str, value: str) -> str:
        """The word for a value, for example ``name("reason", "too_few")``; the value itself when there is none."""
        key = f"{kind}_{value}"
        return self(key) if self._sentences.has(key) else str(value)

    def names(self, kind: str, values: Iterable[str]) -> list[str]:
        """The words for several values."""
        return [self.name(kind, value) for value in values]
