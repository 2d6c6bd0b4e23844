"""The check of words finds what it is there to find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import english


def test_texts_have_none_of_the_words() -> None:
    assert english.wrong() == []


def test_prose_has_no_more_than_it_had() -> None:
    limits = json.loads(english.RATES.read_text(encoding="utf-8"))
    assert all(rate <= limits[name] for name, rate in english.rates().items())


def test_the_protocol_says_why_where_it_obeys_a_rule() -> None:
    assert english.commented() >= english.COMMENTED


def test_a_word_is_found_wherever_people_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in ("docs", "src/lapwing/cli/static", "examples"):
        (tmp_path / directory).mkdir(parents=True)
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        (tmp_path / name).write_text("Plain.", encoding="utf-8")
    (tmp_path / "docs/page.rst").write_text("Stop in good order.", encoding="utf-8")
    (tmp_path / "src/lapwing/errors.py").write_text('raise E(f"there is no order {x}")\n', encoding="utf-8")
    (tmp_path / "src/lapwing/cli/static/page.html").write_text("loop 10 ms late", encoding="utf-8")
    monkeypatch.setattr(english, "ROOT", tmp_path)
    assert sorted(english.wrong()) == [
        "docs/page.rst: 'in good order': write 'graceful shutdown; normally'",
        "src/lapwing/cli/static/page.html: 'loop 10 ms late': write 'event loop lag'",
        "src/lapwing/errors.py: 'there is no order': write 'unknown command'",
    ]


def test_more_than_there_were_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = english.rates()
    limits["persons for components"] -= 0.01
    monkeypatch.setattr(english, "RATES", tmp_path / "rates.json")
    (tmp_path / "rates.json").write_text(json.dumps(limits), encoding="utf-8")
    assert english.main([]) == 1
    assert "at most. Among them:" in capsys.readouterr().out
    assert english.main(["--write"]) == 0
    assert english.main([]) == 0
