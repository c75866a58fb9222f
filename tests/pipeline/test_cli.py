"""The command line: what scripts rely on (codes, streams, JSON) and what people are told."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import app
from pipeline.commands.console import printable

ROOT = Path(__file__).parents[2]
COMMANDS = ("run", "demo", "inspect", "verify", "train-tokenizer", "export", "recipes")
HEAVY = ("apache_beam", "spacy", "numba", "presidio_analyzer", "pyarrow", "numpy")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def events(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def gristmill(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    lines = [json.dumps({"text": f"Document number {i} about mills and grain."}) for i in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: small\nsources: [{name: a, paths: [a.jsonl]}]\n"
        "tokenizer: {kind: bpe, vocab_size: 300}\nencode: {sequence_length: 16}\n"
    )
    return path


def test_help_imports_nothing_heavy() -> None:
    """Help must come at once; Beam alone takes seconds to import."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom pipeline.cli import app\n"
        f"for c in ([], *([c] for c in {COMMANDS!r}), ['recipes', 'list']):\n"
        "    assert CliRunner().invoke(app, [*c, '--help']).exit_code == 0, c\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _options(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, sub in getattr(command, "commands", {}).items():
        yield from _options(sub, f"{path} {name}".strip())
    for parameter in command.params:
        yield path, parameter


def test_every_option_has_help_with_an_example() -> None:
    import typer

    seen = 0
    for path, parameter in _options(typer.main.get_command(app)):
        if parameter.param_type_name != "option" or "completion" in parameter.name:
            continue
        seen += 1
        assert "Example:" in (getattr(parameter, "help", None) or ""), (path, parameter.name)
    assert seen > 25


def test_every_command_is_described_with_an_example() -> None:
    for name in ("run", "demo", "inspect", "verify", "train-tokenizer", "export"):
        shown = call(name, "--help").stdout
        assert "Example: gristmill" in shown, name


def test_module_and_version() -> None:
    done = gristmill("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("gristmill")


def test_usage_errors_end_with_code_2(tmp_path: Path) -> None:
    for arguments in (
        ("run",),
        ("run", "demo"),
        ("run", "demo", "--output", tmp_path / "o", "--workers", "0"),
        ("run", "demo", "--output", tmp_path / "o", "--limit", "none"),
        ("run", "demo", "--output", tmp_path / "o", "--until", "traim"),
        ("run", "demo", "--output", tmp_path / "o", "--sample", "200%"),
        ("run", "demo", "--output", tmp_path / "o", "--runner", "spark"),
        ("run", "demoo", "--output", tmp_path / "o"),
        ("recipes", "show", "demoo"),
        ("export", tmp_path, "--format", "xml", "--output", tmp_path / "x"),
        ("no-such-command",),
    ):
        result = call(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr, arguments
        assert "Traceback" not in result.stderr, arguments
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("runner", ["flink", "dataflow", "FlinkRunner", "DataflowRunner"])
def test_runners_to_come_are_refused_by_name(runner: str, tmp_path: Path) -> None:
    result = call("run", "demo", "--output", tmp_path / "o", "--runner", runner)
    assert result.exit_code == 2
    assert f"--runner {runner}: this version runs on one machine only" in result.stderr


def test_a_misspelt_stage_gets_the_right_one() -> None:
    result = call("run", "demo", "--output", "o", "--until", "traim")
    assert 'expected one of clean, dedup, scrub, train, encode; got "traim"' in result.stderr
    assert 'Did you mean "train"?' in result.stderr


def test_errors_are_one_message_on_stderr_and_an_event_for_programs(recipe: Path) -> None:
    recipe.write_text("name: small\nsources: [{name: a, paths: [b.jsonl]}]\n")
    done = gristmill("run", recipe, "--output", recipe.parent / "o")
    assert done.returncode == 3
    assert done.stderr.startswith(f"gristmill: {recipe}:2: sources[0].paths[0]: source a matches")
    assert done.stderr.count("\n") == 1
    (event,) = (json.loads(line) for line in done.stdout.splitlines())
    assert event["event"] == "error"
    assert (event["kind"], event["exit_code"]) == ("InputError", 3)
    quiet = gristmill("run", recipe, "--output", recipe.parent / "o", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (3, "", done.stderr)


def test_what_is_no_run_directory_is_said_to_be_none(tmp_path: Path) -> None:
    for command in (("inspect",), ("verify",), ("export", "--output", tmp_path / "x")):
        result = call(command[0], tmp_path, *command[1:])
        assert result.exit_code == 4
        assert "is not a run directory: it has no recipe.yaml" in result.stderr


def test_recipes_list_show_suites_schema() -> None:
    listed = events(call("recipes", "list", "--json"))
    assert "demo" in [event["name"] for event in listed]
    shown = call("recipes", "show", "demo")
    assert shown.stdout == (ROOT / "pipeline" / "recipes" / "demo.yaml").read_text()
    suites = events(call("recipes", "suites", "--json"))
    assert {"gopher-quality", "gopher-repetition"} <= {event["suite"] for event in suites}
    assert "gopher-quality" in call("recipes", "suites", "--no-json").stdout
    assert json.loads(call("recipes", "schema").stdout)["title"] == "Gristmill recipe"


def test_hostile_text_cannot_move_the_cursor_or_the_reading_direction() -> None:
    text = "a\x1b[31mred\r\x07\u202eevil\u2066\x9b\ud800[bold]\n"
    shown = printable(text)
    assert shown == "a\\x1b[31mred\\x0d\\x07\\u202eevil\\u2066\\x9b\\ud800[bold]\n"
    assert printable("a\nb", newlines=False) == "a\\nb"
    assert printable("中文 ασφ \U0001f600") == "中文 ασφ \U0001f600"
