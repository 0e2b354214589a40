"""What runs under torchrun: the agent entry, the rank entry, the loop and its parts.

Never imports typer, textual, sqlite or git; knows the control plane only through `orchestra.wire`.
"""
