"""Gaussian mixtures beside k-means: for groups that are long, or wide and narrow side by side."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from analysis.segmentation.scaling import MixedScaler

FORMS = ("diag", "full")
FLOOR = 1e-2  # least variance of a component, in scaled units


def fit_mixture(Z: np.ndarray, k: int, form: str = "full", n_init: int = 1, seed=None) -> GaussianMixture:
    """A mixture of k normals by maximum likelihood (EM; Fraley & Raftery 2002).

    EM starts from k-means on the customers as they are, and from k-means on customers made round (rotated to principal axes of
    equal spread; Scrucca & Raftery 2015), which sees long groups that lie side by side; the likelier result is kept.

    Parameters
    ----------
    Z : shape (n, n_features), scaled. k : components. form : of their covariances, ``diag`` or ``full``.
    n_init : times both starts are made. seed : of the starts.
    """
    best = None
    spaces = (Z, _round(Z)) if k > 1 else (Z,)
    for i in range(n_init if k > 1 else 1):
        for space in spaces:
            start = _start(Z, space, k, form, None if seed is None else seed + i)
            model = GaussianMixture(k, covariance_type=form, reg_covar=FLOOR, random_state=seed, max_iter=200, **start)
            with warnings.catch_warnings():
                # A mixture of one cloud has a flat likelihood; where EM stops on it does not matter to a comparison by BIC.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(Z)
            best = model if best is None or model.lower_bound_ > best.lower_bound_ else best
    return best


def _round(Z: np.ndarray) -> np.ndarray:
    left, sizes, _ = np.linalg.svd(Z - Z.mean(axis=0), full_matrices=False)
    return left[:, sizes > 1e-9 * max(sizes.max(), 1e-300)] * np.sqrt(len(Z)) if sizes.max() > 0 else Z


def _start(Z: np.ndarray, space: np.ndarray, k: int, form: str, seed) -> dict[str, np.ndarray]:
    """Weights, means and precisions of the groups that k-means finds in ``space``."""
    if len(np.unique(space[: 50 * k], axis=0)) < k and len(np.unique(space, axis=0)) < k:
        return {}
    labels = KMeans(k, n_init=2, random_state=seed).fit(space).labels_
    means, precisions = [], []
    for j in range(k):
        own = Z[labels == j]
        spread = np.atleast_2d(np.cov(own, rowvar=False, bias=True)) + FLOOR * np.eye(Z.shape[1])
        means.append(own.mean(axis=0))
        precisions.append(1 / np.diag(spread) if form == "diag" else np.linalg.inv(spread))
    weights = np.bincount(labels, minlength=k) / len(labels)
    return {"weights_init": weights, "means_init": np.array(means), "precisions_init": np.array(precisions)}


def mixture_criteria(Z: np.ndarray, clusters_max: int, seed=None) -> pd.DataFrame:
    """BIC of mixtures with 1 to ``clusters_max`` components, the better form of covariance for each.

    Parameters
    ----------
    Z : shape (n, n_features), scaled.

    Returns
    -------
    One row a number: segments, bic (the smaller the better; Schwarz 1978), form. Numbers whose parameters would outnumber a
    third of the customers are left out.
    """
    rows = []
    for k in range(1, clusters_max + 1):
        tried = []
        for form in FORMS:
            if 3 * _parameters(k, Z.shape[1], form) <= len(Z):
                tried.append((float(fit_mixture(Z, k, form, seed=seed).bic(Z)), form))
        if tried:
            bic, form = min(tried)
            rows.append({"segments": k, "bic": bic, "form": form})
    return pd.DataFrame(rows, columns=["segments", "bic", "form"])


def _parameters(k: int, d: int, form: str) -> int:
    return k - 1 + k * d + k * (d if form == "diag" else d * (d + 1) // 2)


def covariances(model: GaussianMixture) -> np.ndarray:
    """Covariance matrices of the components, shape (k, n_features, n_features)."""
    if model.covariance_type == "diag":
        return np.array([np.diag(c) for c in model.covariances_])
    return model.covariances_


class MixtureSegmenter(ClusterMixin, BaseEstimator):
    """Segments by a Gaussian mixture, numbered by business value as those of ``CustomerSegmenter`` are.

    Parameters
    ----------
    n_clusters : number of components.
    form : of the covariances, ``diag`` or ``full``.
    n_init : times both starts are made; the best is kept.
    min_size : components with fewer customers are dropped, and their customers placed in the likeliest other.
    random_state : seed.
    max_rows : the mixture is fitted to a sample of this many customers when there are more.

    Attributes
    ----------
    labels_ : array of shape (n,). centers_ : array of shape (segments, columns), means, scaled.
    scaler_ : fitted scaler. mixture_ : fitted ``GaussianMixture``. merged_ : how many segments were merged away.
    """

    def __init__(
        self,
        n_clusters: int = 4,
        form: str = "full",
        n_init: int = 5,
        min_size: int = 1,
        random_state: int | None = None,
        max_rows: int = 20_000,
    ):
        self.n_clusters = n_clusters
        self.form = form
        self.n_init = n_init
        self.min_size = min_size
        self.random_state = random_state
        self.max_rows = max_rows

    def fit(self, X, y=None, value: np.ndarray | None = None):
        """Find segments.

        Parameters
        ----------
        X : shape (n, n_features), behaviour in its own units; a frame may hold text columns.
        value : shape (n,), what orders the segments (spend); the first scaled column when None.
        """
        self.scaler_ = MixedScaler(soft=True).fit(X)
        Z = self.scaler_.transform(X)
        self.mixture_ = fit_mixture(
            Z[sampled(len(Z), self.max_rows)], self.n_clusters, self.form, self.n_init, self.random_state
        )
        value = Z[:, 0] if value is None else np.asarray(value, dtype=float)
        self.order_ = np.arange(self.n_clusters)
        while len(self.order_) > 1:
            sizes = np.bincount(self._place(Z), minlength=len(self.order_))
            if sizes.min() >= self.min_size:
                break
            self.order_ = np.delete(self.order_, sizes.argmin())
        labels, means = self._place(Z), self.mixture_.means_[self.order_]
        worth = np.array([value[labels == j].mean() if (labels == j).any() else -np.inf for j in range(len(means))])
        self.order_ = self.order_[np.lexsort((*means.T[::-1], -worth))]
        self.merged_ = self.n_clusters - len(self.order_)
        self.centers_ = self.mixture_.means_[self.order_]
        self.labels_ = self._place(Z)
        self.n_features_in_ = self.scaler_.n_features_in_
        return self

    def predict(self, X) -> np.ndarray:
        """Segment of each row of X, shape (n,)."""
        check_is_fitted(self)
        return self._place(self.scaler_.transform(X))

    def predict_proba(self, X) -> np.ndarray:
        """Probability of each segment, shape (n, segments)."""
        check_is_fitted(self)
        kept = self.mixture_.predict_proba(self.scaler_.transform(X))[:, self.order_]
        return kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-300)

    def _place(self, Z: np.ndarray) -> np.ndarray:
        return self.mixture_.predict_proba(Z)[:, self.order_].argmax(axis=1)


def sampled(n: int, rows: int) -> np.ndarray:
    """Row numbers of a random sample without replacement, in order: the same whatever the seed of the analysis.

    A sample that moved with the seed would move the segments with it.
    """
    return np.arange(n) if n <= rows else np.sort(np.random.default_rng(0).choice(n, rows, replace=False))
