"""A session kept in a file, opened, walked back and forth; and files with something wrong in them."""

import random
import time
from pathlib import Path

import pytest
from host_state import assert_same
from recorded import ENVIRONMENTS, machine, scenarios
from session_mutations import HOSTILE, mutated
from session_walk import NASTY, carried_out, wandered

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab.kit.steps import Asked, call

SEEDS = range(24)
FIRST, SECOND = "0000:01:00.0", "0000:21:00.0"


@pytest.fixture
def session():
    made = vl.Session(vl.load("two-smmu-server"))
    made.do("host.address_space")
    made.do("space.attach", FIRST)
    made.do("space.map", 0x4000_0000, "1G", "guest RAM")
    made.do("space.map", 0x800_0000, "1M")
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_a_session_that_is_opened_again_is_in_the_same_state_and_has_the_same_text(seed):
    made = wandered(seed, name=NASTY if seed % 2 else "session")
    opened = vl.open_session(made.text())
    assert_same(made.host, opened.host)
    assert made.text() == opened.text()
    assert [(step.code, step.outcome) for step in made.steps] == [(step.code, step.outcome) for step in opened.steps]
    assert [] == opened.said


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_undone_and_done_again_gives_the_same(seed):
    made = wandered(seed)
    before, log = made.text(), [str(one) for one in made.host.log.calls]
    kept = vl.open_session(before)
    made.go(len(made.steps) // 2)
    while made.redo():
        pass
    made.go(len(kept.steps))  # what was undone at the end of the walk stays undone
    assert_same(kept.host, made.host)
    assert before == made.text()
    assert log == [str(one) for one in made.host.log.calls]


def test_a_way_back_that_is_given_up_leaves_the_session_as_it_was(session):
    before, host, steps = session.text(), session.host, list(session.steps)
    way = session.travel(1)
    next(way)
    way.close()
    assert (before, host, steps, []) == (session.text(), session.host, session.steps, session.undone)


def test_a_way_forward_that_is_given_up_leaves_the_rest_to_come(session):
    session.go(0)
    way = session.travel(4)
    next(way)
    next(way)
    way.close()
    assert (2, 2) == (len(session.steps), len(session.undone))
    session.go(4)
    assert (4, 0) == (len(session.steps), len(session.undone))


@pytest.mark.parametrize("environment", ENVIRONMENTS[::3])
def test_a_recorded_scenario_is_kept_as_its_calls_and_as_python(environment):
    for scenario in scenarios(environment)[::40]:
        made = vl.Session.of_scenario(machine(environment), scenario)
        made.go(len(made.undone))
        assert_same(made.host, vl.open_session(made.text()).host)
        assert_same(made.host, carried_out(made.python()))


def test_a_session_in_which_the_kernel_dies_is_kept_too():
    scenario = next(one for one in scenarios("amd-4.14") if one.name == "viable_unbound")
    made = vl.Session.of_scenario(machine("amd-4.14"), scenario)
    made.go(len(made.undone))
    assert made.dead
    opened = vl.open_session(made.text())
    assert opened.dead
    assert_same(made.host, opened.host)
    assert_same(made.host, carried_out(made.python()))
    assert "KernelCrashError" in made.page()
    with pytest.raises(ValueError, match="the kernel died"):
        opened.do("host.address_space")


def test_verbs_and_bare_calls_stand_in_one_session(session):
    opened = vl.open_session(session.text().replace('# step space.map(0x4000_0000, "1G", "guest RAM")\n', "# calls\n"))
    opened.do("space.map", 0x9000_0000, "4K")
    again = vl.open_session(opened.text())
    assert_same(opened.host, again.host)
    assert opened.text() == again.text()
    assert ["Asked", "Asked", "Operation", "Operation", "Asked", "Asked"] == [type(step.asked).__name__ for step in again.steps]


def test_the_calls_in_a_file_count_where_a_step_would_make_others(session):
    text = session.text().replace('space.map(0x4000_0000, "1G", "guest RAM")', 'space.map(0x5000_0000, "1G", "guest RAM")')
    opened = vl.open_session(text)
    assert_same(session.host, opened.host)
    assert ["makes other calls"] == [said.partition("the step ")[2][:17] for said in opened.said]


@pytest.mark.parametrize("argument", [1.5, b"x", [1], object()], ids=lambda one: str(one).partition(" at 0x")[0])
def test_a_step_whose_arguments_no_file_could_hold_is_not_taken(session, argument):
    with pytest.raises(TypeError, match="cannot be kept"):
        session.do("space.map", argument, 1)
    assert 4 == len(session.steps)


def test_a_step_that_is_longer_than_a_line_is_not_taken(session):
    with pytest.raises(ValueError, match="are the most"):
        session.do("space.map", 0, "4K", "x" * 40_000)
    assert 4 == len(session.steps)


@pytest.mark.parametrize("word", ["plain", "ä€", NASTY, "\ud800", "\U000e0001", "'\"", "\\", ""], ids=ascii)
def test_each_word_of_a_step_is_read_back_as_it_was(word):
    assert Asked("space.map", (0, word), {"name": word}) == Asked.read(call("space.map", (0, word), {"name": word}))


def test_what_a_program_maps_in_too_many_pieces_is_refused_and_leaves_nothing(session):
    step = session.do("space.map_program", "dpdk-2M", "64T")
    assert "ValueError" == step.reason
    assert 1 == len(session.space.mappings)


def test_what_a_program_maps_past_the_memory_of_a_process_leaves_nothing(session):
    before = len(session.space.mappings)
    assert "ValueError" == session.do("space.map_program", "nvme", "100T").reason
    assert before == len(session.space.mappings)


def test_the_process_that_a_trace_starts_has_a_word_for_a_name():
    with pytest.raises(vl.InputError, match="ASCII letters"):
        vl.load("two-smmu-server").replay("## one\nnew_process a();b\n")


# files with something wrong in them


@pytest.mark.parametrize("step", HOSTILE, ids=lambda step: ascii(step[:40]))
def test_a_hostile_step_is_an_error_or_a_refusal_and_never_runs(step, session, tmp_path):
    lines = session.text().split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("# step space.map"))
    lines.insert(at, f"# step {step.replace('{marker}', str(tmp_path / 'ran'))}")
    begun = time.perf_counter()
    opened_or_refused("\n".join(lines))
    assert time.perf_counter() - begun < 20
    assert [] == list(tmp_path.iterdir())


def opened_or_refused(text):
    """Open a session and write it in every form; False if its file cannot be read."""
    try:
        opened = vl.open_session(f"{text}\n")
    except vl.InputError:
        return False
    assert opened.python()
    assert opened.c()
    vl.open_session(opened.text())
    return True


def mutations(numbers, folder):
    """Open mutated files; return how many could be, and how many could not."""
    texts = [wandered(seed, 12 + seed % 3 * 10).text() for seed in range(12)]
    counts = {True: 0, False: 0}
    for number in numbers:
        text = mutated(texts[number % len(texts)], random.Random(number), str(folder / "ran"))
        begun = time.process_time()
        counts[opened_or_refused(text)] += 1
        assert time.process_time() - begun < 4, f"file {number} takes long"  # opened twice, and written: 2 s for each
    assert [] == list(folder.iterdir())
    return counts[True], counts[False]


def test_500_mutated_files_are_sessions_or_errors(tmp_path):
    opened, refused = mutations(range(500), tmp_path)
    assert opened > 100
    assert refused > 100


@pytest.mark.slow
def test_5000_mutated_files_are_sessions_or_errors(tmp_path):
    opened, refused = mutations(range(500, 5500), tmp_path)
    print(f"{opened} sessions, {refused} errors")
    assert opened > 1000
    assert refused > 1000


# the command


def test_the_command_replays_a_session_on_the_machine_and_kernel_that_it_holds(tmp_path, capsys):
    old = vl.Session(vl.load("intel-vtd-39bit", kernel="4.4"))
    for verb, *args in (("host.address_space",), ("space.attach", "01:00.0"), ("space.map", 0, "4G")):
        old.do(verb, *args)
    assert old.on("6.12").steps[-1].refused
    old.save(tmp_path / "old.vfiolab")
    assert 0 == main(["replay", str(tmp_path / "old.vfiolab")])
    assert capsys.readouterr().out.endswith(" 0 divergences\n")
    assert 1 == main(["replay", str(tmp_path / "old.vfiolab"), "--kernel", "6.12"])
    assert "EINVAL" in capsys.readouterr().out


def test_the_command_says_what_is_wrong_with_the_machine_of_a_session(tmp_path, capsys, session):
    path = Path(tmp_path / "broken.vfiolab")
    path.write_text(session.text().replace('"bdf": "0000:01:00.0"', '"bdf": "x"'), encoding="utf-8")
    assert 2 == main(["replay", str(path)])
    assert "broken.vfiolab, line " in capsys.readouterr().err
