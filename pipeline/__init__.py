"""Apache Beam pipeline, readers, storage and the `gristmill` command."""
