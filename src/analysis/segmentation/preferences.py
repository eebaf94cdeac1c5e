"""What each customer likes: categories and price level, trusted by how much is known, and how many categories they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import minimize
from scipy.special import digamma, gammaln, polygamma

from analysis.segmentation.features import widest_category
from analysis.valuation.summary import MONEY, to_frame, within

MOST_CATEGORIES = 30
OTHER = "other"
ALIKE = 1e7  # concentration beyond which customers do not differ by anything that data could show
_PLACE = "decimal(18, 8)"


# -- counts, in the engine -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CategoryCounts:
    """What each customer bought of each category: lines sold, not money.

    Attributes
    ----------
    customers : shape (n,), customer_id, sorted.
    counts : frame of shape (n, categories), lines sold, most bought category first, ``other`` last where categories were
        pooled.
    price : frame with one row a customer: price_lines (lines whose price is known), price_sum, price_squares (sums of the
        lines' price places, 0 cheapest to 1 dearest of the category, and of their squares).
    level : the category level used. pooled : how many categories went into ``other``.
    reason : None, ``no_products``, ``no_categories`` or ``no_purchases``; the frames are then empty.
    """

    customers: pd.Series
    counts: pd.DataFrame
    price: pd.DataFrame
    level: str | None
    pooled: int
    reason: str | None


def category_counts(
    order_lines: ibis.Table,
    observed_to: date,
    products: pd.DataFrame | None,
    level: str | None = None,
    most: int = MOST_CATEGORIES,
) -> CategoryCounts:
    """Count each customer's lines by category, and place each line in its category's prices; one row a customer.

    A product's price is what was charged for it before discount, divided by the pieces sold. Its place is the share of the
    category's lines sold at a lower price (half of those at the same price counted), so it means the same in every category.

    Parameters
    ----------
    order_lines : Ibis table of the canonical columns; product_id is needed.
    observed_to : the last observed day.
    products : frame with product_id and category levels from wide to narrow, or None.
    level : category level; by default the first that tells products apart.
    most : categories counted one by one; the rest is pooled as ``other``.

    Raises
    ------
    ValueError
        ``level`` is no column of ``products``, or ``most`` is less than 2.
    """
    if most < 2:
        raise ValueError(f"preferences: most must be at least 2 categories, not {most}")
    if level is not None and products is not None and level not in products.columns:
        raise ValueError(f"preferences: products have no column {level!r}")
    chosen = level or widest_category(products)
    if products is None or "product_id" not in order_lines.columns or products.empty:
        return _no_counts(chosen, "no_products")
    if chosen is None:
        return _no_counts(None, "no_categories")
    sold = within(order_lines, observed_to)
    sold = sold.filter(~sold.is_return & sold.product_id.notnull())
    priced = _product_prices(sold, products, chosen)
    if priced.empty:
        return _no_counts(chosen, "no_purchases")
    totals = priced.groupby("category")["lines"].sum().sort_index().sort_values(ascending=False, kind="stable")
    names = list(totals.index[:most]) if len(totals) <= most else list(totals.index[: most - 1])
    pooled = len(totals) - len(names)
    code = {name: i for i, name in enumerate(names)}
    priced["code"] = priced["category"].map(code).fillna(len(names)).astype("int64")
    frame = _by_customer(sold, priced, len(names) + bool(pooled))
    counts = frame.filter(regex="^c[0-9]+$").set_axis([*names, *([_free(OTHER, names)] if pooled else [])], axis=1)
    price = frame[["price_lines", "price_sum", "price_squares"]].astype(float)
    return CategoryCounts(frame["customer_id"], counts, price, chosen, pooled, None)


def _no_counts(level: str | None, reason: str) -> CategoryCounts:
    return CategoryCounts(pd.Series(dtype="str", name="customer_id"), pd.DataFrame(), pd.DataFrame(), level, 0, reason)


def _free(name: str, names: Sequence[str]) -> str:
    while name in names:
        name += " "
    return name


def _product_prices(sold: ibis.Table, products: pd.DataFrame, level: str) -> pd.DataFrame:
    """One row a product sold that has a category: product_key, category, lines, place (in its category's prices, or NaN)."""
    gross = sold.net_amount.cast(MONEY)
    if "discount" in sold.columns:
        gross = gross + sold.discount.cast(MONEY).fill_null(0)
    by_product = sold.group_by(sold.product_id.cast("string").name("product_key")).aggregate(
        lines=sold.count(), gross=gross.sum().cast("float64"), pieces=sold.quantity.sum().cast("float64")
    )
    named = products[["product_id", level]].dropna().astype("string").set_axis(["product_key", "category"], axis=1)
    frame = by_product.to_pyarrow().to_pandas().merge(named.drop_duplicates("product_key"), on="product_key")
    frame = frame.sort_values("product_key", ignore_index=True)
    frame["category"] = frame["category"].astype(object)
    pieces = frame["pieces"].where(frame["pieces"] > 0)
    frame["price"] = (frame["gross"] / pieces).round(6)
    frame["place"] = np.nan
    known = frame["price"].notna()
    frame.loc[known, "place"] = frame[known].groupby("category", group_keys=False)[["price", "lines"]].apply(_places)
    return frame


def _places(category: pd.DataFrame) -> pd.Series:
    lines = category.groupby("price")["lines"].sum().sort_index()
    middle = (lines.cumsum() - lines / 2) / lines.sum()
    return category["price"].map(middle).round(8)


def _by_customer(sold: ibis.Table, priced: pd.DataFrame, categories: int) -> pd.DataFrame:
    codes = priced[["product_key", "code", "place"]].assign(place=priced["place"].astype("Float64"))
    names = ibis.memtable(pa.Table.from_pandas(codes, preserve_index=False))
    joined = sold.mutate(product_text=sold.product_id.cast("string")).join(names, [("product_text", "product_key")])
    # As decimals, so that sums do not depend on the order in which rows are read.
    place = joined.place.cast(_PLACE)
    square = (joined.place * joined.place).cast(_PLACE)
    counted = joined.group_by(joined.customer_id.cast("string").name("customer_id")).aggregate(
        **{f"c{i}": (joined.code == i).cast("int64").sum() for i in range(categories)},
        price_lines=place.count(),
        price_sum=place.sum().cast("float64").fill_null(0.0),
        price_squares=square.sum().cast("float64").fill_null(0.0),
    )
    return to_frame(counted)


# -- tastes --------------------------------------------------------------------------------------------------------------


class DirichletMultinomial:
    """Counts by category whose shares differ between customers as a Dirichlet distribution.

    Parameters
    ----------
    counts : shape (n, categories), whole numbers ≥ 0, one row a customer. Customers without a count say nothing.
    names : of the categories.

    Raises
    ------
    ValueError
        A count is missing, negative or not whole, there are fewer than two categories that anybody bought, or nobody has
        two counts (then how much customers differ cannot be told).

    Notes
    -----
    Mosimann (1962); maximum likelihood as in Minka (2000), *Estimating a Dirichlet distribution*, section 3.
    """

    def __init__(self, counts: ArrayLike, names: Sequence[str] | None = None):
        given = np.asarray(counts, dtype=float)
        if given.ndim != 2 or not np.isfinite(given).all() or (given < 0).any() or (given != np.round(given)).any():
            raise ValueError("preferences: counts must be a table of whole numbers from 0, one row a customer")
        if ((given > 0).any(axis=0)).sum() < 2:
            raise ValueError("preferences: fewer than two categories were bought, so there is nothing to prefer")
        if given.sum(axis=1).max() < 2:
            raise ValueError("preferences: nobody bought twice, so how much tastes differ cannot be told")
        self.names = tuple(names) if names is not None else tuple(str(k) for k in range(given.shape[1]))
        self.counts = given
        self.bought = (given > 0).any(axis=0)
        used = given[given.sum(axis=1) > 0][:, self.bought]
        self.n_customers = len(used)
        # Many customers share a count, so the likelihood is a sum over different counts.
        self._cells = [np.unique(column, return_counts=True) for column in used.T]
        self._totals = np.unique(used.sum(axis=1), return_counts=True)
        self._shares = used.sum(axis=0) / used.sum()

    def loglike(self, alpha: np.ndarray) -> float:
        """Log-likelihood at concentrations of the categories that were bought, without the multinomial coefficients."""
        whole, (totals, weight) = alpha.sum(), self._totals
        value = np.sum(weight * (gammaln(whole) - gammaln(whole + totals)))
        for a, (seen, times) in zip(alpha, self._cells, strict=True):
            value += np.sum(times * (gammaln(a + seen) - gammaln(a)))
        return float(value)

    def score(self, alpha: np.ndarray) -> np.ndarray:
        """Gradient of :meth:`loglike`."""
        whole, (totals, weight) = alpha.sum(), self._totals
        common = np.sum(weight * (digamma(whole) - digamma(whole + totals)))
        own = [np.sum(t * (digamma(a + s) - digamma(a))) for a, (s, t) in zip(alpha, self._cells, strict=True)]
        return common + np.array(own)

    def hessian(self, alpha: np.ndarray) -> np.ndarray:
        """Second derivatives of :meth:`loglike`."""
        whole, (totals, weight) = alpha.sum(), self._totals
        common = np.sum(weight * (polygamma(1, whole) - polygamma(1, whole + totals)))
        own = [
            np.sum(t * (polygamma(1, a + s) - polygamma(1, a))) for a, (s, t) in zip(alpha, self._cells, strict=True)
        ]
        return common + np.diag(own)

    def fit(self) -> TasteResults:
        """Maximum likelihood over the logarithms of the concentrations."""
        best = None
        for strength in (2.0, 30.0):
            found = minimize(
                lambda log: -self.loglike(np.exp(log)),
                np.log(strength * self._shares),
                jac=lambda log: -self.score(np.exp(log)) * np.exp(log),
                method="L-BFGS-B",
                bounds=[(np.log(1e-8), np.log(ALIKE))] * len(self._shares),
                options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-6, "maxfun": 5000},
            )
            best = found if best is None or found.fun < best.fun else best
        return TasteResults(self, np.exp(best.x), -float(best.fun))


class TasteResults:
    """What a :class:`DirichletMultinomial` found.

    Attributes
    ----------
    model : the model. params : Series, concentration a category (0 for one that nobody bought). llf : log-likelihood.
    concentration : their sum: how many lines of one's own weigh as much as all that is known of the others.
    base : Series, the base's expected shares. alike : True when customers do not differ visibly (concentration unbounded).
    """

    def __init__(self, model: DirichletMultinomial, alpha: np.ndarray, llf: float):
        self.model = model
        self._alpha = np.zeros(len(model.names))
        self._alpha[model.bought] = alpha
        self.llf = llf
        self.params = pd.Series(self._alpha, index=list(model.names), name="alpha")
        self.concentration = float(alpha.sum())
        self.base = pd.Series(self._alpha / self.concentration, index=list(model.names), name="base")
        pooled = self._multinomial_llf()
        # Against customers who all have the base's tastes, the statistic is half 0, half chi-square with one degree
        # (Self & Liang 1987); where it is small the concentration has no upper end.
        self.p_value = float(0.5 * stats.chi2.sf(max(2 * (llf - pooled), 0.0), 1))
        self.alike = bool(self.concentration > ALIKE / 100 or self.p_value > 0.05)

    def _multinomial_llf(self) -> float:
        used = self.model.counts[:, self.model.bought].sum(axis=0)
        return float(np.sum(used * np.log(self.model._shares)))

    def _log_covariance(self) -> np.ndarray:
        alpha = self._alpha[self.model.bought]
        gradient, curve = self.model.score(alpha), self.model.hessian(alpha)
        information = -(curve * np.outer(alpha, alpha) + np.diag(gradient * alpha))
        return np.linalg.pinv(information, hermitian=True)

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the concentrations, by the delta method from their logarithms; NaN where nobody bought."""
        error = np.full(len(self._alpha), np.nan)
        alpha = self._alpha[self.model.bought]
        error[self.model.bought] = alpha * np.sqrt(np.clip(np.diag(self._log_covariance()), 0, None))
        return pd.Series(error, index=self.params.index, name="bse")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals of the concentrations, on the log scale: columns 0 and 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.exp(stats.norm.ppf(1 - alpha / 2) * (self.bse / self.params).to_numpy())
        return pd.DataFrame({0: self.params / reach, 1: self.params * reach})

    @property
    def loyalty(self) -> float:
        """Intra-customer correlation 1 / (1 + concentration): 0 when all have the base's tastes, 1 when each sticks to one."""
        return 1.0 / (1.0 + self.concentration)

    def loyalty_interval(self, alpha: float = 0.05) -> tuple[float, float] | None:
        """Interval of :attr:`loyalty` by the delta method on the logarithm of the concentration; None where customers are alike."""
        if self.alike:
            return None
        share = self._alpha[self.model.bought] / self.concentration
        error = float(np.sqrt(max(share @ self._log_covariance() @ share, 0.0)))
        reach = np.exp(stats.norm.ppf(1 - alpha / 2) * error)
        return 1.0 / (1.0 + self.concentration * reach), 1.0 / (1.0 + self.concentration / reach)

    def shares(self, counts: ArrayLike | None = None) -> pd.DataFrame:
        """Posterior mean share of each category, shape (n, categories): (alpha + own count) / (sum of both)."""
        own = self._own(counts)
        return self._frame((self._alpha + own) / (self.concentration + own.sum(axis=1, keepdims=True)))

    def lift(self, counts: ArrayLike | None = None) -> pd.DataFrame:
        """Posterior mean share against the base's: 1 is like the base, 2 twice its share; NaN where nobody bought."""
        return self.shares(counts) / self.base.where(self.base > 0)

    def interval(self, counts: ArrayLike | None = None, alpha: float = 0.05) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Equal-tailed posterior intervals of the shares (beta): two frames of shape (n, categories)."""
        own = self._own(counts)
        first = np.broadcast_to(self._alpha, own.shape) + own
        second = self.concentration + own.sum(axis=1, keepdims=True) - first
        with np.errstate(invalid="ignore"):
            ends = [stats.beta.ppf(q, first, np.maximum(second, 1e-300)) for q in (alpha / 2, 1 - alpha / 2)]
        return tuple(self._frame(np.where(first > 0, end, 0.0)) for end in ends)

    def known(self, counts: ArrayLike | None = None) -> np.ndarray:
        """Weight of the customer's own purchases in their shares, n / (n + concentration): shape (n,)."""
        total = self._own(counts).sum(axis=1)
        return total / (total + self.concentration)

    def repertoire(self, counts: ArrayLike | None = None) -> pd.DataFrame:
        """How many categories each customer holds, beside how many one with as many purchases holds on average.

        Returns
        -------
        Frame of shape (n, …): held, expected (under the model, given how many lines they bought), ratio (NaN without a
        purchase). Source: Goodhardt, Ehrenberg & Chatfield (1984), section 5, by the marginal beta-binomials.
        """
        own = self._own(counts)
        total, each = np.unique(own.sum(axis=1), return_inverse=True)
        rest = self.concentration - self._alpha
        never = np.exp(
            gammaln(rest + total[:, None])
            - gammaln(np.maximum(rest, 1e-300))
            - gammaln(self.concentration + total[:, None])
            + gammaln(self.concentration)
        )
        expected = (1.0 - np.clip(never, 0.0, 1.0)).sum(axis=1)[each]
        held = (own > 0).sum(axis=1)
        ratio = np.divide(held, expected, out=np.full(len(own), np.nan), where=expected > 0)
        return pd.DataFrame({"held": held, "expected": expected, "ratio": ratio})

    def summary(self) -> pd.DataFrame:
        """One row a category: alpha, bse, low, high, base (share)."""
        ends = self.conf_int()
        return pd.DataFrame(
            {"alpha": self.params, "bse": self.bse, "low": ends[0], "high": ends[1], "base": self.base}
        ).rename_axis("category")

    def _own(self, counts: ArrayLike | None) -> np.ndarray:
        return self.model.counts if counts is None else np.asarray(counts, dtype=float)

    def _frame(self, values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, columns=list(self.model.names))


# -- price ---------------------------------------------------------------------------------------------------------------


def price_level(price: pd.DataFrame) -> pd.DataFrame:
    """Where each customer buys in the prices of the categories, drawn to the base by how little is known.

    Parameters
    ----------
    price : frame of :class:`CategoryCounts`: price_lines, price_sum, price_squares.

    Returns
    -------
    Frame with one row a customer, in the same order: price_place (posterior mean, 0 cheapest to 1 dearest; 0.5 is the middle),
    low, high (posterior interval at 95 %), known (weight of the customer's own lines, 0 to 1), tier (``low`` or ``high`` where
    the interval leaves out the base's mean, ``middle`` where it does not; null without a priced line).

    Notes
    -----
    A normal model with two levels; variance within and between customers by the analysis of variance (Searle, Casella &
    McCulloch 1992, section 3.6).
    """
    n, total, squares = (price[c].to_numpy(dtype=float) for c in ("price_lines", "price_sum", "price_squares"))
    seen = n > 0
    mean = np.divide(total, n, out=np.full(len(n), np.nan), where=seen)
    lines, customers = n.sum(), int(seen.sum())
    if customers == 0:
        blank = np.full(len(n), np.nan)
        tier = pd.Series([None] * len(n), dtype=object)
        return pd.DataFrame(
            {"price_place": blank, "low": blank, "high": blank, "known": np.zeros(len(n)), "tier": tier}
        )
    grand = total.sum() / lines
    within = max(float(np.sum(squares[seen] - n[seen] * mean[seen] ** 2)), 0.0) / max(lines - customers, 1.0)
    between = 0.0
    if customers > 1 and lines > customers:
        spread = float(np.sum(n[seen] * (mean[seen] - grand) ** 2)) / (customers - 1)
        size = (lines - np.sum(n**2) / lines) / (customers - 1)
        between = max((spread - within) / size, 0.0)
    # With nothing within, what was seen of a customer is all there is to know.
    noise = np.divide(within, n, out=np.full(len(n), np.inf), where=seen)
    known = between / (between + noise) if within > 0 or between == 0 else seen.astype(float)
    known = np.nan_to_num(known, nan=0.0)
    middle = float(np.average(mean[seen], weights=known[seen] if known[seen].sum() > 0 else n[seen]))
    place = np.where(seen, middle + known * (np.where(seen, mean, middle) - middle), np.nan)
    reach = stats.norm.ppf(0.975) * np.sqrt(between * (1.0 - known))
    low, high = np.clip(place - reach, 0, 1), np.clip(place + reach, 0, 1)
    tier = np.select([~seen, low > middle, high < middle], [None, "high", "low"], "middle")
    return pd.DataFrame(
        {"price_place": place, "low": low, "high": high, "known": known, "tier": pd.Series(tier, dtype=object)}
    )


# -- segments ------------------------------------------------------------------------------------------------------------


def segment_affinity(
    tastes: TasteResults, labels: ArrayLike, small_group: int = 10, confidence: float = 0.95
) -> pd.DataFrame:
    """How much more than all customers each segment goes for each category.

    A segment's share is the mean of its customers' own shares, weighted by how well each is known (n / (n + concentration)),
    which is nearly as precise as can be and leans to nobody's side. Lift is that share over the same of all customers.

    Parameters
    ----------
    tastes : fitted on the counts of the same customers, in the same order.
    labels : shape (n,), segments; null for those without one, who count among all.
    small_group : smaller segments are left out; a category that fewer of a segment's customers bought gets no interval, because
        one of them could decide it.

    Returns
    -------
    One row a segment × category: segment, category, customers, buyers, share, base, lift, low, high (interval of the lift
    over customers, by the delta method on its logarithm; NaN where there is none), differs (bool: does the interval, widened
    for all the cells together by Šidák, leave out 1?).

    Raises
    ------
    ValueError
        Labels and customers differ in number.
    """
    counts, names = tastes.model.counts, list(tastes.model.names)
    labels = pd.Series(np.asarray(labels, dtype=object))
    if len(labels) != len(counts):
        raise ValueError(f"affinity: {len(counts)} customers and {len(labels)} segments; give one segment a customer")
    total = counts.sum(axis=1)
    weight = tastes.known()
    own = np.divide(counts, total[:, None], out=np.zeros_like(counts), where=total[:, None] > 0)
    base = weight @ own / weight.sum()
    base_pull = weight[:, None] * (own - base) / weight.sum()
    sizes = labels[total > 0].value_counts()
    groups = sorted(g for g in sizes.index if sizes[g] >= small_group)
    cells = max(len(groups) * int((base > 0).sum()), 1)
    z, wide = (stats.norm.ppf((1 + c) / 2) for c in (confidence, confidence ** (1 / cells)))
    rows = []
    for group in groups:
        member = (labels == group).to_numpy() & (total > 0)
        inside = weight * member
        share = inside @ own / inside.sum()
        pull = inside[:, None] * (own - share) / inside.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            lift = share / base
            error = np.sqrt(np.sum((pull / share - base_pull / base) ** 2, axis=0))
        buyers = (counts[member] > 0).sum(axis=0)
        certain = (buyers >= small_group) & (error > 1e-9)
        rows.append(
            pd.DataFrame(
                {
                    "segment": group,
                    "category": names,
                    "customers": int(member.sum()),
                    "buyers": buyers,
                    "share": share,
                    "base": base,
                    "lift": lift,
                    "low": np.where(certain, lift * np.exp(-z * error), np.nan),
                    "high": np.where(certain, lift * np.exp(z * error), np.nan),
                    "differs": certain & (np.abs(np.log(np.where(certain, lift, 1.0))) > wide * error),
                }
            )
        )
    columns = ["segment", "category", "customers", "buyers", "share", "base", "lift", "low", "high", "differs"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


# -- one row a customer --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preferences:
    """Tastes, price level and repertoire of every customer.

    Attributes
    ----------
    found : :class:`CategoryCounts`. tastes : fitted model; None with a ``reason``.
    customers : one row a customer, sorted by customer_id: customer_id, lines, known (weight of their own purchases),
        favourite (category with the largest lift of those held; null without a purchase of a known category), favourite_share,
        favourite_lift, held, expected, ratio (repertoire), price_place, price_tier.
    reason : None, ``no_products``, ``no_categories``, ``no_purchases``, ``one_category`` or ``one_purchase``.
    """

    found: CategoryCounts
    tastes: TasteResults | None
    customers: pd.DataFrame
    reason: str | None


def customer_preferences(found: CategoryCounts) -> Preferences:
    """What each customer likes, from the counts of :func:`category_counts`."""
    empty = pd.DataFrame({"customer_id": found.customers})
    if found.reason:
        return Preferences(found, None, empty, found.reason)
    counts = found.counts.to_numpy(dtype=float)
    if ((counts > 0).any(axis=0)).sum() < 2:
        return Preferences(found, None, empty, "one_category")
    if counts.sum(axis=1).max() < 2:
        return Preferences(found, None, empty, "one_purchase")
    tastes = DirichletMultinomial(counts, list(found.counts.columns)).fit()
    shares, lift = tastes.shares().to_numpy(), tastes.lift().to_numpy()
    best = np.where(counts > 0, lift, -1.0).argmax(axis=1)
    each = np.arange(len(counts))
    price = price_level(found.price)
    customers = pd.DataFrame(
        {
            "customer_id": found.customers,
            "lines": counts.sum(axis=1).astype("int64"),
            "known": tastes.known(),
            "favourite": np.array(tastes.model.names, dtype=object)[best],
            "favourite_share": shares[each, best],
            "favourite_lift": lift[each, best],
        }
    )
    customers = pd.concat([customers, tastes.repertoire()], axis=1)
    customers["price_place"], customers["price_tier"] = price["price_place"], price["tier"]
    return Preferences(found, tastes, customers, None)
