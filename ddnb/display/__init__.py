"""PNG pictures and HTML of sounds and curves. Knows neither ipywidgets nor IPython, and nothing of clips."""
