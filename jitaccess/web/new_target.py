"""How does a system come into the policy without a shell? A form that writes its lines, the loader that checks them, and a proposal.

For administrators alone. What is proposed is the active set with one more system and one rule; it changes nothing until it is signed as
every change of the policy is: this page has no way of its own. The answers travel as fields and are written as YAML anew at each step, so
that no text of policy ever comes from a browser.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint, Flask, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import policies, roster
from jitaccess.broker.context import Broker
from jitaccess.connectors import config_models
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import RESERVED, register
from jitaccess.policy.adding import NewRight, NewSystem, Signing, added, settings_of
from jitaccess.policy.change import PolicyChange, classify
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from jitaccess.web.joining import policy_snippet
from jitaccess.web.readers import administrator
from jitaccess.web.speech import lazy_gettext, say

LANGUAGES = ("en", "sq", "sr")
RIGHTS = 3
MAX_FIELD = 2000
SECONDS = {"15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14400, "8h": 28800, "1d": 86400}
SIGNING: Mapping[Signing, str] = {
    Signing.ONE: lazy_gettext("one other person of the group that signs"),
    Signing.TWO: lazy_gettext("two other persons of the group that signs"),
    Signing.OWNER: lazy_gettext("one other person of the owner's institution"),
    Signing.BOTH: lazy_gettext("one of the group that signs, and one of the owner's institution"),
    Signing.NONE: lazy_gettext("nobody: whoever may ask gets in"),
}
FIELDS = (
    "id", *(f"name_{language}" for language in LANGUAGES), "owner", "kind", "audience", "settings", "group", "usual", "longest",
    "signing", "signers",
    *(f"right{number}_{part}" for number in range(1, RIGHTS + 1) for part in ("id", *LANGUAGES, "longest", "risk")),
)  # fmt: skip
USUAL = {"usual": "1h", "longest": "4h", "signing": Signing.ONE.value, "kind": "token", "right1_longest": "8h"}
"""What the form says before anybody said something."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of the answers: the file, and the set that would be proposed or what is wrong."""

    file: str
    text: str
    candidate: PolicySet | None
    change: PolicyChange | None
    problems: Sequence[PolicyProblem]


def install(app: Flask) -> None:
    """Give templates what tells of a mistake in the reader's language."""
    app.add_template_filter(lambda problem: say(problem.line_told()), "told_line")


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages over a broker."""
    pages = Blueprint("new_target", __name__)

    def form(given: Mapping[str, str], checked: Checked | None = None) -> str:
        me = administrator(broker)
        with broker.read() as view:
            groups = sorted(line.id for line in roster.groups(view, broker) if line.id not in RESERVED)
            active = broker.policies.active_or_none(view)
        return render_template(
            "join_new.html",
            given=given,
            checked=checked,
            groups=groups,
            institutions=active.institutions if active is not None else {},
            kinds=sorted(config_models()),
            durations=SECONDS,
            signing=SIGNING,
            tongues=LANGUAGES,
            rights=range(1, RIGHTS + 1),
            snippet=policy_snippet(me.person.institution, groups[0] if groups else "my-group"),
        )

    @pages.get("/new-target")
    def new() -> str:
        """Ask what the system is; changes nothing."""
        me = administrator(broker)
        return form({**USUAL, "owner": me.person.institution})

    @pages.post("/new-target")
    def check() -> str | tuple[str, int]:
        """Write the lines, check them, and show what would be proposed; nothing is kept."""
        administrator(broker)
        given = _given()
        if "change" in request.form:
            return form(given)
        checked = _checked(broker, given)
        if checked.candidate is None:
            return form(given, checked), 422
        return render_template("join_new_check.html", given=given, checked=checked)

    @pages.post("/new-target/propose")
    def propose() -> BaseResponse | tuple[str, int]:
        """Propose the active set with this system; it is in force once it is signed."""
        me = administrator(broker)
        given = _given()
        checked = _checked(broker, given)
        if checked.candidate is None:
            return form(given, checked), 422
        with broker.begin(me.actor) as tx:
            row = policies.propose(tx, checked.candidate, by=me.person.id)
        return redirect(f"/new-target/{row.id}/{given['id']}", 303)

    @pages.get("/new-target/<policy_id>/<target_id>")
    def proposed(policy_id: str, target_id: str) -> str:
        """Show what is left to do: signatures, and then how the system joins."""
        administrator(broker)
        with broker.read() as view:
            row, candidate = policies.candidate(view, policy_id[:64])
            active = broker.policies.active_or_none(view)
            needed = None
            if row.status != "active":
                needed = policies.proposal(view, active, row.id, pilot=broker.site.pilot).required
        if target_id not in candidate.targets:
            raise JitError(Kind.NOT_FOUND, "There is no such system.")
        there = active is not None and target_id in active.targets
        return render_template(
            "join_new_proposed.html", row=row, needed=needed, there=there, facts=candidate.targets[target_id]
        )

    return pages


def _given() -> dict[str, str]:
    """Return the answers, bounded; what was not asked is left out."""
    found = {name: request.form.get(name, "").strip()[: MAX_FIELD + 1] for name in FIELDS}
    if any(len(text) > MAX_FIELD for text in found.values()):
        raise JitError(Kind.TOO_LARGE, "This is too large.")
    return found


def _checked(broker: Broker, given: Mapping[str, str]) -> Checked:
    """Write the file and let the loader say what it makes of it."""
    file, text = "settings", given["settings"]
    try:
        wanted = _system(given)
        file, text = wanted.file, wanted.text()
        with broker.read() as view:
            active, people = broker.policies.active(view), register(view)
        candidate = added(active, file, text, register=people, connectors=config_models())
    except PolicyErrors as error:
        return Checked(file, text, None, None, error.problems)
    return Checked(file, text, candidate, classify(active, candidate), candidate.warnings)


def _system(given: Mapping[str, str]) -> NewSystem:
    """Read the answers; raises PolicyErrors for settings that are no YAML, INVALID for a choice that is none."""
    rights = [
        NewRight(
            given[f"right{number}_id"],
            {language: given[f"right{number}_{language}"] for language in LANGUAGES},
            given[f"right{number}_longest"],
            given[f"right{number}_risk"] or "low",
        )
        for number in range(1, RIGHTS + 1)
        if given[f"right{number}_id"] or given[f"right{number}_en"]
    ]
    if given["signing"] not in {choice.value for choice in Signing}:
        raise JitError(Kind.INVALID, "Choose who signs.", field="signing")
    kind = given["kind"]
    plain = {"kind": kind, "audience": given["audience"].removesuffix("/")}
    connector = plain if kind == "token" else settings_of(kind, given["settings"])
    return NewSystem(
        id=given["id"],
        names={language: given[f"name_{language}"] for language in LANGUAGES},
        owner=given["owner"],
        connector=connector,
        rights=rights,
        group=given["group"],
        usual=given["usual"],
        longest=given["longest"],
        signing=Signing(given["signing"]),
        signers=given["signers"],
    )
