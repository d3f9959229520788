"""Who signed in with a weaker passkey than a client asks for: opens with a stronger one of his own, or learns what is missing.

And never: a token that tells of a stronger sign-in than there was, a way to another site, a loop.
"""

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from bs4 import BeautifulSoup

from jitaccess.broker import hold, policies
from jitaccess.broker.hold import HoldKind
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.identity import passkeys
from jitaccess.policy.load import load
from tests.oidc.conftest import CALLBACK, Treasury, open_treasury, verifier_pair
from tests.support.sources import ROOT
from tests.support.world import ORIGIN, World

UNMET = "unmet_authentication_requirements"


def give_passkey(world: World, owner: str, key: str, *, synced: bool) -> str:
    """Give the account of a cast member one more passkey under a key of its own; return its id."""
    site, current = world.broker.site, world.current(owner)
    made = SoftPasskey(site.rp_id, site.origin, backup_eligible=synced, backed_up=synced)
    with world.broker.begin(current.actor) as tx:
        begun = passkeys.begin_registration(tx, site, account=current.account, session_id=current.session.id)
    response = made.create(begun.options)
    with world.broker.begin(current.actor) as tx:
        found = passkeys.complete_registration(
            tx, site, challenge_id=begun.challenge_id, response=response, name=key, session_id=current.session.id
        )
        assert not isinstance(found, Refused), found
    world.seeded.passkeys[key] = made
    return found.id


@pytest.fixture
def synced(sqlite_world: World) -> Treasury:
    """Give a browser in which Arta is signed in with a synced passkey; her device-bound one is at home too."""
    treasury = open_treasury(sqlite_world)
    give_passkey(sqlite_world, "arta", "arta-synced", synced=True)
    treasury.sign_in("arta-synced")
    return treasury


def remove(world: World, passkey_id: str) -> None:
    """Take a passkey away."""
    with world.broker.begin(world.current("arta-synced").actor) as tx:
        assert passkeys.remove(tx, tx.require(passkeys.Passkey, passkey_id)) is None


def own_passkey(world: World, key: str) -> str:
    """Return the id of the passkey of a cast member's session."""
    return world.current(key).passkey.id


@pytest.mark.covers("R38")
def test_a_stronger_passkey_of_the_same_account_opens_at_once(synced: Treasury) -> None:
    grant = synced.grant()
    verifier, challenge = verifier_pair()
    page = synced.page(challenge, acr_values="phrh")
    assert page.status_code == 200
    named = BeautifulSoup(page.text, "html.parser").select_one("[data-stronger]")
    assert named is not None
    begun = synced.begin(grant, challenge, acr_values="phrh").json
    allowed = [known["id"] for known in begun["options"]["allowCredentials"]]
    assert allowed == [synced.world.current("arta").passkey.credential_id], "the synced one is not even offered"
    synced.signed_in = "arta"
    location = synced.finish(begun).json["redirect"]
    assert location.startswith(f"{CALLBACK}?")
    code = parse_qs(urlsplit(location).query)["code"][0]
    token = synced.verifier().verify(synced.redeem(code, verifier).json["access_token"])
    assert (token.claims["acr"], token.claims["amr"]) == ("phrh", ["hwk", "user"])


@pytest.mark.covers("R38")
def test_the_weaker_passkey_opens_nothing_that_asks_for_more(synced: Treasury) -> None:
    grant = synced.grant()
    begun = synced.begin(grant, verifier_pair()[1], acr_values="phrh").json
    refused = synced.finish(begun)
    assert (refused.status_code, refused.json["code"]) == (403, "credential_not_allowed")
    assert not synced.events("code.issued")


@pytest.mark.parametrize("wanted", [None, "phr", "urn:only:other", "phr phrh"])
def test_what_the_synced_one_meets_it_opens_and_says_so(synced: Treasury, wanted: str | None) -> None:
    grant = synced.grant()
    verifier, challenge = verifier_pair()
    page = synced.page(challenge, acr_values=wanted)
    assert "data-stronger" not in page.text
    begun = synced.begin(grant, challenge, acr_values=wanted).json
    assert [known["id"] for known in begun["options"]["allowCredentials"]] == [
        synced.world.current("arta-synced").passkey.credential_id
    ]
    code = parse_qs(urlsplit(synced.finish(begun).json["redirect"]).query)["code"][0]
    token = synced.verifier().verify(synced.redeem(code, verifier).json["access_token"])
    assert token.claims["acr"] == "phr"


def without_strong(treasury: Treasury) -> None:
    """Take Arta's device-bound passkey of the signed-in account away."""
    remove(treasury.world, own_passkey(treasury.world, "arta"))


def forms(text: str) -> list[dict[str, str]]:
    """Return action and fields of each form of a page's content."""
    main = BeautifulSoup(text, "html.parser").main
    assert main is not None
    return [
        {"action": str(form.get("action"))} | {str(part["name"]): str(part["value"]) for part in form.select("input")}
        for form in main.select("form")
    ]


def test_a_stronger_passkey_of_another_account_is_reached_by_signing_in_with_it(synced: Treasury) -> None:
    world, grant = synced.world, synced.grant(key="arta-synced")
    without_strong(synced)
    verifier, challenge = verifier_pair()
    page = synced.page(challenge, acr_values="phrh", login_hint=grant.id, state="s" * 1024, nonce="n" * 1024)
    assert page.status_code == 403
    session = world.current("arta-synced").session.id
    (form,) = forms(page.text)
    assert form["action"] == "/oidc/authorize/sign-in-again"
    answer = synced.browser.post(
        form["action"], base_url=ORIGIN, data={"query": form["query"]}, headers={"Origin": ORIGIN}
    )
    assert answer.status_code == 303
    assert world.resolved(session) is None, "the session before it is over"
    led = parse_qs(urlsplit(answer.location).query)["next"][0]
    shown = synced.browser.get(answer.location, base_url=ORIGIN)
    assert shown.status_code == 200
    form_ = BeautifulSoup(shown.text, "html.parser").select_one("form[data-next]")
    assert form_ is not None
    assert form_["data-next"] == led, "a long request finds its way back whole"
    assert urlsplit(led).path == "/oidc/authorize"
    kept = parse_qs(urlsplit(led).query)
    assert (kept["state"], kept["acr_values"], kept["login_hint"]) == (["s" * 1024], ["phrh"], [grant.id])
    synced.sign_in("arta-2")
    assert synced.browser.get(led, base_url=ORIGIN).status_code == 200
    begun = synced.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": urlsplit(led).query}).json
    code = parse_qs(urlsplit(synced.finish(begun).json["redirect"]).query)["code"][0]
    token = synced.verifier().verify(synced.redeem(code, verifier).json["access_token"])
    assert token.claims["acr"] == "phrh"


def nothing_strong(treasury: Treasury) -> None:
    """Leave Arta with her synced passkey alone."""
    world = treasury.world
    without_strong(treasury)
    other = own_passkey(world, "arta-2")
    with world.broker.begin(world.current("blerim").actor) as tx:
        hold.place(
            tx,
            world.broker,
            kind=HoldKind.PASSKEY,
            subject_id=other,
            cause="lost for a while",
            by=world.person("blerim"),
        )


def test_who_has_no_stronger_one_is_told_and_goes_back_with_an_error_only_by_his_own_tap(synced: Treasury) -> None:
    synced.grant(key="arta-synced")
    nothing_strong(synced)
    _, challenge = verifier_pair()
    page = synced.page(challenge, acr_values="phrh")
    assert page.status_code == 403
    assert "Location" not in page.headers, "told first, sent back later"
    main = BeautifulSoup(page.text, "html.parser").main
    assert main is not None
    assert not main.select("form")
    links = {str(link["href"]) for link in main.select("a")}
    assert "/passkeys" in links
    back = str(main.select_one("a[data-back]")["href"])  # type: ignore[index]
    assert back.startswith(f"{CALLBACK}?")
    told = parse_qs(urlsplit(back).query)
    assert (told["error"], told["state"], told["iss"]) == ([UNMET], ["state-1"], [ORIGIN])
    assert {link for link in links if "://" in link} == {back}, "nothing else leads away"


def test_a_passkey_that_was_added_meanwhile_is_offered_on_the_same_page(synced: Treasury) -> None:
    grant = synced.grant(key="arta-synced")
    nothing_strong(synced)
    _, challenge = verifier_pair()
    main = BeautifulSoup(synced.page(challenge, acr_values="phrh").text, "html.parser").main
    assert main is not None
    again = next(str(link["href"]) for link in main.select("a") if str(link["href"]).startswith("/oidc/authorize?"))
    give_passkey(synced.world, "arta-synced", "arta-new", synced=False)
    assert "arta-new" in synced.browser.get(again, base_url=ORIGIN).text
    begun = synced.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": urlsplit(again).query}).json
    synced.signed_in = "arta-new"
    assert "code" in parse_qs(urlsplit(synced.finish(begun).json["redirect"]).query)


def test_nothing_begins_where_no_passkey_fits(synced: Treasury) -> None:
    grant = synced.grant(key="arta-synced")
    nothing_strong(synced)
    refused = synced.begin(grant, verifier_pair()[1], acr_values="phrh")
    assert (refused.status_code, refused.json["code"]) == (403, "no_such_passkey")


def test_prompt_none_stays_an_error(synced: Treasury) -> None:
    synced.grant()
    answer = synced.page(verifier_pair()[1], acr_values="phrh", prompt="none")
    assert parse_qs(urlsplit(answer.location).query)["error"] == ["interaction_required"]


def test_a_passkey_removed_while_the_browser_asks_for_it_opens_nothing(synced: Treasury) -> None:
    grant = synced.grant()
    begun = synced.begin(grant, verifier_pair()[1], acr_values="phrh").json
    without_strong(synced)
    synced.signed_in = "arta"
    assert synced.finish(begun).status_code == 403


def test_somebody_elses_stronger_passkey_is_neither_named_nor_taken(synced: Treasury) -> None:
    grant = synced.grant()
    begun = synced.begin(grant, verifier_pair()[1], acr_values="phrh").json
    allowed = {known["id"] for known in begun["options"]["allowCredentials"]}
    assert synced.world.current("blerim").passkey.credential_id not in allowed
    synced.signed_in = "blerim"
    assert synced.finish(begun).json["code"] == "credential_not_allowed"
    synced.signed_in = "arta-2"
    begun = synced.begin(grant, verifier_pair()[1], acr_values="phrh").json
    assert synced.finish(begun).status_code == 403, "her other account's is for a session of its own"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "next=https://evil.example",
        urlencode({"client_id": "unknown", "redirect_uri": "https://evil.example"}),
    ],
)
def test_signing_in_again_leads_only_to_a_request_of_a_registered_client(synced: Treasury, query: str) -> None:
    session = synced.world.current("arta-synced").session.id
    answer = synced.browser.post(
        "/oidc/authorize/sign-in-again", base_url=ORIGIN, data={"query": query}, headers={"Origin": ORIGIN}
    )
    assert answer.status_code == 400
    assert synced.world.resolved(session) is not None


def test_another_site_signs_nobody_out_by_it(synced: Treasury) -> None:
    query = synced.query(verifier_pair()[1], acr_values="phrh")
    session = synced.world.current("arta-synced").session.id
    answer = synced.browser.post(
        "/oidc/authorize/sign-in-again",
        base_url=ORIGIN,
        data={"query": query},
        headers={"Origin": "https://evil.example"},
    )
    assert answer.status_code == 403
    assert synced.world.resolved(session) is not None
    evil = synced.query(verifier_pair()[1], acr_values="phrh", redirect_uri="https://evil.example/callback")
    answer = synced.browser.post(
        "/oidc/authorize/sign-in-again", base_url=ORIGIN, data={"query": evil}, headers={"Origin": ORIGIN}
    )
    assert answer.status_code == 400
    assert "evil.example" not in answer.headers.get("Location", "")


# ---------------------------------------------------------------- what the right's own rule asks for


def sharpen(world: World) -> None:
    """Let the rule for looking at payments ask for a passkey that stays in its device."""
    texts = {file.name: file.read_text() for file in (ROOT / "policies").glob("*.yaml")}
    plain = "      groups: [treasury-staff]\n"
    assert plain in texts["treasury.yaml"]
    texts["treasury.yaml"] = texts["treasury.yaml"].replace(plain, f"{plain}      credential: device_bound\n", 1)
    with world.broker.begin(LOCAL) as tx:
        policies.activate(tx, policies.propose(tx, load(texts), by="test"))


@pytest.mark.covers("R6", "R38")
@pytest.mark.parametrize("wanted", [None, "phr", "phrh"])
def test_what_the_rule_asks_for_is_met_by_a_passkey_at_hand_whatever_the_client_asks(
    synced: Treasury, wanted: str | None
) -> None:
    sharpen(synced.world)
    grant = synced.grant()
    verifier, challenge = verifier_pair()
    page = BeautifulSoup(synced.page(challenge, acr_values=wanted).text, "html.parser")
    named = page.select_one("[data-stronger]" if wanted == "phrh" else "[data-by-rule]")
    assert named is not None
    assert len(page.select("[data-stronger], [data-by-rule]")) == 1, "it is said once"
    begun = synced.begin(grant, challenge, acr_values=wanted).json
    allowed = [known["id"] for known in begun["options"]["allowCredentials"]]
    assert allowed == [synced.world.current("arta").passkey.credential_id]
    synced.signed_in = "arta"
    code = parse_qs(urlsplit(synced.finish(begun).json["redirect"]).query)["code"][0]
    token = synced.verifier().verify(synced.redeem(code, verifier).json["access_token"])
    assert token.claims["acr"] == "phrh"


def test_where_no_passkey_of_the_account_meets_the_rule_nothing_begins_and_it_is_said(synced: Treasury) -> None:
    sharpen(synced.world)
    grant = synced.grant(key="arta-2")
    without_strong(synced)
    _, challenge = verifier_pair()
    page = BeautifulSoup(synced.page(challenge).text, "html.parser")
    said = page.select_one("[data-by-rule]")
    assert said is not None
    assert "another account" in said.text
    refused = synced.begin(grant, challenge)
    assert (refused.status_code, refused.json["code"]) == (403, "no_such_passkey")
