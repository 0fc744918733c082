"""The gate of an MLP in parts: the numbers of its class's forward, where that is Llama's, and nothing left behind."""

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaMLP

from models.attention import gated_mlps
from models.attention.config import LambdaConfig
from models.model_base import convert_model, revert_model
from tests.models.every_type import EVERY_TYPE
from tests.tiny_models import tiny_input_ids, tiny_model

CONFIG = LambdaConfig(8, 3, 8)
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}
"""Of an activation whose last few features torch computes one by one."""


@pytest.fixture
def parts(monkeypatch) -> list[int]:
    """The tokens of each part that was computed by itself; five or so fit into the cache of these."""
    found, write = [], gated_mlps._write_gated

    def recorded(act, gate: Tensor, up: Tensor, out: Tensor) -> None:
        found.append(len(gate))
        write(act, gate, up, out)

    monkeypatch.setattr(gated_mlps, "CACHED_FEATURES", 150)
    monkeypatch.setattr(gated_mlps, "_write_gated", recorded)
    return found


@pytest.mark.core
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@EVERY_TYPE
@torch.no_grad()
def test_every_gated_mlp_has_the_numbers_of_its_class(model_type, dtype, parts):
    model = tiny_model(model_type).to(dtype)
    for mlp in gated_mlps.gated_mlps(model):
        parts.clear()
        width = mlp.gate_proj.weight.shape[1]
        x = torch.randn(2, 40, width, generator=torch.Generator().manual_seed(1)).to(dtype)
        torch.testing.assert_close(gated_mlps.gated_mlp(mlp, x), type(mlp).forward(mlp, x), **ROUNDING)
        assert sum(parts) == 80 and len(parts) > 1
    if model_type in ("llama", "mistral", "qwen2", "qwen3", "olmo2"):
        assert len(list(gated_mlps.gated_mlps(model))) == 2


@pytest.mark.core
def test_the_forward_is_that_of_llama():
    assert gated_mlps._is_written_so(LlamaMLP.forward)
    assert not gated_mlps._is_written_so(lambda self, x: self.down_proj(self.act_fn(self.gate_proj(x))))


@torch.no_grad()
def test_an_activation_with_hooks_is_called_once_with_all_tokens(parts):
    """As ZeRO-3 counts calls, whatever the length is."""
    mlp, called = tiny_model().base_model.layers[0].mlp, []
    mlp.act_fn.register_forward_hook(lambda act, inputs, output: called.append(tuple(output.shape)))
    width, features = mlp.gate_proj.weight.shape[1], mlp.gate_proj.weight.shape[0]
    for length in (1, 40, 90):
        x = torch.randn(2, length, width)
        assert torch.equal(gated_mlps.gated_mlp(mlp, x), gated_mlps.written_out(mlp, x))
        assert called == 2 * [(2, length, features)]
        called.clear()
    assert not parts


@torch.no_grad()
def test_an_adapter_within_it_counts(parts):
    """Its weights are LoRA's, called as a module; so is a projection whose output is no whole block of memory."""
    mlp = tiny_model().base_model.layers[0].mlp
    up = mlp.up_proj
    mlp.up_proj = torch.nn.Sequential(up, torch.nn.Linear(up.weight.shape[0], up.weight.shape[0]))
    x = torch.randn(2, 40, up.weight.shape[1])
    torch.testing.assert_close(gated_mlps.gated_mlp(mlp, x), gated_mlps.written_out(mlp, x), **ROUNDING)
    assert parts


def test_it_is_installed_and_given_back(parts):
    model, ids = tiny_model(), tiny_input_ids(2, 40)
    with torch.no_grad():
        plain = model(ids).logits
        convert_model(model, LambdaConfig(50, 3, 50))
        torch.testing.assert_close(model(ids).logits, plain, rtol=0, atol=1e-5)
        assert parts
        revert_model(model)
        parts.clear()
        assert torch.equal(model(ids).logits, plain)
    assert not parts
    assert "forward" not in vars(model.base_model.layers[0].mlp)


def test_a_forward_of_somebody_else_stays():
    model = tiny_model()
    theirs = model.base_model.layers[0].mlp.forward = lambda x: x
    assert len(list(gated_mlps.gated_mlps(model))) == 1
    assert revert_model(convert_model(model, CONFIG)).base_model.layers[0].mlp.forward is theirs


@pytest.mark.parametrize("reason", ["gradient", "autocast", "few tokens"])
def test_it_is_not_cut_where_threads_would_not_compute_the_same(reason, parts):
    """A gradient is recorded by the thread that asked, and autocast is its own."""
    mlp = tiny_model().base_model.layers[0].mlp
    for weight in mlp.parameters():
        weight.requires_grad_(reason == "gradient")
    x = torch.randn(1, 1 if reason == "few tokens" else 40, mlp.gate_proj.weight.shape[1])
    with torch.autocast("cpu", enabled=reason == "autocast"):
        gated, expected = gated_mlps.gated_mlp(mlp, x), type(mlp).forward(mlp, x)
    assert torch.equal(gated, expected) and gated.requires_grad == (reason == "gradient")
    assert not parts
