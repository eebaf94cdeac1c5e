"""Fitted models as text: JSON in and out, so that customers can be scored where nothing was fitted.

A file holds what scoring and intervals need (estimates, their covariance, likelihood, customers, verdict), says
which model and which unit of time it is in, and never a customer. Numbers are written to the last bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

FORMAT = "fitted customer-base model"
VERSION = 1


class _Verdict(BaseModel):
    model_config = ConfigDict(strict=True)
    status: Literal["ok", "weak", "boundary", "not converged"]
    reason: str


class _File(BaseModel):
    """What a file must hold; it is read strictly, so that no text passes for a number."""

    model_config = ConfigDict(strict=True)
    model: str
    unit: str
    params: dict[str, FiniteFloat] = Field(min_length=1)
    log_cov: list[list[FiniteFloat | None]]
    llf: FiniteFloat | None
    nobs: int | FiniteFloat = Field(gt=0)
    verdict: _Verdict
    settings: dict[str, Any]


@dataclass(frozen=True)
class SavedFit:
    """What the file of a fitted model holds.

    Attributes
    ----------
    model : str
        The model's name.
    params : Series of shape (k,)
    log_cov : array of shape (k, k)
        NaN where the fit had none.
    llf : float
    nobs : int or float
        Customers that the fit used.
    status, reason : str
        The verdict.
    settings : dict
        What else the model needs to score.
    unit : str
        The unit of time, or of money for a model of spend.
    """

    model: str
    params: pd.Series
    log_cov: NDArray[np.float64]
    llf: float
    nobs: int | float
    status: str
    reason: str
    settings: dict[str, object]
    unit: str

    def to_json(self) -> str:
        """The fit as JSON text."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "model": self.model,
                "unit": self.unit,
                "params": dict(zip(self.params.index, self.params.tolist(), strict=True)),
                "log_cov": [[_number(v) for v in row] for row in np.asarray(self.log_cov).tolist()],
                "llf": _number(self.llf),
                "nobs": self.nobs,
                "verdict": {"status": self.status, "reason": self.reason},
                "settings": self.settings,
            },
            indent=1,
            allow_nan=False,
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str, unit: str | None = None) -> SavedFit:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            When the text is something else, of another version, incomplete or damaged, or in another unit than `unit`.
        """
        try:
            saved = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"fitted model: not JSON (line {error.lineno}); write it with to_json") from error
        except TypeError as error:
            raise ValueError(f"fitted model: give the text of a file, not {type(text).__name__}") from error
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise ValueError("fitted model: this JSON is not a fitted model; write it with to_json")
        if saved.get("version") != VERSION:
            raise ValueError(
                f"fitted model: version {saved.get('version')!r} of the file is not known, only {VERSION}; fit again"
            )
        missing = {"model", "unit", "params", "log_cov", "llf", "nobs", "verdict", "settings"} - set(saved)
        if missing:
            raise ValueError(f"fitted model: {', '.join(sorted(missing))} is missing from the file; write it again")
        if unit is not None and saved["unit"] != unit:
            raise ValueError(f"fitted model: it counts in {saved['unit']}, not in {unit}; convert or fit again")
        file = _validated(saved)
        params = pd.Series(file.params, dtype=float, name="estimate")
        if [len(row) for row in file.log_cov] != [len(params)] * len(params):
            raise ValueError("fitted model: the covariance in the file does not fit its parameters; write it again")
        return cls(
            file.model,
            params,
            np.array([[np.nan if v is None else v for v in row] for row in file.log_cov], dtype=float),
            float("nan") if file.llf is None else file.llf,
            file.nobs,
            file.verdict.status,
            file.verdict.reason,
            file.settings,
            file.unit,
        )

    def check_positive(self, logged: NDArray[np.bool_]) -> None:
        """Raise ValueError unless the parameters that are `logged`, shape (k,), are above 0."""
        wrong = logged & ~(self.params.to_numpy() > 0)
        if wrong.any():
            name = self.params.index[int(np.argmax(wrong))]
            raise ValueError(
                f"fitted model: the parameter {name} of {self.model} is above 0 by its nature, and "
                f"{self.params[name]:g} in the file; write it again"
            )


def _validated(saved: dict[str, Any]) -> _File:
    try:
        return _File.model_validate(saved)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = " → ".join(str(part) for part in first["loc"])
        raise ValueError(f"fitted model: {where} in the file is damaged ({first['msg']}); write it again") from error


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
