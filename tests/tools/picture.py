"""Take the README's picture: notebook 00 in JupyterLab with two groups attached and two domains behind them.

python tests/tools/picture.py [FILE]        # default: notebooks/pictures/notebook-00.png
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from browser.harness import Browser, NotebookPage, serving  # noqa: E402 - a script finds its neighbours only after the line above

STORED = ROOT / "notebooks" / "pictures" / "notebook-00.png"
MAPPINGS = [("0x4000_0000", "1G", "guest RAM"), ("0x1_0000_0000", "64K", "ring")]


def prepare(page: NotebookPage) -> None:
    """Use the explorer as a learner would, and bring it into view below its line of code."""
    page.run_all()
    for device in ("0000:01:00.0", "0000:21:00.0"):
        page.button(re.compile(rf"^Attach group \d+: {device}")).click()
        page.button(re.compile(rf"^Detach group \d+: {device}")).wait_for()
    for iova, size, name in MAPPINGS:
        for label, words in (("iova", iova), ("Size", size), ("Name", name)):
            page.page.get_by_label(label, exact=True).first.fill(words)
        page.button("Map").click()
        page.page.locator(".widget-html [role=status]").filter(has_text=name).wait_for()
    page.page.evaluate("() => document.activeElement.blur()")
    page.button("two-smmu-server").evaluate("button => button.closest('.jp-Cell').scrollIntoView({block: 'start'})")
    page.page.mouse.move(0, 0)
    page.page.wait_for_timeout(500)


def main(argv: list[str]) -> int:
    target = Path(argv[0]) if argv else STORED
    target.parent.mkdir(parents=True, exist_ok=True)
    with serving() as address, Browser(width=1180, height=1190) as browser:
        page = browser.open(address, "00-start-here.ipynb")
        prepare(page)
        page.page.screenshot(path=target)
    print(f"stored {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
