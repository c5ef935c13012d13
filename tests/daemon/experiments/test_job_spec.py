"""What a job is given."""

import os
import pwd

from rised.experiments.job_spec import commands, environment, visible_gpus
from rised.policy.resources import Grant
from tests.daemon.experiments.test_experiment import experiment


def env(some: object, member: int = 0) -> dict[str, str]:
    return environment(
        some,  # type: ignore[arg-type]
        member,
        output_dir="/out",
        data_dir="/data",
        client_dir="/client",
    )


def test_each_later_source_wins_over_the_earlier_ones() -> None:
    some = experiment(2, env="{PATH: /mine, LANG: xx, PYTHONUNBUFFERED: 0}")
    some.config.env["OUTPUT_DIR"] = "/elsewhere"
    given = env(some, 2)
    assert given["PATH"] == "/mine"  # riseml.yml before the submitter's
    assert given["LANG"] == "xx"
    assert given["PYTHONUNBUFFERED"] == "0"
    assert given["N"] == "2"
    assert given["EXPERIMENT_ID"] == "7.2"  # what the daemon says before all others
    assert given["OUTPUT_DIR"] == "/out"
    assert given["DATA_DIR"] == "/data"


def test_the_submitters_path_goes_before_the_daemons() -> None:
    assert env(experiment(0))["PATH"] == "/bin"


def test_the_daemons_own_environment_does_not_leak_into_jobs() -> None:
    os.environ["RISEML_TEST_SECRET"] = "x"
    try:
        assert "RISEML_TEST_SECRET" not in env(experiment(0))
    finally:
        del os.environ["RISEML_TEST_SECRET"]


def test_home_and_name_are_the_submitters_and_no_user_is_no_error() -> None:
    some = experiment(0)
    some.row = some.row._replace(uid=os.getuid())
    assert env(some)["HOME"] == pwd.getpwuid(os.getuid()).pw_dir
    some.row = some.row._replace(uid=2**31 - 7)
    assert "HOME" not in env(some)


def test_without_gpus_all_are_hidden() -> None:
    assert visible_gpus(Grant()) == ""
    assert env(experiment(0))["CUDA_VISIBLE_DEVICES"] == ""


def test_with_gpus_these_are_seen_in_the_order_of_the_bus() -> None:
    assert visible_gpus(Grant(gpus=(0, 2, 10))) == "0,2,10"
    assert env(experiment(0))["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_placeholders_are_replaced_and_unknown_ones_stay() -> None:
    assert commands(experiment(3), 3) == ["x 3"]
    assert commands(experiment(0), 0) == ["x {{n}}"]


def test_the_client_is_found_after_what_the_users_own_pythonpath_names() -> None:
    assert env(experiment(0))["PYTHONPATH"] == "/client"
    assert env(experiment(0, env="{PYTHONPATH: /mine}"))["PYTHONPATH"] == "/mine:/client"


def test_in_a_container_nothing_of_the_hosts_environment_is_left() -> None:
    some = experiment(0)
    some.row = some.row._replace(image="sha256:1")
    given = env(some)
    assert given.keys() & {"PATH", "LANG", "SHELL", "PYTHONPATH", "VIRTUAL_ENV"} == set()
    assert (given["HOME"], given["OUTPUT_DIR"], given["DATA_DIR"]) == ("/code", "/output", "/data")
