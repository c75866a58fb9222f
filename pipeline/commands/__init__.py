"""Commands of the command line. Heavy libraries are imported inside them, so that help is quick."""
