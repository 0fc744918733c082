"""What becomes of a DeepSpeed configuration, without DeepSpeed itself."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from utils.console import Console
from utils.errors import UserError
from utils.ranks.deepspeed import choose_precision, read_deepspeed_config
from utils.ranks.runtime import Runtime

CPU = torch.device("cpu")
CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RUNTIME = Runtime(rank=0, world_size=1, device=CPU, console=Console(), messages=None)


def read(tmp_path, config):
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return read_deepspeed_config(str(path), RUNTIME)


@pytest.mark.parametrize(
    "name, sharded",
    [
        ("zero3_efficient_config.json", True),
        ("zero3_efficient_config_large.json", True),
        ("replicated_config.json", False),
    ],
)
def test_our_configurations_are_for_evaluation(name, sharded):
    text = (CONFIGS / name).read_text()
    assert not any(key in text for key in ("optimizer", "gradient", "batch_size"))
    setup = read_deepspeed_config(str(CONFIGS / name), RUNTIME)
    assert (setup.sharded, setup.precision) == (sharded, None)
    assert "auto" not in json.dumps(setup.config)
    if sharded:
        assert setup.config["zero_optimization"]["offload_param"] == {"device": "cpu", "pin_memory": False}


def test_a_misspelt_section_is_named_and_not_ignored(tmp_path):
    with pytest.raises(UserError, match="zero_optimisation is not known, zero_optimization is"):
        read(tmp_path, {"zero_optimisation": {"stage": 3}})


def test_a_training_configuration_is_stripped(tmp_path):
    setup = read(
        tmp_path,
        {
            "fp16": {"enabled": True, "initial_scale_power": 12},
            "bf16": {"enabled": "auto"},
            "zero_optimization": {
                "stage": 3,
                "offload_optimizer": {"device": "cpu"},
                "reduce_bucket_size": "auto",
            },
            "optimizer": {"type": "AdamW"},
            "train_batch_size": 4,
            "gradient_accumulation_steps": 4,
        },
    )
    assert setup.precision == "float16"
    assert setup.config == {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    assert setup.with_precision("bfloat16").config["bf16"] == {"enabled": True}
    assert setup.with_precision("float32").config == setup.config


@pytest.mark.parametrize("stage", [1, 2])
def test_stages_that_shard_training_state_only_shard_nothing(tmp_path, stage):
    assert read(tmp_path, {"zero_optimization": {"stage": stage}}).config["zero_optimization"] == {"stage": 0}


@pytest.mark.parametrize(
    "config, words",
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object"),
        ({"zero_optimization": {"stage": 4}}, "stage must be 0, 1, 2 or 3, not 4"),
        ({"fp16": True}, 'fp16 must be an object, such as {"enabled": true}'),
        ({"bf16": {"enabled": True}, "fp16": {"enabled": True}}, "enables both"),
    ],
)
def test_a_bad_configuration_is_named(tmp_path, config, words):
    with pytest.raises(UserError, match="--deepspeed_config .*config.json") as refusal:
        read(tmp_path, config)
    assert words in str(refusal.value)


def test_an_absent_configuration_is_named(tmp_path):
    with pytest.raises(UserError, match="--deepspeed_config .*nowhere.json cannot be read: No such file"):
        read_deepspeed_config(str(tmp_path / "nowhere.json"), RUNTIME)


def test_what_deepspeed_itself_refuses_is_named_too(tmp_path):
    setup = read(tmp_path, {"zero_optimization": {"stage": 3, "offload_param": {"device": "moon"}}})
    with pytest.raises(
        UserError, match="--deepspeed_config c.json is refused by DeepSpeed: .*offload_param"
    ) as refusal:
        setup.check("c.json")
    assert "\n" not in str(refusal.value)


def test_precision(monkeypatch):
    assert choose_precision("auto", None, CPU) == ("auto", None)
    assert choose_precision("float32", None, CPU) == ("float32", None)
    with pytest.raises(UserError, match="--dtype float32 contradicts --deepspeed_config, which enables float16"):
        choose_precision("float32", "float16", CPU)
    monkeypatch.setattr("utils.ranks.deepspeed.supports", lambda device, dtype: dtype == "bfloat16")
    assert choose_precision("auto", "bfloat16", CPU) == ("bfloat16", None)
    dtype, note = choose_precision("auto", "float16", CPU)
    assert dtype == "float32" and "float16" in note and "\n" not in note


def test_without_deepspeed_it_is_one_sentence(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "deepspeed" else find(name))
    with pytest.raises(UserError, match="--deepspeed_config needs the deepspeed package, which is missing here"):
        read_deepspeed_config(str(tmp_path / "any.json"), None)
