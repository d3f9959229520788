"""`jitaccess policy`: check, test, explain, propose, activate, show, schema. Files are read here; the policy room is pure."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from jitaccess.app import open_broker
from jitaccess.broker.context import Broker
from jitaccess.broker.policies import proposal
from jitaccess.broker.policies import propose as propose_set
from jitaccess.broker.request import sentence
from jitaccess.cli.files import text_of, yaml_texts
from jitaccess.clock import SystemClock
from jitaccess.connectors import config_models
from jitaccess.domain.register import RegisterView
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import register as register_of
from jitaccess.language import Language, catalogue, named
from jitaccess.policy.decision_tests import REGISTER_FILE, read_register, run_tests, untested_rules
from jitaccess.policy.evaluate import AccessContext, CredentialClass, PolicySet
from jitaccess.policy.explain import explain as explain_decision
from jitaccess.policy.load import load as load_set
from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from jitaccess.policy.schema import json_schema, parse_duration
from jitaccess.settings import load
from jitaccess.told import retold

WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
"""What an input on the command line is taken as a number for; signed integers stay below 2^53 anyway."""
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
@FOLDER
@click.option("--person", required=True, help="A person of FOLDER/tests/register.yaml.")
@click.option("--target", required=True)
@click.option("--entitlement", required=True)
@click.option("--duration", help="For example 30m; the default without it.")
@click.option("--input", "inputs", multiple=True, help="name=value; whole numbers are taken as such.")
@click.option("--credential", default="synced", type=click.Choice([c.name.lower() for c in CredentialClass]))
def explain_(
    folder: Path,
    person: str,
    target: str,
    entitlement: str,
    duration: str | None,
    inputs: tuple[str, ...],
    credential: str,
) -> None:
    """Say what PERSON would get now, and why: every rule with its first failing term, and who would have to sign."""
    register = _test_register(folder)
    if register is None or person not in register.persons:
        raise JitError(Kind.NOT_FOUND, f"There is no {person} in {folder}/tests/{REGISTER_FILE}.")
    given: dict[str, str | int | bool] = {}
    for pair in inputs:
        name, _, text = pair.partition("=")
        given[name] = int(text) if WHOLE_NUMBER.fullmatch(text) else text
    try:
        seconds = parse_duration(duration) if duration else None
    except ValueError as error:
        raise JitError(Kind.INVALID, str(error)) from error
    context = AccessContext(
        person=register.persons[person],
        credential=CredentialClass[credential.upper()],
        target=target,
        entitlement=entitlement,
        inputs=given,
        duration_s=seconds,
        now=SystemClock().now(),
    )
    found = explain_decision(_loaded(folder, register), context, register)
    click.echo(found.decision.effect.value)
    for reason in found.decision.reasons:
        click.echo(f"  {sentence(reason)} {reason.about}".rstrip())
    for verdict in found.rules:
        failure = (
            "permits" if verdict.failure is None else f"{verdict.failure.code.value} {verdict.failure.about}".rstrip()
        )
        click.echo(f"  rule {verdict.rule}: {failure}")
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
