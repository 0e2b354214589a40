"""orchestra: launch, supervise, record and evaluate speech training runs on one GPU box."""

__version__ = "0.1.0"
