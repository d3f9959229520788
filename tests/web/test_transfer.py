"""Does a page cost few bytes, on the first visit and after?"""

import gzip
import re

import pytest

from jitaccess.web import transfer
from tests.web.conftest import Site

FIRST_LOAD = 100_000
AFTER = 15_000
"""Bytes as transferred: the goals of docs/reference/pages.md."""
PAGES = ["/", "/request", "/approvals", "/policy", "/passkeys", "/people", "/log", "/sign-in"]


def transferred(site: Site, path: str) -> tuple[int, list[str]]:
    """Return the bytes of a page as sent, and the addresses of what it loads."""
    answer = site.get(path, **{"Accept-Encoding": "gzip, deflate, br"})
    assert answer.status_code == 200, path
    raw = answer.get_data()
    html = (gzip.decompress(raw) if answer.headers.get("Content-Encoding") == "gzip" else raw).decode()
    return len(raw), re.findall(r'(?:src|href)="(/static/[^"]+)"', html)


@pytest.mark.parametrize("path", PAGES)
def test_a_first_load_and_every_later_one_stay_small(site: Site, path: str) -> None:
    site.world.released()
    if path == "/sign-in":
        site.out()
    else:
        site.as_("agim")
    page, files = transferred(site, path)
    assert files
    assert page <= AFTER
    assert page + sum(transferred(site, file)[0] for file in set(files)) <= FIRST_LOAD


def test_a_static_file_is_kept_for_ever_under_the_address_of_its_content(site: Site) -> None:
    def kept(address: str) -> str:
        with site.get(address) as answer:
            return answer.headers["Cache-Control"]

    _, files = transferred(site.out(), "/sign-in")
    for file in files:
        assert kept(file) == transfer.FOR_EVER
        bare = file.partition("?")[0]
        assert kept(bare) == kept(f"{bare}?v=0000000000000000") == transfer.FOR_AN_HOUR


def test_a_static_file_arrives_whole_with_and_without_compression(site: Site) -> None:
    with site.get("/static/app.css") as plain:
        content = plain.get_data()
    small = site.get("/static/app.css", **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.get_data()) == content
    assert small.headers["ETag"] != plain.headers["ETag"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert site.get("/static/no-such.css", **{"Accept-Encoding": "gzip"}).status_code == 404


@pytest.mark.covers("R15")
def test_what_may_hold_a_secret_is_never_compressed(site: Site) -> None:
    payload = {"label": "arta, once more"}
    body = {"kind": "account.add", "subject": site.world.person("arta"), "payload": payload}
    site.as_("agim").ceremony("agim", "/api/changes", body)
    link = site.as_("besa").ceremony("besa", "/api/changes", body).json["shown"]
    page = site.out().get(link.removeprefix("http://localhost:8000"), **{"Accept-Encoding": "gzip"})
    assert page.status_code == 200
    assert "Content-Encoding" not in page.headers
    answer = site.as_("agim").get("/api/me", **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers
