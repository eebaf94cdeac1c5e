"""The words of this room, from the sentences of its notebook: names of dirt, quantities, verdicts and reasons."""

from analysis.reporting.step_words import StepWords


class Words(StepWords):
    """The words of `08_scorecard`."""

    step = "08_scorecard"

    def name(self, kind: str, value: str) -> str:
        """The word for a value; where there is none the value itself, with blanks for underscores."""
        return super().name(kind, value).replace("_", " ")
