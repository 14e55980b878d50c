"""Writes docs/flags.md to the standard output: python -m config > docs/flags.md."""

from config.page import flags_page

print(flags_page(), end="")
