"""The story, checked: real servers on loopback, real HTTP, software passkeys, every claim a line with its time.

Exit code 0 only if everything held. An attacker's part is played too: the database is changed behind the broker's back, and copies of the
exported log are damaged.
"""

import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import click
import httpx2

from jitaccess.audit.verify import verify_export
from jitaccess.clock import SystemClock
from jitaccess.demo.bearer import Bearer
from jitaccess.demo.cast import ORDER, ORDER_CENTS
from jitaccess.demo.servers import run_to_end
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.demo.staff import Answer, Staff
from jitaccess.demo.stage import SECOND_CALLBACK, Stage, staged
from jitaccess.errors import JitError

WITHIN_S = 2.0
"""How soon after its end a grant must be refused by the treasury."""
LESS_CENTS = 100_000_000
LOOK_S = 3
CLOCK = SystemClock()
PAUSE = threading.Event()


class Broken(Exception):
    """A claim that did not hold."""


@dataclass(slots=True)
class Story:
    """The stage, the people, and what was told so far."""

    stage: Stage
    http: httpx2.Client
    began: float = field(default_factory=CLOCK.monotonic)
    staff: dict[str, Staff] = field(default_factory=dict)
    held: int = 0

    def tell(self, line: str, holds: bool = True, found: object = "") -> None:
        """Print one claim; stop the story where it does not hold."""
        at = CLOCK.monotonic() - self.began
        click.echo(f"{at:6.2f}s  {'ok  ' if holds else 'FAIL'}  {line}{f'  ({found})' if found and not holds else ''}")
        if not holds:
            raise Broken(line)
        self.held += 1

    def refused(self, line: str, answer: Answer, code: str) -> None:
        """Claim that an answer was a refusal with this code."""
        holds = answer.status >= 400 and answer.code == code
        self.tell(
            f"{line}: refused, {code}", holds, f"{answer.status} {answer.code} {answer.detail} {answer.text[:200]}"
        )

    def person(self, key: str) -> Staff:
        """Return a signed-in person."""
        return self.staff[key]

    def until(self, act: Callable[[], bool], limit_s: float) -> float | None:
        """Try until it is true; return the seconds it took, or None."""
        begun = CLOCK.monotonic()
        while CLOCK.monotonic() - begun < limit_s:
            if act():
                return CLOCK.monotonic() - begun
            PAUSE.wait(0.05)
        return None

    def sql(self, statement: str, *values: str) -> None:
        """Change the database as its owner could, behind the broker's back."""
        connection = sqlite3.connect(self.stage.database, timeout=20)
        with connection:
            connection.execute(statement, values)
        connection.close()


def check(*, port: int, treasury_port: int) -> int:
    """Play and check the whole story; return the exit code."""
    try:
        with (
            staged(enrolled=frozenset({"arta-2"}), port=port, treasury_port=treasury_port) as stage,
            httpx2.Client(timeout=20) as http,
        ):
            story = Story(stage, http)
            for part in (_enrol, _refusals, _release, _hand_back, _expiry, _hold, _log):
                part(story)
            took = CLOCK.monotonic() - story.began
        click.echo(f"{story.held} claims held in {took:.1f} s")
        return 0
    except Broken as broken:
        click.echo(f"did not hold: {broken}", err=True)
        return 1
    except JitError as error:
        click.echo(f"jitaccess: {error.message}", err=True)
        return 1


def _enrol(story: Story) -> None:
    stage = story.stage
    host = "localhost"
    links = stage.links(("arta", "blerim", "drita", "jelena"))
    for key, link in links.items():
        staff = Staff(key, stage.origin, SoftPasskey(host, stage.origin), story.http)
        made = staff.enrol(link)
        story.tell(f"{key} makes a passkey with a one-use link", made.status == 200, made.text[:300])
        story.staff[key] = staff
    again = Staff("nobody", stage.origin, SoftPasskey(host, stage.origin), story.http)
    story.refused("the same link a second time", again.enrol(links["arta"]), "link_not_usable")
    for key in ("agim", "arta-2"):
        story.staff[key] = Staff(key, stage.origin, stage.seeded.passkeys[key], story.http)
    for key, staff in story.staff.items():
        signed_in = staff.sign_in()
        story.tell(
            f"{key} signs in with the passkey, without a password", signed_in.status == 200, signed_in.text[:300]
        )


def _ask(story: Story, reason: str = "Road works, July invoice", cents: int = ORDER_CENTS) -> str:
    answer = story.person("arta").ask(
        "treasury", "releaser", duration_s=600, reason=reason, inputs={"order": ORDER, "amount_cents": cents}
    )
    story.tell(
        f"arta asks to release {ORDER}, signed: {answer.body.get('state')}", answer.status == 200, answer.text[:300]
    )
    return str(answer.body["request_id"])


def _open(story: Story, grant: str = "") -> Answer:
    hint = f"&login_hint={grant}" if grant else ""
    return story.person("arta").open_target(f"{story.stage.treasury_origin}/start?iss={story.stage.origin}{hint}")


def _refusals(story: Story) -> None:
    arta = story.person("arta")
    refused = story.person("jelena").ask("treasury", "releaser", duration_s=600, reason="just so", inputs={})
    story.tell("jelena may not even ask: refused by policy", refused.status == 403, refused.text[:200])
    opened = _open(story)
    story.tell(
        "the treasury stays closed before any approval", "data-grant" not in opened.text and opened.status == 200
    )
    request_id = _ask(story, "first try")
    story.refused("arta approves her own request", arta.approve(request_id), "own_request")
    story.refused(
        "arta approves it through her second account", story.person("arta-2").approve(request_id), "own_request"
    )
    story.refused("drita signs before the line did", story.person("drita").approve(request_id), "not_your_turn")
    denied = story.person("blerim").post(f"/api/requests/{request_id}/deny")
    story.tell(
        "blerim denies with one tap", denied.status == 200 and denied.body["state"] == "DENIED", denied.text[:200]
    )
    signed = story.person("blerim").ceremony(f"/api/requests/{request_id}/denial")
    story.tell("and signs the denial afterwards", signed.status == 200, signed.text[:200])


def _approve(story: Story, request_id: str) -> str:
    first = story.person("blerim").approve(request_id)
    story.tell("blerim (Ministry of Finance) signs the exact request", first.status == 200, first.text[:200])
    second = story.person("drita").approve(request_id)
    grant = str(second.body.get("grant_id") or "")
    story.tell("drita (Ministry of Infrastructure) signs too: access is granted", bool(grant), second.text[:200])
    return grant


def _release(story: Story) -> None:
    arta, treasury = story.person("arta"), story.stage.treasury_origin
    small = _approve(story, _ask(story, "too little", LESS_CENTS))
    opened = _open(story, small)
    story.tell(
        "the treasury opens with a passkey tap", opened.status == 200 and ORDER in opened.text, opened.text[:300]
    )
    dear = arta.release(treasury, ORDER)
    story.tell("a payment above the approved amount is refused", dear.status == 403, f"{dear.status} {dear.text[:200]}")
    other = arta.release(treasury, "TR-000431")
    story.tell("a payment that nobody approved is refused", other.status == 403, f"{other.status} {other.text[:200]}")
    arta.post(f"/api/grants/{small}/hand-back")
    request_id = _ask(story)
    grant = _approve(story, request_id)
    story.sql("UPDATE access_request SET inputs = replace(inputs, '125000000', '999000000') WHERE id = ?", request_id)
    refused = _open(story, grant)
    story.tell(
        "the amount is changed in the database after approval: issuing refuses and names inputs.amount_cents",
        refused.code == "differs_from_signed" and refused.body.get("field") == "inputs.amount_cents",
        refused.text[:300],
    )
    story.sql("UPDATE access_request SET inputs = replace(inputs, '999000000', '125000000') WHERE id = ?", request_id)
    opened = _open(story, grant)
    story.tell("put right, the treasury opens", opened.status == 200 and ORDER in opened.text, opened.text[:300])
    paid = arta.release(treasury, ORDER)
    story.tell(f"the approved {ORDER} is released", paid.status == 200, f"{paid.status} {paid.text[:200]}")


def _live(story: Story, key: str = "arta") -> str:
    grants = story.person(key).get("/api/grants").body["list"]
    return str(next(grant["id"] for grant in grants if grant["state"] == "ACTIVE"))


def _treasury_refuses(story: Story) -> bool:
    return story.person("arta").get(f"{story.stage.treasury_origin}/").status in (302, 303, 401, 403)


def _hand_back(story: Story) -> None:
    story.tell("the treasury session works", story.person("arta").get(f"{story.stage.treasury_origin}/").status == 200)
    stage = story.stage
    bearer = Bearer(
        stage.origin, stage.treasury_origin, f"{stage.treasury_origin}{SECOND_CALLBACK}", stage.second, story.http
    )
    bearer.fetch(story.person("arta"))
    story.tell(
        "a second application of the treasury holds a token: introspection calls it active", bearer.introspected()
    )
    good = bearer.refusals()
    story.tell("the SDK accepts that token, by the status list and by introspection", not any(good.values()), good)
    answer = story.person("arta").post(f"/api/grants/{_live(story)}/hand-back")
    story.tell("arta hands the access back", answer.status == 200, answer.text[:200])
    took = story.until(lambda: _treasury_refuses(story), WITHIN_S)
    story.tell(f"the treasury session is refused after {took or 0:.2f} s", took is not None)
    left_s = bearer.expires_at() - CLOCK.now().timestamp()
    took = story.until(lambda: not bearer.introspected(), WITHIN_S)
    story.tell(
        f"introspection calls the very same token, good for {left_s:.0f} s by its own text, not active",
        took is not None and left_s > 0,
        left_s,
    )
    story.until(lambda: all(bearer.refusals().values()), WITHIN_S)
    ended = bearer.refusals()
    story.tell(
        "the SDK refuses that token, by the status list and by introspection",
        set(ended.values()) == {"inactive"},
        ended,
    )


def _expiry(story: Story) -> None:
    asked = story.person("arta").ask("treasury", "viewer", duration_s=LOOK_S, reason="a short look")
    story.tell(
        "arta looks for 3 seconds, without approval: granted at once",
        bool(asked.body.get("grant_id")),
        asked.text[:200],
    )
    opened = _open(story)
    story.tell("the treasury opens for looking", opened.status == 200, opened.text[:200])
    looked = story.person("arta").get(f"{story.stage.treasury_origin}/")
    story.tell("looking offers no release", looked.status == 200 and "/release" not in looked.text, f"{looked.status}")
    took = story.until(lambda: _treasury_refuses(story), LOOK_S + WITHIN_S)
    story.tell(f"expiry ends it by itself, {took or 0:.2f} s later", took is not None and took > 0.5, took)


def _hold(story: Story) -> None:
    story.person("arta").ask("treasury", "viewer", duration_s=600, reason="a longer look")
    _open(story)
    pending = _ask(story, "will be stopped")
    arta_id = story.stage.seeded.people["arta"]
    answer = story.person("agim").post("/api/holds", {"kind": "person", "subject_id": arta_id, "cause": "not her"})
    story.tell(
        f"agim holds arta: {answer.body.get('sessions')} sessions, {answer.body.get('requests')} request, "
        f"{answer.body.get('grants')} grant end at once",
        answer.status == 200 and bool(answer.body.get("grants")) and bool(answer.body.get("requests")),
        answer.text[:200],
    )
    took = story.until(lambda: _treasury_refuses(story), WITHIN_S)
    story.tell(f"the treasury refuses her after {took or 0:.2f} s", took is not None)
    story.tell("her session at the broker is over", story.person("arta").get("/api/me").status == 401)
    story.tell("and she cannot sign in", story.person("arta").sign_in().status == 401)
    late = story.person("blerim").approve(pending)
    story.tell(
        "her pending request cannot be approved any more",
        late.status == 410 or late.code == "not_pending",
        late.text[:200],
    )


def _log(story: Story) -> None:
    kept = _checkpoint(story)
    release = story.person("agim").ceremony(
        "/api/changes", {"kind": "hold.release", "subject": _hold_id(story), "payload": {}}
    )
    story.tell("agim lifts the hold with a signature", release.status == 200, release.text[:200])
    folder = story.stage.folder / "export"
    run_to_end(
        (sys.executable, "-m", "jitaccess", "audit", "export", str(folder)), {"JIT_CONFIG": str(story.stage.config)}
    )
    report = verify_export(folder, older=kept)
    story.tell(
        f"the exported log verifies: {report.entries} entries, against a checkpoint kept before",
        report.ok,
        report.problems,
    )
    for name, damage, wanted in (
        ("one flipped byte", _flip, 20),
        ("one deleted entry", _delete, 21),
        ("two swapped entries", _swap, 22),
    ):
        copy = story.stage.folder / name.replace(" ", "-")
        shutil.copytree(folder, copy)
        lines = (copy / "entries.jsonl").read_bytes().splitlines(keepends=True)
        damage(lines, wanted)
        (copy / "entries.jsonl").write_bytes(b"".join(lines))
        found = verify_export(copy, older=kept)
        story.tell(
            f"{name} in a copy: the verifier names entry {found.first_bad}", found.first_bad == wanted, found.problems
        )


def _hold_id(story: Story) -> str:
    return str(story.person("agim").get("/api/holds").body["list"][0]["id"])


def _checkpoint(story: Story) -> str:
    return run_to_end(
        (sys.executable, "-m", "jitaccess", "audit", "checkpoint"), {"JIT_CONFIG": str(story.stage.config)}
    )


def _flip(lines: list[bytes], number: int) -> None:
    line = bytearray(lines[number])
    line[len(line) // 2] ^= 1
    lines[number] = bytes(line)


def _delete(lines: list[bytes], number: int) -> None:
    del lines[number]


def _swap(lines: list[bytes], number: int) -> None:
    lines[number], lines[number + 1] = lines[number + 1], lines[number]
