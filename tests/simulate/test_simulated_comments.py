"""Simulated comments: random numbers of their own, planted rates, and themes that the study's word lists find again."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from analysis import cleaning, engine, paths, sources
from analysis import study as studies
from analysis.simulate import comments, company, folder
from analysis.simulate.comments import CommentPlan
from analysis.simulate.company import Settings, generate
from analysis.simulate.satisfaction import WAVES


def contents(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def test_comments_move_no_other_random_number(tmp_path, monkeypatch):
    settings = Settings("company", 600, seed=2)
    generate(settings, tmp_path / "with")

    def silent(answers, *_):
        return np.full(len(answers), ""), pd.DataFrame({"given": np.zeros(len(answers), bool)})

    monkeypatch.setattr(company.comments, "comments", silent)
    generate(settings, tmp_path / "without")
    one, other = contents(tmp_path / "with"), contents(tmp_path / "without")
    assert [name for name in one if one[name] != other[name]] == ["survey.csv", "truth/comments.parquet"]
    one, other = (pd.read_csv(tmp_path / name / "survey.csv") for name in ("with", "without"))
    pd.testing.assert_frame_equal(one.drop(columns="comment"), other.drop(columns="comment"))


def test_rates_follow_the_planted_ones():
    n, plan = 40_000, CommentPlan()
    rng = np.random.default_rng(1)
    answers = pd.DataFrame({"owner": np.arange(n), "wave": np.repeat([1, 2], n // 2)})
    latent = {name: rng.standard_normal((n, WAVES[1] + 1)) for name in ("Satisfaction", "Quality", "Value")}
    texts, truth = comments.comments(answers, latent, plan, rng)
    quarter = np.array(WAVES)[answers["wave"] - 1]

    def expected(share, log_odds):
        chance = expit(logit(share) + log_odds)
        return chance, np.sqrt((chance * (1 - chance)).sum())

    chance, error = expected(plan.written, plan.satisfaction * latent["Satisfaction"][answers["owner"], quarter])
    assert abs(truth["given"].sum() - chance.sum()) < 4 * error
    wrote = truth["given"].to_numpy()
    for theme in plan.themes:
        value = latent[theme.construct][answers["owner"], quarter]
        chance, error = expected(theme.share, (theme.slope * value + theme.second_wave * (answers["wave"] == 2))[wrote])
        assert abs(truth[theme.name].sum() - chance.sum()) < 4 * error, theme.name
    told = truth["name"].notna()
    assert abs(told[wrote].mean() - plan.personal) < 0.01 and not told[~wrote].any()
    for text, row in zip(texts[told], truth[told].itertuples(), strict=True):
        assert row.name in text and row.telephone in text and row.email in text
    assert 0.1 < np.mean([any(sign >= "\u4e00" for sign in text.split("请联系")[0]) for text in texts[wrote]]) < 0.2


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    """The survey of a small simulated company, cleaned as its study says, and the truth."""
    root = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAPPORT_DATA", str(root))
        settings = {"world": "company", "customers": 3_000, "seed": 5}
        folder.ensure(Settings(**settings), paths.raw("demo_company"))
        study = studies.load("demo_company")
        study = study.model_copy(
            update={
                "tables": {"survey_responses": study.tables["survey_responses"]},
                "rules": study.rules.model_copy(update={"same_person": None}),
                "simulation": study.simulation.model_copy(update=settings),
            }
        )
        found = cleaning.clean(study, engine.connect())
        answers = found.tables["survey_responses"].to_pandas().set_index("response_id")
        truth = pd.read_parquet(paths.truth("demo_company") / "comments.parquet").set_index("response_id")
        stored = pd.read_parquet(sources.bring_in(study, "survey").paths[0])
        yield answers, truth, stored


def test_the_study_finds_every_planted_theme_again(cleaned):
    answers, truth, _ = cleaned
    flags = answers.filter(like="comment_").rename(columns=lambda name: name.removeprefix("comment_"))
    assert len(flags) == len(truth) > 300
    expected = truth.loc[flags.index, flags.columns]
    pd.testing.assert_frame_equal(flags, expected, check_dtype=False)
    assert expected.sum().min() > 5


def test_nobody_who_is_named_in_a_comment_is_named_in_what_is_stored(cleaned):
    answers, truth, stored = cleaned
    said = truth[["name", "telephone", "email"]].stack().dropna()
    words = {*said, *(word for name in truth["name"].dropna() for word in name.split())}
    assert len(words) > 30
    text = stored.to_csv() + answers.to_csv()
    assert not [word for word in words if word in text]
