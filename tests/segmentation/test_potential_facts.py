"""What is said of high potential and prospects agrees with what was found, whatever was found, and is drawn."""

import dataclasses
from datetime import date

import numpy as np
import pandas as pd
import pytest

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.segmentation import potential_facts as facts
from analysis.segmentation import potential_figures as figures
from analysis.segmentation.high_potential import MODEL, RFM, SPEND, AtAge, HighPotential, Split, _winner
from analysis.segmentation.judging import auc_interval, calibration, lifts
from analysis.segmentation.prospects import find_lookalikes
from analysis.segmentation.words import Words
from analysis.valuation.concentration import Estimate
from tests.segmentation.people import base, others


@pytest.fixture(scope="module")
def words():
    return Words(Formatter("en", "USD"), "households")


def at_age(age, gain, seed=1, n=600):
    """Made rankings: the model is better than the rules by ``gain``."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.2).astype(int)
    scores = pd.DataFrame({m: rng.normal(size=n) + y * a for m, a in ((MODEL, 0.7 + gain), (RFM, 0.7), (SPEND, 0.7))})
    found = lifts(y, scores, replications=200)
    rows = [(m, *auc_interval(y, scores[m]).interval, "") for m in scores]
    return AtAge(
        age=age,
        threshold=100.0,
        top_share=float(y.mean()),
        lifts=found,
        aucs=pd.DataFrame(rows, columns=["method", "auc", "low", "high", "reason"]),
        auc_gain=Estimate(0.1, 0.0, 0.2),
        calibration=calibration(y, 1 / (1 + np.exp(-scores[MODEL]))),
        winner=_winner(found),
        model=None,
    )


@pytest.fixture(scope="module")
def found():
    young = pd.DataFrame({"probability": np.linspace(0.9, 0.0, 50), "future_top": np.arange(50) < 22})
    split = Split((30, 90), 182, date(2024, 3, 1), date(2024, 9, 1), date(2024, 12, 1), True, 900, 600)
    by_age = {30: at_age(30, 0.0), 90: at_age(90, 1.5)}
    return HighPotential(split, by_age, 0.2, "margin", ("spend",), young)


@pytest.fixture(scope="module")
def alike():
    return find_lookalikes(*base(800), others(100), replications=50)


def said(words, key, given):
    return words(key, **{k: v for k, v in given.items() if k not in ("reason",)})


def test_the_finding_is_the_lift_of_the_top_tenth(found, words):
    made = facts.potential_finding(found, "")
    row = found.by_age[90].lifts.top.set_index("method").loc[MODEL]
    assert (made["value"], made["low"], made["high"]) == (row["lift"], row["low"], row["high"])
    assert made["winner"] == MODEL and made["difference_rfm_verdict"] == "better"
    assert made["difference_rfm"] == pytest.approx(made["value"] - made["rfm"])
    text = said(words, "high_potential", made)
    assert f"{made['value']:.1f} times" in text and "more than the RFM score" in text and "so it is used" in text
    early = said(words, "high_potential", facts.potential_finding(found, "", 30))
    assert "a tie" in early and "simplest wins a tie" in early


def test_what_is_not_found_has_the_same_facts(found):
    assert set(facts.potential_finding(None, "why")) == set(facts.potential_finding(found, ""))


def test_the_worse_model_is_said_to_be_worse(found, words):
    at = at_age(90, -0.7, n=2000)
    assert at.winner == SPEND and at.against(RFM)[1] == "worse"
    made = facts.potential_finding(dataclasses.replace(found, by_age={90: at}), "")
    assert "finds more" in said(words, "high_potential", made)
    assert "RFM finds more" in figures.decile_lift_figure(at, words).axes[0].get_title(loc="left")


def test_reasons_are_said(words):
    made = facts.potential_finding(None, "nobody bought again")
    assert made["value"] is None and made["reason"] == "nobody bought again"
    assert "cannot be told from the first weeks: nobody bought again" in said(words, "high_potential", made)
    made = facts.prospect_finding(None, "the study has no prospects", words)
    assert "Prospects are not ranked: the study has no prospects." in said(words, "prospects_rank", made)


@pytest.mark.parametrize("strict", [True, False])
def test_the_split_says_whether_it_is_as_in_use(found, words, strict):
    made = facts.split_facts(dataclasses.replace(found, split=dataclasses.replace(found.split, strict=strict)))
    assert ("The data are too short" in said(words, "potential_split", made)) is not strict


def test_few_young_are_not_counted(found, words):
    assert facts.young_facts(found, 10)["future"] == 22
    assert "names the 22 likeliest" in said(words, "potential_young", facts.young_facts(found, 10))
    few = dataclasses.replace(found, young=found.young.iloc[:7])
    assert facts.young_facts(few, 10)["n"] is None
    assert "Fewer than 10" in said(words, "potential_young", facts.young_facts(few, 10))
    nobody = dataclasses.replace(found, young=found.young.iloc[:0])
    assert "young enough to be foreseen." in said(words, "potential_young", facts.young_facts(nobody, 10))
    some = dataclasses.replace(found, young=found.young.assign(future_top=np.arange(50) < 4))
    assert facts.young_facts(some, 10)["future"] is None


def test_the_table_has_a_row_an_age_and_method(found, words):
    table = facts.lift_table(found, words)
    assert table["age"].tolist() == [30] * 3 + [90] * 3
    assert table["method"].tolist() == ["model", "RFM score", "spend so far"] * 2
    assert "–" in table["lift"].iloc[0] and table["verdict"].iloc[4] == "the model is better"


def test_calibration_is_said(found, alike, words):
    for at in (found.by_age[90], alike):
        made = facts.calibration_facts(at)
        assert "percentage points off" in said(words, "potential_calibration_note", made)
    broken = dataclasses.replace(found.by_age[90], calibration=calibration(np.array([0, 1] * 50), np.full(100, 0.5)))
    assert "could not be checked" in said(words, "potential_calibration_note", facts.calibration_facts(broken))


def test_prospects_are_said(alike, words):
    made = facts.prospect_finding(alike, "", words)
    assert (made["value"], made["low"], made["high"]) == alike.auc.interval
    assert "100 prospects are ranked" in said(words, "prospects_rank", made)
    assert f"{made['email']} of the 100 prospects agreed to e-mail." in said(words, "prospects_reach", made)
    assert "does not say whether they will" in said(words, "prospects_shift", made)
    assert len(facts.prospect_list(alike)) == 100
    dull = dataclasses.replace(alike, tells=False, auc=Estimate(0.51, 0.46, 0.56))
    assert facts.prospect_list(dull).empty
    assert "does not tell the best households" in said(words, "prospects_rank", facts.prospect_finding(dull, "", words))
    assert set(made) == set(facts.prospect_finding(None, "why", words))
    hint = made | {"best_low": 0.1, "worst_high": 0.15}
    assert "whom to leave out rather than whom to take first" in said(words, "prospects_rank", hint)
    unknown = dataclasses.replace(alike, reachable={"email": None, "sms": None})
    assert "No consent is recorded" in said(words, "prospects_reach", facts.prospect_finding(unknown, "", words))


def test_figures_say_what_they_show(found, alike, words):
    at = found.by_age[90]
    drawn = {
        "potential_lift": (figures.decile_lift_figure(at, words), figures.lift_facts(at)),
        "potential_calibration": (figures.calibration_figure(at, words), facts.calibration_facts(at)),
        "prospect_bands": (figures.bands_figure(alike, words), figures.bands_facts(alike)),
    }
    for key, (figure, given) in drawn.items():
        assert words(f"{key}.alt", **given) and words(f"{key}.caption", **given)
        axes = figure.axes[0]
        assert axes.get_xlabel() and axes.get_ylabel() and axes.get_title(loc="left")
        assert len(png(figure)) > 5000
    title = drawn["potential_lift"][0].axes[0].get_title(loc="left")
    assert f"{at.lift(MODEL).value:.1f} times" in title
