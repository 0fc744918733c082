"""RMSNorm by torch's own kernel: the same numbers as the class written out, one launch, and nothing left behind."""

from functools import wraps
from pathlib import Path

import pytest
import torch
import torchgen
import yaml
from accelerate import dispatch_model
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from models.assumptions import NORM, NORM_EPSILON
from models.attention import norms
from models.attention.config import LambdaConfig
from models.model_base import convert_model, revert_model
from tests.fake_cuda import GPU, fake_cuda, on_gpu
from tests.models.every_type import EVERY_TYPE
from tests.tiny_models import tiny_config, tiny_input_ids, tiny_model

CONFIG = LambdaConfig(8, 3, 8)
TOLERANCE = {
    torch.float32: {"rtol": 1e-6, "atol": 1e-6},
    torch.bfloat16: {"rtol": 2**-7, "atol": 1e-6},
    torch.float16: {"rtol": 2**-10, "atol": 1e-6},
}
"""The class rounds to half precision before it multiplies by the weight, and after it; the kernel after it alone."""
WEIGHTS_FROM_1 = {
    *("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm", "VaultGemmaRMSNorm"),
    *("Qwen3NextRMSNorm", "Qwen3_5RMSNorm", "Qwen3_5MoeRMSNorm"),
}
OTHERS = {"Gemma4RMSNorm", "NanoChatRMSNorm", "RMSNorm", "Llama4TextRMSNorm"}
"""One that has a weight or has none, one without, torch's own, which is a kernel already, and one whose epsilon has
another name."""

ROUNDED_TWICE = {"LlamaRMSNorm", "MistralRMSNorm", "MixtralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "Phi3RMSNorm"}
"""Of those that the compiled pass is for."""


@pytest.fixture
def on_any_device(monkeypatch) -> list[tuple[int, ...]]:
    """The kernel's path also where there is no GPU; gives the shapes that it is called with."""
    shapes, rms_norm = [], F.rms_norm

    def record(x, *rest):
        assert x.is_contiguous()
        shapes.append(tuple(x.shape))
        return rms_norm(x, *rest)

    monkeypatch.setattr(norms, "_takes_kernel", lambda x, weight: True)
    monkeypatch.setattr(F, "rms_norm", record)
    return shapes


@pytest.fixture
def written_out(monkeypatch):
    """No compiled pass."""
    monkeypatch.setattr(norms, "built_pass", lambda: None)


@pytest.mark.core
@pytest.mark.parametrize("dtype", TOLERANCE)
@EVERY_TYPE
def test_every_rms_norm_has_the_numbers_of_its_class(model_type, dtype, on_any_device):
    model = tiny_model(model_type).to(dtype)
    found = list(norms.rms_norms(model))
    others = {type(x).__name__ for x in model.modules() if type(x).__name__.endswith(NORM) and x not in found}
    assert others <= WEIGHTS_FROM_1 | OTHERS
    for norm in found:
        width = norm.weight.shape[0]
        rows = torch.randn(2, 7, width, generator=torch.Generator().manual_seed(1))
        heads = torch.randn(2, 7, 3, width, generator=torch.Generator().manual_seed(2))
        for x in (rows, 1e-3 * rows, heads, heads.transpose(1, 2)):  # small ones feel the epsilon
            fused, written_out = norms.fused_norm(norm, x.to(dtype)), type(norm).forward(norm, x.to(dtype))
            assert fused.dtype == dtype and fused.stride() == written_out.stride()
            torch.testing.assert_close(fused, written_out, **TOLERANCE[dtype])
    assert len(on_any_device) == 4 * len(found)


def test_torch_has_one_kernel_of_it_for_cuda():
    """A CPU build lacks it, but says which operators have one: this is the one that `F.rms_norm` calls."""
    functions = yaml.safe_load(
        (Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml").read_text()
    )
    (kernel,) = [x["dispatch"]["CUDA"] for x in functions if x["func"].startswith("_fused_rms_norm(")]
    assert kernel == "_fused_rms_norm_cuda"


def launches_of_a_model(compiled: bool, monkeypatch) -> list[str]:
    """Those of one token through two layers in bfloat16."""
    with monkeypatch.context() as patch, fake_cuda() as launched, torch.no_grad():
        patch.setattr(F, "rms_norm", lambda x, shape, weight, epsilon: x.clone())  # one launch, as a GPU has
        model = on_gpu(AutoModelForCausalLM.from_config(tiny_config("llama"), dtype=torch.bfloat16))
        convert_model(model, LambdaConfig(8, 3, 8, backend="blockwise", compiled=compiled))
        launched.clear()
        model.base_model(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=GPU), use_cache=False)
        return list(launched)


def test_each_norm_of_a_model_is_one_launch(monkeypatch):
    fused, written_out = (launches_of_a_model(compiled, monkeypatch) for compiled in (True, False))
    assert written_out.count("rsqrt") == 5 and "rsqrt" not in fused
    assert fused.count("clone") - written_out.count("clone") == 5


@pytest.mark.parametrize(
    ("reason", "dtypes", "taken"),
    [
        (None, (torch.bfloat16, torch.bfloat16), True),
        (None, (torch.bfloat16, torch.float32), False),
        (None, (torch.float64, torch.float64), False),
        ("torch.compiler.is_compiling", (torch.bfloat16, torch.bfloat16), False),
        ("torch.is_autocast_enabled", (torch.bfloat16, torch.bfloat16), False),
    ],
)
def test_the_kernel_is_taken_only_where_it_gives_what_the_class_gives(reason, dtypes, taken, monkeypatch):
    if reason is not None:
        monkeypatch.setattr(reason, lambda *device: True)
    with fake_cuda():
        x, weight = torch.empty(3, 8, dtype=dtypes[0], device=GPU), torch.empty(8, dtype=dtypes[1], device=GPU)
        assert norms._takes_kernel(x, weight) == taken
        assert not norms._takes_kernel(x, weight.expand(2, 8))
    assert not norms._takes_kernel(torch.empty(3, 8), torch.empty(8))


def own_forwards(model) -> int:
    """RMSNorms whose forward, within device hooks where there are some, is ours."""
    forwards = [getattr(x, "_old_forward", x.forward) for x in model.modules() if isinstance(x, LlamaRMSNorm)]
    return sum(getattr(forward, "func", None) is norms.fused_norm for forward in forwards)


@pytest.mark.parametrize("hooked", [False, True])
def test_converting_replaces_them_and_reverting_takes_that_back(hooked):
    model = tiny_model()
    model = dispatch_model(model, {"": "cpu"}, force_hooks=True) if hooked else model
    assert own_forwards(convert_model(model, CONFIG)) == own_forwards(convert_model(model, CONFIG)) == 5
    assert own_forwards(revert_model(model)) == 0
    assert own_forwards(convert_model(model, LambdaConfig(8, 3, 8, compiled=False))) == 0


def test_a_forward_of_somebody_else_stays():
    model = tiny_model()
    theirs = model.base_model.norm.forward = lambda x: 2 * x
    assert own_forwards(convert_model(model, CONFIG)) == 4
    assert revert_model(model).base_model.norm.forward is theirs


@torch.no_grad()
def test_a_weight_that_is_there_only_between_hooks_is_the_one_that_is_used(on_any_device):
    """As ZeRO-3 gathers it."""
    model, ids = convert_model(tiny_model(), CONFIG), tiny_input_ids(2, 20)
    expected, norm = model(input_ids=ids).logits, model.base_model.norm
    kept, none = norm.weight.data, torch.empty(0)
    norm.weight.data = none

    def gather(*_):
        norm.weight.data = kept

    def release(*_):
        norm.weight.data = none

    norm.register_forward_pre_hook(gather)
    norm.register_forward_hook(release)
    assert torch.equal(model(input_ids=ids).logits, expected)
    assert len(norm.weight) == 0 and len(on_any_device) == 10


def test_the_epsilon_is_the_one_of_the_configuration():
    assert getattr(tiny_model(rms_norm_eps=0.125).base_model.norm, NORM_EPSILON) == 0.125
    assert tiny_config("llama").rms_norm_eps != 0.125


@pytest.mark.core
@EVERY_TYPE
@torch.no_grad()
def test_a_weight_of_another_dtype_gives_what_the_class_gives(model_type, monkeypatch):
    """Some classes multiply by it before they round, and others after."""
    monkeypatch.setattr(norms, "CACHED_FEATURES", 16)
    for norm in norms.rms_norms(tiny_model(model_type)):
        x = torch.randn(2, 40, norm.weight.shape[0], dtype=torch.bfloat16)
        expected = type(norm).forward(norm, x)
        assert norms.fused_norm(norm, x).dtype == expected.dtype
        assert torch.equal(norms.fused_norm(norm, x), expected)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 50, 16), (1, 3, 50, 16), (1, 50, 3, 16), (50, 16), (16,)])
def test_so_many_tokens_at_a_time_have_the_same_numbers_to_the_last_bit(dtype, shape, written_out, monkeypatch):
    norm = LlamaRMSNorm(16).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(16))
    x = torch.randn(shape).to(dtype)
    expected, rows, forward = norm(x), [], LlamaRMSNorm.forward

    def recorded(self, part):
        rows.append(part[..., 0].numel())
        return forward(self, part)

    monkeypatch.setattr(norms, "CACHED_FEATURES", 16 * 7)
    monkeypatch.setattr(LlamaRMSNorm, "forward", recorded)
    with torch.no_grad():
        assert torch.equal(norms.fused_norm(norm, x), expected)
    assert sum(rows) == x[..., 0].numel() and max(rows) <= 7
    rows.clear()
    assert norms.fused_norm(norm, x).requires_grad and len(rows) == 1  # which what is written in place has not


@pytest.fixture
def passes(monkeypatch) -> list[tuple]:
    """Calls of the compiled pass."""
    run, calls = norms.built_pass(), []

    def counted(*arguments) -> None:
        calls.append(arguments)
        run(*arguments)

    if run is None:
        pytest.skip("needs what `make kernel` compiles")
    monkeypatch.setattr(norms, "built_pass", lambda: counted)
    return calls


@pytest.mark.core
@EVERY_TYPE
@torch.no_grad()
def test_the_compiled_pass_has_the_numbers_of_each_class_that_it_is_taken_for(model_type, passes):
    for norm in norms.rms_norms(tiny_model(model_type).bfloat16()):
        norm.weight.normal_(generator=torch.Generator().manual_seed(1))
        x = torch.randn(2, 40, norm.weight.shape[0], generator=torch.Generator().manual_seed(2)).bfloat16()
        passes.clear()
        found, expected = norms.fused_norm(norm, x), type(norm).forward(norm, x)
        of_others = (found != expected).float().mean()
        assert of_others < (0.01 if passes else 1e-9)  # sums in another order; rounding once would be a tenth or more
        torch.testing.assert_close(found, expected, rtol=2**-6, atol=0)
        assert passes or type(norm).__name__ not in ROUNDED_TWICE


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 50, 16), (1, 3, 50, 64), (50, 576), (4097,), (0, 16), (3, 1)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_compiled_pass_is_as_exact_as_the_class(shape, size, passes):
    norm = LlamaRMSNorm(shape[-1]).bfloat16()
    norm.weight.normal_(generator=torch.Generator().manual_seed(0))
    x = (size * torch.randn(shape, generator=torch.Generator().manual_seed(1))).bfloat16()
    exact = F.rms_norm(x.double(), shape[-1:], norm.weight.double(), norm.variance_epsilon)
    torch.testing.assert_close(norms.fused_norm(norm, x).double(), exact, rtol=2.02 * 2**-8, atol=0)  # rounded twice
    assert len(passes) == 1


@torch.no_grad()
def test_heads_that_are_token_by_token_stay_so(passes):
    norm, x = LlamaRMSNorm(16).bfloat16(), torch.randn(2, 7, 3, 16).bfloat16().transpose(1, 2)
    found = norms.fused_norm(norm, x)
    assert found.stride() == x.stride() and len(passes) == 1
    torch.testing.assert_close(found, norm(x), rtol=2**-7, atol=0)


@torch.no_grad()
def test_no_number_that_is_none_is_lost(passes):
    norm, x = LlamaRMSNorm(40).bfloat16(), torch.ones(3, 40, dtype=torch.bfloat16)
    x[0, 17], x[1, 33], x[2] = torch.nan, torch.inf, 0
    assert torch.equal(norms.fused_norm(norm, x).isnan(), norm(x).isnan())
    assert (norms.fused_norm(norm, x)[2] == 0).all() and len(passes) == 2


@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("bfloat16", "float32"), ("float16", "float16")])
def test_the_compiled_pass_is_for_bfloat16_alone_and_records_no_gradient(dtypes, passes):
    x, weight = (getattr(torch, name) for name in dtypes)
    norm, rows = LlamaRMSNorm(16).to(weight), torch.randn(3, 16).to(x)
    with torch.no_grad():
        assert torch.equal(norms.fused_norm(norm, rows), norm(rows))
    assert norms.fused_norm(norm.bfloat16(), rows.bfloat16()).requires_grad and not passes


class TracesAll(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize("watcher", [TracesAll, lambda: torch.autocast("cpu", torch.bfloat16)])
@torch.no_grad()
def test_nobody_is_left_out_who_looks_at_what_is_computed(watcher, passes):
    norm, rows = LlamaRMSNorm(16).bfloat16().requires_grad_(False), torch.randn(3, 16).bfloat16()
    with watcher():
        assert torch.equal(norms.fused_norm(norm, rows), norm(rows))
    norms.fused_norm(norm, rows.as_subclass(Subclass))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(rows, torch.ones_like(rows))
        assert forward_ad.unpack_dual(norms.fused_norm(norm, dual)).tangent is not None
    traced = torch.jit.trace(lambda x: norms.fused_norm(norm, x), rows, check_trace=False)
    assert torch.equal(traced(2 + rows), norm(2 + rows)) and not passes


@torch.no_grad()
def test_a_forward_that_is_wrapped_in_its_class_is_left_to_it(passes, monkeypatch):
    """Two classes in the same wrapper have the same code."""

    def rounded_once(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)

    def wrapped(forward):
        return wraps(forward)(lambda self, x: forward(self, x))

    norm, rows = LlamaRMSNorm(64).bfloat16(), torch.randn(30, 64).bfloat16()
    norm.weight.normal_()
    for forward in (wrapped(LlamaRMSNorm.forward), wrapped(rounded_once), rounded_once):
        monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
        assert torch.equal(norms.fused_norm(norm, rows), forward(norm, rows)) and not passes
