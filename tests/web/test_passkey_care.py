"""Does nobody end in a dead end with a passkey, and does the browser learn what is gone?"""

import json
import re
from pathlib import Path

import pytest

from jitaccess.domain.values import LOCAL
from jitaccess.identity import passkeys, recovery
from jitaccess.store.tables import Passkey
from jitaccess.web.ceremony_words import CEREMONY_WORDS
from tests.web.conftest import Site

STATIC = Path(__file__).parents[2] / "jitaccess" / "web" / "static"


def text(site: Site, path: str) -> str:
    """Give a page."""
    answer = site.get(path)
    assert answer.status_code == 200, path
    return answer.get_data(as_text=True)


def block(html: str, mark: str) -> object:
    """Give the JSON of a script block."""
    found = re.search(rf"<script[^>]*{mark}[^>]*>(.*?)</script>", html, re.S)
    assert found is not None
    return json.loads(found.group(1))


def test_the_list_gives_the_browser_exactly_the_passkeys_that_count(site: Site) -> None:
    kept = block(text(site.as_("agim"), "/passkeys"), 'class="kept"')
    assert isinstance(kept, dict)
    assert len(kept["allAcceptedCredentialIds"]) == 2
    assert kept["rpId"] == "localhost"
    current = site.world.current("agim")
    assert kept["userId"] == current.account.user_handle
    assert current.passkey.credential_id in kept["allAcceptedCredentialIds"]


@pytest.mark.parametrize("path", ["/sign-in", "/lost"])
def test_every_page_brings_the_words_for_a_failed_ceremony(site: Site, path: str) -> None:
    words = block(text(site.out(), path), 'id="ceremony-words"')
    assert isinstance(words, dict)
    assert words == {name: str(sentence) for name, sentence in CEREMONY_WORDS.items()}
    for name in (
        "NotAllowedError",
        "InvalidStateError",
        "NotSupportedError",
        "SecurityError",
        "ConstraintError",
        "UnknownError",
    ):
        assert words[name].endswith((".", "you.")), name
    script = (STATIC / "passkey.js").read_text()
    assert "ceremony-words" in script
    assert "Something went wrong" not in script  # no sentence that no translator sees


def test_a_browser_is_told_to_forget_only_what_is_not_kept(site: Site) -> None:
    site.out()
    current = site.world.current("agim")

    def forget(credential_id: str) -> object:
        return site.post("/api/sign-in/forgotten", {"credential_id": credential_id}).json["forget"]

    assert forget("AAAA") is True
    assert forget(current.passkey.credential_id) is False
    with site.world.broker.begin(current.actor) as tx:
        row = tx.require(Passkey, current.passkey.id)
        assert passkeys.remove(tx, row) is None
    assert forget(current.passkey.credential_id) is True
    assert site.post("/api/sign-in/forgotten", {"credential_id": ""}).status_code == 400


def test_the_page_for_a_lost_device_leads_somewhere_without_a_session(site: Site) -> None:
    html = text(site.out(), "/lost")
    assert "go to an administrator in person" in html
    assert "/sign-in?next=/lost" in html
    assert "Agim Berisha" not in html  # names only for those who are signed in
    assert 'href="/lost"' in text(site, "/sign-in")


@pytest.mark.covers("R12")
def test_a_lost_passkey_is_blocked_with_one_tap(site: Site) -> None:
    html = text(site.as_("agim"), "/lost")
    assert "Besa Shala" in html
    current = site.world.current("agim")
    other = next(key for key in re.findall(r"/lost/passkey/(\w+)", html) if key != current.passkey.id)
    assert site.form(f"/lost/passkey/{other}").status_code == 303
    assert site.get("/").status_code == 200  # this session was another passkey's
    assert site.form(f"/lost/passkey/{current.passkey.id}").status_code == 303
    assert site.get("/").status_code == 303  # its own sessions are over
    arta = site.world.current("arta")
    assert site.as_("blerim").form(f"/lost/passkey/{arta.passkey.id}").status_code == 404


@pytest.mark.covers("R12", "T-17")
def test_the_own_account_is_held_with_one_tap_and_only_somebody_else_lifts_it(site: Site) -> None:
    site.world.filed()
    site.as_("arta")
    held = site.form("/lost/account")
    assert held.headers["Location"] == "/lost?held=1"
    assert "Your account is on hold" in text(site.out(), "/lost?held=1")
    page = text(site.as_("agim"), "/holds")
    assert "lost device, says its owner" in page
    assert "Arta Krasniqi" in page
    assert "Nothing is open" in text(site, "/board")


@pytest.mark.covers("R9", "R10")
def test_the_owner_sees_on_every_page_that_passkeys_are_replaced_and_stops_it_with_one_tap(site: Site) -> None:
    account = site.world.seeded.accounts["blerim"]
    body = {"kind": "enrolment.create", "subject": account, "payload": {"purpose": "recover"}}
    for key in ("agim", "besa"):
        assert site.as_(key).ceremony(key, "/api/changes", body).status_code == 200
    html = text(site.as_("blerim"), "/")
    stop = re.search(r'action="(/recoveries/\w+/stop)"', html)
    assert stop is not None
    assert site.as_("arta").get("/api/recoveries").json == []
    assert site.form(stop[1]).status_code == 404
    assert "/stop" not in text(site, "/")
    assert [row["account_id"] for row in site.as_("milan").get("/api/recoveries").json] == [account]
    assert "The link can be made from" in text(site, f"/people/{site.world.person('blerim')}")
    assert site.as_("blerim").form(stop[1]).status_code == 303
    assert "/stop" not in text(site, "/")
    assert site.get("/api/recoveries").json == []
    assert "All passkeys lost" in text(site.as_("milan"), f"/people/{site.world.person('blerim')}")


@pytest.mark.covers("R9")
def test_a_recovery_with_paper_keys_is_not_stopped_with_a_tap(site: Site) -> None:
    world = site.world
    with world.broker.begin(LOCAL) as tx:
        row = recovery.start(tx, account_id=world.seeded.accounts["agim"], paper_keys=world.seeded.paper_keys[:3])
    assert site.as_("besa").post(f"/api/recoveries/{row.id}/stop").status_code == 403
    veto = {"kind": "recovery.veto", "subject": row.id}
    assert site.ceremony("besa", "/api/changes", veto).json["applied"] is True
    assert site.get("/api/recoveries").json == []


@pytest.mark.covers("R12", "R15")
def test_the_last_administrator_is_held_with_the_passkey_and_not_with_a_cookie_alone(site: Site) -> None:
    for key in ("besa", "milan"):
        site.as_("agim").form("/holds", kind="person", subject_id=site.world.person(key))
    html = text(site, "/lost")
    assert 'name="kind" value="hold.place"' in html
    assert "Hold, signed" in text(site, f"/people/{site.world.person('agim')}")
    assert site.form("/lost/account").status_code == 409
    assert site.get("/").status_code == 303  # but its sessions are over
    body = {"kind": "hold.place", "subject": site.world.person("agim"), "payload": {"kind": "person"}}
    assert site.as_("agim").ceremony("agim", "/api/changes", body).json["applied"] is True
    assert site.get("/").status_code == 303
