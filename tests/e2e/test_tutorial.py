"""Does the tutorial work, word for word? Its own commands run in a shell, its own steps in Chromium, in order."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import attach_passkey
from tests.support.ports import free_port
from tests.support.sources import ROOT
from tests.support.tutorial import Command, Step, read, step

TUTORIAL = ROOT / "docs" / "tutorial" / "first-access.md"
PATIENCE_S = 240
"""How long a command or a page may take; a slow machine is no defect."""


@dataclass(slots=True)
class Reader:
    """Somebody who does what the tutorial says, in a folder and on a port of his own."""

    folder: Path
    port: int
    browser: Browser
    environment: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    pages: dict[str, Page] = field(default_factory=dict)
    kept: str = ""

    def here(self, text: str) -> str:
        """Return a text of the document with this reader's port."""
        return text.replace("8000", str(self.port))

    @property
    def printed(self) -> Path:
        """Return what the last command that keeps running printed."""
        return self.folder / f"printed-{len(self.running)}.txt"

    # -- the terminal

    def run(self, command: Command) -> None:
        """Run a block to its end, or start it."""
        if command.keeps_running:
            self._finish_last()
            self.running.append(self._start(self.here(command.text)))
            return
        done = subprocess.run(
            ["bash", "-ec", self.here(command.text)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{command.text}\n{done.stdout}{done.stderr}{self._last_words()}"

    def _start(self, text: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"printed-{len(self.running) + 1}.txt").open("wb") as out:
            return subprocess.Popen(
                ["bash", "-ec", f"exec {text}"],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _finish_last(self) -> None:
        """Let the command before end by itself, as the document says it does."""
        if self.running:
            assert self.running[-1].wait(PATIENCE_S) == 0, self._last_words()

    def _last_words(self) -> str:
        return self.printed.read_text(errors="replace") if self.running else ""

    def wait_until_serving(self) -> None:
        """Wait until the broker that was started last is ready; a person would look at the clock and try again."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            done = subprocess.run(
                ["jitaccess", "ready"], cwd=self.folder, env=self.environment, capture_output=True, check=False
            )
            if done.returncode == 0:
                return
            assert self.running[-1].poll() is None, self._last_words()
            time.sleep(0.2)
        raise AssertionError(self._last_words())

    def address_printed(self) -> str:
        """Return the address that the command prints, once it does."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            found = re.search(r"http://localhost:\d+/\S+", self.printed.read_text())
            if found is not None:
                return found[0]
            assert self.running[-1].poll() is None, self._last_words()
            time.sleep(0.1)
        raise AssertionError(self._last_words())

    # -- the browsers

    def page(self, person: str) -> Page:
        """Return a person's page: a profile and a passkey of its own."""
        if person not in self.pages:
            context = self.browser.new_context(locale="en-GB", timezone_id="Europe/Belgrade")
            context.set_default_timeout(PATIENCE_S * 1000)
            self.pages[person] = context.new_page()
            attach_passkey(self.pages[person])
        return self.pages[person]

    def do(self, step: Step) -> None:
        """Do one step."""
        page = self.page(step.person)
        place: Page | Locator = page if step.under is None else part(page, step.under)
        match step.act:
            case "open":
                page.goto(self.here(step.value))
            case "open-printed":
                page.goto(self.address_printed())
            case "open-kept":
                page.goto(self.kept)
            case "keep":
                shown = page.locator("output").filter(has_text="http")
                expect(shown).to_be_visible(timeout=PATIENCE_S * 1000)
                self.kept = re.search(r"http\S+", shown.inner_text())[0]  # type: ignore[index] # it has one
            case "sign-in":
                sign_in(page)
            case "see":
                expect(page.get_by_text(step.what).first).to_be_visible(timeout=PATIENCE_S * 1000)
            case "fill":
                place.get_by_label(step.what, exact=True).fill(step.value)
            case "choose":
                place.get_by_label(step.what, exact=True).select_option(label=step.value)
            case "click":
                press(page, place, step.what)
            case _:
                raise AssertionError(step.act)

    def close(self) -> None:
        """Close the browsers and end what runs."""
        for page in self.pages.values():
            page.context.close()
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(20)


def part(page: Page, heading: str) -> Locator:
    """Return the form that follows a heading."""
    return page.locator("form").filter(has=page.locator("button")).locator(
        f'xpath=self::*[preceding::h2[1][normalize-space()="{heading}"]]'
    ).first  # fmt: skip


def press(page: Page, place: Page | Locator, name: str) -> None:
    """Press a button or follow a link; where a passkey has to answer, wait until the page has gone on."""
    # The document says what is read on the button; for who hears it, a colon and what it is about may follow.
    button = place.get_by_role("button", name=re.compile(rf"^{re.escape(name)}\s?(:|$)"))
    link = place.get_by_role("link").filter(has_text=name)
    found = button.or_(link).first
    ceremony = found.evaluate("element => element.closest('form[data-ceremony]') !== null")
    if not ceremony:
        found.click()
        return
    with page.expect_response(re.compile(r"/complete$"), timeout=PATIENCE_S * 1000) as done:
        found.click()
    assert done.value.ok, done.value.text()
    page.wait_for_load_state()


def sign_in(page: Page) -> None:
    """Let the browser offer the passkey by itself, else press the button."""
    page.wait_for_load_state()
    try:
        page.wait_for_url(re.compile(r"^(?!.*/sign-in)"), timeout=5_000)
    except Exception:  # Playwright's own time-out: nothing was offered; the button is there for that
        page.get_by_role("button", name="Sign in with a passkey").click()
        page.wait_for_url(re.compile(r"^(?!.*/sign-in)"), timeout=PATIENCE_S * 1000)


@pytest.fixture
def reader(browser: Browser, tmp_path: Path) -> Iterator[Reader]:
    """Give a reader with an empty folder and `jitaccess` on the path."""
    tools = tmp_path / "bin"
    tools.mkdir()
    program = tools / "jitaccess"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jitaccess "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "tutorial"
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JIT_")}
    environment = {**kept, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    found = Reader(folder, free_port(), browser, environment)
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.covers("R70", "R74")
def test_every_step_of_the_tutorial_does_what_it_says(reader: Reader) -> None:
    for todo in read(TUTORIAL):
        match todo:
            case Command(text=text):
                if text == "jitaccess ready":
                    reader.wait_until_serving()
                reader.run(todo)
            case Step():
                reader.do(todo)
    checkpoint = (reader.folder / "kept-elsewhere.txt").read_text()
    assert checkpoint.startswith("tutorial.localhost/log\n")
    assert (reader.folder / "proof").is_dir()


def test_the_tutorial_leads_from_genesis_to_a_verified_export() -> None:
    told = list(read(TUTORIAL))
    commands = [todo.text for todo in told if isinstance(todo, Command)]
    assert commands.index(next(text for text in commands if text.startswith("jitaccess init --pilot"))) == 2
    assert any("jitaccess audit verify" in text for text in commands)
    assert {todo.person for todo in told if isinstance(todo, Step)} == {"Ana", "Bekim"}


def test_a_sentence_that_no_test_can_do_is_no_step() -> None:
    with pytest.raises(ValueError, match="no test can do this"):
        step("Ana", "Think about it.")
