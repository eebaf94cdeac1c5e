"""A small language for path models: which items measure which construct, and what drives what.

>>> model = specify(
...     composite("Quality", numbered("PERQ", 7)),
...     composite("Satisfaction", numbered("CUSA", 3)),
...     drives("Quality", "Satisfaction"),
... )
>>> model.constructs
('Quality', 'Satisfaction')

A construct may be made of other constructs, and a construct may change how strongly another one works:

>>> specify(
...     composite("Trust", numbered("TRU", 3)),
...     composite("Commitment", numbered("COM", 3)),
...     composite("Value", numbered("PERV", 2)),
...     composite("Loyalty", numbered("CUSL", 3)),
...     higher_order("Relationship", ["Trust", "Commitment"]),
...     drives(["Relationship", "Value", moderated("Relationship", by="Value")], "Loyalty"),
... ).constructs
('Value', 'Loyalty', 'Relationship', 'Relationship × Value')
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
class HigherOrder:
    """A construct made of other constructs: their scores are its items."""

    name: str
    components: tuple[str, ...]
    mode: Mode = "A"


@dataclass(frozen=True)
class Moderation:
    """The product of two constructs: with every point of the moderator the source works more, or less, strongly."""

    source: str
    moderator: str

    @property
    def name(self) -> str:
        """The product as a construct and as its only item."""
        return f"{self.source} × {self.moderator}"


@dataclass(frozen=True)
class Path:
    """An arrow of the structural model; with a moderator, the arrow from the product of source and moderator."""

    source: str
    target: str
    moderator: str | None = None


@dataclass(frozen=True)
class Specification:
    """Measurement and structural model together, checked when made.

    Parameters
    ----------
    composites : the constructs in the order in which results list them
    paths : the arrows; they may not form a cycle
    components : constructs whose scores are items of a higher-order construct among `composites`
    products : products of two of the `composites`, each the only item of a composite of its name

    Raises
    ------
    SpecificationError
        On a repeated or empty construct, an item in two constructs, an unknown end of a path, a cycle, a construct without
        a path, a product whose two constructs do not drive its target themselves.
    """

    composites: tuple[Composite, ...]
    paths: tuple[Path, ...]
    components: tuple[Composite, ...] = ()
    products: tuple[Moderation, ...] = ()

    def __post_init__(self) -> None:
        _check_composites(self.composites)
        _check_composites(self.components)
        _check_paths(self.constructs, self.paths)
        _check_products(self)
        _check_columns(self)

    @property
    def constructs(self) -> tuple[str, ...]:
        """Names of the constructs."""
        return tuple(c.name for c in self.composites)

    @property
    def items(self) -> tuple[str, ...]:
        """Names of the items, construct by construct; those of a higher-order construct are its components."""
        return tuple(item for c in self.composites for item in c.items)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the answers that the model needs: the items, with those of components in place of components."""
        return self.first_stage.items

    @property
    def staged(self) -> bool:
        """Whether some items are made of scores, so that the model takes two stages to estimate."""
        return bool(self.components or self.products)

    @property
    def main_effects(self) -> Specification:
        """The model without its products."""
        made = {product.name for product in self.products}
        return Specification(
            tuple(c for c in self.composites if c.name not in made),
            tuple(p for p in self.paths if p.source not in made),
            self.components,
        )

    @property
    def first_stage(self) -> Specification:
        """The model whose scores become items: no products, and components in place of what they make up.

        A component takes over all arrows of its higher-order construct. Source: Sarstedt et al. (2019), Australas. Mark. J.
        27, the disjoint two-stage approach.
        """
        if not self.staged:
            return self
        if self.products:
            return self.main_effects.first_stage
        parts = {c.name: c for c in self.components}
        made = {c.name: c.items for c in self.composites if set(c.items) & set(parts)}
        composites = [
            parts[n] if c.name in made else c for c in self.composites for n in (made.get(c.name) or (c.name,))
        ]
        ends = [(made.get(p.source, (p.source,)), made.get(p.target, (p.target,))) for p in self.paths]
        arrows = [arrow for sources, targets in ends for arrow in drives(sources, targets)]
        return Specification(tuple(composites), tuple(arrows))

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
        unknown = dropped - set(self.items) - set(self.columns)
        if unknown:
            raise SpecificationError(f"cannot leave out {sorted(unknown)}: not items of the model")

        def kept(composites: tuple[Composite, ...]) -> tuple[Composite, ...]:
            return tuple(replace(c, items=tuple(i for i in c.items if i not in dropped)) for c in composites)

        parts = tuple(c for c in self.components if c.name not in dropped)
        return replace(self, composites=kept(self.composites), components=kept(parts))


def composite(name: str, items: str | Iterable[str], mode: Mode = "A") -> Composite:
    """A construct and its items (one name, or several)."""
    return Composite(name, (items,) if isinstance(items, str) else tuple(items), mode)


def numbered(stem: str, last: int, first: int = 1, separator: str = "") -> tuple[str, ...]:
    """Item names that share a stem: ``numbered("CUSA", 3)`` is CUSA1, CUSA2, CUSA3."""
    return tuple(f"{stem}{separator}{k}" for k in range(first, last + 1))


def higher_order(name: str, components: Iterable[str], mode: Mode = "A") -> HigherOrder:
    """A construct made of other constructs, which are declared beside it as composites and get no arrows of their own.

    In mode A the components reflect one idea, in mode B they together make it up. Estimated in two stages: Sarstedt et al.
    (2019), Australas. Mark. J. 27.
    """
    return HigherOrder(name, tuple(components), mode)


def moderated(source: str, by: str) -> Moderation:
    """The effect of `source` as it changes with `by`: a source of `drives`, beside the two constructs themselves.

    Estimated in two stages, as the product of scores: Henseler & Chin (2010), Struct. Equ. Modeling 17.
    """
    return Moderation(source, by)


def drives(sources: str | Moderation | Iterable[str | Moderation], targets: str | Iterable[str]) -> tuple[Path, ...]:
    """Arrows from every source to every target."""
    from_ = [sources] if isinstance(sources, str | Moderation) else list(sources)
    to = [targets] if isinstance(targets, str) else list(targets)
    return tuple(
        Path(source.source, target, source.moderator) if isinstance(source, Moderation) else Path(source, target)
        for source in from_
        for target in to
    )


def specify(*parts: Composite | HigherOrder | Path | Iterable[Path]) -> Specification:
    """Put constructs and arrows together into a checked `Specification`."""
    composites: list[Composite | HigherOrder] = []
    arrows: list[Path] = []
    for part in parts:
        if isinstance(part, Composite | HigherOrder):
            composites.append(part)
        elif isinstance(part, Path):
            arrows.append(part)
        else:
            arrows.extend(part)
    declared = {c.name: c for c in composites if isinstance(c, Composite)}
    used = _components_used(declared, composites)
    products = tuple(dict.fromkeys(Moderation(p.source, p.moderator) for p in arrows if p.moderator is not None))
    return Specification(
        (
            *(
                c if isinstance(c, Composite) else Composite(c.name, c.components, c.mode)
                for c in composites
                if c.name not in used
            ),
            *(Composite(product.name, (product.name,)) for product in products),
        ),
        tuple(p if p.moderator is None else Path(Moderation(p.source, p.moderator).name, p.target) for p in arrows),
        tuple(declared[name] for name in used),
        products,
    )


def _components_used(declared: Mapping[str, Composite], parts: Iterable[Composite | HigherOrder]) -> list[str]:
    used = [name for part in parts if isinstance(part, HigherOrder) for name in part.components]
    if len(set(used)) < len(used):
        raise SpecificationError(f"a construct may be a component once only; used twice: {_repeated(used)}")
    unknown = [name for name in used if name not in declared]
    if unknown:
        raise SpecificationError(f"component {unknown[0]!r} is not declared: add composite({unknown[0]!r}, …)")
    return used


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


RELATIONSHIP_CONSTRUCTS: tuple[str, ...] = ("Trust", "Commitment", "Switching")

RELATIONSHIP_PATHS: tuple[Path, ...] = (
    *drives("Satisfaction", ["Trust", "Commitment"]),
    *drives("Trust", "Commitment"),
    *drives(["Trust", "Commitment", "Switching"], "Loyalty"),
)
"""What grows out of satisfaction (trust first, then commitment: Morgan & Hunt 1994), and the cost of leaving, which holds
customers whether they like to stay or not (calculative against affective commitment: Geyskens et al. 1996)."""

ANTECEDENTS: tuple[str, ...] = ("Image", "Value", "Satisfaction")
CONSEQUENCES: tuple[str, ...] = ("Complaints", "Loyalty")


def ecsi(blocks: Mapping[str, Iterable[str]], relationship: bool = False) -> Specification:
    """The European Customer Satisfaction Index model on the blocks that a survey has.

    Parameters
    ----------
    blocks : items by construct. Satisfaction is needed; of the other six, absent ones are left out together
        with their arrows. Blocks with other names (a recommendation item, delivered value) are not part of
        the model and are ignored here.
    relationship : whether blocks named Trust, Commitment and Switching (cost of leaving) join the model, between
        Satisfaction and Loyalty; by default it is the index as published

    Raises
    ------
    SpecificationError
        If Satisfaction is absent or stands alone.
    """
    known = (*ECSI_CONSTRUCTS, *RELATIONSHIP_CONSTRUCTS) if relationship else ECSI_CONSTRUCTS
    present = [name for name in known if name in blocks]
    if "Satisfaction" not in present or len(present) < 2:
        raise SpecificationError(
            "the ECSI model needs a block Satisfaction and at least one of "
            f"{', '.join(n for n in ECSI_CONSTRUCTS if n != 'Satisfaction')}; declared: {', '.join(blocks)}"
        )
    return _among(present, ECSI_PATHS + RELATIONSHIP_PATHS, blocks)


def specification_of(model: str, blocks: Mapping[str, Iterable[str]]) -> Specification:
    """The ready-made model of a study: ``ecsi``, with trust and commitment where they are asked, or ``commitment_trust``."""
    return commitment_trust(blocks) if model == "commitment_trust" else ecsi(blocks, relationship=True)


def commitment_trust(blocks: Mapping[str, Iterable[str]]) -> Specification:
    """Commitment and trust as what makes customers stay, on the blocks that a survey has.

    Image (shared values), Value (relationship benefits) and Satisfaction lead to Trust and Commitment, Trust to Commitment,
    and both to Complaints (how well conflicts are settled) and Loyalty. The antecedents keep arrows of their own to the
    consequences: that all they do goes through trust and commitment is for :func:`analysis.loyalty.mediation` to find, not
    for the model to assume. A block Switching, the cost of leaving, has an arrow to Loyalty alone, so that staying from
    liking is told apart from staying from cost.

    Parameters
    ----------
    blocks : items by construct. Trust, Commitment, one of Image, Value, Satisfaction and one of Complaints, Loyalty are
        needed; other blocks are ignored.

    Raises
    ------
    SpecificationError
        If one of these is absent.

    Source: Morgan & Hunt (1994), J. Marketing 58, 20-38, figure 2; Geyskens et al. (1996), Int. J. Res. Mark. 13, 303-317,
    for affective and calculative commitment.
    """
    antecedents = [name for name in ANTECEDENTS if name in blocks]
    consequences = [name for name in CONSEQUENCES if name in blocks]
    if not {"Trust", "Commitment"} <= set(blocks) or not antecedents or not consequences:
        raise SpecificationError(
            "the commitment-trust model needs blocks Trust and Commitment, one of "
            f"{', '.join(ANTECEDENTS)} and one of {', '.join(CONSEQUENCES)}; declared: {', '.join(blocks)}"
        )
    arrows = (
        *drives(antecedents, ["Trust", "Commitment"]),
        *drives("Trust", "Commitment"),
        *drives([*antecedents, "Trust", "Commitment"], consequences),
        *drives("Switching", "Loyalty"),
    )
    held = ["Switching"] if "Switching" in blocks else []
    return _among([*antecedents, "Trust", "Commitment", *held, *consequences], arrows, blocks)


def _among(names: Iterable[str], arrows: Iterable[Path], blocks: Mapping[str, Iterable[str]]) -> Specification:
    """The model of those of `names` that an arrow among them reaches."""
    present = list(names)
    kept = [p for p in arrows if p.source in present and p.target in present]
    connected = {end for p in kept for end in (p.source, p.target)}
    return specify(*(composite(n, blocks[n]) for n in present if n in connected), kept)


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


def _check_products(specification: Specification) -> None:
    for product in specification.products:
        for target in (p.target for p in specification.paths if p.source == product.name):
            if product.source == product.moderator:
                raise SpecificationError(f"{product.source!r} cannot moderate its own effect: name another construct")
            lacking = [n for n in (product.source, product.moderator) if n not in specification.sources_of(target)]
            if lacking:
                raise SpecificationError(
                    f"the product {product.name} on {target} means little without {lacking[0]} itself: "
                    f"add drives({lacking[0]!r}, {target!r})"
                )


def _check_columns(specification: Specification) -> None:
    """An answer may not enter twice, in a composite and in a component."""
    if specification.staged:
        _ = specification.first_stage


def _repeated(values: list) -> list:
    return sorted({v for v in values if values.count(v) > 1})
