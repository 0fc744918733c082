"""By which name results are kept, and what they say of the machine."""

import json
import platform
import sys

import pytest
import torch

from benchmarks import machine_name as command
from benchmarks.measuring.machine import as_file_name, describe_machine, machine_name, save_results
from models.attention import processor as told
from models.attention.prefill import measured

EPYC = """processor\t: 0
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
"""


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """What /proc/cpuinfo says."""
    file = tmp_path / "cpuinfo"
    file.write_text(EPYC + "\n" + EPYC.replace(": 0", ": 1"))
    monkeypatch.setattr(told, "PROCESSORS", file)
    return file


def test_two_processors_of_one_name_have_folders_of_their_own(processor):
    assert machine_name("cpu") == "amd_epyc_25_17"
    processor.write_text(EPYC.replace(": 17", ": 1"))
    assert machine_name("cpu") == "amd_epyc_25_1"


def test_the_name_is_that_of_what_the_results_say(processor, tmp_path):
    found = json.loads(save_results(tmp_path, "speed", "cpu", {"rows": []}).read_text())["machine"]
    assert found == describe_machine("cpu")
    name, threads, _ = found["device"].split(", ")
    assert as_file_name(name) == machine_name("cpu") and threads == f"{torch.get_num_threads()} threads"


def test_results_name_the_backends_that_were_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "_found", {})
    assert "attention_measured" not in json.loads(save_results(tmp_path, "speed", "cpu", {"rows": []}).read_text())
    found = [{"backend": "edges"}]
    monkeypatch.setattr(measured, "found", lambda: found)
    assert json.loads(save_results(tmp_path, "speed", "cpu", {}).read_text())["attention_measured"] == found


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz (6/143)", "intel_xeon_platinum_8481c_cpu_6_143"),
        ("AMD EPYC 9B14 64-Core Processor (25/17)", "amd_epyc_9b14_64_core_processor_25_17"),
        ("NVIDIA H100 80GB HBM3", "nvidia_h100_80gb_hbm3"),
        ("aarch64", "aarch64"),
    ],
)
def test_a_name_becomes_a_folder(name, folder):
    assert as_file_name(name) == folder


def test_a_system_that_tells_nothing_of_its_processor_gives_the_architecture(tmp_path, processor, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    processor.write_text("CPU part\t: 0xd40\n")
    assert machine_name("cpu") == "arm64"
    monkeypatch.setattr(told, "PROCESSORS", tmp_path / "none")
    assert machine_name("cpu") == "arm64"


def test_a_card_has_its_own_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert machine_name("cuda") == "nvidia_h200" and describe_machine("cuda")["device"] == "NVIDIA H200"


def test_the_command_prints_it(processor, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["machine_name.py"])
    command.main()
    assert capsys.readouterr().out == "amd_epyc_25_17\n"
