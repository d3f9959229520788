"""`jitaccess targets`: what the broker's own accounts on targets can do, how to set them up, exchange of secrets, a look at once."""

import click

from jitaccess.app import open_broker
from jitaccess.broker import reconcile as reconciling
from jitaccess.broker.context import Broker
from jitaccess.broker.cut import error_word
from jitaccess.broker.revoke import stuck
from jitaccess.broker.rotate import rotate as exchange
from jitaccess.connectors import load_kinds
from jitaccess.connectors.contract import Unreachable
from jitaccess.domain.wording import word
from jitaccess.errors import JitError, Kind
from jitaccess.policy.evaluate import TargetFacts
from jitaccess.settings import load

ONE = click.argument("target", required=False)


@click.group()
def targets() -> None:
    """Probe, set up, watch: the systems on which credentials are made."""


def _chosen(broker: Broker, target: str | None) -> list[TargetFacts]:
    with broker.read() as view:
        found = [facts for facts in reconciling.outside_targets(view, broker) if target in (None, facts.id)]
    if target is not None and not found:
        raise JitError(Kind.NOT_FOUND, f"The active policy has no target {target} on which anything is made.")
    return found


@targets.command()
@ONE
def probe(target: str | None) -> None:
    """Say what the broker's own account on TARGET (or on each) lacks, or can do beyond need. Exit code 1 when anything is wrong."""
    broker = open_broker(load())
    wrong = 0
    for facts in _chosen(broker, target):
        try:
            found = broker.targets.at(facts.id, facts.connector).probe()
        except Unreachable as error:
            found = (f"unreachable: {error}",)
        except Exception as error:  # a target may fail in any way; the others are probed all the same
            found = (f"failed: {error_word(error)}",)
        click.echo(f"{facts.id}: {'ok' if not found else ''}".rstrip())
        for line in found:
            click.echo(f"  {line}")
            wrong += not line.startswith("note: ")
    broker.targets.close()
    broker.db.close()
    if wrong:
        raise SystemExit(1)


@targets.command()
@click.argument("kind")
@click.option("--target", help="Print it for this target of the active policy; else for an example.")
def setup(kind: str, target: str | None) -> None:
    """Print the exact lines that give the broker its least privileges on a target of KIND. Run them as the target's owner."""
    found = load_kinds().get(kind)
    if found is None:
        raise JitError(Kind.NOT_FOUND, f"There is no kind {kind}. Known are: {', '.join(sorted(load_kinds()))}.")
    config = None
    if target is not None:
        broker = open_broker(load())
        (facts,) = _chosen(broker, target)
        broker.db.close()
        if facts.connector["kind"] != kind:
            raise JitError(Kind.INVALID, f"The target {target} is of the kind {facts.connector['kind']}.")
        config = found.config.model_validate(dict(facts.connector))
    click.echo(found.setup(config), nl=False)


@targets.command()
@click.argument("target")
def rotate(target: str) -> None:
    """Exchange the broker's own secret on TARGET. Safe to repeat after a crash."""
    broker = open_broker(load())
    try:
        click.echo(f"{target}: the secret {exchange(broker, target)} was exchanged")
    finally:
        broker.targets.close()
        broker.db.close()


@targets.command()
@ONE
def reconcile(target: str | None) -> None:
    """Look at TARGET (or at each) now; list what nothing explains. Exit code 1 when there is anything, or a target cannot be seen."""
    broker = open_broker(load())
    wrong = False
    for facts in _chosen(broker, target):
        try:
            looked = reconciling.look(broker, facts)
        except Exception as error:  # a target may fail in any way; the others are looked at all the same
            click.echo(f"{facts.id}: cannot be looked at ({error_word(error)})")
            wrong = True
            continue
        click.echo(f"{facts.id}: {len(looked.findings)} unexplained; compared {', '.join(sorted(looked.coverage))}")
    with broker.read() as view:
        for row in reconciling.open_findings(view):
            wrong = True
            click.echo(f"  {row.target} {row.name!r}: {word(row.finding or row.acted or '')}")
            if row.statement:
                click.echo(f"    run there: {row.statement}")
    broker.targets.close()
    broker.db.close()
    if wrong:
        raise SystemExit(1)


@targets.command("stuck")
def stuck_() -> None:
    """List the credentials that could not be taken away; two administrators can close one with a reason on the page /watch."""
    broker = open_broker(load())
    with broker.read() as view:
        for row in stuck(view):
            click.echo(
                f"{row.id} {row.target} since {row.ended_at:%Y-%m-%d %H:%M} UTC, {row.attempts} tries, {row.last_error}"
            )
    broker.db.close()
