"""One sub-experiment from its grant to its end: image, launch, watch, clean-up."""
