"""The words of this room, from the sentences of its notebook: names of methods, reasons, covariates and stages."""

from analysis.reporting.step_words import StepWords


class Words(StepWords):
    """The words of `05_campaign_evaluation`."""

    step = "05_campaign_evaluation"
