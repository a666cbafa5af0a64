"""A headless Chromium, driven over the WebDriver protocol by a few requests of our own."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from servers import free_port
from waiting import eventually

_SECONDS = 60.0
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

KEYS = {"ArrowLeft": "\ue012", "ArrowRight": "\ue014", "ArrowUp": "\ue013", "ArrowDown": "\ue015"}
KEYS |= {"Home": "\ue011", "End": "\ue010", "Enter": "\ue007", "Escape": "\ue00c", "Shift": "\ue008", "Alt": "\ue00a"}


class Browser:
    """One window. Use it in a `with` block."""

    def __init__(self, width: int = 1440, height: int = 900) -> None:
        program = shutil.which("chromedriver")
        assert program is not None, "these tests need a browser: apt-get install chromium chromium-driver"
        self._port = free_port()
        self._driver = subprocess.Popen(
            [program, f"--port={self._port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            eventually(self._is_ready, _SECONDS, what="chromedriver is ready")
            options: dict[str, Any] = {"args": [*_OPTIONS, f"--window-size={width},{height}"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self._end_driver()
            raise
        self.resize(width, height)

    def open(self, url: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": url})

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call(
            "POST",
            f"{self._session}/goog/cdp/execute",
            {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics},
        )

    def cut_off(self, is_off: bool) -> None:
        """Let no request of the page through from now on, or all again. A stream that is open goes on."""
        conditions = {"offline": is_off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        for command, params in (("Network.enable", {}), ("Network.emulateNetworkConditions", conditions)):
            self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": params})

    def held(self) -> tuple[int, int]:
        """The nodes and the listeners that are in memory, after all garbage was collected."""
        for command in ("Performance.enable", "HeapProfiler.collectGarbage", "HeapProfiler.collectGarbage"):
            self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": {}})
        answer = self._call(
            "POST", f"{self._session}/goog/cdp/execute", {"cmd": "Performance.getMetrics", "params": {}}
        )
        found = {metric["name"]: int(metric["value"]) for metric in answer["metrics"]}
        return found["Nodes"], found["JSEventListeners"]

    def calm(self) -> None:
        """Ask pages for no motion, as a setting of the system does: nothing is caught while it fades."""
        wanted = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
        self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": wanted})

    def run(self, script: str, *arguments: Any) -> Any:
        """The result of a script, which is the body of a function."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any) -> Any:
        """The first result of a script that counts as true."""
        return eventually(lambda: self.run(script, *arguments), _SECONDS, what=f"{script} {arguments}"[:300])

    def text(self, selector: str) -> str:
        """The text of the first element, once there is one."""
        return str(self.wait("return document.querySelector(arguments[0])?.textContent", selector))

    def click(self, selector: str) -> None:
        """Click where a person would: in the middle of the element, if nothing lies above it."""
        found = self.wait("return document.querySelector(arguments[0])", selector)
        self._call("POST", f"{self._session}/element/{found[_ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        """Press keys together, in what has the focus."""
        named = [KEYS.get(key, key) for key in keys]
        steps = [{"type": "keyDown", "value": key} for key in named]
        steps += [{"type": "keyUp", "value": key} for key in reversed(named)]
        self._act({"type": "key", "id": "keys", "actions": steps})

    def drag(self, x: float, y: float, to_x: float) -> None:
        """Drag the mouse sideways, from a place in the window."""
        move = {"type": "pointerMove", "origin": "viewport", "y": round(y), "duration": 0}
        steps = [{**move, "x": round(x)}, {"type": "pointerDown", "button": 0}]
        steps += [{**move, "x": round(x + (to_x - x) * part / 4)} for part in range(1, 5)]
        self._act({"type": "pointer", "id": "mouse", "actions": [*steps, {"type": "pointerUp", "button": 0}]})

    def write(self, text: str) -> None:
        steps = [{"type": kind, "value": each} for each in text for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keys", "actions": steps})

    def complaints(self) -> list[str]:
        """What the console has complained of since the last question."""
        entries = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def save_picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._end_driver()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _act(self, source: dict[str, Any]) -> None:
        self._call("POST", f"{self._session}/actions", {"actions": [source]})

    def _is_ready(self) -> bool:
        try:
            return bool(self._call("GET", "/status")["ready"])
        except OSError:
            return False

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{value['error']}: {value['message'][:1_000]}")
        return value

    def _end_driver(self) -> None:
        self._driver.terminate()
        self._driver.wait(_SECONDS)
