"""One file per step of the export: what leaves one room must equal what enters the next."""
