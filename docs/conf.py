"""How the documentation is built: ``python -m sphinx -W docs docs/_build``. Warnings are errors."""

import os
import sys
import warnings
from pathlib import Path

# Before NumPy is imported: the networks here are small, and threads only slow them down.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent / "examples")]

import matplotlib  # noqa: E402

import xpnet  # noqa: E402

matplotlib.use("agg")
warnings.filterwarnings("error")
# Of Sphinx's own extensions, about Sphinx's own interfaces: nothing that these pages could change.
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(sphinx|docutils|numpydoc|myst_parser)")
warnings.filterwarnings("ignore", category=PendingDeprecationWarning)

REPOSITORY = "https://github.com/xpnet-developers/xpnet"
project, author = "xpnet", "The xpnet developers"
copyright = "The xpnet developers"
version = release = xpnet.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",  # this and the following lie in docs/extensions
    "formulas",
    "gallery",
    "links",
    "longlines",
    "names",
    "references",
    "results",
    "runblocks",
    "training",
]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "generated"]
templates_path: list[str] = []
nitpicky = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_html_meta = {"description": "Neural networks with a backward pass written out by hand, once, for NumPy and CuPy"}

html_theme = "pydata_sphinx_theme"
html_title = f"xpnet {release}"
html_static_path = ["static"]
html_css_files = ["xpnet.css"]
html_math_renderer = "mathml"
html_sidebars = {"index": [], "start": []}
html_show_sourcelink = False
html_favicon = "static/logo.svg"
html_theme_options = {
    "logo": {
        "text": html_title,
        "alt_text": "xpnet, to the front page",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
    },
    "icon_links": [{"name": "The repository", "url": REPOSITORY, "icon": "fa-brands fa-github"}],
    "show_prev_next": True,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc", "edit-this-page"],
    "use_edit_page_button": True,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
}

html_context = {
    "github_user": REPOSITORY.split("/")[-2], "github_repo": REPOSITORY.split("/")[-1], "github_version": "main",
    "doc_path": "docs",
}  # fmt: skip

copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. ", True
copybutton_selector = "div.highlight:not(.output *):not(.sphx-glr-script-out *) pre"

default_role = "py:obj"  # `xpnet.mlp` in a docstring is a link
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc's Parameters say it in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": [str(HERE / "generated" / "examples")],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"(common|__init__)\.py$",
    "within_subsection_order": "gallery.reading_order",
    "reset_modules": ("matplotlib", "gallery.data_at_hand"),
    "reset_modules_order": "both",
    "download_all_examples": False,
    "image_scrapers": ("gallery.scraper",),
    "capture_repr": (),
    "show_signature": False,
    "write_computation_times": False,
    "show_memory": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "plot_gallery": True,
}
