"""Does everybody learn of it, in their own language and at their own time, and does a dead channel stop nothing else? (T-22)"""

import json
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes
from email import policy as mail_policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import select

from jitaccess.broker import approve, notify
from jitaccess.broker.channels import Channel as Way
from jitaccess.broker.channels import channels
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.letters import Letter, Voice
from jitaccess.clock import FrozenClock
from jitaccess.domain.values import SYSTEM
from jitaccess.identity import preferences
from jitaccess.language import Language
from jitaccess.outbound.guard import NotDelivered
from jitaccess.settings import Channel, Mail, Notify
from jitaccess.store.tables import AccessRequest, Outbox
from tests.broker.test_asking import limited, more_heads
from tests.support.world import Prepared, World, open_world
from tests.support.worlds import copy_of
from tests.unit.test_outbound import SECRET, Receiver, receiver

__all__ = ["receiver"]


def letters(world: World) -> list[EmailMessage]:
    """Return the mails that left, oldest first."""
    files = sorted(Path(world.folder / "mail").glob("*.eml"))
    return [message_from_bytes(file.read_bytes(), policy=mail_policy.default) for file in files]  # type: ignore[misc]


def to(world: World, key: str) -> list[EmailMessage]:
    return [letter for letter in letters(world) if letter["To"].startswith(f"{key}.")]


def outbox(world: World, channel: str | None = None) -> list[Outbox]:
    with world.broker.read() as view:
        rows = view.all(select(Outbox).order_by(Outbox.id))
    return [row for row in rows if channel is None or row.channel == channel]


def tell(world: World, kind: str, key: str = "arta") -> None:
    """Tell a person of a grant of theirs."""
    grant = world.filed().grant
    assert grant is not None
    with world.broker.begin(SYSTEM) as tx:
        notify.tell(tx, kind, world.person(key), grant.id)


def prefer(world: World, key: str, **values: Any) -> None:
    with world.broker.begin(SYSTEM) as tx:
        preferences.change(tx, world.person(key), **values)


@contextmanager
def opened(prepared: Prepared, folder: Path, **changes: Any) -> Iterator[World]:
    world = open_world(copy_of(prepared, folder), prepared, folder, **changes)
    yield world
    world.close()


def test_a_wanted_approval_says_who_what_how_long_until_when_and_how_risky(world: World) -> None:
    filed = world.filed(entitlement="releaser", reason="July <b>invoice</b>")
    assert notify.send_due(world.broker) >= 1
    (letter,) = to(world, "blerim")
    text = letter.get_body(("plain",)).get_content()  # type: ignore[union-attr] # it has one
    html = letter.get_body(("html",)).get_content()  # type: ignore[union-attr] # it has one
    for part in ("Arta Krasniqi", "TR-000417", "10 min", "Answer until", "UTC+1", "Risk"):
        assert part in text
    assert f"\n{world.broker.site.origin}/approvals/{filed.request.id}\n" in text
    assert "July &lt;b&gt;invoice" in html
    assert "<script" not in html
    assert letter["Content-Language"] == "en"
    assert letter["Auto-Submitted"] == "auto-generated"
    with world.broker.read() as view:
        assert notify.reached(view, world.broker, "approval_wanted", filed.request.id) == notify.Reached(1, 1)


def test_who_is_refused_is_told_by_whom_with_the_figures_and_what_to_do_next(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
        approve.deny(tx, world.broker, blerim, filed.request.id, comment="The order was cancelled.")
    notify.send_due(world.broker)
    text = to(world, "arta")[-1].get_body(("plain",)).get_content()  # type: ignore[union-attr] # it has one
    for part in ("Refused by: Blerim Gashi", "order: TR-000417", "The order was cancelled.", "ask again"):
        assert part in text


def test_access_that_ended_unopened_does_not_ask_to_be_opened(sqlite_world: World) -> None:
    filed = sqlite_world.filed(entitlement="releaser")
    sqlite_world.approved("blerim", filed.request.id)
    sqlite_world.approved("drita", filed.request.id)
    sqlite_world.sweep()
    sqlite_world.advance(timedelta(days=1))
    sqlite_world.sweep()
    notify.send_due(sqlite_world.broker)
    letter = next(one for one in to(sqlite_world, "arta") if "not opened in time" in one["Subject"])
    assert "Open it until" not in letter.get_body(("plain",)).get_content()  # type: ignore[union-attr] # it has one


def test_what_was_decided_meanwhile_is_not_sent(sqlite_world: World) -> None:
    filed = sqlite_world.filed(entitlement="releaser")
    sqlite_world.advance(timedelta(days=1))
    sqlite_world.sweep()
    notify.send_due(sqlite_world.broker)
    assert not [letter for letter in to(sqlite_world, "blerim") if "asks for" in letter["Subject"]]
    with sqlite_world.broker.read() as view:
        found = notify.reached(view, sqlite_world.broker, "approval_wanted", filed.request.id)
    assert found == notify.Reached(0, 1)


def test_quiet_hours_hold_back_what_is_not_urgent(sqlite_world: World) -> None:
    world = sqlite_world  # 10:01 in Belgrade
    prefer(world, "arta", quiet_from=9 * 60, quiet_to=12 * 60)
    tell(world, "grant_ready")
    notify.send_due(world.broker)
    assert not to(world, "arta")
    with world.broker.begin(SYSTEM) as tx:
        place(tx, world.broker, kind=HoldKind.PERSON, subject_id=world.person("arta"), cause="test", by="test")
    notify.send_due(world.broker)
    subjects = {letter["Subject"] for letter in to(world, "arta")}
    assert "Your access is on hold" in subjects
    assert not any("is ready" in subject for subject in subjects)


def test_a_digest_gathers_what_came_since(sqlite_world: World) -> None:
    world = sqlite_world
    prefer(world, "arta", digest="hour", language="en")
    tell(world, "witness_granted")
    tell(world, "witness_granted")
    notify.send_due(world.broker)
    assert not to(world, "arta")
    world.advance(timedelta(hours=1))
    notify.send_due(world.broker)
    (letter,) = to(world, "arta")
    assert letter["Subject"].startswith("2 notices")
    assert notify.send_due(world.broker) == 0


@pytest.mark.covers("R26")
def test_what_only_informs_and_leaves_at_the_same_time_is_one_letter(sqlite_world: World) -> None:
    world = sqlite_world
    prefer(world, "arta", language="en")
    for _ in range(3):
        tell(world, "witness_granted")
    notify.send_due(world.broker)
    (letter,) = to(world, "arta")
    assert letter["Subject"].startswith("3 notices")


def test_a_dead_mail_server_delays_mail_and_nothing_else(
    prepared_sqlite: Prepared, tmp_path: Path, receiver: str, free_port: int
) -> None:
    hook = Channel(kind="webhook", url=f"{receiver}/hook", secret=SECRET)  # type: ignore[arg-type] # pydantic takes text
    mail = Mail(transport="smtp", port=free_port, starttls=False)
    with opened(prepared_sqlite, tmp_path, mail=mail, notify=Notify(channels={"hook": hook})) as world:
        filed = world.filed(entitlement="releaser")
        assert notify.send_due(world.broker) == 1
        ((_, headers, body),) = Receiver.got
        message = json.loads(body)
        assert message["type"] == "approval_wanted"
        assert message["data"]["request"] == filed.request.id
        assert "reason" not in message["data"]
        (row,) = outbox(world, "mail")
        assert (row.sent_at, row.attempts, row.last_error) == (None, 1, "ConnectionRefusedError")
        (sent,) = outbox(world, "hook")
        assert headers["webhook-id"] == sent.id
        with world.broker.read() as view:
            states = {state.name: state for state in notify.states(view, world.broker)}
            assert notify.reached(view, world.broker, "approval_wanted", filed.request.id) == notify.Reached(0, 1)
        assert (states["mail"].failing, states["mail"].last_error) == (1, "ConnectionRefusedError")
        assert (states["hook"].sent_today, states["hook"].failing) == (1, 0)
        assert notify.send_due(world.broker) == 0, "the back-off holds"
        world.approved("blerim", filed.request.id)
        assert world.approved("drita", filed.request.id).grant is not None, "nothing waits for a notice"


def test_a_channel_gives_up_and_is_tried_again_by_hand(
    prepared_sqlite: Prepared, tmp_path: Path, free_port: int
) -> None:
    with opened(prepared_sqlite, tmp_path, mail=Mail(transport="smtp", port=free_port, starttls=False)) as world:
        tell(world, "grant_ready")
        for _ in range(notify.GIVE_UP_AFTER):
            notify.send_due(world.broker)
            world.advance(timedelta(hours=2))
        (row,) = [row for row in outbox(world, "mail") if row.kind == "grant_ready"]
        assert row.attempts == notify.GIVE_UP_AFTER
        with world.broker.begin(SYSTEM) as tx:
            notify.try_again(tx, "mail")
        (row,) = [row for row in outbox(world, "mail") if row.kind == "grant_ready"]
        assert row.attempts == 0


def test_a_hanging_sender_loses_its_claim_and_nothing_is_lost(sqlite_world: World) -> None:
    world = sqlite_world
    tell(world, "grant_ready")
    notify.divide(world.broker, channels(world.broker.settings))
    assert notify._claim(world.broker, "mail")
    assert notify.send_due(world.broker) == 0
    world.advance(notify.CLAIM + timedelta(seconds=1))
    assert notify.send_due(world.broker) == 1


def way_that_fails_for(address: str, error: Exception, sent: list[str]) -> Way:
    """Return mail that reaches everybody but one address."""

    @contextmanager
    def opened() -> Iterator[Any]:
        def post(parcel: Any) -> None:
            if parcel.to.startswith(address):
                raise error
            sent.append(parcel.to)

        yield post

    return Way("mail", False, frozenset(), Language.EN, opened)


@pytest.mark.covers("T-22")
@pytest.mark.parametrize(
    "error", [smtplib.SMTPRecipientsRefused({}), ValueError("no address"), NotDelivered("GatewayRefused")]
)
def test_addresses_that_fail_keep_nobody_else_waiting_for_long(sqlite_world: World, error: Exception) -> None:
    world, sent = sqlite_world, []
    way = way_that_fails_for("milan", error, sent)
    with world.broker.begin(SYSTEM) as tx:
        for number in range(4):
            notify.tell(tx, "passkey_added", world.person("milan"), f"k{number}")
        notify.tell(tx, "passkey_added", world.person("drita"), "k")
    for _ in range(2):
        notify.divide(world.broker, {"mail": way})
        notify.send(world.broker, way)
        world.advance(timedelta(seconds=notify.LEFT_S))
    assert [to.split(".")[0] for to in sent] == ["drita"]
    (row,) = [row for row in outbox(world, "mail") if row.person_id == world.person("drita")]
    assert row.attempts == 1, "what was not tried spends no attempt"


def test_a_slow_channel_gives_back_what_it_cannot_settle_within_its_claim(sqlite_world: World) -> None:
    world, sent = sqlite_world, []

    @contextmanager
    def opened() -> Iterator[Any]:
        def post(parcel: Any) -> None:
            world.advance(timedelta(minutes=2))
            sent.append(parcel.id)

        yield post

    way = Way("mail", False, frozenset(), Language.EN, opened)
    with world.broker.begin(SYSTEM) as tx:
        for number in range(4):
            notify.tell(tx, "passkey_added", world.person("milan"), f"k{number}")
    notify.divide(world.broker, {"mail": way})
    assert notify.send(world.broker, way) == 2
    world.advance(timedelta(seconds=notify.LEFT_S))
    assert notify.send(world.broker, way) == 2
    assert len(set(sent)) == 4, "nobody is told twice"


@pytest.mark.covers("R26")
def test_what_is_kept_back_leaves_when_it_may_and_in_time_to_be_answered(sqlite_world: World) -> None:
    world = sqlite_world
    world.filed(entitlement="releaser")
    more_heads(world, "milan")
    limited(world, messages_per_approver_hour=1)
    other = {"order": "TR-000431", "amount_cents": 5}
    request = world.filed(entitlement="releaser", inputs=other).request
    notify.send_due(world.broker)
    assert len(to(world, "blerim")) == 1
    world.advance((request.approve_by - request.created_at) / 2)
    notify.send_due(world.broker)
    assert "TR-000431" in str(to(world, "blerim")[-1])


@pytest.mark.parametrize("digest", ["hour", "day"])
def test_a_digest_does_not_hold_back_access_that_must_be_opened_before(sqlite_world: World, digest: str) -> None:
    world = sqlite_world
    prefer(world, "arta", digest=digest, digest_minute=9 * 60, language="en")
    grant = world.released().grant
    assert grant is not None
    assert grant.activate_by is not None
    notify.send_due(world.broker)
    assert [letter["Subject"] for letter in to(world, "arta") if "Access is ready" in letter["Subject"]]


def test_what_leaves_by_day_is_not_gathered_because_of_quiet_hours_at_night(sqlite_world: World) -> None:
    world = sqlite_world  # 10:01 in Belgrade
    prefer(world, "blerim", quiet_from=22 * 60, quiet_to=6 * 60, language="en")
    world.filed(entitlement="releaser")
    world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    notify.send_due(world.broker)
    assert len(to(world, "blerim")) == 2


def test_a_digest_says_of_each_all_that_its_letter_says(sqlite_world: World) -> None:
    world = sqlite_world
    prefer(world, "blerim", quiet_from=9 * 60, quiet_to=10 * 60 + 15, language="en")
    requests = [
        world.filed(entitlement="releaser", inputs={"order": order, "amount_cents": 5}).request
        for order in ("TR-000430", "TR-000431")
    ]
    world.advance(timedelta(minutes=15))
    notify.send_due(world.broker)
    (letter,) = to(world, "blerim")
    for part in ("plain", "html"):
        text = letter.get_body((part,)).get_content()  # type: ignore[union-attr] # it has one
        for told in (
            "TR-000430",
            "TR-000431",
            "Answer until",
            "Risk",
            *(f"/approvals/{found.id}" for found in requests),
        ):
            assert told in text


def test_a_reason_of_several_lines_stays_readable_and_cannot_pass_for_a_fact(sqlite_world: World) -> None:
    world = sqlite_world
    world.filed(entitlement="releaser", reason="for the audit\nRisk: none")
    notify.send_due(world.broker)
    (letter,) = to(world, "blerim")
    text = letter.get_body(("plain",)).get_content()  # type: ignore[union-attr] # it has one
    assert "Why: for the audit\n    Risk: none\n" in text


class Mailbox:
    """A real mail server's end of the line; refuses one address."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep a mail, unless it is for the address that is refused."""
        if any(address.startswith("blerim") for address in envelope.rcpt_tos):
            return "550 no such mailbox"
        self.got.append(envelope)
        return "250 OK"


def test_mail_goes_over_smtp_and_one_bad_address_stops_no_other(
    prepared_sqlite: Prepared, tmp_path: Path, free_port: int
) -> None:
    mailbox = Mailbox()
    server = Controller(mailbox, hostname="127.0.0.1", port=free_port)
    server.start()
    try:
        with opened(prepared_sqlite, tmp_path, mail=Mail(transport="smtp", port=free_port, starttls=False)) as world:
            world.filed(entitlement="releaser")
            tell(world, "grant_ready")
            notify.send_due(world.broker)
            (envelope,) = mailbox.got
            assert envelope.rcpt_tos[0].startswith("arta")
            assert b"multipart/alternative" in envelope.content
            (row,) = [row for row in outbox(world, "mail") if row.kind == "approval_wanted"]
            assert row.sent_at is None
            assert row.last_error == "SMTPDataError"
    finally:
        server.stop()


def test_shared_chat_is_told_once_and_personal_sms_goes_to_who_gave_a_number(
    prepared_sqlite: Prepared, tmp_path: Path, receiver: str
) -> None:
    place_ = receiver.removeprefix("http://")
    ways = Notify(
        channels={
            "chat": Channel(url=f"json://{place_}/chat"),  # type: ignore[arg-type] # pydantic takes text
            "sms": Channel(url=f"json://{place_}/sms/{{to}}"),  # type: ignore[arg-type] # pydantic takes text
        }
    )
    Receiver.answer = (200, "")
    with opened(prepared_sqlite, tmp_path, notify=ways) as world:
        prefer(world, "arta", addresses={"sms": "+38344000000"})
        tell(world, "grant_ready")
        filed = world.filed(entitlement="releaser")
        notify.send_due(world.broker)
        told = {path: json.loads(body)["message"] for path, _, body in Receiver.got}
        assert set(told) == {"/chat", "/sms/+38344000000"}
        assert "Arta Krasniqi asks for" in told["/chat"]
        assert told["/chat"].endswith(f"/approvals/{filed.request.id}")
        assert "Answer until: " in told["/chat"]
        assert "Risk: " in told["/chat"]
        assert "Access is ready" in told["/sms/+38344000000"]
        assert "quarterly payments" not in "".join(told.values()), "no reason on a small screen"
        Receiver.answer = (500, "")
        tell(world, "grant_ready")
        notify.send_due(world.broker)
        (failed,) = [row for row in outbox(world, "sms") if row.sent_at is None]
        assert failed.last_error == "GatewayRefused"


@pytest.mark.parametrize("language", list(Language))
def test_every_letter_is_whole_in_every_language(sqlite_world: World, language: Language) -> None:
    world = sqlite_world
    prefer(world, "blerim", language=language.short)
    prefer(world, "arta", language=language.short)
    world.filed(entitlement="releaser")
    notify.send_due(world.broker)
    (letter,) = to(world, "blerim")
    assert letter["Content-Language"] == language.tag
    html = letter.get_body(("html",)).get_content()  # type: ignore[union-attr] # it has one
    assert f'<html lang="{language.tag}">' in html
    assert "%(" not in html
    assert (
        Letter("a", (("b", "c"),), "d", "e", "f")
        .as_text(Voice(language, "UTC"))
        .startswith("a\n\nb: c\n\nf\n\ne:\nd\n")
    )


def test_preferences_are_checked(sqlite_world: World, clock: FrozenClock) -> None:
    for wrong in (
        {"language": "klingon"}, {"zone": "Europe/Pristina"}, {"digest": "week"}, {"quiet_from": 60},
        {"digest_minute": 1440}, {"addresses": {"sms": "a/b"}}, {"addresses": {"sms": "x" * 65}},
    ):  # fmt: skip
        with pytest.raises(Exception, match=r"There is no|Notices|Quiet|time of day|address"):
            prefer(sqlite_world, "arta", **wrong)
