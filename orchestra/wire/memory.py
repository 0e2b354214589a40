"""What torch and its libraries say when memory runs out, wherever it is read."""

from __future__ import annotations

import re

OUT_OF_MEMORY = re.compile(
    r"CUDA (error: )?out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|can't allocate memory"  # the CPU's allocator
)
