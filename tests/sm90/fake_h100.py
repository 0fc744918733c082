"""A CPU build of torch that believes in an H100, or in an A100 with SM=80. To be imported before torch is used.

libguard.so, from `guard.cpp`, gives the device a guard that does nothing; SM90_GUARD says where it is.
"""

import ctypes
import os
from types import SimpleNamespace

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

H100, A100 = (9, 0), (8, 0)
SHARED_MEMORY = {H100: 227 * 1024, A100: 163 * 1024}
"""Bytes that one block of threads may have, from the programming guide's table of compute capabilities."""

ctypes.CDLL(os.path.abspath(os.environ["SM90_GUARD"]))


def _properties(capability: tuple[int, int]) -> SimpleNamespace:
    return SimpleNamespace(
        name="NVIDIA H100 80GB HBM3" if capability == H100 else "NVIDIA A100-SXM4-80GB",
        major=capability[0],
        minor=capability[1],
        total_memory=80 * 2**30,
        multi_processor_count=132 if capability == H100 else 108,
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=2048,
        max_threads_per_block=1024,
        warp_size=32,
        L2_cache_size=50 * 2**20,
        shared_memory_per_block=48 * 1024,
        shared_memory_per_block_optin=SHARED_MEMORY[capability],
        shared_memory_per_multiprocessor=SHARED_MEMORY[capability] + 1024,
        gcnArchName="",
        is_integrated=0,
        uuid="",
        clock_rate=1_980_000,
        memory_clock_rate=2_600_000,
        memory_bus_width=5120,
        pci_bus_id=0,
        pci_device_id=0,
        pci_domain_id=0,
    )


CAPABILITY = A100 if os.environ.get("SM") == "80" else H100
TARGET = GPUTarget("cuda", 10 * CAPABILITY[0] + CAPABILITY[1], 32)
PROPERTIES = _properties(CAPABILITY)


class _Utils:
    @staticmethod
    def get_device_properties(device: int) -> dict[str, int]:
        return {
            "max_shared_mem": PROPERTIES.shared_memory_per_block_optin,
            "max_num_regs": PROPERTIES.regs_per_multiprocessor,
            "multiprocessor_count": PROPERTIES.multi_processor_count,
            "warpSize": PROPERTIES.warp_size,
        }


class _Driver:
    """What Triton asks of a driver in order to compile."""

    utils = _Utils()

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None: ...

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_device_interface(self):
        return torch.cuda

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)


def _random_state(*_) -> torch.Tensor:
    return torch.zeros(16, dtype=torch.uint8)


def _install() -> None:
    """A function for each name: dynamo tells them apart by what they are."""
    cuda = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "synchronize": lambda device=None: None,
        "current_device": lambda: 0,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "device_count": lambda: 1,
        "get_device_properties": lambda device=None: PROPERTIES,
        "get_device_capability": lambda device=None: CAPABILITY,
        "get_device_name": lambda device=None: PROPERTIES.name,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_rng_state": _random_state,
        "set_rng_state": lambda *_: None,
    }
    bindings = {
        "_cuda_getDevice": lambda: 0,
        "_cuda_setDevice": lambda device: None,
        "_cuda_exchangeDevice": lambda device: 0,
        "_cuda_maybeExchangeDevice": lambda device: 0,
        "_cuda_getCurrentRawStream": lambda device: 0,
        "_cuda_getDeviceCount": lambda: 1,
        "_cuda_getDefaultStream": lambda device: (0, 0, 0),
        "_cuda_isCurrentStreamCapturing": lambda: False,
    }
    for module, values in ((torch.cuda, cuda), (torch._C, bindings)):
        for name, value in values.items():
            setattr(module, name, value)
    torch.cuda.random.get_rng_state = _random_state
    torch.version.cuda = "13.0"


def _install_in_compilers() -> None:
    """They take some of the above over when they are imported."""
    from torch._inductor import config
    from torch._inductor.fx_passes import joint_graph, post_grad
    from torch._inductor.runtime import triton_helpers

    config.fx_graph_cache, config.compile_threads = False, 1
    config.joint_graph_constant_folding = False  # it would compute on the device
    joint_graph.lazy_init = lambda *_, **__: None  # it would trace patterns on the device
    post_grad.lazy_init = lambda *_, **__: None
    triton_helpers.set_driver_to_gpu = lambda: None
    driver.set_active(_Driver())


_install()
_install_in_compilers()
