"""Sources of documents: each file reads one kind of source, a document at a time.

A source more is a function from a `source.DataRequest` to a `source.Source`, named in `data.get_data.SOURCES`.
"""
