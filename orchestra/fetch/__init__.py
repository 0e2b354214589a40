"""Getting a model's files, from wherever they are, as whole and verified local files.

Where a file is from (the hub, a URL, a local path) is decided in `places`; `model` puts a model
together from them. A file has its final name only once its size and hash were verified; one lock
per item makes all processes of a machine wait for the first of them. Imports no torch.
"""
