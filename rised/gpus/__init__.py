"""Which GPUs there are, how they are used, and which of them may be handed out."""
