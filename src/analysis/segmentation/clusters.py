"""Behaviour segments: k-means on scaled behaviour, how many, how stable, and whether there are any at all.

Follows Dolnicar, Grün & Leisch (2018), *Market Segmentation Analysis*: structure is looked for before
segments are drawn, every solution is repeated over pairs of bootstrap samples, and a partition of customers
who form one cloud is called what it is, constructed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin, silhouette_score
from sklearn.utils.validation import check_is_fitted

from analysis.segmentation.agreement import Across, across_solutions, jaccard, survivors
from analysis.segmentation.mixture import MixtureSegmenter, covariances, fit_mixture, mixture_criteria, sampled
from analysis.segmentation.scaling import BehaviourScaler, MixedScaler, finite, spread_counts

__all__ = [
    "BehaviourScaler",
    "ClusterSearch",
    "CustomerSegmenter",
    "Segments",
    "find_segments",
    "jaccard",
    "profile",
    "search_clusters",
    "segment_markers",
    "segment_stability",
    "valley_p_values",
]

STABLE = 0.75
DOUBTFUL = 0.6
VALLEY_LEVEL = 0.01
CLEAR_BIC = 10.0
CONSTRUCTED = 3

Partition = Callable[[np.ndarray, int, int], Callable[[np.ndarray], np.ndarray]]


class CustomerSegmenter(ClusterMixin, BaseEstimator):
    """K-means segments whose numbers follow business value, not the seed.

    Segment 0 has the highest mean value, segment 1 the next, and so on.

    Parameters
    ----------
    n_clusters : number of segments.
    n_init : starts of k-means; the best is kept. With a hundred, seeds hardly matter even where customers form one cloud.
    min_size : segments with fewer customers are merged into the nearest one.
    random_state : seed.
    max_rows : centres are found on a sample of this many customers when there are more; everybody is then placed.

    Attributes
    ----------
    labels_ : array of shape (n,), segment of each customer.
    centers_ : array of shape (segments, columns), scaled.
    scaler_ : fitted :class:`MixedScaler`.
    merged_ : how many segments were merged away.
    """

    def __init__(
        self,
        n_clusters: int = 4,
        n_init: int = 100,
        min_size: int = 1,
        random_state: int | None = None,
        max_rows: int = 20_000,
    ):
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.min_size = min_size
        self.random_state = random_state
        self.max_rows = max_rows

    def fit(self, X, y=None, value: np.ndarray | None = None):
        """Find segments.

        Parameters
        ----------
        X : shape (n, n_features), behaviour in its own units; a frame may hold text columns (categories).
        value : shape (n,), what orders the segments (spend); the first scaled column when None.
        """
        self.scaler_ = MixedScaler().fit(X)
        Z = self.scaler_.transform(X)
        rows = sampled(len(Z), self.max_rows)
        centers = _kmeans(Z[rows], self.n_clusters, self.n_init, self.random_state)
        value = Z[:, 0] if value is None else np.asarray(value, dtype=float)
        kept = self._merge_small(Z, centers)
        self.merged_ = len(centers) - len(kept)
        labels = pairwise_distances_argmin(Z, kept)
        means = np.array([value[labels == j].mean() if (labels == j).any() else -np.inf for j in range(len(kept))])
        # Centres break ties of value, so that equal segments keep one order too.
        order = np.lexsort((*kept.T[::-1], -means))
        self.centers_ = kept[order]
        self.labels_ = pairwise_distances_argmin(Z, self.centers_)
        self.n_features_in_ = self.scaler_.n_features_in_
        return self

    def predict(self, X) -> np.ndarray:
        """Segment of each row of X, shape (n,)."""
        check_is_fitted(self)
        return pairwise_distances_argmin(self.scaler_.transform(X), self.centers_)

    def _merge_small(self, Z: np.ndarray, centers: np.ndarray) -> np.ndarray:
        while len(centers) > 1:
            sizes = np.bincount(pairwise_distances_argmin(Z, centers), minlength=len(centers))
            if sizes.min() >= self.min_size:
                break
            centers = np.delete(centers, sizes.argmin(), axis=0)
        return centers


def _kmeans(Z: np.ndarray, k: int, n_init: int, seed) -> np.ndarray:
    if k == 1:
        return Z.mean(axis=0, keepdims=True)
    k = min(k, len(np.unique(Z, axis=0)))
    return KMeans(n_clusters=k, n_init=n_init, random_state=seed).fit(Z).cluster_centers_


def valley_p_values(Z: np.ndarray, labels: np.ndarray, spread: np.ndarray | None = None) -> np.ndarray:
    """Is there a valley between each segment and its nearest neighbour?

    The customers of both are projected on the line through the two centres, and counted in three strips of
    equal width around one centre, the middle and the other centre. Where customers form one hump, the middle
    strip cannot hold fewer than both others; the p-value is the larger of the two exact conditional binomial
    p-values that it does (an intersection-union test: both must be small). Our own construction, in the
    spirit of bump hunting (Good & Gaskins 1980).

    Parameters
    ----------
    Z : shape (n, n_features), scaled.
    labels : shape (n,), segment numbers from 0.
    spread : shape (segments, n_features, n_features), covariance of each segment, where segments are not round: neighbours
        are then the nearest by Mahalanobis distance, and the line is Fisher's discriminant.

    Returns
    -------
    Array of shape (segments,), one p-value a segment; 1 for an only one.
    """
    count = labels.max() + 1
    centers = np.array([Z[labels == j].mean(axis=0) for j in range(count)])
    found = np.ones(count)
    for j in range(count):
        lines = np.array([_line(centers, spread, j, other) for other in range(count)])
        away = np.einsum("od,od->o", lines, centers - centers[j])
        away[j] = np.inf
        if count > 1 and np.isfinite(away.min()) and away.min() > 0:
            neighbour = int(away.argmin())
            pair = (labels == j) | (labels == neighbour)
            found[j] = _valley(Z[pair], centers[j], centers[neighbour], lines[neighbour])
    return found


def _line(centers: np.ndarray, spread: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """Direction on which two segments lie furthest apart; its product with their difference is their squared distance."""
    away = centers[end] - centers[start]
    return away if spread is None else np.linalg.solve((spread[start] + spread[end]) / 2, away)


def _valley(Z: np.ndarray, start: np.ndarray, end: np.ndarray, line: np.ndarray) -> float:
    along = (Z - start) @ line / ((end - start) @ line)
    left, middle, right = np.histogram(along, bins=[-1 / 4, 1 / 4, 3 / 4, 5 / 4])[0]
    return float(max(binom.cdf(middle, middle + left, 0.5), binom.cdf(middle, middle + right, 0.5)))


@dataclass(frozen=True)
class ClusterSearch:
    """What the search for clusters found.

    Attributes
    ----------
    table : one row a number of segments: segments, method (``kmeans``; ``mixture`` in the row of a mixture that is used),
        global_stability (mean adjusted Rand), stability_low,
        stability_high (middle 90 % of pairs), least_jaccard, gap, gap_error, gap_enough (does the gap exceed that of one
        cluster by its standard error?), silhouette, valley_p (largest of the segments), qualifies, bic (of a normal
        mixture with as many components).
    mixture : what was found of the mixture with the best BIC: segments, form, bic_gain (over one component), valley_p,
        global_stability, least_jaccard (NaN where the valley already says no), qualifies.
    found : True when at least one number of segments qualifies as natural clusters.
    method : ``kmeans`` or ``mixture``, what the segments are made by.
    n_clusters : the number to use: natural clusters if found, else as many as were asked for.
    rows : customers the search looked at.
    partitions : number of segments -> labels of shape (rows,) by k-means.
    """

    table: pd.DataFrame
    mixture: dict[str, object]
    found: bool
    method: str
    n_clusters: int
    rows: int
    partitions: dict[int, np.ndarray]


def search_clusters(
    X: np.ndarray | pd.DataFrame,
    clusters_max: int = 8,
    bootstrap_pairs: int = 20,
    seed: int = 1,
    max_rows: int = 3000,
    gap_references: int = 20,
    constructed: int = CONSTRUCTED,
) -> ClusterSearch:
    """Look for natural clusters among numbers of segments, and judge each number.

    A number of segments qualifies as natural when all four hold: partitions of bootstrap pairs agree (mean
    adjusted Rand at least .75); each segment is found again (Hennig's Jaccard at least .6 on average); the
    gap statistic exceeds that of one cluster by its standard error (Tibshirani, Walther & Hastie 2001); and a
    valley (:func:`valley_p_values`, at .01) parts each segment from its neighbour. Stability alone proves
    nothing: a long cloud splits in two at the same place every time. Among those that qualify, the smallest
    within one standard error of the largest gap is taken.

    Where k-means finds none, the normal mixture with the least BIC is asked, because groups may be long, or wide beside
    narrow. BIC alone proves nothing either: it needs several normals for one cloud that is not normal. So the same
    stability, Jaccard index and valley are asked of it, and a BIC that is better than one component's by ten.

    Without natural clusters, segments are constructed by k-means, as many as the company wants: no criterion can find a number
    that is not there, and one that tries changes its mind with the seed. Silhouettes are shown and decide nothing, because
    they favour two.

    Parameters
    ----------
    X : shape (n, n_features), behaviour in its own units; a frame may hold text columns (categories). A gap and a valley are
        looked for in the numbers only, because categories are apart by nature.
    clusters_max : largest number of segments tried.
    bootstrap_pairs : pairs of bootstrap samples a number.
    seed : of the random numbers.
    max_rows : a random sample of this many customers is searched when there are more.
    gap_references : uniform reference sets for the gap statistic.
    constructed : segments to draw where no natural clusters are found; at most ``clusters_max``.

    Returns
    -------
    ClusterSearch

    Raises
    ------
    ValueError
        Fewer than 2 customers a segment tried.
    """
    if len(X) < 4 or clusters_max < 2:
        raise ValueError("search_clusters: at least 4 customers are needed to try 2 segments")
    rng = np.random.default_rng(seed)
    scaler, soft = MixedScaler().fit(X), MixedScaler(soft=True).fit(X)
    rows = sampled(len(X), max_rows)
    spread = spread_counts(X.iloc[rows] if isinstance(X, pd.DataFrame) else finite(X)[rows], rng)
    Z, smooth = scaler.transform(spread), soft.transform(spread)[:, : soft.continuous_]
    clusters_max = min(clusters_max, len(Z) // 2)
    numbers = Z[:, : scaler.continuous_]
    references = _gap_references(numbers, gap_references, rng) if numbers.shape[1] else []
    tried = range(2, clusters_max + 1)
    partitions = {k: _assign(Z, k, seed) for k in tried}
    gaps = {k: _gap(numbers, k, references, seed) for k in (1, *tried)}
    judged = [_judge(Z, smooth, k, partitions[k], bootstrap_pairs, gaps, rng, seed) for k in tried]
    criteria = mixture_criteria(smooth, clusters_max, seed) if smooth.shape[1] else mixture_criteria(Z[:0], 0)
    table = pd.DataFrame(judged).merge(criteria[["segments", "bic"]], on="segments", how="left")
    mixture = _judge_mixture(smooth, criteria, max(2, bootstrap_pairs // 2), rng, seed)
    fit = table[table["qualifies"]]
    if len(fit):
        best = fit.loc[fit["gap"].idxmax()]
        near = fit[fit["gap"] >= best["gap"] - best["gap_error"]]
        return ClusterSearch(table, mixture, True, "kmeans", int(near["segments"].iloc[0]), len(Z), partitions)
    # A mixture of the numbers says nothing about segments of numbers and categories together.
    if mixture["qualifies"] and smooth.shape[1] == Z.shape[1]:
        table = _with_mixture(table, mixture)
        return ClusterSearch(table, mixture, True, "mixture", int(mixture["segments"]), len(Z), partitions)
    return ClusterSearch(table, mixture, False, "kmeans", min(constructed, clusters_max), len(Z), partitions)


def _with_mixture(table: pd.DataFrame, mixture: dict[str, object]) -> pd.DataFrame:
    """The row of the mixture's number of segments tells of the mixture; a gap and a silhouette are k-means' own."""
    own = {name: mixture[name] for name in table.columns if name in mixture}
    own |= {"method": "mixture", "gap": np.nan, "gap_error": np.nan, "gap_enough": False, "silhouette": np.nan}
    row = table.index[table["segments"] == mixture["segments"]][0]
    table = table.astype({"method": object})
    for name, value in own.items():
        table.loc[row, name] = value
    return table


def _judge(Z, smooth, k, whole, pairs, gaps, rng, seed) -> dict:
    mean, low, high, least = _stability(Z, whole, k, pairs, rng, _by_kmeans)
    gap, error = gaps[k]
    valley = valley_p_values(smooth, whole).max() if smooth.shape[1] else 1.0
    enough = gap > gaps[1][0] + error
    return {
        "segments": k,
        "method": "kmeans",
        "global_stability": mean,
        "stability_low": low,
        "stability_high": high,
        "least_jaccard": least,
        "gap": gap,
        "gap_error": error,
        "gap_enough": bool(enough),
        "silhouette": _silhouette(Z, whole),
        "valley_p": float(valley),
        "qualifies": bool(mean >= STABLE and least >= DOUBTFUL and enough and valley <= VALLEY_LEVEL),
    }


def _judge_mixture(Z: np.ndarray, criteria: pd.DataFrame, pairs: int, rng: np.random.Generator, seed) -> dict:
    unseen = ("valley_p", "global_stability", "stability_low", "stability_high", "least_jaccard")
    unknown = dict.fromkeys(unseen, np.nan) | {"qualifies": False}
    if criteria.empty:
        return {"segments": None, "form": None, "bic_gain": np.nan} | unknown
    best = criteria.loc[criteria["bic"].idxmin()]
    k, form = int(best["segments"]), str(best["form"])
    gain = float(criteria["bic"].iloc[0] - best["bic"])
    facts = {"segments": k, "form": form, "bic_gain": gain} | unknown
    if k == 1 or criteria["segments"].iloc[0] != 1:
        return facts
    model = fit_mixture(Z, k, form, 5, seed)
    labels = model.predict(Z)
    if len(np.unique(labels)) < k:
        return facts
    facts["valley_p"] = float(valley_p_values(Z, labels, covariances(model)).max())
    if facts["valley_p"] > VALLEY_LEVEL or gain < CLEAR_BIC:
        return facts
    mean, low, high, least = _stability(Z, labels, k, pairs, rng, _by_mixture(form))
    return facts | {
        "global_stability": mean,
        "stability_low": low,
        "stability_high": high,
        "least_jaccard": least,
        "qualifies": bool(mean >= STABLE and least >= DOUBTFUL),
    }


def _stability(Z, whole, k, pairs, rng, partition: Partition) -> tuple[float, float, float, float]:
    """Mean adjusted Rand of bootstrap pairs with the middle 90 % of pairs, and the least of the segments' mean Jaccards."""
    agreement, found_again = [], []
    for _ in range(pairs):
        first, second = (_bootstrap_assign(Z, k, rng, partition) for _ in range(2))
        agreement.append(adjusted_rand_score(first, second))
        found_again += [jaccard(whole, first), jaccard(whole, second)]
    low, high = np.quantile(agreement, [0.05, 0.95])
    return float(np.mean(agreement)), float(low), float(high), float(np.mean(found_again, axis=0).min())


def _by_kmeans(Z: np.ndarray, k: int, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    centers = _kmeans(Z, k, 2, seed)
    return lambda other: pairwise_distances_argmin(other, centers)


def _by_mixture(form: str) -> Partition:
    return lambda Z, k, seed: fit_mixture(Z, k, form, seed=seed).predict


def _assign(Z: np.ndarray, k: int, seed) -> np.ndarray:
    labels = pairwise_distances_argmin(Z, _kmeans(Z, k, 5, seed))
    return np.unique(labels, return_inverse=True)[1]


def _bootstrap_assign(Z: np.ndarray, k: int, rng: np.random.Generator, partition: Partition) -> np.ndarray:
    drawn = Z[rng.integers(0, len(Z), len(Z))]
    return partition(drawn, k, int(rng.integers(2**31 - 1)))(Z)


def _silhouette(Z: np.ndarray, labels: np.ndarray, most: int = 1500) -> float:
    """Mean silhouette width (Rousseeuw 1987) of a sample; NaN where there is one segment."""
    rows = sampled(len(Z), most)
    kinds = len(np.unique(labels[rows]))
    return float(silhouette_score(Z[rows], labels[rows])) if 1 < kinds < len(rows) else float("nan")


def _gap_references(Z: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Uniform clouds in the box of the principal axes (Tibshirani, Walther & Hastie 2001, section 4, choice b)."""
    center = Z.mean(axis=0)
    axes = np.linalg.svd(Z - center, full_matrices=False)[2]
    turned = (Z - center) @ axes.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    return [rng.uniform(low, high, turned.shape) @ axes + center for _ in range(count)]


def _gap(Z: np.ndarray, k: int, references: list[np.ndarray], seed) -> tuple[float, float]:
    """Gap statistic and its standard error s_k (Tibshirani, Walther & Hastie 2001, equations 3 and step 3)."""
    if not references:
        return float("nan"), float("nan")
    expected = np.array([_log_within(reference, k, seed, 1) for reference in references])
    error = expected.std() * np.sqrt(1 + 1 / len(references))
    return float(expected.mean() - _log_within(Z, k, seed, 5)), float(error)


def _log_within(Z: np.ndarray, k: int, seed, n_init: int) -> float:
    centers = _kmeans(Z, k, n_init, seed)
    labels = pairwise_distances_argmin(Z, centers)
    within = np.sum((Z - centers[labels]) ** 2)
    return float(np.log(max(within, 1e-12)))


def segment_stability(
    X: np.ndarray | pd.DataFrame,
    labels: np.ndarray,
    samples: int = 40,
    seed: int = 1,
    max_rows: int = 3000,
    form: str | None = None,
) -> np.ndarray:
    """Mean Jaccard of each segment over bootstrap samples (Hennig 2007): under .6 do not trust, over .75 stable.

    Parameters
    ----------
    X : shape (n, n_features), behaviour in its own units; a frame may hold text columns.
    labels : shape (n,), segment numbers from 0 without a gap.
    samples : bootstrap samples.
    seed, max_rows : as in :func:`search_clusters`.
    form : of the covariances, where the segments are those of a mixture; k-means when None.

    Returns
    -------
    Array of shape (segments,), 0 to 1.
    """
    Z, labels = MixedScaler(soft=form is not None).fit(X).transform(X), np.asarray(labels)
    k = int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    rows = sampled(len(Z), max_rows)
    Z, labels = Z[rows], labels[rows]
    partition = _by_kmeans if form is None else _by_mixture(form)
    found = []
    for _ in range(samples):
        again = jaccard(labels, _bootstrap_assign(Z, k, rng, partition))
        found.append(np.pad(again, (0, k - len(again))))
    return np.mean(found, axis=0)


def profile(features: pd.DataFrame, labels: np.ndarray, deviation: float = 0.25) -> pd.DataFrame:
    """Mean of every feature in every segment against all customers, with the marker variables.

    A marker variable deviates from the mean of all by a quarter or more (Dolnicar, Grün & Leisch 2018,
    chapter 8).

    Parameters
    ----------
    features : numeric columns only, in their own units.
    labels : shape (n,), segment numbers from 0.
    deviation : least relative deviation of a marker.

    Returns
    -------
    One row a segment × feature: segment, feature, mean, overall, ratio (mean / overall), marker (bool),
    direction (``high``, ``low`` or ``""``).
    """
    means = features.groupby(np.asarray(labels)).mean()
    overall = features.mean()
    long = means.rename_axis("segment").reset_index().melt("segment", var_name="feature", value_name="mean")
    long["overall"] = long["feature"].map(overall).astype(float)
    long["ratio"] = long["mean"] / long["overall"].where(long["overall"] != 0)
    long["marker"] = (long["ratio"] - 1).abs() >= deviation
    long["direction"] = np.select([long["marker"] & (long["ratio"] > 1), long["marker"]], ["high", "low"], "")
    order = {feature: i for i, feature in enumerate(features.columns)}
    return long.sort_values(
        ["segment", "feature"], key=lambda s: s.map(order) if s.name == "feature" else s
    ).reset_index(drop=True)


def segment_markers(
    profiles: pd.DataFrame, most: int = 2, basis: list[str] | None = None
) -> dict[int, list[tuple[str, str]]]:
    """The features that tell each segment apart best, for a name: the largest deviations on a log scale first.

    Parameters
    ----------
    profiles : frame of :func:`profile`.
    most : features a segment.
    basis : features that may name a segment; all by default.

    Returns
    -------
    segment -> [(feature, ``high`` or ``low``), …]; empty for a segment that is like the rest. Two segments
    with the same features get a third (and so on) until they differ, as far as they have markers.
    """
    table = profiles if basis is None else profiles[profiles["feature"].isin(basis)]
    marked = table[table["marker"]].assign(size=lambda t: np.log(t["ratio"].clip(lower=1e-3)).abs())
    marked = marked.sort_values(["segment", "size"], ascending=[True, False], kind="stable")
    ranked = {
        int(s): list(zip(rows["feature"], rows["direction"], strict=True)) for s, rows in marked.groupby("segment")
    }
    ranked = {int(s): ranked.get(int(s), []) for s in sorted(profiles["segment"].unique())}
    length = dict.fromkeys(ranked, most)
    for _ in range(len(profiles["feature"].unique())):
        seen = {s: tuple(sorted(m[: length[s]])) for s, m in ranked.items()}
        twins = [s for s, name in seen.items() if list(seen.values()).count(name) > 1 and length[s] < len(ranked[s])]
        if not twins:
            break
        for s in twins:
            length[s] += 1
    return {s: m[: length[s]] for s, m in ranked.items()}


BASIS = (
    "purchase_days",
    "basket",
    "recency_days",
    "discount_share",
    "categories",
    "stores",
    "weekend_share",
    "evening_share",
    "other_channel_share",
)
LEAST_CUSTOMERS = 50
LEAST_CUSTOMERS_A_FEATURE = 10
ADVISED_CUSTOMERS_A_FEATURE = 100


@dataclass(frozen=True)
class Segments:
    """Behaviour segments of a customer base, with the evidence for and against them.

    Attributes
    ----------
    labels : Series of shape (n,): ``A``, ``B``, … by falling mean spend; null where ``reason`` says why there
        are none.
    basis : features that made the segments.
    search : :class:`ClusterSearch`, None without segments.
    model : the fitted segmenter, which places other customers; None without segments.
    across : :class:`Across`, the segments of all the solutions that were tried; None without segments.
    sizes : one row a segment: segment, customers, share_customers, sales, share_sales, jaccard, survives (in how many of the
        other solutions it is there; NaN for a mixture).
    profiles : frame of :func:`profile` for all features, with column basis (bool: did it make the segments?).
    markers : segment -> [(feature, direction), …], for a name.
    reason : None, ``few_customers`` or ``few_features``.
    needed : customers that the method needs at least; advised : customers that the literature advises for
        this many features (Dolnicar, Grün & Leisch 2016: 100 a variable).
    """

    labels: pd.Series
    basis: tuple[str, ...]
    search: ClusterSearch | None
    model: CustomerSegmenter | MixtureSegmenter | None
    across: Across | None
    sizes: pd.DataFrame
    profiles: pd.DataFrame
    markers: dict[str, list[tuple[str, str]]]
    reason: str | None
    needed: int
    advised: int


def find_segments(
    features: pd.DataFrame,
    clusters_max: int = 8,
    bootstrap_pairs: int = 20,
    seed: int = 1,
    small_group: int = 10,
    deviation: float = 0.25,
    categories: Sequence[str] = (),
    constructed: int = CONSTRUCTED,
) -> Segments:
    """Segment customers by behaviour, and say how far to trust it.

    Spend itself is not in the basis: it is purchase days times basket, and would count both twice; it orders
    the segments and describes them from outside.

    Parameters
    ----------
    features : frame of :func:`analysis.segmentation.features.behaviour_features`, shares drawn by
        ``steady_shares``.
    clusters_max, bootstrap_pairs, seed, constructed : as in :func:`search_clusters`.
    small_group : smaller segments are merged.
    deviation : least relative deviation of a marker variable.
    categories : text columns of ``features`` that join the basis, for example a main channel. They move customers between
        segments; whether there are natural clusters is judged by the numbers.

    Returns
    -------
    Segments; with ``reason`` and null labels where there are too few customers or features.
    """
    basis = (*(c for c in BASIS if c in features.columns), *categories)
    needed = max(LEAST_CUSTOMERS, LEAST_CUSTOMERS_A_FEATURE * len(basis))
    advised = ADVISED_CUSTOMERS_A_FEATURE * len(basis)
    reason = "few_customers" if len(features) < needed else "few_features" if len(basis) < 2 else None
    if reason:
        none = pd.Series(None, index=features.index, dtype="str", name="cluster")
        empty = pd.DataFrame()
        return Segments(none, basis, None, None, None, empty, empty, {}, reason, needed, advised)
    X, spend = features[list(basis)], features["spend"].to_numpy(dtype=float)
    search = search_clusters(X, clusters_max, bootstrap_pairs, seed, constructed=constructed)
    model = _segmenter(search, small_group, seed).fit(X, value=spend)
    letter = np.array([chr(ord("A") + i) for i in range(len(model.centers_))])
    form = str(search.mixture["form"]) if search.method == "mixture" else None
    again = segment_stability(X, model.labels_, samples=2 * bootstrap_pairs, seed=seed, form=form)
    numbers = features.drop(columns="customer_id").select_dtypes("number")
    profiles = profile(numbers, model.labels_, deviation)
    profiles["basis"] = profiles["feature"].isin(basis)
    named = segment_markers(profiles, basis=list(basis))
    sizes = features.groupby(letter[model.labels_])["spend"].agg(customers="size", sales="sum")
    sizes = sizes.rename_axis("segment").reset_index().assign(jaccard=again)
    sizes["share_customers"] = sizes["customers"] / sizes["customers"].sum()
    sizes["share_sales"] = sizes["sales"] / sizes["sales"].sum()
    sizes["survives"] = _survives(search, model.labels_, len(letter))
    columns = ["segment", "customers", "share_customers", "sales", "share_sales", "jaccard", "survives"]
    return Segments(
        labels=pd.Series(letter[model.labels_], index=features.index, name="cluster", dtype="str"),
        basis=basis,
        search=search,
        model=model,
        across=across_solutions(search.partitions),
        sizes=sizes[columns],
        profiles=profiles.assign(segment=letter[profiles["segment"]]),
        markers={str(letter[s]): m for s, m in named.items()},
        reason=None,
        needed=needed,
        advised=advised,
    )


def _segmenter(search: ClusterSearch, small_group: int, seed: int) -> CustomerSegmenter | MixtureSegmenter:
    if search.method == "mixture":
        form = str(search.mixture["form"])
        return MixtureSegmenter(search.n_clusters, form, min_size=small_group, random_state=seed)
    return CustomerSegmenter(search.n_clusters, min_size=small_group, random_state=seed)


def _survives(search: ClusterSearch, labels: np.ndarray, count: int) -> np.ndarray:
    """In how many of the other solutions each published segment is there, by the customers that were searched."""
    placed = labels[sampled(len(labels), search.rows)]
    if search.method == "mixture" or len(np.unique(placed)) < count:
        return np.full(count, np.nan)
    others = {k: partition for k, partition in search.partitions.items() if k != search.n_clusters}
    return survivors({**others, 0: placed}, 0)["survives"].to_numpy(dtype=float)
