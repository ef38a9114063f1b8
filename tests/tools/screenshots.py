"""Take the pictures of the running notebooks that the README shows.

    python tests/tools/screenshots.py        # writes notebooks/pictures/notebook-00.png

A real JupyterLab and Chromium, as in the browser tests: run all, attach a group of each SMMU, map, and keep the part from
the text above the explorer to the end of its picture. Prints what was seen, and how long a click took.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from statistics import median

TESTS = Path(__file__).resolve().parents[1]
PICTURES = TESTS.parent / "notebooks" / "pictures"
WIDTH = 1200


def explorer(target: Path) -> None:
    """Use notebook 00's explorer as a learner would, and keep the picture in `target`."""
    from browser.harness import Browser, js, serving

    with serving() as address, Browser(width=WIDTH + 66, height=1400) as browser:
        page = browser.open(address, "00-start-here.ipynb")
        page.run_all()
        page.button(re.compile("^Attach group 8")).click()
        page.button("Map").click()
        page.inline(re.compile("D1: group")).wait_for()
        page.button(re.compile("^Attach group 10")).click()
        page.inline(re.compile("D2: group")).wait_for()
        clicks = [page.time_click(name) for name in ["Unmap", "Map"] * 5]
        live = page.inline(re.compile("D2: group")).first
        print(live.get_attribute("aria-label"))
        print(f"click to new picture: median {median(clicks):.0f} ms of {len(clicks)} clicks")
        js(page.page, "document.activeElement.blur(); panel.content.deselectAll(); panel.content.activeCellIndex = 0")
        top = page.page.get_by_role("heading", name=re.compile("Do it with your own hands"))
        top.evaluate("node => node.scrollIntoView({block: 'start'})")
        page.page.mouse.move(5, 5)
        page.page.wait_for_timeout(500)
        panel = page.page.locator(".jp-WindowedPanel-outer").bounding_box()
        first, last = top.bounding_box(), live.bounding_box()
        up = first["y"] - 6
        clip = {"x": panel["x"], "y": up, "width": panel["width"], "height": last["y"] + last["height"] + 14 - up}
        target.parent.mkdir(exist_ok=True)
        page.page.screenshot(path=target, clip=clip)
        print(f"{target.name}: {clip['width']:.0f} x {clip['height']:.0f}")
        assert not page.errors, page.errors
        assert not page.external, page.external


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    explorer(PICTURES / "notebook-00.png")
