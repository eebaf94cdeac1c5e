"""What the segmentation notebook can be told."""

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """Parameters of ``03_segmentation``.

    Attributes
    ----------
    study : folder under ``studies/``.
    too_early_days : a customer whose first purchase is younger is never let go.
    trial_purchases : purchase days that a customer still exploring may have at most.
    formation_days : age below which a relationship is still forming.
    decline_ratio, rise_ratio : a purchase rate below, or above, this many times the customer's earlier one is a decline, or a rise.
    ended_days : shortest silence that can mean the end where no probability of being alive is known.
    clusters_max : largest number of segments tried.
    constructed_segments : segments to draw where there are no natural groups.
    bootstrap_pairs : pairs of bootstrap samples for each number of segments.
    marker_deviation : relative deviation from all customers that makes a variable a marker.
    few_customers, many_customers : what the company counts as few and many to look after in person.
    seed : of every random number in the notebook.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = "sample"
    too_early_days: int = Field(90, ge=0)
    trial_purchases: int = Field(2, ge=1)
    formation_days: int = Field(180, ge=0)
    decline_ratio: float = Field(0.5, gt=0, lt=1)
    rise_ratio: float = Field(2.0, gt=1)
    ended_days: int = Field(90, ge=1)
    clusters_max: int = Field(8, ge=3, le=20)
    constructed_segments: int = Field(3, ge=2, le=20)
    bootstrap_pairs: int = Field(20, ge=5)
    marker_deviation: float = Field(0.25, gt=0)
    few_customers: int = Field(50, ge=1)
    many_customers: int = Field(1000, ge=2)
    seed: int = 1
