"""Hostile inputs are answered, or refused with a clear error.

Always the same inputs, fewer than those of `make fuzz`, and without its limits
of time and memory.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from kinds import KINDS, Home, attempt, make_models

EXAMPLES = 100  # of each kind


@pytest.fixture(scope="module")
def home(exported, tmp_path_factory):
    return Home(make_models(tmp_path_factory.mktemp("fuzz"), exported))


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_inputs(kind, home):
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind][0])
    def check(value):
        assert attempt(kind, value, home) in ("answered", "clear error")

    check()
