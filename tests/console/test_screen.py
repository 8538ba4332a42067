"""Lines, bars, and what workers tell."""

from __future__ import annotations

import re
from io import StringIO
from logging import getLogger

import pytest
from rich.console import Console

from recbole_hetcomp.console import Table, about, follow, muted, note, relayed, say, say_first, show_lines, shown, stage
from recbole_hetcomp.console import screen as screens
from recbole_hetcomp.console.events import display
from recbole_hetcomp.console.screen import Bars, Lines, Screen
from recbole_hetcomp.trainer.choice import get_trainer


@pytest.fixture
def lines(monkeypatch) -> Lines:
    made = Lines(progress=True)
    monkeypatch.setattr(display, "screen", made)
    return made


@pytest.fixture
def terminal(monkeypatch) -> StringIO:
    """What a terminal of 80 columns is sent; each frame of the bars is drawn when something happens."""
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=80, legacy_windows=False, _environ={"TERM": "xterm"})
    monkeypatch.setattr(display, "screen", Bars(console, progress=True))
    update = screens._Bars.update
    monkeypatch.setattr(screens._Bars, "update", lambda bars, *a, **k: (update(bars, *a, **k), bars.refresh()))
    return text


def plain(text: StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())


def train(make_config, make_model, split, **settings):
    config = make_config("BPR", epochs=3, **settings)
    loaders = split.loaders(config)
    trainer = shown(get_trainer(config.model_class))(config, make_model("BPR"))
    with about("teacher BPR"):
        return trainer.fit(loaders.train, loaders.valid, saved=False)


def test_a_training_has_a_bar_while_it_runs(terminal, make_config, make_model, split):
    train(make_config, make_model, split)
    text = plain(terminal)
    assert "teacher BPR: training, at most 3 epochs" in text
    shown = re.findall(r"teacher BPR ━+\S* *\S*━* ([23])/3 Recall@10 0\.\d{4} \(epoch (\d)\) 0:00:\d\d", text)
    assert shown
    assert all(int(trained) == int(validated) + 1 for trained, validated in shown)  # its validation comes next
    assert display.screen.bars is None  # it is gone


def test_without_progress_a_terminal_has_lines_alone(terminal, make_config, make_model, split):
    display.screen.progress = False
    train(make_config, make_model, split)
    assert plain(terminal) == "teacher BPR: training, at most 3 epochs\n"


def test_the_state_of_a_method_is_below_the_bar(terminal):
    display.screen.begin("HetCompStudent (MF)", 300)
    display.screen.begin("a second one", 10)
    display.screen.advance("HetCompStudent (MF)", 30, "Recall@50 0.5123", "stage 1.24/3")
    display.screen.end("HetCompStudent (MF)")
    display.screen.advance("a second one", 7, "", "")
    display.screen.end("a second one")
    assert re.search(r"HetCompStudent \(MF\) ━+.*30/300 Recall@50 0\.5123.*\n.*\n  stage 1.24/3", plain(terminal))
    assert "7/10" in plain(terminal)


def test_a_stage_is_a_line_and_a_spinner(terminal):
    with stage("comparison"):
        display.screen.bars.refresh()
    assert plain(terminal).startswith("comparison\n")
    assert re.search(r"⠋ comparison", plain(terminal))


def test_long_trainings_have_a_line_now_and_then(lines, capsys, monkeypatch):
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(screens, "monotonic", lambda: next(clock))
    lines.begin("BPR", 200)
    for epoch in range(1, 201):
        lines.advance("BPR", epoch, "Recall@50 0.5", "stage 1/3")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "BPR: epoch 20 of 200, Recall@50 0.5, stage 1/3"
    assert len(said) == 10


def test_short_trainings_have_none(lines, capsys):
    lines.begin("BPR", 2)
    lines.advance("BPR", 1, "", "")
    lines.advance("BPR", 2, "", "")
    assert capsys.readouterr().err == ""


def test_outside_a_run_nothing_is_seen(capsys, make_config, make_model, split):
    display.screen = Screen()
    train(make_config, make_model, split)
    assert capsys.readouterr() == ("", "")


def test_a_line_begins_with_the_innermost_subject_and_muted_ones_are_logged(lines, capsys, caplog):
    with caplog.at_level("INFO"), about("a"), about("b"):
        say("seen")
        with muted():
            say("logged")
    assert capsys.readouterr().err == "b: seen\n"
    assert caplog.messages == ["b: seen", "b: logged"]


def test_what_a_worker_tells_is_seen_and_logged_in_order(lines, capsys, caplog, tmp_path):
    lines.progress = False
    with caplog.at_level("INFO"), follow(tmp_path / "told"):
        with relayed(tmp_path / "told"), about("teacher BPR"):
            say("training")
            note("50%s")
            display.screen.begin("teacher BPR", 3)
            display.screen.advance("teacher BPR", 1, "", display.note)
            getLogger("lib").warning("weak: %d%%", 3)
            display.screen.end("teacher BPR")
            say("trained")
        assert display.screen is lines
    assert capsys.readouterr().err == "teacher BPR: training\nteacher BPR: trained\n"
    assert caplog.messages == ["teacher BPR: training", "weak: 3%", "teacher BPR: trained"]


def test_a_line_that_cannot_be_read_is_logged_and_those_after_it_are_told(lines, capsys, caplog, tmp_path):
    file = tmp_path / "told"
    with caplog.at_level("INFO"), follow(file):
        file.write_bytes(b'["say", "teac["say", "", "a"]\n\xff\n3\n["say", "", "b"]\n["say", "", "cut o')
    assert capsys.readouterr().err == "b\n"
    assert [message.partition(": ")[0] for message in caplog.messages] == ["a line of told cannot be read"] * 3


def test_what_a_worker_has_not_ended_ends_with_it(terminal, tmp_path):
    with follow(tmp_path / "told"), relayed(tmp_path / "told"):
        display.screen.begin("teacher BPR", 3)
    assert "teacher BPR" in plain(terminal)
    assert display.screen.bars is None


def test_what_is_known_already_is_logged_alone(lines, capsys, caplog, monkeypatch):
    monkeypatch.setattr(display, "known", set())
    with caplog.at_level("INFO"):
        for name in ("a", "b", "a"):
            with about(name):
                say_first("found")
    assert capsys.readouterr().err == "a: found\nb: found\n"
    assert caplog.messages == ["a: found", "b: found", "a: found"]


def test_nothing_to_say_at_the_end_is_no_line(lines, capsys):
    show_lines([])
    assert capsys.readouterr() == ("", "")


TABLE = Table(
    ["role", "model", "recall@10", "MB"],
    [["teacher", "BPR", "0.1", "12.00"], ["student without distillation", "MF", "**0.2**", "0.08"]],
    n_left=2,
    dispensable=["MB"],
)


@pytest.mark.parametrize("width", [30, 36, 37, 52, 53, 200])
def test_a_table_fits_its_terminal_and_breaks_no_word(width):
    drawn, left_out = TABLE.fitted(width)
    text = StringIO()
    Console(file=text, width=width).print(drawn)
    assert all(len(line) <= width for line in text.getvalue().splitlines())
    assert {"distillation", "teacher", "recall@10", "0.2", "BPR"} <= set(text.getvalue().split())
    assert left_out == (["MB"] if width < 37 else [])
    assert ("12.00" in text.getvalue()) == (width >= 37)
    assert ("student without distillation" in text.getvalue()) == (width >= 53)
