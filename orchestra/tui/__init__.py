"""The monitor, on Textual. Shows what the registry and the run folders say and calls the very
functions of the command line's verbs; decides nothing by itself. Only this package imports textual.
"""
