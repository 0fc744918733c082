"""Λ-attention for Hugging Face models: a library of its own, which imports torch, Transformers and itself.

At this level stand the entry points (`lambda_attention`, `model_base`, `get_model`, `conversion`, ...) and one file for
each family of models. A family more: a file like `gpt_neox.py`, which says where its projections and positions are,
named in `model_base.FAMILIES`.
"""
