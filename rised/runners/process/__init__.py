"""Jobs as processes of their owners."""
