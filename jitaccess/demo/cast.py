"""Who plays in the story: the people, groups and money of a small state treasury. Invented; any likeness is chance."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """One person of the story."""

    key: str
    name: str
    email: str
    institution: str
    unit: str
    manager: str | None
    groups: tuple[str, ...]
    part: str
    """What the person does in the story, one clause."""


CAST: tuple[Role, ...] = (
    Role(
        "arta",
        "Arta Krasniqi",
        "arta.krasniqi@mof.example",
        "mof",
        "treasury",
        "blerim",
        ("treasury-staff", "treasury-releasers"),
        "asks for access",
    ),
    Role(
        "blerim",
        "Blerim Gashi",
        "blerim.gashi@mof.example",
        "mof",
        "treasury",
        None,
        ("treasury-staff", "treasury-heads"),
        "head of the treasury, first approver",
    ),
    Role(
        "drita",
        "Drita Hoxha",
        "drita.hoxha@infra.example",
        "infra",
        "finance",
        None,
        ("infra-finance",),
        "owns the money, second approver",
    ),
    Role(
        "jelena",
        "Jelena Petrović",
        "jelena.petrovic@audit.example",
        "nao",
        "audit",
        None,
        ("jit-auditors",),
        "reads the log",
    ),
)
FOUNDERS: tuple[Role, ...] = (
    Role(
        "agim",
        "Agim Berisha",
        "agim.berisha@mof.example",
        "mof",
        "it",
        None,
        (),
        "administers the broker",
    ),
    Role("besa", "Besa Shala", "besa.shala@infra.example", "infra", "it", None, (), "second founder"),
    Role("milan", "Milan Jovanović", "milan.jovanovic@nao.example", "nao", "it", None, (), "third founder"),
)
ORDER = "TR-000417"
ORDER_CENTS = 125_000_000
"""EUR 1,250,000.00: one of the pending orders in the sample treasury."""
