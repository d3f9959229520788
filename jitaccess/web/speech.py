"""In which language and zone does this answer speak? Negotiated for each request.

Order: the signed-in person's own choice, this browser's cookie, the register's entry for the person, Accept-Language, the setting.
Nothing that is decided, signed or logged depends on it.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

from flask import Flask, g, has_request_context, request
from flask_babel import Babel

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
    if not has_request_context():
        return Language.EN
    if "language" not in g:
        me, chosen = g.get("current"), cast(Preferences, g.get("preferences", NOTHING_CHOSEN))
        g.language = negotiate(
            chosen=chosen.language,
            cookie=request.cookies.get(LANGUAGE_COOKIE, "")[:16],
            registered=me.person.language if me is not None else None,
            header=request.headers.get("Accept-Language"),
            default=named(g.get("default_language")) or Language.EN,
        )
    return cast(Language, g.language)


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
    app.add_template_filter(say, "say")
    app.add_template_filter(lambda code: say(word(code)), "word")
    app.add_template_filter(lambda name: _term(name, language_now()), "term")
    app.add_template_filter(zone_words, "zone")
    app.add_template_filter(_time, "time")
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


@lru_cache(maxsize=4096)
def _term(name: str, language: Language) -> str:
    """Return a term's name in words; remembered, because a set of approvals shows the same ones over and over."""
    return " · ".join(retold(part, catalogue(language)) for part in term(name))


@lru_cache(maxsize=4096)
def _meaning(name: str, text: str, language: Language) -> str:
    return ", ".join(retold(part, catalogue(language)) for part in meaning(name, text))


def _time(epoch_s: int) -> str:
    return display.time_text(epoch_s, language_now(), zone_now())


def _minute(epoch_s: int) -> str:
    return minute_text(datetime.fromtimestamp(epoch_s, UTC), language_now(), zone_now())
