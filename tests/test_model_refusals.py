"""One rule, one test: every refusal of the model has its errno, its reason with the numbers, its source, and changes nothing."""

import ast
import pickle
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from model_steps import PAGE, A, container, fill, intel, snapshot
from model_world import differing, invariants
from mutations import every_check
from refusals import CASES

import vfiolab.model
from vfiolab.model.errors import ERRNO, VfioError

MODEL = Path(vfiolab.model.__file__).parent


@cache
def refusal(number):
    """Carry a case out; return the error and what changed."""
    host, call = CASES[number].set_up()
    before = snapshot(host)
    try:
        call()
    except VfioError as error:
        return host, error, differing(before, snapshot(host))
    raise AssertionError(f"{CASES[number].name} was not refused")


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number].name)
def test_it_is_refused_with_its_reason_and_nothing_changes(number):
    case = CASES[number]
    host, error, changed = refusal(number)
    assert case.errno == error.name
    assert ERRNO[case.errno] == error.errno
    assert case.why in error.why
    assert error.source
    assert set() == set(changed) - set(case.leaves)
    invariants(host)


def test_every_check_of_every_table_has_its_case():
    """A row that passes a driver's answer on states no errno of its own."""
    failed = {(refusal(number)[1].name, refusal(number)[1].failed) for number in range(len(CASES))}
    wanted = {(check.errno, check.text) for _, _, check in every_check()}
    assert set() == wanted - failed - {("", text) for _, text in failed}


def raises():
    """Yield every place in the model where a refusal is made: file and line."""
    for path in sorted(MODEL.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "VfioError":
                yield path.name, node.lineno


def test_a_refusal_is_a_row_of_a_table_and_is_made_in_one_place():
    assert {"checks.py", "errors.py"} == {name for name, _ in raises()}  # errors.py: the same refusal with another errno
    assert 2 == len(list(raises()))


def without_numbers(text):
    return re.sub(r"0x[0-9a-f_]+|\d+", "N", text)


def test_two_causes_in_one_call_never_share_a_text():
    causes = defaultdict(set)
    for number in range(len(CASES)):
        host, error, _ = refusal(number)
        call = host.log.calls[-1].verb if host.log.calls else "none"
        causes[host.machine.vfio, str(host.kernel), call, error.name, without_numbers(error.why)].add(error.failed)
    assert {} == {text: found for text, found in causes.items() if len(found) > 1}


def test_an_error_shows_each_check_in_the_kernels_order():
    host = intel().host("6.12")
    opened = container(host, A)
    with pytest.raises(VfioError) as caught:
        opened.map_dma(0x800, PAGE, 0x1000)
    states = [state for _, state in caught.value.checks]
    assert states == sorted(states, key=["passed", "failed", "not reached"].index)
    assert 1 == states.count("failed")
    text = caught.value.explain()
    assert "✗ iova, size and vaddr are multiples of the smallest page" in text
    assert "✓ argsz holds the whole struct (32 bytes)" in text
    assert "· the range lies inside one usable iova range (not reached)" in text


def test_an_error_is_an_oserror_that_survives_pickling():
    host = intel().host("6.12")
    opened = container(host, A)
    with pytest.raises(OSError, match="EINVAL: size 0 maps nothing") as caught:
        fill(host, opened, 0, 0)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (caught.value.errno, caught.value.why, caught.value.checks) == (again.errno, again.why, again.checks)
