"""A session as Python, as C, as strace's text and as a page: each says the same, and nothing in a name becomes code or markup."""

import re
import shutil
import subprocess
from contextlib import suppress
from html.parser import HTMLParser

import pytest
from host_state import assert_same
from model_world import machines
from session_walk import NASTY, carried_out, wandered

import vfiolab as vl
from vfiolab.kit.host import boot

SEEDS = range(100, 124)
GCC = shutil.which("gcc")


@pytest.fixture
def session():
    made = vl.Session(vl.load("two-smmu-server"), name="a refusal")
    for verb, *args in (
        ("host.address_space",), ("space.attach", "01:00.0"), ("space.map", 0x4000_0000, "1G", "guest RAM"),
        ("space.map", 0x800_0000, "1M"), ("space.enable_msi", "01:00.0"), ("space.raise_msi", "01:00.0"), ("space.fork", "P"),
        ("space_P.map", 0, "4K"),
    ):  # fmt: skip
        made.do(verb, *args)
    return made


# Python


@pytest.mark.parametrize("seed", SEEDS)
def test_the_python_of_a_session_gives_the_same_state(seed):
    made = wandered(seed, name=NASTY if seed % 2 else "session")
    assert_same(made.host, carried_out(made.python()))


def test_a_fork_of_several_spaces_gives_each_its_name(session):
    session.do("host.address_space", 1)
    session.do("space2.fork", "Q")
    session.do("space_Q.map", 0x9000_0000, "4K")
    session.do("space2_Q.attach", "21:00.0")
    assert "space_Q = host.spaces[3]" in session.python().splitlines()
    assert_same(session.host, carried_out(session.python()))


def test_verbs_and_bare_calls_are_one_program(session):
    text = (
        session.text()
        .replace('# step space.map(0x4000_0000, "1G", "guest RAM")\n', "# calls\n")
        .replace("# step space = host", "# step host")
    )
    mixed = vl.open_session(text)
    mixed.do("space.map", 0x9000_0000, "4K")
    assert 1 == mixed.python().count("host.replay(")
    assert_same(mixed.host, carried_out(mixed.python()))


def test_a_machine_without_an_iommu_gets_none_in_python_either():
    made = vl.Session(boot(machines()["no iommu"], "6.12"))
    made.do("host.address_space", 8)
    assert_same(made.host, carried_out(made.python()))


def test_a_kernel_with_a_switched_rule_is_kept_by_nothing_that_boots_it():
    made = vl.Session(vl.load("two-smmu-server", kernel=vl.Kernel("6.12", frozenset({"valid_iova"}))))
    for write in (made.text, made.python):
        with pytest.raises(ValueError, match="switched by hand"):
            write()
    assert made.c()
    assert made.strace() == ""


# C


@pytest.mark.skipif(GCC is None, reason="no gcc here to compile the exported C with")
def test_the_c_of_each_session_compiles_without_a_warning(tmp_path, session):
    programs = [session.c(), *(wandered(seed, name=NASTY).c() for seed in SEEDS), every_call().c()]
    for number, program in enumerate(programs):
        (tmp_path / f"{number}.c").write_text(program, encoding="utf-8")
    files = sorted(map(str, tmp_path.glob("*.c")))
    done = subprocess.run(
        [GCC, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-c", *files], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "" == done.stderr
    assert len(programs) == len([*tmp_path.glob("*.o")])


@pytest.mark.skipif(GCC is None, reason="no gcc here to compile the exported C with")
def test_the_c_runs_past_every_call_that_is_refused(tmp_path, session):
    (tmp_path / "session.c").write_text(session.c(), encoding="utf-8")
    subprocess.run([GCC, "-std=c11", "-o", "session", "session.c"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "session"], capture_output=True, text=True, check=True)
    said = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert ["open /dev/vfio/vfio", "open /dev/vfio/8", "VFIO_GROUP_SET_CONTAINER", "VFIO_SET_IOMMU"] == said[:4]
    assert "VFIO_DEVICE_SET_IRQS" == said[-1]


def every_call():
    """Return a session with each call that a trace can hold, with pointers that lead nowhere, bitmaps and memory."""
    host = vl.load("two-smmu-server", kernel="5.15")
    space = host.address_space()
    space.attach("01:00.0")
    container, process, base = space.container, host.process, host.machine.arena.base
    space.open("01:00.0")
    device = space.open("01:00.0")
    group = next(file for file in process.descriptors.values() if type(file).__name__ == "Group")
    calls = [
        lambda: container.map_dma(0x9000_0000, 4096, base, 7, argsz=31, ptr="bad"),
        lambda: container.map_dma(0x9000_0000, 4096, base, 0xFF00),
        lambda: container.dirty_pages(1), lambda: container.dirty_pages(4, iova=0x9000_0000, size=4096), lambda: container.dirty_pages(2),
        lambda: container.unmap_dirty(0, 4096, 1, bm_pgsize=4096, bm_size=8), lambda: container.unmap_dma(flags=2), container.get_info,
        lambda: container.get_info(24, writable=False), container.get_api_version, lambda: container.check_extension(1 << 31),
        lambda: container.ioctl(0x3BFF, 7), lambda: group.get_status(7, ptr="null"), lambda: group.set_container(-1), device.get_info,
        lambda: device.get_region_info(7), lambda: device.get_irq_info(2), device.reset, lambda: device.set_irqs(2, 0, 3, 0x22, value=0),
        lambda: device.set_irqs(2, 0, 1, 0x24, evfd=-1), lambda: device.set_irqs(2, 0, 1 << 31, 0x24), lambda: device.write_config(4, 6),
        lambda: device.mmap(0, 4096, base + 0x400000), lambda: process.mmap(8192), lambda: process.remap(base, 4096, "r"),
        lambda: process.remap(base, 4096, "hole"), lambda: process.set_memlock(8 << 20), lambda: process.set_memlock(None),
        process.drop_capability, process.restore_capability, lambda: process.drop_capability(17, keep=False), device.get_hot_reset_info,
        lambda: device.hot_reset(group), lambda: space.dma_write("01:00.0", 0, 7), lambda: process.open_group(NASTY),
        lambda: process.open_group("../../etc"), lambda: process.bind("../../x"), lambda: host.set_param("../x", "y"),
        lambda: process.remove("0000:21:00.0"), process.rescan, lambda: group.get_device_fd(NASTY), process.exit, host.new_process,
    ]  # fmt: skip
    for make in calls:
        with suppress(vl.Refusal, ValueError):
            make()
    return vl.Session(host)


def test_a_program_that_runs_as_root_writes_to_no_name_that_leads_elsewhere():
    program = every_call().c()
    written = [line for line in program.splitlines() if "put(" in line and "static" not in line]
    assert any("0000:21:00.0/remove" in line for line in written)
    assert [] == [line for line in written if ".." in line]


def test_what_no_program_does_stands_as_a_comment(session):
    comments = [line.strip() for line in session.c().splitlines() if line.strip().startswith("/*")]
    assert any(line.startswith("/* a device raises its interrupt by itself") for line in comments)
    assert any(line.startswith("/* process P, which is not this one: P: map ") for line in comments)


def test_the_answer_of_the_model_stands_beside_each_call(session):
    program = session.c()
    assert 1 == program.count("/* the model: EINVAL: 0x800_0000-0x80f_ffff overlaps the software MSI window")


# strace


def test_the_transcript_is_read_back_as_the_same_calls(session):
    session.go(4)
    capture = vl.open_capture(session.strace())
    assert "strace" == capture.kind
    verbs = [call.verb for call in session.host.log.calls]
    assert verbs == [operation.verb for operation in capture.operations if operation.verb != "mem"]
    run = capture.run("two-smmu-server")
    assert "EINVAL" == run.first_refused.result


def test_the_transcript_of_what_no_process_of_strace_does_is_left_unread_line_by_line(session):
    capture = vl.open_capture(session.strace())
    left = [str(line) for line in capture.calls.unread]
    assert any("[P] ioctl(3, VFIO_IOMMU_MAP_DMA" in line for line in left)
    assert any("    map D1 0x4000_0000" in line for line in left)


# pages


class Read(HTMLParser):
    """Collects a page's elements and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_says_what_was_asked_and_answered_and_how_it_ended(session):
    page = Read(session.page())
    text = "".join(page.text)
    assert ("html", {"lang": "en"}) in page.tags
    for said in (
        "8 steps: 7 carried out, 1 refused",
        'space.map(0x800_0000, "1M")',
        "EINVAL: 0x800_0000",
        "vfio_iommu_iova_dma_valid",
        "Linux 6.12",
    ):
        assert said in text.replace("\n", " "), said
    pictures = [attrs["alt"] for tag, attrs in page.tags if tag == "img" and attrs["alt"]]
    assert len(pictures) > 6
    assert any("refused" in alt for alt in pictures)


def test_the_file_that_stands_in_a_page_opens_again(session):
    shown = Read(session.page().partition("<summary>The file</summary>")[2]).text
    assert_same(
        session.host,
        vl.open_session("".join(shown).partition("# vfiolab session 1")[1] + "".join(shown).partition("# vfiolab session 1")[2]).host,
    )


@pytest.mark.parametrize("seed", [101, 103, 105])
def test_a_page_needs_nothing_and_runs_nothing_whatever_the_names_are(seed):
    made = wandered(seed, name=NASTY)
    page = Read(made.page())
    assert {"script", "link", "iframe", "object", "embed", "form"} & {tag for tag, _ in page.tags} == set()
    assert [] == [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    outside = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href") and not value.startswith(("data:", "#"))
    ]
    assert [] == outside
    assert not re.search(r"url\((?!#)|@import", made.page())


def test_a_long_session_has_no_picture_for_each_step(session):
    for _ in range(60):
        session.do("space.unmap", 0xF000_0000, "4K")
    assert "up to 60 steps" in "".join(Read(session.page()).text)


# files


@pytest.mark.parametrize("name", ["a.trace", "a.vfiolab", "a.py", "a.c", "a.strace", "a.txt", "a.html", "a.b.HTML"])
def test_the_ending_of_its_name_says_how_a_session_is_saved(tmp_path, session, name):
    forms = {"trace": session.text, "vfiolab": session.text, "py": session.python, "c": session.c, "html": session.page}
    session.save(tmp_path / name)
    session.save(str(tmp_path / name))
    assert forms.get(name.rpartition(".")[2].lower(), session.strace)() == (tmp_path / name).read_text(encoding="utf-8")
    assert [name] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["a.doc", "a", ".py"])
def test_a_session_is_not_saved_under_a_name_that_does_not_say_how(tmp_path, session, name):
    with pytest.raises(ValueError, match=r"saved as \.vfiolab, \.trace, \.py, \.c, \.strace, \.txt or \.html, not as"):
        session.save(tmp_path / name)
    assert [] == list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path, session, monkeypatch):
    session.save(tmp_path / "a.trace")
    before = (tmp_path / "a.trace").read_bytes()
    session.do("space.map", 0x9000_0000, "4K")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        session.save(tmp_path / "a.trace")
    assert (before, ["a.trace"]) == ((tmp_path / "a.trace").read_bytes(), [path.name for path in tmp_path.iterdir()])
