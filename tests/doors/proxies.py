"""Real nginx and Caddy with the shipped configurations, in front of an application that only writes down what reaches it."""

import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from tests.support.reachable import open_the_way
from tests.support.shipped import PLACEHOLDER
from tests.support.sources import ROOT

START_LIMIT_S = 60.0
ANSWER_LIMIT_S = 60.0


@dataclass(slots=True)
class Reached:
    """One request that reached the application."""

    line: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return every value under a name and under whatever a backend may take for it."""
        return [value for key, value in self.headers if key.lower().replace("_", "-") == name.lower()]


@dataclass(slots=True)
class Application:
    """The application behind the proxies: says yes to everything, with the headers that it was given, and keeps its access log."""

    says: Mapping[str, str] = field(default_factory=dict)
    log: list[Reached] = field(default_factory=list)
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen on a free port of loopback."""
        log, says = self.log, self.says

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                log.append(Reached(self.requestline, list(self.headers.items())))
                self.send_response(200)
                for name, value in says.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "6")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(b"inside")

            do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = answer

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


@dataclass(slots=True)
class Proxy:
    """One running proxy."""

    name: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def origin(self) -> str:
        """Return the address under which people reach the application."""
        return f"http://localhost:{self.port}"

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_proxy(name: str, folder: Path, *, port: int, client_id: str, broker: int, application: int) -> Proxy:
    """Start nginx or Caddy with its shipped configuration; only the ports are others and the client's id is in its place. As root it
    runs as nobody."""
    open_the_way(folder)
    ports = {"8081": port, "8082": port, "8090": application, "8000": broker}
    source = ROOT / "examples" / name
    for file in source.iterdir():
        if file.suffix in (".conf", "") and file.is_file():
            text = file.read_text()
            for shipped, own in ports.items():
                text = text.replace(f":{shipped}", f":{own}")
            (folder / file.name).write_text(text.replace(PLACEHOLDER, client_id))
    if name == "nginx":
        command = [nginx(), "-e", "stderr", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"]
    else:
        binary = shutil.which("caddy") or "caddy"
        command = [binary, "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]
    return _run(name, command, folder, port)


def start_deployed(folder: Path, *, port: int, broker: int) -> Proxy:
    """Start nginx with what `deploy/` ships for the front of the broker; without TLS, as the demo's broker has an http address."""
    open_the_way(folder)
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    lines = [line for line in text.splitlines() if not line.strip().startswith(("ssl_", "listen [::]"))]
    server = "\n".join(lines).replace("listen 8443 ssl;", f"listen 127.0.0.1:{port};")
    server = server.replace("server_name jit.example.org", "server_name localhost")
    server = server.replace("Host jit.example.org", f"Host localhost:{port}").replace(
        "127.0.0.1:8000", f"127.0.0.1:{broker}"
    )
    kept = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = "daemon off; worker_processes 1; pid nginx.pid; error_log stderr warn; events {}"
    whole = f"{head} http {{ access_log off; {kept}\n{server}\n}}"
    (folder / "nginx.conf").write_text(whole)
    return _run("nginx", [nginx(), "-e", "stderr", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"], folder, port)


def nginx() -> str:
    """Return the program; Debian keeps it out of an ordinary PATH."""
    return shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"


def _run(name: str, command: list[str], folder: Path, port: int) -> Proxy:
    who: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "XDG_DATA_HOME": str(folder),
                "XDG_CONFIG_HOME": str(folder),
            },
            **who,  # type: ignore[call-overload] # Popen's own keyword arguments
        )
    proxy = Proxy(name, port, folder, process)
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return proxy
        except OSError:
            time.sleep(0.05)
    proxy.stop()
    raise RuntimeError(f"{name} did not start:\n{(folder / 'log').read_text(errors='replace')}")


class Line:
    """One kept-alive connection on which requests are written byte by byte: no client library tidies them up."""

    def __init__(self, proxy: Proxy, *, host: str = "") -> None:
        """`host`: what stands in Host; the proxy's own unless something else is tried."""
        self._socket = socket.create_connection(("127.0.0.1", proxy.port), timeout=ANSWER_LIMIT_S)
        self._file = self._socket.makefile("rb")
        self._host = host or f"localhost:{proxy.port}"

    def __enter__(self) -> "Line":
        """Return the connection."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self._file.close()
        self._socket.close()

    def ask(
        self, target: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request and read one answer; status 0 when the proxy closed without one."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method == "POST":
            lines.append("Content-Length: 0")
        try:
            self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            first = self._file.readline()
        except ConnectionError:
            return 0, {}, b""
        if not first:
            return 0, {}, b""
        status = int(first.split()[1])
        found: dict[str, str] = {}
        while (line := self._file.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            found[name.strip().lower()] = value.strip()
        return status, found, self._body(found, method)

    def _body(self, headers: Mapping[str, str], method: str) -> bytes:
        if method == "HEAD":
            return b""
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self._file.readline().split(b";")[0], 16):
                parts.append(self._file.read(size))
                self._file.readline()
            self._file.readline()
            return b"".join(parts)
        return self._file.read(int(headers.get("content-length", "0")))
