"""From a source as it is handed out to canonical COCO."""
