"""What `import vfiolab as vl` gives: every public name, errors called by it, and a session for every verb."""

import copy
import doctest
import inspect
import pickle
import subprocess
import sys
from collections.abc import Sequence

import pytest

import vfiolab as vl
from vfiolab._text import markup, page_text

CLASSES = [value for name in vl.__all__ if inspect.isclass(value := getattr(vl, name))]
ERRORS = [cls for cls in CLASSES if issubclass(cls, Exception)]


def names(classes):
    return [cls.__name__ for cls in classes]


def test_tab_offers_the_public_names_and_no_others():
    assert sorted([*vl.__all__, "__version__"]) == dir(vl)
    assert [] == [name for name in vl.__all__ if name.startswith("_")]


@pytest.mark.parametrize("room", [vl, vl.lab, vl.course, vl.draw], ids=lambda room: room.__name__)
def test_each_public_name_of_a_room_is_there(room):
    assert [] == [name for name in room.__all__ if getattr(room, name, None) is None]


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(AttributeError, match=r"module 'vfiolab' has no attribute 'lod'; it has course, .*load"):
        _ = vl.lod


@pytest.mark.parametrize("unwanted", ["IPython", "ipywidgets", "matplotlib", "pandas", "vfiolab.model"])
def test_the_import_alone_brings_nothing_that_a_name_may_need(unwanted):
    code = f"import sys, vfiolab; dir(vfiolab); sys.exit({unwanted!r} in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


@pytest.mark.parametrize("unwanted", ["ipywidgets", "tarfile", "email", "vfiolab.draw", "vfiolab.readers.lspci", "vfiolab.readers.sysfs"])
def test_an_address_space_on_a_machine_of_the_kit_brings_no_reader_of_listings(unwanted):
    code = f"import sys, vfiolab as vl; vl.load('two-smmu-server').address_space(); sys.exit({unwanted!r} in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


# errors


@pytest.mark.parametrize("error", ERRORS, ids=names(ERRORS))
def test_a_traceback_calls_an_error_by_its_public_name(error):
    assert f"vfiolab.{error.__name__}" == f"{error.__module__}.{error.__qualname__}"


@pytest.mark.parametrize("act", [pickle.dumps, copy.deepcopy])
def test_a_refusal_can_be_kept_and_sent(act):
    space = vl.load("two-smmu-server").address_space()
    space.attach("01:00.0")
    with pytest.raises(vl.VfioError) as refused:
        space.map(0x800_0000, "64K")
    kept = act(refused.value)
    kept = pickle.loads(kept) if isinstance(kept, bytes) else kept
    assert (vl.VfioError, refused.value.explain()) == (type(kept), kept.explain())
    assert refused.value.obstacles == kept.obstacles


@pytest.mark.parametrize("error", ERRORS, ids=names(ERRORS))
def test_the_sessions_of_an_error_are_executed(error):
    """Doctest looks for a class in the module that its name leads to, so it passes by those that are named after another."""
    runner = doctest.DocTestRunner()
    for found in doctest.DocTestFinder().find(error, module=False):
        runner.run(found)
    assert 0 == runner.summarize(verbose=False).failed


# short addresses


def test_pictures_groups_and_explanations_take_the_address_of_a_device_as_lspci_writes_it():
    host = vl.load("intel-vtd-39bit")
    assert vl.topology(host, only=["0000:01:00.0"]) == vl.topology(host, only=["1:0.0"])
    assert host.grouping.group_of("0000:01:00.0") == host.grouping.group_of("01:00.0")
    assert ("0000:01:00.0",) == host.grouping.mates("01:00.0")
    line = "vfio_dma_map(0x55f0, 0xfee00000, 0x100000, 0x7f0000000000) = -22 (Invalid argument)"
    assert ["0000:01:00.0"] == [case.device for case in vl.explain_map(line, host, ["01:00.0"]).cases]


def test_an_option_that_names_no_device_is_refused():
    with pytest.raises(ValueError, match="PCI address 'nic'"):
        vl.GroupingOptions(isolated={"nic"})


# sessions

VERBS = [
    (cls, name)
    for cls in (vl.Host, vl.AddressSpace, vl.MachineBuilder, vl.Kernel, vl.Table, vl.Picture)
    for name, value in inspect.getmembers(cls)
    if not name.startswith("_") and inspect.isroutine(value) and not hasattr(Sequence, name)
]


@pytest.mark.parametrize(("cls", "verb"), VERBS, ids=lambda part: getattr(part, "__name__", part))
def test_each_public_verb_has_a_session_that_calls_it(cls, verb):
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(cls, verb)) or "")
    assert [] != [example for example in examples if f".{verb}(" in example.source]


# an address space that closes


def test_a_block_closes_the_address_space_however_it_ends():
    host = vl.load("two-smmu-server")
    with host.address_space() as space:
        space.attach("01:00.0", "21:00.0")
        space.map(0x4000_0000, "1G")
        space.enable_msi("01:00.0")
    assert {} == host.process.descriptors
    assert "AddressSpace('two-smmu-server', closed)" == repr(space)
    assert {"text/plain": repr(space)} == space._repr_mimebundle_()
    host._check()


def test_a_refusal_inside_the_block_closes_too_and_goes_on_to_the_caller():
    host = vl.load("two-smmu-server")

    def twice():
        with host.address_space() as space:
            space.attach("01:00.0", "21:00.0")
            space.map(0x4000_0000, "1G")
            space.map(0x4000_0000, "1G")

    with pytest.raises(vl.VfioError, match="EEXIST"):
        twice()
    assert {} == host.process.descriptors
    host._check()


def test_a_closed_address_space_refuses_each_call_and_closes_again_without_one():
    space = vl.load("two-smmu-server").address_space()
    space.attach("01:00.0")
    space.close()
    calls = len(space.log.calls)
    space.close()
    assert calls == len(space.log.calls)
    for act in (lambda: space.map(0, "4K"), lambda: space.unmap(0, "4K"), space.unmap_all, lambda: space.attach("01:00.0")):
        with pytest.raises(vl.VfioError, match="EBADF"):
            act()
    assert {} == space.process.descriptors


def test_a_parent_that_closes_leaves_its_child_what_it_holds():
    parent = vl.load("two-smmu-server").address_space()
    parent.attach("01:00.0")
    child = parent.fork()
    parent.close()
    child.map(0, "4K")
    assert 1 == len(child.mappings)
    child.close()
    assert {} == child.process.descriptors
    assert 0 == len(child.mappings)


# what shows itself


@pytest.mark.parametrize("name", vl.machines())
def test_a_host_shows_itself_as_its_machines_tree_with_its_groups(name):
    host = vl.load(name)
    shown = host._repr_mimebundle_()
    assert repr(host) == shown["text/plain"].splitlines()[0]
    assert f'alt="{markup(vl.topology(host).alt)}"' in shown["text/html"]
    assert f"<figcaption>{page_text(repr(host))}</figcaption>" in shown["text/html"]


@pytest.fixture
def picture():
    return vl.pages(0x10_0000, 0x4010_0000, 4 << 20, 0x4020_1000)


@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", b"<svg "), ("a.txt", b"4 MiB became"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.b.SVG", b"<svg ")]
)
def test_the_ending_of_its_name_says_how_a_picture_is_saved(tmp_path, picture, name, start):
    picture.save(tmp_path / name)
    picture.save(str(tmp_path / name))
    assert start == (tmp_path / name).read_bytes()[: len(start)]


@pytest.mark.parametrize("name", ["a.gif", "a", "svg", ".svg"])
def test_a_picture_is_not_saved_under_a_name_that_does_not_say_how(tmp_path, picture, name):
    with pytest.raises(ValueError, match=r"saved as \.svg, \.txt, \.png or \.pdf, not as"):
        picture.save(tmp_path / name)
    assert [] == list(tmp_path.iterdir())


def test_a_saved_figure_is_not_left_open_for_the_next_one(tmp_path, picture):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    picture.save(tmp_path / "a.png")
    assert before == plt.get_fignums()


def test_a_picture_has_its_svg(picture):
    assert vl.draw.to_svg(picture) == picture.svg
