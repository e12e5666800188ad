"""Panel and explorer, read by axe-core as a screen reader would: every control has a name, contrast suffices."""

import pytest
from axe_playwright_python.sync_playwright import Axe

CELLS = {
    "panel": "from nstlab.widgets import panel\nbench = panel()\nbench",
    "explorer": "from nstlab.widgets import explorer\nexplorer('astronaut', 'swirl', size=64)",
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_serious_is_found(notebook, name, dark):
    page = notebook([CELLS[name]], height=1400, dark=dark)
    page.run_all()
    page.locator(".nst canvas, .nst img").first.wait_for()
    for fold in page.locator(".nst-fold").all():
        fold.click()
    page.page.wait_for_timeout(1000)
    found = Axe().run(page.page, context=".nst").response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert not serious, "\n".join(f"{f['id']}: {f['nodes'][0]['html'][:200]} ({len(f['nodes'])})" for f in serious)
