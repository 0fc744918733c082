"""What a conversion takes besides the method: what a family says of itself, and what stands around its attention.

`family.py` is the record that each family's file fills in, `attention_module.py` the forward that all of them share;
`refused.py` has the types that no family takes, `moving.py` the methods that are not defined for some.
`wrappers.py` finds the text model within others, `recurrent.py` keeps count of states beside attention, and
`generating.py` has what `generate` of a converted model does otherwise.
"""
