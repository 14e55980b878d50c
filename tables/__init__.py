"""All results below a folder as tables, one for each data set, scale and protocol, and as a page to look at.

What `train` and `test` left is only read here: nothing is trained, scored or changed.
"""

from tables.command import make_tables

__all__ = ["make_tables"]
