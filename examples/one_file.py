"""Load a model, generate kicks, vary the first one, and save everything to ``sounds/``: the whole library in one file.

Run it with ``python examples/one_file.py``. It needs neither a network connection nor a graphics card.
"""

import sys

import ddnb


def main(steps: int = 25) -> None:
    """Generate two kicks and two variations; fewer ``steps`` are faster and noisier."""
    # "drums" is built into the package. A published name or the path of a checkpoint works as well.
    ckpt = ddnb.load("drums")

    # Each sound depends on its own seed only: these have the seeds 7 and 8.
    kicks = ddnb.generate(ckpt, 2, seed=7, category="kick", steps=steps)

    # Noise is added to the kick and removed again. Strength 0 returns the kick, strength 1 ignores it.
    variations = ddnb.vary(ckpt, kicks[0], strength=0.5, n=2, steps=steps)

    # Existing files are never overwritten. The .json file beside each sound lets ``ddnb.remake`` make it again.
    paths = [*kicks.save("sounds"), *variations.save("sounds")]
    print(f"Wrote {len(paths)} sounds to sounds/")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
