"""What errors of libraries say: a status, a time to wait."""

from __future__ import annotations

import pytest
from network_errors import AnswerError, told

from cnncodes.images.answers import seconds_told, status_of


def test_a_cause_tells_the_status() -> None:
    error = OSError(16, "slow")
    error.__cause__ = AnswerError(404)
    assert (status_of(error), status_of(OSError(16, "slow"))) == (404, None)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (told(429, {"Retry-After": "7"}), 7),
        (told(503, {"retry-after": "7"}), 7),
        (told(429, {"Retry-After": "100000"}), 300),
        (told(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), 0),
        (told(429, {"RateLimit": '"resolvers";r=0;t=55'}), 55),
        (told(503, {"RateLimit": '"resolvers";r=0;t=55'}), 0),
        (told(429, {"RateLimit": '"resolvers";r=9;t=55'}), 0),
        (told(503, {}, of_botocore=True), 3),
    ],
)
def test_an_answer_may_name_a_time(error: Exception, seconds: int) -> None:
    assert seconds_told(error) == seconds
