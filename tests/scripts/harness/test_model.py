"""What is refused before a model is loaded, where its weights go, and its precision under ZeRO-3."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from models.get_model import LoadedModel, ModelSpec
from models.lambda_attention import BandsConfig, LambdaConfig
from models.model_base import convert_model
from scripts.harness import model as model_loading
from scripts.harness.model import _sharded_dtype, describe_method, load_model
from scripts.harness.model_arguments import ModelPlan
from tests.tiny_models import tiny_model
from utils.console import Console
from utils.errors import UserError
from utils.ranks.deepspeed import DeepSpeedSetup
from utils.ranks.runtime import Runtime

RUNTIME = Runtime(rank=0, world_size=1, device=torch.device("cpu"), console=Console(), messages=None)
GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("backend", ["flash", "flex"])
def test_backends_that_need_cuda(backend):
    plan = ModelPlan(ModelSpec("nowhere"), LambdaConfig(8, 2, 8, backend=backend))
    with pytest.raises(UserError, match=f"--backend {backend} needs a CUDA device"):
        load_model(plan, RUNTIME)


@pytest.mark.parametrize("backend", ["edges", "onednn"])
def test_backends_that_need_the_cpu(backend):
    plan = ModelPlan(ModelSpec("nowhere"), LambdaConfig(8, 2, 8, backend=backend))
    with pytest.raises(UserError, match=f"--backend {backend} is for the CPU alone, not for cuda:0: leave it out"):
        load_model(plan, replace(RUNTIME, device=GPU))


def test_flex_is_compiled_or_refused():
    plan = ModelPlan(ModelSpec("nowhere"), LambdaConfig(8, 2, 8, backend="flex", compiled=False))
    with pytest.raises(UserError, match="--backend flex needs torch.compile, and --no_compile turns it off"):
        load_model(plan, replace(RUNTIME, device=torch.device("cuda")))


@pytest.fixture
def asked(monkeypatch):
    """The devices that weights were asked for on; nothing is loaded."""
    devices = []

    def get_model(spec, attention, device, sequence_group):
        devices.append(device)
        return LoadedModel(tiny_model(), tokenizer=None, identity={})

    monkeypatch.setattr(model_loading, "get_model", get_model)
    return devices


def write_config(folder, stage):
    path = folder / "deepspeed.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    return str(path)


@pytest.mark.parametrize(
    "options, expected", [({}, GPU), ({"device_map": "auto"}, None), ({"load_in_4bit": True}, None)]
)
def test_weights_are_asked_for_on_the_device_of_this_rank(asked, options, expected):
    runnable = load_model(ModelPlan(ModelSpec("tiny", **options)), replace(RUNTIME, device=GPU))
    assert asked == [expected] and runnable.device == expected


@pytest.mark.parametrize("stage, expected", [(0, GPU), (3, None)])
def test_deepspeed_gets_them_there_too_unless_it_shards_them(asked, stage, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(model_loading, "join_deepspeed", lambda runtime: None)
    monkeypatch.setattr(DeepSpeedSetup, "check", lambda *_: None)
    monkeypatch.setattr(DeepSpeedSetup, "prepare_loading", lambda self: None)
    plan = ModelPlan(ModelSpec("constant_model"), deepspeed_config=write_config(tmp_path, stage))
    assert load_model(plan, replace(RUNTIME, device=GPU)).is_sharded == (stage == 3)
    assert asked == [expected]


@pytest.fixture
def half_model(tmp_path, monkeypatch):
    """A float16 checkpoint, on a device that lacks float16."""
    tiny_model("llama").to(torch.float16).save_pretrained(tmp_path / "half")
    monkeypatch.setattr(model_loading, "supports", lambda device, dtype: dtype != "float16")
    return str(tmp_path / "half")


def test_a_checkpoint_that_the_device_cannot_compute_in_is_taken_in_float32(half_model, capsys):
    assert _sharded_dtype(half_model, "auto", RUNTIME) == "float32"
    assert capsys.readouterr().out == "float16, which --model is saved in, is not supported by cpu: taking float32\n"


def test_a_dtype_asked_for_that_the_device_lacks_is_refused(half_model):
    with pytest.raises(UserError, match="--dtype float16 is not supported by cpu under ZeRO-3"):
        _sharded_dtype(half_model, "float16", RUNTIME)
    assert _sharded_dtype(half_model, "bfloat16", RUNTIME) == "bfloat16"


def test_a_checkpoint_that_cannot_be_read_is_named(tiny_llama_dir, tmp_path):
    folder = shutil.copytree(tiny_llama_dir, tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')
    with pytest.raises(UserError, match=f"--model {folder}: the configuration cannot be loaded"):
        _sharded_dtype(str(folder), "auto", RUNTIME)


@pytest.mark.parametrize(
    ("model", "method", "said"),
    [
        ({}, LambdaConfig(8, 3), "Λ-attention in 2 of 2 layers: local_branch 8, global_branch 3, limit_distance 8, "),
        (
            {"sliding_window": 4},
            LambdaConfig(8, 3),
            "Λ-attention in 0 of 2 layers, a window of their own (4 tokens) in",
        ),
        (
            {},
            BandsConfig("self_extend"),
            "window 16, group 8; beyond 400 tokens distances are felt that the model was not",
        ),
        ({}, BandsConfig("dca"), "dca in 2 of 2 layers: window 5, chunk 44"),
    ],
)
def test_how_layers_attend_is_told(model, method, said):
    assert said in describe_method(convert_model(tiny_model("mistral" if model else "llama", **model), method))
    assert describe_method(tiny_model()) == ""
