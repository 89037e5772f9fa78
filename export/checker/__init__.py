"""Does a given TensorFlow run this SavedModel? Nothing in it is executed."""
