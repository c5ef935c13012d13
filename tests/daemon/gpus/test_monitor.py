"""GPUs that fail, that others use, or that were taken out, are not handed out; and they come back."""

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from rised.gpus.devices import GpuDevice
from rised.gpus.health import explain
from rised.gpus.monitor import GpuMonitor
from rised.gpus.nvml import Nvml
from rised.policy.resources import Inventory, ResourceRequest
from rised.storage.database import Database
from tests.daemon.gpus.fake_nvml import FakeNvml, full

A, B = b"GPU-a", b"GPU-b"


def on(pid: int, mebibytes: int) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=mebibytes << 20)


def make(database: Database, driver: FakeNvml) -> tuple[GpuMonitor, Inventory]:
    gpus = [GpuDevice(0, uuid=A.decode()), GpuDevice(1, uuid=B.decode())]
    inventory = Inventory(4, 1000, (0, 1))
    return GpuMonitor(database, inventory, gpus, Nvml(gpus, driver), 512), inventory


def reasons(monitor: GpuMonitor, inventory: Inventory) -> dict[int, str]:
    assert inventory.unavailable_gpus == monitor.unavailable.keys()
    return {index: explain(why) for index, why in monitor.unavailable.items()}


def test_whoever_uses_more_than_the_threshold_keeps_a_gpu(tmp_path: Any) -> None:
    driver = FakeNvml({A: full(ComputeRunningProcesses=[on(7, 400), on(8, 200)]), B: full()})

    async def main() -> None:
        monitor, inventory = make(Database(str(tmp_path)), driver)
        await monitor.refresh()
        assert reasons(monitor, inventory) == {0: "used by others: 600 MiB (pid 7, 8)"}
        assert inventory.free.gpus == 1
        assert monitor.recheck_after < 60
        assert inventory.allocate("a", ResourceRequest(gpus=1)).gpus == (1,)
        driver.gpus[A]["ComputeRunningProcesses"] = [on(7, 400)]
        driver.gpus[B]["ComputeRunningProcesses"] = [on(9, 30_000)]  # the one that was handed out
        await trio.sleep(2)
        await monitor.refresh()
        assert inventory.unavailable_gpus == set()
        assert monitor.recheck_after > 60

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.2))


def test_memory_that_the_driver_tells_of_no_process_counts_as_a_whole(tmp_path: Any) -> None:
    unknown = SimpleNamespace(pid=7, usedGpuMemory=None)
    driver = FakeNvml({A: full(GraphicsRunningProcesses=[unknown]), B: full()})

    async def main() -> None:
        monitor, inventory = make(Database(str(tmp_path)), driver)
        await monitor.refresh()
        assert reasons(monitor, inventory) == {0: "used by others: 3072 MiB (pid 7)"}

    trio.run(main)


def test_a_gpu_that_does_not_answer_is_not_handed_out(tmp_path: Any) -> None:
    driver = FakeNvml({A: full(lost=True), B: full()})

    async def main() -> None:
        monitor, inventory = make(Database(str(tmp_path)), driver)
        await monitor.refresh()
        assert reasons(monitor, inventory) == {0: "fails: GPU is lost"}

    trio.run(main)


def test_what_was_taken_out_stays_out_after_a_restart_until_it_is_brought_back(
    tmp_path: Any,
) -> None:
    driver = FakeNvml({A: full(), B: full()})

    async def take() -> None:
        database = Database(str(tmp_path))
        async with trio.open_nursery() as nursery:
            await nursery.start(database.run)
            monitor, inventory = make(database, driver)
            inventory.allocate("a", ResourceRequest(gpus=1))
            await monitor.take_out([0, 1], "new fan")
            assert reasons(monitor, inventory) == {0: "taken out: new fan", 1: "taken out: new fan"}
            inventory.release("a")
            assert inventory.free.gpus == 0
            nursery.cancel_scope.cancel()
        database.close()

    async def back() -> None:
        database = Database(str(tmp_path))
        async with trio.open_nursery() as nursery:
            await nursery.start(database.run)
            monitor, inventory = make(database, driver)
            assert inventory.free.gpus == 0
            await monitor.bring_back([1])
            assert inventory.allocate("a", ResourceRequest(gpus=1)).gpus == (1,)
            nursery.cancel_scope.cancel()
        database.close()

    trio.run(take)
    trio.run(back)


def test_a_fault_of_the_gpu_takes_it_out_and_one_of_a_program_does_not(tmp_path: Any) -> None:
    events = iter([(A, 13), (B, 79)])

    class Driver(FakeNvml):
        nvmlEventTypeXidCriticalError = 8  # noqa: N815

        def nvmlEventSetCreate(self) -> str:  # noqa: N802
            return "events"

        def nvmlDeviceRegisterEvents(self, device: bytes, kind: int, at: str) -> None:  # noqa: N802
            self.calls.append(f"{device!r} {kind} {at}")

        def nvmlEventSetWait_v2(self, at: str, milliseconds: int) -> Any:  # noqa: N802
            assert (at, milliseconds > 1000) == ("events", True)
            try:
                device, xid = next(events)
            except StopIteration:
                trio.from_thread.run_sync(scope.cancel)
                raise self.NVMLError("Timeout") from None
            return SimpleNamespace(device=device, eventData=xid)

    scope = trio.CancelScope()

    async def main() -> None:
        database = Database(str(tmp_path))
        monitor, inventory = make(database, Driver({A: full(), B: full()}))
        async with trio.open_nursery() as nursery:
            await nursery.start(database.run)
            with scope:
                await monitor.run()
            assert reasons(monitor, inventory) == {1: "taken out: Xid 79, see dmesg"}
            nursery.cancel_scope.cancel()

    trio.run(main)
