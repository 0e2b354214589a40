"""The command line: one file per verb under `verbs/`, no logic of its own.

A verb parses its options, calls a service of `orchestra.schedule` (the same one the monitor
calls) and prints. Heavy modules are imported inside the functions that need them.
"""
