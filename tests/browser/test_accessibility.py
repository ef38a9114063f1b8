"""axe looks at each notebook after "run all", after one refused map, and in the dark theme: nothing of ours is in the way of a reader.

The exceptions are JupyterLab's own parts, each with its reason; what axe finds inside an output or a text is never excepted.
"""

from __future__ import annotations

import re

import pytest
from tools import notebooks

pytestmark = pytest.mark.browser

#: Rule of axe -> (the element, as a selector; why it is not ours to mend). JupyterLab 4.6.
EXCEPTIONS = {
    "aria-input-field-name": (
        ".jp-InputArea-editor .cm-content",
        "CodeMirror gives a cell's editor no name, and a notebook has no say in it; screen readers announce the cell around it",
    ),
    "aria-required-children": (
        ".jp-WindowedPanel-viewport",
        "JupyterLab calls its list of cells a feed, whose children should be articles, and makes them regions with a name",
    ),
    "button-name": (
        ".jp-collapseHeadingButton",
        "the button beside a heading that folds a section has no name; the same command is in the menu View",
    ),
}
PATHS = [path.name for path in notebooks.find() if re.match(r"\d\d-", path.name)]
OURS = ".jp-OutputArea, .jp-MarkdownOutput"


#: The elements themselves are asked, in the same step: JupyterLab changes its classes while it is read, so a selector may name nothing.
LOOK = """async ([exceptions, ours]) => {
    const {violations} = await axe.run(".jp-Notebook", {resultTypes: ["violations"], elementRef: true});
    const excepted = (rule, node) => node.matches(exceptions[rule] ?? "none") && !node.closest(ours);
    return violations.flatMap(({id, impact, nodes}) => nodes
        .filter(({element}) => !excepted(id, element))
        .map(({html}) => `${id} (${impact}): ${html.slice(0, 160)}`));
}"""


def violations(page):
    """Run axe on the open notebook; return "rule: element" for everything that is no exception."""
    from axe_playwright_python.sync_playwright import Axe

    page.page.evaluate(Axe().axe_script)
    return page.page.evaluate(LOOK, [{rule: where for rule, (where, _) in EXCEPTIONS.items()}, OURS])


def refuse_a_map(page, notebook):
    """Bring a widget of this notebook to a refusal, if it has one that can be refused."""
    if notebook.startswith("00"):
        page.button(re.compile("^Attach group 8")).click()
        page.page.get_by_label("iova", exact=True).first.fill("0x800_0000")
        page.button("Map").click()
        page.page.get_by_role("alert").first.wait_for()
    elif notebook.startswith("03"):
        page.button("VT-d, 48 and 39 bits").click()
        page.button("1 GiB at 0x100_0000_0000").click()
        page.page.get_by_role("alert").first.wait_for()
    elif notebook.startswith("04"):
        page.button("ENOSPC").click()
        page.text("Not quite: you predicted ENOSPC, and it is EFAULT.").wait_for()


@pytest.mark.parametrize("notebook", PATHS)
def test_axe_finds_nothing_in_the_notebook_after_run_all_nor_after_a_refused_map(opened, notebook):
    page = opened(notebook)
    page.run_all()
    assert [] == violations(page)
    refuse_a_map(page, notebook)
    assert [] == violations(page)


def test_axe_finds_nothing_in_the_dark_theme_either(opened):
    from browser.harness import js

    page = opened("00-start-here.ipynb")
    page.run_all()
    refuse_a_map(page, "00")
    js(page.page, "await app.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.page.wait_for_timeout(500)
    found = violations(page)
    js(page.page, "await app.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    assert [] == found


def test_axe_would_see_a_picture_without_words_and_a_field_without_a_label(opened):
    page = opened("00-start-here.ipynb", kernel=False)
    page.picture(re.compile("1 domain holds the user's 1 mapping")).wait_for()
    page.page.evaluate(
        """() => document.querySelector('.jp-OutputArea-output').insertAdjacentHTML('beforeend',
            '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><input type="text">')"""
    )
    assert {"image-alt (critical)", "label (critical)"} == {line.partition(":")[0] for line in violations(page)}
