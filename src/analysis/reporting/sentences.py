"""The sentences of a notebook: Jinja templates by key, filled with formatted numbers and inert text."""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

import pandas as pd
from jinja2 import Environment, StrictUndefined, TemplateError, UndefinedError

from analysis.errors import RapportError
from analysis.reporting.numbers import Formatter
from analysis.reporting.prose import escape
from analysis.reporting.words import words, words_path


class _Ready(str):
    """Text that a formatter wrote: it holds nothing to escape. Joined with anything else it is plain text again."""


class Sentences:
    """The sentences of one step, in the formatter's language.

    Templates may use the filters ``money``, ``share``, ``count``, ``number``, ``points``, ``days``, ``weeks``
    and ``date`` (with the formatter's own arguments, as in ``number(2)``), ``unit(name)`` for a unit that is itself
    a fact, ``plural(one, other)``, and the functions ``interval(low, high, unit)`` and ``estimate(value, low, high,
    unit)``. Numbers without a filter are written as counts or numbers. Text facts stay inert in Markdown and HTML.

    Parameters
    ----------
    step_name : str
        The name of ``sentences/<language>/<step_name>.yaml``.
    formatter : Formatter

    Raises
    ------
    RapportError
        When the file is missing or is not a flat mapping of text.
    """

    def __init__(self, step_name: str, formatter: Formatter):
        self._format = formatter
        path = words_path(str(formatter.locale), step_name)
        self.path = f"sentences/{path.parent.name}/{path.name}"
        self._templates = words(str(formatter.locale), step_name)
        self._environment = self._build_environment()

    def has(self, key: str) -> bool:
        """Whether there is a sentence called ``key``."""
        return key in self._templates

    def keys(self) -> list[str]:
        """The keys of all sentences, in the file's order."""
        return list(self._templates)

    def render(self, key: str, **facts: object) -> str:
        """Fill a sentence; the result is Markdown.

        Raises
        ------
        RapportError
            When the key is missing, the template is wrong, or it names a fact that was not given.
        """
        if not self.has(key):
            raise RapportError(f"{self.path} has no sentence '{key}'; add it, or use one of {', '.join(self.keys())}")
        source = self._templates[key]
        if not isinstance(source, str):
            raise RapportError(f"{self.path}, '{key}': expected text, found {type(source).__name__}; quote it")
        try:
            rendered = self._environment.from_string(source).render(facts)
        except UndefinedError as error:
            given = ", ".join(sorted(facts)) or "none"
            raise RapportError(f"{self.path}, '{key}': {error.message}; the facts given are: {given}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise RapportError(f"{self.path}, '{key}': {error}") from error
        return _tidy(rendered)

    def _build_environment(self) -> Environment:
        environment = Environment(undefined=StrictUndefined, finalize=self._finalise, trim_blocks=True)
        environment.filters.pop("safe")
        for name in (
            "money",
            "share",
            "count",
            "number",
            "points",
            "days",
            "weeks",
            "date",
        ):
            environment.filters[name] = _ready(getattr(self._format, name))
        environment.filters["plural"] = self._plural
        environment.filters["unit"] = _ready(self._format.value)
        environment.globals["interval"] = _ready(self._format.interval)
        environment.globals["estimate"] = _ready(self._format.estimate)
        return environment

    def _plural(self, count: float, one: str, other: str) -> str:
        return one if self._format.locale.plural_form(abs(count)) == "one" else other

    def _finalise(self, fact: object) -> str:
        match fact:
            case _Ready():
                return fact
            case str():
                return escape(fact)
            case None:
                return self._format.missing
            case _ if fact is pd.NA or fact is pd.NaT:
                return self._format.missing
            case bool():
                raise ValueError("a yes or no has no words of its own; choose them with {% if %}")
            case int():
                return self._format.count(fact)
            case dt.date():
                return self._format.date(fact)
            case Mapping() | list() | tuple() | set():
                raise ValueError(f"cannot write a {type(fact).__name__} in a sentence; join or index it")
        if isinstance(fact, float | Decimal) or hasattr(fact, "dtype"):
            return self._format.number(fact)
        return escape(str(fact))


def _ready(write: Callable[..., str]) -> Callable[..., str]:
    def filled(*arguments: object, **options: object) -> str:
        for argument in arguments:
            if isinstance(argument, StrictUndefined):
                str(argument)  # report it as the undefined fact that it is, not as a bad number
        try:
            written = write(*arguments, **options)
        except (TypeError, ArithmeticError) as error:
            raise ValueError(f"cannot format {', '.join(map(repr, arguments))}: {error}") from error
        # Text passes through a formatter unchanged, so it is not ready.
        return written if any(isinstance(given, str) and given == "text" for given in arguments) else _Ready(written)

    return filled


def _tidy(text: str) -> str:
    """Paragraphs on one line each; the lines of a list stay lines. No-break spaces stay."""
    paragraphs = re.split(r"\n[ \t]*\n\s*", text.strip())
    lines = (re.sub(r"[ \t]*\n[ \t]*(?!- |[ \t\n])", " ", paragraph) for paragraph in paragraphs)
    return "\n\n".join(re.sub(r"[ \t]+", " ", re.sub(r"\n[ \t]+", "\n", line)).strip() for line in lines)
