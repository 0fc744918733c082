"""What one sequence over N ranks costs: a model of time and bytes, from what a rank and its links do.

A layer of a stretch of n tokens computes for c(n) seconds. In that time the keys and values of the L - 1 tokens before
it arrive, from as many ranks as have them: m = messages * latency + bytes / bandwidth. That is hidden behind the
attention of the queries from the stretch's L-th on, h(n) seconds, so that a forward takes

    layers * (c(n) + max(0, m - h(n))) + agreement
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A model's shape, as far as time and bytes depend on it.

    weights: parameters that every token is multiplied with. itemsize: bytes of a key's number.
    """

    label: str
    layers: int
    query_heads: int
    key_heads: int
    head_dim: int
    local_branch: int
    global_branch: int
    weights: float
    itemsize: int

    @property
    def key_value_bytes(self) -> int:
        """Bytes of one token's key and value in one layer."""
        return 2 * self.key_heads * self.head_dim * self.itemsize

    @property
    def attention_flops(self) -> float:
        """Of one token in one layer, far from the beginning."""
        return 4 * self.query_heads * self.head_dim * (self.local_branch + self.global_branch)

    @property
    def flops(self) -> float:
        """Of one token in one layer: its share of the weights, and its attention."""
        return 2 * self.weights / self.layers + self.attention_flops


@dataclass(frozen=True)
class Links:
    """seconds: of a message without content; bandwidth: bytes per second from a rank to the next; agreement: seconds
    in which ranks agree on a forward."""

    latency: float
    bandwidth: float
    agreement: float


def sent_by(work: Work, lengths: list[int], before: int, rank: int) -> int:
    """Bytes of keys and values that a rank sends in one layer of a forward, counted token by token of each window."""
    ranks, starts = len(lengths), [before + sum(lengths[:place]) for place in range(len(lengths))]
    end, tokens = before + sum(lengths), 0
    for other in range(ranks):
        if other == rank:
            continue
        needs_window = lengths[other] or other == ranks - 1
        for position in range(max(0, starts[other] - work.local_branch + 1), starts[other]):
            tokens += needs_window and _holder(position, starts, lengths, before) == rank
        for position in range(before, min(end, work.global_branch)):
            tokens += _holder(position, starts, lengths, before) == rank
    return tokens * work.key_value_bytes


def _holder(position: int, starts: list[int], lengths: list[int], before: int) -> int:
    if position < before:
        return len(lengths) - 1
    return next(rank for rank, start in enumerate(starts) if start <= position < start + lengths[rank])


def seconds_of_forward(work: Work, stretch: int, seconds_of_layer: float, links: Links) -> float:
    """Seconds in which N > 1 ranks read a stretch of so many tokens each. seconds_of_layer: c(n), of one rank alone."""
    window = work.local_branch - 1
    message = -(-window // stretch) * links.latency + window * work.key_value_bytes / links.bandwidth
    share = work.attention_flops / work.flops
    hidden = seconds_of_layer * share * max(0, stretch - window) / stretch
    return work.layers * (seconds_of_layer + max(0.0, message - hidden)) + links.agreement


@dataclass(frozen=True)
class Estimate:
    """A stream over many ranks: seconds in all, and the efficiency against one rank without any others."""

    ranks: int
    stretch: int
    seconds: float
    efficiency: float


def estimate(work: Work, tokens: float, ranks: int, stretch: int, rate: float, links: Links) -> Estimate:
    """The time of a stream. rate: FLOP/s that a rank reaches."""
    seconds_of_layer = stretch * work.flops / rate
    alone = tokens * work.layers * work.flops / rate
    if ranks == 1:
        return Estimate(1, stretch, alone, 1.0)
    forwards = -(-tokens // (stretch * ranks))  # the last one perhaps shorter, and counted whole
    seconds = forwards * seconds_of_forward(work, stretch, seconds_of_layer, links)
    return Estimate(ranks, stretch, seconds, alone / (ranks * seconds))


LLAMA2_7B = Work("Llama-2-7B", 32, 32, 32, 128, 4096, 100, weights=6.61e9, itemsize=2)
H100_RATE = 0.4 * 989e12
"""FLOP/s of one H100 in bfloat16 at 40 % of its peak."""
NVLINK, INFINIBAND = Links(20e-6, 450e9, 100e-6), Links(30e-6, 50e9, 1e-3)
"""Within a node of 8, and between nodes at 400 Gbit/s: the slowest link of a group decides."""
RANKS, STRETCHES = (8, 64, 1024), (2048, 4096, 8192, 16_384, 65_536)


def on_paper() -> list[dict[str, float]]:
    """Llama-2-7B's streams of 2e8 and 1e9 tokens over H100s, by the stretch that each rank has in a forward."""
    rows = []
    for tokens in (2e8, 1e9):
        for ranks in RANKS:
            links = NVLINK if ranks <= 8 else INFINIBAND
            for stretch in STRETCHES:
                found = estimate(LLAMA2_7B, tokens, ranks, stretch, H100_RATE, links)
                rows.append({"tokens": tokens, **vars(found)})
    return rows
