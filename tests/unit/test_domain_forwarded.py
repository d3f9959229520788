"""Which questions of a reverse proxy read in one way only?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.domain.forwarded import Forwarded, Unclear, read_forwarded, unclear_uri

GOOD = [
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "App.Example"),
    ("X-Forwarded-Uri", "/a/b?c=d"),
]


def changed(name: str, value: str) -> list[tuple[str, str]]:
    """Return good headers with one value replaced."""
    return [(key, value if key == name else old) for key, old in GOOD]


def test_one_convention_is_read_and_hosts_compare_without_case() -> None:
    assert read_forwarded([*GOOD, ("Accept", "*/*")]) == Forwarded("GET", "https://app.example", "/a/b?c=d")


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("https", "app.example:443", "https://app.example"),
        ("http", "app.example:80", "http://app.example"),
        ("http", "127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("https", "app.example:8443", "https://app.example:8443"),
    ],
)
def test_a_schemes_own_port_is_left_out(scheme: str, host: str, origin: str) -> None:
    headers = [
        ("X-Forwarded-Proto", scheme),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/"),
    ]
    found = read_forwarded(headers)
    assert isinstance(found, Forwarded)
    assert found.origin == origin


@pytest.mark.covers("R41")
@pytest.mark.parametrize("name", [name for name, _ in GOOD])
def test_a_value_that_is_missing_or_stands_twice_is_refused(name: str) -> None:
    assert isinstance(read_forwarded([pair for pair in GOOD if pair[0] != name]), Unclear)
    assert isinstance(read_forwarded([*GOOD, (name, dict(GOOD)[name])]), Unclear)
    assert isinstance(read_forwarded(changed(name, "")), Unclear)


@pytest.mark.covers("R41")
@pytest.mark.parametrize("name", ["Forwarded", "X-Original-URL", "X-Original-URI", "X-Rewrite-URL"])
def test_another_way_to_say_the_same_is_refused(name: str) -> None:
    assert isinstance(read_forwarded([*GOOD, (name, "/elsewhere")]), Unclear)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Method", "GET,POST"),
        ("X-Forwarded-Method", "get"),
        ("X-Forwarded-Proto", "https,http"),
        ("X-Forwarded-Proto", "ftp"),
        ("X-Forwarded-Host", "app.example,evil.example"),
        ("X-Forwarded-Host", "app.example@evil.example"),
        ("X-Forwarded-Host", "app.example."),
        ("X-Forwarded-Host", "app.example:0"),
        ("X-Forwarded-Host", "app.example/x"),
        ("X-Forwarded-Host", "äpp.example"),
    ],
)
def test_a_value_out_of_shape_is_refused(name: str, value: str) -> None:
    assert isinstance(read_forwarded(changed(name, value)), Unclear)


AMBIGUOUS = [
    "",
    "a",
    "//evil.example/",
    "/a//b",
    "/a/../b",
    "/a/./b",
    "/..",
    "/a/%2e%2e/b",
    "/a/%2E./b",
    "/a%2fb",
    "/a%5Cb",
    "/a\\b",
    "/a;b=c/d",
    "/a%3bb",
    "/a%00b",
    "/a%0d%0aX: y",
    "/a\x00b",
    "/a#b",
    "/a%23b",
    "/a%3fb",
    "/a%252fb",
    "/%c0%ae%c0%ae/b",
    "/a%c0%afb",
    "/a%e0%80%afb",
    "/a%f0%80%80%af",
    "/a%ff",
    "/a%zzb",
    "/a%2",
    "/a b",
    "/ä",
    "/a,/b",
    "/a, /b",
    "/a?x=%zz",
    "/a?x=y#z",
    "/" + "a" * 5000,
]


@pytest.mark.covers("R44")
@pytest.mark.parametrize("uri", AMBIGUOUS)
def test_a_path_that_two_servers_could_read_differently_is_refused(uri: str) -> None:
    assert unclear_uri(uri) is not None
    assert isinstance(read_forwarded(changed("X-Forwarded-Uri", uri)), Unclear)


@pytest.mark.parametrize(
    "uri", ["/", "/a", "/a/", "/a.b/c~d", "/a?b=/c//d;e&f=..%2F", "/%C3%A4", "/.well-known/x", "/a,b", "/a...b"]
)
def test_an_ordinary_path_is_clear(uri: str) -> None:
    assert unclear_uri(uri) is None


@given(st.text(max_size=60))
def test_nothing_unprintable_is_ever_clear(text: str) -> None:
    if unclear_uri("/" + text) is None:
        assert text.isascii()
        assert text.isprintable() or not text
        assert "/../" not in f"/{text}/".split("?")[0]
