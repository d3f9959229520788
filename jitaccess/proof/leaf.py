"""What does one entry of the log say? The event leaf, version 1.

A leaf is the RFC 8785 form of one object with exactly these keys:
`v` 1 · `id` the event's id · `at_us` microseconds since the epoch, UTC · `type` a name of the closed list · `ev` that type's version ·
`actor` {kind, person, account, client} · `subject` names -> ids · `body` codes, counts, ids and digests · `texts` names -> base64url
SHA-256(salt || text) of personal text kept elsewhere · `rows` [[table, key, version, digest], ...] of the sealed rows it wrote.
No personal text is ever in a leaf, so that retention can delete text while every proof holds (R72).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jitaccess.proof.canonical import JsonValue, canonical, parse_canonical
from jitaccess.proof.errors import ProofError

LEAF_VERSION = 1
_ACTOR_KEYS = frozenset({"kind", "person", "account", "client"})
_ACTOR_KINDS = frozenset({"person", "system", "client", "local"})


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry."""

    id: str
    at_us: int
    type: str
    ev: int
    actor: Mapping[str, str | None]
    subject: Mapping[str, str]
    body: Mapping[str, JsonValue]
    texts: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[tuple[str, str, int, str], ...] = ()

    def to_bytes(self) -> bytes:
        """Return the exact bytes of the leaf."""
        return canonical(
            {
                "v": LEAF_VERSION,
                "id": self.id,
                "at_us": self.at_us,
                "type": self.type,
                "ev": self.ev,
                "actor": dict(self.actor),
                "subject": dict(self.subject),
                "body": dict(self.body),
                "texts": dict(self.texts),
                "rows": [list(row) for row in self.rows],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "Leaf":
        """Read a leaf strictly; raises ProofError."""
        value = parse_canonical(data)
        wanted = {"v", "id", "at_us", "type", "ev", "actor", "subject", "body", "texts", "rows"}
        if not isinstance(value, dict) or set(value) != wanted or _whole(value, "v") != LEAF_VERSION:
            raise ProofError("not_a_leaf", "not a leaf of version 1")
        actor, subject, texts = _text_map(value, "actor"), _text_map(value, "subject"), _text_map(value, "texts")
        if set(actor) != _ACTOR_KEYS or actor["kind"] not in _ACTOR_KINDS:
            raise ProofError("not_a_leaf", "not an actor", "actor")
        body, rows = value["body"], value["rows"]
        if not isinstance(body, dict) or not isinstance(rows, list):
            raise ProofError("not_a_leaf", "body or rows have the wrong type", "body")
        return cls(
            id=_text(value, "id"),
            at_us=_whole(value, "at_us"),
            type=_text(value, "type"),
            ev=_whole(value, "ev"),
            actor=actor,
            subject={name: text for name, text in subject.items() if text is not None},
            body=body,
            texts={name: text for name, text in texts.items() if text is not None},
            rows=tuple(_row(row) for row in rows),
        )


def _text(value: Mapping[str, JsonValue], name: str) -> str:
    found = value[name]
    if not isinstance(found, str):
        raise ProofError("not_a_leaf", f"{name} is not text", name)
    return found


def _whole(value: Mapping[str, JsonValue], name: str) -> int:
    found = value[name]
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ProofError("not_a_leaf", f"{name} is not a whole number", name)
    return found


def _text_map(value: Mapping[str, JsonValue], name: str) -> dict[str, str | None]:
    found = value[name]
    if not isinstance(found, dict):
        raise ProofError("not_a_leaf", f"{name} is not an object", name)
    checked: dict[str, str | None] = {}
    for key, text in found.items():
        if not (isinstance(text, str) or (text is None and name == "actor")):
            raise ProofError("not_a_leaf", f"{name}.{key} is not text", f"{name}.{key}")
        checked[key] = text
    return checked


def _row(value: JsonValue) -> tuple[str, str, int, str]:
    match value:
        case [str(table), str(key), int(version), str(digest)] if not isinstance(version, bool) and version >= 0:
            return table, key, version, digest
        case _:
            raise ProofError("not_a_leaf", "a row is not [table, key, version, digest]", "rows")
