"""What `orchestra task new` copies. NAME stands as `newtask` in these files, which run as they are.

Linted, typed and tested like all other code, but imported by nothing.
"""
