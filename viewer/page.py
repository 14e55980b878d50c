"""The viewer as HTML text, with its data, script and style inlined."""

import base64
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from viewer.charts import TEMPLATES
from viewer.scene import Scene, encode_scene

# Of a page: opens within a second or two, and can be sent by e-mail.
BUDGET_BYTES = 20_000_000


def render_fragment(
    scenes: Sequence[Scene], budget_bytes: int = BUDGET_BYTES, has_assets: bool = True, level: int = 2
) -> str:
    """Return one viewer of one or more scenes as HTML, to be put into the body of a page.

    Args:
        scenes: in the order of the selector, which share the budget evenly.
        budget_bytes: of the scenes' data and pictures; large scenes are reduced and shown in detail (`encode_scene`).
        has_assets: False for all but the last viewer of a page, which share its style and script.
        level: of the headings, 1 to 6.
    """
    share = budget_bytes // max(1, len(scenes))
    blocks = []
    for scene in scenes:
        picture = base64.b64encode(scene.picture).decode()
        blocks.append({"scene": scene, "picture": picture, "views": encode_scene(scene, share - len(picture))})
    script, style = (Markup(Path(__file__).with_name(name).read_text("utf-8")) for name in ("viewer.js", "viewer.css"))
    template = TEMPLATES.get_template("viewer.html")
    return Markup(template.render(blocks=blocks, has_assets=has_assets, level=level, script=script, style=style))


def render_page(title: str, introduction: str, scenes: Sequence[Scene], budget_bytes: int = BUDGET_BYTES) -> str:
    """Return a page with one viewer; see `render_fragment`.

    Args:
        title: heading of the page.
        introduction: a sentence or two below the heading.
        scenes, budget_bytes: see `render_fragment`.
    """
    fragment = render_fragment(scenes, budget_bytes)
    return TEMPLATES.get_template("page.html").render(title=title, introduction=introduction, fragment=fragment)
