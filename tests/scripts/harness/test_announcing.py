"""The log of a run says which backend attends, once, on the first rank."""

import torch

from models.attention.prefill import measured
from models.lambda_attention import LambdaConfig
from scripts.harness.announcing import announcing_backends
from tests.models.attention.attention_cases import make_case
from utils.console import Console

SAID = "attention by blockwise (matrix products, on cpu)"


def attended(console: Console, layers: int = 3) -> None:
    case = make_case(LambdaConfig(8, 3, 8), 20)
    with announcing_backends(console):
        for _ in range(layers):
            assert torch.isfinite(case.attend()).all()
    case.attend()


def test_it_is_shown_and_logged_once_in_each_run(tmp_path, capsys):
    for name in ("first", "second"):
        console = Console()
        console.log_to(tmp_path / name)
        attended(console)
        assert capsys.readouterr().out.splitlines() == [SAID]
        assert (tmp_path / name).read_text().splitlines() == [SAID]


def test_what_is_said_of_the_measurement_is_shown_too(capsys):
    with announcing_backends(Console()):
        measured._say_not_remembered(OSError("read-only"))
    assert capsys.readouterr().out == "the choice is not remembered for the next run: read-only\n"


def test_other_ranks_are_silent(capsys):
    attended(Console(silent=True))
    assert capsys.readouterr().out == ""
