"""The split lab: every choice runs the same verbs anew, and the words say what the model did."""

import itertools

import pytest

import vfiolab as vl
from vfiolab.course.machines import FIRST, SECOND, two_units
from vfiolab.lab import SplitLab
from vfiolab.lab.split import HARDWARE, KERNELS, MAPPED, SplitRun


def click(buttons, option):
    """Do what the browser does: send the chosen index as a comm message."""
    data = {"method": "update", "state": {"index": buttons.options.index(option)}, "buffer_paths": []}
    buttons._handle_msg({"content": {"data": data}, "buffers": []})


@pytest.mark.parametrize(("hardware", "kernel", "domains"), [
    ("VT-d, two equal units", "6.12", 1),
    ("VT-d, snoop control in one", "4.4", 1),
    ("VT-d, snoop control in one", "6.12", 2),
    ("VT-d, 48 and 39 bits", "6.12", 1),
    ("VT-d, 48 and 39 bits", "7.3", 2),
    ("AMD-Vi, two equal units", "6.12", 1),
    ("SMMUv3, two equal units", "6.12", 2),
    ("SMMUv3, two equal units", "6.1", 2),
])  # fmt: skip
def test_units_and_kernel_decide_how_many_domains_there_are(hardware, kernel, domains):
    run = SplitRun(hardware, kernel, "1 GiB at 0x4000_0000")
    assert domains == len(run.space.domains)
    assert run.verdict.startswith(f"{domains} domain")


def test_a_mapping_beyond_the_second_units_width_refuses_the_second_group():
    run = SplitRun("VT-d, 48 and 39 bits", "6.12", "1 GiB at 0x100_0000_0000")
    assert run.refused.name == "EINVAL"
    assert run.verdict.startswith("Refused. EINVAL: the mapping 0x100_0000_0000-0x100_3fff_ffff lies outside the aperture")
    assert len(run.space.groups) == 1


def test_what_was_never_recorded_nor_read_is_said_to_be_not_known():
    assert SplitRun("SMMUv3, 48 and 40 bits", "4.4", "1 GiB at 0x100_0000_0000").verdict.startswith("Not known: kernel 4.4")


@pytest.mark.parametrize("choice", list(itertools.product(HARDWARE, KERNELS, MAPPED)), ids=", ".join)
def test_the_code_shown_gives_the_same_address_space(choice):
    run = SplitRun(*choice)
    names = {"vl": vl}
    for line in run.code.splitlines():
        if "# refused" not in line:
            exec(line, names)
    assert repr(run.space) == repr(names["space"])


def test_each_click_shows_the_new_verdict_picture_and_code():
    app = SplitLab()
    assert "1 domain." in app.status.value
    click(app.controls["hardware"], "SMMUv3, two equal units")
    assert "2 domains. The kernel tried the second group in D1, and the driver answered EINVAL." in app.status.value

    assert "attach D1 6 -22" in app.panels.value
    click(app.controls["kernel"], "6.1")
    assert "the driver answered ENXIO" in app.status.value
    assert "D2: group 6" in app.picture.value


def test_a_refusal_is_an_alert_and_the_picture_keeps_one_group_and_shows_the_one_that_was_refused():
    app = SplitLab()
    click(app.controls["hardware"], "VT-d, 48 and 39 bits")
    click(app.controls["mapped"], "1 GiB at 0x100_0000_0000")
    assert 'role="alert"' in app.status.value
    assert "border-left" in app.status.value
    assert "D1: group 2" in app.picture.value
    assert "refused: EINVAL" in app.picture.value
    assert "Refused: D2: group 6, iommu1, 39-bit" in app.picture.value


def test_without_a_front_end_the_verdict_and_the_picture_are_there():
    bundle = SplitLab()._repr_mimebundle_()
    assert "1 domain. The kernel tried" in bundle["text/plain"]
    assert '<img alt="' in bundle["text/html"]


def test_two_units_differ_only_in_what_is_given_as_a_pair():
    first, second = two_units("intel-vtd", width=(48, 39), snoop_control=True).units
    assert (48, True) == (first.width, first.snoop_control)
    assert (39, True) == (second.width, second.snoop_control)
    host = two_units("amd-vi")
    assert {FIRST: "iommu0", SECOND: "iommu1"} == {device: host.group_of(device).unit.name for device in (FIRST, SECOND)}


def test_a_domain_that_serves_two_units_is_drawn_in_front_of_both():
    run = SplitRun("VT-d, two equal units", "6.12", "nothing")
    chain = run.space.chain()
    assert chain.title == "2 devices, 2 groups, 1 container, 1 domain, 2 IOMMU units"
    assert (("0000:01:00.0", "2", "D1", "iommu0"), ("0000:81:00.0", "6", "D1", "iommu1")) == chain.table
    assert "D1: groups 2, 6, iommu0, iommu1" in run.space.picture().alt


def test_on_4_4_vt_d_reports_48_bits_whatever_the_unit():
    assert "D1: group 2, iommu0, 48-bit" in SplitRun("VT-d, 48 and 39 bits", "4.4", "1 GiB at 0x100_0000_0000").space.picture().alt
