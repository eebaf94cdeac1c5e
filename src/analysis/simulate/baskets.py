"""What is in an order: a catalogue with a hierarchy, tastes, pairs that belong together and pairs that do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.simulate.people import People
from analysis.simulate.purchases import Occasions

DEPARTMENTS = {
    "Fresh": ("Fruit", "Vegetables", "Bread", "Meat", "Dairy"),
    "Pantry": ("Noodles", "Sauces", "Snacks", "Sweets", "Breakfast"),
    "Drinks": ("Water", "Juice", "Coffee and tea", "Wine"),
    "Household": ("Cleaning", "Paper", "Kitchenware", "Pet food"),
    "Care": ("Skin", "Hair", "Teeth", "Baby"),
}
CATEGORIES = tuple((department, category) for department, names in DEPARTMENTS.items() for category in names)


@dataclass(frozen=True)
class Special:
    """A product outside the common assortment, put into baskets by a rule of its own.

    Attributes
    ----------
    chance : that an order holds it. given : name of another special product; with that one in the order the chance is
    ``chance_given`` instead. from_day : when it was launched.
    """

    sku: str
    name: str
    department: str
    category: str
    price: float
    chance: float
    given: str | None = None
    chance_given: float = 0.0
    from_day: float = 0.0


SPECIALS = (
    Special("S001", "Beer, six cans", "Drinks", "Beer", 36.0, 0.060),
    Special("S002", "Diapers", "Care", "Baby", 79.0, 0.030, given="S001", chance_given=0.240),
    Special("S003", "Pancake mix", "Pantry", "Breakfast", 19.0, 0.040),
    Special("S004", "Maple syrup", "Pantry", "Breakfast", 32.0, 0.015, given="S003", chance_given=0.360),
    Special("S005", "Candles", "Household", "Kitchenware", 22.0, 0.050),
    Special("S006", "Batteries", "Household", "Kitchenware", 25.0, 0.045),  # with candles only by chance
    Special("S007", "Sea salt", "Pantry", "Sauces", 12.0, 0.035),
    Special("S008", "Oat drink", "Drinks", "Juice", 15.0, 0.080, from_day=420.0),  # the launch
)


@dataclass(frozen=True)
class BasketPlan:
    """What is planted about baskets.

    Attributes
    ----------
    products_per_category : of the common assortment. lines : mean number of common lines beyond the first.
    taste : concentration of a customer's Dirichlet tastes over categories; small is choosy. promoted : share of lines on
    promotion. returned : share of lines brought back. web : mean share of orders placed on line. stores : a region.
    """

    products_per_category: int = 10
    lines: float = 1.6
    taste: float = 12.0
    promoted: float = 0.15
    returned: float = 0.0
    web: float = 0.3
    stores: int = 4
    specials: tuple[Special, ...] = SPECIALS


@dataclass(frozen=True)
class Lines:
    """Order lines and returns, flat, in order of time; arrays of shape (lines,), money in whole cents.

    Attributes
    ----------
    order : number of the order or return in the batch, counted in order of time. number : line of the order, from 1.
    owner, day, product : whose, when, and the row of the catalogue. quantity : negative for a return, as ``net`` is.
    unit : price of one. discount, cost : of the line, never negative. web : ordered on line. store : number in the region.
    is_return : whether it is brought back.
    """

    order: NDArray[np.int64]
    number: NDArray[np.int64]
    owner: NDArray[np.int32]
    day: NDArray[np.float64]
    product: NDArray[np.int32]
    quantity: NDArray[np.int64]
    unit: NDArray[np.int64]
    discount: NDArray[np.int64]
    net: NDArray[np.int64]
    cost: NDArray[np.int64]
    web: NDArray[np.bool_]
    store: NDArray[np.int8]
    is_return: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.day)

    def take(self, rows: NDArray) -> Lines:
        """The chosen rows."""
        return Lines(**{name: array[rows] for name, array in vars(self).items()})

    @property
    def margin(self) -> NDArray[np.int64]:
        """Net amount less cost; a return gives its cost back."""
        return self.net - np.where(self.is_return, -self.cost, self.cost)


def catalogue(plan: BasketPlan, rng: np.random.Generator) -> pd.DataFrame:
    """All products: sku, name, department, category, list_price (CNY), margin (share), launched_day, popularity.

    The common assortment comes first, category by category in the order of ``CATEGORIES``, then the special products.
    """
    per, n = plan.products_per_category, len(CATEGORIES)
    level = np.repeat(np.exp(rng.normal(3.0, 0.5, n)), per)
    common = pd.DataFrame(
        {
            "sku": [f"P{c:02d}{k:03d}" for c in range(1, n + 1) for k in range(1, per + 1)],
            "name": [f"{category} {k}" for _, category in CATEGORIES for k in range(1, per + 1)],
            "department": np.repeat([department for department, _ in CATEGORIES], per),
            "category": np.repeat([category for _, category in CATEGORIES], per),
            "list_price": np.round(level * np.exp(rng.normal(0.0, 0.3, n * per)), 1).clip(2.0),
            "margin": np.repeat(np.round(rng.uniform(0.2, 0.5, n), 2), per),
            "launched_day": 0.0,
            "popularity": np.tile(1.0 / np.arange(1, per + 1), n),
        }
    )
    special = pd.DataFrame(
        {
            "sku": [s.sku for s in plan.specials],
            "name": [s.name for s in plan.specials],
            "department": [s.department for s in plan.specials],
            "category": [s.category for s in plan.specials],
            "list_price": [s.price for s in plan.specials],
            "margin": 0.3,
            "launched_day": [s.from_day for s in plan.specials],
            "popularity": 0.0,
        }
    )
    return pd.concat([common, special], ignore_index=True)


def fill(
    people: People, occasions: Occasions, products: pd.DataFrame, plan: BasketPlan, rng: np.random.Generator
) -> Lines:
    """Baskets for every order, worth what the order is worth, and the lines of them that are brought back.

    An order's value is shared out over its lines; whole pieces at a price near the list price make up each line, so an
    order may differ from its value by some cents.
    """
    owner, order, product = _chosen(people, occasions, products, plan, rng)
    list_price = products["list_price"].to_numpy()[product]
    size = len(occasions)
    weight = list_price * rng.gamma(3.0, 1.0, len(order))
    target = occasions.value[order] * weight / np.bincount(order, weight, size)[order]
    quantity = np.maximum(1, np.round(target / list_price)).astype(np.int64)
    promoted = rng.random(len(order)) < plan.promoted
    reduced = np.where(promoted, rng.choice([0.1, 0.2, 0.3], len(order)), 0.0)
    net = np.maximum(1, np.round(100 * target / quantity)).astype(np.int64) * quantity
    unit = np.ceil(net / quantity / (1 - reduced)).astype(np.int64)
    discount = unit * quantity - net
    cost = np.round(net * (1 - products["margin"].to_numpy()[product])).astype(np.int64)
    # A coupon is shared out in proportion; what rounding leaves over goes to the order's first line.
    worth = np.bincount(order, net, size)
    coupon = np.minimum(np.round(100 * occasions.coupon), worth)
    taken = np.floor(net * (coupon / np.maximum(worth, 1))[order]).astype(np.int64)
    first = np.flatnonzero(np.r_[True, order[1:] != order[:-1]])[: len(order)]
    rest = (coupon[order[first]] - np.bincount(order, taken, size)[order[first]]).astype(np.int64)
    taken[first] += np.minimum(rest, net[first] - taken[first])
    web_share = rng.beta(4 * plan.web, 4 * (1 - plan.web), len(people))
    web = (rng.random(size) < web_share[occasions.owner])[order]
    store = rng.integers(1, plan.stores + 1, len(people)).astype(np.int8)[owner]
    sold = Lines(
        order,
        np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) + 1,
        owner,
        occasions.day[order],
        product,
        quantity,
        unit,
        discount + taken,
        net - taken,
        cost,
        web,
        store,
        np.zeros(len(order), dtype=bool),
    )
    return _by_time(_with_returns(sold, plan, rng))


def _chosen(
    people: People, occasions: Occasions, products: pd.DataFrame, plan: BasketPlan, rng: np.random.Generator
) -> tuple[NDArray, NDArray, NDArray]:
    """Owner, order and product of every line, each product once an order, in order of the orders."""
    per, n = plan.products_per_category, len(CATEGORIES)
    taste = rng.gamma(plan.taste / n, 1.0, (len(people), n)).astype(np.float32) + 1e-6
    taste = np.cumsum(taste / taste.sum(axis=1, keepdims=True), axis=1)
    count = 1 + rng.poisson(plan.lines, len(occasions))
    order = np.repeat(np.arange(len(occasions)), count)
    drawn = rng.random(len(order), dtype=np.float32)
    category = (taste[occasions.owner[order], :-1] < drawn[:, None]).sum(axis=1)
    popularity = np.cumsum(products["popularity"].to_numpy()[:per])
    product = category * per + np.searchsorted(popularity / popularity[-1], rng.random(len(order)))
    orders, chosen = [order], [product]
    holds: dict[str, NDArray[np.bool_]] = {}
    for k, special in enumerate(plan.specials):
        chance = np.full(len(occasions), special.chance)
        if special.given is not None:
            chance[holds[special.given]] = special.chance_given
        chance[occasions.day < special.from_day] = 0.0
        holds[special.sku] = rng.random(len(occasions)) < chance
        orders.append(np.flatnonzero(holds[special.sku]))
        chosen.append(np.full(len(orders[-1]), n * per + k))
    codes = np.unique(np.concatenate(orders) * len(products) + np.concatenate(chosen))
    order, product = codes // len(products), (codes % len(products)).astype(np.int32)
    return occasions.owner[order], order, product


def _with_returns(sold: Lines, plan: BasketPlan, rng: np.random.Generator) -> Lines:
    """``sold`` and, some days later, the lines that come back whole, each as a return of its own."""
    back = sold.take(np.flatnonzero(rng.random(len(sold)) < plan.returned))
    n_orders = int(sold.order.max()) + 1 if len(sold) else 0
    returned = {
        "order": n_orders + np.arange(len(back)),
        "number": np.ones(len(back), dtype=np.int64),
        "day": back.day + rng.uniform(2.0, 30.0, len(back)),
        "quantity": -back.quantity,
        "net": -back.net,
        "is_return": np.ones(len(back), dtype=bool),
    }
    both = {
        name: np.concatenate([array, returned.get(name, getattr(back, name))]) for name, array in vars(sold).items()
    }
    return Lines(**both)


def _by_time(lines: Lines) -> Lines:
    """Lines in order of time, with orders counted in that order."""
    rows = np.lexsort((lines.number, lines.order, lines.day))
    lines = lines.take(rows)
    new = np.r_[True, lines.order[1:] != lines.order[:-1]][: len(lines)]
    return Lines(**(vars(lines) | {"order": np.cumsum(new)}))
