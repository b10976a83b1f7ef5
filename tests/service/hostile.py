"""The table of hostile inputs: the rows of all families. A family of a feature of its own has a file of its own."""

from __future__ import annotations

import hostile_crowds
import hostile_formats
import hostile_graphs
import hostile_http
import hostile_jobs
import hostile_text
from hostile_row import Row

ROWS: list[Row] = [*hostile_text.ROWS, *hostile_graphs.ROWS, *hostile_http.ROWS, *hostile_formats.ROWS,
    *hostile_jobs.ROWS, *hostile_crowds.ROWS]
