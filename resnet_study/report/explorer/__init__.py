"""The explorer: every recorded layer at every recorded iteration, on one page without a network.

`records` takes from frames what the page needs, `reducing` makes it small enough, `charts` says how
it is drawn, `page` puts the page together. Imports no jax.
"""

from __future__ import annotations

from resnet_study.report.explorer.page import explorer_page, write_explorer

__all__ = ["explorer_page", "write_explorer"]
