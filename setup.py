"""What pyproject.toml cannot say: a wheel holds the folders that a checkout has beside the packages.

They go into the package `nullscope` (see analysis/shipped.py); an editable install reads them where they are.
"""

from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("templates", "static", "models", "docs")


class BuildWithFolders(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in FOLDERS:
                target = Path(self.build_lib) / "nullscope" / name
                rmtree(target, ignore_errors=True)  # what an earlier build left
                copytree(name, target, ignore=ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": BuildWithFolders})
