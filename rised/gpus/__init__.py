"""Which GPUs there are, what they do, and which of them may be handed out."""
