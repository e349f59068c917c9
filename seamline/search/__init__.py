"""Similar garments: a catalogue with a vector for each garment, search in it, and how often it finds the right one."""
