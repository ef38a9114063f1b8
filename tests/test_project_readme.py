"""The README's promises are kept: its two commands, its sessions, its pictures."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for name, text in BLOCKS if name == language]


def test_the_readme_has_exactly_two_commands_to_type():
    assert [1, 1] == [len(block.splitlines()) for block in blocks("bash")]


def test_both_commands_start_from_nothing_but_python():
    assert all(block.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ") for block in blocks("bash"))


def test_the_first_command_opens_the_lab_and_the_second_runs_the_tests():
    lab, test = (shlex.split(block.partition(" && ")[2].partition(" && ")[2]) for block in blocks("bash"))
    assert [".venv/bin/vfiolab", "lab"] == lab
    assert [".venv/bin/pytest", "-n", "auto", "--dist", "loadfile"] == test


def test_ci_runs_the_readmes_test_command_as_it_stands():
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"grep -E '(.*)' README\.md", run)
    assert [blocks("bash")[1].strip()] == re.findall(f"{pattern}.*$", README, re.MULTILINE)
    assert 'bash -ec "$line"' in run


@pytest.mark.parametrize("session", blocks("python"))
def test_a_python_session_shows_what_really_happens(session):
    assert session.startswith(">>> ")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    example = doctest.DocTestParser().get_doctest(session, {}, "README.md", "README.md", 0)
    report = []
    doctest.DocTestRunner(optionflags=flags).run(example, out=report.append)
    assert "" == "".join(report)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"", README))
def test_a_link_into_the_project_leads_somewhere(link):
    assert (ROOT / "".join(link)).exists()


@pytest.mark.parametrize("alt", re.findall(r"!\[(.*?)\]\(", README))
def test_each_picture_has_a_text_for_those_who_do_not_see_it(alt):
    assert len(alt) > 20
