"""Plain text tables, for summaries and errors."""


def table(rows: list[list]) -> str:
    """Lay rows out in columns: the first to the left, others to the right.

    Arguments
    ---------
    rows : list of list
        As many cells in each.

    Returns
    -------
    str
        A line a row.

    Example
    -------
    >>> print(table([["split", "n"], ["test", 12]]))
    split   n
    test   12
    """
    rows = [[str(cell) for cell in row] for row in rows]
    first, *widths = [
        max(len(cell) for cell in column) for column in zip(*rows, strict=True)
    ]
    return "\n".join(
        "  ".join(
            [
                head.ljust(first),
                *(c.rjust(w) for c, w in zip(cells, widths, strict=True)),
            ]
        )
        for head, *cells in rows
    )
