"""Can an administrator add a system on a page, and is what comes of it exactly what was typed, checked, proposed and nothing else?"""

import re
from html import unescape
from typing import Any

import pytest
from bs4 import BeautifulSoup
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from jitaccess.broker import policies
from jitaccess.broker.logview import policy_sets
from jitaccess.connectors import config_models
from jitaccess.identity.people import register
from jitaccess.policy.adding import BESIDE, NewRight, NewSystem, Signing, added
from jitaccess.policy.change import ChangeClass, classify
from jitaccess.policy.problems import PolicyErrors
from jitaccess.policy.yaml import parse, written
from tests.web.conftest import Site
from tests.web.test_controls import twins

ANSWERS = {
    "id": "land-registry", "name_en": "Land registry", "name_sq": "Kadastri", "name_sr": "Katastar", "owner": "mof", "kind": "token",
    "audience": "https://land.example", "group": "treasury-staff", "usual": "1h", "longest": "4h", "signing": "one",
    "signers": "treasury-staff", "right1_id": "viewer", "right1_en": "Look at parcels", "right1_longest": "8h", "right1_risk": "low",
}  # fmt: skip
NASTY = [
    "x\nrules: []", 'a": {b: c}', "': &anchor !!python/object:os.system [x]", "*alias", "no", "0777", "4:00", "1e3", "~", "<<", "- x",
    "# no comment", "{{ 7*7 }}", "<script>alert(1)</script>", "\u202egnp", "\x00\x07", "%(name)s", "e\u0308", "😀", "'", '"', "\\", "a: b",
    "|", ">", "---", "...", "\u2028x",
]  # fmt: skip


def answers(**change: str) -> dict[str, str]:
    return ANSWERS | change


def lines_of(page: str) -> str:
    """Return the file that a page shows."""
    found = BeautifulSoup(page, "html.parser").select_one("pre.numbered code")
    assert found is not None
    return found.get_text()


def problems_of(page: str) -> list[str]:
    return [item.get_text() for item in BeautifulSoup(page, "html.parser").select("[role=alert] li")]


def active(site: Site) -> Any:
    with site.world.broker.read() as view:
        return site.world.broker.policies.active(view)


def test_only_administrators_add_systems(site: Site) -> None:
    for key in ("arta", "blerim", "jelena"):
        site.as_(key)
        assert site.get("/new-target").status_code == 403
        for path in ("/new-target", "/new-target/propose"):
            assert site.form(path, **ANSWERS).status_code == 403, (key, path)
    site.out()
    assert site.form("/new-target/propose", **ANSWERS).status_code == 401


def test_a_system_is_checked_proposed_signed_by_two_and_joins(site: Site) -> None:
    before = active(site)
    shown = site.as_("agim").form("/new-target", **ANSWERS)
    assert shown.status_code == 200, shown.text
    text = lines_of(shown.text)
    assert parse("x", text).value == {
        "version": 1,
        "targets": {
            "land-registry": {
                "name": {"en": "Land registry", "sq": "Kadastri", "sr": "Katastar"},
                "owner": "mof",
                "entitlements": {"viewer": {"label": "Look at parcels", "max_duration": "8h", "risk": "low"}},
                "connector": {"kind": "token", "audience": "https://land.example"},
            }
        },
        "rules": [
            {
                "id": "use-land-registry",
                "for": {"groups": ["treasury-staff"]},
                "to": {"target": "land-registry", "entitlements": ["viewer"]},
                "duration": {"default": "1h", "max": "4h"},
                "approve": {
                    "steps": [
                        {
                            "name": "colleague",
                            "label": {"en": "Colleague", "sq": "Kolegu", "sr": "Kolega"},
                            "groups": ["treasury-staff"],
                            "count": 1,
                        }
                    ],
                    "distinct": ["person"],
                    "never": ["requester"],
                },
            }
        ],
    }
    assert active(site).digest == before.digest, "looking proposes nothing"
    fields = {
        str(part["name"]): str(part["value"]) for part in BeautifulSoup(shown.text, "html.parser").select("input")
    }
    led = site.form("/new-target/propose", **fields)
    assert led.status_code == 303
    policy_id, target_id = led.location.split("/")[-2:]
    assert active(site).digest == before.digest, "a proposal changes nothing"
    with site.world.broker.read() as view:
        row, candidate = policies.candidate(view, policy_id)
        needed = policies.proposal(view, before, policy_id, pilot=False)
    assert (row.status, row.proposed_by, needed.required) == ("proposed", site.world.person("agim"), 2)
    change = classify(before, candidate)
    assert set(change.differences) == {"targets.land-registry", "rules.use-land-registry"}
    assert change.kind is ChangeClass.WIDENING
    waiting = site.get(led.location).text
    assert "2 different persons" in waiting
    assert "/targets/land-registry/join" not in waiting
    body = {"kind": "policy.activate", "subject": policy_id, "payload": {"digest": row.digest}}
    assert site.ceremony("agim", "/api/changes", body).json["applied"] is False
    again = site.ceremony("agim", "/api/changes", body)
    assert again.status_code != 200 or not again.json["applied"], "the same person twice is one"
    assert site.as_("besa").ceremony("besa", "/api/changes", body).json["applied"] is True
    assert target_id in active(site).targets
    assert "/targets/land-registry/join" in site.as_("agim").get(led.location).text
    assert site.get("/targets/land-registry/join").status_code == 200


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"owner": "nobody"}, 'land-registry.yaml:8:12  targets.land-registry.owner  unknown institution "nobody"'),
        ({"id": "treasury"}, 'there is a system "treasury" already'),
        ({"id": "Land Registry"}, "new-system.yaml:4:5  targets.Land Registry"),
        ({"id": "active"}, None),
        ({"audience": "http://127.0.0.1:8001"}, 'audience  also that of "treasury": whoever may use one has tokens for both'),
        ({"audience": "http://127.0.0.1:8001/"}, 'audience  also that of "treasury"'),
        ({"audience": "registry"}, "targets.land-registry.connector.audience"),
        ({"right1_id": ""}, "targets.land-registry.entitlements"),
        ({"right1_longest": "1h"}, 'rules[0].duration.max  longer than the entitlement "viewer" allows (1h)'),
        ({"usual": "8h", "longest": "1h", "right1_longest": "8h"}, "rules[0].duration"),
        ({"group": "no-such-group"}, 'unknown group "no-such-group"'),
        ({"signers": "no-such-group"}, 'unknown group "no-such-group"'),
        ({"name_en": ""}, "targets.land-registry.name"),
        ({"right1_en": "", "right1_sq": "Shiko"}, "needs one in en"),
        ({"right2_id": "viewer", "right2_en": "x", "right2_longest": "1h"}, 'the right "viewer" stands twice'),
        ({"right1_risk": "none"}, "risk"),
        ({"kind": "no-such-kind"}, 'unknown kind of target "no-such-kind"'),
        ({"kind": "postgresql", "settings": "host: db.example"}, "targets.land-registry.connector"),
        ({"kind": "postgresql", "settings": "host: &a db.example"}, "settings:1:7  -  anchors and aliases are not allowed"),
        ({"kind": "postgresql", "settings": "- x"}, "settings:1:1"),
        ({"kind": "webhook", "settings": "x: [" }, "settings:1:"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place_and_nothing_is_proposed(
    site: Site, change: dict[str, str], line: str | None
) -> None:
    site.as_("agim")
    shown = site.form("/new-target", **answers(**change))
    if line is None:
        assert shown.status_code == 200
        assert "new-system.yaml" in shown.text, "no file of ours has the name that the loader uses"
        return
    assert shown.status_code == 422
    assert any(line in told for told in problems_of(shown.text)), problems_of(shown.text)
    kept = BeautifulSoup(shown.text, "html.parser").select_one("#n-name_en")
    assert kept is not None
    assert kept["value"] == answers(**change)["name_en"], "what was typed is still there"
    assert site.form("/new-target/propose", **answers(**change)).status_code == 422
    with site.world.broker.read() as view:
        assert {row.status for row in policy_sets(view)} == {"active"}


def test_the_problems_and_the_page_are_told_in_the_readers_language(site: Site) -> None:
    site.as_("agim")
    site.client.set_cookie("__Host-jit-language", "sq", domain="localhost")
    told = problems_of(site.form("/new-target", **answers(id="treasury")).text)
    assert told == ['treasury.yaml:4:5  targets.treasury  tashmë ka një sistem "treasury"']


@pytest.mark.parametrize("signing", list(Signing))
def test_each_choice_of_who_signs_makes_a_rule(site: Site, signing: Signing) -> None:
    given = answers(signing=signing.value, group="infra-finance")
    shown = site.as_("agim").form("/new-target", **given)
    assert shown.status_code == 200, problems_of(shown.text)
    led = site.form("/new-target/propose", **given)
    with site.world.broker.read() as view:
        _, candidate = policies.candidate(view, led.location.split("/")[-2])
    steps = [
        (step.name, step.count, tuple(step.groups), step.institution)
        for step in candidate.rules["use-land-registry"].terms.steps
    ]
    group = ("treasury-staff",)
    owner = ("owner", 1, (), "mof")
    assert (
        steps
        == {
            Signing.ONE: [("colleague", 1, group, None)],
            Signing.TWO: [("colleague", 2, group, None)],
            Signing.OWNER: [owner],
            Signing.BOTH: [("colleague", 1, group, None), owner],
            Signing.NONE: [],
        }[signing]
    )


def test_a_database_is_added_with_the_settings_of_its_kind(site: Site) -> None:
    told = "host: db.example\ndatabase: ledger\nsecret: ledger\nentitlements:\n  viewer: {roles: [ledger_reader]}"
    shown = site.as_("agim").form("/new-target", **answers(kind="postgresql", settings=told))
    assert shown.status_code == 200, problems_of(shown.text)
    value: Any = parse("x", lines_of(shown.text)).value
    assert value["targets"]["land-registry"]["connector"] == {
        "kind": "postgresql", "host": "db.example", "database": "ledger", "secret": "ledger",
        "entitlements": {"viewer": {"roles": ["ledger_reader"]}},
    }  # fmt: skip


def test_settings_cannot_name_another_kind_than_was_chosen(site: Site) -> None:
    shown = site.as_("agim").form(
        "/new-target", **answers(kind="no-such", settings="kind: token\naudience: https://x.example")
    )
    assert any('unknown kind of target "no-such"' in line for line in problems_of(shown.text))


@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_stay_texts(site: Site, text: str) -> None:
    wrapped = f"x{text}x"
    places = ("name_en", "name_sq", "right1_en", "audience", "owner", "group", "right1_id")
    site.as_("agim")
    for given in (
        answers(name_en=wrapped, name_sq=wrapped, right1_en=wrapped),
        answers(**dict.fromkeys(places, wrapped)),
        answers(id=wrapped),
    ):
        shown = site.form("/new-target", **given)
        assert shown.status_code in (200, 422)
        assert not BeautifulSoup(shown.text, "html.parser").select("main script")
    made = NewSystem(
        "reg", {"en": wrapped}, wrapped, {"kind": "token", "audience": wrapped}, [NewRight(wrapped, {"en": wrapped}, "1h", "low")],
        wrapped, "1h", "1h", Signing.ONE, wrapped,
    )  # fmt: skip
    value: Any = parse("x", made.text()).value
    assert value.keys() == {"version", "targets", "rules"}
    assert value["targets"]["reg"]["name"] == wrapped
    assert value["rules"][0]["for"] == {"groups": [wrapped]}
    assert [*value["targets"]["reg"]["entitlements"]] == [wrapped]
    settings_ = site.form("/new-target", **answers(kind="postgresql", settings=f"host: {text}\n{text}"))
    assert settings_.status_code == 422


def test_the_page_of_a_proposal_is_about_a_system_that_it_adds(site: Site) -> None:
    site.as_("agim")
    led = site.form("/new-target/propose", **ANSWERS).location
    for path in (led.replace("land-registry", "other"), "/new-target/x/land-registry", f"/new-target/{'a' * 300}/x"):
        assert site.get(path).status_code == 404, path
    assert site.as_("arta").get(led).status_code == 403


def test_no_two_controls_of_its_pages_have_one_name(site: Site) -> None:
    site.as_("agim")
    led = site.form("/new-target/propose", **ANSWERS).location
    pages = [
        site.get("/new-target"),
        site.form("/new-target", **ANSWERS),
        site.form("/new-target", **answers(id="X")),
        site.get(led),
    ]
    assert [twins(page.text) for page in pages] == [{}, {}, {}, {}]


def test_the_answers_can_be_changed_after_they_were_checked(site: Site) -> None:
    shown = site.as_("agim").form("/new-target", **ANSWERS, change="1")
    assert shown.status_code == 200
    kept = BeautifulSoup(shown.text, "html.parser").select_one("#n-id")
    assert kept is not None
    assert kept["value"] == "land-registry"


@pytest.mark.parametrize("change", [{"signing": "x"}, {"signing": ""}, {"name_en": "x" * 3000}])
def test_what_the_form_never_sends_is_refused(site: Site, change: dict[str, str]) -> None:
    assert site.as_("agim").form("/new-target", **answers(**change)).status_code in (400, 413)


def test_what_is_there_is_never_said_anew(site: Site) -> None:
    now = active(site)
    with site.world.broker.read() as view:
        people = register(view)
    rule = sorted(now.rules)[0]
    connector = {"kind": "token", "audience": "https://x.example"}
    target = {"name": "X", "owner": "mof", "entitlements": {"v": {"max_duration": "1h"}}, "connector": connector}
    body = {
        "for": {"groups": ["treasury-staff"]},
        "to": {"target": "x", "entitlements": ["v"]},
        "duration": {"default": "1h", "max": "1h"},
        "approve": "none",
    }
    text = written({"version": 1, "targets": {"x": target}, "rules": [{"id": rule, **body}]})
    with pytest.raises(PolicyErrors, match=re.escape(f'there is a rule "{rule}" already')):
        added(now, "x.yaml", text, register=people, connectors=config_models())
    assert BESIDE not in {NewSystem("active", {}, "", {}, [], "", "", "", Signing.NONE, "").file}


values = st.recursive(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]))
    | st.integers(-(10**15), 10**15)
    | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)


@drawn(values)
@settings(max_examples=200, deadline=None)
def test_whatever_is_written_is_read_back_as_it_was(value: object) -> None:
    try:
        text = written(value)
    except (PolicyErrors, ValueError):
        assert any(not letter.isprintable() for letter in str(value)), "only what YAML cannot hold is refused"
        return
    assert parse("x", text).value == value


def test_the_page_still_tells_of_the_folder(site: Site) -> None:
    assert "# one more system" in unescape(site.as_("agim").get("/new-target").text)


def test_people_choose_kinds_and_groups_by_their_names(site: Site) -> None:
    page = BeautifulSoup(site.as_("agim").get("/new-target").text, "html.parser")
    for name in ("kind", "group", "signers"):
        for option in page.select(f"select[name={name}] option"):
            assert option.get_text() not in ("", option["value"]), option
    assert "Treasury" in page.select("select[name=group]")[0].get_text()
