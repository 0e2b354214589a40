"""One small process per job: it starts torchrun, restarts it after a crash, and leaves nothing.

Never imports torch, NumPy, pydantic or git: it must start fast and stay small for days.
"""
