"""How is what a policy names called in the reader's language? Systems, rights, inputs, steps, institutions, and amounts of money.

A name is shown; what is signed is the key, which stands beside it wherever somebody signs. The names are those of the active policy.
"""

from collections.abc import Mapping
from typing import cast

from flask import Flask, g

from jitaccess.broker.context import Broker
from jitaccess.errors import JitError
from jitaccess.identity import people
from jitaccess.language import money_text
from jitaccess.policy.evaluate import EntitlementFacts, PolicySet
from jitaccess.proof.canonical import JsonValue
from jitaccess.told import Called, called_in
from jitaccess.web import display
from jitaccess.web.speech import language_now, say_meaning


def here(name: object) -> object:
    """Return a name in the language of this request; anything else as it is."""
    return called_in(name, language_now().short) if isinstance(name, Called) else name


def install(app: Flask, broker: Broker) -> None:
    """Let templates write every name in the reader's language, and give them what only the policy knows."""
    # Whatever a template writes passes here: no page can forget it.
    app.jinja_env.finalize = here
    app.add_template_filter(here, "called")
    app.add_template_filter(lambda text: display.visible(cast(str, here(text))), "visible")
    app.add_template_global(lambda target, entitlement: _right(_policy(broker), target, entitlement), "right_of")
    app.add_template_global(lambda key: _institution(_policy(broker), key), "institution_name")
    app.add_template_global(money, "money")
    app.add_template_global(figure_name, "figure_name")
    app.add_template_global(lambda key: _groups(broker).get(key, key), "group_name")

    def term_meaning(name: str, text: str, right: EntitlementFacts | None) -> str:
        if name.rpartition(".")[2] in OF_GROUPS:
            return _groups_meaning(_groups(broker), name, text)
        return _meaning(_policy(broker), name, text, right)

    app.add_template_global(term_meaning, "term_meaning")


def _policy(broker: Broker) -> PolicySet | None:
    """Return the active policy, read once a request; none where it cannot be read: then keys are shown."""
    if "policy_shown" not in g:
        try:
            with broker.read() as view:
                g.policy_shown = broker.policies.active_or_none(view)
        except JitError:
            g.policy_shown = None
    return cast("PolicySet | None", g.policy_shown)


def _groups(broker: Broker) -> Mapping[str, str]:
    """Return group id -> name, read once a request; nothing where it cannot be read: then ids are shown."""
    if "groups_shown" not in g:
        try:
            with broker.read() as view:
                g.groups_shown = people.group_names(view)
        except JitError:
            g.groups_shown = {}
    return cast("Mapping[str, str]", g.groups_shown)


def _right(policy: PolicySet | None, target: str, entitlement: str) -> EntitlementFacts | None:
    found = policy.targets.get(target) if policy is not None else None
    return found.entitlements.get(entitlement) if found is not None else None


def _institution(policy: PolicySet | None, key: str) -> str:
    return policy.institutions.get(key, key) if policy is not None else key


def money(right: EntitlementFacts | None, name: str, value: JsonValue) -> str:
    """Return an input's value as money where the policy says that it is some, else nothing."""
    term = right.asks.get(name) if right is not None else None
    if term is None or term.currency is None or isinstance(value, bool) or not isinstance(value, int):
        return ""
    return money_text(value, term.currency, language_now())


def figure_name(name: str, right: EntitlementFacts | None) -> str:
    """Return what a figure that is read back is called: an input's label, or the words for the right itself."""
    term = right.asks.get(name) if right is not None else None
    return str(here(term.label)) if term is not None else say_meaning("read_back.figure", name) or name


OF_GROUPS = frozenset({"groups", "group", "veto", "filed", "granted", "ended", "held"})
"""Terms that list groups, some of them beside words of the policy's own."""


def _groups_meaning(groups: Mapping[str, str], name: str, text: str) -> str:
    """Return how the groups of a signed term are called; nothing where that is what is signed already."""
    keys = text.split(", ")
    said = [say_meaning(name, key) or display.visible(groups.get(key, key)) for key in keys]
    return "" if said == keys else ", ".join(said)


def _meaning(policy: PolicySet | None, name: str, text: str, right: EntitlementFacts | None) -> str:
    """Return what a signed term means in words; nothing where the words would be what is signed already."""
    names: Mapping[str, str] = {}
    match name.rpartition(".")[2]:
        case "name" | "after" | "step" if right is not None:
            names = right.steps
        case "institution" if policy is not None:
            names = policy.institutions
        case "target" if policy is not None:
            names = {key: found.name for key, found in policy.targets.items()}
        case "figure" if right is not None:
            names = {key: found.label for key, found in right.asks.items()}
    said = str(here(names[text])) if text in names else say_meaning(name, text)
    return "" if said == text else said
