"""Completion of command lines in bash, zsh and fish.

scripts.py      what a shell loads; it calls `riseml complete` for each word
candidates.py   the words that `riseml complete` offers
"""
