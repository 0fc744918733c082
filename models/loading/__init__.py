"""Loading a model by its name: finding its files, reading them, and what an unconverted one needs to run.

`get_model` above is the way in. Another kind of place to load from is a branch of `source.find_source`.
"""
