"""What the valuation notebook lets its reader change, with types and limits."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """Parameters of `02_customer_valuation`; an unknown or ill-typed one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = "sample"
    horizon_weeks: int = Field(52, ge=1, le=520)
    holdout_weeks: int = Field(13, ge=1, le=260)
    top_share: float = Field(0.20, ge=0.01, le=0.5)
    bins: int = Field(5, ge=5, le=5)
    draws: int = Field(400, ge=100, le=10_000)
    saved: float = Field(0.20, gt=0.0, le=1.0)
    lapse_weeks: int = Field(13, ge=1, le=260)
    return_weeks: int = Field(13, ge=1, le=260)
    incentive: float = Field(0.0, ge=0.0)
    raised: float = Field(0.20, ge=0.0, le=10.0)
    reach: Literal["none", "mail", "email", "sms"] = "none"
    seed: int = Field(1, ge=0)
