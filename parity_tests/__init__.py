"""One file an arrow: what leaves one room must equal what enters the next."""
