"""The verbs, one file each, and what they share: sampling options and lengths. Import a verb from ``ddnb`` itself."""
