"""What several commands share: options, output formats, the progress display, closing hints."""
