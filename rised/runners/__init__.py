"""How jobs run. `base` is the protocol, each folder is one way; nothing outside knows which one a job has."""
