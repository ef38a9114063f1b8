"""The README's table of recorded kernels is what a replay gives now."""

from __future__ import annotations

from tools import divergences


def test_the_table_of_recorded_kernels_is_fresh():
    assert 0 == divergences.main(["--check"])


def test_a_stale_table_is_told(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{divergences.BEGIN}\nold\n{divergences.END}after\n", encoding="utf-8")
    monkeypatch.setattr(divergences, "README", page)
    monkeypatch.setattr(divergences, "table", lambda: "new\n")
    assert 1 == divergences.main(["--check"])
    assert "stale" in capsys.readouterr().out
    assert 0 == divergences.main([])
    assert f"before\n{divergences.BEGIN}\nnew\n\n{divergences.END}after\n" == page.read_text(encoding="utf-8")


def test_a_known_divergence_is_printed_with_its_reason(tmp_path, monkeypatch, capsys):
    from vfiolab.__main__ import main
    from vfiolab.commands import replay

    trace = tmp_path / "intel.trace"
    trace.write_text("## one\nopen_container A -> EBUSY\n", encoding="utf-8")
    machine = divergences.ROOT / "data" / "machines" / "intel-vtd-39bit.json"
    known = '{"divergences": [{"environment": "intel", "scenario": "one", "index": 0, "reason": "made up for this test"}]}'
    (tmp_path / "known-divergences.json").write_text(known, encoding="utf-8")
    monkeypatch.setattr(replay, "data_dir", lambda: tmp_path)
    assert 1 == main(["replay", str(trace), "--machine", str(machine)])
    assert "known:  made up for this test\n1 scenarios, 1 operations, 1 divergences" in capsys.readouterr().out
