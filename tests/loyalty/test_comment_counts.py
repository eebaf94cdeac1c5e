"""What comments say: shares and differences against computations of others, what is hidden, titles that state the finding."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis.loyalty import (
    EstimationError,
    comment_facts,
    comment_themes,
    theme_change_facts,
    theme_facts,
    writer_facts,
)
from analysis.loyalty.comment_figures import theme_bars
from analysis.multiplicity import adjust_p_values
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FMT = Formatter("en", "CNY")


def survey(n=600, seed=1, price=-12.0):
    """Half write; price is mentioned more by the unsatisfied, delivery by anybody, rare by three."""
    rng = np.random.default_rng(seed)
    given = rng.random(n) < 0.5
    on = {"price": rng.random(n) < 0.3, "delivery": rng.random(n) < 0.5, "rare": np.cumsum(given) <= 3}
    flags = {f"comment_{name}": given & flag for name, flag in on.items()}
    other = given & ~np.any(list(flags.values()), axis=0)
    answers = pd.DataFrame({"comment_given": given, "comment_other": other, **flags})
    satisfaction = 70 + price * flags["comment_price"] - 4 * given + rng.normal(0, 10, n)
    return answers, pd.DataFrame({"satisfaction": satisfaction, "loyalty": rng.normal(60, 10, n)})


def row(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    [only] = frame.to_dict("records")
    return only


def test_shares_have_wilsons_limits_over_those_who_wrote():
    answers, scores = survey()
    found = comment_themes(answers, scores)
    wrote, price = answers["comment_given"].sum(), answers["comment_price"].sum()
    assert list(found.themes["theme"]) == ["delivery", "price", "rare", "other"]
    for own, count, n in (
        (found.written.iloc[0], wrote, len(answers)),
        (row(found.themes, theme="price"), price, wrote),
    ):
        assert own["customers"] == count
        assert own["share"] == pytest.approx(count / n)
        assert (own["low"], own["high"]) == pytest.approx(proportion_confint(count, n, 0.05, "wilson"))


def test_differences_are_those_of_welchs_test_with_holms_correction():
    answers, scores = survey()
    found = comment_themes(answers, scores)
    wrote = answers["comment_given"]
    for name in ("price", "delivery"):
        yes = answers[f"comment_{name}"]
        welch = stats.ttest_ind(
            scores.loc[yes, "satisfaction"], scores.loc[wrote & ~yes, "satisfaction"], equal_var=False
        )
        own = row(found.differences, theme=name, score="satisfaction")
        limits = welch.confidence_interval()
        assert (own["low"], own["high"], own["p"]) == pytest.approx((limits.low, limits.high, welch.pvalue), rel=1e-6)
    told = found.differences[found.differences["reason"] == ""]
    assert len(told) == 6  # three themes that may be told, two scores
    assert told["p_holm"].to_numpy() == pytest.approx(adjust_p_values(told["p"]))
    welch = stats.ttest_ind(scores.loc[wrote, "satisfaction"], scores.loc[~wrote, "satisfaction"], equal_var=False)
    own = row(found.writers, score="satisfaction")
    assert (own["difference"], own["p"]) == pytest.approx(
        (scores.loc[wrote, "satisfaction"].mean() - scores.loc[~wrote, "satisfaction"].mean(), welch.pvalue)
    )


def test_two_answers_of_a_customer_are_not_two_people():
    answers, scores = survey()
    who = pd.Series([f"c{k}" for k in range(len(answers))])
    once = comment_themes(answers, scores, customers=who)
    twice = [pd.concat([frame, frame], ignore_index=True) for frame in (answers, scores, who)]
    doubled = comment_themes(twice[0], twice[1], customers=twice[2])
    for name in ("written", "themes", "differences", "writers"):
        pd.testing.assert_frame_equal(getattr(once, name), getattr(doubled, name), rtol=1e-9)
    strangers = comment_themes(twice[0], twice[1])
    assert np.diff(strangers.themes.loc[0, ["low", "high"]]) < np.diff(once.themes.loc[0, ["low", "high"]])


def test_weights_stand_for_so_many_answers():
    answers, scores = survey(200)
    times = pd.Series(np.random.default_rng(2).integers(0, 4, len(answers)))
    weighted = comment_themes(answers, scores, weights=times.astype(float))
    again = answers.index.repeat(times)
    repeated = comment_themes(answers.loc[again].reset_index(drop=True), scores.loc[again].reset_index(drop=True))
    theme_of = {name: row(found.themes, theme="price") for name, found in (("w", weighted), ("r", repeated))}
    assert theme_of["w"]["share"] == pytest.approx(theme_of["r"]["share"])
    assert theme_of["w"]["low"] < theme_of["r"]["low"], "fewer people than answers that they stand for"
    assert theme_of["w"]["customers"] == (answers["comment_price"] & (times > 0)).sum()
    for name in ("mention", "rest"):
        one, other = (row(f.differences, theme="price", score="satisfaction")[name] for f in (weighted, repeated))
        assert one == pytest.approx(other)


def test_few_who_mention_a_theme_or_who_do_not_are_hidden():
    answers, scores = survey()
    found = comment_themes(answers, scores)
    hidden = row(found.themes, theme="rare")
    assert hidden["reason"] and np.isnan([hidden["customers"], hidden["share"], hidden["high"]]).all()
    assert (
        found.differences.loc[found.differences["theme"] == "rare", ["mention", "difference", "p"]]
        .isna()
        .all(axis=None)
    )
    nearly = answers.assign(comment_rare=answers["comment_given"] & ~answers["comment_rare"])
    assert row(comment_themes(nearly, scores).themes, theme="rare")["reason"], "those three would be told by the rest"
    assert row(comment_themes(answers, scores, small_group=3).themes, theme="rare")["customers"] == 3
    few = answers & (np.arange(len(answers)) < 12)[:, None]
    quiet = comment_themes(few, scores)
    assert comment_facts(quiet)["value"] is None and theme_facts(quiet)["value"] is None
    assert quiet.written["customers"].isna().all()


def test_nobody_wrote_or_everybody_did():
    answers, scores = survey(60)
    silent = comment_themes(answers & False, scores)
    assert comment_facts(silent)["value"] == 0 and comment_facts(silent)["top"] is None
    assert theme_facts(silent)["value"] is None and writer_facts(silent)["value"] is None
    assert title(theme_bars(silent, FMT)) == "Too few customers wrote a comment"
    all_wrote = comment_themes(answers.assign(comment_given=True), scores)
    assert comment_facts(all_wrote)["value"] == 1
    assert writer_facts(all_wrote)["value"] is None
    with pytest.raises(EstimationError, match="declare survey.comments"):
        comment_themes(answers.drop(columns="comment_given"), scores)


def test_change_between_waves_and_its_hidden_cells():
    answers, scores = survey(2_000)
    wave = pd.Series(np.repeat([1, 2], 1_000))
    rng = np.random.default_rng(3)
    more = answers["comment_given"] & (wave == 2) & (rng.random(2_000) < 0.3)
    answers["comment_delivery"] |= more
    found = comment_themes(answers, scores, waves=wave)
    own = row(found.changes, theme="delivery")
    shares = [answers.loc[answers["comment_given"] & (wave == k), "comment_delivery"].mean() for k in (1, 2)]
    assert (own["share_first"], own["share_second"]) == pytest.approx(shares)
    assert own["low"] < 0.15 < own["high"]
    facts = theme_change_facts(found)
    assert (facts["theme"], facts["clear"], facts["value"]) == ("delivery", True, pytest.approx(shares[1] - shares[0]))
    assert "rare" not in set(found.changes.loc[found.changes["reason"] == "", "theme"])
    once = theme_change_facts(comment_themes(answers, scores))
    assert (once["reason"], once["first"]) == ("the survey was held once", None)
    same, scores = survey(2_000)
    still = theme_change_facts(comment_themes(same, scores, waves=wave))
    assert (still["clear"], still["value"], still["first"], still["second"]) == (
        False,
        None,
        facts["first"],
        facts["second"],
    )
    assert "beyond chance" in still["reason"] and "low" not in still, "no range without a claim"


def test_why_no_change_is_told_is_not_always_that_the_survey_was_held_once():
    answers, scores = survey(300)
    wave = pd.Series(np.repeat([1, 2, 3], 100))
    themeless = pd.DataFrame({"comment_given": True, "comment_other": True, "comment_price": False}, answers.index)
    few = themeless & (np.arange(300) < 9)[:, None]

    def reason(given, waves=wave):
        facts = theme_change_facts(comment_themes(given, scores, waves=waves))
        assert facts["value"] is None
        return facts["reason"]

    assert reason(themeless) == "no comment mentions a theme"
    assert reason(themeless & False) == "nobody wrote a comment"
    assert "too few" in reason(few), "of nine people it is not even said that they mention nothing"
    for once in (None, wave.clip(upper=1), wave.where(wave < 2)):
        assert reason(themeless, once) == "the survey was held once"


def title(figure):
    assert theme.png(figure).startswith(b"\x89PNG")
    return figure.axes[0].get_title(loc="left")


def test_facts_and_title_say_what_the_frames_hold():
    answers, scores = survey()
    found = comment_themes(answers, scores)
    facts, low, who = comment_facts(found), theme_facts(found), writer_facts(found)
    assert (facts["top"], facts["themes"], facts["hidden"]) == ("delivery", 2, 1)
    assert facts["top_share"] == found.themes.loc[0, "share"]
    assert (low["theme"], low["clear"], low["low_themes"]) == ("price", True, ["price"])
    assert low["low"] < -12 < low["high"] < 0 and low["value"] == pytest.approx(low["mention"] - low["rest"])
    assert who["high"] < 0 and who["value"] == pytest.approx(who["wrote"] - who["silent"])
    figure = theme_bars(found, FMT)
    share, points = FMT.share(facts["top_share"], 0), FMT.number(-low["value"], 0)
    assert title(figure) == (
        f"Delivery comes up most ({share} of comments); those who mention price are {points} points less satisfied"
    )
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["Something else", "Price", "Delivery"]
    none = comment_themes(*survey(price=0.0))
    assert not theme_facts(none)["clear"]
    assert title(theme_bars(none, FMT)).endswith("no theme goes with another satisfaction beyond chance")
