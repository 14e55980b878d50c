#!/usr/bin/env python3
"""Check the layers of the program: a package or top-level module imports only from lower layers.

Print each import that breaks the rule; exit with 1 if there is one. docs/design.md describes the layers.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Packages of one layer do not import each other.
LAYERS = (
    ("hsisr",),
    ("mains",),
    ("demo",),
    ("adapt",),
    ("trainer",),
    ("predict", "tables"),
    ("evaluation",),
    ("training",),
    ("config",),
    ("objectives",),
    ("models",),
    ("data",),
    ("formats",),
    ("losses", "metrics", "pictures", "viewer", "facts"),
    ("system",),
    ("utils",),
)
DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names}


def list_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, first part of the dotted name) of each absolute import in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.split(".")[0]


def main() -> int:
    """Check every file of the program; return the exit code."""
    wrong = []
    for name, depth in DEPTH.items():
        for path in [ROOT / f"{name}.py"] if (ROOT / f"{name}.py").is_file() else sorted((ROOT / name).rglob("*.py")):
            for line, module in list_imports(path):
                if module in DEPTH and module != name and DEPTH[module] <= depth:
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {name} must not import {module}")
    print("\n".join(wrong) or f"imports of {len(DEPTH)} packages and modules follow the layers")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
