"""Which backend attends, and why: the fastest one that this machine has and that the layer can use."""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ...errors import SharedError
from ..config import AttentionLayer
from .edges import lacks_edges
from .flash import WIDEST, WIDTH_MULTIPLE, implementation, lacks_flash
from .matrix_products import lacks_onednn
from .measured import DENSE, Kind, fastest
from .segment_scores import score_dtype
from .within_window import lacks_dense

logger = logging.getLogger(__name__)

NARROWEST_FLEX = 16
"""Features of a head: the tensor cores' products, of which flex's kernel is made, have no narrower ones."""
SHORTEST_MEASURED = 256
"""Tokens of a window: within a shorter one, whichever backend it is, what surrounds the attention takes longer."""
BEGINNINGS_OF_ITS_OWN = ("flash", "edges")
"""Backends whose own kernels take the first window with the rest."""


@dataclass(frozen=True)
class Choice:
    """A backend's name, and the reason for it in words.

    begins_dense: whether the first window's queries, to whom Λ-attention is causal, go to torch's own attention.
    """

    backend: str
    reason: str
    begins_dense: bool = False

    def __str__(self) -> str:
        return f"{self.backend} ({self.reason})"


def choose_backend(layer: AttentionLayer, query: Tensor, value: Tensor) -> Choice:
    """The backend that the configuration names, or the fastest one for these tensors; said once in the log.

    Raises SharedError where the named one cannot do it.
    """
    name = layer.config.backend
    if name == "auto":
        choice = (_fastest_on_gpu if query.is_cuda else _fastest_on_cpu)(layer, query, value)
    else:
        choice = Choice(name, "as --backend says")
    need = _NEEDS.get(name)
    lacking = None if need is None else need(layer, query, value)
    if lacking is not None:
        raise SharedError(f"--backend {name} needs {lacking}: take blockwise, or leave it out")
    say_once(choice)
    return choice


@lru_cache(maxsize=64)
def say_once(choice: Choice) -> None:
    """Log it, the first time in this process."""
    logger.info("attention by %s", choice)


def _fastest_on_cpu(layer: AttentionLayer, query: Tensor, value: Tensor) -> Choice:
    if query.device.type != "cpu":
        return Choice("blockwise", f"matrix products, on {query.device.type}")
    dense = (DENSE,) if lacks_dense(layer, query, value) is None else ()
    if layer.config.local_branch < SHORTEST_MEASURED or is_in_torch_dispatch_mode():  # in one nothing runs as it is
        return Choice("blockwise", "matrix products, on cpu", bool(dense))
    others = [name for name, need in _ON_CPU.items() if need(layer, query, value) is None]
    candidates = ("blockwise", *others)
    if len(candidates) == 1:
        return Choice("blockwise", "on cpu, where no other backend can do this")
    choice = _measured_on_cpu(candidates, layer, query, value)
    if not dense or choice.backend in BEGINNINGS_OF_ITS_OWN:
        return choice
    beginning = _kind(layer, query, value, (choice.backend, *dense), begins=True)
    if fastest(beginning, layer, query.dtype).name != DENSE:
        return choice
    return replace(choice, reason=f"{choice.reason}, the first window dense", begins_dense=True)


def faster_on_cpu(candidates: tuple[str, ...], layer: AttentionLayer, query: Tensor, value: Tensor) -> Choice:
    """The fastest of some backends that can attend to these tensors in full windows; said once in the log."""
    choice = _measured_on_cpu(candidates, layer, query, value)
    say_once(choice)
    return choice


def _measured_on_cpu(candidates: tuple[str, ...], layer: AttentionLayer, query: Tensor, value: Tensor) -> Choice:
    found = fastest(_kind(layer, query, value, candidates, begins=False), layer, query.dtype)
    dtype = str(query.dtype).removeprefix("torch.")
    return Choice(found.name, f"{dtype} on cpu, {found}")


def _kind(layer: AttentionLayer, query: Tensor, value: Tensor, candidates: tuple[str, ...], begins: bool) -> Kind:
    return Kind(
        str(query.dtype).removeprefix("torch."),
        *(query.shape[1], value.shape[1], query.shape[-1], value.shape[-1]),
        *(layer.config.local_branch, layer.config.global_branch),
        begins,
        candidates,
    )


def _fastest_on_gpu(layer: AttentionLayer, query: Tensor, value: Tensor) -> Choice:
    dtype = str(query.dtype).removeprefix("torch.")
    no_flash = _need_of_flash(layer, query, value)
    if no_flash is None:
        return Choice("flash", f"{dtype} on CUDA, a window of torch's flash attention, {implementation()}")
    begins_dense = lacks_dense(layer, query, value) is None
    no_flex = _need_of_flex(layer, query, value)
    if no_flex is None and query.element_size() > 2:
        no_flex = "half precision to be fast"  # in float32 its kernel has no tensor cores and spills its registers
    if no_flex is None:
        return Choice("flex", f"{dtype} on CUDA; flash needs {no_flash}", begins_dense)
    return Choice("blockwise", f"{dtype} on CUDA; flash needs {no_flash}, flex needs {no_flex}", begins_dense)


def _need_of_flash(layer: AttentionLayer, query: Tensor, value: Tensor) -> str | None:
    """What flash lacks here, as "flash needs ..." goes on; None where it lacks nothing."""
    width, config = query.shape[-1], layer.config
    if config.caps_window:
        return "a limit that is not inside the window"
    if layer.positions.slopes is not None:
        return "rotary positions, not ALiBi"
    if layer.soft_cap is not None:
        return "scores that are not capped softly"
    if width != value.shape[-1] or width > WIDEST or width % WIDTH_MULTIPLE:
        return (
            f"keys and values of one width, a multiple of {WIDTH_MULTIPLE} up to {WIDEST}, and these have "
            f"{width} and {value.shape[-1]}"
        )
    return lacks_flash(query.device, query.dtype)


def _need_of_flex(layer: AttentionLayer, query: Tensor, value: Tensor) -> str | None:
    """The same of flex. Off a GPU it runs dense, which serves the tests."""
    width = min(query.shape[-1], value.shape[-1])
    if query.is_cuda and width < NARROWEST_FLEX:
        return f"heads of at least {NARROWEST_FLEX} features on a GPU, and these have {width}"
    if query.is_cuda and not layer.config.compiled:
        return "torch.compile on a GPU, and --no_compile turns it off"
    return None


def _need_of_onednn(layer: AttentionLayer, query: Tensor, value: Tensor) -> str | None:
    """The same of oneDNN's products."""
    return lacks_onednn(score_dtype(layer, query.dtype), query.device)


_ON_CPU = {"edges": lacks_edges, "onednn": _need_of_onednn}
"""What the backends need that are the CPU's alone."""
_NEEDS = {"flash": _need_of_flash, "flex": _need_of_flex, **_ON_CPU}
