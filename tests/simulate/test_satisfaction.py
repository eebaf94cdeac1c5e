"""The latent model, what is asked, and what follows: each planted number is found again in what is drawn."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis import loyalty
from analysis.errors import RapportError
from analysis.simulate import satisfaction
from analysis.simulate.clock import OBSERVED_DAYS, PERIOD_DAYS, PERIODS
from analysis.simulate.people import Kind, Level, People, PeoplePlan, draw
from analysis.simulate.satisfaction import COMPANY, ITEMS, PATHS, TEXTBOOK, SatisfactionPlan

WORLDS = {"textbook": TEXTBOOK, "company": COMPANY}
PEOPLE = PeoplePlan(
    arrival_days=600,
    r=0.6,
    alpha=20,
    s=0.6,
    beta=100,
    p=6,
    q=4,
    gamma=150,
    kinds=(Kind("all", 1.0),),
    channels=(Level("search", 0.7), Level("referral", 0.3)),
    regions=(Level("north", 1.0),),
    age_bands=(Level("18-29", 0.3), Level("30-44", 0.3), Level("45-59", 0.2), Level("60+", 0.2)),
)
REFERRAL = 1
CONSTRUCTS = list(dict.fromkeys(item.construct for item in ITEMS))
MANY = 60_000


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def sources_of(construct: str) -> dict[str, float]:
    return {source: path for source, target, path in PATHS if target == construct}


def asked_in(quarter: int, people: People, active: np.ndarray) -> np.ndarray:
    """Who could be invited to a wave: active, and a customer when the wave began."""
    return active[:, quarter] & (people.arrival < quarter * PERIOD_DAYS + satisfaction.FIELD_OPENS)


def blocks() -> dict[str, list[str]]:
    """Items of every construct of the model, without the single questions on delivered value and recommendation."""
    found: dict[str, list[str]] = {}
    for item in ITEMS:
        if item.name != "nps" and not item.name.startswith("dv_"):
            found.setdefault(item.construct, []).append(item.name)
    return found


@pytest.fixture(scope="module", params=WORLDS)
def world(request):
    """A plan, the trait, and the latent constructs of many customers."""
    plan, trait = WORLDS[request.param], rng(7).standard_normal(MANY)
    return plan, trait, satisfaction.latents(MANY, plan, rng(), trait)


@pytest.fixture(scope="module")
def company():
    """Customers, their latent constructs, and who is active when: half of the arrived, at random."""
    people = draw(PEOPLE, 1, 20_000, rng())
    scores = satisfaction.latents(len(people), COMPANY, rng(2), people.trait)
    arrived = people.arrival[:, None] < PERIOD_DAYS * np.arange(1, PERIODS + 1)
    return people, scores, arrived & (rng(3).random((len(people), PERIODS)) < 0.5)


def test_implied_correlations_solve_the_structural_equations():
    correlations, explained = satisfaction.implied_correlations(TEXTBOOK)
    names = list(correlations)
    weights = pd.DataFrame(0.0, names, names)
    for source, target, path in PATHS:
        weights.loc[target, source] = path
    solved = np.linalg.inv(np.eye(len(names)) - weights)
    np.testing.assert_allclose(correlations, solved @ np.diag(1 - explained) @ solved.T, atol=1e-12)
    assert 0.6 < explained["Satisfaction"] < 0.7


def test_constructs_are_standardised_and_correlate_as_implied_in_every_quarter(world):
    plan, _, scores = world
    correlations, _ = satisfaction.implied_correlations(plan)
    assert set(scores) == set(correlations)
    error = 1 / np.sqrt(MANY)
    for t in range(PERIODS):
        quarter = np.stack([scores[name][:, t] for name in correlations])
        np.testing.assert_allclose(quarter.mean(axis=1), 0, atol=5 * error)
        np.testing.assert_allclose(quarter.var(axis=1), 1, atol=5 * np.sqrt(2) * error)
        np.testing.assert_allclose(np.corrcoef(quarter), correlations, atol=5 * error)


def test_regressions_on_the_sources_recover_the_planted_paths(world):
    _, _, scores = world
    for target in {target for _, target, _ in PATHS}:
        planted = sources_of(target)
        for t in (0, PERIODS - 1):
            fitted = sm.OLS(scores[target][:, t], np.stack([scores[s][:, t] for s in planted], axis=1)).fit()
            assert (np.abs(fitted.params - list(planted.values())) < 4.5 * fitted.bse).all(), (target, t)


def test_disturbances_persist_from_quarter_to_quarter(world):
    plan, _, scores = world
    for name, score in scores.items():
        disturbance = score - sum(path * scores[source] for source, path in sources_of(name).items())
        found = np.corrcoef(disturbance[:, 4], disturbance[:, 5])[0, 1]
        # What the trait puts into Image stays for ever.
        lasting = plan.confounding**2 if name == "Image" else 0
        assert found == pytest.approx(lasting + (1 - lasting) * plan.persistence, abs=0.015), name


def test_the_trait_moves_satisfaction_through_image_only(world):
    plan, trait, scores = world
    correlations, _ = satisfaction.implied_correlations(plan)
    for name in ("Image", "Satisfaction", "Loyalty"):
        found = np.corrcoef(trait, scores[name][:, 3])[0, 1]
        assert found == pytest.approx(plan.confounding * correlations.loc["Image", name], abs=0.02)


def test_age_moves_satisfaction_through_image_and_leaves_the_model_as_it_is():
    age = np.where(rng(8).random(MANY) < 0.5, 1.0, -1.0)
    scores = satisfaction.latents(MANY, COMPANY, rng(), np.zeros(MANY), periods=1, age=age)
    correlations, _ = satisfaction.implied_correlations(COMPANY)
    found = np.corrcoef(age, scores["Satisfaction"][:, 0])[0, 1]
    trait = 1 - COMPANY.confounding**2  # a trait of zero takes its share out of the variance
    shrunk = 1 - COMPANY.confounding**2 * correlations.loc["Image", "Satisfaction"] ** 2
    assert scores["Image"][:, 0].var() == pytest.approx(trait, abs=0.03)
    planted = COMPANY.age_effect * correlations.loc["Image", "Satisfaction"] / np.sqrt(shrunk)
    assert found == pytest.approx(planted, abs=5 / np.sqrt(MANY))


def test_multipliers_follow_the_satisfaction_of_the_quarter_before(world):
    plan, _, scores = world
    before = np.concatenate([scores["Satisfaction"][:, :1], scores["Satisfaction"][:, :-1]], axis=1)
    for function, effect in (
        (satisfaction.rate_multiplier, plan.rate_effect),
        (satisfaction.hazard_multiplier, plan.hazard_effect),
    ):
        multiplier = function(scores, plan)
        spread = np.sqrt(np.expm1(effect**2))  # standard deviation of a lognormal of mean 1
        np.testing.assert_allclose(multiplier.mean(axis=0), 1, atol=5 * spread / np.sqrt(MANY))
        slope = np.log(multiplier / multiplier[:1])
        np.testing.assert_allclose(slope, effect * (before - before[:1]), atol=1e-5)
    assert COMPANY.rate_effect > 0 > COMPANY.hazard_effect
    assert TEXTBOOK.rate_effect == TEXTBOOK.hazard_effect == 0


def test_answers_have_the_planted_shares_and_directions():
    plan = replace(TEXTBOOK, items=tuple(replace(item, level=0.0) for item in ITEMS))
    scores = satisfaction.latents(MANY, plan, rng(), np.zeros(MANY), periods=1)
    given = satisfaction.answers({name: score[:, 0] for name, score in scores.items()}, plan, rng(2))
    for item in ITEMS:
        lowest, shares = (0, plan.nps_shares) if item.name == "nps" else (1, plan.answer_shares)
        found = np.bincount(given[item.name] - lowest, minlength=len(shares)) / MANY
        np.testing.assert_allclose(found, shares[::-1] if item.loading < 0 else shares, atol=0.01)
        # Cutting a scale into points takes a few percent off a correlation.
        carried = np.corrcoef(given[item.name], scores[item.construct][:, 0])[0, 1] / item.loading
        assert 0.92 < carried < 1, item.name


def test_a_raised_level_raises_good_answers_and_lowers_costs():
    zero = {name: np.zeros(MANY, dtype=np.float32) for name in CONSTRUCTS}
    raised = replace(TEXTBOOK, items=tuple(replace(item, level=item.level + 0.3) for item in ITEMS))
    plain, higher = (satisfaction.answers(zero, plan, rng()) for plan in (TEXTBOOK, raised))
    for item in ITEMS:
        assert np.sign(higher[item.name].mean() - plain[item.name].mean()) == np.sign(item.loading)


def test_halo_ties_unrelated_constructs_together_in_company_only():
    unrelated = {name: rng(5 + k).standard_normal(MANY) for k, name in enumerate(CONSTRUCTS)}
    for plan in WORLDS.values():
        given = satisfaction.answers(unrelated, replace(plan, skipped=0.0), rng())
        found = np.corrcoef(given["imag1"], given["perq1"])[0, 1]
        assert found == pytest.approx(0.95 * plan.halo**2, abs=0.02)
        assert np.corrcoef(given["imag1"], given["dv_money"])[0, 1] == pytest.approx(-0.95 * plan.halo**2, abs=0.02)
    assert TEXTBOOK.halo == 0


def test_skipped_questions_have_a_code_and_are_null_in_frames():
    plan = replace(TEXTBOOK, skipped=0.1)
    zero = {name: np.zeros(20_000) for name in CONSTRUCTS}
    given = satisfaction.answers(zero, plan, rng())
    frame = satisfaction.respondents(20_000, plan, rng())
    for item in ITEMS:
        code = -1 if item.name == "nps" else 0
        assert given[item.name].min() == code
        assert (given[item.name] == code).mean() == pytest.approx(0.1, abs=0.01)
        assert frame[item.name].isna().mean() == pytest.approx(0.1, abs=0.01)
        assert frame[item.name].min() == code + 1
    assert not satisfaction.respondents(1_000, TEXTBOOK, rng()).isna().any(axis=None)


@pytest.mark.parametrize("name", WORLDS)
def test_every_block_is_reliable_and_distinct(name):
    model = loyalty.specify(
        *(loyalty.composite(construct, items) for construct, items in blocks().items()),
        *(loyalty.drives(source, target) for source, target, _ in PATHS),
    )
    results = loyalty.PLSPathModel(satisfaction.respondents(2_000, WORLDS[name], rng()), model).fit()
    verdicts = loyalty.assess_blocks(results)
    judged = verdicts[verdicts["items"] > 1]
    assert len(judged) == 8
    assert (judged["alpha"] > 0.75).all()
    assert (judged["closest_htmt"] < 0.85).all()
    assert (judged["verdict"] == "pass").all()


def test_the_arrows_of_the_analysis_are_the_planted_ones():
    planted = {(source, target) for source, target, _ in PATHS}
    assert {(path.source, path.target) for path in loyalty.specification.ECSI_PATHS} <= planted
    truth = satisfaction.path_truth(TEXTBOOK)
    assert [tuple(row) for row in truth.itertuples(index=False)] == list(PATHS)


def test_pls_finds_the_planted_paths_and_attenuates_them():
    answers = satisfaction.respondents(50_000, TEXTBOOK, rng())
    results = loyalty.PLSPathModel(answers, loyalty.ecsi(blocks())).fit()
    found = results.params
    planted = satisfaction.path_truth(TEXTBOOK).set_index(["source", "target"])["path"][found.index]
    assert (found > 0).all()
    for target in ("Value", "Satisfaction", "Loyalty"):
        into = planted.index.get_level_values("target") == target
        assert (found[into].rank() == planted[into].rank()).all()
    # A weak path gains what its strong neighbours, measured with error, lose: the sum of both is attenuated.
    strong = planted >= 0.2
    assert found[strong].lt(planted[strong]).all()
    assert found[strong].gt(0.7 * planted[strong]).all()
    assert found.groupby("target").sum().lt(planted.groupby("target").sum()).all()

    # Corrected for unreliability (consistent PLS: Dijkstra & Henseler 2015), the planted paths come back.
    sources = sources_of("Satisfaction")
    constructs = [*sources, "Satisfaction"]
    deviation = np.sqrt(results.reliability.loc[constructs, "rho_a"].to_numpy())
    consistent = results.construct_correlations.loc[constructs, constructs].to_numpy() / np.outer(deviation, deviation)
    np.fill_diagonal(consistent, 1)
    corrected = np.linalg.solve(consistent[:-1, :-1], consistent[:-1, -1])
    np.testing.assert_allclose(corrected, list(sources.values()), atol=0.03)


def test_only_the_active_answer_each_wave_in_its_quarter(company):
    people, scores, active = company
    returned = satisfaction.survey(people, scores, active, COMPANY, 0.8, rng(4))
    assert list(returned) == ["owner", "wave", "answered_day", *(item.name for item in ITEMS)]
    assert not returned.duplicated(["owner", "wave"]).any()
    quarter = np.array(satisfaction.WAVES)[returned["wave"] - 1]
    assert set(quarter) == set(satisfaction.WAVES)
    assert active[returned["owner"], quarter].all()
    assert (returned["answered_day"] // PERIOD_DAYS == quarter).all()
    assert (returned["answered_day"] > people.arrival[returned["owner"]]).all()
    # Answers tell of the quarter in which they are given.
    answer = returned["cusa1"].astype(float).fillna(returned["cusa1"].mean())
    then, else_ = (scores["Satisfaction"][returned["owner"], q] for q in (quarter, 9 - quarter))
    assert np.corrcoef(answer, then)[0, 1] > 0.7 > np.corrcoef(answer, else_)[0, 1] + 0.2


def test_response_depends_on_satisfaction_and_age_as_planted(company):
    people, scores, active = company
    returned = satisfaction.survey(people, scores, active, COMPANY, 1.0, rng(4))
    wave, quarter = 2, satisfaction.WAVES[1]
    asked = np.flatnonzero(asked_in(quarter, people, active))
    answered = np.isin(asked, returned.loc[returned["wave"] == wave, "owner"])
    known = np.stack([np.ones(len(asked)), scores["Satisfaction"][asked, quarter], people.age_band[asked]], axis=1)
    fitted = sm.Logit(answered, known).fit(disp=False)
    planted = [np.log(COMPANY.response / (1 - COMPANY.response)), COMPANY.response_satisfaction, COMPANY.response_age]
    assert (np.abs(fitted.params - planted) < 4 * fitted.bse).all()
    assert (fitted.params[1:] > 6 * fitted.bse[1:]).all()


def test_in_textbook_everyone_invited_answers_whatever_they_feel(company):
    people, scores, active = company
    returned = satisfaction.survey(people, scores, active, TEXTBOOK, 0.5, rng(4))
    quarter = np.array(satisfaction.WAVES)[returned["wave"] - 1]
    asked = sum(asked_in(q, people, active).sum() for q in satisfaction.WAVES)
    assert len(returned) / asked == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(asked))
    felt = scores["Satisfaction"][returned["owner"], quarter]
    assert abs(felt.mean()) < 5 / np.sqrt(len(felt))
    everybody = satisfaction.survey(people, scores, active, TEXTBOOK, 1.0, rng(4))
    assert len(everybody) == asked


def test_contacts_come_from_the_active_and_complaints_from_the_dissatisfied(company):
    people, scores, active = company
    contacts = satisfaction.interactions(people, scores, active, COMPANY, rng(4))
    assert contacts["opened_day"].is_monotonic_increasing
    assert contacts["opened_day"].between(0, OBSERVED_DAYS, inclusive="left").all()
    quarter = (contacts["opened_day"] // PERIOD_DAYS).astype(int)
    assert active[contacts["owner"], quarter].all()
    assert (contacts["opened_day"] > people.arrival[contacts["owner"]]).all()
    felt = scores["Satisfaction"][contacts["owner"], quarter]
    quarters = active[:, : OBSERVED_DAYS // PERIOD_DAYS].sum()
    for contact in COMPANY.contacts:
        mine = (contacts["kind"] == contact.kind).to_numpy()
        assert mine.sum() / quarters == pytest.approx(contact.rate, rel=0.1)
        # Weighting a standard normal by exp(b z) moves its mean to b.
        assert felt[mine].mean() == pytest.approx(contact.satisfaction, abs=5 / np.sqrt(mine.sum()))


def test_contacts_are_resolved_later_or_stay_open(company):
    people, scores, active = company
    contacts = satisfaction.interactions(people, scores, active, COMPANY, rng(4))
    open_ = contacts["outcome"] == "unresolved"
    assert (contacts["resolved_day"].isna() == open_).all()
    resolved = contacts[~open_]
    assert (resolved["resolved_day"] > resolved["opened_day"]).all()
    assert (resolved["resolved_day"] < OBSERVED_DAYS).all()
    early = contacts[contacts["opened_day"] < OBSERVED_DAYS - 60]
    for contact in COMPANY.contacts:
        mine = early[early["kind"] == contact.kind]
        assert (mine["outcome"] == "unresolved").mean() == pytest.approx(contact.unresolved, abs=0.03)
        taken = np.log((mine["resolved_day"] - mine["opened_day"]).dropna())
        assert taken.mean() == pytest.approx(np.log(contact.days), abs=0.12)
        assert taken.std() == pytest.approx(contact.spread, rel=0.1)


def test_referrals_obey_their_rules(company):
    people, scores, _ = company
    came = people.channel == REFERRAL
    found = satisfaction.referrals(people, scores, came, COMPANY, rng(4))
    assert found["referred"].is_unique
    first = people.arrival.argmin()
    assert set(found["referred"]) == set(np.flatnonzero(came)) - {first}
    referrer, referred = people.arrival[found["referrer"]], people.arrival[found["referred"]]
    assert (referrer < referred).all()
    assert ((referrer < found["day"]) & (found["day"] <= referred)).all()
    assert (referred - found["day"] <= satisfaction.REFERRAL_DAYS).all()
    assert found["came_anyway"].mean() == pytest.approx(COMPANY.came_anyway, abs=0.03)


def test_the_loyal_refer_more(company):
    people, scores, _ = company
    found = satisfaction.referrals(people, scores, people.channel == REFERRAL, COMPANY, rng(4))
    quarter = (people.arrival[found["referred"]] // PERIOD_DAYS).astype(int)
    loyal = scores["Loyalty"][found["referrer"], quarter]
    late = quarter > 0  # the very first have few to choose from
    assert loyal[late].mean() == pytest.approx(COMPANY.referral_effect, abs=0.08)


def test_the_same_seed_gives_the_same_and_another_seed_does_not(company):
    people, _, active = company

    def everything(seed: int):
        numbers = rng(seed)
        scores = satisfaction.latents(len(people), COMPANY, numbers, people.trait)
        return (
            satisfaction.survey(people, scores, active, COMPANY, 0.5, numbers),
            satisfaction.interactions(people, scores, active, COMPANY, numbers),
            satisfaction.referrals(people, scores, people.channel == REFERRAL, COMPANY, numbers),
            satisfaction.respondents(100, COMPANY, numbers),
        )

    for first, again, other in zip(everything(1), everything(1), everything(2), strict=True):
        pd.testing.assert_frame_equal(first, again)
        assert not first.equals(other)


@pytest.mark.parametrize("n", [1, 50])
@pytest.mark.parametrize("name", WORLDS)
def test_one_customer_and_nobody_active(n, name, company):
    plan, people = WORLDS[name], draw(PEOPLE, 1, n, rng())
    scores = satisfaction.latents(n, plan, rng(), people.trait)
    assert all(score.shape == (n, PERIODS) and score.dtype == np.float32 for score in scores.values())
    nobody, everybody = np.zeros((n, PERIODS), dtype=bool), np.ones((n, PERIODS), dtype=bool)
    others, others_scores, active = company
    came = others.channel == REFERRAL
    for empty, full in (
        (
            satisfaction.survey(people, scores, nobody, plan, 1.0, rng()),
            satisfaction.survey(others, others_scores, active, plan, 1.0, rng()),
        ),
        (
            satisfaction.interactions(people, scores, nobody, plan, rng()),
            satisfaction.interactions(others, others_scores, active, plan, rng()),
        ),
        (
            satisfaction.referrals(people, scores, nobody[:, 0], plan, rng()),
            satisfaction.referrals(others, others_scores, came, plan, rng()),
        ),
    ):
        assert len(empty) == 0
        assert (empty.dtypes == full.dtypes).all()
    assert len(satisfaction.referrals(people, scores, everybody[:, 0], plan, rng())) == n - 1
    asked = sum(asked_in(q, people, everybody).sum() for q in satisfaction.WAVES)
    assert len(satisfaction.survey(people, scores, everybody, TEXTBOOK, 1.0, rng())) == asked


def test_impossible_plans_are_refused():
    too_much = replace(TEXTBOOK, paths=(("Image", "Quality", 0.8), ("Quality", "Value", 1.1)))
    with pytest.raises(RapportError, match="Value"):
        satisfaction.implied_correlations(too_much)
    disordered = replace(TEXTBOOK, paths=(("Quality", "Value", 0.5), ("Image", "Quality", 0.5)))
    with pytest.raises(RapportError, match="Quality"):
        satisfaction.implied_correlations(disordered)
    with pytest.raises(RapportError, match="imag1"):
        satisfaction.respondents(10, replace(TEXTBOOK, halo=0.9), rng())


@pytest.mark.parametrize("plan", WORLDS.values(), ids=list(WORLDS))
def test_a_plan_can_be_written_down(plan: SatisfactionPlan):
    written = json.loads(json.dumps(asdict(plan)))
    assert [tuple(path) for path in written["paths"]] == list(plan.paths)
    assert sum(plan.answer_shares) == pytest.approx(1)
    assert sum(plan.nps_shares) == pytest.approx(1)
