"""The parameters of a method that attends to all earlier keys, at positions of its own; and of layers with chunks."""

from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from ..settings import BACKENDS, OF_BANDS, REMAPPINGS, WINDOW_LAYERS
from .band import Bands
from .methods import causal, dual_chunks, leaky_rerope, rerope, self_extend


@dataclass(frozen=True)
class BandsConfig:
    """A method that attends to all keys and feels them at other distances than they are at.

    method: one of REMAPPINGS. A parameter that is None is that of `of_length`, or none of this method's.
    window: w, tokens; group: G; chunk: s, tokens; factor: k; as `methods.py` has them.
    log_scale: N, tokens; a query at i > N is multiplied by `log(i + 1) / log(N)`; 0 never.
    backend: "edges" (torch's fused attention), "blockwise" (matrix products), or "auto", on the CPU the one measured to
        be faster. compiled, window_layers: as in LambdaConfig; a layer that keeps its own window or chunks has these.
    """

    method: str
    window: int | None = None
    group: int | None = None
    chunk: int | None = None
    factor: float | None = None
    log_scale: int | None = None
    backend: str = BACKENDS[0]
    compiled: bool = True
    window_layers: str = WINDOW_LAYERS[0]

    top_k: ClassVar[None] = None
    global_branch: ClassVar[int] = 0
    attends_all: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.method not in REMAPPINGS:
            raise ValueError(f"remap_positions must be one of {', '.join(REMAPPINGS)}, not {self.method!r}")
        least = {"window": 1, "group": 1, "chunk": 2, "factor": 1.0, "log_scale": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and name not in REMAPPINGS[self.method]:
                raise ValueError(f"remap_{name} is no parameter of {self.method}, which has {self.parameters}")
            if value is not None and value < smallest:
                raise ValueError(f"remap_{name} must be at least {smallest}, not {value}")
        if self.log_scale == 1:
            raise ValueError("remap_log_scale must be more than 1 token, of which the logarithm is 0, or 0 for none")
        if self.chunk is not None and self.window is not None and self.window > self.chunk:
            raise ValueError(f"remap_window {self.window} is more than remap_chunk {self.chunk}: give at most that")
        if self.backend not in OF_BANDS:
            raise ValueError(
                f"backend {self.backend} does not attend to all tokens, as {self.method} does: take "
                f"{', '.join(OF_BANDS)}"
            )
        if self.window_layers not in WINDOW_LAYERS:
            raise ValueError(f"window_layers must be one of {', '.join(WINDOW_LAYERS)}, not {self.window_layers!r}")

    def reach(self, length: int) -> int | None:
        """The tokens up to which no distance is felt that is beyond a pre-training length; None for any number."""
        if self.method == "self_extend":
            return (length - self.window) * self.group + self.window
        if self.method == "leaky_rerope":
            return int(self.window + (length - self.window) * self.factor)
        return None

    @property
    def parameters(self) -> str:
        """The names of its parameters, as flags have them."""
        return ", ".join(f"remap_{name}" for name in REMAPPINGS[self.method])

    def of_length(self, length: int | None) -> "BandsConfig":
        """With all parameters: those that are None as the published code has them for a pre-training length, in tokens.

        Raises ValueError where such a length is needed and not known.
        """
        missing = [name for name in REMAPPINGS[self.method] if getattr(self, name) is None]
        if not missing:
            return self
        if length is None:
            raise ValueError(
                f"the model's configuration has no pre-training length, by which remap_{missing[0]} would be chosen: "
                "give it"
            )
        published = {
            "self_extend": {"window": length // 4, "group": 8},
            "dca": {"chunk": length * 3 // 4 - length // 16, "window": length // 16 + 1},
            "rerope": {"window": length // 8, "log_scale": length},
            "leaky_rerope": {"window": length // 8, "factor": 16.0, "log_scale": length},
        }
        return replace(self, **{name: published[self.method][name] for name in missing})

    def selects_top_k(self, layer_idx: int) -> bool:
        return False

    @property
    def bands(self) -> Bands:
        if self.method == "self_extend":
            return self_extend(self.window, self.group)
        if self.method == "dca":
            return dual_chunks(self.chunk, self.window)
        return rerope(self.window) if self.method == "rerope" else leaky_rerope(self.window, self.factor)

    @property
    def farthest(self) -> int | None:
        """A bound on the distances that positions are felt at; None if they grow with the text."""
        bounds = {"rerope": self.window, "dca": (self.chunk or 0) + (self.window or 0) - 1}
        return bounds.get(self.method)

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class ChunksConfig:
    """A layer of a model that attends within chunks by itself, whatever the method: to all of a chunk, at its distance.

    chunk: s, tokens; the token at i attends to those from `i - i mod s` to i. backend, compiled: as in LambdaConfig.
    """

    chunk: int
    backend: str = BACKENDS[0]
    compiled: bool = True

    log_scale: ClassVar[None] = None
    top_k: ClassVar[None] = None
    global_branch: ClassVar[int] = 0
    attends_all: ClassVar[bool] = True

    def selects_top_k(self, layer_idx: int) -> bool:
        return False

    @property
    def bands(self) -> Bands:
        """Within a chunk, where its first token is at position 0."""
        return causal()
