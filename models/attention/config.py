"""The parameters of Λ-attention: one immutable object, passed everywhere."""

from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from .bands.band import Bands
from .bands.config import BandsConfig, ChunksConfig
from .bands.methods import lambda_shape
from .positions import AlibiPositions, PositionEncoding
from .settings import BACKENDS, NO_OFFSET, SAME_AS_LOCAL, SINK_POSITIONS, WINDOW_LAYERS


@dataclass(frozen=True)
class TopK:
    """`--top_k_attention`: the last query of a forward also attends to the k best middle keys, in some layers.

    k: middle keys per head; a query with fewer of them takes none. insert_at: the distance, in tokens, at which they
    are scored and felt.
    from_layer, to_layer: half-open range of layers; None is the last layer's end.
    offload: the keys and values of all tokens are kept, and searched, in host memory.
    """

    k: int
    insert_at: int
    from_layer: int = 0
    to_layer: int | None = None
    offload: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"top_k_attention must be at least 1 token, not {self.k}")
        if self.insert_at < 0:
            raise ValueError(f"top_k_insert_at is a distance in tokens, at least 0, not {self.insert_at}")
        if self.from_layer < 0:
            raise ValueError(f"top_k_from_layer counts layers from 0, and cannot be {self.from_layer}")
        if self.to_layer is not None and self.to_layer <= self.from_layer:
            raise ValueError(
                f"top_k_to_layer {self.to_layer} is not beyond top_k_from_layer {self.from_layer}: no layer is left"
            )

    def covers(self, layer_idx: int) -> bool:
        return self.from_layer <= layer_idx and (self.to_layer is None or layer_idx < self.to_layer)


@dataclass(frozen=True)
class LambdaConfig:
    """Everything that Λ-attention is parametrised by.

    local_branch: L, the nearest tokens that a query attends to, itself included; at least 1.
    global_branch: G, the first tokens of the sequence that every query attends to; 0 is plain window attention.
    limit_distance: D, the largest distance felt, in tokens, at least 1; None is no limit. L unless it is given.
    sink_positions: where the first tokens stand for a query i whose window is past them: in the "text", at the distance
        `min(i - j, D)`, or in the "cache", at `min(i, G + L - 1) - j`, as if nothing lay between them and the window
        (StreamingLLM, arXiv 2309.17453).
    triangle_offset: t; when not 0 the middle keys are attended too, at distance D, with `t * log(their number)` taken
        off their scores. Costs O(n^2) time, and memory for all keys.
    top_k: see TopK; keeps all keys.
    backend: "auto", "flash" (torch's flash attention with a window), "flex" (torch's flex_attention), "edges" (torch's
        fused attention on the CPU), "blockwise" (matrix products, any device) or "onednn" (the same by oneDNN's, on the
        CPU).
    window_layers: layers that have a window, or chunks, of their own, shorter than L, keep them as they are ("own"), or
        attend like all others ("lambda").
    compiled: whether passes are fused on a GPU: by torch.compile those around the attention, and flex's own; by torch's
        own kernel RMSNorm.
    """

    local_branch: int
    global_branch: int
    limit_distance: int | str | None = SAME_AS_LOCAL
    triangle_offset: float = NO_OFFSET
    top_k: TopK | None = None
    backend: str = BACKENDS[0]
    sink_positions: str = SINK_POSITIONS[0]
    compiled: bool = True
    window_layers: str = WINDOW_LAYERS[0]

    chunk: ClassVar[None] = None
    log_scale: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.limit_distance == SAME_AS_LOCAL:
            object.__setattr__(self, "limit_distance", self.local_branch)  # frozen for everyone else
        if self.local_branch < 1:
            raise ValueError(f"local_branch must be at least 1 token, not {self.local_branch}")
        if self.global_branch < 0:
            raise ValueError(f"global_branch must be at least 0 tokens, not {self.global_branch}")
        if self.limit_distance is not None and self.limit_distance < 1:
            raise ValueError(
                f"limit_distance must be at least 1 token, or None for no limit, not {self.limit_distance}"
            )
        if self.triangle_offset and self.limit_distance is None:
            raise ValueError("triangle_offset needs a limit_distance: it is where the middle tokens are felt")
        if self.triangle_offset and self.top_k is not None:
            raise ValueError("triangle_offset and top-k exclude each other: both attend to the middle tokens")
        if self.triangle_offset and self.backend not in ("auto", "blockwise"):
            raise ValueError(
                f"triangle_offset has no backend {self.backend}, which does not attend to the middle tokens: take "
                "blockwise, or leave it out"
            )
        if self.backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {self.backend!r}")
        if self.backend in ("flash", "edges") and self.caps_window:
            raise ValueError(
                f"backend {self.backend} has no limit inside the window, and limit_distance {self.limit_distance} is "
                f"less than local_branch {self.local_branch}: take flex or blockwise"
            )
        if self.window_layers not in WINDOW_LAYERS:
            raise ValueError(f"window_layers must be one of {', '.join(WINDOW_LAYERS)}, not {self.window_layers!r}")
        if self.sink_positions not in SINK_POSITIONS:
            raise ValueError(f"sink_positions must be one of {', '.join(SINK_POSITIONS)}, not {self.sink_positions!r}")
        if self.sink_positions == "cache" and self.limit_distance is not None:
            raise ValueError(
                f"sink_positions cache contradicts limit_distance {self.limit_distance}: positions counted inside the "
                "cache have no limit, take none"
            )

    def of_layer(self, window: int | None) -> "LambdaConfig":
        """The method of a layer. window: that of its own, in tokens, None where it has none."""
        if window is None or window >= self.local_branch or self.window_layers == "lambda":
            return self
        plain = {"triangle_offset": NO_OFFSET, "top_k": None, "sink_positions": SINK_POSITIONS[0]}
        return replace(self, local_branch=window, global_branch=0, limit_distance=None, **plain)

    @property
    def attends_all(self) -> bool:
        """Whether queries attend to the middle too, so that all keys are kept and `bands` is how to attend."""
        return bool(self.triangle_offset)

    @property
    def bands(self) -> Bands:
        """The method as a list of bands, top-k aside."""
        limit = self.limit_distance
        return lambda_shape(self.local_branch, self.global_branch, limit, self.triangle_offset, self.latest_position)

    def selects_top_k(self, layer_idx: int) -> bool:
        return self.top_k is not None and self.top_k.covers(layer_idx)

    @property
    def offloads(self) -> bool:
        """Whether the keys that top-k chooses from are kept in host memory."""
        return self.top_k is not None and self.top_k.offload

    @property
    def caps_window(self) -> bool:
        """Whether the limit falls inside the window, so that window keys are felt in two ways."""
        return self.limit_distance is not None and self.limit_distance < self.local_branch

    @property
    def latest_position(self) -> int | None:
        """The last position of a query, as the first tokens see it, if positions are counted inside the cache."""
        return self.global_branch + self.local_branch - 1 if self.sink_positions == "cache" else None

    @property
    def farthest(self) -> int | None:
        """A bound on the distances that positions are felt at, top-k aside; None if they grow with the text."""
        if self.limit_distance is None and self.global_branch == 0:
            return self.local_branch
        return self.limit_distance if self.sink_positions == "text" else self.latest_position

    def capped(self, distance: Tensor) -> Tensor:
        """Distances as felt: at most the limit."""
        return distance if self.limit_distance is None else distance.clamp(max=self.limit_distance)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "LambdaConfig":
        top_k = values.get("top_k")
        return cls(**{**values, "top_k": TopK(**top_k) if top_k else None})


Method = LambdaConfig | BandsConfig
"""How a model attends. Both have `attends_all`, `bands`, `top_k`, `global_branch`, `farthest`, `compiled`, ..."""
LayerMethod = Method | ChunksConfig
"""How one of its layers does."""


def method_of_layer(method: Method, window: int | None, chunk: int | None = None) -> LayerMethod:
    """The method of a layer. window, chunk: those of its own, in tokens, None where it has none."""
    if chunk is not None:
        covered = isinstance(method, LambdaConfig) and chunk >= method.local_branch
        taken = covered or method.window_layers == "lambda"
        return method if taken else ChunksConfig(chunk, method.backend, method.compiled)
    if isinstance(method, LambdaConfig):
        return method.of_layer(window)
    if window is None or method.window_layers == "lambda":
        return method
    return LambdaConfig(window, 0, None, backend=method.backend, compiled=method.compiled)


def method_from_dict(values: dict) -> Method:
    """The method that `to_dict` gave, of either kind."""
    return BandsConfig(**values) if "method" in values else LambdaConfig.from_dict(values)


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer besides its tensors: the method, its positions, its score scale and its index.

    soft_cap: c, where scores are felt as `c * tanh(score / c)`. sink_logit: `[Hq]`, a learned score per head that
    takes part in the softmax and weighs nothing.
    """

    config: LayerMethod
    positions: PositionEncoding
    scale: float
    layer_idx: int = 0
    soft_cap: float | None = None
    sink_logit: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.config, BandsConfig) and self.positions.slopes is not None:
            raise ValueError(
                f"{self.config.method} moves rotary positions, and this model has ALiBi's biases, for which it is not "
                "defined: take a model with RoPE"
            )
        if self.soft_cap is not None and self.positions.slopes is not None:
            raise ValueError("no backend caps scores softly that have a bias of ALiBi: no model is known to have both")

    def of_heads(self, heads: slice, device: torch.device) -> "AttentionLayer":
        """The layer of these of its query heads, with what they have of their own on that device."""
        sink_logit, positions = self.sink_logit, self.positions
        if sink_logit is None and positions.slopes is None:  # all heads are alike
            return self
        if sink_logit is not None:
            sink_logit = sink_logit[heads]
        if positions.slopes is not None:
            positions = AlibiPositions(positions.slopes_on(device)[heads])
        return replace(self, sink_logit=sink_logit, positions=positions)

    def fuses(self, x: Tensor) -> bool:
        """Whether torch.compile makes one kernel of several operations on x."""
        return x.is_cuda and self.config.compiled
