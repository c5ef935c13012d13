"""Show the machine and how much of it is handed out; remove images; let nothing new start.

`riseml system info` shows CPUs, memory, GPUs and their memory, each as handed out/there.

    NODE  CPU  MEM          GPU GPU MEM
    box   4/16 8.0/62.8 GiB 2/4 160.0/320.0 GiB
    TOTAL 4/16 8.0/62.8 GiB 2/4 160.0/320.0 GiB

With `-g` it shows every GPU with its driver, memory, serial number, the sub-experiment that it is handed
to, and why it is out of use if it is.

`riseml system drain`, for administrators before work on the machine, lets nothing new start, also when
the daemon or the machine starts again. What runs goes on, what is submitted waits, and those who wait
are told the reason. `riseml system undrain` lets it start. With `--gpu N`, only this GPU is handed out
no more, or again; who has it keeps it.

`riseml system prune` removes the images that were built for experiments that have ended and whose output
directories are gone.
"""

import argparse

from riseml.commands import add_json, show
from riseml.table import render
from riseml.transport.daemon import connect
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Amount, Drain, Drained, Gpu, Prune, Pruned, System


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["info", "prune", "drain", "undrain"],
        metavar="info|prune|drain|undrain",
        help="show the machine, remove unused images, start nothing new, or start again",
    )
    parser.add_argument("--reason", metavar="TEXT", help="with drain: what those who wait are told")
    parser.add_argument(
        "--gpu",
        type=int,
        action="append",
        metavar="N",
        help="with drain or undrain: this GPU alone; may be given again",
    )
    parser.add_argument(
        "-l",
        "--long",
        action="store_true",
        help="with info: the daemon's version, settings and directories, too",
    )
    parser.add_argument("-g", "--gpus", action="store_true", help="with info: the GPUs, one by one")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.reason is not None and args.action != "drain":
        raise InvalidInput("--reason says why nothing starts; say it with riseml system drain")
    if args.gpu and args.action not in ("drain", "undrain"):
        raise InvalidInput("--gpu names a GPU for riseml system drain or undrain")
    if args.action == "prune":
        return _prune(args)
    if args.action != "info":
        return _drain(args)
    with connect(args.host) as client:
        system = client.get("/v1/system", System)
    blocks = [gpus(system.gpus)] if args.gpus else [node(system)]
    if args.long:
        blocks.insert(0, settings(system))
    if system.drained is not None:
        blocks.append(["The server is drained" + (f": {system.drained}" if system.drained else "")])
    return show(args, system, ["\n\n".join("\n".join(block) for block in blocks)])


def _drain(args: argparse.Namespace) -> int:
    request = Drain(drained=args.action == "drain", reason=args.reason or "", gpus=args.gpu or [])
    with connect(args.host) as client:
        answer = client.post("/v1/drain", request, Drained)
    if answer.gpus:
        names = "GPU" + "s" * (len(answer.gpus) > 1) + f" {', '.join(map(str, answer.gpus))}"
        how = "out of use; who has one keeps it" if answer.drained else "in use again"
        text = f"{names}: {how}"
    elif answer.drained:
        text = "nothing new starts until riseml system undrain; what runs goes on"
    else:
        text = "what waits may start again"
    return show(args, answer, [text])


def _prune(args: argparse.Namespace) -> int:
    with connect(args.host) as client:
        pruned = client.post("/v1/prune", Prune(), Pruned, patient=True)
    lines = [f"removed image {image.removeprefix('sha256:')[:12]}" for image in pruned.images]
    return show(args, pruned, lines or ["nothing to remove"])


def node(system: System) -> list[str]:
    """A table with the machine's line and the total, which are the same while there is one machine."""
    taken = [gpu for gpu in system.gpus if gpu.used_by]
    amounts = [
        f"{system.cpus.used:g}/{system.cpus.total:g}",
        _mebibytes(system.memory),
        f"{len(taken)}/{len(system.gpus)}",
        _mebibytes(Amount(used=_memory(taken), total=_memory(system.gpus))),
    ]
    titles = "NODE", "CPU", "MEM", "GPU", "GPU MEM"
    return render(titles, [[system.hostname, *amounts], ["TOTAL", *amounts]])


def gpus(devices: list[Gpu]) -> list[str]:
    """A table with a line per GPU, with `-` for a value that the driver does not have."""
    titles = "GPU", "NAME", "MEM", "DRIVER", "SERIAL", "BUS ID", "USED BY", "STATE"
    rows = [
        [
            str(gpu.index),
            gpu.name or "-",
            "-" if gpu.memory is None else f"{gpu.memory / 1024:.1f} GiB",
            gpu.driver or "-",
            gpu.serial or "-",
            gpu.bus_id or "-",
            " ".join(filter(None, (gpu.used_by, gpu.user))) or "-",
            gpu.out or ("in use" if gpu.used_by else "free"),
        ]
        for gpu in devices
    ]
    return render(titles, rows)


def settings(system: System) -> list[str]:
    """The daemon's version and pid, its settings and its directories."""
    return [
        f"Version: {system.version} (API {system.api_version})",
        f"PID: {system.pid}",
        f"Runner: {system.runner}",
        f"Isolation: {system.isolation}",
        f"State: {system.state_dir}",
        f"Output: {system.output_dir}",
        f"Data: {system.data_dir}",
        f"Largest project: {system.max_files:,} files, {system.max_bytes / 1024**2:,.0f} MiB",
    ]


def _memory(devices: list[Gpu]) -> float:
    return sum(gpu.memory or 0 for gpu in devices)


def _mebibytes(amount: Amount) -> str:
    return f"{amount.used / 1024:.1f}/{amount.total / 1024:.1f} GiB"
