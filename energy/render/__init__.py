"""Rendering of reports: terminal, CSV, JSON, Markdown, LaTeX, HTML and plots. Nothing here computes an energy."""
