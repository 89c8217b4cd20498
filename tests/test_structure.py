"""The house keeps its shape: floors, sizes, docstrings, the registry, what an import drags in, examples that run."""

import ast
import doctest
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import registry

from heatbath import engine, integrators, potentials
from heatbath.engine import observables

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "potentials", "integrators")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
GROUND = {"heatbath.engine." + name for name in ("hardware", "pytree", "protocols", "noise", "equilibrium")}
ABSTRACT = {engine.Potential, engine.Integrator, observables.Observable, potentials.Solvable, potentials.Coordinatewise}


def module_of(path):
    parts = ["heatbath", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(module):
    """The modules of heatbath that a module imports anywhere, also inside functions, as full names."""
    path, found = MODULES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = node.module or "" if node.level == 0 else ".".join(filter(None, [base, node.module]))
            # `from . import quadrature` names a module, `from .marks import each` does not
            found |= {full if (full := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
    return {name for name in found if name.startswith("heatbath")}


def test_imports_are_found():
    """The reader of imports reads what it should: without this the tests below would pass on nothing."""
    assert len(FILES) > 30 and GROUND <= set(MODULES)
    assert "heatbath.engine.pytree" in imports("heatbath.engine.protocols")
    assert "heatbath.engine.observables" in imports("heatbath.engine")
    assert "heatbath.engine.pytree" in imports("heatbath.engine.observables.mean")
    assert "heatbath.engine.storage" in imports("heatbath.engine.run")  # inside a function


@pytest.mark.parametrize("module", MODULES)
def test_floors(module):
    floor = module.split(".")[1]
    for name in imports(module):
        if module in GROUND:
            assert name in GROUND, f"{module} is the ground and stands on {name}"
        elif floor == "engine":
            assert name.startswith("heatbath.engine"), f"the engine knows {name} only by its protocol"
        else:
            assert name in GROUND or name.split(".")[1] == floor, f"{module} stands on {name}, not on the ground"


@pytest.mark.parametrize("module", MODULES)
def test_size_and_docstring_of_a_file(module):
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= 400
    assert max(map(len, text.splitlines())) <= 125  # 120 is the rule; a formatter leaves some strings
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_init_only_re_exports(module):
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Try, ast.Assign)
    assert all(isinstance(node, allowed) for node in ast.parse(MODULES[module].read_text()).body)


def exported():
    """Everything public of the three packages and of `observables`, by its full name."""
    for package in (engine, potentials, integrators, observables):
        for name, value in vars(package).items():
            if not name.startswith("_") and not inspect.ismodule(value):
                yield f"{package.__name__}.{name}", value


EXPORTED = dict(exported())


@pytest.mark.parametrize(
    "name", [name for name, value in EXPORTED.items() if inspect.isclass(value) or inspect.isfunction(value)]
)
def test_docstring(name):
    text = EXPORTED[name].__doc__
    assert text and len(text.split()) >= 3
    # a dataclass or NamedTuple without one of its own is given its signature
    assert not text.startswith(f"{EXPORTED[name].__name__}(")


def test_everything_exported_is_written_as_an_export():
    """`import x as x` is what type checkers take for public."""
    for package in ("engine", "engine/observables", "potentials", "integrators"):
        for node in ast.parse((ROOT / package / "__init__.py").read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                assert all(alias.name == alias.asname for alias in node.names)


KINDS = {
    "INTEGRATORS": (engine.Integrator, registry.INTEGRATORS),
    "POTENTIALS": (engine.Potential, registry.POTENTIALS),
    "OBSERVABLES": (observables.Observable, registry.OBSERVABLES),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_public_class_is_in_the_registry(kind):
    base, cases = KINDS[kind]
    made = {type(case.make()) for case in cases}
    public = {value for value in EXPORTED.values() if inspect.isclass(value) and issubclass(value, base)} - ABSTRACT
    assert public and public <= made, f"not in registry.{kind}: {public - made}"
    assert len({case.name for case in cases}) == len(cases)


def test_every_public_scheme_is_in_the_registry():
    """Factories too, which return a class that is listed already."""
    names = {case.name for case in registry.INTEGRATORS}
    factories = {
        name.rpartition(".")[2]
        for name, value in EXPORTED.items()
        if name.startswith("heatbath.integrators") and inspect.isfunction(value)
    }
    assert factories and factories <= names, f"not in registry.INTEGRATORS: {factories - names}"


def modules_after(statement):
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_what_an_import_drags_in():
    """It takes 0.05 s beside JAX, as it imports little else: five small modules where this was written."""
    found = modules_after("import heatbath.engine") - modules_after("import jax, jax.numpy")
    assert "heatbath.engine.simulate" in found
    assert len({name for name in found if not name.startswith("heatbath")}) <= 10
    assert not {"matplotlib", "sklearn", "scipy.special", "blackjax", "pytest", "optax"} & found
    assert not {name for name in found if name.startswith(("heatbath.potentials", "heatbath.integrators"))}


@pytest.mark.parametrize("package", PACKAGES)
def test_is_typed(package):
    assert (ROOT / package / "py.typed").exists()


def test_examples_in_docstrings():
    walked = {
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages([str(ROOT / package)], f"heatbath.{package}.")
    }
    assert walked == set(MODULES) - {f"heatbath.{package}" for package in PACKAGES}
    failed = {}
    for name in MODULES:
        if not name.endswith("__main__"):  # a command line, which would run
            results = doctest.testmod(import_module(name))
            failed |= {name: results.failed} if results.failed else {}
    assert failed == {}
