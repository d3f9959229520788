"""For any address: whatever can be registered is matched by a proxy's question about it, and can stand in a configuration as it is."""

import re
from string import ascii_lowercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.broker.clients import check_origin
from jitaccess.domain.forwarded import Forwarded, read_forwarded
from jitaccess.errors import JitError

LABELS = st.text(f"{ascii_lowercase}{digits}-_;${{}}[]:%~,&=", min_size=1, max_size=8)
ENDS = st.sampled_from(["", ".", "..", ":", ":0", ":80", ":443", ":0443", ":8081", ":65535", ":65536", "/", "?", "@b"])
ADDRESSES = st.builds(
    lambda scheme, labels, end: f"{scheme}{'.'.join(labels)}{end}",
    st.sampled_from(["https://", "http://", "HTTPS://", "https:", ""]),
    st.lists(LABELS, min_size=1, max_size=4) | st.sampled_from([["localhost"], ["127", "0", "0", "1"], ["[::1]"]]),
    ENDS,
)
NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?(\.[a-z]{2,6}){1,3}(:(8[1-9]|[1-9][0-9]{3}))?\Z")


def registered(origin: str) -> bool:
    try:
        check_origin(origin)
    except JitError:
        return False
    return True


def asked_about(scheme: str, host: str) -> object:
    """Return what a proxy's question with this scheme and host is about."""
    return read_forwarded(
        [
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Proto", scheme),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-Uri", "/"),
        ]
    )


@pytest.mark.covers("R37", "R41")
@given(ADDRESSES | NAMES.map(lambda name: f"https://{name}"))
def test_whatever_is_registered_is_matched_by_a_request_for_it(origin: str) -> None:
    if not registered(origin):
        return
    scheme, host = origin.split("://")
    usual = "" if re.search(r":[0-9]+\Z", host) else ":443" if scheme == "https" else ":80"
    for sent in (host, host.upper(), host + usual):
        found = asked_about(scheme, sent)
        assert isinstance(found, Forwarded), (sent, found)
        assert found.origin == origin
    assert re.fullmatch(r"[a-z0-9.:-]+", host), "nothing that a configuration reads as more than a name"


@given(NAMES)
def test_an_ordinary_name_can_be_registered(name: str) -> None:
    assert registered(f"https://{name}")
