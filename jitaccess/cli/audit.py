"""`jitaccess audit`: export the log, verify an export offline, print the newest checkpoint."""

import sys
from pathlib import Path

import click

from jitaccess.app import open_broker
from jitaccess.audit.export import export as export_log
from jitaccess.audit.verify import Report, verify_export
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.proof.errors import ProofError
from jitaccess.settings import load


@click.group()
def audit() -> None:
    """Export and verify the log."""


@audit.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--with-texts", is_flag=True, help="Add names and reasons; without it the export holds no personal text.")
def export(folder: Path, with_texts: bool) -> None:
    """Write the whole log into a new FOLDER of plain files."""
    broker = open_broker(load())
    entries = export_log(
        broker.db,
        broker.keyring,
        broker.checkpoints,
        folder,
        origin=broker.site.log_origin,
        actor=LOCAL,
        with_texts=with_texts,
    )
    broker.db.close()
    click.echo(f"{entries} entries written to {folder}")


@audit.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An older one, kept elsewhere."
)
@click.option("--vkey", multiple=True, help="A verifier key that you trust; without it those of the export are taken.")
def verify(folder: Path, checkpoint: Path | None, vkey: tuple[str, ...]) -> None:
    """Verify an exported FOLDER, offline; exit code 1 and the first bad entry when it does not hold."""
    try:
        report = verify_export(folder, older=checkpoint.read_text() if checkpoint else None, vkeys=vkey)
    except ProofError as error:
        raise JitError(Kind.INVALID, f"This cannot be verified: {error}.") from error
    click.echo(told(report))
    sys.exit(0 if report.ok else 1)


def told(report: Report) -> str:
    """Return a report in sentences."""
    lines = [problem.message for problem in report.problems]
    if report.first_bad is not None:
        lines.append(f"First bad entry: {report.first_bad} (counted from 0).")
    elif report.bad_range is not None:
        lines.append(f"The first bad entry is one of {report.bad_range[0]} to {report.bad_range[1] - 1}.")
    if report.ok:
        kind = (
            "consistent with itself only"
            if report.consistent_with_itself_only
            else "consistent with the older checkpoint"
        )
        lines.append(f"{report.entries} entries, {kind}.")
        if report.keys_from_export:
            lines.append("The keys were taken from the export itself; compare them with those you know (--vkey).")
    return "\n".join(lines)


@audit.command("checkpoint")
def checkpoint_() -> None:
    """Print the newest signed checkpoint: keep it where this host cannot reach it."""
    broker = open_broker(load())
    newest = broker.checkpoints.make()
    broker.db.close()
    if newest is None:
        raise JitError(Kind.NOT_FOUND, "There is no checkpoint yet.")
    click.echo(newest.note, nl=False)
