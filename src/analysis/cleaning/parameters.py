"""What a person may set in ``01_data_cleaning``."""

from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Parameters of ``01_data_cleaning``; what the data are and how they are read is in the study itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = "sample"
