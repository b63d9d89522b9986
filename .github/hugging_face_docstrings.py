"""Docstrings in the format of Hugging Face as mkdocstrings reads them: plain types, and names instead of links."""

import re

import griffe


class HuggingFaceDocstrings(griffe.Extension):
    """Rewrites each docstring when its object is collected."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """`name (`type`, *optional*):` loses its marks, and "[`Name`]" its brackets."""
        if obj.docstring is None:
            return
        text = re.sub(r"\[`~?([\w.]+)`\]", r"`\1`", obj.docstring.value)
        text = re.sub(r"^ +\w+ \(.+\):", lambda match: re.sub("[`*]", "", match[0]), text, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r"^( +)`([^`]+)`:", r"\1\2:", text, flags=re.MULTILINE)
