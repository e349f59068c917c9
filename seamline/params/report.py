from __future__ import annotations

from seamline.params.types import Section, Text


class Report(Section):
    title: Text
    purpose: Text | None
