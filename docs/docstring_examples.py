"""Lets the API reference show the examples in docstrings as code.

Docstrings here have a section `Example:`, as those of Keras do. griffe, which reads them for
mkdocstrings, knows the section as `Examples:` and takes any other title for ordinary Markdown, in
which `>>>` makes a quotation. mkdocs.yml names this file under `extensions` of the Python handler.
"""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section `Example:` of every docstring to `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Renames the section in the docstring of one module, class or function.

        Args:
            obj: what griffe has read from the source.
        """
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
