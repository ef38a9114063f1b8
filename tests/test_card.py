"""The reference card: made of the model's own tables, alone in one file."""

import re

import pytest
from tools import card, made

import vfiolab as vl

CARD = card.page()


def test_the_stored_card_is_as_the_tables_say():
    assert 0 == card.main(["--check"])


def test_a_stale_card_is_found_and_written_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(made, "notebooks_dir", lambda: tmp_path)
    assert 1 == card.main(["--check"])
    assert [] == list(tmp_path.iterdir())
    assert 0 == card.main([])
    assert 0 == card.main(["--check"])
    assert "stale; run python tests/tools/card.py" in capsys.readouterr().out


def test_the_card_needs_nothing_but_itself():
    assert [] == re.findall(r"\b(?:src|href)=|url\(|@import|<script|<link|https?:", CARD)


def test_the_card_leans_on_no_colour():
    assert {"#000", "#fff", "#bbb"} == set(re.findall(r"#[0-9a-f]{3,6}\b", CARD))


@pytest.mark.parametrize("word", card.WORDS)
def test_each_word_of_the_card_is_the_glossarys(word):
    assert f"<b>{vl.glossary[word].word}</b>: " in CARD


def refused(kernel):
    """Let a kernel refuse a map, and return what its error says of the checks."""
    space = vl.load("intel-vtd-39bit", kernel=kernel).address_space()
    space.attach("01:00.0")
    return vl.answer(space.map, 0x800, "4K").error


@pytest.mark.parametrize("kernel", card.KERNELS)
def test_the_checks_of_map_stand_in_the_order_that_a_refusal_tells(kernel):
    column = card.KERNELS.index(kernel) + 1
    placed = sorted((int(row[column].split()[0]), row[0]) for row in card.checks("map") if row[column] != "-")
    error = refused(kernel)
    assert [text for text, _ in error.checks] == [text for _, text in placed]
    (said,) = [row[column] for row in card.checks("map") if row[0] == error.failed]
    assert "EINVAL" == said.split()[1] == error.name


@pytest.mark.parametrize("call", ["map", "unmap", "attach"])
def test_each_kernel_makes_each_check_once(call):
    for column, kernel in enumerate(card.KERNELS, 1):
        places = [int(row[column].split()[0]) for row in card.checks(call) if row[column] != "-"]
        assert list(range(1, len(card.rows_of(kernel, call)) + 1)) == sorted(places)


def test_what_changed_is_told_oldest_first():
    since = re.findall(r"<td class=code>(\d+\.\d+)</td><td>", card.changes())
    assert len(card.CHANGES) == len(since)
    assert sorted(since, key=lambda text: tuple(map(int, text.split(".")))) == since


def test_each_change_of_the_card_is_dated_by_a_commit_so_that_since_is_true():
    assert [] == [name for name in card.CHANGES if not card.SWITCHES[name].commit]


def test_each_ioctl_has_its_number():
    assert "<td class=code>0x3b71</td><td>IOMMU_MAP_DMA</td><td>container</td>" in card.ioctls()
    names = {row.name for rows in card.IOCTLS.values() for row in rows.values()}
    own = {name.removeprefix("IOMMU_") for name in names if name.startswith("IOMMU_")}
    assert len(names) - len(own) + 1 == card.ioctls().count("<tr>")
    assert own == set(re.findall(r"0x3b8. IOMMU_(\w+)", card.native()))


def test_without_chromium_the_tool_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="name one in the environment variable CHROMIUM"):
        card.print_pdf(tmp_path / "card.pdf")
