"""Simulated campaigns: who takes part, what each arm changes, and that what happened is what the truth says."""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from analysis.campaigns.effects import DifferenceInMeans
from analysis.simulate import campaigns
from analysis.simulate.campaigns import AFTER_DAYS, COMPANY, CONTROL, TEXTBOOK, Arm, Campaign
from analysis.simulate.clock import LAST_DAY, OBSERVED_DAYS
from analysis.simulate.people import RESPONSIVENESS, Kind, Level, PeoplePlan, draw
from analysis.simulate.purchases import CAUSED, OWN, PULLED, Occasions

SHAPE = 4.0
ANY = (Level("any", 1.0),)
PEOPLE = PeoplePlan(
    arrival_days=546,
    r=1.5,
    alpha=75.0,
    s=0.8,
    beta=800.0,
    p=SHAPE,
    q=4.5,
    gamma=105.0,
    kinds=(Kind("customer", 1.0, responsiveness=(0.3, 0.35, 0.25, 0.1)),),
    channels=ANY,
    regions=ANY,
    age_bands=ANY,
)
BY_ID = {plan.campaign_id: plan for plan in COMPANY}
RANDOMISED = [plan for plan in COMPANY if plan.design == "randomised"]


def company(n, seed=1):
    """Customers, the days on which they lapse, and Poisson orders from arrival to lapse."""
    rng = np.random.default_rng(seed)
    people = draw(PEOPLE, 1, n, rng)
    lapsed = people.arrival + rng.exponential(1 / people.hazard)
    lived = np.minimum(lapsed, LAST_DAY) - people.arrival
    owner = np.repeat(np.arange(n), 1 + rng.poisson(people.rate * lived))
    first = np.r_[True, np.diff(owner) > 0]
    day = people.arrival[owner] + np.where(first, 0.0, rng.random(len(owner)) * lived[owner])
    return people, Occasions.sorted(owner, day, rng.gamma(SHAPE, people.spend_mean[owner] / SHAPE)), lapsed


def run(plans, batch, seed=7, customers=None):
    people, occasions, lapsed = batch
    rng = np.random.default_rng(seed)
    return campaigns.run(plans, people, occasions, lapsed, customers or len(people), rng, SHAPE)


def within(occasions, start, end, n):
    """CNY paid by each of n customers on the days [start, end)."""
    inside = (start <= occasions.day) & (occasions.day < end)
    return np.bincount(occasions.owner[inside], occasions.paid[inside], n)


def rows(occasions, chosen):
    return np.column_stack([getattr(occasions, f.name)[chosen].astype(float) for f in fields(Occasions)])


def same(left, right):
    return all(np.array_equal(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))


def kinds(people, frame, name):
    return people.responsiveness[frame["owner"]] == RESPONSIVENESS.index(name)


@pytest.fixture(scope="module")
def batch():
    return company(20_000)


@pytest.fixture(scope="module")
def outcome(batch):
    return run(COMPANY, batch)


@pytest.fixture
def letters():
    """A mailing with everything but a coupon, to everybody, on orders of people who never lapse."""
    arms = (Arm("mail", 0.5, lift=1.2, loss=0.4), Arm("card", 0.2, lift=0.3), Arm(CONTROL, 0.3))
    return Campaign("m", "Mail", "post", "randomised", 546, 28, arms, carry_over=0.25, pull_forward=0.3)


def test_the_same_seed_gives_the_same_world(batch, outcome):
    again, other = run(COMPANY, batch), run(COMPANY, batch, seed=8)
    assert same(again.occasions, outcome.occasions)
    pd.testing.assert_frame_equal(again.contacts, outcome.contacts)
    pd.testing.assert_frame_equal(again.effects, outcome.effects)
    assert not same(other.occasions, outcome.occasions)


@pytest.mark.parametrize("plan", COMPANY, ids=lambda plan: plan.campaign_id)
def test_only_the_eligible_take_part(batch, outcome, plan):
    people = batch[0]
    owner = outcome.contacts.loc[outcome.contacts["campaign_id"] == plan.campaign_id, "owner"].to_numpy()
    assert len(owner) > 1_000
    assert len(np.unique(owner)) == len(owner)
    assert not people.holdout[owner].any()
    assert (people.arrival[owner] < plan.start).all()
    if plan.channel == "post" and plan.design == "randomised":
        assert set(owner) == set(np.flatnonzero(~people.holdout & (people.arrival < plan.start)))
    if plan.channel == "sms":
        assert people.consent_sms[owner].all()
    if plan.channel == "email":
        assert people.consent_email[owner].all()


def test_a_share_of_the_eligible_takes_part_and_never_more_than_the_largest_number(batch):
    people = batch[0]
    plan = replace(BY_ID["spring_mail"], eligible_share=0.4)
    could = (~people.holdout & (people.arrival < plan.start)).sum()
    for limit, share in ((None, 0.4), (1_000_000, 0.4), (2_000, 0.1)):
        members = len(run([replace(plan, largest=limit)], batch).contacts)
        assert abs(members - share * could) < 4 * np.sqrt(could * share * (1 - share))


@pytest.mark.parametrize("plan", [*RANDOMISED, *TEXTBOOK], ids=lambda plan: plan.name)
def test_arms_have_their_shares(batch, plan):
    contacts = run([plan], batch).contacts
    m = len(contacts)
    for arm in plan.arms:
        got = (contacts["arm"] == arm.name).sum()
        assert abs(got - m * arm.share) < 4 * np.sqrt(m * arm.share * (1 - arm.share)), arm.name


def test_chance_decides_the_arm(batch, outcome):
    people = batch[0]
    contacts = outcome.contacts[outcome.contacts["campaign_id"] == "spring_mail"]
    mailed = (contacts["arm"] == "mail").to_numpy()
    before = within(batch[1], 0, BY_ID["spring_mail"].start, len(people))[contacts["owner"]]
    for trait in (before, people.responsiveness[contacts["owner"]] == 0, people.arrival[contacts["owner"]]):
        found = DifferenceInMeans(trait, mailed).fit()
        assert abs(found.effect) < 4 * found.se


def test_persuadables_order_as_many_more_as_planted(batch, letters):
    people, occasions, _ = batch
    forever = np.full(len(people), np.inf)
    outcome = run([replace(letters, pull_forward=0.0)], (people, occasions, forever))
    for arm in letters.arms[:2]:
        effects = outcome.effects[outcome.effects["arm"] == arm.name]
        swayed = effects[kinds(people, effects, "persuadable")]
        m, expected = len(swayed), arm.lift * (1 - letters.carry_over)
        assert abs(swayed["order_effect"].mean() - expected) < 4 * np.sqrt(expected / m)
        mean = people.spend_mean[swayed["owner"]]
        # A sum of Poisson many gamma values has variance λ·m²·(1 + 1 / shape).
        error = np.sqrt(expected * (1 + 1 / SHAPE) * (mean**2).sum()) / m
        assert abs(swayed["spend_effect"].mean() - expected * mean.mean()) < 4 * error
    caused = outcome.occasions.day[outcome.occasions.origin == CAUSED]
    late = (caused >= letters.end).mean()
    assert abs(late - letters.carry_over) < 4 * np.sqrt(letters.carry_over * (1 - letters.carry_over) / len(caused))
    assert (caused >= letters.start).all()
    assert (caused < letters.end + AFTER_DAYS).all()


def test_a_share_of_later_orders_is_pulled_into_the_campaign(batch, letters):
    people, occasions, lapsed = batch
    outcome = run([letters], batch)
    pulled = outcome.occasions.origin == PULLED
    day, owner = outcome.occasions.day[pulled], outcome.occasions.owner[pulled]
    assert ((letters.start <= day) & (day < letters.end)).all()
    contacts = outcome.contacts
    treated = contacts.loc[(contacts["arm"] != CONTROL) & kinds(people, contacts, "persuadable"), "owner"]
    treated = np.isin(np.arange(len(people)), treated) & (lapsed > letters.start)
    assert treated[owner].all()
    after = (letters.end <= occasions.day) & (occasions.day < letters.end + AFTER_DAYS)
    candidates = (after & treated[occasions.owner]).sum()
    share = letters.pull_forward
    assert abs(pulled.sum() - share * candidates) < 4 * np.sqrt(candidates * share * (1 - share))
    assert np.isin(outcome.occasions.value[pulled], occasions.value[after]).all()
    gone = np.isin(occasions.value[after], outcome.occasions.value[pulled])
    assert gone.sum() == pulled.sum()


def test_sleeping_dogs_drop_orders(batch, letters):
    people, occasions, _ = batch
    outcome = run([letters], batch)
    effects = outcome.effects[outcome.effects["arm"] == "mail"]
    dogs = effects[kinds(people, effects, "sleeping_dog")]
    assert (dogs["spend_effect"] <= 0).all()
    inside = (letters.start <= occasions.day) & (occasions.day < letters.end) & np.isin(occasions.owner, dogs["owner"])
    lost, loss = -dogs["order_effect"].sum(), 0.4
    assert abs(lost - loss * inside.sum()) < 4 * np.sqrt(inside.sum() * loss * (1 - loss))
    contacts = outcome.contacts
    mailed = contacts.loc[(contacts["arm"] == "mail") & kinds(people, contacts, "sleeping_dog"), "owner"]
    later, left = (
        rows(orders, np.isin(orders.owner, mailed) & (orders.day >= letters.end))
        for orders in (occasions, outcome.occasions)
    )
    np.testing.assert_array_equal(later, left)


def test_sure_things_lost_causes_and_the_lapsed_do_not_respond(batch, letters):
    people, _, lapsed = batch
    effects = run([letters], batch).effects
    unmoved = kinds(people, effects, "sure_thing") | kinds(people, effects, "lost_cause")
    unmoved |= lapsed[effects["owner"]] <= letters.start
    assert (effects.loc[unmoved, ["spend_effect", "order_effect", "coupon"]] == 0).all(axis=None)
    assert (effects.loc[~unmoved, "spend_effect"] != 0).any()


def test_nobody_orders_after_lapsing(batch, outcome):
    lapsed = batch[2]
    caused = outcome.occasions.origin != OWN
    assert caused.sum() > 1_000
    assert (outcome.occasions.day[caused] < lapsed[outcome.occasions.owner[caused]]).all()


def test_a_coupon_subsidises_sure_things(batch, outcome):
    people = batch[0]
    effects = outcome.effects[outcome.effects["campaign_id"] == "coupon"]
    sure = effects[kinds(people, effects, "sure_thing")]
    np.testing.assert_allclose(sure["spend_effect"], -sure["coupon"], atol=1e-9)
    assert (sure["order_effect"] == 0).all()
    means = sure.groupby("arm")["spend_effect"].mean()
    assert 0 > means["face_20"] > means["face_50"] > means["face_100"]


def test_a_coupon_is_used_once_on_the_first_order_and_never_exceeds_it(batch):
    plan = BY_ID["coupon"]
    outcome = run([plan], batch)
    orders, contacts = outcome.occasions, outcome.contacts
    used = np.flatnonzero(orders.coupon > 0)
    assert len(np.unique(orders.owner[used])) == len(used)
    assert set(orders.owner[used]) == set(contacts.loc[contacts["redeemed"].fillna(False), "owner"])
    face = pd.Series({arm.name: arm.face_value for arm in plan.arms})
    face = pd.Series(face[contacts["arm"]].to_numpy(), contacts["owner"])[orders.owner[used]].to_numpy()
    np.testing.assert_array_equal(orders.coupon[used], np.minimum(face, orders.value[used]))
    assert (orders.coupon[used] < face).any()
    assert (orders.day[used] >= plan.start).all()
    earlier = orders.owner[used - 1] == orders.owner[used]
    assert (orders.day[used - 1][earlier] < plan.start).all()
    for arm in plan.arms[:3]:
        ordered = contacts[(contacts["arm"] == arm.name) & contacts["converted"].fillna(False)]
        m, share = len(ordered), arm.redemption
        assert abs(ordered["redeemed"].sum() - share * m) < 4 * np.sqrt(m * share * (1 - share))


def test_arms_are_compared_with_the_same_random_numbers(outcome):
    effects = outcome.effects[outcome.effects["campaign_id"] == "two_letters"].set_index("owner")
    discount, story = (effects[effects["arm"] == name] for name in ("discount", "story"))
    # Both letters move the same people to the same orders; one of them also gives money away.
    np.testing.assert_array_equal(discount["order_effect"], story["order_effect"])
    np.testing.assert_allclose(discount["spend_effect"], story["spend_effect"] - discount["coupon"], atol=1e-9)


def test_a_campaign_without_effect_changes_nothing(batch, outcome):
    quiet = outcome.effects[outcome.effects["campaign_id"] == "quiet_sms"]
    assert len(quiet) > 1_000
    assert (quiet[["spend_effect", "order_effect"]] == 0).all(axis=None)
    assert same(run([BY_ID["quiet_sms"]], batch).occasions, batch[1])


def test_orders_outside_the_campaigns_are_untouched(batch, outcome):
    people, before, _ = batch
    after = outcome.occasions

    def outside(orders):
        spans = [(plan.start <= orders.day) & (orders.day < plan.end + AFTER_DAYS) for plan in COMPANY]
        return ~np.any(spans, axis=0)

    np.testing.assert_array_equal(rows(before, outside(before)), rows(after, outside(after)))
    never = ~np.isin(np.arange(len(people)), outcome.contacts["owner"])
    assert never.sum() > 500
    np.testing.assert_array_equal(rows(before, never[before.owner]), rows(after, never[after.owner]))


@pytest.mark.parametrize("plan", COMPANY, ids=lambda plan: plan.campaign_id)
def test_what_happened_is_the_world_of_the_assigned_arm(batch, plan):
    people, before, _ = batch
    outcome = run([plan], batch)
    n = len(people)
    spent, alone = (within(orders, plan.start, plan.end, n) for orders in (outcome.occasions, before))
    got = outcome.effects[outcome.effects["assigned"]]
    np.testing.assert_allclose(spent[got["owner"]], alone[got["owner"]] + got["spend_effect"], atol=1e-6)
    untreated = ~np.isin(np.arange(n), got["owner"])
    np.testing.assert_array_equal(spent[untreated], alone[untreated])
    treated = outcome.contacts[outcome.contacts["arm"] != CONTROL]
    assert dict(zip(treated["owner"], treated["arm"])) == dict(zip(got["owner"], got["arm"]))


@pytest.mark.parametrize("plan", RANDOMISED, ids=lambda plan: plan.campaign_id)
def test_a_randomised_comparison_finds_the_true_mean_effect(batch, outcome, plan):
    spent = within(outcome.occasions, plan.start, plan.end, len(batch[0]))
    contacts = outcome.contacts[outcome.contacts["campaign_id"] == plan.campaign_id]
    truth = outcome.effects[outcome.effects["campaign_id"] == plan.campaign_id].groupby("arm")["spend_effect"].mean()
    for arm, effect in truth.items():
        compared = contacts[contacts["arm"].isin([arm, CONTROL])]
        found = DifferenceInMeans(spent[compared["owner"]], compared["arm"] == arm).fit()
        assert abs(found.effect - effect) < 4 * found.se


def test_a_targeted_campaign_regresses_to_the_mean(batch, outcome):
    people, plan = batch[0], BY_ID["autumn_targeted"]
    n, orders = len(people), outcome.occasions
    treated = np.isin(np.arange(n), outcome.contacts.loc[outcome.contacts["campaign_id"] == plan.campaign_id, "owner"])
    others = ~treated & (people.arrival < plan.start)
    assert 0.1 < treated[~people.holdout & (people.arrival < plan.start)].mean() < 0.2
    truth = outcome.effects[outcome.effects["campaign_id"] == plan.campaign_id]
    assert set(truth["owner"]) == set(np.flatnonzero(treated))
    assert truth["assigned"].all()
    effect = truth["spend_effect"].mean()
    assert effect > 0
    during = within(orders, plan.start, plan.end, n)
    change = (during - within(orders, plan.start - 28, plan.start, n))[treated]
    assert change.mean() < effect - 4 * change.std() / np.sqrt(treated.sum())
    naive = DifferenceInMeans(during[treated | others], treated[treated | others]).fit()
    assert naive.effect > effect + 4 * naive.se


def test_who_unsubscribes_gets_no_later_email(batch, outcome):
    people, contacts = batch[0], outcome.contacts
    gone = contacts[contacts["unsubscribed"].fillna(False)]
    first = gone.loc[gone["campaign_id"] == "two_letters", "owner"]
    later = contacts.loc[contacts["campaign_id"] == "frequency", "owner"]
    assert len(first) > 10
    assert not first.isin(later).any()
    kept = people.consent_email.copy()
    kept[gone["owner"]] = False
    np.testing.assert_array_equal(outcome.consent_email, kept)
    stay = people.consent_email & ~people.holdout & (people.arrival < BY_ID["frequency"].start)
    stay[first] = False
    assert set(later) == set(np.flatnonzero(stay))
    plan = BY_ID["frequency"]
    for arm in plan.arms[:2]:
        mailed = contacts[(contacts["campaign_id"] == "frequency") & (contacts["arm"] == arm.name)]
        m, share = mailed["opened"].sum(), 1 - (1 - plan.unsubscribe) ** arm.emails
        assert abs(mailed["unsubscribed"].sum() - share * m) < 4 * np.sqrt(m * share * (1 - share))


def test_the_funnel_narmailedand_is_blank_where_there_is_none(outcome):
    contacts = outcome.contacts
    stages = ["delivered", "opened", "clicked", "converted", "redeemed", "unsubscribed"]
    control = contacts["arm"] == CONTROL
    assert contacts.loc[control, [*stages, "contacted_day", "offer_id"]].isna().all(axis=None)
    mailed = contacts["channel"] == "email"
    assert contacts.loc[~mailed, ["delivered", "opened", "clicked", "unsubscribed"]].isna().all(axis=None)
    sent = contacts[mailed & ~control]
    assert sent[["delivered", "opened", "clicked", "converted", "unsubscribed"]].notna().all(axis=None)
    for narrow, wide in (("opened", "delivered"), ("clicked", "opened"), ("unsubscribed", "opened")):
        assert not (sent[narrow] & ~sent[wide]).any()
        assert sent[narrow].sum() < sent[wide].sum()
    offered = contacts["offer_id"].notna()
    assert contacts.loc[~offered, "redeemed"].isna().all()
    assert not (contacts.loc[offered, "redeemed"] & ~contacts.loc[offered, "converted"]).any()
    moved = outcome.effects[outcome.effects["assigned"] & (outcome.effects["order_effect"] > 0)]
    readers = sent.merge(moved, on=["owner", "campaign_id", "arm"])
    assert len(readers) > 100
    assert readers["opened"].all()
    plan, orders = BY_ID["coupon"], outcome.occasions
    buyers = orders.owner[(plan.start <= orders.day) & (orders.day < plan.end)]
    reached = contacts[(contacts["campaign_id"] == "coupon") & ~control]
    assert (reached["converted"] == reached["owner"].isin(buyers)).all()


def test_company_has_campaigns_that_pay_and_campaigns_that_do_not(outcome):
    profit = {}
    means = outcome.effects.groupby(["campaign_id", "arm"])[["spend_effect", "coupon"]].mean()
    for (name, arm), mean in means.iterrows():
        gross = mean["spend_effect"] + mean["coupon"]
        profit[name, arm] = 0.35 * gross - mean["coupon"] - BY_ID[name].cost_per_contact
    assert profit["spring_mail", "mail"] > 0
    assert profit["two_letters", "story"] > profit["two_letters", "discount"]
    assert profit["coupon", "face_20"] > 0 > profit["coupon", "face_100"]
    assert profit["autumn_targeted", "catalogue"] < 0
    assert profit["quiet_sms", "message"] == -BY_ID["quiet_sms"].cost_per_contact


def test_textbook_hardly_adds_an_order():
    batch = company(10_000, seed=2)
    outcome = run(TEXTBOOK, batch)
    added = len(outcome.occasions) - len(batch[1])
    assert 0 < added < 0.005 * (batch[1].day < OBSERVED_DAYS).sum()
    effects = outcome.effects.groupby(["campaign_id", "arm"])["spend_effect"]
    assert effects.mean()["letters", "long_letter"] > effects.mean()["letters", "short_letter"] > 0
    assert effects.apply(lambda effect: (effect == 0).all())["quiet_sms", "message"]
    assert len(run(TEXTBOOK, company(20_000), customers=20_000).contacts) < 4_000


def test_tables_list_campaigns_and_coupons(outcome):
    for plans in (COMPANY, TEXTBOOK):
        table = campaigns.campaign_table(plans)
        assert ((table["ends_on"] - table["starts_on"]).dt.days + 1).tolist() == [plan.days for plan in plans]
        starts = [plan.start for plan in plans]
        assert min(starts) >= 182 + 16 * 7
        assert max(plan.end for plan in plans) <= OBSERVED_DAYS - 28
        for earlier, later in pairwise(plans):
            assert later.start >= earlier.end + (AFTER_DAYS if earlier.carry_over or earlier.pull_forward else 0)
    table = campaigns.campaign_table(COMPANY).set_index("campaign_no")
    assert table.at["spring_mail", "starts_on"] == pd.Timestamp("2024-03-04")
    assert table.at["spring_mail", "ends_on"] == pd.Timestamp("2024-03-31")
    offers = campaigns.offer_table(COMPANY).set_index("offer_no")
    assert set(offers.index) == set(outcome.contacts["offer_id"].dropna())
    assert offers.at["coupon-face_50", "face_value"] == 50
    assert (offers["valid_until"] == table["ends_on"].reindex(offers["campaign_no"]).to_numpy()).all()
    assert campaigns.offer_table(TEXTBOOK).empty


def test_the_smallest_batches(outcome):
    people, occasions, lapsed = company(500)
    nobody = run(COMPANY, (replace(people, holdout=np.ones(500, dtype=bool)), occasions, lapsed))
    assert nobody.contacts.empty
    assert nobody.effects.empty
    assert (nobody.contacts.dtypes == outcome.contacts.dtypes).all()
    assert (nobody.effects.dtypes == outcome.effects.dtypes).all()
    assert same(nobody.occasions, occasions)
    assert same(run((), (people, occasions, lapsed)).occasions, occasions)
    none = Occasions.sorted(np.empty(0, dtype=int), np.empty(0), np.empty(0))
    quiet = run(COMPANY, (people, none, np.zeros(500)))
    assert len(quiet.occasions) == 0
    assert (quiet.effects["spend_effect"] == 0).all()
    assert set(quiet.contacts["campaign_id"]) == {plan.campaign_id for plan in RANDOMISED}
    one = run(COMPANY, company(1, seed=3))
    assert one.contacts["campaign_id"].is_unique
    assert set(one.contacts["owner"]) == {0}
