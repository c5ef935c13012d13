"""Keeps GPUs that fail, that strangers use, or that an administrator has taken out, from being handed out.

The driver tells of faults (Xids) by itself. Of memory that processes use it tells only who asks: it is asked before
GPUs are handed out, and every few seconds for as long as something waits for one that a stranger uses, and never else.
"""

import json
import math

import trio

from rised.gpus.devices import Gpu
from rised.gpus.health import Reading, is_fault_of_gpu, out_of_use
from rised.gpus.nvml import Meters
from rised.log import log
from rised.policy.resources import Inventory
from rised.storage.database import Database
from riseml_proto.errors import NotFound

_OFF = "gpus-out"
_FRESH_SECONDS = 1.0
_AGAIN_SECONDS = 5.0
_EVENT_MS = 60_000
"""How long one wait for an event lasts; another follows at once. It cannot be cancelled, only abandoned."""


class GpuWatch:
    """The GPUs of one daemon."""

    def __init__(
        self,
        database: Database,
        inventory: Inventory,
        gpus: list[Gpu],
        meters: Meters,
        threshold: int,
    ) -> None:
        """`threshold`: MiB that strangers may use on a GPU that is handed out all the same."""
        self._database = database
        self._inventory = inventory
        self._gpus = gpus
        self._meters = meters
        self._threshold = threshold
        self._readings: list[Reading] = []
        self._looked = -math.inf
        self._asks_driver = any(gpu.uuid for gpu in gpus)
        self._off: dict[str, str] = json.loads(database.meta(_OFF) or "{}")
        self._judge()

    @property
    def is_stale(self) -> bool:
        """Whether the driver should be asked before GPUs are handed out."""
        return self._asks_driver and trio.current_time() - self._looked > _FRESH_SECONDS

    async def look(self) -> None:
        """Ask the driver, unless it has just been asked."""
        if not self.is_stale:
            return
        self._readings = await trio.to_thread.run_sync(self._meters.look)
        self._looked = trio.current_time()
        self._judge()

    @property
    def patience(self) -> float:
        """Seconds after which what waits for GPUs should be looked at again, though nothing has changed here."""
        strangers = any(reading.index in self._inventory.out for reading in self._readings)
        return _AGAIN_SECONDS if strangers else math.inf

    def _judge(self) -> None:
        held = {gpu for _, grant in self._inventory.holders() for gpu in grant.gpus}
        off = {gpu.index: self._off[_key(gpu)] for gpu in self._gpus if _key(gpu) in self._off}
        found = out_of_use(off, self._readings, held, self._threshold)
        for index, why in found.items():
            if self._inventory.out.get(index) != why:
                log.warning("a GPU is not handed out", index=index, why=why)
        for index in self._inventory.out.keys() - found.keys():
            log.info("a GPU is handed out again", index=index)
        self._inventory.out = found

    async def take_out(self, indices: list[int], why: str) -> None:
        """Hand these out no more, also after a restart; who has one keeps it. Raises `NotFound`, `StorageFull`."""
        await self._write(self._off | dict.fromkeys(self._keys(indices), why))

    async def bring_back(self, indices: list[int]) -> None:
        """Hand these out again. Raises `NotFound`, `StorageFull`."""
        keys = self._keys(indices)
        await self._write({key: why for key, why in self._off.items() if key not in keys})

    def _keys(self, indices: list[int]) -> list[str]:
        known = {gpu.index: _key(gpu) for gpu in self._gpus}
        for index in indices:
            if index not in known:
                raise NotFound(f"there is no GPU {index}; riseml system info -g shows them")
        return [known[index] for index in indices]

    async def _write(self, off: dict[str, str]) -> None:
        with self._database.transaction():
            self._database.put_meta(_OFF, json.dumps(off) if off else None)
        self._off = off
        self._judge()
        await self._database.sync()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take GPUs out whose faults the driver tells of, until cancelled."""
        task_status.started()
        events = self._meters.faults() if self._asks_driver else None
        while events is not None:
            fault = await trio.to_thread.run_sync(events.wait, _EVENT_MS, abandon_on_cancel=True)
            if fault is None or not is_fault_of_gpu(fault.xid):
                continue
            log.error("a GPU has failed", index=fault.index, xid=fault.xid)
            await self.take_out([fault.index], f"Xid {fault.xid}, see dmesg")


def _key(gpu: Gpu) -> str:
    """What a GPU is known by for ever: the driver may count differently after a boot."""
    return gpu.uuid or str(gpu.index)
