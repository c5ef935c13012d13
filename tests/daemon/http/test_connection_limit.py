"""Room for connections: for everybody some, for nobody all."""

from contextlib import ExitStack

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from rised.http.connection_limit import ConnectionLimiter


def test_who_keeps_all_places_busy_loses_the_newest_to_somebody_else() -> None:
    async def main() -> None:
        room, cut = ConnectionLimiter(3), []

        async def follow(uid: int, number: int, ready: trio.Event) -> None:
            with room.slot(uid) as admitted:
                ready.set()
                assert admitted
                await trio.Event().wait()
            cut.append((uid, number))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                ready = trio.Event()
                nursery.start_soon(follow, 1, number, ready)
                await ready.wait()
            with room.slot(1) as more:
                assert not more
            with room.slot(2) as other:
                assert other
                await trio.testing.wait_all_tasks_blocked()
                assert cut == [(1, 2)]
            nursery.cancel_scope.cancel()

    trio.run(main)


@given(st.lists(st.integers(1, 4), max_size=30), st.integers(1, 8))
def test_whoever_has_fewer_places_than_another_gets_one(comers: list[int], limit: int) -> None:
    async def main() -> None:
        room = ConnectionLimiter(limit)
        held: dict[int, int] = {}
        with ExitStack() as stack:
            for uid in comers:
                full, most = sum(held.values()) >= limit, max(held.values(), default=0)
                admitted = stack.enter_context(room.slot(uid))
                assert admitted or (full and held.get(uid, 0) + 1 >= most)
                if admitted and full:
                    loser = max(held, key=lambda user: held[user])
                    held[loser] -= 1
                if admitted:
                    held[uid] = held.get(uid, 0) + 1

    trio.run(main)
