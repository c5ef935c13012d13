"""What must be queryable: the SQLite database, one module for each group of tables, and where files lie."""
