"""How many bytes something takes, how many there are, and the refusal that names both numbers.

Estimates are upper-side on purpose: a request refused in time costs nothing, an exhausted device costs everybody.
"""

import resource
from pathlib import Path

import torch

from analysis.metrics import positions_per_chunk
from analysis.model import Model
from analysis.types import CapacityError
from app.core.errors import UnavailableError

WORKING_COPIES = 6  # simultaneous copies of a logits chunk in the metrics: logits, log-softmax, products, sums
CGROUP_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def human(n_bytes: float) -> str:
    """1.5 GB: decimal units, as disks and vendors count."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


class Memory:
    """The memory of one device. With `limit` the operator's number counts, without it what is measured."""

    def __init__(self, device: str, limit: int | None = None) -> None:
        self.device = device
        self.limit = limit
        self.models: dict[str, int] = {}  # what each resident model was admitted with

    def total(self) -> int:
        return self.limit if self.limit is not None else measured(self.device)[1]

    def free(self) -> int:
        if self.limit is not None:
            return self.limit - sum(self.models.values())
        return measured(self.device)[0]

    def admit(self, n_bytes: int, what: str) -> None:
        """CapacityError when it can never fit, UnavailableError when it does not fit now."""
        if n_bytes > (total := self.total()):
            raise CapacityError(
                f"{what} needs about {human(n_bytes)}; {self.device} has {human(total)} in all.", code="too_large"
            )
        if n_bytes > (free := self.free()):
            raise UnavailableError(
                f"{what} needs about {human(n_bytes)}; {self.device} has {human(max(free, 0))} free of {human(total)}.",
                code="no_memory",
                retry_after=10,
            )


def measured(device: str) -> tuple[int, int]:
    """(free, total) bytes of a device. A shared-memory device (mps) counts as the machine's own memory."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)
    free, total = _machine()
    for file in CGROUP_FILES:
        if file.is_file() and (text := file.read_text().strip()) != "max":
            total = min(total, int(text))
            free = min(free, total)
    return free, total


def _machine() -> tuple[int, int]:
    """MemAvailable and MemTotal on Linux; elsewhere the total for both."""
    file = Path("/proc/meminfo")
    if file.is_file():
        rows = dict(line.split(":", 1) for line in file.read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024, int(rows["MemTotal"].split()[0]) * 1024
    import os

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total, total


def process_bytes() -> int:
    """Resident memory of this process; 0 where the system has no /proc."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * resource.getpagesize() if file.is_file() else 0


def forward_bytes(model: Model, n_tokens: int, *, rows: int = 1) -> int:
    """One forward pass: eager attention scores, the widest MLP, the residual stream, captured activations."""
    attention = 3 * model.n_heads * n_tokens**2
    position = 8 * model.d_model + 6 * model.d_mlp
    return 4 * rows * (attention + n_tokens * position)


def metrics_bytes(model: Model, n_tokens: int) -> int:
    """Per-token metrics over the vocabulary, which are computed in chunks of positions."""
    chunk = min(n_tokens, positions_per_chunk(model.d_vocab))
    return 4 * WORKING_COPIES * chunk * model.d_vocab
