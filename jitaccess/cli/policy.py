"""`jitaccess policy`: check, test, explain, propose, activate, show, schema. Files are read here; the policy room is pure."""

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from jitaccess.app import open_broker
from jitaccess.broker.ask import Ask
from jitaccess.broker.because import detail, sentence
from jitaccess.broker.context import Broker
from jitaccess.broker.explaining import explained_of, typed
from jitaccess.broker.policies import proposal
from jitaccess.broker.policies import propose as propose_set
from jitaccess.broker.roster import person_by_mail
from jitaccess.cli.files import text_of, yaml_texts
from jitaccess.clock import SystemClock
from jitaccess.connectors import config_models
from jitaccess.domain.events import EventType
from jitaccess.domain.register import RegisterView
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import register as register_of
from jitaccess.language import Language, catalogue, named
from jitaccess.policy.decision_tests import REGISTER_FILE, read_register, run_tests, untested_rules
from jitaccess.policy.evaluate import AccessContext, CredentialClass, PolicySet, Reason
from jitaccess.policy.explain import Explanation
from jitaccess.policy.explain import explain as explain_decision
from jitaccess.policy.load import load as load_set
from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from jitaccess.policy.schema import json_schema, parse_duration
from jitaccess.settings import load
from jitaccess.told import called_in, retold

FOLDER = click.argument("folder", default="policies", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group()
def policy() -> None:
    """Check, test, explain and propose policies."""


def _test_register(folder: Path) -> RegisterView | None:
    file = folder / "tests" / REGISTER_FILE
    return read_register(text_of(file)) if file.exists() else None


def _loaded(folder: Path, register: RegisterView | None, language: Language = Language.EN) -> PolicySet:
    try:
        found = load_set(yaml_texts(folder), register=register, connectors=config_models())
    except PolicyErrors as error:
        _print_problems(error.problems, language)
        sys.exit(2)
    _print_problems(found.warnings, language)
    return found


def _print_problems(problems: Iterable[PolicyProblem], language: Language) -> None:
    for problem in problems:
        click.echo(retold(problem.line_told(), catalogue(language)), err=True)


@policy.command()
@FOLDER
@click.option("--language", default="en", type=click.Choice([one.short for one in Language]), help="What to report in.")
def check(folder: Path, language: str) -> None:
    """Load FOLDER and report every problem as file:line:column."""
    found = _loaded(folder, _test_register(folder), named(language) or Language.EN)
    click.echo(f"ok: {len(found.rules)} rules, {len(found.denials)} denials, digest {found.digest}")


@policy.command("test")
@FOLDER
def test_(folder: Path) -> None:
    """Run the decision tests of FOLDER/tests."""
    register = _test_register(folder)
    if register is None:
        raise JitError(Kind.INVALID, f"{folder}/tests/{REGISTER_FILE} is missing: it holds the people of the tests.")
    found = _loaded(folder, register)
    texts = {name: text for name, text in yaml_texts(folder / "tests").items() if name != REGISTER_FILE}
    try:
        results = run_tests(found, texts, register)
    except PolicyErrors as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    for result in results:
        for failure in result.failures:
            click.echo(f"{result.file}: {result.name}: {failure}")
    for name in untested_rules(found, results):
        click.echo(f"no case decides by {name}")
    failed = sum(not result.passed for result in results)
    click.echo(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


@policy.command("explain")
@click.argument("folder", default="policies", type=click.Path(file_okay=False, path_type=Path))
@click.option("--active", is_flag=True, help="The active policy and the people of this instance, instead of FOLDER.")
@click.option(
    "--person", required=True, help="A person of FOLDER/tests/register.yaml; with --active an id or a mail address."
)
@click.option("--target", required=True)
@click.option("--entitlement", required=True)
@click.option("--duration", help="For example 30m; the default without it.")
@click.option("--start", help="When access would begin, for example 2026-11-24T08:00+01:00; at once without it.")
@click.option("--at", help="When it is asked for, in FOLDER alone; now without it.")
@click.option("--input", "inputs", multiple=True, help="name=value, once for each field that is asked for.")
@click.option(
    "--credential",
    type=click.Choice([c.name.lower() for c in CredentialClass]),
    help="Kind of passkey; synced without it, with --active the strongest that the person has.",
)
@click.option("--language", default="en", type=click.Choice([one.short for one in Language]), help="What to answer in.")
def explain_(
    folder: Path,
    active: bool,
    person: str,
    target: str,
    entitlement: str,
    duration: str | None,
    start: str | None,
    at: str | None,
    inputs: tuple[str, ...],
    credential: str | None,
    language: str,
) -> None:
    """Say what PERSON would get, and why: every rule with its first failing term, and who would have to sign."""
    try:
        seconds = parse_duration(duration) if duration else None
    except ValueError as error:
        raise JitError(Kind.INVALID, str(error)) from error
    strength = CredentialClass[credential.upper()] if credential else None
    ask = Ask(target, entitlement, _given(inputs), seconds, "", _instant("--start", start))
    asked_at = _instant("--at", at)
    if not active:
        policies, found = _in_folder(folder, person, ask, strength, asked_at)
        blocked = None
    elif asked_at is not None:
        raise JitError(Kind.INVALID, "--at is for a FOLDER: what people hold on this instance is known of now alone.")
    else:
        policies, found, blocked = _on_instance(person, ask, strength)
    _tell(policies, found, (target, entitlement), language=named(language) or Language.EN, blocked=blocked)


def _given(pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name or name in found:
            raise JitError(Kind.INVALID, f"Write --input as name=value, each name once, not {pair[:80]!r}.")
        found[name] = text
    return found


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise JitError(Kind.INVALID, f"{option} is no time. Write it as 2026-11-24T08:00+01:00.") from error
    if found.tzinfo is None:
        raise JitError(Kind.INVALID, f"{option} needs its distance from UTC. Write it as 2026-11-24T08:00+01:00.")
    return found


def _read(policies: PolicySet, ask: Ask) -> Ask:
    """Return the question with every field as the kind of value that the policy asks for."""
    target = policies.targets.get(ask.target)
    right = target.entitlements.get(ask.entitlement) if target is not None else None
    asks = right.asks if right is not None else {}
    inputs = {name: typed(asks[name], str(text)) if name in asks else text for name, text in ask.inputs.items()}
    return replace(ask, inputs=inputs)


def _in_folder(
    folder: Path, person: str, ask: Ask, credential: CredentialClass | None, at: datetime | None
) -> tuple[PolicySet, Explanation]:
    if not folder.is_dir():
        raise JitError(
            Kind.NOT_FOUND, f"There is no folder {folder}. Name one, or use --active on the machine of an instance."
        )
    register = _test_register(folder)
    if register is None or person not in register.persons:
        raise JitError(Kind.NOT_FOUND, f"There is no {person} in {folder}/tests/{REGISTER_FILE}.")
    policies = _loaded(folder, register)
    ask = _read(policies, ask)
    context = AccessContext(
        person=register.persons[person],
        credential=credential if credential is not None else CredentialClass.SYNCED,
        target=ask.target,
        entitlement=ask.entitlement,
        inputs=ask.inputs,
        duration_s=ask.duration_s,
        now=at if at is not None else SystemClock().now(),
        start=ask.start,
    )
    return policies, explain_decision(policies, context, register)


def _on_instance(
    person: str, ask: Ask, credential: CredentialClass | None
) -> tuple[PolicySet, Explanation, Refused | None]:
    """Explain over the running instance's records; reading them is an event, like on the page."""
    broker = open_broker(load())
    try:
        with broker.read() as view:
            person_id = person_by_mail(view, person)
            if person_id is None:
                raise JitError(Kind.NOT_FOUND, f"Nobody on the register has the id or mail address {person}.")
            ask = _read(broker.policies.active(view), ask)
            found = explained_of(view, broker, person_id, ask, credential=credential)
        with broker.begin(LOCAL) as tx:
            tx.record(EventType.ADMIN_READ, subject={"person": person_id}, body={"what": "explain"})
    finally:
        broker.db.close()
    return found.policies, found.explanation, found.blocked


def _tell(
    policies: PolicySet, found: Explanation, right: tuple[str, str], *, language: Language, blocked: Refused | None
) -> None:
    words = catalogue(language)

    def because(reason: Reason) -> str:
        about = detail(reason, policies, right, lambda name: called_in(name, language.short))
        return " ".join(part for part in (retold(sentence(reason, own=False), words), retold(about, words)) if part)

    click.echo(found.decision.effect.value)
    if blocked is not None:
        click.echo(f"  blocked: {retold(blocked.message, words)}")
    for reason in found.decision.reasons:
        click.echo(f"  {because(reason)}")
    for verdict in found.rules:
        failed = verdict.failure
        click.echo(
            f"  rule {verdict.rule}: {'permits' if failed is None else f'{failed.code.value}: {because(failed)}'}"
        )
    for term, rules in found.origins.items():
        if rules:
            click.echo(f"  {term} from {', '.join(rules)}")
    for step, able in found.signers.items():
        click.echo(f"  {step}: {', '.join(who.name for who in able) or 'nobody'}")
        asked = found.asked[step]
        if asked.drawn is not None:
            rest = "the others may sign too" if asked.others else "only they may sign"
            click.echo(f"    asked: {asked.drawn} of them, drawn by lot; {rest}")
        for later in asked.later:
            names = ", ".join(who.name for who in later.people) or "nobody else"
            click.echo(f"    after {later.after_s // 60} min also: {names}")
    if not found.reachable:
        click.echo("  not enough different people could sign")


@policy.command()
@FOLDER
def propose(folder: Path) -> None:
    """Store FOLDER as a proposal of this instance; it changes nothing until it is signed."""
    broker = open_broker(load())
    with broker.read() as view:
        register = register_of(view)
    found = _loaded(folder, register)
    with broker.begin(LOCAL) as tx:
        row = propose_set(tx, found, by="local")
    _told(broker, row.id)
    broker.db.close()


def _told(broker: Broker, policy_id: str) -> None:
    with broker.read() as view:
        active = broker.policies.active_or_none(view)
        what = proposal(view, active, policy_id, pilot=broker.site.pilot)
    click.echo(f"{what.row.id} {what.change.kind.value}, digest {what.row.digest}")
    for difference in what.change.differences:
        mark = " (widens)" if difference in what.change.widening else ""
        click.echo(f"  {difference}{mark}")
    click.echo(f"needs {what.required} signature(s): sign at {broker.site.origin}/policy")


@policy.command()
@click.argument("policy_id")
def activate(policy_id: str) -> None:
    """Say what activating a proposed or former set takes and where it is signed: activation is a passkey signature."""
    broker = open_broker(load())
    _told(broker, policy_id)
    broker.db.close()


@policy.command()
def show() -> None:
    """Print the active set's normal form as JSON."""
    broker = open_broker(load())
    with broker.read() as view:
        active = broker.policies.active(view)
    click.echo(json.dumps(active.document, indent=1, ensure_ascii=False))
    broker.db.close()


@policy.command("schema")
def schema_() -> None:
    """Print the JSON Schema of policy files, for editors."""
    click.echo(json.dumps(json_schema(config_models()), indent=1))
