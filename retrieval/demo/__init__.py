"""The rendered landmarks of the demo."""
