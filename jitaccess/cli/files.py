"""What stands in this file? Text as operators give it, read so that a mistake is told with its place and never as a traceback."""

from pathlib import Path

from jitaccess.errors import JitError, Kind


def text_of(file: Path) -> str:
    """Return a file's text; raises INVALID with `file:line:column` where it is not UTF-8, and in words where it cannot be read."""
    try:
        data = file.read_bytes()
    except IsADirectoryError as error:
        raise JitError(Kind.INVALID, f"{file} is a folder, not a file: give it another name.") from error
    except OSError as error:
        raise JitError(Kind.INVALID, f"{file} cannot be read: {error.strerror}.") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        message = f"{file}:{line}:{column} is not UTF-8 text: save the file as UTF-8."
        raise JitError(Kind.INVALID, message) from error


def yaml_texts(folder: Path) -> dict[str, str]:
    """Return name -> text of the YAML files of a folder, in order."""
    return {file.name: text_of(file) for file in sorted(folder.glob("*.yaml"))}
