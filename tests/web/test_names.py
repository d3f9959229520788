"""Does everybody read the policy's names and its money in the own language, while only keys are signed?"""

import pytest
from bs4 import BeautifulSoup

from jitaccess.broker.letters import Desk, Voice, write
from jitaccess.domain.notices import Notice
from jitaccess.language import Language
from jitaccess.store.tables import Outbox
from jitaccess.web.speech import LANGUAGE_COOKIE
from tests.support.policy_swap import swap
from tests.web.conftest import Site
from tests.web.test_approval_page import shown

_ = "\N{NO-BREAK SPACE}"
SPOKEN = {
    Language.EN: ("Release a payment", "Amount in cents", "Head of the treasury", "€1,250,000.00"),
    Language.SQ: ("Lëshimi i një pagese", "Shuma në centë", "Drejtuesi i thesarit", f"1{_}250{_}000,00{_}€"),
    Language.SR: ("Puštanje plaćanja", "Iznos u centima", "Rukovodilac trezora", f"1.250.000,00{_}€"),
}  # fmt: skip


def reads(site: Site, language: Language) -> None:
    site.client.set_cookie(LANGUAGE_COOKIE, language.short, domain="localhost", secure=True)


@pytest.mark.parametrize("language", Language)
def test_an_approver_reads_names_and_money_in_the_own_language(site: Site, language: Language) -> None:
    filed = site.world.filed(entitlement="releaser")
    reads(site.as_("blerim"), language)
    html = site.get(f"/approvals/{filed.request.id}").text
    text = BeautifulSoup(html, "html.parser").get_text(" ")
    assert [name for name in SPOKEN[language] if name not in text] == []
    assert "amount_cents" in text, "the key that is signed stands beside the name"
    fields = shown(html)
    assert (fields["inputs.amount_cents"], fields["step"]) == ("125000000", "line")


@pytest.mark.parametrize("language", Language)
def test_the_requester_reads_the_same_on_the_own_page(site: Site, language: Language) -> None:
    filed = site.world.filed(entitlement="releaser")
    reads(site.as_("arta"), language)
    text = BeautifulSoup(site.get(f"/requests/{filed.request.id}").text, "html.parser").get_text(" ")
    _, label, _, money = SPOKEN[language]
    assert label in text
    assert money in text
    assert "amount_cents" not in text


@pytest.mark.parametrize("language", Language)
def test_a_letter_says_names_and_money_in_the_readers_language(site: Site, language: Language) -> None:
    filed = site.world.filed(entitlement="releaser")
    row = Outbox(id="x", kind=Notice.APPROVAL_WANTED, subject_id=filed.request.id, channel="mail")
    with site.world.broker.read() as view:
        letter = write(Desk(view, site.world.broker, Voice(language, "UTC"), row, None))
    assert letter is not None
    right, label, _, money = SPOKEN[language]
    assert right in letter.subject
    assert dict(letter.facts)[label] == f"{money} (125000000)"


def test_a_number_without_a_currency_is_no_money(site: Site) -> None:
    def plain(rules: dict[str, dict[str, object]]) -> None:
        for ask in rules["release-payments"]["ask"]:  # type: ignore[attr-defined] # a list of inputs
            ask.pop("currency", None)

    swap(site.world, plain)
    filed = site.world.filed(entitlement="releaser")
    assert "€" not in site.as_("arta").get(f"/requests/{filed.request.id}").text
