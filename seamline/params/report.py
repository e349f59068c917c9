from __future__ import annotations

from seamline.params.loading.types import Section, Text


class Report(Section):
    title: Text
    purpose: Text | None
