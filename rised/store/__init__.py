"""What must be queryable and survive everything: experiments, members and events, in SQLite."""
