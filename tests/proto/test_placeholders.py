import re
import shutil
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from riseml_proto.placeholders import environment, names, render
from riseml_proto.variables import variable

# A shell takes neither NUL nor the ends of lines within $(…); the rest of what a value may hold is here.
VALUE = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\"'$`\\\\!#*(){}<>|&; \t")
).filter(lambda text: text != "E" and "{{" not in text)
SHELLS = [shell for name in ("sh", "bash") if (shell := shutil.which(name))]
QUOTED = """
# it's a comment (that opens nothing
: `echo "x"` $(echo "y'" ')') ${HOME:-"}"} \\" \\'
printf '%s\\0' "{{a}}" '{{b}}' "$(printf %s "{{c}}.")" 'a'"{{a}}"'{{b}}'
cat <<'TEXT'
it's {{a}} "
TEXT
cat <<TEXT
{{b}}"
TEXT
printf '%s' "{{c}}"
"""


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
def test_a_bare_value_goes_into_the_command_character_by_character(
    before: str, value: str, after: str
) -> None:
    before = re.sub("[{'\"`#$(<\\\\]", "", before)
    after = after.replace("{", "").replace("}", "")
    assert render(before + "{{p}}" + after, {"p": value}) == before + value + after


@given(st.lists(VALUE, min_size=3, max_size=3), st.sampled_from(SHELLS))
def test_between_quotes_a_value_reaches_the_program_as_it_was_written(
    values: list[str], shell: str
) -> None:
    a, b, c = values
    written = render(QUOTED, {"a": a, "b": b, "c": c})
    output = subprocess.run([shell, "-c", written], stdout=subprocess.PIPE, check=True).stdout
    assert output == f'{a}\0{b}\0{c}.\0a{a}{b}\0it\'s {a} "\n{b}"\n{c}'.encode()


def test_a_script_of_another_interpreter_gets_values_as_they_are() -> None:
    assert render("#!/usr/bin/python3\nprint('{{a}}')", {"a": "it's"}).endswith("print('it's')")


def test_a_parameter_is_a_variable_in_upper_case() -> None:
    assert variable("lr-decay") == "LR_DECAY"
    assert variable("model.width_2") == "MODEL_WIDTH_2"
    assert environment({"lr-decay": "1e-7"}) == {"LR_DECAY": "1e-7"}
