"""By which ways do notices leave? Mail, chat and SMS gateways (Apprise), signed webhooks: each a name, a way to post, and no more.

Addresses and secrets come from settings alone and never reach the database, the log or an error. A channel whose address holds `{to}` is
personal: it reaches those who gave their own address there; every other one is shared, and told once of each thing.
"""

import logging
import os
import smtplib
import ssl
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jitaccess.broker.letters import Letter, Voice, visible, visible_lines
from jitaccess.clock import to_epoch_s
from jitaccess.domain.notices import ALARMS, Notice
from jitaccess.errors import JitError, Kind
from jitaccess.language import Language, named
from jitaccess.outbound import webhooks
from jitaccess.outbound.guard import NotDelivered
from jitaccess.settings import Channel as ChannelSettings
from jitaccess.settings import Mail, Settings

MAIL = "mail"
TO = "{to}"
SMTP_LIMIT_S = 10.0
SHARED_BY_DEFAULT = ALARMS | {Notice.APPROVAL_WANTED}
MAX_LINE = 600


@dataclass(frozen=True, slots=True)
class Parcel:
    """One notice on its way: the row's id, the words, and where to."""

    id: str
    letter: Letter
    voice: Voice
    to: str
    """Mail address, or the person's address on a personal channel; empty on a shared one."""
    machine: Mapping[str, object]
    """What a webhook is told: codes and ids."""
    at: datetime


Post = Callable[[Parcel], None]
"""Sends one parcel; raises OSError, SMTPException, ValueError or NotDelivered."""
ONE_ADDRESS = (
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPDataError,
    smtplib.SMTPNotSupportedError,
    ValueError,
)
"""Failures that may say something of one letter and its address alone, and nothing of the channel."""


def of_one_address(error: Exception) -> bool:
    """Say whether others would get through: a server that refuses for the moment (4yz, RFC 5321 section 4.2.1) refuses them too."""
    if isinstance(error, smtplib.SMTPDataError):
        return error.smtp_code >= 500
    return isinstance(error, ONE_ADDRESS)


@dataclass(frozen=True, slots=True)
class Channel:
    """One way out."""

    name: str
    shared: bool
    kinds: frozenset[str]
    """Which notices it takes; empty takes all."""
    language: Language
    opened: Callable[[], Any]
    """Gives a context manager over a `Post`."""

    def takes(self, kind: str) -> bool:
        """Say whether a notice of this kind goes here."""
        return not self.kinds or kind in self.kinds


def channels(settings: Settings) -> dict[str, Channel]:
    """Return every channel by name; raises CONFIGURATION for one that cannot work."""
    mail = settings.mail
    found = {MAIL: Channel(MAIL, False, frozenset(), Language.EN, lambda: _mail(mail))}
    for name, given in settings.notify.channels.items():
        found[name] = _channel(name, given, settings)
    return found


def _channel(name: str, given: ChannelSettings, settings: Settings) -> Channel:
    known = {kind.value for kind in Notice}
    if name == MAIL or not name.replace("-", "").isalnum() or not name.isascii():
        raise JitError(Kind.CONFIGURATION, "A channel's name is letters, digits and -, and not mail.")
    if not set(given.kinds) <= known:
        raise JitError(Kind.CONFIGURATION, f"notify.channels.{name}.kinds may name: {', '.join(sorted(known))}.")
    language = named(given.language) or Language.EN
    if given.kind == "webhook":
        webhooks.check_address(given.url.get_secret_value())
        key = webhooks.secret_bytes(given.secret.get_secret_value())
        return Channel(
            name, True, frozenset(given.kinds), language, lambda: _webhook(given, key, settings.outbound.networks)
        )
    url = given.url.get_secret_value()
    shared = TO not in url
    kinds = frozenset(given.kinds) or (frozenset(kind.value for kind in SHARED_BY_DEFAULT) if shared else frozenset())
    gateway = _apprise()
    if not gateway.Apprise().add(url.replace(TO, "0")):
        raise JitError(Kind.CONFIGURATION, f"notify.channels.{name}.url is no address that Apprise knows.")
    return Channel(name, shared, kinds, language, lambda: _gateway(gateway, url))


# ---------------------------------------------------------------- mail


@contextmanager
def _mail(mail: Mail) -> Iterator[Post]:
    """Give a post over one connection, which is made at the first parcel."""
    if mail.transport != "smtp":
        yield lambda parcel: _to_folder(mail, parcel)
        return
    server: smtplib.SMTP | None = None

    def post(parcel: Parcel) -> None:
        nonlocal server
        server = server or _connected(mail)
        try:
            server.send_message(to_message(parcel, mail))
        except OSError as error:
            if not of_one_address(error):
                server.close()
                server = None  # the next parcel gets a connection of its own
            raise

    try:
        yield post
    finally:
        if server is not None:
            server.close()


def _connected(mail: Mail) -> smtplib.SMTP:
    server = smtplib.SMTP(mail.host, mail.port, timeout=SMTP_LIMIT_S)
    try:
        if mail.starttls:
            server.starttls(context=ssl.create_default_context())
        if mail.username:
            server.login(mail.username, mail.password.get_secret_value())
    except BaseException:
        server.close()
        raise
    return server


def to_message(parcel: Parcel, mail: Mail) -> EmailMessage:
    """Return a mail as text and HTML; line breaks cannot enter a header, because EmailMessage refuses them."""
    message = EmailMessage()
    message["From"] = mail.sender
    message["To"] = parcel.to
    message["Subject"] = visible(parcel.letter.subject)[:200]
    message["Date"] = format_datetime(parcel.at)
    message["Message-ID"] = make_msgid(idstring=parcel.id, domain="jitaccess.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(parcel.letter.as_text(parcel.voice))
    message.add_alternative(parcel.letter.as_html(parcel.voice), subtype="html")
    message["Content-Language"] = parcel.voice.language.tag  # after the content, which clears every Content- header
    return message


def _to_folder(mail: Mail, parcel: Parcel) -> None:
    if mail.transport == "none":
        return
    folder = Path(mail.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # letters name people
    beside = folder / f".{parcel.id}.new"
    beside.write_bytes(bytes(to_message(parcel, mail)))
    os.replace(beside, folder / f"{parcel.id}.eml")


# ---------------------------------------------------------------- chat and SMS


def _apprise() -> Any:
    """Return the library of the [notify] extra, silenced: it may log addresses, which are secrets here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its plug-ins still import imghdr on Python 3.11
            found = import_module("apprise")
            found.Apprise().add("json://localhost")  # loads them
    except ImportError as error:
        raise JitError(
            Kind.CONFIGURATION, "Chat and SMS channels need Apprise: install jitaccess[notify], or remove them."
        ) from error
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return found


@contextmanager
def _gateway(library: Any, url: str) -> Iterator[Post]:
    def post(parcel: Parcel) -> None:
        gateway = library.Apprise()
        gateway.add(url.replace(TO, quote(parcel.to, safe="")))
        if not gateway.notify(body=visible_lines(parcel.letter.as_line())[:MAX_LINE], body_format="text"):
            raise NotDelivered("GatewayRefused")

    yield post


# ---------------------------------------------------------------- webhooks


@contextmanager
def _webhook(given: ChannelSettings, key: bytes, networks: tuple[str, ...]) -> Iterator[Post]:
    url = given.url.get_secret_value()

    def post(parcel: Parcel) -> None:
        webhooks.post(
            url, key, message_id=parcel.id, timestamp=to_epoch_s(parcel.at), body=parcel.machine, networks=networks
        )

    yield post
