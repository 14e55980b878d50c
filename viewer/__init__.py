"""Interactive comparison of cubes as one self-contained HTML page: images, spectra, difference maps, charts."""

from viewer.charts import draw_histogram, draw_lines
from viewer.page import BUDGET_BYTES, render_fragment, render_page
from viewer.scene import Scene

__all__ = ["BUDGET_BYTES", "Scene", "draw_histogram", "draw_lines", "render_fragment", "render_page"]
