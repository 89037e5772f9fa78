"""Data sets in the Google Landmarks v2 layout."""
