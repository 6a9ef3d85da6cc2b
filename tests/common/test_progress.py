"""A bar on a terminal, and a few short lines in a log."""

import sys

import pytest
from tqdm import tqdm

from stages.common.progress import progress


def run(bar: tqdm, steps: int) -> None:
    with bar:
        for step in range(steps):
            bar.set_postfix_str(f"loss {step}", refresh=False)
            bar.update(1)


@pytest.mark.parametrize(("total", "initial", "lines"), [(1000, 0, 10), (24, 0, 8), (3, 0, 3), (1000, 950, 1)])
def test_log_has_a_few_short_lines(total: int, initial: int, lines: int, capsys: pytest.CaptureFixture):
    run(progress("train", total, "step", initial=initial), total - initial)
    printed = capsys.readouterr().err
    assert "\r" not in printed
    assert len(printed.splitlines()) == lines
    assert max(map(len, printed.splitlines())) < 80
    assert printed.splitlines()[-1].startswith(f"train: {total}/{total} steps in 00:00, ")
    assert printed.endswith(f", loss {total - initial - 1}\n")


def test_log_ends_with_the_last_state_of_a_run_that_stops(capsys: pytest.CaptureFixture):
    run(progress("train", 1000, "step"), 150)
    assert capsys.readouterr().err.splitlines()[-1].startswith("train: 150/1000 steps")
    run(progress("train", 1000, "step", is_shown=False), 150)
    assert capsys.readouterr().err == ""


def test_terminal_has_the_bar_of_tqdm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("train", 10, "step") as bar:
        assert type(bar) is tqdm
