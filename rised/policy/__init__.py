"""Decisions, pure functions over plain data: no trio, no clock, no I/O. A test holds that."""
