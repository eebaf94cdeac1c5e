"""Parameters of the notebook 04_satisfaction_loyalty."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """What an analyst may change in 04_satisfaction_loyalty, with the defaults of its parameters cell."""

    model_config = ConfigDict(extra="forbid")

    study: str = "ecsi_mobile"
    scheme: Literal["centroid", "factorial", "path"] = "path"
    draws: int = Field(default=5000, ge=200, le=100_000)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: int = Field(default=1, ge=0)
    minimum_alpha: float = Field(default=0.7, ge=0, le=1)
    minimum_loading: float = Field(default=0.5, ge=0, le=1)
    maximum_htmt: float = Field(default=0.9, gt=0, le=1)
    group_by: str = ""
    came_anyway: float = Field(default=0.3, ge=0, le=1)
    came_anyway_low: float = Field(default=0.1, ge=0, le=1)
    came_anyway_high: float = Field(default=0.5, ge=0, le=1)
    service_target_days: float = Field(default=7, gt=0)
    window_weeks: int = Field(default=13, ge=4)
    lag_weeks: int = Field(default=4, ge=0)
