"""Estimates a prompt's tokens without a tokenizer: characters times a ratio that each answer's usage corrects."""

from typing import Final

from chains.model_facts import ModelFacts

__all__ = ["DEFAULT_RATIO", "Calibration"]

DEFAULT_RATIO: Final = 0.3
"""Tokens per character before any usage is known: English needs about 0.25, code and other languages more."""

_LOWEST: Final = 0.02
_HIGHEST: Final = 4.0
_WEIGHT: Final = 0.5
_MIN_CHARS: Final = 200  # in shorter prompts, most tokens are the template's own


class Calibration:
    """Tokens per character, by model."""

    def __init__(self) -> None:
        self._ratios: ModelFacts[float] = ModelFacts()

    def ratio(self, model: str) -> float:
        """Return the expected tokens per character."""
        return self._ratios.get(model, DEFAULT_RATIO)

    def update(self, model: str, *, chars: int, tokens: int) -> None:
        """Correct the ratio with a prompt of `chars` characters and `tokens` tokens; short prompts are ignored."""
        if chars < _MIN_CHARS or tokens <= 0:
            return
        measured = min(max(tokens / chars, _LOWEST), _HIGHEST)
        known = self._ratios.get(model)
        self._ratios[model] = measured if known is None else known + _WEIGHT * (measured - known)
