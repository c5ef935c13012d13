"""The contract between `riseml` and `rised`: riseml.yml's schema, IDs, states and messages. Pure data, no I/O."""

VERSION = "0.1.0"
API_VERSION = 2
