"""Who starts when, and who may: the main loop, its books, admission."""
