import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml_proto.errors import InvalidId
from riseml_proto.ids import (
    JOB_TYPES,
    CanonicalId,
    column_width,
    experiment_id,
    job_id,
    parse,
    readings,
)

NUMBERS = st.integers(1, 10**15 - 1)
USERS = st.from_regex(r"\A[a-z_][a-z0-9_-]{0,30}\Z")
IDS = st.one_of(
    st.builds(
        lambda experiment, member, job, number, user: CanonicalId(
            experiment, member, job, number if job else None, user
        ),
        NUMBERS,
        st.none() | NUMBERS,
        st.none() | st.sampled_from(JOB_TYPES),
        st.none() | NUMBERS,
        st.none() | USERS,
    ),
    st.builds(lambda user: CanonicalId(None, user=user), USERS),
)


@given(IDS)
def test_an_id_reads_back_as_itself(canonical: CanonicalId) -> None:
    assert parse(str(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("144", CanonicalId(144)),
        ("144.2", CanonicalId(144, 2)),
        ("144.2.train", CanonicalId(144, 2, "train")),
        ("144.build", CanonicalId(144, None, "build")),
        ("paul.18.1.worker.3", CanonicalId(18, 1, "worker", 3, "paul")),
        ("paul", CanonicalId(None, user="paul")),
        ("paul.144", CanonicalId(144, user="paul")),
        ("j.doe.144.2", CanonicalId(144, 2, user="j.doe")),
    ],
)
def test_every_canonical_form_is_read(text: str, canonical: CanonicalId) -> None:
    assert parse(text) == canonical


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("91234567", [CanonicalId(91234567), CanonicalId(None, user="91234567")]),
        ("91234567.1", [CanonicalId(91234567, 1), CanonicalId(1, user="91234567")]),
        ("144.2.3", [CanonicalId(2, 3, user="144")]),
        ("91234567.1.2.train", [CanonicalId(1, 2, "train", user="91234567")]),
        ("LAB\\paul.144.2", [CanonicalId(144, 2, user="LAB\\paul")]),
        ("LAB\\paul", [CanonicalId(None, user="LAB\\paul")]),
        ("paul@lab.example.144", [CanonicalId(144, user="paul@lab.example")]),
        ("1abc.144", [CanonicalId(144, user="1abc")]),
    ],
)
def test_a_users_name_may_be_a_number_or_hold_a_domain(
    text: str, expected: list[CanonicalId]
) -> None:
    assert readings(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "0", "144.0", "144.", ".144", "144..2", "144.bake", "144 ", "1\n"),
        *("-1", "+1", "144.2.train.x", "\u0661", "9" * 16, "a/b", "../144"),
    ],
)
def test_what_is_no_id_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidId, match=r"IDs look like 144, 144\.2 or 144\.2\.train$"):
        parse(text)


def test_member_0_stands_for_an_experiment_that_is_no_set() -> None:
    assert (experiment_id(144, 0), job_id(144, 0, "train")) == ("144", "144.train")
    assert (experiment_id(144, 2), job_id(144, 2, "train")) == ("144.2", "144.2.train")


def test_the_id_column_is_as_wide_as_in_the_seed() -> None:
    assert column_width(144, 8) == len("144             ")
    assert column_width(1, 1_000_000) == len("1.1000000.train ")
