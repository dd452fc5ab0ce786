"""Data and training of the embedded default model: procedural synthesis and openly licensed recordings."""
