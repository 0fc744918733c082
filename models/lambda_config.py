"""What Λ-attention is parametrised by: one immutable object, passed everywhere."""

from dataclasses import asdict, dataclass

from models.positions import PositionEncoding

SAME_AS_LOCAL = "local_branch"
"""As a limit_distance: whatever the local branch is."""

BACKENDS = ("auto", "blockwise", "flex")


@dataclass(frozen=True)
class TopK:
    """`--top_k_attention`: the last query of a forward also attends to the k best middle keys, in some layers.

    k: middle keys per head. insert_at: the distance, in tokens, at which they are scored and felt.
    from_layer, to_layer: half-open range of layers; None is the last layer's end.
    """

    k: int
    insert_at: int
    from_layer: int = 0
    to_layer: int | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"top-k: k must be at least 1, not {self.k}")
        if self.insert_at < 0:
            raise ValueError(f"top-k: insert_at is a distance in tokens, at least 0, not {self.insert_at}")

    def covers(self, layer_idx: int) -> bool:
        return self.from_layer <= layer_idx and (self.to_layer is None or layer_idx < self.to_layer)


@dataclass(frozen=True)
class LambdaConfig:
    """Everything that Λ-attention is parametrised by.

    local_branch: L, the nearest tokens that a query attends to, itself included; at least 1.
    global_branch: G, the first tokens of the sequence that every query attends to; 0 is plain window attention.
    limit_distance: D, the largest distance felt, in tokens, at least 1; None is no limit.
    triangle_offset: t; when not 0 the middle keys are attended too, at distance D, with `t * log(their number)` taken
        off their scores. Costs O(n^2) time, and memory for all keys.
    top_k: see TopK; keeps all keys.
    backend: "auto", "blockwise" (matrix products, any device) or "flex" (torch's flex_attention).
    """

    local_branch: int
    global_branch: int
    limit_distance: int | None
    triangle_offset: float = 0.0
    top_k: TopK | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
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
        if self.triangle_offset and self.backend == "flex":
            raise ValueError("triangle_offset needs the backend blockwise: flex does not attend to the middle tokens")
        if self.backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {self.backend!r}")

    def keeps_middle(self, layer_idx: int) -> bool:
        """Whether this layer needs keys outside both branches later: its cache is then unbounded."""
        return bool(self.triangle_offset) or self.selects_top_k(layer_idx)

    def selects_top_k(self, layer_idx: int) -> bool:
        return self.top_k is not None and self.top_k.covers(layer_idx)

    @property
    def caps_window(self) -> bool:
        """Whether the limit falls inside the window, so that window keys are felt in two ways."""
        return self.limit_distance is not None and self.limit_distance < self.local_branch

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "LambdaConfig":
        top_k = values.get("top_k")
        return cls(**{**values, "top_k": TopK(**top_k) if top_k else None})


@dataclass(frozen=True)
class AttentionLayer:
    """What one attention layer brings besides its tensors: the method, its positions, its score scale and its index."""

    config: LambdaConfig
    positions: PositionEncoding
    scale: float
    layer_idx: int = 0
