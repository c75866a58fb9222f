"""Gristmill's personal data recognizers as Presidio recognizers.

They work in a Presidio AnalyzerEngine as they are; the scrubber calls `analyze` on candidate
windows only. They are LocalRecognizer and not PatternRecognizer subclasses, because that class
skips a pattern that times out and so would let a document pass unscrubbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from filters import pii_patterns, pii_phones
from filters.pii_presidio import LocalRecognizer, RecognizerResult

RULE = "rule"  # key of recognition_metadata: which form of a number was matched


class LinearRecognizer(LocalRecognizer):
    """A recognizer around a linear-time find function: text -> (start, end, rule)."""

    def __init__(
        self,
        entity: str,
        find: Callable[[str], Iterable[tuple[int, int, str]]],
        *,
        score: float,
        language: str = "en",
    ) -> None:
        self._find = find
        self._score = score
        super().__init__(
            supported_entities=[entity],
            name=f"Gristmill{entity.title().replace('_', '')}",
            supported_language=language,
            version="1",
        )

    def load(self) -> None:
        """Nothing to load: no model, no file, no network."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: Any = None
    ) -> list[RecognizerResult]:
        """Findings in `text` as character spans; `nlp_artifacts` is not used."""
        entity = self.supported_entities[0]
        if entity not in entities:
            return []
        return [
            RecognizerResult(
                entity,
                start,
                end,
                self._score,
                recognition_metadata={
                    RecognizerResult.RECOGNIZER_NAME_KEY: self.name,
                    RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
                    RULE: rule,
                },
            )
            for start, end, rule in self._find(text)
        ]


def recognizers(language: str = "en") -> dict[str, LinearRecognizer]:
    """The default recognizers by the recipe's entity name; `language` only matters to Presidio."""
    return {
        "email": LinearRecognizer(
            "EMAIL_ADDRESS", pii_patterns.find_emails, score=1.0, language=language
        ),
        "phone": LinearRecognizer(
            "PHONE_NUMBER", pii_phones.find_phones, score=0.75, language=language
        ),
        "ip": LinearRecognizer("IP_ADDRESS", pii_patterns.find_ips, score=1.0, language=language),
        "card": LinearRecognizer(
            "CREDIT_CARD", pii_patterns.find_cards, score=1.0, language=language
        ),
        "iban": LinearRecognizer(
            "IBAN_CODE", pii_patterns.find_ibans, score=1.0, language=language
        ),
    }
