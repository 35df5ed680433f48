"""Times written down by clocks that people set."""

from __future__ import annotations

from math import inf

import pytest

from vmcloud.domain.clocks import TOLERANCE, elapsed

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("then", "passed"),
    [(990.0, 10.0), (1000.0, 0.0), (None, inf), (1000.0 + TOLERANCE, 0.0), (1001.0 + TOLERANCE, inf), (87_400.0, inf)],
)
def test_a_time_to_come_counts_as_long_ago_unless_two_good_clocks_explain_it(then: float | None, passed: float) -> None:
    assert elapsed(then, 1000.0) == passed
