"""What no data and no question can be: every purchase model refuses it in one clear line, and none answers with a number."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.valuation import (
    BGBB,
    BGNBD,
    MBGNBD,
    NBD,
    SBG,
    BGCNBDk,
    GammaGamma,
    GammaGammaResults,
    ModelNotFitted,
    ParetoNBD,
    ParetoNBDCovariates,
    PurchaseResults,
    SBGResults,
)
from analysis.valuation.bg_bb import _SUMMED, _long_stay, _stay
from analysis.valuation.bg_cnbd_k import MBGCNBDk
from analysis.valuation.purchases import Verdict

X, LAST, AGE = [2, 0, 1, 4, 0, 7, 1, 0], [30.4, 0, 1.7, 31.0, 0, 36.0, 20.0, 0], [38.9] * 4 + [36.0] * 4
HISTORY = [0, 3], [0.0, 5.0], [6.0, 6.0]
TRUTH = {
    NBD: (0.8, 13.0),
    BGNBD: (0.8, 13.0, 0.7, 3.0),
    MBGNBD: (0.8, 13.0, 0.7, 3.0),
    ParetoNBD: (0.8, 13.0, 0.7, 34.0),
    BGCNBDk: (0.8, 13.0, 0.7, 3.0),
    MBGCNBDk: (0.8, 13.0, 0.7, 3.0),
    BGBB: (1.2, 0.75, 0.66, 2.78),
}


def at(kind):
    """Results at known parameters."""
    if kind is BGBB:
        model = BGBB([0, 1, 3, 6, 2], [0, 4, 5, 6, 2], [6] * 5)
    else:
        model = kind(X, LAST, AGE, **({"k": 2} if issubclass(kind, BGCNBDk) else {}))
    size = len(TRUTH[kind])
    params = pd.Series(TRUTH[kind], index=list(model.parameter_names), name="estimate", dtype=float)
    return model.results_class(model, params, np.eye(size), -9.0, Verdict("ok"))


@pytest.fixture(scope="module")
def covariates():
    z = pd.DataFrame({"a": [0.0, 1.0] * 4})
    model = ParetoNBDCovariates(X, LAST, AGE, rate=z)
    params = pd.Series((0.8, 13.0, 0.7, 34.0, 0.1), index=list(model.parameter_names), name="estimate")
    return model.results_class(model, params, np.eye(5), -9.0, Verdict("ok")), {"rate": z.head(2)}


WRONG_TIMES = (-1.0, np.nan, "5", None, [1.0, 2.0], -np.inf)
WRONG_DISCOUNTS = (-0.002, np.nan, np.inf, None)


def refuses(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def check_questions(results, **given):
    """Every wrong horizon, discount and number; `given` are the covariates."""
    for t in WRONG_TIMES:
        refuses(lambda t=t: results.expected_purchases(t, *HISTORY, **given), "the horizon t must be one number")
        refuses(
            lambda t=t: results.simulate_future(t, *HISTORY, rng=np.random.default_rng(1), **given),
            "the horizon t must",
        )
    for d in WRONG_DISCOUNTS:
        refuses(lambda d=d: results.expected_purchases(52, *HISTORY, discount=d, **given), "the discount rate must be")
    refuses(lambda: results.expected_purchases(np.inf, *HISTORY, **given), "endless horizon")
    refuses(lambda: results.simulate_future(np.inf, *HISTORY, rng=np.random.default_rng(1), **given), "finite horizon")
    assert (results.expected_purchases(0, *HISTORY, **given) == 0).all()
    assert (results.expected_purchases(np.int64(3), *HISTORY, discount=0.01, **given) > 0).all()


def check_counts(results, **given):
    for n_max in (-1, 2.5, np.nan, np.inf, "3", None):
        refuses(lambda n=n_max: results.count_distribution(n, 5.0, *HISTORY, **given), "n_max must be a whole number")
    for t in (*WRONG_TIMES, np.inf):
        refuses(lambda t=t: results.count_distribution(3, t, *HISTORY, **given), "horizon t")
    chances = results.count_distribution(np.int64(3), 0, *HISTORY, **given)
    assert chances == pytest.approx(np.array([[1.0, 0, 0, 0]] * 2))
    assert results.count_distribution(0, 5.0, *HISTORY, **given).shape == (2, 1)


@pytest.mark.parametrize("kind", list(TRUTH), ids=lambda kind: kind.name)
def test_a_question_without_an_answer_is_refused(kind):
    check_questions(at(kind))
    if kind in (NBD, BGNBD):
        check_counts(at(kind))


def test_so_it_is_with_covariates(covariates):
    results, given = covariates
    check_questions(results, **given)


@pytest.mark.parametrize("kind", [ParetoNBD, BGBB], ids=lambda kind: kind.name)
def test_an_endless_future_needs_a_discount(kind):
    for d in (0.0, -0.1, np.nan):
        refuses(lambda d=d: at(kind).discounted_expected_residual_transactions(d, *HISTORY), "discount rate")
    assert (at(kind).discounted_expected_residual_transactions(0.01, *HISTORY) > 0).all()


# -- occasions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.05, 0.66, 1.0, 7.0])
@pytest.mark.parametrize("discount", [0.0, 1e-6, 0.01])
def test_a_thousand_occasions_summed_are_the_integral(gamma, discount):
    stayed = np.array([0.1, 2.78, 40.0, 3000.0])
    one_by_one = _stay(gamma, stayed, _SUMMED, discount)
    assert _long_stay(gamma, stayed, float(_SUMMED), discount) == pytest.approx(one_by_one, rel=1e-11)


def test_a_billion_occasions_take_no_time_and_forget_nothing():
    results = at(BGBB)
    some, many = (results.expected_purchases(t, *HISTORY) for t in (_SUMMED, 10**9))
    assert (many > some).all()
    # of a discounted future nothing is left after so long
    endless = results.expected_purchases(np.inf, *HISTORY, discount=1e-4)
    assert results.expected_purchases(1e9, *HISTORY, discount=1e-4) == pytest.approx(endless, rel=1e-11)
    few = results.expected_repeats([0, 5, _SUMMED, _SUMMED + 1, 10**9])
    assert (np.diff(few) > 0).all() and few[3] - few[2] < few[2] / _SUMMED
    assert results.expected_repeats(10**9) == few[-1]
    with pytest.raises(ValueError, match="too many"):
        results.purchase_pmf([3], 10**9)


def test_occasions_are_whole():
    results = at(BGBB)
    for t in (2.5, -1, np.nan, np.inf):
        refuses(lambda t=t: results.expected_repeats([t]), "whole numbers from 0 up")
        refuses(lambda t=t: results.purchase_pmf([1], t), "whole number of occasions")
    refuses(lambda: results.expected_purchases(2.5, *HISTORY), "whole number of occasions")
    refuses(lambda: results.simulate_future(2.5, *HISTORY, rng=np.random.default_rng(1)), "whole number of occasions")


# -- contracts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    [
        [True, False, True, False],
        [1, 0, 1, 0],
        [1.0, 0.0, 1.0, 0.0],
        np.array([True, False, True, False], dtype=object),
        pd.Series([True, False, True, False], dtype="boolean", index=[7, 3, 3, 1]),
        pd.Series([1, 0, 1, 0], dtype="int64[pyarrow]"),
        pd.Series([True, False, True, False], dtype="bool[pyarrow]"),
        np.array([1, 0, 1, 0], dtype=np.uint8),
    ],
)
def test_who_left_may_be_written_in_many_ways(left):
    model = SBG.from_durations([1, 1, 2, 3], left)
    assert model.lost.tolist() == [1, 1, 0] and model.active.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (["no", "no", "yes", "no"], "true and false"),
        (["False", "True", "False", "False"], "true and false"),
        ([-1, 0, 1, 0], "true and false"),
        ([2, 0, 1, 0], "true and false"),
        ([0.5, 0, 1, 0], "true and false"),
        ([True, "no", False, False], "true and false"),
        ([np.nan, 0, 1, 0], "missing in 1 rows"),
        ([None, None, True, False], "missing in 2 rows"),
        (pd.Series([True, None, False, False], dtype="boolean"), "missing in 1 rows"),
        ([True, False, True], "one row a customer"),
    ],
)
def test_who_left_cannot_be_guessed(left, message):
    refuses(lambda: SBG.from_durations([1, 1, 2, 3], left), message)


def test_durations_are_numbers_of_renewals():
    refuses(lambda: SBG.from_durations([1, 10**9], [True, False]), "1,000,000,000 periods are more")
    refuses(lambda: SBG.from_durations(pd.array([1, None], dtype="Int64"), [True, False]), "whole numbers")
    refuses(lambda: SBG.from_durations(["1", "many"], [True, False]), "whole numbers")
    refuses(lambda: SBG.from_survivors([100, 60, 45]).fit().survival(10**10), "more than a contract has")


def test_a_contract_model_in_json():
    results = SBG.from_survivors([1000, 869, 743, 653, 593]).fit()
    loaded = SBGResults.from_json(results.to_json("years"), "years")
    assert (loaded.survival([0, 3, 9]) == results.survival([0, 3, 9])).all()
    pd.testing.assert_frame_equal(loaded.summary(), results.summary())
    assert (loaded.nobs, loaded.llf, loaded.verdict) == (results.nobs, results.llf, results.verdict)
    assert loaded.to_json("years") == results.to_json("years")
    refuses(lambda: SBGResults.from_json(results.to_json("years"), "months"), "counts in years, not in months")
    refuses(lambda: SBGResults.from_json(at(NBD).to_json("weeks")), "'NBD' is not sBG")
    refuses(lambda: PurchaseResults.from_json(results.to_json("years")), "'sBG' is not one of")


# -- damaged files -----------------------------------------------------------------------------------------------------


def spend_fit():
    return GammaGammaResults(
        pd.Series({"p": 6.25, "q": 3.74, "gamma": 15.44}), np.eye(3), -9.0, 100, 20, Verdict("ok")
    ).to_json("USD")


WRITTEN = {
    "Pareto/NBD": (PurchaseResults.from_json, lambda: at(ParetoNBD).to_json("weeks")),
    "NBD": (PurchaseResults.from_json, lambda: at(NBD).to_json("weeks")),
    "BG/CNBD-k": (PurchaseResults.from_json, lambda: at(BGCNBDk).to_json("weeks")),
    "sBG": (SBGResults.from_json, lambda: SBG.from_survivors([1000, 869, 743, 653]).fit().to_json("years")),
    "gamma-gamma": (GammaGammaResults.from_json, spend_fit),
}
HUGE = "a number beyond any float"


def every(value):
    return lambda saved: saved.update(params=dict.fromkeys(saved["params"], value))


DAMAGE = {
    "verdict null": (lambda saved: saved.update(verdict=None), "verdict in the file is damaged"),
    "verdict empty": (lambda saved: saved.update(verdict={}), "verdict → status"),
    "status unknown": (lambda saved: saved["verdict"].update(status="fine"), "verdict → status"),
    "log_cov null": (lambda saved: saved.update(log_cov=None), "log_cov"),
    "log_cov ragged": (lambda saved: saved.update(log_cov=[[1.0], [1.0, 2.0]]), "covariance"),
    "log_cov text": (lambda saved: saved["log_cov"][0].__setitem__(0, "x"), "log_cov → 0"),
    "settings null": (lambda saved: saved.update(settings=None), "settings"),
    "settings list": (lambda saved: saved.update(settings=[1]), "settings"),
    "nobs null": (lambda saved: saved.update(nobs=None), "nobs"),
    "nobs text": (lambda saved: saved.update(nobs="many"), "nobs"),
    "nobs zero": (lambda saved: saved.update(nobs=0), "nobs"),
    "llf text": (lambda saved: saved.update(llf="a"), "llf"),
    "params list": (lambda saved: saved.update(params=[1, 2]), "params"),
    "params none": (lambda saved: saved.update(params={}), "params"),
    "params null": (every(None), "params → "),
    "params text": (every("1.0"), "params → "),
    "params infinite": (every(HUGE), "params → "),
    "params negative": (every(-1.0), "above 0 by its nature"),
    "params zero": (every(0), "above 0 by its nature"),
    "model list": (lambda saved: saved.update(model=[1]), "model"),
    "model null": (lambda saved: saved.update(model=None), "model"),
    "unit number": (lambda saved: saved.update(unit=7), "unit"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
@pytest.mark.parametrize("kind", list(WRITTEN))
def test_a_damaged_file_is_refused_in_one_line(kind, damage):
    read, write = WRITTEN[kind]
    change, message = DAMAGE[damage]
    saved = json.loads(write())
    change(saved)
    refuses(lambda: read(json.dumps(saved).replace(f'"{HUGE}"', "1e999")), f"fitted model: .*{message}")


def test_settings_are_those_of_the_model():
    for kind, settings in (
        (NBD, {"cells": 1}),
        (NBD, {"fit": 2}),
        (BGCNBDk, {}),
        (BGCNBDk, {"k": 2}),
        *((BGCNBDk, {"k": k, "k_estimated": False}) for k in (None, 0, 2.5, "2", True, [2])),
    ):
        saved = json.loads(at(kind).to_json("weeks")) | {"settings": settings}
        refuses(lambda saved=saved: PurchaseResults.from_json(json.dumps(saved)), "fitted model: the settings of")
    for left_out in ({}, {"left_out": None}, {"left_out": -1}, {"left_out": "2"}):
        saved = json.loads(spend_fit()) | {"settings": left_out}
        refuses(lambda saved=saved: GammaGammaResults.from_json(json.dumps(saved)), "left_out")


def test_what_is_no_text_is_refused():
    for text in (None, 7, {}):
        refuses(lambda text=text: PurchaseResults.from_json(text), "give the text of a file")


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [NBD, BGNBD, ParetoNBD, BGBB], ids=lambda kind: kind.name)
def test_weights_that_add_up_to_nobody_are_said_to(kind):
    history = ([0, 1, 3, 6] * 100, [0, 4, 5, 6] * 100, [6] * 400)
    with pytest.raises(ModelNotFitted, match=r"add up to 0\.4, which .* must add up to 2"):
        kind(*history, weights=[0.001] * 400).fit()
    with pytest.raises(ModelNotFitted, match="one customer cannot show"):
        kind([3], [5], [6]).fit()


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0]])
def test_columns_of_different_lengths_are_named(weights):
    for call in (
        lambda: BGNBD([1, 0, 2], [2.0, 0.0], [6.0, 6.0, 6.0], weights=weights),
        lambda: at(BGNBD).probability_alive([1, 0, 2], [2.0, 0.0], [6.0, 6.0, 6.0]),
        lambda: at(NBD).expected_purchases(9, [1, 0, 2], [2.0, 0.0], [6.0, 6.0, 6.0]),
    ):
        refuses(call, "frequency has 3, recency 2 and T 3 values")
    refuses(lambda: GammaGamma([1, 2, 3], [4.0, 5.0]), "frequency has 3 and monetary_value 2 values")
    # one value for everybody is a value for each
    assert at(NBD).expected_purchases(9, [1, 2, 3], [2.0, 3.0, 4.0], 6.0).shape == (3,)
