"""Async tests without a plug-in."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run it in an event loop of its own."""

    @functools.wraps(test)
    def run(*words: Any, **more: Any) -> None:
        asyncio.run(test(*words, **more))

    return run
