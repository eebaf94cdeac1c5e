"""Two ids of one person: by keys that agree exactly, or by the probability that two records are one person."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

import ibis
import numpy as np
import pyarrow as pa
from ibis import _
from ibis.expr.types import StringColumn
from scipy.special import expit, logit

from analysis import engine
from analysis.cleaning import parse
from analysis.errors import RapportError

Kind = Literal["name", "email", "phone", "date_of_birth", "postcode", "text", "exact"]
Materialise = Callable[[str, ibis.Table], ibis.Table]

_ROUNDS = 60  # each round at least halves a chain in practice: two ids in a billion are never this far apart
_PAIRS_A_RULE, _PAIRS_A_PERSON = 500_000, 20  # what a blocking rule may cost
_LONGEST_RULE = 3  # columns that a blocking rule may combine
_TRAINING_RULES = 2  # enough that each column is outside one of them
_PERSONAL = ("email", "date_of_birth")  # kinds that hardly two persons share
_PRIOR, _STEPS = 1e-4, 1000  # where the search for the share of matching pairs starts, and how long it may take
_SAMPLED_PAIRS = 250_000  # for u: a level that one random pair in 2,500 reaches is still seen a hundred times
_LOCAL, _AREA = 8, 3  # digits of a phone number without its country code; characters of a postcode that name the area


@dataclass(frozen=True)
class Identity:
    """Which ids are one person.

    Attributes
    ----------
    links : ``customer_id, person_id`` (text), one row for each id that is not its person's first; other ids stand for
        themselves.
    linked_ids : rows of ``links``.
    persons : persons with more than one id.
    """

    links: ibis.Table
    linked_ids: int
    persons: int


@dataclass(frozen=True)
class ExactIdentity(Identity):
    """... by exact keys. ``values_over_limit``: key values that too many ids share, which therefore linked nobody."""

    values_over_limit: int


@dataclass(frozen=True)
class ProbableIdentity(Identity):
    """... by probability. ``pairs``: pairs of ids at or above the threshold; ``expected_false_pairs``: how many of them
    the model expects to be two persons, the sum of 1 − p."""

    pairs: int
    expected_false_pairs: float


def normalised(column: StringColumn) -> StringColumn:
    """Text as two writings of one thing are compared: lower case, white space inside collapsed, none around; blank is null."""
    return parse.text(column.cast("string").re_replace(r"\s+", " ").lower())


# -- exact keys --------------------------------------------------------------------------------------------------------


def same_person(
    people: ibis.Table, id_column: str, keys: Sequence[Sequence[str]], materialise: Materialise, limit: int = 5
) -> ExactIdentity:
    """Ids that share a key are one person, and so are ids that a chain of shared keys connects.

    Parameters
    ----------
    people : any number of rows an id; ``row_id`` (int64) tells the rows apart and orders them.
    id_column : the column with the id; rows with a blank id are left out.
    keys : each a list of columns that must all agree, in lower case and regardless of white space; a key with a blank
        part matches nobody.
    materialise : computes an expression where ``people`` lives and returns it as a table, under a name that is new in
        each call of this function.
    limit : ids that may share one value of a key. More (a shop's own address, a phone number of zeros) link nobody.

    Returns
    -------
    The person's id is the one whose row comes first.

    Raises
    ------
    RapportError
        There is no key, or a column is not there.

    Notes
    -----
    Connected components by alternating large-star and small-star steps, which need about log(n) joins and never hold
    more rows than there are edges at the start: Kiveris, Lattanzi, Mirrokni, Rastogi and Vassilvitskii (2014),
    "Connected Components in MapReduce and Beyond", SOCC '14, algorithms 1 to 3.
    """
    if not keys or not all(keys):
        raise RapportError("identity keys: nothing to compare; name at least one column in each key")
    columns = list(dict.fromkeys(column for key in keys for column in key))
    _check_columns(people, ["row_id", id_column, *columns])
    # Columns get names of our own, so that none of theirs can clash with what is computed here.
    own = {column: f"part_{i}" for i, column in enumerate(columns)}
    rows = people.select(
        "row_id", customer_id=parse.text(people[id_column]), **{own[c]: normalised(people[c]) for c in columns}
    ).filter(_.customer_id.notnull())
    rows = materialise("identity_rows", rows.group_by("customer_id").mutate(first=_.row_id.min()))
    edges, over = [], 0
    for number, key in enumerate(keys):
        parts = list(dict.fromkeys(own[column] for column in key))
        complete = rows.filter([rows[part].notnull() for part in parts]).select("first", *parts).distinct()
        values = complete.group_by(parts).aggregate(ids=_.count(), low=_["first"].min()).filter(_.ids > 1)
        values = materialise(f"identity_values_{number}", values)
        over += values.filter(_.ids > limit).count().execute()
        sharing = complete.join(values.filter(_.ids <= limit), parts)
        edges.append(sharing.select(high=_["first"], low=_.low).filter(_.high > _.low))
    stars = _stars(
        materialise("identity_edges", ibis.union(*edges, distinct=True) if edges[1:] else edges[0]), materialise
    )
    ids = rows.filter(_.row_id == _["first"]).select("row_id", "customer_id")
    persons = ids.select(low="row_id", person_id="customer_id")
    links = stars.join(ids, stars.high == ids.row_id).select("customer_id", "low").join(persons, "low")
    links = materialise("identity_links", links.select("customer_id", "person_id"))
    return ExactIdentity(links, *_counts(links), values_over_limit=int(over))


def _counts(links: ibis.Table) -> tuple[int, int]:
    found = links.aggregate(linked=_.count(), persons=_.person_id.nunique()).to_pyarrow().to_pylist()[0]
    return found["linked"], found["persons"]


def _stars(edges: ibis.Table, materialise: Materialise) -> ibis.Table:
    """From ``high, low`` (high > low) to one row for each row that is not the lowest of its component."""
    for number in range(_ROUNDS):
        if _is_stars(edges):
            return edges
        edges = materialise(f"identity_large_star_{number}", _large_star(edges))
        edges = materialise(f"identity_small_star_{number}", _small_star(edges))
    raise RapportError(f"identity keys: ids are still being connected after {_ROUNDS} rounds; lower the limit")


def _is_stars(edges: ibis.Table) -> bool:
    found = edges.aggregate(rows=_.count(), highs=_.high.nunique()).to_pyarrow().to_pylist()[0]
    between = edges.semi_join(edges.select(low=_.high), "low").count().execute()
    return found["rows"] == found["highs"] and between == 0


def _large_star(edges: ibis.Table) -> ibis.Table:
    """Connect each row's higher neighbours to the lowest of its neighbourhood."""
    both = edges.union(edges.select(high=_.low, low=_.high)).select(node=_.high, neighbour=_.low)
    lowest = both.group_by("node").aggregate(lowest=ibis.least(_.neighbour.min(), _.node.min()))
    higher = both.filter(_.neighbour > _.node).join(lowest, "node")
    return higher.select(high=_.neighbour, low=_.lowest).distinct()


def _small_star(edges: ibis.Table) -> ibis.Table:
    """Connect each row and its lower neighbours to the lowest of them."""
    lowest = edges.group_by("high").aggregate(lowest=_.low.min())
    lower = edges.join(lowest, "high").filter(_.low > _.lowest).select(high=_.low, low=_.lowest)
    return lower.union(lowest.select("high", low=_.lowest), distinct=True)


def _check_columns(people: ibis.Table, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in people.columns:
            raise RapportError(f"identity: there is no column {column!r}; there are {', '.join(people.columns)}")


# -- probability -------------------------------------------------------------------------------------------------------


def probable_person(
    people: ibis.Table | str | Path,
    id_column: str,
    compare: Mapping[str, Kind],
    threshold: float = 0.95,
    seed: int = 0,
) -> ProbableIdentity:
    """Ids whose records are one person with a probability of at least ``threshold``, and ids that such pairs connect.

    Parameters
    ----------
    people : one row an id (of several, the first counts), or the path of a Parquet file of them; ``row_id`` (int64)
        tells rows apart and orders them. Brought into this process.
    id_column : the column with the id; rows with a blank id are left out.
    compare : column -> what it holds, at least two. Only ``exact`` makes sense for personal columns that were hashed.
    threshold : between 0 and 1.
    seed : of the sample of random pairs.

    Returns
    -------
    The person's id is the one whose row comes first; ``links`` is held in memory. The same inputs give the same result.

    Raises
    ------
    RapportError
        splink is not installed; a column is not there or of an unknown kind; fewer than two columns; a threshold that is
        no probability; a file that is not there.

    Notes
    -----
    The model of Fellegi and Sunter (1969), "A Theory for Record Linkage", JASA 64, fitted by splink: u from random
    pairs, m by expectation-maximisation among pairs that agree on a column. The share of matching pairs is the
    maximum-likelihood mixing proportion given m and u, over all pairs; those that agree on nothing count as two persons.
    Columns are taken to err independently of each other: people who share a home and a name make the expected number of
    false pairs too low. A few hundred records are needed to learn from; with fewer, hardly anybody is linked.
    """
    splink, duckdb = _splink()
    _check_comparison(compare, threshold)
    connection = engine.connect()
    table = _records(connection, people, id_column, compare)
    kinds = dict(zip(table.columns[2:], compare.values(), strict=True))
    distinct = table.aggregate(**{column: table[column].nunique() for column in kinds}).to_pyarrow().to_pylist()[0]
    # A column with one value tells nobody apart.
    kinds = {column: kind for column, kind in kinds.items() if distinct[column] > 1}
    rules = _blocking_rules(table, list(kinds))
    if len(kinds) < 2 or not rules:
        nobody = pa.table({"customer_id": pa.array([], pa.string()), "person_id": pa.array([], pa.string())})
        return ProbableIdentity(ibis.memtable(nobody), 0, 0, pairs=0, expected_false_pairs=0.0)
    with _silence("splink"):
        database = duckdb.DuckDBAPI(connection.con)
        linker = _train(splink, connection, database, kinds, rules, seed)
        return _link(connection, database, linker, table, threshold)


def _splink():
    try:
        import splink
        from splink.backends import duckdb
    except ImportError:
        raise RapportError("probable identity needs the package splink; install it, or name exact keys only") from None
    return splink, duckdb


def _check_comparison(compare: Mapping[str, Kind], threshold: float) -> None:
    for column, kind in compare.items():
        if kind not in get_args(Kind):
            raise RapportError(
                f"identity: {column!r} is of unknown kind {kind!r}; choose of {', '.join(get_args(Kind))}"
            )
    if len(compare) < 2:
        raise RapportError("identity: one column alone has no probability; compare at least two, or name it as a key")
    if not 0 < threshold < 1:
        raise RapportError(f"identity: threshold {threshold} is not a probability; choose one above 0 and below 1")


@contextlib.contextmanager
def _silence(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _records(
    connection: ibis.BaseBackend, people: ibis.Table | str | Path, id_column: str, compare: Mapping[str, Kind]
) -> ibis.Table:
    """``row_id, customer_id, c0, c1, ...``: one row an id, each column in the form in which it is compared."""
    if isinstance(people, str | Path):
        if not Path(people).is_file():
            raise RapportError(f"identity: there is no file {people}")
        people = connection.read_parquet(people)
    _check_columns(people, ["row_id", id_column, *compare])
    # Names of our own: splink writes column names into SQL.
    chosen = people.select(
        row_id=people.row_id.cast("int64"),
        customer_id=parse.text(people[id_column]),
        **{f"c{i}": people[column].cast("string") for i, column in enumerate(compare)},
    )
    raw = connection.create_table("raw", chosen.to_pyarrow())
    comparable = {f"c{i}": _comparable(raw[f"c{i}"], kind) for i, kind in enumerate(compare.values())}
    first = raw.filter(raw.customer_id.notnull()).group_by("customer_id").aggregate(row_id=_.row_id.min())
    rows = raw.select("row_id", "customer_id", **comparable).semi_join(first, "row_id")
    return connection.create_table("people", rows.order_by("row_id"))


def _comparable(column: StringColumn, kind: Kind) -> StringColumn:
    if kind == "phone":
        return parse.text(column.re_replace(r"\D", ""))
    if kind == "postcode":
        return parse.text(normalised(column).replace(" ", ""))
    return normalised(column)


def _blocking_rules(table: ibis.Table, columns: list[str]) -> list[tuple[str, ...]]:
    """The columns that two records must agree on to be compared at all, the cheapest first; dear ones are combined."""
    allowed = max(_PAIRS_A_RULE, _PAIRS_A_PERSON * table.count().execute())
    found: dict[tuple[str, ...], int] = {}
    for size in range(1, _LONGEST_RULE + 1):
        for rule in combinations(columns, size):
            if any(set(cheaper) <= set(rule) for cheaper in found):
                continue
            agreeing = table.filter([table[column].notnull() for column in rule]).group_by(rule).aggregate(n=_.count())
            pairs = agreeing.aggregate(pairs=(_.n * (_.n - 1) / 2).sum().fill_null(0)).pairs.as_scalar().execute()
            if pairs <= allowed:
                found[rule] = pairs
    return sorted((rule for rule, pairs in found.items() if pairs), key=lambda rule: (found[rule], rule))


def _comparison(column: str, kind: Kind):
    import splink.comparison_level_library as levels
    import splink.comparison_library as comparisons

    exact = levels.ExactMatchLevel(column)
    between = {
        # Addresses are made of names: one that is only similar would count the agreement of the names twice.
        "email": [
            levels.CustomLevel(f"split_part({column}_l, '@', 1) = split_part({column}_r, '@', 1)", "same before the @"),
            levels.LevenshteinLevel(column, 1),
        ],
        # The same number with and without its country code; one digit mistyped.
        "phone": [
            levels.CustomLevel(f"right({column}_l, {_LOCAL}) = right({column}_r, {_LOCAL})", "same last digits"),
            levels.LevenshteinLevel(column, 1),
        ],
        "postcode": [levels.CustomLevel(f"left({column}_l, {_AREA}) = left({column}_r, {_AREA})", "same area")],
    }
    if kind in between:
        return comparisons.CustomComparison(
            [levels.NullLevel(column), exact, *between[kind], levels.ElseLevel()], output_column_name=column
        )
    if kind == "date_of_birth":
        return comparisons.LevenshteinAtThresholds(column, 1)
    if kind == "exact":
        return comparisons.ExactMatch(column).configure(term_frequency_adjustments=True)
    return comparisons.NameComparison(column) if kind == "name" else comparisons.JaroWinklerAtThresholds(column)


def _train(
    splink, connection: ibis.BaseBackend, database, kinds: Mapping[str, Kind], rules: list[tuple[str, ...]], seed: int
):
    settings = splink.SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="row_id",
        comparisons=[_comparison(column, kind) for column, kind in kinds.items()],
        blocking_rules_to_generate_predictions=[splink.block_on(*rule) for rule in rules],
        probability_two_random_records_match=_PRIOR,
        retain_matching_columns=False,
    )
    linker = splink.Linker(database.register("people"), settings, log_level=None)
    linker.training.estimate_u_using_random_sampling(max_pairs=_SAMPLED_PAIRS, seed=seed, num_chunks=1)
    usable = [rule for rule in rules if set(rule) != set(kinds)]
    # Who shares a home shares a surname, an address and often a phone: blocks of those would teach that matches differ.
    usable.sort(key=lambda rule: not any(kinds[column] in _PERSONAL for column in rule))
    # Sums of floating-point numbers depend on their order, and that on the number of threads. The rest only counts.
    connection.raw_sql("SET threads = 1")
    for rule in usable[:_TRAINING_RULES]:
        linker.training.estimate_parameters_using_expectation_maximisation(
            splink.block_on(*rule), estimate_without_term_frequencies=True
        )
    connection.raw_sql("RESET threads")
    return linker


def _link(connection: ibis.BaseBackend, database, linker, table: ibis.Table, threshold: float) -> ProbableIdentity:
    from splink.clustering import cluster_pairwise_predictions_at_threshold

    scored = linker.inference.predict(warning_mode="never")
    pairs = connection.table(scored.physical_name)
    # splink counts in bits and includes the odds that it started from.
    pairs = pairs.mutate(weight=pairs.match_weight * float(np.log(2)) - float(logit(_PRIOR)))
    weights = np.sort(pairs.weight.to_pyarrow().to_numpy())
    records = table.count().execute()
    prior = float(logit(_share_matching(weights, records * (records - 1) / 2)))
    least = float(logit(threshold)) - prior
    kept = weights[weights >= least]
    connection.create_table("kept", pairs.filter(pairs.weight >= least))
    clusters = cluster_pairwise_predictions_at_threshold("people", "kept", database, "row_id")
    found = connection.table(clusters.physical_name)
    found = found.filter(found.cluster_id != found.row_id).select("row_id", "cluster_id")
    links = found.join(table.select("row_id", "customer_id"), "row_id")
    persons = table.select(cluster_id="row_id", person_id="customer_id")
    links = links.join(persons, "cluster_id").order_by("row_id").select("customer_id", "person_id")
    links = ibis.memtable(links.to_pyarrow())
    false = float(expit(-kept - prior).sum())
    return ProbableIdentity(links, *_counts(links), pairs=len(kept), expected_false_pairs=false)


def _share_matching(weights: np.ndarray, pairs: float) -> float:
    """The share of all pairs that match, by maximum likelihood, from the log likelihood ratios of those that may."""
    share = _PRIOR
    for _step in range(_STEPS):
        before, share = share, float(expit(weights + logit(share)).sum() / pairs)
        if abs(share - before) <= 1e-9 * before:
            break
    return share
