"""What should have stood there? The model library's words for it as told sentences, so that they can be said in other languages.

English stays exactly what the library says; a type that is not listed here stays English everywhere.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from jitaccess.told import Told, told, told_n

_WANTED: Mapping[str, Callable[[Mapping[str, Any]], Told]] = {
    "string_type": lambda given: told("valid string"),
    "int_type": lambda given: told("valid integer"),
    "bool_type": lambda given: told("valid boolean"),
    "dict_type": lambda given: told("valid dictionary"),
    "list_type": lambda given: told("valid list"),
    "tuple_type": lambda given: told("valid tuple"),
    "model_type": lambda given: told("valid dictionary or instance of %(name)s", name=given.get("class_name", "")),
    "greater_than": lambda given: told("greater than %(limit)s", limit=given["gt"]),
    "greater_than_equal": lambda given: told("greater than or equal to %(limit)s", limit=given["ge"]),
    "less_than": lambda given: told("less than %(limit)s", limit=given["lt"]),
    "less_than_equal": lambda given: told("less than or equal to %(limit)s", limit=given["le"]),
    "string_too_short": lambda given: told_n(
        "string should have at least %(num)s character", "string should have at least %(num)s characters",
        int(given["min_length"]),
    ),
    "string_too_long": lambda given: told_n(
        "string should have at most %(num)s character", "string should have at most %(num)s characters",
        int(given["max_length"]),
    ),
    "string_pattern_mismatch": lambda given: told("string should match pattern '%(pattern)s'", pattern=given["pattern"]),
}  # fmt: skip


_MISFITS: Mapping[str, Told] = {
    "missing": told("Field required"),
    "extra_forbidden": told("Extra inputs are not permitted"),
}


def misfit(name: str, error: ErrorDetails) -> Told:
    """Return what is wrong with a field that somebody sent: the model library's words, told where they are known."""
    return told("%(name)s: %(problem)s.", name=name, problem=_MISFITS.get(error["type"], error["msg"]))


def wanted(kind: str, text: str, given: Mapping[str, Any]) -> str:
    """Return what was expected, told, if that says in English exactly what the library said; else the library's text."""
    made = _WANTED.get(kind)
    found = made(given) if made is not None else None
    return found if found is not None and found == text else text
