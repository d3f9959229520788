"""Does every finding of health lead to where it is mended: a page that is there, a place that is on it, a command that exists?"""

import re
from html import unescape
from urllib.parse import urlsplit

import click
import pytest

from jitaccess.broker.health import Finding, Found, Level
from jitaccess.cli import root
from jitaccess.domain.values import LOCAL
from jitaccess.identity import people
from jitaccess.web.mending import MENDINGS, mending
from tests.support.sources import ROOT
from tests.web.conftest import Site

GUIDE = (ROOT / "docs" / "how-to" / "read-the-overview.md").read_text()
TEMPLATES = ROOT / "jitaccess" / "web" / "templates"


def bad(what: Finding) -> Found:
    return Found(what, Level.ACT, 1, codes=("alarm.raised", "seal.broken", "register.diverged"))


def test_what_is_well_needs_no_mending() -> None:
    for what in Finding:
        found = mending(Found(what, Level.WELL))
        assert (found.links, found.commands) == ((), ()), what


@pytest.mark.parametrize("what", list(Finding))
def test_a_finding_leads_to_a_page_and_a_place_on_it_or_to_a_command(site: Site, what: Finding) -> None:
    with site.app.test_request_context("/"):
        way = mending(bad(what))
    assert way.links or way.commands
    site.as_("agim")
    for address, words in way.links:
        assert str(words)
        parts = urlsplit(address)
        assert site.get(address.partition("#")[0] or "/admin").status_code == 200, address
        if parts.fragment:
            name = {"": "admin", "/board": "_board", "/watch": "watch", "/policy": "policy"}[parts.path]
            assert f'id="{parts.fragment}"' in (TEMPLATES / f"{name}.html").read_text(), address


@pytest.mark.parametrize("what", list(Finding))
def test_every_command_is_in_the_guide_and_ours_exist(what: Finding) -> None:
    for line in MENDINGS[what].commands:
        assert f"`{line}`" in GUIDE, line
        program, *words = line.split()
        if program == "jitaccess":
            found: click.Command = root
            while isinstance(found, click.Group):
                found = found.commands[words.pop(0)]
            options = {name for part in found.params for name in part.opts}
            assert {word for word in words if word.startswith("--")} <= options, line


def test_the_guide_tells_of_every_finding_that_has_commands() -> None:
    shown = {line for what in Finding for line in MENDINGS[what].commands}
    assert shown <= set(re.findall(r"`([^`]+)`", GUIDE))


def test_the_overview_shows_links_and_commands_with_what_is_not_well_alone(site: Site) -> None:
    html = site.as_("agim").get("/admin").text
    parts = dict(re.findall(r'<div class="finding \w+" data-finding="(\w+)">(.*?)</div>', html, re.DOTALL))
    assert set(parts) == {what.value for what in Finding} - {"pilot"}
    assert 'href="/people?passkeys=one"' in parts["single_passkey"]
    assert "systemctl restart jitaccess-worker" in parts["sweep"], "nothing ticks in this test"
    assert 'href="/policy#rules"' in parts["indispensable"]
    for well in ("policy", "stuck", "log_whole"):
        assert "<a " not in parts[well]
        assert "<pre" not in parts[well]


def test_alarms_lead_to_the_entries_that_are_there(site: Site) -> None:
    site.world.sql("UPDATE person SET unit = 'x' WHERE id = :id", id=site.world.person("jelena"))
    site.world.sql("UPDATE register_version SET n = n + 1")
    site.as_("agim").get("/admin")
    html = site.get("/admin").text
    assert 'href="/log?type=seal.broken"' in html
    assert 'href="/log?type=alarm.raised"' not in html
    assert "seal.broken" in site.get("/log?type=seal.broken").text
    assert 'href="#records"' in html
    assert 'id="records"' in html


def test_people_without_a_second_passkey_or_without_any_are_listed(site: Site) -> None:
    with site.world.broker.begin(LOCAL) as tx:
        fresh = people.add_person(
            tx, name="Fresh Face", email="f@mof.example", institution="mof", unit="x", manager_id=None
        )
        people.add_account(tx, person_id=fresh.id, label="f@mof.example")
        gone = people.add_person(
            tx, name="Gone Away", email="g@mof.example", institution="mof", unit="x", manager_id=None
        )
        people.add_account(tx, person_id=gone.id, label="g@mof.example")
        people.disable_person(tx, gone.id)
    site.as_("agim")
    none = unescape(site.get("/people?passkeys=none").text)
    assert re.findall(r'data-person="(\w+)"', none) == [fresh.id]
    one = site.get("/people?passkeys=one&q=jelena").text
    assert re.findall(r'data-person="(\w+)"', one) == [site.world.person("jelena")]
    assert re.findall(r'data-person="(\w+)"', site.get("/people?passkeys=one&q=fresh").text) == []
    assert 'name="passkeys" value="one"' in one
    assert "Fresh Face" in site.get("/people?passkeys=three&q=fresh").text


def test_no_style_takes_the_level_of_a_finding_for_something_else() -> None:
    styles = "".join((TEMPLATES.parent / "static" / name).read_text() for name in ("app.css", "desks.css"))
    for level in Level:
        rules = re.findall(rf"([^{{}}]*\.{level.name.lower()}\b[^{{}}]*)\{{", styles)
        assert all(f".finding.{level.name.lower()}" in rule for rule in rules), level
