"""The command line: what scripts rely on (codes, streams, JSON) and what people are told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_corpus
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


@pytest.fixture(scope="module")
def recipe(small: small_corpus.Corpus) -> Path:
    return small.recipe


def files(run: Path) -> dict[str, bytes]:
    """Everything that a run commits."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.relative_to(run).parts[0] not in ("log", "tmp")
    }


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


def test_errors_are_one_message_on_stderr_and_an_event_for_programs(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: small\nsources: [{name: a, paths: [b.jsonl]}]\n")
    done = gristmill("run", recipe, "--output", tmp_path / "o")
    assert done.returncode == 3
    assert done.stderr.startswith(f"gristmill: {recipe}:2: sources[0].paths[0]: source a matches")
    assert done.stderr.count("\n") == 1
    (event,) = (json.loads(line) for line in done.stdout.splitlines())
    assert event["event"] == "error"
    assert (event["kind"], event["exit_code"]) == ("InputError", 3)
    quiet = call("run", recipe, "--output", tmp_path / "o", "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (3, "", done.stderr)


def test_what_is_no_run_directory_is_said_to_be_none(tmp_path: Path) -> None:
    for command in (("inspect",), ("verify",), ("export", "--output", tmp_path / "x")):
        result = call(command[0], tmp_path, *command[1:])
        assert result.exit_code == 4
        assert "is not a run directory: it has no recipe.yaml" in result.stderr


def test_a_run_step_by_step(recipe: Path, tmp_path: Path) -> None:
    """Events for programs; a longer run continues a shorter one; a second run adds nothing."""
    out = tmp_path / "run"
    short = events(call("run", recipe, "-o", out, "-w", 1, "--until", "clean", "--json"))
    assert [e["event"] for e in short if e["event"] != "progress"] == ["start", "step", "result"]
    assert (short[0]["recipe"], short[0]["directory"]) == ("small", str(out))
    assert short[-1]["stages"] == ["clean"]
    assert (short[-1]["tokens"], short[-1]["sample"]) == (None, None)
    clean = {k: v for k, v in files(out).items() if k.startswith("records/clean/")}
    assert clean

    long = events(call("run", recipe, "-o", out, "-w", 1, "--json"))
    result = long[-1]
    assert result["stages"] == ["clean", "dedup", "scrub", "train", "encode"]
    assert result["tokens"]["tokens"] > 0
    ends = [e for e in long if e["event"] == "step"]
    assert [e["step"] for e in ends][-1] == "encode"
    assert all(e["tasks_done"] == e["tasks"] for e in ends)
    first = json.loads((recipe.parent / "prose.jsonl").read_text().splitlines()[0])["text"]
    assert result["sample"].removesuffix(" ...") == first[:300].rstrip()

    before = files(out)
    assert clean.items() <= before.items()
    again = call("run", recipe, "-o", out, "-w", 1, "--quiet")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "")
    assert files(out) == before

    shown = call("run", recipe, "-o", out, "-w", 1, "--no-json").stdout
    for text in ("Funnel", "long-enough", "decoded from a token shard", "Where it is", "inspect"):
        assert text in shown
    assert f"{result['tokens']['tokens']:,} tokens in" in shown

    other = call("run", recipe, "-o", out, "-w", 1, "--limit", 5)
    assert other.exit_code == 4
    assert "was made with another recipe; these keys differ: input.limit" in other.stderr


def test_limit_and_sample_take_a_part(recipe: Path, tmp_path: Path) -> None:
    def documents(*options: object) -> int:
        out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        result = call("run", recipe, "-o", out, "-w", 1, "--until", "clean", "--json", *options)
        (kept,) = (r for r in events(result)[-1]["funnel"] if r["outcome"] == "kept")
        return int(kept["documents"])

    all_of_them = small_corpus.PROSE + small_corpus.COPIES + small_corpus.MAIL
    assert documents("--limit", 6) == 6 + small_corpus.MAIL
    assert 0 < documents("--sample", "30%") == documents("--sample", 0.3) < all_of_them


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece"])
def test_train_tokenizer_on_files_as_they_are(recipe: Path, tmp_path: Path, kind: str) -> None:
    """Short and repeated documents count too: nothing is filtered, removed or replaced."""
    out = tmp_path / "run"
    arguments = ("--vocab-size", 350, "--kind", kind, "--output", out, "-w", 1, "--json")
    result = events(call("train-tokenizer", recipe.parent / "prose.jsonl", *arguments))[-1]
    prose = small_corpus.PROSE + small_corpus.COPIES + small_corpus.SHORT
    assert {(r["outcome"], r["documents"]) for r in result["funnel"]} == {
        ("in", prose),
        ("kept", prose),
    }
    assert result["stages"][-1] == "train"
    model = out / result["tokenizer"]["files"]["tokenizer"]
    text = "mila grane 中 \U0001f600"
    if kind == "bpe":
        from tokenizers import Tokenizer

        bpe = Tokenizer.from_file(str(model))
        assert bpe.get_vocab_size() == 350
        assert bpe.decode(bpe.encode(text).ids) == text
    else:
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor(model_file=str(model))
        assert processor.get_piece_size() == 350
        assert processor.decode(processor.encode(text)) == text


def test_train_tokenizer_takes_globs_fields_and_refuses_what_does_not_fit(
    recipe: Path, tmp_path: Path
) -> None:
    out = ("--output", tmp_path / "run", "-w", 1, "--json")
    mail = ("--text-field", "body", "--vocab-size", 300)
    result = events(call("train-tokenizer", recipe.parent / "mai*.jsonl", *mail, *out))[-1]
    (kept,) = (r for r in result["funnel"] if (r["stage"], r["outcome"]) == ("scrub", "kept"))
    assert kept["documents"] == small_corpus.MAIL
    nothing = call("train-tokenizer", tmp_path / "none*.jsonl", *out)
    assert nothing.exit_code == 3
    assert "source input matches no file" in nothing.stderr
    for options, expected in (
        (("--vocab-size", 5), "tokenizer.vocab_size: expected a number >= 257; got 5."),
        (("--kind", "wordpiece"), 'got "wordpiece"'),
        (("--pretokenizer", "gpt3"), 'Did you mean "gpt2"?'),
        (("--kind", "sentencepiece", "--pretokenizer", "gpt2"), "is for --kind bpe only"),
        (("--format", "xml"), 'sources[0].format: expected one of "auto"'),
    ):
        refused = call("train-tokenizer", recipe, *options, *out)
        assert refused.exit_code == 2
        assert expected in refused.stderr


def test_interrupted_and_resumed_is_as_if_nothing_happened(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "run", str(recipe), "--workers", "1", "--output"]
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*command, str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test runner in the background may have told its children to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (out / "plan" / "clean.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr == "gristmill: interrupted; the same command resumes where it was\n"
    last = json.loads(stdout.splitlines()[-1])
    assert (last["event"], last["kind"], last["exit_code"]) == ("error", "Interrupted", 130)
    assert not (out / "manifest.json").exists()

    assert call("run", recipe, "--workers", 1, "--output", out).exit_code == 0
    whole = tmp_path / "whole"
    assert call("run", recipe, "--workers", 1, "--output", whole).exit_code == 0
    assert files(out) == files(whole)


def test_a_defect_leaves_a_traceback_in_a_file_and_none_on_the_terminal(
    recipe: Path, tmp_path: Path
) -> None:
    """A directory where a file should be stands for what nobody foresaw."""
    out = tmp_path / "run"
    (out / "recipe.yaml").mkdir(parents=True)
    result = call("inspect", out)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert "This is a defect in Gristmill. The traceback is in " in result.stderr
    path = result.stderr.split("The traceback is in ")[1].split(";")[0]
    assert "IsADirectoryError" in Path(path).read_text()
    Path(path).unlink()


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
