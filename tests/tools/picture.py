"""Take the README's pictures: notebook 00 in JupyterLab with two groups attached and two domains behind them, and the lab's film strip.

python tests/tools/picture.py [FOLDER]        # default: notebooks/pictures
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from browser.harness import Browser, NotebookPage, serving  # noqa: E402 - a script finds its neighbours only after the line above

STORED = ROOT / "notebooks" / "pictures"
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


def story(page: NotebookPage) -> Iterator[str]:
    """Tell the lab's story with clicks, and yield a name whenever a picture is to be taken."""

    def press(words: str) -> None:
        page.page.locator(".vfiolab-app").get_by_role("button", name=words, exact=True).last.click()

    def said(words: str) -> None:
        page.page.locator("[role=status], [role=alert]").filter(has_text=re.compile(words)).first.wait_for()

    page.run_all()
    press("Grid of splits")
    page.page.get_by_title(re.compile("^VT-d, snoop control in one.*Linux 6.12.*1 GiB at 0x4000_0000")).click()
    said("the address space has 2 domains")
    press("Stage")
    press("Rewind")
    said("nothing was done yet")
    yield "1-machine"
    press("To the end")
    said("the address space has 2 domains")
    yield "2-split"
    press("Play the last step")
    for _ in range(3):
        press("Next")
    said("Moment 4")
    yield "3-played"
    press("Mappings")
    for label, words in (("iova", "0xfee0_0000"), ("Size", "1M"), ("Name", "guest RAM")):
        page.page.get_by_label(label, exact=True).first.fill(words)
    press("Map")
    said("refused")
    yield "4-refused"
    press("4.4")
    said("accepted on 4.4")
    yield "5-another-kernel"
    press("Devices")
    page.page.get_by_label("iova or vector", exact=True).first.fill("0xfee0_1000")
    press("DMA write")
    said("Lost")
    yield "6-lost"


def main(argv: list[str]) -> int:
    target = Path(argv[0]) if argv else STORED
    target.mkdir(parents=True, exist_ok=True)
    with serving() as address, Browser(width=1180, height=1190) as browser:
        page = browser.open(address, "00-start-here.ipynb")
        prepare(page)
        page.page.screenshot(path=target / "notebook-00.png")
        page = browser.open(address, "lab.ipynb")
        page.page.set_viewport_size({"width": 1180, "height": 2600})
        for name in story(page):
            page.page.evaluate("() => document.activeElement.blur()")
            page.page.mouse.move(0, 0)
            page.page.wait_for_timeout(500)
            page.page.locator(".vfiolab-app").first.screenshot(path=target / f"lab-{name}.png")
    print(f"stored in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
