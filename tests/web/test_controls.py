"""Do two controls of a page that do different things also have different names? For who hears the page, or says what to press.

Pages are drawn with several rows of everything; a control is a button, a link, a field or a summary, its name what a browser would
compute for the elements that these pages use, and its act all that it sends or opens.
"""

from collections import defaultdict
from datetime import timedelta

import pytest
from bs4 import BeautifulSoup, Tag

from jitaccess.audit.register import RegisterCheck
from jitaccess.broker.cut import STUCK_AFTER
from jitaccess.broker.reconcile import look, outside_targets
from jitaccess.connectors.contract import Account
from jitaccess.connectors.fake import FakeConnector
from jitaccess.demo.soft_passkey import SoftPasskey
from tests.support.candidates import document_without, proposed
from tests.support.policy_swap import Rules, swap
from tests.web.conftest import Site
from tests.web.test_watch import fake, site

__all__ = ["fake", "site"]

CONTROLS = "button, a[href], input:not([type=hidden]), select, textarea, summary"


def words(text: str) -> str:
    """Give text as it is heard: white space is one space."""
    return " ".join(text.split())


def name_of(page: BeautifulSoup, control: Tag) -> str:
    """Give the accessible name: aria-label, else the label, else the content, else the placeholder."""
    label = control.get("aria-label")
    if label:
        return words(str(label))
    if control.name in ("input", "select", "textarea"):
        named = page.select_one(f'label[for="{control["id"]}"]') if control.has_attr("id") else None
        around = named or control.find_parent("label")
        if isinstance(around, Tag):
            own = [
                str(part) for part in around.find_all(string=True) if not isinstance(part.find_parent("select"), Tag)
            ]
            return words(" ".join(own))
        return words(str(control.get("placeholder", "")))
    return words(control.get_text(" "))


def act_of(page: BeautifulSoup, control: Tag, place: int) -> tuple[object, ...]:
    """Give what a control does: where it sends what, or what it opens."""
    if control.name == "a":
        return ("open", str(control["href"]))
    if control.name == "summary":
        return ("unfold", place)
    form = page.select_one(f'form[id="{control["form"]}"]') if control.has_attr("form") else control.find_parent("form")
    if not isinstance(form, Tag):
        return ("alone", place)
    sent = tuple((str(one.get("name")), str(one.get("value"))) for one in form.select("input[type=hidden]"))
    where = [str(form.get(part)) for part in ("action", "data-ceremony", "data-call")]
    own = tuple(str(control.get(part)) for part in ("formaction", "name", "value") if control.name != "select")
    body = form.select_one("script.body, script.begun")
    return (*where, sent, own if control.name != "input" or control.get("type") in ("checkbox", "radio") else control["name"],
            body.get_text() if body is not None else "")  # fmt: skip


def twins(html: str) -> dict[str, int]:
    """Give every name that controls of a page share though they do different things, with how many different ones."""
    page = BeautifulSoup(html, "html.parser")
    acts: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    for place, control in enumerate(page.select(CONTROLS)):
        if control.find_parent("noscript") is None:
            acts[name_of(page, control)].add(act_of(page, control, place))
    return {name: len(found) for name, found in acts.items() if len(found) > 1 or not name}


# ---------------------------------------------------------------- a house in which everything is there more than once


def everything_twice(rules: Rules) -> None:
    rules["look-at-payments"]["duration"] |= {"extensions": {"count": 1, "total": "8h"}}
    rules["release-payments"]["approve"].update(deputies="7d")
    rules["release-payments"]["duration"].pop("activate_within", None)
    rules["release-payments"].pop("limits", None)


def ask_often(site: Site) -> str:
    """File, refuse, grant and leave waiting; return a request that waits."""
    world = site.world
    swap(world, everything_twice)
    handed_back = []
    for _ in range(2):
        handed_back.append(world.filed().grant)
        world.advance(timedelta(seconds=2))
    for number in range(6):
        inputs = {"order": f"TR-00000{number}", "amount_cents": 100 + number}
        request_id = world.filed(entitlement="releaser", inputs=inputs).request.id
        if number < 2:
            site.as_("drita").form(f"/approvals/{request_id}/deny", comment="not this one")
        elif number < 4:
            world.approved("blerim", request_id)
            world.approved("drita", request_id)
        world.advance(timedelta(seconds=2))
    site.as_("arta")
    for grant in handed_back:
        assert grant is not None
        assert site.form(f"/grants/{grant.id}/hand-back").status_code == 303
        world.advance(timedelta(seconds=2))
    for _ in range(2):
        world.filed()
        world.advance(timedelta(seconds=2))
    return request_id


def add_passkey(site: Site, key: str) -> None:
    """Give a person a passkey of the same name as the first one."""
    begun = site.as_(key).post("/api/passkeys/add/begin").json
    answer = site.world.passkey(key).get(begun["options"])
    begun = site.post("/api/passkeys/add/confirm", {"challenge_id": begun["challenge_id"], "response": answer}).json
    fresh = SoftPasskey(site.world.broker.site.rp_id, site.world.broker.site.origin)
    named = {
        "challenge_id": begun["challenge_id"],
        "response": fresh.create(begun["options"]),
        "name": "Software passkey",
    }
    assert site.post("/api/passkeys/add/complete", named).status_code == 200


def administer(site: Site, fake: FakeConnector) -> None:
    """Hold, propose, register, find, lend and get stuck, each at least twice."""
    world = site.world
    for deputy, start in (("agim", ""), ("arta", "2026-11-30T10:00")):
        named = {"deputy": world.person(deputy), "start": start, "lasts_s": "86400"}
        assert site.as_("blerim").ceremony("blerim", "/api/deputies", named).status_code == 200
    for rule in ("look-at-payments", "release-payments"):
        proposed(world, document_without(world, rule))
    site.as_("agim")
    for name in ("payroll", "registry"):
        assert site.form("/holds", kind="target", subject_id=name, cause="looked wrong").status_code == 303
    assert site.form("/holds", kind="passkey", subject_id=world.current("jelena").passkey.id).status_code == 303
    for group in ("treasury-heads", "payroll-staff"):
        body = {"kind": "member.add", "subject": group, "payload": {"member_id": world.person("jelena")}}
        assert site.ceremony("agim", "/api/changes", body).json["applied"] is False
    for _ in range(2):
        body = {"name": "Payments", "redirect_uris": ["https://pay.example/callback"]}
        change = {"kind": "client.add", "subject": "payroll", "payload": body}
        for key in ("agim", "besa"):
            site.as_(key).ceremony(key, "/api/changes", change)
    for name in ("shadow", "spare"):
        fake.accounts[name] = Account(name, frozenset({"SUPERUSER"}))
    with world.broker.read() as view:
        (treasury,) = [facts for facts in outside_targets(view, world.broker) if facts.id == "treasury"]
    look(world.broker, treasury)


def get_stuck(site: Site, fake: FakeConnector) -> None:
    """Leave two accesses of one person to one system that cannot be taken away."""
    for grant in site.as_("arta").get("/api/grants?live=true").json[:2]:
        assert site.ceremony("arta", f"/api/grants/{grant['id']}/open").status_code == 200
        site.world.advance(timedelta(seconds=2))
    fake.faults["cut"] = "fail"
    site.world.advance(timedelta(hours=1))
    for _ in range(STUCK_AFTER + 1):
        site.world.advance(timedelta(minutes=20))
        site.world.sweep()


def damage(site: Site) -> None:
    """Change two people's records behind the broker's back."""
    RegisterCheck(site.world.broker.db).check()
    for key in ("jelena", "drita"):
        site.world.sql("UPDATE person SET unit = 'cellar' WHERE id = :id", id=site.world.person(key))
    site.world.sql("UPDATE register_version SET n = n + 1")


def page(site: Site, key: str, path: str) -> str:
    """Give a page as a person sees it."""
    answer = site.as_(key).get(path)
    assert answer.status_code == 200, (key, path)
    return answer.text


@pytest.mark.parametrize("language", ["en", "sq", "sr"])
def test_controls_that_do_different_things_have_different_names(site: Site, fake: FakeConnector, language: str) -> None:
    request_id = ask_often(site)
    add_passkey(site, "arta")
    administer(site, fake)
    arta = site.world.person("arta")
    looks = [
        ("arta", path) for path in (
            "/", "/request", "/request?target=treasury&entitlement=releaser", "/passkeys", "/lost", "/settings", "/policy",
            "/policy/explain?right=treasury/releaser",
            f"/requests/{request_id}",
        )
    ] + [("blerim", path) for path in ("/approvals", "/approvals/set", f"/approvals/{request_id}", "/deputies")] + [
        ("agim", path) for path in (
            "/admin", "/people", f"/people/{arta}", f"/people/{site.world.person('jelena')}", "/groups", "/groups/treasury-staff",
            "/groups/treasury-staff?q=i", "/targets", "/targets/treasury", "/targets/payroll/join", "/holds", "/board", "/watch",
            "/notices", "/clients/logouts", "/policy",
            "/policy/explain?right=treasury/releaser&person=arta", "/audit", "/audit/sample", "/log", "/approvals/pace", "/audit/pictures",
            f"/audit/requests/{request_id}",
        )
    ] + [("besa", "/admin")]  # fmt: skip
    site.client.set_cookie("__Host-jit-language", language, domain="localhost", secure=True)
    wrong = {f"{key} {path}": found for key, path in looks if (found := twins(page(site, key, path)))}
    assert wrong == {}


def test_what_is_stuck_and_what_is_damaged_is_told_apart_too(site: Site, fake: FakeConnector) -> None:
    ask_often(site)
    get_stuck(site, fake)
    damage(site)
    watch, desk, board = (page(site, "agim", path) for path in ("/watch", "/admin", "/board"))
    assert watch.count("lease.close") == 2
    assert desk.count('action="/admin/record"') == 2
    assert board.count("/try-now") == 2
    assert twins(watch) == twins(desk) == twins(board) == {}


def test_every_row_with_a_control_is_there_more_than_once(site: Site, fake: FakeConnector) -> None:
    """A row that stands alone has no twin: the test above would see nothing."""
    ask_often(site)
    add_passkey(site, "arta")
    administer(site, fake)
    for key, path, part in (
        ("arta", "/", "/hand-back"), ("arta", "/", "/withdraw"), ("arta", "/", "/seen"), ("arta", "/", "/extend"),
        ("arta", "/", "?again="), ("arta", "/passkeys", "/remove"), ("arta", "/passkeys", "/rename"), ("arta", "/lost", "/lost/passkey/"),
        ("blerim", "/approvals/set", 'type="checkbox"'), ("blerim", "/deputies", "/end"), ("besa", "/admin", "/reject"),
        ("besa", "/admin", "Sign too"), ("agim", "/people", "/end-everything"), ("agim", "/holds", "hold.release"),
        ("agim", "/board", "/end-everything"), ("agim", "/policy", "policy.activate"), ("agim", "/policy", "/replay"),
        ("agim", "/targets/payroll/join", "/disable"), ("agim", "/watch", "unexplained"),
    ):  # fmt: skip
        assert page(site, key, path).count(part) >= 2, (path, part)


def test_twins_are_found() -> None:
    form = '<form action="/grants/{0}/end"><input type="hidden" name="id" value="{0}"><button>{1}</button></form>'
    assert twins(form.format(1, "End it") + form.format(2, "End it")) == {"End it": 2}
    assert twins(form.format(1, "End it") + form.format(2, 'End it<span class="unseen">: the other</span>')) == {}
    assert twins(form.format(1, "End it") * 2) == {}, "the same act twice may be called the same"
    assert twins('<a href="/a">Details</a><a href="/b">Details</a>') == {"Details": 2}
    assert twins("<form><input name=x></form>") == {"": 1}, "a field without a name"
