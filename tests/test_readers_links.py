"""Links in a packed tree: what a name stands for is found over as many links as a real tree has, and never outside it."""

from __future__ import annotations

import io
import tarfile

from vfiolab.readers.tree import TarTree


def packed(path, files, links):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, to in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            archive.addfile(entry)
    return TarTree(path)


def test_a_link_to_a_link_leads_to_the_file(tmp_path):
    tree = packed(
        tmp_path / "a.tar", {"sys/devices/one/vendor": b"0x8086"}, {"sys/bus/a": "b", "sys/bus/b": "../c", "sys/c": "devices/one"}
    )
    assert b"0x8086" == tree.bytes("/sys/bus/a/vendor")
    assert ["vendor"] == tree.names("/sys/bus/a")
    assert "/sys/devices/one" == tree.target("/sys/bus/a")


def test_links_in_a_circle_lead_nowhere_and_end(tmp_path):
    tree = packed(tmp_path / "a.tar", {}, {"sys/a": "b", "sys/b": "a"})
    assert tree.bytes("/sys/a") is None
