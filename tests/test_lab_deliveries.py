"""The apps of the interrupt and iova notebooks: stepper, window lab, hot-add lab; extremes, refusals, code that does the same."""

import itertools

import ipywidgets
import pytest

import vfiolab as vl
from vfiolab.course.experiments import carry_out
from vfiolab.course.machines import region_answers
from vfiolab.lab import HotAddLab, Stepper, WindowLab, windows
from vfiolab.lab.windows import HotAddRun, WindowRun


def choose(buttons, option):
    """Do what the browser does: send the chosen index as a comm message."""
    data = {"method": "update", "state": {"index": buttons.options.index(option)}, "buffer_paths": []}
    buttons._handle_msg({"content": {"data": data}, "buffers": []})


def click(button):
    button._handle_msg({"content": {"data": {"method": "custom", "content": {"event": "click"}}}, "buffers": []})


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


@pytest.fixture
def stepper():
    return Stepper(carry_out("smmu-its", "7.3", "raise vector").journey)


# the stepper


def test_next_goes_one_step_on_and_says_what_happens_there(stepper):
    click(stepper.buttons["Next"])
    assert 2 == stepper.step
    assert "Step 2 of 5, bus: goes upstream" in stepper.status.value
    assert "step 2 of 5" in stepper.picture.value


@pytest.mark.parametrize(("presses", "step"), [
    (["Back"], 1), (["First"], 1), (["Last"], 5), (["Next"] * 9, 5), (["Last", "Next"], 5), (["Last", "Back"], 4), (["Last", "First"], 1),
])  # fmt: skip
def test_the_journeys_ends_are_where_the_buttons_stop(stepper, presses, step):
    for name in presses:
        click(stepper.buttons[name])
    assert step == stepper.step


@pytest.mark.parametrize("step", [1, 3, 5])
def test_no_button_is_disabled_so_the_keyboard_stays_where_it_is(stepper, step):
    stepper.go(step)
    assert [] == [name for name, button in stepper.buttons.items() if button.disabled]


@pytest.mark.parametrize(("wanted", "step"), [(-7, 1), (0, 1), (3, 3), (6, 5)])
def test_go_is_the_buttons_in_code(stepper, wanted, step):
    stepper.go(wanted)
    assert step == stepper.step


def test_at_the_last_step_the_whole_journey_is_drawn(stepper):
    stepper.go(5)
    assert "√ delivered" in stepper.picture.value
    assert "not yet" not in stepper.picture.value


def test_a_step_that_no_recording_shows_says_so():
    stepper = Stepper(carry_out("x86-remapping", "4.4", "raise vector").journey)
    stepper.go(3)
    assert "[reading]" in stepper.status.value


# the window lab


@pytest.mark.parametrize(("kernel", "guest", "act", "outcome"), [
    ("4.4", "does not know the window", "DMA to 0xfee0_1000", "lost"),
    ("4.4", "does not know the window", "DMA to 0xfedf_f000", "memory"),
    ("4.4", "does not know the window", "raise an interrupt", "delivered"),
    ("5.10", "does not know the window", "DMA to 0xfee0_1000", "EINVAL"),
    ("7.3", "leaves the window out", "DMA to 0xfef0_0000", "memory"),
    ("7.3", "leaves the window out", "DMA to 0xfee0_1000", "refused"),
])  # fmt: skip
def test_kernel_guest_and_target_decide_what_is_lost(kernel, guest, act, outcome):
    assert outcome == WindowRun(kernel, guest, act).outcome


@pytest.mark.parametrize("chosen", list(itertools.product(windows.KERNELS, windows.GUESTS, windows.ACTS)), ids=", ".join)
def test_the_code_that_the_window_lab_shows_comes_to_the_same(chosen):
    run = WindowRun(*chosen)
    names = {"vl": vl}
    lines = run.code.splitlines()
    good = [line for line in lines if "# refused" not in line]
    for line in good[:-1]:
        exec(line, names)
    if run.trip is None:
        assert "space.map(" in lines[-1]
        with pytest.raises(vl.VfioError, match=run.refused.name):
            exec(lines[-1], names)
    else:
        assert run.outcome == eval(good[-1], names).outcome


def test_each_choice_in_the_window_lab_shows_the_new_verdict_and_picture():
    app = WindowLab()
    assert "Lost: the memory mapped there (guest RAM + 0xfee0_1000) is not written" in app.status.value
    choose(app.controls["kernel"], "7.3")
    assert 'role="alert"' in app.status.value
    assert "1 map was refused" in app.picture.value
    choose(app.controls["guest"], "leaves the window out")
    assert 'role="status"' in app.status.value
    assert "refused" in app.picture.value
    choose(app.controls["act"], "raise an interrupt")
    assert "Delivered" in app.status.value


# the hot-add lab


@pytest.mark.parametrize(("kernel", "memory", "joining", "outcome"), [
    ("4.11", "4 GiB in one piece", "behind VT-d, 48 bits", "0"),
    ("5.10", "4 GiB in one piece", "behind VT-d, 48 bits", "EINVAL"),
    ("7.3", "1 TiB around the window", "behind VT-d, 48 bits", "0"),
    ("4.11", "1 TiB around the window", "behind AMD-Vi", "0"),
    ("7.3", "1 TiB around the window", "behind AMD-Vi", "EINVAL"),
    ("7.3", "1 GiB from 1 TiB", "behind AMD-Vi", "0"),
    ("7.3", "1 GiB from 1 GiB", "behind AMD-Vi", "0"),
    ("6.12", "1 GiB from 1 TiB", "behind VT-d, 39 bits", "EFAULT"),
    ("7.3", "1 GiB from 1 TiB", "behind VT-d, 39 bits", "ERANGE"),
])  # fmt: skip
def test_memory_and_device_decide_whether_a_hot_add_works(kernel, memory, joining, outcome):
    assert outcome == HotAddRun(kernel, memory, joining).outcome


@pytest.mark.parametrize("chosen", list(itertools.product(windows.HOT_ADD_KERNELS, windows.MEMORY, windows.JOINING)), ids=", ".join)
def test_a_refused_hot_add_leaves_the_memory_mapped_and_no_domain(chosen):
    run = HotAddRun(*chosen)
    assert len(windows.MEMORY[chosen[1]]) == len(run.space.mappings)
    assert (run.outcome == "0") == bool(run.space.domains)


@pytest.mark.parametrize("chosen", list(itertools.product(windows.HOT_ADD_KERNELS, windows.MEMORY, windows.JOINING)), ids=", ".join)
def test_the_code_that_the_hot_add_lab_shows_gives_the_same_address_space(chosen):
    run = HotAddRun(*chosen)
    names = {"vl": vl}
    for line in run.code.splitlines():
        if "# refused" not in line:
            exec(line, names)
    assert repr(run.space) == repr(names["space"])


def test_each_choice_in_the_hot_add_lab_shows_the_new_verdict_and_picture():
    app = HotAddLab()
    assert 'role="alert"' in app.status.value
    assert "overlaps the MSI window" in app.status.value
    choose(app.controls["memory"], "1 TiB around the window")
    assert "The device joins. Usable iovas now: 0x0-0xfedf_ffff, 0xfef0_0000-0xffff_ffff_ffff." in app.status.value
    choose(app.controls["joining"], "behind AMD-Vi")
    assert "overlaps the reserved range 0xfd_0000_0000-0xff_ffff_ffff" in app.status.value
    choose(app.controls["kernel"], "4.11")
    assert "this kernel does not tell" in app.status.value


def test_a_refused_hot_add_shows_the_newcomer_and_what_was_in_its_way():
    picture = HotAddRun("7.3", "4 GiB in one piece", "behind VT-d, 48 bits").space.picture()
    assert ["user", "D1"] == [lane.name for lane in picture.lanes]
    assert "EINVAL" == picture.lanes[1].domain.refused
    assert [(0xFEE00000, 0xFEEFFFFF)] == [(row.start, row.last) for row in picture.rows() if row.kind == "conflict"]


def test_on_amd_vi_reserved_is_the_hypertransport_range_and_bars_nobody_while_firmwares_demand_is_direct():
    rows = {row["printed as"]: (row["6.1"], row["6.12"]) for row in region_answers("6.1", "6.12") if row["IOMMU"] == "AMD-Vi"}
    assert {"direct": ("joins, a hole", "EINVAL"), "reserved": ("joins, a hole", "joins, a hole")} == rows


# what holds of all three


APPS = {"stepper": lambda: Stepper(carry_out("smmu-its", "4.4", "raise vector").journey), "window": WindowLab, "hot-add": HotAddLab}


@pytest.mark.parametrize("make", APPS.values(), ids=APPS)
def test_no_control_is_of_a_kind_whose_arrow_keys_jupyterlab_takes(make):
    kinds = (ipywidgets.Dropdown, ipywidgets.RadioButtons, ipywidgets.Select, ipywidgets.IntSlider)
    assert [] == [widget for widget in walk(make().box) if isinstance(widget, kinds)]


@pytest.mark.parametrize("make", APPS.values(), ids=APPS)
def test_each_control_has_words_and_a_tooltip(make):
    for widget in walk(make().box):
        if isinstance(widget, ipywidgets.Button):
            assert widget.description
            assert widget.tooltip
        elif isinstance(widget, ipywidgets.ToggleButtons):
            assert len(widget.options) == len(widget.tooltips)


@pytest.mark.parametrize("make", APPS.values(), ids=APPS)
def test_without_a_front_end_words_and_picture_are_there_the_same_every_time(make):
    first, second = make()._repr_mimebundle_(), make()._repr_mimebundle_()
    assert '<img alt="' in first["text/html"]
    assert "<details><summary>The same as a table" in first["text/html"]
    assert (first["text/plain"], first["text/html"]) == (second["text/plain"], second["text/html"])
