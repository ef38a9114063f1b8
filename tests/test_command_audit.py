"""The words of ``vfiolab audit``: the same groups as one by one, whatever the files are, whoever is killed, and wherever it is stopped."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hostile import many_devices
from pci_bytes import sysfs_tree
from real_machines import NAMES, from_lspci, listing
from test_readers_manglings import mangled

from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.kit import fleet, kept
from vfiolab.kit.asked import Asked
from vfiolab.kit.audit import Found, Row
from vfiolab.kit.fleet import audit
from vfiolab.kit.kept import COLUMNS

VFIOLAB = [sys.executable, "-m", "vfiolab"]


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def audited(folder, out, *options):
    assert 0 == main(["audit", str(folder), "-o", str(out), *options])
    return rows_of(out)


def groups_of(capsys, path, *options):
    """Return what `vfiolab groups` prints of one file: its groups, or None and the error."""
    capsys.readouterr()
    status = main(["groups", str(path), "--json", *options])
    answer = json.loads(capsys.readouterr().out)
    return ({frozenset(one) for one in answer["groups"]}, "") if status == 0 else (None, answer["warnings"][0])


def by_file(rows):
    found = {}
    for row in rows:
        found.setdefault(row["file"], []).append(row)
    return found


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Return a folder of everything: listings, machine files, trees, and what nobody means well."""
    folder = tmp_path_factory.mktemp("mixed")
    for name in NAMES:
        (folder / f"{name}.txt").write_text(listing(name))
    for path in [*data_dir().glob("machines/*.json"), *data_dir().glob("traces/*-6.1*/machine.json")]:
        place = folder / "files" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    (folder / "mangled").mkdir()
    for seed in range(30):
        (folder / "mangled" / f"{seed:02}.txt").write_text(mangled(seed)[2])
    topology = from_lspci("amd-renoir-laptop").topology
    sysfs_tree(folder / "trees/host1", topology)
    sysfs_tree(folder / "trees/host2/sys", topology, size=64)
    with tarfile.open(folder / "trees/packed.tar.gz", "w:gz") as archive:
        archive.add(folder / "trees/host1", "sys")
    odd = folder / "odd names, \u00e9\n"
    odd.mkdir()
    (odd / 'quo"ted.txt').write_text(listing(NAMES[0]))
    (odd / os.fsdecode(b"latin-\xe9.txt")).write_text(listing(NAMES[1]))
    (folder / "empty.txt").touch()
    (folder / "rubbish.bin").write_bytes(bytes(range(256)) * 200)
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    (folder / "no.json").write_text('{"devices": []}')
    (folder / "half.json").write_text('{"name": "x", "devices": [{')
    (folder / "deep.json").write_text('{"a":' * 100_000)
    (folder / "notes.md").write_text("# Inventory\n")
    (folder / ".hidden").write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "itself").symlink_to("itself")
    (folder / "again").symlink_to(f"{NAMES[0]}.txt")
    (folder / "files" / "up").symlink_to("..")
    with (folder / "huge.txt").open("wb") as file:
        file.truncate(65 << 20)
    return folder


@pytest.mark.parametrize("options", [[], ["--kernel", "5.4"], ["--pcie-acs-override", "downstream,multifunction"]], ids=" ".join)
def test_every_file_has_the_groups_that_it_has_alone_or_the_error(mixed, tmp_path, capsys, options):
    found = by_file(audited(mixed, tmp_path / "out.csv", *options))
    told = {os.path.relpath(path, mixed): path for path in mixed.rglob("*") if not path.is_dir() and "trees/host" not in str(path)}
    told |= {name: mixed / name for name in ("trees/host1", "trees/host2/sys")}
    del told[".hidden"]
    assert sorted(name.encode(errors="backslashreplace").decode() for name in told) == list(found)
    for name, path in told.items():
        rows = found[name.encode(errors="backslashreplace").decode()]
        groups, error = groups_of(capsys, path, *options)
        if groups is None:
            assert ["", "", "", ""] == [rows[0][one] for one in ("bdf", "group", "with", "alone")]
            assert 1 == len(rows)
            linked = name in {"dangling", "itself"}  # `groups` looks for a machine of that name, too
            assert ("cannot be read: " if linked else "") in rows[0]["error"]
            assert linked or rows[0]["error"].partition("; ")[0] in error, name
        else:
            assert groups == {frozenset([row["bdf"], *row["with"].split()]) for row in rows if row["group"]}, name
            assert {""} == {row["error"] for row in rows}


def test_a_row_says_what_the_plan_for_its_group_says(mixed, tmp_path):
    rows = {row["bdf"]: row for row in audited(mixed, tmp_path / "out.csv") if row["machine"] == "amd-renoir-laptop"}
    assert list(COLUMNS) == list(rows["0000:00:00.2"])
    iommu, bridge, alone = rows["0000:00:00.2"], rows["0000:00:01.2"], rows["0000:01:00.0"]
    assert ("", "", "", "00:00.2 is in no group: it is an IOMMU itself") == tuple(iommu[one] for one in ("group", "with", "alone", "why"))
    assert "true" == bridge["alone"]
    assert "nobody needs it: bind 00:01.2 to vfio-pci: EINVAL" in bridge["refusal"]
    assert ("true", "") == (alone["alone"], alone["refusal"])
    shared = [row for row in rows.values() if row["with"]]
    assert {"false"} == {row["alone"] for row in shared}
    assert all(row["bdf"] not in row["with"].split() and rows[row["with"].split()[0]]["group"] == row["group"] for row in shared)


def test_what_is_in_doubt_stands_beside_the_reason(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text(listing("asmedia-switch-part"))
    rows = audited(tmp_path / "in", tmp_path / "out.csv")
    assert [row["bdf"] for row in rows if "; in doubt: " in row["why"]]


# stopped, killed, started again


@pytest.fixture(scope="module")
def fleet_of(tmp_path_factory):
    """Return a folder of 400 listings and the bytes of its audit."""
    folder = tmp_path_factory.mktemp("fleet")
    for n in range(400):
        (folder / f"{n:03}.txt").write_text(listing(NAMES[n % len(NAMES)]))
    audit(folder, Asked(), folder.parent / "whole.csv")
    return folder, (folder.parent / "whole.csv").read_bytes()


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # it ended
            continue
    return found


def lines_in(part):
    return part.read_bytes().count(b"\n") if part.exists() else 0


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def begun(folder, out, lines):
    """Start an audit and return it once so many lines of its part file are there."""
    listening = ("env", "--default-signal=INT")  # a shell without job control starts what is in the background deaf to Ctrl-C
    process = subprocess.Popen(
        [*listening, *VFIOLAB, "audit", folder, "-o", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: lines_in(Path(f"{out}.part")) > lines or process.poll() is not None)
    assert process.poll() is None
    return process


def test_a_worker_that_is_killed_costs_no_row_and_doubles_none(fleet_of, tmp_path):
    folder, whole = fleet_of
    out = tmp_path / "out.csv"
    process = begun(folder, out, 20)
    killed = 0
    for _ in range(2):
        for child in children(process.pid)[:1]:
            os.kill(child, signal.SIGKILL)
            killed += 1
        time.sleep(0.3)
    assert "" == process.communicate()[1]
    assert (0, whole) == (process.returncode, out.read_bytes())
    assert killed
    assert [out] == list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_an_audit_that_was_stopped_goes_on_and_ends_the_same(fleet_of, tmp_path, number):
    folder, whole = fleet_of
    out = tmp_path / "out.csv"
    out.write_text("of last year")
    process = begun(folder, out, 60)
    workers = children(process.pid)
    process.send_signal(number)
    said = process.communicate()[1]
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert "of last year" == out.read_text()
    if number == signal.SIGINT:
        assert 130 == process.returncode
        assert f"stopped; {out}.part keeps what is finished: the same command goes on with it\n" == said
    finished = lines_in(Path(f"{out}.part")) - 1
    with Path(f"{out}.part").open("ab") as part:
        part.write(b'["399.txt", [1, 2], fal')  # a line that was cut off
    told = []
    assert finished <= audit(folder, Asked(), out, tell=lambda done, _: told.append(done)).kept < 400
    assert finished <= told[0]
    assert whole == out.read_bytes()
    assert [out] == list(tmp_path.iterdir())


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """Return a folder of two files, of which one was done when the audit was stopped, and its output."""
    folder, out = tmp_path / "in", tmp_path / "out.csv"
    folder.mkdir()
    for n, name in enumerate(NAMES[:2]):
        (folder / f"{n}.txt").write_text(listing(name))

    def stop(done, _):
        if done:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fleet, "_BATCH", 1)
        with pytest.raises(KeyboardInterrupt):
            audit(folder, Asked(), out, tell=stop)
    return folder, out


def test_a_file_that_has_changed_meanwhile_is_done_again(stopped, tmp_path):
    folder, out = stopped
    for n in range(2):
        (folder / f"{n}.txt").write_text("changed")
    assert 2 == audit(folder, Asked(), out).errors
    audit(folder, Asked(), tmp_path / "anew.csv")
    assert (tmp_path / "anew.csv").read_bytes() == out.read_bytes()


def test_a_part_file_of_another_question_is_left_alone(stopped, capsys):
    folder, out = stopped
    part = Path(f"{out}.part")
    before = part.read_bytes()
    assert 2 == main(["audit", str(folder), "-o", str(out), "--kernel", "5.4"])
    assert "is of an audit of another folder, with other options or by another version; ask the same again" in capsys.readouterr().err
    assert before == part.read_bytes()
    part.write_text("a novel")
    assert 2 == main(["audit", str(folder), "-o", str(out)])
    assert "a novel" == part.read_text()


def test_a_file_that_no_worker_outlives_is_a_row_and_stops_nobody(tmp_path, monkeypatch):
    for n in range(40):
        (tmp_path / f"{n:02}.txt").write_text(listing(NAMES[2]))
    whole = audit(tmp_path, Asked())

    def deadly(path, *_):
        return os._exit(1) if path.name == "07.txt" else Found([Row(path.stem, "0000:00:00.0", group=0, alone=True)])

    monkeypatch.setattr(fleet, "audited", deadly)  # workers are forked
    found = audit(tmp_path, Asked())
    assert (40, 0) == (whole.machines, whole.errors)
    assert (39, 1) == (found.machines, found.errors)
    assert ["its worker was killed 2 times while it read this file alone: is there too little memory?"] == list(found.reasons["errors"])


def test_a_fault_of_ours_is_a_row_and_stops_nobody(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(listing(NAMES[2]))
    monkeypatch.setattr("vfiolab.kit.audit.refusals", lambda *_: {}["x"])
    assert ["vfiolab failed, which is its own fault: KeyError: 'x'"] == list(audit(tmp_path, Asked()).reasons["errors"])


# a cluster


def test_a_cluster_that_loses_a_worker_gives_the_same(fleet_of, mixed, tmp_path):
    from distributed import LocalCluster

    folder, whole = fleet_of
    out = tmp_path / "out.csv"
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = [worker.pid for worker in cluster.workers.values()]

        def tell(done, _):
            if done > 60 and workers:
                os.kill(workers.pop(), signal.SIGKILL)
                workers.clear()

        audit(mixed, Asked(), tmp_path / "mixed.csv", dask=cluster.scheduler_address)
        audit(folder, Asked(), out, dask=cluster.scheduler_address, tell=tell)
    audit(mixed, Asked(), tmp_path / "here.csv")
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "mixed.csv").read_bytes()
    assert [] == workers
    assert whole == out.read_bytes()


def test_a_cluster_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fleet, "_PATIENCE", 1)
    assert 2 == main(["audit", str(tmp_path), "--dask", "tcp://127.0.0.1:9"])
    assert "vfiolab audit: --dask tcp://127.0.0.1:9: no Dask scheduler answers" in capsys.readouterr().err


# what comes out


def test_every_format_holds_the_same(mixed, tmp_path):
    from pyarrow import parquet

    for ending in ("csv", "jsonl", "parquet"):
        audit(mixed, Asked(), tmp_path / f"out.{ending}")
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert rows == [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    words = {True: "true", False: "false", None: ""}
    assert rows_of(tmp_path / "out.csv") == [{name: words.get(one, str(one)) if one in (True, False, None) and name == "alone" else
                                              "" if one is None else str(one) for name, one in row.items()} for row in rows]  # fmt: skip
    assert {int, type(None)} == {type(row["group"]) for row in rows}


def test_without_an_output_the_summary_is_all(mixed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert 0 == main(["audit", str(mixed)])
    said = capsys.readouterr()
    assert ["machines", "functions", "groups", "alone", "shared", "refused", "errors"] == [
        line.split()[1] for line in said.out.splitlines()[:7]
    ]
    assert "        2  names passed over: they begin with a dot, or are links to folders" in said.out
    assert "" == said.err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: is no folder; `vfiolab groups` takes a single file"),
        ([".", "-o", "out.txt"], "-o out.txt: its ending says no format; write .csv, .jsonl, .parquet"),
        ([".", "-o", "no/such/out.csv"], "No such file or directory: '"),
        ([".", "--kernel", "2.6.32"], "2.6.32"),
        ([".", "--set-acs", "01:00.0=+XX"], "'XX' is no ACS bit"),
        ([".", "--set-acs", "01:00.0"], "--set-acs 01:00.0: must be BDF=BITS"),
        ([".", "--pcie-acs-override", "nonsense"], "nonsense"),
    ],
    ids=lambda one: one[-1] if isinstance(one, list) else "",
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert 2 == main(["audit", *arguments])
    assert said in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("out", "package", "extra"), [("x.parquet", "pyarrow", "parquet"), (None, "distributed", "dask")])
def test_a_missing_package_is_named_with_its_extra(out, package, extra, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(kept, "find_spec", lambda _: None)
    options = ["-o", str(tmp_path / out)] if out else ["--dask", "tcp://127.0.0.1:9"]
    assert 2 == main(["audit", str(tmp_path), *options])
    assert f"needs the package {package}; pip install 'vfiolab[{extra}]'" in capsys.readouterr().err


def test_what_if_is_asked_of_every_machine(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("amd-matisse-desktop", "hp-elitebook-630"):
        (tmp_path / "in" / f"{name}.txt").write_text(listing(name))
    options = ["--set-acs", "04:04.0=-RR"]
    found = by_file(audited(tmp_path / "in", tmp_path / "out.csv", *options))
    groups = groups_of(capsys, tmp_path / "in/hp-elitebook-630.txt", *options)[0]
    assert groups == {frozenset([row["bdf"], *row["with"].split()]) for row in found["hp-elitebook-630.txt"] if row["group"]}
    assert ["04:04.0: no such function"] == [row["error"].partition(";")[0] for row in found["amd-matisse-desktop.txt"]]


@pytest.mark.parametrize(
    ("part", "place"), [(".", "."), ("devices", "devices"), ("devices/pci0000:00", ".")], ids=["a tree", "its devices", "functions alone"]
)
def test_a_listing_beside_the_folders_of_a_tree_is_a_machine_of_its_own(tmp_path, monkeypatch, part, place):
    made = sysfs_tree(tmp_path / "made", from_lspci(NAMES[0]).topology)
    host = tmp_path / "in/host"
    (host / place).parent.mkdir(parents=True)
    (made / part).rename(host / place)
    (host / "logs").mkdir()
    (host / "logs/lspci.txt").write_text(listing(NAMES[1]))
    monkeypatch.chdir(host)
    found = by_file(audited(Path(), tmp_path / "out.csv"))
    assert [".", "logs/lspci.txt"] == list(found)
    assert {"host"} == {row["machine"] for row in found["."]}


def test_the_output_is_none_of_the_inputs(tmp_path):
    (tmp_path / "a.txt").write_text(listing(NAMES[2]))
    first = audited(tmp_path, tmp_path / "out.csv")
    (tmp_path / "out.csv.new").write_text("left behind")
    assert first == audited(tmp_path, tmp_path / "out.csv")
    assert {"a.txt"} == {row["file"] for row in first}


def test_rows_grow_with_the_machine_and_not_with_its_square(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/many.txt").write_text(many_devices(1))
    bridge = '{"bdf": "0000:00:00.0", "kind": "pci-bridge", "buses": {"primary": 0, "secondary": 1, "subordinate": 9}}'
    below = ", ".join(f'{{"bdf": "0000:{bus:02x}:{slot:02x}.{n}", "kind": "pci", "parent": "0000:00:00.0"}}'
                      for bus in range(1, 9) for slot in range(32) for n in range(8))  # fmt: skip
    (tmp_path / "in/one.json").write_text(f'{{"devices": [{bridge}, {below}]}}')
    found = by_file(audited(tmp_path / "in", tmp_path / "out.csv"))
    assert 8192 == len(found["many.txt"])
    assert 2049 == len(found["one.json"])
    assert {"0"} == {row["group"] for row in found["one.json"]}
    assert found["one.json"][0]["with"].endswith(" and 1024 more")
