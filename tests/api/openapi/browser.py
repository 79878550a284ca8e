"""Chromium without a window, driven over a pipe (the DevTools protocol)."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

FLAGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
TO_THREE_AND_FOUR: Final = 'exec "$0" "$@" 3<&{} 4>&{}'  # where Chromium reads and writes

UNTIL: Final = """
const until = async (found) => {
  for (let i = 0; i < 1000; i++) {
    const value = found();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("never there: " + found);
};
"""
EXECUTE = """
(async () => {
  await until(() => document.querySelector(".opblock"));
  const statuses = {};
  for (const block of [...document.querySelectorAll(".opblock")].filter((one) => IDS.includes(one.id))) {
    block.querySelector(".opblock-summary-control").click();
    (await until(() => block.querySelector(".try-out__btn"))).click();
    (await until(() => block.querySelector(".execute"))).click();
    const status = await until(() => block.querySelector(".live-responses-table tr.response td.response-col_status"));
    statuses[block.id] = parseInt(status.innerText);
    block.querySelector(".opblock-summary-control").click();
  }
  return statuses;
})()
"""


class Page:
    """One page of a running browser."""

    def __init__(self, sends: int, receives: int) -> None:
        self._sends, self._receives = sends, receives
        self._count, self._rest = 0, b""
        self._session: dict[str, str] = {}
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def open(self, url: str) -> None:
        """Go to an address."""
        self.command("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Value of an expression, awaited; in it `until` waits for something. AssertionError if it throws."""
        expression = f"{{{UNTIL} {script}}}"  # a block: its value is that of the script
        answer = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def try_out(self, operations: Iterable[str]) -> dict[str, int]:
        """The status of every operation when "Try it out" sends its example, on an open documentation page."""
        statuses: dict[str, int] = self.run(EXECUTE.replace("IDS", json.dumps([*operations])))
        return statuses

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Result of a command."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._sends, json.dumps(message).encode() + b"\0")
        while True:
            found: dict[str, Any] = self._next()
            if found.get("id") == self._count:
                assert "result" in found, found
                result: dict[str, Any] = found["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._receives, 1 << 16)
            assert part, "the browser ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A page of a browser that keeps what it must in a folder."""
    chromium = shutil.which("chromium") or "chromium"
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()
    shell = ["bash", "-c", TO_THREE_AND_FOUR.format(from_us, to_us), chromium, *FLAGS, f"--user-data-dir={folder}"]
    with subprocess.Popen(shell, pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL) as process:
        os.close(from_us)
        os.close(to_us)
        page = Page(to_browser, from_browser)
        try:
            yield page
            page.command("Browser.close")
        finally:
            process.terminate()
            process.wait()
            os.close(to_browser)
            os.close(from_browser)
