"""Quotas as the configuration file has them."""

import pytest
import yaml

from rised.policy.quotas import Quota, Quotas, read
from riseml_proto.errors import InvalidInput

GROUPS = {"students": 100, "staff": 200}


def group_id(name: str) -> int:
    if name not in GROUPS:
        raise InvalidInput(f"there is no group {name!r} here")
    return GROUPS[name]


def quotas(text: str) -> Quotas:
    return read(yaml.safe_load(text), "config.yml: quotas", group_id)


def test_a_users_own_quota_goes_before_the_default_key_by_key() -> None:
    read_quotas = quotas("{default: {gpus: 4, queued: 9}, users: {paul: {gpus: 8}}}")
    assert read_quotas.of("paul", set()) == {"user:paul": Quota(gpus=8, queued=9)}
    assert read_quotas.of("eva", set()) == {"user:eva": Quota(gpus=4, queued=9)}


def test_an_experiment_counts_for_all_groups_of_its_user_that_have_a_quota() -> None:
    read_quotas = quotas("groups: {students: {gpus: 16, disk: 2TiB}, staff: {gpus: 0}}")
    assert read_quotas.of("eva", {100, 300}) == {"group:students": Quota(gpus=16, disk=2 << 20)}
    assert read_quotas.of("eva", {300}) == {}


def test_without_quotas_there_are_no_accounts() -> None:
    assert Quotas().of("paul", {100}) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("3", "must be keys and values, such as default: {gpus: 4}"),
        ("{user: {}}", "user: unknown key; did you mean users?"),
        ("{default: {gpu: 1}}", "default: gpu: unknown key; did you mean gpus?"),
        ("{default: 4}", "default: must be keys and values, such as {gpus: 4}"),
        ("{default: {gpus: -1}}", "default.gpus: must be 0 or more, not -1"),
        ("{default: {gpus: yes}}", "default.gpus: must be a whole number, not True"),
        ("{users: [paul]}", "users: must be keys and values, such as a name and {gpus: 4}"),
        ("{users: {paul: {queued: x}}}", "users.paul.queued: must be a whole number, not 'x'"),
        ("{groups: {nobody: {gpus: 1}}}", "groups: there is no group 'nobody' here"),
    ],
)
def test_what_is_wrong_is_one_error_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        quotas(text)
    assert str(caught.value) == f"config.yml: quotas: {told}"
