"""Everything that is known of one customer, on one page, for the analyst alone.

A card is about one person. It is shown where somebody sits in front of a notebook and looks something up, and nowhere
else: not in a run for a report, and not where the committed notebooks are executed again.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import pandas as pd
from markupsafe import Markup, escape

from analysis.errors import RapportError
from analysis.reporting.step_words import StepWords
from analysis.reporting.theme import GRID, INK, PALETTE, QUIET
from analysis.segmentation.words import Words
from analysis.step import STAGING_VARIABLE

CARD_TABLES = (
    "customers", "customer_summary", "customer_value", "customer_segment", "order_lines", "contacts", "campaigns",
    "interactions", "survey_responses", "customer_loyalty",
)  # fmt: skip
_SESSION_VARIABLES = ("JPY_SESSION_NAME", "VSCODE_PID")  # set for a kernel by the program in which a person opened it
_UNITS = {
    "spend": "money", "margin": "money", "monetary_value": "money", "expected_spend": "money", "existing_value": "money",
    "residual_value": "money", "growth_value": "money", "profit": "money", "net_amount": "money", "referral_value": "money",
    "probability_alive": "share", "expected_purchases": "number", "recency": "days", "T": "days", "recency_days": "days",
}  # fmt: skip
_SUMMARY = (
    "frequency", "T", "recency_days", "orders", "spend", "margin", "monetary_value", "r_score", "f_score", "m_score", "rfm_product",
)  # fmt: skip
_VALUE = (
    "probability_alive",
    "expected_purchases",
    "expected_spend",
    "existing_value",
    "residual_value",
    "growth_value",
    "profit",
)
_CODES = {"value_tier": "tier", "life_stage": "stage", "recommended_relationship_level": "level"}
_HIDDEN = ("customer_id", "response_id", "interaction_id", "campaign_id", "offer_id")


def customer_card(
    customer_id: str,
    tables: Mapping[str, ibis.Table | pd.DataFrame],
    words: Words,
    *,
    labels: Mapping[str, str] | None = None,
    last: int = 10,
) -> CustomerCard:
    """Look up one customer; the result shows itself in a notebook that a person has open.

    Parameters
    ----------
    customer_id : as in the tables: where ids are hashed at the door, the hashed one.
    tables : name of a canonical table (``CARD_TABLES``) -> the table; those that are not there are left out of the card.
    words : for names and numbers.
    labels : survey item -> what was asked.
    last : orders, contacts and service contacts that are shown.

    Raises
    ------
    RapportError
        The notebook is being run for a report or executed again by a program, or no table knows the customer.
    """
    _only_for_a_person()
    looked_up = [name for name in CARD_TABLES if name in tables and name not in ("order_lines", "campaigns")]
    rows = {name: _of(tables[name], str(customer_id)) for name in looked_up}
    orders = _orders(tables["order_lines"], str(customer_id), last) if "order_lines" in tables else pd.DataFrame()
    if not len(orders) and not any(len(found) for found in rows.values()):
        raise RapportError(
            "customer card: no table knows this customer; write the id as the tables have it (hashed, where ids are personal)"
        )
    first = {name: found.iloc[0] if len(found) else pd.Series(dtype=object) for name, found in rows.items()}
    none = pd.Series(dtype=object)
    sections = {
        "who": _pairs(first.get("customers", none), None, words),
        "segment": _pairs(first.get("customer_segment", none), (*_CODES, "cluster"), words),
        "so_far": _pairs(first.get("customer_summary", none), _SUMMARY, words),
        "value": _value(first.get("customer_value", none), words),
        "orders": _listed(orders, words),
        "contacts": _listed(_contacts(rows.get("contacts"), tables.get("campaigns"), last), words),
        "interactions": _listed(_latest(rows.get("interactions"), "opened_at", last), words),
        "survey": _survey(rows.get("survey_responses"), labels or {}, words),
        "loyalty": _pairs(_newest(rows.get("customer_loyalty"), rows.get("survey_responses")), None, words),
    }
    return CustomerCard(str(customer_id), {name: found for name, found in sections.items() if len(found)}, words)


@dataclass(frozen=True, repr=False)
class CustomerCard:
    """What is known of one customer.

    Attributes
    ----------
    customer_id : the customer.
    sections : name -> frame of texts; those with the columns ``what`` and ``value`` are lists of facts.
    words : for headings.
    """

    customer_id: str
    sections: dict[str, pd.DataFrame]
    words: Words

    def __repr__(self) -> str:
        return "CustomerCard: one person, shown only in a notebook that somebody has open"

    def _repr_html_(self) -> str:
        _only_for_a_person()
        head = Markup('<h3 style="margin:0 0 .2em;color:{}">{} {}</h3>').format(
            PALETTE[0], self.words("card_title"), self.customer_id
        )
        note = Markup('<p style="margin:0 0 1em;color:{}">{}</p>').format(QUIET, self.words("card_note"))
        body = Markup("").join(
            _section(self.words(f"card_section_{name}"), frame) for name, frame in self.sections.items()
        )
        style = (
            f"max-width:42rem;color:{INK};background:#fff;padding:1em 1.25em;border:1px solid {GRID};border-radius:8px"
        )
        return str(Markup('<div style="{}">{}{}{}</div>').format(style, head, note, body))


def _only_for_a_person() -> None:
    """Refuse where what is shown would be published, or nobody is there to see it.

    Raises
    ------
    RapportError
    """
    if os.environ.get(STAGING_VARIABLE):
        raise RapportError(
            "customer card: it is about one person and never published; this notebook is being run for a report, so take the "
            "cell with customer_card out of it"
        )
    if _in_kernel() and not any(os.environ.get(name) for name in _SESSION_VARIABLES):
        raise RapportError(
            "customer card: it is about one person, and no person has this notebook open; take the cell with customer_card out "
            "of a notebook that programs execute"
        )


def _in_kernel() -> bool:
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def _of(table: ibis.Table | pd.DataFrame, customer_id: str) -> pd.DataFrame:
    if "customer_id" not in table.columns:
        return pd.DataFrame()
    if isinstance(table, pd.DataFrame):
        return table[table["customer_id"].astype("str") == customer_id].reset_index(drop=True)
    return table.filter(table.customer_id.cast("string") == customer_id).to_pyarrow().to_pandas()


def _orders(lines: ibis.Table | pd.DataFrame, customer_id: str, last: int) -> pd.DataFrame:
    """The customer's last orders, one row each, added up where the lines are."""
    if isinstance(lines, pd.DataFrame):
        lines = ibis.memtable(lines)
    own = lines.filter(lines.customer_id.cast("string") == customer_id)
    orders = own.group_by(["order_date", "order_id"]).aggregate(lines=own.count(), net_amount=own.net_amount.sum())
    newest = orders.order_by([ibis.desc("order_date"), ibis.asc("order_id")]).limit(last)
    return newest.select("order_date", "lines", "net_amount").to_pyarrow().to_pandas()


def _contacts(contacts: pd.DataFrame | None, campaigns: Any, last: int) -> pd.DataFrame:
    """What the customer was sent, newest first, with the campaigns' names and days where these are known."""
    if contacts is None or contacts.empty:
        return pd.DataFrame()
    if campaigns is not None:
        known = campaigns if isinstance(campaigns, pd.DataFrame) else campaigns.to_pyarrow().to_pandas()
        kept = known[[c for c in ("campaign_id", "name", "starts_on") if c in known]]
        contacts = contacts.merge(kept, on="campaign_id", how="left")
    if "name" not in contacts or contacts["name"].isna().all():
        contacts = contacts.assign(name=contacts["campaign_id"])
    day = next((c for c in ("contacted_on", "starts_on") if c in contacts and contacts[c].notna().any()), "campaign_id")
    order = [
        day,
        "name",
        "arm",
        "channel",
        "delivered",
        "opened",
        "clicked",
        "redeemed",
        "converted",
        "unsubscribed",
        "spend",
    ]
    shown = _latest(contacts, day, last)
    return shown[[c for c in dict.fromkeys(order) if c in shown and c not in _HIDDEN and shown[c].notna().any()]]


def _latest(frame: pd.DataFrame | None, by: str, last: int) -> pd.DataFrame:
    if frame is None or frame.empty:
        return pd.DataFrame()
    shown = frame.sort_values(by, ascending=False, kind="stable").head(last)
    return shown[[c for c in shown if c not in _HIDDEN or c == by]].reset_index(drop=True)


def _survey(responses: pd.DataFrame | None, labels: Mapping[str, str], words: Words) -> pd.DataFrame:
    """Questions and answers, one column a questionnaire, the newest first; at most three of them."""
    if responses is None or responses.empty:
        return pd.DataFrame()
    if "responded_on" in responses:
        responses = responses.sort_values("responded_on", ascending=False, kind="stable")
    # What somebody wrote of their own accord is counted over many, and told of nobody.
    hidden = (*_HIDDEN, "responded_on", "weight")
    items = [c for c in responses if c not in hidden and not c.startswith("comment_")]
    table = pd.DataFrame({words("card_question"): [labels.get(item, item) for item in items]})
    for place, (_, row) in enumerate(responses.head(3).iterrows(), start=1):
        day = row.get("responded_on")
        name = words.format.date(day) if day is not None and not pd.isna(day) else words("card_answer")
        table[name if name not in table else f"{name} ({place})"] = [_text(item, row[item], words) for item in items]
    return table


def _newest(scores: pd.DataFrame | None, responses: pd.DataFrame | None) -> pd.Series:
    if scores is None or scores.empty:
        return pd.Series(dtype=object)
    if responses is not None and "responded_on" in responses and len(responses):
        days = responses.set_index("response_id")["responded_on"]
        scores = scores.assign(_day=scores["response_id"].map(days)).sort_values("_day", ascending=False, kind="stable")
    return scores.drop(columns="_day", errors="ignore").iloc[0]


def _value(row: pd.Series, words: Words) -> pd.DataFrame:
    pairs = _pairs(row, _VALUE, words)
    limits = [row.get(name) for name in ("clv_low", "clv_high", "existing_value")]
    if pairs.empty or any(limit is None or pd.isna(limit) for limit in limits):
        return pairs
    low, high = limits[0] - limits[2], limits[1] - limits[2]
    place = pairs["what"] == _label("residual_value", words)
    pairs.loc[place, "value"] = words.format.estimate(row["residual_value"], low, high, "money")
    return pairs


def _pairs(row: pd.Series, columns: tuple[str, ...] | None, words: Words) -> pd.DataFrame:
    """Known facts of one row, as texts: the columns asked for, or all."""
    names = [c for c in (row.index if columns is None else columns) if c in row.index and c not in _HIDDEN]
    known = [(c, _text(c, row[c], words)) for c in names if not pd.isna(row[c])]
    return pd.DataFrame([(_label(c, words), text) for c, text in known], columns=["what", "value"])


def _listed(frame: pd.DataFrame, words: Words) -> pd.DataFrame:
    shown = {_label(c, words): [_text(c, value, words) for value in frame[c]] for c in frame.columns}
    return pd.DataFrame(shown)


def _label(column: str, words: Words) -> str:
    """What a column is called; the columns that only this company has keep their own names."""
    return StepWords.name(words, "card", column).replace("_", " ")


def _text(column: str, value: Any, words: Words) -> str:
    """One value in words; what is in the data is text and stays text."""
    if value is None or pd.isna(value):
        return words.format.missing
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return words("card_yes" if value else "card_no")
    if isinstance(value, datetime.date):
        return words.format.date(value)
    if column in _CODES:
        return words.name(_CODES[column], str(value))
    if isinstance(value, str):
        return value
    return words.format.value(value, _UNITS.get(column, "number"))


def _section(title: str, frame: pd.DataFrame) -> Markup:
    style = "text-align:left;vertical-align:top;padding:.25em .9em .25em 0;border-bottom:1px solid"
    cell = Markup('<{0} style="' + style + ' {1};{2}">{3}</{0}>')
    facts = list(frame.columns) == ["what", "value"]
    head = Markup("")
    if not facts:
        names = Markup("").join(cell.format("th", QUIET, "font-weight:600", name) for name in frame.columns)
        head = Markup("<tr>{}</tr>").format(names)
    first, other = (("th", f"font-weight:400;color:{QUIET}") if facts else ("td", "")), ("td", "")
    lines = []
    for row in frame.itertuples(index=False):
        cells = [cell.format(kind, GRID, look, text) for (kind, look), text in zip([first] + [other] * len(row), row)]
        lines.append(Markup("<tr>{}</tr>").format(Markup("").join(cells)))
    body = Markup("").join(lines)
    heading = Markup('<h4 style="margin:1em 0 .3em;color:{}">{}</h4>').format(INK, escape(title))
    table = Markup('<table style="border-collapse:collapse;margin:0;font-size:.95em">{}{}</table>').format(head, body)
    return heading + Markup('<div style="overflow-x:auto">{}</div>').format(table)
