"""How do I want to be told, and does everybody get told? A person's own settings, and for administrators the state of every channel.

What is chosen here changes how and when something is said, never whether it may happen. Addresses of gateways are settings of the broker; a
person only gives the own address on a channel that is meant for persons.
"""

import re
from typing import Any

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import notify
from jitaccess.broker.channels import MAIL, channels
from jitaccess.broker.context import Broker
from jitaccess.errors import JitError, Kind
from jitaccess.identity import preferences
from jitaccess.told import told
from jitaccess.web.doors import current
from jitaccess.web.readers import administrator
from jitaccess.web.speech import ZONE_WORDS

ZONES = tuple(ZONE_WORDS)
"""Offered in the list; any zone of the machine can be typed."""


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages over a broker."""
    pages = Blueprint("notices", __name__)
    ways = channels(broker.settings)

    @pages.get("/settings")
    def show() -> str:
        me = current()
        with broker.read() as view:
            found = preferences.of(view, me.person.id)
        return render_template(
            "settings.html",
            chosen=found,
            zones=ZONES,
            personal=[way.name for way in ways.values() if not way.shared and way.name != MAIL],
            clock=_clock_text,
            saved=request.args.get("saved") == "1",
        )

    @pages.post("/settings")
    def save() -> BaseResponse:
        me = current()
        values = _chosen([way.name for way in ways.values() if not way.shared and way.name != MAIL])
        with broker.begin(me.actor) as tx:
            preferences.change(tx, me.person.id, **values)
        return redirect("/settings?saved=1", 303)

    @pages.get("/notices")
    def states() -> str:
        administrator(broker, "notices")
        with broker.read() as view:
            found = notify.states(view, broker)
        return render_template("notices.html", states=found)

    @pages.post("/notices/<name>/try-again")
    def try_again(name: str) -> BaseResponse:
        me = administrator(broker)
        if name not in ways:
            raise JitError(Kind.NOT_FOUND, told("There is no such channel."))
        with broker.begin(me.actor) as tx:
            notify.try_again(tx, name)
        return redirect("/notices", 303)

    return pages


def _chosen(personal: list[str]) -> dict[str, Any]:
    """Read the posted form; raises INVALID for a time of day that is none."""
    given = request.form
    quiet = given.get("quiet_from", "").strip(), given.get("quiet_to", "").strip()
    addresses = {name: given.get(f"address.{name}", "").strip() for name in personal}
    return {
        "zone": given.get("zone", "").strip()[:64],
        "digest": given.get("digest", ""),
        "digest_minute": _minute(given.get("digest_at", "08:00"), "digest_at"),
        "quiet_from": _minute(quiet[0], "quiet_from") if quiet[0] else None,
        "quiet_to": _minute(quiet[1], "quiet_to") if quiet[1] else None,
        "addresses": {name: address for name, address in addresses.items() if address},
    }


def _minute(text: str, field: str) -> int:
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text)
    if found is None:
        raise JitError(Kind.INVALID, told("A time of day is between 00:00 and 23:59."), field=field)
    return int(found[1]) * 60 + int(found[2])


def _clock_text(minute: int | None) -> str:
    return "" if minute is None else f"{minute // 60:02d}:{minute % 60:02d}"
