"""Command lines: what each file of tools/ calls."""
