"""In which language and zone does this answer speak? Negotiated for each request.

Order: the signed-in person's own choice, this browser's cookie, the register's entry for the person, Accept-Language, the setting.
Nothing that is decided, signed or logged depends on it.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

from flask import Flask, g, has_request_context, request
from flask_babel import Babel
from flask_babel.speaklater import LazyString
from jinja2 import pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup

from jitaccess.domain.wording import ZONE_WORDS as ZONE_WORDS
from jitaccess.domain.wording import meaning, term, word
from jitaccess.identity.preferences import NOTHING_CHOSEN, Preferences
from jitaccess.language import (
    CATALOGUES,
    DEFAULT_ZONE,
    Language,
    catalogue,
    decimal_text,
    minute_text,
    named,
    negotiate,
    number_text,
    offsets,
)
from jitaccess.settings import Language as LanguageSettings
from jitaccess.told import retold, told
from jitaccess.web import display

LANGUAGE_COOKIE = "__Host-jit-language"


def language_now() -> Language:
    """Return the language of the request that is being answered; English outside of one."""
    try:
        found = g.get("language")  # one look at what the request carries: a page asks hundreds of times
    except RuntimeError:
        return Language.EN
    if found is None:
        if not has_request_context():
            return Language.EN
        me, chosen = g.get("current"), cast(Preferences, g.get("preferences", NOTHING_CHOSEN))
        found = g.language = negotiate(
            chosen=chosen.language,
            cookie=request.cookies.get(LANGUAGE_COOKIE, "")[:16],
            registered=me.person.language if me is not None else None,
            header=request.headers.get("Accept-Language"),
            default=named(g.get("default_language")) or Language.EN,
        )
    return cast(Language, found)


def zone_now() -> str:
    """Return the name of the time zone in which this request's times are shown."""
    if not has_request_context():
        return "UTC"
    chosen = cast(Preferences, g.get("preferences", NOTHING_CHOSEN))
    return chosen.zone or cast(str, g.get("default_zone", DEFAULT_ZONE))


def zone_words(zone: str) -> str:
    """Return what a zone is called, with its distances from UTC, in the language of this request."""
    name = ZONE_WORDS.get(zone) or zone.rpartition("/")[2].replace("_", " ")
    usual, summer = offsets(zone)
    if usual == summer:
        return say(told("%(name)s: %(offset)s", name=name, offset=usual))
    return say(told("%(name)s: %(offset)s, in summer %(summer)s", name=name, offset=usual, summer=summer))


def say(sentence: str) -> str:
    """Return a told sentence, or a message id, in the language of this request."""
    return retold(sentence, catalogue(language_now()))


def say_meaning(name: str, text: str) -> str:
    """Return what the words of a signed term mean, in the language of this request."""
    return _meaning(name, text, language_now())


def install(app: Flask, settings: LanguageSettings) -> None:
    """Give an application its languages: catalogues, `lang`, and filters that write times and numbers."""

    @app.before_request
    def defaults() -> None:
        g.default_language, g.default_zone = settings.default, settings.zone

    Babel(
        app,
        default_locale="en",
        default_timezone=settings.zone,
        default_translation_directories=str(CATALOGUES),
        locale_selector=lambda: language_now().value,
        timezone_selector=zone_now,
    )
    # The catalogue itself instead of a search for it at each of the hundreds of sentences of a page.
    app.jinja_env.globals.update(_=_sentence, gettext=_sentence, ngettext=_counted)
    app.add_template_filter(say, "say")
    app.add_template_filter(lambda code: say(word(code)), "word")
    app.add_template_filter(lambda name: _term(name, language_now()), "term")
    app.add_template_filter(zone_words, "zone")
    app.add_template_filter(time_here, "time")
    app.add_template_filter(_minute, "minute")
    app.add_template_filter(lambda number: number_text(number, language_now()), "number")
    app.add_template_filter(lambda number: decimal_text(number, language_now()), "decimal")

    @app.context_processor
    def names() -> dict[str, Any]:
        zone = zone_now()
        here = request.full_path.removesuffix("?") if request.method == "GET" else "/"
        return {
            "languages": tuple(Language),
            "language": language_now(),
            "language_next": here,
            "zone": zone,
            "zone_words": zone_words(zone),
        }


def gettext(sentence: str, /, **values: object) -> str:
    """Return a sentence in the language of this request."""
    text: str = catalogue(language_now()).ugettext(sentence)
    return text % values if values else text


def ngettext(one: str, many: str, num: int, /, **values: object) -> str:
    """Return a sentence about a number of things in the language of this request, in the plural form of that number."""
    text: str = catalogue(language_now()).ungettext(one, many, num)
    return text % {"num": num, **values}


def lazy_gettext(sentence: str, /) -> LazyString:
    """Return a sentence that is put into the language of whichever request writes it."""
    return LazyString(gettext, sentence)


@pass_eval_context
def _sentence(here: EvalContext, sentence: str, /, **values: object) -> str:
    """Return a template's sentence in the language of this request; what is put into it is escaped where the page is."""
    text = catalogue(language_now()).ugettext(sentence)
    return (Markup(text) if here.autoescape else text) % values  # noqa: S704 - the catalogue's own words


@pass_eval_context
def _counted(here: EvalContext, one: str, many: str, num: int, /, **values: object) -> str:
    """Return a template's sentence about a number of things, in the plural form of that number."""
    text = catalogue(language_now()).ungettext(one, many, num)
    return (Markup(text) if here.autoescape else text) % {"num": num, **values}  # noqa: S704 - the catalogue's own words


@lru_cache(maxsize=4096)
def _term(name: str, language: Language) -> str:
    """Return a term's name in words; remembered, because a set of approvals shows the same ones over and over."""
    return " · ".join(retold(part, catalogue(language)) for part in term(name))


@lru_cache(maxsize=4096)
def _meaning(name: str, text: str, language: Language) -> str:
    return ", ".join(retold(part, catalogue(language)) for part in meaning(name, text))


def time_here(epoch_s: int) -> str:
    """Return UTC seconds in the language and zone of this request."""
    return _time_text(epoch_s, language_now(), zone_now())


_time_text = lru_cache(maxsize=4096)(display.time_text)
"""Remembered: pages show the same moments over and over."""


def _minute(epoch_s: int) -> str:
    return minute_text(datetime.fromtimestamp(epoch_s, UTC), language_now(), zone_now())
