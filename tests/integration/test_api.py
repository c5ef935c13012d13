"""The API as somebody with `curl` and a bad day meets it: every request gets an answer that says what to do."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from box import Box

from riseml_proto import API_VERSION
from riseml_proto.errors import from_code

SET = """\
project: toaster
train:
  parameters:
    lr: [1e-6, 0.10]
    n: [007, 2]
  concurrency: 2
  run: printf 'one\\ntwo %s\\n' {{lr}}
"""
ONE = "project: toaster\ntrain: {run: 'echo hello'}\n"
SLEEP = "project: toaster\ntrain: {run: 'echo ready; exec sleep 1000'}\n"
BLOB = b"hello\n"
OID = hashlib.sha1(b"blob %d\0" % len(BLOB) + BLOB).hexdigest()


class Api:
    """A client without manners."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(box.socket)), base_url="http://rised", timeout=60
        )

    def get(self, path: str, status: int = 200) -> Any:
        reply = self.http.get(path)
        assert reply.status_code == status, reply.text
        assert reply.headers["Rised-Api"] == str(API_VERSION)
        return reply.json()

    def post(self, path: str, body: object, status: int = 200) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body)
        reply = self.http.post(path, content=content)
        assert reply.status_code == status, reply.text
        assert reply.headers["Rised-Api"] == str(API_VERSION)
        return reply.json()

    def stream(self, path: str) -> list[dict[str, Any]]:
        reply = self.http.get(path)
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.text.splitlines()]

    def revision(self, project: str = "toaster") -> str:
        self.http.post(f"/v1/objects?project={project}", content=frame(BLOB))
        manifest = {"project": project, "files": [["hello", 0o100644, len(BLOB), OID]]}
        return str(self.post("/v1/revisions", manifest)["revision"])

    def submit(self, config: str, status: int = 200, **more: object) -> Any:
        asked = {"config": config, "revision": self.revision(), **more}
        return self.post("/v1/experiments", asked, status)

    def ended(self, config: str) -> str:
        """Submit and wait for the end; the ID."""
        number = str(self.submit(config)["id"])
        self.stream(f"/v1/experiments/{number}/logs?follow=true")
        return number


def frame(blob: bytes) -> bytes:
    oid = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
    return f"{oid} {len(blob)}\n".encode() + blob


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One daemon for all tests of this file: what one of them does must not matter to another."""
    box = Box(tmp_path_factory.mktemp("box"), gpus=4, cpus=8, mem=32768)
    box.start()
    made = Api(box)
    yield made
    made.http.close()
    box.close()


def check(problem: dict[str, str], code: str, *texts: str) -> None:
    """It is of that class, and says what is wrong and what to do."""
    assert problem.keys() == {"error", "code"}
    assert problem["code"] == code
    assert type(from_code(code, "")).code == code
    assert not problem["error"].endswith(".")
    for text in texts:
        assert text in problem["error"], problem["error"]


# The machine, and who asks


def test_the_machine_is_described(api: Api) -> None:
    system = api.get("/v1/system")
    assert system["api_version"] == API_VERSION
    assert system["pid"] == api.box.daemon.pid  # type: ignore[union-attr]
    assert system["cpus"]["total"] == 8
    assert system["memory"]["total"] == 32768
    assert [gpu["index"] for gpu in system["gpus"]] == [0, 1, 2, 3]
    assert system["state_dir"] == str(api.box.state)


def test_who_asks_is_what_the_kernel_says(api: Api) -> None:
    assert api.get("/v1/whoami?user=paul&uid=7")["uid"] == os.getuid()


# What is not there


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/system", "/v1/system/", "/v1/experiments/1/x", "/v1//system"]
)
def test_a_path_that_is_not_there_is_said_to_be_none(api: Api, path: str) -> None:
    check(api.get(path, 404), "not-found", path)


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("POST", "/v1/system", "GET"),
        ("DELETE", "/v1/experiments", "GET or POST"),
        ("GET", "/v1/kill", "POST"),
        ("PUT", "/v1/experiments/1", "GET"),
        ("OPTIONS", "/v1/logs", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    api: Api, method: str, path: str, right: str
) -> None:
    reply = api.http.request(method, path)
    assert reply.status_code == 405
    check(reply.json(), "invalid", f"takes {right}, not {method}")


@pytest.mark.parametrize(
    "path", ["/v1/experiments/99", "/v1/experiments/99.1", "/v1/experiments/99/logs"]
)
def test_an_experiment_that_is_not_there_is_said_to_be_none(api: Api, path: str) -> None:
    check(api.get(path, 404), "not-found", "no experiment 99", "riseml status -a")


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "1.0", "1.train.0.0", "1..2", "%00", "1e3.", "٣", "9" * 400, "1.nonsense", "a b"],
)
def test_a_malformed_id_is_told_what_ids_look_like(api: Api, text: str) -> None:
    check(api.get(f"/v1/experiments/{text}", 400), "invalid-id", "144.2")
    check(api.get(f"/v1/experiments/{text}/logs", 400), "invalid-id", "144.2")
    if text != "%00":
        check(api.post("/v1/kill", {"ids": [text]}, 400), "invalid-id", "144.2")
        check(api.post("/v1/logs", {"id": text}, 400), "invalid-id", "144.2")


def test_a_user_alone_is_no_experiment(api: Api) -> None:
    check(api.get("/v1/experiments/daemon", 400), "invalid", "daemon.144")
    check(api.get("/v1/experiments/nobodys", 404), "not-found", "there is no user 'nobodys'")
    check(api.get("/v1/experiments?user=%00", 404), "not-found", "there is no user")


# Taking in files


def test_a_revision_is_asked_for_what_it_lacks_and_then_made(api: Api) -> None:
    blob = b"lacking\n"
    oid = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
    manifest = {"project": "lacks", "files": [["a/b c", 0o100755, len(blob), oid]]}
    assert api.post("/v1/revisions", manifest) == {"revision": None, "missing": [oid]}
    assert api.post("/v1/objects?project=lacks", frame(blob)) == {"received": 1}
    first = api.post("/v1/revisions", manifest)
    assert first["missing"] == []
    assert api.post("/v1/revisions", manifest) == first


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a//b", "a/./b", ".git/config", "a/.GIT/x", "", "a%00b", "%zz"]
)
def test_a_path_that_leaves_the_project_is_refused(api: Api, path: str) -> None:
    manifest = {"project": "toaster", "files": [[path, 0o100644, len(BLOB), OID]]}
    check(api.post("/v1/revisions", manifest, 422), "sync")


@pytest.mark.parametrize(
    "file",
    [
        ["x", 0o120777, 1, OID],
        ["x", 0o100600, 1, OID],
        ["x", 0o100644, -1, OID],
        ["x", 0o100644, 1, "../../../etc/passwd"],
        ["x", 0o100644, 1, OID.upper()],
    ],
)
def test_a_file_that_can_be_in_no_revision_is_refused(api: Api, file: list[object]) -> None:
    check(api.post("/v1/revisions", {"project": "toaster", "files": [file]}, 422), "sync", "x")


def test_a_project_larger_than_allowed_is_told_how_to_ignore_files(api: Api) -> None:
    manifest = {"project": "toaster", "files": [["x", 0o100644, 1 << 62, OID]]}
    check(
        api.post("/v1/revisions", manifest, 422),
        "sync",
        "4,611,686,018,427,387,904",
        ".risemlignore",
    )


def test_a_file_and_a_directory_of_one_name_are_refused(api: Api) -> None:
    files = [[path, 0o100644, len(BLOB), OID] for path in ("a", "a/b")]
    check(api.post("/v1/revisions", {"project": "toaster", "files": files}, 422), "sync", "a")
    files = [["a", 0o100644, len(BLOB), OID]] * 2
    check(api.post("/v1/revisions", {"project": "toaster", "files": files}, 422), "sync", "a")


@pytest.mark.parametrize("project", ["..", "", "a/b", "a\0b", "a" * 300, ".git"])
def test_a_project_that_could_be_no_directory_is_refused(api: Api, project: str) -> None:
    before = sorted(path for path, _, _ in os.walk(api.box.state))
    check(api.post("/v1/revisions", {"project": project, "files": []}, 400), "invalid")
    quoted = str(httpx.QueryParams({"project": project}))
    check(api.post(f"/v1/objects?{quoted}", b"", 400), "invalid")
    assert sorted(path for path, _, _ in os.walk(api.box.state)) == before


def test_objects_need_a_project(api: Api) -> None:
    check(api.post("/v1/objects", frame(BLOB), 400), "invalid", "?project=NAME")


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"nonsense\n",
        OID.encode() + b" 6\nhel",
        OID.encode() + b" 6\nhallo\n",
        OID.encode() + b" -6\n",
        OID.encode() + b" 99999999999999\n",
        b"../../../../etc/passwd 6\nhello\n",
        frame(BLOB) + b"\n",
    ],
)
def test_an_upload_that_is_not_what_it_says_is_refused(api: Api, body: bytes) -> None:
    check(api.post("/v1/objects?project=toaster", body, 422), "sync")


# Starting experiments


def test_an_experiment_runs_to_its_end(api: Api) -> None:
    number = api.ended(ONE)
    found = api.get(f"/v1/experiments/{number}")
    assert found["state"] == "FINISHED"
    assert found["type"] == "Experiment"
    assert found["counts"] == {"FINISHED": 1}
    (member,) = found["experiments"]
    assert (member["exit_code"], member["reason"], member["params"]) == (0, "COMPLETED", {})


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ("", "riseml.yml"),
        ("a: [", "riseml.yml:2"),
        ("project: a\ntrain:\n  run: x\n  what: 1\n", "riseml.yml:4: train.what"),
        (
            "project: a\ntrain:\n  run: x\n  resources: {gpus: -1}\n",
            "riseml.yml:4: train.resources.gpus",
        ),
        (
            "project: a\ntrain:\n  run: x\n  parameters: {n: []}\n",
            "riseml.yml:4: train.parameters.n",
        ),
        ("project: ../a\ntrain: {run: x}\n", "riseml.yml:1: project"),
        ("project: a\ntrain: {run: x}\n" + "a: &a [*a]\n", "riseml.yml:3"),
        ("\0", "riseml.yml"),
        ("[" * 100_000, "riseml.yml"),
    ],
)
def test_a_wrong_configuration_is_told_file_line_and_path(
    api: Api, config: str, place: str
) -> None:
    check(api.submit(config, 422), "config", place)


def test_the_file_is_called_what_the_client_calls_it(api: Api) -> None:
    check(api.submit("x: 1", 422, config_file="conf/a.yml"), "config", "conf/a.yml:1")


def test_a_revision_that_is_not_there_is_refused(api: Api) -> None:
    for revision in ("0" * 40, OID, "HEAD", "../x", "", "\0", "a" * 10_000):
        asked = {"config": ONE, "revision": revision}
        check(api.post("/v1/experiments", asked, 404), "not-found", "revision")


def test_a_project_without_files_is_said_to_need_a_sync(api: Api) -> None:
    asked = {"config": ONE.replace("toaster", "unheard-of"), "revision": api.revision()}
    check(api.post("/v1/experiments", asked, 404), "not-found", "unheard-of", "sync")


@pytest.mark.parametrize(
    ("resources", "wanted", "there"),
    [("gpus: 5", "5 GPU", "4"), ("cpus: 9", "9 CPU", "8"), ("mem: 33GiB", "33792", "32768")],
)
def test_what_can_never_fit_is_refused_with_the_numbers(
    api: Api, resources: str, wanted: str, there: str
) -> None:
    config = f"project: toaster\ntrain: {{run: x, resources: {{{resources}}}}}\n"
    check(api.submit(config, 422), "unsatisfiable", "train.resources", wanted, there)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "path", "", "PATH=x", "A\0B"])
def test_no_other_variable_comes_from_the_submitter(api: Api, name: str) -> None:
    check(api.submit(ONE, 400, env={name: "x"}), "invalid", "env")


def test_a_variable_that_no_process_can_have_is_refused(api: Api) -> None:
    check(api.submit(ONE, 400, env={"PATH": "a\0b"}), "invalid", "NUL")
    check(api.submit('project: a\ntrain: {run: "echo \\0"}\n', 422), "config", "riseml.yml:2")


def test_a_strict_submission_refuses_unknown_placeholders_and_another_warns(api: Api) -> None:
    config = "project: toaster\ntrain:\n  parameters: {rate: [1]}\n  run: echo {{rat}}\n"
    check(api.submit(config, 422, strict=True), "config", "riseml.yml:4", "rat")
    (warning,) = api.submit(config)["warnings"]
    assert "rat" in warning


def test_who_submits_cannot_be_forged(api: Api) -> None:
    for field in ("user", "uid", "id", "created_ms", "members"):
        check(api.submit(ONE, 400, **{field: "root"}), "invalid", field)
    for header in ("X-User", "Authorization", "X-Forwarded-User", "Remote-User"):
        reply = api.http.get("/v1/whoami", headers={header: "paul"})
        assert reply.json()["uid"] == os.getuid()


# Looking


def test_one_experiment_has_the_keys_that_programs_rely_on(api: Api) -> None:
    number = api.ended(SET)
    keys = ["id", "type", "state", "project", "user", "revision", "created_at", "counts", "gpus"]
    found: Any = api.box.json("status", number)
    assert list(found) == [*keys, "experiments", "tensorboard_problem"]
    assert found["counts"] == {"FINISHED": 4}
    assert [m["params"] for m in found["experiments"]] == [
        {"lr": lr, "n": n} for lr in ("1e-6", "0.10") for n in ("007", "2")
    ]
    for number_, member in enumerate(found["experiments"], 1):
        assert list(member) == [
            "id", "state", "params", "gpus", "exit_code", "reason", "started_at", "ended_at",
            "results", "waits_for",
        ]  # fmt: skip
        assert member["id"] == f"{number}.{number_}"
    (listed,) = [each for each in api.box.json("status", "-a") if each["id"] == number]  # type: ignore[attr-defined]
    assert list(listed) == keys
    assert listed == {key: found[key] for key in keys}


def test_ended_experiments_are_listed_only_where_asked_for(api: Api) -> None:
    number = api.ended(ONE)
    assert number not in [each["id"] for each in api.get("/v1/experiments")]
    assert number in [each["id"] for each in api.get("/v1/experiments?all=true")]
    check(api.get("/v1/experiments?all=perhaps", 400), "invalid", "?all=", "perhaps")


def test_every_canonical_form_of_an_id_is_understood(api: Api) -> None:
    number, user = api.ended(SET), api.get("/v1/whoami")["user"]
    for text in (number, f"{user}.{number}"):
        assert api.get(f"/v1/experiments/{text}")["id"] == number
        assert len(api.get(f"/v1/experiments/{text}")["experiments"]) == 4
    for text in (
        f"{number}.2",
        f"{number}.2.train",
        f"{user}.{number}.2.train",
        f"{number}.2.train.1",
    ):
        (member,) = api.get(f"/v1/experiments/{text}")["experiments"]
        assert member["id"] == f"{number}.2"
        lines = [e for e in api.stream(f"/v1/experiments/{text}/logs") if e["type"] == "line"]
        assert [line["text"] for line in lines] == ["one", "two 1e-6"]
        assert {line["job"] for line in lines} == {f"{number}.2.train"}
    check(api.get(f"/v1/experiments/nobody.{number}", 404), "not-found", "nobody")
    check(api.get(f"/v1/experiments/{number}.5", 404), "not-found", "4 sub-experiments")
    check(api.get(f"/v1/experiments/{number}.build/logs", 404), "not-found", "build")
    one = api.ended(ONE)
    check(api.get(f"/v1/experiments/{one}.1", 404), "not-found", "no sub-experiments")


def test_a_limit_shows_so_many_around_the_first_unfinished(api: Api) -> None:
    number = api.ended(SET)
    assert len(api.get(f"/v1/experiments/{number}?limit=2")["experiments"]) == 2
    assert api.get(f"/v1/experiments/{number}?limit=0")["experiments"] == []
    assert len(api.get(f"/v1/experiments/{number}?limit=9")["experiments"]) == 4
    for limit in ("-1", "x", "", "1e3", "٣", "9" * 30):
        check(api.get(f"/v1/experiments/{number}?limit={limit}", 400), "invalid", "?limit=")


def test_a_log_can_be_asked_for_in_every_way(api: Api) -> None:
    number = api.ended(SET)
    everything = api.stream(f"/v1/experiments/{number}/logs")
    assert everything[0] == {"type": "head", "id": number, "count": 4}
    assert everything[-1] == {"type": "end", "state": "FINISHED", "counts": {"FINISHED": 4}}
    assert sum(entry["type"] == "line" for entry in everything) == 8
    tail = api.stream(f"/v1/experiments/{number}/logs?tail=3")
    assert sum(entry["type"] == "line" for entry in tail) == 3
    future = api.stream(f"/v1/experiments/{number}/logs?since=2999-01-01T00:00:00Z")
    assert not any(entry["type"] == "line" for entry in future)
    raw = api.http.get(f"/v1/experiments/{number}.3/logs?raw=true")
    assert raw.content == b"one\ntwo 0.10\n"
    assert raw.headers["Content-Type"] == "application/octet-stream"
    check(api.get(f"/v1/experiments/{number}/logs?raw=true", 400), "invalid", f"{number}.1")
    for query in ("tail=x", "tail=-1", "since=yesterday", "follow=perhaps", "raw=1"):
        check(
            api.get(f"/v1/experiments/{number}/logs?{query}", 400), "invalid", query.split("=")[0]
        )


@pytest.mark.parametrize(
    "asked",
    [
        {"tail": -1},
        {"tail": 1 << 70},
        {"after": -1},
        {"after": 1 << 62},
        {"after": 1 << 70},
        {"offsets": {"nonsense": 3}},
        {"offsets": {"1.train/1": -3}},
        {"offsets": {"1.train/1": 1 << 62}},
        {"since": "0001-01-01T00:00:00Z"},
        {"since": "9999-12-31T23:59:59Z"},
        {"since": "2017-08-30T09:59:06"},
    ],
)
def test_odd_places_to_resume_at_end_the_stream_or_are_refused(
    api: Api, asked: dict[str, Any]
) -> None:
    number = api.ended(ONE)
    asked = {
        **asked,
        "offsets": {k.replace("1.", number + "."): v for k, v in asked.get("offsets", {}).items()},
    }
    reply = api.http.post("/v1/logs", json={"id": number, **asked})
    if reply.status_code != 200:
        assert reply.status_code == 400
        check(reply.json(), "invalid")
    else:
        assert json.loads(reply.text.splitlines()[-1])["type"] == "end"


# Killing


def test_a_kill_says_what_it_ended_and_what_had_ended(api: Api) -> None:
    ended, running = api.ended(ONE), str(api.submit(SLEEP)["id"])
    answer = api.post("/v1/kill", {"ids": [running, ended], "force": True})
    assert answer == {"killed": [running], "ended": [ended]}
    assert api.get(f"/v1/experiments/{running}")["state"] == "KILLED"


def test_nothing_is_killed_where_one_id_is_wrong(api: Api) -> None:
    running = str(api.submit(SLEEP)["id"])
    for wrong in ("4711", f"{running}.build"):
        check(api.post("/v1/kill", {"ids": [running, wrong]}, 404), "not-found", wrong)
    assert api.get(f"/v1/experiments/{running}")["state"] in ("PENDING", "STARTING", "RUNNING")
    api.post("/v1/kill", {"ids": [running] * 3, "force": True})


def test_a_kill_of_the_last_one_needs_one(api: Api) -> None:
    asked = {"ids": [], "project": "never-heard-of"}
    check(api.post("/v1/kill", asked, 404), "not-found", "never-heard-of", "riseml train")


# At last


def test_what_a_daemon_met_here_has_left_no_fault_in_its_log(api: Api) -> None:
    assert "level=error" not in api.box.log.read_text()


def test_a_daemon_that_ignores_images_says_so(make_box: Callable[..., Box]) -> None:
    box = make_box(runner="process")
    box.start()
    api = Api(box)
    config = "project: toaster\ntrain: {run: echo hello, image: 'pytorch/pytorch'}\n"
    submitted = api.submit(config)
    assert any("pytorch/pytorch is ignored" in warning for warning in submitted["warnings"])
    entries = api.stream(f"/v1/experiments/{submitted['id']}/logs?follow=true")
    lines = [entry["text"] for entry in entries if entry["type"] == "line"]
    assert lines == ["rised: image pytorch/pytorch is ignored: jobs are processes here", "hello"]
    api.http.close()


def test_a_time_without_a_zone_is_utc_wherever_the_daemon_is(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.start(env={"TZ": "WEST+5"})
    api = Api(box)
    number = api.ended(ONE)
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    entries = api.stream(f"/v1/experiments/{number}/logs?since={hour_ago}")
    assert [entry["text"] for entry in entries if entry["type"] == "line"] == ["hello"]
    api.http.close()
