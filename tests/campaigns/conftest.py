"""A small company whose campaigns have a known effect."""

import datetime as dt
from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pytest

FROM, TO = dt.date(2024, 1, 1), dt.date(2024, 12, 31)


def order_lines(rows):
    """Canonical order lines from (customer_id, order_date, net_amount) rows."""
    frame = pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"])
    frame["order_id"] = [str(i) for i in range(len(frame))]
    table = ibis.memtable(
        frame, schema={"customer_id": "string", "order_date": "date", "net_amount": "float64", "order_id": "string"}
    )
    return table.mutate(
        net_amount=table.net_amount.cast("decimal(18, 4)"), discount=ibis.literal(0).cast("decimal(18, 4)")
    )


def contact_table(rows):
    """Canonical contacts from (campaign_id, customer_id, arm, redeemed) rows."""
    frame = pd.DataFrame(rows, columns=["campaign_id", "customer_id", "arm", "redeemed"])
    return ibis.memtable(
        frame, schema={"campaign_id": "string", "customer_id": "string", "arm": "string", "redeemed": "boolean"}
    )


def simulate(design, effect, customers=400, seed=1, targeting=1.0, reacts_to_last_month=False):
    """One 28-day campaign from 2024-08-01; ``effect`` is money a treated customer, spent on one extra day.

    Customers buy once a week for an amount around their own level; observational targeting follows what they spent in
    the 112 days before (or, with ``reacts_to_last_month``, a level that no purchase shows).
    """
    rng = np.random.default_rng(seed)
    start = dt.date(2024, 8, 1)
    level = rng.gamma(4, 5, customers)
    hidden = rng.normal(size=customers)
    days = np.arange(0, 366, 7)
    amount = np.maximum(
        0.5, rng.normal(level[:, None] + 5 * reacts_to_last_month * hidden[:, None], 3, (customers, len(days)))
    )
    lines = [
        (f"c{i:04}", FROM + dt.timedelta(days=int(days[j] + rng.integers(0, 7))), amount[i, j])
        for i in range(customers)
        for j in range(len(days) - 1)
    ]
    if design == "randomised":
        treated = rng.random(customers) < 0.5
    else:
        seen = amount[:, (days >= 100) & (days < 210)].mean(axis=1)
        driver = hidden if reacts_to_last_month else (seen - seen.mean()) / seen.std()
        treated = rng.random(customers) < 1 / (1 + np.exp(-targeting * driver))
    lines += [(f"c{i:04}", start + dt.timedelta(days=3), effect) for i in np.flatnonzero(treated) if effect > 0]
    arms = ("mail", "control") if design == "randomised" else ("targeted", "untargeted")
    contacts = [
        ("summer", f"c{i:04}", arms[0] if treated[i] else arms[1], bool(treated[i] and i % 3 == 0))
        for i in range(customers)
    ]
    campaigns = pd.DataFrame(
        {
            "campaign_id": ["summer"],
            "name": ["Summer"],
            "starts_on": [start],
            "ends_on": [dt.date(2024, 8, 28)],
            "design": [design],
        }
    )
    return campaigns, order_lines(lines), contact_table(contacts)


@pytest.fixture(scope="session")
def company():
    """The makers of tables, and the first and last day that the data cover."""
    return SimpleNamespace(FROM=FROM, TO=TO, order_lines=order_lines, contact_table=contact_table, simulate=simulate)
