"""The notebooks as steps of one walk: what each needs, may use and writes."""

import functools
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from analysis.errors import RapportError
from analysis.study import Study, one_line


class StepError(RapportError):
    """A notebook asked for something that its step cannot give."""


TRUTH = "truth"  # stands for the truth tables beside a simulated company's raw files; no notebook writes it


@dataclass(frozen=True)
class StepSpec:
    """One notebook.

    Attributes
    ----------
    name : the notebook's file name without its ending.
    room : the package that computes for it; its ``parameters.Parameters`` types the notebook's parameters.
    needs : tables without which it is not run, and ``TRUTH``, which only a simulated company has.
    uses : tables that it reads where the study has them.
    writes : tables that it may write.
    """

    name: str
    room: str
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    writes: tuple[str, ...]


STEPS = {
    spec.name: spec
    for spec in (
        StepSpec(
            "01_data_cleaning",
            "analysis.cleaning",
            needs=(),
            uses=(),
            writes=(
                "customers",
                "order_lines",
                "products",
                "survey_responses",
                "campaigns",
                "contacts",
                "offers",
                "interactions",
                "marketing_costs",
                "prospects",
                "quarantine",
            ),
        ),
        StepSpec(
            "02_customer_valuation",
            "analysis.valuation",
            needs=("order_lines",),
            uses=("customers", "products", "marketing_costs", "campaigns", "contacts"),
            writes=("customer_summary", "customer_value"),
        ),
        StepSpec(
            "03_segmentation",
            "analysis.segmentation",
            needs=("order_lines", "customer_summary", "customer_value"),
            uses=("customers", "products", "prospects", "campaigns", "survey_responses"),
            writes=("customer_segment",),
        ),
        StepSpec(
            "04_satisfaction_loyalty",
            "analysis.loyalty",
            needs=("survey_responses",),
            uses=("customers", "order_lines", "customer_summary", "customer_value", "interactions", "marketing_costs"),
            writes=("customer_loyalty", "loyalty_drivers"),
        ),
        StepSpec(
            "05_campaign_evaluation",
            "analysis.campaigns",
            needs=("campaigns", "contacts", "order_lines"),
            uses=(
                "customers",
                "products",
                "offers",
                "customer_summary",
                "customer_value",
                "customer_segment",
                "survey_responses",
                "customer_loyalty",
            ),
            writes=("campaign_effects", "target_list"),
        ),
        StepSpec(
            "08_scorecard",
            "analysis.scorecard",
            needs=(
                "quarantine",
                "order_lines",
                "customer_summary",
                "customer_value",
                "customer_segment",
                "survey_responses",
                "customer_loyalty",
                "campaigns",
                "contacts",
                "campaign_effects",
                TRUTH,
            ),
            uses=("customers", "target_list"),
            writes=(),
        ),
    )
}
WRITER = {table: spec.name for spec in STEPS.values() for table in spec.writes}


def available(study: Study) -> set[str]:
    """The tables that the walk makes for ``study``."""
    tables = set(study.tables) | {"quarantine"} | ({TRUTH} if study.simulation else set())
    if "order_lines" in tables:
        tables.add("customers")
    for spec in STEPS.values():
        if spec.needs and tables.issuperset(spec.needs):
            tables.update(spec.writes)
    return tables


def missing(spec: StepSpec, study: Study) -> tuple[str, ...]:
    """The tables that keep a step from running on ``study``; none: it runs."""
    there = available(study)
    return tuple(table for table in spec.needs if table not in there)


def concerns(spec: StepSpec, study: Study) -> bool:
    """Whether a step's question can be asked of ``study``: only a simulated company has a truth to be held against."""
    return TRUTH not in spec.needs or study.simulation is not None


def upstream(spec: StepSpec, study: Study) -> tuple[str, ...]:
    """The steps whose tables ``spec`` reads in this study, in order."""
    there = available(study)
    read = {t for t in (*spec.needs, *spec.uses) if t in there and t != TRUTH}
    writers = {WRITER[t] for t in read if WRITER[t] != spec.name}
    return tuple(name for name in STEPS if name in writers and not missing(STEPS[name], study))


def parameters_of(spec: StepSpec, given: dict[str, Any]) -> BaseModel:
    """The typed parameters of a step.

    Raises
    ------
    StepError
        One line: the step, the parameter, the cure.
    """
    model = _parameters_model(spec.room)
    try:
        return model(**given)
    except ValidationError as error:
        line = one_line(error, Path(f"{spec.name}.yaml"))
        raise StepError(f"{line}; parameters are {', '.join(model.model_fields)}") from None


@functools.cache
def _parameters_model(room: str) -> type[BaseModel]:
    """``Parameters`` of a room, without loading the room: a run with nothing to do need not import its models."""
    name = f"{room}.parameters"
    if name not in sys.modules:
        path = Path(__file__).parent / room.rpartition(".")[2] / "parameters.py"
        found = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name].Parameters
