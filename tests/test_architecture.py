"""The law of the tree: where an import may point, what stands where, and how long a file may be."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"models": 0, "utils": 1, "data": 2, "scripts": 3, "visualization": 3, "benchmarks": 4}
LAW = "models <- utils <- data <- (scripts | visualization) <- benchmarks: an import never points the other way"
FOLDERS_OF_COMMANDS = ("scripts", "visualization", "benchmarks")
MOST_ENTRIES_OF_UTILS = 12
MOST_LINES, MOST_LINES_OF_TESTS = 300, 400
MOST_LINES_OF_NINE_FUNCTIONS_IN_TEN = 25
PUBLISHED = """
    models/llama.py models/mpt_7b.py models/gpt_j.py models/lambda_attention.py models/get_model.py models/model_base.py
    models/constant.py models/get_llama2/convert_llama_weights_to_hf.py models/get_llama2/download_llama2.sh
    data/get_data.py data/split_pile_file.py data/generation_metrics.py
    data/passkey_retrieval/create_passkey_data.py
    data/passkey_retrieval/create_passkey_data.sh data/passkey_retrieval/passkey_retrieval_accuracy.py
    utils/arguments.py utils/utils.py
    scripts/combine_evaluate_generation.py scripts/combine_results.py scripts/compare_ppl.py scripts/diagnose.py
    scripts/eval_downstream_tasks.py scripts/eval_generation.py scripts/eval_infinite_ppl.py
    scripts/eval_ppl_deepspeed.py scripts/prepare_sample.py scripts/sweep.py
    visualization/attention_entropy.py visualization/attention_mass.py visualization/benchmark.py
    visualization/cost_by_length.py visualization/plot_nll.py visualization/position_pca.py
    visualization/relative_attention_explosion.py visualization/report.py visualization/score_by_length.py
    visualization/score_heatmap.py visualization/three_factors.py
""".split()


@dataclass(frozen=True)
class Import:
    """One imported file of the tree. where: "file:line". dots: how many a relative import begins with.

    lazy: whether it is not done when the file is imported: within a function, or for the type checker only.
    """

    where: str
    source: str
    target: str
    dots: int
    lazy: bool


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """The module that a file is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sources(*FLOORS)}


def imports_of(path: Path) -> Iterator[Import]:
    tree, source = ast.parse(path.read_text(encoding="utf-8")), name_of(path)
    for node, lazy in statements(tree, lazy=False):
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        if isinstance(node, ast.Import):
            names, dots = [alias.name for alias in node.names], 0
        else:
            begin = absolute(node, path)
            names, dots = [f"{begin}.{alias.name}" for alias in node.names], node.level
        for name in names:
            target = name if name in MODULES else name.rpartition(".")[0]
            if target.split(".")[0] in FLOORS:
                yield Import(where, source, target, dots, lazy)


def statements(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """The import statements below a node, and whether each is lazy."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from statements(child, lazy or inside or typing)


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module that is imported from."""
    if not node.level:
        return node.module
    package = path.relative_to(ROOT).parent.parts
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


IMPORTS = [found for path in MODULES.values() for found in imports_of(path)]


def refuse(broken: list[str], law: str) -> None:
    assert not broken, f"{law}:\n  " + "\n  ".join(broken)


def test_imports_point_to_lower_floors():
    broken = [
        f"{found.where} imports {found.target}"
        for found in IMPORTS
        if (one := found.source.split(".")[0]) != (other := found.target.split(".")[0]) and FLOORS[one] <= FLOORS[other]
    ]
    refuse(broken, LAW)


def test_models_imports_itself_relatively():
    """So that the same folder can be installed under another name."""
    broken = [f"{found.where} imports {found.target}" for found in IMPORTS if is_absolute_within_models(found)]
    refuse(broken, "models/ imports itself with leading dots only")


def is_absolute_within_models(found: Import) -> bool:
    return found.source.startswith("models") and not found.dots


def test_no_files_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    lines = {(found.source, found.target): found.where for found in IMPORTS if not found.lazy}
    for source, target in lines:
        graph[source].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]  # graphlib names what is imported first
        refuse([f"{lines[pair]} imports {pair[1]}" for pair in pairwise(circle)], "files import each other")


def test_published_paths_stay():
    refuse([path for path in PUBLISHED if not (ROOT / path).is_file()], "users know these paths, they stay")


@pytest.mark.parametrize("folder", FOLDERS_OF_COMMANDS)
def test_a_file_at_the_top_is_a_command_and_none_below_is(folder):
    broken = []
    for path in sources(folder):
        is_command, at_top = (
            'if __name__ == "__main__":' in path.read_text(encoding="utf-8"),
            path.parent.name == folder,
        )
        if path.name != "__init__.py" and is_command != at_top:
            broken.append(f"{path.relative_to(ROOT)} {'is a command' if is_command else 'is none'}")
    refuse(broken, f"in {folder}/ a file at the top is a command, and what commands share lies in a folder below")


def test_no_file_imports_a_command():
    broken = dict.fromkeys(f"{found.where} imports {found.target}" for found in IMPORTS if is_command(found.target))
    refuse(list(broken), "no file imports a command: what two commands share lies in a folder below")


def is_command(name: str) -> bool:
    """Whether a module is a file at the top of a folder of commands."""
    path = MODULES.get(name)
    return path is not None and path.name != "__init__.py" and name.rpartition(".")[0] in FOLDERS_OF_COMMANDS


def test_utils_is_small():
    entries = [path.name for path in (ROOT / "utils").iterdir() if not path.name.startswith("__")]
    assert len(entries) <= MOST_ENTRIES_OF_UTILS, f"utils/ has {len(entries)} entries: {', '.join(sorted(entries))}"


def test_no_file_is_long():
    limits = dict.fromkeys(MODULES.values(), MOST_LINES) | dict.fromkeys(sources("tests"), MOST_LINES_OF_TESTS)
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in limits}
    broken = [f"{path.relative_to(ROOT)}:{lengths[path]}" for path, most in limits.items() if lengths[path] > most]
    refuse(broken, f"a file has at most {MOST_LINES} lines, one of tests {MOST_LINES_OF_TESTS}")


def test_most_functions_are_short():
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    )
    assert lengths[len(lengths) * 9 // 10] < MOST_LINES_OF_NINE_FUNCTIONS_IN_TEN


def test_every_folder_says_what_lives_there():
    folders = {path.parent for path in MODULES.values()}
    silent = [folder for folder in folders if not (folder / "README.md").exists() and not introduction(folder)]
    refuse([f"{folder.relative_to(ROOT)}/" for folder in silent], "a folder's __init__.py or README.md says what it is")


def introduction(folder: Path) -> str | None:
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


def test_tests_mirror_the_tree():
    folders = {path.parent.relative_to(ROOT / "tests") for path in sources("tests") if path.name.startswith("test_")}
    broken = [f"tests/{folder}/" for folder in folders if not (ROOT / folder).is_dir()]
    refuse(broken, "a folder of tests has the name of the folder that it tests")
