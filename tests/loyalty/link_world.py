"""A small company and what its customers are expected to bring."""

import pandas as pd

from analysis.simulate.small import OBSERVED_TO, SmallCompany
from analysis.valuation import ParetoNBD, weekly_discount

__all__ = ["OBSERVED_TO", "SmallCompany", "value_of"]


def value_of(company: SmallCompany, horizon_weeks: int = 52, discount_rate: float = 0.10) -> pd.DataFrame:
    """customer_id and residual_value, as a purchase model and the mean spend of the base foresee it."""
    summary = company.summary()
    weeks = summary["frequency"], summary["recency"] / 7, summary["T"] / 7
    discount = weekly_discount(discount_rate)
    purchases = ParetoNBD(*weeks).fit().expected_purchases(horizon_weeks, *weeks, discount=discount)
    money = purchases * summary["spend"].sum() / (summary["frequency"] + 1).sum() / 3
    return pd.DataFrame({"customer_id": summary["customer_id"], "residual_value": money})
