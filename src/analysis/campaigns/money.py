"""Did it pay: from an effect a household to profit, return and break-even, each with its interval.

The only uncertainty in the intervals is that of the effect; margin and costs are assumptions and are varied beside
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analysis.campaigns.effects import CUPED, DifferenceInMeans, EffectResults, EstimationError


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CampaignProfit:
    """What a campaign earned, from its effect on sales.

    Parameters
    ----------
    effect : incremental net sales a contacted customer. contacts : how many the effect speaks of.
    margin : profit before marketing as a share of net sales, 0 to 1.
    contact_cost : cost of one contact, or None when nobody knows it.
    discounts : in all, price cuts and offers that net sales do not already hold. confidence : of the intervals.
    production : in all, what the campaign cost before its first contact (design, print, set-up).
    taken_off : in all, what coupons took off sales that are net of it. The goods behind it cost the same, so 1 − margin of it is
    lost beside the margin on net sales.

    Raises
    ------
    ValueError
        A margin outside 0 to 1, a negative cost or no contacts.
    """

    effect: EffectResults
    contacts: int
    margin: float
    contact_cost: float | None = None
    discounts: float = 0.0
    confidence: float = 0.95
    production: float = 0.0
    taken_off: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin must lie between 0 and 1, got {self.margin}; write 0.30 for 30 %")
        if self.contacts < 1 or min(self.discounts, self.production, self.taken_off, self.contact_cost or 0) < 0:
            raise ValueError("contacts must be at least 1, costs not negative")

    def _scaled(self, factor: float, shift: float = 0.0) -> Estimate:
        low, high = self.effect.interval(self.confidence)
        return Estimate(factor * self.effect.effect + shift, factor * low + shift, factor * high + shift)

    @property
    def spend(self) -> float | None:
        """What the campaign cost: contacts, offers, goods behind coupons and production; None without a contact cost."""
        return None if self.contact_cost is None else self.contact_cost * self.contacts + self._fixed

    @property
    def _fixed(self) -> float:
        """Costs that do not depend on the cost of a contact."""
        return self.discounts + self.production + (1 - self.margin) * self.taken_off

    def incremental_sales(self) -> Estimate:
        """Effect × contacts."""
        return self._scaled(self.contacts)

    def incremental_margin(self) -> Estimate:
        """Effect × contacts × margin."""
        return self._scaled(self.contacts * self.margin)

    def profit(self) -> Estimate | None:
        """Incremental margin less all that the campaign cost; None without a contact cost."""
        return None if self.spend is None else self._scaled(self.contacts * self.margin, -self.spend)

    def return_on_spend(self) -> Estimate | None:
        """Profit for each unit of money spent on the campaign; None when nothing was spent or the cost is unknown."""
        return self._scaled(self.contacts * self.margin / self.spend, -1.0) if self.spend else None

    def probability_of_profit(self) -> float | None:
        """Share of the effect's sampling distribution that lies above break-even; None without a contact cost."""
        if self.spend is None:
            return None
        if self.margin == 0:
            return 0.0
        gap = self.effect.effect - self.spend / (self.contacts * self.margin)
        if self.effect.se == 0:
            return float(gap > 0)
        return float(stats.t.cdf(gap / self.effect.se, self.effect.dof))

    def break_even_contact_cost(self) -> Estimate:
        """What a contact may cost at most before the campaign loses money; negative when it loses at any cost."""
        return self._scaled(self.margin, -self._fixed / self.contacts)

    def break_even_effect(self) -> float | None:
        """Sales that each contact must bring to pay for itself; None without a contact cost or a margin."""
        return None if self.spend is None or self.margin == 0 else self.spend / self.contacts / self.margin

    def break_even_margin(self) -> Estimate | None:
        """Margin at which the campaign earns nothing; None without a contact cost or when sales did not rise.

        The limits come from the effect's limits, in reverse: the larger the effect, the less margin it takes. A limit
        is infinite where the effect's own limit is not positive.
        """
        if self.spend is None or self.effect.effect <= 0:
            return None
        low, high = self.effect.interval(self.confidence)
        cost = self.spend / self.contacts
        return Estimate(cost / self.effect.effect, cost / high, cost / low if low > 0 else np.inf)

    def break_even_response(self, order_value: float, without: float = 0.0) -> float | None:
        """Share of the contacted who must order for the campaign to earn nothing; None as :meth:`break_even_effect`.

        Parameters
        ----------
        order_value : net sales of an incremental order. without : share who order without the campaign.

        It follows from costs, margin and order value alone, so it has no interval; above 1 no response pays.
        """
        if order_value <= 0 or not 0 <= without <= 1:
            raise ValueError("order_value must be positive and the share without the campaign between 0 and 1")
        needed = self.break_even_effect()
        return None if needed is None else without + needed / order_value

    def cost_per_order(self, orders: EffectResults) -> tuple[Estimate | None, str | None]:
        """What one incremental order cost: spend over contacts × effect on orders.

        Returns
        -------
        The estimate, and None; or None, and why: ``no_contact_cost``, ``no_more_orders`` (the effect on orders is not
        positive). Where only its upper limit is unknown, because the effect's interval holds zero, that limit is
        infinite. The limits are Fieller's (1954) for a numerator without error.
        """
        if self.spend is None:
            return None, "no_contact_cost"
        if orders.effect <= 0:
            return None, "no_more_orders"
        low, high = orders.interval(self.confidence)
        cost = self.spend / self.contacts
        return Estimate(cost / orders.effect, cost / high, cost / low if low > 0 else np.inf), None


def lifetime_effect(
    panel: pd.DataFrame, values: pd.DataFrame, before: Sequence[str] | str | None = None, column: str = "residual_value"
) -> tuple[EffectResults | None, str | None]:
    """What a randomised campaign did to the customers' expected value after it, beside its effect on sales.

    Parameters
    ----------
    panel : one campaign's arm and its control: customer_id, treated, and ``before``. values : the canonical table
    ``customer_value``. before : column or columns of the panel, known before the campaign, that adjust the comparison.
    column : of ``values``, discounted margin.

    Returns
    -------
    The effect a contacted customer, in the unit of ``column``, and None; or None, and why: ``no_value`` (fewer than half
    of the customers have one, or some stand in the table without), or the estimator's reason. Who is not in the table never
    bought and counts as 0: a campaign that wins first purchases must not be judged by those who had made one. The value is a
    model's, fitted on both arms together: it carries a campaign's effect only through the purchases and the time of the
    last one.
    """
    if values is None or column not in values:
        return None, "no_value"
    joined = panel.merge(values[["customer_id", column]], on="customer_id", how="left", indicator=True)
    valued = joined.pop("_merge") == "both"
    if valued.mean() < 0.5 or joined.loc[valued, column].isna().any():
        return None, "no_value"
    joined[column] = joined[column].fillna(0.0)
    y, d = joined[column].to_numpy(float), joined["treated"].to_numpy()
    try:
        if before is None:
            return DifferenceInMeans(y, d).fit(), None
        return CUPED(y, d, joined[[before] if isinstance(before, str) else list(before)].to_numpy(float)).fit(), None
    except EstimationError as error:
        return None, error.code


def break_even_line(profit: CampaignProfit, contact_costs: ArrayLike) -> pd.DataFrame:
    """Profit a contact at several contact costs: contact_cost, profit, low, high (money a contact)."""
    costs = np.asarray(contact_costs, dtype=float)
    ceiling = profit.break_even_contact_cost()
    return pd.DataFrame(
        {
            "contact_cost": costs,
            "profit": ceiling.value - costs,
            "low": ceiling.low - costs,
            "high": ceiling.high - costs,
        }
    )


def scenarios(
    effect: EffectResults,
    contacts: int,
    margins: ArrayLike,
    contact_costs: ArrayLike,
    discounts: float = 0.0,
    confidence: float = 0.95,
    production: float = 0.0,
    taken_off: float = 0.0,
) -> pd.DataFrame:
    """Profit over the range of the assumptions: one row a margin × contact cost.

    Returns
    -------
    margin, contact_cost, profit, low, high, probability (of profit above zero), break_even (highest contact cost that
    pays).
    """
    rows = []
    for margin in np.unique(np.asarray(margins, dtype=float)):
        for cost in np.unique(np.asarray(contact_costs, dtype=float)):
            case = CampaignProfit(
                effect, contacts, float(margin), float(cost), discounts, confidence, production, taken_off
            )
            found = case.profit()
            rows.append(
                (
                    margin,
                    cost,
                    found.value,
                    found.low,
                    found.high,
                    case.probability_of_profit(),
                    case.break_even_contact_cost().value,
                )
            )
    return pd.DataFrame(rows, columns=["margin", "contact_cost", "profit", "low", "high", "probability", "break_even"])
