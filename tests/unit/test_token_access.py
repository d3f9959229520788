"""Does any token ever outlive its grant, its policy or fifteen minutes?"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from jitaccess.clock import from_epoch_us, to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.sdk import TokenRefused, Verifier
from jitaccess.tokens.access import GrantClaims, SignIn, expiry, mint_access

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
KEY = ECKey.generate_key("P-256", {"kid": "key-1"})
MOMENTS = st.integers(min_value=10**15, max_value=4 * 10**15).map(from_epoch_us)


def minted(*, now: datetime, ends_at: datetime, ttl_s: int) -> tuple[str, datetime]:
    found = mint_access(
        KEY,
        issuer="https://jit.example",
        audience="https://treasury.example",
        client_id="client-1",
        person_id="person-1",
        jti="jti-1",
        scope="",
        grant=GrantClaims("grant-1", "treasury", "viewer", {}, "a", "p", ends_at),
        sign_in=SignIn(now, "phr", ("hwk", "user")),
        now=now,
        ttl_s=ttl_s,
    )
    return found.text, found.expires_at


@pytest.mark.covers("R34", "T-16", "TRAP-1")
@given(MOMENTS, st.integers(min_value=0, max_value=3 * 10**9), st.integers(min_value=1, max_value=10**6))
def test_no_end_lies_beyond_grant_policy_or_fifteen_minutes(now: datetime, left_us: int, ttl_s: int) -> None:
    ends_at = now + timedelta(microseconds=left_us)
    if to_epoch_s(ends_at) <= to_epoch_s(now):
        with pytest.raises(JitError):
            expiry(now=now, ends_at=ends_at, ttl_s=ttl_s)
        return
    exp = expiry(now=now, ends_at=ends_at, ttl_s=ttl_s)
    assert exp <= ends_at.timestamp()
    assert exp <= now.timestamp() + min(ttl_s, 900)
    assert exp == min(to_epoch_s(ends_at), to_epoch_s(now) + min(ttl_s, 900)), "and it is no shorter than it may be"


@pytest.mark.covers("R34", "T-16")
@given(MOMENTS, st.integers(min_value=1, max_value=4_000_000_000), st.integers(min_value=0, max_value=5_000_000_000))
def test_no_verifier_accepts_a_token_once_its_grant_is_over(now: datetime, left_us: int, later_us: int) -> None:
    ends_at, at = now + timedelta(microseconds=left_us), now + timedelta(microseconds=left_us + later_us)
    try:
        text, _ = minted(now=now, ends_at=ends_at, ttl_s=900)
    except JitError:
        return
    keys = {"keys": [{**KEY.as_dict(private=False), "kid": "key-1"}]}
    verifier = Verifier("https://jit.example", "https://treasury.example", keys, status=None, clock=at.timestamp)
    with pytest.raises(TokenRefused):
        verifier.verify(text)


def test_a_grant_that_is_over_gives_no_token() -> None:
    for ends_at in (NOW, NOW - timedelta(seconds=1), NOW + timedelta(milliseconds=999)):
        with pytest.raises(JitError) as caught:
            minted(now=NOW, ends_at=ends_at, ttl_s=300)
        assert caught.value.kind is Kind.GONE


def test_the_end_told_to_the_caller_is_the_end_in_the_token() -> None:
    _, expires_at = minted(now=NOW, ends_at=NOW + timedelta(seconds=90, microseconds=7), ttl_s=300)
    assert expires_at == NOW + timedelta(seconds=90)
