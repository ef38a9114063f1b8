"""Plans for a passthrough: rules one by one, the model against its own prediction, and the shell lines run."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from pci_bytes import sysfs_tree

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.kit.plan import NOBODY, refusals
from vfiolab.model.address import Span
from vfiolab.model.iommu.unit import ReservedRegion
from vfiolab.model.pci.topology import Function, Topology

KEYS = ["devices", "together", "may_stay", "refusals", "commands", "undo", "warnings"]


def names(members):
    return [bdf for bdf, _ in members]


def why(members, bdf):
    return dict(members)[bdf]


def taken(plan):
    return re.findall(r"^vfio_take (\S+)", "\n".join(plan.commands), re.MULTILINE)


def with_functions(machine, *functions):
    return vl.Machine.of(replace(machine, topology=machine.topology.replace(*functions)))


def on(kit, bdf, **changes):
    """Return a host of the kit's machine with one function changed."""
    machine = vl.load(kit).machine
    return with_functions(machine, replace(machine.topology[bdf], **changes)).host()


def demo(kernel="6.12", **unit):
    """Return a host whose card at 01:00 has two functions, on a driver, in one group with the port above."""
    m = vl.MachineBuilder("demo")
    port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd", width=39, **unit), acs=False)
    m.endpoint("01:00.0", below=port, functions=2, driver="snd")
    return m.host(kernel)


# who goes along, who may stay


def test_the_other_endpoints_of_the_group_go_along_with_the_groupings_own_reason():
    found = vl.plan(vl.load("amd-matisse-desktop"), "05:00.0")
    assert ["0000:02:00.0", "0000:02:00.1", "0000:04:00.0", "0000:2a:00.0"] == names(found.together)
    assert "04:00.0 joins 03:06.0 because the path to the root fails at 03:06.0: no ACS capability" in why(found.together, "0000:04:00.0")


def test_bridges_may_stay_on_pcieport():
    found = vl.plan(vl.load("intel-vtd-39bit"), "05:00.0")
    assert ["0000:00:06.0", "0000:00:06.1"] == names(found.may_stay)
    assert "on pcieport. A bridge on pcieport does not stand in the way" in why(found.may_stay, "0000:00:06.0")


def test_a_device_on_pci_stub_may_stay():
    found = vl.plan(on("intel-vtd-39bit", "0000:06:00.0", driver="pci-stub"), "05:00.0")
    assert "0000:06:00.0" in names(found.may_stay)
    assert () == found.together


def test_a_host_bridge_stays_and_its_driver_has_to_let_go():
    machine = vl.load("lenovo-thinkpad-amd").machine
    changed = [replace(machine.topology[bdf], driver=driver) for bdf, driver in (("0000:00:08.0", "edac"), ("0000:04:00.0", "amdgpu"))]
    found = vl.plan(with_functions(machine, *changed).host(), "04:00.0")
    assert "edac has to let go" in why(found.may_stay, "0000:00:08.0")
    assert '[ ! -e "${SYSFS:-/sys}/bus/pci/devices/0000:00:08.0/driver" ] ||' in "\n".join(found.commands)
    assert "0000:00:08.0" not in taken(found)


@pytest.mark.parametrize(("kernel", "released"), [("5.15", False), ("6.12", True)])
def test_a_bridge_on_another_driver_has_to_lose_it_since_5_19(kernel, released):
    machine = demo(kernel).machine
    host = with_functions(machine, replace(machine.topology["0000:00:01.0"], driver="bridge-driver")).host(kernel)
    found = vl.plan(host, "01:00.0")
    assert ["0000:00:01.0"] == names(found.may_stay)
    assert released == ("bridge-driver has to let go" in why(found.may_stay, "0000:00:01.0"))
    assert released == any("devices/0000:00:01.0/driver/unbind" in line for line in found.commands)


def test_devices_that_look_the_same_are_told_apart():
    found = vl.plan(vl.load("intel-vtd-39bit"), "0c:01.0")
    assert any("0c:01.0, 0c:02.0, 0e:01.0 look the same: ids=8086:100e" in warning for warning in found.warnings)
    assert not any("look the same" in warning for warning in vl.plan(vl.load("intel-vtd-39bit"), "11:00.0").warnings)


# what the kernel refuses


@pytest.mark.parametrize(
    ("kernel", "step", "errno"), [("5.10", "VFIO_GROUP_GET_DEVICE_FD", "EINVAL"), ("6.12", "VFIO_GROUP_SET_CONTAINER", "EPERM")]
)
def test_a_group_that_is_not_viable_is_refused_in_the_kernels_own_way(kernel, step, errno):
    (refused,) = vl.plan(vl.load("intel-vtd-39bit", kernel), "05:00.0").refusals
    assert (f"without the rest of the group: {step}", errno) == refused[:2]
    assert "group 6 is not viable: 0000:06:00.0" in refused.why
    assert "let the rest go along" in refused.instead
    assert "in a slot below 00:03.0 (01:00.0 is there now)" in refused.instead


def test_a_slot_that_is_proposed_gives_the_card_a_group_of_its_own():
    """The card is put there: the groups of that machine are computed from the start."""
    host = vl.load("intel-vtd-39bit")
    (refused,) = vl.plan(host, "05:00.0").refusals
    (port,) = re.findall(r"slot below (\S+)", refused.instead)
    below = host.topology[f"0000:{port}"].secondary
    card = Function(bdf=f"{below:02x}:1f.0", kind="endpoint", multifunction=False)
    there = [*(f for f in host.machine.topology.values() if f.bdf != "0000:05:00.0" and f.bus != below), card]
    behind = host.machine.behind | {card.bdf}
    unit = replace(host.machine.units[0], devices=behind)
    moved = replace(host.machine, topology=type(host.topology)(there), units=(unit,), groups=())
    assert (card.bdf,) == vl.Machine.of(moved).host().group_of(card.bdf).devices


def test_an_empty_slot_is_proposed_before_one_that_is_in_use():
    machine = vl.load("intel-vtd-39bit").machine
    empty = replace(machine, topology=type(machine.topology)(f for f in machine.topology.values() if f.bdf != "0000:03:00.0"))
    units = (replace(machine.units[0], devices=machine.units[0].devices - {"0000:03:00.0"}),)
    groups = tuple(group for group in machine.groups if "0000:03:00.0" not in group.devices)
    (refused,) = vl.plan(vl.Machine.of(replace(empty, units=units, groups=groups)).host(), "05:00.0").refusals
    assert "in a slot below 00:05.0 or 00:03.0 (01:00.0 is there now)" in refused.instead


@pytest.mark.parametrize(("kernel", "errno"), [("5.10", "EPERM"), ("6.12", "EINVAL")])
def test_a_direct_region_is_refused_and_there_are_no_lines(kernel, errno):
    host = demo(kernel)
    region = ReservedRegion(Span(0x9000_0000, 0x9010_0000), "direct")
    machine = replace(host.machine, firmware={"0000:01:00.0": (region,)})
    found = vl.plan(vl.Machine.of(machine).host(kernel), "01:00.0")
    assert errno == found.refusals[0].errno
    assert "RMRR" in found.refusals[0].why
    assert ((), ()) == (found.commands, found.undo)
    assert "There are no lines to run" in repr(found)


def test_a_later_kernel_that_takes_the_plan_is_named():
    """A GICv2m frame makes every device of the host unsafe up to 6.2, and from 6.3 only those that use it."""
    machine = demo().machine
    exposed = replace(machine, units=(replace(machine.units[0], exposed=frozenset({"0000:09:00.0"})),))
    assert vl.plan(vl.Machine.of(exposed).host("6.1"), "01:00.0").refusals[0].instead.endswith("Linux 6.6 takes it")


def test_interrupts_that_are_not_isolated_are_refused_with_the_risk_and_the_way_out():
    found = vl.plan(demo(isolated_msi=False), "01:00.0", "01:00.1")
    (refused,) = found.refusals
    assert ("VFIO_SET_IOMMU", "EPERM") == refused[:2]
    assert "any device can raise any interrupt vector" in refused.why
    assert (
        "allow_unsafe_interrupts=1; plan again then; the risk: a device of the guest can raise any interrupt of the host" in refused.instead
    )
    assert () == found.commands


@pytest.mark.parametrize("device", ["00:0e.0", "10000:e1:00.0"])
def test_what_a_vmd_controller_made_is_refused(device):
    found = vl.plan(vl.load("intel-alderlake-vmd"), device)
    assert () == found.commands
    assert any("When it lets go, the domain is gone" in refused.why for refused in found.refusals)


def test_the_hosts_own_parameters_count():
    host = demo(isolated_msi=False)
    host.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "Y")
    assert () == vl.plan(host, "01:00.0", "01:00.1").refusals


def test_a_device_without_an_iommu_is_refused_at_its_bind():
    host = vl.Machine.of(replace(demo().machine, units=())).host("6.12")
    found = vl.plan(host, "01:00.0")
    assert ("bind 01:00.0 to vfio-pci", "EINVAL") == found.refusals[0][:2]
    assert "turn the IOMMU on" in found.refusals[0].instead
    assert () == found.commands


def test_a_bridge_is_refused_as_the_kernel_refuses_it():
    found = vl.plan(vl.load("intel-vtd-39bit"), "00:06.0")
    assert ("bind 00:06.0 to vfio-pci", "EINVAL") == found.refusals[0][:2]
    assert () == found.commands


def test_a_host_bridge_is_refused_by_the_plan_itself():
    found = vl.plan(vl.load("lenovo-thinkpad-amd"), "00:08.0")
    assert ("bind 00:08.0 to vfio-pci", "") == found.refusals[0][:2]
    assert "host's own" in found.refusals[0].why
    assert () == found.commands


def test_a_physical_function_with_virtual_ones_is_refused_with_the_way_out():
    found = vl.plan(vl.load("intel-vtd-39bit"), "10:00.0")
    assert ("bind 10:00.0 to vfio-pci", "EBUSY") == found.refusals[0][:2]
    assert "sriov_numvfs" in found.refusals[0].instead


def test_a_function_without_a_reset_is_named_and_may_be_tried():
    found = vl.plan(vl.load("hp-elitebook-630"), "00:1f.6")
    assert ("VFIO_DEVICE_RESET 00:1f.6", "EINVAL") == found.refusals[0][:2]
    assert "as far as the input says" in found.refusals[0].why
    assert "0000:00:1f.6" in taken(found)


# what the host loses


@pytest.mark.parametrize(
    ("class_code", "said"),
    [
        (0x030000, "host's screen goes dark"),
        (0x010802, "the host dies"),
        (0x010601, "the host dies"),
        (0x080501, "the host dies"),
        (0x020000, "offline"),
        (0x0C0330, "keyboard"),
    ],
)
def test_the_only_device_of_a_kind_that_the_host_needs_is_named(class_code, said):
    host = demo()
    only = replace(host.machine.topology["0000:01:00.0"], class_code=class_code)
    other = replace(host.machine.topology["0000:01:00.1"], class_code=0x040300)
    host = with_functions(host.machine, only, other).host()
    (found,) = [warning for warning in vl.plan(host, "01:00.0").warnings if said in warning]
    assert found.startswith("01:00.0: no other")


def test_one_network_card_of_several_may_be_the_one_in_use():
    (warning,) = [one for one in vl.plan(vl.load("intel-vtd-39bit"), "01:00.0").warnings if "offline" in one]
    assert warning.startswith("01:00.0: if a login or a bridge of the host is on it")


def test_a_disk_controller_of_several_is_still_told():
    assert any(
        warning.startswith("04:00.0: its disks leave the host") for warning in vl.plan(vl.load("intel-vtd-39bit"), "04:00.0").warnings
    )


def test_parts_of_the_board_are_to_be_bound_and_not_given():
    warnings = vl.plan(vl.load("hp-elitebook-630"), "00:1f.6").warnings
    assert any(warning.startswith("00:1f.0, 00:1f.4, 00:1f.5: as a rule part of the board") for warning in warnings)


def test_an_input_without_drivers_is_said_to_be_one():
    assert any("names no driver" in warning for warning in vl.plan(vl.load("hp-elitebook-630"), "02:00.0").warnings)
    assert not any("names no driver" in warning for warning in vl.plan(vl.load("intel-vtd-39bit"), "01:00.0").warnings)


@pytest.mark.parametrize(("kernel", "said"), [("5.10", "BUG_ON"), ("6.12", "EBUSY")])
def test_giving_back_under_a_running_guest_is_told_as_the_kernel_takes_it(kernel, said):
    (warning,) = [one for one in vl.plan(vl.load("intel-vtd-39bit", kernel), "05:00.0").warnings if "while the guest runs" in one]
    assert said in warning


# the plan agrees with the model


def choices(name):
    """Return up to three devices of a machine that people hand over: of each class the first."""
    host = vl.load(name)
    found = {}
    for f in host.topology.values():
        base = (f.class_code or 0) >> 16
        if f.is_for_users and base in {1, 2, 3} and host.group_of(f.bdf) is not None:
            found.setdefault(base, f.bdf)
    return list(found.values())


REAL = [(name, bdf) for name in vl.machines() for bdf in choices(name)]


def test_there_are_at_least_20_plans_on_real_machines():
    assert len(REAL) >= 20


@pytest.mark.parametrize(("name", "bdf"), REAL)
@pytest.mark.parametrize("kernel", [None, "6.12"])
def test_a_plan_on_a_real_machine_covers_the_group_and_works_as_it_says(name, bdf, kernel):
    host = vl.load(name, kernel)
    before = {one: host.drivers.driver_of(one) for one in host.topology if one in host.drivers}
    found = vl.plan(host, bdf)
    assert before == {one: host.drivers.driver_of(one) for one in before}, "the host itself stays as it is"
    group = set(host.group_of(bdf).devices)
    parts = [*found.devices, *names(found.together), *names(found.may_stay)]
    assert (len(group), group) == (len(parts), set(parts))
    for one in taken(found):
        assert host.topology[one].is_for_users, "nobody proposes to bind a host bridge or an IOMMU"
    assert KEYS == list(found.as_dict())
    assert found.as_dict() == json.loads(json.dumps(found.as_dict()))
    if found.commands:
        for one in names(found.may_stay):
            if "has to let go" in why(found.may_stay, one):
                host.unbind(one)
        for one in [*found.devices, *names(found.together)]:
            host.bind(one)
        predicted = [r for r in found.refusals if not r.step.startswith(("without", "VFIO_DEVICE_RESET"))]
        space = host.address_space()
        if predicted:
            with pytest.raises(vl.VfioError) as refused:
                space.attach(bdf)
            assert predicted[0].errno == refused.value.name
        else:
            space.attach(bdf)
            assert bdf == space.open(bdf).name


# the command


def test_json_has_the_parts_in_their_order(capsys):
    assert 0 == main(["plan", "intel-vtd-39bit", "05:00.0", "--json", "--kernel", "5.10"])
    answer = json.loads(capsys.readouterr().out)
    assert KEYS == list(answer)
    assert ["0000:05:00.0"] == answer["devices"]
    assert [{"bdf", "why"}] == [set(one) for one in answer["together"]]
    assert [["step", "errno", "why", "instead"]] == [list(one) for one in answer["refusals"]]


def test_text_has_every_line_to_paste_whole(capsys):
    assert 0 == main(["plan", "amd-matisse-desktop", "05:00.0"])
    out = capsys.readouterr().out
    found = vl.plan(vl.load("amd-matisse-desktop"), "05:00.0")
    assert "\n".join(f"  {line}" for line in found.commands) in out
    assert "\n".join(f"  {line}" for line in found.undo) in out


def test_a_plan_that_the_kernel_refuses_is_still_an_answer(capsys):
    assert 0 == main(["plan", "intel-vtd-39bit", "00:06.0"])
    assert "There are no lines to run" in capsys.readouterr().out


def test_a_sysfs_tree_can_be_planned_on(tmp_path, capsys):
    machine = vl.load("intel-vtd-39bit").machine
    sysfs_tree(tmp_path, machine.topology, [[bdf] for bdf in machine.topology])
    assert 0 == main(["plan", str(tmp_path), "01:00.0"])
    assert "vfio_take 0000:01:00.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "01:00.0"], "no machine and no file is called 'nowhere'"),
        (["intel-vtd-39bit", "99:00.0"], "there is no device '99:00.0' on intel-vtd-39bit"),
        (["intel-vtd-39bit", "1f.2"], "there is 00:1f.2"),
        (["intel-vtd-39bit", "01:00.0", "--kernel", "x"], "cannot read a kernel version"),
    ],
)
def test_what_cannot_be_used_ends_in_2_and_says_what_to_do(arguments, said, capsys):
    assert 2 == main(["plan", *arguments])
    assert said in capsys.readouterr().err
    assert 2 == main(["plan", *arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert KEYS == list(answer)
    assert said in answer["warnings"][0]


def test_groups_that_the_input_does_not_decide_are_no_plan(tmp_path, capsys):
    hidden = "\tCapabilities: <access denied>\n\n"
    bridge = "00:01.0 PCI bridge: Intel Corporation Device 464d\n\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0\n"
    cards = [f"01:00.{n} Ethernet controller: Intel Corporation Device 10d3\n" for n in (0, 1)]
    (tmp_path / "lspci.txt").write_text(hidden.join([bridge, *cards, ""]))
    assert 2 == main(["plan", str(tmp_path / "lspci.txt"), "01:00.0"])
    assert re.search(r"lspci\.txt: not computable: .* as root", capsys.readouterr().err)


def test_a_listing_comes_by_standard_input_as_well_as_from_a_file(monkeypatch, capsys):
    listing = data_dir() / "lspci/amd-matisse-desktop.txt"
    answers = []
    for path in ("-", str(listing)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listing.read_bytes())))
        assert 0 == main(["plan", path, "05:00.0", "--json"])
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]


def test_a_kernel_of_the_input_that_the_model_does_not_know_is_not_used(monkeypatch, capsys):
    """A tree of this machine names its kernel, whatever that is."""
    machine = replace(vl.load("intel-vtd-39bit").machine, kernel="3.10.0")
    monkeypatch.setattr("vfiolab.commands.plan.open_machine", lambda *_: machine)
    assert 0 == main(["plan", "/sys", "01:00.0"])
    assert "the input's kernel is not used: kernel 3.10.0 is older than 4.4" in capsys.readouterr().out


def test_names_from_strangers_never_reach_the_lines():
    host = on("intel-vtd-39bit", "0000:05:00.0", driver="x\nrm -rf /", name="$(reboot)\n`reboot`")
    found = vl.plan(host, "05:00.0")
    lines = [*found.commands, *found.undo]
    assert not any("\n" in line or "reboot" in line or "rm -rf" in line for line in lines)


# the shell lines, run


ECHO = """
echo() {{
  to=$(readlink /proc/$$/fd/1)
  case "$to" in
  "$SYSFS"/*) printf '%s %s\\n' "${{to#"$SYSFS"/bus/pci/}}" "$*" > {asked}; read -r answer < {answered}; [ "$answer" = done ] ;;
  *) printf '%s\\n' "$*" ;;
  esac
}}
"""


class Sysfs:
    """A stand-in for /sys/bus/pci: each write of a shell goes to the model before the next, and the links follow the model."""

    def __init__(self, folder, host):
        self.host, self.folder, self.override, self.writes = host, folder, {}, []
        self.pci = folder / "sys/bus/pci"
        self.usual = {bdf: host.drivers.driver_of(bdf) for bdf in host.topology}
        for driver in host.drivers.loaded:
            (self.pci / "drivers" / driver).mkdir(parents=True)
            (self.pci / "drivers" / driver / "unbind").touch()
        (self.pci / "drivers_probe").touch()
        for bdf, f in host.topology.items():
            (self.pci / "devices" / bdf).mkdir(parents=True)
            (self.pci / "devices" / bdf / "driver_override").touch()
            if host.group_of(bdf) is not None:
                (self.pci / "devices" / bdf / "iommu_group").touch()
            if f.device is not None:
                (self.pci / "devices" / bdf / "device").write_text(f"0x{f.device:04x}\n")
        os.mkfifo(folder / "asked")
        os.mkfifo(folder / "answered")
        (folder / "modprobe").write_text("#!/bin/sh\n")
        (folder / "modprobe").chmod(0o755)
        self.links()

    def links(self):
        for bdf in self.host.topology:
            link = self.pci / "devices" / bdf / "driver"
            link.unlink(missing_ok=True)
            if bdf in self.host.drivers and (driver := self.host.drivers.driver_of(bdf)):
                link.symlink_to(f"../../drivers/{driver}")

    def write(self, line):
        path, _, text = line.partition(" ")
        self.writes.append((path, text))
        what = path.rpartition("/")[2]
        if what == "driver_override":
            self.override[path.split("/")[1]] = text
            (self.pci / path).write_text(f"{text or '(null)'}\n")
        elif what == "unbind":
            assert f"drivers/{self.host.drivers.driver_of(text)}/unbind" == path
            self.host.unbind(text)
        else:
            assert "drivers_probe" == path
            driver = self.override.get(text) or self.usual[text]
            if driver and self.host.drivers.driver_of(text) is None:
                self.host.bind(text, driver)
        self.links()

    def serve(self):
        while (line := (self.folder / "asked").read_text().rstrip("\n")) != "end":
            try:
                self.write(line)
                answer = "done"
            except vl.Refusal as refused:
                answer = str(refused)
            (self.folder / "answered").write_text(f"{answer}\n")

    def run(self, lines):
        """Run lines by /bin/sh; return what they wrote to sysfs."""
        self.writes = []
        script = ECHO.format(asked=self.folder / "asked", answered=self.folder / "answered") + "\n".join(lines)
        script += f"\nrc=$?\nprintf 'end\\n' > {self.folder / 'asked'}\nexit $rc\n"
        environment = {"SYSFS": str(self.folder / "sys"), "PATH": f"{self.folder}:{os.environ['PATH']}"}
        with subprocess.Popen(
            ["/bin/sh", "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as shell:
            server = threading.Thread(target=self.serve, daemon=True)
            server.start()
            self.out, self.err = shell.communicate(timeout=60)
        server.join(timeout=10)
        return self.writes

    def state(self):
        return {bdf: self.host.drivers.driver_of(bdf) for bdf in self.host.topology if bdf in self.host.drivers}


SHELLED = [
    ("intel-vtd-39bit", ["05:00.0"]),
    ("intel-vtd-39bit", ["0c:01.0"]),
    ("intel-vtd-39bit", ["01:00.0", "0f:00.0"]),
    ("intel-vtd-39bit", ["00:1f.2"]),
    ("amd-vi-server", ["01:00.0"]),
    ("two-smmu-server", ["21:00.0"]),
]


@pytest.fixture(params=SHELLED, ids=lambda param: f"{param[0]} {' '.join(param[1])}")
def shelled(request, tmp_path):
    name, devices = request.param
    host = vl.load(name)
    return Sysfs(tmp_path, host), vl.plan(host, *devices)


def test_the_lines_end_where_the_model_predicts_twice_is_harmless_and_the_undo_restores(shelled):
    sysfs, found = shelled
    before = sysfs.state()
    held = [*found.devices, *names(found.together)]
    sysfs.run(found.commands)
    assert "" == sysfs.err
    assert before | dict.fromkeys(held, "vfio-pci") == sysfs.state()
    space = vl.AddressSpace(sysfs.host)
    space.attach(*{sysfs.host.group_of(bdf): bdf for bdf in found.devices}.values())
    assert [] == sysfs.run(found.commands), "running them again writes nothing, even under a guest"
    space.close()
    sysfs.run(found.undo)
    assert ("", before) == (sysfs.err, sysfs.state())
    assert "" == "".join(text for text in sysfs.override.values()), "no override is left"
    assert [] == sysfs.run(found.undo)


def test_a_host_bridges_driver_lets_go_and_comes_back(tmp_path):
    machine = vl.load("lenovo-thinkpad-amd").machine
    drivers = {"0000:00:08.0": "edac", "0000:04:00.0": "amdgpu", "0000:04:00.1": "snd", "0000:00:08.1": "pcieport"}
    host = with_functions(machine, *[replace(machine.topology[bdf], driver=driver) for bdf, driver in drivers.items()]).host()
    sysfs, found = Sysfs(tmp_path, host), vl.plan(host, "04:00.0")
    before = sysfs.state()
    sysfs.run(found.commands)
    assert (None, "vfio-pci", "pcieport") == tuple(sysfs.state()[bdf] for bdf in ("0000:00:08.0", "0000:04:00.1", "0000:00:08.1"))
    assert [] == sysfs.run(found.commands)
    sysfs.run(found.undo)
    assert before == sysfs.state()
    assert [] == sysfs.run(found.undo)


def test_an_address_that_another_device_has_now_is_not_touched(tmp_path):
    host = vl.load("intel-vtd-39bit")
    sysfs, found = Sysfs(tmp_path, host), vl.plan(host, "01:00.0")
    (sysfs.pci / "devices/0000:01:00.0/device").write_text("0xbeef\n")
    assert [] == sysfs.run(found.commands)
    assert "0000:01:00.0 is a 0xbeef now: not touched" in sysfs.err


def test_a_refused_probe_is_told_by_the_lines(tmp_path):
    """The plan made before virtual functions were enabled meets a physical function that has some."""
    host = vl.load("intel-vtd-39bit")
    sysfs = Sysfs(tmp_path, host)
    take = vl.plan(host, "01:00.0").commands
    sysfs.run([*take[: take.index("}") + 1], "vfio_take 0000:10:00.0 0x0010"])
    assert "0000:10:00.0 is on no driver\n" == sysfs.out
    assert "nvme" == host.drivers.driver_of("0000:10:00.0"), "what could not be taken is given back at once"


def test_the_lines_are_plain_shell(shelled):
    _, found = shelled
    for lines in (found.commands, found.undo):
        assert 0 == subprocess.run(["/bin/sh", "-n"], input="\n".join(lines), text=True, check=False).returncode


def test_a_device_that_had_no_driver_is_not_probed_for_one():
    found = vl.plan(vl.load("intel-vtd-39bit"), "0c:01.0")
    assert ["vfio_give_back 0000:0c:03.0 none", "vfio_give_back 0000:0c:02.0"] == [
        line for line in found.undo if line.startswith("vfio_give_back 0")
    ][:2]


def test_libvirt_and_proxmox_have_their_own_names():
    lines = vl.plan(vl.load("intel-vtd-39bit"), "05:00.0").commands
    assert "# libvirt, instead of these lines: virsh nodedev-detach pci_0000_06_00_0" in lines
    assert "# Proxmox: hostpci0: 0000:05:00.0" in lines


def test_a_join_that_ties_several_devices_is_told_once_in_text_and_each_time_in_json():
    found = vl.plan(vl.load("amd-matisse-desktop"), "05:00.0")
    shared = "05:00.0 joins 03:07.0 because"
    assert (1, 4) == (repr(found).count(shared), sum(shared in reason for _, reason in found.together))


# all groups of a machine


WHOLE = sorted(
    path for pattern in ("machines/*.json", "lspci/*.txt", "traces/*-rmrr/machine.json", "traces/*-noir/machine.json",
                         "traces/virtio-*/machine.json", "traces/*compat/machine.json") for path in data_dir().glob(pattern)
)  # fmt: skip


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_group_is_refused_what_a_plan_for_it_is_refused(path):
    host = vl.load(path)
    found = refusals(host.machine, host.kernel, host.options, host.grouping)
    assert set(host.topology) == set(found)
    for group in host.groups:
        users = [bdf for bdf in group.devices if bdf in host.topology and host.topology[bdf].is_for_users]
        plan = vl.plan(host, *(users or group.devices[:1])) if users or group.devices[0] in host.topology else None
        if plan is not None:
            wanted = "" if plan.commands else ("" if users else NOBODY) + str(plan.refusals[0])
            assert {wanted} == {found[bdf] for bdf in group.devices if bdf in host.topology}


def test_a_region_of_one_group_refuses_that_group_alone():
    machine = vl.load("intel-vtd-39bit").machine
    region = ReservedRegion(Span(0xA000_0000, 0xA010_0000), "direct")
    found = refusals(replace(machine, firmware={"0000:02:00.0": (region,)}), vl.Kernel("6.1"))
    assert found["0000:02:00.0"].startswith("VFIO_GROUP_SET_CONTAINER: EPERM (Operation not permitted), group 3 is ineligible")
    assert ("", "") == (found["0000:01:00.0"], found["0000:03:00.0"])


def test_a_function_of_the_board_without_a_driver_stays_as_it_is_and_any_other_goes_along():
    m = vl.MachineBuilder("a board's slot")
    unit = m.unit("dmar0", kind="intel-vtd")
    for number, class_code, driver in ((0, 0x060100, None), (3, 0x040300, "snd_hda_intel"), (4, 0x0C0500, None), (5, 0x020000, None)):
        m.endpoint(f"00:1f.{number}", unit=unit, driver=driver, class_code=class_code, functions=1)
    functions = [replace(f, multifunction=True) for f in m.machine().topology.values()]
    host = vl.Machine.of(replace(m.machine(), topology=Topology(functions))).host("6.12")
    found = vl.plan(host, "00:1f.3")
    assert ["0000:00:1f.5"] == [member.bdf for member in found.together]
    assert ["0000:00:1f.0", "0000:00:1f.4"] == [member.bdf for member in found.may_stay]
    assert all("Without a driver it does not stand in the way" in member.why for member in found.may_stay)


def test_a_graphics_card_comes_with_the_advice_to_end_the_session_first():
    found = vl.plan(vl.course.three_ports("6.12"), "01:00.0")
    assert any("systemctl isolate multi-user.target" in warning for warning in found.warnings)
