"""A driver of NVIDIA's for machines without one: what `pynvml` answers, GPU by GPU."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As pynvml raises it."""


@dataclass
class FakeNvml:
    """Stands for the module. Answers are bytes, as its older versions give them."""

    gpus: dict[bytes, dict[str, Any]]
    """UUID → question (`nvmlDeviceGet…`) → answer; what is not there is not supported."""
    away: bool = False
    """Whether the driver does not answer at all."""
    calls: list[str] = field(default_factory=list)
    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.calls.append("init")
        if self.away:
            raise NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.calls.append("shutdown")

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"550.54"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> bytes:  # noqa: N802
        return self._there([*self.gpus][index])

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> bytes:  # noqa: N802
        return self._there(uuid)

    def nvmlDeviceGetUUID(self, device: bytes) -> bytes:  # noqa: N802
        return device

    def __getattr__(self, question: str) -> Any:
        def answer(device: bytes, *_: object) -> Any:
            try:
                return self.gpus[device][question.removeprefix("nvmlDeviceGet")]
            except KeyError:
                raise NVMLError("Not Supported") from None

        return answer

    def _there(self, uuid: bytes) -> bytes:
        if self.gpus.get(uuid, {}).get("lost", uuid not in self.gpus):
            raise NVMLError("GPU is lost")
        return uuid


def full(**more: Any) -> dict[str, Any]:
    """A GPU that tells everything, and `more`."""
    return {
        "Name": b"NVIDIA A100",
        "Serial": b"1321",
        "PciInfo": SimpleNamespace(busId=b"00000000:07:00.0"),
        "MemoryInfo": SimpleNamespace(used=3 << 30, total=40 << 30),
        "UtilizationRates": SimpleNamespace(gpu=97, memory=40),
        "PowerUsage": 251_300,
        "Temperature": 61,
        **more,
    }
