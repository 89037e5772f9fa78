"""Normal form → SavedModel."""
