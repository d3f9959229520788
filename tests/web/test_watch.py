"""A person opens access on a system and sees the credential once; administrators see what nothing explains there."""

import csv
import io
import json
from typing import Any

import pytest
from bs4 import BeautifulSoup

from jitaccess.app import create_app
from jitaccess.broker.compare import What
from jitaccess.broker.reconcile import look, outside_targets
from jitaccess.connectors.contract import Account
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.policy.schema import TokenConnector
from jitaccess.told import told
from jitaccess.web import telling
from tests.support.world import World
from tests.web.conftest import Site


@pytest.fixture
def fake(sqlite_world: World) -> FakeConnector:
    """Let the treasury be a system on which accounts are made."""
    found = FakeConnector()
    sqlite_world.use_kind(fake_kind(found, "token", config=TokenConnector))
    return found


@pytest.fixture
def site(sqlite_world: World, fake: FakeConnector) -> Site:
    """Give the application over it."""
    app = create_app(sqlite_world.broker)
    return Site(sqlite_world, app, app.test_client(use_cookies=True))


@pytest.mark.covers("R55", "R45")
def test_a_credential_is_in_one_answer_that_no_cache_keeps(site: Site, fake: FakeConnector) -> None:
    grant = site.world.filed().grant
    assert grant is not None
    page = site.as_("arta").get(f"/grants/{grant.id}/open")
    assert page.status_code == 200
    assert fake.calls == [], "looking opens nothing"
    answer = site.ceremony("arta", f"/api/grants/{grant.id}/open")
    assert answer.status_code == 200
    found: Any = answer.json
    assert found["secret"] == f"secret-of-{found['username']}"
    assert found["secret"] not in found["command"]
    assert found["secret"] in found["shown"]
    assert answer.headers["Cache-Control"] == "no-store"
    again = site.ceremony("arta", f"/api/grants/{grant.id}/open")
    assert (again.status_code, again.json["code"]) == (409, "open_already")
    assert found["secret"] not in site.get("/").text
    assert found["secret"] not in again.text


@pytest.mark.covers("R55")
def test_what_goes_with_a_credential_is_said_in_the_language_of_its_person(site: Site, fake: FakeConnector) -> None:
    fake.note = told("Paste the password when psql asks for it.")
    grant = site.world.filed().grant
    assert grant is not None
    site.as_("arta").form("/language", language="sq", next="/")
    found: Any = site.ceremony("arta", f"/api/grants/{grant.id}/open").json
    assert found["note"] == "Ngjiteni fjalëkalimin kur ta kërkojë psql."
    assert found["note"] in found["shown"]


def test_nobody_opens_what_is_not_theirs(site: Site) -> None:
    grant = site.world.filed().grant
    assert grant is not None
    assert site.as_("blerim").get(f"/grants/{grant.id}/open").status_code == 404
    assert site.ceremony("blerim", f"/api/grants/{grant.id}/open").status_code == 404
    assert site.out().post(f"/api/grants/{grant.id}/open/begin").status_code == 401


def test_a_system_with_a_sign_in_of_its_own_is_opened_there(sqlite_world: World) -> None:
    app = create_app(sqlite_world.broker)
    plain = Site(sqlite_world, app, app.test_client(use_cookies=True))
    grant = sqlite_world.filed().grant
    assert grant is not None
    assert plain.as_("arta").get(f"/grants/{grant.id}/open").status_code == 404


@pytest.mark.covers("R57")
def test_what_nothing_explains_is_on_the_page_of_administrators_and_auditors_alone(
    site: Site, fake: FakeConnector
) -> None:
    fake.accounts["sh<a>dow"] = Account("sh<a>dow", frozenset({"SUPERUSER"}))
    broker = site.world.broker
    with broker.read() as view:
        (treasury,) = [facts for facts in outside_targets(view, broker) if facts.id == "treasury"]
    look(broker, treasury)
    for key in ("agim", "jelena"):
        page = site.as_(key).get("/watch")
        assert page.status_code == 200
        assert "sh&lt;a&gt;dow" in page.text
        assert "SUPERUSER" in page.text
        assert "An account that the broker did not make, and nothing explains it." in page.text
        listed: Any = site.get("/api/watch").json
        assert [row["account"] for one in listed for row in one["unexplained"]] == ["sh<a>dow"]
    for key in ("arta", "blerim"):
        assert site.as_(key).get("/watch").status_code == 403
        assert site.as_(key).get("/api/watch").status_code == 403
        assert site.as_(key).get("/watch/accounts.csv").status_code == 403
        assert site.as_(key).get("/watch/accounts.json").status_code == 403


@pytest.mark.covers("R57", "R71")
def test_what_nothing_explains_is_taken_along_in_words_and_in_codes(site: Site, fake: FakeConnector) -> None:
    fake.accounts["=cmd()"] = Account("=cmd()", frozenset({"SUPERUSER", "CREATEDB"}))
    broker = site.world.broker
    with broker.read() as view:
        (treasury,) = [facts for facts in outside_targets(view, broker) if facts.id == "treasury"]
    look(broker, treasury)
    site.as_("jelena")
    table = site.get("/watch/accounts.csv")
    (row,) = csv.DictReader(io.StringIO(table.data.decode("utf-8-sig"), newline=""))
    assert (row["system"], row["account"]) == ("treasury", "'=cmd()")
    assert row["what is wrong"] == "An account that the broker did not make, and nothing explains it."
    assert row["what is more than is known"] == "CREATEDB; SUPERUSER"
    assert "attachment" in table.headers["Content-Disposition"]
    (found,) = json.loads(site.get("/watch/accounts.json").text)["accounts"]
    assert (found["account"], found["finding"], found["extra"]) == ("=cmd()", "new", ["CREATEDB", "SUPERUSER"])
    log = site.get("/log?type=admin.read").text
    assert log.count("what accounts") == 2


def test_everything_that_can_be_wrong_with_an_account_has_words_of_its_own(site: Site) -> None:
    with site.app.test_request_context("/"):
        words = {telling.account(what.value) for what in What}
        assert len(words) == len(What)
        assert telling.acted("cannot") == "The broker may not change it: the owner of the system has to."
        assert (telling.account(None), telling.acted(None)) == ("", "")


def test_administrators_find_the_page_beside_their_others_and_see_where_they_are(site: Site) -> None:
    html = site.as_("agim").get("/watch").text
    nav = BeautifulSoup(html, "html.parser").select_one("nav.sub")
    assert nav is not None
    assert [link["href"] for link in nav.select("a[aria-current=page]")] == ["/watch"]
    assert 'href="/watch"' in site.get("/admin").text
