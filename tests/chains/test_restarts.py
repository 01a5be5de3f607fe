"""Restarts of an engine: immediately the first time, then with growing delays up to a limit."""

from chains.restarts import Restarts


def test_an_engine_that_ends_repeatedly_restarts_later() -> None:
    now = 1000.0
    restarts = Restarts(clock=lambda: now)
    assert restarts.delay_s("m") == 0
    delays = []
    for _ in range(8):
        restarts.count("m", started_at=now)
        delays.append(restarts.delay_s("m"))
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30]
    assert restarts.delay_s("other") == 0
    now += 30
    assert restarts.delay_s("m") == 0


def test_a_long_run_resets_the_delays() -> None:
    now = 1000.0
    restarts = Restarts(clock=lambda: now)
    for _ in range(3):
        restarts.count("m", started_at=now)
    restarts.count("m", started_at=now - 61)
    assert restarts.delay_s("m") == 0
