"""Is this condition true? The only file that knows CEL (Common Expression Language, Google's C++ implementation).

Variables are declared and typed, so a misspelt name or a wrong type is a load error with its column. TRAP-8: a run-time error comes back
as a *value* of type ERROR whose `.value()` is a truthy string, so only `type() == BOOL and value() is True` is true; everything
else is `ConditionFailed`, which callers treat as DENY. `risk` is not declared: it is not built.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cel_expr_python import cel

from jitaccess.domain.register import PersonView
from jitaccess.told import told

_STRING, _INT, _BOOL = cel.Type.STRING, cel.Type.INT, cel.Type.BOOL
_FIXED = {
    "person.id": _STRING,
    "person.institution": _STRING,
    "person.unit": _STRING,
    "person.manager": _STRING,
    "person.groups": cel.Type.List(_STRING),
    "person.on_hold": _BOOL,
    "target.id": _STRING,
    "target.owner": _STRING,
    "entitlement": _STRING,
    "request.duration_s": _INT,
    "now": cel.Type.TIMESTAMP,
}
_INPUT_TYPES = {"string": _STRING, "integer": _INT, "boolean": _BOOL}
MAX_CHARS = 1000
MAX_LOOPS = 2
"""CEL's own limit ends nesting at 32; loops over loops over a person's groups would still cost time on the request path."""
_LOOP = re.compile(r"\b(?:all|exists|exists_one|map|filter)\b")
_SPOKEN = re.compile(
    r"""
    (?:[bB]?[rR]|[rR][bB])(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*")   # raw: a backslash is a backslash
    | [bB]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")
    | //[^\n]*
    """,
    re.VERBOSE | re.DOTALL,
)
"""String literals and comments (CEL, section "Syntax"): words in them are no loops."""
_TOO_DEEP = re.compile("recursion (?:limit|depth)")
MAX_DEPTH = 32
"""CEL's own."""
_WHERE = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)")


class BadCondition(ValueError):
    """A condition that does not compile; `line` and `column` count from 1 inside the expression."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class ConditionFailed(Exception):
    """A condition that gave no boolean: an error, an unknown, another type."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The values that conditions may speak of."""

    person: PersonView
    target: str
    owner: str
    entitlement: str
    inputs: Mapping[str, str | int | bool]
    duration_s: int
    now: datetime


@lru_cache(maxsize=256)
def _environment(inputs: tuple[tuple[str, str], ...]) -> cel.Env:
    declared = {f"input.{name}": _INPUT_TYPES[kind] for name, kind in inputs}
    return cel.NewEnv(variables={**_FIXED, **declared})


class Condition:
    """One compiled expression over the fixed variables and the inputs of its rule."""

    __slots__ = ("_env", "_expression", "_inputs")

    def __init__(self, text: str, inputs: Mapping[str, str]) -> None:
        """Compile; `inputs` maps input name to string, integer or boolean. Raises BadCondition."""
        self._inputs = tuple(inputs)
        if len(text) > MAX_CHARS:
            raise BadCondition(told("longer than %(max_chars)s characters", max_chars=MAX_CHARS), 1, 1)
        if len(_LOOP.findall(_SPOKEN.sub("''", text))) > MAX_LOOPS:
            raise BadCondition(
                told("more than %(max_loops)s loops (all, exists, map, filter)", max_loops=MAX_LOOPS), 1, 1
            )
        self._env = _environment(tuple(sorted(inputs.items())))
        try:
            self._expression = self._env.compile(text)
        except RuntimeError as error:
            if _TOO_DEEP.search(str(error)):
                raise BadCondition(
                    told("nested more than %(max_depth)s deep: take it apart", max_depth=MAX_DEPTH), 1, 1
                ) from error
            found = _WHERE.search(str(error))
            if found is None:
                raise BadCondition(str(error), 1, 1) from error
            raise BadCondition(found[3], int(found[1]), int(found[2])) from error
        if self._expression.return_type() != _BOOL:
            raise BadCondition("a condition must be true or false", 1, 1)

    def holds(self, at: Circumstances) -> bool:
        """Say whether it is true; raises ConditionFailed for anything that is not a boolean."""
        person = at.person
        values: dict[str, object] = {
            "person.id": person.id,
            "person.institution": person.institution,
            "person.unit": person.unit,
            "person.manager": person.manager_id or "",
            "person.groups": sorted(person.groups),
            "person.on_hold": person.on_hold,
            "target.id": at.target,
            "target.owner": at.owner,
            "entitlement": at.entitlement,
            "request.duration_s": at.duration_s,
            "now": at.now,
        }
        for name in self._inputs:
            if name in at.inputs:
                values[f"input.{name}"] = at.inputs[name]
        try:
            result = self._expression.eval(self._env.Activation(values))
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise ConditionFailed(str(error)) from error
        if result.type() != _BOOL:
            raise ConditionFailed(str(result.value()))
        return result.value() is True
