"""What verify prints stays a table that can be read, however many tasks there are."""

from tsn_hw.app.deploy.verification import (
    MOST_COLUMNS,
    REFERENCE,
    EngineResult,
    LayerResult,
    TaskResult,
    Verification,
    verification_blocks,
)
from tsn_hw.app.output import Note, Table


def found(count: int, wrong: tuple[int, ...] = ()) -> tuple[Verification, list[str]]:
    """Two engines on tasks of ten integers each; the simulator has one wrong integer in some tasks, and cycles."""
    names = [f"task{number}" for number in range(count)]

    def result(task: int, wrong: tuple[int, ...]) -> TaskResult:
        return TaskResult("", {"head": LayerResult(10, int(task in wrong))})

    truth = EngineResult(inputs=4, tasks={name: result(t, ()) for t, name in enumerate(names)})
    engine = EngineResult(
        tool="tool 1",
        cycles={name: 100 + t for t, name in enumerate(names)},
        mismatches=len(wrong),
        inputs=4,
        tasks={name: result(t, wrong) for t, name in enumerate(names)},
    )
    engines = {REFERENCE: truth, "simulator": engine, "hls": EngineResult("no compiler")}
    return Verification.of("", engines, (), (), {}), names


def shown(count: int, wrong: tuple[int, ...] = ()) -> tuple[list[list[str]], list[str]]:
    """Rows of the table as text, its header first, and the lines below it."""
    table, note = verification_blocks(*found(count, wrong))
    assert isinstance(table, Table)
    assert isinstance(note, Note)
    return [table.header, *([cell.plain for cell in row] for row in table.cells)], note.text.splitlines()


def test_ten_tasks_have_a_column_each() -> None:
    rows, lines = shown(MOST_COLUMNS, wrong=(3,))
    assert rows[0] == ["engine", "inputs a task", *(f"task{t}" for t in range(10)), "differences"]
    assert rows[2] == ["simulator", "4", *("1 of 10" if t == 3 else "0 of 10" for t in range(10)), "1"]
    assert lines == [f"simulator: tool 1; cycles of all inputs of a task: {', '.join(str(100 + t) for t in range(10))}"]


def test_more_tasks_are_told_together_and_those_that_differ_by_name() -> None:
    rows, lines = shown(100, wrong=(3, 70))
    assert rows == [
        ["engine", "inputs a task", "all 100 tasks", "differences"],
        [REFERENCE, "4", "1,000 integers", "0"],
        ["simulator", "4", "2 of 1,000", "2"],
        ["hls", "-", "", "no compiler"],
    ]
    assert lines == [
        "simulator: tool 1; cycles of all inputs of a task: 100 to 199",
        "simulator differs in task3, task70",
    ]


def test_many_tasks_that_differ_are_not_all_named() -> None:
    _, lines = shown(30, wrong=tuple(range(30)))
    assert lines[1] == f"simulator differs in {', '.join(f'task{t}' for t in range(10))} and 20 tasks more"
