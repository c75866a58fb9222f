"""Pretoken counting, tokenizer training, encoding, packing and token shards; no Beam needed."""
