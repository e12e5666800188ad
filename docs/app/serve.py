"""Serve the panel to visitors with Voilà: no code, a folder and a kernel for each, limits for all.

    python docs/app/serve.py                        prints an address with a token
    python docs/app/serve.py --visitors 8 --size 192

A visitor's runs and uploads are in a folder of their own that goes with the visit: when the page is closed, or nothing
has happened on it for a while. The browser can send a kernel the messages of widgets, and none that would run code.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import nbformat
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets.config import Config
from voila.app import Voila

CELL = """\
import os
from pathlib import Path

from ipykernel.connect import get_connection_file

from nstlab.widgets import Guest, panel

limits = Guest(*map(int, os.environ["NSTLAB_APP_LIMITS"].split()))
panel(Path(os.environ["NSTLAB_APP_VISITORS"]) / Path(get_connection_file()).stem, limits)
"""


class Visitors(AsyncMappingKernelManager):
    """Starts a kernel for each visitor as long as there is room, and clears up behind it."""

    most = 4
    folder = Path()

    async def _async_start_kernel(self, **options: Any) -> str:
        if len(self.list_kernel_ids()) >= self.most:
            raise HTTPError(503, reason=f"All {self.most} places are taken; try again in a few minutes")
        return await super()._async_start_kernel(**options)

    start_kernel = _async_start_kernel

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel that has ended, and what its visitor stored."""
        removed = super().remove_kernel(kernel_id)
        shutil.rmtree(self.folder / f"kernel-{kernel_id}", ignore_errors=True)
        return removed


def configured(port: int, token: str, idle: int) -> Config:
    """Voilà's settings: a token, kernels that end when nothing happens, no look at code or traces of errors."""
    config = Config()
    config.Voila.update({"port": port, "ip": "127.0.0.1", "token": token, "open_browser": False})
    # Voilà's own note that a page was closed has no _xsrf and would be refused
    config.Voila.tornado_settings = {"disable_check_xsrf": True}
    config.VoilaConfiguration.update(
        {"strip_sources": True, "show_tracebacks": False, "multi_kernel_manager_class": Visitors, "file_allowlist": []}
    )
    config.MappingKernelManager.update(
        {"cull_idle_timeout": idle, "cull_interval": max(1, min(30, idle // 2)), "cull_connected": True}
    )
    return config


@click.command()
@click.option("--port", default=8866, show_default=True, help="Where it listens, on this machine only.")
@click.option("--visitors", default=4, show_default=True, help="How many at a time; each takes about a gigabyte.")
@click.option("--size", default=256, show_default=True, help="Largest longer side, in pixels.")
@click.option("--iterations", default=300, show_default=True, help="Most iterations of a run.")
@click.option("--idle", default=900, show_default=True, help="Seconds without any action until a visit ends.")
def main(port: int, visitors: int, size: int, iterations: int, idle: int) -> None:
    """Serve the panel until Ctrl-C."""
    token = os.environ.get("NSTLAB_APP_TOKEN") or secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory(prefix="nstlab-app-") as name:
        root = Path(name)
        page, Visitors.folder, Visitors.most = root / "page" / "panel.ipynb", root / "visitors", visitors
        for folder in (page.parent, Visitors.folder):
            folder.mkdir()
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book.metadata["title"] = "nstlab"
        nbformat.write(book, page)
        os.environ["NSTLAB_APP_VISITORS"] = str(Visitors.folder)
        os.environ["NSTLAB_APP_LIMITS"] = f"{size} {iterations}"
        click.echo(f"open http://127.0.0.1:{port}/?token={token}")
        Voila.launch_instance([str(page)], config=configured(port, token, idle))


if __name__ == "__main__":
    main()
