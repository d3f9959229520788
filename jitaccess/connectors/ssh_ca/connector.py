"""OpenSSH: a certificate for one lease, announced to the hosts, and refused by them with its sessions ended.

No call goes out to hosts: they fetch signed bulletins from the broker and report, signed with their host keys. A host lets in only
certificates that the newest bulletin announces, so that a stolen key of the authority opens nothing; a revoked one is refused by the
list of revocations as well. An end is proven when every host has said that the bulletin which ends it is in place and no session of
it is left (docs/adr/0031). A certificate's own end is the lease's: hosts keep it without the broker.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.connectors.contract import (
    Account,
    Board,
    Credential,
    Effect,
    Inventory,
    LeaseSpec,
    Posted,
    Proofs,
    Quarantined,
    Secret,
    Surroundings,
    Unreachable,
    Unusable,
    is_own_account,
)
from jitaccess.connectors.ssh_ca.authority import (
    ENTRY,
    authority_on,
    exchanged,
    in_use,
    key_of,
    public_line,
    trusted_of,
    without_expired,
)
from jitaccess.connectors.ssh_ca.certificate import HARDWARE, Content, public_key, sign
from jitaccess.connectors.ssh_ca.config import SshCaConfig, SshHost, SshMeaning
from jitaccess.connectors.ssh_ca.krl import write as write_krl
from jitaccess.connectors.ssh_ca.reports import Heard, Reader, Said, read
from jitaccess.connectors.ssh_ca.wire import blob_of_line, fingerprint
from jitaccess.connectors.ssh_ca.wire import sign as sign_text
from jitaccess.proof.canonical import JsonValue
from jitaccess.told import told

GIVEN = "public_key"
BULLETIN = "jitaccess-bulletin"
"""Namespace of the signature over a bulletin (PROTOCOL.sshsig)."""
BACKDATE = timedelta(seconds=30)
"""R53: at most 60 s; clocks of hosts differ."""
KEPT_AFTER = timedelta(days=1)
"""A certificate stays on the list of revocations so long after its end: a host's clock may be behind."""
CONFIRM_LIMIT_S = 8.0
"""How long an end waits for hosts that report; then it is tried again as any other end is."""
ANNOUNCE_LIMIT_S = 3.0
"""How long issuing waits until hosts know the certificate; then the person may have to try twice."""
LOOK_AGAIN_S = 0.05
CLOCK_OFF_S = 30
LIVE, ENDED, REFUSED = "live", "ended", "refused"
_KEY_ENTRY = "key "
_KEY_ACCOUNT = re.compile(r"(?P<host>[^:]+): (?P<account>.+) (?:authority )?key (?P<key>SHA256:[A-Za-z0-9+/]{43})")
_KEY_FILES: Mapping[str, str] = {
    "ssh-ed25519": "id_ed25519",
    "ssh-rsa": "id_rsa",
    "sk-ssh-ed25519@openssh.com": "id_ed25519_sk",
    "sk-ecdsa-sha2-nistp256@openssh.com": "id_ecdsa_sk",
}


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """Who said that a bulletin is in place, and who did not."""

    by: Mapping[str, str]
    """Host -> hex SHA-256 of its report."""
    reach: Mapping[str, str]
    """Host -> how far what it calls a session reaches."""
    missing: tuple[str, ...]


def serial_of(account: str) -> int:
    """Return the serial of a lease's certificate, from 1 to 2^63-1: from its name alone, so that a row that was changed says nothing."""
    return int.from_bytes(hashlib.sha256(f"jitaccess serial {account}".encode()).digest()[:8]) % (2**63 - 1) + 1


class SshCaConnector:
    """The hosts that trust one authority."""

    def __init__(self, config: SshCaConfig, around: Surroundings) -> None:
        if around.board is None:
            raise ValueError("hosts that fetch need a board")
        self._config = config
        self._around = around
        self._board: Board = around.board
        self._reader = Reader(self._board.target, config.hosts, config.silent_after_s)

    # -- making

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan one certificate; raises Unusable for a public key that is no good."""
        meaning = self._config.entitlements[spec.entitlement]
        line = public_key(spec.given.get(GIVEN, ""), hardware=meaning.hardware_key)
        return Effect(
            "ssh_ca",
            spec.account,
            {
                "serial": str(serial_of(spec.account)),
                "public_key": line,
                "principal": meaning.principal,
                "account": meaning.account,
                "hosts": [host.name for host in self._config.hosts_of(spec.entitlement)],
                "critical": cast(JsonValue, _critical(meaning)),
                "extensions": [*meaning.extensions],
                "valid_after": int((spec.starts_at - BACKDATE).timestamp()),
                "valid_before": int(spec.ends_at.timestamp()),
            },
        )

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Sign, announce before the deadline by the broker's clock, and wait a moment until hosts know it."""
        name, detail = _own(effect.name), effect.detail
        posted = self._board.read()
        key = in_use(posted, self._keys())
        self._require_heard(posted)
        before = cast(int, detail["valid_before"])
        content = Content(
            serial=int(str(detail["serial"])),
            key_id=name,
            principal=str(detail["principal"]),
            valid_after=_at(cast(int, detail["valid_after"])),
            valid_before=_at(before),
            critical=cast("Mapping[str, str]", detail["critical"]),
            extensions=tuple(cast("list[str]", detail["extensions"])),
        )
        nonce = base64.urlsafe_b64decode(self._around.draw() + "=")
        line = sign(key, str(detail["public_key"]), content, nonce)
        entry: dict[str, JsonValue] = {
            "state": LIVE,
            "serial": str(detail["serial"]),
            "ends": before,
            "account": detail["account"],
            "principal": detail["principal"],
            "hosts": detail["hosts"],
            "key": fingerprint(blob_of_line(line)),
            "rights": cast(JsonValue, sorted(_rights(effect))),
        }
        # Hosts take nothing that is not announced: before this it opens nothing, and after the deadline it is not announced.
        number = self._board.post({name: (entry, _at(before) + KEPT_AFTER)}, only_before=deadline)
        hosts = [host for host in self._config.hosts if host.name in cast("list[str]", detail["hosts"])]
        late = self._wait(number, {"": ("", {host.name for host in hosts})}, ANNOUNCE_LIMIT_S)[""].missing
        return _credential(effect, line, hosts, late, self._known_hosts(hosts))

    def _known_hosts(self, hosts: Sequence[SshHost]) -> str:
        names = [host.name if host.port == 22 else f"[{host.name}]:{host.port}" for host in hosts]
        if self._config.host_ca:
            return "".join(f"@cert-authority {','.join(names)} {line}\n" for line in self._config.host_ca)
        return "".join(f"{name} {host.key}\n" for name, host in zip(names, hosts, strict=True))

    def bury(self, effect: Effect) -> None:
        """Refuse the certificate wherever it is: it may still be signed, and then opens nothing."""
        self._proven(self._end([effect])[1])

    # -- ending

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Publish that these are refused; wait until the hosts say so and that their sessions are over.

        Returns proofs for those of which that is so; raises Unreachable when there are none such.
        """
        number, confirmed = self._end(effects)
        if self._config.confirm == "hosts":
            return _proofs(self._proven(confirmed), {"login": "refused", "sessions": 0}, number)
        silent = {name: [*one.missing] for name, one in confirmed.items()}
        proofs = _proofs(confirmed, {"login": "published"}, number)
        return {name: {**proof, "silent": cast(JsonValue, silent[name])} for name, proof in proofs.items()}

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Ask once more: absent only when its hosts have said that they take the certificate no more and have no session of it."""
        number, confirmed = self._end(effects)
        if self._config.confirm == "hosts":
            return _proofs(self._proven(confirmed), {"account": "absent"}, number)
        return _proofs(confirmed, {"account": "published"}, number)

    def _end(self, effects: Sequence[Effect]) -> tuple[int, Mapping[str, _Confirmed]]:
        everywhere = [host.name for host in self._config.hosts]
        concerned = {
            _own(effect.name): (
                str(effect.detail.get("account", "")),
                {*cast("list[str]", effect.detail.get("hosts", everywhere))},
            )
            for effect in effects
        }
        posted = self._board.read()
        ended = {
            effect.name: _ended_entry(effect)
            for effect in effects
            if effect.name not in posted.broken and posted.entries.get(effect.name, {}).get("state") != ENDED
        }
        number = self._board.post(ended) if ended else posted.number
        return number, self._wait(number, concerned, CONFIRM_LIMIT_S)

    def _proven(self, confirmed: Mapping[str, _Confirmed]) -> Mapping[str, _Confirmed]:
        """Return those that all their hosts confirmed; raises Unreachable where hosts have to and none is."""
        found = {name: one for name, one in confirmed.items() if not one.missing}
        if confirmed and not found and self._config.confirm == "hosts":
            missing = sorted({host for one in confirmed.values() for host in one.missing})
            raise Unreachable(f"not confirmed by {', '.join(missing[:5])}")
        return found

    def _wait(
        self, number: int, concerned: Mapping[str, tuple[str, set[str]]], limit_s: float
    ) -> Mapping[str, _Confirmed]:
        """Wait until hosts obey a bulletin and have no session of these certificates; not for silent ones.

        `concerned`: certificate's name -> account and hosts; an empty name stands for none in particular.
        """
        found: dict[str, _Confirmed] = {}
        for _ in range(int(limit_s / LOOK_AGAIN_S)):
            heard = self._reader.heard(self._board.read())
            there = {host: {login.key_id for login in one.said.logins} for host, one in heard.items()}
            for name, (account, hosts) in concerned.items():
                obeying = (host for host in hosts if host in heard and heard[host].said.number >= number)
                by = {host: heard[host].digest for host in obeying if name not in there[host]}
                reach = {host: heard[host].said.reach(account) for host in by}
                found[name] = _Confirmed(by, reach, tuple(sorted(hosts - by.keys())))
            missing = {host for one in found.values() for host in one.missing}
            if not any(heard[host].fresh for host in missing if host in heard):
                break
            time.sleep(LOOK_AGAIN_S)
        return found

    def _require_heard(self, posted: Posted) -> Mapping[str, Heard]:
        """Return what hosts said; raises Unreachable when none has reported lately, where ends have to be confirmed."""
        heard = self._reader.heard(posted)
        if self._config.confirm == "hosts" and not any(one.fresh for one in heard.values()):
            raise Unreachable("no host of this target reports")
        return heard

    # -- seeing

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the certificate as it is announced."""
        return Account(effect.name, frozenset(_rights(effect)), expires_at=ends_at)

    def observe(self) -> Inventory:
        """List announced certificates with the sessions that hosts report, and everything else that hosts trust."""
        posted = self._board.read()
        keys = self._keys()
        in_use(posted, keys)
        heard = self._require_heard(posted)
        self._retire(posted)
        trusted = {fingerprint(blob_of_line(line)) for line in trusted_of(posted, keys)[1]}
        found = {account.name: account for account in _certificates(posted, heard)}
        found |= {f"board: {name}": Account(f"board: {name}") for name in posted.broken}
        for host in self._config.hosts:
            said = heard.get(host.name)
            if said is None or not said.fresh:
                if self._config.confirm == "hosts":
                    found[f"{host.name}: silent"] = Account(f"{host.name}: silent")
                continue
            for name, enabled in self._beside(said.said, posted, trusted).items():
                found[name] = Account(name, enabled=enabled)
        coverage = {
            "accounts",
            "certificates",
            "sessions",
            "expiry",
            "sshd",
            "authorities",
            "authorized keys",
            "principals",
        }
        return Inventory(found, frozenset(coverage))

    def _beside(self, said: Said, posted: Posted, trusted: set[str]) -> dict[str, bool]:
        """Return what a host trusts beside what was set up, and whether it opens anything."""
        found = {f"{said.host}: {line}": True for line in said.wrong}
        found |= {f"{said.host}: authority {key}": True for key in said.authorities if key not in trusted}
        for one in said.keys:
            word = "authority key" if one.authority else "key"
            found[f"{said.host}: {one.account} {word} {one.key}"] = f"{_KEY_ENTRY}{one.key}" not in posted.entries
        for account, principal in _extra_principals(said, self._meant(said.host)):
            found[f"{said.host}: {account} takes {principal}"] = True
        if abs(said.clock_off_s) > CLOCK_OFF_S:
            found[f"{said.host}: clock off"] = True
        return found

    def _meant(self, host: str) -> dict[str, set[str]]:
        """Return account -> principals that a host is meant to take."""
        found: dict[str, set[str]] = {}
        for meaning in self._config.entitlements.values():
            if not meaning.hosts or host in meaning.hosts:
                found.setdefault(meaning.account, set()).add(meaning.principal)
        return found

    def _retire(self, posted: Posted) -> None:
        """Tell hosts to trust an old authority no more, once everything that it signed has ended."""
        if ENTRY in posted.entries:
            left = without_expired(authority_on(posted, ()), int(posted.at.timestamp()))
            if left is not None:
                self._board.post({ENTRY: (left.to_json(), None)})

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Refuse a lease's certificate, or a key in a file of authorized keys; what else a host trusts its owner has to take away."""
        if is_own_account(account):
            self._proven(self._end([Effect("ssh_ca", account)])[1])
            return Quarantined(True)
        key = _KEY_ACCOUNT.fullmatch(account)
        trusted = trusted_of(self._board.read(), self._keys())[1]
        if key is None or key["key"] in {fingerprint(blob_of_line(line)) for line in trusted}:
            return Quarantined(False, _what_to_do(account))
        number = self._board.post({f"{_KEY_ENTRY}{key['key']}": ({"state": REFUSED, "key": key["key"]}, None)})
        self._proven(self._wait(number, {"": ("", {key["host"]})}, CONFIRM_LIMIT_S))
        done = f"on {key['host']}: take the key {key['key']} out of the authorized keys of {key['account']}, and end its sessions"
        return Quarantined(True, done)

    # -- for hosts

    def exchange(self, report: str, signature: str) -> tuple[str, str]:
        """Keep what a host says; return what it obeys: list of revocations, announced certificates, authorities to trust.

        1 the host's own key signed the report; nobody else learns anything · 2 it is kept, unless a newer one is there, or the same a
        moment ago · 3 the bulletin is signed over the number that the host drew for this asking.
        """
        said = read(report, signature, self._board.target, self._config.hosts)  # 1
        if said is None:
            raise Unusable(told("This report is not signed by a host of this target, or not of its form."))
        posted = self._board.read()
        key, trusted = trusted_of(posted, self._keys())
        if not self._reader.knows(posted, said):
            self._board.take(said.host, said.sequence, (report, signature))  # 2
        text: dict[str, JsonValue] = {
            "v": 1,
            "target": self._board.target,
            "nonce": said.nonce,
            "at_us": int(posted.at.timestamp() * 1_000_000),
            "number": posted.number,
        }
        if said.number != posted.number:
            text |= {
                "krl": base64.b64encode(_revocations(posted)).decode(),
                "live": _announced(posted, said.host),
                "trusted": [*trusted],
            }
        signed = json.dumps(text, separators=(",", ":"))
        return signed, sign_text(key, BULLETIN, signed.encode())  # 3

    def public_keys(self) -> Sequence[str]:
        """Return the authorities that hosts trust, the one in use first."""
        return trusted_of(self._board.read(), self._keys())[1]

    # -- the broker's own key

    def _keys(self) -> list[Ed25519PrivateKey]:
        return [key_of(secret) for secret in self._around.secrets(self._config.secret)]

    def probe(self) -> tuple[str, ...]:
        """Say which authority hosts have to trust, and what they lack or take beyond need."""
        posted = self._board.read()
        line = public_line(in_use(posted, self._keys()))
        heard = self._reader.heard(posted)
        found = [f"note: the authority is {line} ({fingerprint(blob_of_line(line))})"]
        trusted = {fingerprint(blob_of_line(line)) for line in self.public_keys()}
        for host in self._config.hosts:
            said = heard.get(host.name)
            if said is None or not said.fresh:
                found.append(f"{'missing' if self._config.confirm == 'hosts' else 'note'}: {host.name} does not report")
                continue
            found += [f"too mighty: {name}" for name, on in self._beside(said.said, posted, trusted).items() if on]
            for account, wanted in self._meant(host.name).items():
                lacking = wanted - set(said.said.principals.get(account, ()))
                found += [f"missing: {host.name}: {account} does not take {one}" for one in sorted(lacking)]
        return tuple(found)

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Let hosts trust the new key beside the old one, and only then use it; safe to repeat after a crash at any point."""
        posted = self._board.read()
        before, keys = authority_on(posted, [key_of(old)]), (key_of(old), key_of(new))
        following = public_line(keys[1])
        if before.current == following:
            return
        if before.current != public_line(keys[0]):
            raise Unreachable("the secret in the folder is not that of the authority that hosts trust")
        if before.next != following:
            self._board.post({ENTRY: ({**before.to_json(), "next": following}, None)})
        number = self._board.read().number
        everywhere = {host.name for host in self._config.hosts}
        if missing := self._wait(number, {"": ("", everywhere)}, CONFIRM_LIMIT_S)[""].missing:
            raise Unreachable(f"the new authority is not trusted yet by {', '.join(missing[:5])}")
        posted = self._board.read()
        ends = [cast(int, entry["ends"]) for entry in posted.entries.values() if entry.get("state") == LIVE]
        last = max([int(posted.at.timestamp()) + 3600, *ends])
        self._board.post({ENTRY: (exchanged(before, following, last_end_s=last).to_json(), None)})

    def close(self) -> None:
        """Nothing is open."""


# ---------------------------------------------------------------- pieces


def _own(name: str) -> str:
    """Return a name that a lease made; anything else is a defect or an attack, and nothing is done to it."""
    if not is_own_account(name):
        raise ValueError("not the name of a lease's certificate")
    return name


def _at(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)


def _critical(meaning: SshMeaning) -> dict[str, str]:
    found: dict[str, str] = {}
    if meaning.force_command:
        found["force-command"] = meaning.force_command
    if meaning.source_address:
        found["source-address"] = ",".join(meaning.source_address)
    if meaning.verify_required:
        found["verify-required"] = ""
    return found


def _rights(effect: Effect) -> set[str]:
    """Return what a certificate allows, in words."""
    detail = effect.detail
    words = {f"principal {detail['principal']}", f"account {detail['account']}"}
    critical = cast("Mapping[str, str]", detail["critical"])
    return (
        words
        | {*cast("list[str]", detail["extensions"])}
        | {f"{name} {text}".strip() for name, text in critical.items()}
    )


def _what_to_do(account: str) -> str:
    """Return what a host's owner has to do about something that only they can take away."""
    host, _, what = account.partition(": ")
    match what.split(" ")[0]:
        case "silent":
            return f"on {host}: start jit-ssh-host, and look why it stopped; or take the host out of the policy"
        case "clock":
            return f"on {host}: set the clock, and let a time service keep it"
        case "authority":
            return f"on {host}: take this key out of the file that TrustedUserCAKeys names"
        case _ if " takes " in what:
            return f"on {host}: take the principal out of /etc/jitaccess/ssh-host.json"
        case _ if host == "board":
            return "look who changed the broker's database; the certificate is refused, and the entry stays as evidence"
        case _:
            return f"on {host}: set it back as `jitaccess targets setup ssh_ca` prints it, and reload sshd ({what})"


def _ended_entry(effect: Effect) -> tuple[Mapping[str, JsonValue], datetime | None]:
    """Return what takes a certificate's place; kept for ever where its end is not known."""
    before = effect.detail.get("valid_before")
    until = _at(before) + KEPT_AFTER if isinstance(before, int) else None
    return {"state": ENDED, "serial": str(serial_of(effect.name))}, until


def _proofs(confirmed: Mapping[str, _Confirmed], proof: Mapping[str, JsonValue], number: int) -> Proofs:
    return {
        name: {**proof, "number": number, "hosts": dict(one.by), "sessions_seen": dict(one.reach)}
        for name, one in confirmed.items()
    }


def _certificates(posted: Posted, heard: Mapping[str, Heard]) -> list[Account]:
    """Return the announced certificates that have not ended, and those with a session that are announced no more."""
    logins = [login for one in heard.values() for login in one.said.logins]
    found: list[Account] = []
    for name, entry in posted.entries.items():
        if entry.get("state") == LIVE and cast(int, entry["ends"]) > posted.at.timestamp():
            rights = frozenset(cast("list[str]", entry["rights"]))
            count = sum(login.count for login in logins if login.key_id == name)
            found.append(
                Account(name, rights, count, expires_at=_at(cast(int, entry["ends"])), fingerprint=str(entry["key"]))
            )
    known = {account.name for account in found}
    for name in {login.key_id for login in logins} - known:
        found.append(
            Account(name, sessions=sum(login.count for login in logins if login.key_id == name), enabled=False)
        )
    return found


def _extra_principals(said: Said, meant: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    return [
        (account, principal)
        for account, taken in said.principals.items()
        for principal in taken
        if principal not in meant.get(account, ())
    ]


def _revocations(posted: Posted) -> bytes:
    """Return the list of revocations; an entry that somebody changed counts as revoked, and its name alone says which serial."""
    serials = {int(str(entry["serial"])) for entry in posted.entries.values() if entry.get("state") == ENDED}
    serials |= {serial_of(name) for name in posted.broken if is_own_account(name)}
    keys = {str(entry["key"]) for entry in posted.entries.values() if entry.get("state") == REFUSED}
    return write_krl(number=posted.number, at=posted.at, serials=serials, fingerprints=keys)


def _announced(posted: Posted, host: str) -> dict[str, JsonValue]:
    """Return serial -> what a host has to know of a certificate that is for it and has not ended."""
    return {
        str(entry["serial"]): {
            "key_id": name,
            "key": entry["key"],
            "account": entry["account"],
            "principal": entry["principal"],
            "ends": entry["ends"],
        }
        for name, entry in posted.entries.items()
        if entry.get("state") == LIVE
        and cast(int, entry["ends"]) > posted.at.timestamp()
        and host in cast("list[str]", entry["hosts"])
    }


def _credential(
    effect: Effect, line: str, hosts: Sequence[SshHost], late: Sequence[str], known_hosts: str
) -> Credential:
    """Return certificate, known hosts and the command for each host; the private key is the person's, and never with us."""
    name = effect.name
    kind = str(effect.detail["public_key"]).partition(" ")[0]
    key_file = "id_ecdsa" if kind.startswith("ecdsa-") else _KEY_FILES[kind]
    options = (
        f"-i ~/.ssh/{key_file} -o CertificateFile=~/.ssh/{name}-cert.pub -o IdentitiesOnly=yes "
        f"-o UserKnownHostsFile=~/.ssh/{name}-known_hosts -o StrictHostKeyChecking=yes"
    )
    commands = [f"ssh {options} -p {host.port} {effect.detail['account']}@{host.name}" for host in hosts]
    key = f"~/.ssh/{key_file}"
    note = told("Save both files in ~/.ssh. If your private key is not %(key)s, write its name after -i.", key=key)
    if kind in HARDWARE:
        note = told("%(one)s %(other)s", one=note, other=told("Touch your security key when it blinks."))
    if late:
        names = ", ".join(late[:5])
        waiting = told("Not all systems know of it yet; try again in a minute on %(names)s.", names=names)
        note = told("%(one)s %(other)s", one=note, other=waiting)
    return Credential(
        username=str(effect.detail["account"]),
        command="\n".join(commands),
        files={f"{name}-cert.pub": Secret(f"{line}\n"), f"{name}-known_hosts": Secret(known_hosts)},
        note=note,
    )
