"""A small language for path models: which items measure which construct, and what drives what.

>>> model = specify(
...     composite("Quality", numbered("PERQ", 7)),
...     composite("Satisfaction", numbered("CUSA", 3)),
...     drives("Quality", "Satisfaction"),
... )
>>> model.constructs
('Quality', 'Satisfaction')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from analysis.errors import RapportError

Mode = Literal["A", "B"]


class SpecificationError(RapportError):
    """A path model that cannot be estimated as written; the message says what to change."""


@dataclass(frozen=True)
class Composite:
    """A construct formed as a weighted sum of its items.

    Mode A weights are the items' covariances with the construct's neighbours (correlation weights, for
    items that reflect one idea); mode B weights are the regression of the neighbours on the items (for
    items that together make up the idea). A block of one item is a single-item construct in either mode.
    """

    name: str
    items: tuple[str, ...]
    mode: Mode = "A"


@dataclass(frozen=True)
class Path:
    """An arrow of the structural model."""

    source: str
    target: str


@dataclass(frozen=True)
class Specification:
    """Measurement and structural model together, checked when made.

    Parameters
    ----------
    composites : the constructs in the order in which results list them
    paths : the arrows; they may not form a cycle

    Raises
    ------
    SpecificationError
        On a repeated or empty construct, an item in two constructs, an unknown end of a path, a cycle, or a
        construct without a path.
    """

    composites: tuple[Composite, ...]
    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        _check_composites(self.composites)
        _check_paths(self.constructs, self.paths)

    @property
    def constructs(self) -> tuple[str, ...]:
        """Names of the constructs."""
        return tuple(c.name for c in self.composites)

    @property
    def items(self) -> tuple[str, ...]:
        """Names of the items, construct by construct."""
        return tuple(item for c in self.composites for item in c.items)

    @property
    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Items by construct."""
        return {c.name: c.items for c in self.composites}

    def composite(self, name: str) -> Composite:
        """The composite called `name`."""
        for candidate in self.composites:
            if candidate.name == name:
                return candidate
        raise SpecificationError(f"no construct {name!r}: the model has {', '.join(self.constructs)}")

    def sources_of(self, target: str) -> tuple[str, ...]:
        """Constructs with an arrow into `target`."""
        return tuple(p.source for p in self.paths if p.target == target)

    def endogenous(self) -> tuple[str, ...]:
        """Constructs that at least one arrow points at."""
        targets = {p.target for p in self.paths}
        return tuple(name for name in self.constructs if name in targets)

    def without_items(self, items: Iterable[str]) -> Specification:
        """The same model with some items left out; a construct must keep at least one."""
        dropped = set(items)
        unknown = dropped - set(self.items)
        if unknown:
            raise SpecificationError(f"cannot leave out {sorted(unknown)}: not items of the model")
        kept = tuple(replace(c, items=tuple(i for i in c.items if i not in dropped)) for c in self.composites)
        return replace(self, composites=kept)


def composite(name: str, items: str | Iterable[str], mode: Mode = "A") -> Composite:
    """A construct and its items (one name, or several)."""
    return Composite(name, (items,) if isinstance(items, str) else tuple(items), mode)


def numbered(stem: str, last: int, first: int = 1, separator: str = "") -> tuple[str, ...]:
    """Item names that share a stem: ``numbered("CUSA", 3)`` is CUSA1, CUSA2, CUSA3."""
    return tuple(f"{stem}{separator}{k}" for k in range(first, last + 1))


def drives(sources: str | Iterable[str], targets: str | Iterable[str]) -> tuple[Path, ...]:
    """Arrows from every source to every target."""
    from_, to = ([x] if isinstance(x, str) else list(x) for x in (sources, targets))
    return tuple(Path(source, target) for source in from_ for target in to)


def specify(*parts: Composite | Path | Iterable[Path]) -> Specification:
    """Put constructs and arrows together into a checked `Specification`."""
    composites: list[Composite] = []
    arrows: list[Path] = []
    for part in parts:
        if isinstance(part, Composite):
            composites.append(part)
        elif isinstance(part, Path):
            arrows.append(part)
        else:
            arrows.extend(part)
    return Specification(tuple(composites), tuple(arrows))


ECSI_PATHS: tuple[Path, ...] = (
    *drives("Image", ["Expectation", "Satisfaction", "Loyalty"]),
    *drives("Expectation", ["Quality", "Value", "Satisfaction"]),
    *drives("Quality", ["Value", "Satisfaction"]),
    *drives("Value", "Satisfaction"),
    *drives("Satisfaction", ["Complaints", "Loyalty"]),
    *drives("Complaints", "Loyalty"),
)
"""The twelve arrows of the European Customer Satisfaction Index (Tenenhaus et al. 2005, Comput. Stat. Data
Anal. 48, 159-205, figure 5)."""

ECSI_CONSTRUCTS: tuple[str, ...] = (
    "Image",
    "Expectation",
    "Quality",
    "Value",
    "Satisfaction",
    "Complaints",
    "Loyalty",
)


def ecsi(blocks: Mapping[str, Iterable[str]]) -> Specification:
    """The European Customer Satisfaction Index model on the blocks that a survey has.

    Parameters
    ----------
    blocks : items by construct. Satisfaction is needed; of the other six, absent ones are left out together
        with their arrows. Blocks with other names (a recommendation item, delivered value) are not part of
        the model and are ignored here.

    Raises
    ------
    SpecificationError
        If Satisfaction is absent or stands alone.
    """
    present = [name for name in ECSI_CONSTRUCTS if name in blocks]
    if "Satisfaction" not in present or len(present) < 2:
        raise SpecificationError(
            "the ECSI model needs a block Satisfaction and at least one of "
            f"{', '.join(n for n in ECSI_CONSTRUCTS if n != 'Satisfaction')}; declared: {', '.join(blocks)}"
        )
    arrows = [p for p in ECSI_PATHS if p.source in present and p.target in present]
    connected = {end for p in arrows for end in (p.source, p.target)}
    return specify(*(composite(n, blocks[n]) for n in present if n in connected), arrows)


def _check_composites(composites: tuple[Composite, ...]) -> None:
    names = [c.name for c in composites]
    if len(set(names)) < len(names):
        raise SpecificationError(f"a construct is declared twice: {_repeated(names)}")
    for c in composites:
        if not c.items:
            raise SpecificationError(f"construct {c.name!r} has no items")
        if c.mode not in ("A", "B"):
            raise SpecificationError(f"construct {c.name!r} has mode {c.mode!r}: use 'A' or 'B'")
    items = [item for c in composites for item in c.items]
    if len(set(items)) < len(items):
        raise SpecificationError(f"an item may measure one construct only; used twice: {_repeated(items)}")


def _check_paths(constructs: tuple[str, ...], arrows: tuple[Path, ...]) -> None:
    pairs = [(p.source, p.target) for p in arrows]
    if len(set(pairs)) < len(pairs):
        raise SpecificationError(f"a path is declared twice: {_repeated(pairs)}")
    ends = {end for pair in pairs for end in pair}
    unknown = ends - set(constructs)
    if unknown:
        raise SpecificationError(f"a path names {sorted(unknown)}, which no composite defines")
    lonely = [name for name in constructs if name not in ends]
    if lonely:
        raise SpecificationError(f"no path leads to or from {', '.join(lonely)}: connect or remove it")
    graph: dict[str, set[str]] = {name: set() for name in constructs}
    for source, target in pairs:
        graph[target].add(source)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise SpecificationError(f"the paths form a cycle: {' -> '.join(error.args[1])}") from None


def _repeated(values: list) -> list:
    return sorted({v for v in values if values.count(v) > 1})
