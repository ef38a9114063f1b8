"""The explorer's buttons: one verb a click, shown as code, drawn at once; every test asserts the effect, not the click."""

import re

import ipywidgets
import pytest

from vfiolab.lab import Explorer
from vfiolab.lab.explorer import CHOICE


@pytest.fixture
def app():
    return Explorer("two-smmu-server", "intel-vtd-39bit")


def offered(app):
    """List the groups' buttons, unit by unit."""
    return [button for card in app.stage.groups.children for button in card.children[1].children]


def buttons(app):
    return {button.description: button for button in (*offered(app), *app.stage.drivers.children)}


def click(app, words):
    """Click the one button that says these words."""
    (button,) = [button for text, button in buttons(app).items() if words in text]
    button.click()


def attach(app, device):
    click(app, f": {device}")


def test_a_click_attaches_a_group(app):
    attach(app, "0000:01:00.0")
    assert (8,) == app.space.groups
    assert 'space.attach("0000:01:00.0")' == app.session.steps[-1].code


def test_the_same_button_then_says_detach_and_does_it(app):
    attach(app, "0000:01:00.0")
    assert "Detach group 8: 0000:01:00.0 Ethernet" in buttons(app)
    attach(app, "0000:01:00.0")
    assert () == app.space.groups
    assert "Attach group 8: 0000:01:00.0 Ethernet" in buttons(app)


def test_why_some_groups_are_not_offered_is_said(app):
    number, groups = len(offered(app)), len(app.host.groups)
    assert f"{groups - number} of {groups} groups hold bridges only: they cannot be attached" in app.stage.unoffered.value


def test_a_second_group_behind_another_unit_splits_the_domain_and_the_picture_says_so(app):
    attach(app, "0000:01:00.0")
    assert 1 == len(app.space.domains)
    attach(app, "0000:21:00.0")
    assert 2 == len(app.space.domains)
    assert "the address space has 2 domains (D2, D1)" in app.status.value
    assert re.search(r'<svg [^>]*role="img" aria-label="[^"]*2 domains', app.picture.value)


def test_map_and_unmap_take_what_the_fields_say(app):
    attach(app, "0000:01:00.0")
    app.iova.value, app.size.value, app.name.value = "0x1000_0000", "64K", "ring"
    app.map.click()
    assert [[0x1000_0000, 0x1000_FFFF, 64 << 10, "rw", "ring"]] == app.space.mappings.rows
    assert "ring" in app.picture.value
    app.unmap.click()
    assert [] == app.space.mappings.rows


def test_a_mapping_without_a_name_is_mapped_without_a_name(app):
    attach(app, "0000:01:00.0")
    app.name.value = ""
    app.map.click()
    assert 'space.map(0x4000_0000, "1G")' == app.session.steps[-1].code


@pytest.mark.parametrize(
    ("iova", "size", "words"),
    [
        ("0x800_0000", "1M", "software MSI window"),
        ("0x4000_0001", "4K", "EINVAL"),
        ("nowhere", "4K", "nowhere"),
        ("", "4K", "refused"),
        ("-1", "4K", "refused"),
        ("0xffff_ffff_ffff_f000", "8K", "refused"),
        ("0x4000_0000", "0", "EINVAL"),
    ],
)
def test_a_refused_map_is_an_alert_with_its_reason_and_changes_nothing(app, iova, size, words):
    attach(app, "0000:01:00.0")
    app.iova.value, app.size.value = iova, size
    app.map.click()
    assert app.status.value.startswith('<div role="alert"')
    assert words in app.status.value
    assert [] == app.space.mappings.rows


def test_an_alert_names_the_kernel_function_and_the_way_out(app):
    attach(app, "0000:01:00.0")
    app.iova.value = "0x800_0000"
    app.map.click()
    assert "Source: " in app.status.value
    assert "Try: " in app.status.value


def test_map_before_any_group_is_attached_is_refused(app):
    app.map.click()
    assert 'role="alert"' in app.status.value


def test_the_next_good_step_clears_the_alert(app):
    app.map.click()
    attach(app, "0000:01:00.0")
    assert app.status.value.startswith('<p role="status"')


def test_words_from_a_field_are_escaped(app):
    attach(app, "0000:01:00.0")
    app.name.value = "<script>alert(1)</script>"
    app.map.click()
    for view in (app.status, app.picture, app.panels):
        assert "<script" not in view.value


def test_each_step_is_shown_as_python_as_system_call_and_as_events(app):
    attach(app, "0000:01:00.0")
    assert "space.attach(&quot;0000:01:00.0&quot;)" in app.panels.value
    assert "VFIO_GROUP_SET_CONTAINER" in app.panels.value
    assert "attach D1 8 0" in app.panels.value


def test_another_machine_brings_its_own_groups_and_an_empty_space(app):
    attach(app, "0000:01:00.0")
    app.machine.value = "intel-vtd-39bit"
    assert "intel-vtd-39bit" == app.host.machine.name
    assert () == app.space.groups
    assert "Attach group 25" in " ".join(buttons(app))


def test_start_over_loads_the_machine_anew(app):
    attach(app, "0000:01:00.0")
    app.again.click()
    assert () == app.space.groups
    assert "Attach group 8: 0000:01:00.0 Ethernet" in buttons(app)


def test_bridges_are_not_offered_to_the_user(app):
    offered = re.findall(r"\w{4}:\w\w:\w\w\.\w", " ".join(buttons(app)))
    assert [] == [bdf for bdf in offered if app.host.machine.topology[bdf].is_bridge]


def test_a_group_that_is_not_viable_offers_to_bind_what_is_missing():
    app = Explorer("intel-vtd-39bit")
    attach(app, "0000:0f:00.0")
    assert "is not viable" in app.status.value
    click(app, "Bind 0000:0f:00.1 to vfio-pci")
    assert 'host.bind("0000:0f:00.1")' == app.session.steps[-1].code
    attach(app, "0000:0f:00.0")
    assert 1 == len(app.space.domains)
    assert () == app.stage.drivers.children


def test_a_click_from_the_browser_arrives(app):
    (button,) = [button for text, button in buttons(app).items() if "0000:01:00.0" in text]
    button._handle_msg({"content": {"data": {"method": "custom", "content": {"event": "click"}}}, "buffers": []})
    assert (8,) == app.space.groups


def test_a_click_keeps_the_controls_so_that_the_keyboard_stays_where_it_was(app):
    before = app.stage.groups.children
    attach(app, "0000:01:00.0")
    assert before == app.stage.groups.children


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def test_no_control_is_of_a_kind_whose_arrow_keys_jupyterlab_takes(app):
    kinds = (ipywidgets.Dropdown, ipywidgets.RadioButtons, ipywidgets.Select)
    assert [] == [widget for widget in walk(app.box) if isinstance(widget, kinds)]


def test_each_control_has_words(app):
    silent = [w for w in walk(app.box) if isinstance(w, (ipywidgets.Button, ipywidgets.Text)) and not w.description]
    assert [] == silent


def test_without_a_kernel_the_picture_stands_there_as_image_table_and_text(app):
    attach(app, "0000:01:00.0")
    bundle = app._repr_mimebundle_()
    assert re.search(r'<img alt="[^"]{20,}', bundle["text/html"])
    assert "<table>" in bundle["text/html"]
    assert "D1" in bundle["text/plain"]
    assert app.box.model_id == bundle["application/vnd.jupyter.widget-view+json"]["model_id"]


def test_the_stored_form_is_the_same_every_time():
    first, second = (Explorer("two-smmu-server")._repr_mimebundle_() for _ in range(2))
    assert first["text/html"] == second["text/html"]
    assert first["text/plain"] == second["text/plain"]


@pytest.mark.parametrize("machine", CHOICE)
def test_each_machine_of_the_first_choice_has_a_group_that_can_be_attached(machine):
    app = Explorer(machine)
    for button in offered(app):
        button.click()
    assert len(app.space.groups) >= 6


def test_a_machine_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no machine and no file is called 'moon'"):
        Explorer("moon")


def test_a_click_on_a_button_of_the_machine_before_does_nothing():
    view = Explorer("two-smmu-server")
    stale = [button for _, button in view.stage.buttons.values()]
    view.load("amd-vi-server")
    steps = len(view.session.steps)
    for button in stale:
        button.click()
    assert (steps, ()) == (len(view.session.steps), view.space.groups)


def test_groups_stand_beside_the_iommu_that_they_are_behind(app):
    heads, rows = zip(*((row.children[0].value, row.children[1].children) for row in app.stage.groups.children), strict=True)
    assert ["<strong>Behind smmu3.0xc020000 (arm-smmu-v3)</strong>", "<strong>Behind smmu3.0xc000000 (arm-smmu-v3)</strong>"] == list(heads)
    assert [[4, 5, 10, 11], [8, 9]] == [[int(re.search(r"group (\d+)", b.description)[1]) for b in row] for row in rows]


def test_a_button_names_the_device_beside_its_address():
    names = list(buttons(Explorer("amd-matisse-desktop")))
    assert "Attach group 18: 0000:2d:00.0 Radeon RX 6600/6600 XT/6600M" in names
    assert "Attach group 15: 0000:02:00.0 500 Series Chipset USB 3.1 XHCI Con… and 4 more" in names


def test_enter_in_a_field_maps_once_and_says_what_came_of_it(app):
    attach(app, "0000:01:00.0")
    app.iova._handle_msg({"content": {"data": {"method": "custom", "content": {"event": "submit"}}}, "buffers": []})
    assert 1 == len(app.space.mappings)
    assert 'space.map(0x4000_0000, "1G", name="guest RAM")' == app.session.steps[-1].code
