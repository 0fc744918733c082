"""Loading a model by its name: finding its files, reading them, what an unconverted one needs to run, and what memory.

`get_model` above is the way in. Another kind of place to load from is a branch of `source.find_source`.
"""
