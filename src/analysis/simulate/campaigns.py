"""Campaigns: what each of their arms would do to each customer's orders, and what the arm that they got did.

A campaign acts on the orders that its members would have placed anyway. The orders under every arm are worked out with
the same random numbers, so that the difference between two arms is the arms' and not chance's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.simulate.clock import LAST_DAY, dates
from analysis.simulate.people import RESPONSIVENESS, People
from analysis.simulate.purchases import CAUSED, OWN, PULLED, Occasions

CONTROL = "control"
AFTER_DAYS = 28  # how long after its end a campaign still moves orders
RECENT_DAYS = 56  # what observational targeting calls recent

_KEYS = {"owner": "int32", "campaign_id": "str", "arm": "str"}
_CONTACTS = {
    **_KEYS,
    "contacted_day": "float64",
    "channel": "str",
    "offer_id": "str",
    **dict.fromkeys(("delivered", "opened", "clicked", "converted", "redeemed", "unsubscribed"), "boolean"),
}
_EFFECTS = {
    **_KEYS,
    "assigned": "bool",
    "spend_effect": "float64",
    "order_effect": "int64",
    "day_effect": "int64",
    "coupon": "float64",
}


@dataclass(frozen=True)
class Arm:
    """One way of treating a member of a campaign; the arm named ``control`` is left alone.

    Attributes
    ----------
    share : of the members. lift : extra orders that a persuadable is expected to place. loss : chance that a sleeping
    dog drops an order. face_value : of a coupon on the first order in the campaign's days, CNY; 0 is no coupon.
    redemption : chance that a customer who orders uses it. emails : how many are sent, where the channel is email.
    """

    name: str
    share: float
    lift: float = 0.0
    loss: float = 0.0
    face_value: float = 0.0
    redemption: float = 0.0
    emails: int = 1


@dataclass(frozen=True)
class Campaign:
    """What is planted about one campaign.

    Attributes
    ----------
    channel : post, email or sms. design : ``randomised`` or ``observational``. start : first day, whole. days : length.
    eligible_share : of the customers who may be contacted, how many take part. largest : cap on that share, so that about
    this many take part at most, however large the company. cost_per_contact : CNY a treated customer. offer_cost : CNY
    of handling a redeemed coupon, beyond its face value.
    carry_over : share of the extra orders that fall in the ``AFTER_DAYS`` after the end. pull_forward : share of a
    persuadable's own orders of those days that move into the campaign's.
    threshold, noise : an observational campaign goes to those whose spend in the last ``RECENT_DAYS`` before the start
    is more than ``threshold`` plus normal noise (its standard deviation) times their usual spend in as many days.
    delivered : share of customers whom e-mail reaches. opened : chance that a customer reached opens an e-mail.
    clicked, unsubscribe : chances that one who opens any clicks in an e-mail, and ends their consent because of it.
    """

    campaign_id: str
    name: str
    channel: str
    design: str
    start: int
    days: int
    arms: tuple[Arm, ...]
    eligible_share: float = 1.0
    largest: int | None = None
    cost_per_contact: float = 0.0
    offer_cost: float = 0.0
    carry_over: float = 0.0
    pull_forward: float = 0.0
    threshold: float = 0.0
    noise: float = 0.0
    delivered: float = 0.98
    opened: float = 0.35
    clicked: float = 0.15
    unsubscribe: float = 0.01

    @property
    def end(self) -> int:
        """The day after the last."""
        return self.start + self.days

    def offer_id(self, arm: Arm) -> str | None:
        """Number of the arm's coupon, or None without one."""
        return f"{self.campaign_id}-{arm.name}" if arm.face_value else None


@dataclass(frozen=True)
class Outcome:
    """What campaigns did to a batch of customers, and what the company knows of it.

    Attributes
    ----------
    occasions : the orders as placed. contacts : one row a campaign × member, as recorded; missing where the channel or
    the arm has no such thing. effects : the truth, one row a campaign × treatment arm × member: ``assigned`` (got this
    arm), and what the arm makes of the member's days of the campaign, compared with being left alone: spend_effect (CNY
    paid), order_effect (orders), day_effect (days with something paid), coupon (CNY taken off with it, already in spend_effect).
    consent_email : shape (n,), after all unsubscribing.
    """

    occasions: Occasions
    contacts: pd.DataFrame
    effects: pd.DataFrame
    consent_email: NDArray[np.bool_]


def run(
    plans: Sequence[Campaign],
    people: People,
    occasions: Occasions,
    lapsed: NDArray[np.float64],
    customers: int,
    rng: np.random.Generator,
    shape: float,
) -> Outcome:
    """Run campaigns in order of start, each on the orders that the earlier ones left.

    Parameters
    ----------
    plans : the campaigns. people : a batch of n customers. occasions : their orders without any campaign.
    lapsed : shape (n,), the day on which each stops being a customer, beyond which no campaign brings an order.
    customers : size of the whole company, for ``Campaign.largest``.
    shape : of the gamma distribution of a customer's orders around their mean.
    """
    consent_email = people.consent_email.copy()
    contacts, effects = [], []
    for plan in sorted(plans, key=lambda plan: plan.start):
        members = _members(plan, people, consent_email, occasions, customers, rng)
        occasions, contacted, truth = _contact(plan, members, people, occasions, lapsed, shape, rng)
        consent_email[contacted["owner"][contacted["unsubscribed"].fillna(False)]] = False
        contacts.append(contacted)
        effects.append(truth)
    return Outcome(occasions, _stacked(contacts, _CONTACTS), _stacked(effects, _EFFECTS), consent_email)


def _members(
    plan: Campaign,
    people: People,
    consent_email: NDArray[np.bool_],
    occasions: Occasions,
    customers: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Indices of the customers who take part."""
    share = plan.eligible_share if plan.largest is None else min(plan.eligible_share, plan.largest / customers)
    chosen = (rng.random(len(people)) < share) & (people.arrival < plan.start) & ~people.holdout
    if plan.channel == "email":
        chosen &= consent_email
    if plan.channel == "sms":
        chosen &= people.consent_sms
    if plan.design == "observational":
        chosen &= _targeted(plan, people, occasions, rng)
    return np.flatnonzero(chosen)


def _targeted(plan: Campaign, people: People, occasions: Occasions, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whose recent spend is high for them; the threshold is fixed because batches know nothing of each other."""

    def spend(since: float) -> NDArray[np.float64]:
        seen = (since <= occasions.day) & (occasions.day < plan.start)
        return np.bincount(occasions.owner[seen], occasions.paid[seen], len(people))

    usual = spend(0) * RECENT_DAYS / np.maximum(plan.start - people.arrival, RECENT_DAYS)
    noise = plan.noise * rng.standard_normal(len(people))
    return spend(plan.start - RECENT_DAYS) > (plan.threshold + noise) * usual


def _contact(
    plan: Campaign,
    members: NDArray[np.int64],
    people: People,
    occasions: Occasions,
    lapsed: NDArray[np.float64],
    shape: float,
    rng: np.random.Generator,
) -> tuple[Occasions, pd.DataFrame, pd.DataFrame]:
    """Give each member an arm: the orders that follow, the contacts, and what every arm would have changed."""
    n = len(people)
    assigned = np.full(n, -1, dtype=np.int8)
    assigned[members] = rng.choice(len(plan.arms), size=len(members), p=[arm.share for arm in plan.arms])
    exposed = (assigned[occasions.owner] >= 0) & (plan.start <= occasions.day) & (occasions.day < plan.end + AFTER_DAYS)
    alone, placed = _select(occasions, exposed), [_select(occasions, ~exposed)]
    chances = _draw_chances(plan, members, alone, people, lapsed, shape, rng)
    untreated = _totals(plan, alone, n)
    ordered, redeemed, reacted = np.zeros((3, n), dtype=bool)
    effects = []
    for code, arm in enumerate(plan.arms):
        orders, redeems, reacts = _respond(plan, arm, alone, chances)
        totals, got = _totals(plan, orders, n), assigned == code
        placed.append(_select(orders, got[orders.owner]))
        ordered |= got & (totals["order_effect"] > 0)
        redeemed |= got & redeems
        reacted |= got & reacts
        if arm.name != CONTROL:
            labels = {"campaign_id": plan.campaign_id, "arm": arm.name, "assigned": got[members]}
            changes = {name: (total - untreated[name])[members] for name, total in totals.items()}
            effects.append(pd.DataFrame({"owner": members.astype(np.int32)} | labels | changes))
    contacts = _record(plan, members, *(found[members] for found in (assigned, ordered, redeemed, reacted)), rng)
    joined = (np.concatenate([getattr(part, f.name) for part in placed]) for f in fields(Occasions))
    return Occasions.sorted(*joined), contacts, _stacked(effects, _EFFECTS)


@dataclass(frozen=True)
class _Chances:
    """The random numbers that decide how members respond, the same under every arm.

    fate, moved_to : of each order placed anyway, what may become of it, and the day to which it would move.
    extra : the orders that the strongest arm causes; an arm causes those whose ``needs`` is below its lift.
    use : shape (n,); a customer uses a coupon with a redemption above it. persuadable, sleeping_dog : shape (n,).
    """

    fate: NDArray[np.float64]
    moved_to: NDArray[np.float64]
    extra: Occasions
    needs: NDArray[np.float64]
    use: NDArray[np.float64]
    persuadable: NDArray[np.bool_]
    sleeping_dog: NDArray[np.bool_]


def _draw_chances(
    plan: Campaign,
    members: NDArray[np.int64],
    alone: Occasions,
    people: People,
    lapsed: NDArray[np.float64],
    shape: float,
    rng: np.random.Generator,
) -> _Chances:
    persuadable, sleeping_dog = (
        people.responsiveness == RESPONSIVENESS.index(name) for name in ("persuadable", "sleeping_dog")
    )
    highest = max(arm.lift for arm in plan.arms)
    swayed = members[persuadable[members]]
    owner = np.repeat(swayed, rng.poisson(highest, len(swayed))).astype(np.int32)
    m = len(owner)
    late = rng.random(m) < plan.carry_over
    day = np.where(late, plan.end, plan.start) + np.where(late, AFTER_DAYS, plan.days) * rng.random(m)
    value = np.maximum(rng.gamma(shape, people.spend_mean[owner] / shape), 0.01)
    extra = Occasions(owner, day, value, np.zeros(m), np.full(m, CAUSED, dtype=np.int8))
    return _Chances(
        fate=rng.random(len(alone)),
        moved_to=plan.start + plan.days * rng.random(len(alone)),
        extra=extra,
        # Nobody orders after lapsing, whatever the arm, so who has lapsed by the start responds to nothing.
        needs=np.where(day < lapsed[owner], highest * rng.random(m), np.inf),
        use=rng.random(len(people)),
        persuadable=persuadable,
        sleeping_dog=sleeping_dog,
    )


def _respond(
    plan: Campaign, arm: Arm, alone: Occasions, chances: _Chances
) -> tuple[Occasions, NDArray[np.bool_], NDArray[np.bool_]]:
    """The members' orders if all of them were in this arm; who uses a coupon; whom the arm moves at all."""
    owner, extra, early = alone.owner, chances.extra, alone.day < plan.end
    caused = chances.needs < arm.lift
    lost = chances.sleeping_dog[owner] & early & (chances.fate < arm.loss)
    pull_forward = 0.0 if arm.name == CONTROL else plan.pull_forward
    pulled = chances.persuadable[owner] & ~early & (alone.origin == OWN) & (chances.fate < pull_forward)
    orders = Occasions.sorted(
        np.r_[owner[~lost], extra.owner[caused]],
        np.r_[np.where(pulled, chances.moved_to, alone.day)[~lost], extra.day[caused]],
        np.r_[alone.value[~lost], extra.value[caused]],
        np.r_[alone.coupon[~lost], extra.coupon[caused]],
        np.r_[np.where(pulled, PULLED, alone.origin)[~lost], extra.origin[caused]],
    )
    inside = np.flatnonzero(orders.day < plan.end)
    first = inside[np.diff(orders.owner[inside], prepend=-1) > 0]
    used = first[chances.use[orders.owner[first]] < arm.redemption]
    orders.coupon[used] += np.minimum(arm.face_value, orders.paid[used])
    redeems, reacts = np.zeros((2, len(chances.use)), dtype=bool)
    redeems[orders.owner[used]] = True
    for moved in (owner[lost | pulled], extra.owner[caused], orders.owner[used]):
        reacts[moved] = True
    return orders, redeems, reacts


def _totals(plan: Campaign, orders: Occasions, n: int) -> dict[str, NDArray]:
    """What each customer does in the campaign's days: CNY paid, orders, CNY taken off; by the effect's name."""
    inside = (plan.start <= orders.day) & (orders.day < plan.end)
    owner = orders.owner[inside]
    return {
        "spend_effect": np.bincount(owner, orders.paid[inside], n),
        "order_effect": np.bincount(owner, minlength=n),
        "day_effect": _purchase_days(owner, orders.day[inside], orders.paid[inside], n),
        "coupon": np.bincount(owner, orders.coupon[inside], n),
    }


def _purchase_days(owner: NDArray, day: NDArray, paid: NDArray, n: int) -> NDArray[np.int64]:
    """Days of each customer on which something was paid, however many orders they hold."""
    code, place = np.unique(owner.astype(np.int64) * (LAST_DAY + AFTER_DAYS) + day.astype(int), return_inverse=True)
    with_sales = np.bincount(place, paid, len(code)) > 0
    return np.bincount(code[with_sales] // (LAST_DAY + AFTER_DAYS), minlength=n)


def _record(
    plan: Campaign,
    members: NDArray[np.int64],
    assigned: NDArray[np.int8],
    ordered: NDArray[np.bool_],
    redeemed: NDArray[np.bool_],
    reacted: NDArray[np.bool_],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """What the company records of its contacts; whom an e-mail moved has opened it."""
    names, offers = [arm.name for arm in plan.arms], [plan.offer_id(arm) for arm in plan.arms]
    treated = np.array([name != CONTROL for name in names])[assigned]
    offered = np.array([offer is not None for offer in offers])[assigned]
    emails = np.array([arm.emails for arm in plan.arms])[assigned]
    luck = rng.random((4, len(members)))
    delivered = reacted | (luck[0] < plan.delivered)
    opened = delivered & (reacted | (luck[1] < 1 - (1 - plan.opened) ** emails))
    clicked = opened & (redeemed | (luck[2] < 1 - (1 - plan.clicked) ** emails))
    unsubscribed = opened & (luck[3] < 1 - (1 - plan.unsubscribe) ** emails)
    mailed = treated & (plan.channel == "email")
    stages = {
        "delivered": (delivered, mailed),
        "opened": (opened, mailed),
        "clicked": (clicked, mailed),
        "converted": (ordered, treated),
        "redeemed": (redeemed, offered),
        "unsubscribed": (unsubscribed, mailed),
    }
    return pd.DataFrame(
        {
            "owner": members.astype(np.int32),
            "campaign_id": plan.campaign_id,
            "arm": pd.array(names, dtype="str").take(assigned),
            "contacted_day": np.where(treated, float(plan.start), np.nan),
            "channel": plan.channel,
            "offer_id": pd.array(offers, dtype="str").take(assigned),
        }
        | {stage: pd.arrays.BooleanArray(happened, ~known) for stage, (happened, known) in stages.items()}
    )


def _stacked(frames: Sequence[pd.DataFrame], types: dict[str, str]) -> pd.DataFrame:
    """Frames under each other, with these columns even where there is no frame or no row."""
    nothing = pd.DataFrame(columns=list(types)).astype(types)
    return pd.concat([nothing, *frames], ignore_index=True).astype(types)


def _select(occasions: Occasions, chosen: NDArray[np.bool_]) -> Occasions:
    return Occasions(*(getattr(occasions, f.name)[chosen] for f in fields(Occasions)))


def campaign_table(plans: Sequence[Campaign]) -> pd.DataFrame:
    """The company's list of campaigns, one row each; dates are local days, the last one included; money in CNY."""
    return pd.DataFrame(
        {
            "campaign_no": [plan.campaign_id for plan in plans],
            "name": [plan.name for plan in plans],
            "channel": [plan.channel for plan in plans],
            "starts_on": dates([plan.start for plan in plans]),
            "ends_on": dates([plan.end - 1 for plan in plans]),
            "design": [plan.design for plan in plans],
            "cost_per_contact": [plan.cost_per_contact for plan in plans],
            "offer_cost": [plan.offer_cost for plan in plans],
        }
    )


def offer_table(plans: Sequence[Campaign]) -> pd.DataFrame:
    """The company's list of coupons, one row an arm that has one; face values in CNY, good for any category."""
    pairs = [(plan, arm) for plan in plans for arm in plan.arms if arm.face_value]
    return pd.DataFrame(
        {
            "offer_no": [plan.offer_id(arm) for plan, arm in pairs],
            "campaign_no": [plan.campaign_id for plan, _ in pairs],
            "kind": "coupon",
            "face_value": [arm.face_value for _, arm in pairs],
            "category": None,
            "valid_until": dates([plan.end - 1 for plan, _ in pairs]),
        }
    )


TEXTBOOK = (
    Campaign(
        "letters",
        "Two letters",
        "post",
        "randomised",
        start=427,
        days=28,
        arms=(
            Arm("long_letter", 1 / 3, lift=0.6, loss=0.5),
            Arm("short_letter", 1 / 3, lift=0.3, loss=0.2),
            Arm(CONTROL, 1 / 3),
        ),
        eligible_share=0.22,
        largest=2_200,
        cost_per_contact=3.0,
    ),
    Campaign(
        "quiet_sms",
        "Text message",
        "sms",
        "randomised",
        start=546,
        days=28,
        arms=(Arm("message", 0.5), Arm(CONTROL, 0.5)),
        eligible_share=0.3,
        largest=1_200,
        cost_per_contact=0.1,
    ),
)

COMPANY = (
    Campaign(
        "two_letters",
        "Winter letters by e-mail",
        "email",
        "randomised",
        start=371,
        days=28,
        arms=(
            Arm("discount", 1 / 3, lift=0.8, loss=0.2, face_value=25.0, redemption=0.7),
            Arm("story", 1 / 3, lift=0.8, loss=0.2),
            Arm(CONTROL, 1 / 3),
        ),
        cost_per_contact=0.5,
        carry_over=0.1,
    ),
    Campaign(
        "spring_mail",
        "Spring mailing",
        "post",
        "randomised",
        start=427,
        days=28,
        arms=(Arm("mail", 0.5, lift=0.9, loss=0.3), Arm(CONTROL, 0.5)),
        cost_per_contact=3.0,
        carry_over=0.15,
        pull_forward=0.25,
    ),
    Campaign(
        "coupon",
        "Coupons",
        "post",
        "randomised",
        start=490,
        days=28,
        arms=(
            Arm("face_20", 0.25, lift=0.6, loss=0.1, face_value=20.0, redemption=0.4),
            Arm("face_50", 0.25, lift=0.8, loss=0.1, face_value=50.0, redemption=0.5),
            Arm("face_100", 0.25, lift=0.95, loss=0.1, face_value=100.0, redemption=0.7),
            Arm(CONTROL, 0.25),
        ),
        cost_per_contact=1.5,
        offer_cost=1.0,
        carry_over=0.05,
    ),
    Campaign(
        "frequency",
        "How often to write",
        "email",
        "randomised",
        start=546,
        days=56,
        arms=(
            Arm("weekly", 1 / 3, lift=0.7, loss=0.9, emails=8),
            Arm("monthly", 1 / 3, lift=0.65, loss=0.1, emails=2),
            Arm(CONTROL, 1 / 3),
        ),
        cost_per_contact=0.6,
    ),
    Campaign(
        "quiet_sms",
        "Quiet text message",
        "sms",
        "randomised",
        start=630,
        days=14,
        arms=(Arm("message", 0.5), Arm(CONTROL, 0.5)),
        cost_per_contact=0.1,
    ),
    Campaign(
        "autumn_targeted",
        "Autumn catalogue",
        "post",
        "observational",
        start=658,
        days=28,
        arms=(Arm("catalogue", 1.0, lift=0.15, loss=0.1),),
        cost_per_contact=6.0,
        threshold=1.9,
        noise=1.3,
    ),
)
