"""Do administrators see what is being taken away, in words, stuck ones first, and hurry it with one tap?"""

import json
from datetime import timedelta
from typing import Any

import pytest

from jitaccess.app import create_app
from jitaccess.broker import roster
from jitaccess.broker.cut import STUCK_AFTER
from jitaccess.broker.endings import Why
from jitaccess.connectors.fake import FakeConnector
from jitaccess.web import answers, telling
from tests.broker.test_endings import stubborn
from tests.support.policy_swap import swap
from tests.support.world import ORIGIN
from tests.web.conftest import Site


def stuck_site(site: Site, attempts: int = STUCK_AFTER) -> tuple[Site, str]:
    """Give an application with one end of access that does not succeed."""
    key = stubborn(site.world, FakeConnector(), attempts)
    app = create_app(site.world.broker)
    return Site(site.world, app, app.test_client(use_cookies=True)), key


def test_every_reason_has_words_of_its_own(site: Site) -> None:
    with site.app.test_request_context("/"):
        assert len({telling.why(reason) for reason in Why}) == len(Why)


@pytest.mark.covers("R51")
def test_the_board_shows_what_does_not_end_in_words_above_what_is_open(site: Site) -> None:
    site, key = stuck_site(site)
    open_ = site.world.filed().grant
    assert open_ is not None
    board = site.as_("agim").get("/board").text
    assert "The system cannot be reached, or does not let the broker in." in board
    assert f"Failed {STUCK_AFTER} times so far." in board
    assert "Next try:" in board
    assert "stuck" in board
    assert board.index(f'data-lease="{key}"') < board.index(f'data-grant="{open_.id}"')
    assert f'action="/leases/{key}/try-now"' in board
    words = board.split("<details>")[0]
    assert "ConnectionError" not in words
    assert key not in site.get("/board?target=payroll").text
    assert key not in site.get("/board?person=besa").text


@pytest.mark.covers("R51", "R16")
def test_trying_now_is_one_tap_of_an_administrator_from_our_own_page(site: Site) -> None:
    site, key = stuck_site(site)
    for who in ("arta", "blerim", "jelena"):
        assert site.as_(who).form(f"/leases/{key}/try-now").status_code == 403, who
        assert site.post(f"/api/leases/{key}/try-now").status_code == 403, who
        assert site.get("/api/endings").status_code == 403, who
    site.as_("agim")
    foreign = site.client.post(f"/leases/{key}/try-now", base_url=ORIGIN, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    board = site.get("/board").text
    tried = site.form(f"/leases/{key}/try-now", back="/watch")
    assert (tried.status_code, tried.headers["Location"]) == (303, "/watch")
    after = site.get("/board").text
    assert "Next try:" in board
    assert "Next try:" not in after
    assert "It is tried at the next look" in after
    assert "/try-now" not in after
    assert site.form(f"/leases/{key}/try-now", back="//evil.example/").headers["Location"] == "/"
    assert site.get("/log?type=lease.retried").text.count("<td>lease.retried</td>") == 2
    assert site.form("/leases/nothing/try-now").status_code == 404


@pytest.mark.covers("R51")
def test_the_api_lists_ends_and_tries_them(site: Site) -> None:
    site, key = stuck_site(site, 1)
    site.as_("agim")
    listed: Any = site.get("/api/endings?limit=1").json
    (found,) = listed
    answers.Ending.model_validate_json(json.dumps(found), strict=True)
    assert (found["lease_id"], found["state"], found["attempts"], found["why"]) == (key, "REVOKING", 1, "unreachable")
    assert found["sentence"].startswith("The system cannot be reached")
    assert found["error"] == "ConnectionError"
    assert found["next_at"] > found["ended_at"]
    tried: Any = site.post(f"/api/leases/{key}/try-now").json
    assert (tried["lease_id"], tried["next_at"], tried["attempts"]) == (key, None, 1)
    assert site.post("/api/leases/nothing/try-now").status_code == 404
    assert site.get("/api/endings?cursor=WzEsMSwiWiJd").json is not None


@pytest.mark.covers("R51")
def test_the_page_of_accounts_says_why_and_lets_only_administrators_act(site: Site) -> None:
    site, key = stuck_site(site)
    page = site.as_("agim").get("/watch").text
    assert "The system cannot be reached" in page
    assert f'action="/leases/{key}/try-now"' in page
    assert "Close, signed" in page
    assert 'id="stuck"' in page
    read = site.as_("jelena").get("/watch").text
    assert "The system cannot be reached" in read
    assert "/try-now" not in read
    assert "Close, signed" not in read


def test_the_log_leads_to_ends_that_do_not_succeed(site: Site) -> None:
    assert 'href="/watch#stuck"' not in site.as_("jelena").get("/log").text
    site, _ = stuck_site(site)
    assert 'href="/watch#stuck"' in site.as_("jelena").get("/log").text


def test_a_soft_end_stands_among_the_ends_once_nothing_new_is_opened(site: Site) -> None:
    def soft(rules: Any) -> None:
        rules["look-at-payments"]["duration"] |= {"end": "soft", "grace": "5m"}

    swap(site.world, soft)
    grant = site.world.filed(duration_s=900).grant
    assert grant is not None
    site.as_("agim")
    assert "Nothing new is opened; what is open runs on" not in site.get("/board").text
    site.world.advance(timedelta(minutes=16))
    board = site.as_("agim").get("/board").text
    assert "1 end of access is under way" in board
    assert "Nothing new is opened; what is open runs on" in board
    assert board.count(f'data-grant="{grant.id}"') == 1


def test_the_board_counts_all_that_is_open(site: Site) -> None:
    for _ in range(3):
        assert site.world.filed().grant is not None
    with site.world.broker.read() as view:
        assert roster.live(view) == 3
        assert len(roster.board(view, most=2)) == 2
        assert roster.live(view, target="payroll") == 0
        assert roster.live(view, persons=[site.world.person("besa")]) == 0
    board = site.as_("agim").get("/board").text
    assert "3 accesses</small>" in board
