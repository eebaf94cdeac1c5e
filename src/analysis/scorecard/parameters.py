"""What the scorecard notebook lets its reader change, with types and limits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """Parameters of `08_scorecard`; an unknown or ill-typed one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = "demo_sample"
    respondents: int = Field(1_000_000, ge=10_000, le=5_000_000)
    draws: int = Field(1000, ge=200, le=10_000)
    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    seed: int = Field(1, ge=0)
