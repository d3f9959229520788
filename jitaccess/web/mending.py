"""Where is a finding of health mended: on which page, or with which command? For whoever is woken at night.

A finding that people mend by page leads to that page, and on it to the place; one that only a terminal on the machine mends gives the
command to paste. The commands are those of docs/how-to/read-the-overview.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Flask

from jitaccess.broker.health import Finding, Found, Level
from jitaccess.domain.events import EventType
from jitaccess.web.speech import lazy_gettext


@dataclass(frozen=True, slots=True)
class Mending:
    """Pages with what is done there, and commands for the machine of the broker."""

    links: tuple[tuple[str, str], ...] = ()
    """(path with its fragment, words)."""
    commands: tuple[str, ...] = ()


_ALARMS: Mapping[str, str] = {
    EventType.ALARM_RAISED.value: lazy_gettext("Alarms in the log"),
    EventType.SEAL_BROKEN.value: lazy_gettext("Changed records in the log"),
    EventType.REGISTER_DIVERGED.value: lazy_gettext("What contradicts the log"),
}
MENDINGS: Mapping[Finding, Mending] = {
    Finding.GRANTING: Mending(
        (("/board#endings", lazy_gettext("Ends of access under way")),),
        ("jitaccess ready", "systemctl status jitaccess"),
    ),
    Finding.CLOCK: Mending((), ("timedatectl status", "jitaccess clock show")),
    Finding.POLICY: Mending((("/policy#sets", lazy_gettext("Sign a policy")),), ("jitaccess policy propose FOLDER",)),
    Finding.SWEEP: Mending(
        (), ("systemctl restart jitaccess-worker", "journalctl --unit jitaccess-worker --since -15min")
    ),
    Finding.REVOCATIONS: Mending((("/board#endings", lazy_gettext("What stands in the way, and try now")),)),
    Finding.STUCK: Mending((("/watch#stuck", lazy_gettext("What stands in the way, and try now")),)),
    Finding.ACCOUNTS: Mending((("/watch#accounts", lazy_gettext("Which they are, and what to run")),)),
    Finding.UNSEEN: Mending(
        (("/watch#systems", lazy_gettext("When each was looked at")),), ("jitaccess targets probe",)
    ),
    Finding.LOG: Mending(
        (),
        (
            "jitaccess audit checkpoint",
            "jitaccess keys list",
            "systemctl restart jitaccess-worker",
            "journalctl --unit jitaccess-worker --since -15min",
        ),
    ),
    Finding.LOG_WHOLE: Mending((), ("jitaccess audit export FOLDER", "jitaccess audit verify FOLDER")),
    Finding.ALARMS: Mending((("/log?type=alarm.raised", _ALARMS["alarm.raised"]),)),
    Finding.RECORDS: Mending((("#records", lazy_gettext("Restore them")),)),
    Finding.NOTICES: Mending((("/notices", lazy_gettext("Which channel, and try again")),)),
    Finding.ADMINISTRATORS: Mending((("/groups/jit-admins", lazy_gettext("Add an administrator")),)),
    Finding.SINGLE_PASSKEY: Mending((("/people?passkeys=one", lazy_gettext("Who they are")),)),
    Finding.NO_PASSKEY: Mending((("/people?passkeys=none", lazy_gettext("Who they are, to make links for")),)),
    Finding.INDISPENSABLE: Mending((("/policy#rules", lazy_gettext("The rules")),)),
    Finding.HOLDS: Mending((("/holds", lazy_gettext("Look, and release")),)),
    Finding.CHANGES: Mending((("#changes", lazy_gettext("Read and sign")),)),
    Finding.RECOVERY: Mending((("#recovery", lazy_gettext("Veto it")),)),
    Finding.PILOT: Mending((), ("jitaccess init --founders founders.json --policies policies",)),
}


def mending(found: Found) -> Mending:
    """Return where a finding is mended; nothing for one that is well."""
    if found.level is Level.WELL:
        return Mending()
    if found.what is Finding.ALARMS:
        return Mending(tuple((f"/log?type={code}", str(_ALARMS[code])) for code in found.codes))
    return MENDINGS[found.what]


def install(app: Flask) -> None:
    """Give templates the way out of a finding."""
    app.add_template_filter(mending, "mending")
