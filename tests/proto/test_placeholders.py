from hypothesis import given
from hypothesis import strategies as st

from riseml_proto.placeholders import environment, names, render, variable


def test_a_placeholder_is_replaced_with_and_without_blanks() -> None:
    assert render("x {{lr}} {{ lr }} {{\tlr}}", {"lr": "1e-6"}) == "x 1e-6 1e-6 1e-6"


def test_a_placeholder_that_no_parameter_defines_stays_as_it_is() -> None:
    assert render("{{lr}} {{ layers }}", {"lr": "1"}) == "1 {{ layers }}"


def test_what_looks_like_a_placeholder_in_a_value_stays() -> None:
    assert render("{{a}} {{b}}", {"a": "{{b}}", "b": "{{a}}"}) == "{{b}} {{a}}"


def test_braces_that_are_no_placeholder_stay() -> None:
    for command in ("{lr}", "{{}}", "{{ }}", "{{lr}", "{{l r}}", "awk '{print $1}'", "{{\nlr}}"):
        assert render(command, {"lr": "1"}) == command
        assert names(command) == []


def test_a_placeholder_in_further_braces_is_replaced() -> None:
    assert render("{{{lr}}}", {"lr": "1"}) == "{1}"


def test_names_come_in_order_and_once() -> None:
    assert names("{{b}} {{ a }} {{b}}") == ["b", "a"]


@given(st.text(), st.text(), st.text())
def test_a_value_goes_into_the_command_character_by_character(
    before: str, value: str, after: str
) -> None:
    before, after = before.replace("{", ""), after.replace("{", "").replace("}", "")
    assert render(before + "{{p}}" + after, {"p": value}) == before + value + after


def test_a_parameter_is_a_variable_in_upper_case() -> None:
    assert variable("lr-decay") == "LR_DECAY"
    assert variable("model.width_2") == "MODEL_WIDTH_2"
    assert environment({"lr-decay": "1e-7"}) == {"LR_DECAY": "1e-7"}
