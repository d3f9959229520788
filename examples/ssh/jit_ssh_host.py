#!/usr/bin/python3
"""The host's side of jitaccess's SSH certificates: one file, Python's standard library and OpenSSH, nothing else. Run as root.

    jit_ssh_host.py run         report, fetch and obey again and again (systemd: jit-ssh-host.service)
    jit_ssh_host.py once        do it once; exit code 1 when it did not succeed
    jit_ssh_host.py principals ACCOUNT SERIAL KEY_ID CERTIFICATE     sshd asks this at every login with a certificate
    jit_ssh_host.py state       say what was fetched, and who is logged in

The configuration is /etc/jitaccess/ssh-host.json, or what `--config FILE` before these words names; docs/how-to/ssh-hosts.md describes it.

What it holds: nothing is believed that the authority, whose key this host trusts already, has not signed over a fresh number of our own;
nothing older than what is here; files are replaced whole, with their owner and mode. A login is recorded under sshd's own process before
sshd lets anybody in, or it is refused; the record is made and the news put in place under one lock, so that a login that is not
refused is seen. When no news came for `stale_s` seconds new logins are refused (`when_stale: close`), also when this program is dead.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import signal
import ssl
import stat
import struct
import subprocess
import sys
import syslog
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

CONFIG = "/etc/jitaccess/ssh-host.json"
DEFAULTS = {
    "broker": "",  # https://broker.example
    "target": "",  # the target's name in the policy
    "host": "",  # this host's name there
    "principals": {},  # account -> the principals that may log in as it
    "ca_file": "",  # who signs the broker's TLS certificate; empty: the system's authorities
    "trusted": "/etc/ssh/jitaccess/ca.pub",
    "krl": "/etc/ssh/jitaccess/krl",
    "state": "/var/lib/jitaccess",
    "logins": "/run/jitaccess/logins",
    "host_key": "/etc/ssh/ssh_host_ed25519_key",
    "sshd": "/usr/sbin/sshd",
    "sshd_config": "/etc/ssh/sshd_config",
    "principals_user": "jitaccess-sshd",
    "sole": [],  # accounts without any other use: what runs on under them without a live login is ended
    "every_s": 1.0,
    "look_every_s": 60.0,
    "stale_s": 300,
    "when_stale": "close",  # or "alarm": say so, and go on with what is known
}
KEYGEN = "/usr/bin/ssh-keygen"
MAX_ANSWER = 16 * 1024 * 1024
KRL_MAGIC = 0x5353484B524C0A00
END_LIMIT_S = 5.0
ROUNDS = 50
LOOK_LIMIT_S = 60.0
MAX_TOLD = 500
"""Keys, lines and logins that a report holds; a person who makes more of them must not make the report too long to be taken."""
LOCK_LIMIT_S = 5
CLOCK_STEP_S = 1.0
NEVER = float("inf")
BLANK = {"number": 0, "at_us": 0, "fetched_at": 0}
RECORD = re.compile(r"([1-9][0-9]{0,9})-([0-9]{1,20})-([0-9]{1,20})")
"""What the record of a login is called: the process of its sshd, when that was started, the certificate's serial."""
SCOPE = re.compile(r"/(session-[^/\s]+\.scope)(?:/|$)", re.M)
"""The control group that systemd-logind puts each session into."""
LOGIND = Path("/run/systemd/sessions")
"""Is there where systemd-logind keeps login sessions; sshd tells it of them through PAM."""
KEY = re.compile(r"(?:^|\s)(?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+\s+([A-Za-z0-9+/=]{40,})")
MAX_LINE = 20_000
MAX_KEYS = 4 * 1024 * 1024
"""Bytes of a file of authorized keys: tens of thousands of keys."""
WANTED = {
    "authorizedprincipalsfile": "none",
    "authorizedkeyscommand": "none",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "hostbasedauthentication": "no",
    "gssapiauthentication": "no",
    "permitemptypasswords": "no",
    "permituserenvironment": "no",
}
"""What sshd must say of itself, beside our own files."""


class Refused(Exception):
    """What came is not to be believed; what is here stays."""


def say(text: str, *, loud: bool = False) -> None:
    """Tell the system's log, and whoever looks on."""
    syslog.syslog(syslog.LOG_AUTHPRIV | (syslog.LOG_ALERT if loud else syslog.LOG_INFO), text)
    print(text, file=sys.stderr, flush=True)


def load(path: str) -> dict:
    """Return the configuration; unknown keys are refused."""
    found = json.loads(Path(path).read_text())
    unknown = set(found) - set(DEFAULTS)
    missing = [key for key in ("broker", "target", "host", "principals") if not found.get(key)]
    if unknown or missing:
        raise SystemExit(f"{path}: unknown {sorted(unknown)}, missing {missing}")
    config = DEFAULTS | found | {"config": path}
    url = urllib.parse.urlsplit(config["broker"])
    if url.scheme != "https" and url.hostname not in ("localhost", "127.0.0.1"):
        raise SystemExit(f"{path}: broker must be https")
    if config["when_stale"] not in ("close", "alarm"):
        raise SystemExit(f"{path}: when_stale is close or alarm")
    return config


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put a whole new file in the place of one, with the old one's owner and mode; a crash leaves the one or the other."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        old = path.stat() if path.exists() else None
        os.fchmod(handle, old.st_mode & 0o7777 if old else mode)
        if old:
            os.fchown(handle, old.st_uid, old.st_gid)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def keygen(*arguments: str, given: bytes = b"") -> bytes:
    """Run ssh-keygen; raises Refused when it says no."""
    program = [KEYGEN, *arguments]
    done = subprocess.run(program, input=given, capture_output=True, timeout=10, check=False)  # noqa: S603 - no words of others
    if done.returncode != 0:
        raise Refused(f"ssh-keygen {' '.join(arguments[:2])}: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class Host:
    """What this host has, knows and does."""

    def __init__(self, config: dict) -> None:
        self.config = config
        self.folder = Path(config["state"])
        self.krl, self.trusted = Path(config["krl"]), Path(config["trusted"])
        self.logins_folder = Path(config["logins"])
        self.state_file, self.lock_file = self.folder / "state.json", self.logins_folder / ".lock"
        self.opener: urllib.request.OpenerDirector | None = None
        self.looker = Looker(config)
        self.off_s = 0.0
        self.obeyed = 0
        """The number whose ends have all come to pass here; only this is reported."""
        self.strange: list[str] = []
        """What lies among the logins and is no record of one."""
        self.told: set[str] = set()
        self.damaged = False

    # -- what is known

    def state(self) -> dict:
        """Return what was fetched last; nothing where there is nothing that can be read: then nobody may be here, until news come."""
        with contextlib.suppress(FileNotFoundError):
            try:
                found = json.loads(self.state_file.read_text())
                if isinstance(found["live"], dict) and all(isinstance(found[key], int) for key in BLANK):
                    return found
            except (ValueError, KeyError, TypeError):
                pass
            if not self.damaged:
                say(f"jitaccess: {self.state_file} is damaged; it is fetched anew", loud=True)
            self.damaged = True
        return BLANK | {"live": {}}

    @contextlib.contextmanager
    def locked(self, kind: int) -> Iterator[None]:
        """Hold the lock between logins and news. It lies where only sshd's user and root come, so that nobody else can hold it."""
        handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.geteuid() == 0:
                os.fchown(handle, self.logins_folder.stat().st_uid, -1)
            deadline = time.monotonic() + LOCK_LIMIT_S
            while True:
                try:
                    fcntl.flock(handle, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Refused("the lock between logins and news is held") from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(handle)

    # -- sshd asks

    def principals(self, account: str, serial: str, key_id: str, certificate: str) -> str:
        """Record who comes, and return the principal that may; empty refuses. sshd, our parent, is who the login belongs to."""
        with self.locked(fcntl.LOCK_SH):
            state = self.state()
            live = state["live"].get(serial)
            stale = news_age(state) > self.config["stale_s"]
            if stale and self.config["when_stale"] == "close":
                say("jitaccess: no news from the broker for too long: logins are refused", loud=True)
                return ""
            allowed = self.config["principals"].get(account, [])
            if live is None or live["key_id"] != key_id or live["account"] != account or live["ends"] <= time.time():
                return ""
            if live["principal"] not in allowed or live["key"] != fingerprint(certificate):
                return ""
            parent = os.getppid()
            record = {"account": account, "serial": serial, "key_id": key_id, "ends": live["ends"]}
            path = self.logins_folder / f"{parent}-{started(parent)}-{serial}"
            handle, name = tempfile.mkstemp(dir=self.logins_folder, prefix=".new-")
            with os.fdopen(handle, "w") as stream:
                json.dump(record, stream)
            os.replace(name, path)
            return live["principal"]

    # -- news

    def exchange(self, logins: list[dict]) -> bool:
        """Report, and obey what comes back; True when there was anything new. Raises Refused or OSError, and then nothing has changed."""
        known, nonce = self.state(), secrets.token_urlsafe(24)
        text = self.report(known, nonce, logins)
        signing = ("-Y", "sign", "-q", "-f", self.config["host_key"], "-n", "jitaccess-report")
        signed = {"report": text, "signature": keygen(*signing, given=text.encode()).decode()}
        answer = json.loads(self.call("exchange", json.dumps(signed).encode()))
        text, signature = str(answer["bulletin"]), str(answer["signature"])
        self.check(text.encode(), signature)
        news = json.loads(text)
        if news["v"] != 1 or news["target"] != self.config["target"] or news["nonce"] != nonce:
            raise Refused("a bulletin for somebody else, or an old one")
        if news["number"] < known["number"]:
            raise Refused(f"bulletin {news['number']} is older than {known['number']}, which is here")
        self.off_s = time.time() - news["at_us"] / 1_000_000
        with self.locked(fcntl.LOCK_EX):
            if news["number"] > known["number"]:
                self.put(news)
            state = {
                "number": news["number"],
                "at_us": news["at_us"],
                "fetched_at": int(time.time()),
                "fetched_up": up_s(),
                "boot": boot(),
                "live": news.get("live", known["live"]),
            }
            replace(self.state_file, json.dumps(state).encode())
        return bool(news["number"] != self.obeyed)

    def check(self, text: bytes, signature: str) -> None:
        """Refuse what none of the trusted authorities signed."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            signers, armour = Path(scratch, "signers"), Path(scratch, "signature")
            keys = [line for line in self.trusted.read_text().splitlines() if line.strip()]
            signers.write_text("".join(f'broker namespaces="jitaccess-bulletin" {line}\n' for line in keys))
            armour.write_text(signature)
            arguments = ("-f", str(signers), "-I", "broker", "-n", "jitaccess-bulletin", "-s", str(armour))
            keygen("-Y", "verify", *arguments, given=text)

    def put(self, news: dict) -> None:
        """Put list of revocations and authorities in place; the list first: what is revoked is refused whatever happens next."""
        krl = base64.b64decode(news["krl"], validate=True)
        if len(krl) < 44 or struct.unpack(">QIQ", krl[:20]) != (KRL_MAGIC, 1, news["number"]):
            raise Refused("a damaged list of revocations")
        with tempfile.NamedTemporaryFile(dir=self.folder) as trial:
            trial.write(krl)
            trial.flush()
            keygen("-Q", "-l", "-f", trial.name)
        keys = [line for line in news["trusted"] if line.startswith("ssh-ed25519 ")]
        if not keys:
            raise Refused("no authority is left")
        replace(self.krl, krl)
        replace(self.trusted, "".join(f"{line}\n" for line in keys).encode())

    def call(self, path: str, body: bytes) -> bytes:
        """Ask the broker; raises OSError for anything but a whole answer of 200."""
        if self.opener is None:
            context = ssl.create_default_context(cafile=self.config["ca_file"] or None)
            self.opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
        url = f"{self.config['broker'].rstrip('/')}/hosts/{urllib.parse.quote(self.config['target'])}/{path}"
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
        with self.opener.open(request, timeout=5) as answer:
            found = answer.read(MAX_ANSWER + 1)
        if len(found) > MAX_ANSWER:
            raise OSError("the answer is too long")
        return found

    # -- sessions

    def records(self) -> tuple[dict[Path, dict], list[Path]]:
        """Return the logins whose sshd is still there, and what lies among them that is no record; forget the others."""
        found, bad = {}, []
        for path in self.logins_folder.iterdir():
            if path.name.startswith("."):  # the lock, and records that are being written
                with contextlib.suppress(OSError):
                    if path.name.startswith(".new-") and time.time() - path.stat().st_mtime > 60:
                        path.unlink(missing_ok=True)
                continue
            name = RECORD.fullmatch(path.name)
            if name is None:
                bad.append(path)
            elif started(int(name[1])) != name[2]:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            elif record := read_record(path):
                found[path] = record
            elif path.is_symlink() or path.exists():
                bad.append(path)
        return found, bad

    def end_sessions(self) -> list[dict]:
        """End what is over or was revoked; return the logins that live. Raises Refused, after all the others, for what does not end."""
        with self.locked(fcntl.LOCK_SH):
            # A login in progress has recorded itself before what we obey was put in place, or sees that it is over.
            live, (records, bad) = self.state()["live"], self.records()
        now = time.time()
        staying: list[dict] = []
        failed: list[str] = []
        for path, record in records.items():
            known = live.get(record["serial"])
            if known is not None and min(known["ends"], record["ends"]) > now:
                staying.append(record)
                continue
            failed += self.end_one(path, f"{record['account']}, certificate {record['key_id']}")
        for path in bad:
            if RECORD.fullmatch(path.name):  # nobody can tell any more who that is
                failed += self.end_one(path, "somebody whose record cannot be read")
        self.strange = sorted(path.name for path in bad)
        for name in set(self.strange) - self.told:
            say(f"jitaccess: {name!r} among the logins is no record of one", loud=True)
        self.told = set(self.strange)
        for account in self.config["sole"]:
            if not any(record["account"] == account for record in staying):
                try:
                    end_processes_of(account)
                except (Refused, KeyError) as error:
                    failed.append(f"{account}: {error}")
        if failed:
            raise Refused("; ".join(failed))
        return staying

    def end_one(self, path: Path, who: str) -> list[str]:
        """End the session of a record and forget it; return what went wrong."""
        try:
            end(int(path.name.partition("-")[0]))
            path.unlink(missing_ok=True)
        except (Refused, OSError) as error:
            return [f"{who}: {error}"]
        say(f"jitaccess: ended the session of {who}")
        return []

    def settle(self) -> list[dict]:
        """End what is over; return the logins that are reported. Only when all ended is the number in place called obeyed."""
        try:
            number = self.state()["number"]
            logins = self.end_sessions()
        except (Refused, OSError, ValueError, KeyError) as error:
            say(f"jitaccess: a session could not be ended: {error}", loud=True)
            with contextlib.suppress(OSError):
                return list(self.records()[0].values())
            return []
        self.obeyed = number
        return logins

    # -- telling

    def report(self, known: dict, nonce: str, logins: list[dict]) -> str:
        """Return what the broker is told: what is obeyed, who is here, and what sshd trusts."""
        said = {
            "v": 1,
            "target": self.config["target"],
            "host": self.config["host"],
            "nonce": nonce,
            "sequence": known["at_us"],
            "number": self.obeyed,
            "logins": counted(logins),
            "clock_off_s": round(self.off_s, 1),
            "sole": sorted(self.config["sole"])[:200],
        }
        seen = self.looker.seen()
        strange = [f"no record of a login: {name}"[:300] for name in self.strange[:50]]
        return json.dumps(said | seen | {"wrong": [*seen["wrong"], *strange]})

    def once(self) -> bool:
        """Report, fetch, obey, and say so; True when all of it succeeded. What is over ends here, whether the broker is there or not."""
        logins = self.settle()
        try:
            if self.exchange(logins):
                logins = self.settle()
                self.exchange(logins)
        except (Refused, OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
            say(f"jitaccess: no news: {error}", loud=isinstance(error, Refused))
            known = self.state()
            since, age = known["fetched_at"], news_age(known)
            if age > self.config["stale_s"]:
                ago = (
                    "yet"
                    if not since
                    else "for longer than the clock can tell"
                    if age == NEVER
                    else f"for {int(age)} seconds"
                )
                say(f"jitaccess: no news from the broker {ago} ({self.config['when_stale']})", loud=True)
            return False
        return self.obeyed == self.state()["number"]


def read_record(path: Path) -> dict | None:
    """Return the record of a login; None for what is not exactly that. The broker would take no report with anything else in it."""
    try:
        found = json.loads(text_of(path))
    except ValueError:
        return None
    words = {"account": str, "serial": str, "key_id": str, "ends": int}
    if not isinstance(found, dict) or found.keys() != words.keys():
        return None
    sound = all(type(found[key]) is kind and len(str(found[key])) <= 400 for key, kind in words.items())
    return found if sound and re.fullmatch(r"[0-9]{1,20}", found["serial"]) else None


def news_age(state: dict) -> float:
    """Return how many seconds ago news came, by the clock and by the time since the start of the machine, whichever says more.

    A clock that went back would make old news young: what comes from the future is as old as can be.
    """
    age = time.time() - state["fetched_at"]
    if age < -CLOCK_STEP_S:
        return NEVER
    return max(age, up_s() - state.get("fetched_up", 0.0)) if state.get("boot") == boot() else age


def up_s() -> float:
    """Return the seconds since the machine was started, with those that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """Return what names this start of the machine."""
    return text_of(Path("/proc/sys/kernel/random/boot_id")).strip()


def counted(logins: list[dict]) -> list[dict]:
    """Return one line for each certificate that people are logged in with."""
    found: dict[str, dict] = {}
    for record in logins:
        found.setdefault(record["serial"], record | {"count": 0})["count"] += 1
    return list(found.values())[:MAX_TOLD]


# ---------------------------------------------------------------- processes


def started(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks; empty when it is not there or only a zombie."""
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if parts[0] == "Z" else parts[19]


def family(pid: int, parents: dict[int, int], scopes: dict[int, str]) -> set[int]:
    """Return a process, all that descend from it, and all in the login session (of systemd-logind) of any of these. Pure."""
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    own = {scopes[one] for one in found if scopes.get(one)}
    return found | {one for one, scope in scopes.items() if scope in own}


def snapshot() -> tuple[dict[int, int], dict[int, str]]:
    """Return pid -> parent and pid -> login session of every process, but for our own session."""
    parents, scopes = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parts = (entry / "stat").read_text().rpartition(") ")[2].split()
                group = SCOPE.search((entry / "cgroup").read_text())
            except OSError:
                continue
            if parts[0] != "Z":
                parents[int(entry.name)] = int(parts[1])
                if group:
                    scopes[int(entry.name)] = group[1]
    mine = scopes.get(os.getpid())
    return parents, {pid: scope for pid, scope in scopes.items() if scope != mine}


def end(pid: int) -> None:
    """End a session. All below its sshd is stopped first, again and again until nothing new is there: what is stopped cannot fork and
    run. Then it is killed; sshd itself is asked, so that it closes what PAM opened, and killed when it does not go."""
    mark = {pid: started(pid)}
    for _ in range(ROUNDS):
        fresh = family(pid, *snapshot()) - mark.keys() - {1, os.getpid()}
        if not fresh:
            break
        for one in fresh:
            mark[one] = started(one)
            send(one, signal.SIGSTOP)
    deadline = time.monotonic() + END_LIMIT_S
    asked = time.monotonic() + 1.0
    for one in mark.keys() - {pid}:
        send(one, signal.SIGKILL)
    send(pid, signal.SIGTERM)
    while left := [one for one, since in mark.items() if since and started(one) == since]:
        if time.monotonic() > deadline:
            raise Refused(f"processes do not end: {left[:5]}")
        if time.monotonic() > asked:
            for one in left:
                send(one, signal.SIGKILL)
        time.sleep(0.01)


def end_processes_of(account: str) -> None:
    """Kill everything that runs under an account, until nothing is left that forks faster than it dies."""
    uid = pwd.getpwnam(account).pw_uid
    for _ in range(ROUNDS):
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == uid and started(int(entry.name)):
                    found.append(int(entry.name))
        if not found or uid == 0:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in found:
                send(one, number)
    raise Refused(f"processes of {account} do not end")


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# ---------------------------------------------------------------- looking


def look(config: dict) -> dict:
    """Say what sshd trusts beside what it should: lines of its configuration, authorities, keys of accounts."""
    wrong: set[str] = set()
    authorities: set[str] = set()
    patterns: set[str] = set()
    pam = bool(config["principals"])
    for account in config["principals"]:
        asked = ["-T", "-f", config["sshd_config"], "-C", f"user={account},host=jitaccess,addr=127.0.0.1"]
        program = [config["sshd"], *asked]
        done = subprocess.run(program, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - the owner's words
        if done.returncode != 0:
            wrong.add("sshd -T fails")
            pam = False
            continue
        lines = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
        wrong |= deviations(config, lines)
        pam = pam and lines.get("usepam") == "yes"
        patterns |= set(lines.get("authorizedkeysfile", "none").split())
        for line in text_of(Path(lines.get("trustedusercakeys", "none"))).split("\n"):
            if len(line.split()) > 1:
                authorities.add(fingerprint(line.split()[1]))
    keys, unread = keys_of_accounts(patterns, config["principals"])
    wrong |= unread
    if len(keys) > MAX_TOLD or len(authorities) > MAX_TOLD // 5:
        wrong.add("more keys than are told")
    return {
        "wrong": [line[:300] for line in sorted(wrong)][:100],
        "authorities": sorted(authorities)[: MAX_TOLD // 5],
        "keys": keys[:MAX_TOLD],
        "principals": config["principals"],
        "logind": pam and LOGIND.is_dir(),
    }


def deviations(config: dict, lines: dict[str, str]) -> set[str]:
    """Return the lines of sshd's effective configuration that are not as they have to be. Pure."""
    place = "" if config["config"] == CONFIG else f" --config {config['config']}"
    ours = {
        "trustedusercakeys": config["trusted"],
        "revokedkeys": config["krl"],
        "authorizedprincipalscommand": f"{Path(__file__).resolve()}{place} principals %u %s %i %k",
        "authorizedprincipalscommanduser": config["principals_user"],
    }
    found = {f"{key} {lines.get(key, 'none')}" for key, wanted in ours.items() if lines.get(key, "none") != wanted}
    return found | {f"{key} {lines[key]}" for key, wanted in WANTED.items() if lines.get(key, wanted) != wanted}


def keys_of_accounts(patterns: set[str], named: Iterable[str]) -> tuple[list[dict], set[str]]:
    """Return every key in a file of authorized keys of any account, sorted, each once for an account; and what could not be read whole.

    sshd reads files and lines of any length: what is longer than any honest one hides something. A directory may not list its accounts:
    those `named` are looked at all the same.
    """
    entries = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in named:
        with contextlib.suppress(KeyError):
            entries.setdefault(name, pwd.getpwnam(name))
    found: dict[str, dict] = {}
    unread: set[str] = set()
    for entry in entries.values():
        for pattern in sorted(patterns):
            if pattern == "none":
                continue
            words = {"%%": "%", "%h": entry.pw_dir, "%u": entry.pw_name, "%U": str(entry.pw_uid)}
            file = re.sub(r"%[%huU]", lambda match: words[match[0]], pattern)  # noqa: B023 - used at once
            text = text_of(Path(entry.pw_dir, file), MAX_KEYS)
            if len(text.encode(errors="surrogateescape")) >= MAX_KEYS:
                unread.add(f"a file of authorized keys of {entry.pw_name} is too long to be read")
            for line in map(str.strip, text.split("\n")):  # as sshd parts them
                if line.startswith("#"):
                    continue
                if len(line) > MAX_LINE:
                    unread.add(f"a file of authorized keys of {entry.pw_name} has a line that is too long to be read")
                key = KEY.search(line[:MAX_LINE])
                if key:
                    authority = "cert-authority" in line[: key.start(1)]
                    one = {"account": entry.pw_name, "key": fingerprint(key[1]), "authority": authority}
                    found[str(one)] = one
    return [found[name] for name in sorted(found)], unread


def text_of(path: Path, most: int = 1_000_000) -> str:
    """Return the first so many bytes of a file, empty when there is none.

    The file may be a person's: a pipe in its place must not hold us up.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        return stream.read(most).decode(errors="surrogateescape")


class Looker:
    """Looks at sshd and at keys of accounts now and then, beside the work: what hangs there holds no revocation up."""

    def __init__(self, config: dict) -> None:
        self.config = config
        self.began_at = -1e9
        self.found: dict = {}
        self.thread: threading.Thread | None = None

    def seen(self) -> dict:
        """Return what was seen last; looks anew when it is time. At first it waits a moment."""
        now = time.monotonic()
        running = self.thread is not None and self.thread.is_alive()
        if not running and now - self.began_at >= self.config["look_every_s"]:
            self.began_at = now
            self.thread = threading.Thread(target=self.run, daemon=True)
            self.thread.start()
            if not self.found:
                self.thread.join(5)
        elif running and now - self.began_at > LOOK_LIMIT_S:
            return self.blank("looking at sshd hangs")
        return self.found or self.blank("not looked at yet")

    def blank(self, why: str) -> dict:
        """Return that nothing could be seen."""
        return {"wrong": [why], "authorities": [], "keys": [], "principals": self.config["principals"], "logind": False}

    def run(self) -> None:
        """Look once."""
        try:
            self.found = look(self.config)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            say(f"jitaccess: cannot look at sshd: {error}", loud=True)
            self.found = self.blank("sshd cannot be looked at")


def fingerprint(key: str) -> str:
    """Return the SHA-256 of a key in base64, as OpenSSH shows it; of a certificate: of the whole of it."""
    try:
        digest = hashlib.sha256(base64.b64decode(key)).digest()
    except ValueError:
        return "unreadable"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def main(arguments: list[str]) -> int:
    """Do what was asked."""
    place = CONFIG
    if arguments[:1] == ["--config"] and len(arguments) > 1:
        place, arguments = arguments[1], arguments[2:]
    host = Host(load(place))
    match arguments:
        case ["principals", account, serial, key_id, certificate]:
            try:
                print(host.principals(account, serial, key_id, certificate))
            except (Refused, OSError, ValueError, KeyError) as error:
                say(f"jitaccess: a login as {account} is refused: {error}", loud=True)
                return 1
        case ["once"]:
            return 0 if host.once() else 1
        case ["run"]:
            while True:
                try:
                    host.once()
                except Exception as error:  # whatever it is, the next round tries again
                    say(f"jitaccess: {type(error).__name__}: {error}", loud=True)
                time.sleep(host.config["every_s"])
        case ["state"]:
            print(json.dumps({**host.state(), "logins": list(host.records()[0].values())}, indent=2))
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
