"""`vfiolab replay`: two functions, and the first never sees an answer."""

import json
import re
import shutil

import pytest
from recorded import TRACES, trace_file

from vfiolab.__main__ import main

ONE = "errors-6.12"
EVENTS = "smmu2-6.12"
ANSWER = re.compile(r" -> .*$", re.MULTILINE)


def folder(tmp_path, environment, change):
    """Copy an environment with its trace's text changed; return the trace."""
    shutil.copy(TRACES / environment / "machine.json", tmp_path)
    copy = tmp_path / "copy.trace"
    copy.write_text(change(trace_file(environment).read_text()))
    return copy


def printed(capsys, *arguments):
    status = main(["replay", *map(str, arguments)])
    return status, capsys.readouterr().out


def without_events(text):
    return "\n".join(line for line in text.splitlines() if not line.startswith(" "))


def test_a_folder_of_recordings_has_no_divergence(capsys):
    status, out = printed(capsys, TRACES)
    totals = re.findall(r"(\d+) scenarios, (\d+) operations, (\d+) divergences", out)
    assert 0 == status
    assert 62 == len(totals)
    assert all(total[2] == "0" for total in totals)


@pytest.mark.parametrize("environment", [ONE, EVENTS, "intel-6.12compat"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: ANSWER.sub("", without_events(text)),
        lambda text: ANSWER.sub(" -> ?", without_events(text)),
        lambda text: ANSWER.sub(' -> ENOSPC {"unmapped":1,"flags":9}', text),
        lambda text: text.replace("    map D1", "    map D9"),
    ],
    ids=["stripped", "question marks", "falsified", "other events"],
)
def test_the_models_answers_do_not_depend_on_the_recorded_ones(environment, change, tmp_path, capsys):
    _, expected = printed(capsys, "--results", trace_file(environment))
    status, out = printed(capsys, "--results", folder(tmp_path, environment, change))
    assert 0 == status
    assert expected == out
    assert out.count("\n## ") > 5


def test_a_falsified_answer_is_reported_with_its_line_and_both_sides(tmp_path, capsys):
    lines = trace_file(ONE).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.startswith("map ") and line.endswith("-> 0"))
    trace = folder(tmp_path, ONE, lambda _: "\n".join(ANSWER.sub(" -> EEXIST", x) if n == number else x for n, x in enumerate(lines, 1)))
    status, out = printed(capsys, trace)
    assert 1 == status
    assert f"line {number}: {lines[number - 1].removesuffix(' -> 0')}\n    kernel: result EEXIST\n    model:  result 0" in out
    assert out.endswith(" operations, 1 divergences\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"unmapped":8192', '"unmapped":4096'),
        ('"avail":65534', '"avail":65533'),
        ("    detach D1", "    detach D2"),
        ("    attach D1 11 0", "    attach D1 11 -22"),
    ],
)
def test_a_falsified_detail_is_reported(old, new, tmp_path, capsys):
    assert old in trace_file(EVENTS).read_text()
    status, out = printed(capsys, folder(tmp_path, EVENTS, lambda text: text.replace(old, new, 1)))
    assert 1 == status
    assert "kernel:" in out


def test_the_models_own_answers_are_a_trace_that_agrees_with_itself(tmp_path, capsys):
    _, out = printed(capsys, "--results", trace_file(EVENTS))
    status, report = printed(capsys, folder(tmp_path, EVENTS, lambda _: out))
    assert 0 == status
    assert report.endswith("0 divergences\n")


def test_another_machine_file_may_be_named(tmp_path, capsys):
    trace = tmp_path / "alone.trace"
    shutil.copy(trace_file(ONE), trace)
    assert 2 == main(["replay", str(trace)])
    assert "machine.json" in capsys.readouterr().err
    status, _ = printed(capsys, trace, "--machine", TRACES / ONE / "machine.json")
    assert 0 == status


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("open_container A -> 0\n", "line 1: an operation before the first scenario"),
        ("## one\n    map D1 0 0x1000 3\n", "line 2: an event without an operation above it"),
        ("## one\nopen_container A -> 0 {broken\n", "line 2: the answer is not JSON"),
        ("## one\nopen_container A\nmap A iova=0x1000 size=many\n", "line 3: cannot carry out 'map A iova=0x1000 size=many'"),
        ("## one\nopen_container A\nset_container\n", "line 3: cannot carry out 'set_container'"),
    ],
)
def test_a_trace_that_is_none_names_its_line(text, words, tmp_path, capsys):
    status = main(["replay", str(folder(tmp_path, ONE, lambda _: text))])
    assert 2 == status
    assert words in capsys.readouterr().err


def test_a_folder_without_traces_says_what_it_wants(tmp_path, capsys):
    assert 2 == main(["replay", str(tmp_path)])
    assert "no trace beside a machine.json in it" in capsys.readouterr().err


def test_a_crash_ends_the_scenario_and_is_printed(capsys):
    _, out = printed(capsys, "--results", trace_file("amd-4.4"))
    crash = next(line for line in out.splitlines() if " -> crash" in line)
    assert "BUG_ON" in json.loads(crash.split(" -> crash ")[1])["why"]
