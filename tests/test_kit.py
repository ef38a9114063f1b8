"""The learner's verbs: made of the kernel's own, undone as a whole when refused, and clear about wrong input."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from model_world import invariants, machines, snapshot

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab.kit import boot
from vfiolab.model.pci.grouping import GroupingOptions

NIC, FAR = "0000:01:00.0", "0000:21:00.0"


@pytest.fixture
def space():
    space = vl.load("two-smmu-server").address_space()
    space.attach(NIC)
    space.map(0x4000_0000, "1G", name="guest RAM")
    return space


def refused(space, errno, words, act):
    """Expect a refusal by a learner's verb that leaves everything as it was, memory included."""
    before = snapshot(space.host)
    with pytest.raises(vl.VfioError, match=errno) as caught:
        act()
    assert words in str(caught.value)
    assert before == snapshot(space.host)
    invariants(space.host)


def test_an_unknown_device(space):
    refused(space, "ENOENT", "there is no device 0000:ff:00.0 on this machine", lambda: space.attach("0000:ff:00.0"))
    refused(space, "ENOENT", "there is no device nic", lambda: space.detach("nic"))


def test_a_group_opened_twice(space):
    other = space.host.address_space()
    refused(space, "EBUSY", "is open already: a group has one user", lambda: space.attach(NIC))
    refused(space, "EBUSY", "is open already: a group has one user", lambda: other.attach(NIC))


def test_a_map_over_the_msi_window(space):
    refused(
        space,
        "EINVAL",
        "0x800_0000-0x800_0fff overlaps the software MSI window 0x800_0000-0x80f_ffff",
        lambda: space.map("0x8000000", "4K"),
    )


def test_a_misaligned_map(space):
    refused(space, "EINVAL", "iova 0x800 is not a multiple of 0x1000", lambda: space.map(0x800, "4K"))


def test_a_container_used_before_set_iommu():
    space = vl.load("two-smmu-server").address_space()
    refused(space, "EINVAL", "MAP_DMA before SET_IOMMU", lambda: space.map(0x1000, "4K"))
    refused(space, "EINVAL", "UNMAP_DMA before SET_IOMMU", lambda: space.unmap(0x1000, "4K"))


def test_a_group_that_is_elsewhere(space):
    words = f"the group of {FAR} is not in this address space, which holds groups 8: attach it first"
    for act in (space.detach, space.open, space.enable_msi):
        with pytest.raises(ValueError, match=words):
            act(FAR)


def test_a_group_that_the_kernel_took_out_is_not_shown(space):
    space.attach(FAR)
    space.host.unbind(FAR)
    assert [group.id for group in space.container.groups] == list(space.groups)
    assert (8,) == space.groups
    space.attach(FAR)
    assert 2 == len(space.groups)


def test_a_device_closed_by_hand_is_opened_again_and_detach_does_not_miss_it(space):
    space.open(NIC).close()
    assert space.open(NIC).is_open
    space.open(NIC).close()
    space.detach(NIC)
    assert () == space.groups


def test_a_group_closed_by_hand_leaves_with_its_last_device(space):
    space.open(NIC)
    next(file for file in space.process.descriptors.values() if type(file).__name__ == "Group").close()
    space.detach(NIC)
    assert () == space.groups
    invariants(space.host)


def test_messages_are_those_of_open_devices(space):
    space.enable_msi(NIC)
    assert [NIC] == [row["device"] for row in space.messages]
    space.open(NIC).close()
    assert 0 == len(space.messages)


def test_an_attach_that_fails_half_way_is_undone_as_a_whole(space):
    free = vl.load("intel-vtd-39bit").address_space()
    assert "e1000e" == free.host.drivers.driver_of(NIC)
    refused(free, "ENOENT", "there is no device", lambda: free.attach(NIC, "0000:ff:00.0"))
    assert "e1000e" == free.host.drivers.driver_of(NIC)
    refused(space, "EBUSY", "already", lambda: space.attach(FAR, NIC))
    assert 1 == len(space.domains)


def test_an_undo_that_cannot_be_done_hides_neither_the_refusal_nor_the_other_steps():
    space = vl.load("intel-vtd-39bit").address_space()
    space.host.drivers.loaded -= {"e1000e"}  # nobody can bind it again
    with pytest.raises(vl.VfioError, match="there is no device") as caught:
        space.attach("0000:02:00.0", NIC, "0000:ff:00.0")
    assert ["driver e1000e is not loaded" in note for note in caught.value.__notes__] == [True]
    assert caught.value.__notes__ == caught.value._render_traceback_()[-1:]
    assert ["close_group", "bind"] * 2 == [call.verb for call in space.log.calls if call.verb in ("close_group", "bind")][2:]
    assert () == space.groups


def test_attach_binds_opens_joins_and_chooses_the_backend_once():
    space = vl.load("intel-vtd-39bit").address_space()
    space.attach(NIC, "0000:02:00.0")
    verbs = [call.verb for call in space.log.calls]
    assert ["open_container", "bind", "open_group", "set_container", "set_iommu", "bind", "open_group", "set_container"] == verbs
    assert 2 == len(space.groups)


def test_detach_closes_leaves_and_takes_the_mappings_with_the_last_group(space):
    space.attach(FAR)
    space.enable_msi(NIC)
    space.detach(NIC)
    assert ["close_device", "unset_container", "close_group"] == [call.verb for call in space.log.calls[-3:]]
    assert 1 == len(space.mappings)
    space.detach(FAR)
    assert (0, []) == (len(space.mappings), space.domains)


def test_a_device_is_opened_once(space):
    assert space.open(NIC) is space.open(NIC)


def test_rights_are_the_devices(space):
    for place, rights in enumerate(("r", "w", "rw")):
        space.map(0x10_0000 + place * 0x1000, "4K", rights=rights)
    assert ["r", "w", "rw"] == [row["rights"] for row in space.mappings][:3]
    with pytest.raises(ValueError, match="rights are 'r', 'w' or 'rw'"):
        space.map(0, "4K", rights="x")


def test_a_vaddr_in_the_place_of_the_name_is_refused(space):
    with pytest.raises(TypeError, match=r"name, is a text, not 536870912: the process's address is given as vaddr="):
        space.map(0x1000, "4K", 0x2000_0000)
    assert 1 == len(space.mappings)


@pytest.mark.parametrize("size", ["64T", 1 << 63, -0x1000])
def test_memory_that_no_process_has_is_not_allocated(space, size):
    with pytest.raises(ValueError, match=r"no process can allocate .* give vaddr= to see what the kernel answers"):
        space.map(0x1000, size)
    refused(space, "EINVAL", "reaches past", lambda: space.map("1T", "512T", vaddr=0x1000))


def test_unmap_takes_the_mapping_that_begins_there_or_a_range(space):
    space.map(0x1000, "8K")
    assert 0x2000 == space.unmap(0x1000)
    space.map(0x1000, "8K")
    assert 0x2000 + (1 << 30) == space.unmap(0, "2G")
    with pytest.raises(ValueError, match="no mapping begins at 0x1000; mappings begin at: none"):
        space.unmap(0x1000)


def test_unmapping_one_of_many_does_not_look_at_the_others(space, monkeypatch):
    space.map("8G", "4K")
    monkeypatch.setattr(type(space.container.backend.dmas), "__iter__", lambda _: pytest.fail("every mapping was listed"))
    assert 0x1000 == space.unmap("8G")


@pytest.mark.parametrize("kernel", ["4.4", "5.10", "6.12", "7.3"])
def test_unmap_all_works_on_every_kernel(kernel):
    space = vl.load("intel-vtd-39bit", kernel).address_space()
    space.attach(NIC)
    space.map(0, "1M")
    space.map("1G", "1M")
    assert 2 << 20 == space.unmap_all()
    assert 0 == len(space.mappings)


def test_iommufd_behind_the_same_verbs():
    space = vl.load("intel-vtd-iommufd").address_space()
    space.attach(NIC)
    space.map(0, "1M")
    assert [] == space.domains
    space.open(NIC)
    assert 1 == len(space.domains)
    assert 1 << 20 == space.unmap_all()


def test_a_renamed_attribute_of_the_backend_cannot_show_an_empty_address_space(space, monkeypatch):
    monkeypatch.delattr(space.container.backend, "domains")
    for look in (lambda: space.domains, lambda: repr(space), space.picture):
        with pytest.raises(AttributeError, match="domains"):
            look()


def test_no_iommu_has_neither_mappings_nor_domains():
    space = vl.AddressSpace(machines()["no iommu"].host("6.12"), kind=8)
    space.attach("0000:01:00.0")
    assert (0, [], (), "noiommu") == (len(space.mappings), space.domains, space.iova_ranges, space.look().backend)
    assert repr(space).endswith("0 mappings, 0 domains, noiommu)")
    space.detach("0000:01:00.0")
    assert () == space.groups


def test_a_machine_is_loaded_by_name_or_the_error_lists_the_names():
    with pytest.raises(ValueError, match=r"no machine and no file is called 'nowhere'; machines: .*two-smmu-server"):
        vl.load("nowhere")
    assert "two-smmu-server" in vl.machines()


def test_a_name_of_the_kit_is_its_machine_for_every_command_and_a_path_is_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "amd-vi-server").write_text("00:1f.0 ISA bridge: Intel Corporation Device\n")
    with pytest.warns(UserWarning, match=r"'amd-vi-server' is a machine of the kit, and here is a file .* write './amd-vi-server'"):
        kits = vl.load("amd-vi-server")
    files = [vl.load("./amd-vi-server"), vl.load(Path("amd-vi-server"))]
    assert [1, 1] == [len(host.machine.topology) for host in files]
    assert 1 < len(kits.machine.topology)
    main(["groups", "amd-vi-server", "--json"])
    out, said = capsys.readouterr()
    assert "here is a file of that name" in said
    assert sum(map(len, json.loads(out)["groups"])) == sum(len(group.devices) for group in kits.groups)


def test_a_name_that_no_file_can_have_is_no_machine(capsys):
    with pytest.raises(ValueError, match="no machine and no file is called"):
        vl.load("x" * 5000)
    assert 2 == main(["groups", "x" * 5000])
    assert "no such file or folder" in capsys.readouterr().err


def test_another_kernel_is_a_fresh_boot(space):
    other = space.host.with_kernel("4.4")
    assert ("4.4", 0) == (str(other.kernel), len(other.log.calls))
    assert len(space.host.groups) == len(other.groups)


def test_another_kernel_keeps_the_options_that_shape_groups():
    host = boot(vl.load("intel-vtd-39bit").machine, options=GroupingOptions(pcie_acs_override="downstream,multifunction"))
    plain = boot(host.machine)
    assert len(plain.groups) != len(host.groups)
    assert len(host.groups) == len(host.with_kernel(host.kernel).groups)


def test_every_host_that_the_kit_boots_has_the_learners_verbs():
    m = vl.MachineBuilder("demo")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("smmu0", kind="arm-smmu-v3")))
    for host in (m.host(), m.machine().host(), m.host().machine.host("4.4"), vl.load("two-smmu-server").machine.host(), boot(m.machine())):
        assert isinstance(host.address_space(), vl.AddressSpace)


def test_a_kernel_is_the_given_one_else_the_machines_else_the_newest():
    machine = vl.load("intel-vtd-39bit").machine
    assert ["4.4", "6.12", str(vl.Kernel())] == [
        str(host.kernel) for host in (boot(machine, "4.4"), boot(replace(machine, kernel="6.12")), boot(replace(machine, kernel=None)))
    ]


def test_one_line_reprs_are_deterministic(space):
    assert "AddressSpace('two-smmu-server', groups [8], 1 mapping, 1 domain, type1)" == repr(space)
    assert "Host('two-smmu-server', kernel 6.12, 12 groups)" == repr(space.host)


def test_whole_numbers_of_numpy_are_numbers_and_others_are_named():
    np = pytest.importorskip("numpy")
    space = vl.load("intel-vtd-39bit").address_space()
    space.attach("0000:01:00.0")
    space.map(np.int64(0x1000), np.uint32(0x1000))
    assert 0x1000 == space.unmap(np.uint64(0x1000))
    space.enable_msi("0000:01:00.0")
    for act in (lambda: space.raise_msi("0000:01:00.0", "x"), lambda: space.dma_write("0000:01:00.0", 0, "x")):
        with pytest.raises(TypeError, match="is a whole number, not 'x'"):
            act()
    with pytest.raises(ValueError, match="does not fit a field of 32 bits"):
        space.dma_write("0000:01:00.0", 0, 2**5000)


def test_a_word_that_is_no_number_is_named_for_what_it_was_given_as():
    space = vl.load("two-smmu-server").address_space()
    for verb, what in (
        (lambda: space.map("abc", "4K"), "an iova"),
        (lambda: space.map(0, "abc"), "a size"),
        (lambda: space.map(0, "4K", vaddr="abc"), "an address"),
    ):
        with pytest.raises(ValueError, match=f"cannot read {what} from 'abc'"):
            verb()


# Boot parameters, in the kernel's own words.


def test_a_hosts_boot_parameters_are_given_as_on_the_kernels_command_line():
    host = vl.load("amd-matisse-desktop", options="pcie_acs_override=downstream,multifunction pci=disable_acs_redir=00:01.0")
    assert ("downstream,multifunction", "00:01.0") == (host.options.pcie_acs_override, host.options.disable_acs_redir)
    asked = vl.GroupingOptions(pcie_acs_override="downstream,multifunction")
    by_words = vl.load("amd-matisse-desktop", options="pcie_acs_override=downstream,multifunction")
    assert [g.devices for g in vl.load("amd-matisse-desktop", options=asked).groups] == [g.devices for g in by_words.groups]


@pytest.mark.parametrize(
    "words", ["iommu=pt", "pci=nomsi", "pcie_acs_override", "pcie_acs_override=", "pcie_acs_override=upstream", "disable_acs_redir=00:01.0"]
)
def test_a_boot_parameter_that_shapes_no_groups_is_refused_by_name(words):
    with pytest.raises(ValueError, match=r"shapes no groups|is none of downstream"):
        vl.load("amd-matisse-desktop", options=words)


def test_a_boot_parameter_given_twice_is_refused():
    with pytest.raises(ValueError, match="given twice"):
        vl.load("amd-matisse-desktop", options="pcie_acs_override=downstream pcie_acs_override=multifunction")


def test_the_peers_of_a_device_are_those_that_what_if_says_it_reaches():
    host = vl.load("amd-matisse-desktop")
    reached = {row["peer"] for row in host.peers("02:00.0") if row["reached"] == "yes"}
    gained = host.what_if(options="pcie_acs_override=downstream,multifunction").reach
    assert {row.peer for row in gained if row.device == "0000:02:00.0" and row.by == "p2p"} <= reached
    assert "0000:02:00.1" in reached
    assert "0000:02:00.0" not in host.peers("02:00.0")["peer"]
