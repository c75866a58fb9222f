"""The recipe: everything that decides what a run writes, and nothing else.

One YAML file, validated before any work starts. Paths in it are relative to the file. How a run is
executed (runner, workers, output directory) is not part of it, so that it cannot change the result.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

STAGES = ("clean", "dedup", "scrub", "train", "encode")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


class Model(BaseModel):
    """Frozen settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Fields(Model):
    """Which field of a record holds what; None means that the data has no such field."""

    text: str = "text"
    id: str | None = Field("id", description="Absent or empty values get an id from the position.")
    url: str | None = "url"
    date: str | None = "date"
    language: str | None = None


class Source(Model):
    """A named set of files of one kind."""

    name: Name
    paths: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Files or globs (`**` crosses folders), local or on any Beam filesystem."
    )
    root: str | None = Field(
        None,
        description="Document ids use paths relative to this folder; "
        "by default the longest common folder of `paths` before any wildcard.",
    )
    format: Literal["auto", "jsonl", "csv", "parquet", "arrow", "text", "wet", "warc"] = Field(
        "auto", description="`auto` goes by the file name."
    )
    fields: Fields = Fields()
    text_unit: Literal["file", "line", "paragraph"] = Field(
        "file", description="For plain text: what one document is."
    )


class Input(Model):
    """A first look: less than the whole input."""

    limit: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Only the first N documents of each source, in file order."
    )
    sample: Fraction | None = Field(
        None, description="A seeded share of the documents, chosen by id."
    )


class Planning(Model):
    """How input is cut into tasks; never depends on workers."""

    task_bytes: Annotated[int, Field(ge=1 << 16)] = Field(
        64 << 20, description="Upper bound of text bytes a task; small inputs get smaller tasks."
    )
    min_task_bytes: Annotated[int, Field(ge=1)] = Field(
        4 << 20, description="Input is not cut finer than this."
    )
    min_tasks: Annotated[int, Field(ge=1)] = Field(
        8,
        description="Aim for this many tasks before `task_bytes` is reached; for half as many "
        "where a compressed file is divided, since each of its tasks decompresses all of it.",
    )


class Rule(Model):
    """Keep a document while `signal op value` holds; a null signal passes.

    `signal` is a name from the signal table; within a pass it means that pass's measurement.
    """

    name: Name
    signal: str
    op: Literal["<", "<=", ">", ">=", "==", "!=", "in", "not in"]
    value: bool | int | float | str | tuple[str, ...]
    languages: tuple[str, ...] | None = Field(
        None, description="Apply to documents of these languages only."
    )

    @model_validator(mode="after")
    def _value_fits_op(self) -> Rule:
        if (self.op in ("in", "not in")) != isinstance(self.value, tuple):
            raise ValueError(f"op {self.op!r} needs {'a list' if 'in' in self.op else 'one value'}")
        return self


class Pass(Model):
    """An optional text edit, then signals over the text as it is, then rules in order."""

    name: Name
    transform: Literal["c4-lines"] | None = None
    rules: tuple[str | Rule, ...] = Field(
        (), description="Suite names (see `gristmill recipes suites`) or rules of your own."
    )
    signals: Literal["all", "needed"] = Field(
        "all", description="Store every counting signal, or only those that the rules use."
    )


class Language(Model):
    """Language identification with a fastText model."""

    model: str = Field("lid.176", description="`lid.176` (packaged), or the path of a .bin/.ftz.")
    max_bytes: Annotated[int, Field(ge=64)] = Field(
        1024, description="Identify from this much of the beginning of the text."
    )
    keep: tuple[str, ...] | None = Field(None, description="Remove all other languages.")
    min_score: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0


class Clean(Model):
    """Read, identify, measure, decide."""

    language: Language | None = Language()
    passes: tuple[Pass, ...] = (Pass(name="main"),)

    @model_validator(mode="after")
    def _pass_names_differ(self) -> Clean:
        names = [p.name for p in self.passes]
        if len(set(names)) != len(names):
            raise ValueError(f"pass names must differ, got {', '.join(names)}")
        return self


class MinHash(Model):
    """MinHash LSH over word n-grams (Broder 1997; bands as in Leskovec et al., ch. 3)."""

    bands: Annotated[int, Field(ge=1, le=64)] = 14
    rows: Annotated[int, Field(ge=1, le=64)] = 8
    ngram: Annotated[int, Field(ge=1, le=32)] = 5
    words: Literal["gristmill", "regex"] = Field(
        "gristmill",
        description="How text is cut for shingles: lower case without marks, unspaced scripts by "
        r"code point; or the runs that the regular expression `\w+` matches.",
    )
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.7, description="Estimated Jaccard similarity that a pair must reach."
    )


class Dedup(Model):
    """Remove exact and near duplicates; the longest document of a cluster survives."""

    exact: bool = True
    minhash: MinHash | None = MinHash()


class Scrub(Model):
    """Replace personal data by typed placeholders."""

    entities: tuple[Literal["email", "phone", "ip", "card", "iban"], ...] = (
        "email",
        "phone",
        "ip",
        "card",
        "iban",
    )


class TrainBPE(Model):
    """Byte-level BPE from pretoken counts (Sennrich et al. 2016; GPT-2's byte alphabet)."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: Annotated[int, Field(ge=257, le=1 << 20)] = 32_000
    pretokenizer: Literal["llama3", "gpt2"] = "llama3"
    min_frequency: Annotated[int, Field(ge=1)] = 2
    special_tokens: tuple[str, ...] = ("<|endoftext|>",)


class TrainSentencePiece(Model):
    """SentencePiece BPE from word counts, with LLaMA's settings by default."""

    kind: Literal["sentencepiece"]
    vocab_size: Annotated[int, Field(ge=300, le=1 << 20)] = 32_000
    byte_fallback: bool = True
    split_digits: bool = True
    character_coverage: Annotated[float, Field(ge=0.9, le=1.0)] = 0.99995


class GivenTokenizer(Model):
    """A ready tokenizer instead of training."""

    kind: Literal["given"]
    path: str = Field(description="tokenizer.json or a SentencePiece .model")
    end_of_document: str | None = Field(
        None, description="The special token that ends a document, if it cannot be told by name."
    )


Tokenizer = Annotated[TrainBPE | TrainSentencePiece | GivenTokenizer, Field(discriminator="kind")]


class Encode(Model):
    """Tokenise and pack by concat-and-chunk."""

    sequence_length: Annotated[int, Field(ge=8, le=1 << 20)] = 2048
    rows_per_batch: Annotated[int, Field(ge=1)] = 1024
    shard_tokens: Annotated[int, Field(ge=1024)] = Field(
        100_000_000,
        description="Planned upper bound of tokens a shard; a clean shard is never divided.",
    )
    begin_document: bool = Field(False, description="Put the BOS token before each document.")
    end_document: bool = Field(True, description="Put the end-of-document token after each one.")


class Recipe(Model):
    """A whole run."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    input: Input = Input()
    planning: Planning = Planning()
    clean: Clean = Clean()
    dedup: Dedup = Dedup()
    scrub: Scrub = Scrub()
    tokenizer: Tokenizer = TrainBPE()
    encode: Encode = Encode()

    @model_validator(mode="after")
    def _source_names_differ(self) -> Recipe:
        names = [s.name for s in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"source names must differ, got {', '.join(names)}")
        return self

    def canonical(self) -> dict[str, Any]:
        """The resolved recipe as plain JSON values, every default spelled out."""
        return self.model_dump(mode="json")

    def sha256(self) -> str:
        """Hash of the resolved recipe; written into every manifest and shard.

        Where input and models lie is left out: the same recipe over the same files gives the
        same bytes on a laptop and on a bucket. Shards have the hash of their tokenizer.
        """
        value = self.canonical()
        for source in value["sources"]:
            del source["paths"], source["root"]
        value["tokenizer"].pop("path", None)
        if self.clean.language is not None:
            model = posixpath.basename(self.clean.language.model)
            value["clean"]["language"]["model"] = model
        return sha256_json(value)


def sha256_json(value: Any) -> str:
    """Hash of a JSON value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
