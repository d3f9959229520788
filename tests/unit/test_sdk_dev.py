"""Does `jitaccess dev check` find the mistake that an application makes, that one, and none where there is none?"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from wsgiref.simple_server import demo_app

import pytest
from click.testing import CliRunner

from jitaccess.cli import root
from jitaccess.sdk import FetchedKeys, StatusCheck, TokenRefused, Verifier
from jitaccess.sdk.dev.issuer import DevIssuer, NoIssuer
from jitaccess.sdk.dev.probes import Trial, Verdict, run
from jitaccess.sdk.dev.serving import serving
from jitaccess.sdk.keys import static_keys
from jitaccess.sdk.wall import wall_time
from jitaccess.sdk.wsgi import JitMiddleware
from tests.support.careless import careless, listening
from tests.support.ports import free_port

AUDIENCE = "https://treasury.example"
FOR_RELEASERS = ["--audience", AUDIENCE, "--target", "treasury", "--entitlement", "releaser"]
MISTAKES: dict[str, set[str]] = {
    "skips aud": {"wrong_audience"},
    "skips iss": {"wrong_issuer"},
    "skips exp": {"expired"},
    "skips nbf": {"not_yet_valid"},
    "skips status": {"ended", "ended_in_use"},
    "skips typ": {"other_kind"},
    "skips crit": {"critical"},
    "skips entitlement": {"wrong_entitlement"},
    "takes none": {"unsigned"},
    "takes HMAC": {"public_key_as_secret"},
    "takes jwk": {"strangers_key"},
    "fetches jku": {"fetched"},
    "reads loosely": {"twin"},
    "reads the address": {"in_the_address"},
}


@pytest.fixture
def issuer(tmp_path: Path) -> DevIssuer:
    return DevIssuer.open(tmp_path / "dev", free_port())


def verifier(issuer: DevIssuer) -> Verifier:
    keys = FetchedKeys(issuer.issuer, allow_dev=True)
    return Verifier(
        issuer.issuer, AUDIENCE, keys, status=StatusCheck(issuer.issuer, keys, refresh_s=0.1), allow_dev=True
    )


def trial(issuer: DevIssuer, url: str, *, within_s: float = 5.0) -> Trial:
    return Trial(issuer, url, AUDIENCE, "treasury", "releaser", True, within_s=within_s)


def verdicts(issuer: DevIssuer, mistake: str, *, within_s: float = 5.0) -> dict[str, Verdict]:
    with serving(issuer), listening(careless(verifier(issuer), issuer.key, mistake)) as url:
        return {finding.name: finding.verdict for finding in run(trial(issuer, url, within_s=within_s))}


def test_an_application_without_a_mistake_passes(issuer: DevIssuer) -> None:
    found = verdicts(issuer, "makes none")
    assert set(found.values()) == {Verdict.HELD}
    assert found.keys() >= {name for names in MISTAKES.values() for name in names} | {
        "none",
        "garbage",
        "cut",
        "good_again",
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_found_and_nothing_else(issuer: DevIssuer, mistake: str) -> None:
    found = verdicts(issuer, mistake, within_s=0.6)
    assert {name for name, verdict in found.items() if verdict is not Verdict.HELD} == MISTAKES[mistake]
    assert {verdict for name, verdict in found.items() if name in MISTAKES[mistake]} == {Verdict.LET_IN}


def test_an_application_that_asks_for_nothing_is_found_with_everything(issuer: DevIssuer) -> None:
    found = verdicts(issuer, "takes anything", within_s=0.3)
    held = {name for name, verdict in found.items() if verdict is Verdict.HELD}
    assert held == {"good", "good_again", "fetched", "wrong_entitlement"}


def test_an_error_is_no_refusal(issuer: DevIssuer) -> None:
    found = verdicts(issuer, "breaks")
    assert {name for name, verdict in found.items() if verdict is Verdict.BROKE} == {"garbage"}


def test_where_nobody_gets_in_nothing_is_proven(issuer: DevIssuer) -> None:
    assert verdicts(issuer, "lets nobody in") == {"good": Verdict.SHUT}


# ---------------------------------------------------------------- the issuer


def test_nothing_that_is_in_use_takes_it(issuer: DevIssuer, caplog: pytest.LogCaptureFixture) -> None:
    for make in (
        lambda: FetchedKeys(issuer.issuer),
        lambda: Verifier(issuer.issuer, AUDIENCE, issuer.jwks(), status=None),
    ):
        with pytest.raises(ValueError, match="allow_dev=True"):
            make()
    assert caplog.records == []
    Verifier(issuer.issuer, AUDIENCE, issuer.jwks(), status=None, allow_dev=True)
    assert "never for what is in use" in caplog.text
    with serving(issuer):  # its keys under another name, as behind a proxy or a line in a hosts file
        url = f"{issuer.issuer}/.well-known/jwks.json"
        assert FetchedKeys("https://jit.example", url=url)(str(issuer.key.kid)) is None
        assert FetchedKeys("https://jit.example", url=url, allow_dev=True)(str(issuer.key.kid)) is not None


def test_its_key_and_name_say_what_they_are(issuer: DevIssuer) -> None:
    assert issuer.issuer == f"http://127.0.0.1:{issuer.port}/never-trusted"
    assert str(issuer.key.kid).startswith("never-trusted-")
    assert "d" not in issuer.jwks()["keys"][0]
    assert (issuer.folder / "key.json").stat().st_mode & 0o077 == 0
    assert (issuer.folder / ".gitignore").read_text() == "*\n"
    assert DevIssuer.open(issuer.folder, issuer.port).jwks() == issuer.jwks()


@pytest.mark.parametrize("text", ["", "{}", '{"kty": "EC"}'])
def test_a_folder_with_another_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(NoIssuer, match="Cannot use"):
        DevIssuer.open(tmp_path, 8765)


def test_a_port_of_somebody_else_is_named_and_one_of_the_same_key_is_shared(issuer: DevIssuer, tmp_path: Path) -> None:
    with serving(issuer), serving(DevIssuer.open(issuer.folder, issuer.port)):
        keys = FetchedKeys(issuer.issuer, allow_dev=True)
        assert keys(str(issuer.key.kid)) is not None
        with pytest.raises(NoIssuer, match="taken"), serving(DevIssuer.open(tmp_path / "other", issuer.port)):
            pass


def test_a_token_ended_in_the_folder_is_refused(issuer: DevIssuer) -> None:
    claims = issuer.claims(audience=AUDIENCE, target="t", entitlement="viewer", now=wall_time())
    token = issuer.mint(claims)
    with serving(issuer):
        assert verifier(issuer).verify(token).entitlement == "viewer"
        DevIssuer.open(issuer.folder, issuer.port).end(claims)
        with pytest.raises(TokenRefused, match="ended"):
            verifier(issuer).verify(token)
    with pytest.raises(NoIssuer):
        issuer.end(claims | {"status": {"status_list": {"idx": 1, "uri": "https://jit.example/oidc/status/x"}}})


# ---------------------------------------------------------------- the commands


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def dev(issuer: DevIssuer) -> Run:
    def run_it(*arguments: str) -> tuple[int, str]:
        place = ("--folder", str(issuer.folder), "--port", str(issuer.port))
        done = CliRunner().invoke(root, ["dev", arguments[0], *place, *arguments[1:]])
        return done.exit_code, done.stdout if done.exit_code == 0 else done.output

    return run_it


def test_a_printed_token_is_good_with_the_printed_keys(issuer: DevIssuer, dev: Run) -> None:
    code, text = dev("token", *FOR_RELEASERS, "--input", "order=TR-1", "--input", "cents=500", "--life", "60")
    keys = json.loads(dev("jwks")[1])
    token = Verifier(issuer.issuer, AUDIENCE, keys, status=None, allow_dev=True).verify(text.strip())
    assert (code, token.target, token.entitlement) == (0, "treasury", "releaser")
    assert token.inputs == {"order": "TR-1", "cents": 500}
    assert dev("end", text.strip()) == (0, "ended\n")
    assert issuer.ended() == {token.claims["status"]["status_list"]["idx"]}
    assert static_keys(keys)(str(issuer.key.kid)) is not None
    assert dev("status-list")[1].count(".") == 2


def test_the_report_says_in_words_what_was_let_in(issuer: DevIssuer, dev: Run) -> None:
    with listening(careless(verifier(issuer), issuer.key, "skips exp")) as url:
        code, text = dev("check", url, *FOR_RELEASERS)
    assert code == 1
    assert "LET IN  a token that has expired: let in: 1 s ago, 300 s ago\n        Refuse from `exp` on" in text
    assert text.count("LET IN") == 1
    assert "1 of 20 did not hold." in text


@pytest.mark.parametrize(("more", "header"), [((), "Authorization"), (("--proxied",), "X-Jit-Token")])
def test_an_application_behind_the_middleware_passes(
    issuer: DevIssuer, dev: Run, more: tuple[str, ...], header: str
) -> None:
    inner = (
        Verifier(issuer.issuer, AUDIENCE, FetchedKeys(issuer.issuer, allow_dev=True), status=None, allow_dev=True)
        if more
        else verifier(issuer)
    )
    guarded = JitMiddleware(demo_app, inner, token_from=header, entitlement="releaser")  # type: ignore[arg-type]
    with listening(guarded) as url:
        code, text = dev("check", url, *FOR_RELEASERS, *more)
    assert code == 0, text
    assert ("Ends were not tried" in text) is bool(more)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "http://127.0.0.1:9/x", "--audience", "a"), "Start your application first"),
        (("check", "treasury", "--audience", "a"), "Give the full address"),
        (("token", "--audience", "a", "--input", "x"), "write name=value"),
        (("end", "x.y.z"), "no token of this issuer"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(dev: Run, arguments: tuple[str, ...], words: str) -> None:
    code, text = dev(*arguments)
    assert code != 0
    assert words in text
    assert "Traceback" not in text


def test_it_serves_until_it_is_stopped(issuer: DevIssuer) -> None:
    command = [sys.executable, "-m", "jitaccess.sdk.dev", "serve"]
    command += ["--folder", str(issuer.folder), "--port", str(issuer.port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    guard = threading.Timer(60, process.kill)
    guard.start()
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["issuer", issuer.issuer]
    assert FetchedKeys(issuer.issuer, allow_dev=True)(str(issuer.key.kid)) is not None
    process.terminate()
    process.wait(30)
    process.stdout.close()
    guard.cancel()
