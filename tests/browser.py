"""A page in headless Chromium: what axe-core, the console and the network say of it."""

from __future__ import annotations

import html
import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.programs import found

CHROMIUM = found("chromium")
WATCH = """<script>
window.seen = {violations: [], errors: []};
addEventListener("securitypolicyviolation", event => seen.violations.push(event.blockedURI));
addEventListener("error", event => seen.errors.push(String(event.message || event.target.outerHTML)), true);
</script>"""
ASK = """<script>
addEventListener("load", () => axe.run().then(result => {
  const requests = performance.getEntriesByType("resource").map(entry => entry.name);
  seen.requests = requests.filter(name => !name.startsWith("data:"));
  seen.overflow = document.scrollingElement.scrollWidth - innerWidth;
  seen.background = getComputedStyle(document.body).backgroundColor;
  seen.pictures = [...document.images].filter(image => !image.complete || !image.naturalWidth).length;
  seen.findings = result.violations.map(one => [one.impact, one.id, one.nodes.map(node => node.html.slice(0, 200))]);
  seen.passes = result.passes.length;
  const pre = document.createElement("pre");
  pre.id = "seen";
  pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
}));
</script>"""


def axe_script() -> str:
    package = find_spec("axe_playwright_python")
    assert package is not None and package.submodule_search_locations
    return (Path(package.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def look_at(page: Path, scratch: Path, *, width: int = 1200, dark: bool = False) -> dict[str, Any]:
    """Load a copy of the page that carries axe-core, whose script the page's own policy would refuse.

    Returns:
        violations of the policy, errors, requests, pictures that did not load, pixels that stick out to the right,
        and axe-core's findings as [impact, rule, elements].
    """
    assert CHROMIUM is not None
    text = page.read_text(encoding="utf-8").replace(
        "default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';"
    )
    text = text.replace("<head>", f"<head>{WATCH}", 1).replace('loading="lazy" ', "")
    copy = scratch / "page.html"
    copy.write_text(text.replace("</body>", f"<script>{axe_script()}</script>{ASK}</body>"), encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        f"--user-data-dir={scratch / 'profile'}", f"--window-size={width},2000", "--virtual-time-budget=60000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--enable-logging=stderr", "--dump-dom",
        copy.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen | {"console": [line for line in done.stderr.splitlines() if "CONSOLE" in line]}
