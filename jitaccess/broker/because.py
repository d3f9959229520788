"""In which words is it said why a rule does not permit, to the person whom it concerns or to somebody who looks?

Every reason is one told sentence, and a second one about the bound that was not kept: which groups, which hours, which field, how
long. Doors say both in the reader's language. Nothing here decides.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import assert_never

from jitaccess.domain.wording import VALUE_WORDS, ZONE_WORDS
from jitaccess.language import duration_text
from jitaccess.policy.evaluate import AskKind, AskTerm, Code, PolicySet, Reason, Window
from jitaccess.told import told

Call = Callable[[str], str]
"""How a name that the policy gives is called in the reader's language."""

_SENTENCES: Mapping[Code, str] = {
    Code.NOT_IN_GROUP: "None of your groups may ask for this.",
    Code.CREDENTIAL_TOO_WEAK: "This needs a passkey that stays on one device. Sign in with such a passkey.",
    Code.OUTSIDE_HOURS: "This can only be used within its hours.",
    Code.UNKNOWN_INPUT: "A field was given that is not asked for.",
    Code.MISSING_INPUT: "A field is missing.",
    Code.INVALID_INPUT: "A field has a value that is not allowed.",
    Code.CONDITION_FALSE: "The conditions for this are not met.",
    Code.CONDITION_FAILED: "The conditions for this could not be checked, so it is refused.",
    Code.TOO_SHORT: "The time asked for is too short.",
    Code.TOO_LONG: "The time asked for is too long.",
    Code.ACTIVE_LIMIT: "You have as many of these open as is allowed. Hand one back first.",
    Code.DAY_LIMIT: "You had this as often as is allowed within 24 hours.",
    Code.CONFLICT: "You hold or held something that must not be in one hand with this. Somebody else has to do it.",
    Code.START_TOO_FAR: "This cannot begin that late. Choose an earlier start, or none.",
    Code.NOT_EXTENDABLE: "This cannot be extended. Ask for it anew when it has ended.",
    Code.EXTENSION_LIMIT: "This was extended as often as is allowed. Ask for it anew when it has ended.",
    Code.EXTENSION_TOTAL: "Extended by that, it would last longer than is allowed in all. Choose a shorter time.",
    Code.TERMS_CONTRADICT: "The rules for this contradict each other. Tell an administrator.",
    Code.DENIED: "A rule forbids this.",
    Code.NO_RULE: "No rule allows this.",
    Code.UNKNOWN_TARGET: "There is no such system or right.",
    Code.NOT_ACTIVE: "This person's access is switched off.",
    Code.ACCOUNT_NEW: "This account is new. What is of high risk can be asked for later.",
}
_OTHERS_SENTENCES: Mapping[Code, str] = {
    Code.NOT_IN_GROUP: "None of this person's groups may ask for this.",
    Code.CREDENTIAL_TOO_WEAK: "This needs a stronger passkey.",
    Code.ACTIVE_LIMIT: "This person has as many of these open as is allowed.",
    Code.DAY_LIMIT: "This person had this as often as is allowed within 24 hours.",
    Code.CONFLICT: "This person holds or held something that must not be in one hand with this.",
    Code.START_TOO_FAR: "This cannot begin that late.",
}
"""Of somebody else, where the sentence to the person would not be true."""
NO_NAMES: Mapping[str, str] = {}
_DAYS = (told("Mon"), told("Tue"), told("Wed"), told("Thu"), told("Fri"), told("Sat"), told("Sun"))


def sentence(reason: Reason, *, own: bool = True) -> str:
    """Return the sentence of a reason, to the person or, when not `own`, about the person: an English message id that doors translate."""
    return _SENTENCES[reason.code] if own else _OTHERS_SENTENCES.get(reason.code, _SENTENCES[reason.code])


def detail(
    reason: Reason, policies: PolicySet, right: tuple[str, str], call: Call = str, groups: Mapping[str, str] = NO_NAMES
) -> str:
    """Return what the reason is about as a told sentence; empty where the sentence says it all.

    `right`: ids of target and entitlement; `groups`: id -> name, a group without one is said by its id.
    """
    about = reason.about
    match reason.code:
        case Code.NOT_IN_GROUP:
            return told(
                "Groups that may: %(groups)s.", groups=", ".join(groups.get(key, key) for key in about.split(", "))
            )
        case Code.CREDENTIAL_TOO_WEAK:
            return told("Needed: %(kind)s.", kind=VALUE_WORDS.get(("credential", about), about))
        case Code.OUTSIDE_HOURS:
            return hours(policies.windows[about]) if about in policies.windows else about
        case Code.UNKNOWN_INPUT | Code.MISSING_INPUT | Code.INVALID_INPUT:
            return _field(reason, _asked(policies, reason, right), call)
        case Code.CONDITION_FALSE | Code.CONDITION_FAILED:
            rule = policies.rules.get(reason.rule or "")
            return told("The condition: %(text)s", text=rule.when_text) if rule is not None and rule.when_text else ""
        case Code.TOO_SHORT:
            return told("At least %(duration)s.", duration=duration_text(int(about))) if about else ""
        case Code.TOO_LONG | Code.EXTENSION_TOTAL:
            return told("At most %(duration)s.", duration=duration_text(int(about))) if about else ""
        case Code.START_TOO_FAR:
            if about == "0":
                return told("It can only begin at once.")
            return told("At most %(duration)s ahead.", duration=duration_text(int(about)))
        case Code.ACTIVE_LIMIT | Code.DAY_LIMIT | Code.EXTENSION_LIMIT:
            return told("Allowed: %(count)s.", count=about)
        case Code.CONFLICT:
            return _right(policies, about, call)
        case (
            Code.NOT_EXTENDABLE
            | Code.TERMS_CONTRADICT
            | Code.DENIED
            | Code.NO_RULE
            | Code.UNKNOWN_TARGET
            | Code.NOT_ACTIVE
            | Code.ACCOUNT_NEW
        ):
            return ""
    assert_never(reason.code)


def _asked(policies: PolicySet, reason: Reason, right: tuple[str, str]) -> AskTerm | None:
    """Return the field that a reason is about: as the rule asks for it, else as people know it."""
    rule = policies.rules.get(reason.rule or "")
    own = next((term for term in rule.ask if term.name == reason.about), None) if rule is not None else None
    target = policies.targets.get(right[0])
    known = target.entitlements.get(right[1]) if target is not None else None
    return own or (known.asks.get(reason.about) if known is not None else None)


def _field(reason: Reason, term: AskTerm | None, call: Call) -> str:
    if term is None:
        return reason.about
    label = call(term.label)
    if reason.code is not Code.INVALID_INPUT:
        return label
    match term.kind:
        case AskKind.INTEGER:
            return told(
                "%(field)s: a whole number from %(low)s to %(high)s.", field=label, low=term.low, high=term.high
            )
        case AskKind.BOOLEAN:
            return told("%(field)s: yes or no.", field=label)
        case AskKind.STRING if term.pattern is not None:
            return told("%(field)s: text of the form %(pattern)s", field=label, pattern=term.pattern.pattern)
        case AskKind.STRING:
            return told("%(field)s: text of at most %(most)s characters.", field=label, most=term.max_length)
    assert_never(term.kind)


def _right(policies: PolicySet, about: str, call: Call) -> str:
    name, _, entitlement = about.partition("/")
    target = policies.targets.get(name)
    known = target.entitlements.get(entitlement) if target is not None else None
    return f"{call(target.name)}: {call(known.label)}" if target is not None and known is not None else about


def hours(window: Window) -> str:
    """Return when a window is open as a told sentence."""
    days: str = ""
    for first, last in _runs(sorted(window.days)):
        run = _DAYS[first] if first == last else told("%(first)s to %(last)s", first=_DAYS[first], last=_DAYS[last])
        days = told("%(days)s, %(more)s", days=days, more=run) if days else run
    zone = window.zone.key or ""
    return told(
        "Open %(days)s, from %(start)s to %(end)s (%(zone)s).",
        days=days,
        start=_clock(window.start_min),
        end=_clock(window.end_min),
        zone=ZONE_WORDS.get(zone, zone),
    )


def _runs(days: list[int]) -> Iterator[tuple[int, int]]:
    """Give (first, last) of each run of days that follow each other."""
    begun = 0
    for place, day in enumerate(days):
        if place + 1 == len(days) or days[place + 1] != day + 1:
            yield days[begun], day
            begun = place + 1


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
