"""Blocks of a page that are made, between marks in a page that is written by hand."""


class NoSuchBlock(Exception):
    """A page lacks the marks of a block, or has them twice: put them where the block belongs."""


def replace(page: str, name: str, text: str) -> str:
    """`page` with `text` as the block `name`. Raises `NoSuchBlock`."""
    begin, end = f"<!-- {name}: made by make docs -->\n", f"<!-- {name}: end -->\n"
    before, begun, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended) or begin in after:
        raise NoSuchBlock(f"the page must have once, in this order: {begin}{end}")
    return f"{before}{begin}\n{text.strip()}\n\n{end}{after}"
