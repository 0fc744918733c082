"""What was to be compiled is compiled, or an error."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch._dynamo

from models.attention import compiled


@pytest.fixture
def compile_counted() -> Iterator[Callable]:
    """(function) -> it compiled, by a backend that runs the graph as it is, and the list of what was compiled."""

    def compile_it(function: Callable) -> tuple[Callable, list[int]]:
        graphs: list[int] = []
        return compiled.compile_whole(function, lambda graph, inputs: graphs.append(1) or graph.forward), graphs

    torch._dynamo.reset()
    yield compile_it
    torch._dynamo.reset()


def test_sizes_that_happen_to_be_equal_are_no_kind_of_their_own(compile_counted):
    run, graphs = compile_counted(lambda left, right: left.sum(-1) + right.sum())
    for rows, columns in ((5, 5), (5, 7), (8, 3)):
        run(torch.zeros(rows, 4), torch.zeros(columns, 4))
    assert len(graphs) == 1


def test_more_kinds_are_compiled_than_torch_would(compile_counted):
    run, graphs = compile_counted(lambda x: x + 1)
    for dimensions in range(1, 21):
        run(torch.zeros([2] * dimensions))
    assert len(graphs) == 20


def test_beyond_the_most_it_is_an_error(compile_counted, monkeypatch):
    monkeypatch.setitem(compiled._LIMITS, "recompile_limit", 1)
    run, _ = compile_counted(lambda x: x + 1)
    run(torch.zeros(2))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        run(torch.zeros(2, 2))


def test_what_cannot_be_compiled_is_an_error(compile_counted):
    run, _ = compile_counted(lambda x: torch._dynamo.graph_break() or x + 1)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        run(torch.zeros(2))


def test_no_source_turns_tf32_on():
    """float32 on a GPU is exact unless the user says otherwise, to torch."""
    switches = ("allow_tf32", "set_float32_matmul_precision", "fp32_precision", "TORCH_ALLOW_TF32", "tf32x3")
    root = Path(__file__).resolve().parents[3]
    folders = ("models", "utils", "data", "scripts", "visualization", "benchmarks")
    sources = [path for folder in folders for path in (root / folder).rglob("*.py")]
    assert not [path for path in sources for switch in switches if switch in path.read_text(encoding="utf-8")]
