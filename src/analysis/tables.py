"""The canonical tables: one row a thing, keys first, and the contract that each hand-over is checked against.

Column types are Ibis types, so a contract holds on any engine; the checks are pandera's. Money is ``decimal(18, 4)``
until it enters a model. The prose for every column is in ``data/README.md``; a test keeps the two in agreement.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import ibis
import ibis.expr.datatypes as dt
import pandera.ibis as pa
from pandera.errors import SchemaErrors

from analysis.errors import RapportError

MONEY = dt.Decimal(18, 4)
QUANTITY = dt.Decimal(18, 4)
INSTANT = dt.Timestamp(timezone="UTC", scale=6)
VALUE_TIERS = ("protect", "invest", "let_go", "too_early")
LIFE_STAGES = ("exploration", "formation", "stability", "decline", "ended")
RELATIONSHIP_LEVELS = ("basic", "reactive", "accountable", "proactive", "partnership")


class ContractError(RapportError):
    """A table that does not keep its contract."""


@dataclass(frozen=True)
class Column:
    """One column: its type, whether it must be there (``required``), may be null, and the values it may take."""

    dtype: dt.DataType
    required: bool = False
    nullable: bool = True
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contract:
    """A table: its key, columns and row rules.

    Attributes
    ----------
    key : columns that identify a row; never null, never repeated.
    lazy : read as an Ibis table, because there may be more rows than a frame should hold.
    extra : type of undeclared columns (attributes, survey items and themes of comments, scores), or None where there may be
        none.
    rules : name of a rule -> the condition that every row must meet, or None where the columns for it are not there.
    """

    name: str
    grain: str
    key: tuple[str, ...]
    columns: dict[str, Column]
    lazy: bool = False
    extra: str | None = None
    rules: dict[str, Callable[[ibis.Table], ibis.ir.BooleanValue | None]] = field(default_factory=dict)

    def conform(self, table: ibis.Table) -> ibis.Table:
        """Put columns in contract order, cast them to the contract's types and sort by key, so that bytes repeat.

        Raises
        ------
        ContractError
            A required column is missing, or one is there that the contract does not know.
        """
        missing = [n for n, c in self.columns.items() if c.required and n not in table.columns]
        unknown = [n for n in table.columns if n not in self.columns]
        if missing:
            raise ContractError(f"table {self.name}: column {missing[0]} is missing; it needs {', '.join(missing)}")
        if unknown and self.extra is None:
            raise ContractError(
                f"table {self.name}: column {unknown[0]} is not in its contract; drop or rename it (src/analysis/tables.py)"
            )
        known = {n: table[n].cast(c.dtype) for n, c in self.columns.items() if n in table.columns}
        return table.select(**known, **{n: table[n] for n in unknown}).order_by(list(self.key))

    def validate(self, table: ibis.Table) -> None:
        """Check the whole table against the contract.

        Raises
        ------
        ContractError
            One line: the table, the column, what is wrong, how many rows.
        """
        rows = table.count().to_pyarrow().as_py()
        if rows == 0:
            return  # its types are right since conform; pandera takes the missing count of nulls for a null
        schema = pa.DataFrameSchema({n: _pandera(c) for n, c in self.columns.items()}, name=self.name)
        try:
            schema.validate(table, lazy=True)
        except SchemaErrors as error:
            kinds = next(iter(error.message.values()))
            raise ContractError(f"table {self.name}: {next(iter(kinds.values()))[0]['error']}") from None
        conditions = {rule: condition(table) for rule, condition in self.rules.items()}
        broken = {rule: (~c).fill_null(False).cast("int64").sum() for rule, c in conditions.items() if c is not None}
        counts = table.aggregate(rows=table.count(), **broken).to_pyarrow().to_pylist()[0]
        repeated = rows - table.select(*self.key).distinct().count().to_pyarrow().as_py()
        if repeated:
            raise ContractError(
                f"table {self.name}: {repeated} rows repeat the key ({', '.join(self.key)}); one row a {self.grain}"
            )
        for rule in broken:
            if counts[rule]:
                raise ContractError(f"table {self.name}: {counts[rule]} rows break the rule: {rule}")


def _pandera(column: Column) -> pa.Column:
    checks = []
    if column.low is not None:
        checks.append(pa.Check.ge(column.low))
    if column.high is not None:
        checks.append(pa.Check.le(column.high))
    if column.values:
        checks.append(pa.Check.isin(column.values))
    return pa.Column(column.dtype, checks=checks, required=column.required, nullable=column.nullable)


TEXT, WHOLE, REAL, FLAG, DAY = dt.string, dt.int64, dt.float64, dt.boolean, dt.date
_key = Column(TEXT, required=True, nullable=False)


def _optional(dtype: dt.DataType, *names: str, **limits: float) -> dict[str, Column]:
    return {name: Column(dtype, **limits) for name in names}


def _line_adds_up(t: ibis.Table) -> ibis.ir.BooleanValue | None:
    # A unit price is rounded to 4 places, so a line of many units may be off by half a unit of that each.
    # The amount itself may be rounded to the cent, and a very large one does not fit the price's 64 bits.
    slack = t.quantity.abs() * 0.00005 + 0.0051 + t.net_amount.abs() * 1e-15
    if "unit_price" not in t.columns:
        return None
    discount = t.discount.fill_null(0) if "discount" in t.columns else 0
    signed = ibis.ifelse(t.is_return, -1, 1)
    # As 64-bit floats: the product of two decimals overflows for the largest amounts.
    expected = t.quantity.cast("float64") * t.unit_price.cast("float64") - signed * discount
    return t.unit_price.isnull() | ((expected - t.net_amount).abs() <= slack)


CONTRACTS = {
    contract.name: contract
    for contract in (
        Contract(
            "customers",
            "customer",
            ("customer_id",),
            {
                "customer_id": _key,
                **_optional(DAY, "acquired_on"),
                **_optional(TEXT, "acquisition_channel", "region", "household_id", "referred_by"),
                **_optional(FLAG, "consent_email", "consent_sms"),
            },
            extra="text",
        ),
        Contract(
            "prospects",
            "prospect",
            ("prospect_id",),
            {
                "prospect_id": _key,
                **_optional(TEXT, "source"),
                **_optional(DAY, "acquired_from"),
                **_optional(FLAG, "consent_email", "consent_sms"),
            },
            extra="text",
        ),
        Contract(
            "order_lines",
            "line of an order",
            ("order_id", "line_number"),
            {
                "order_id": _key,
                "line_number": Column(WHOLE, required=True, nullable=False, low=0),
                "customer_id": _key,
                "ordered_at": Column(INSTANT, required=True, nullable=False),
                "order_date": Column(DAY, required=True, nullable=False),
                **_optional(TEXT, "product_id"),
                "quantity": Column(QUANTITY, required=True, nullable=False),
                **_optional(MONEY, "unit_price", "discount", low=0),
                "net_amount": Column(MONEY, required=True, nullable=False),
                **_optional(MONEY, "cost", low=0),
                **_optional(TEXT, "channel", "store_id"),
                "is_return": Column(FLAG, required=True, nullable=False),
            },
            lazy=True,
            rules={
                "net_amount = quantity × unit_price − discount": _line_adds_up,
                "a return is negative, a sale is not": lambda t: ibis.ifelse(
                    t.is_return, (t.net_amount <= 0) & (t.quantity <= 0), (t.net_amount >= 0) & (t.quantity >= 0)
                ),
                "a line with quantity 0 has money and no unit price": lambda t: (
                    (t.quantity != 0)
                    | ((t.net_amount != 0) & (t.unit_price.isnull() if "unit_price" in t.columns else True))
                ),
            },
        ),
        Contract("products", "product", ("product_id",), {"product_id": _key, **_optional(TEXT, "name")}, extra="text"),
        Contract(
            "survey_responses",
            "filled-in questionnaire",
            ("response_id",),
            {
                "response_id": _key,
                **_optional(TEXT, "customer_id"),
                **_optional(DAY, "responded_on"),
                **_optional(REAL, "weight", low=0),
                **_optional(FLAG, "comment_given", "comment_other"),
            },
            extra="item",
            rules={
                "a comment without a theme is a comment": lambda t: (
                    ~t.comment_other | t.comment_given if {"comment_given", "comment_other"} <= set(t.columns) else None
                )
            },
        ),
        Contract(
            "interactions",
            "service contact or complaint",
            ("interaction_id",),
            {
                "interaction_id": _key,
                "customer_id": _key,
                "opened_at": Column(INSTANT, required=True, nullable=False),
                **_optional(INSTANT, "resolved_at"),
                **_optional(TEXT, "kind", "channel", "outcome"),
            },
            lazy=True,
        ),
        Contract(
            "marketing_costs",
            "period × channel × purpose",
            ("period", "channel", "purpose"),
            {
                "period": _key,
                "channel": _key,
                "purpose": Column(TEXT, required=True, nullable=False, values=("acquire", "retain")),
                "amount": Column(MONEY, required=True, nullable=False),
            },
        ),
        Contract(
            "campaigns",
            "campaign",
            ("campaign_id",),
            {
                "campaign_id": _key,
                **_optional(TEXT, "name", "channel"),
                "starts_on": Column(DAY, required=True, nullable=False),
                **_optional(DAY, "ends_on"),
                "design": Column(TEXT, required=True, nullable=False, values=("randomised", "observational")),
                **_optional(MONEY, "cost_per_contact", "offer_cost", low=0),
            },
            rules={
                "a campaign does not end before it starts": lambda t: (
                    t.ends_on >= t.starts_on if "ends_on" in t.columns else None
                )
            },
        ),
        Contract(
            "contacts",
            "customer in a campaign",
            ("campaign_id", "customer_id"),
            {
                "campaign_id": _key,
                "customer_id": _key,
                "arm": _key,
                **_optional(DAY, "contacted_on"),
                **_optional(TEXT, "channel", "offer_id"),
                **_optional(FLAG, "delivered", "opened", "clicked", "converted", "redeemed", "unsubscribed"),
                **_optional(MONEY, "spend"),
            },
            lazy=True,
        ),
        Contract(
            "offers",
            "offer in a campaign",
            ("offer_id", "campaign_id"),
            {
                "offer_id": _key,
                "campaign_id": _key,
                **_optional(TEXT, "kind"),
                **_optional(MONEY, "face_value", low=0),
                **_optional(TEXT, "category"),
                **_optional(DAY, "valid_until"),
            },
        ),
        Contract(
            "quarantine",
            "raw row that was set aside",
            ("source", "row_number"),
            {
                "source": _key,
                "row_number": Column(WHOLE, required=True, nullable=False, low=1),
                "reasons": _key,
                "raw_values": _key,
            },
            lazy=True,
        ),
        Contract(
            "customer_summary",
            "customer",
            ("customer_id",),
            {
                "customer_id": _key,
                "frequency": Column(WHOLE, required=True, nullable=False, low=0),
                "recency": Column(REAL, required=True, nullable=False, low=0),
                "T": Column(REAL, required=True, nullable=False, low=0),
                "monetary_value": Column(REAL, required=True, nullable=False),
                **_optional(REAL, "recency_days", low=0),
                **_optional(WHOLE, "orders", low=0),
                **_optional(REAL, "spend", "margin"),
                **_optional(WHOLE, "r_score", "f_score", "m_score", low=1, high=5),
                **_optional(WHOLE, "rfm_product", low=1, high=125),
            },
            rules={"recency does not exceed T": lambda t: t.recency <= t["T"]},
        ),
        Contract(
            "customer_value",
            "customer",
            ("customer_id",),
            {
                "customer_id": _key,
                **_optional(REAL, "probability_alive", low=0, high=1),
                **_optional(REAL, "expected_purchases", low=0),
                **_optional(REAL, "expected_spend", "clv", "clv_low", "clv_high"),
                **_optional(REAL, "existing_value", "residual_value", "growth_value", "profit"),
            },
        ),
        Contract(
            "customer_segment",
            "customer",
            ("customer_id",),
            {
                "customer_id": _key,
                "value_tier": Column(TEXT, values=VALUE_TIERS),
                "life_stage": Column(TEXT, values=LIFE_STAGES),
                "cluster": Column(TEXT),
                "recommended_relationship_level": Column(TEXT, values=RELATIONSHIP_LEVELS),
            },
        ),
        Contract(
            "customer_loyalty",
            "respondent",
            ("response_id",),
            {
                "response_id": _key,
                **_optional(TEXT, "customer_id"),
                **_optional(REAL, "loyalty_index", "delivered_value", low=0, high=100),
                "nps_group": Column(TEXT, values=("promoter", "passive", "detractor")),
                **_optional(REAL, "referral_value"),
            },
            extra="score",
        ),
        Contract(
            "loyalty_drivers",
            "driver of a target",
            ("target", "driver"),
            {"target": _key, "driver": _key, "effect": Column(REAL, required=True), **_optional(REAL, "low", "high")},
            extra="number",
        ),
        Contract(
            "campaign_effects",
            "campaign × arm × outcome",
            ("campaign_id", "arm", "outcome"),
            {
                "campaign_id": _key,
                "arm": _key,
                "outcome": _key,
                "estimate": Column(REAL, required=True),
                **_optional(REAL, "low", "high"),
                "p_value": Column(REAL, low=0, high=1),
                **_optional(TEXT, "method"),
                **_optional(REAL, "incremental_profit", "return_on_spend"),
            },
        ),
        Contract(
            "target_list",
            "customer to reach",
            ("customer_id",),
            {
                "customer_id": _key,
                **_optional(TEXT, "campaign", "offer"),
                **_optional(REAL, "expected_incremental_profit", "cost"),
                **_optional(WHOLE, "rank", low=1),
                **_optional(FLAG, "listed", "holdout"),
            },
        ),
    )
}
