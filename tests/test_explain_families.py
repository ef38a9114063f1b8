"""Families of error lines are data: each has an example with its public source, is told from every other, and its experiment runs."""

from __future__ import annotations

import ast
import json
import re

import pytest

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.detective.answer import FIELD, KEYS, Answer
from vfiolab.detective.families import families, rows, search
from vfiolab.model.irq.faultlog import BLOCKED, dma_fault, interrupt_fault

FAMILIES = families()
EXAMPLES = [(family, example) for family in FAMILIES for example in family.data["examples"]]
ROLES = {"cause", "symptom", "echo", "note"}


def named(pair):
    return f"{pair[0].id} {pair[1]['line'][:40]}" if isinstance(pair, tuple) else pair.id


def every_row():
    import tomllib

    for path in sorted((data_dir() / "lines").glob("*.toml")):
        text = tomllib.loads(path.read_text(encoding="utf-8"))
        yield from ((f"{row['call']} {row['when']}", row, True) for row in text.get("call", ()))
        for family in text.get("family", ()):
            yield from ((f"{family['id']} {row['when']}", {**family, **row}, False) for row in family.get("case", ({"when": {}},)))


def run(source):
    """Carry an experiment out; return the errno's name it met, "fault" for a request that was refused, "" for neither."""
    *most, last = ast.parse(source).body
    names: dict[str, object] = {}
    try:
        exec(compile(ast.Module(most, []), "experiment", "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), "experiment", "exec"), names)
            return ""
        found = eval(compile(ast.Expression(last.value), "experiment", "eval"), names)
    except vl.VfioError as refused:
        return refused.name
    return getattr(found, "outcome", "")


# the data


def test_each_family_has_an_id_of_its_own():
    ids = [family.id for family in FAMILIES]
    assert sorted(set(ids)) == sorted(ids)
    assert len(ids) > 100


@pytest.mark.parametrize("family", FAMILIES, ids=named)
def test_a_family_says_what_it_is_and_has_an_example_with_its_source(family):
    data = family.data
    assert data["what"]
    assert data["programs"]
    assert family.role in ROLES
    assert all(len(example["from"]) > 10 for example in data["examples"])
    assert set(data.get("explains", ())) <= {other.id for other in FAMILIES}
    if family.role != "echo":
        assert {"call", "case", "cause", "candidates"} & data.keys()


@pytest.mark.parametrize(("name", "row", "is_call"), list(every_row()), ids=lambda part: part if isinstance(part, str) else "")
def test_a_row_with_a_cause_names_its_source_and_what_to_do(name, row, is_call):
    if row.get("call") and not is_call and not {"cause", "candidates"} & row.keys():
        return  # its call's rows speak
    if row.get("role") == "echo":
        return
    assert row.get("cause") or row.get("candidates"), name
    assert len(row.get("source", "")) > 10, name
    assert row.get("fix") or row.get("candidates"), name
    assert row.get("question") in {None, *range(1, 32)}
    assert all({"cause", "decides"} == one.keys() for one in row.get("candidates", ()))


def test_a_call_of_a_family_has_rows():
    calls = {row["call"] for _, row, is_call in every_row() if is_call}
    assert {family.data["call"] for family in FAMILIES if "call" in family.data} <= calls


@pytest.mark.parametrize("family", FAMILIES, ids=named)
def test_a_family_that_reads_an_errno_decides_by_it(family):
    if {"errno", "words"} & {name.rstrip("_0123456789") for name in family.pattern.groupindex} and family.role != "note":
        assert {"call", "case"} & family.data.keys()


# the examples


@pytest.mark.parametrize("pair", EXAMPLES, ids=named)
def test_an_example_is_of_its_family_and_of_no_other(pair):
    family, example = pair
    found = [one.family.id for one in search(example["line"]) if one.family.role != "echo" or family.role == "echo"]
    assert [family.id] == found
    assert family.id == vl.explain(example["line"]).kind


@pytest.mark.parametrize("pair", EXAMPLES, ids=named)
def test_an_example_gets_its_question_and_says_all_of_its_answer(pair):
    family, example = pair
    answer = vl.explain(example["line"])
    assert example.get("question") == answer.question
    assert answer.cause or answer.candidates or family.role == "echo"
    assert answer.source
    assert [] == [name for name in FIELD.findall(str(answer)) if name != "print"]
    assert family.data["what"].split("{")[0] in str(answer)


WITH_EXPERIMENT = [pair for pair in EXAMPLES if vl.explain(pair[1]["line"]).experiment]


@pytest.mark.parametrize("pair", WITH_EXPERIMENT, ids=named)
def test_an_experiment_runs_as_printed_and_meets_the_same_errno(pair):
    family, example = pair
    answer = vl.explain(example["line"])
    fields = search(example["line"])[-1].fields
    row = next(iter(rows(family, fields)), {})
    wanted = {**family.data, **row}.get("meets", "EPERM" if family.data.get("call") == "VIABLE" else fields.get("error", "fault"))
    assert wanted == run(answer.experiment)
    printed = str(answer)[str(answer).index("Try it:") :].splitlines()[1:]
    assert answer.experiment.splitlines() == [line[2:] for line in printed[: len(answer.experiment.splitlines())]]


def test_most_calls_have_an_experiment():
    assert len(WITH_EXPERIMENT) > 60


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "vfio_dma_map(0x5e043daea2f0, 0x380010000000, 0x2000000, 0x771a6ce00000) = -22 (Invalid argument)",
            "past what the host's IOMMU can",
        ),
        ("vfio_dma_map(0x55ba53e7a9d0, 0x100000000, 0xff30000000, 0x7ed243e00000) = -22 (Invalid argument)", "HyperTransport"),
        ("vfio_dma_map(0x55855c75bf00, 0x40000000, 0x100000000, 0x7f5197e00000) = -22 (Invalid argument", "MSI window 0xfee00000"),
        ("vfio_dma_map(0x7f548f0a1fc0, 0xfebd0000, 0x2000, 0x7f54a909d000) = -14 (Bad address)", "a device's BAR"),
        ("vfio_dma_map(0x1, 0xc0000, 0x40000, 0x7f54a909d800) = -22 (Invalid argument)", "is not a multiple of"),
        ("vfio_dma_map(0x1, 0xfffffffffffff000, 0x2000, 0x7f54a909d000) = -22 (Invalid argument)", "wraps past 2^64"),
        ("vfio_dma_map(0x1, 0x100000, 0x0, 0x7f54a909d000) = -22 (Invalid argument)", "size 0 maps nothing"),
        ("qemu-system-aarch64: vfio_dma_map(0x1, 0x8000000, 0x100000, 0x7f54a909d000) = -22 (Invalid argument)", "MSI doorbells"),
        ("vfio_pin_page_external: Task qemu-system-x86 (2296) RLIMIT_MEMLOCK (65536) exceeded", "RLIMIT_MEMLOCK"),
        ("Error from device manager: VfioMapRegion(DmaMap(IommuDmaMap(Error(17))))", "mapped already"),
        ("vfio 0000:01:00.0: group 1 is not viable", "on a driver of the host"),
        ("qemu-kvm: vfio_listener_region_add received unaligned region", "QEMU leaves it out"),
    ],
)
def test_a_line_from_a_public_report_gets_its_cause(line, words):
    assert words in vl.explain(line).cause


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vfio_dma_map(0x1, 0xfd00000000, 0x1000, 0x7f54a909d000) = -22 (Invalid argument)", ["can translate", "HyperTransport"]),
        ("vfio_dma_map(0x1, 0x100000, 0x1000, 0x7f54a909d000) = -14 (Bad address)", ["BAR", "no memory at that vaddr"]),
        ("vfio_dma_map(0x1, 0x100000, 0x1000, 0x7f54a909d000) = -22 (Invalid argument)", ["64 KiB pages", "reserves", "SET_IOMMU"]),
        ("Failed to MAP DMA memory: Invalid argument    src/core/vfio/vfio.c", ["before SET_IOMMU", "width", "multiple"]),
    ],
)
def test_a_line_that_cannot_tell_names_what_could_be_and_what_decides(line, words):
    answer = vl.explain(line)
    assert answer.cause is None
    assert len(words) == len(answer.candidates)
    assert all(word in one["cause"] and one["decides"] for word, one in zip(words, answer.candidates, strict=True))


def test_a_number_and_a_text_that_name_two_errors_give_no_cause():
    answer = vl.explain("vfio_dma_map(0x1, 0x380010000000, 0x2000000, 0x7f0000000000) = -22 (Cannot allocate memory)")
    assert answer.cause is None
    assert "the line contradicts itself: EINVAL against ENOMEM" in str(answer)


# the model's own lines


@pytest.mark.parametrize("kernel", ["4.4", "4.8", "4.14", "5.4", "5.10", "5.15", "6.1", "6.12", "7.3"])
@pytest.mark.parametrize("kind", ["intel-vtd", "amd-vi", "arm-smmu-v3"])
@pytest.mark.parametrize(
    ("write", "mapped", "beyond"), [(False, False, False), (True, False, False), (True, True, False), (False, False, True)]
)
def test_a_fault_that_the_model_logs_is_explained(kernel, kind, write, mapped, beyond):
    line = dma_fault(vl.Kernel(kernel), kind, "dmar0", "0000:01:00.0", "vfio-pci", 0x1234000, write=write, mapped=mapped, beyond=beyond)
    found = vl.explain(line)
    answer = found if isinstance(found, Answer) else (found.lines or [None])[0]
    if line:
        assert 29 == answer.question
        assert answer.cause
        assert kind == "arm-smmu-v3" or "1234000" in answer.what


@pytest.mark.parametrize("kernel", ["4.4", "4.14", "5.10", "5.14", "6.12"])
@pytest.mark.parametrize("reason", sorted(BLOCKED))
def test_an_interrupt_that_the_model_blocks_is_explained(kernel, reason):
    found = vl.explain(interrupt_fault(vl.Kernel(kernel), "0000:01:00.0", reason, None if reason == 37 else 0x10))
    answer = found if isinstance(found, Answer) else found.lines[0]
    assert ("intr-remap-fault", 29) == (answer.kind, answer.question)
    assert answer.cause


# on a machine


def test_the_model_is_asked_on_the_machine_that_is_given():
    answer = vl.explain("vfio 0000:05:00.0: group 6 is not viable", machine="intel-vtd-39bit")
    assert "0000:06:00.0 is bound to a native driver" in answer.model
    assert 'vl.load("intel-vtd-39bit")' in answer.experiment
    assert "EPERM" == run(answer.experiment)


def test_a_machine_on_which_nothing_is_refused_says_so():
    answer = vl.explain("vfio 0000:05:00.0: group 6 is not viable", machine="intel-vtd-39bit", kernel="5.15")
    assert "nothing is refused" in answer.model


def test_a_map_on_a_machine_that_would_do_it_has_no_cause():
    line = "vfio_dma_map(0x5e04, 0x380010000000, 0x2000000, 0x771a6ce00000) = -22 (Invalid argument)"
    answer = vl.explain(line, machine="amd-vi-server")
    assert answer.cause is None
    assert "amd-vi-server, kernel 6.1: would be mapped" in answer.model


def test_a_machine_that_is_not_there_is_said():
    with pytest.raises(ValueError, match="no machine and no file"):
        vl.explain("group 1 is not viable", machine="nowhere")


# what is printed


def test_json_of_a_line_has_the_eight_keys(capsys):
    assert 0 == main(["explain", "EAL: Cannot open /dev/vfio/151: Device or resource busy", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(KEYS) == list(found)
    assert ("open-group", 9, True, True) == (found["kind"], found["question"], bool(found["fix"]), bool(found["candidates"]))


def test_json_of_a_line_that_is_not_known_has_no_kind(capsys):
    assert 3 == main(["explain", "all is well", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [None, None, None] == [found["kind"], found["question"], found["cause"]]


def test_an_answer_shows_itself_in_a_cell_and_in_a_line():
    answer = vl.explain("EAL: no supported IOMMU extensions found!")
    assert re.match(r"Answer\('no-iommu-model', question None, 'vfio_iommu_type1 is not loaded", repr(answer))
    assert answer._repr_html_().startswith("<!-- an explanation: click to see it -->\n<pre>The container knows no type")


def test_what_a_line_holds_does_not_act_on_the_terminal():
    assert "all is \\u202eowned\\x07" in str(vl.explain("all is \u202eowned\x07"))


def test_a_source_without_a_version_is_shown_as_a_pointer_and_one_with_it_as_a_check():
    told = str(vl.explain("kvm: vfio: Cannot reset device 0000:00:17.0, no available reset mechanism."))
    assert "Where to look (a pointer, not a reading): vfio_pci_get_pci_hot_reset_info" in told
    assert "Check: vfio_dev_viable, drivers/vfio/vfio.c (4.4 to 5.18)" in str(vl.explain("vfio 0000:01:00.0: group 1 is not viable"))
