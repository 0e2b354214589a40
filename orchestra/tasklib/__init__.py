"""What several tasks share: heads, losses, decoding, edit counts. Knows no single task.

Part of the training plane; the `*_config` modules are pydantic only, for the tasks' `config.py`.
"""
