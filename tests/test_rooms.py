"""The house's rules, read off the source: who may import whom, few modules at the top, short functions, types."""

import ast
from pathlib import Path

from helpers import ROOT

# What each room may import of the program, beside itself; docs/design.md shows this table.
LEAVES = {"utils", "losses", "metrics", "pictures"}
ROOMS = {
    "machine": set(),
    **dict.fromkeys(LEAVES, {"utils", "machine"}),
    "data": {"utils", "machine"},
    "objectives": {"utils", "losses", "data.spectral", "data.stream"},
    "models": {
        *("utils", "data.facts", "data.kinds", "data.bands", "data.errors", "data.imresize", "data.spectral"),
    },
    "config": {"utils", "losses", "objectives", "models.registry", "data.facts"},
    "training": {"config", "data", "models", "objectives", "losses", "utils", "metrics"},
    "evaluation": {
        *("config", "data", "models", "metrics", "pictures", "training.checkpoint", "training.processes", "utils"),
    },
    "predict": {"data", "models", "config", "pictures", "training.processes", "utils"},
    "tables": {
        *("config", "evaluation.results", "evaluation.samples", "evaluation.published", "objectives"),
        *("models.registry", "data.facts"),
        *("metrics", "pictures", "utils"),
    },
    "trainer": {"training", "evaluation", "models", "objectives", "losses", "config", "data", "utils"},
}
ROOMS["adapt"] = {"trainer", "training", "config", "data", "models", "objectives", "metrics", "utils"}
ROOMS["demo"] = set(ROOMS)
# mains imports all of them, each command's when it is called.
ROOMS["mains"] = set(ROOMS)
# benchmarks/ is no part of the program.
PROGRAM = sorted(p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0].removesuffix(".py") in ROOMS)


def imports(path: Path):
    """{line: module of the program}; each name that a package gives counts as a module of it where it is one."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            folder = ROOT.joinpath(*module.split("."))
            inside = [a.name for a in node.names if (folder / f"{a.name}.py").is_file() or (folder / a.name).is_dir()]
            modules = [f"{module}.{name}" for name in inside] or [module]
        else:
            continue
        yield from ((node.lineno, module) for module in modules if module.split(".")[0] in ROOMS)


def test_a_room_imports_from_those_it_may():
    wrong = []
    for path in PROGRAM:
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        allowed = ROOMS[room] | {room}
        for line, module in imports(path):
            if not any(module == name or module.startswith(f"{name}.") for name in allowed):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    # Where the plan of the house has changed, docs/design.md says so too.
    assert not wrong, "\n".join(wrong)


def test_few_modules_stand_at_the_top():
    assert len(list(ROOT.glob("*.py"))) <= 9
    rooms = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").is_file()}
    assert rooms <= set(ROOMS)


def functions(path):
    """(node, whether everybody may call it) of each function: nothing in its qualified name is private or local."""

    def walk(node, is_public):
        for child in ast.iter_child_nodes(node):
            is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            named = is_function or isinstance(child, ast.ClassDef)
            own = is_public and not (named and child.name.startswith("_") and not child.name.endswith("__"))
            if is_function:
                yield child, own
            yield from walk(child, own and not is_function)

    return list(walk(ast.parse(path.read_text(encoding="utf-8")), True))


def test_functions_fit_a_screen_and_lines_a_window():
    wrong = []
    for path in PROGRAM:
        place = path.relative_to(ROOT)
        sizes = [(function, function.end_lineno - function.lineno + 1) for function, _ in functions(path)]
        wrong += [f"{place}:{f.lineno} {f.name} has {size} lines" for f, size in sizes if size > 60]
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        wrong += [f"{place}:{number} has {len(line)} columns" for number, line in lines if len(line) > 120]
    assert not wrong, "\n".join(wrong)


def test_public_functions_say_their_types():
    untyped = []
    for path in PROGRAM:
        for function in (f for f, is_public in functions(path) if is_public):
            given = function.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            named = [a for a in arguments if a is not None and a.arg not in ("self", "cls")]
            if function.returns is None or any(a.annotation is None for a in named):
                untyped.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}")
    assert not untyped, "\n".join(untyped)


def test_tests_import_no_other_test_and_call_nothing_private():
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [getattr(node, "module", None) or "", *(a.name for a in getattr(node, "names", []))]
            imports_test = isinstance(node, (ast.Import, ast.ImportFrom)) and any("test_" in m for m in modules)
            # A named tuple's _replace is public.
            is_private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr != "_replace"
            if is_private and ast.unparse(node.value) == "self":
                is_private = False
            if imports_test or (is_private and not node.attr.endswith("__")):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, "\n".join(wrong)
