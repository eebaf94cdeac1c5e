"""What customers write in their own words: remarks on planted themes, some with names, telephone numbers and addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from analysis.simulate.satisfaction import WAVES, Latents

ENGLISH, CHINESE = 0, 1


@dataclass(frozen=True)
class Theme:
    """Something that customers remark on.

    Attributes
    ----------
    share : of those who write, at a mean construct. construct, slope : change of its log-odds by a standard deviation of that
    construct. second_wave : change of its log-odds from the first wave to the second.
    english, chinese : how it is put.
    """

    name: str
    share: float
    construct: str
    slope: float
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    second_wave: float = 0.0


THEMES = (
    Theme(
        "delivery", 0.22, "Quality", -0.8,
        ("The delivery was late again", "My box never arrived on time", "The driver left the bags in the rain"),
        ("送货太慢", "快递员没有打电话"),
        second_wave=0.5,
    ),
    Theme(
        "price", 0.20, "Value", -0.7,
        ("Too expensive for what you get", "PRICES went up twice this year", "Cheaper elsewhere, sadly"),
        ("价格太高", "东西太贵了"),
    ),
    Theme(
        "freshness", 0.15, "Quality", -0.4,
        ("The lettuce was rotten", "Strawberries mouldy on day one", "Fruit not fresh"),
        ("蔬菜不新鲜", "水果烂了"),
    ),
    Theme(
        "staff", 0.12, "Quality", 0.6,
        ("Staff are friendly, as always", "So helpful on the phone", "Kind people at the counter"),
        ("服务员很热情", "店员很好"),
    ),
    Theme(
        "range", 0.12, "Quality", 0.0,
        ("I wish you had more organic choice", "Bigger selection of tea please", "You do not stock gluten-free bread"),
        ("品种太少", "希望有更多选择"),
    ),
)  # fmt: skip
# Words that begin or end like those of a theme, and are not about it.
REMARKS = (
    ("Nothing to add", "Keep it up", "My mother-in-law's recipes are priceless", "Ok", "Chocolate is my weakness"),
    ("没有意见", "一切都好"),
)
BLANKS = ("", " ", "-", "…")  # what stands in the field of those who write nothing
FIRST_NAMES = ("Quillan", "Ottoline", "Thaddea", "Bartimo", "Zephira", "Ludovine")
LAST_NAMES = ("Brastowe", "Fennimark", "Quastenby", "Ollerenhaw", "Zwiebelford")
CHINESE_NAMES = ("欧阳青岚", "司马拂晓", "诸葛听澜", "上官知夏")


@dataclass(frozen=True)
class CommentPlan:
    """What is planted about comments.

    Attributes
    ----------
    written : share of respondents who write something, at mean satisfaction. satisfaction : change of its log-odds by a standard
    deviation. chinese : share of comments in Chinese. personal : share that holds a name, a telephone number and an address.
    """

    written: float = 0.35
    satisfaction: float = -0.5
    chinese: float = 0.15
    personal: float = 0.15
    themes: tuple[Theme, ...] = THEMES


def comments(
    answers: pd.DataFrame, scores: Latents, plan: CommentPlan, rng: np.random.Generator
) -> tuple[NDArray[np.object_], pd.DataFrame]:
    """The open answer of every questionnaire, and what is true of it.

    Parameters
    ----------
    answers : owner, wave, as :func:`analysis.simulate.satisfaction.survey` gives them. scores : the latents of all customers.

    Returns
    -------
    The texts (n,); and a frame of their truth: ``given``, one column a theme, ``other``, and ``name, telephone, email`` that a text
    holds (null where it holds none).
    """
    n, wave = len(answers), answers["wave"].to_numpy()
    at = answers["owner"].to_numpy(), np.array(WAVES)[wave - 1]

    def drawn(share: float, log_odds: NDArray) -> NDArray[np.bool_]:
        return rng.random(n) < expit(logit(share) + log_odds)

    given = drawn(plan.written, plan.satisfaction * scores["Satisfaction"][at])
    language = (rng.random(n) < plan.chinese).astype(int)
    truth = {"given": given}
    for theme in plan.themes:
        truth[theme.name] = given & drawn(
            theme.share, theme.slope * scores[theme.construct][at] + theme.second_wave * (wave == 2)
        )
    touched = np.any([truth[theme.name] for theme in plan.themes], axis=0)
    truth["other"] = given & ~touched
    phrases = {theme.name: (theme.english, theme.chinese) for theme in plan.themes} | {"other": REMARKS}
    picks = {name: rng.integers(0, 2**16, n) for name in phrases}
    people = _people(n, given & (rng.random(n) < plan.personal), rng)
    blanks = rng.choice(BLANKS, n)
    texts = np.empty(n, dtype=object)
    for k in range(n):
        said = [
            of[language[k]][picks[name][k] % len(of[language[k]])] for name, of in phrases.items() if truth[name][k]
        ]
        texts[k] = _sentences(said, language[k], people, k) if said else blanks[k]
    return texts, pd.DataFrame(truth | people)


def _people(n: int, told: NDArray[np.bool_], rng: np.random.Generator) -> Mapping[str, NDArray[np.object_]]:
    """Names, telephone numbers and addresses of people who are not among the customers."""
    first, last = rng.choice(FIRST_NAMES, n), rng.choice(LAST_NAMES, n)
    name = np.where(rng.random(n) < 0.3, rng.choice(CHINESE_NAMES, n), np.char.add(np.char.add(first, " "), last))
    number = rng.integers(0, 10_000_000, n)
    telephone = [f"+86 199 7{part // 1000 % 1000:03d} {part % 10_000:04d}" for part in number]
    email = [f"{f}.{part}@{of}.example".lower() for f, of, part in zip(first, last, number, strict=True)]
    return {
        kind: np.where(told, values, None)
        for kind, values in (("name", name), ("telephone", telephone), ("email", email))
    }


def _sentences(said: list[str], language: int, people: Mapping[str, NDArray], k: int) -> str:
    name, telephone, email = (people[kind][k] for kind in ("name", "telephone", "email"))
    if language == CHINESE:
        contact = f"。请联系{name}，电话{telephone}，邮箱{email}" if name else ""
        return "，".join(said) + contact
    contact = f' Call me, "{name}", on {telephone}, or write to {email}' if name else ""
    return ". ".join(said) + "." + contact
