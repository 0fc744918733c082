"""The Triton kernels that inductor writes for a GPU, and what Triton and ptxas make of each."""

from . import fake_h100  # isort: skip  first: before torch looks for devices

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch
import torch._inductor.graph as inductor_graph
import triton
from torch._inductor.runtime import triton_heuristics
from torch._subclasses import FakeTensorMode
from triton.compiler import ASTSource

SOURCES = re.compile(r"^(\w+) = async_compile\.triton\('\w+', '''\n(.*?)''', device_str='cuda'\)", re.S | re.M)
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclass(frozen=True)
class Kernel:
    """A kernel as an H100 would run it.

    source: Triton's. ptx: the assembler's. shared: bytes of shared memory. registers, stack: of a thread, stack in
    bytes; what is on the stack did not fit into registers. tensor_core_products: wgmma, or mma before Hopper.
    """

    name: str
    source: str
    ptx: str
    shared: int
    registers: int
    stack: int

    @property
    def tensor_core_products(self) -> int:
        return self.ptx.count("wgmma.mma_async") + self.ptx.count("mma.sync")

    @property
    def lone_loads_in_loops(self) -> int:
        """Loads of a single element of at most 32 bits from global memory, in a loop that has tensor-core products.

        Indices of blocks, 32 bits wide and one for a whole block of threads, are not counted: their address is the
        same in all threads.
        """
        return sum(len(re.findall(r"ld\.global[.\w:]*\.b16 ", body)) for body in _loops(self.ptx) if "mma" in body)

    @property
    def wide_copies(self) -> int:
        """Asynchronous copies of 16 bytes a thread, or of whole blocks."""
        return len(re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*, 0x10|cp\.async\.bulk", self.ptx))


def _loops(ptx: str) -> Iterator[str]:
    """What stands between a label and the last jump back to it."""
    labels = {match[1]: match.end() for match in re.finditer(r"^(\$\S+):", ptx, re.M)}
    for label, begin in labels.items():
        jumps = [match.start() for match in re.finditer(rf"bra(?:\.uni)?\s+{re.escape(label)};", ptx)]
        if jumps and max(jumps) > begin:
            yield ptx[begin : max(jumps)]


def kernels_of(call: Callable[[], object]) -> list[Kernel]:
    """The kernels of the one compiled function that `call` runs, on tensors that it makes on "cuda:0"."""
    return [_compile(*found) for found in SOURCES.findall(_lower(call))]


def _lower(call: Callable[[], object]) -> str:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        return written_by(call)


def written_by(call: Callable[[], object]) -> str:
    """The code that inductor writes for `call`, on tensors without numbers; what it would run is not run."""
    written: list[str] = []

    class Written(Exception):
        pass

    def capture(graph, *_, **__):
        code = graph.codegen()[0]
        written.append(getattr(code, "value", str(code)))
        raise Written

    torch._dynamo.reset()
    compiling = mock.patch.object(inductor_graph.GraphLowering, "compile_to_module", capture)
    inner = mock.patch.object(inductor_graph.GraphLowering, "_compile_to_module", capture)
    with compiling, inner:
        try:
            call()
        except Exception:
            if not written:
                raise
    return written[-1]


@contextmanager
def caught() -> Iterator[dict]:
    """In it, a module of a kernel gives its function as it is, and tells how it would be tuned."""
    told: dict = {}

    def tell(size_hints, configs, triton_meta, *_, **__):
        told.update(config=configs[0], meta=triton_meta)
        return lambda function: function

    with mock.patch.object(triton_heuristics, "cached_autotune", tell):
        yield told


def _compile(name: str, source: str) -> Kernel:
    with caught() as told, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.py")
        path.write_text(source)
        module = imported(path)
        config, meta = told["config"], told["meta"]
        constants = {**meta.get("constants", {}), **config.kwargs}
        signature = {**meta["signature"], **dict.fromkeys(config.kwargs, "constexpr")}
        attributes = meta["configs"][0]
        attributes = attributes if isinstance(attributes, dict) else vars(attributes)
        options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
        ast = ASTSource(getattr(module, name), signature, constants, attributes)
        compiled = triton.compile(ast, target=fake_h100.TARGET, options=options)
    registers, stack = _usage(compiled.asm["cubin"])
    return Kernel(name, source, compiled.asm["ptx"], compiled.metadata.shared, registers, stack)


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _usage(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", said.stdout + said.stderr)
    return int(found[1]), int(found[2])
