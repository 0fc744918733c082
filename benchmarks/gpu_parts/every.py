"""All parts, most valuable first."""

from benchmarks.gpu_parts import correctness, growth, large_model, layer, stream

PARTS = (correctness.PART, layer.PART, stream.PART, large_model.PART, growth.PART)
