"""Compiling, as far as it needs no compiler, and which of two variants is run."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from emu import compiled
from lab.cli import cli
from lab.compiled import build, tools
from lab.compiled.modules import CHOSEN, LEFT_OUT, to_compile
from lab.compiled.standins import with_stand_ins
from lab.errors import UserError

PROBE = "import emu.compiled as c, hyp, emu.memory; print(c.in_use(), emu.memory.__file__)"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the sources that a test may change."""
    tree = tmp_path / "tree"
    for package in compiled.PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(compiled.ROOT / package, tree / package, ignore=ignored)
    return tree


def python(tree: Path, code: str, *, pure: str = "0") -> str:
    done = subprocess.run(
        (sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tree)!r}); {code}"),
        env={"XDG_CACHE_HOME": str(tree.parent / "cache"), compiled.PURE: pure},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["compile", *arguments])
    return result.exit_code, result.output


# --- what is used ------------------------------------------------------------------------------


def with_a_folder(tree: Path) -> Path:
    """Make the folder that belongs to the sources, with nothing compiled in it."""
    folder = Path(python(tree, "from emu.compiled import home; print(home())"))
    folder.mkdir(parents=True)
    return folder


def test_sources_run_where_nothing_has_been_compiled(copy: Path) -> None:
    assert python(copy, PROBE) == f"None {copy}/emu/memory.py"


def test_the_folder_of_the_sources_is_used(copy: Path) -> None:
    folder = with_a_folder(copy)
    assert python(copy, PROBE) == f"{folder} {copy}/emu/memory.py"


def test_a_module_in_the_folder_comes_from_there(copy: Path) -> None:
    folder = with_a_folder(copy)
    file = folder / f"emu.memory{compiled.SUFFIX}"
    file.touch()
    find = "from importlib.util import find_spec; import emu; print(find_spec('emu.memory').origin)"
    assert python(copy, find) == str(file)


def test_the_environment_forbids_it(copy: Path) -> None:
    with_a_folder(copy)
    assert python(copy, PROBE, pure="1") == f"None {copy}/emu/memory.py"


@pytest.mark.parametrize("path", ["emu/memory.py", "hyp/vm.py", "emu/arch/registers/gic.py"])
def test_any_changed_source_is_run_as_python(copy: Path, path: str) -> None:
    with_a_folder(copy)
    with (copy / path).open("a") as file:
        file.write("\n")
    assert python(copy, PROBE).startswith("None ")


def test_a_new_source_is_run_as_python(copy: Path) -> None:
    with_a_folder(copy)
    (copy / "hyp/new.py").write_text("")
    assert python(copy, PROBE).startswith("None ")


def test_a_change_that_keeps_size_and_time_is_noticed(copy: Path) -> None:
    with_a_folder(copy)
    source = copy / "emu/memory.py"
    before = source.stat()
    source.write_text(source.read_text().replace("RAM", "ROM"))
    assert source.stat().st_size == before.st_size
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert python(copy, PROBE).startswith("None ")


def test_importing_hyp_alone_decides_it_too(copy: Path) -> None:
    folder = with_a_folder(copy)
    assert python(copy, "import hyp.errors, emu.compiled as c; print(c.in_use())") == str(folder)


# --- the command -------------------------------------------------------------------------------


def test_status_before_anything_has_been_compiled() -> None:
    assert invoke("--status") == (
        1,
        "not compiled: everything runs as Python; stage2 compile changes that\n",
    )
    status, text = invoke("--status", "--json")
    assert (status, json.loads(text)) == (1, {"compiled": False, "pure": True})


def pretend_compiled() -> Path:
    folder = compiled.home()
    folder.mkdir(parents=True)
    (folder / build.MANIFEST).write_text(json.dumps({"mypyc": "1.2", "modules": ["emu.memory"]}))
    return folder


def test_status_of_what_has_been_compiled() -> None:
    folder = pretend_compiled()
    status, text = invoke("--status")
    assert (status, text) == (
        0,
        f"1 modules, 0.0 MiB, by mypyc 1.2 in {folder}; STAGE2_PURE forbids its use\n",
    )
    facts = json.loads(invoke("--status", "--json")[1])
    assert (facts["compiled"], facts["modules"]) == (True, ["emu.memory"])


def test_what_was_compiled_can_be_removed() -> None:
    folder = pretend_compiled()
    assert invoke("--remove") == (0, f"removed 1 of {folder.parent}\n")
    assert not folder.parent.exists()
    assert invoke("--remove") == (0, "nothing there\n")
    assert json.loads(invoke("--remove", "--json")[1]) == {"removed": []}


def test_nothing_is_compiled_again_with_the_same_mypyc(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_compiled()
    monkeypatch.setattr(tools, "find_tools", lambda: tools.Tools("1.2", (), ()))
    assert invoke()[0] == 0


def test_options_that_exclude_each_other() -> None:
    status, text = invoke("--status", "--remove")
    assert (status, text.count("\n")) == (2, 1)


def missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in names else object()
    )


def refusal() -> str:
    status, text = invoke()
    assert (status, text.count("\n")) == (2, 1), text
    return text


def test_without_mypyc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "mypyc")
    assert "pip install 'stage2[fast]'" in refusal()


def test_without_headers_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert "python3-dev" in refusal()


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "ziglang")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "C compiler" in refusal()


def test_ziglang_serves_where_there_is_no_other_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert tools.find_tools().compiler == (sys.executable, "-m", "ziglang", "cc")


def test_a_compiler_that_refuses_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(work: Path, _paths: object) -> dict[str, tuple[list[str], list[str]]]:
        (work / "wrong.c").write_text("int")
        return {"emu.memory": (["wrong.c"], [])}

    monkeypatch.setattr(build, "_generate", generate)
    found = tools.find_tools()
    with pytest.raises(UserError, match="cannot compile what mypyc wrote") as caught:
        build.build(found, 1, lambda *_: None)
    assert "wrong.c" in caught.value.detail
    assert not list(compiled.shelf().iterdir())


def test_sources_that_change_meanwhile_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    homes = iter([compiled.home(), compiled.home().with_name("other")])
    monkeypatch.setattr(compiled, "home", lambda: next(homes))
    monkeypatch.setattr(build, "_generate", lambda *_: {})
    with pytest.raises(UserError, match="changed while they were compiled"):
        build.build(tools.Tools("1", (), ()), 1, lambda *_: None)
    assert not list(compiled.shelf().iterdir())


# --- what is compiled --------------------------------------------------------------------------


def test_every_pattern_names_a_module() -> None:
    paths = [Path(path) for path in compiled.sources()]
    for pattern in (*CHOSEN, *LEFT_OUT):
        assert any(path.match(pattern) for path in paths), pattern


def test_no_module_that_must_stay_python_is_chosen() -> None:
    assert not {"emu/__init__.py", "emu/compiled.py"} & set(to_compile())


def test_no_class_that_stays_python_has_a_compiled_base() -> None:
    """Python refuses to make instances of one."""
    classes = {
        path: [each for each in ast.walk(tree) if isinstance(each, ast.ClassDef)]
        for package in (*compiled.PACKAGES, "lab")
        for path in (compiled.ROOT / package).rglob("*.py")
        for tree in [ast.parse(path.read_text())]
    }
    chosen = {compiled.ROOT / path for path in to_compile()}
    # lab has classes of its own by these names.
    made = {each.name for path in chosen for each in classes[path]} - {"Flag", "Event", "Fault"}
    wrong = [
        f"{path}: {each.name}({ast.unparse(base)})"
        for path in classes.keys() - chosen
        for each in classes[path]
        for base in each.bases
        if ast.unparse(base).partition("[")[0] in made
    ]
    assert not wrong


def test_what_sets_a_property_takes_what_it_gives() -> None:
    """A mypyc that is given two types hands the one over as the other."""
    for path in to_compile():
        for each in ast.walk(ast.parse((compiled.ROOT / path).read_text())):
            if not isinstance(each, ast.ClassDef):
                continue
            given: dict[str, str] = {}
            for method in each.body:
                if isinstance(method, ast.FunctionDef) and method.decorator_list:
                    decorator = ast.unparse(method.decorator_list[0])
                    if decorator == "property":
                        given[method.name] = ast.unparse(method.returns or ast.Constant(None))
                    elif decorator.endswith(".setter"):
                        taken = ast.unparse(method.args.args[1].annotation or ast.Constant(None))
                        assert taken == given[method.name], f"{path}: {each.name}.{method.name}"


def test_names_for_the_type_checker_get_stand_ins_on_the_same_lines() -> None:
    source = (
        "from __future__ import annotations\n\nfrom typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from a import B\n    import c as d\n\nx = 1\n"
    )
    changed = with_stand_ins(source)
    assert changed.splitlines()[3] == "globals().update(dict.fromkeys(['B', 'd'], object))"
    assert changed.splitlines()[4:] == source.splitlines()[4:]


def test_a_module_without_such_names_stays_as_it_is() -> None:
    assert with_stand_ins("x = 1\n") == "x = 1\n"


def test_the_fields_of_named_tuples_are_quoted() -> None:
    source = "class A(NamedTuple):\n    é: int = 1\n    b: X | None\n\n\nclass B:\n    c: int\n"
    quoted = source.replace("é: int", "é: 'int'").replace("X | None", "'X | None'")
    assert with_stand_ins(source) == quoted
