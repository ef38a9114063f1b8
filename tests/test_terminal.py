"""What the commands write: to a terminal, a pipe, an old encoding, a reader that left."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from vfiolab import commands
from vfiolab.__main__ import main
from vfiolab.commands import cut, paint, width

COMMAND = [sys.executable, "-m", "vfiolab"]
LINE = "vfio_dma_map(0x5, 0x380010000000, 0x2000000, 0x7000) = -22 (Invalid argument)"
CODES = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(*arguments, **environment):
    """Run a command on a terminal of 80 columns; return what it shows."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update({"COLUMNS": "80", "TERM": "xterm", **environment})
        os.execv(sys.executable, [*COMMAND, *arguments])
    shown = b""
    try:
        while data := os.read(terminal, 1 << 16):
            shown += data
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    os.waitpid(child, 0)
    return shown.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("groups", "amd-matisse-desktop"),
        ("groups", "amd-matisse-desktop", "--why", "all"),
        ("plan", "amd-matisse-desktop", "05:00.0"),
        ("machines",),
        ("explain", "no such line"),
        ("groups", "nowhere"),
    ],
    ids=" ".join,
)
def test_lines_fit_a_terminal_of_80_columns(arguments):
    lines = CODES.sub("", on_terminal(*arguments)).splitlines()
    assert len(lines) > 1
    assert [] == [line for line in lines if width(line) > 80]


def test_a_terminal_has_colour_unless_no_color_is_set():
    assert "\x1b[" in on_terminal("groups", "amd-matisse-desktop")
    assert "\x1b[" not in on_terminal("groups", "amd-matisse-desktop", NO_COLOR="1")
    assert "\x1b[" not in on_terminal("groups", "amd-matisse-desktop", TERM="dumb")


def test_a_pipe_gets_plain_and_whole_lines(capsys):
    main(["groups", "amd-matisse-desktop"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "Advanced Micro Devices, Inc. [AMD] Starship/Matisse GPP Bridge" in out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_encoding_without_a_character_gets_ascii(encoding):
    done = subprocess.run([*COMMAND, "explain", LINE], capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    assert b"+ " in done.stdout


@pytest.mark.parametrize(
    "arguments", [("groups", "amd-matisse-desktop"), ("machines",), ("replay", "data/traces/errors-6.12")], ids=" ".join
)
def test_a_closed_pipe_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (0, b"") == (done.returncode, done.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
def test_a_full_disk_is_said():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*COMMAND, "machines"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (2, b"vfiolab: cannot write: No space left on device\n") == (done.returncode, done.stderr)


def test_what_a_name_holds_does_not_act_on_the_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(commands.sys, "stdout", stream)
    commands.say("a\x1b]0;owned\x07b\x9b2J\u202ec\ud800d")
    assert "a\\x1b]0;owned\\x07b\\x9b2J\\u202ec\\ud800d\n" == stream.getvalue()


def test_a_kernel_newer_than_known_is_said_to_be(capsys):
    assert 0 == main(["groups", "radxa-orion-o6-arm64", "--kernel", "99.9"])
    assert "kernel 99.9 is newer than 7.3" in capsys.readouterr().out


def test_every_machine_has_a_line(capsys):
    import vfiolab as vl

    assert 0 == main(["machines"])
    assert vl.machines() == [line.split()[0] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("word", ["explain", "groups", "machines", "plan", "replay", "snapshot"])
def test_help_shows_examples(word, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([word, "--help"])
    assert f"examples:\n  {'sudo ' if word == 'snapshot' else ''}vfiolab {word}" in capsys.readouterr().out


def test_a_wrong_name_of_a_machine_names_the_ones_alike(capsys):
    assert 2 == main(["groups", "two-smmu-sever"])
    assert "did you mean two-smmu-server" in capsys.readouterr().err


def test_a_long_text_is_cut_by_columns():
    assert ("abc...", "磁...", "abcdef") == (cut("abcdefgh", 6), cut("磁磁磁磁", 6), cut("abcdef", 6))
    assert "x" == paint("x", "bold")
