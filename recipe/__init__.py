"""The recipe of the embedded default model: its data, from procedural synthesis and openly licensed recordings."""
