"""What customers write of their own accord: how many write, about what, and how satisfied they are who do.

Comments are known by their themes alone, found when the survey was read; no text comes this far. Who mentions a theme is compared
with those who wrote about something else, since those who write at all are not like those who do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from analysis.multiplicity import adjust_p_values

from .groups import LEVEL, wave_change
from .path_model import EstimationError, respondents_of
from .survey_means import TOO_FEW, survey_means

GIVEN, OTHER, PREFIX = "comment_given", "comment_other", "comment_"
_NOBODY = "nobody wrote a comment"


@dataclass(frozen=True)
class CommentThemes:
    """What the comments of a survey say.

    Attributes
    ----------
    written : one row: customers who answered, share of answers with a comment, low, high, reason
    themes : one row a theme, those that come up most first, ``other`` (no theme) last: theme, customers, share of the comments
        that mention it, low, high, reason (why there is no number, else empty); shares add up to more than one where a comment
        mentions several
    differences : one row a theme and score: theme, score, mention and rest (means of those who mention it, and of those who
        wrote something else), difference, low, high, p, p_holm (over all themes and scores), reason
    writers : one row a score: score, wrote and silent (means), difference, low, high, p, p_holm, reason
    changes : one row a theme and step from wave to wave, of the share of comments: theme, first, second, share_first,
        share_second, change, low, high, p, p_holm (over all rows), reason; none of a theme that nobody mentions
    waves : how many times the survey was held; 1 where that is not known
    """

    written: pd.DataFrame
    themes: pd.DataFrame
    differences: pd.DataFrame
    writers: pd.DataFrame
    changes: pd.DataFrame
    waves: int


def comment_themes(
    answers: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    waves: pd.Series | None = None,
    weights: pd.Series | None = None,
    customers: pd.Series | None = None,
    confidence: float = 0.95,
    small_group: int = 10,
) -> CommentThemes:
    """How many customers write, about what, how their scores compare, and what changed from wave to wave.

    A share has Wilson's limits for the effective number of answers (Korn & Graubard 1998, Surv. Methodol. 24): weights and
    customers who answered twice lower it. Differences are those of :func:`wave_change`, two answers of one customer counted as
    the pair they are. Where fewer than `small_group` customers mention a theme, or write about all others, no number is given.

    Parameters
    ----------
    answers : survey_responses with comment_given, comment_other and one yes/no column comment_<theme> a theme
    scores : (n, k) of the same answers, 0-100, NaN where there is none
    waves, weights, customers : (n,) when each was filled in; survey weights; who answered (null: somebody seen once)

    Raises
    ------
    EstimationError
        The survey has no comments, or lengths differ, or bad weights.
    """
    if GIVEN not in answers.columns:
        raise EstimationError("the survey has no comments: declare survey.comments in the study")
    names = [c for c in answers.columns if c.startswith(PREFIX) and c not in (GIVEN, OTHER)]
    given = answers[GIVEN].astype(bool)
    flags = answers[[*names, OTHER]].rename(columns=lambda name: name.removeprefix(PREFIX)).astype(float).where(given)
    wrote = given.astype(float)
    told = _Told(weights, customers, confidence, small_group)
    themes = pd.DataFrame([{"theme": theme} | told.share(flags[theme]) for theme in flags])
    themes = themes.iloc[np.lexsort((-themes["share"].fillna(-1), themes["theme"] == "other"))]
    differences = [
        told.contrast(scores, flags[theme], "mention", "rest").assign(theme=theme) for theme in themes["theme"]
    ]
    return CommentThemes(
        pd.DataFrame([told.share(wrote)]),
        themes.reset_index(drop=True),
        _corrected(pd.concat(differences, ignore_index=True), ["theme", "score", "mention", "rest", "difference"]),
        _corrected(told.contrast(scores, wrote, "wrote", "silent"), ["score", "wrote", "silent", "difference"]),
        _corrected(told.changes(flags, waves), ["theme", "first", "second", "share_first", "share_second", "change"]),
        1 if waves is None else max(1, waves.nunique()),
    )


@dataclass(frozen=True)
class _Told:
    """Numbers that may be told of the answers: the weights and customers behind them, and how few are too few."""

    weights: pd.Series | None
    customers: pd.Series | None
    confidence: float
    small_group: int

    def share(self, flag: pd.Series) -> dict:
        """Share of yes (1) among those with a flag."""
        found = survey_means(flag, self.weights, self.customers)
        if not found.answers[0]:
            return {"customers": 0, "share": np.nan, "low": np.nan, "high": np.nan, "reason": _NOBODY}
        if self._few(flag):
            return {"customers": np.nan, "share": np.nan, "low": np.nan, "high": np.nan, "reason": TOO_FEW}
        share, n = float(found.means[0]), found.effective[0]
        low, high = proportion_confint(share * n, n, 1 - self.confidence, method="wilson")
        return {
            "customers": self._people(flag > 0),
            "share": share,
            "low": float(low),
            "high": float(high),
            "reason": "",
        }

    def contrast(self, scores: pd.DataFrame, flag: pd.Series, yes: str, no: str) -> pd.DataFrame:
        """Mean of each score where the flag is yes, less that where it is no."""
        found = wave_change(scores, flag, smallest=self.small_group, **self._of)
        found = found.rename(columns={"second_score": yes, "first_score": no, "change": "difference"})
        if found.empty:  # all said yes, or all no
            found = found.reindex(range(scores.shape[1])).assign(score=list(scores.columns))
        return found.assign(reason=found["difference"].isna().map({True: TOO_FEW, False: ""}))

    def changes(self, flags: pd.DataFrame, waves: pd.Series | None) -> pd.DataFrame:
        """Change of the share of each theme from wave to wave; of a theme that is too rare in every wave there is no row."""
        told = flags.loc[:, flags.max() > 0].copy()
        for wave in [] if waves is None else waves.dropna().unique():
            few = [theme for theme in told if self._few(told[theme].where(waves == wave))]
            told.loc[waves == wave, few] = np.nan
        found = wave_change(told, waves, smallest=self.small_group, **self._of)
        found = found.rename(columns={"score": "theme", "first_score": "share_first", "second_score": "share_second"})
        return found.assign(reason=found["change"].isna().map({True: TOO_FEW, False: ""}))

    @property
    def _of(self) -> dict:
        return {"customers": self.customers, "weights": self.weights, "confidence": self.confidence}

    def _few(self, flag: pd.Series) -> bool:
        """Whether those who say yes, or those who say no, are somebody and yet too few to tell of."""
        return any(0 < self._people(flag == side) < self.small_group for side in (0, 1))

    def _people(self, rows: pd.Series) -> int:
        counted = rows.to_numpy() & (True if self.weights is None else self.weights.to_numpy() > 0)
        who = np.arange(len(rows)) if self.customers is None else respondents_of(self.customers)
        return len(np.unique(who[counted]))


def _corrected(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns asked for and those of a test, its p-values corrected for their number (Holm 1979)."""
    known = rows["p"].astype(float).dropna()
    corrected = pd.Series(adjust_p_values(known), known.index).reindex(rows.index)
    return rows.assign(p_holm=corrected)[[*columns, "low", "high", "p", "p_holm", "reason"]]


# -- what sentences need -----------------------------------------------------------------------------------------------


def comment_facts(found: CommentThemes) -> dict:
    """Share of answers with a comment, as arguments of a finding, and what comes up most.

    Returns
    -------
    value, low, high, writers (people who wrote); themes (how many are told), hidden (how many have too few customers), top,
    top_share, top_low, top_high (None without any), other (share of comments without a theme, or None); or value (None) and
    reason.
    """
    row, own = found.written.iloc[0], found.themes[found.themes["theme"] != "other"]
    if row["reason"]:
        return {"value": None, "reason": row["reason"]}
    told = own[own["reason"] == ""]
    rest = found.themes.loc[found.themes["theme"] == "other"].iloc[0]
    top = told.iloc[0] if len(told) and told.iloc[0]["share"] > 0 else None
    return {
        "value": float(row["share"]), "low": float(row["low"]), "high": float(row["high"]), "writers": int(row["customers"]),
        "themes": len(told), "hidden": len(own) - len(told), "top": None if top is None else spoken(top["theme"]),
        **{f"top_{name}": None if top is None else float(top[name]) for name in ("share", "low", "high")},
        "other": None if rest["reason"] else float(rest["share"]),
    }  # fmt: skip


def theme_facts(found: CommentThemes, score: str = "satisfaction") -> dict:
    """The theme that goes with the lowest score, as arguments of a finding.

    The lowest of those that differ beyond chance, or, where none does, the one that differs most surely.

    Returns
    -------
    value, low, high (points, against those who wrote about something else), theme, share (of comments), mention, rest (means),
    p_holm, clear (whether it differs beyond chance after Holm's correction), low_themes, high_themes (names of all that do);
    or value (None) and reason.
    """
    rows = found.differences
    rows = rows[(rows["score"] == score) & (rows["theme"] != "other") & (rows["reason"] == "")]
    if rows.empty:
        return {
            "value": None,
            "reason": "too few customers wrote about any theme, or the score is not measured soundly",
        }
    clear = rows[rows["p_holm"] < LEVEL]
    row = clear.loc[clear["difference"].idxmin()] if len(clear) else rows.loc[rows["p"].idxmin()]
    share = found.themes.set_index("theme")["share"][row["theme"]]
    return {
        "value": float(row["difference"]),
        **{name: float(row[name]) for name in ("low", "high", "mention", "rest", "p_holm")},
        "theme": spoken(row["theme"]),
        "share": float(share),
        "clear": len(clear) > 0,
        "low_themes": [spoken(theme) for theme in clear.loc[clear["difference"] < 0, "theme"]],
        "high_themes": [spoken(theme) for theme in clear.loc[clear["difference"] > 0, "theme"]],
    }


def writer_facts(found: CommentThemes, score: str = "satisfaction") -> dict:
    """How those who wrote differ from those who did not: value, low, high (points), wrote, silent, p_holm; or a reason."""
    rows = found.writers[found.writers["score"] == score]
    if rows.empty:
        return {"value": None, "reason": f"{score} is not measured soundly"}
    row = rows.iloc[0]
    if row["reason"]:
        return {"value": None, "reason": row["reason"]}
    return {"value": float(row["difference"])} | {
        n: float(row[n]) for n in ("low", "high", "wrote", "silent", "p_holm")
    }


def theme_change_facts(found: CommentThemes) -> dict:
    """The largest clear change of a theme between the last two waves, as arguments of a finding.

    Returns
    -------
    value, low, high (shares of comments), theme, first, second (waves), share_first, share_second, p_holm, clear. Where no change
    is clear there is no value but a reason, with first, second and clear; first and second are None where nothing was compared.
    """
    rows = found.changes[found.changes["theme"] != "other"]
    none = {"first": None, "second": None}
    if found.waves == 1:
        return {"value": None, "reason": "the survey was held once"} | none
    if rows.empty:
        # Where too few wrote, or nobody did, it is said of every theme.
        return {"value": None, "reason": found.themes["reason"][0] or "no comment mentions a theme"} | none
    rows = rows[(rows["second"] == rows["second"].iloc[-1]) & (rows["reason"] == "")]
    if rows.empty:
        return {"value": None, "reason": "too few customers wrote about any theme in one of the waves"} | none
    clear = rows[rows["p_holm"] < LEVEL]
    waves = {"first": rows["first"].iloc[0], "second": rows["second"].iloc[0], "clear": len(clear) > 0}
    if clear.empty:
        return {"value": None, "reason": "no change is beyond chance for all themes together"} | waves
    row = clear.loc[clear["change"].abs().idxmax()]
    named = {name: float(row[name]) for name in ("low", "high", "share_first", "share_second", "p_holm")}
    return {"value": float(row["change"]), "theme": spoken(row["theme"])} | named | waves


def spoken(theme: str) -> str:
    """A theme's name as people write it."""
    return theme.replace("_", " ")
