"""Made customers and prospects whose worth hangs on what is known of them, and order lines of a few words."""

from datetime import date, timedelta
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

TO = date(2024, 12, 31)


def base(n=1500, seed=1, planted=1.0):
    """The northern and the rich are likelier to be of value."""
    rng = np.random.default_rng(seed)
    region, income = rng.choice(["north", "south", "west"], n), rng.gamma(4, 10_000, n).round()
    score = planted * (1.2 * (region == "north") + 0.00004 * income)
    value = np.exp(score + rng.normal(size=n))
    customers = pd.DataFrame(
        {
            "customer_id": [f"c{i:04d}" for i in range(n)],
            "region": region,
            "income": income.astype(int).astype(str),
            "only_ours": rng.choice(["a", "b"], n),
        }
    )
    return customers, customers[["customer_id"]].assign(value=value)


def others(n=400, seed=2, regions=("north", "south", "west")):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "prospect_id": [f"p{i:03d}" for i in range(n)],
            "source": "fair",
            "prospect_region": rng.choice(regions, n),
            "income": rng.gamma(4, 10_000, n).round().astype(int).astype(str),
            "consent_email": rng.choice([True, False, None], n),
        }
    )


def order_lines(rows):
    """Rows of (customer, days ago, amount); a negative amount is a return."""
    made = [
        {
            "order_id": f"o{i}",
            "line_number": 1,
            "customer_id": c,
            "order_date": TO - timedelta(days=int(ago)),
            "net_amount": Decimal(str(amount)),
            "is_return": amount < 0,
        }
        for i, (c, ago, amount) in enumerate(rows)
    ]
    return ibis.memtable(pa.Table.from_pylist(made))
