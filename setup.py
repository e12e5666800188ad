"""Adds the notebooks and sample pictures to a wheel, as nstlab/shipped/. All else stands in pyproject.toml."""

import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildWithNotebooks(build_py):
    """The package, with what `nstlab lab` puts into a folder."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # which reads them where they stand
            return
        spec = spec_from_file_location("storage", HERE / "nstlab" / "storage.py")
        storage = module_from_spec(spec)  # by itself: what the package imports need not be installed
        spec.loader.exec_module(storage)
        for name in storage.shipped_files(HERE):
            target = Path(self.build_lib) / "nstlab" / "shipped" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / name, target)


setup(cmdclass={"build_py": BuildWithNotebooks})
