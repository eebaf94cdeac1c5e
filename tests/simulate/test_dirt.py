"""What is planted must be on record, must look as promised, and must leave every other row alone."""

import re
from dataclasses import fields, replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import cleaning, paths
from analysis.simulate import dirt
from analysis.simulate.clock import LAST_DAY, OBSERVED_DAYS, instants
from analysis.simulate.dirt import COMPANY, KINDS, TEXTBOOK, DirtPlan
from analysis.simulate.people import Kind, Level, PeoplePlan, draw

COLUMNS = ["order_no", "line_no", "customer_no", "ordered_at", "sku", "qty", "unit_price", "discount", "amount"]
COLUMNS += ["cost", "channel", "store"]
BY_ROW = [kind for kind in KINDS if kind != "second_id"]
ADDED = [kind for kind in BY_ROW if KINDS[kind].adds]
NOBODY = pd.DataFrame({"customer_id": [], "second_id": [], "since": []}, dtype="str")
EVERYTHING = DirtPlan(**dict.fromkeys(BY_ROW, 0.02), second_id=0.1)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def clean_lines(n: int = 2_000, seed: int = 1) -> pa.Table:
    """Orders of up to three lines in order of time, some brought back, a third of the prices with four digits."""
    r = rng(seed)
    order = np.sort(r.integers(0, max(1, n // 2), n))
    first = np.searchsorted(order, order)
    customer, day = r.integers(1, 101, n)[first], np.sort(r.uniform(0, OBSERVED_DAYS, n))[first]
    back = (r.random(n) < 0.03)[first]
    qty, unit = r.integers(1, 5, n), np.where(r.random(n) < 1 / 3, 120_000, 1_000) + r.integers(0, 900, n)
    discount = np.where(r.random(n) < 0.3, unit * qty // 10, 0)
    sign = np.where(back, -1, 1)
    money = {
        "unit_price": unit,
        "discount": discount,
        "amount": sign * (unit * qty - discount),
        "cost": unit * qty // 2,
    }
    return pa.table(
        {
            "order_no": [f"{'R' if b else 'A'}{o:07d}" for o, b in zip(order, back)],
            "line_no": (np.arange(n) - first + 1).astype(str),
            "customer_no": [f"C{c:08d}" for c in customer],
            "ordered_at": [str(t).replace("T", " ") for t in instants(day)],
            "sku": [f"P{p:03d}" for p in r.integers(1, 60, n)],
            "qty": (sign * qty).astype(str),
            **{name: [f"{Decimal(int(c)) / 100:.2f}" for c in cents] for name, cents in money.items()},
            "channel": ["web" if w else "store" for w in r.random(n) < 0.3],
            "store": [None if s == 0 else f"S{s}" for s in r.integers(0, 4, n)],
        },
        schema=pa.schema([(name, pa.string()) for name in COLUMNS]),
    )


@pytest.fixture(scope="module")
def lines() -> pa.Table:
    return clean_lines()


@pytest.fixture(scope="module")
def second(lines: pa.Table) -> pd.DataFrame:
    """Five people of the hundred who change their number in the middle."""
    numbers = [f"C{c:08d}" for c in (3, 20, 55, 56, 99)]
    dates = ["2023-03-01", "2023-09-09", "2024-01-01", "2024-02-29", "2024-11-30"]
    return pd.DataFrame({"customer_id": numbers, "second_id": [n.replace("C0", "C5") for n in numbers], "since": dates})


@pytest.fixture(scope="module")
def planted(lines: pa.Table, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished table by row number, and its record, with every kind at 2 % and rows counted from 1."""
    return frames(*dirt.dirty_orders(lines, EVERYTHING, rng(), 1, second))


def frames(table: pa.Table, record: pa.Table, first_row: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    finished = table.to_pandas()
    finished.index += first_row
    record = record.to_pandas()
    return finished, record.assign(of=record["of"].astype("Int64"))


def one_kind(lines: pa.Table, kind: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """With 10 % of one kind alone: the record, the planted rows, and the clean rows that they were made from."""
    finished, record = frames(*dirt.dirty_orders(lines, DirtPlan(**{kind: 0.1}), rng(7), 1, NOBODY))
    numbers = record["row_number"].to_numpy()
    adds = KINDS[kind].adds is not None
    clean = lines.to_pandas()
    places = numbers - 1 - (1 + np.arange(len(numbers)) if adds else 0)
    assert len(record) >= 25 and (record["kind"] == kind).all()
    return record, finished.loc[numbers].reset_index(drop=True), clean.iloc[places].reset_index(drop=True)


def differing(planted: pd.DataFrame, clean: pd.DataFrame) -> set[str]:
    return {c for c in COLUMNS if not planted[c].equals(clean[c])}


def books(rows: pd.DataFrame) -> None:
    """Quantity × unit price − discount is the amount, with the sign of the quantity."""
    qty, unit, discount, amount = (rows[c].map(Decimal) for c in ("qty", "unit_price", "discount", "amount"))
    sign = np.where(qty < 0, -1, 1)
    assert (sign * (abs(qty) * unit - discount) == amount).all()


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_plan_names_every_kind_and_every_kind_says_what_is_expected() -> None:
    assert {f.name for f in fields(DirtPlan)} == set(KINDS)
    assert {kind.expected for kind in KINDS.values()} == {"set_aside", "repair", "keep"}
    assert all(0.001 <= rate <= 0.004 for rate in vars(COMPANY).values())
    assert set(vars(TEXTBOOK).values()) == {0.0}


def test_textbook_changes_nothing(lines: pa.Table) -> None:
    table, record = dirt.dirty_orders(lines, TEXTBOOK, rng(), 1, NOBODY)
    assert table.equals(lines)
    assert record.num_rows == 0 and record.schema == dirt.RECORD


def test_same_seed_same_bytes_another_seed_other_rows(lines: pa.Table, second: pd.DataFrame) -> None:
    one, again, other = (dirt.dirty_orders(lines, EVERYTHING, rng(s), 1, second) for s in (1, 1, 2))
    assert one[0].equals(again[0]) and one[1].equals(again[1])
    assert not one[1].equals(other[1])


def test_record_points_at_the_planted_cells(planted: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    finished, record = planted
    assert set(record["kind"]) == set(KINDS)
    assert record["row_number"].is_monotonic_increasing and record["row_number"].is_unique
    assert (record["source"] == "orders").all()
    assert (record["expected"] == record["kind"].map(lambda k: KINDS[k].expected)).all()
    cells = [finished.loc[r.row_number, r.column] for r in record.itertuples()]
    assert cells == record["planted"].tolist()
    assert (record["planted"] != record["original"])[record["kind"] != "duplicate_exact"].all()


def test_of_points_at_the_original(planted: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    finished, record = planted
    copies = record[record["of"].notna()]
    assert set(copies["kind"]) == {k for k in KINDS if KINDS[k].adds == "copy"}
    assert (copies["of"] == copies["row_number"] - 1).all()
    originals = finished.loc[copies["of"].astype(int)]
    assert [row[c] for (_, row), c in zip(originals.iterrows(), copies["column"])] == copies["original"].tolist()
    theirs = finished.loc[copies["row_number"]]
    assert (theirs["line_no"].to_numpy() == originals["line_no"].to_numpy()).all()
    assert [a.endswith(b) for a, b in zip(theirs["order_no"], originals["order_no"])] == [True] * len(copies)
    assert record.loc[record["kind"].isin(ADDED) & record["of"].isna(), "original"].isna().all()


def test_other_rows_are_equal_to_the_bit_and_in_order(
    lines: pa.Table, planted: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    finished, record = planted
    added = record.loc[record["kind"].isin(ADDED), "row_number"]
    assert len(finished) == lines.num_rows + len(added)
    kept = finished.drop(index=added).reset_index()
    touched = kept["index"].isin(record["row_number"])
    clean = lines.to_pandas()
    assert touched.sum() == (~record["kind"].isin(ADDED)).sum() > 0
    pd.testing.assert_frame_equal(kept.loc[~touched, COLUMNS], clean[~touched])
    told = record.set_index("row_number").loc[kept.loc[touched, "index"]]
    assert [row[c] for (_, row), c in zip(clean[touched].iterrows(), told["column"])] == told["original"].tolist()


def test_first_row_is_where_the_batch_begins(lines: pa.Table, second: pd.DataFrame) -> None:
    table, record = dirt.dirty_orders(lines, EVERYTHING, rng(), 1, second)
    later_table, later = dirt.dirty_orders(lines, EVERYTHING, rng(), 5_001, second)
    assert later_table.equals(table)
    for column in ("row_number", "of"):
        moved = (later.to_pandas()[column] - record.to_pandas()[column]).dropna()
        assert len(moved) and (moved == 5_000).all()


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_tables(n: int) -> None:
    lines = clean_lines(n)
    everywhere = DirtPlan(**dict.fromkeys(KINDS, 1.0))
    finished, record = frames(*dirt.dirty_orders(lines, everywhere, rng(), 1, NOBODY))
    assert len(record) == n
    assert len(finished) == n + record["kind"].isin(ADDED).sum()
    for kind in BY_ROW:
        table, record = dirt.dirty_orders(lines, DirtPlan(**{kind: 1.0}), rng(), 1, NOBODY)
        assert record.num_rows <= n and table.schema == lines.schema


def test_kinds_are_as_frequent_as_planned() -> None:
    """The rates of COMPANY in 40,000 lines, within four standard errors of a binomial count."""
    lines = clean_lines(40_000)
    _, record = frames(*dirt.dirty_orders(lines, COMPANY, rng(3), 1, NOBODY))
    counts = record["kind"].value_counts()
    for kind in BY_ROW:
        expected = getattr(COMPANY, kind) * lines.num_rows
        assert abs(counts[kind] - expected) < 4 * expected**0.5, kind


def test_narrow_pool_gives_what_it_has(lines: pa.Table) -> None:
    large = sum(abs(float(a)) >= 1_000 for a in lines["amount"].to_pylist())
    _, record = dirt.dirty_orders(lines, DirtPlan(thousands_separator=1.0, white_space=0.3), rng(), 1, NOBODY)
    assert record["kind"].to_pylist().count("thousands_separator") == large


# -- each kind ---------------------------------------------------------------------------------------------------------

WIDE = str.maketrans("０１２３４５６７８９", "0123456789")
IN_PLACE = {  # kind -> columns that change, how the planted text looks, and the way back where there is one
    "missing_customer": ({"customer_no"}, r"", None),
    "malformed_customer": (
        {"customer_no"},
        r"c0{4} \d{4}|C[1-9]\d*|C[1-9O]{8}",
        lambda t: "C" + re.sub(r"^[Cc]| ", "", t).replace("O", "0").zfill(8),
    ),
    "impossible_date": ({"ordered_at"}, r"202[34]-(02-3[01]|(04|06|09|11)-31|13-01|00-00) \d\d:\d\d:\d\d", None),
    "ambiguous_date": (
        {"ordered_at"},
        r"(0\d|1[0-2])/(0\d|1[0-2])/202[34] \d\d:\d\d",
        lambda t: re.sub(r"(..)/(..)/(....)", r"\3-\2-\1", t),
    ),
    "future_date": ({"ordered_at"}, r"20[345]\d-\d\d-\d\d \d\d:\d\d:\d\d", None),
    "before_company": ({"ordered_at"}, r"1900-01-01 00:00:00|1899-12-30 00:00:00|1970-01-01 08:00:00", None),
    "wrong_zone": (
        {"ordered_at"},
        r"202[34]-\d\d-\d\d \d\d:\d\d:\d\d",
        lambda t: str(pd.Timestamp(t, tz="UTC").tz_convert("Asia/Shanghai").tz_localize(None)),
    ),
    "full_width_digits": ({"amount", "qty", "unit_price"}, r"-?[０-９]+(\.[０-９]{2})?", lambda t: t.translate(WIDE)),
    "thousands_separator": ({"amount"}, r"-?\d,\d{3}\.\d\d", lambda t: t.replace(",", "")),
    "decimal_comma": ({"amount"}, r"-?\d+,\d\d", lambda t: t.replace(",", ".")),
    "currency_sign": ({"amount"}, r"¥-?\d+\.\d\d", lambda t: t.removeprefix("¥")),
    "white_space": ({"customer_no", "order_no"}, r"[ \u3000]?[ACR]\d+ *", str.strip),
    "negative_price": ({"unit_price", "amount"}, r"-\d+\.\d\d", lambda t: t.removeprefix("-")),
    "zero_price": ({"unit_price", "amount"}, r"0\.00", None),
}


def test_every_kind_is_looked_at() -> None:
    assert {*IN_PLACE, *ADDED, "second_id"} == set(KINDS)


@pytest.mark.parametrize("kind", IN_PLACE)
def test_change_in_place(lines: pa.Table, kind: str) -> None:
    columns, pattern, back = IN_PLACE[kind]
    record, planted, clean = one_kind(lines, kind)
    assert differing(planted, clean) == columns
    for r in record.itertuples():
        assert re.fullmatch(pattern, r.planted), r.planted
        if back:
            restored = back(r.planted)
            assert r.original.startswith(restored) if kind == "ambiguous_date" else restored == r.original
    if KINDS[kind].expected == "repair":
        assert back, "a repair needs a way back"


def test_ambiguous_dates_are_ambiguous(lines: pa.Table) -> None:
    record, _, _ = one_kind(lines, "ambiguous_date")
    assert all(text[:2] != text[3:5] for text in record["planted"])


def test_dates_outside_lie_outside(lines: pa.Table) -> None:
    last = str(instants(LAST_DAY)).replace("T", " ")
    assert (one_kind(lines, "future_date")[0]["planted"] > last).all()
    assert (one_kind(lines, "before_company")[0]["planted"] < "2023-01-02").all()
    for text in one_kind(lines, "impossible_date")[0]["planted"]:
        with pytest.raises(ValueError):
            pd.Timestamp(text)


def test_wrong_zone_moves_some_to_the_day_before(lines: pa.Table) -> None:
    record, _, _ = one_kind(lines, "wrong_zone")
    other_day = (record["planted"].str[:10] != record["original"].str[:10]).mean()
    assert 0.15 < other_day < 0.5  # a third of the hours


def test_odd_prices_keep_the_books(lines: pa.Table) -> None:
    for kind in ("zero_price", "negative_price"):
        _, planted, clean = one_kind(lines, kind)
        qty, unit, discount, amount = (planted[c].map(Decimal) for c in ("qty", "unit_price", "discount", "amount"))
        assert (qty > 0).all() and (qty * unit - discount == amount).all()
        assert (amount == (0 if kind == "zero_price" else -clean["amount"].map(Decimal))).all()


def test_exact_duplicates(lines: pa.Table) -> None:
    _, planted, clean = one_kind(lines, "duplicate_exact")
    pd.testing.assert_frame_equal(planted, clean)


def test_near_duplicates(lines: pa.Table) -> None:
    record, planted, clean = one_kind(lines, "duplicate_near")
    assert differing(planted, clean) == set(record["column"]) == {"ordered_at", "sku", "customer_no"}
    later = (pd.to_datetime(planted["ordered_at"]) - pd.to_datetime(clean["ordered_at"])).dt.total_seconds()
    assert later.between(0, 59).all() and ((later > 0) == (record["column"] == "ordered_at")).all()
    assert (planted["sku"].str.upper() == clean["sku"]).all()
    assert (planted["customer_no"].str.strip() == clean["customer_no"]).all()


def test_cancelled(lines: pa.Table) -> None:
    _, planted, clean = one_kind(lines, "cancelled")
    assert differing(planted, clean) == {"order_no", "qty", "amount", "ordered_at"}
    assert (planted["order_no"] == "X" + clean["order_no"]).all()
    for column in ("qty", "amount"):
        assert (planted[column].map(Decimal) == -clean[column].map(Decimal)).all()
        assert (clean[column].map(Decimal) > 0).all()
    assert (planted["ordered_at"] >= clean["ordered_at"]).all()
    assert (planted["ordered_at"].str[:10] == clean["ordered_at"].str[:10]).all()
    books(planted)


def test_cancelled_partly(lines: pa.Table) -> None:
    _, planted, clean = one_kind(lines, "cancelled_partly")
    assert (planted["order_no"] == "X" + clean["order_no"]).all()
    back, bought = -planted["qty"].astype(int), clean["qty"].astype(int)
    assert ((back >= 1) & (back < bought)).all() and back.nunique() > 1
    for column in ("cost", "discount"):
        assert ((planted[column].astype(float) - clean[column].astype(float) * back / bought).abs() <= 0.01).all()
    books(planted)


def test_cancelled_without_original(lines: pa.Table) -> None:
    _, planted, clean = one_kind(lines, "cancelled_without_original")
    assert not set(planted["order_no"].str[1:]) & set(lines["order_no"].to_pylist())
    assert planted["order_no"].str.fullmatch(r"XA9\d{6}").all()
    assert (planted["amount"].str.startswith("-") & planted["qty"].str.startswith("-")).all()
    own = (planted["sku"] == clean["sku"]) & (planted["amount"] == "-" + clean["amount"])
    assert (planted["customer_no"] == clean["customer_no"]).all() and not own.any()
    books(planted)


def test_test_orders(lines: pa.Table) -> None:
    record, planted, clean = one_kind(lines, "test_order")
    assert (planted["order_no"] == "T" + clean["order_no"]).all()
    assert ((planted["customer_no"] == "TEST") ^ (planted["sku"] == "TEST")).all()
    assert set(record["column"]) == {"customer_no", "sku"} and (record["planted"] == "TEST").all()


def test_postage(lines: pa.Table) -> None:
    _, planted, clean = one_kind(lines, "postage")
    assert set(planted["sku"]) == {"POSTAGE", "FEE", "MANUAL"}
    assert (planted[["order_no", "customer_no"]] == clean[["order_no", "customer_no"]]).all(axis=None)
    size = lines.to_pandas().groupby("order_no").size()
    assert (planted["line_no"].astype(int) == planted["order_no"].map(size) + 1).all()
    assert (planted["amount"].map(Decimal) > 0).all()
    books(planted)


# -- two numbers for one person ----------------------------------------------------------------------------------------


def company_people(n: int = 4_000):
    level = (Level("all", 1.0),)
    plan = PeoplePlan(
        arrival_days=728, r=1, alpha=100, s=1, beta=500, p=4, q=4, gamma=100,
        kinds=(Kind("customer", 1.0),), channels=level, regions=level, age_bands=level,
    )  # fmt: skip
    return draw(plan, 20_001, n, rng(5))


def test_second_ids() -> None:
    people = company_people()
    second = dirt.second_ids(people, replace(COMPANY, second_id=0.05), rng())
    assert abs(len(second) - 200) < 4 * 200**0.5
    assert second["customer_id"].is_unique and second["second_id"].is_unique
    assert not set(second["second_id"]) & set(people.customer_id)
    assert second["second_id"].str.fullmatch(r"C\d{8}").all()
    arrival = pd.Series(instants(people.arrival), index=people.customer_id)[second["customer_id"]].dt.strftime(
        "%Y-%m-%d"
    )
    assert (second["since"].to_numpy() > arrival.to_numpy()).all()
    assert (second["since"] <= "2024-12-29").all()
    assert len(dirt.second_ids(people, TEXTBOOK, rng())) == 0


def test_second_number_from_its_day_on_in_every_line(lines: pa.Table, second: pd.DataFrame) -> None:
    finished, record = frames(*dirt.dirty_orders(lines, TEXTBOOK, rng(), 1, second))
    clean = lines.to_pandas()
    clean.index += 1
    expected = clean["customer_no"].copy()
    for number, other, since in second.itertuples(index=False):
        expected[(clean["customer_no"] == number) & (clean["ordered_at"] >= since)] = other
    changed = expected != clean["customer_no"]
    assert 20 < changed.sum() < 100
    pd.testing.assert_frame_equal(finished, clean.assign(customer_no=expected))
    assert record["row_number"].tolist() == clean.index[changed].tolist()
    assert set(record["kind"]) == {"second_id"} and record["of"].isna().all()


def test_second_number_stays_where_other_dirt_is_planted(
    lines: pa.Table, second: pd.DataFrame, planted: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    _, alone = frames(*dirt.dirty_orders(lines, TEXTBOOK, rng(), 1, second))
    _, record = planted
    assert (record["kind"] == "second_id").sum() == len(alone)


def test_customers_get_a_second_row(second: pd.DataFrame) -> None:
    customers = pa.table(
        {
            "customer_no": [f"C{c:08d}" for c in range(1, 101)],
            "name": ["王伟" if c % 2 else "Li Na" for c in range(1, 101)],
            "email": [f"{c}@mail.example" for c in range(1, 101)],
            "registered_on": ["2023-01-05"] * 100,
            "region": [None] * 100,
        },
        schema=pa.schema([(c, pa.string()) for c in ("customer_no", "name", "email", "registered_on", "region")]),
    )
    finished, record = frames(*dirt.dirty_customers(customers, second, rng(), 2), first_row=2)
    clean = customers.to_pandas()
    assert len(finished) == 105 and (record["source"] == "customers").all()
    pd.testing.assert_frame_equal(finished.drop(index=record["row_number"]).reset_index(drop=True), clean)
    one = finished.loc[record["of"].astype(int)].reset_index(drop=True)
    two = finished.loc[record["row_number"]].reset_index(drop=True)
    assert one["customer_no"].tolist() == record["original"].tolist() == second["customer_id"].tolist()
    assert two["customer_no"].tolist() == record["planted"].tolist() == second["second_id"].tolist()
    assert two["registered_on"].tolist() == second["since"].tolist()
    assert (two["email"] == one["email"]).all() and (two["name"] != one["name"]).all()
    assert (two["name"].str.strip().str.lower() == one["name"].str.lower()).all()
    same, nothing = dirt.dirty_customers(customers, NOBODY, rng(), 2)
    assert same.equals(customers) and nothing.num_rows == 0


# -- what the cleaning makes of it -------------------------------------------------------------------------------------


def test_cleaning(project, lines: pa.Table, second: pd.DataFrame) -> None:
    table, record = dirt.dirty_orders(lines, EVERYTHING, rng(), 1, second)
    project.study(
        currency="CNY",
        timezone="Asia/Shanghai",
        clock={"observed_from": "2023-01-02", "observed_to": "2024-12-29"},
        sources={"orders": {"file": "orders.parquet"}},
        tables={
            "order_lines": {
                "source": "orders",
                "columns": {
                    "order_id": "order_no",
                    "line_number": "line_no",
                    "customer_id": "customer_no",
                    "ordered_at": "ordered_at",
                    "product_id": "sku",
                    "quantity": "qty",
                    "unit_price": "unit_price",
                    "discount": "discount",
                    "net_amount": "amount",
                    "cost": "cost",
                    "channel": "channel",
                    "store_id": "store",
                },
            }
        },
    )
    pq.write_table(table, paths.raw("shop") / "orders.parquet")
    cleaned = project.clean()
    cleaning.assert_conserved(cleaned.ledger)
    ledger = cleaned.ledger.set_index("table").loc["order_lines"]
    assert ledger["rows_in"] == table.num_rows

    _, record = frames(table, record)
    numbers = {kind: set(rows) for kind, rows in record.groupby("kind")["row_number"]}
    aside = set(cleaned.quarantine.execute()["row_number"])
    for kind in ("impossible_date", "ambiguous_date", "future_date", "before_company", "missing_customer"):
        assert numbers[kind] <= aside, kind
    for kind in ("duplicate_exact", "duplicate_near", "negative_price"):
        assert numbers[kind] <= aside, kind
    for kind in ("full_width_digits", "white_space", "cancelled", "cancelled_partly", "zero_price", "second_id"):
        assert not numbers[kind] & aside, kind
    untouched = set(range(1, table.num_rows + 1)) - set(record["row_number"])
    assert not untouched & aside

    # The cleaned lines are the clean ones where the repair works: every number as it was before the dirt.
    kept = cleaned.tables["order_lines"].execute().set_index(["order_id", "line_number"])
    clean = lines.to_pandas().astype({"line_no": int}).set_index(["order_no", "line_no"])
    repaired = record[record["kind"].isin(["full_width_digits", "white_space"])]
    raw = table.to_pandas().iloc[repaired["row_number"] - 1]
    keys = list(zip(raw["order_no"].str.strip(), raw["line_no"].astype(int)))
    assert len(keys) > 40
    for ours, theirs in (("net_amount", "amount"), ("quantity", "qty"), ("unit_price", "unit_price")):
        assert [kept.loc[k, ours] for k in keys] == [Decimal(clean.loc[k, theirs]) for k in keys]
    assert [kept.loc[k, "customer_id"] for k in keys] == [clean.loc[k, "customer_no"] for k in keys]
