"""What the caller that starts or continues a run gets."""

from dataclasses import dataclass

from wire.runs import Run

__all__ = ["StartedRun"]


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that was just started or continued: its committed body, and the number that its new events follow."""

    run: Run
    after: int

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run["id"]
