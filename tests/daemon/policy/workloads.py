"""Queues and machines of every kind that hypothesis can think of."""

from hypothesis import strategies as st

from rised.policy.queue import Decision
from rised.policy.resources import Capacity, ResourceRequest
from rised.policy.workload import Machine, Running, Waiting

requests = st.builds(
    ResourceRequest,
    cpus=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    mem=st.sampled_from([0, 0, 100]),
    gpus=st.integers(0, 4),
)


capacities = st.builds(
    Capacity,
    cpus=st.sampled_from([0.0, 1.0, 4.0]),
    mem=st.sampled_from([0, 100, 5000]),
    gpus=st.integers(0, 6),
)


times = st.one_of(st.none(), st.sampled_from([0.0, 50.0, 100.0, 100.0, 300.0]))


users = st.integers(1, 4)


@st.composite
def waiting_lists(draw: st.DrawFn) -> list[Waiting]:
    made = draw(
        st.lists(
            st.tuples(
                requests,
                st.integers(1, 4),
                users,
                st.integers(-2, 2),
                times,
                st.booleans(),
                st.sampled_from([False, False, False, True]),
            ),
            max_size=10,
        )
    )
    return [
        Waiting(
            n,
            request,
            slots,
            user,
            (f"user:{user}", "group:g") if in_group else (f"user:{user}",),
            priority,
            max_runtime,
            paused,
        )
        for n, (request, slots, user, priority, max_runtime, in_group, paused) in enumerate(made)
    ]


machines = st.builds(
    Machine,
    free=capacities,
    now=st.just(0.0),
    running=st.lists(st.builds(Running, requests, times), max_size=6),
    usage=st.dictionaries(users, st.sampled_from([1.0, 60.0, 500.0])),
    gpu_quotas=st.dictionaries(st.sampled_from(["user:1", "user:2", "group:g"]), st.integers(0, 6)),
    gpus_held=st.dictionaries(st.sampled_from(["user:1", "user:2", "group:g"]), st.integers(0, 4)),
    reserved_user=st.one_of(st.none(), users),
    drained=st.none(),
)


def taken_by(waiting: list[Waiting], decision: Decision) -> list[tuple[Waiting, int]]:
    return [(entry, decision.start.get(entry.experiment, 0)) for entry in waiting]


def gpu_job(number: int, gpus: int, user: int = 1, max_runtime: float | None = None) -> Waiting:
    return Waiting(number, ResourceRequest(gpus=gpus), 1, user, max_runtime=max_runtime)
