"""Similarity of sounds: features, search, and the originality check, ``ddnb.originality``."""
