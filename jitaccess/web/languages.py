"""How does somebody choose a language? A plain form on every page.

The choice is kept in this browser's cookie and, for a person who is signed in, beside the person, for mails and other browsers. It changes
how things are shown and nothing else.
"""

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker.context import Broker
from jitaccess.errors import JitError, Kind
from jitaccess.identity import preferences
from jitaccess.language import named
from jitaccess.told import told
from jitaccess.web.doors import current_or_none, own_path
from jitaccess.web.speech import LANGUAGE_COOKIE

KEPT_S = 365 * 24 * 3600


def blueprint(broker: Broker) -> Blueprint:
    """Return the switch over a broker."""
    switch = Blueprint("languages", __name__)

    @switch.post("/language")
    def choose() -> BaseResponse:
        """Remember a choice: in this browser, and for a person who is signed in also for mails and other browsers."""
        wanted = named(request.form.get("language", "")[:16])
        if wanted is None:
            raise JitError(Kind.INVALID, told("There is no such language here."), field="language")
        me = current_or_none()
        if me is not None:
            with broker.begin(me.actor) as tx:
                preferences.change(tx, me.person.id, language=wanted.short)
        answer = redirect(own_path(request.form.get("next", "/")), 303)
        answer.set_cookie(
            LANGUAGE_COOKIE, wanted.short, secure=True, httponly=True, samesite="Lax", path="/", max_age=KEPT_S
        )
        return answer

    return switch
