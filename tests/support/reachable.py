"""May a server that does not run as root reach what pytest keeps for root alone?"""

import tempfile
from pathlib import Path


def open_the_way(folder: Path) -> None:
    """Let everybody walk to a folder of the tests; what lies beside the way stays closed."""
    ground = Path(tempfile.gettempdir()).resolve()
    for step in (folder.resolve(), *folder.resolve().parents):
        if step == ground or not step.is_relative_to(ground):
            return
        step.chmod(step.stat().st_mode | 0o011)
