"""The pages that are made from the code: what a parser or a message says is written once, there.

A page may be made as a whole, as docs/api.md is. Or it is written by hand and has blocks between two
marks, as docs/cli.md has, and only those are made anew.
"""
