"""Behaviour segments: k-means on scaled behaviour, how many, how stable, and whether there are any at all.

Follows Dolnicar, Grün & Leisch (2018), *Market Segmentation Analysis*: structure is looked for before
segments are drawn, every solution is repeated over pairs of bootstrap samples, and a partition of customers
who form one cloud is called what it is, constructed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom, skew
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin
from sklearn.utils.validation import check_is_fitted

STABLE = 0.75
DOUBTFUL = 0.6
VALLEY_LEVEL = 0.01


class BehaviourScaler(TransformerMixin, BaseEstimator):
    """Put behaviour features on one scale on which a few large customers do not decide the distances.

    Heavy-tailed features (no negative value, sample skewness over ``heavy_tail``) are replaced by log(1 + x);
    then each is centred on its median, divided by its interquartile range over 1.349 (the standard deviation
    of a normal), and cut at ``limit``.

    Parameters
    ----------
    heavy_tail : skewness above which a feature is logged.
    limit : largest distance from the centre, in scaled units.

    Attributes
    ----------
    logged_ : boolean array of shape (n_features,).
    center_, scale_ : arrays of shape (n_features,); a constant feature has scale 1.
    """

    def __init__(self, heavy_tail: float = 1.0, limit: float = 3.0):
        self.heavy_tail = heavy_tail
        self.limit = limit

    def fit(self, X, y=None):
        """Learn logs, centres and scales from X of shape (n, n_features)."""
        X = _finite(X)
        varies = np.ptp(X, axis=0) > 0
        tails = np.zeros(X.shape[1])
        tails[varies] = skew(X[:, varies], axis=0)
        self.logged_ = (X.min(axis=0) >= 0) & (tails > self.heavy_tail)
        Z = self._log(X)
        self.center_ = np.median(Z, axis=0)
        low, high = np.quantile(Z, [0.25, 0.75], axis=0)
        spread = (high - low) / 1.349
        spread = np.where(spread > 1e-12, spread, Z.std(axis=0))
        self.scale_ = np.where(spread > 1e-12, spread, 1.0)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X) -> np.ndarray:
        """Scaled features, shape (n, n_features)."""
        check_is_fitted(self)
        scaled = (self._log(_finite(X)) - self.center_) / self.scale_
        return np.clip(scaled, -self.limit, self.limit)

    def _log(self, X: np.ndarray) -> np.ndarray:
        Z = X.copy()
        Z[:, self.logged_] = np.log1p(np.maximum(Z[:, self.logged_], 0.0))
        return Z


def _finite(X) -> np.ndarray:
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or X.shape[0] == 0 or not np.isfinite(X).all():
        raise ValueError(
            "segments: features must be a table of finite numbers with at least one row; fill or drop gaps first"
        )
    return X


class CustomerSegmenter(ClusterMixin, BaseEstimator):
    """K-means segments whose numbers follow business value, not the seed.

    Segment 0 has the highest mean value, segment 1 the next, and so on.

    Parameters
    ----------
    n_clusters : number of segments.
    n_init : starts of k-means; the best is kept.
    min_size : segments with fewer customers are merged into the nearest one.
    random_state : seed.

    Attributes
    ----------
    labels_ : array of shape (n,), segment of each customer.
    centers_ : array of shape (segments, n_features), scaled.
    scaler_ : fitted :class:`BehaviourScaler`.
    merged_ : how many segments were merged away.
    """

    def __init__(self, n_clusters: int = 4, n_init: int = 10, min_size: int = 1, random_state: int | None = None):
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.min_size = min_size
        self.random_state = random_state

    def fit(self, X, y=None, value: np.ndarray | None = None):
        """Find segments.

        Parameters
        ----------
        X : shape (n, n_features), behaviour in its own units.
        value : shape (n,), what orders the segments (spend); the first feature when None.
        """
        X = _finite(X)
        self.scaler_ = BehaviourScaler().fit(X)
        Z = self.scaler_.transform(X)
        centers = _kmeans(Z, self.n_clusters, self.n_init, self.random_state)
        value = X[:, 0] if value is None else np.asarray(value, dtype=float)
        kept = self._merge_small(Z, centers)
        self.merged_ = len(centers) - len(kept)
        labels = pairwise_distances_argmin(Z, kept)
        means = np.array([value[labels == j].mean() if (labels == j).any() else -np.inf for j in range(len(kept))])
        # Centres break ties of value, so that equal segments keep one order too.
        order = np.lexsort((*kept.T[::-1], -means))
        self.centers_ = kept[order]
        self.labels_ = pairwise_distances_argmin(Z, self.centers_)
        self.n_features_in_ = X.shape[1]
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


def jaccard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How well each segment of one partition is found again in another (Hennig 2007, section 3).

    Parameters
    ----------
    first, second : arrays of shape (n,), segment numbers from 0 of the same customers.

    Returns
    -------
    Array of shape (segments of ``first``,): the largest |A ∩ B| / |A ∪ B| over segments B of ``second``, 0 to
    1.
    """
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    union = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True) - table
    return np.max(np.divide(table, union, out=np.zeros_like(table), where=union > 0), axis=1)


def valley_p_values(Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
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

    Returns
    -------
    Array of shape (segments,), one p-value a segment; 1 for an only one.
    """
    count = labels.max() + 1
    centers = np.array([Z[labels == j].mean(axis=0) for j in range(count)])
    found = np.ones(count)
    for j in range(count):
        away = np.linalg.norm(centers - centers[j], axis=1)
        away[j] = np.inf
        if count > 1 and np.isfinite(away.min()) and away.min() > 0:
            neighbour = int(away.argmin())
            found[j] = _valley(Z[(labels == j) | (labels == neighbour)], centers[j], centers[neighbour])
    return found


def _valley(Z: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    along = (Z - start) @ (end - start) / np.sum((end - start) ** 2)
    left, middle, right = np.histogram(along, bins=[-1 / 4, 1 / 4, 3 / 4, 5 / 4])[0]
    return float(max(binom.cdf(middle, middle + left, 0.5), binom.cdf(middle, middle + right, 0.5)))


@dataclass(frozen=True)
class ClusterSearch:
    """What the search for clusters found.

    Attributes
    ----------
    table : one row a number of segments: segments, global_stability (mean adjusted Rand), stability_low,
        stability_high (middle 90 % of pairs), least_jaccard, gap, gap_error, valley_p (largest of the
        segments), qualifies.
    found : True when at least one number of segments qualifies as natural clusters.
    n_clusters : the number to use: natural clusters if found, else the steadiest partition of 3 or more.
    rows : customers the search looked at.
    """

    table: pd.DataFrame
    found: bool
    n_clusters: int
    rows: int


def search_clusters(
    X: np.ndarray,
    clusters_max: int = 8,
    bootstrap_pairs: int = 20,
    seed: int = 1,
    max_rows: int = 3000,
    gap_references: int = 20,
) -> ClusterSearch:
    """Look for natural clusters, and for the steadiest number of segments.

    A number of segments qualifies as natural when all four hold: partitions of bootstrap pairs agree (mean
    adjusted Rand at least .75); each segment is found again (Hennig's Jaccard at least .6 on average); the
    gap statistic exceeds that of one cluster by its standard error (Tibshirani, Walther & Hastie 2001); and a
    valley (:func:`valley_p_values`, at .01) parts each segment from its neighbour. Stability alone proves
    nothing: a long cloud splits in two at the same place every time. Among those that qualify, the smallest
    within one standard error of the largest gap is taken.

    Parameters
    ----------
    X : shape (n, n_features), behaviour in its own units.
    clusters_max : largest number of segments tried.
    bootstrap_pairs : pairs of bootstrap samples a number.
    seed : of the random numbers.
    max_rows : a random sample of this many customers is searched when there are more.
    gap_references : uniform reference sets for the gap statistic.

    Returns
    -------
    ClusterSearch

    Raises
    ------
    ValueError
        Fewer than 2 customers a segment tried.
    """
    X = _finite(X)
    clusters_max = min(clusters_max, len(X) // 2)
    if clusters_max < 2:
        raise ValueError("search_clusters: at least 4 customers are needed to try 2 segments")
    rng = np.random.default_rng(seed)
    Z = BehaviourScaler().fit(X).transform(X)
    if len(Z) > max_rows:
        Z = Z[np.sort(rng.choice(len(Z), max_rows, replace=False))]
    references = _gap_references(Z, gap_references, rng)
    base = _gap(Z, 1, references, seed)
    rows = [_judge(Z, k, bootstrap_pairs, references, base[0], rng, seed) for k in range(2, clusters_max + 1)]
    table = pd.DataFrame(rows)
    fit = table[table["qualifies"]]
    if len(fit):
        best = fit.loc[fit["gap"].idxmax()]
        near = fit[fit["gap"] >= best["gap"] - best["gap_error"]]
        return ClusterSearch(table, True, int(near["segments"].iloc[0]), len(Z))
    wide = table[table["segments"] >= 3]
    wide = wide if len(wide) else table
    return ClusterSearch(table, False, int(wide.loc[wide["global_stability"].idxmax(), "segments"]), len(Z))


def _judge(Z, k, pairs, references, gap_of_one, rng, seed) -> dict:
    whole = _assign(Z, k, seed)
    agreement, found_again = [], []
    for _ in range(pairs):
        first, second = (_bootstrap_assign(Z, k, rng) for _ in range(2))
        agreement.append(adjusted_rand_score(first, second))
        found_again += [jaccard(whole, first), jaccard(whole, second)]
    gap, error = _gap(Z, k, references, seed)
    valley = valley_p_values(Z, whole).max()
    least = np.mean(found_again, axis=0).min()
    low, high = np.quantile(agreement, [0.05, 0.95])
    return {
        "segments": k,
        "global_stability": float(np.mean(agreement)),
        "stability_low": float(low),
        "stability_high": float(high),
        "least_jaccard": float(least),
        "gap": gap,
        "gap_error": error,
        "valley_p": float(valley),
        "qualifies": bool(
            np.mean(agreement) >= STABLE and least >= DOUBTFUL and gap > gap_of_one + error and valley <= VALLEY_LEVEL
        ),
    }


def _assign(Z: np.ndarray, k: int, seed) -> np.ndarray:
    labels = pairwise_distances_argmin(Z, _kmeans(Z, k, 5, seed))
    return np.unique(labels, return_inverse=True)[1]


def _bootstrap_assign(Z: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    drawn = Z[rng.integers(0, len(Z), len(Z))]
    return pairwise_distances_argmin(Z, _kmeans(drawn, k, 2, int(rng.integers(2**31 - 1))))


def _gap_references(Z: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Uniform clouds in the box of the principal axes (Tibshirani, Walther & Hastie 2001, section 4, choice b)."""
    center = Z.mean(axis=0)
    axes = np.linalg.svd(Z - center, full_matrices=False)[2]
    turned = (Z - center) @ axes.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    return [rng.uniform(low, high, turned.shape) @ axes + center for _ in range(count)]


def _gap(Z: np.ndarray, k: int, references: list[np.ndarray], seed) -> tuple[float, float]:
    """Gap statistic and its standard error s_k (Tibshirani, Walther & Hastie 2001, equations 3 and step 3)."""
    expected = np.array([_log_within(reference, k, seed, 1) for reference in references])
    error = expected.std() * np.sqrt(1 + 1 / len(references))
    return float(expected.mean() - _log_within(Z, k, seed, 5)), float(error)


def _log_within(Z: np.ndarray, k: int, seed, n_init: int) -> float:
    centers = _kmeans(Z, k, n_init, seed)
    labels = pairwise_distances_argmin(Z, centers)
    within = np.sum((Z - centers[labels]) ** 2)
    return float(np.log(max(within, 1e-12)))


def segment_stability(X, labels: np.ndarray, samples: int = 40, seed: int = 1, max_rows: int = 3000) -> np.ndarray:
    """Mean Jaccard of each segment over bootstrap samples (Hennig 2007): under .6 do not trust, over .75 stable.

    Parameters
    ----------
    X : shape (n, n_features), behaviour in its own units.
    labels : shape (n,), segment numbers from 0 without a gap.
    samples : bootstrap samples.
    seed, max_rows : as in :func:`search_clusters`.

    Returns
    -------
    Array of shape (segments,), 0 to 1.
    """
    Z, labels = BehaviourScaler().fit(_finite(X)).transform(X), np.asarray(labels)
    k = int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    if len(Z) > max_rows:
        rows = np.sort(rng.choice(len(Z), max_rows, replace=False))
        Z, labels = Z[rows], labels[rows]
    found = []
    for _ in range(samples):
        again = jaccard(labels, _bootstrap_assign(Z, k, rng))
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
    sizes : one row a segment: segment, customers, share_customers, sales, share_sales, jaccard.
    profiles : frame of :func:`profile` for all features, with column basis (bool: did it make the segments?).
    markers : segment -> [(feature, direction), …], for a name.
    reason : None, ``few_customers`` or ``few_features``.
    needed : customers that the method needs at least; advised : customers that the literature advises for
        this many features (Dolnicar, Grün & Leisch 2016: 100 a variable).
    """

    labels: pd.Series
    basis: tuple[str, ...]
    search: ClusterSearch | None
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
) -> Segments:
    """Segment customers by behaviour, and say how far to trust it.

    Spend itself is not in the basis: it is purchase days times basket, and would count both twice; it orders
    the segments and describes them from outside.

    Parameters
    ----------
    features : frame of :func:`analysis.segmentation.features.behaviour_features`, shares drawn by
        ``steady_shares``.
    clusters_max, bootstrap_pairs, seed : as in :func:`search_clusters`.
    small_group : smaller segments are merged.
    deviation : least relative deviation of a marker variable.

    Returns
    -------
    Segments; with ``reason`` and null labels where there are too few customers or features.
    """
    basis = tuple(c for c in BASIS if c in features.columns)
    needed = max(LEAST_CUSTOMERS, LEAST_CUSTOMERS_A_FEATURE * len(basis))
    reason = "few_customers" if len(features) < needed else "few_features" if len(basis) < 2 else None
    if reason:
        none = pd.Series(None, index=features.index, dtype="str", name="cluster")
        empty = pd.DataFrame()
        return Segments(none, basis, None, empty, empty, {}, reason, needed, ADVISED_CUSTOMERS_A_FEATURE * len(basis))
    X, spend = features[list(basis)].to_numpy(dtype=float), features["spend"].to_numpy(dtype=float)
    search = search_clusters(X, clusters_max, bootstrap_pairs, seed)
    model = CustomerSegmenter(search.n_clusters, min_size=small_group, random_state=seed).fit(X, value=spend)
    letter = np.array([chr(ord("A") + i) for i in range(len(model.centers_))])
    again = segment_stability(X, model.labels_, samples=2 * bootstrap_pairs, seed=seed)
    profiles = profile(features.drop(columns="customer_id"), model.labels_, deviation)
    profiles["basis"] = profiles["feature"].isin(basis)
    named = segment_markers(profiles, basis=list(basis))
    sizes = features.groupby(letter[model.labels_])["spend"].agg(customers="size", sales="sum")
    sizes = sizes.rename_axis("segment").reset_index().assign(jaccard=again)
    sizes["share_customers"] = sizes["customers"] / sizes["customers"].sum()
    sizes["share_sales"] = sizes["sales"] / sizes["sales"].sum()
    return Segments(
        labels=pd.Series(letter[model.labels_], index=features.index, name="cluster", dtype="str"),
        basis=basis,
        search=search,
        sizes=sizes[["segment", "customers", "share_customers", "sales", "share_sales", "jaccard"]],
        profiles=profiles.assign(segment=letter[profiles["segment"]]),
        markers={str(letter[s]): m for s, m in named.items()},
        reason=None,
        needed=needed,
        advised=ADVISED_CUSTOMERS_A_FEATURE * len(basis),
    )
