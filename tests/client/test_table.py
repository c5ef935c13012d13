"""Tables."""

from riseml.table import AGE, STATE, render
from riseml_proto.states import State

COLUMNS = ["ID", "PROJECT", STATE, AGE, "TYPE"]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [["144", "ai-toaster", "RUNNING", "8 second(s)", "Set"]]
    assert render(COLUMNS, rows) == [
        "ID  PROJECT    STATE     AGE           TYPE",
        "144 ai-toaster RUNNING   8 second(s)   Set",
    ]


def test_a_table_keeps_its_shape_while_things_move_on() -> None:
    early = render(COLUMNS, [["144", "x", "CREATED", "1 day(s)", "Set"]])
    late = render(COLUMNS, [["144", "x", "FINISHED", "59 second(s)", "Set"]])
    assert early[0] == late[0]


def test_without_rows_there_are_the_titles() -> None:
    assert render(COLUMNS, []) == ["ID PROJECT STATE     AGE           TYPE"]


def test_the_last_column_is_cut_where_the_screen_ends() -> None:
    lines = render(["ID", "PARAMS"], [["144.1", "epochs=20"]], width=10)
    assert lines == ["ID    PAR…", "144.1 epo…"]


def test_only_the_state_is_coloured_and_the_columns_stay() -> None:
    rows = [["144", "x", State.FAILED, "1 day(s)", "Set"]]
    plain, coloured = render(COLUMNS, rows), render(COLUMNS, rows, colour=True)
    assert coloured[0] == plain[0]
    assert coloured[1] == plain[1].replace("FAILED   ", "\x1b[31mFAILED   \x1b[0m")


def test_lines_do_not_end_in_blanks() -> None:
    assert render(["ID", "PARAMS"], [["144.1", ""]])[1] == "144.1"
