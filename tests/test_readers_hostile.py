"""Files that are not what they seem: each is refused or read within bounds, by a message that names it."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from xml.parsers.expat import ParserCreate

import pytest

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab.draw.stage.svg import to_svg
from vfiolab.readers import tree
from vfiolab.readers.errors import InputError
from vfiolab.readers.ftrace import read_ftrace
from vfiolab.readers.grouptext import looks_like_groups
from vfiolab.readers.lines import LONGEST, lines_of, number_of, read_text
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.pciids import pci_ids
from vfiolab.readers.qemu import read_qemu_trace
from vfiolab.readers.sysfs import read_sysfs
from vfiolab.readers.trace import read_trace_file

NAME = "a\x1b]0;owned\x07\x00\ud800\u202e\ufffe$x$<script>\n"
HEADER = bytes.fromhex("86803412") + bytes(60)


def device(folder, bdf="0000:00:02.0"):
    at = folder / "bus/pci/devices" / bdf
    at.mkdir(parents=True)
    return at


# What is no file


@pytest.mark.parametrize("read", [read_text, read_trace_file, read_qemu_trace, read_ftrace], ids=lambda read: read.__name__)
def test_a_pipe_is_refused_and_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: is a pipe"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("word", ["groups", "replay"])
def test_a_device_is_refused(word, capsys):
    assert 2 == main([word, "/dev/zero"])
    assert "/dev/zero: is a device" in capsys.readouterr().err


def test_a_pipe_in_a_tree_is_not_opened(tmp_path):
    os.mkfifo(device(tmp_path) / "config")
    with pytest.raises(InputError, match="no PCI device in the tree"):
        read_sysfs(tmp_path)


def test_links_are_followed_inside_the_tree_only(tmp_path):
    inside, outside = tmp_path / "pre", tmp_path / "pre-outside"
    outside.mkdir()
    (outside / "config").write_bytes(HEADER)
    (device(inside) / "config").symlink_to(outside / "config")
    found = tree.DirectoryTree(inside)
    assert found.bytes("/bus/pci/devices/0000:00:02.0/config") is None
    (inside / "bus/pci/devices/0000:00:03.0").symlink_to(outside)
    assert [] == found.names("/bus/pci/devices/0000:00:03.0")


# Archives


def archive(path, *members, form="w"):
    with tarfile.open(path, form) as tar:
        for name, size in members:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return path


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "MOST_UNPACKED", 1 << 20)
    with pytest.raises(InputError, match=r"bomb\.tar\.xz: not a readable tar file: more than 1 MiB unpacked"):
        read_sysfs(archive(tmp_path / "bomb.tar.xz", ("sys/skipped", 4 << 20), form="w:xz"))


def test_an_archive_of_which_too_much_would_be_kept_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "MOST_KEPT", 1 << 20)
    many = [(f"sys/{n}/config", 1 << 16) for n in range(40)]
    with pytest.raises(InputError, match="would have to be kept"):
        read_sysfs(archive(tmp_path / "many.tar.gz", *many, form="w:gz"))


def test_only_the_files_that_say_something_are_kept(tmp_path):
    found = tree.TarTree(archive(tmp_path / "sys.tar", ("sys/a/config", 64), ("sys/a/uevent", 64)))
    assert ["/sys/a/config"] == list(found.files)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_promises_gigabytes_is_refused(kind, tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 3 << 30
    (tmp_path / "pax.tar.gz").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    with pytest.raises(InputError, match=r"pax\.tar\.gz: not a readable tar file: a header of 3221225472 bytes"):
        read_sysfs(tmp_path / "pax.tar.gz")


@pytest.mark.parametrize("form", ["w:gz", "w:xz", "w:bz2"])
def test_a_damaged_archive_is_named(form, tmp_path):
    whole = archive(tmp_path / "sys.tar", *((f"sys/{n}", 5000) for n in range(9)), form=form).read_bytes()
    for at in (len(whole) // 3, len(whole) // 2, len(whole) - 9):
        (tmp_path / "sys.tar").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"sys\.tar"):
            read_sysfs(tmp_path / "sys.tar")


# Lines and numbers

LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "arm-smmu-v3 " * LONG, "00:00.0 Host" + " (rev 1)" * LONG + "x", "00:01.0 PCI bridge: x\n\tACSCap: " + "A" * LONG, " " * LONG + "x",
        "00:00.0 a" + " " * LONG + "b", "00:00.0 A: " + "word " * LONG, "00:00.0 A: b\n\tInitial VFs: 1, Total VFs: " + "1" * LONG,
        "/sys/kernel/iommu_groups/1/devices:\n" + " 0000:00:00.0" * LONG, "vfio_dma_map(0x" + "1" * LONG, "4@1.1:" + "a " * LONG,
        "kvm-7 [001] " + " " * LONG + "1.5: map:", "group " * LONG,
    ],
    ids=range(12),
)  # fmt: skip
def test_no_line_is_looked_at_beyond_its_bound(text):
    assert LONGEST >= max(map(len, lines_of(text)))
    looks_like_groups(text)
    for read in (read_lspci, read_qemu_trace, read_ftrace):
        try:
            read(text)
        except InputError:
            continue


@pytest.mark.parametrize("digits", ["1" * 5000, "٣", "", "0x", "1_000_x"])
def test_what_is_no_number_of_ours_is_none(digits):
    assert number_of(digits) is None


# Encodings and archives that are no text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_a_machine_file_and_a_trace_may_be_in_any_of_these_encodings(encoding, tmp_path, capsys):
    machine = json.dumps({"name": "Ü", "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}]}, ensure_ascii=False)
    (tmp_path / "machine.json").write_bytes(machine.encode(encoding))
    (tmp_path / "a.trace").write_bytes("## Ü\nopen_container A -> 0\n".encode(encoding))
    assert "Ü" == vl.load(tmp_path / "machine.json").machine.name
    assert 0 == main(["replay", str(tmp_path / "a.trace")])
    assert "1 scenarios, 1 operations, 0 divergences" in capsys.readouterr().out


@pytest.mark.parametrize(("magic", "what"), [(b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "gzip data"), (b"\x89PNG", "a picture")])
def test_what_is_no_text_is_said_to_be_what_it_is(magic, what, tmp_path):
    (tmp_path / "x").write_bytes(magic + bytes(40))
    with pytest.raises(InputError, match=what):
        vl.load(tmp_path / "x")


@pytest.mark.parametrize(("line", "says"), [
    ("\t -> 0", "an event without an operation"), ("x -> 0 " + "[" * 9000, "nested too deeply"), ("x -> 0 [1]", "holds a list"),
    ("x -> 0 {", "is not JSON"), ("x -> 0 " + "1" * 5000, "thousands of digits"), ("y" * 70_000, "70000 characters"),
])  # fmt: skip
def test_a_trace_names_the_line_that_is_wrong(line, says, tmp_path):
    (tmp_path / "a.trace").write_text(f"## one\n{line}\n")
    with pytest.raises(InputError, match=rf"a\.trace, line 2: .*{says}"):
        read_trace_file(tmp_path / "a.trace")


# Names


@pytest.fixture
def host(tmp_path):
    path = tmp_path / "m.json"
    unit = {"name": NAME, "kind": "intel-vtd", "devices": ["0000:00:02.0"]}
    path.write_text(json.dumps({"name": NAME, "units": [unit], "devices": [{"bdf": "0000:00:02.0", "kind": "endpoint", "name": NAME}]}))
    return vl.load(path)


def test_a_name_from_a_file_acts_nowhere(host):
    space = host.address_space()
    space.attach("0000:00:02.0")
    space.map(0x1000, 0x1000, name=NAME)
    shown = [
        repr(host.groups_table),
        repr(host.mates("0000:00:02.0")),
        repr(space.mappings),
        str(space.transcript()),
        repr(host),
        host.machine.name,
    ]
    assert [] == [text for text in shown if not text.replace("\n", "").isprintable()]
    for table in (host.groups_table, host.mates("0000:00:02.0"), space.mappings):
        page = table._repr_html_()
        assert page.replace("\n", "").isprintable()
        assert "<script>" not in page
        assert "$x$" not in page
    for picture in (space.picture(), space.chain(), space.timeline()):
        ParserCreate().Parse(to_svg(picture), True)


def test_names_come_from_the_installed_list_and_from_no_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "pypci/data").mkdir(parents=True)
    (tmp_path / "pypci/__init__.py").write_text("")
    (tmp_path / "pypci/data/pci.ids").write_text("zzzz  garbage\n8086  Evil\n")
    monkeypatch.syspath_prepend(tmp_path)
    pci_ids.cache_clear()
    try:
        assert "Intel Corporation" == pci_ids().vendors[0x8086]
    finally:
        pci_ids.cache_clear()
