"""Data contracts shared by every layer: Arrow schemas, recipes, records, ledgers and errors."""
