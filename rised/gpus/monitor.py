"""Keeps GPUs that fail, that others use, or that an administrator has taken out, from being handed out.

The driver reports faults (Xids) by itself. The processes on a GPU have to be asked for: that is done before GPUs are
handed out, and every few seconds while a job waits for a GPU that others use; at no other time.
"""

import json
import math

import trio

from rised.gpus.devices import GpuDevice
from rised.gpus.health import GpuHealth, Unavailable, explain, is_gpu_fault, unavailable
from rised.gpus.nvml import Nvml
from rised.linux.threads import in_thread
from rised.log import log
from rised.policy.resources import Inventory
from rised.storage.database import Database
from riseml_proto.errors import NotFound

_TAKEN_OUT = "gpus-out"
"""The row of the database's table `meta` in which they are kept."""
_FRESH_SECONDS = 1.0
_RECHECK_SECONDS = 5.0
_EVENT_MS = 60_000
"""How long one wait for an event lasts; another follows at once. It cannot be cancelled, only abandoned."""


class GpuMonitor:
    """Decides for all GPUs of one daemon whether they may be handed out."""

    def __init__(
        self,
        database: Database,
        inventory: Inventory,
        gpus: list[GpuDevice],
        nvml: Nvml,
        foreign_mem: int,
    ) -> None:
        """`foreign_mem`: MiB that others may use on a GPU that is handed out all the same."""
        self._database = database
        self._inventory = inventory
        # By UUID where there is one: the driver may number GPUs differently after a boot.
        self._keys = {gpu.index: gpu.uuid or str(gpu.index) for gpu in gpus}
        self._nvml = nvml
        self._foreign_mem = foreign_mem
        self._readings: list[GpuHealth] = []
        self._read_at = -math.inf
        self._asks_driver = any(gpu.uuid for gpu in gpus)
        self._taken_out: dict[str, str] = json.loads(database.meta.get(_TAKEN_OUT) or "{}")
        self.unavailable: dict[int, Unavailable] = {}
        """Index → why that GPU is not handed out; whoever has it keeps it."""
        self._update()

    @property
    def is_stale(self) -> bool:
        """Whether the driver should be asked before GPUs are handed out."""
        return self._asks_driver and trio.current_time() - self._read_at > _FRESH_SECONDS

    async def refresh(self) -> None:
        """Ask the driver, unless it has just been asked."""
        if not self.is_stale:
            return
        self._readings = await in_thread(self._nvml.health)
        self._read_at = trio.current_time()
        self._update()

    @property
    def recheck_after(self) -> float:
        """Seconds after which whoever waits for a GPU should call `refresh` again; infinite if nothing would change."""
        by_driver = any(gpu.index in self.unavailable for gpu in self._readings)
        return _RECHECK_SECONDS if by_driver else math.inf

    def _update(self) -> None:
        """Decide again, and log what is different."""
        held = {gpu for _, grant in self._inventory.grants() for gpu in grant.gpus}
        taken_out = {
            index: self._taken_out[key]
            for index, key in self._keys.items()
            if key in self._taken_out
        }
        before = self.unavailable
        now = unavailable(taken_out, self._readings, held, self._foreign_mem)
        for index, why in now.items():
            if before.get(index) != why:
                log.warning("a GPU is not handed out", index=index, why=explain(why))
        for index in before.keys() - now.keys():
            log.info("a GPU is handed out again", index=index)
        self.unavailable, self._inventory.unavailable_gpus = now, set(now)

    async def take_out(self, indices: list[int], reason: str) -> None:
        """Hand these out no more, also after a restart; who has one keeps it. Raises `NotFound`, `StorageFull`."""
        await self._write(self._taken_out | dict.fromkeys(self._keys_of(indices), reason))

    async def bring_back(self, indices: list[int]) -> None:
        """Hand these out again. Raises `NotFound`, `StorageFull`."""
        keys = self._keys_of(indices)
        await self._write({key: why for key, why in self._taken_out.items() if key not in keys})

    def _keys_of(self, indices: list[int]) -> list[str]:
        for index in indices:
            if index not in self._keys:
                raise NotFound(f"there is no GPU {index}; riseml system info -g shows them")
        return [self._keys[index] for index in indices]

    async def _write(self, taken_out: dict[str, str]) -> None:
        with self._database.transaction():
            self._database.meta.save(_TAKEN_OUT, json.dumps(taken_out) if taken_out else None)
        self._taken_out = taken_out
        self._update()
        await self._database.sync()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take GPUs out whose faults the driver reports, until cancelled."""
        task_status.started()
        next_event = self._nvml.xid_events() if self._asks_driver else None
        while next_event is not None:
            event = await in_thread(next_event, _EVENT_MS, abandon_on_cancel=True)
            index, xid = event or (None, 0)
            if index is not None and is_gpu_fault(xid):
                log.error("a GPU has failed", index=index, xid=xid)
                await self.take_out([index], f"Xid {xid}, see dmesg")
