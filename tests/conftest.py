"""What holds for all tests."""

from hypothesis import settings

# A loaded machine is slow now and then; that is no fault of the code's.
settings.register_profile("riseml", deadline=None)
settings.load_profile("riseml")
