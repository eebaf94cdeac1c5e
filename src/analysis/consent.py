"""Whom a list may reach: consent is asked of the customer table, and what is not known is a no.

Electronic mail and text messages for advertising need the person's prior consent (Directive 2002/58/EC, article 13(1)), and the
company must be able to show it (GDPR, article 7(1)). So a customer without a recorded yes is left out; where a study maps no
consent at all, nobody has one, and such a list is empty until it does. Letters need no prior consent.
"""

from dataclasses import dataclass

import ibis
import pandas as pd

from analysis.errors import RapportError

REACH = ("email", "sms", "mail", "none")
ASKED = {"email": "consent_email", "sms": "consent_sms"}  # way to reach people -> the column that allows it
PEOPLE = {
    "customer_id": "customers",
    "prospect_id": "prospects",
}  # who can be reached -> the table that holds the consent


class ConsentError(RapportError):
    """A list of people that does not say how they will be reached, or whose people cannot be asked for consent."""


@dataclass(frozen=True)
class Consented:
    """What may leave of a list.

    Attributes
    ----------
    frame : the rows that are left, in their order. rows : how many there were. known : whether consent is recorded at all.
    """

    frame: pd.DataFrame
    rows: int
    known: bool

    @property
    def left_out(self) -> int:
        """Rows left out for lack of consent."""
        return self.rows - len(self.frame)


def check_reach(name: str, columns: list[str], reach: str | None) -> str | None:
    """The column of ``columns`` that names the people of list ``name`` who must have consented; None where none must.

    Raises
    ------
    ConsentError
        The list holds people and does not say how they are reached, or says it in an unknown word; or it is for e-mail or text
        messages and names nobody whose consent could be looked up.
    """
    people = next((column for column in PEOPLE if column in columns), None)
    ways = ", ".join(f"reach={way!r}" for way in REACH)
    if reach is None and people:
        raise ConsentError(
            f"list {name!r} holds {people}; say how its people will be reached: {ways} (none: not used for contacting)"
        )
    if reach not in (None, *REACH):
        raise ConsentError(f"list {name!r}: reach {reach!r} is not known; say {ways}")
    if reach in ASKED and people is None:
        raise ConsentError(
            f"list {name!r} is for reach {reach!r} and has no customer_id, so nobody can be asked for consent"
        )
    return people if reach in ASKED else None


def consenting(frame: pd.DataFrame, people: str, reach: str, table: ibis.Table | None) -> Consented:
    """Keep only those who have said yes to being reached that way.

    Parameters
    ----------
    frame : a list with the column ``people``.
    people : ``customer_id`` or ``prospect_id``.
    reach : ``email`` or ``sms``.
    table : the table of :data:`PEOPLE` that holds the consent, or None where the study has none.
    """
    column = ASKED[reach]
    if table is None or column not in table.columns:
        return Consented(frame.iloc[:0], len(frame), known=False)
    allowed = table.filter(table[column].fill_null(False)).select(people).to_pandas()[people]
    return Consented(frame[frame[people].isin(allowed)], len(frame), known=True)
