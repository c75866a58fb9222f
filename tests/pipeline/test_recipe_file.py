"""Recipe files: what is wrong is said with its line, its key, and what would be valid."""

import json
from pathlib import Path

import pytest
import tokenizers
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe_file import (
    built_in_recipes,
    dump_recipe,
    json_schema,
    load_recipe,
    load_resolved,
    parse_sample,
    recipe_from_options,
)
from schemas.errors import InputError, RecipeError
from schemas.recipe import Recipe, Source

SOURCES = "sources:\n  - name: web\n    paths: [a.jsonl]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


def test_a_minimal_recipe_gets_every_default(folder: Path) -> None:
    recipe = load_recipe(write(folder, f"name: mine\n{SOURCES}"))
    expected = Recipe(name="mine", sources=(Source(name="web", paths=(f"{folder}/a.jsonl",)),))
    assert recipe == expected


def test_relative_paths_start_at_the_recipe_wherever_it_is_loaded_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sub").mkdir()
    (folder / "lid.ftz").write_text("{}")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    path = folder / "sub" / "r.yaml"
    path.write_text(
        "name: mine\nsources:\n  - {name: web, root: .., paths: [../*.jsonl]}\n"
        "clean: {language: {model: ../lid.ftz}}\n"
        "tokenizer: {kind: given, path: ../tokenizer.json}\n"
    )
    monkeypatch.chdir(folder / "sub")
    for reference in (str(path), "r.yaml", "./r.yaml"):
        recipe = load_recipe(reference)
        assert recipe.sources[0].paths == (f"{folder}/*.jsonl",)
        assert recipe.sources[0].root == str(folder)
        assert recipe.clean.language is not None
        assert recipe.clean.language.model == f"{folder}/lid.ftz"
        assert recipe.tokenizer.model_dump()["path"] == f"{folder}/tokenizer.json"


def test_a_folder_that_looks_like_a_glob_is_taken_literally(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]*"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}\n")
    (tmp_path / "run1x").mkdir()
    (tmp_path / "run1x" / "a.jsonl").write_text("{}\n")
    from pipeline import storage

    recipe = load_recipe(write(folder, f"name: mine\n{SOURCES}"))
    found = [info.path for path in recipe.sources[0].paths for info in storage.glob(path)]
    assert found == [str(folder / "a.jsonl")]


def test_several_problems_come_in_one_message_by_line(folder: Path) -> None:
    text = """\
name: mine
souces: []
sources:
  - name: web
    paths: a.jsonl
    format: josnl
clean:
  language: {min_scor: 1}
tokenizer:
  kind: bpe
  vocab_size: 3
"""
    assert refusal(folder, text).splitlines() == [
        "the recipe r.yaml has 5 problems:",
        '  r.yaml:2: souces: unknown key. Did you mean "sources"? Valid keys: name, seed, sources, '
        "input, planning, clean, dedup, scrub, tokenizer, encode.",
        '  r.yaml:5: sources[0].paths: expected a list; got "a.jsonl". Write ["a.jsonl"].',
        '  r.yaml:6: sources[0].format: expected one of "auto", "jsonl", "csv", "parquet", '
        '"arrow", "text", "wet", "warc"; got "josnl". Did you mean "jsonl"?',
        '  r.yaml:8: clean.language.min_scor: unknown key. Did you mean "min_score"? Valid keys: '
        "model, max_bytes, keep, min_score.",
        "  r.yaml:11: tokenizer.vocab_size: expected a number >= 257; got 3.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tokenizer: {kind: bpee}", 'expected one of "bpe", "sentencepiece", "given"; got "bpee"'),
        ("tokenizer: {vocab_size: 9000}", "expected the key kind, one of"),
        ("tokenizer: {kind: given}", "tokenizer.path: this key is required. tokenizer.json or"),
        ("tokenizer: {kind: bpe, byte_fallback: true}", "Valid keys: kind, vocab_size, pretoken"),
        ("vocab_size: 9000", "vocab_size: unknown key. vocab_size belongs to tokenizer."),
        ("encode: 5", "encode: expected a mapping with keys from sequence_length,"),
        ("encode: {sequence_length: many}", 'expected a whole number; got "many".'),
        ("encode: {end_document: 3}", "expected true or false; got 3."),
        ("input: {sample: 2.0}", "input.sample: expected a number <= 1.0; got 2.0."),
        ("scrub: {entities: [emial]}", 'scrub.entities[0]: expected one of "email"'),
        ("clean: {passes: [{name: a}, {name: a}]}", "clean: pass names must differ, got a, a."),
        ("seed: -1", "seed: expected a number >= 0; got -1."),
    ],
)
def test_each_kind_of_mistake_names_what_would_be_valid(
    folder: Path, text: str, expected: str
) -> None:
    message = refusal(folder, f"name: mine\n{SOURCES}{text}\n")
    assert message.startswith("the recipe r.yaml has 1 problem:\n  r.yaml:5: ")
    assert expected in message


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{name: a, signal: words, op: '=<', value: 3}", 'op: expected one of "<", "<="'),
        ("{name: a, signal: words, op: in, value: 3}", "op 'in' needs a list."),
        ("{name: a, signal: words, op: '<'}", "value: this key is required."),
        ("{name: a, signal: words, op: '<', value: {}}", "or text or a list; got {}."),
        (
            "7",
            "expected text or a mapping with keys from name, signal, op, value, languages; got 7",
        ),
    ],
)
def test_a_malformed_rule_gives_one_problem_not_one_for_each_type(
    folder: Path, rule: str, expected: str
) -> None:
    passes = f"clean:\n  passes:\n    - name: main\n      rules:\n        - {rule}\n"
    message = refusal(folder, f"name: mine\n{SOURCES}{passes}")
    assert message.startswith("the recipe r.yaml has 1 problem:\n  r.yaml:9: clean.passes[0].rules")
    assert expected in message


def test_unknown_suites_and_signals_are_refused_with_their_lines(folder: Path) -> None:
    rules = "[gopherr-quality, {name: a, signal: wordz, op: '<', value: 3}]"
    message = refusal(
        folder, f"name: mine\n{SOURCES}clean: {{passes: [{{name: m, rules: {rules}}}]}}"
    )
    assert "r.yaml:5: clean.passes[0].rules[0]: " in message
    assert "r.yaml:5: clean.passes[0].rules[1]: " in message
    assert "gopherr-quality" in message
    assert "wordz" in message


def test_duplicate_keys_are_refused(folder: Path) -> None:
    message = refusal(folder, f"name: mine\n{SOURCES}name: other\n")
    assert message == 'r.yaml:5: key "name" is given twice, first in line 1'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "r.yaml: the file is empty; expected a recipe"),
        ("- a\n", "r.yaml: expected a mapping"),
        ("name: [\n", "r.yaml:2: not valid YAML: "),
        ("name: a\n\tb: c\n", "r.yaml:2: not valid YAML: "),
        ("name: &x [*x]\n", "r.yaml:1: aliases that repeat themselves without end"),
        ("a: 1\n---\nb: 1\n", "not valid YAML: "),
        ("name: !!python/object/apply:os.getcwd []\n", "is not allowed in a recipe"),
        ("name: !!python/name:os.getcwd x\n", "is not allowed in a recipe"),
        ("{[a]: 1}\n", "r.yaml:1: expected a name as key"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused(folder: Path, text: str, expected: str) -> None:
    assert expected in refusal(folder, text)


def test_bytes_that_are_no_utf8_are_refused(folder: Path) -> None:
    (folder / "r.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(RecipeError, match="expected UTF-8 text"):
        load_recipe(folder / "r.yaml")


def test_aliases_cannot_blow_a_recipe_up(folder: Path) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for one, before in zip("bcdefgh", "abcdefg", strict=True):
        lines.append(f"{one}: &{one} [{','.join([f'*{before}'] * 10)}]")
    assert "aliases" in refusal(folder, "\n".join(lines))


def test_scalars_are_those_of_yaml_1_2(folder: Path) -> None:
    """Norwegian is a language, not a refusal; a date and 12:30 are text."""
    text = f"name: mine\n{SOURCES}clean: {{language: {{keep: [no, on, y, 2024-01-01, 12:30]}}}}\n"
    text += "seed: 010\nencode: {shard_tokens: 2_000_000}\ninput: {sample: 1e-3}\n"
    recipe = load_recipe(write(folder, text))
    assert recipe.clean.language is not None
    assert recipe.clean.language.keep == ("no", "on", "y", "2024-01-01", "12:30")
    assert (recipe.seed, recipe.encode.shard_tokens) == (10, 2_000_000)
    assert recipe.input.sample == 0.001


@given(
    st.lists(st.text(max_size=20), max_size=5).map(tuple),
    st.floats(min_value=1e-300, max_value=1.0),
    st.sampled_from(
        ["no", "1e5", "0x1f", "1_000", ".5", "null", "12:30", "~", "true", "2024-01-01"]
    ),
)
def test_a_resolved_recipe_reads_back_as_itself(
    languages: tuple[str, ...], sample: float, tricky: str
) -> None:
    """Ours and PyYAML's own reader both: the run directory is also read by other programs."""
    recipe = Recipe.model_validate(
        {
            "name": "mine",
            "sources": [{"name": "web", "paths": ["/a"], "fields": {"text": tricky}}],
            "clean": {"language": {"keep": languages}},
            "input": {"sample": sample},
        }
    )
    data = dump_recipe(recipe)
    assert load_resolved(data) == recipe
    assert Recipe.model_validate(yaml.safe_load(data)) == recipe


def test_a_pattern_without_files_stops_before_any_work(folder: Path) -> None:
    text = "name: mine\nsources:\n  - name: web\n    paths:\n      - a.jsonl\n      - b/*.jsonl\n"
    with pytest.raises(InputError) as caught:
        load_recipe(write(folder, text))
    assert str(caught.value) == (
        f"{folder}/r.yaml:6: sources[0].paths[1]: source web matches no file: {folder}/b/*.jsonl."
    )
    with pytest.raises(InputError, match=r"It is a folder: write .*\*\*"):
        load_recipe(write(folder, text.replace("b/*.jsonl", ".")))


def test_missing_models_stop_before_any_work(folder: Path) -> None:
    given_one = "tokenizer: {kind: given, path: t.json}\n"
    with pytest.raises(InputError, match=r"r\.yaml:5: tokenizer\.path: no such file: .*/t\.json"):
        load_recipe(write(folder, f"name: mine\n{SOURCES}{given_one}"))
    with pytest.raises(InputError, match=r"r\.yaml:5: clean\.language\.model: no such file"):
        load_recipe(write(folder, f"name: mine\n{SOURCES}clean: {{language: {{model: m.bin}}}}\n"))


def test_overrides_replace_the_recipe_and_count_as_part_of_it(folder: Path) -> None:
    path = write(folder, f"name: mine\n{SOURCES}input: {{limit: 5, sample: 0.5}}\n")
    recipe = load_recipe(path, limit=7)
    assert (recipe.input.limit, recipe.input.sample) == (7, 0.5)
    assert recipe.sha256() != load_recipe(path).sha256()


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.1%", 0.001), ("0.001", 0.001), (" 100 % ", 1.0), ("1", 1.0), ("33%", 0.33)],
)
def test_shares(text: str, value: float) -> None:
    assert parse_sample(text) == value


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "1.5", "-1%", "nan", "inf", "some", "%"])
def test_no_shares(text: str) -> None:
    with pytest.raises(RecipeError, match="expected a share such as"):
        parse_sample(text)


def test_an_unknown_name_lists_the_built_in_recipes() -> None:
    with pytest.raises(RecipeError, match=r'no recipe "demoo".*demo.*Did you mean "demo"'):
        load_recipe("demoo")
    with pytest.raises(RecipeError, match=r"cannot read the recipe none\.yaml: No such file"):
        load_recipe("none.yaml")


def test_every_built_in_recipe_loads() -> None:
    names = list(built_in_recipes())
    assert "demo" in names
    for name in names:
        assert load_recipe(name).name == name


def test_options_are_checked_as_a_recipe_is(folder: Path) -> None:
    value = {"name": "a", "sources": [{"name": "in", "paths": [str(folder / "*.jsonl")]}]}
    assert recipe_from_options(value).name == "a"
    value["tokenizer"] = {"kind": "bpe", "vocab_size": 5}  # type: ignore[assignment]
    with pytest.raises(
        RecipeError, match=r"options: tokenizer\.vocab_size: expected a number >= 257"
    ):
        recipe_from_options(value)


def test_the_json_schema_knows_every_key_of_a_resolved_recipe() -> None:
    """An editor that follows it offers what the recipe model accepts, no more and no less."""
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False
    assert all(d["additionalProperties"] is False for d in schema["$defs"].values())


@pytest.mark.parametrize(
    ("tokenizer", "encode", "message"),
    [
        ("{}", "{}", r"tokenizer\.path: .* can be loaded"),
        (None, "{begin_document: true}", r"encode\.begin_document: .* no token that begins"),
    ],
)
def test_a_given_tokenizer_is_loaded_before_any_work(
    tmp_path: Path, small_run: Path, tokenizer: str | None, encode: str, message: str
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    path = small_run / "tokenizer" / "tokenizer.json"
    if tokenizer is not None:
        path = tmp_path / "tokenizer.json"
        path.write_text(tokenizer)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: r\nsources: [{name: a, paths: [a.jsonl]}]\n"
        f"tokenizer: {{kind: given, path: {path}}}\nencode: {encode}\n"
    )
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe)
