"""One adapter a dataset layout; each turns a folder as it is handed out into canonical COCO."""
