"""Is a sign-in that is too weak, too old or not told of always refused?"""

from typing import Any

import pytest

from jitaccess.oidc.authorize import unmet
from jitaccess.sdk import Level, StepUpNeeded, TokenRefused, www_authenticate
from jitaccess.sdk.step_up import check_level

NOW = 1_800_000_000


def enough(claims: dict[str, Any], level: Level) -> bool:
    """Say whether claims meet a level."""
    try:
        check_level(claims, level, clock=lambda: NOW)
    except StepUpNeeded:
        return False
    return True


@pytest.mark.covers("R38")
@pytest.mark.parametrize(
    ("claims", "level", "good"),
    [
        ({}, Level(), True),
        ({"acr": "phrh"}, Level(("phrh",)), True),
        ({"acr": "phrh"}, Level(("phr",)), True),
        ({"acr": "phr"}, Level(("phrh",)), False),
        ({"acr": "phr"}, Level(("phrh", "phr")), True),
        ({}, Level(("phr",)), False),
        ({"acr": ["phrh"]}, Level(("other",)), False),
        ({"auth_time": NOW - 60}, Level(max_age_s=60), True),
        ({"auth_time": NOW - 61}, Level(max_age_s=60), False),
        ({"auth_time": True}, Level(max_age_s=60), False),
        ({"auth_time": str(NOW)}, Level(max_age_s=60), False),
        ({}, Level(max_age_s=10**9), False),
    ],
)
def test_a_level_is_met_or_it_is_not(claims: dict[str, Any], level: Level, good: bool) -> None:
    assert enough(claims, level) is good


def test_a_level_cannot_carry_anything_into_the_header() -> None:
    for value in ("", 'a"', "a b", "a\\", "a\n", "é"):
        with pytest.raises(ValueError, match="one word"):
            Level((value,))
    with pytest.raises(ValueError, match="negative"):
        Level(max_age_s=-1)


def test_other_refusals_are_an_invalid_token() -> None:
    header = www_authenticate(TokenRefused("expired", "This token has expired."))
    assert header == 'Bearer realm="jitaccess", error="invalid_token", error_description="This token has expired."'


@pytest.mark.covers("R38")
@pytest.mark.parametrize(
    ("asked", "acr", "found"),
    [
        (None, "phr", False),
        ("", "phr", False),
        ("phr", "phr", False),
        ("phr", "phrh", False),
        ("phrh", "phrh", False),
        ("phrh", "phr", True),
        ("urn:x phrh", "phr", True),
        ("phrh phr", "phr", False),
        ("urn:x", "phr", False),
    ],
)
def test_the_provider_meets_what_is_asked_of_the_sign_in_or_says_that_it_cannot(
    asked: str | None, acr: str, found: bool
) -> None:
    assert unmet(asked, acr) is found
