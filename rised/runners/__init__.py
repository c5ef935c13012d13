"""How jobs run. A runner is one way; nothing outside this package knows which one it has."""
