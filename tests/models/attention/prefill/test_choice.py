"""Which backend attends, why, and that it is said once."""

import logging

import pytest
import torch

from models.attention.positions import AlibiPositions, RotaryPositions
from models.attention.prefill import choice
from models.attention.prefill.choice import Choice, choose_backend, say_once
from models.errors import UserError
from models.lambda_attention import AttentionLayer, LambdaConfig
from tests.fake_cuda import GPU, fake_cuda


@pytest.fixture
def with_flash(monkeypatch) -> None:
    """A GPU and a torch that have flash attention."""
    monkeypatch.setattr(choice, "lacks_flash", lambda device, dtype: "half precision" if dtype.itemsize > 2 else None)


def chosen(device: str, widths=(64, 64), dtype=torch.bfloat16, alibi=False, cap=None, **config) -> Choice:
    positions = AlibiPositions(torch.ones(2)) if alibi else RotaryPositions(torch.ones(2, dtype=torch.float64))
    settings = {"local_branch": 64, "global_branch": 4, "limit_distance": 64, **config}
    layer = AttentionLayer(LambdaConfig(**settings), positions, 0.25, soft_cap=cap)
    with fake_cuda():
        query, value = (torch.empty(1, 2, 8, width, device=device, dtype=dtype) for width in widths)
        return choose_backend(layer, query, value)


@pytest.mark.parametrize(
    ("case", "backend", "because"),
    [
        ({}, "flash", "bfloat16 on CUDA, a window of torch's flash attention, FA2"),
        ({"dtype": torch.float16, "widths": (8, 8)}, "flash", "float16"),
        ({"widths": (256, 256)}, "flash", "FA2"),
        ({"limit_distance": 100}, "flash", "FA2"),
        ({"limit_distance": None, "sink_positions": "cache"}, "flash", "FA2"),
        ({"compiled": False}, "flash", "FA2"),
        ({"alibi": True}, "flex", "flash needs rotary positions, not ALiBi"),
        ({"cap": 50.0}, "flex", "flash needs scores that are not capped softly"),
        ({"limit_distance": 40}, "flex", "flash needs a limit that is not inside the window"),
        ({"widths": (512, 512)}, "flex", "a multiple of 8 up to 256, and these have 512 and 512"),
        ({"widths": (36, 36)}, "flex", "a multiple of 8 up to 256, and these have 36 and 36"),
        ({"widths": (64, 32)}, "flex", "one width"),
        ({"alibi": True, "widths": (8, 8)}, "blockwise", "flex needs heads of at least 16 features"),
        ({"alibi": True, "compiled": False}, "blockwise", "flex needs torch.compile on a GPU"),
        ({"dtype": torch.float32}, "blockwise", "flash needs half precision, flex needs half precision to be fast"),
        ({"device": "cpu"}, "blockwise", "on cpu"),
        ({"backend": "blockwise"}, "blockwise", "as --backend says"),
        ({"backend": "flex"}, "flex", "as --backend says"),
        ({"backend": "flex", "dtype": torch.float32}, "flex", "as --backend says"),
        ({"backend": "flash"}, "flash", "as --backend says"),
        ({"backend": "flex", "device": "cpu", "widths": (8, 8)}, "flex", "as --backend says"),
    ],
)
def test_the_fastest_backend_that_takes_the_layer(case, backend, because, with_flash):
    found = chosen(**{"device": GPU, **case})
    assert found.backend == backend and because in found.reason


def test_a_gpu_without_flash_attention_takes_flex(monkeypatch):
    monkeypatch.setattr(choice, "lacks_flash", lambda device, dtype: "a GPU of compute capability 8.0 or newer")
    assert str(chosen(GPU)) == "flex (bfloat16 on CUDA; flash needs a GPU of compute capability 8.0 or newer)"


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ({"backend": "flex", "widths": (8, 64)}, "flex needs heads of at least 16 features on a GPU, and these have 8"),
        ({"backend": "flex", "compiled": False}, "flex needs torch.compile on a GPU, and --no_compile turns it off"),
        ({"backend": "flash", "dtype": torch.float32}, "flash needs half precision"),
        ({"backend": "flash", "alibi": True}, "flash needs rotary positions, not ALiBi"),
        ({"backend": "flash", "widths": (64, 32)}, "flash needs keys and values of one width"),
    ],
)
def test_a_backend_by_name_refuses_what_it_cannot_do_in_one_sentence(case, sentence, with_flash):
    with pytest.raises(UserError, match=f"^--backend {sentence}.*: take blockwise, or leave it out$"):
        chosen(GPU, **case)


def test_flash_by_name_off_a_gpu_is_refused():
    with pytest.raises(UserError, match="^--backend flash needs an NVIDIA GPU: take"):
        chosen("cpu", backend="flash")


def test_other_implementations_are_named(monkeypatch, with_flash):
    monkeypatch.setattr(choice, "implementation", lambda: "FA3")
    assert chosen(GPU).reason.endswith("FA3")


def test_it_is_said_once_for_all_layers(caplog, with_flash):
    say_once.cache_clear()
    with caplog.at_level(logging.INFO, logger=choice.__name__):
        for case in ({}, {}, {"alibi": True}, {}):
            chosen(GPU, **case)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "attention by flash",
        "attention by flex",
    ]
