"""Is every sentence there in every language, whole, with the same placeholders, and compiled?"""

import io
import re

import pytest
from babel.messages.mofile import read_mo

from jitaccess.language import Language, catalogue, decimal_text
from jitaccess.told import retold, told
from tests.support import catalogues
from tests.support.catalogues import TRANSLATED, as_mo, as_po, missing, path_of, read, sentences_of, template, updated
from tests.support.sources import parse

PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]")
RUN = "run `python -m tests.support.catalogues` and translate what it lists"


@pytest.fixture(scope="module")
def sentences() -> catalogues.Catalog:
    """Gather every sentence of the program once."""
    return template()


@pytest.mark.covers("TRAP-13")
@pytest.mark.parametrize("language", TRANSLATED)
def test_every_sentence_has_a_translation(language: Language, sentences: catalogues.Catalog) -> None:
    assert missing(updated(language, sentences)) == [], RUN


@pytest.mark.parametrize("language", TRANSLATED)
def test_catalogues_are_written_as_the_command_writes_them(language: Language) -> None:
    known = read(language)
    assert missing(known) == [], RUN
    assert path_of(language).read_bytes() == as_po(known), RUN


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_compiled_catalogue_is_that_of_the_text(language: Language) -> None:
    assert path_of(language, "mo").read_bytes() == as_mo(path_of(language).read_bytes()), RUN
    assert len(read_mo(io.BytesIO(path_of(language, "mo").read_bytes()))) > 100


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_keep_placeholders_and_outer_blanks(language: Language) -> None:
    wrong = []
    for message in read(language):
        if not message.id:
            continue
        ids = [message.id] if isinstance(message.id, str) else list(message.id)
        forms = [message.string] if isinstance(message.string, str) else list(message.string)
        allowed = {name for text in ids for name in PLACEHOLDER.findall(text)}
        for form in forms:
            named = set(PLACEHOLDER.findall(form))
            whole = named == allowed if len(forms) == 1 else named <= allowed
            stray = re.sub(r"%\(\w+\)[sd]", "", form)
            outer = form[:1].isspace() == ids[0][:1].isspace() and form[-1:].isspace() == ids[0][-1:].isspace()
            if not whole or "%(" in stray or not outer:
                wrong.append((ids[0], form))
    assert wrong == []


UNWANTED = {
    Language.SQ: r"broker|guxon|veto tuaj|juaj është aty|ndërtuar ende|në vetë serverin",
    Language.SR: r"[Bb]roker|stavi(te)? veto|pod vetom|nekoga obustavi|Obustavi sve iz|pristup je tu|je šta je|izgrađen|Zamenjeno|"
    "samom serveru",
}
"""What the glossary says otherwise: the broker has one name, people are not suspended like machines, a veto is lodged."""


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_words_are_those_of_the_glossary(language: Language) -> None:
    wrong = []
    for message in read(language):
        forms = [message.string] if isinstance(message.string, str) else list(message.string)
        wrong += [form for form in forms if message.id and re.search(UNWANTED[language], form)]
    assert wrong == []


def test_a_broken_second_has_the_languages_decimal_sign() -> None:
    assert [decimal_text(0.28, language) for language in Language] == ["0.280", "0,280", "0,280"]


def test_a_sentence_is_spoken_in_each_language_from_the_compiled_files() -> None:
    spoken = {language: retold(told("Sign in first."), catalogue(language)) for language in Language}
    assert spoken == {
        Language.EN: "Sign in first.",
        Language.SQ: "Kyçuni së pari.",
        Language.SR: "Prvo se prijavite.",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('gettext("One.")', ["One."]),
        ('told("%(a)s is on.", a=1)', ["%(a)s is on."]),
        ('ngettext("one", "many", n)', [("one", "many")]),
        ('raise JitError(Kind.INVALID, "Wrong.")', ["Wrong."]),
        ('Refused(Kind.GONE, "code", "Gone." if x else "Lost.")', ["Gone.", "Lost."]),
        ('Refused(Kind.GONE, "code", message="Gone.")', ["Gone."]),
        ('STATE_WORDS = {"a": "waiting"}', ["waiting"]),
        ('tx.require(Hold, key, "There is no such hold.")', ["There is no such hold."]),
        ('x = f"no {sentence}"', []),
    ],
)
def test_sentences_are_found_where_they_are_written(text: str, found: list[object]) -> None:
    assert [sentence for _, sentence in sentences_of(parse(text).tree)] == found
