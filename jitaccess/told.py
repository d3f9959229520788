"""How does a sentence stay translatable after it was written? It remembers what it was made of.

`told("%(name)s is held.", name=x)` is a plain `str` in English, for logs and the command line; `retold` makes the same sentence in the
reader's language at the door. So the rooms below the doors need no catalogue, no locale and no request.
Message ids are whole English sentences with named placeholders; a value that is itself told is told again. See docs/adr/0019.
"""

from collections.abc import Mapping
from typing import Protocol


class Speaks(Protocol):
    """What has the sentences of one language: a gettext catalogue."""

    def gettext(self, message: str, /) -> str:
        """Return the sentence in this language."""
        ...

    def ngettext(self, singular: str, plural: str, num: int, /) -> str:
        """Return the sentence for a number."""
        ...


class Told(str):
    """An English sentence that knows its message id and its values."""

    msgid: str
    plural: str | None
    number: int
    values: dict[str, object]


def told(msgid: str, /, **values: object) -> Told:
    """Return a sentence from a message id with named placeholders."""
    return _made(msgid, None, 1, values)


def told_n(singular: str, plural: str, num: int, /, **values: object) -> Told:
    """Return a sentence that depends on a number, which it may name as %(num)s."""
    return _made(singular, plural, num, {"num": num, **values})


def _made(msgid: str, plural: str | None, number: int, values: dict[str, object]) -> Told:
    pattern = msgid if plural is None or number == 1 else plural
    made = Told(pattern % values if values else pattern)
    made.msgid, made.plural, made.number, made.values = msgid, plural, number, values
    return made


def retold(sentence: str, words: Speaks) -> str:
    """Return a sentence in the language of a catalogue; one that was not told is looked up as it stands."""
    if not isinstance(sentence, Told):
        return words.gettext(sentence) if sentence else ""
    if sentence.plural is None:
        pattern = words.gettext(sentence.msgid) if sentence.msgid else ""
    else:
        pattern = words.ngettext(sentence.msgid, sentence.plural, sentence.number)
    if not sentence.values:
        return pattern
    return pattern % {
        name: retold(value, words) if isinstance(value, Told) else value for name, value in sentence.values.items()
    }


class Called(str):
    """A name that its giver wrote in several languages; as plain text it is the English one, for logs and the command line."""

    texts: dict[str, str]


def called(name: str | Mapping[str, str]) -> str:
    """Return a name from a text, or from texts by language (`en`, `sq`, `sr`); raises KeyError without `en`."""
    if isinstance(name, str):
        return name
    made = Called(name["en"])
    made.texts = dict(name)
    return made


def called_in(name: str, language: str) -> str:
    """Return a name in a language by its short name; what was not written in it is said as it stands."""
    return name.texts.get(language, str(name)) if isinstance(name, Called) else name


def all_calls(name: str) -> str:
    """Return a name in all its languages, for looking it up."""
    return " ".join(dict.fromkeys(name.texts.values())) if isinstance(name, Called) else name
