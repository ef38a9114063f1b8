"""The lab: each control takes a step that can be taken back; kernels, recordings, machines, sessions; what is wrong loses nothing."""

import asyncio
import re

import ipywidgets
import pytest

import vfiolab as vl
from vfiolab.kit.programs import PROGRAMS
from vfiolab.lab import Lab
from vfiolab.lab.app import FORMS, MODES


@pytest.fixture
def app():
    return Lab("two-smmu-server")


@pytest.fixture
def intel():
    return Lab("intel-vtd-39bit")


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def press(app, words):
    (button,) = [w for w in walk(app.box) if isinstance(w, ipywidgets.Button) and w.description == words]
    button.click()


def stage(app, group):
    app.stage.buttons[group][1].click()


def said(app):
    return re.sub(r"<[^>]*>", "", app.status.value).replace("&quot;", '"')


def test_it_opens_on_the_machine_itself(app):
    assert "16 functions in 12 IOMMU groups" in app.picture.value
    assert 6 == len(app.stage.buttons)


def test_two_clicks_let_the_chain_and_the_map_grow_and_the_words_tell_the_split(app):
    stage(app, 8)
    stage(app, 10)
    assert 2 == len(app.space.domains)
    assert "Group 10 was tried in D1, and the driver answered EINVAL" in said(app)
    assert 2 == app.picture.value.count('role="img"')


def test_the_last_step_is_played_request_by_request(app):
    stage(app, 8)
    press(app, "Play the last step")
    assert "Before the call" in app.player.children[0].children[1].value
    for _ in range(3):
        app.player.children[0].children[0].children[2].click()
    assert "Group 8 was attached to D1" in app.player.children[0].children[1].value


def test_undo_and_redo_go_back_and_forth_without_limit(app):
    stage(app, 8)
    app.mode.value = "Mappings"
    for iova in ("0x1000", "0x2000", "0x3000"):
        app.iova.value, app.size.value = iova, "4K"
        press(app, "Map")
    whole = app.session.text()
    press(app, "Rewind")
    assert (0, 5) == (len(app.session.steps), len(app.session.undone))
    press(app, "To the end")
    assert whole == app.session.text()
    press(app, "Undo")
    assert 2 == len(app.space.mappings)
    press(app, "Redo")
    assert whole == app.session.text()


def test_a_refusal_stays_with_its_checks_until_the_next_step(app):
    stage(app, 8)
    app.mode.value = "Mappings"
    app.iova.value, app.size.value = "0x800_0000", "1M"
    press(app, "Map")
    app.mode.value = "Devices"
    assert "software MSI window" in said(app)
    assert "✗ the range lies inside one usable iova range" in app.panels.value
    stage(app, 9)
    assert "Checks" not in app.panels.value


def test_another_kernel_runs_the_steps_again_and_marks_what_differs(intel):
    stage(intel, 17)
    intel.do("space.map", 0xFEE0_0000, "1M")
    assert "EINVAL" == intel.session.steps[-1].reason
    intel.kernel.value = "4.4"
    assert "4.4" == str(intel.host.kernel)
    assert 'Linux 6.12 and 4.4 answer 1 of 3 steps otherwise, first step 3, space.map(0xfee0_0000, "1M"): EINVAL on 6.12, accepted' in said(
        intel
    )
    assert "(6.12: EINVAL)" in intel.panels.value
    intel.do("space.dma_write", "01:00.0", 0xFEE0_1000, 1)
    assert "Lost: " in said(intel)
    assert 'role="alert"' in intel.status.value


def test_a_machine_whose_kernel_is_not_among_those_offered_keeps_it(app):
    app.mode.value = "Recorded kernels"
    app.recording.value = "amd-4.14"
    press(app, "Load")
    assert ("4.14.177", "4.14.177") == (app.kernel.value, app.host.kernel.release)


def test_several_containers_and_processes_each_hold_their_own_groups(app):
    stage(app, 8)
    press(app, "New container")
    app.spaces.value = "space2"
    stage(app, 10)
    press(app, "Fork")
    assert {"space": (8,), "space2": (10,), "space_P1": (8,), "space2_P1": (10,)} == {n: s.groups for n, s in app.session.spaces.items()}
    assert "(in space)" in app.stage.buttons[8][1].description


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_programs_memory_is_mapped_with_one_click(intel, program):
    stage(intel, 17)
    intel.mode.value = "Mappings"
    intel.ram.value = "2G"
    press(intel, PROGRAMS[program][0])
    assert f'space.map_program("{program}", "2G")' == intel.session.steps[-1].code
    assert len(intel.space.mappings) >= 1


def test_a_programs_memory_that_meets_the_window_leaves_nothing_behind(app):
    stage(app, 8)
    app.mode.value = "Mappings"
    app.ram.value = "8G"
    press(app, PROGRAMS["qemu-q35"][0])
    assert ("EINVAL", 0) == (app.session.steps[-1].reason, len(app.space.mappings))


def test_devices_are_bound_unplugged_and_come_back(app):
    app.mode.value = "Devices"
    app.device.value = "0000:21:00.0"
    for words, code in (
        ("Bind to vfio-pci", 'host.bind("0000:21:00.0")'),
        ("Unbind", 'host.unbind("0000:21:00.0")'),
        ("Remove", 'host.process.remove("0000:21:00.0")'),
        ("Rescan", "host.process.rescan()"),
    ):
        press(app, words)
        assert (code, None) == (app.session.steps[-1].code, app.session.steps[-1].refused)


def test_interrupts_and_dma_show_their_journey(app):
    stage(app, 8)
    app.mode.value = "Devices"
    app.device.value = "0000:01:00.0"
    press(app, "Enable MSI")
    press(app, "Raise the interrupt")
    assert "Delivered" in said(app)
    press(app, "DMA read")
    assert "fault" == app.session.steps[-1].outcome


def test_each_cell_of_the_grid_loads_its_experiment(app):
    app.mode.value = "Grid of splits"
    cells = [w for w in walk(app.room) if isinstance(w, ipywidgets.Button)]
    assert 90 == len(cells)
    for cell in cells[::17]:
        cell.click()
        number = cell.description.split()[0]
        assert number == ("✗" if app.session.steps[-1].refused else str(len(app.space.domains)))


def test_a_recorded_kernel_is_stepped_through_with_the_models_answer_beside_it(app):
    app.mode.value = "Recorded kernels"
    app.recording.value = "errors-6.12"
    press(app, "Load")
    assert "nothing was done yet" in said(app)
    press(app, "Next refusal")
    assert app.session.steps[-1].refused
    assert re.search(r"The recorded kernel answered E\w+\. The model answers the same", said(app))
    press(app, "Undo")
    assert not app.session.steps[-1].refused
    press(app, "Next divergence")
    assert "No call from here on was answered otherwise" in said(app)


def test_a_recorded_answer_that_the_model_does_not_give_is_gone_to_and_said(app):
    scenario = vl.Session.of_scenario(*_changed("errors-6.12"))
    app.take(scenario)
    press(app, "Next divergence")
    assert "Here they differ: the kernel result ENOTTY" in said(app)


def _changed(name):
    """Return a recording in which one answer was changed."""
    from vfiolab.kit.recorded import recorded_scenarios
    from vfiolab.readers.trace import Answer, Scenario

    machine, scenarios = recorded_scenarios(name)
    first = scenarios[0]
    at = next(n for n, one in enumerate(first.operations) if one.verb == "set_iommu")
    answers = [Answer("ENOTTY") if n == at else one for n, one in enumerate(first.answers)]
    return machine, Scenario(first.name, first.line, first.operations, answers)


def test_any_machine_of_the_kit_or_a_listing_is_loaded_and_nonsense_leaves_all_as_it_is(app):
    app.mode.value = "Machine"
    app.machine.value = "amd-vi-server"
    press(app, "Load")
    assert "amd-vi-server" == app.host.machine.name
    app.machine.value = "moon"
    press(app, "Load")
    assert "no machine and no file is called" in said(app)
    app.paste.value = "no listing"
    press(app, "Read what is pasted")
    assert "Not read, and what is below stays" in said(app)
    assert "amd-vi-server" == app.host.machine.name
    app.paste.value = vl.load("intel-vtd-39bit").machine.json()
    press(app, "Read what is pasted")
    assert "intel-vtd-39bit" == app.host.machine.name


def test_a_built_machine_is_taken_over(app):
    app.mode.value = "Build"
    builder = app.builder
    builder.add.click()
    builder.thing.value = "root port"
    builder.add.click()
    builder.thing.value = "endpoint"
    builder.add.click()
    press(app, "Use this machine")
    assert "my machine" == app.host.machine.name
    (number,) = app.stage.buttons
    stage(app, number)
    assert 1 == len(app.space.domains)


def test_a_session_is_written_in_every_form_and_opened_again(app):
    stage(app, 8)
    app.mode.value = "Keep and open"
    texts = {}
    for form in FORMS:
        app.form.value = form
        texts[form] = app.text.value
        assert f"session{FORMS[form][0]}" in app.link.value
    assert len(texts) == len(set(texts.values()))
    assert "VFIO_GROUP_SET_CONTAINER" in texts["C"]
    press(app, "Rewind")
    app.text.value = texts["session"]
    press(app, "Open what stands here")
    assert (8,) == app.space.groups
    app.text.value = texts["session"].replace('"devices"', '"devices')
    press(app, "Open what stands here")
    assert (8,) == app.space.groups
    assert "Not read, and what is below stays" in said(app)


def test_long_work_shows_progress_can_be_stopped_and_leaves_the_session_whole(app, monkeypatch):
    monkeypatch.setattr("vfiolab.lab.app.QUICK", 0.0)
    stage(app, 8)
    for n in range(40):
        app.do("space.map", 0x1000_0000 + n * 0x1000, "4K")
    before = app.session.text()
    seen = []
    app.progress.observe(lambda change: seen.append(change["new"]), "value")

    async def stopped():
        app.go(20)
        assert app.busy
        app.do("space.unmap_all")  # a click meanwhile is told, and does nothing
        assert "busy" in said(app)
        press(app, "Stop")
        await app.task

    asyncio.run(stopped())
    assert (before, False) == (app.session.text(), app.busy)
    assert "Stopped" in said(app)

    async def whole():
        app.go(20)
        await app.task

    asyncio.run(whole())
    assert 20 == len(app.session.steps)
    assert any("% done" in words for words in seen)


def test_words_from_fields_are_escaped(app):
    stage(app, 8)
    app.do("space.map", 0x1000, "4K", name="<script>alert(1)</script>")
    app.mode.value = "Mappings"
    app.low.value = "<b>"
    press(app, "Zoom")
    for view in (app.status, app.picture, app.panels):
        assert "<script" not in view.value
    assert "<b>" not in app.status.value.replace("<b></b>", "")


def test_zoom_draws_a_range_and_the_whole_space_again(app):
    stage(app, 8)
    app.do("space.map", 0x4000_0000, "1G", name="RAM")
    app.mode.value = "Mappings"
    app.low.value, app.high.value = "0x4000_0000", "0x4100_0000"
    press(app, "Zoom")
    assert "Cut to 0x4000_0000-0x40ff_ffff" in app.picture.value
    press(app, "Whole space")
    assert "Cut to" not in app.picture.value
    app.low.value = "nowhere"
    press(app, "Zoom")
    assert "nowhere" in said(app)


def test_no_control_is_of_a_kind_whose_arrow_keys_jupyterlab_takes_and_each_has_words(app):
    for mode in MODES:
        app.mode.value = mode
    everything = [one for room in app.built.values() for one in walk(room)] + list(walk(app.box))
    assert not [one for one in everything if isinstance(one, (ipywidgets.Dropdown, ipywidgets.RadioButtons, ipywidgets.Select))]
    assert not [one for one in everything if isinstance(one, (ipywidgets.Button, ipywidgets.Text)) and not one.description]


def test_without_a_front_end_pictures_and_steps_stand_there(app):
    stage(app, 8)
    bundle = app._repr_mimebundle_()
    assert "<img" in bundle["text/html"]
    assert "space.attach" in bundle["text/html"]
    assert "D1" in bundle["text/plain"]
