"""Hostile names in a report, opened in a real browser: no script of theirs runs, not even without the page's policy."""

import re
import shutil
import subprocess

import pytest
from test_page import hostile_page

from faults import Count, attempts

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
RUN = "document.documentElement.setAttribute('data-owned','yes')"
TAGS = [
    "<script>{0}</script>", "<img src=x onerror=\"{0}\">", "<svg onload=\"{0}\">", "<body onload=\"{0}\">",
    "<iframe srcdoc=\"<script>parent.{0}</script>\">", "<details open ontoggle=\"{0}\">x</details>",
    "<input autofocus onfocus=\"{0}\">", "<video><source onerror=\"{0}\"></video>", "<style onload=\"{0}\"></style>",
    "<object data=\"javascript:{0}\">", "<embed src=\"javascript:{0}\">", "<a href=\"javascript:{0}\" autofocus>x</a>",
    "<math><mtext><img src=x onerror=\"{0}\"></mtext></math>", "<template><script>{0}</script></template>",
    "<marquee onstart=\"{0}\">",
]  # fmt: skip
BEFORE = ["", '">', "'>", "</td></tr></table></svg></text></title></style></script>-->"]
EVIL = [before + tag.format(RUN) for tag in TAGS for before in BEFORE]


def owned(tmp_path, html):
    """True where a script changed the page while it was shown."""
    (tmp_path / "page.html").write_text(html)
    flags = ["--headless", "--disable-gpu", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--disable-background-networking", "--virtual-time-budget=2000", "--dump-dom"]
    shown = subprocess.run(
        [BROWSER, *flags, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=120
    )
    assert "</html>" in shown.stdout, shown.stderr[-500:]
    return re.search(r"<html[^>]*data-owned", shown.stdout) is not None


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the search path")
def test_no_hostile_name_runs_in_a_browser(tmp_path, line):
    bare = f"<html><body>{EVIL[0]}</body></html>"
    assert owned(tmp_path, bare), "the browser of this test runs scripts, so that it could have failed"
    count = Count(28, "hostile ids, labels, paths and reasons in a report, shown by Chromium without the page's policy")
    names = [EVIL[number * 7 % len(EVIL)] for number in attempts(1, len(EVIL))]
    for few in (names[start : start + 10] for start in range(0, len(names), 10)):
        pages = "".join(hostile_page(line, evil) for evil in few)  # a browser reads on behind the end of a page
        loose = re.sub(r"<meta http-equiv=\"?Content-Security-Policy[^>]*>", "", pages)
        assert "Content-Security-Policy" in pages and "Content-Security-Policy" not in loose
        bad = len(few) * owned(tmp_path, loose)
        count.silent, count.harmless = count.silent + bad, count.harmless + len(few) - bad
    count.done(least_refused=0)
