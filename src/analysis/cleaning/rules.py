"""Every reason for which a raw row is set aside, repaired or warned about: its code, severity and plain sentence.

``set_aside``: the row goes to quarantine. ``repair``: the row is kept with the value put right. ``warn``: the row is kept
as it is, and counted.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Reason:
    code: str
    severity: Literal["set_aside", "repair", "warn"]
    sentence: str


REASONS = {
    reason.code: reason
    for reason in (
        Reason("malformed_row", "set_aside", "The row has more or fewer fields than the header."),
        Reason("missing_value", "set_aside", "A value that the row cannot do without is blank."),
        Reason("unreadable_value", "set_aside", "A value that the row cannot do without is not a number or a date."),
        Reason("outside_period", "set_aside", "The row is dated outside the observed period."),
        Reason("duplicate_row", "set_aside", "The row equals an earlier one in every column."),
        Reason("duplicate_key", "set_aside", "An earlier row already describes the same thing."),
        Reason("empty_line", "set_aside", "The line has quantity 0 and no money."),
        Reason("sign_conflict", "set_aside", "The quantity is negative but the amount is positive."),
        Reason("negative_price", "set_aside", "The unit price or the cost is negative."),
        Reason("amount_mismatch", "set_aside", "Quantity × unit price − discount is not the amount."),
        Reason("unknown_customer", "set_aside", "The customer is not in the customer table."),
        Reason("unknown_campaign", "set_aside", "The campaign is not in the campaign table."),
        Reason("ends_before_start", "set_aside", "The campaign ends before it starts."),
        Reason("unknown_word", "set_aside", "A word is not one of the few that the column allows."),
        Reason("empty_response", "set_aside", "No question is answered."),
        Reason("no_contact", "set_aside", "A redemption by someone who was not in the campaign."),
        Reason(
            "return_quantity",
            "repair",
            "A return was written with a positive quantity; the quantity was made negative.",
        ),
        Reason("discount_sign", "repair", "A discount was written as a negative number; its sign was dropped."),
        Reason("unreadable_optional", "warn", "A value that the row can do without is unreadable; it was left blank."),
        Reason("below_zero", "warn", "A value that the row can do without is negative; it was left blank."),
        Reason("outside_scale", "warn", "An answer lies outside the scale; it was left blank."),
        Reason("quantity_zero", "warn", "A line has money but quantity 0; it has no unit price."),
        Reason("unknown_product", "warn", "The product is not in the product table."),
    )
}
SET_ASIDE = tuple(code for code, reason in REASONS.items() if reason.severity == "set_aside")
TREATMENTS = {"set_aside": "set aside", "repair": "put right", "warn": "kept, with a warning"}
