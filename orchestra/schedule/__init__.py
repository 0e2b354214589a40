"""Services behind the verbs: submit, resume, evaluate, stop, remove, watch, describe; dispatch.

Called by the command line and by the monitor alike. Nothing here prints or asks.
"""
