"""Tiers that an engine gives are those that the frame gives."""

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.segmentation.tiers import add_value_tier, assign_tiers, tier_cuts, tier_cuts_on_engine

ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from([1, 2, 4, 8, 27, 60, 64, 100, 125])), st.integers(0, 400)),
    min_size=1,
    max_size=80,
).filter(lambda rows: any(product is not None for product, _ in rows))


@settings(max_examples=25)
@given(ROWS, st.sampled_from([0, 90]))
def test_cuts_and_tiers_agree(rows, too_early_days):
    frame = pd.DataFrame(
        {
            "customer_id": [f"{i:03}" for i in range(len(rows))],
            "rfm_product": pd.array([p for p, _ in rows], dtype="Int64"),
            "T": [float(t) for _, t in rows],
        }
    )
    product = frame["rfm_product"].to_numpy(dtype=float, na_value=np.nan)
    table = ibis.memtable(frame)
    cuts = tier_cuts_on_engine(table)
    assert cuts == tier_cuts(product)
    found = add_value_tier(table, cuts, too_early_days).order_by("customer_id").to_pyarrow()["value_tier"].to_pylist()
    expected = assign_tiers(product, frame["T"].to_numpy(), too_early_days)[0]
    assert found == [None if tier != tier else tier for tier in expected]
    ageless = add_value_tier(table.drop("T"), cuts).order_by("customer_id").to_pyarrow()["value_tier"].to_pylist()
    assert ageless == [None if tier != tier else tier for tier in assign_tiers(product)[0]]


def test_nobody_with_a_product_is_refused():
    table = ibis.memtable(pd.DataFrame({"rfm_product": pd.array([None, None], dtype="Int64")}))
    with pytest.raises(ValueError, match="no customer has an rfm_product"):
        tier_cuts_on_engine(table)
