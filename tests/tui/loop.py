"""Async tests without a plug-in."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any


def driven(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that drives an app, in an event loop of its own."""

    @functools.wraps(test)
    def run(*words: Any, **more: Any) -> None:
        asyncio.run(test(*words, **more))

    return run
