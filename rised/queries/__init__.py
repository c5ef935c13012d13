"""What clients ask about: experiments as they are shown, and what happened to them."""
