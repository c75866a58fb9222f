"""Pure functions over batches of documents: signals, rules, language, duplicates, personal data."""
