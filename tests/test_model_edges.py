"""Values at the edges, and of the wrong type, at every public verb: the kernel's answer or a clear error, and nothing changed."""

import inspect

import pytest
from model_steps import PAGE, A, B, container, fill, group, intel, snapshot
from model_world import differing, invariants, machines

from vfiolab.kit import load
from vfiolab.model.errors import NotModelledError, VfioError, WouldBlockError
from vfiolab.model.kernel import Kernel
from vfiolab.model.user.container import Container, Device, Group

NUMBERS = 0, 1, -1, 1 << 31, 1 << 32, -(1 << 31), 1 << 63, -(1 << 63), (1 << 64) - 1, 1 << 64, -(1 << 64), 1 << 200
EDGES = (*NUMBERS, True, 1.5, "1", "", "x", b"y", None, [], {}, object())
CLEAR = VfioError, ValueError, TypeError, NotModelledError, WouldBlockError
PYTHONS_OWN = "unhashable", "object is not", "argument must", "not supported between", "object has no", "unsupported operand"
VERSIONS = "4.4", "6.12", "7.3"


def on_a_host(kernel, *, layer=False):
    """Return a host with a container, two groups inside, a mapping and an open device."""
    host = (machines()["compat"] if layer else intel({"width": 48}, {"width": 48})).host(kernel)
    opened = host.process.open_container()
    first, second = group(host, A, opened), group(host, B, opened)
    opened.set_iommu(3)
    fill(host, opened, 0x1000, PAGE)
    return host, opened, first, second, first.get_device_fd(A)


VERBS = {
    "container": [name for name, _ in inspect.getmembers(Container, inspect.isfunction) if not name.startswith("_")],
    "group": [name for name, _ in inspect.getmembers(Group, inspect.isfunction) if not name.startswith("_")],
    "device": [name for name, _ in inspect.getmembers(Device, inspect.isfunction) if not name.startswith("_")],
    "iommufd": ["destroy", "ioas_map", "ioas_copy", "ioas_unmap", "ioas_iova_ranges", "hwpt_alloc", "option", "vfio_ioas"],
    "process": ["open_group", "set_memlock", "remap", "drop_capability", "restore_capability"],
    "host": ["bind", "unbind", "get_param", "set_param", "group_of"],
}
INTERNAL = {"inherited", "close", "hot_reset"}  # no arguments, or the kernel's side of a descriptor
GOOD = {
    "iova": 0x10000, "size": PAGE, "vaddr": 0x200000000000, "flags": 0, "kind": 3, "number": 1, "argsz": 48, "container": 3, "name": A,
    "cmd": 0x3BFF, "arg": 0, "index": 2, "start": 0, "count": 1, "group": 0, "limit": 0, "prot": "rw", "device": A, "driver": "vfio-pci",
    "value": 1, "region": 0, "offset": 0, "data": 2, "iommufd": 3,
    "ioas": 1, "source": 1, "source_iova": 0x1000, "length": PAGE, "option": 1,
}  # fmt: skip


def target(kind, made):
    host, opened, first, _, device = made
    return {"container": opened, "group": first, "device": device, "iommufd": opened, "process": host.process, "host": host}[kind]


def arguments(method):
    return [p for p in inspect.signature(method).parameters.values() if p.name not in ("self", "host")]


EVERY = [
    (kind, verb, layer) for kind, verbs in VERBS.items() for verb in verbs if verb not in INTERNAL for layer in (False, True)
    if layer or kind != "iommufd"
]  # fmt: skip


@pytest.mark.parametrize(("kind", "verb", "layer"), EVERY)
def test_each_argument_of_each_verb_at_its_edges(kind, verb, layer):
    for kernel in ("6.12",) if layer else VERSIONS:
        made = on_a_host(kernel, layer=layer)
        wanted = arguments(getattr(target(kind, made), verb))
        for argument in wanted:
            for value in EDGES:
                made = one_call(made, kind, verb, wanted, argument.name, value, kernel, layer=layer)


def clear(error, what):
    assert str(error), f"{what} is refused without a word"
    assert not any(words in str(error) for words in PYTHONS_OWN), f"{what}: {error}"


def one_call(made, kind, verb, wanted, name, value, kernel, *, layer):
    """Call with one argument at an edge; return the hosts to go on with: a fresh one if something was done."""
    host = made[0]
    args = {p.name: GOOD[p.name] for p in wanted if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)}
    before = snapshot(host)
    try:
        getattr(target(kind, made), verb)(**args | {name: value})
    except CLEAR as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        clear(refused, f"{verb}({name}={value!r})")
        changed = differing(before, snapshot(host))
        if verb != "bind":
            assert {} == changed, f"{verb}({name}={value!r}): {refused}"
        if not changed:
            return made
    invariants(host)
    return on_a_host(kernel, layer=layer)


@pytest.mark.parametrize("value", EDGES, ids=lambda one: repr(one).partition(" at 0x")[0])
def test_the_learners_verbs_at_their_edges(value):
    space = load("two-smmu-server").address_space()
    space.attach("0000:01:00.0")
    space.map(0x1000, 0x1000)
    host = space.host
    for act in (
        lambda: space.attach(value),
        lambda: space.detach(value),
        lambda: space.open(value),
        lambda: space.map(value, 0x1000),
        lambda: space.map(0x1000, value),
        lambda: space.map(0x10000, 0x1000, vaddr=value) if value is not None else space.map(0x1000, 0x1000),
        lambda: space.map(0x1000, 0x1000, rights=value),
        lambda: space.unmap(value, 0x800),
        lambda: space.unmap(0x800, value) if value is not None else space.unmap(0x800),
        lambda: space.enable_msi("0000:01:00.0", value),
        lambda: space.enable_msi("0000:01:00.0", 1, index=value),
        lambda: host.bind(value),
        lambda: host.with_kernel(value),
        lambda: host.address_space(value).attach("0000:02:00.0"),
        lambda: load(value),
    ):
        before = snapshot(host)
        refused = None
        try:
            act()
        except (*CLEAR, OSError) as error:
            refused = error
        if refused is not None:
            clear(refused, repr(value))
            changed = differing(before, snapshot(host)).keys() - {"memory"}
            if changed != {"descriptors", "containers"}:  # a new address space, or a device that was opened on the way
                assert changed <= {"descriptors", "vfio groups"}, refused
    invariants(host)


@pytest.mark.parametrize("value", [v for v in EDGES if not isinstance(v, str)], ids=lambda one: repr(one).partition(" at 0x")[0])
def test_a_kernel_is_written_as_a_version(value):
    with pytest.raises((ValueError, TypeError)):
        Kernel(value)


def test_a_type_of_backend_that_is_no_number_is_refused_before_anything_happens():
    host = intel().host("6.12")
    opened = host.process.open_container()
    group(host, A, opened)
    before = snapshot(host)
    with pytest.raises(TypeError, match="type is a whole number, not 'v2'"):
        opened.set_iommu("v2")
    assert before == snapshot(host)


def test_a_negative_number_is_what_its_bits_are():
    host = intel().host("6.12")
    opened = container(host, A)
    with pytest.raises(VfioError, match="iova 0xffff_ffff_ffff_f000"):
        opened.map_dma(-PAGE, 2 * PAGE, 0)
