"""What the campaign notebook lets its reader change, with types and limits."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Parameters(BaseModel):
    """Parameters of `05_campaign_evaluation`; an unknown or ill-typed one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = "sample"
    window_days: int | None = Field(None, ge=1, le=730)
    pre_days: int = Field(28, ge=7, le=365)
    pre_periods: int = Field(4, ge=1, le=8)
    method: Literal["doubly_robust", "ipw", "did"] = "doubly_robust"
    highest_propensity: float = Field(0.9, gt=0.5, le=1.0)
    min_targeted: int = Field(30, ge=10, le=100_000)
    planned_split: dict[str, float] | None = None
    smallest_effect: float = Field(0.05, gt=0.0, le=1.0)
    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    seed: int = Field(1, ge=0)
    budget: float | None = Field(None, gt=0)
    everybody: bool = False
    contact_cap: int | None = Field(None, ge=1, le=1000)
    cap_days: int = Field(90, ge=1, le=730)
    anticipation_weeks: int = Field(0, ge=0, le=26)
    frequency_arms: dict[str, dict[str, int]] | None = None

    @model_validator(mode="after")
    def _cap_of_whom(self) -> Parameters:
        if self.contact_cap is not None and not self.everybody:
            raise ValueError(
                "contact_cap counts the contacts of customers as they are today; set everybody: true with it"
            )
        return self
