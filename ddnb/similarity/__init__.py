"""How alike sounds are: features, search, and the originality check, ``ddnb.originality``."""
