"""The page in a headless Chromium, which is asked over its debugging pipe: offline, quiet, at any width, in both schemes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)


class Browser:
    """A page in a browser.

    Attributes:
        complaints: what its console and its log have said
        requests: every address that it has asked for
    """

    def __init__(self, process: subprocess.Popen[bytes], to_it: int, from_it: int) -> None:
        self.process, self.to_it, self.from_it = process, to_it, from_it
        self.rest, self.number, self.session = b"", 0, ""
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the DevTools protocol."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_it, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def wait_for(self, event: str) -> None:
        """Until the page has told of an event."""
        while True:
            told = self._next()
            self._note(told)
            if told.get("method") == event:
                return

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.from_it, 2**20)
            assert part, "the browser has ended"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def _note(self, told: dict[str, Any]) -> None:
        method, values = told.get("method"), told.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.complaints.append(str(values["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(values["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(values["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])

    def open(self, path: Path, *, width: int = 1280, dark: bool = False, script: bool = True) -> None:
        """Show a file, as wide as asked for."""
        self.session, self.complaints, self.requests = "", [], []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A Chromium with a profile of its own."""
    assert CHROMIUM is not None
    read_by_it, to_it = os.pipe()
    from_it, written_by_it = os.pipe()

    def as_3_and_4() -> None:
        low, high = os.dup(read_by_it), os.dup(written_by_it)
        os.dup2(low, 3)
        os.dup2(high, 4)
        os.set_inheritable(3, True)
        os.set_inheritable(4, True)

    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        command, preexec_fn=as_3_and_4, close_fds=False, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    os.close(read_by_it)
    os.close(written_by_it)
    try:
        yield Browser(process, to_it, from_it)
    finally:
        process.terminate()
        process.wait(20)
        os.close(to_it)
        os.close(from_it)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SEEN = "[...document.querySelectorAll('svg text')].every(text => text.getBoundingClientRect().height >= 8)"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_opens_from_a_file_and_fits(made: Path, page: Browser, width: int, dark: bool) -> None:
    page.open(made / "report.html", width=width, dark=dark)
    assert page.value("document.title")
    assert page.value(OVERFLOW) <= 0
    assert page.value(SEEN), "letters of at least eight pixels"
    assert page.complaints == []
    assert {address.partition(":")[0] for address in page.requests} == {"file"}
    assert len(set(page.requests)) == 1


def luminance(colour: str) -> float:
    """Of `rgb(r, g, b)`, after WCAG 2."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("selector", ["body", "td.best", ".note", "svg text", "dt", "th button"])
def test_words_stand_out_from_the_paper(made: Path, page: Browser, dark: bool, selector: str) -> None:
    page.open(made / "report.html", dark=dark)
    style = f"getComputedStyle(document.querySelector({selector!r}))"
    ink = page.value(f"{style}.{'fill' if selector.startswith('svg') else 'color'}")
    paper = page.value("getComputedStyle(document.body).backgroundColor")
    low, high = sorted((luminance(ink), luminance(paper)))
    assert (high + 0.05) / (low + 0.05) >= 4.5
    assert (luminance(paper) < 0.1) == dark


def test_a_column_is_sorted_both_ways_by_its_numbers(made: Path, page: Browser) -> None:
    page.open(made / "report.html")
    table = "[...document.querySelectorAll('#run table')][0]"
    column = page.value(f"[...{table}.querySelectorAll('th')].findIndex(head => head.textContent === 'parameters')")
    cells = f"[...{table}.tBodies[0].rows].map(row => row.cells[{column}].textContent)"
    click = f"{table}.querySelectorAll('th')[{column}].querySelector('button').click()"
    before = [int(text.replace(",", "")) for text in page.value(cells)]
    page.value(click)
    assert [int(text.replace(",", "")) for text in page.value(cells)] == sorted(before, reverse=True)
    page.value(click)
    assert [int(text.replace(",", "")) for text in page.value(cells)] == sorted(before)


def test_a_table_is_copied_as_columns(made: Path, page: Browser) -> None:
    page.open(made / "report.html")
    page.value("navigator.clipboard.writeText = async text => { window.copied = text }; 0")
    page.value("document.querySelector('#run .copy').click()")
    lines = page.value("new Promise(done => setTimeout(() => done(window.copied), 50))").splitlines()
    assert lines[0].split("\t")[:2] == ["role", "model"]
    assert len({line.count("\t") for line in lines}) == 1
    assert len(lines) == 1 + page.value("document.querySelector('#run table').tBodies[0].rows.length")


def test_without_script_everything_is_there(made: Path, page: Browser) -> None:
    page.open(made / "report.html", script=False)
    text = page.ask("DOM.getOuterHTML", nodeId=page.ask("DOM.getDocument", depth=-1)["root"]["nodeId"])["outerHTML"]
    assert "How far to believe it" in text
    assert text.count("<svg") > 10
    assert "Copy table</button>" not in text
    assert page.complaints == []
