"""The cleaning rules: each a small Ibis expression with a code, a severity and the sentence that a report says.

``set_aside``: the row goes to quarantine. ``repair``: the row is kept with the value put right. ``warn``: the row is kept as
it is, and counted. Where a rule leaves a choice, ``rules.treatment`` in the study makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import ibis
from ibis.expr.types import BooleanValue, Column, Table

from analysis.cleaning import parse
from analysis.engine import Engine
from analysis.errors import RapportError
from analysis.study import NEEDED, Study, TableMapping
from analysis.tables import CONTRACTS

Severity = Literal["set_aside", "repair", "warn", "off"]
TREATMENTS = {"set_aside": "set aside", "repair": "put right", "warn": "kept, with a warning"}


@dataclass(frozen=True)
class Reason:
    """Why a row was set aside, repaired or warned about.

    Attributes
    ----------
    choice : what a study may do instead, in ``rules.treatment``.
    """

    code: str
    severity: Severity
    sentence: str
    choice: tuple[Severity, ...] = ()


# The order counts: a row with several reasons stands in the waterfall under the first.
REASONS = {
    reason.code: reason
    for reason in (
        Reason("malformed_row", "set_aside", "The row has more or fewer fields than the header."),
        Reason("test_order", "set_aside", "A test: nobody bought anything.", ("warn", "off")),
        Reason("missing_customer_id", "set_aside", "The customer id is blank; the row is nobody's."),
        Reason("malformed_customer_id", "set_aside", "The customer id has not the form of one, and cannot be put right."),
        Reason("missing_value", "set_aside", "A value that the row cannot do without is blank."),
        Reason("ambiguous_date", "set_aside", "A date can be read day first or month first."),
        Reason("ambiguous_number", "set_aside", "A number has a comma or point that may separate thousands or decimals."),
        Reason("unreadable_value", "set_aside", "A value that the row cannot do without is not a number or a date."),
        Reason("before_period", "set_aside", "The row is dated before the observed period."),
        Reason("after_period", "set_aside", "The row is dated after the observed period."),
        Reason("duplicate_row", "set_aside", "The row equals an earlier one in every column."),
        Reason("duplicate_key", "set_aside", "An earlier row already describes the same thing."),
        Reason("duplicate_line", "set_aside", "The same line of the same order again, moments later.", ("warn", "off")),
        Reason("same_person", "set_aside", "The person is already there under another id; the row was merged with theirs."),
        Reason("non_product", "set_aside", "Postage, a fee or an adjustment; it is no product.", ("warn", "off")),
        Reason("empty_line", "set_aside", "The line has quantity 0 and no money."),
        Reason("sign_conflict", "set_aside", "The quantity is negative but the amount is positive."),
        Reason("negative_price", "set_aside", "The unit price or the cost is negative."),
        Reason("amount_mismatch", "set_aside", "Quantity × unit price − discount is not the amount."),
        Reason("cancellation_without_original", "set_aside", "A cancellation of something that was not bought in these data."),
        Reason("cancelled", "set_aside", "A line and its cancellation; neither is counted."),
        Reason("unknown_customer", "set_aside", "The customer is not in the customer table."),
        Reason("unknown_campaign", "set_aside", "The campaign is not in the campaign table."),
        Reason("ends_before_start", "set_aside", "The campaign ends before it starts."),
        Reason("unknown_word", "set_aside", "A word is not one of the few that the column allows."),
        Reason("empty_response", "set_aside", "No question is answered."),
        Reason("no_contact", "set_aside", "A redemption by someone who was not in the campaign."),
        Reason("currency_sign", "repair", "A currency sign stood at an amount; it was dropped."),
        Reason("thousands_separator", "repair", "Thousands were separated; there is only one reading, and it was taken."),
        Reason("decimal_sign", "repair", "A number was written with the other decimal sign; there is only one reading."),
        Reason("negative_form", "repair", "A minus was written behind, as brackets, or as a dash; the number is negative."),
        Reason("date_form", "repair", "A date was written in another order, with only one reading."),
        Reason("customer_id_form", "repair", "A customer id with small slips (case, blanks, zeros) was put right."),
        Reason("merged_id", "repair", "A person's second customer id was replaced by the first."),
        Reason("order_time", "repair", "A line was timed in UTC, the other lines of its order in local time; it was moved."),
        Reason("return_quantity", "repair", "A return was written with a positive quantity; the quantity was made negative."),
        Reason("discount_sign", "repair", "A discount was written as a negative number; its sign was dropped."),
        Reason("white_space", "repair", "Values had white space around them; it was removed (each value counts)."),
        Reason("other_characters", "repair", "Values held full-width or other variant characters (each value counts)."),
        Reason("unreadable_optional", "warn", "A value that the row can do without is unreadable; it was left blank."),
        Reason("below_zero", "warn", "A value that the row can do without is negative; it was left blank."),
        Reason("outside_scale", "warn", "An answer lies outside the scale; it was left blank."),
        Reason("quantity_zero", "warn", "A line has money but quantity 0; it has no unit price."),
        Reason("zero_price", "warn", "The line was given away: it has a quantity and no money.", ("set_aside", "off")),
        Reason("outlier", "warn", "An amount, price or quantity is far from all others; possible, but look.", ("set_aside", "off")),
        Reason("cancelled_whole", "warn", "A cancellation of a whole line; both are booked, and add up to nothing.", ("off",)),
        Reason("cancelled_partly", "warn", "A cancellation of part of what was bought; both are booked.", ("off",)),
        Reason("unknown_product", "warn", "The product is not in the product table.", ("set_aside", "off")),
    )
}  # fmt: skip
BITS = {code: 1 << n for n, code in enumerate(REASONS)}


def severities(study: Study) -> dict[str, Severity]:
    """What is done with a row to which a reason applies: the rule's own severity, or the study's choice.

    Raises
    ------
    RapportError
        The study chooses something for a rule that leaves no choice, or for none at all.
    """
    for chosen, treatment in study.rules.treatment.items():
        allowed = (REASONS[chosen].severity, *REASONS[chosen].choice) if chosen in REASONS else ()
        if treatment not in allowed:
            cure = f"choose {' or '.join(allowed)}" if len(allowed) > 1 else "it leaves no choice; take it out"
            known = ", ".join(c for c, r in REASONS.items() if r.choice)
            cure = cure if chosen in REASONS else f"these rules leave a choice: {known}"
            raise RapportError(
                f"studies/{study.name}/study.yaml: rules.treatment.{chosen}: {treatment!r} cannot be; {cure}"
            )
    return {code: study.rules.treatment.get(code, reason.severity) for code, reason in REASONS.items()}


@dataclass(frozen=True)
class Context:
    """What a rule may look at beside the rows.

    Attributes
    ----------
    table : canonical name of the rows' table. mapping : how it is made. tables : those already clean. severities : what is
    done with a row, by reason.
    """

    study: Study
    engine: Engine
    table: str
    mapping: TableMapping
    tables: dict[str, Table]
    severities: dict[str, Severity]

    @property
    def mapped(self) -> set[str]:
        return set(self.mapping.columns)

    @property
    def required(self) -> list[str]:
        """The mapped columns that a row cannot do without."""
        columns = CONTRACTS[self.table].columns
        mapped = [c for c in self.mapping.columns if c in columns]
        return [c for c in mapped if columns[c].required or c in NEEDED.get(self.table, ())]

    @property
    def optional(self) -> list[str]:
        return [c for c in self.mapping.columns if c not in self.required]

    @property
    def not_negative(self) -> list[str]:
        """Optional columns that may not be negative; prices, costs and discounts of lines have rules of their own."""
        if self.table == "order_lines":
            return []
        columns = CONTRACTS[self.table].columns
        return [c for c in self.mapping.columns if c in columns and columns[c].low == 0 and not columns[c].required]


Rule = Callable[[Table, Context], "BooleanValue | None"]
RULES: dict[str, tuple[tuple[str, ...], Rule]] = {}


def rule(code: str, *tables: str) -> Callable[[Rule], Rule]:
    """Register the expression of a reason for ``tables``, or for all."""

    def register(function: Rule) -> Rule:
        RULES[code] = (tables, function)
        return function

    return register


def conditions(rows: Table, context: Context) -> dict[str, BooleanValue]:
    """Reason code -> the rows it applies to, for every rule that looks at one row and can apply to this table."""
    found = {}
    for code, (tables, function) in RULES.items():
        if (tables and context.table not in tables) or context.severities[code] == "off":
            continue
        condition = function(rows, context)
        if condition is not None:
            found[code] = condition.fill_null(False)
    return found


def any_of(conditions: list[BooleanValue]) -> BooleanValue | None:
    return reduce(lambda a, b: a | b, conditions) if conditions else None


def _blank(rows: Table, columns: list[str]) -> BooleanValue | None:
    blank = any_of([rows[c].isnull() & ~rows[f"{c}__bad"] for c in columns])
    return None if blank is None else blank & ~rows.malformed_row


@rule("malformed_row")
def malformed_row(rows: Table, context: Context) -> BooleanValue:
    return rows.malformed_row


@rule("test_order", "order_lines")
def test_order(rows: Table, context: Context) -> BooleanValue | None:
    """A text that says that the line is a test; a customer id that fits no form is looked at as it stands."""
    tests = context.study.rules.test_orders
    return any_of([_as_it_stands(rows, c).re_search(f"^({p})$") for c, p in tests.items() if c in context.mapped])


def _as_it_stands(rows: Table, column: str) -> Column:
    text = f"{column}__text"
    return ibis.coalesce(rows[column], rows[text]) if text in rows.columns else rows[column]


@rule("missing_customer_id")
def missing_customer_id(rows: Table, context: Context) -> BooleanValue | None:
    return _blank(rows, [c for c in context.required if c == "customer_id"])


@rule("malformed_customer_id")
def malformed_customer_id(rows: Table, context: Context) -> BooleanValue | None:
    there = "customer_id" in context.required and context.study.rules.customer_id is not None
    return rows.customer_id__bad if there else None


@rule("missing_value")
def missing_value(rows: Table, context: Context) -> BooleanValue | None:
    return _blank(rows, [c for c in context.required if c != "customer_id"])


def _ambiguous(rows: Table, context: Context, date: bool) -> BooleanValue | None:
    columns = [c for c in context.required if f"{c}__form" in rows.columns]
    chosen = [c for c in columns if rows[c].type().is_temporal() == date]
    return any_of([rows[f"{c}__form"] == parse.AMBIGUOUS for c in chosen])


@rule("ambiguous_date")
def ambiguous_date(rows: Table, context: Context) -> BooleanValue | None:
    return _ambiguous(rows, context, date=True)


@rule("ambiguous_number")
def ambiguous_number(rows: Table, context: Context) -> BooleanValue | None:
    return _ambiguous(rows, context, date=False)


@rule("unreadable_value")
def unreadable_value(rows: Table, context: Context) -> BooleanValue | None:
    def unreadable(c: str) -> BooleanValue:
        form = rows[f"{c}__form"] if f"{c}__form" in rows.columns else None
        return rows[f"{c}__bad"] if form is None else rows[f"{c}__bad"] & (form != parse.AMBIGUOUS)

    sound = any_of([unreadable(c) for c in context.required if c != "customer_id"])
    return None if sound is None else sound & ~rows.malformed_row


def _outside(rows: Table, context: Context) -> tuple[BooleanValue, BooleanValue] | None:
    if context.study.rules.outside_period != "set_aside":
        return None
    clock = context.study.clock
    return rows.order_date < clock.observed_from, rows.order_date > clock.observed_to


@rule("before_period", "order_lines")
def before_period(rows: Table, context: Context) -> BooleanValue | None:
    outside = _outside(rows, context)
    return outside and outside[0]


@rule("after_period", "order_lines")
def after_period(rows: Table, context: Context) -> BooleanValue | None:
    outside = _outside(rows, context)
    return outside and outside[1]


@rule("non_product", "order_lines")
def non_product(rows: Table, context: Context) -> BooleanValue | None:
    patterns = context.study.rules.non_products
    if not patterns or "product_id" not in context.mapped:
        return None
    return rows.product_id.re_search("^(" + "|".join(f"({p})" for p in patterns) + ")$")


@rule("empty_line", "order_lines")
def empty_line(rows: Table, context: Context) -> BooleanValue | None:
    return (rows.quantity == 0) & (rows.net_amount == 0) if "quantity" in context.mapped else None


@rule("sign_conflict", "order_lines")
def sign_conflict(rows: Table, context: Context) -> BooleanValue | None:
    return (rows.quantity < 0) & (rows.net_amount > 0) if "quantity" in context.mapped else None


@rule("negative_price", "order_lines")
def negative_price(rows: Table, context: Context) -> BooleanValue | None:
    return any_of([rows[c] < 0 for c in ("unit_price", "cost") if c in context.mapped])


@rule("amount_mismatch", "order_lines")
def amount_mismatch(rows: Table, context: Context) -> BooleanValue | None:
    if not {"unit_price", "quantity"} <= context.mapped:
        return None
    nothing = parse.money("0")
    discount = rows.discount.abs().fill_null(nothing) if "discount" in context.mapped else nothing
    quantity, price, amount = (rows[c].abs().cast("float64") for c in ("quantity", "unit_price", "net_amount"))
    off = (quantity * price - discount.cast("float64") - amount).abs()
    # The price may be rounded at its fourth place, the amount to the cent.
    return (rows.quantity != 0) & (off > quantity * 0.00005 + 0.0050001)


@rule("unknown_customer", "contacts")
def unknown_customer(rows: Table, context: Context) -> BooleanValue | None:
    return ~rows.customer_id__known if "customers" in context.tables else None


@rule("unknown_campaign", "contacts")
def unknown_campaign(rows: Table, context: Context) -> BooleanValue | None:
    return ~rows.campaign_id__known if "campaigns" in context.tables else None


@rule("ends_before_start", "campaigns")
def ends_before_start(rows: Table, context: Context) -> BooleanValue | None:
    return rows.ends_on < rows.starts_on if "ends_on" in context.mapped else None


@rule("unknown_word")
def unknown_word(rows: Table, context: Context) -> BooleanValue | None:
    columns = CONTRACTS[context.table].columns
    worded = [c for c in context.mapping.columns if c in columns and columns[c].values]
    return any_of([rows[c].notnull() & rows[c].notin(columns[c].values) for c in worded])


@rule("empty_response", "survey_responses")
def empty_response(rows: Table, context: Context) -> BooleanValue:
    items = [i for i in context.study.survey.scales if i in context.mapped]
    return reduce(lambda a, b: a & b, [rows[i].isnull() for i in items]) & ~rows.malformed_row


@rule("return_quantity", "order_lines")
def return_quantity(rows: Table, context: Context) -> BooleanValue | None:
    return (rows.quantity > 0) & (rows.net_amount < 0) if "quantity" in context.mapped else None


@rule("discount_sign", "order_lines")
def discount_sign(rows: Table, context: Context) -> BooleanValue | None:
    return rows.discount < 0 if "discount" in context.mapped else None


def _form_rule(code: str) -> None:
    bit = parse.FORMS[code]

    @rule(code)
    def form(rows: Table, context: Context) -> BooleanValue | None:
        there = [rows[f"{c}__form"] for c in context.mapping.columns if f"{c}__form" in rows.columns]
        return any_of([(form & bit) != 0 for form in there])


for _code in parse.FORMS:
    _form_rule(_code)


@rule("merged_id")
def merged_id(rows: Table, context: Context) -> BooleanValue | None:
    return rows.customer_id__merged if "customer_id__merged" in rows.columns and context.table != "customers" else None


@rule("same_person", "customers")
def same_person(rows: Table, context: Context) -> BooleanValue | None:
    return rows.customer_id__merged if "customer_id__merged" in rows.columns else None


@rule("unreadable_optional")
def unreadable_optional(rows: Table, context: Context) -> BooleanValue | None:
    return any_of([rows[f"{c}__bad"] for c in context.optional])


@rule("below_zero")
def below_zero(rows: Table, context: Context) -> BooleanValue | None:
    return any_of([rows[c] < 0 for c in context.not_negative])


@rule("outside_scale", "survey_responses")
def outside_scale(rows: Table, context: Context) -> BooleanValue:
    asked = {item: scale for item, scale in context.study.survey.scales.items() if item in context.mapped}
    return any_of([(rows[i] < low) | (rows[i] > high) for i, (low, high) in asked.items()])


@rule("quantity_zero", "order_lines")
def quantity_zero(rows: Table, context: Context) -> BooleanValue | None:
    return (rows.quantity == 0) & (rows.net_amount != 0) if "quantity" in context.mapped else None


@rule("zero_price", "order_lines")
def zero_price(rows: Table, context: Context) -> BooleanValue | None:
    return (rows.quantity != 0) & (rows.net_amount == 0) if "quantity" in context.mapped else None


@rule("unknown_product", "order_lines")
def unknown_product(rows: Table, context: Context) -> BooleanValue | None:
    there = "product_id" in context.mapped and "products" in context.tables
    return rows.product_id.notnull() & ~rows.product_id__known if there else None
