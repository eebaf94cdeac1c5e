"""Fitted models as text: JSON in and out, so that customers can be scored where nothing was fitted.

A file holds what scoring and intervals need (estimates, their covariance, likelihood, customers, verdict), says
which model and which unit of time it is in, and never a customer. Numbers are written to the last bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FORMAT = "fitted customer-base model"
VERSION = 1


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
            When the text is something else, of another version, incomplete, or in another unit than `unit`.
        """
        try:
            saved = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"fitted model: not JSON (line {error.lineno}); write it with to_json") from error
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
        params = pd.Series(saved["params"], dtype=float, name="estimate")
        log_cov = np.array([[np.nan if v is None else v for v in row] for row in saved["log_cov"]], dtype=float)
        if log_cov.shape != (len(params), len(params)):
            raise ValueError("fitted model: the covariance in the file does not fit its parameters; write it again")
        return cls(
            saved["model"],
            params,
            log_cov,
            float("nan") if saved["llf"] is None else saved["llf"],
            saved["nobs"],
            saved["verdict"]["status"],
            saved["verdict"]["reason"],
            saved["settings"],
            saved["unit"],
        )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
