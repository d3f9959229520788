"""Did the approver read the figure that decides? Above a threshold it has to be given back before anything is signed.

The page asks for it, and the verb checks it again for every door. It is no part of what is signed: it makes people look.
"""

import re
from collections.abc import Mapping
from typing import cast

from jitaccess.domain.approval import ReadBack
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.policy.asking import ENTITLEMENT
from jitaccess.policy.evaluate import Terms
from jitaccess.store.tables import AccessRequest

Value = str | int | bool


def due(request: AccessRequest, terms: Terms) -> Mapping[str, Value]:
    """Return figure -> value that an approver of this request has to give back; empty for most requests."""
    if terms.approval is None:
        return {}
    inputs = cast("dict[str, Value]", request.inputs)
    found = {part.figure: _value(part, request, inputs) for part in terms.approval.read_back}
    return {figure: value for figure, value in found.items() if value is not None}


def _value(part: ReadBack, request: AccessRequest, inputs: Mapping[str, Value]) -> Value | None:
    """Return the value to be given back, or None where it is not above the threshold."""
    value = inputs.get(part.figure)
    if value is None and part.figure == ENTITLEMENT:
        return request.entitlement
    if part.above is not None and isinstance(value, int) and value <= part.above:
        return None
    return value


def is_ticked(value: Value) -> bool:
    """Say whether a figure is ticked rather than typed: everything but numbers."""
    return isinstance(value, bool | str)


def wanted(value: Value) -> str:
    """Return what stands for a value: digits, yes or no, or the text itself."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def problem(request: AccessRequest, terms: Terms, given: Mapping[str, str]) -> Refused | None:
    """Say which figure was not given back as it is, or None. Numbers may be written with spaces, points and commas."""
    for figure, value in due(request, terms).items():
        said = given.get(figure, "").strip()
        same = _digits(said) == _digits(str(value)) if not is_ticked(value) else said == wanted(value)
        if not same:
            return Refused(
                Kind.INVALID,
                "read_back",
                "Read the figure and give it back as it stands: what you gave is not what is asked for.",
                f"read_back.{figure}",
            )
    return None


def _digits(text: str) -> str:
    return re.sub(r"[ .,\u00a0\u202f']", "", text)
