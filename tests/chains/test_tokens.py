"""The ratio of tokens to characters follows the usage of answers."""

import pytest

from chains.tokens import DEFAULT_RATIO, Calibration


def test_a_ratio_is_learned_per_model() -> None:
    calibration = Calibration()
    assert calibration.ratio("a") == DEFAULT_RATIO
    calibration.update("a", chars=1000, tokens=500)
    assert calibration.ratio("a") == 0.5
    assert calibration.ratio("b") == DEFAULT_RATIO
    calibration.update("a", chars=1000, tokens=250)
    assert 0.25 < calibration.ratio("a") < 0.5


@pytest.mark.parametrize(("chars", "tokens"), [(1000, 0), (1000, -5), (3, 40), (0, 10)])
def test_impossible_usage_is_ignored(chars: int, tokens: int) -> None:
    calibration = Calibration()
    calibration.update("a", chars=chars, tokens=tokens)
    assert calibration.ratio("a") == DEFAULT_RATIO


def test_a_ratio_stays_within_bounds() -> None:
    calibration = Calibration()
    calibration.update("a", chars=1000, tokens=10**9)
    assert calibration.ratio("a") == 4.0
    calibration.update("b", chars=10**9, tokens=1)
    assert calibration.ratio("b") == 0.02
