"""What the measurements share: tables in Markdown, and a description of the machine."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *("| " + " | ".join(r) + " |" for r in rows)]


def describe_machine() -> str:
    """Return the system, the processor, the number of cores and the memory."""
    info, cpu = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), cpu)
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB of memory"
    return f"{platform.system()}, {cpu}, {os.cpu_count()} cores{memory}"


def describe_run() -> str:
    """Return the date, the machine, the number of threads and the version of PyTorch."""
    import torch

    threads = torch.get_num_threads()
    return f"{datetime.date.today()}, {describe_machine()}, {threads} thread(s), torch {torch.__version__}"
