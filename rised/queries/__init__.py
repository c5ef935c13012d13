"""Answers to clients: experiments as messages, and the history of their changes of state."""
