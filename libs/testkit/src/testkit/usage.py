"""What a process uses, on Linux."""

import os
import re
from pathlib import Path
from typing import Literal


def memory(pid: int, which: Literal["VmRSS", "VmHWM"] = "VmRSS") -> int:
    """The process's resident memory in bytes: now (`VmRSS`), or its peak (`VmHWM`)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{which}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """The CPU time that the process has used so far, in seconds."""
    # The second field is the name of the program, which may contain spaces; 14 and 15 are the times.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
