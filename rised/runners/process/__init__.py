"""Jobs as plain processes of their owners."""
