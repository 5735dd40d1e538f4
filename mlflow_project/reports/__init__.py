"""One self-contained HTML page about several runs."""
