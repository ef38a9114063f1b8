"""What `import vfiolab as vl` gives: every public name, errors called by it, and a session for every verb."""

import copy
import doctest
import inspect
import pickle
import subprocess
import sys

import pytest

import vfiolab as vl

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
