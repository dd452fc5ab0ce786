"""The command line: parsers, and the commands behind them. The only part that prints."""
