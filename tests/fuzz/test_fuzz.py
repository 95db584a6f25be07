"""Hostile inputs are answered, or refused with a clear error.

Always the same inputs, fewer than those of `make fuzz`, and without its limits
of time and memory.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from kinds import KINDS, Home, attempt, make_models

EXAMPLES = {"server": 20}  # 100 of each other kind


@pytest.fixture(scope="module")
def home(exported, tmp_path_factory):
    home = Home(make_models(tmp_path_factory.mktemp("fuzz"), exported))
    with home.stack:  # the server's end
        yield home


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_inputs(kind, home):
    @settings(
        max_examples=EXAMPLES.get(kind, 100),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind][0])
    def check(value):
        assert attempt(kind, value, home) in ("answered", "clear error")

    check()
