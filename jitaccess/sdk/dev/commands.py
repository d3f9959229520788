"""`jitaccess dev`: test tokens of a developer's own issuer, and a check of the developer's own application."""

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from jitaccess.sdk.dev.forgeries import parts
from jitaccess.sdk.dev.issuer import DevIssuer, NoIssuer
from jitaccess.sdk.dev.probes import Finding, NoAnswer, Trial, Verdict, run
from jitaccess.sdk.dev.serving import serving
from jitaccess.sdk.door import AUTHORIZATION, PROXIED
from jitaccess.sdk.tokens import Inputs
from jitaccess.sdk.wall import wall_time

PORT = 8765
MARKS = {Verdict.HELD: "ok      ", Verdict.LET_IN: "LET IN  ", Verdict.BROKE: "BREAKS  ", Verdict.SHUT: "SHUT    "}
folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".jitaccess-dev"),
    show_default=True,
    help="Where the test key lives.",
)
port_option = click.option(
    "--port",
    type=click.IntRange(1024, 65535),
    default=PORT,
    show_default=True,
    help="The port of this machine in the issuer's name.",
)


@click.group()
def dev() -> None:
    """Try your application without a broker: an issuer of your own, on this machine, that no broker trusts."""


def _opened(folder: Path, port: int) -> DevIssuer:
    try:
        return DevIssuer.open(folder, port)
    except NoIssuer as error:
        raise click.ClickException(str(error)) from error


def _inputs(given: Sequence[str]) -> Inputs:
    """Read name=value; a value that is a whole number, true or false in JSON becomes one."""
    found: dict[str, str | int | bool] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"write name=value, not {text!r}", param_hint="--input")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        found[name] = read if isinstance(read, int) else value
    return found


@dev.command()
@click.option("--audience", required=True, help="Your application's name in tokens, as in the policy.")
@click.option("--target", default="target", show_default=True, help="The target's id.")
@click.option("--entitlement", default="viewer", show_default=True, help="What was approved.")
@click.option("--input", "inputs", multiple=True, help="name=value, as approved; may be given more than once.")
@click.option("--life", default=300, show_default=True, type=click.IntRange(1, 900), help="Seconds until it ends.")
@folder_option
@port_option
def token(
    audience: str, target: str, entitlement: str, inputs: tuple[str, ...], life: int, folder: Path, port: int
) -> None:
    """Print a good test token; `jitaccess dev serve` gives out the key and the status list to it."""
    issuer = _opened(folder, port)
    claims = issuer.claims(
        audience=audience,
        target=target,
        entitlement=entitlement,
        now=wall_time(),
        inputs=_inputs(inputs),
        life_s=life,
    )
    click.echo(issuer.mint(claims))
    click.echo(f"for issuer {issuer.issuer}, a key that no broker trusts; ends in {life} s", err=True)


@dev.command()
@click.argument("text", metavar="TOKEN")
@folder_option
@port_option
def end(text: str, folder: Path, port: int) -> None:
    """End a test TOKEN early: its status list says so from now on."""
    issuer = _opened(folder, port)
    try:
        issuer.end(parts(text)[1])
    except (ValueError, NoIssuer) as error:
        raise click.ClickException("This is no token of this issuer.") from error
    click.echo("ended")


@dev.command()
@folder_option
@port_option
def jwks(folder: Path, port: int) -> None:
    """Print the test issuer's public keys (JWK Set), for an application that reads them from a file."""
    click.echo(json.dumps(_opened(folder, port).jwks(), indent=2))


@dev.command("status-list")
@folder_option
@port_option
def status_list(folder: Path, port: int) -> None:
    """Print the test issuer's status list, signed; good for a minute."""
    click.echo(_opened(folder, port).status_list(wall_time()))


@dev.command()
@folder_option
@port_option
def serve(folder: Path, port: int) -> None:
    """Serve keys and status list of the test issuer on this machine until Ctrl-C."""
    issuer = _opened(folder, port)
    try:
        with serving(issuer):
            click.echo(f"issuer    {issuer.issuer}\nkeys      {issuer.metadata()['jwks_uri']}")
            click.echo(f"statuses  {issuer.list_uri}\nNo broker trusts this issuer. Ctrl-C ends it.")
            threading.Event().wait()
    except NoIssuer as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("ended")


@dev.command()
@click.argument("url")
@click.option("--audience", required=True, help="Your application's name in tokens, as in the policy.")
@click.option("--target", default="target", show_default=True, help="The target's id.")
@click.option("--entitlement", help="What this address is for; then a token for something else must be refused.")
@click.option("--input", "inputs", multiple=True, help="name=value, as approved; may be given more than once.")
@click.option("--method", default="GET", show_default=True, help="The request's method; good tokens really act.")
@click.option("--proxied", is_flag=True, help="The token stands in X-Jit-Token, as behind nginx or Caddy.")
@click.option("--status/--no-status", default=True, help="Whether the application looks at the status list.")
@click.option(
    "--within",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 900),
    help="Seconds after which an end must be noticed.",
)
@folder_option
@port_option
def check(
    url: str,
    audience: str,
    target: str,
    entitlement: str | None,
    inputs: tuple[str, ...],
    method: str,
    proxied: bool,
    status: bool,
    within: float,
    folder: Path,
    port: int,
) -> None:
    """Send every known bad token to URL, a page of your application, and tell which it lets in; exit code 1 when one is."""
    issuer = _opened(folder, port)
    trial = Trial(
        issuer,
        url,
        audience,
        target=target,
        entitlement=entitlement or "viewer",
        other_entitlement=entitlement is not None,
        inputs=_inputs(inputs),
        method=method.upper(),
        token_from=PROXIED if proxied else AUTHORIZATION,
        status=status and not proxied,
        within_s=within,
    )
    click.echo(f"{trial.method} {url}\nissuer {issuer.issuer}, audience {audience}, token in {trial.token_from}\n")
    found: list[Finding] = []
    try:
        with serving(issuer):
            for finding in run(trial):
                found.append(finding)
                click.echo(line(finding))
    except (NoAnswer, NoIssuer) as error:
        raise click.ClickException(str(error)) from error
    click.echo(summary(found, status=trial.status))
    sys.exit(0 if all(finding.verdict is Verdict.HELD for finding in found) else 1)


def line(finding: Finding) -> str:
    """Return one finding as a line, and what to do where there is something."""
    said = f"{MARKS[finding.verdict]}{finding.what}: {finding.seen}"
    return f"{said}\n        {finding.advice}" if finding.advice else said


def summary(found: Sequence[Finding], *, status: bool) -> str:
    """Return the last words."""
    bad = sum(finding.verdict is not Verdict.HELD for finding in found)
    if any(finding.verdict is Verdict.SHUT for finding in found):
        words = "Nothing is proven: the good token is refused."
    elif bad:
        words = f"{bad} of {len(found)} did not hold."
    else:
        words = f"All {len(found)} held."
    left = "" if status else " Ends were not tried: without a status list they are noticed when the token ends."
    return f"\n{words}{left}"
