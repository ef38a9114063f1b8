"""The lab in JupyterLab and in Voila: every control with the keyboard alone, a story told step by step, nothing lost of quick clicks."""

import re

import pytest

pytestmark = pytest.mark.browser

NOTEBOOK = "lab.ipynb"
#: The rooms, and a button that each of them has.
MODES = {
    "Stage": "^Attach group 8", "Mappings": "^Unmap all$", "Devices": "^DMA read$", "Grid of splits": "^2 domains$",
    "Recorded kernels": "^Load$", "Machine": "^Read what is pasted$", "Build": "^Add IOMMU unit", "Keep and open": "^Open what stands",
}  # fmt: skip
#: What the keyboard can be on, and what it is called.
NAME = "(e => (e.labels?.[0]?.textContent || e.getAttribute('aria-label') || e.textContent || e.title).trim() || e.tagName)"
ACTIVE = f"() => {{ const e = document.activeElement; return e.closest('.vfiolab-app') ? {NAME}(e) : null; }}"
CONTROLS = f"""() => [...document.querySelector('.vfiolab-app').querySelectorAll(
    'button:not([disabled]), input:not([type=file]), textarea')]
    .filter(e => e.offsetParent !== null).map({NAME})"""


@pytest.fixture(scope="module")
def voila():
    from browser.harness import serving_voila

    with serving_voila(NOTEBOOK) as address:
        yield address


@pytest.fixture(params=["JupyterLab", "Voila"])
def page(request, browser):
    """The lab, ready, in one of the two; afterwards there was no error, and no other host was asked for anything."""
    if request.param == "Voila":
        shown = browser.visit(request.getfixturevalue("voila"))
    else:
        shown = browser.open(request.getfixturevalue("server"), NOTEBOOK)
        shown.run_all()
    shown.page.locator(".vfiolab-app").first.wait_for()
    shown.button(re.compile("^Attach group 8")).wait_for()
    yield shown
    shown.page.close()
    assert ([], []) == (shown.errors, shown.external)


def status(page, words):
    page.page.locator("[role=status], [role=alert]").filter(has_text=re.compile(words)).first.wait_for()


def start(page):
    """Put the keyboard on the first control of the lab."""
    page.page.locator(".vfiolab-app button").first.focus()


def tab_to(page, words, *, back=False):
    """Press Tab until the keyboard is on a control with these words."""
    for _ in range(160):
        if re.search(words, page.page.evaluate(ACTIVE) or ""):
            return
        page.page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"Tab does not reach {words!r}")


def choose(page, mode):
    start(page)
    tab_to(page, f"^{mode}$")
    page.page.keyboard.press("Space")


def type_in(page, field, text):
    tab_to(page, f"^{field}$")
    page.page.keyboard.press("ControlOrMeta+a")
    page.page.keyboard.type(text)


def press(page, words, key="Space"):
    tab_to(page, words)
    page.page.keyboard.press(key)


def test_tab_reaches_every_control_of_every_room(page):
    for mode, there in MODES.items():
        choose(page, mode)
        page.button(re.compile(there)).wait_for()
        page.page.wait_for_timeout(300)
        wanted = page.page.evaluate(CONTROLS)
        start(page)
        met = set()
        for _ in range(len(wanted) + 60):
            found = page.page.evaluate(ACTIVE)
            if found is None:
                break
            met.add(found)
            page.page.keyboard.press("Tab")
        assert [] == [name for name in wanted if name not in met], mode
        assert len(wanted) > 12


def test_a_story_is_told_with_the_keyboard_alone_and_axe_finds_nothing(page):
    from browser.test_accessibility import violations

    choose(page, "Stage")
    press(page, "^Attach group 8")
    status(page, "Group 8 was attached to D1")
    press(page, "^Attach group 10")
    status(page, "Group 10 was tried in D1, and the driver answered EINVAL")
    start(page)
    press(page, "^Play the last step", "Enter")
    status(page, "Before the call")
    for _ in range(6):
        press(page, "^Next$", "Enter")
    status(page, "Group 10 was attached to D2")
    assert [] == violations(page)
    choose(page, "Mappings")
    page.page.get_by_label("iova", exact=True).first.wait_for()
    type_in(page, "iova", "0x800_0000")
    page.page.keyboard.press("Enter")
    status(page, "refused: .*EINVAL.*software MSI window")
    assert [] == violations(page)
    press(page, "^Undo$", "Enter")
    status(page, "Group 10 was tried in D1")
    choose(page, "Keep and open")
    press(page, "^Python$")
    page.page.wait_for_function("() => [...document.querySelectorAll('textarea')].some(t => t.value.includes('space.attach'))")
    assert [] == violations(page)


def test_another_kernel_is_booted_with_one_key(page):
    choose(page, "Stage")
    press(page, "^Attach group 8")
    status(page, "Group 8 was attached")
    start(page)
    press(page, r"^6\.8$")
    status(page, "Linux 6.12 and 6.8 answer all 2 steps the same")


def test_ten_clicks_a_second_lose_nothing(page):
    page.button(re.compile("^Attach group 8")).click()
    status(page, "Group 8 was attached")
    page.button("Mappings").click()
    page.page.get_by_label("iova", exact=True).first.wait_for()
    page.page.evaluate(
        """() => new Promise(done => {
            const find = words => [...document.querySelectorAll('.vfiolab-app button')].filter(b => b.textContent.trim() === words).at(-1);
            let left = 30;
            const step = () => find(left % 2 ? 'Unmap' : 'Map').click();
            const timer = setInterval(() => { step(); if (!--left) { clearInterval(timer); done(); } }, 100);
        })"""
    )
    page.page.locator("pre").filter(has_text=re.compile(r"^ *32 space\.unmap\(.*accepted$", re.MULTILINE)).first.wait_for()


def test_a_click_does_not_move_what_was_clicked(page):
    page.button(re.compile("^Attach group 8")).click()
    status(page, "Group 8 was attached")
    other = page.button(re.compile("^Attach group 9"))
    before = other.bounding_box()
    other.click()
    status(page, "Group 9")
    after = page.button(re.compile("^Detach group 9")).bounding_box()
    assert (before["x"], before["y"]) == (after["x"], after["y"])
