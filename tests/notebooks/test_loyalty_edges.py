"""The notebook on satisfaction and loyalty with surveys at the edge of what can be analysed: it ends with findings, or with
one clear sentence."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import paths, store
from analysis.errors import RapportError
from tests.notebooks.test_valuation_edges import run

SOUND = {
    "Image": 4,
    "Expectation": 3,
    "Quality": 4,
    "Value": 2,
    "Satisfaction": 3,
    "Complaints": 1,
    "Loyalty": 3,
}
RELATIONSHIP = {"Image": 3, "Value": 2, "Satisfaction": 3, "Trust": 3, "Commitment": 3, "Complaints": 1, "Loyalty": 2}


def answers(blocks, n, seed=1):
    """Answers from 1 to 10: each block's score is half of its own and half of the one before."""
    rng = np.random.default_rng(seed)
    items, score = {}, rng.normal(size=n)
    for block, size in blocks.items():
        score = 0.7 * score + 0.7 * rng.normal(size=n)
        for k in range(size):
            item = score + 0.5 * rng.normal(size=n)
            items[f"{block.lower()}{k}"] = np.clip(np.round(6.5 + 1.8 * item), 1, 10).astype(int).astype(str)
    return pd.DataFrame(items)


def constant(frame):
    return frame.assign(quality1="7")


def holes(frame):
    return frame.mask(np.random.default_rng(2).random(frame.shape) < 0.3, "")


def nobody_knows(frame):
    return frame.assign(**{name: "" for name in frame if name.startswith("value")})


def shouting(frame):
    return frame.map(lambda _: "10")


def unrelated(frame):
    rng = np.random.default_rng(3)
    return frame.map(lambda _: str(rng.integers(1, 11)))


CASES = {  # model, blocks, respondents, what befell their answers
    "index": ("ecsi", SOUND, 200, None),
    "commitment and trust": ("commitment_trust", RELATIONSHIP, 200, None),
    "commitment and trust, without satisfaction": (
        "commitment_trust",
        {name: size for name, size in RELATIONSHIP.items() if name != "Satisfaction"},
        200,
        None,
    ),
    "commitment and trust, nothing but what they need": (
        "commitment_trust",
        {"Value": 2, "Trust": 2, "Commitment": 2, "Complaints": 1},
        200,
        None,
    ),
    "two blocks": ("ecsi", {"Quality": 3, "Satisfaction": 2}, 200, None),
    "single questions": ("ecsi", dict.fromkeys(SOUND, 1), 200, None),
    "fifteen respondents": ("ecsi", SOUND, 15, None),
    "one respondent": ("ecsi", SOUND, 1, None),
    "a question that all answer alike": ("ecsi", SOUND, 200, constant),
    "three in ten answers missing": ("ecsi", SOUND, 200, holes),
    "a block that nobody answers": ("ecsi", SOUND, 200, nobody_knows),
    "everybody says ten": ("ecsi", SOUND, 200, shouting),
    "nothing goes with anything": ("ecsi", SOUND, 200, unrelated),
}
NOTHING_TO_SAY = ("one respondent", "everybody says ten")


@pytest.fixture(params=CASES)
def case(request, project):
    model, blocks, n, befell = CASES[request.param]
    frame = answers(blocks, n)
    frame = befell(frame) if befell else frame
    columns = {name: name for name in frame} | {"response_id": {"row_number": True}}
    asked = {block: [f"{block.lower()}{k}" for k in range(size)] for block, size in blocks.items()}
    project.raw("edge", "survey.csv", frame.to_csv(index=False))
    project.study(
        "edge",
        clock=None,
        money=None,
        sources={"survey": {"file": "survey.csv"}},
        tables={"survey_responses": {"source": "survey", "columns": columns}},
        survey={"model": model, "scale": [1, 10], "blocks": asked},
    )
    return request.param


def test_a_survey_ends_with_findings_or_one_clear_sentence(case):
    run("01_data_cleaning", "edge")
    try:
        run("04_satisfaction_loyalty", "edge", draws=400)
    except RapportError as error:
        message = str(error)
        assert case in NOTHING_TO_SAY and "\n" not in message, message
        return
    assert case not in NOTHING_TO_SAY
    key = store.current("edge", "04_satisfaction_loyalty")
    findings = json.loads((paths.processed("edge") / "04_satisfaction_loyalty" / key / "findings.json").read_text())
    assert sum(found["answer"] for found in findings) == 1
    for found in findings:
        assert found["sentence"] and "nan" not in found["sentence"].lower().split()
        known = found["low"] is not None and found["high"] is not None
        assert known or found["reason"], found["id"]
